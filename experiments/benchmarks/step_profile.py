"""Where the time of a training step goes, for every config: a trace of a few steps, split by the parts of the step.

    python -m experiments.benchmarks.step_profile [--configs stage2 ...] [--steps=4] [--top=0] [--set KEY=VALUE ...]

Writes experiments/results/step_profile.{json,md} when all configs are measured. The step runs as training runs it,
every core a device. An instruction belongs to the part whose scope (jax.named_scope) is in its name; synthetic photos
are drawn within the step, as "input". A step's time is measured without a trace. --top prints the largest instructions.
--save=FILE keeps what is measured for step_costs.
"""

import argparse
import collections
import importlib
import json
import re
import tempfile
import time
from pathlib import Path

from experiments.results import machine, markdown_table, write_result

PARTS = ("input", "network", "decode", "render", "losses", "optimiser", "collectives", "other")
CONFIGS = ("stage1", "stage2", "sir", "siamese", "cycle", "detail_coarse", "detail")
WITHIN = {"while", "call", "conditional"}  # contain others, which are counted
COLLECTIVES = {"all-reduce", "all-gather", "reduce-scatter"}  # waiting for the other devices included


def instructions(text):
    """{instruction: (opcode, scopes)} of a compiled program's text."""
    found = {}
    for line in text.splitlines():
        if match := re.match(r"\s*(?:ROOT )?%?([\w.-]+) = .*? ([\w-]+)\(", line):
            scope = re.search(r'op_name="([^"]*)"', line)
            found[match[1]] = match[2], scope[1] if scope else ""
    return found


def part_of(opcode, scopes):
    """The part of an instruction: "input" as a whole, else the innermost that is named."""
    if opcode in COLLECTIVES:
        return "collectives"
    names = re.findall(r"\b(input|network|decode|render|losses|optimiser)\b", scopes)
    return "input" if "input" in names else names[-1] if names else "other"


def seconds_by_instruction(folder, program):
    """{instruction: its time on all devices, s} of the newest trace in a folder."""
    import jax

    file = max(Path(folder).rglob("*.xplane.pb"), key=lambda path: path.stat().st_mtime)
    total = collections.Counter()
    for plane in jax.profiler.ProfileData.from_file(str(file)).planes:
        for line in plane.lines:
            for event in line.events:
                if not event.name.startswith("end: ") and event.name in program:
                    total[event.name] += event.duration_ns / 1e9
    return {name: seconds for name, seconds in total.items() if program[name][0] not in WITHIN}


def profile(name, steps, changes, top):
    """{"step": s, "compile": s, "batch": s on the host, parts: s per step and device} of a config."""
    import jax

    from sfm_jax.tasks import create_task
    from sfm_jax.training.loop import prepare

    config = importlib.import_module(f"configs.{name}").get_config()
    config.update_from_flattened_dict({key: value for key, value in changes.items() if key.split(".")[0] in config})
    dataset, fresh, executor = prepare(create_task(config), config)
    state = executor.place(fresh)
    begin = time.perf_counter()
    batches = [executor.shard(dataset[k]) for k in range(steps)]
    host = (time.perf_counter() - begin) / steps
    begin = time.perf_counter()
    compiled = executor.step.lower(state, batches[0]).compile()
    compiling = time.perf_counter() - begin
    program = instructions(compiled.as_text())
    state, metrics = executor.step(state, batches[0])
    jax.block_until_ready(metrics)
    begin = time.perf_counter()
    for batch in batches:
        state, metrics = executor.step(state, batch)
    jax.block_until_ready(metrics)
    step = (time.perf_counter() - begin) / steps
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            for batch in batches:
                state, metrics = executor.step(state, batch)
            jax.block_until_ready(metrics)
        found = seconds_by_instruction(folder, program)
    parts = dict.fromkeys(PARTS, 0.0)
    for instruction, seconds in found.items():
        parts[part_of(*program[instruction])] += seconds / steps / jax.device_count()
    for instruction in sorted(found, key=found.get, reverse=True)[:top]:
        print(f"  {1e3 * found[instruction] / steps / jax.device_count():8.1f} ms  {instruction:<36} "
              f"{program[instruction][1][-150:]}")
    return {"step": step, "compile": compiling, "batch": host, "photos": config.batch_size, **parts}


def table(values):
    shares = [[name, f"{1e3 * row['step']:.0f}", f"{1e3 * row['batch']:.1f}",
               *(f"{row[part] / sum(row[each] for each in PARTS):.0%}" for part in PARTS)]
              for name, row in values["configs"].items()]
    return markdown_table(["config", "step, ms", "its batch on the host, ms", *PARTS], shares)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--configs", nargs="+", default=CONFIGS)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--top", type=int, default=0)
    parser.add_argument("--set", nargs="*", default=[], help="config keys, for all")
    parser.add_argument("--devices", type=int, default=2)
    parser.add_argument("--save", type=Path, help="a .json for what is measured, instead of the results' folder")
    flags = parser.parse_args()
    import jax

    # No cache of compiled programs: one from before a scope was renamed would have its old name.
    jax.config.update("jax_num_cpu_devices", flags.devices)
    changes = dict(each.split("=", 1) for each in flags.set)
    rows = {}
    for name in flags.configs:
        print(name, flush=True)
        rows[name] = profile(name, flags.steps, changes, flags.top)
        print({key: round(value, 4) for key, value in rows[name].items()}, flush=True)
    values = {"machine": machine(), "configs": rows}
    print(table(values))
    if flags.save:
        flags.save.write_text(json.dumps(values))
    elif set(rows) == set(CONFIGS) and not changes:
        write_result("step_profile", values, table(values))


if __name__ == "__main__":
    main()
