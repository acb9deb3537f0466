"""Checkpoints by orbax: asynchronous, atomic, with checksums; the newest that is as it was written is restored."""

import contextlib
import json
import logging
import zlib
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp

from sfm_jax.training.failures import orbax_unlogged, passing, runtime_broke, writing
from sfm_jax.training.parallel import TrainState
from sfm_jax.training.workdir import write_text

CHECKSUMS_FILE = "checksums.json"
_ARRAYS = "default"  # orbax's folder for them in a checkpoint's
_CHUNK = 1 << 24  # bytes

log = logging.getLogger(__name__)


class CheckpointError(ValueError):
    """None of a workdir's checkpoints can be read, or not now."""


class Checkpoints:
    """The checkpoints of one workdir. A context manager: on leaving it waits for a save under way.

    They hold whole arrays, so they are the same for either executor and any number of devices and processes.
    """

    def __init__(self, workdir: Path, keep: int, read_only: bool = False):
        """read_only: for `read` alone; a training that is saving here is not disturbed."""
        self._folder = (workdir / "checkpoints").absolute()
        self._quiet = contextlib.ExitStack()
        # One that may only read warns of every option which follows from that.
        with writing(self._folder), orbax_unlogged(logging.WARNING if read_only else logging.ERROR):
            options = ocp.CheckpointManagerOptions(
                max_to_keep=None if read_only else keep, cleanup_tmp_directories=not read_only, read_only=read_only,
                async_options=ocp.AsyncOptions(post_finalization_callback=self._write_checksums))
            self._manager = ocp.CheckpointManager(
                self._folder, options=options,
                # Named, for orbax would otherwise guess from the newest folder what all of them hold: it may be
                # damaged.
                item_handlers=ocp.StandardCheckpointHandler())
        # Orbax asks it of steps that are past, from a thread of the first process, and JAX then takes that for the step
        # which this process is at: the processes would stop after different ones. The loop asks, of every step.
        self._manager.reached_preemption = lambda step: False

    def __enter__(self):
        self._quiet.enter_context(orbax_unlogged())
        return self

    def __exit__(self, kind, *_):
        with self._quiet:
            try:
                with writing(self._folder):
                    self._manager.wait_until_finished()
                    self._manager.close()
            except Exception:
                if kind is None:  # else the error under way is the older one
                    raise

    def save(self, step: int, train: TrainState) -> None:
        """Start saving; returns as soon as the arrays are copied. A step that is saved already is left alone.

        Of arrays that are split over processes each writes its own part.
        """
        if step != self._manager.latest_step():
            with writing(self._folder):
                self._manager.save(step, args=ocp.args.StandardSave(train))

    def restore(self, like: TrainState) -> TrainState | None:
        """The newest checkpoint that can be read; None where there is none.

        Newer ones that are damaged are named and removed, for their steps come again. If not one can be read, or one
        not now, all are left as they are: CheckpointError.
        """
        like = jax.device_get(like)

        def load(step):
            restored = self._manager.restore(step, args=ocp.args.StandardRestore(like))
            _check_shapes(restored, like)
            return restored

        restored, step, unreadable = self._newest(load)
        if step is not None:
            for damaged, reason in unreadable.items():
                log.warning("checkpoint %s cannot be read, going on from %s: %s", damaged, step, reason)
                self._manager.delete(damaged)
        elif unreadable:
            step, reason = next(iter(unreadable.items()))
            raise CheckpointError(f"{self._folder}: no checkpoint of this run can be read ({step}: {reason}); "
                                  "remove the folder to train from the start")
        return restored

    def read(self) -> dict | None:
        """The newest checkpoint that can be read, whatever run it is of: a TrainState as nested dicts of NumPy arrays.

        None where there is none. Damaged ones are left alone. CheckpointError if not one can be read, or one not now.
        """
        def load(step):
            shapes = self._manager.item_metadata(step)
            like = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes.tree)
            return self._manager.restore(step, args=ocp.args.StandardRestore(like))

        found, step, unreadable = self._newest(load)
        if step is None and unreadable:
            step, reason = next(iter(unreadable.items()))
            raise CheckpointError(f"{self._folder}: no checkpoint can be read ({step}: {reason})")
        return found

    def _newest(self, load):
        """(what load(step) gives, step) of the newest checkpoint that is as it was written and can be loaded, (None,
        None) if there is none; and {step: reason} of those newer than it. CheckpointError where reading one fails for a
        reason that may pass: it may be whole, and is not passed over."""
        unreadable = {}
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                check_sums(self._folder / str(step))
                return load(step), step, unreadable
            except Exception as error:  # orbax and tensorstore raise many kinds on damaged files
                if runtime_broke(error):
                    raise  # of the processes' agreement that all have read it: another one is lost
                if reason := passing(error):
                    raise CheckpointError(f"{self._folder / str(step)}: cannot be read now ({reason}); nothing was "
                                          "removed: run again, or remove it to go on from the one before") from None
                unreadable[step] = " ".join(str(error).split())[:200]
        return None, None, unreadable

    def _write_checksums(self):
        """Called by orbax in one process, when all have written, before the folder gets its final name."""
        for folder in self._folder.glob(f"*.orbax-checkpoint-tmp*/{_ARRAYS}"):
            sums = {str(file.relative_to(folder)): _checksum(file) for file in sorted(folder.rglob("*"))
                    if file.is_file()}
            write_text(folder.parent / CHECKSUMS_FILE, json.dumps(sums, indent=1) + "\n")


def check_sums(checkpoint: Path) -> None:
    """ValueError, naming the file, if one of a checkpoint's folder is not as it was written.

    Tensorstore reads changed bytes of an array as if nothing were wrong. Checkpoints without checksums are accepted.
    """
    try:
        listed = (checkpoint / CHECKSUMS_FILE).read_text()
    except FileNotFoundError:
        return
    for name, expected in json.loads(listed).items():
        try:
            found = _checksum(checkpoint / _ARRAYS / name)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise ValueError(f"{_ARRAYS}/{name} is missing") from None
        if found != expected:
            raise ValueError(f"{_ARRAYS}/{name} is not as it was written: its checksum differs")


def _checksum(file):
    """CRC-32 of a file."""
    total = 0
    with file.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            total = zlib.crc32(chunk, total)
    return total


def _check_shapes(found, expected):
    """Orbax compares the names of the arrays; this their shapes."""
    for (path, leaf), like in zip(jax.tree.leaves_with_path(found), jax.tree.leaves(expected), strict=True):
        if leaf.shape != like.shape:
            raise ValueError(f"{jax.tree_util.keystr(path)}: found shape {leaf.shape}, expected {like.shape}")
