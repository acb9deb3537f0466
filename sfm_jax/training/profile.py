"""A window of steps whose trace is written to the workdir, for TensorBoard, XProf or Perfetto."""

import logging
from pathlib import Path

import jax

from sfm_jax.errors import BadInput
from sfm_jax.training.failures import writing

PROFILE_FOLDER = "profile"
OFF = (0, 0)

log = logging.getLogger(__name__)


class Window:
    """Traces the steps `window` = (first, last), both inside, and nothing if that is (0, 0). A context manager.

    Every process writes its own trace, in PROFILE_FOLDER of the workdir. BadInput for a window that is none or goes
    beyond the last of the run's `steps`, and for a folder that cannot be written.
    """

    def __init__(self, workdir: Path, window: tuple[int, int], steps: int):
        self._folder, self._tracing = workdir / PROFILE_FOLDER, False
        window = tuple(window)
        numbers = len(window) == 2 and all(isinstance(each, int) for each in window)
        if window != OFF and not (numbers and 1 <= window[0] <= window[1]):
            raise BadInput(f"profile: found {window}, expected the numbers of the first and the last step to trace")
        if window[1] > steps:
            raise BadInput(f"profile: found {window}, expected steps of the run, which has {steps}")
        self._first, self._last = window

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._stop()

    def begin(self, start: int) -> None:
        """Say which steps of the window an earlier part of the run, up to `start`, has done: they do not come again."""
        if self._first and self._first <= start:
            log.warning("profile: steps %d to %d were done before and are not traced now", self._first,
                        min(self._last, start))

    def step(self, number: int):
        """A context for one step. The first of the window waits for those before it, see `done`."""
        if self._first and self._first <= number <= self._last and not self._tracing:
            with writing(self._folder):
                self._folder.mkdir(exist_ok=True)
            jax.profiler.start_trace(str(self._folder))
            self._tracing = True
        return jax.profiler.StepTraceAnnotation("train", step_num=number)

    def done(self, number: int, results) -> None:
        """After the step `number`: waits for its results where the trace begins or ends with it."""
        if self._first and number in (self._first - 1, self._last):
            jax.block_until_ready(results)
        if number == self._last:
            self._stop()

    def _stop(self):
        if self._tracing:
            self._tracing = False
            with writing(self._folder):
                jax.profiler.stop_trace()
