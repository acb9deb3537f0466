"""What changes in a face from one frame to another: to be put into it, and to be taken out again."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from sfm_jax.geometry.products import matmul
from sfm_jax.inference.face import FaceCodes


class Variation(NamedTuple):
    """expression [..., E]; turn [..., 3, 3], in camera axes; log_scale [...]; shift [..., 2], shares of the crop."""

    expression: Float[Array, "*batch E"]
    turn: Float[Array, "*batch 3 3"]
    log_scale: Float[Array, "*batch"]
    shift: Float[Array, "*batch 2"]


def variation(a: FaceCodes, b: FaceCodes) -> Variation:
    """What leads from a's expression and pose to b's."""
    return Variation(b.expression - a.expression, matmul(b.rotation, _transpose(a.rotation)),
                     b.log_scale - a.log_scale, b.shift - a.shift)


def inverse(change: Variation) -> Variation:
    """What leads back."""
    return Variation(-change.expression, _transpose(change.turn), -change.log_scale, -change.shift)


def vary_expression(codes: FaceCodes, change: Variation) -> FaceCodes:
    """The face with the change of expression put into it, all else as it was."""
    return codes._replace(expression=codes.expression + change.expression)


def vary_pose(codes: FaceCodes, change: Variation) -> FaceCodes:
    """The face with the change of pose put into it: turn, size and place in the crop; all else as it was."""
    return codes._replace(rotation=matmul(change.turn, codes.rotation), log_scale=codes.log_scale + change.log_scale,
                          shift=codes.shift + change.shift)



def _transpose(a):
    return jnp.swapaxes(a, -1, -2)
