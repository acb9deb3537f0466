"""Wrinkles: a known displacement of the skin, so that learned detail can be measured against the truth.

Drawn on the unrolled mean face of a model with iBUG's 68 landmarks: forehead lines, frown lines, crow's feet, creases
under the eyes, nasolabial folds, lines around the mouth, and a fine grain. Where lines run and how deep they are is
ours, roughly as anatomy has it; they imitate wrinkles and are no statistic of them.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from scipy.spatial import cKDTree

from sfm_jax.geometry.products import einsum
from sfm_jax.morphable.model import MorphableModel
from sfm_jax.render.dense import dense_mesh, dense_vertices
from sfm_jax.render.relief import rounded_vertices
from sfm_jax.render.uv import displace, uv_layout

VARIANTS = 12  # drawings of each group of lines, of which a person has one
SMOOTH = ("eyes", "mouth", "lips", "brows")  # regions without wrinkles
DEPTHS = {  # mm of the deepest line in each group, at strength 1; of the grain its deviation
    "forehead": 1.4, "frown": 1.3, "crows_feet": 1.0, "under_eye": 0.8, "nasolabial": 1.8, "mouth": 1.3, "grain": 0.08,
}
_STEP = 0.25  # mm between the points of a drawn line


class WrinkledSkin:
    """The faces of a model as a dense mesh (render/dense.py), triangles [F', 3], of which every person has wrinkles."""

    def __init__(self, model: MorphableModel, size: int, seed: int):
        """size: of the UV layout whose every texel is a vertex. ValueError: a model without UVs, or see Wrinkles."""
        self._triangles, self._seed = model.topology.triangles, seed
        self._dense = dense_mesh(uv_layout(model.topology, size))
        self._wrinkles = Wrinkles(model, self._dense.corners, self._dense.weights, seed)
        self.triangles = self._dense.triangles

    def __call__(self, vertices: jax.Array, albedo: jax.Array, person: jax.Array, age: jax.Array):
        """Vertices [V, 3] mm and albedo [V, 3] of person [], of some age [] -> those of the dense mesh [V', 3] each,
        and its displacement [V'] mm."""
        smooth = rounded_vertices(vertices, self._triangles, self._dense)
        displacement = self._wrinkles(jax.random.fold_in(jax.random.key(self._seed), person), age)
        return displace(smooth, self.triangles, displacement), dense_vertices(albedo, self._dense), displacement


class Wrinkles:
    """Displacements at V' points of a model's surface: VARIANTS of each group of lines, drawn once for a seed."""

    def __init__(self, model: MorphableModel, corners: np.ndarray, weights: np.ndarray, seed: int):
        """The points lie at weights [V', 3] between the vertices corners [V', 3] of the model (render/dense.py).

        Raises:
          ValueError: a model without the regions "face" and "forehead", whose landmarks are not known to be a face's.
        """
        names = model.topology.region_names
        if not {"face", "forehead"} <= set(names):
            raise ValueError(f"wrinkles: model {model.name!r} has no regions 'face' and 'forehead', has "
                             f"{', '.join(names) or 'none'}")
        mean = np.asarray(model.mean, np.float64)
        unroll = _unrolled(mean)
        points = np.einsum("vk,vkc->vc", weights, mean[corners])
        places, landmarks = unroll(points), unroll(mean[model.topology.landmarks])
        rough = np.einsum("vk,vk->v", weights, _rough(model)[corners])
        self._where = np.flatnonzero(rough > 0.01)
        self._count = len(corners)
        rng = np.random.default_rng([seed, 7])
        drawn = []
        for group, depth in DEPTHS.items():
            for _ in range(VARIANTS):
                values = (_grain(rng, points[self._where]) if group == "grain" else
                          sum(_line(places[self._where], *line) for line in _GROUPS[group](rng, landmarks)))
                drawn.append(depth * rough[self._where] * values)
        # Half precision: a hundredth of a micrometre is more than skin has.
        self._drawn = np.asarray(drawn, np.float16).reshape(len(DEPTHS), VARIANTS, -1)

    def __call__(self, key: jax.Array, age: jax.Array) -> jax.Array:
        """Displacement [V'] in mm, outward, of the person with a random key and an age [] (0.2 a child, 1 old)."""
        which, how = jax.random.split(key)
        chosen = jax.random.randint(which, (len(DEPTHS),), 0, VARIANTS)
        strength = jax.random.uniform(how, (len(DEPTHS),), minval=0.2, maxval=1.0) * (0.35 + 0.65 * age)
        drawn = jnp.asarray(self._drawn)[jnp.arange(len(DEPTHS)), chosen].astype(jnp.float32)
        return jnp.zeros(self._count).at[self._where].set(einsum("g,gv->v", strength, drawn))


def _unrolled(mean: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """A map from points [..., 3] to places [..., 2] in mm on a cylinder around the head, x and y as seen from ahead."""
    axis = (mean[:, 2].max() + mean[:, 2].min()) / 2
    radius = mean[:, 2].max() - axis

    def unroll(points):
        return np.stack([radius * np.arctan2(points[..., 0], points[..., 2] - axis), points[..., 1]], -1)

    return unroll


def _rough(model):
    """Where skin may have wrinkles [V], 0 to 1."""
    smooth = [model.topology.region(name) for name in SMOOTH if name in model.topology.region_names]
    return np.clip(model.topology.region("face") - np.max(smooth, axis=0, initial=0), 0, 1)


def _line(places, points, width, depth):
    """A groove [N] with raised shoulders along a smooth line through points [P, 2], at places [N, 2]; it fades out at
    its ends. width: standard deviation of the groove, mm; depth: of its deepest place."""
    share = np.linspace(0, 1, len(points))
    order = min(len(points) - 1, 3)
    fit = [np.polyfit(share, axis, order) for axis in np.transpose(points)]
    length = np.linalg.norm(np.diff(points, axis=0), axis=1).sum()
    along = np.linspace(0, 1, max(int(length / _STEP), 8))
    line = np.stack([np.polyval(one, along) for one in fit], -1)
    away, nearest = cKDTree(line).query(places, distance_upper_bound=6 * width)
    near = np.isfinite(away)
    fade = np.sqrt(np.clip(np.sin(np.pi * along), 0, 1))[np.where(near, nearest, 0)]
    ratio = np.where(near, away, 0) / width
    groove = -np.exp(-0.5 * ratio**2) + 0.3 * np.exp(-0.5 * ((ratio - 2.4) / 0.9) ** 2)
    return np.where(near, depth * fade * groove, 0.0)


def _grain(rng, points):
    """Fine unevenness [N] of about unit deviation at points [N, 3] mm: plane waves, 3 to 6 mm long."""
    directions = rng.normal(size=(48, 3))
    directions *= 2 * np.pi / rng.uniform(3, 6, (48, 1)) / np.linalg.norm(directions, axis=1, keepdims=True)
    return np.sqrt(2 / 48) * np.cos(points @ directions.T + rng.uniform(0, 2 * np.pi, 48)).sum(1)


# ----------------------------------------------------------- lines: (points [P, 2], width, depth) of the unrolled face

def _forehead(rng, landmarks):
    brow = landmarks[17:27]
    count, middle = rng.integers(3, 6), brow[:, 0].mean()
    half = (brow[:, 0].max() - brow[:, 0].min()) / 2
    for height in brow[:, 1].max() + 7 + (np.arange(count) + rng.uniform(-0.2, 0.2, count)) * rng.uniform(6, 9):
        x = np.linspace(-1, 1, 7) * half * rng.uniform(0.5, 0.95)
        arch = -3 * (x / half) ** 2 * rng.uniform(-0.5, 1.5)
        yield np.stack([middle + rng.normal(0, 3) + x, height + arch + rng.normal(0, 0.7, 7)], -1), \
            rng.uniform(1.2, 1.8), rng.uniform(0.5, 1)


def _frown(rng, landmarks):
    foot = landmarks[[21, 22]].mean(0)
    gap = landmarks[22, 0] - landmarks[21, 0]
    for side in (-1, 1):
        x = foot[0] + side * gap * rng.uniform(0.15, 0.35)
        height = np.linspace(-6, rng.uniform(10, 18), 4)
        yield np.stack([x + side * rng.uniform(-0.1, 0.25) * height, foot[1] + height], -1), \
            rng.uniform(1.1, 1.6), rng.uniform(0.5, 1)


def _crows_feet(rng, landmarks):
    for corner, side in ((36, -1), (45, 1)):
        for angle in np.radians(np.linspace(-38, 38, rng.integers(3, 5)) + rng.normal(0, 5)):
            reach = np.linspace(7, rng.uniform(18, 28), 4)
            bend = rng.normal(0, 0.008) * reach**2
            yield landmarks[corner] + np.stack([side * reach * np.cos(angle), reach * np.sin(angle) + bend], -1), \
                rng.uniform(1.0, 1.4), rng.uniform(0.5, 1)


def _under_eye(rng, landmarks):
    for inner, outer in ((39, 36), (42, 45)):
        ends = landmarks[[inner, outer]]
        share = np.linspace(rng.uniform(-0.1, 0.15), rng.uniform(0.8, 1.1), 5)
        drop = rng.uniform(8, 12) + 4 * np.sin(np.pi * np.clip(share, 0, 1))
        yield ends[0] + share[:, None] * (ends[1] - ends[0]) - np.stack([np.zeros(5), drop], -1), \
            rng.uniform(1.2, 1.7), rng.uniform(0.5, 1)


def _nasolabial(rng, landmarks):
    for wing, corner, side in ((31, 48, -1), (35, 54, 1)):
        start = landmarks[wing] + [side * rng.uniform(6, 9), rng.uniform(1, 5)]
        end = landmarks[corner] + [side * rng.uniform(7, 11), rng.uniform(-6, 0)]
        middle = (start + end) / 2 + [side * rng.uniform(1, 5), 0]
        yield np.stack([start, middle, end]), rng.uniform(1.6, 2.4), rng.uniform(0.6, 1)


def _mouth(rng, landmarks):
    for corner, side in ((48, -1), (54, 1)):
        drop = np.linspace(3, rng.uniform(14, 22), 4)
        yield landmarks[corner] + np.stack([side * (2 + rng.uniform(0, 0.35) * drop), -drop], -1), \
            rng.uniform(1.2, 1.8), rng.uniform(0.4, 1)
    middle = landmarks[57] + rng.uniform(0.35, 0.5) * (landmarks[8] - landmarks[57])
    x = np.linspace(-1, 1, 5) * rng.uniform(9, 15)
    yield middle + np.stack([x, -rng.uniform(0, 0.02) * x**2], -1), rng.uniform(1.4, 2.0), rng.uniform(0.4, 1)


_GROUPS = {"forehead": _forehead, "frown": _frown, "crows_feet": _crows_feet, "under_eye": _under_eye,
           "nasolabial": _nasolabial, "mouth": _mouth}
