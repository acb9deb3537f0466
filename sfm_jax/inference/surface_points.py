"""Where the detector's 468 points lie on the embedded face model, for fits of the model to photos.

Found by experiments/photo_landmarks/embed.py on portraits of the embedded population, whose surface is known.
"""

import functools
from pathlib import Path

import flax.struct
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from sfm_jax.array_types import AnyArray
from sfm_jax.geometry.products import einsum
from sfm_jax.inference.face_points import POINTS

ASSET = Path(__file__).parent.parent / "assets" / "face_points.npz"


@flax.struct.dataclass
class SurfacePoints:
    """Points of a surface: corners [P, 3], the vertices of the triangle of each; barycentric [P, 3], their weights.

    weight [P] in [0, 1] is how much a point counts in a fit: the inverse of its variance, 1 up to 1.5 mm. 0: the
    detector's point does not stay at one place of the face, as most of the jaw's do.
    """

    corners: Int[AnyArray, "P 3"]
    barycentric: Float[AnyArray, "P 3"]
    weight: Float[AnyArray, " P"]

    def __call__(self, vertices: Float[AnyArray, "*batch V C"]) -> Float[Array, "*batch P C"]:
        """The points [..., P, 3] on a face of vertices [..., V, 3]; or [..., P, C] of any values at its vertices."""
        return einsum("pk,...pkc->...pc", self.barycentric, vertices[..., self.corners, :])


@functools.cache
def load_surface_points() -> SurfacePoints:
    """The detector's points on the default face, of either detail. ValueError where the file is damaged or foreign."""
    shapes = {"corners": (POINTS, 3), "barycentric": (POINTS, 3), "weight": (POINTS,)}
    with np.load(ASSET, allow_pickle=False) as file:
        for key, shape in shapes.items():
            found = file[key].shape if key in file else "nothing"
            if found != shape:
                raise ValueError(f"{ASSET}: key {key!r}: found {found}, expected {shape}")
        return SurfacePoints(**{key: jnp.asarray(file[key]) for key in shapes})
