"""How time and memory grow: with vertices, pixels, images, photos a step, persons, devices and processes.

    python -m experiments.benchmarks.scaling

Writes experiments/results/scaling.{json,md} and docs/images/scaling.png. Rendering is forward with gradients, soft
edges; persons are rows of the identity head and its centres, one training step with Adam; a batch, devices and
processes are those of a training step of configs/stage2.py, in processes of their own. Growth is the exponent p of
cost ~ size^p between the two largest sizes: 1 is linear.
"""

import argparse
import json
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from experiments.results import machine, markdown_table, write_result

PICTURE = Path("docs/images/scaling.png")
ROUNDS = 7
PERSONS = (1_000, 10_000, 100_000, 1_000_000)
BATCHES, DEVICES, BATCH = (8, 16, 32, 64), (1, 2, 4), 32
STEPS = 12


def timed(call):
    """Median seconds of a call, after one that may compile."""
    from experiments.benchmarks.timing import medians

    return medians({"": call}, ROUNDS)[""]


def rendering():
    """{axis: {size: [seconds, bytes of temporary memory]}} of the renderer."""
    from experiments.benchmarks.rasteriser import Scene, meshes

    every = meshes()
    count = {name: len(vertices) for name, (vertices, _) in every.items()}

    def measure(mesh, size, batch):
        scene = Scene(*every[mesh], size, 2.0)
        arguments = scene.vertices, scene.cameras(batch)
        compiled = scene.backward.lower(*arguments).compile()
        found = [timed(lambda: scene.backward(*arguments)), compiled.memory_analysis().temp_size_in_bytes]
        print(mesh, size, batch, found, flush=True)
        return found

    return {"vertices": {count[mesh]: measure(mesh, 224, 1) for mesh in every},
            "pixels": {size**2: measure("14k", size, 1) for size in (112, 160, 224, 320, 512)},
            "images": {batch: measure("14k", 112, batch) for batch in (1, 2, 4, 8, 16, 32)}}


def persons():
    """{persons: [seconds, bytes of the training state]} of a step of the identity head on one device."""
    import jax
    from ml_collections import ConfigDict

    from experiments.benchmarks.identity_head import Head
    from sfm_jax.training.loop import prepare

    found = {}
    for count in PERSONS:
        config = ConfigDict(dict(
            seed=0, batch_size=64, steps=STEPS, executor="pmap", ema_decay=0.0,
            optimiser=dict(name="adam", learning_rate=0.01, schedule="constant", warmup_steps=0, weight_decay=0.0,
                           clip_norm=1.0, multipliers={})))
        dataset, fresh, executor = prepare(Head(count), config)
        size = sum(np.asarray(leaf).nbytes for leaf in jax.tree.leaves(fresh))
        state = [executor.place(fresh)]
        batch = executor.shard(dataset[0])
        del fresh

        def step(state=state, batch=batch, executor=executor):
            state[0], metrics = executor.step(state[0], batch)
            return metrics

        found[count] = [timed(step), size]
        print("persons", count, found[count], flush=True)
    return found


def train_step(batch, devices, processes=1):
    """[seconds of a step of configs/stage2.py, peak memory of all processes in bytes], in processes of their own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [sys.executable, "-m", "experiments.benchmarks.scaling", f"--batch={batch}",
               f"--devices={devices // processes}"]
    group = [f"--coordinator={address}", f"--processes={processes}"] if processes > 1 else []
    running = [subprocess.Popen([*command, *group, f"--process={index}"], stdout=subprocess.PIPE, text=True)
               for index in range(processes)]
    said = [json.loads(process.communicate()[0].splitlines()[-1]) for process in running]
    found = [max(seconds for seconds, _ in said), sum(memory for _, memory in said)]
    print("train", batch, devices, processes, found, flush=True)
    return found


def child(flags):
    """One process of `train_step`: prints its seconds a step and its peak memory."""
    import resource

    import jax

    from configs.stage2 import get_config
    from sfm_jax.tasks import create_task
    from sfm_jax.training import distributed
    from sfm_jax.training.compilation import enable_compilation_cache
    from sfm_jax.training.loop import prepare

    enable_compilation_cache()
    jax.config.update("jax_num_cpu_devices", flags.devices)
    if flags.coordinator:
        distributed.initialise(flags.coordinator, flags.processes, flags.process)
    config = get_config()
    config.batch_size, config.rendered_photos = flags.batch, flags.batch // 4
    dataset, fresh, executor = prepare(create_task(config), config)
    state, batches = executor.place(fresh), [executor.shard(dataset[k]) for k in range(3)]
    times = []
    for number in range(STEPS + 1):
        begin = time.perf_counter()
        state, metrics = executor.step(state, batches[number % 3])
        jax.block_until_ready(metrics)
        times.append(time.perf_counter() - begin)
    print(json.dumps([statistics.median(times[2:]), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024]))


def growth(curve, what):
    """The exponent between the two largest sizes."""
    (small, less), (large, more) = [(float(size), values[what]) for size, values in list(curve.items())[-2:]]
    return np.log(more / less) / np.log(large / small)


AXES = {  # curve -> (title, what is measured, how memory is)
    "vertices": ("vertices", "rendering a 224 px image", "temporary"),
    "pixels": ("pixels", "rendering 14k vertices", "temporary"),
    "images": ("images at once", "rendering 112 px, 14k vertices", "temporary"),
    "batch": ("photos a step", "a step of stage 2, 2 devices", "peak"),
    "persons": ("persons", "a step of the identity head", "training state"),
    "devices": ("devices (virtual)", f"a step of stage 2, {BATCH} photos", "peak"),
    "processes": ("processes, a device each", f"a step of stage 2, {BATCH} photos", "peak"),
}


def table(values):
    rows = []
    for name, curve in values["curves"].items():
        title, what, memory = AXES[name]
        sizes = list(curve)
        rows.append([what, f"{title}: {', '.join(f'{int(size):,}'.replace(',', ' ') for size in sizes)}",
                     ", ".join(_seconds(curve[size][0]) for size in sizes),
                     ", ".join(_bytes(curve[size][1]) for size in sizes) + f" ({memory})",
                     "-" if name in ("devices", "processes") else f"{growth(curve, 0):.2f}, {growth(curve, 1):.2f}"])
    return markdown_table(["what", "size", "time", "memory", "growth of time, of memory"], rows)


def _seconds(value):
    return f"{value:.2f} s" if value >= 0.2 else f"{1e3 * value:.1f} ms"


def _bytes(value):
    return f"{value / 1e9:.1f} GB" if value >= 1e9 else f"{value / 1e6:.0f} MB"


def _short(size):
    """1k for 1000, 1M for a million."""
    for unit, letter in ((1e6, "M"), (1e3, "k")):
        if size >= unit:
            return f"{size / unit:.3g}{letter}"
    return f"{size:g}"


def picture(values):
    import matplotlib
    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    shown = ("vertices", "pixels", "images", "batch", "persons", "devices")
    figure, panels = plt.subplots(2, 3, figsize=(10.5, 6), constrained_layout=True)
    for panel, name in zip(panels.flat, shown, strict=True):
        curve = values["curves"][name]
        sizes = np.array([float(size) for size in curve])
        times = np.array([seconds for seconds, _ in curve.values()])
        panel.loglog(sizes, 1e3 * times, "o-", color="#1f5f8b", label="measured")
        if name != "devices":
            panel.loglog(sizes, 1e3 * times[-1] * sizes / sizes[-1], ":", color="#999999", label="linear")
        panel.set_ylim(1e3 * times.min() / 2, 1e3 * times.max() * 2)
        panel.set_xticks(sizes, [_short(size) for size in sizes])
        low, high = panel.get_ylim()
        few = (1,) if high / low > 500 else (1, 2, 5)
        marks = [mark * 10.0**power for power in range(-1, 6) for mark in few if low <= mark * 10.0**power <= high]
        panel.set_yticks(marks, [f"{mark:g}" for mark in marks])
        panel.minorticks_off()
        panel.set_xlabel(AXES[name][0])
        panel.set_title(AXES[name][1], fontsize=10)
        panel.spines[["top", "right"]].set_visible(False)
    for panel in panels[:, 0]:
        panel.set_ylabel("ms")
    panels[0, 0].legend(frameon=False)
    figure.savefig(PICTURE, dpi=110)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, help="of one step, measured in this process")
    for name in ("devices", "processes", "process"):
        parser.add_argument(f"--{name}", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--coordinator", help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.batch:
        child(flags)
        return
    curves = {"batch": {batch: train_step(batch, 2) for batch in BATCHES},
              "devices": {devices: train_step(BATCH, devices) for devices in DEVICES}}
    curves["processes"] = {1: curves["devices"][1], 2: train_step(BATCH, 2, processes=2)}
    curves |= rendering()
    curves["persons"] = persons()
    values = {"machine": machine(), "curves": {name: {str(size): found for size, found in curve.items()}
                                               for name, curve in ((axis, curves[axis]) for axis in AXES)}}
    picture(values)
    write_result("scaling", values, table(values))
    print(table(values))


if __name__ == "__main__":
    main()
