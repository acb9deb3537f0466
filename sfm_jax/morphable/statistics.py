"""Statistics of registered shapes: PCA, best-fitting codes, and the classical measures of a shape model.

Host side, NumPy. Everything is computed in float64. `weights` [V] are the importance of each vertex (its area,
say), relative to each other; None is uniform. Distances are in the unit of the shapes, millimetres.
"""

import numpy as np
from jaxtyping import Float
from scipy import linalg
from scipy.sparse import linalg as sparse_linalg

from sfm_jax.array_types import Number

NEWTON_STEPS = 100


def weighted_pca(
    shapes: Float[np.ndarray, "N V 3"], weights: Float[np.ndarray, " V"] | None, components: int
) -> tuple[Float[np.ndarray, "V 3"], Float[np.ndarray, "K V 3"], Float[np.ndarray, " K"]]:
    """Principal components of shapes [N, V, 3] in the metric |x|^2 = sum_v w_v |x_v|^2, sum_v w_v = 1.

    Vertices of zero weight do not shape the components, yet move with them (by linear regression).

    Returns:
      mean [V, 3]; basis [K, V, 3], each component scaled to one standard deviation and signed so that its largest
      entry is positive; sigma [K], the weighted rms displacement of a vertex at one standard deviation (mm).
      All float32.
    """
    count, vertices = shapes.shape[:2]
    root = _root_weights(weights, vertices)
    weighted = vertices if weights is None else np.count_nonzero(weights)
    most = min(count - 1, 3 * weighted)
    if not 1 <= components <= most:
        raise ValueError(f"components: {count} shapes of {weighted} weighted vertices give 1 to {most} components, "
                         f"found {components}")
    mean = shapes.mean(0, dtype=np.float64)
    residual = (shapes - mean).reshape(count, -1)
    scaled = residual * root
    if count < 3 * vertices:
        variance, left = _largest_eigenpairs(scaled @ scaled.T, components)
    else:
        left, singular, _ = linalg.svd(scaled, full_matrices=False)
        variance, left = singular[:components] ** 2, left[:, :components]
    basis = left.T @ residual / np.sqrt(count - 1)
    largest = np.take_along_axis(basis, np.abs(basis).argmax(1)[:, None], 1)
    basis = np.where(largest < 0, -basis, basis).reshape(components, vertices, 3)
    sigma = np.sqrt(variance / (count - 1))
    return mean.astype(np.float32), basis.astype(np.float32), sigma.astype(np.float32)


def best_gaussian_codes(
    shapes: Float[np.ndarray, "N V 3"], mean: Float[np.ndarray, "V 3"], basis: Float[np.ndarray, "K V 3"],
    weights: Float[np.ndarray, " V"] | None = None,
) -> Float[np.ndarray, "N K"]:
    """Codes [N, K] minimising sum_v w_v |x_v - mean_v - (c B)_v|^2: weighted least squares, no prior."""
    gram, moment = _normal_equations(shapes, mean, basis, weights)
    return linalg.lstsq(gram, moment.T)[0].T


def map_fit(
    shapes: Float[np.ndarray, "N V 3"], mean: Float[np.ndarray, "V 3"], identity_basis: Float[np.ndarray, "K V 3"],
    expression_basis: Float[np.ndarray, "E V 3"], expression_mean: Float[np.ndarray, " E"],
    expression_precision: Float[np.ndarray, " E"], noise_sigma: float, weights: Float[np.ndarray, " V"] | None = None,
) -> tuple[Float[np.ndarray, "N K"], Float[np.ndarray, "N E"]]:
    """Maximum a posteriori codes of a Gaussian 3DMM: one ridge regression (Blanz & Vetter 2003, section 4).

    Minimises sum_v w_v |x_v - mean_v - (c B)_v - (e E)_v|^2 / noise^2 + |c|^2 + sum_j precision_j (e_j - mean_j)^2:
    the identity prior is N(0, 1), the basis being scaled to one standard deviation.

    Args:
      shapes: [N, V, 3] mm.
      mean: [V, 3] mm.
      identity_basis: [K, V, 3] mm per standard deviation.
      expression_basis: [E, V, 3] mm per unit.
      expression_mean: [E] prior mean.
      expression_precision: [E] prior inverse variance, >= 0.
      noise_sigma: standard deviation of one coordinate of one vertex (mm), > 0.
      weights: [V], brought to mean 1 over the vertices of positive weight: 0 is unobserved, 1 is noise_sigma.

    Returns:
      identity [N, K] and expression [N, E] codes, float64.
    """
    if not noise_sigma > 0:
        raise ValueError(f"noise_sigma: must be positive millimetres, found {noise_sigma}")
    basis = np.concatenate([identity_basis, expression_basis])
    observed = len(mean) if weights is None else np.count_nonzero(weights)
    gram, moment = _normal_equations(shapes, mean, basis, weights)
    data_precision = observed / noise_sigma**2
    prior_precision = np.concatenate([np.ones(len(identity_basis)), expression_precision])
    prior_mean = np.concatenate([np.zeros(len(identity_basis)), expression_mean])
    posterior = data_precision * gram + np.diag(prior_precision)
    codes = linalg.solve(posterior, (data_precision * moment + prior_precision * prior_mean).T, assume_a="pos").T
    return codes[:, : len(identity_basis)], codes[:, len(identity_basis) :]


def best_sphere_codes(
    shapes: Float[np.ndarray, "N V 3"], mean: Float[np.ndarray, "V 3"], basis: Float[np.ndarray, "K V 3"],
    radius: Number, weights: Float[np.ndarray, " V"] | None = None,
) -> Float[np.ndarray, "N K"]:
    """The unit codes z [N, d] that minimise sum_v w_v |x_v - mean_v - radius (z B)_v|^2 over |z| = 1, globally.

    A trust-region subproblem on the boundary: z is a global minimiser exactly where (A + l I) z = b with A + l I
    positive semi-definite (Sorensen 1982). In the eigenbasis of A, with m = l + a_min and gaps g_i = a_i - a_min >= 0,
    z_i = b_i / (g_i + m), and m >= 0 is the root of 1/|z(m)| = 1, which is concave: Newton's method from a lower bound
    climbs to it monotonically (More & Sorensen 1983). Where |z(0)| < 1 (the hard case: b has no part along the
    smallest eigenvector) the missing length lies along that eigenvector, of either sign.

    Args:
      shapes: [N, V, 3] mm.
      mean: [V, 3] mm.
      basis: [d, V, 3] mm per unit of radius * z.
      radius: of the code sphere, > 0.
      weights: [V] or None.
    """
    if not radius > 0:
        raise ValueError(f"radius: must be positive, found {radius}")
    gram, moment = _normal_equations(shapes, mean, basis, weights)
    curvature, axes = np.linalg.eigh(radius**2 * gram)
    gaps = curvature - curvature[0]
    linear = radius * moment @ axes

    shift = np.maximum((np.abs(linear) - gaps).max(1), 0)
    highest = np.linalg.norm(linear, axis=1)
    for _ in range(NEWTON_STEPS):
        codes, slope = _shifted(linear, gaps, shift)
        norm = np.linalg.norm(codes, axis=1)
        # Newton's step for 1/|z| - 1; where |z| <= 1 the root, or the hard case's end at 0, is reached.
        with np.errstate(divide="ignore", invalid="ignore"):
            step = np.where(norm > 1, (norm - 1) * norm**2 / slope, 0)
        longer = np.minimum(shift + step, highest)
        if np.all(longer - shift <= 4 * np.finfo(float).eps * longer):
            break
        shift = longer
    codes, _ = _shifted(linear, gaps, shift)
    missing = np.sqrt(np.maximum(1 - np.sum(codes**2, 1), 0))
    codes[:, 0] += np.where((shift > 0) | (missing < 1e-12), 0, missing)
    codes /= np.linalg.norm(codes, axis=1, keepdims=True)
    return codes @ axes.T


def compactness(sigma: Float[np.ndarray, " K"]) -> Float[np.ndarray, " K"]:
    """Share of the variance in the first 1 .. K components, [K], for standard deviations [K] (Davies 2002)."""
    variance = np.square(np.asarray(sigma, np.float64))
    return np.cumsum(variance) / variance.sum()


def generalisation(
    shapes: Float[np.ndarray, "N V 3"], mean: Float[np.ndarray, "V 3"], basis: Float[np.ndarray, "K V 3"],
    weights: Float[np.ndarray, " V"] | None = None, counts: list[int] | None = None,
) -> Float[np.ndarray, " C"]:
    """Rms vertex error (mm) of the best fit to held-out shapes with the first k components, mean over the shapes.

    Davies 2002, section 4.2. `shapes` [N, V, 3] must be none of those the basis [K, V, 3] was made from. Returns
    one error for each k of `counts`, by default 1 .. K.
    """
    errors = []
    for count in counts or range(1, len(basis) + 1):
        codes = best_gaussian_codes(shapes, mean, basis[:count], weights)
        residual = shapes - mean - np.einsum("nk,kvc->nvc", codes, basis[:count], optimize=True)
        errors.append(_rms(residual, weights).mean())
    return np.array(errors)


def specificity(
    samples: Float[np.ndarray, "S V 3"], population: Float[np.ndarray, "N V 3"],
    weights: Float[np.ndarray, " V"] | None = None,
) -> float:
    """Rms vertex distance (mm) from a sampled shape to the nearest real one, mean over the samples (Davies 2002).

    `samples` [S, V, 3] are drawn from the model, `population` [N, V, 3] are real shapes. Low: samples look real.
    """
    centre = population.mean(0, dtype=np.float64)
    root = _root_weights(weights, len(centre))
    a = (samples - centre).reshape(len(samples), -1) * root
    b = (population - centre).reshape(len(population), -1) * root
    squared = np.sum(a**2, 1)[:, None] + np.sum(b**2, 1) - 2 * a @ b.T
    return float(np.sqrt(squared.min(1).clip(0)).mean())


def _shifted(linear: np.ndarray, gaps: np.ndarray, shift: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """z_i = b_i / (g_i + m) with 0/0 = 0, [N, d], and sum_i z_i^2 / (g_i + m), [N]."""
    denominator = gaps + shift[:, None]
    zero = np.zeros_like(linear)
    codes = np.divide(linear, denominator, out=zero, where=denominator > 0)
    slope = np.divide(codes**2, denominator, out=np.zeros_like(linear), where=denominator > 0).sum(1)
    return codes, slope


def _largest_eigenpairs(gram, count):
    """The `count` largest eigenvalues [K], falling, of gram [N, N], and their vectors [N, K]."""
    if 8 * count < len(gram) and gram.any():
        # Lanczos is several times faster for a few of many; a fixed start makes it repeatable.
        start = np.random.default_rng(0).standard_normal(len(gram))
        values, vectors = sparse_linalg.eigsh(gram, count, which="LA", v0=start)
    else:
        values, vectors = linalg.eigh(gram, driver="evd")
    order = np.argsort(-values, kind="stable")[:count]
    return values[order].clip(0), vectors[:, order]


def _normal_equations(shapes, mean, basis, weights) -> tuple[np.ndarray, np.ndarray]:
    """B W B^T [K, K] and (x - mean) W B^T [N, K], weights summing to 1."""
    root = _root_weights(weights, len(mean))
    flat = basis.reshape(len(basis), -1) * root
    residual = (shapes - np.asarray(mean, np.float64)).reshape(len(shapes), -1) * root
    return flat @ flat.T, residual @ flat.T


def _root_weights(weights: np.ndarray | None, vertices: int) -> np.ndarray:
    """Square roots of the weights, normalised to sum 1 over the vertices, one for each coordinate [3V]."""
    if weights is None:
        return np.full(3 * vertices, vertices**-0.5)
    weights = np.asarray(weights, np.float64)
    if weights.shape != (vertices,) or weights.min() < 0 or not 0 < weights.sum() < np.inf:
        raise ValueError(f"weights: expected [{vertices}] values >= 0, not all zero, found shape {weights.shape}, "
                         f"minimum {weights.min()}, sum {weights.sum()}")
    return np.repeat(np.sqrt(weights / weights.sum()), 3)


def _rms(residual: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    """Weighted rms length of the vectors of residual [N, V, 3], [N]."""
    return np.linalg.norm(residual.reshape(len(residual), -1) * _root_weights(weights, residual.shape[1]), axis=1)
