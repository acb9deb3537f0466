"""A run that counts: a small task whose state knows how often it learned from each sample, and its processes.

    python -m experiments.counted_run FOLDER [--config.steps=240]      # one process, by way of sfm_jax.main

For experiments/faults.py, which disturbs it. The task is trained by the same command as any other, so that exit codes
and messages are those a user sees.
"""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from sfm_jax.data.pipeline import batches
from sfm_jax.losses.identity import split_centre_loss
from sfm_jax.training.parallel import AXIS
from sfm_jax.training.task import Aux
from sfm_jax.training.workdir import write_text

ROOT = Path(__file__).parents[1]
ROWS, COLUMNS, BATCH, SAVE_EVERY = 64, 6, 16, 2  # an epoch is four steps
PAUSE = 0.03  # seconds for a batch, so that there is time to disturb
PHOTO = "COUNTED_RUN_PHOTO"  # variable: bytes that each sample has besides
CLOCK = "COUNTED_RUN_CLOCK"  # variable: seconds by which the clock is wrong


# --------------------------------------------------------------------------------------------- what is trained

class Counted:
    """A linear map towards class centres, one for each sample. The state counts how often each was learned from."""

    def __init__(self, folder: Path):
        self._folder, self._log = folder, folder / f"batches-{os.getpid()}.jsonl"

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

    def finish(self, params, state, workdir, result):
        values = {"params": params, "seen": state["seen"]}
        write_text(self._folder / "result.json", json.dumps(jax.tree.map(lambda leaf: np.asarray(leaf).tolist(),
                                                                         values)))
        return {}


def load(indices, epochs):
    x = np.random.default_rng(0).normal(size=(ROWS, COLUMNS)).astype(np.float32)
    return {"x": x[indices], "id": np.asarray(indices, np.int32),
            "photo": np.zeros((len(indices), int(os.environ.get(PHOTO, 1))), np.uint8)}


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


def get_config(steps: int = 240) -> ConfigDict:
    return ConfigDict(dict(
        seed=0, batch_size=BATCH, steps=steps, executor="pmap", ema_decay=0.9, keep=3, save_every=SAVE_EVERY,
        log_every=1, optimiser=dict(name="adam", learning_rate=0.01, schedule="cosine", warmup_steps=4,
                                    weight_decay=0.0, clip_norm=10.0, multipliers={})))


def worker(folder: Path, flags: list[str]) -> int:
    """One process of a run: the command of every other task, with this one in their place. Its exit code."""
    from sfm_jax import main, tasks

    tasks.create_task = lambda config: Counted(folder)
    if shift := int(os.environ.get(CLOCK, 0)):
        now, now_ns = time.time, time.time_ns
        time.time, time.time_ns = lambda: now() + shift, lambda: now_ns() + shift * 10**9
    return main.main(["sfm_jax.main", f"--config={__file__}", f"--workdir={folder / 'run'}", *flags])


# --------------------------------------------------------------------------------------------- its processes

class Attempt:
    """The processes of one attempt at a run in FOLDER/run, four devices in all.

    Args:
      count: of processes.
      flags: of the command line, such as --config.steps=240.
      prefix: a command that becomes the command, such as prlimit --as=1000000000.
      environment: variables besides the usual ones.
    """

    def __init__(self, folder: Path, count: int = 1, flags=(), prefix=(), environment=None):
        folder.mkdir(parents=True, exist_ok=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        variables = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONUNBUFFERED": "1",
                                  "XLA_FLAGS": f"--xla_force_host_platform_device_count={4 // count}"}
        if count > 1:
            variables |= {"JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}", "JAX_NUM_PROCESSES": str(count)}
        variables |= environment or {}
        command = [*prefix, sys.executable, "-m", "experiments.counted_run", str(folder), *flags]
        self._told, self.processes = [folder / f"told-{index}.txt" for index in range(count)], []
        for index, told in enumerate(self._told):
            with told.open("w") as stream:
                self.processes.append(subprocess.Popen(
                    command, cwd=ROOT, env=variables | {"JAX_PROCESS_ID": str(index)}, stdout=stream,
                    stderr=subprocess.STDOUT))

    def lines(self, index: int = 0) -> list[str]:
        """What a process has told so far."""
        return self._told[index].read_text(errors="replace").splitlines()

    def steps(self) -> list[int]:
        """Those that the first process told of so far."""
        return [int(line.split()[1].partition("/")[0]) for line in self.lines() if line.startswith("step ")]

    def problems(self) -> list[str]:
        """What the processes said of faults, one line each; of a traceback the last line."""
        lines = [line for index in range(len(self._told)) for line in self.lines(index)]
        said = [line for line in lines if line.startswith(("sfm_jax: ", "checkpoint "))]
        if any(line.startswith("Traceback") for line in lines) and not said:
            said = ["TRACEBACK: " + lines[-1]]
        return said

    def wait_for_step(self, step: int) -> None:
        """Until it is told, or a process has ended."""
        while max(self.steps(), default=0) < step and all(process.poll() is None for process in self.processes):
            time.sleep(0.02)

    def wait(self, seconds: float = 60.0) -> list[int]:
        """The exit codes of all, which have that long."""
        limit = time.monotonic() + seconds
        try:
            return [process.wait(max(limit - time.monotonic(), 0.1)) for process in self.processes]
        finally:
            for process in self.processes:
                process.kill()


def completed(folder: Path, count: int = 1, **options) -> dict:
    """The result of a run that nobody disturbs from here on."""
    attempt = Attempt(folder, count, **options)
    codes = attempt.wait(600.0)
    if any(codes):
        raise RuntimeError(f"{folder}: exit codes {codes}: {attempt.problems()}")
    return json.loads((folder / "result.json").read_text()) | {"first_step": min(attempt.steps(), default=None),
                                                               "said": attempt.problems()}


def checkpoints(folder: Path) -> list[Path]:
    """The finished checkpoints of a run, the oldest first."""
    found = [entry for entry in (folder / "run" / "checkpoints").glob("*") if entry.name.isdigit()]
    return sorted(found, key=lambda entry: int(entry.name))


def newest(folder: Path) -> int:
    """The step of the newest finished checkpoint, 0 if there is none."""
    return int(checkpoints(folder)[-1].name) if checkpoints(folder) else 0


def largest_difference(found: dict, expected: dict) -> float:
    """Of any parameter of two results."""
    theirs = expected["params"]
    return float(max(np.abs(np.subtract(value, theirs[name])).max() for name, value in found["params"].items()))


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
    order = batches(ROWS, BATCH, get_config().seed, load)
    return all([ids for process in sorted(parts[k]) for part in parts[k][process] for ids in part]
               == order[k]["id"].tolist() for k in range(steps))


if __name__ == "__main__":
    sys.exit(worker(Path(sys.argv[1]), sys.argv[2:]))
