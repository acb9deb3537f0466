"""Terms that keep a learned basis [d, V, 3] (mm per unit code) smooth, symmetric, near its start and bounded.

After the basis terms of Jiang et al. 2023 (SFM); their exact form is ours. Each is a mean of squares in mm^2.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from sfm_jax.array_types import AnyArray, Number
from sfm_jax.losses.laplacian import mean_laplacian


def smoothness(basis: Float[AnyArray, "d V 3"], neighbours: Int[np.ndarray, "V n"]) -> Float[Array, ""]:
    """Mean squared umbrella Laplacian: how far each column's displacement is from its neighbours' mean, mm^2.

    neighbours [V, n] int32, each row padded by the vertex itself.
    """
    by_vertex = jnp.moveaxis(basis, 1, 0).reshape(basis.shape[1], -1)
    return jnp.mean(mean_laplacian(by_vertex, neighbours) ** 2) * 3.0


def asymmetry(basis: Float[AnyArray, "d V 3"], symmetry: Int[AnyArray, " V"]) -> Float[Array, ""]:
    """Mean squared part of each column that is neither symmetric nor antisymmetric under the mirror x -> -x, mm^2.

    A face's asymmetry is a real feature, so antisymmetric columns are free: only mixtures cost. With the even
    part E and the odd part O of a column, the term is mean(|E|^2) mean(|O|^2) / mean(|E|^2 + |O|^2).
    """
    mirrored = basis[:, symmetry] * jnp.array([-1.0, 1.0, 1.0])
    even = jnp.mean(jnp.sum((0.5 * (basis + mirrored)) ** 2, axis=-1), axis=-1)
    odd = jnp.mean(jnp.sum((0.5 * (basis - mirrored)) ** 2, axis=-1), axis=-1)
    return jnp.mean(even * odd / (even + odd + 1e-12))


def distance_to_start(basis: Float[AnyArray, "d V 3"], start: Float[AnyArray, "d V 3"]) -> Float[Array, ""]:
    """Mean squared displacement of the basis from its initial value, mm^2."""
    return jnp.mean(jnp.sum((basis - start) ** 2, axis=-1))


def excess_norm(basis: Float[AnyArray, "d V 3"], bound: Number) -> Float[Array, ""]:
    """Mean over columns of max(0, root-mean-square displacement - bound)^2, mm^2; no pull below the bound."""
    squared = jnp.mean(jnp.sum(basis**2, axis=-1), axis=-1)
    rms = jnp.sqrt(jnp.maximum(squared, 1e-12))
    return jnp.mean(jnp.maximum(rms - bound, 0.0) ** 2)
