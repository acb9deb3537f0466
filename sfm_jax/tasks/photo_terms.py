"""The terms of learning from photos, each by itself; a term weighed 0 is not computed."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sfm_jax.data.crop import within_edges
from sfm_jax.data.damage import to_linear, to_srgb
from sfm_jax.geometry.adjacency import neighbour_table
from sfm_jax.geometry.mesh import vertex_normals
from sfm_jax.geometry.products import einsum
from sfm_jax.inference.face import Face, FaceDecoder
from sfm_jax.inference.face_renderer import FaceRenderer
from sfm_jax.inference.identity_space import StartBasis
from sfm_jax.inference.photo_encoder import Prediction
from sfm_jax.losses import basis as basis_losses
from sfm_jax.losses import distribution, identity, image, landmark, perceptual, pose, surface
from sfm_jax.losses.confidence import aleatoric
from sfm_jax.losses.masks import masked_mean
from sfm_jax.morphable.model import MorphableModel, linear_shape
from sfm_jax.networks.confidence import Confidence
from sfm_jax.training.parallel import AXIS

PERCEPTUAL_DISTANCES = {"cosine": perceptual.cosine_distance, "squared": perceptual.mean_squared}


class Beside(NamedTuple):
    """sRGB photos and faces over them, images [B, R, R, 3], the skin that both show, [B, R, R], and the renderer's
    overflow [B]."""

    photo: jax.Array
    render: jax.Array
    skin: jax.Array
    overflow: jax.Array


class Terms:
    """Calls return ({name: value} of the terms weighed above 0, new running moments, {name: value} to be logged)."""

    def __init__(self, config, model: MorphableModel, start: StartBasis, weights: np.ndarray, persons: int):
        if config.rendered_photos < 0:
            raise ValueError(f"rendered_photos: found {config.rendered_photos}, expected 0 or more")
        if not 0 <= config.moments_decay < 1:
            raise ValueError(f"moments_decay: found {config.moments_decay}, expected 0 or more and less than 1")
        self.config, self.model, self.start, self.weights, self.persons = config, model, start, weights, persons
        self.neighbours = neighbour_table(model.topology.triangles, len(weights))
        self.renderer = FaceRenderer(model, config.render_size)

    def first_moments(self):
        """The running moments of codes before the first batch."""
        return distribution.first_moments(len(self.start.basis))

    def __call__(self, params, moments, decoder: FaceDecoder, prediction: Prediction, record: dict,
                 features: Callable[[jax.Array, jax.Array], jax.Array]):
        """features: of images [B, S, S, 3] with landmarks [B, 68, 2], for the perceptual term."""
        face = decoder(prediction.codes, self.config.image_size)
        values, extra = {}, {"radius": jnp.exp(params["log_radius"])}
        for group in (self._landmarks(face, prediction, record), self._labels(face, prediction, record),
                      self._identity(params, prediction, record), self._codes(prediction),
                      self._basis(params["residual"], decoder.basis)):
            values |= {name: term() for name, term in group.items() if self._used(name)}
        if self._used("kl"):
            values["kl"], moments = self._kl(prediction, moments)
        if self._used("pixel") or self._used("perceptual"):
            group, extra["overflow"] = self._images(face, prediction, record, features)
            values |= {name: term() for name, term in group.items() if self._used(name)}
        return values, moments, extra

    def _used(self, name):
        """Is the term weighed, and is it for the codes of this run? (`sphere` is for soft ones, `kl` and `prior` for
        Gaussian ones.)"""
        kind = {"sphere": "soft", "kl": "gaussian", "prior": "gaussian"}.get(name, self.config.sphere)
        return self.config.loss[name] > 0 and kind == self.config.sphere

    # ------------------------------------------------------------------------------------------ one by one

    def _landmarks(self, face: Face, prediction: Prediction, record: dict):
        size = self.config.image_size

        def landmarks():
            confidence = landmark.sample(prediction.confidence.landmark, record["landmarks"] / size)
            error = self._weighed(landmark.distance(face.landmarks, record["landmarks"]) / size, confidence, "landmark")
            return masked_mean(error, record["landmark_mask"], landmark.WEIGHTS)

        def contour():
            """Of the 17 points of the jaw; hidden is what faces away."""
            lines = self.model.topology.contour_lines
            normals = vertex_normals(face.vertices, self.model.topology.triangles)
            facing = einsum("bvk,bk->bv", normals[:, self.model.topology.landmarks[:17]],
                            prediction.codes.rotation[:, 2])
            project = jax.vmap(lambda camera, points: camera.project(points)[..., :2])
            places = project(face.camera, face.vertices[:, lines.reshape(-1)]).reshape(len(facing), *lines.shape, 2)
            error = landmark.contour_distance(face.landmarks[:, :17] / size, places / size,
                                              record["landmarks"][:, :17] / size, facing > 0, self.config.contour_cap)
            return masked_mean(error / self.config.tolerance.landmark, record["landmark_mask"][:, :17])

        return {"landmark": landmarks, "contour": contour}

    def _labels(self, face: Face, prediction: Prediction, record: dict):
        """What 3D labels say, where a photo has them."""
        known, codes = record["codes_mask"], prediction.codes

        def shape():
            truth = linear_shape(self.model.mean, self.model.identity_basis, record["identity"])
            return masked_mean(surface.vertex_distance(face.neutral, truth, self.weights), known)

        def expression_error():
            return masked_mean(jnp.sum(((codes.expression - record["expression"]) / self.model.expression_unit) ** 2,
                                       -1), known)

        def rotation():
            return masked_mean(pose.chordal_squared(codes.rotation, record["rotation"]), record["rotation_mask"])

        return {"shape": shape, "expression_error": expression_error, "rotation": rotation}

    def _identity(self, params, prediction: Prediction, record: dict):
        person = record["person"]
        known = (person >= 0).astype(jnp.float32)

        def margin():
            loss, _ = identity.split_margin_cross_entropy(
                prediction.z, params["classes"], person, self.persons, AXIS, **self.config.margin)
            return masked_mean(loss, known)

        def centre():
            # How sure the network is of the photo: the mean of its landmark map.
            sure = jax.lax.stop_gradient(jnp.mean(prediction.confidence.landmark, (1, 2)))
            weight = sure if self.config.confidence and self.config.weighted_centre else jnp.ones_like(sure)
            loss = identity.split_centre_loss(prediction.code, params["centres"], person, weight, AXIS)
            return masked_mean(loss, known)

        return {"identity": margin, "centre": centre}

    def _images(self, face: Face, prediction: Prediction, record: dict, features: Callable):
        """Photo against render, on the skin that is seen, and the renderer's overflow; of so many photos."""
        share = share_of_device(self.config.rendered_photos) or len(record["image"])
        face, record, prediction = spread_rows((face, record, prediction), share)
        seen = self.beside(face, record)

        def pixel():
            return jnp.mean(self.difference(seen, prediction.confidence))

        def similar():
            """Features of the render over the photo, and of the photo at the same resolution."""
            whole = (resize(picture, self.config.image_size) for picture in (seen.render, seen.photo))
            distance = PERCEPTUAL_DISTANCES[self.config.perceptual_distance]
            return jnp.mean(distance(*(features(one, face.landmarks) for one in whole)))

        return {"pixel": pixel, "perceptual": similar}, total_overflow(seen.overflow)

    def beside(self, face: Face, record: dict) -> Beside:
        """Photos of a record (image, edges), and faces over them, at the renderer's size."""
        photo = resize(record["image"], self.renderer.size)
        known = within_edges(record["edges"], self.config.image_size)[..., None]
        known = resize(known, self.renderer.size) > 0.999
        seen = self.renderer(self.renderer.scaled(face, self.config.image_size), to_linear(photo))
        # Beyond a photo's edges nobody knows what the face looks like: both pictures are black there.
        return Beside(photo, jnp.where(known, to_srgb(seen.colour), photo), known[..., 0] * seen.alpha, seen.overflow)

    def difference(self, seen: Beside, confidence: Confidence) -> jax.Array:
        """Of both pictures on the skin, [B]; how far off, and where, the confidence says."""
        error = self._weighed(image.colour_distance(seen.render, seen.photo),
                              resize(confidence.pixel[..., None], seen.photo.shape[1])[..., 0], "pixel")
        # The mask is no variable: or the face would shrink to be wrong in fewer places.
        return image.masked_image_mean(error, jax.lax.stop_gradient(seen.skin))

    def _weighed(self, error: jax.Array, confidence: jax.Array, kind: str) -> jax.Array:
        """Errors over their tolerance, with confidences or without: a weight means the same in both."""
        tolerance = self.config.tolerance[kind]
        return aleatoric(error, confidence, tolerance) if self.config.confidence else error / tolerance

    def _codes(self, prediction: Prediction):
        codes = prediction.codes
        grey = jnp.mean(codes.light, -1, keepdims=True)
        return {
            "sphere": lambda: jnp.mean(distribution.sphere_penalty(prediction.code, 1.0)),
            "prior": lambda: jnp.mean(jnp.sum(codes.identity**2, -1)),
            "expression": lambda: jnp.mean(jnp.sum((codes.expression / self.model.expression_unit) ** 2, -1)),
            "albedo": lambda: jnp.mean(jnp.sum(codes.albedo**2, -1)),
            "light": lambda: jnp.mean(jnp.sum((codes.light - grey) ** 2, (-1, -2))),
        }

    def _kl(self, prediction: Prediction, moments):
        """Of running moments over all devices: those of one small batch say little."""
        batch = distribution.batch_moments(prediction.codes.identity, AXIS)
        (mean, variance), moments = distribution.running_moments(*batch, moments, self.config.moments_decay)
        return distribution.moments_kl(mean, variance), moments

    def _basis(self, residual, basis):
        return {
            "smoothness": lambda: basis_losses.smoothness(basis, self.neighbours),
            "asymmetry": lambda: basis_losses.asymmetry(basis, self.model.topology.symmetry),
            "residual": lambda: basis_losses.distance_to_start(residual, jnp.zeros_like(residual)),
            "norm": lambda: basis_losses.excess_norm(basis, self.config.norm_bound),
        }


def share_of_device(count: int) -> int:
    """Of `count` photos of a batch those that each device takes, rounded up."""
    return -(-count // jax.lax.axis_size(AXIS))


def spread_rows(tree, count: int):
    """`count` rows, evenly, of the arrays [B, ...] of a tree. The parts of a batch stand one after the other on each
    device: of several devices each begins farther on, or few rows would all be of the first part."""
    devices = jax.lax.axis_size(AXIS)

    def one(leaf):
        stride = max(len(leaf) // count, 1)
        length = (min(count, len(leaf)) - 1) * stride + 1
        if devices > 1:
            leaf = jax.lax.dynamic_slice_in_dim(leaf, jax.lax.axis_index(AXIS) * stride // devices, length)
        return leaf[:length:stride]

    return jax.tree.map(one, tree)


def total_overflow(overflow: jax.Array) -> jax.Array:
    """Of all photos of all devices, of which metrics are otherwise the mean."""
    return jax.lax.psum(jnp.sum(overflow), AXIS)


def resize(images: jax.Array, size: int) -> jax.Array:
    """Images [B, S, S, C] at `size` pixels, antialiased."""
    count, _, _, channels = images.shape
    return jax.image.resize(images, (count, size, size, channels), "linear")
