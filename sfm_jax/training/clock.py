"""How long a run takes in all its parts: those that were interrupted, up to what they saved, and the last one."""

import json
import time
from pathlib import Path

import jax

from sfm_jax.training.workdir import write_text

SECONDS_FILE = "seconds.json"
_NOTHING = {"seconds": 0.0, "train_seconds": 0.0, "compile_seconds": 0.0, "timed_steps": 0, "timed_seconds": 0.0}


class Clock:
    """Runs from the beginning of a part of a run, whose first step is `start` + 1.

    begin: time.perf_counter() when the process began. Steps are timed after the part's first one, which compiles.
    """

    def __init__(self, workdir: Path, start: int, begin: float):
        self._file, self._start, self._begin = workdir / SECONDS_FILE, start, begin
        self._train_begin = self._first_done = time.perf_counter()
        self._before = _NOTHING | (_read(self._file) if start else {})

    def first_step_is_done(self) -> None:
        """The program is compiled."""
        self._first_done = time.perf_counter()

    def save(self, step: int) -> None:
        """Write down how long it took up to this step. Only process 0 does."""
        if jax.process_index() == 0:
            write_text(self._file, json.dumps(self._so_far(step)))

    def times(self, step: int) -> dict[str, float]:
        """Of all parts up to this step: `train_seconds` of their loops, compilation included; `compile_seconds` of
        these until their first step was done; `steps_per_second` after that; and `begin`, when a run of one part would
        have begun."""
        total = self._so_far(step)
        return {"begin": self._begin - self._before["seconds"], "train_seconds": total["train_seconds"],
                "compile_seconds": total["compile_seconds"],
                "steps_per_second": total["timed_steps"] / max(total["timed_seconds"], 1e-9)}

    def _so_far(self, step):
        now, steps = time.perf_counter(), step - self._start
        part = {"seconds": now - self._begin, "train_seconds": now - self._train_begin,
                "compile_seconds": self._first_done - self._train_begin, "timed_steps": steps - 1,
                "timed_seconds": now - self._first_done} if steps else _NOTHING
        return {key: value + part[key] for key, value in self._before.items()}


def _read(file):
    """What was written down, of what it may be; nothing in workdirs of before, or where it cannot be read."""
    try:
        found = json.loads(file.read_text())
        return {key: float(found[key]) for key in _NOTHING}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}
