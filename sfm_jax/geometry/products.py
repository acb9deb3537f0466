"""Matrix products in full float32.

Accelerators multiply float32 in fewer bits by default: GPUs keep ten of the mantissa's 23, TPUs seven. A network bears
that; of a face 1e-3 is 0.2 mm.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sfm_jax.array_types import AnyArray


def matmul(a: Float[AnyArray, "..."], b: Float[AnyArray, "..."]) -> Float[Array, "..."]:
    """a @ b."""
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


def einsum(subscripts: str, *operands: Float[AnyArray, "..."]) -> Float[Array, "..."]:
    """As jnp.einsum."""
    return jnp.einsum(subscripts, *operands, precision=jax.lax.Precision.HIGHEST)
