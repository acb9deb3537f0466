"""A face in a photo: what its codes mean, in one place for networks, fits and reports.

The camera is orthographic (a weak perspective): the rotation turns the head about the middle of its landmarks, a scale
of 0 makes the model's mean face fill the crop as `data.crop.landmark_box` would, a shift of 0 centres it.
"""

from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sfm_jax.array_types import AnyArray, Numbers, Rotation
from sfm_jax.data.crop import landmark_box
from sfm_jax.geometry.camera import Orthographic
from sfm_jax.geometry.products import einsum
from sfm_jax.morphable.model import MorphableModel, linear_shape
from sfm_jax.render import SphericalHarmonics


class FaceCodes(NamedTuple):
    """Everything a photo of a face is made of, in arrays of any leading shape.

    identity [d] of the basis in use (multiplied by the radius of a sphere); expression [E]; albedo [A];
    rotation [3, 3]; log_scale []; shift [2], shares of the crop's side; light [9, 3], spherical harmonics.
    """

    identity: Float[AnyArray, "*batch d"]
    expression: Float[AnyArray, "*batch E"]
    albedo: Float[AnyArray, "*batch A"]
    rotation: Rotation
    log_scale: Float[AnyArray, "*batch"]
    shift: Float[AnyArray, "*batch 2"]
    light: Float[AnyArray, "*batch 9 3"]


class Face(NamedTuple):
    """neutral, vertices [B, V, 3] mm; landmarks [B, 68, 2] pixels; camera (batched); albedo [B, V, 3] linear RGB."""

    neutral: Float[Array, "B V 3"]
    vertices: Float[Array, "B V 3"]
    landmarks: Float[Array, "B 68 2"]
    camera: Orthographic
    albedo: Float[Array, "B V 3"]
    light: SphericalHarmonics


@flax.struct.dataclass
class FaceDecoder:
    """Codes -> faces, with an identity basis that may be learned: mean [V, 3] and basis [d, V, 3] mm."""

    model: MorphableModel
    mean: Float[AnyArray, "V 3"]
    basis: Float[AnyArray, "d V 3"]

    @jax.named_scope("decode")
    def __call__(self, codes: FaceCodes, size: int) -> Face:
        """Batched codes -> the faces they make in crops of `size` pixels."""
        neutral = linear_shape(self.mean, self.basis, codes.identity)
        vertices = linear_shape(neutral, self.model.expression_basis, codes.expression)
        camera = self.camera(codes, size)
        project = jax.vmap(lambda camera, points: camera.project(points)[:, :2])
        return Face(neutral, vertices, project(camera, self.model.landmarks(vertices)), camera,
                    self.model.albedo(codes.albedo), SphericalHarmonics(codes.light))

    def camera(self, codes: FaceCodes, size: int) -> Orthographic:
        """The batched camera of the codes in crops of `size` pixels."""
        return view(self.model, size, codes.rotation, codes.log_scale, codes.shift)


def view(
    model: MorphableModel, size: int, rotation: Rotation, log_scale: Numbers = 0.0, shift: Numbers = 0.0
) -> Orthographic:
    """The camera of crops of `size` pixels that see a face turned by rotation [..., 3, 3], of the crop's size times
    exp(log_scale [...]), shift [..., 2] shares of the crop's side off its middle."""
    pivot, side = crop_frame(model)
    translation = -einsum("...ij,j->...i", rotation, pivot)
    return Orthographic(rotation, translation, size / side * jnp.exp(log_scale),
                        size * (0.5 + shift) * jnp.ones(2))


def check_landmarks(model: MorphableModel, name: str) -> None:
    """ValueError, about the model `name`, unless it has the 68 landmarks by which faces are cropped and found."""
    count = len(model.topology.landmarks)
    if count != 68:
        raise ValueError(f"{name}: key 'landmarks': found {count}, expected 68 vertices in iBUG's order, around which "
                         "photos are cropped: convert the model again with --landmarks=FILE (python -m "
                         "sfm_jax.convert -h)")


def crop_frame(model: MorphableModel) -> tuple[Float[np.ndarray, "3"], float]:
    """The middle of the mean face's landmarks [3] in mm, and the side in mm of the crop around them. ValueError for a
    model without landmarks."""
    check_landmarks(model, f"model {model.name!r}")
    points = np.asarray(model.mean)[model.topology.landmarks]
    centre, side = landmark_box(points[:, :2])
    return np.array([*centre, points[:, 2].mean()], np.float32), float(side)
