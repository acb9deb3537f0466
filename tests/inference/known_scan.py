"""A scan made of a face that is known."""

import jax.numpy as jnp
import numpy as np
from scipy.spatial.transform import Rotation

from sfm_jax.geometry.closest_point import Surface, closest_points, sample_surface
from sfm_jax.geometry.icp import Similarity
from sfm_jax.morphable.default import load_population


class Scan:
    """A person's face, moved: `vertices` [V, 3] of the truth in the scan's frame, `points` of its front with holes and
    noise, their `normals`, and 68 `landmarks`."""

    def __init__(self, model, seed, noise, count=8000, hole=14.0, strays=0, factor=1.0, motion=None, code=None):
        rng = np.random.default_rng(seed)
        code = load_population().identity[-1 - seed] if code is None else code
        expression = np.zeros(len(model.expression_basis), np.float32)
        for name in ("jawOpen", "mouthSmileLeft", "browInnerUp"):
            expression[model.expression_names.index(name)] = rng.uniform(0.1, 0.4)
        shape = np.asarray(model.decode(jnp.asarray(code), jnp.asarray(expression)), np.float64)
        self.face = model.topology.region("face") > 0.5
        triangles = model.topology.triangles[self.face[model.topology.triangles].all(1)]
        found = sample_surface(shape, triangles, count, rng)
        kept, cut = np.ones(count, bool), 0.2 if hole else 0.0
        while kept.mean() > 1 - cut:
            kept &= np.linalg.norm(found.points - found.points[rng.integers(count)], axis=1) > hole
        points = found.points[kept] + noise * rng.normal(size=(kept.sum(), 3))
        normals = Surface(shape, triangles).normals[found.triangles[kept]]
        points[:strays] = np.random.default_rng(seed).uniform(-120, 120, (strays, 3)) + points.mean(0)
        turn = Rotation.random(rng=rng).as_matrix()
        self.motion = Similarity(turn, factor * 300 * rng.normal(size=3), factor) if motion is None else motion
        self.vertices, self.points = self.motion.apply(shape), self.motion.apply(points)
        self.normals = normals @ self.motion.rotation.T
        self.landmarks = self.vertices[model.topology.landmarks]

    def error(self, fit, triangles):
        """Mean distance of the true face's vertices to the surface found, in the scan's unit."""
        return closest_points(self.vertices[self.face], fit.placed, triangles).distances.mean()
