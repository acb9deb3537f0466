"""Rendering the skin of decoded faces over photos, in batches."""

import jax
import jax.numpy as jnp
import numpy as np

from sfm_jax.geometry.camera import Orthographic
from sfm_jax.geometry.rotation import rotation_from_euler
from sfm_jax.inference.face import Face, FaceCodes, FaceDecoder
from sfm_jax.morphable.model import MorphableModel
from sfm_jax.render import Rendering, render, suggest_caps, surface

EDGE_WIDTH = 1.0
_YAWS = np.linspace(-90, 90, 7)


class FaceRenderer:
    """The face of a model, without scalp, ears and neck, in images of `size` pixels; all of a mesh without regions."""

    def __init__(self, model: MorphableModel, size: int, regions: tuple[str, ...] = ("face", "eyes")):
        triangles = model.topology.triangles
        weights = [model.topology.region(name) for name in regions if name in model.topology.region_names]
        if weights:
            triangles = triangles[(np.max(weights, axis=0) > 0.5)[triangles].all(1)]
        self.size = size
        self._surface = surface(triangles)
        self._caps = self._capacities(model)

    def __call__(self, face: Face, background: jax.Array) -> Rendering:
        """Batched faces, decoded for any crop size, over linear RGB images [B, R, R, 3]; a batched Rendering."""
        return jax.vmap(self._render)(face.vertices, face.camera, face.albedo, face.light, background)

    def _render(self, vertices, camera, albedo, light, background):
        return render(vertices, self._surface, camera, (self.size, self.size), albedo=albedo, light=light,
                      background=background, edge_width=EDGE_WIDTH, caps=self._caps, cull=True)

    def scaled(self, face: Face, size: int) -> Face:
        """The face, decoded for crops of `size` pixels, as this renderer's images show it."""
        camera = face.camera.crop(jnp.zeros(2), self.size / size)
        return face._replace(camera=camera, landmarks=face.landmarks * (self.size / size))

    def _capacities(self, model):
        """For the mean face in any yaw, a third larger than its crop; expressions and people fit in the margin."""
        count = len(_YAWS)
        angles = jnp.stack([jnp.asarray(_YAWS, jnp.float32), jnp.zeros(count), jnp.zeros(count)], -1)
        codes = FaceCodes(jnp.zeros((count, 1)), jnp.zeros((count, 1)), jnp.zeros((count, 1)),
                          rotation_from_euler(angles), jnp.full(count, jnp.log(1.33)), jnp.zeros((count, 2)),
                          jnp.zeros((count, 9, 3)))
        cameras: Orthographic = FaceDecoder(model, model.mean, model.identity_basis).camera(codes, self.size)
        return suggest_caps(model.mean, self._surface, (self.size, self.size), EDGE_WIDTH, cameras, cull=True,
                            margin=1.5)
