"""What all trunks take and give."""

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from sfm_jax.array_types import AnyArray

PRECISIONS = ("float32", "bfloat16")


def check_precision(name: str) -> str:
    """The name of a network's arithmetic, if it is one of PRECISIONS. ValueError if not."""
    if name not in PRECISIONS:
        raise ValueError(f"precision: found {name!r}, expected one of {', '.join(PRECISIONS)}")
    return name


class Features(NamedTuple):
    """pooled, in float32; map: the last one before pooling or, in `compact`, the one before that; known: those of the
    pooled features that come of face recognition, where there are any."""

    pooled: Float[Array, "B F"]
    map: Float[Array, "B h w C"]
    known: Float[Array, "B K"] | None = None


def normalise_image(images: Float[AnyArray, "B S S 3"], dtype: DTypeLike) -> Float[AnyArray, "B S S 3"]:
    """sRGB in [0, 1] -> about [-1, 1]."""
    return (2 * images - 1).astype(dtype)


def batch_norm(train: bool, axis_name: str | None, dtype: DTypeLike) -> Callable[..., nn.BatchNorm]:
    """A factory of batch norms that share their statistics over the devices of `axis_name`."""
    def norm(**options) -> nn.BatchNorm:
        return nn.BatchNorm(use_running_average=not train, momentum=0.9, epsilon=1e-5, dtype=dtype,
                            axis_name=axis_name, **options)
    return norm
