"""The order in which a run sees its samples: shuffled, endless, and the same on any number of processes."""

from collections.abc import Callable

import grain
import jax
import numpy as np

from sfm_jax.errors import BadInput


def batches(length: int, batch_size: int, seed: int, load: Callable[[np.ndarray, np.ndarray], dict]
            ) -> grain.MapDataset:
    """Endless batches `load(indices, epochs)`; batch k depends on (seed, k) alone, so a resumed run misses nothing.

    All samples 0 .. length - 1 are shuffled anew in every epoch and none is dropped: an epoch may end inside a batch.
    The batch of the whole run is cut into one contiguous part for each process, which loads its own rows only: two
    processes together see what one would.

    Args:
      batch_size: of this process; the run's is that times the number of processes.
      load: makes the batch of samples `indices` [b] in their `epochs` [b], which count from 0.

    Raises:
      BadInput: no samples.
    """
    if length < 1:
        raise BadInput(f"data: found {length} samples, expected at least 1")
    everything, first = batch_size * jax.process_count(), batch_size * jax.process_index()

    def own_rows(number, indices):
        positions = number * everything + np.arange(first, first + batch_size)
        return load(np.asarray(indices)[first:first + batch_size], positions // length)

    order = grain.MapDataset.range(length).seed(seed).shuffle().repeat()
    return order.batch(everything).map_with_index(own_rows)


class Zipped:
    """Datasets as one, whose batch k is {name: batch k of that dataset}."""

    def __init__(self, parts: dict[str, grain.MapDataset]):
        self._parts = parts

    def __len__(self) -> int:
        return min(map(len, self._parts.values()))

    def __getitem__(self, number: int) -> dict:
        return {name: part[number] for name, part in self._parts.items()}
