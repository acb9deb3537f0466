"""The training step of every config, compiled for a TPU pod that this machine does not have, and looked at.

    pip install -e .[tpu]
    JAX_PLATFORMS=cpu TPU_SKIP_MDS_QUERY=1 python -m experiments.benchmarks.ahead_of_time [--cases stage2 pod ...]

Needs the compiler alone, no chip, and 12 GB of memory. The step is traced as `executor=shard_map` runs it and compiled,
for 16 chips, every one with the config's whole batch; "pod" is the case of experiments/SCALING.md on 256. Told is what
the compiler says of one chip: what the step keeps in its memory, and the collectives that are left when it has combined
them. Writes experiments/results/ahead_of_time.{json,md}; of cases that are left out, the numbers there stay.
"""

import argparse
import collections
import importlib
import math
import re
import time
from unittest import mock

import jax
from jax.experimental import topologies

from experiments.benchmarks.pod import abstract_step, pod_config
from experiments.benchmarks.step_profile import CONFIGS
from experiments.results import machine, markdown_table, stored, write_result
from sfm_jax.training.parallel import ShardMapExecutor

CASES = (*CONFIGS, "pod")
POD = {"photos": 32, "persons": 2_000_000}
COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s16": 2, "u16": 2, "f32": 4, "s32": 4, "u32": 4}


def compiled(config, devices, photos, persons=None):
    """The step, compiled for these devices, so many photos each."""
    # The renderer chooses by the default backend.
    with mock.patch("jax.default_backend", lambda: devices[0].platform):
        _, step, train, split, batch = abstract_step(config, photos, persons)
        executor = ShardMapExecutor(step, split, devices)

        def placed(leaf, is_split):
            return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=executor.sharding(is_split))

        def of_all(leaf):
            return placed(jax.ShapeDtypeStruct((len(devices) * len(leaf), *leaf.shape[1:]), leaf.dtype), True)

        return executor.step.lower(jax.tree.map(placed, train, split), jax.tree.map(of_all, batch)).compile()


def collectives(text):
    """{name: [count, bytes of the results]} in a compiled program's text; those in loops once."""
    found = collections.defaultdict(lambda: [0, 0])
    for line in text.splitlines():
        if match := re.match(rf"\s*(?:ROOT )?%?[\w.-]+ = (.*?) ({'|'.join(COLLECTIVES)})(?:-start)?\(", line):
            found[match[2]][0] += 1
            found[match[2]][1] += sum(BYTES[dtype] * math.prod(int(length) for length in shape.split(",") if length)
                                      for dtype, shape in re.findall(r"\b(\w+)\[([\d,]*)\]", match[1]))
    return dict(found)


def measure(case):
    """What the compiler says of one chip's step."""
    devices = topologies.get_topology_desc("v5e:16x16" if case == "pod" else "v5e:4x4", "tpu").devices
    config = pod_config("resnet50") if case == "pod" else importlib.import_module(f"configs.{case}").get_config()
    sizes = POD if case == "pod" else {"photos": config.batch_size}
    begin = time.perf_counter()
    program = compiled(config, devices, **sizes)
    memory = program.memory_analysis()
    return {
        "chips": len(devices), "kind": devices[0].device_kind, "samples": sizes["photos"],
        "seconds": time.perf_counter() - begin, "arguments": memory.argument_size_in_bytes,
        "temporary": memory.temp_size_in_bytes, "program": memory.generated_code_size_in_bytes,
        "collectives": collectives(program.as_text()),
    }


def table(values):
    rows = []
    for name, one in values["cases"].items():
        handed = one["collectives"].values()
        rows.append([name, f"{one['chips']} {one['kind']}", f"{one['samples']}",
                     *(f"{one[key] / 1e6:.0f} MB" for key in ("arguments", "temporary", "program")),
                     f"{sum(count for count, _ in handed)}, {sum(size for _, size in handed) / 1e6:.0f} MB",
                     f"{one['seconds']:.0f}"])
    return markdown_table(["config", "chips", "samples a chip", "state and batch", "memory beside", "program",
                           "collectives", "traced and compiled, s"], rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="+", default=CASES, choices=CASES)
    flags = parser.parse_args()
    cases = stored("ahead_of_time").get("cases", {})
    for case in flags.cases:
        cases[case] = measure(case)
        print(case, cases[case], flush=True)
        values = {"machine": machine(), "cases": {name: cases[name] for name in CASES if name in cases}}
        write_result("ahead_of_time", values, table(values))
        jax.clear_caches()  # programs of several GB
    print(table(values))


if __name__ == "__main__":
    main()
