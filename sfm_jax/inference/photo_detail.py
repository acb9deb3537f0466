"""Learned detail of faces that were reconstructed from photos, whichever way, as files and a picture."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from sfm_jax.data.crop import crop_affine, landmark_box, shown_part, transform_points, warp
from sfm_jax.geometry.camera import Orthographic
from sfm_jax.inference import detail_files, export
from sfm_jax.inference.detail_encoder import Detailed, DetailEncoder
from sfm_jax.inference.face import Face
from sfm_jax.inference.reconstruction import Reconstruction
from sfm_jax.morphable.model import MorphableModel
from sfm_jax.render import SphericalHarmonics

FOLDER, PICTURE = "detail", "detail.png"  # in the folder of a face
TILE, GAP = 512, 10  # pixels, of the picture


class PhotoDetailer:
    """Details the faces of photos. Only the first one is slow."""

    def __init__(self, encoder: DetailEncoder, params: dict):
        """encoder, params: as inference/default_detail.py loads them."""
        self.encoder, self._params = encoder, params
        self._large = encoder.space.at(TILE)
        self._detailed = jax.jit(encoder.detailed)

    def __call__(self, image: UInt8[np.ndarray, "H W 3"], found: Reconstruction) -> Detailed:
        """A face of a photo, of the encoder's model at either level, detailed in its own crop; leaves in NumPy, without
        the batch."""
        size = self.encoder.space.image_size
        face, affine = face_in_crop(found, self.encoder.model, size)
        photo = warp(image, affine, size).astype(np.float32) / 255
        inside = shown_part(image, affine, size)
        one = self._detailed(self._params, *jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], (face, photo, inside)))
        return jax.tree.map(lambda leaf: leaf[0], jax.device_get(one))

    def write(self, folder: Path, image: UInt8[np.ndarray, "H W 3"], found: Reconstruction) -> None:
        """Into the folder of a face: FOLDER with what detail_files.write_face makes of it, and then PICTURE."""
        detailed = self(image, found)
        detail_files.write_face(folder / FOLDER, self.encoder.space, detailed)
        export.write_image(folder / PICTURE, self.picture(image, found, detailed))

    def picture(
        self, image: UInt8[np.ndarray, "H W 3"], found: Reconstruction, detailed: Detailed
    ) -> UInt8[np.ndarray, "h w 3"]:
        """TILE pixels high: the photo around the face, the coarse face in clay, and the detailed one."""
        photo = warp(image, _affine(found, TILE), TILE)
        camera = detailed.base.camera.crop(np.zeros(2, np.float32), TILE / self.encoder.space.image_size)
        large = detailed._replace(base=detailed.base._replace(camera=camera))
        clay = detail_files.clay(self._large, jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], large))
        gap = np.full((TILE, GAP, 3), 255, np.uint8)
        coarse, fine = (np.round(255 * shown[0]).astype(np.uint8) for shown in clay)
        return np.concatenate([photo, gap, coarse, gap, fine], 1)


def face_in_crop(
    found: Reconstruction, model: MorphableModel, size: int
) -> tuple[Face, Float[np.ndarray, "2 3"]]:
    """(the face, without a batch, in a crop of `size` pixels around its landmarks, as photos are cropped in training;
    the map from the photo's pixels to the crop's).

    model: that of the codes, at the level that is wanted; the landmarks are those of the reconstruction.
    """
    affine = _affine(found, size)
    # Crop and photo have the same axes: what turns is the head alone.
    scale = np.linalg.norm(affine[0, :2]) * np.linalg.norm(found.camera[0, :3])
    camera = Orthographic(jnp.asarray(found.rotation, jnp.float32), jnp.zeros(3), jnp.asarray(scale, jnp.float32),
                          jnp.asarray(transform_points(found.camera[:, 3], affine), jnp.float32))
    identity, expression = jnp.asarray(found.identity), jnp.asarray(found.expression)
    neutral, vertices = (model.decode(identity, mimic) for mimic in (jnp.zeros_like(expression), expression))
    landmarks = jnp.asarray(transform_points(found.landmarks68_px, affine), jnp.float32)
    return Face(neutral, vertices, landmarks, camera, model.albedo(jnp.asarray(found.albedo)),
                SphericalHarmonics(jnp.asarray(found.light, jnp.float32))), affine


def _affine(found, size):
    return crop_affine(landmark_box(np.asarray(found.landmarks68_px, np.float64)), size)
