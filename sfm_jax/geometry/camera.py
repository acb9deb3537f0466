"""Cameras: orthographic, weak perspective and perspective, as pure functions and as three pytrees.

Camera space is the world's: x right, y up, z towards the viewer, millimetres, so what is seen has falling z. Image
points are x right, y down in pixels, the centre of the first pixel at (0.5, 0.5). A projection gives [..., V, 3]: the
image point and a nearness, larger for nearer points, which is linear on the screen inside a triangle (so a depth
buffer may interpolate it) and measured in pixels at the depth of what is shown.
"""

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sfm_jax.array_types import AnyArray, Number, Numbers, Points, Rotation
from sfm_jax.geometry.products import matmul
from sfm_jax.geometry.vector import normalise, safe_norm

BEHIND = -1e30  # nearness of a point that is not in front of a perspective camera: its triangles are not drawn
NEAR = 1.0  # mm: the nearest distance that a perspective camera sees
Shown = Float[AnyArray, "*shown 3"]


def to_camera(
    vertices: Points, rotation: Float[AnyArray, "3 3"], translation: Float[AnyArray, "3"]
) -> Float[Array, "*batch 3"]:
    """rotation [3, 3] @ vertex + translation [3] for vertices [..., V, 3]."""
    return matmul(vertices, rotation.T) + translation


def orthographic(points: Points, scale: Number, centre: Float[AnyArray, "2"]) -> Float[Array, "*batch 3"]:
    """(c_x + s x, c_y - s y, s z): parallel rays, s pixels per millimetre, (0, 0) seen at pixel `centre` [2]."""
    x, y, z = jnp.moveaxis(points, -1, 0)
    return jnp.stack([centre[0] + scale * x, centre[1] - scale * y, scale * z], -1)


def weak_perspective(
    points: Points, focal: Number, centre: Float[AnyArray, "2"], distance: Number
) -> Float[Array, "*batch 3"]:
    """Orthographic at the scale that a perspective camera with `focal` pixels has at `distance` millimetres."""
    return orthographic(points, focal / distance, centre)


def perspective(
    points: Points, focal: Number, centre: Float[AnyArray, "2"], distance: Number | Float[AnyArray, "*#batch"]
) -> Float[Array, "*batch 3"]:
    """(c_x + f x / d, c_y - f y / d, f D / d) with d = -z: the pinhole camera in the origin, looking along -z.

    D is `distance`, the depth at which nearness is to count pixels (no gradient). Points nearer than NEAR get the
    nearness BEHIND and a finite, meaningless image point with zero gradient.
    """
    x, y, z = jnp.moveaxis(points, -1, 0)
    seen = -z >= NEAR
    magnification = focal / jnp.where(seen, -z, 1.0)
    reference = jax.lax.stop_gradient(jnp.maximum(distance, NEAR))
    projected = jnp.stack([centre[0] + magnification * x, centre[1] - magnification * y, magnification * reference], -1)
    return jnp.where(seen[..., None], projected, jnp.array([0.0, 0.0, BEHIND], points.dtype))


@flax.struct.dataclass
class Orthographic:
    """rotation [3, 3], translation [3] mm, scale [] pixels per mm, centre [2] pixels."""

    rotation: Rotation
    translation: Float[AnyArray, "*batch 3"]
    scale: Numbers
    centre: Float[AnyArray, "*batch 2"]

    def project(self, vertices: Points, shown: Shown | None = None) -> Float[Array, "*batch 3"]:
        """World vertices [..., V, 3] mm to (x px, y px, nearness); `shown` is for perspective cameras."""
        return orthographic(to_camera(vertices, self.rotation, self.translation), self.scale, self.centre)

    def unproject(self, depth: Float[AnyArray, "H W"]) -> Float[Array, "H W 3"]:
        """Camera-space points [H, W, 3] mm of a depth image [H, W] (-z in mm)."""
        return _parallel_points(depth, self.scale, self.centre)

    def towards_eye(self, positions: Points) -> Float[Array, "*batch 3"]:
        """Unit vectors [..., 3] from camera-space positions [..., 3] to the viewer: +z, the rays are parallel."""
        return jnp.broadcast_to(jnp.array([0.0, 0.0, 1.0], positions.dtype), positions.shape)

    def crop(self, corner: Float[AnyArray, "2"], zoom: Number) -> "Orthographic":
        """The camera of the image cut at pixel `corner` [2] and then enlarged `zoom` times."""
        return self.replace(scale=self.scale * zoom, centre=(self.centre - corner) * zoom)

    def from_afar(self, distance: float = 1e5) -> "Perspective":
        """A perspective camera `distance` mm away that shows nearly the same: points differ by their depth over it."""
        away = jnp.array([0.0, 0.0, distance], self.translation.dtype)
        return Perspective(self.rotation, self.translation - away, self.scale * distance, self.centre)


@flax.struct.dataclass
class WeakPerspective:
    """rotation [3, 3], translation [3] mm (the object's origin: z < 0), focal [] pixels, centre [2] pixels."""

    rotation: Rotation
    translation: Float[AnyArray, "*batch 3"]
    focal: Numbers
    centre: Float[AnyArray, "*batch 2"]

    def project(self, vertices: Points, shown: Shown | None = None) -> Float[Array, "*batch 3"]:
        """World vertices [..., V, 3] mm to (x px, y px, nearness), all at the scale of the object's origin; `shown` is
        for perspective cameras."""
        points = to_camera(vertices, self.rotation, self.translation)
        return weak_perspective(points, self.focal, self.centre, -self.translation[2])

    def unproject(self, depth: Float[AnyArray, "H W"]) -> Float[Array, "H W 3"]:
        """Camera-space points [H, W, 3] mm of a depth image [H, W] (-z in mm)."""
        return _parallel_points(depth, self.focal / -self.translation[2], self.centre)

    def towards_eye(self, positions: Points) -> Float[Array, "*batch 3"]:
        """Unit vectors [..., 3] from camera-space positions [..., 3] to the viewer: +z, the rays are parallel."""
        return jnp.broadcast_to(jnp.array([0.0, 0.0, 1.0], positions.dtype), positions.shape)

    def crop(self, corner: Float[AnyArray, "2"], zoom: Number) -> "WeakPerspective":
        """The camera of the image cut at pixel `corner` [2] and then enlarged `zoom` times."""
        return self.replace(focal=self.focal * zoom, centre=(self.centre - corner) * zoom)


@flax.struct.dataclass
class Perspective:
    """rotation [3, 3], translation [3] mm, focal [] pixels, centre [2] pixels."""

    rotation: Rotation
    translation: Float[AnyArray, "*batch 3"]
    focal: Numbers
    centre: Float[AnyArray, "*batch 2"]

    def project(self, vertices: Points, shown: Shown | None = None) -> Float[Array, "*batch 3"]:
        """World vertices [..., V, 3] mm to (x px, y px, nearness); see `perspective` for points behind.

        Nearness counts pixels at the mean depth of the vertices `shown` [..., N, 3], or of these: of points projected
        apart, it compares only where they were given the same.
        """
        points = to_camera(vertices, self.rotation, self.translation)
        depth = -(points if shown is None else to_camera(shown, self.rotation, self.translation))[..., 2]
        seen = depth >= NEAR
        middle = jnp.sum(depth, -1, where=seen) / jnp.maximum(jnp.sum(seen, -1, dtype=depth.dtype), 1)
        return perspective(points, self.focal, self.centre, middle[..., None])

    def unproject(self, depth: Float[AnyArray, "H W"]) -> Float[Array, "H W 3"]:
        """Camera-space points [H, W, 3] mm of a depth image [H, W] (-z in mm)."""
        right, up = _rays(depth.shape, self.centre)
        return jnp.stack([right * depth / self.focal, up * depth / self.focal, -depth], -1)

    def towards_eye(self, positions: Points) -> Float[Array, "*batch 3"]:
        """Unit vectors [..., 3] from camera-space positions [..., 3] to the pinhole."""
        return normalise(-positions)

    def crop(self, corner: Float[AnyArray, "2"], zoom: Number) -> "Perspective":
        """The camera of the image cut at pixel `corner` [2] and then enlarged `zoom` times."""
        return self.replace(focal=self.focal * zoom, centre=(self.centre - corner) * zoom)


Camera = Orthographic | WeakPerspective | Perspective


def _rays(image_size: tuple[int, int], centre: Float[AnyArray, "2"]) -> tuple[Float[Array, "H W"], Float[Array, "H W"]]:
    """Pixels [H, W] to the right of and above `centre`, at every pixel's centre."""
    height, width = image_size
    right = jnp.arange(width, dtype=jnp.float32) + 0.5 - centre[0]
    up = centre[1] - jnp.arange(height, dtype=jnp.float32) - 0.5
    return jnp.broadcast_to(right, image_size), jnp.broadcast_to(up[:, None], image_size)


def _parallel_points(
    depth: Float[AnyArray, "H W"], scale: Number, centre: Float[AnyArray, "2"]
) -> Float[Array, "H W 3"]:
    right, up = _rays(depth.shape, centre)
    return jnp.stack([right / scale, up / scale, -depth], -1)


def frame(
    vertices: Float[AnyArray, "V 3"], image_size: tuple[int, int], rotation: Float[AnyArray, "3 3"], fill: float = 0.8,
    field_of_view: float | None = None,
) -> Camera:
    """A camera that shows all of `vertices` [V, 3] at any rotation, the bounding sphere filling `fill` of the image.

    Orthographic, or perspective with a vertical `field_of_view` in degrees. image_size is (height, width). Vertices in
    one place have no size to go by: they are shown a thousand times enlarged.
    """
    vertices = jnp.asarray(vertices)
    middle = (jnp.max(vertices, 0) + jnp.min(vertices, 0)) / 2
    radius = jnp.maximum(jnp.max(safe_norm(vertices - middle)), fill * min(image_size) / 2000)
    height, width = image_size
    centre = jnp.array([width / 2, height / 2], vertices.dtype)
    offset = -to_camera(middle, rotation, jnp.zeros(3, vertices.dtype))
    half = fill * min(height, width) / 2
    if field_of_view is None:
        return Orthographic(rotation, offset, half / radius, centre)
    focal = height / 2 / jnp.tan(jnp.deg2rad(field_of_view) / 2)
    # The sphere's outline is seen at asin(radius / distance) off the axis.
    distance = radius * jnp.sqrt(1 + (focal / half) ** 2)
    return Perspective(rotation, offset - jnp.array([0.0, 0.0, 1.0]) * distance, focal, centre)
