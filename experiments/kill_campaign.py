"""Training that is killed at random moments, again and again, against training that is left alone.

    python -m experiments.kill_campaign [--kills 20]

A run of one process, and runs of two of which the first, the second or both are killed with SIGKILL: while they start,
train and save (every other step). When the others have ended by themselves the run is started again. A run passes if
batch k is made of the same samples in every attempt, if its state has counted every sample once in every epoch, and if
its parameters are those of an undisturbed run. Writes experiments/results/kill_campaign.{json,md}; 20 kills take about
six minutes on two cores.
"""

import argparse
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from experiments.results import machine, markdown_table, write_result
from sfm_jax.data.pipeline import batches
from sfm_jax.losses.identity import split_centre_loss
from sfm_jax.training import distributed
from sfm_jax.training.loop import train
from sfm_jax.training.parallel import AXIS
from sfm_jax.training.task import Aux
from sfm_jax.training.workdir import open_workdir, write_text

ROOT = Path(__file__).parents[1]
ROWS, COLUMNS, BATCH, STEPS = 64, 6, 16, 240  # an epoch is four steps
PAUSE = 0.03  # seconds for a batch, so that there is time to kill
VICTIMS = {"the only process": (1, [0]), "the first of two": (2, [0]), "the second of two": (2, [1]),
           "both of two": (2, [0, 1])}


# --------------------------------------------------------------------------------------------- what is trained

class Counted:
    """A linear map towards class centres, one for each sample. The state counts how often each was learned from."""

    def __init__(self, log: Path):
        self._log = log

    def dataset(self, batch_size: int, seed: int):
        return Logged(batches(ROWS, batch_size, seed, load), self._log)

    def init(self, rng, batch):
        params = {"map": jax.random.normal(rng, (COLUMNS, COLUMNS)), "centres": np.zeros((ROWS, COLUMNS), np.float32)}
        return params, {"seen": jnp.zeros(ROWS, jnp.int32)}

    def param_labels(self, params):
        return {name: name for name in params}

    def split(self, params):
        return {"map": False, "centres": True}

    def loss(self, params, state, batch, rng):
        code = batch["x"] @ params["map"]
        centre = split_centre_loss(code, params["centres"], batch["id"], jnp.ones(len(code)), AXIS)
        loss = jnp.mean(centre + jnp.sum((code - batch["x"][:, ::-1]) ** 2, axis=1))
        seen = jax.lax.psum(jnp.zeros(ROWS, jnp.int32).at[batch["id"]].add(1), AXIS)
        return loss, Aux({}, {"seen": state["seen"] + seen})


def load(indices, epochs):
    x = np.random.default_rng(0).normal(size=(ROWS, COLUMNS)).astype(np.float32)
    return {"x": x[indices], "id": np.asarray(indices, np.int32)}


class Logged:
    """A dataset that writes down which samples every batch has, as they are asked for."""

    def __init__(self, data, log: Path):
        self._data, self._log = data, log

    def __getitem__(self, number: int):
        batch = self._data[number]
        with self._log.open("a") as stream:
            stream.write(json.dumps([number, jax.process_index(), batch["id"].tolist()]) + "\n")
        time.sleep(PAUSE)
        return batch


def config(steps: int) -> ConfigDict:
    return ConfigDict(dict(
        seed=0, batch_size=BATCH, steps=steps, executor="pmap", ema_decay=0.9, keep=3, save_every=2, log_every=1,
        optimiser=dict(name="adam", learning_rate=0.01, schedule="cosine", warmup_steps=4, weight_decay=0.0,
                       clip_norm=10.0, multipliers={}))).lock()


def worker(folder: Path, steps: int) -> None:
    """One process of a run; the first writes its result."""
    distributed.initialise()
    result = train(Counted(folder / f"batches-{os.getpid()}.jsonl"), config(steps),
                   open_workdir(folder / "run", config(steps)))
    if jax.process_index() == 0:
        values = {"params": result.params, "seen": result.state["seen"]}
        write_text(folder / "result.json", json.dumps(jax.tree.map(lambda leaf: np.asarray(leaf).tolist(), values)))


# -------------------------------------------------------------------------------------------- how it is killed

class Attempt:
    """The processes of one attempt at a run, four devices in all."""

    def __init__(self, folder: Path, count: int, steps: int):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONUNBUFFERED": "1",
                                    "XLA_FLAGS": f"--xla_force_host_platform_device_count={4 // count}"}
        if count > 1:
            environment |= {"JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}", "JAX_NUM_PROCESSES": str(count)}
        command = [sys.executable, "-m", "experiments.kill_campaign", "--worker", str(folder), "--steps", str(steps)]
        self._told = folder / "told.txt"
        self._told.write_text("")
        self.processes = []
        for index in range(count):
            with (self._told if index == 0 else folder / "told-1.txt").open("w") as stream:
                self.processes.append(subprocess.Popen(
                    command, cwd=ROOT, env=environment | {"JAX_PROCESS_ID": str(index)}, stdout=stream,
                    stderr=subprocess.STDOUT))

    def steps(self) -> list[int]:
        """Those it told of so far."""
        lines = self._told.read_text().splitlines()
        return [int(line.split()[1].partition("/")[0]) for line in lines if line.startswith("step ")]

    def wait(self, seconds: float = 60.0) -> list[int]:
        """The exit codes of all, which have that long."""
        limit = time.monotonic() + seconds
        try:
            return [process.wait(max(limit - time.monotonic(), 0.1)) for process in self.processes]
        finally:
            for process in self.processes:
                process.kill()

    def kill(self, victims: list[int], rng: random.Random) -> dict:
        """Kill these, a fifth of the times while they start; how it was, and how the others ended."""
        if rng.random() < 0.2:
            time.sleep(rng.uniform(0.0, 4.0))
        else:
            while not self.steps() and all(process.poll() is None for process in self.processes):
                time.sleep(0.02)
            time.sleep(rng.uniform(0.0, 1.5))
        begin, told = time.monotonic(), self.steps()
        for victim in victims:
            self.processes[victim].kill()
        codes = self.wait()
        return {"first_step": min(told, default=None), "last_step": max(told, default=None), "exit_codes": codes,
                "seconds_until_all_ended": time.monotonic() - begin}


def undisturbed(folder: Path, count: int, steps: int) -> dict:
    """The result of a run that nobody kills."""
    folder.mkdir(parents=True, exist_ok=True)
    codes = Attempt(folder, count, steps).wait(600.0)
    if any(codes):
        raise RuntimeError(f"{folder}: exit codes {codes}, see {folder / 'told.txt'}")
    return json.loads((folder / "result.json").read_text())


def disturbed(folder: Path, count: int, victims: list[int], kills: int, steps: int, expected: dict,
              rng: random.Random) -> dict:
    """A run that is killed so many times and then left alone, compared with one that never was."""
    folder.mkdir(parents=True)
    killed = [Attempt(folder, count, steps).kill(victims, rng) for _ in range(kills)]
    found = undisturbed(folder, count, steps)
    theirs = expected["params"]
    differences = [np.abs(np.subtract(value, theirs[name])).max() for name, value in found["params"].items()]
    return {"kills": killed, "same_batches": same_batches(folder, steps), "seen": sorted(set(found["seen"])),
            "epochs": steps * BATCH // ROWS, "largest_difference": float(max(differences))}


def same_batches(folder: Path, steps: int) -> bool:
    """Whether batch k had, in every attempt that came to it, the samples that the order of the data gives it."""
    parts = {}
    for file in folder.glob("batches-*.jsonl"):
        for line in file.read_text().splitlines():
            try:
                number, process, ids = json.loads(line)
            except ValueError:  # cut off by the kill
                continue
            parts.setdefault(number, {}).setdefault(process, set()).add(tuple(ids))
    order = batches(ROWS, BATCH, config(steps).seed, load)
    return all([ids for process in sorted(parts[k]) for part in parts[k][process] for ids in part]
               == order[k]["id"].tolist() for k in range(steps))


def passed(outcome: dict, tolerance: float = 0.0) -> bool:
    return (outcome["same_batches"] and outcome["seen"] == [outcome["epochs"]]
            and outcome["largest_difference"] <= tolerance)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--worker", type=Path)
    arguments = parser.parse_args()
    if arguments.worker:
        worker(arguments.worker, arguments.steps)
        return
    rng, outcomes = random.Random(arguments.seed), {}
    with tempfile.TemporaryDirectory() as scratch:
        expected = {count: undisturbed(Path(scratch, f"undisturbed-{count}"), count, arguments.steps)
                    for count in (1, 2)}
        for number, (name, (count, victims)) in enumerate(VICTIMS.items()):
            outcomes[name] = disturbed(Path(scratch, str(number)), count, victims, arguments.kills // len(VICTIMS),
                                       arguments.steps, expected[count], rng)
            print(name, json.dumps(outcomes[name]), flush=True)
    report(outcomes, arguments.steps)


def report(outcomes: dict, steps: int) -> None:
    rows = []
    for name, outcome in outcomes.items():
        kills = outcome["kills"]
        at = ", ".join("starting" if kill["last_step"] is None else str(kill["last_step"]) for kill in kills)
        rows.append([name, at, f"{max(kill['seconds_until_all_ended'] for kill in kills):.1f} s",
                     "yes" if outcome["same_batches"] else "NO",
                     "yes" if outcome["seen"] == [outcome["epochs"]] else "NO", f"{outcome['largest_difference']:g}"])
    header = ["killed", f"after step (of {steps})", "slowest end of the others", "batches the same",
              f"every sample once in each of {steps * BATCH // ROWS} epochs", "largest difference of a parameter"]
    table = markdown_table(header, rows)
    write_result("kill_campaign", {"machine": machine(), "steps": steps, "runs": outcomes}, table)
    print(table)
    if not all(map(passed, outcomes.values())):
        sys.exit("a run differs from an undisturbed one")


if __name__ == "__main__":
    main()
