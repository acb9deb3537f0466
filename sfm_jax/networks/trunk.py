"""A name for each trunk."""

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike

from sfm_jax.errors import BadInput
from sfm_jax.networks.compact import CompactTrunk
from sfm_jax.networks.mobile import MobileTrunk
from sfm_jax.networks.recognition import RecognitionTrunk
from sfm_jax.networks.resnet import ResNet

TRUNKS = {
    "compact": (CompactTrunk, {}),
    "recognition": (RecognitionTrunk, {}),
    "mobile": (MobileTrunk, {}),
    "resnet18": (ResNet, {"depth": 18}),
    "resnet34": (ResNet, {"depth": 34}),
    "resnet50": (ResNet, {"depth": 50}),
    "ir50": (ResNet, {"depth": 50, "style": "ir"}),
}


def create_trunk(name: str, axis_name: str | None = None, dtype: DTypeLike = jnp.float32) -> nn.Module:
    """The trunk called "compact", "recognition", "mobile", "resnet18", "resnet34", "resnet50" or "ir50".

    Call it with sRGB images [B, S, S, 3] in [0, 1] and `train`; it returns Features. axis_name: the mapped axis over
    which batch norms share their statistics; dtype: of the arithmetic (parameters are float32). BadInput on
    another name.
    """
    if name not in TRUNKS:
        raise BadInput(f"trunk: found {name!r}, expected one of {', '.join(TRUNKS)}")
    module, options = TRUNKS[name]
    return module(axis_name=axis_name, dtype=dtype, **options)
