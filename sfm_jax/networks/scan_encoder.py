"""The encoder of registered scans: a linear fit plus a learned correction."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from sfm_jax.array_types import AnyArray


class ScanEncoder(nn.Module):
    """Features of a scan -> (identity, expression), unnormalised codes.

    A linear map plus an MLP whose last layer starts at zero: a trainer sets the linear map to a classical fit, so
    that learning begins at the classical answer and finds what corrects it.
    """

    identity_size: int
    expression_size: int
    hidden: tuple[int, ...] = (512, 512)

    @nn.compact
    def __call__(
        self, features: Float[AnyArray, "*batch F"]
    ) -> tuple[Float[Array, "*batch d"], Float[Array, "*batch E"]]:
        size = self.identity_size + self.expression_size
        linear = nn.Dense(size, name="linear")(features)
        x = features
        for width in self.hidden:
            x = nn.gelu(nn.LayerNorm()(nn.Dense(width)(x)))
        codes = linear + nn.Dense(size, kernel_init=nn.initializers.zeros, name="correction")(x)
        return tuple(jnp.split(codes, [self.identity_size], axis=-1))
