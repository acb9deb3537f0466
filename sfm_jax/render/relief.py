"""Relief: a surface rounded between the vertices of its mesh, moved by a displacement map, and what is seen of it.

Per frame, for one face (vmap for batches), differentiable; what depends on the topology alone is a `DenseMesh`
(render/dense.py).
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sfm_jax.array_types import AnyArray, Triangles
from sfm_jax.geometry.mesh import vertex_normals
from sfm_jax.geometry.vector import cross, normalise
from sfm_jax.render.coverage import take
from sfm_jax.render.dense import DenseMesh
from sfm_jax.render.uv import UVLayout

ROUNDNESS = 0.5  # meets a sphere in second order; the paper's 0.75 rises half as much again


def rounded_vertices(
    vertices: Float[AnyArray, "V 3"], triangles: Triangles, dense: DenseMesh, roundness: float = ROUNDNESS
) -> Float[Array, "D 3"]:
    """The dense mesh's vertices [V', 3] of a face [V, 3] mm with triangles [F, 3]: no facets, no gaps.

    Phong tessellation (Boubekeur & Alexa, SIGGRAPH Asia 2008): a point of a triangle is projected to the tangent planes
    of its corners, and moves the share `roundness` towards the mean of those, weighted as the corners are. 0 leaves it
    in the triangle. A point on a side depends on that side alone.
    """
    normals = vertex_normals(vertices, triangles)
    corners = [(take(vertices, dense.corners[:, k]), take(normals, dense.corners[:, k])) for k in range(3)]
    weights = jnp.asarray(dense.weights)
    flat = sum(weights[:, k, None] * corner for k, (corner, _) in enumerate(corners))
    rise = sum(weights[:, k, None] * jnp.sum((flat - corner) * normal, -1, keepdims=True) * normal
               for k, (corner, normal) in enumerate(corners))
    return flat - roundness * rise


class Tangents(NamedTuple):
    """At the vertices of a dense mesh: along_u [V', 3], unit directions in which u grows; hand [V'], 1, or -1 where the
    chart shows the surface mirrored."""

    along_u: Float[Array, "*batch D 3"]
    hand: Float[np.ndarray, " D"]


def tangents(vertices: Float[AnyArray, "V 3"], layout: UVLayout, dense: DenseMesh) -> Tangents:
    """How the UVs lie on a surface of vertices [V, 3] mm.

    Of each triangle from its UVs (Lengyel 2001); at a dense vertex those of the triangle in which it lies, smoothed
    over the corners of its chart.
    """
    corner = vertices[layout.triangles]
    uv = layout.uv[layout.uv_triangles]
    (du1, dv1), (du2, dv2) = ((uv[:, k] - uv[:, 0]).T for k in (1, 2))
    area = du1 * dv2 - du2 * dv1
    along = (corner[:, 1] - corner[:, 0]) * dv2[:, None] - (corner[:, 2] - corner[:, 0]) * dv1[:, None]
    along = along * np.sign(area)[:, None]
    summed = jnp.zeros((len(layout.uv), 3)).at[layout.uv_triangles].add(along[:, None])
    at = layout.uv_triangles[dense.face]
    along_u = normalise(sum(dense.weights[:, k, None] * normalise(take(summed, at[:, k])) for k in range(3)))
    return Tangents(along_u, np.where(area[dense.face] < 0, -1, 1).astype(np.float32))


def tangent_normals(fine: Float[AnyArray, "D 3"], base: Float[AnyArray, "D 3"], frame: Tangents) -> Float[Array, "D 3"]:
    """Unit normals `fine` [V', 3] in the frames of a base surface with unit normals `base` [V', 3]: along u, along v
    (upwards in the map) and outward, [V', 3]. The form of glTF's normal maps: (0, 0, 1) where the two surfaces agree.
    """
    along_u = normalise(frame.along_u - jnp.sum(frame.along_u * base, -1, keepdims=True) * base)
    along_v = frame.hand[:, None] * cross(base, along_u)
    return jnp.stack([jnp.sum(fine * axis, -1) for axis in (along_u, along_v, base)], -1)


def texel_map(values: Float[AnyArray, "D C"], dense: DenseMesh, empty: float = 0.0) -> Float[Array, "S S C"]:
    """Values [V', C] of the dense mesh's vertices as a UV map [S, S, C]; `empty` where no vertex is a texel."""
    flat = jnp.full((dense.size * dense.size, values.shape[-1]), empty, values.dtype)
    return flat.at[dense.texel].set(values[:len(dense.texel)]).reshape(dense.size, dense.size, -1)
