"""The classical model of scans (PCA, maximum a posteriori fits): the start of learning, and its yardstick."""

import dataclasses

import numpy as np

from sfm_jax.data.scans import ScanSource
from sfm_jax.geometry.adjacency import vertex_areas
from sfm_jax.morphable.model import MorphableModel
from sfm_jax.morphable.statistics import map_fit, weighted_pca

NOISE_SIGMAS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)  # mm, tried for the maximum a posteriori fit


@dataclasses.dataclass(frozen=True)
class Classical:
    """A Gaussian 3DMM of the training people's reference shapes, with what its fits to their scans showed.

    mean [V, 3] mm; basis [d, V, 3] mm at one sigma; expression_mean, expression_precision [E]: the Gaussian prior
    of expressions; noise_sigma mm: the fit's noise level, the one of NOISE_SIGMAS that best recovers the reference
    shapes of training people, so that the yardstick is not handicapped.
    """

    mean: np.ndarray
    basis: np.ndarray
    expression_mean: np.ndarray
    expression_precision: np.ndarray
    noise_sigma: float

    def fit(self, shapes: np.ndarray, model: MorphableModel, weights: np.ndarray):
        """Maximum a posteriori (identity [N, d], expression [N, E]) of scans [N, V, 3]."""
        return map_fit(shapes, self.mean, self.basis, np.asarray(model.expression_basis), self.expression_mean,
                       self.expression_precision, self.noise_sigma, weights)

    def decode(self, identity: np.ndarray) -> np.ndarray:
        """Neutral shapes [N, V, 3]."""
        flat = identity.astype(np.float32) @ self.basis.reshape(len(self.basis), -1)
        return self.mean + flat.reshape(len(identity), -1, 3)


def metric_weights(model: MorphableModel) -> np.ndarray:
    """[V] float32 weights that sum to one: vertex area on the face region (all of the mesh where there is none)."""
    areas = vertex_areas(np.asarray(model.mean), model.topology.triangles)
    if "face" in model.topology.region_names:
        areas = areas * model.topology.region("face")
    return (areas / areas.sum()).astype(np.float32)


def pca_weights(model: MorphableModel) -> np.ndarray:
    """[V] float32 weights of the PCA: the metric's, and a tenth elsewhere, so that no vertex is left free."""
    areas = vertex_areas(np.asarray(model.mean), model.topology.triangles)
    weights = 0.9 * metric_weights(model) + 0.1 * areas / areas.sum()
    return (weights / weights.sum()).astype(np.float32)


def fit_classical(source: ScanSource, sample: dict, model: MorphableModel, components: int) -> Classical:
    """PCA of the people's reference shapes; expression prior and noise level from a sample of scans (a record)."""
    weights = pca_weights(model)
    mean, basis, _ = weighted_pca(source.neutral_shapes(), weights, components)
    size = len(model.expression_basis)
    flat = Classical(mean, basis, np.zeros(size, np.float32), np.ones(size, np.float32), NOISE_SIGMAS[1])
    _, expression = flat.fit(sample["vertices"], model, weights)
    precision = 1.0 / (expression.var(axis=0) + 1e-3)
    candidates = [dataclasses.replace(flat, expression_mean=expression.mean(axis=0).astype(np.float32),
                                      expression_precision=precision.astype(np.float32), noise_sigma=sigma)
                  for sigma in NOISE_SIGMAS]
    metric = metric_weights(model)

    def error(candidate):
        codes, _ = candidate.fit(sample["vertices"], model, weights)
        distance = np.linalg.norm(candidate.decode(codes) - sample["neutral"], axis=-1)
        return float(np.mean(distance @ metric))

    return min(candidates, key=error)


def lift_to_sphere(codes: np.ndarray, radius: float) -> np.ndarray:
    """PCA codes [N, d-1] onto S^(d-1): (c, sqrt(r^2 - |c|^2)) / r; codes longer than r land on the equator."""
    squared = np.sum(codes**2, axis=1, keepdims=True)
    lifted = np.concatenate([codes, np.sqrt(np.maximum(radius**2 - squared, 0.0))], axis=1)
    return (lifted / np.linalg.norm(lifted, axis=1, keepdims=True)).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class Whitening:
    """Scans -> whitened principal components: (flat - mean [V*3]) @ basis [V*3, F]."""

    mean: np.ndarray
    basis: np.ndarray

    def __call__(self, shapes: np.ndarray) -> np.ndarray:
        return (shapes.reshape(len(shapes), -1) - self.mean) @ self.basis


def fit_whitening(shapes: np.ndarray, weights: np.ndarray, features: int) -> Whitening:
    """The first `features` weighted principal components of scans [N, V, 3], each scaled to unit variance."""
    features = min(features, len(shapes) - 1)
    mean, basis, _ = weighted_pca(shapes, weights, features)
    flat = basis.reshape(features, -1)
    coordinate_weights = np.repeat(weights, 3)
    # Basis rows are orthogonal in the weighted product. Divided twice by sigma: to unit length, and unit variance.
    squared = np.sum(flat**2 * coordinate_weights, axis=1)
    projection = (flat * coordinate_weights / np.maximum(squared, 1e-12)[:, None]).T
    return Whitening(mean.ravel().astype(np.float32), projection.astype(np.float32))


def ridge(inputs: np.ndarray, targets: np.ndarray, penalty: float) -> tuple[np.ndarray, np.ndarray]:
    """Least-squares (kernel [F, T], bias [T]) with `penalty` on the kernel, per sample."""
    input_mean, target_mean = inputs.mean(axis=0), targets.mean(axis=0)
    x, y = (inputs - input_mean).astype(np.float64), (targets - target_mean).astype(np.float64)
    kernel = np.linalg.solve(x.T @ x + penalty * len(x) * np.eye(x.shape[1]), x.T @ y)
    return kernel.astype(np.float32), (target_mean - input_mean @ kernel).astype(np.float32)
