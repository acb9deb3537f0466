"""A recognition head of a million persons and 64 dimensions, with its centres, split over four virtual devices.

    python -m experiments.benchmarks.identity_head [--persons 1000000]

A few training steps by `training.loop.train`: class weights and centres with Adam's moments and a running average,
never whole on any device, by either executor; a checkpoint at the end. Prints seconds a step and memory, and writes
experiments/results/identity_head.{json,md}. It needs 9 GB.
"""

import argparse
import itertools
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from experiments.results import machine, markdown_table, write_result

DEVICES, DIMENSION, BATCH, STEPS = 4, 64, 64, 8


class Head:
    """A linear map of noise, the same in every step, towards as many persons drawn from all."""

    def __init__(self, persons: int):
        from sfm_jax.losses.identity import padded_classes

        self.persons, self.rows = persons, padded_classes(persons)
        self.asked = []  # when each batch was asked for

    def dataset(self, batch_size: int, seed: int):
        self._drawn = (batch_size, seed)
        return self

    def __getitem__(self, number: int):
        import numpy as np

        self.asked.append(time.perf_counter())
        size, seed = self._drawn
        rng = np.random.default_rng(seed)
        return {"person": rng.integers(0, self.persons, size, np.int32),
                "x": rng.standard_normal((size, DIMENSION), np.float32)}

    def init(self, rng, batch):
        import numpy as np

        table = np.random.default_rng(0).standard_normal((self.rows, DIMENSION), np.float32) / 8
        return {"map": np.eye(DIMENSION, dtype=np.float32), "classes": table, "centres": np.zeros_like(table)}, {}

    def param_labels(self, params):
        return {name: name for name in params}

    def split(self, params):
        return {name: name != "map" for name in params}

    def loss(self, params, state, batch, rng):
        import jax.numpy as jnp

        from sfm_jax.losses.identity import split_centre_loss, split_margin_cross_entropy
        from sfm_jax.training.parallel import AXIS
        from sfm_jax.training.task import Aux

        code, person = batch["x"] @ params["map"], batch["person"]
        margin, correct = split_margin_cross_entropy(code, params["classes"], person, self.persons, AXIS, m3=0.2)
        centre = split_centre_loss(code, params["centres"], person, jnp.ones(len(code)), AXIS)
        return jnp.mean(margin + 0.01 * centre), Aux({"accuracy": jnp.mean(correct)}, state)


def measure(executor: str, persons: int) -> dict:
    """Train in this process, whose devices are set; seconds and memory."""
    from ml_collections import ConfigDict

    from sfm_jax.training.loop import train

    config = ConfigDict(dict(
        seed=0, batch_size=BATCH, steps=STEPS, executor=executor, ema_decay=0.9, keep=1, save_every=STEPS, log_every=1,
        optimiser=dict(name="adam", learning_rate=0.01, schedule="constant", warmup_steps=0, weight_decay=0.0,
                       clip_norm=1.0, multipliers={})))
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as workdir:
        task = Head(persons)
        result = train(task, config, Path(workdir))
        saved = sum(file.stat().st_size for file in Path(workdir).rglob("*") if file.is_file())
    # Batches are prepared two steps ahead, so from the fourth on one is asked for whenever a step is done.
    step = statistics.median(after - before for before, after in itertools.pairwise(task.asked[5:]))
    return {"executor": executor, "loss": [line["loss"] for line in result.history],
            "seconds": time.perf_counter() - begin, "seconds_a_step": step,
            "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, "checkpoint_gb": saved / 2**30}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--persons", type=int, default=1_000_000)
    parser.add_argument("--executor")
    arguments = parser.parse_args()
    if arguments.executor:
        print(json.dumps(measure(arguments.executor, arguments.persons)))
        return

    environment = os.environ | {"XLA_FLAGS": f"--xla_force_host_platform_device_count={DEVICES}",
                                "JAX_PLATFORMS": "cpu"}
    found = []
    for executor in ("pmap", "shard_map"):
        command = [sys.executable, "-m", "experiments.benchmarks.identity_head", "--executor", executor,
                   "--persons", str(arguments.persons)]
        done = subprocess.run(command, env=environment, text=True, stdout=subprocess.PIPE, check=True)
        found.append(json.loads(done.stdout.splitlines()[-1]))
    values = {"machine": machine(), "persons": arguments.persons, "dimension": DIMENSION, "batch": BATCH, "runs": found}
    write_result("identity_head", values, table(values))
    print(table(values))


def table(values: dict) -> str:
    rows = [[one["executor"], f"{one['seconds_a_step']:.2f} s", f"{one['peak_gb']:.1f} GB",
             f"{one['checkpoint_gb']:.1f} GB", f"{one['loss'][0]:.2f} to {one['loss'][-1]:.2f}"]
            for one in values["runs"]]
    return markdown_table([f"{values['persons']} persons on {DEVICES} virtual devices", "a step", "peak memory",
                           "checkpoint", f"loss in {STEPS} steps"], rows)


if __name__ == "__main__":
    main()
