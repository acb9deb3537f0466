"""Times of contenders that share a machine with whatever else runs on it."""

import time
from collections.abc import Callable, Mapping

import jax
import numpy as np


def medians(contenders: Mapping[object, Callable[[], object]], rounds: int) -> dict[object, float]:
    """Median seconds of functions of no argument, called in turns, after a round that may compile."""
    times = {name: [] for name in contenders}
    for _ in range(rounds + 1):
        for name, call in contenders.items():
            begin = time.perf_counter()
            jax.block_until_ready(call())
            times[name].append(time.perf_counter() - begin)
    return {name: float(np.median(values[1:])) for name, values in times.items()}
