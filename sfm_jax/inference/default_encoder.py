"""The network that comes with the package: photos -> codes of the embedded face model, at either level of detail.

Trained by experiments/default_weights/config.py on synthetic photos of the embedded people, and packed by
experiments/default_weights/pack.py. Its basis is the model's own, and the recognition network that its trunk begins
with is an asset by itself: the file holds neither.
"""

import dataclasses
import functools
import json
import os
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from ml_collections import ConfigDict

from sfm_jax.array_types import AnyArray, Number
from sfm_jax.geometry.products import einsum
from sfm_jax.inference.face import FaceCodes, crop_frame
from sfm_jax.inference.identity_space import StartBasis, start_basis
from sfm_jax.inference.packed import read_packed, unpacked_tree
from sfm_jax.inference.photo_encoder import PhotoEncoder, Prediction
from sfm_jax.morphable.default import load_default
from sfm_jax.morphable.model import MorphableModel

ASSET = Path(__file__).parent.parent / "assets" / "photo_encoder.npz"
FORMAT = "sfm-jax photo encoder 1"
# What of a photo config the encoder reads, kept as JSON under the key "config".
SETTINGS = ("albedo_components", "basis", "components", "image_size", "model", "precision", "separate_heads", "sphere",
            "trunk")
# Of the flattened trees in the file: "params/RecognitionTrunk_0/..." and "batch_stats/RecognitionTrunk_0/...".
TREES = ("params", "batch_stats")
_TEXTS = ("config", "licence", "report")
_NUMBERS = ("crop_frame", "log_radius")  # the frame that cameras are relative to: middle and side in mm


@functools.cache
def load_default_encoder(detail: int = 1) -> tuple[PhotoEncoder, dict, dict]:
    """(encoder, params, state) of the weights in the package: see `read_encoder`."""
    return read_encoder(ASSET, detail)


def read_encoder(path: str | os.PathLike, detail: int = 1) -> tuple[PhotoEncoder, dict, dict]:
    """(encoder, params, state) of a packed network, as PhotoEncoder takes them; parameters become float32.

    detail: of the embedded model that `encoder.decoder(params)` decodes to, whichever the network was trained with; the
    camera is turned into that level's. The basis is the model's own components, lifted onto the sphere; its residual
    is zero.

    Raises:
      ValueError: no such file, another format, a damaged file, or another detail than 0 and 1.
    """
    arrays = _read(path)
    config, log_radius = ConfigDict(json.loads(str(arrays["config"]))), arrays["log_radius"]
    model = load_default(detail)
    # The learned radius is all that the people of the training would be needed for.
    start = dataclasses.replace(start_basis(config, model, None), radius=float(np.exp(log_radius)))
    network, statistics = (unpacked_tree(arrays, tree) for tree in TREES)
    params = {"network": network, "residual": jnp.zeros(start.basis.shape), "log_radius": jnp.asarray(log_radius)}
    return ReframedEncoder(config, model, start, arrays["crop_frame"]), params, {"batch_stats": statistics}


class ReframedEncoder(PhotoEncoder):
    """A PhotoEncoder whose network was trained with another level of its model, the landmarks of which, and so the
    crop around them, are not quite the same."""

    def __init__(
        self, config: ConfigDict, model: MorphableModel, start: StartBasis, trained_frame: Float[np.ndarray, "4"]
    ):
        """trained_frame: middle and side in mm of the training's `face.crop_frame`."""
        super().__init__(config, model, start)
        self.trained_frame = trained_frame

    def predict(
        self, params: dict, state: dict, images: Float[AnyArray, "B S S 3"], train: bool = False
    ) -> tuple[Prediction, dict]:
        """As PhotoEncoder's; the camera sees the model's vertices where the training's saw them."""
        prediction, statistics = super().predict(params, state, images, train)
        return prediction._replace(codes=reframed(prediction.codes, self.trained_frame, self.model)), statistics


def reframed(
    codes: FaceCodes, frame: Float[np.ndarray, "4"] | tuple[Number, ...], model: MorphableModel
) -> FaceCodes:
    """Batched codes whose camera is relative to a crop frame (middle, side in mm) -> relative to the model's."""
    *pivot, side = frame
    own_pivot, own_side = crop_frame(model)
    moved = einsum("...ij,j->...i", codes.rotation[..., :2, :], own_pivot - np.asarray(pivot))
    shift = jnp.exp(codes.log_scale)[..., None] / side * moved * jnp.array([1.0, -1.0])  # image points have y down
    return codes._replace(log_scale=codes.log_scale + np.log(own_side / side), shift=codes.shift + shift)


def packed_facts(path: str | os.PathLike = ASSET) -> dict:
    """What a packed network says of itself: its licence, and the numbers of its training's report by name.

    Raises:
      ValueError: see `read_encoder`.
    """
    arrays = _read(path)
    return {"licence": str(arrays["licence"]), "report": json.loads(str(arrays["report"]))}


def _read(path):
    return read_packed(path, FORMAT, (*_TEXTS, *_NUMBERS, *TREES))
