"""What a run tells: metrics.jsonl, TensorBoard, and a progress line. Only process 0 writes."""

import json
import sys
import time
from pathlib import Path

import jax
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

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
        from tensorboardX import SummaryWriter

        write_text(self._file, "".join(json.dumps(line) + "\n" for line in self.history))
        self._stream = self._file.open("a")
        self._board = SummaryWriter(str(self._workdir / "tensorboard"), purge_step=self._start + 1)
        self._bar = _progress_bar() if sys.stdout.isatty() else None
        if self._bar:
            self._bar.start()
            self._row = self._bar.add_task("", total=self._steps, completed=self._start, loss="", rate="")
        return self

    def __exit__(self, *_):
        if self._active:
            self._stream.close()
            self._board.close()
            if self._bar:
                self._bar.stop()

    def write(self, step: int, metrics: dict[str, float]) -> None:
        """Log the metrics of one step everywhere."""
        line = {"step": step} | metrics
        self.history.append(line)
        if not self._active:
            return
        self._stream.write(json.dumps(line) + "\n")
        self._stream.flush()
        for name, value in metrics.items():
            self._board.add_scalar(name, value, step)
        rate = (step - self._start) / (time.perf_counter() - self._clock)
        if self._bar:
            self._bar.update(self._row, completed=step, loss=f"loss {metrics['loss']:.4f}", rate=f"{rate:.1f} steps/s")
        else:
            left = (self._steps - step) / rate
            print(f"step {step}/{self._steps}  loss {metrics['loss']:.4f}  {rate:.1f} steps/s  {left:.0f} s left",
                  flush=True)


def read_metrics(file: Path) -> list[dict]:
    """The complete lines of a metrics.jsonl; a last line cut short by a kill is dropped."""
    lines = []
    for text in file.read_text().splitlines() if file.exists() else []:
        try:
            lines.append(json.loads(text))
        except ValueError:
            break
    return lines


def _progress_bar():
    return Progress(BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[loss]}  {task.fields[rate]} "),
                    TimeRemainingColumn())
