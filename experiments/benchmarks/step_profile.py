"""Where the time of a training step goes, for every config: a trace of a few steps, split by the parts of the step.

    python -m experiments.benchmarks.step_profile [--configs stage2 ...] [--steps=4] [--top=0] [--set KEY=VALUE ...]
    python -m experiments.benchmarks.step_profile --steps=20 --together     # on an accelerator

Writes experiments/results/step_profile.{json,md} when all configs are measured, and step_profile_device.{json,md} of an
accelerator. The step runs as training runs it, on CPUs every core a device. An instruction belongs to the part whose
scope (jax.named_scope) is in its name; synthetic photos are drawn within the step, as "input". A step's time is
measured without a trace. --top prints the largest instructions. --save=FILE keeps what is measured for step_costs.
--together traces and compiles all configs at once, each in a process: faster on many cores; how long each took then
says nothing.
"""

import argparse
import ast
import collections
import importlib
import json
import re
import tempfile
import time
from pathlib import Path

import jax

from experiments.results import machine, markdown_table, write_result
from sfm_jax.tasks import create_task
from sfm_jax.training.loop import prepare

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
    file = max(Path(folder).rglob("*.xplane.pb"), key=lambda path: path.stat().st_mtime)
    gpu, total = jax.default_backend() == "gpu", collections.Counter()
    for plane in jax.profiler.ProfileData.from_file(str(file)).planes:
        if gpu and not plane.name.startswith("/device:GPU"):
            continue  # there the host only launches
        for line in plane.lines:
            for event in line.events:
                # Kernels have names of their own: of the libraries', or the instruction's with other punctuation.
                name = dict(event.stats).get("hlo_op", "") if gpu else event.name
                if not event.name.startswith("end: ") and name in program:
                    total[name] += event.duration_ns / 1e9
    return {name: seconds for name, seconds in total.items() if program[name][0] not in WITHIN}


class Step:
    """The training step of a config, compiled, and batches for it."""

    def __init__(self, name, steps, changes, devices):
        # No cache of compiled programs: one from before a scope was renamed would have its old name.
        jax.config.update("jax_num_cpu_devices", devices)
        config = importlib.import_module(f"configs.{name}").get_config()
        config.update_from_flattened_dict({key: value for key, value in changes.items() if key.split(".")[0] in config})
        self.dataset, fresh, self.executor = prepare(create_task(config), config)
        self.state, self.photos = self.executor.place(fresh), config.batch_size
        self.batches = self.load(steps)
        begin = time.perf_counter()
        lowered = self.executor.step.lower(self.state, self.batches[0])
        self.compiled = lowered.compile()
        self.compiling = time.perf_counter() - begin
        # Within a graph of kernels a GPU does not say which instruction it is at: the trace is of a program without.
        self.traced = (lowered.compile(compiler_options={"xla_gpu_graph_min_graph_size": 10**6})
                       if jax.default_backend() == "gpu" else self.compiled)
        self.program = instructions(self.traced.as_text())

    def load(self, steps):
        """So many batches, on the devices."""
        return [self.executor.shard(self.dataset[k]) for k in range(steps)]

    def run(self, compiled):
        """All batches; s per step."""
        begin = time.perf_counter()
        for batch in self.batches:
            self.state, metrics = compiled(self.state, batch)
        jax.block_until_ready(metrics)
        return (time.perf_counter() - begin) / len(self.batches)

    def profile(self, top):
        """{"step": s, "compile": s, "batch": s on the host, "photos": of a step, parts: s per step and device}."""
        begin = time.perf_counter()
        self.load(len(self.batches))
        host = (time.perf_counter() - begin) / len(self.batches)
        self.run(self.compiled)
        seconds = self.run(self.compiled)
        self.run(self.traced)
        with tempfile.TemporaryDirectory() as folder:
            with jax.profiler.trace(folder):
                self.run(self.traced)
            found = seconds_by_instruction(folder, self.program)
        share = 1 / len(self.batches) / jax.device_count()
        parts = dict.fromkeys(PARTS, 0.0)
        for instruction, spent in found.items():
            parts[part_of(*self.program[instruction])] += share * spent
        for instruction in sorted(found, key=found.get, reverse=True)[:top]:
            print(f"  {1e3 * share * found[instruction]:8.2f} ms  {instruction:<36} "
                  f"{self.program[instruction][1][-150:]}", flush=True)
        return {"step": seconds, "compile": self.compiling, "batch": host, "photos": self.photos, **parts}


def table(values):
    on_cpu = values["machine"]["device"] == "cpu"
    digits, busy = (0, []) if on_cpu else (1, ["device busy"])
    shares = []
    for name, row in values["configs"].items():
        total = sum(row[part] for part in PARTS)
        shares.append([name, f"{1e3 * row['step']:.{digits}f}", f"{1e3 * row['batch']:.1f}",
                       *(f"{total / row['step']:.0%}" for _ in busy), *(f"{row[part] / total:.0%}" for part in PARTS)])
    return markdown_table(["config", "step, ms", "its batch on the host, ms", *busy, *PARTS], shares)


def settings(texts):
    """{key: value} of texts KEY=VALUE; what is no Python literal is a string."""
    found = {}
    for text in texts:
        key, _, value = text.partition("=")
        try:
            found[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            found[key] = value
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--configs", nargs="+", default=CONFIGS)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--top", type=int, default=0)
    parser.add_argument("--set", nargs="*", default=[], help="config keys, for all")
    parser.add_argument("--devices", type=int, default=2)
    parser.add_argument("--together", action="store_true", help="compile all configs at once")
    parser.add_argument("--save", type=Path, help="a .json for what is measured, instead of the results' folder")
    flags = parser.parse_args()
    changes, rows, apart = settings(flags.set), {}, {}
    if flags.together:
        from experiments.benchmarks.timing import Apart, share_accelerator  # which an older checkout may not have

        share_accelerator(len(flags.configs))
        apart = {name: Apart(Step, name, flags.steps, changes, flags.devices) for name in flags.configs}
        for step in apart.values():
            step.wait()
    for name in flags.configs:
        print(name, flush=True)
        rows[name] = (apart[name].call("profile", flags.top) if flags.together
                      else Step(name, flags.steps, changes, flags.devices).profile(flags.top))
        print({key: round(value, 4) for key, value in rows[name].items()}, flush=True)
    values = {"machine": machine(), "configs": rows}
    print(table(values))
    if flags.save:
        flags.save.write_text(json.dumps(values))
    elif set(rows) == set(CONFIGS) and not changes:
        kind = "" if values["machine"]["device"] == "cpu" else "_device"
        write_result(f"step_profile{kind}", values, table(values))


if __name__ == "__main__":
    main()
