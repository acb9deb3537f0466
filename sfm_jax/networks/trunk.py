"""Trunks: what all of them take and give, and a name for each."""

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from sfm_jax.array_types import AnyArray


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


def create_trunk(name: str, axis_name: str | None = None, dtype: DTypeLike = jnp.float32) -> nn.Module:
    """The trunk called "compact", "recognition", "mobile", "resnet18", "resnet34", "resnet50" or "ir50".

    Call it with sRGB images [B, S, S, 3] in [0, 1] and `train`; it returns Features. axis_name: the mapped axis over
    which batch norms share their statistics; dtype: of the arithmetic (parameters are float32). ValueError on
    another name.
    """
    from sfm_jax.networks.compact import CompactTrunk
    from sfm_jax.networks.mobile import MobileTrunk
    from sfm_jax.networks.recognition import RecognitionTrunk
    from sfm_jax.networks.resnet import ResNet

    trunks = {
        "compact": (CompactTrunk, {}),
        "recognition": (RecognitionTrunk, {}),
        "mobile": (MobileTrunk, {}),
        "resnet18": (ResNet, {"depth": 18}),
        "resnet34": (ResNet, {"depth": 34}),
        "resnet50": (ResNet, {"depth": 50}),
        "ir50": (ResNet, {"depth": 50, "style": "ir"}),
    }
    if name not in trunks:
        raise ValueError(f"trunk: found {name!r}, expected one of {', '.join(trunks)}")
    module, options = trunks[name]
    return module(axis_name=axis_name, dtype=dtype, **options)
