"""A training step of detail: its time, and the memory it takes, each size in a process of its own.

    python -m experiments.benchmarks.detail [--coarse=default]

One photo a step on one device: synthetic photo, coarse face, U-Net, dense mesh, render, all losses, forward and
backward, optimiser. Writes experiments/results/detail_speed.{json,md}. Targets: 1.5 s at 256 texels, 6 GB at 512.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time

import jax

from configs.detail import get_config
from experiments.results import machine, markdown_table, write_result
from sfm_jax.tasks import create_task
from sfm_jax.training import loop

SIZES, STEPS = (256, 512), 6


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--coarse", default="default")
    parser.add_argument("--size", type=int, help="measure this one here, and print it")
    arguments = parser.parse_args()
    if arguments.size:
        print(json.dumps(measure(arguments.size, arguments.coarse)))
        return
    values = {}
    for size in SIZES:
        command = [sys.executable, "-m", "experiments.benchmarks.detail", f"--size={size}",
                   f"--coarse={arguments.coarse}"]
        values[size] = json.loads(subprocess.run(command, check=True, text=True, capture_output=True).stdout)
        print(size, values[size], flush=True)
    stored = {"machine": machine(), "sizes": values}
    write_result("detail_speed", stored, table(stored))


def table(values: dict) -> str:
    rows = [[f"{size} texels, {size} px", f"{value['vertices'] / 1000:.0f}k", f"{value['step']:.2f} s",
             f"{value['compile']:.0f} s", f"{value['memory']:.1f} GB"] for size, value in values["sizes"].items()]
    return markdown_table(["one photo, forward and backward", "vertices", "a step", "compilation", "peak memory"], rows)


def measure(size: int, coarse: str) -> dict:
    """Seconds a step (median), seconds of the first one, and the process's peak memory in GB."""
    config = get_config()
    config.coarse, config.batch_size = coarse, 1
    config.uv_size = config.image_size = config.data.wrinkle_size = size
    task = create_task(config)
    dataset, fresh, executor = loop.prepare(task, config)
    state, times = executor.place(fresh), []
    for step in range(STEPS):
        begin = time.perf_counter()
        state, metrics = executor.step(state, executor.shard(dataset[step]))
        jax.block_until_ready(metrics)
        times.append(time.perf_counter() - begin)
    assert executor.metrics([metrics])[0]["overflow"] == 0
    return {"vertices": task.space.dense.vertex_count, "step": statistics.median(times[1:]), "compile": times[0],
            "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6}


if __name__ == "__main__":
    main()
