"""Studio pictures of meshes for reports: an orthographic z-buffer in NumPy, on the host, for looking only.

The differentiable renderer is another thing; this one needs no camera, no model and no compilation.
"""

import matplotlib
import numpy as np

CLAY = (0.80, 0.74, 0.69)  # sRGB
BACKGROUND = (0.955, 0.955, 0.95)
COLORMAP = "viridis"
SUPERSAMPLING = 2
FRAGMENTS_AT_ONCE = 4_000_000

# direction (x right, y up, z to the viewer), linear RGB, wrap: how far the light reaches past the terminator
LIGHTS = (
    ((-0.65, 0.70, 0.60), (0.86, 0.82, 0.76), 0.05),  # key: large, warm, upper left
    ((0.85, 0.10, 0.55), (0.17, 0.20, 0.24), 0.30),  # fill: dim, cool, right
    ((0.55, 0.45, -0.75), (0.38, 0.40, 0.44), 0.00),  # rim: from behind
)
SKY, GROUND = (0.17, 0.18, 0.20), (0.08, 0.07, 0.06)
GLOSS, SHININESS = 0.10, 18.0


def shaded(
    vertices: np.ndarray,
    triangles: np.ndarray,
    size: int = 220,
    yaw: float = 0.0,
    pitch: float = 0.0,
    color: np.ndarray | tuple[float, float, float] = CLAY,
    limits: tuple[float, float] | None = None,
    colormap: str = COLORMAP,
    frame: tuple[np.ndarray, float] | None = None,
    background: tuple[float, float, float] | None = BACKGROUND,
) -> np.ndarray:
    """A softly lit picture of a mesh, uint8 sRGB [size, size, 3]. Back faces are culled.

    Args:
      vertices: [V, 3] mm, x right, y up, z to the viewer.
      triangles: [F, 3] int, outward counter-clockwise.
      size: side of the square picture in pixels.
      yaw, pitch: degrees; positive yaw turns the face to the image's right, positive pitch turns it up.
      color: sRGB in [0, 1], [3] or [V, 3]; or one number for each vertex, [V], drawn through `colormap`.
      limits: values at the ends of the colormap; None spans the numbers given.
      frame: centre [3] and width in mm of what is shown, for pictures that shall match; None is `framing`.
      background: sRGB; None makes it transparent and the result RGBA, [size, size, 4].
    """
    vertices = np.asarray(vertices, np.float32)
    triangles = np.asarray(triangles, np.int64)
    centre, width = framing(vertices) if frame is None else frame
    pixels = size * SUPERSAMPLING
    turned = (vertices - np.asarray(centre, np.float32)) @ _turn(yaw, pitch).T
    screen = turned * np.array([1, -1, 1]) * (pixels / width) + np.array([pixels / 2, pixels / 2, 0])

    covered, triangle, barycentric = _visible(screen, triangles, pixels)
    corners = triangles[triangle]
    normals = _interpolate(_vertex_normals(turned, triangles), corners, barycentric)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
    is_scalar = np.ndim(color) == 1 and len(color) == len(vertices)
    albedo = _albedo(np.asarray(color), len(vertices), limits, colormap if is_scalar else None)

    image = np.zeros((pixels * pixels, 4), np.float32)
    image[covered, :3] = _lit(_interpolate(albedo, corners, barycentric), normals, is_scalar)
    image[covered, 3] = 1
    image = image.reshape(size, SUPERSAMPLING, size, SUPERSAMPLING, 4).mean((1, 3))
    color, coverage = image[..., :3], image[..., 3:]
    if background is None:
        image = np.concatenate([to_srgb(color / np.maximum(coverage, 1e-6)), coverage], -1)
    else:
        image = to_srgb(color + (1 - coverage) * _to_linear(np.asarray(background, np.float32)))
    return np.round(255 * image).astype(np.uint8)


def framing(vertices: np.ndarray, margin: float = 1.08) -> tuple[np.ndarray, float]:
    """Centre [3] and width (mm) of a square view that holds the mesh [V, 3] seen from the front; a face turned, too."""
    low, high = vertices.min(0), vertices.max(0)
    return (low + high) / 2, float(margin * (high - low).max())


def _turn(yaw: float, pitch: float) -> np.ndarray:
    """Rotation by yaw about y, then by pitch about x."""
    (cy, sy), (cp, sp) = ((np.cos(a), np.sin(a)) for a in np.radians([yaw, pitch]))
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cp, sp], [0, -sp, cp]])
    return (about_x @ about_y).astype(np.float32)


def _visible(screen: np.ndarray, triangles: np.ndarray, pixels: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels covered by a front face: flat index [P], nearest triangle [P], barycentric coordinates [P, 3]."""
    corners = screen[triangles]
    edges = corners[:, [2, 0, 1]] - corners[:, [1, 2, 0]]  # opposite each corner
    doubled_area = edges[:, 0, 1] * edges[:, 1, 0] - edges[:, 0, 0] * edges[:, 1, 1]  # > 0 in front, rows run down
    low = np.ceil(corners[..., :2].min(1) - 0.5).astype(np.int64).clip(0)  # pixel centres at + 0.5
    high = np.floor(corners[..., :2].max(1) - 0.5).astype(np.int64).clip(max=pixels - 1)
    extent = (high - low + 1).max(1)
    drawn = np.flatnonzero((doubled_area > 1e-9) & (high >= low).all(1))
    bucket = np.ceil(np.log2(extent[drawn])).astype(np.int64)

    fragments = []
    for power in np.unique(bucket):
        members, side = drawn[bucket == power], 2**power
        for part in np.array_split(members, -(-len(members) * side**2 // FRAGMENTS_AT_ONCE)):
            fragments.append(_fragments(part, side, corners, edges, doubled_area, low, high, pixels))
    if not fragments:
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 3), np.float32)
    pixel, triangle, barycentric, depth = (np.concatenate(x) for x in zip(*fragments, strict=True))
    order = np.lexsort((-depth, pixel))
    nearest = order[np.append(True, np.diff(pixel[order]) > 0)] if len(order) else order
    return pixel[nearest], triangle[nearest], barycentric[nearest]


def _fragments(members, side, corners, edges, doubled_area, low, high, pixels):
    """Pixel, triangle, barycentric coordinates and depth wherever one of `members` covers a pixel centre."""
    corners, edges = corners[members], edges[members]
    step = np.arange(side)
    x = low[members, 0, None] + step  # [M, side]
    y = low[members, 1, None] + step
    # Edge functions are a term in x minus a term in y: two [M, 3, side] tables make the [M, 3, side, side] of them.
    start = corners[:, [1, 2, 0]]
    along_x = edges[:, :, 1, None] * (x[:, None] + 0.5 - start[:, :, 0, None])
    along_y = edges[:, :, 0, None] * (y[:, None] + 0.5 - start[:, :, 1, None])
    inside = (x <= high[members, 0, None])[:, None, :] & (y <= high[members, 1, None])[:, :, None]
    for corner in range(3):
        inside &= along_x[:, corner, None, :] >= along_y[:, corner, :, None]
    m, row, column = np.nonzero(inside)
    barycentric = (along_x[m, :, column] - along_y[m, :, row]) / doubled_area[members[m], None]
    depth = np.einsum("pk,pk->p", barycentric, corners[m, :, 2])
    return y[m, row] * pixels + x[m, column], members[m], barycentric, depth


def _lit(albedo: np.ndarray, normals: np.ndarray, is_scalar: bool) -> np.ndarray:
    """Linear RGB [P, 3] of studio light on albedo [P, 3]; gentler for a colour-coded number, which shall be read."""
    up = (normals[:, 1:2] + 1) / 2
    diffuse = up * np.array(SKY, np.float32) + (1 - up) * np.array(GROUND, np.float32)
    gloss = np.zeros((len(normals), 1), np.float32)
    for direction, light, wrap in LIGHTS:
        direction = np.array(direction, np.float32) / np.float32(np.linalg.norm(direction))
        diffuse += ((normals @ direction + wrap) / (1 + wrap)).clip(0)[:, None] * np.array(light, np.float32)
        halfway = (direction + [0, 0, 1]) / np.linalg.norm(direction + [0, 0, 1])
        gloss += (normals @ halfway.astype(np.float32)).clip(0)[:, None] ** SHININESS * light[1]
    if is_scalar:
        return albedo * (0.4 + 0.6 * diffuse)
    return albedo * diffuse + GLOSS * gloss


def _albedo(color: np.ndarray, count: int, limits: tuple[float, float] | None, colormap: str | None) -> np.ndarray:
    """Linear RGB for each vertex, [V, 3]."""
    if colormap is not None:
        low, high = (color.min(), color.max()) if limits is None else limits
        color = matplotlib.colormaps[colormap]((color - low) / max(high - low, 1e-12))[:, :3]
    if color.shape not in ((3,), (count, 3)):
        raise ValueError(f"color: expected [3], [{count}, 3] or [{count}], found {list(color.shape)}")
    return _to_linear(np.broadcast_to(color, (count, 3)).astype(np.float32))


def _vertex_normals(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Area-weighted normals [V, 3], not of unit length."""
    a, b, c = vertices[triangles[:, 0]], vertices[triangles[:, 1]], vertices[triangles[:, 2]]
    faces = np.repeat(np.cross(b - a, c - a), 3, axis=0)
    sums = [np.bincount(triangles.ravel(), faces[:, axis], len(vertices)) for axis in range(3)]
    normals = np.stack(sums, 1).astype(np.float32)
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)


def _interpolate(values: np.ndarray, corners: np.ndarray, barycentric: np.ndarray) -> np.ndarray:
    return np.einsum("pk,pkc->pc", barycentric.astype(np.float32), values[corners])


def _to_linear(srgb: np.ndarray) -> np.ndarray:
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4).astype(np.float32)


def to_srgb(linear: np.ndarray) -> np.ndarray:
    """sRGB in [0, 1] of linear RGB, clipped (IEC 61966-2-1)."""
    linear = np.clip(np.asarray(linear), 0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
