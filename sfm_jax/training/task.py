"""What a task is. `training` runs any of them and knows none."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import flax.struct
import jax

Params = Any  # pytree of learned arrays
State = Any   # pytree of arrays that are kept but not learned: batch statistics, fixed projections
Batch = Any   # pytree of NumPy arrays with the batch as leading dimension


@flax.struct.dataclass
class Aux:
    """What a loss returns beside its scalar: metrics (scalars by name, logged) and the new state."""

    metrics: dict[str, jax.Array]
    state: State


class Task(Protocol):
    """A value built from a config; its methods are pure.

    `loss` is written for one device's share of the batch. Where a term needs the whole batch (moments, batch
    statistics) it uses the collective axis `parallel.AXIS`; gradients and metrics are averaged over it for it.
    """

    def dataset(self, batch_size: int, seed: int) -> Sequence[Batch]:
        """This process's batches. Batch k depends on (seed, k) alone, so a resumed run sees what it would have seen.

        A grain.MapDataset is one. It has no end: it repeats. Arrays called "id" number the samples: they are listed
        when a loss is not finite.
        """

    def init(self, rng: jax.Array, batch: Batch) -> tuple[Params, State]:
        """First parameters and state; `batch` shows the shapes. Tables to be split are best NumPy arrays: whole, they
        may be too large for a device."""

    def loss(self, params: Params, state: State, batch: Batch, rng: jax.Array) -> tuple[jax.Array, Aux]:
        """The scalar to minimise, and what to log."""

    def param_labels(self, params: Params) -> Any:
        """Pytree of strings like `params`: the learning-rate group of each leaf (config.optimiser.multipliers). Weight
        decay falls on the kernels, leaves of two or more dimensions, of the group "network" alone."""

    def split(self, params: Params) -> Any:
        """Optional. Pytree of booleans like `params`: which leaves are split over the devices by their leading
        dimension, for tables with a row for every person. `loss` then sees this device's rows."""

    sources: dict[str, str]
    """Optional. {what: which} of all that is read besides the config, such as files and collections of photos: a run
    that is interrupted goes on with the same alone (training/workdir.py)."""

    def finish(self, params: Params, state: State, workdir: Path, run: Any) -> dict:
        """Measure, write the report and the results into `workdir`; returns the report's numbers."""
