"""Checkpoints by orbax: asynchronous, atomic, the newest readable one is restored."""

import logging
from pathlib import Path

import jax
import orbax.checkpoint as ocp

from sfm_jax.training.parallel import TrainState

log = logging.getLogger(__name__)


class Checkpoints:
    """The checkpoints of one workdir. A context manager: on leaving it waits for a save under way."""

    def __init__(self, workdir: Path, keep: int):
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, cleanup_tmp_directories=True)
        self._manager = ocp.CheckpointManager((workdir / "checkpoints").absolute(), options=options)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._manager.wait_until_finished()
        self._manager.close()

    def save(self, train: TrainState) -> None:
        """Start saving; returns as soon as the arrays are copied. A step that is saved already is left alone."""
        step = int(train.step)
        if step != self._manager.latest_step():
            self._manager.save(step, args=ocp.args.StandardSave(train))

    def restore(self, like: TrainState) -> TrainState | None:
        """The newest checkpoint that can be read, or None. One that cannot be read is named and passed over."""
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                return self._manager.restore(step, args=ocp.args.StandardRestore(abstract))
            except Exception as error:  # orbax and tensorstore raise many kinds on damaged files
                reason = " ".join(str(error).split())[:200]
                log.warning("checkpoint %s cannot be read and is passed over: %s", step, reason)
                self._manager.delete(step)
        return None
