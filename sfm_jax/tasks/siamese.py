"""The Siamese network: two photos at once, of one person or of two, whose shapes are to say which.

After Luo, Tu and Xie, "Learning Robust 3D Face Reconstruction and Discriminative Identity Representation" (2019, arXiv
1905.06505). A photo model (tasks/photo_model.py) whose batch holds pairs, with three terms more: a contrastive loss on
the whitened shape code, a distance of the trunk's features of one person, and 3DDFA's weighted parameter distance.
Ours are the memory of recent codes, in which the hardest negatives are found, and every weight.
"""

import jax
import jax.numpy as jnp
import numpy as np

from sfm_jax.geometry.products import einsum, matmul
from sfm_jax.geometry.rotation import rotation_to_axis_angle
from sfm_jax.inference.face import crop_frame
from sfm_jax.inference.photo_encoder import Prediction
from sfm_jax.losses import contrastive, parameters
from sfm_jax.losses.masks import masked_mean
from sfm_jax.losses.perceptual import cosine_distance
from sfm_jax.tasks.photo_model import PhotoModel
from sfm_jax.training.parallel import AXIS

POINTS = 400  # vertices by which the effect of a parameter is measured


class Siamese(PhotoModel):
    """The task (see training/task.py), a value made from the config of configs/siamese.py."""

    def __init__(self, config):
        if not config.data.pairs:
            raise ValueError("data.pairs: found nothing, expected photos of which pairs can be made")
        if config.memory < 0:
            raise ValueError(f"memory: found {config.memory}, expected 0 or more")
        super().__init__(config)
        # A basis of its own, from stage 1, has codes of its own: the labels say nothing of them.
        slack = config.sphere != "gaussian"
        self.labelled = 0 if config.basis else len(self.start.basis) - slack
        face = np.flatnonzero(self.weights > 0)
        self.points = face[np.linspace(0, len(face) - 1, min(POINTS, len(face))).astype(int)]
        self.pivot, self.side = crop_frame(self.model)

    @property
    def title(self) -> str:
        """Of the report."""
        return "Siamese network: learning from pairs of photos"

    def init(self, rng: jax.Array, batch: dict):
        """As the photo model, and nobody remembered."""
        params, state = super().init(rng, batch)
        return params, state | {"memory": contrastive.first_memory(self.config.memory, len(self.start.basis))}

    def measure(self, params: dict, state: dict, prediction: Prediction, record: dict) -> tuple[dict, dict, dict]:
        """The photo model's terms, and those of pairs and parameters."""
        values, new, extra = super().measure(params, state, prediction, record)
        terms = {
            "contrastive": lambda: self._contrastive(prediction, record, state["memory"]),
            "same_features": lambda: self._same_features(prediction, record),
            "parameters": lambda: self._parameters(prediction, record),
        }
        values |= {name: term() for name, term in terms.items() if self.config.loss[name] > 0}
        seen = jax.lax.all_gather((prediction.codes.identity, record["person"]), AXIS, tiled=True)
        return values, new | {"memory": contrastive.remember(state["memory"], *seen)}, extra | self._pairs(
            prediction, record)

    # ------------------------------------------------------------------------------------------ one by one

    def _contrastive(self, prediction, record, memory):
        """On the pairs, and on the nearest of another person that is remembered, as far as one is."""
        codes, margin = prediction.codes.identity, self.config.contrastive_margin
        (first, second), same, known = in_pairs(codes), *same_person(record["person"])
        pairs = masked_mean(contrastive.contrastive(contrastive.distance(first, second), same, margin), known)
        other = contrastive.hardest_other(codes, record["person"], memory["codes"], memory["person"])
        apart = contrastive.distance(codes, other)
        negatives = contrastive.contrastive(apart, jnp.zeros_like(apart), margin)
        return pairs + self.config.hard_negatives * masked_mean(negatives, (apart > 0).astype(jnp.float32))

    def _same_features(self, prediction, record):
        (first, second), same, known = in_pairs(prediction.features), *same_person(record["person"])
        # Over all pairs: how many are of one person differs between devices.
        return masked_mean(same * cosine_distance(first, second), known)

    def _parameters(self, prediction, record):
        """Weighted by what each does to the projected vertices, in shares of the crop."""
        codes = prediction.codes
        identity = np.asarray(self.model.identity_basis)[:, self.points]
        expression = np.asarray(self.model.expression_basis)[:, self.points]
        rotation = record["rotation"]
        face = (self.model.mean[self.points] + einsum("bk,knx->bnx", record["identity"], identity)
                + einsum("be,enx->bnx", record["expression"], expression))
        posed = einsum("brk,bnk->bnr", rotation, face - self.pivot)
        log_scale, shift = self._true_camera(record)
        scale = jnp.exp(log_scale) / self.side
        eye = jnp.broadcast_to(jnp.eye(3), rotation.shape)
        turn = rotation_to_axis_angle(matmul(codes.rotation, jnp.swapaxes(rotation, -1, -2)))
        differences = [codes.identity[:, :self.labelled] - record["identity"][:, :self.labelled],
                       codes.expression - record["expression"], turn, (codes.log_scale - log_scale)[:, None],
                       codes.shift - shift]
        effects = [parameters.projection_effects(jnp.asarray(identity[:self.labelled]), rotation, scale),
                   parameters.projection_effects(jnp.asarray(expression), rotation, scale),
                   parameters.projection_effects(parameters.rotation_columns(posed), eye, scale),
                   parameters.projection_effects(posed[:, None], eye, scale), jnp.ones_like(shift)]
        distance = parameters.weighted_parameter_distance(*(jnp.concatenate(part, -1)
                                                            for part in (differences, effects)))
        return masked_mean(distance, record["codes_mask"] * record["rotation_mask"])

    def _true_camera(self, record):
        """The log scale [B] and shift [B, 2] with which the true landmarks in space best meet those in the photo."""
        vertices = jax.vmap(self.model.decode)(record["identity"], record["expression"])
        points = self.model.landmarks(vertices) - self.pivot
        posed = einsum("brk,bnk->bnr", record["rotation"][:, :2], points)
        scale, shift = parameters.fit_scale_and_shift(posed * jnp.array([1.0, -1.0]),
                                                      record["landmarks"] / self.config.image_size)
        return jnp.log(jnp.maximum(scale * self.side, 1e-3)), shift - 0.5

    def _pairs(self, prediction, record):
        """Mean code distances of the whole batch's pairs, to be logged."""
        (first, second), same, known = in_pairs(prediction.codes.identity), *same_person(record["person"])
        distance = contrastive.distance(first, second)

        def mean(mask):
            total, count = jax.lax.psum((jnp.sum(distance * mask), jnp.sum(mask)), AXIS)
            return total / jnp.maximum(count, 1.0)

        return {"distance_same": mean(same * known), "distance_other": mean((1 - same) * known)}


def in_pairs(rows: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Rows [B, ...] -> the first and the second of each two, [B // 2, ...]; an odd last row is nobody's."""
    even = len(rows) // 2 * 2
    return rows[0:even:2], rows[1:even:2]


def same_person(person: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Persons [B] -> of each two: is it one person, and are both known, [B // 2] float32 0 or 1."""
    first, second = in_pairs(person)
    return (first == second).astype(jnp.float32), ((first >= 0) & (second >= 0)).astype(jnp.float32)
