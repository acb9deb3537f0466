"""From photos to codes: a network and what its numbers mean, as training shapes them and everything later uses them."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray
from ml_collections import ConfigDict

from sfm_jax.array_types import AnyArray
from sfm_jax.geometry.rotation import rotation_from_6d
from sfm_jax.inference import identity_space
from sfm_jax.inference.face import FaceCodes, FaceDecoder
from sfm_jax.inference.identity_space import StartBasis
from sfm_jax.morphable.model import MorphableModel
from sfm_jax.networks.confidence import Confidence
from sfm_jax.networks.face_network import FaceNetwork
from sfm_jax.networks.features import check_precision
from sfm_jax.networks.initial import first_variables
from sfm_jax.render import ambient


class Prediction(NamedTuple):
    """code as the network says it; z its direction; codes as the decoder takes them (code times radius); features of
    who it is; confidence maps in (0, 1)."""

    code: Float[Array, "B d"]
    z: Float[Array, "B d"]
    codes: FaceCodes
    features: Float[Array, "B F"]
    confidence: Confidence


class PhotoEncoder:
    """A value made from a photo config (configs/stage2.py), a model and where its basis starts.

    params: {"network", "residual" [d, V, 3] mm on the start basis, "log_radius" [], ...}; state: {"batch_stats", ...}.
    """

    def __init__(self, config: ConfigDict, model: MorphableModel, start: StartBasis, axis_name: str | None = None):
        """axis_name: the mapped axis over which a training shares batch statistics."""
        self.model, self.start, self.sphere, self.image_size = model, start, config.sphere, config.image_size
        self.network = FaceNetwork(
            trunk=config.trunk, identity=len(start.basis), expression=len(model.expression_basis),
            albedo=min(config.albedo_components, len(model.albedo_basis)), axis_name=axis_name,
            separate_heads=config.separate_heads, dtype=check_precision(config.precision))

    def init(self, rng: PRNGKeyArray) -> dict:
        """The network's first variables: at the mean face."""
        images = jnp.zeros((2, self.image_size, self.image_size, 3))
        return first_variables(self.network, rng, images, train=False)

    @jax.named_scope("network")
    def predict(
        self, params: dict, state: dict, images: Float[AnyArray, "B S S 3"], train: bool = False
    ) -> tuple[Prediction, dict]:
        """sRGB crops in [0, 1] -> (Prediction, new batch statistics)."""
        variables = {"params": params["network"], "batch_stats": state["batch_stats"]}
        output, changed = self.network.apply(variables, images, train=train, mutable=["batch_stats"])
        raw = self.start.code + output.codes.identity
        code, z = identity_space.code_and_direction(raw, self.sphere)
        codes = FaceCodes(
            identity=jnp.exp(params["log_radius"]) * code, expression=output.codes.expression,
            albedo=output.codes.albedo, rotation=rotation_from_6d(output.codes.rotation),
            log_scale=output.codes.log_scale, shift=output.codes.shift,
            light=ambient().coefficients + output.codes.light)
        prediction = Prediction(code, z, codes, output.identity_features, output.confidence)
        return prediction, changed.get("batch_stats", state["batch_stats"])

    @jax.named_scope("network")
    def features(self, params: dict, state: dict, images: Float[AnyArray, "B S S 3"]) -> Float[Array, "B F"]:
        """The trunk's features of crops; what makes them does not learn from it."""
        frozen = jax.lax.stop_gradient({"params": params["network"], "batch_stats": state["batch_stats"]})
        return self.network.apply(frozen, images, train=False).features

    def decoder(self, params: dict) -> FaceDecoder:
        """Codes -> faces with the basis as learned so far."""
        return FaceDecoder(self.model, jnp.asarray(self.start.mean), self.start.basis + params["residual"])
