"""Scenes for the renderer's tests, and slow references in float64 NumPy that share no code with the renderer."""

import os
from pathlib import Path

import numpy as np
import pytest
import trimesh
from scipy.spatial.transform import Rotation

from sfm_jax.geometry.camera import Orthographic, Perspective
from sfm_jax.morphable.default import load_default
from sfm_jax.render.renderer import surface


def head(subdivisions=3):
    """A ball with a long nose, which hides a cheek when it turns; vertices [V, 3] mm, triangles [F, 3]."""
    ball = trimesh.creation.icosphere(subdivisions=subdivisions, radius=80.0)
    vertices = np.asarray(ball.vertices, np.float64)
    beside = np.sum((vertices[:, :2] - [0.0, -10.0]) ** 2, 1)
    vertices = vertices * [0.8, 1.1, 0.9] + np.where(
        vertices[:, 2:] > 0, np.array([0, 0, 60.0]) * np.exp(-beside / 350)[:, None], 0.0)
    return vertices.astype(np.float32), np.asarray(ball.faces, np.int32)


def grid(columns, rows, position, x=(0.05, 0.95), y=(0.05, 0.95)):
    """A grid of 2 x columns x rows triangles over a rectangle of UV space; position maps uv [U, 2] to [U, 3] mm."""
    u, v = np.meshgrid(np.linspace(*x, columns + 1), np.linspace(*y, rows + 1))
    uv = np.stack([u.ravel(), v.ravel()], 1)
    a = (np.arange(rows)[:, None] * (columns + 1) + np.arange(columns)).ravel()
    b, c, d = a + 1, a + columns + 2, a + columns + 1
    return position(uv).astype(np.float32), np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)]), uv


def octahedral_sphere(count, radius):
    """A closed sphere over the whole UV square (Engelhardt & Dachsbacher 2008), its border folded upon itself."""
    square, triangles, uv = grid(count, count, lambda uv: np.pad(2 * uv - 1, ((0, 0), (0, 1))), (0, 1), (0, 1))
    x, y, _ = np.float64(square).T
    # A quad's diagonal lies along the octahedron's edges |x| + |y| = 1: flip those that cross it.
    half = len(triangles) // 2
    a, b, c, d = triangles[:half, 0], triangles[:half, 1], triangles[:half, 2], triangles[half:, 2]
    across = ((x[a] + x[c]) * (y[a] + y[c]) > 0)[:, None]
    triangles = np.concatenate([np.where(across, np.stack([a, b, d], 1), triangles[:half]),
                                np.where(across, np.stack([b, c, d], 1), triangles[half:])])
    z = 1 - abs(x) - abs(y)
    fold = np.maximum(-z, 0)
    points = np.stack([x - np.sign(x) * fold, y - np.sign(y) * fold, z], 1)
    _, first, weld = np.unique(points.round(6), axis=0, return_index=True, return_inverse=True)
    points = points[first] / np.linalg.norm(points[first], axis=1, keepdims=True)
    return surface(weld.ravel()[triangles], uv, triangles), (radius * points).astype(np.float32)


def plane(uv):
    return np.stack([120 * uv[:, 0] - 60, 80 * uv[:, 1] - 40, 10 * uv[:, 0]], 1)


def colours(vertices):
    """Smooth vertex colours [V, 3] in [0.1, 0.9]."""
    return (0.5 + 0.4 * np.sin(vertices / [23.0, 31.0, 40.0] + [0.0, 1.0, 2.0])).astype(np.float32)


def embedded():
    """The embedded face at detail 1."""
    model = load_default(1)
    return np.asarray(model.mean, np.float64), model.topology.triangles


def ict():
    """The 9.4k-vertex ICT face; skips the test where SFM_JAX_TEST_DATA does not hold it."""
    path = Path(os.environ.get("SFM_JAX_TEST_DATA", "/nowhere")) / "ict" / "ict_face_f16.npz"
    if not path.exists():
        pytest.skip("SFM_JAX_TEST_DATA has no ict/ict_face_f16.npz")
    with np.load(path, allow_pickle=False) as file:
        return file["mean"] * np.float32(10), file["faces"].astype(np.int32)


def cameras(vertices, size, count, perspective, seed=0):
    """`count` cameras around the mesh, at random rotations, that fill about 80 % of an image of size x size."""
    middle = (vertices.max(0) + vertices.min(0)) / 2
    radius = np.linalg.norm(vertices - middle, axis=1).max()
    distance = 5 * radius
    for rotation in Rotation.random(count, rng=np.random.default_rng(seed)).as_matrix():
        centre = np.full(2, size / 2, np.float32)
        rotation, scale = rotation.astype(np.float32), np.float32(0.4 * size / radius)
        offset = -rotation @ middle
        if perspective:
            yield Perspective(rotation, offset - np.float32([0, 0, distance]), scale * distance, centre)
        else:
            yield Orthographic(rotation, offset, scale, centre)


def as_float64(camera):
    return {name: np.asarray(value, np.float64) for name, value in vars(camera).items()}


def rays(camera, size):
    """Origins, directions [size^2, 3] of the pixel centres' rays in the world, float64."""
    c = as_float64(camera)
    row, column = np.mgrid[:size, :size] + 0.5
    right, up = (column - c["centre"][0]).ravel(), (c["centre"][1] - row).ravel()
    if "focal" in c:
        direction = np.stack([right / c["focal"], up / c["focal"], -np.ones_like(up)], 1)
        origin = np.zeros_like(direction)
    else:
        origin = np.stack([right / c["scale"], up / c["scale"], np.full_like(up, 1e4)], 1)
        direction = np.broadcast_to([0.0, 0.0, -1.0], origin.shape)
    return (origin - c["translation"]) @ c["rotation"], direction @ c["rotation"]


def cast(vertices, triangles, origin, direction, chunk=256):
    """Moeller & Trumbore 1997 against every triangle: nearest triangle (-1), its ray parameter, edge clearance [P].

    The clearance is the least barycentric coordinate of the hit, and of near misses in front of it: pixels where
    it is tiny are decided by rounding.
    """
    a, b, c = (vertices.astype(np.float64)[triangles[:, k]] for k in range(3))
    ids, parameters, clearances = [], [], []
    for start in range(0, len(origin), chunk):
        o, d = origin[start:start + chunk, None], direction[start:start + chunk, None]
        h = np.cross(d, c - a)
        determinant = np.sum((b - a) * h, -1)
        with np.errstate(all="ignore"):
            s = o - a
            u = np.sum(s * h, -1) / determinant
            q = np.cross(s, b - a)
            v, t = np.sum(d * q, -1) / determinant, np.sum((c - a) * q, -1) / determinant
        least = np.nan_to_num(np.minimum(np.minimum(u, v), 1 - u - v), nan=-1.0, posinf=-1.0, neginf=-1.0)
        nearest = np.where((least >= 0) & (t > 0), t, np.inf)
        hit = np.argmin(nearest, 1)
        rows = np.arange(len(hit))
        found = np.isfinite(nearest[rows, hit])
        ids.append(np.where(found, hit, -1))
        parameters.append(nearest[rows, hit])
        relevant = (t > 0) & (t <= nearest[rows, hit][:, None] * 1.001)
        clearances.append(np.min(np.where(relevant, np.abs(least), 1.0), 1))
    return np.concatenate(ids), np.concatenate(parameters), np.concatenate(clearances)


def project(camera, vertices):
    """Image points and camera-space z of vertices in float64: the textbook formulas."""
    c = as_float64(camera)
    p = np.asarray(vertices, np.float64) @ c["rotation"].T + c["translation"]
    scale = (c["focal"] / -p[:, 2] if "focal" in c else np.full(len(p), c["scale"]))
    return np.stack([c["centre"][0] + scale * p[:, 0], c["centre"][1] - scale * p[:, 1], p[:, 2]], 1)


def softras(points, triangles, corner_colours, size, sigma, gamma, background=0.0):
    """Soft Rasterizer's full aggregation (Liu et al., ICCV 2019, equations 1-5) -> colour [H, W, 3], alpha [H, W].

    points [V, 3] (x px, y px, z: larger is nearer) with back faces left out. `sigma` in square pixels. float64.
    The background is composited by alpha: its share in the paper's softmax depends on the units of depth, and lets a
    surface bleed several pixels over its outline.
    """
    p = points[triangles]
    area = _cross(p[:, 1] - p[:, 0], p[:, 2] - p[:, 0])
    p, corner_colours, area = p[area < 0], corner_colours[area < 0], area[area < 0]
    pixel = (np.mgrid[:size, :size].reshape(2, -1).T[:, None, ::-1]) + 0.5
    weights = np.stack([_cross(p[:, (k + 1) % 3, :2] - pixel, p[:, (k + 2) % 3, :2] - pixel) for k in range(3)], -1)
    weights = weights / area[:, None]
    squared = np.min([_squared_distance(pixel, p[:, k, :2], p[:, (k + 1) % 3, :2]) for k in range(3)], 0)
    signed = np.where(weights.min(-1) >= 0, squared, -squared) / sigma
    log_probability = -np.logaddexp(0, -signed)
    alpha = 1 - np.exp(np.sum(-np.logaddexp(0, signed), 1))
    clipped = np.clip(weights, 0, 1)
    clipped /= clipped.sum(-1, keepdims=True)
    low, high = points[:, 2].min(), points[:, 2].max()
    depth = (np.sum(clipped * p[:, :, 2], -1) - low) / (high - low)
    logits = depth / gamma + log_probability
    share = np.exp(logits - logits.max(1, keepdims=True))
    share /= share.sum(1, keepdims=True)
    colour = np.einsum("pf,pfc->pc", share, np.einsum("pfk,fkc->pfc", clipped, corner_colours))
    colour = alpha[:, None] * colour + (1 - alpha[:, None]) * background
    return colour.reshape(size, size, -1), alpha.reshape(size, size)


def _cross(a, b):
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]


def _squared_distance(pixel, a, b):
    side = b - a
    share = np.clip(np.sum((pixel - a) * side, -1) / np.sum(side * side, -1), 0, 1)
    return np.sum((pixel - a - share[..., None] * side) ** 2, -1)


def differences(function, at, step):
    """Central differences of a scalar function at a float64 array, one coordinate after the other."""
    gradient = np.zeros(at.size)
    for i in range(at.size):
        nudge = np.zeros(at.size)
        nudge[i] = step
        nudge = nudge.reshape(at.shape)
        gradient[i] = (function(at + nudge) - function(at - nudge)) / (2 * step)
    return gradient.reshape(at.shape)


def agreement(a, b):
    """Cosine of two arrays, and the ratio of their norms."""
    a, b = np.asarray(a, np.float64).ravel(), np.asarray(b, np.float64).ravel()
    return a @ b / (np.linalg.norm(a) * np.linalg.norm(b)), np.linalg.norm(a) / np.linalg.norm(b)
