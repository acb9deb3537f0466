"""What a run tells: metrics.jsonl, TensorBoard, and a progress line. Only process 0 writes."""

import json
import sys
import time
from pathlib import Path

import jax
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from sfm_jax.errors import BadInput
from sfm_jax.training.failures import writing
from sfm_jax.training.workdir import write_text

METRICS_FILE = "metrics.jsonl"


class Logbook:
    """A context manager. Lines of metrics.jsonl after `start` (the restored step) are dropped, because these steps
    come again: the file of an interrupted run is that of an uninterrupted one."""

    def __init__(self, workdir: Path, start: int, steps: int):
        self._active = jax.process_index() == 0
        self._start, self._steps = start, steps
        self._file = workdir / METRICS_FILE
        self.history = [line for line in read_metrics(self._file) if line["step"] <= start]
        self._workdir = workdir

    def __enter__(self):
        self._clock = time.perf_counter()
        if not self._active:
            return self
        with writing(self._file):
            write_text(self._file, "".join(json.dumps(line) + "\n" for line in self.history))
            self._stream = self._file.open("a")
            self._board = _Board(self._workdir / "tensorboard", self._start + 1)
        self._bar = _progress_bar() if sys.stdout.isatty() else None
        if self._bar:
            self._bar.start()
            self._row = self._bar.add_task("", total=self._steps, completed=self._start, loss="", rate="")
        return self

    def __exit__(self, kind, *_):
        if not self._active:
            return
        if self._bar:
            self._bar.stop()
        try:
            with writing(self._file):
                self._stream.close()
                self._board.close()
        except BadInput:
            if kind is None:  # else the error under way is the older one
                raise

    def write(self, step: int, metrics: dict[str, float]) -> None:
        """Log the metrics of one step everywhere."""
        line = {"step": step} | metrics
        self.history.append(line)
        if not self._active:
            return
        with writing(self._file):
            self._stream.write(json.dumps(line) + "\n")
            self._stream.flush()
            self._board.write(step, metrics)
        rate = (step - self._start) / (time.perf_counter() - self._clock)
        if self._bar:
            self._bar.update(self._row, completed=step, loss=f"loss {metrics['loss']:.4f}", rate=f"{rate:.1f} steps/s")
        else:
            left = (self._steps - step) / rate
            print(f"step {step}/{self._steps}  loss {metrics['loss']:.4f}  {rate:.1f} steps/s  {left:.0f} s left",
                  flush=True)


class _Board:
    """TensorBoard's file of one part of a run, written at once.

    tensorboardX's SummaryWriter writes in a thread, and waits for it for ever when that has met a full disk.
    """

    def __init__(self, folder: Path, first: int):
        """first: the step that comes next; TensorBoard hides what earlier files have of it and after it."""
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog
        from tensorboardX.summary import scalar

        folder.mkdir(exist_ok=True)
        self._event, self._scalar = Event, scalar
        self._writer = EventsWriter(str(folder / "events"))
        self._add(first, session_log=SessionLog(status=SessionLog.START))

    def write(self, step: int, metrics: dict[str, float]) -> None:
        for name, value in metrics.items():
            self._add(step, summary=self._scalar(name, value))
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()

    def _add(self, step, **content):
        self._writer.write_event(self._event(step=step, wall_time=time.time(), **content))


def read_metrics(file: Path) -> list[dict]:
    """The complete lines of a metrics.jsonl; a last line cut short by a kill is dropped, and what follows damage."""
    lines = []
    for text in file.read_text(errors="replace").splitlines() if file.exists() else []:
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):
            break
        if not (isinstance(line, dict) and isinstance(line.get("step"), int)):
            break
        lines.append(line)
    return lines


def _progress_bar():
    return Progress(BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[loss]}  {task.fields[rate]} "),
                    TimeRemainingColumn())
