"""From a coarse face in a photo to a detailed one: what the photo shows in UV space, and the surface of a displacement.

After Chen et al., "Self-Supervised Learning of Detailed 3D Face Reconstruction" (TIP 2020, arXiv 1910.11791): the
photo and the coarse face are unwrapped, their difference becomes a displacement map, and a mesh with a vertex in every
texel is moved by it and rendered in the same pose, light and colours. Ours: the coarse face is rounded between its
vertices (render/relief.py) and shaded in UV space itself, texels are sampled, not vertices, and the network is told
what is visible and how the shading would change if the surface tilted; and light is fitted to the photo first.
"""

import copy
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.spatial import cKDTree

from sfm_jax.array_types import AnyArray, Points
from sfm_jax.data.damage import to_linear, to_srgb
from sfm_jax.geometry.camera import Camera
from sfm_jax.geometry.mesh import vertex_normals
from sfm_jax.geometry.products import einsum, matmul
from sfm_jax.geometry.vector import cross, safe_norm
from sfm_jax.inference.face import Face
from sfm_jax.inference.face_renderer import capacities, shown_weights
from sfm_jax.morphable.model import MorphableModel
from sfm_jax.render import Rendering, SphericalHarmonics, render, surface
from sfm_jax.render.dense import dense_mesh, dense_vertices
from sfm_jax.render.relief import rounded_vertices, tangents, texel_map
from sfm_jax.render.shading import harmonics
from sfm_jax.render.uv import Unwrapped, displace, map_to_vertices, sample_image, unwrap, uv_layout, vertices_to_map
from sfm_jax.render.visibility import visibility

DIRECTIONS = ("normal", "depth")
PROTECTED = ("eyes", "mouth", "brows", "eyelids")  # regions that are left as they are, with the tip of the nose
NOSE_TIP, NOSE_TIP_RADIUS = 30, 7.0  # iBUG landmark; mm on the mean face
RIM = 4.0  # mm over which displacement fades in from what is left as it is
LEAST_ERROR, FAITH, ROUNDS = 0.02, 1e-3, 3  # of the light's fit: linear RGB, pull to the light it had, reweightings
GAIN = 4.0  # of colour differences, which are small numbers, for the network
DOUBT = 0.1  # linear RGB per unit of rise: shading that changes less says little of the surface
CHANNELS = 8
TOGETHER = 8  # photos on an accelerator: a dense mesh of each, and all that its gradient needs, is half a GB on a TPU


class DenseFace(NamedTuple):
    """A coarse face on the dense mesh: vertices [V', 3] mm; normals [V', 3] unit; albedo [V', 3] linear RGB; camera;
    light coefficients [9, 3]."""

    vertices: Float[Array, "V 3"]
    normals: Float[Array, "V 3"]
    albedo: Float[Array, "V 3"]
    camera: Camera
    light: Float[Array, "9 3"]


class DetailSpace:
    """The UV space of a model and the dense mesh over it. Functions are for one face in one photo; vmap for batches."""

    def __init__(self, model: MorphableModel, uv_size: int, image_size: int, direction: str = "normal",
                 broadest: float = 0.0):
        """uv_size: texels along a side, a power of two. image_size: of the photos, pixels. direction: of displacement,
        along the surface's "normal" or along the rays, "depth" (towards the viewer). broadest: standard deviation in mm
        of the Gaussian mean that is taken off a displacement, for what is broader is the coarse face's; 0: nothing is.

        Raises:
          ValueError: another direction, a model without UVs, or a size that is no power of two.
        """
        if direction not in DIRECTIONS:
            raise ValueError(f"direction: found {direction!r}, expected one of {', '.join(DIRECTIONS)}")
        self.model, self.uv_size, self.direction = model, uv_size, direction
        self.layout = uv_layout(model.topology, uv_size)
        self.dense = dense_mesh(self.layout)
        self.mask, self.protected, texel = _masks(model, self.layout)
        self._free = (self.mask > 0).astype(np.float32)
        self._blur = _gaussian(uv_size, broadest / texel) if broadest > 0 else None
        self._share = None if self._blur is None else np.maximum(self._blur @ self._free @ self._blur.T, 1e-6)
        self._skin = np.asarray(dense_vertices(jnp.asarray(shown_weights(model))[:, None], self.dense))
        self._coarse, self._fine = surface(model.topology.triangles), surface(self.dense.triangles)
        self._see(image_size)

    def at(self, image_size: int) -> "DetailSpace":
        """The same space over photos of another size."""
        other = copy.copy(self)
        other._see(image_size)
        return other

    def _see(self, image_size):
        self.image_size = image_size
        mean = rounded_vertices(jnp.asarray(self.model.mean), self.model.topology.triangles, self.dense)
        self._caps = capacities(self.model, mean, self._fine, image_size)
        self._coarse_caps = capacities(self.model, self.model.mean, self._coarse, image_size)

    def dense_face(self, face: Face) -> DenseFace:
        """The face, decoded for crops of `image_size` pixels, between its vertices."""
        vertices = rounded_vertices(face.vertices, self.model.topology.triangles, self.dense)
        return DenseFace(vertices, vertex_normals(vertices, self.dense.triangles),
                         dense_vertices(face.albedo, self.dense), face.camera, face.light.coefficients)

    def unwrap(
        self, face: Face, base: DenseFace, photo: Float[AnyArray, "S S 3"], inside: Float[AnyArray, "S S"] | None = None
    ) -> Unwrapped:
        """What a photo, sRGB [S, S, 3], shows of each texel: colour [U, U, 3] linear RGB, visible [U, U].

        inside: 1 where the crop shows the photo, 0 beyond its border; None: everywhere.
        """
        points = face.camera.project(face.vertices)
        ids = visibility(points, self.model.topology.triangles, (self.image_size,) * 2, caps=self._coarse_caps,
                         cull=True)
        seen = unwrap(photo, face.vertices, face.camera, self.layout, ids.triangle)
        visible = seen.visible & (self._texels(jnp.ones((len(base.vertices), 1)))[..., 0] > 0)
        places = self._texels(base.camera.project(base.vertices))[..., :2]
        colour = sample_image(to_linear(photo), places)
        if inside is not None:
            visible &= sample_image(inside[..., None], places)[..., 0] > 0.99
        return Unwrapped(jnp.where(visible[..., None], colour, 0.0), visible)

    def relit(self, base: DenseFace, seen: Unwrapped) -> DenseFace:
        """The face in the light [9, 3] under which its skin comes nearest to the photo: what a displacement need not
        explain. Least absolute differences by reweighted least squares, drawn to the light it had."""
        chosen = (seen.visible & (self.mask > 0)).reshape(-1)[self.dense.texel].astype(jnp.float32)
        count = len(self.dense.texel)
        shown = seen.colour.reshape(-1, 3)[self.dense.texel]
        albedo = base.albedo[:count].T[..., None]
        held = FAITH * base.light.T[..., None]
        terms = albedo * harmonics(_turned(base, base.normals[:count]))  # [3, N, 9], each channel by itself

        def closer(light, _):
            lit = matmul(terms, light.T[..., None])[..., 0].T
            weight = chosen / jnp.maximum(safe_norm(lit - shown), LEAST_ERROR)
            weighted = jnp.swapaxes(terms, 1, 2) * (weight / jnp.maximum(jnp.sum(weight), 1e-6))
            square, right = (matmul(weighted, other)
                             for other in (terms, shown.T[..., None]))
            return jnp.linalg.solve(square + FAITH * jnp.eye(9), right + held)[..., 0].T, None

        return base._replace(light=jax.lax.scan(closer, base.light, None, ROUNDS)[0])

    def maps(self, face: Face, base: DenseFace, seen: Unwrapped) -> Float[Array, "U U C"]:
        """What the network sees [U, U, CHANNELS], zero where nothing is visible: the difference of the photo and the
        coarse face in linear colours (3), the least rise along u and along v that would explain it (2), mm per mm, how
        much each would brighten the texel (2), and what is visible (1)."""
        difference = seen.colour - self._texels(shade(base, base.normals))
        along_u, along_v = self._slopes(face, base)
        rises = least_rise(difference, along_u, along_v)
        slopes = jnp.stack([jnp.mean(along_u, -1), jnp.mean(along_v, -1)], -1)
        visible = seen.visible[..., None]
        maps = jnp.concatenate([GAIN * difference, rises, GAIN * slopes, jnp.ones_like(rises[..., :1])], -1)
        return jnp.where(visible, maps, 0.0)

    def fine_part(self, raw: Float[AnyArray, "*batch U U"]) -> Float[Array, "*batch U U"]:
        """A displacement [..., U, U] mm of what a network says: less what is broad, and masked."""
        if self._blur is None:
            return raw * self.mask
        broad = einsum("ij,...jk,lk->...il", self._blur, raw * self._free, self._blur) / self._share
        return (raw - broad) * self.mask

    def displaced(self, base: DenseFace, displacement: Float[AnyArray, "U U"]) -> Float[Array, "V 3"]:
        """The dense mesh's vertices [V', 3] moved by a map [U, U] mm of `fine_part`."""
        offsets = map_to_vertices(displacement[..., None], self.dense)[:, 0]
        if self.direction == "normal":
            return base.vertices + offsets[:, None] * base.normals
        return displace(base.vertices, self.dense.triangles, offsets, base.camera)

    def render(
        self, base: DenseFace, vertices: Float[AnyArray, "V 3"], layers: Float[AnyArray, "V C"] | None = None
    ) -> Rendering:
        """A dense mesh in the photo's pose, light and colours, hard edges. The fourth channel of its colours is how
        much of the face's skin is there; layers [V', C] follow."""
        parts = [base.albedo, self._skin] + ([] if layers is None else [layers])
        return render(vertices, self._fine, base.camera, (self.image_size,) * 2, albedo=jnp.concatenate(parts, 1),
                      light=SphericalHarmonics(base.light), edge_width=0.0, caps=self._caps, cull=True)

    def over(self, seen: Rendering, photo: Float[AnyArray, "S S 3"]) -> Float[Array, "S S 3"]:
        """The skin of a rendering over a photo, sRGB [S, S, 3]."""
        skin = seen.colour[..., 3:4]
        return to_srgb(skin * seen.colour[..., :3] + (1 - skin) * to_linear(photo))

    def _texels(self, values):
        return texel_map(values, self.dense)

    def _slopes(self, face, base):
        """How each colour channel changes with the rise of the surface along u and along v, [U, U, 3] both."""
        frame = tangents(face.vertices, self.layout, self.dense)
        along_v = frame.hand[:, None] * cross(base.normals, frame.along_u)
        return [self._texels(jax.jvp(lambda normals: shade(base, normals), (base.normals,), (-axis,))[1])
                for axis in (frame.along_u, along_v)]


def of_each_photo(look: Callable, photos: object) -> object:
    """look(one) of each of `photos`, a pytree of arrays [B, ...], for functions of dense meshes: on CPUs, where vmap is
    slower, one after the other, else TOGETHER at once."""
    return jax.lax.map(look, photos, batch_size=None if jax.default_backend() == "cpu" else TOGETHER)


def least_rise(difference: Points, along_u: Points, along_v: Points) -> Float[Array, "*batch 2"]:
    """The rise [..., 2] along u and v that explains a difference of colours [..., 3] in least squares, drawn to none.

    along_u, along_v [..., 3]: what a rise of 1 does to the colours. One light says little of the direction across it;
    coloured ones say more.
    """
    uu, vv, uv = (jnp.sum(a * b, -1) for a, b in ((along_u, along_u), (along_v, along_v), (along_u, along_v)))
    u, v = jnp.sum(along_u * difference, -1), jnp.sum(along_v * difference, -1)
    uu, vv = uu + DOUBT**2, vv + DOUBT**2
    determinant = uu * vv - uv * uv
    return jnp.stack([vv * u - uv * v, uu * v - uv * u], -1) / determinant[..., None]


def shade(base: DenseFace, normals: Float[AnyArray, "V 3"]) -> Float[Array, "V 3"]:
    """Linear RGB [V', 3] of the dense face's vertices with normals [V', 3] in the model's axes."""
    lit = matmul(harmonics(_turned(base, normals)), base.light)
    return base.albedo * lit


def _turned(base, directions):
    """Directions [..., 3] in the camera's axes."""
    return matmul(directions, base.camera.rotation.T)


def _region(model, name):
    names = model.topology.region_names
    return model.topology.region(name) if name in names else np.ones(len(model.mean), np.float32)


def _masks(model, layout):
    """Of texels [U, U]: how much of a displacement is let through, 0 to 1, exactly 0 where the face is left as it is;
    and that part of the face, 0 or 1. And the median width of a texel of the face, mm."""
    mean = np.asarray(model.mean, np.float64)
    fixed = np.maximum.reduce([_region(model, name) for name in PROTECTED if name in model.topology.region_names],
                             initial=0.0) * np.ones(len(mean))
    away = np.linalg.norm(mean - mean[model.topology.landmarks[NOSE_TIP]], axis=1)
    maps = np.asarray(vertices_to_map(jnp.asarray(np.stack([_region(model, "face"), fixed, away], 1), jnp.float32),
                                      layout))
    places = np.asarray(vertices_to_map(jnp.asarray(mean, jnp.float32), layout))
    face = (maps[..., 0] > 0.5) & layout.mask
    protected = face & ((maps[..., 1] > 0.25) | (maps[..., 2] < NOSE_TIP_RADIUS))
    free = face & ~protected
    kept = layout.mask & ~free
    away = cKDTree(places[kept]).query(places)[0] if kept.any() else np.full(free.shape, np.inf)
    fade = np.where(free, np.clip(away / RIM, 0, 1), 0.0)
    beside = face[:, 1:] & face[:, :-1]
    texel = np.median(np.linalg.norm(np.diff(places, axis=1), axis=-1)[beside]) if beside.any() else 1.0
    return (fade**2 * (3 - 2 * fade)).astype(np.float32), protected.astype(np.float32), float(texel)


def _gaussian(size, deviation):
    """Rows of Gaussian weights [size, size] with a standard deviation in texels, not normalised."""
    away = np.arange(size)[:, None] - np.arange(size)
    return np.exp(-0.5 * (away / deviation) ** 2).astype(np.float32)
