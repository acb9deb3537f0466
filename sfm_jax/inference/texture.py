"""The colours of a photo on the face that was found in it, as a texture."""

import jax
import jax.numpy as jnp
import numpy as np
import scipy.ndimage
from jaxtyping import Float, UInt8

from sfm_jax.data.crop import crop_image, shown_part
from sfm_jax.data.damage import to_linear, to_srgb
from sfm_jax.geometry.camera import Orthographic
from sfm_jax.geometry.mesh import vertex_normals
from sfm_jax.geometry.products import matmul
from sfm_jax.inference.face_renderer import shown_weights
from sfm_jax.inference.reconstruction import Reconstruction
from sfm_jax.morphable.model import MorphableModel
from sfm_jax.render import SphericalHarmonics
from sfm_jax.render.shading import harmonics
from sfm_jax.render.uv import unwrap, uv_layout, vertices_to_map
from sfm_jax.render.visibility import visibility

FEATHER = 0.01  # of the texture's side: over which the photo fades into what it does not show
MARGIN = 1.15  # of the crop around the face
LEAST_COSINE = 0.3  # of what the photo shows too slantingly


class Texturer:
    """Makes textures of size x size texels for faces of a model; photos are read at `resolution` pixels."""

    def __init__(self, model: MorphableModel, size: int = 512, resolution: int = 512):
        self.model, self.size, self.resolution = model, size, resolution
        self._layout = uv_layout(model.topology, size)
        self._unwrap = jax.jit(self._unwrapped)

    def __call__(self, image: UInt8[np.ndarray, "H W 3"], found: Reconstruction) -> Float[np.ndarray, "T T 3"]:
        """sRGB [T, T, 3] in [0, 1], first row at v = 1: the photo's colours where it shows the face, and elsewhere what
        the model's say of it, in the photo's light and as bright."""
        box = np.array([*found.face_box]).reshape(2, 2)
        square = box.mean(0), MARGIN * 2.0**0.5 * (box[1] - box[0]).max()
        crop, affine = crop_image(image, square, self.resolution)
        vertices = found.vertices()
        scale = np.linalg.norm(found.camera[0, :3]) * np.sqrt(abs(np.linalg.det(affine[:, :2])))
        camera = Orthographic(*map(jnp.asarray, (found.rotation, np.zeros(3, np.float32), np.float32(scale), np.asarray(
            affine[:, :2] @ found.camera[:, 3] + affine[:, 2], np.float32))))
        photo, seen, model = map(np.asarray, self._unwrap(
            crop.astype(np.float32) / 255, shown_part(image, affine, self.resolution), vertices, camera,
            jnp.asarray(found.colours()), jnp.asarray(found.light)))
        share = self._share(seen)
        # One gain for each channel: exposure and white balance, which the light has not quite found.
        weight = share[..., None] * self._layout.mask[..., None]
        gain = (weight * photo).sum((0, 1)) / np.maximum((weight * model).sum((0, 1)), 1e-6)
        filled = np.clip(model * (gain if weight.sum() > 0 else 1.0), 0, 1)
        mixed = share[..., None] * photo + (1 - share[..., None]) * filled
        return np.asarray(to_srgb(jnp.asarray(mixed)))

    def _unwrapped(self, crop, inside, vertices, camera, albedo, light):
        """Linear RGB of the photo and of the model, lit, and what is seen, of every texel. inside: what of the crop is
        photo."""
        size = (self.resolution, self.resolution)
        ids = visibility(camera.project(vertices), self.model.topology.triangles, size, cull=True)
        known = jnp.concatenate([to_linear(crop), inside[..., None]], -1)
        seen = unwrap(known, vertices, camera, self._layout, ids.triangle, least_cosine=LEAST_COSINE)
        normals = matmul(vertex_normals(vertices, self.model.topology.triangles), camera.rotation.T)
        lit = albedo * jnp.maximum(matmul(harmonics(normals), SphericalHarmonics(light).coefficients), 0.05)
        skin = jnp.asarray(shown_weights(self.model))[:, None]
        maps = vertices_to_map(jnp.concatenate([lit, skin], 1), self._layout)
        visible = seen.visible & (seen.colour[..., 3] > 0.99) & (maps[..., 3] > 0.5)
        return seen.colour[..., :3], visible, maps[..., :3]

    def _share(self, seen):
        """How much of each texel is the photo's: 0 at the rim of what is seen, 1 well within."""
        closed = scipy.ndimage.binary_closing(seen, iterations=2) | seen
        away = scipy.ndimage.distance_transform_edt(np.pad(closed, 1))[1:-1, 1:-1]
        share = np.clip((away - 1) / (FEATHER * self.size), 0, 1)
        return np.where(seen, share * share * (3 - 2 * share), 0)
