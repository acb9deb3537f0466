"""Detailed faces as pictures and files: clay under a raking light, maps, meshes and a turntable."""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from sfm_jax.array_types import Number
from sfm_jax.data.damage import to_srgb
from sfm_jax.geometry.mesh import vertex_normals
from sfm_jax.geometry.rotation import rotation_from_euler
from sfm_jax.inference import export
from sfm_jax.inference.detail import DetailSpace
from sfm_jax.inference.detail_encoder import Detailed
from sfm_jax.inference.face import view
from sfm_jax.render import SphericalHarmonics, ambient
from sfm_jax.render.relief import tangent_normals, tangents, texel_map
from sfm_jax.render.uv import vertices_to_map

CLAY = (0.60, 0.52, 0.46)  # linear RGB
PAPER = (0.955, 0.955, 0.95)  # sRGB, as the report's
AMBIENT, LAMP = 0.62, 0.58
TURN, FRAMES, SECONDS = 35.0, 24, 0.1  # degrees to each side; of a turntable


def raking(azimuth: Number, elevation: Number = 35.0) -> SphericalHarmonics:
    """A lamp from the side, degrees to the image's right and up, and a little light from everywhere; a surface facing
    it is shown about as bright as white."""
    right, up = jnp.radians(azimuth), jnp.radians(elevation)
    x, y, z = jnp.sin(right) * jnp.cos(up), jnp.sin(up), jnp.cos(right) * jnp.cos(up)
    coefficients = ambient(AMBIENT).coefficients
    # Order 1, z, x, y of render.shading.harmonics: a linear lobe is what one lamp is, but for its sharper edge.
    lobe = LAMP * jnp.stack([z, x, y]) / 1.0233
    return SphericalHarmonics(coefficients.at[1:4].add(jnp.broadcast_to(lobe[:, None], (3, 3))))


def clay(
    space: DetailSpace, found: Detailed
) -> tuple[Float[np.ndarray, "B S S 3"], Float[np.ndarray, "B S S 3"]]:
    """sRGB pictures of the coarse and the fine faces of a batch, of clay, in the photos' poses."""
    return tuple(np.asarray(_clay(space, found.base, shapes)) for shapes in (found.base.vertices, found.vertices))


@functools.partial(jax.jit, static_argnums=0)
def _clay(space, base, shapes):
    return jax.lax.map(lambda one: _picture(space, _of_clay(one[0], raking(-65.0)), one[1]), (base, shapes))


def _of_clay(base, light):
    return base._replace(light=light.coefficients, albedo=jnp.broadcast_to(jnp.asarray(CLAY), base.albedo.shape))


def _picture(space, base, vertices):
    shown = space.render(base, vertices)
    return to_srgb(shown.colour[..., :3]) * shown.alpha[..., None] + (1 - shown.alpha[..., None]) * jnp.asarray(PAPER)


def write_face(folder: Path, space: DetailSpace, found: Detailed) -> None:
    """Files of one face (leaves without the batch) in `folder`:

    displacement.png and .npz (mm, inference/export.py); normal_map.png, of the fine surface on the coarse one;
    albedo.png, sRGB; detailed.obj, .ply and .glb, the dense mesh; coarse.glb, the model's mesh with albedo and normal
    map; turntable.gif, the fine face of clay, turned under a moving lamp.
    """
    folder.mkdir(parents=True, exist_ok=True)
    dense, triangles = space.dense, space.dense.triangles
    base, vertices = found.base, np.asarray(found.vertices)
    export.write_displacement(folder / "displacement.png", np.asarray(found.displacement), space.mask > 0)
    fine = vertex_normals(jnp.asarray(vertices), triangles)
    coarse = np.asarray(found.face.vertices)
    local = tangent_normals(fine, jnp.asarray(base.normals), tangents(jnp.asarray(coarse), space.layout, dense))
    normal_map = np.asarray(texel_map(local - jnp.array([0.0, 0.0, 1.0]), dense)) + np.array([0, 0, 1])
    normal_map = np.clip((normal_map + 1) / 2, 0, 1)
    albedo = np.asarray(to_srgb(vertices_to_map(jnp.asarray(found.face.albedo), space.layout)))
    export.write_image(folder / "normal_map.png", normal_map)
    export.write_image(folder / "albedo.png", albedo)
    colours = np.asarray(to_srgb(jnp.asarray(base.albedo)))
    normals = np.asarray(fine)
    export.write_obj(folder / "detailed.obj", vertices, triangles, normals=normals)
    export.write_ply(folder / "detailed.ply", vertices, triangles, normals=normals, colours=colours)
    export.write_glb(folder / "detailed.glb", vertices, triangles, normals=normals)
    topology = space.model.topology
    export.write_glb(folder / "coarse.glb", coarse, topology.triangles, uv=topology.uv,
                     uv_triangles=topology.uv_triangles, texture=albedo, normal_map=normal_map)
    export.write_gif(folder / "turntable.gif", list(np.asarray(_turntable(space, base, vertices))), SECONDS)


@functools.partial(jax.jit, static_argnums=0)
def _turntable(space, base, vertices):
    """sRGB frames [FRAMES, S, S, 3] of a clay face that looks to one side and the other under a lamp going round."""

    def frame(phase):
        turn = rotation_from_euler(jnp.stack([TURN * jnp.sin(phase), jnp.zeros(()), jnp.zeros(())]))
        clayed = _of_clay(base, raking(70 * jnp.cos(phase)))
        return _picture(space, clayed._replace(camera=view(space.model, space.image_size, turn)), vertices)

    return jax.lax.map(frame, jnp.arange(FRAMES, dtype=jnp.float32) * (2 * jnp.pi / FRAMES))
