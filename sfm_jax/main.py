"""Train any task from its config, then evaluate it and write the report.

    python -m sfm_jax.main --config=configs/stage1.py [--workdir=runs/stage1] [--config.steps=3000 ...]

Several processes, on one machine or many, are one run; all see the same workdir. Under srun and mpirun and on TPU pods
they find each other; elsewhere every process gets the address of the first, their number and its own index:

    python -m sfm_jax.main ... --coordinator=host:1234 --num_processes=2 --process_id=0

Exit code 0: done, or stopped by SIGTERM with everything saved (run again to go on); 2: bad input, or no report of what
was learned can be made, one line says what; 1: the loss became NaN or infinite, one line says where; 3: another process
was lost (run again to go on).
"""

import os
import re
import sys
import time
from pathlib import Path

from absl import flags
from ml_collections import config_flags

from sfm_jax.command_line import refuse

_CONFIG = config_flags.DEFINE_config_file("config", None, "The config file of a run, such as configs/stage1.py.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Where checkpoints, logs and the report go; runs/NAME if none.")
_COORDINATOR = flags.DEFINE_string("coordinator", None, "ADDRESS:PORT of process 0, or auto: JAX finds it out.")
_COUNT = flags.DEFINE_integer("num_processes", None, "Of the run, if there is a coordinator.")
_INDEX = flags.DEFINE_integer("process_id", None, "Of this process, 0 .. num_processes - 1, if there is a coordinator.")

_MOST_ARGUMENTS = 10_000  # the time that absl takes for them grows with their square

# Keys that may change between the parts of an interrupted run: they do not change what is learned.
_FREE_KEYS = frozenset({"log_every", "save_every", "keep", "executor", "cpu_devices", "profile",
                        "data.shown", "data.shown_photos", "examples", "rival"})


def main(argv: list[str] | None = None) -> int:
    """Run; returns the exit code."""
    begin = time.perf_counter()
    argv = sys.argv if argv is None else argv
    if {"-h", "--help"} & set(argv[1:]):
        print(f"{__doc__.strip()}\n\nWhat a config has, --config.KEY sets; the file explains each key.")
        return 0
    try:
        config, workdir = read_command_line(argv)
    except InputError as error:
        return refuse(_one_line(error))

    # JAX and the data libraries are imported only for a command line that is right.
    import jax

    from sfm_jax.errors import BadInput
    from sfm_jax.tasks import create_task
    from sfm_jax.training import distributed, loop
    from sfm_jax.training.checkpoint import CheckpointError
    from sfm_jax.training.compilation import enable_compilation_cache
    from sfm_jax.training.workdir import keep_sources, open_workdir

    enable_compilation_cache()
    if config.get("cpu_devices", 1) < 1:
        return refuse(f"cpu_devices: found {config.cpu_devices}, expected 1 or more")
    if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        # Rendering runs on one core of a device: where there is no accelerator, cores are shown as several devices.
        jax.config.update("jax_num_cpu_devices", config.get("cpu_devices", 1))
    try:
        distributed.initialise(_COORDINATOR.value, _COUNT.value, _INDEX.value)
        distributed.check_joined()
        loop.check_numbers(config)
        task = create_task(config)
        workdir = open_workdir(workdir, config, free_keys=_FREE_KEYS)
        if sources := getattr(task, "sources", None):
            keep_sources(workdir, sources)
    except ValueError as error:
        return refuse(_one_line(error))
    try:
        result = loop.train(task, config, workdir, begin)
    except (CheckpointError, BadInput) as error:
        return refuse(_one_line(error))
    except FloatingPointError as error:
        print(f"sfm_jax: error: {error}", file=sys.stderr)
        return 1
    first = jax.process_index() == 0
    distributed.leave()
    if first and not result.preempted:
        try:
            numbers = task.finish(result.params, result.state, workdir, result)
        except (ValueError, OSError) as error:
            return refuse(f"no report: {error}; what was learned is saved: run again for the report alone")
        _print_numbers(numbers, workdir)
    return 0


class InputError(ValueError):
    """The command line or the config is wrong; the message is one line for its user."""


def read_command_line(argv: list[str]):
    """(locked config, workdir) of a command line. InputError names the flag, file or key, and the nearest right one."""
    if len(argv) > _MOST_ARGUMENTS:
        raise InputError(f"found {len(argv) - 1} arguments, expected fewer than {_MOST_ARGUMENTS}")
    try:
        rest = flags.FLAGS(argv)[1:]
        config = _CONFIG.value
        if config is not None:
            config.lock()  # a file that failed to load says so at its first use, here
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError, OSError, RecursionError) as error:
        raise InputError(_one_line(error)) from None
    if rest:
        raise InputError(f"unexpected argument {rest[0]!r}")
    if config is None:
        raise InputError("--config is missing, for example --config=configs/stage1.py")
    name = Path(config_flags.get_config_filename(flags.FLAGS["config"])).stem
    return config, Path(_WORKDIR.value or Path("runs") / name)


def _one_line(error):
    """The error's text without line breaks; config_flags wraps a mistyped key in quotes and explains its nesting."""
    text = str(error).replace("\\n", "\n")
    if found := re.search(r'Did you mean "(.+?)" instead of "(.+?)"', text):
        return f"config key {found[2]!r} does not exist; did you mean {found[1]!r}?"
    if found := re.fullmatch(r"[\"']*([\w.]+)[\"']*", text):
        return f"config key {found[1]!r} does not exist"
    if found := re.search(r"Attempted \[.*?\]:\s*(\S+)\s*(.*)", text):
        return f"config file {found[1]}: cannot be loaded: {' '.join(found[2].split())}"
    return " ".join(text.split())


def _print_numbers(numbers, workdir):
    print()
    for name, value in numbers.items():
        print(f"  {name:<36} {value:.4g}" if isinstance(value, float) else f"  {name:<36} {value}")
    print(f"\n  report: {os.path.join(workdir, 'report.html')}")


if __name__ == "__main__":
    sys.exit(main())
