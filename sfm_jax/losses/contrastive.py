"""Losses on pairs of photos: of one person, whose codes are to meet, and of two, whose codes are to part."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Real

from sfm_jax.array_types import AnyArray, Number
from sfm_jax.geometry.vector import safe_norm


def distance(a: Float[AnyArray, "*batch d"], b: Float[AnyArray, "*batch d"]) -> Float[Array, "*batch"]:
    """sqrt(mean squared difference / 2) [...] of whitened codes [..., d]: 1 on average of independent N(0, I)."""
    return safe_norm(a - b) / jnp.sqrt(2.0 * a.shape[-1])


def contrastive(
    distance: Float[AnyArray, "*batch"], same: Real[AnyArray, "*batch"], margin: Number
) -> Float[Array, "*batch"]:
    """y D^2 + (1 - y) max(0, margin - D)^2 [...] (Hadsell et al. 2006, as in Luo et al., arXiv 1905.06505).

    distance D [...]; same y [...]: 1 where the pair is one person, 0 where it is two.
    """
    same = jnp.asarray(same, distance.dtype)
    apart = jnp.maximum(margin - distance, 0.0)
    return same * distance**2 + (1 - same) * apart**2


def hardest_other(
    codes: Float[AnyArray, "B d"], person: Int[AnyArray, " B"], others: Float[AnyArray, "M d"],
    other_person: Int[AnyArray, " M"],
) -> Float[Array, "B d"]:
    """Of `others` [M, d] the code [B, d] nearest to each of `codes` [B, d] that is of another person; without gradient
    to them. Persons are numbers [B] and [M]; below 0 is nobody: nothing is nearest to them, they to nothing. Where
    there is no other the code itself comes back."""
    if not len(others):
        return codes
    squared = jnp.sum((codes[:, None] - others) ** 2, -1)
    usable = (person[:, None] != other_person) & (person[:, None] >= 0) & (other_person >= 0)
    nearest = jnp.argmin(jnp.where(usable, squared, jnp.inf), 1)
    found = jax.lax.stop_gradient(jnp.where(usable.any(1)[:, None], others[nearest], codes))
    return jnp.where(usable.any(1)[:, None], found, codes)


def remember(
    memory: dict[str, jax.Array], codes: Float[AnyArray, "B d"], person: Int[AnyArray, " B"]
) -> dict[str, jax.Array]:
    """The memory {"codes" [M, d], "person" [M]} with `codes` [B, d] of `person` [B] in front, the oldest dropped."""
    new = {"codes": codes, "person": person}
    return {name: jax.lax.stop_gradient(jnp.concatenate([new[name], memory[name]])[:len(memory[name])])
            for name in memory}


def first_memory(size: int, dimension: int) -> dict[str, jax.Array]:
    """A memory of nobody."""
    return {"codes": jnp.zeros((size, dimension)), "person": jnp.full(size, -1, jnp.int32)}
