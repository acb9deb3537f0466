"""Walking among faces: the space of identities as a sphere, the people in it, and where one stands.

A Sphere Face Model's codes are radius * z with |z| = 1. A Gaussian model's codes, the default model's too, are taken
as direction z on the sphere and length: all angles, walks and ways from one person to another are those of directions,
and the length goes along, evenly. So every person is met exactly (identity_space.py's lifting with a slack direction
would cut off the longest codes).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sfm_jax.geometry import sphere
from sfm_jax.morphable.default import Population, load_default, load_population
from sfm_jax.morphable.model import MorphableModel
from sfm_jax.morphable.statistics import best_gaussian_codes, best_sphere_codes

RANDOM_CODES = 1000  # of a model of another mesh, which has no people
MOST = 1 - 1e-6  # that a component is set to, of the sphere's radius

_slerp, _exponential, _normalise = jax.jit(sphere.slerp), jax.jit(sphere.exponential), jax.jit(sphere.normalise)


class Crowd(NamedTuple):
    """Who there is: z [P, d] on the sphere, length [P] of the codes, albedo [P, A]; are they of the population?"""

    z: np.ndarray
    length: np.ndarray
    albedo: np.ndarray
    are_people: bool


def crowd_of(model: MorphableModel, radius: float | None) -> Crowd:
    """The population as codes of `model`: as they are for the default one, best fits where another basis was learned
    on its mesh. Uniform random directions for other meshes, and empty codes where there are no components. radius: of
    the codes of a sphere model, else None."""
    default = next((default for default in map(load_default, (0, 1)) if _same_mesh(default, model)), None)
    if default is None or not len(model.identity_basis):
        rng = np.random.default_rng(0)
        z = rng.standard_normal((RANDOM_CODES, len(model.identity_basis)))
        length = np.linalg.norm(z, axis=1) if radius is None else np.full(RANDOM_CODES, radius)
        albedo = np.zeros((RANDOM_CODES, len(model.albedo_basis)), np.float32)
        return Crowd(_unit(z), length.astype(np.float32), albedo, are_people=False)
    people = load_population()
    codes = _codes_of(people, default, model, radius)
    albedo = people.albedo if _same(default.albedo_basis, model.albedo_basis) else np.zeros(
        (len(people), len(model.albedo_basis)), np.float32)
    return Crowd(_unit(codes), np.linalg.norm(codes, axis=1).astype(np.float32), albedo, are_people=True)


def _codes_of(people: Population, default, model, radius) -> np.ndarray:
    if radius is None and _same(default.identity_basis, model.identity_basis):
        return people.identity
    # All of it lies in the span of these rows, so that the fits are exact in the few coordinates of an orthonormal
    # basis of it, and quick.
    offset = (default.mean - model.mean)[None]
    rows = np.concatenate([default.identity_basis, model.identity_basis, offset]).reshape(-1, offset.size)
    span = np.linalg.qr(rows.T.astype(np.float64), mode="r").T
    span = np.pad(span, ((0, 0), (0, -span.shape[1] % 3))).reshape(len(rows), -1, 3)
    directions, basis, offset = np.split(span, [people.identity.shape[1], len(rows) - 1])
    shapes = offset + np.tensordot(people.identity, directions, 1)
    nowhere = np.zeros_like(offset[0])
    if radius is None:
        return best_gaussian_codes(shapes, nowhere, basis)
    return radius * best_sphere_codes(shapes, nowhere, basis, radius)


def _same_mesh(a, b):
    return len(a.mean) == len(b.mean) and np.array_equal(a.topology.triangles, b.topology.triangles)


def _same(a, b):
    return a.shape == b.shape and bool(jnp.allclose(a, b, atol=1e-6))


def _unit(codes):
    return (codes / np.linalg.norm(codes, axis=1, keepdims=True)).astype(np.float32)


class Explorer:
    """Where one stands: z [d], a unit vector, its length and the albedo code [A]. Every method leaves |z| = 1.

    fixed_length: codes of a sphere model, which all are of one length.
    """

    def __init__(self, crowd: Crowd, fixed_length: bool, seed: int | None = None):
        self.crowd, self.fixed_length = crowd, fixed_length
        self._rng = np.random.default_rng(seed)
        self.stand(crowd.length[0] * crowd.z[0], crowd.albedo[0])

    @property
    def code(self) -> np.ndarray:
        """length * z, [d]: what the model's basis is multiplied with."""
        return self.length * self.z

    def stand(self, code: np.ndarray, albedo: np.ndarray) -> None:
        """At any code [d]; a code of a fixed length only gives the direction. From here walks start."""
        code, length = np.asarray(code, np.float32), float(np.linalg.norm(code))
        self.z = np.asarray(_normalise(code)) if code.size else code
        self.length = float(self.crowd.length[0]) if self.fixed_length else length
        self.albedo = np.asarray(albedo, np.float32)
        self.turn()

    def go_to(self, person: int) -> None:
        self.stand(self.crowd.length[person] * self.crowd.z[person], self.crowd.albedo[person])

    def random_person(self) -> int:
        """Goes to someone of the crowd, and says to whom. People are not Gaussian: they are drawn, not made up."""
        person = int(self._rng.integers(len(self.crowd.z)))
        self.go_to(person)
        return person

    def between(self, a: int, b: int, t: float) -> None:
        """Fraction t of the way from person a to person b: slerp, length and albedo evenly."""
        crowd = self.crowd
        z = np.asarray(_slerp(crowd.z[a], crowd.z[b], t))
        length = (1 - t) * crowd.length[a] + t * crowd.length[b]
        self.stand(length * z, (1 - t) * crowd.albedo[a] + t * crowd.albedo[b])

    def turn(self) -> None:
        """A new random great circle through where one stands: uniform among the tangents [d], of one number nowhere."""
        tangent = self._rng.standard_normal(len(self.z))
        tangent -= (tangent @ self.z) * self.z.astype(np.float64)
        self._start = self.z
        self._tangent = (tangent / max(np.linalg.norm(tangent), 1e-12)).astype(np.float32)

    def walk(self, angle: float) -> None:
        """To `angle` radians along the great circle, seen from where it was chosen."""
        self.z = np.asarray(_exponential(self._start, np.float32(angle) * self._tangent))

    def component(self, k: int) -> float:
        """Coordinate k in standard deviations: of the code for Gaussian ones, of uniform directions (1 / sqrt(d)) on
        a sphere of a fixed length."""
        return float(self.z[k] * np.sqrt(len(self.z)) if self.fixed_length else self.code[k])

    def set_component(self, k: int, value: float) -> None:
        """Only coordinate k of a Gaussian code changes; on the sphere the others make room, in proportion, and keep a
        little of it, so as to come back in proportion, too."""
        if not self.fixed_length:
            code = self.code.copy()
            code[k] = value
        else:
            code = self.z.astype(np.float64)
            code[k] = np.clip(value / np.sqrt(len(code)), -MOST, MOST)
            others = np.arange(len(code)) != k
            code[others] *= np.sqrt(1 - code[k] ** 2) / max(np.linalg.norm(code[others]), 1e-12)
        self.stand(code, self.albedo)

    def nearest(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """The `count` people at the smallest angles: who [count], and the angles [count] in radians, rising."""
        z = self.z.astype(np.float64)
        cosine = self.crowd.z @ z
        some = np.argpartition(-cosine, count - 1)[:count]
        angles = 2 * np.arctan2(np.linalg.norm(self.crowd.z[some] - z, axis=1),
                                np.linalg.norm(self.crowd.z[some] + z, axis=1))
        order = np.argsort(angles, kind="stable")
        return some[order], angles[order]
