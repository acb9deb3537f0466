"""Rendering the skin of decoded faces over photos, in batches."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from sfm_jax.array_types import AnyArray
from sfm_jax.geometry.adjacency import neighbour_table
from sfm_jax.geometry.camera import Orthographic
from sfm_jax.geometry.rotation import rotation_from_euler
from sfm_jax.inference.face import Face, FaceCodes, FaceDecoder
from sfm_jax.morphable.model import MorphableModel
from sfm_jax.render import Caps, Rendering, Surface, render, suggest_caps, surface
from sfm_jax.render.visibility import fastest_backend

REGIONS = ("face", "nose", "lips", "eyelids", "eyes", "mouth")
EDGE_WIDTH = 1.0
_SMOOTHINGS = 4
_YAWS = np.linspace(-90, 90, 7)


class FaceRenderer:
    """The face of a model in images of `size` pixels, over photos; all of a mesh without regions.

    Scalp, ears and neck hide what is behind them, but are not shown: the photo stays where they are.
    """

    def __init__(self, model: MorphableModel, size: int, regions: tuple[str, ...] = REGIONS):
        self.size = size
        self._shown = shown_weights(model, regions)
        self._surface = surface(model.topology.triangles)
        self._caps = capacities(model, model.mean, self._surface, size, EDGE_WIDTH)

    def __call__(self, face: Face, background: Float[AnyArray, "B R R 3"]) -> Rendering:
        """Batched faces, decoded for any crop size, over linear RGB images; a batched Rendering."""
        return jax.vmap(self._render)(face.vertices, face.camera, face.albedo, face.light, background)

    def _render(self, vertices, camera, albedo, light, background):
        layers = jnp.concatenate([albedo, jnp.asarray(self._shown)[:, None]], 1)
        seen = render(vertices, self._surface, camera, (self.size, self.size), albedo=layers, light=light,
                      edge_width=EDGE_WIDTH, caps=self._caps, cull=True)
        head, shown = seen.colour[..., :3], seen.colour[..., 3:]
        share = shown / jnp.maximum(seen.alpha[..., None], 1e-6)
        return seen._replace(colour=share * head + (1 - shown) * background, alpha=shown[..., 0])

    def scaled(self, face: Face, size: int) -> Face:
        """The face, decoded for crops of `size` pixels, as this renderer's images show it."""
        camera = face.camera.crop(jnp.zeros(2), self.size / size)
        return face._replace(camera=camera, landmarks=face.landmarks * (self.size / size))


def capacities(
    model: MorphableModel, mean: Float[AnyArray, "V 3"], mesh: Surface, size: int, edge_width: float = 0.0
) -> Caps:
    """The renderer's capacities for faces of a model in images of `size` pixels: for the mean face in any yaw, a third
    larger than its crop; expressions and people fit in the margin. mean: its vertices on the mesh that is
    rendered, the model's own or a finer one."""
    def cameras(yaws) -> Orthographic:
        count = len(yaws)
        angles = jnp.stack([yaws, jnp.zeros(count), jnp.zeros(count)], -1)
        codes = FaceCodes(jnp.zeros((count, 1)), jnp.zeros((count, 1)), jnp.zeros((count, 1)),
                          rotation_from_euler(angles), jnp.full(count, jnp.log(1.33)), jnp.zeros((count, 2)),
                          jnp.zeros((count, 9, 3)))
        return FaceDecoder(model, model.mean, model.identity_basis).camera(codes, size)

    return suggest_caps(mean, mesh, (size, size), edge_width, jax.jit(cameras)(jnp.asarray(_YAWS, jnp.float32)),
                        cull=True, margin=2.0, backend=fastest_backend())


def shown_weights(model: MorphableModel, regions: tuple[str, ...] = REGIONS) -> Float[np.ndarray, " V"]:
    """How much of each vertex is shown: the regions' weights, smoothed over neighbours, which evens their rim."""
    found = [model.topology.region(name) for name in regions if name in model.topology.region_names]
    if not found:
        return np.ones(len(model.mean), np.float32)
    shown = np.max(found, axis=0)
    neighbours = neighbour_table(model.topology.triangles, len(shown))
    for _ in range(_SMOOTHINGS):
        shown = (shown + shown[neighbours].mean(1)) / 2
    return np.clip(1.5 * shown - 0.25, 0, 1)
