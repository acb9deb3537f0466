"""The umbrella Laplacian over any table of neighbours."""

from collections.abc import Callable

import jax
import numpy as np
from jaxtyping import Float, Int

from sfm_jax.array_types import AnyArray

_RARE = 0.1  # a column of the table that fewer rows use is looked up for those alone


def mean_laplacian(values: Float[AnyArray, "N C"], neighbours: Int[np.ndarray, "N n"]) -> Float[AnyArray, "N C"]:
    """values [N, C] less the mean of their neighbours; neighbours [N, n] int32, fixed, must be mutual, each row padded
    at its end by its own index (geometry/adjacency.py). A place without neighbours gives 0. For reverse mode alone."""
    degree = np.sum(neighbours != np.arange(len(neighbours))[:, None], axis=1)
    return sum_laplacian(neighbours)(values) / np.maximum(degree, 1).astype(np.float32)[:, None]


def sum_laplacian(neighbours: Int[np.ndarray, "N n"]) -> Callable[[jax.Array], jax.Array]:
    """The operator values [N, C] -> sum over neighbours (value - neighbour).

    It is symmetric: its transpose is itself, so that the backward pass is made of gathers too (scatter-adds over all
    places are several times slower on CPUs). A few places with many neighbours do not widen the table for all.
    """
    used = neighbours != np.arange(len(neighbours))[:, None]
    width = int(np.sum(used.mean(0) > _RARE))
    rows, columns = np.nonzero(used[:, width:])
    others = neighbours[rows, columns + width]

    @jax.custom_vjp
    def apply(values):
        total = width * values
        for column in range(width):  # a padded entry subtracts the place itself and so adds nothing
            total = total - values[neighbours[:, column]]
        return total.at[rows].add(values[rows] - values[others]) if len(rows) else total

    apply.defvjp(lambda values: (apply(values), None), lambda _, cotangent: (apply(cotangent),))
    return apply
