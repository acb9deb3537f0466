"""From a scan or point cloud to the codes of a face model: where the face is, who it is, and what the model lacks.

Three steps. Rigid: from landmarks, or from a search over rotations. Codes: the most probable face by iteratively
reweighted Gauss-Newton (Amberg, Knothe & Vetter, FG 2008): every point of the scan is near its closest point of the
surface, by a deviation that the points themselves tell; Tukey's weights and the surface's rim leave out hair, clothes
and strays; codes are Gaussian, expressions within their bounds. Places without points are filled by the prior alone.
Displacement, if asked: a smooth field for what the codes cannot say (Sorkine & Alexa's Laplacian prior, solved
sparsely). Scans go to the model, never the model to the scan: holes do not pull. Host side; ours, but for the methods.
"""

import dataclasses
import functools
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy.linalg
import scipy.optimize
import scipy.sparse
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from sfm_jax.array_files import triangle_indices
from sfm_jax.geometry.closest_point import Surface, check_points, sample_surface
from sfm_jax.geometry.icp import Similarity, similarity_between
from sfm_jax.geometry.smooth_field import curvature_matrix, place_matrix, smooth_field
from sfm_jax.inference.scan_checks import check_units, known_landmarks, unit, unit_normals
from sfm_jax.inference.scan_start import find_starts
from sfm_jax.morphable.model import MorphableModel

_JAW = 17  # landmarks that slide on the surface as the head turns: used for the start alone
_RIGID = 5  # steps at first in which the pose alone moves
_TUKEY = 4.685  # deviations beyond which a point has no pull: 95 % efficient for Gaussian noise


@dataclasses.dataclass(frozen=True)
class Settings:
    """samples: points used, at most, for the codes; independent: how many of them they count as, at most: what the
    model lacks, and what noise does where a surface curves, is alike in neighbouring points; deviation: mm, of points
    from the surface, at least; landmark_deviation: mm; expression_deviation: of activations, of others as much in their
    unit; facing: least cosine of a point's normal, where given, with the surface's; iterations: at most; tolerance: mm,
    root mean square move of the surface below which it ends; bending (per mm) and displacement (mm): deviations of the
    displacement field's Laplacian and of the field; seed: of the choice of points."""

    samples: int = 8000
    independent: int = 800
    deviation: float = 0.3
    landmark_deviation: float = 3.0
    expression_deviation: float = 0.3
    facing: float = 0.5
    iterations: int = 60
    tolerance: float = 0.02
    bending: float = 0.05
    displacement: float = 3.0
    seed: int = 0


class ScanReport(NamedTuple):
    """start: "given", "landmarks" or "search"; converged, iterations: of the codes; deviation: mm of the model, the
    robust standard deviation of the points about the surface; used: share of the points that pull; moves: mm, of each
    iteration."""

    start: str
    converged: bool
    iterations: int
    deviation: float
    used: float
    moves: tuple[float, ...]


class ScanFit(NamedTuple):
    """identity [K], expression [E]; vertices [V, 3] mm in the model's axes, displacement included; rotation [3, 3],
    translation [3], scale: from there to the scan; distances [N] of every point to the surface, in the scan's unit;
    report."""

    identity: Float[np.ndarray, " K"]
    expression: Float[np.ndarray, " E"]
    rotation: Float[np.ndarray, "3 3"]
    translation: Float[np.ndarray, "3"]
    scale: float
    vertices: Float[np.ndarray, "V 3"]
    distances: Float[np.ndarray, " N"]
    report: ScanReport

    @property
    def placed(self) -> Float[np.ndarray, "V 3"]:
        """The vertices [V, 3] where the scan is, in its unit."""
        return Similarity(self.rotation, self.translation, self.scale).apply(self.vertices)


def fit_scan(
    model: MorphableModel, points: Float[np.ndarray, "N 3"], *, normals: Float[np.ndarray, "N 3"] | None = None,
    landmarks: Float[np.ndarray, "68 3"] | None = None, start: Similarity | None = None, scale: bool = False,
    displace: bool = False, settings: Settings = Settings(),
) -> ScanFit:
    """The face of a scan.

    Args:
      model: any MorphableModel.
      points: [N, 3], in millimetres unless `scale`; in any order, position and rotation. Not all need be of the face.
      normals: [N, 3] outward, of any length, or None.
      landmarks: [68, 3] (iBUG order) in the scan's frame, rows of NaN where unknown, at least three known; or None.
      start: from the model's axes to the scan's, instead of a search. With neither, rotations of all directions are
        tried (scan_start.py), which assumes that most points are of the face and its surroundings in the model.
      scale: whether the scan has a size of its own. Its unit is then arbitrary.
      displace: whether vertices may leave the model in the end.
      settings: of the search.

    Returns:
      ScanFit. ValueError, one line, for input of a wrong shape, size or unit.
    """
    points = np.asarray(points, np.float64)
    check_points(points)
    normals = None if normals is None else unit_normals(normals, points)
    if not scale:
        check_units(model, points)
    landmarks = None if landmarks is None else known_landmarks(model, points, landmarks, scale)
    chosen = np.random.default_rng(settings.seed).permutation(len(points))[:settings.samples]
    sample = points[chosen]
    sample_normals = None if normals is None else normals[chosen]
    how = "given" if start is not None else "search" if landmarks is None else "landmarks"
    if how == "landmarks":
        which, places = landmarks
        start = similarity_between(np.asarray(model.mean)[which], places, scale=scale)
    problem = _Problem(model, sample, sample_normals, landmarks, scale, settings)
    if how == "search":
        start = problem.best_of(find_starts(model, sample, scale))
    if normals is not None:
        _check_outward(problem, start)
    state, report = problem.solve(start, how)
    if not report.used:
        raise ValueError("points: none came to lie on the face, expected a scan of one")
    vertices = problem.vertices(state)
    if displace:
        more = np.random.default_rng(settings.seed).permutation(len(points))[:5 * settings.samples]
        everything = dataclasses.replace(problem, points=points[more],
                                         normals=None if normals is None else normals[more])
        vertices = everything.displaced(state, vertices)
    surface = Surface(vertices, model.topology.triangles)
    distances = surface.closest(state.motion.undo(points)).distances * state.motion.scale
    codes = state.codes.astype(np.float32)
    count = len(model.identity_basis)
    return ScanFit(codes[:count], codes[count:], *state.motion, vertices.astype(np.float32), distances, report)


def load_scan(
    path: str | Path, samples: int = 100_000, seed: int = 0
) -> tuple[Float[np.ndarray, "N 3"], Float[np.ndarray, "N 3"] | None]:
    """points [N, 3] and outward normals [N, 3] of a mesh, uniform over its surface; of a point cloud, those in the file
    and None. Any format that trimesh reads, OBJ and PLY among them. ValueError for a file that is none."""
    import trimesh

    try:
        scene = trimesh.load(path, process=False)
        mesh = scene.to_mesh() if isinstance(scene, trimesh.Scene) else scene
        vertices, triangles = np.asarray(mesh.vertices, np.float64), np.asarray(getattr(mesh, "faces", ()))
    except Exception as error:  # trimesh's readers raise whatever the damaged text led them to
        raise ValueError(f"{path}: not a readable mesh ({type(error).__name__}: {error})") from None
    check_points(vertices, f"{path}: vertices")
    if not len(triangles):
        return vertices, None
    triangles = triangle_indices(path, "triangles", triangles, len(vertices))
    found = sample_surface(vertices, triangles, samples, np.random.default_rng(seed))
    return found.points, Surface(vertices, triangles).normals[found.triangles]


class _State(NamedTuple):
    codes: np.ndarray  # identity and expression, [K + E]
    motion: Similarity


class _Matches(NamedTuple):
    """Of the points: in the model's axes [N, 3]; closest points there [N, 3]; what is at a point's place as a matrix
    [N, V]; normals [N, 3]; weights [N] in [0, 1]; deviation, mm."""

    points: np.ndarray
    feet: np.ndarray
    places: scipy.sparse.csr_matrix
    normals: np.ndarray
    weights: np.ndarray
    deviation: float


@dataclasses.dataclass(frozen=True)
class _Problem:
    model: MorphableModel
    points: np.ndarray
    normals: np.ndarray | None
    landmarks: tuple[np.ndarray, np.ndarray] | None
    scale: bool
    settings: Settings

    @functools.cached_property
    def mean(self):
        return np.asarray(self.model.mean, np.float64)

    @functools.cached_property
    def basis(self):
        """[3 V, K + E]"""
        bases = np.concatenate([np.asarray(self.model.identity_basis), np.asarray(self.model.expression_basis)])
        return np.ascontiguousarray(bases.reshape(len(bases), -1).T)

    def vertices(self, state):
        return self.mean + (self.basis @ state.codes.astype(np.float32)).reshape(-1, 3)

    def best_of(self, starts):
        """Of several starts the one from which a face comes nearest to a few of the points. Each may change the shape a
        little first: the mean face at a wrong pose can be nearer than at the right one."""
        few = slice(self.settings.samples // 5)
        quick = dataclasses.replace(self.settings, iterations=2 * _RIGID + 2)
        part = dataclasses.replace(self, points=self.points[few], settings=quick,
                                   normals=None if self.normals is None else self.normals[few])
        states = [part.solve(start, "search")[0] for start in starts]
        return min(states, key=part.misfit).motion

    def misfit(self, state):
        """Mean squared distance of the points, mm^2, those that are far counting as `displacement` times 3."""
        surface = Surface(self.vertices(state), self.model.topology.triangles)
        distances = surface.closest(state.motion.undo(self.points)).distances
        return float(np.square(np.minimum(distances, 3 * self.settings.displacement)).mean())

    def solve(self, start, how):
        settings = self.settings
        codes = np.zeros(self.basis.shape[1])
        state, moves, converged = _State(codes, start), [], False
        for count in range(settings.iterations):
            vertices = self.vertices(state)
            matches = self.match(state.motion, vertices)
            state, move = self.step(state, vertices, matches, rigid=count < _RIGID)
            moves.append(move)
            if count > _RIGID and move < settings.tolerance:
                converged = True
                break
        matches = self.match(state.motion, self.vertices(state))
        used = float((matches.weights > 0).mean())
        return state, ScanReport(how, converged, len(moves), float(matches.deviation), used, tuple(moves))

    def match(self, motion, vertices, reach=0.0) -> _Matches:
        """What the points mean for a surface; they pull up to `reach` mm, or as far as their deviation allows."""
        surface = Surface(vertices, self.model.topology.triangles)
        points = motion.undo(self.points)
        found = surface.closest(points)
        places = place_matrix(surface.triangles, found.triangles, found.barycentric, len(vertices))
        normals = unit(places @ _vertex_normals(vertices, self.model.topology.triangles))
        usable = ~surface.on_border(found)
        if self.normals is not None:
            turned = self.normals @ motion.rotation
            usable &= (turned * normals).sum(1) > self.settings.facing
        away = found.distances
        typical = 1.4826 * np.median(away[usable]) if usable.any() else np.inf
        deviation = max(typical, self.settings.deviation)
        weights = usable * np.square(np.maximum(1 - np.square(away / max(_TUKEY * deviation, reach)), 0))
        return _Matches(points, found.points, places, normals, weights, deviation)

    def step(self, state, vertices, matches, rigid):
        """The state after one Gauss-Newton step, and how far it moved the surface there, mm."""
        settings, motion = self.settings, state.motion
        identities = len(self.model.identity_basis)
        middle = np.average(matches.feet, axis=0, weights=matches.weights + 1e-12)
        evidence = min(1.0, settings.independent / max(matches.weights.sum(), 1e-12))
        root = np.sqrt(matches.weights * evidence) / matches.deviation
        rows = [self._jacobian(matches.places, matches.normals, matches.feet - middle) * root[:, None]]
        residuals = [((matches.points - matches.feet) * matches.normals).sum(1) * root]
        if self.landmarks is not None:
            more = self._landmark_rows(motion, vertices, middle)
            rows.append(more[0] / settings.landmark_deviation)
            residuals.append(more[1] / settings.landmark_deviation)
        # Single precision suffices for a step, and takes half the time.
        jacobian, residual = (np.concatenate(parts).astype(np.float32) for parts in (rows, residuals))
        deviation = np.concatenate([np.ones(identities), np.full(len(state.codes) - identities,
                                                                 settings.expression_deviation
                                                                 * self.model.expression_unit)])
        pose = jacobian.shape[1] - len(state.codes)
        square, right = ((jacobian.T @ x).astype(np.float64) for x in (jacobian, residual))
        square[np.diag_indices(len(square))] += np.concatenate([np.full(pose, 1e-6), deviation**-2])
        right[pose:] -= state.codes / deviation**2
        change = np.zeros(len(square))
        if rigid:
            change[:pose] = scipy.linalg.solve(square[:pose, :pose], right[:pose], assume_a="pos")
        else:
            low, high = (bound - state.codes[identities:] for bound in self.model.expression_bounds)
            change = _bounded_solve(square, right, low, high, pose + identities)
        codes = state.codes + change[pose:]
        turn = Rotation.from_rotvec(change[:3]).as_matrix()
        factor = float(np.exp(change[6])) if self.scale else 1.0
        moved = Similarity(turn, middle - factor * turn @ middle + change[3:6], factor)
        new = _State(codes, moved.then(motion))
        shift = moved.apply(matches.places @ self.vertices(new)) - matches.feet
        return new, float(np.sqrt(np.average(np.square(shift).sum(1), weights=matches.weights + 1e-12)))

    def _landmark_rows(self, motion, vertices, middle):
        """Jacobian and residuals, mm, of the landmarks that keep their place on the surface, axis by axis."""
        which, places = self.landmarks
        inner = np.isin(which, self.model.topology.landmarks[_JAW:])
        at, target = vertices[which[inner]], motion.undo(places[inner])
        pick = scipy.sparse.csr_matrix((np.ones(len(at)), (np.arange(len(at)), which[inner])),
                                       shape=(len(at), len(vertices)))
        rows = [self._jacobian(pick, np.broadcast_to(axis, at.shape), at - middle) for axis in np.eye(3)]
        return np.concatenate(rows), (target - at).T.ravel()

    def _jacobian(self, places, normals, arms):
        """[N, 6 (+ 1) + K + E]: of the height at `places` along `normals` [N, 3], by the pose and the codes."""
        count, vertices = places.shape
        columns = [np.cross(arms, normals), normals]
        if self.scale:
            columns.append((arms * normals).sum(1, keepdims=True))
        each = np.diff(places.indptr)
        along = (places.data[:, None] * np.repeat(normals, each, axis=0)).ravel().astype(np.float32)
        indices = (3 * places.indices[:, None] + np.arange(3)).ravel()
        heights = scipy.sparse.csr_matrix((along, indices, 3 * places.indptr), shape=(count, 3 * vertices))
        return np.concatenate([*columns, heights @ self.basis], 1)

    def displaced(self, state, vertices, rounds=5):
        """Vertices [V, 3] with the most probable smooth field added that brings the surface to the points. What is far
        pulls at first, for it may be what the codes could not say; what the field does not reach either is a stray."""
        laplacian = curvature_matrix(vertices, self.model.topology.triangles)
        field = np.zeros_like(vertices)
        for count in range(rounds):
            reach = 3 * self.settings.displacement / 2**count
            matches = self.match(state.motion, vertices + field, reach)
            height = ((matches.points - matches.feet) * matches.normals).sum(1, keepdims=True)
            field = smooth_field(matches.places, matches.places @ field + height * matches.normals,
                                 matches.weights / matches.deviation**2, laplacian,
                                 self.settings.bending**-2, self.settings.displacement**-2)
        return vertices + field


def _bounded_solve(matrix, right, low, high, first):
    """x [n] of least x . matrix x / 2 - right . x, from `first` on within [low, high]; matrix [n, n] symmetric positive
    definite. What has no bounds is solved for in closed form, as a function of the few that have."""
    if first == len(matrix):
        return scipy.linalg.solve(matrix, right, assume_a="pos")
    factor = scipy.linalg.cho_factor(matrix[:first, :first])
    solved = scipy.linalg.cho_solve(factor, np.column_stack([matrix[:first, first:], right[:first]]))
    reduced = matrix[first:, first:] - matrix[first:, :first] @ solved[:, :-1]
    goal = right[first:] - matrix[first:, :first] @ solved[:, -1]
    root = scipy.linalg.cholesky(reduced)
    target = scipy.linalg.solve_triangular(root, goal, trans="T")
    bounded = scipy.optimize.lsq_linear(root, target, (low, high), method="bvls").x
    return np.concatenate([solved[:, -1] - solved[:, :-1] @ bounded, bounded])


def _check_outward(problem, motion):
    """ValueError where the points that lie on the mean face, moved, have normals into it."""
    near = dataclasses.replace(problem, normals=None).match(motion, problem.mean)
    facing = (problem.normals @ motion.rotation * near.normals).sum(1)
    if (facing * near.weights).sum() < 0:
        raise ValueError("normals: most of those at the face point into it, expected outward ones")


def _vertex_normals(vertices, triangles):
    a, b, c = np.moveaxis(vertices[triangles], 1, 0)
    each = np.repeat(np.cross(b - a, c - a), 3, axis=0)
    return unit(np.stack([np.bincount(triangles.ravel(), each[:, k], len(vertices)) for k in range(3)], 1))
