"""The renderer: which triangle each pixel sees, what is there, how it is lit, and soft edges around it.

Deferred shading: visibility (no gradient) finds one triangle per pixel; attributes are interpolated from that
triangle's corners, lit, blended softly across silhouettes and laid over the background. All but visibility is
differentiable, and the memory is a few arrays of the size of the image, whatever the number of triangles.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import checkify
from jaxtyping import Array, Float, Int, Integer

from sfm_jax.array_types import AnyArray, Numbers, Triangles
from sfm_jax.geometry.camera import Camera, Perspective, frame, to_camera
from sfm_jax.geometry.mesh import Edges, edge_list, vertex_normals
from sfm_jax.geometry.rotation import rotation_from_6d
from sfm_jax.geometry.vector import normalise
from sfm_jax.render.caps import Caps, default_caps
from sfm_jax.render.interpolate import blend, interpolate
from sfm_jax.render.shading import Light
from sfm_jax.render.silhouette import contour_band, soften
from sfm_jax.render.visibility import BACKENDS, check_image_size, check_mesh, visibility


class Surface(NamedTuple):
    """What a renderer knows of a mesh beside its vertices, made once by `surface`.

    triangles [F, 3]; edges; uv [U, 2] with uv_triangles [F, 3], or None. A pytree of NumPy arrays: close over it
    or pass it to a jitted function.
    """

    triangles: Triangles
    edges: Edges
    uv: Float[np.ndarray, "U 2"] | None = None
    uv_triangles: Triangles | None = None


class Rendering(NamedTuple):
    """An image [H, W, C] and what it was made of.

    colour [H, W, C] over the background and alpha [H, W] in [0, 1] are soft at silhouettes. The others belong to the
    surface seen at the pixel's centre and are zero on the background: depth [H, W] in mm along the viewing axis,
    normals [H, W, 3] unit in camera space, uv [H, W, 2] (None without a UV layout), triangle [H, W] int32 (-1:
    none). overflow [] int32 and demand: see `check_overflow`.
    """

    colour: Float[Array, "*batch H W C"]
    alpha: Float[Array, "*batch H W"]
    depth: Float[Array, "*batch H W"]
    normals: Float[Array, "*batch H W 3"]
    uv: Float[Array, "*batch H W 2"] | None
    triangle: Int[Array, "*batch H W"]
    overflow: Int[Array, "*batch"]
    demand: Caps


def surface(
    triangles: Triangles, uv: Float[AnyArray, "U 2"] | None = None, uv_triangles: Integer[AnyArray, "T 3"] | None = None
) -> Surface:
    """The Surface of triangles [F, 3], outward counter-clockwise; uv [U, 2] with its own triangles where it has seams.
    None or no rows: it has none.

    Raises:
      ValueError: a uv_triangles of another length than triangles, or with indices that uv does not have.
    """
    triangles = np.asarray(triangles, np.int32)
    if uv is None or not len(uv):
        uv, uv_triangles = None, None
    else:
        uv_triangles = triangles if uv_triangles is None else np.asarray(uv_triangles, np.int32)
        low, high = uv_triangles.min(initial=0), uv_triangles.max(initial=0)
        if uv_triangles.shape != triangles.shape or low < 0 or high >= len(uv):
            raise ValueError(f"uv_triangles: shape {uv_triangles.shape}, indices {low}..{high}, expected "
                             f"{triangles.shape} within 0..{len(uv) - 1}")
        uv = np.asarray(uv, np.float32)
    return Surface(triangles, edge_list(triangles), uv, uv_triangles)


@jax.named_scope("render")
def render(
    vertices: Float[AnyArray, "V 3"], surface: Surface, camera: Camera, image_size: tuple[int, int], *,
    albedo: Float[AnyArray, "V C"], light: Light | None = None, background: Numbers = 0.0, edge_width: float = 2.0,
    backend: str | None = None, caps: Caps | None = None, cull: bool = False,
) -> Rendering:
    """Render one mesh; differentiable in vertices, camera, albedo, light and background. jit, vmap and grad compose.

    Args:
      vertices: [V, 3] mm.
      surface: the mesh's connectivity, from `surface`.
      camera: Orthographic, WeakPerspective or Perspective.
      image_size: (height, width).
      albedo: [V, C] linear RGB at the vertices, and whatever else is to be shown: only the first three are lit.
      light: SphericalHarmonics or PointLight; None shows the albedo itself.
      background: what the mesh is laid over: a number, [C] or [H, W, C].
      edge_width: pixels over which silhouettes fade, outer ones and those of the face over itself; 0 is hard, and
        without gradients there. Wider reaches farther in a fit, narrower is sharper.
      backend: "fragments", "window" or "tiles" (`sfm_jax.render.visibility`); None is the fastest here.
      caps: capacities, from `suggest_caps`; None is generous ones, and slower.
      cull: leave out triangles that face away. Right for closed surfaces.

    Raises:
      ValueError: wrong shapes, indices out of range, an empty image; outside jit non-finite vertices. Under jit
        triangles with non-finite corners are not drawn, and in a light their neighbours are no numbers;
        `jax.experimental.checkify.checkify(f, checkify.user_checks)` of the function that calls this reports them, and
        overflow, as errors.
    """
    check_mesh(vertices, surface.triangles)
    check_image_size(image_size)
    if albedo.ndim != 2 or len(albedo) != len(vertices) or (light is not None and albedo.shape[1] < 3):
        least = "C" if light is None else "C >= 3"
        raise ValueError(f"albedo: shape {albedo.shape}, expected [{len(vertices)}, {least}]")
    whole = (*image_size, albedo.shape[1])
    if jnp.ndim(background) not in (0, 1, 3) or any(size not in (1, most) for size, most in zip(
            jnp.shape(background)[::-1], whole[::-1], strict=False)):
        raise ValueError(f"background: shape {jnp.shape(background)}, expected a number, [C] or [H, W, C] of {whole}")
    triangles = surface.triangles
    caps = caps or default_caps(image_size, len(triangles), edge_width)
    points = jax.lax.stop_gradient(camera.project(vertices))
    seen = visibility(points, triangles, image_size, backend, caps, cull)
    band, overflow, demand = None, seen.overflow, seen.demand
    if edge_width:
        band = contour_band(points, triangles, surface.edges, seen, edge_width, caps, cull)
        overflow, demand = overflow + band.overflow, Caps(*map(sum, zip(demand, band.demand, strict=True)))
    finite = jnp.isfinite(vertices).all() & jnp.isfinite(points).all()
    checkify.debug_check(finite, "render: non-finite vertices or camera")
    lost = "render: {overflow} list entries did not fit, see check_overflow"
    checkify.debug_check(overflow == 0, lost, overflow=overflow)
    values = _deferred(vertices, camera, albedo, light, background, surface, seen.triangle, band, edge_width)
    return Rendering(*values, seen.triangle, overflow, demand)


def _deferred(vertices, camera, albedo, light, background, surface, ids, band, edge_width):
    """All that is differentiable: colour, alpha, depth, normals and uv of the triangles `ids` [H, W]."""
    triangles, channels, visible = surface.triangles, albedo.shape[1], ids >= 0
    points = camera.project(vertices)
    in_camera = to_camera(vertices, camera.rotation, camera.translation)
    vertex_normal = vertex_normals(in_camera, triangles)
    table = jnp.concatenate([albedo, vertex_normal], 1) if light else albedo
    values, weights = interpolate(table, points, triangles, ids, isinstance(camera, Perspective))
    colour = values[..., :channels]
    # Apart, so that the compiler drops what nobody uses.
    depth = blend(-in_camera[:, 2:], triangles, ids, weights)[..., 0]
    normals = normalise(values[..., channels:] if light else blend(vertex_normal, triangles, ids, weights))
    if light:
        positions = camera.unproject(depth)
        shaded = light(colour[..., :3], normals, positions, camera.towards_eye(positions))
        colour = jnp.concatenate([jnp.where(visible[..., None], shaded, 0.0), colour[..., 3:]], -1)
    layer = jnp.concatenate([colour, visible[..., None].astype(colour.dtype)], -1)
    if band is not None:
        layer = soften(layer, points, surface.edges, band, edge_width)
    colour, alpha = layer[..., :-1], layer[..., -1]
    uv = None if surface.uv is None else blend(surface.uv, surface.uv_triangles, ids, weights)
    return colour + (1 - alpha)[..., None] * background, alpha, depth, normals, uv


def suggest_caps(
    vertices: Float[AnyArray, "V 3"], surface: Surface, image_size: tuple[int, int], edge_width: float = 2.0,
    cameras: Camera | None = None, cull: bool = False, margin: float = 1.25, backend: str | None = None,
) -> Caps:
    """Capacities for a backend, or for every one, that hold `vertices` [V, 3] in each of `cameras` (leading dimension),
    and a margin.

    None is 64 cameras all around the mesh, in which its bounding sphere fills the image: then give the margin what
    expressions, and cameras that come closer, may add. To be called once, outside jit.
    """
    check_mesh(vertices, surface.triangles)
    check_image_size(image_size)
    if cameras is None:
        directions = jax.random.normal(jax.random.key(0), (64, 6))
        cameras = jax.vmap(lambda six: frame(vertices, image_size, rotation_from_6d(six), fill=1.0))(directions)
    caps = default_caps(image_size, len(surface.triangles), edge_width)
    backends = [BACKENDS[backend]] if backend else BACKENDS.values()

    @jax.jit
    def visible_demand(camera):
        points, triangles = camera.project(vertices), jnp.asarray(surface.triangles)
        parts = [demand(points, triangles, image_size, caps, cull)[2] for demand in backends]
        return Caps(**{name: count for part in parts for name, count in part.items()})

    def contour_demand(caps):
        def demand(camera):
            points = camera.project(vertices)
            seen = visibility(points, surface.triangles, image_size, backend or "fragments", caps, cull)
            return contour_band(points, surface.triangles, surface.edges, seen, edge_width, caps, cull).demand
        return jax.jit(demand)

    need = _largest(jax.lax.map(visible_demand, cameras))
    while edge_width:
        caps = Caps(*(count or have for count, have in zip(need, caps, strict=True)))
        contour = _largest(jax.lax.map(contour_demand(caps), cameras))
        if all(count <= have for count, have in zip(contour, caps, strict=True)):
            need = Caps(*map(max, zip(need, contour, strict=True)))
            break
        caps = Caps(*(max(have, 2 * count) for count, have in zip(contour, caps, strict=True)))
    return _with_margin(need, margin)


def check_overflow(rendering: Rendering) -> None:
    """ValueError, with capacities that would do, if the rendering (or a batch of them) lost anything. Not under jit."""
    lost = int(np.max(rendering.overflow))
    if lost > 0:
        # Twice: other poses will need more.
        enough = _with_margin(_largest(rendering.demand), 2.0)
        raise ValueError(f"render: {lost} list entries did not fit; caps={enough} would do")


def _largest(demand: Caps) -> Caps:
    return Caps(*(int(np.max(count)) for count in demand))


def _with_margin(need: Caps, margin: float) -> Caps:
    """In round numbers; a tile's blocks are long ones."""
    steps = Caps(*(64 for _ in need))._replace(tile_blocks=8)
    return Caps(*(-(-int(margin * count) // step) * step for count, step in zip(need, steps, strict=True)))
