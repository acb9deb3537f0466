"""How much of its network's rate a training step on photos keeps: stage 2 beside its network alone, on the same photos.

    python -m experiments.benchmarks.network_rate             # configs/stage2.py as it is
    python -m experiments.benchmarks.network_rate --device    # an accelerator: ResNet-50, 64 photos of 224 pixels
    python -m experiments.benchmarks.network_rate --set trunk=compact image_size=64 --precisions bfloat16

The network alone: forward, backward, and the optimiser on its parameters. A step of stage 2: the same, decoding,
rendering and every loss and parameter beside; "photos given", with the photos of the other in memory, or "photos
drawn", which makes synthetic ones within the step. Each is in a process of its own; they run in turns.
"""

import argparse
from time import perf_counter

import jax
import jax.numpy as jnp
import numpy as np

from configs.stage2 import get_config
from experiments.benchmarks.step_profile import settings
from experiments.benchmarks.timing import Apart, share_accelerator
from experiments.results import machine, markdown_table, write_result
from sfm_jax.tasks import create_task
from sfm_jax.training.loop import prepare
from sfm_jax.training.task import Aux

DEVICE = {"trunk": "resnet50", "image_size": 224, "render_size": 224, "batch_size": 64, "rendered_photos": 0}
CONTENDERS = ("network alone", "stage 2, photos given", "stage 2, photos drawn")


class Given:
    """A mixture whose batches are photo records already."""

    def __init__(self, mixture):
        self.persons = mixture.persons

    def records(self, batch):
        return batch


class NetworkAlone:
    """A task: the network of another, whose answers are drawn towards 0."""

    def __init__(self, task):
        self._task = task

    def init(self, rng, batch):
        params, state = self._task.init(rng, batch)
        self._radius = {"log_radius": params["log_radius"]}
        return {"network": params["network"]}, {"batch_stats": state["batch_stats"]}

    def loss(self, params, state, batch, rng):
        prediction, batch_stats = self._task.predict(params | self._radius, state, batch["image"], train=True)
        total = sum(jnp.mean(leaf.astype(jnp.float32)**2) for leaf in jax.tree.leaves(prediction))
        return total, Aux(metrics={}, state={"batch_stats": batch_stats})

    def param_labels(self, params):
        return jax.tree.map(lambda _: "network", params)


class Contender:
    """A step, compiled, to be called again and again."""

    def __init__(self, precision, name, changes):
        jax.config.update("jax_num_cpu_devices", 1)
        config = get_config()
        config.update_from_flattened_dict({"precision": precision} | changes)
        task = create_task(config)
        batch = task.dataset(config.batch_size, config.seed)[0]
        if name != "stage 2, photos drawn":
            batch = jax.device_get(jax.jit(task.mixture.records)(batch))
            task.mixture = Given(task.mixture)
        if name == "network alone":
            task = NetworkAlone(task)
            config.optimiser.multipliers = {}
        task.dataset = lambda batch_size, seed: [batch]
        _, fresh, executor = prepare(task, config)
        self._state, self._batch = executor.place(fresh), executor.shard(batch)
        self._step = executor.step.lower(self._state, self._batch).compile()

    def seconds(self, steps):
        """The mean of so many steps, not waited for one by one."""
        begin = perf_counter()
        for _ in range(steps):
            self._state, metrics = self._step(self._state, self._batch)
        jax.block_until_ready(metrics)
        return (perf_counter() - begin) / steps


def measure(precisions, changes, steps, rounds):
    """{(precision, contender): seconds of a step}."""
    keys = [(precision, name) for precision in precisions for name in CONTENDERS]
    share_accelerator(len(keys))
    contenders = {key: Apart(Contender, *key, changes) for key in keys}
    for contender in contenders.values():
        contender.wait()
    times = {key: [] for key in contenders}
    for _ in range(rounds + 1):
        for key, contender in contenders.items():
            times[key].append(contender.call("seconds", steps))
    return {key: float(np.median(values[1:])) for key, values in times.items()}


def table(values):
    rows = []
    for precision, times in values["seconds"].items():
        rows += [[precision, name, f"{1e3 * seconds:.1f}", f"{values['photos'] / seconds:.0f}",
                  f"{times[CONTENDERS[0]] / seconds:.0%}"] for name, seconds in times.items()]
    return markdown_table(["precision", "step", "ms", "photos a second", "rate, of the network's"], rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", action="store_true")
    parser.add_argument("--set", nargs="*", default=[], help="config keys, KEY=VALUE")
    parser.add_argument("--precisions", nargs="+", default=["float32"])
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    flags = parser.parse_args()
    changes = (DEVICE if flags.device else {}) | settings(flags.set)
    times = measure(flags.precisions, changes, flags.steps, flags.rounds)
    config = get_config()
    config.update_from_flattened_dict(changes)
    values = {"machine": machine(), "photos": config.batch_size, "seconds": {
        precision: {name: times[precision, name] for name in CONTENDERS} for precision in flags.precisions}}
    print(table(values))
    if not flags.set:
        name = "network_rate_device" if flags.device else "network_rate"
        write_result(name, values, table(values))


if __name__ == "__main__":
    main()
