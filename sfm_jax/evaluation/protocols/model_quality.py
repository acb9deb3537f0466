"""How good a morphable model is: compactness, generalisation, specificity (Davies 2002; Styner et al., IPMI 2003).

Compactness(k): share of the model's variance in its first k components. Generalisation(k): rms vertex error of the best
fit with k components to registered faces that the model was not made from. Specificity(k): rms vertex distance of faces
drawn with k components from the nearest of these. As in morphable/statistics.py, every vertex counts the same, in mm;
components are taken in the model's own order.
"""

from collections.abc import Sequence

import numpy as np

from sfm_jax.evaluation import figures
from sfm_jax.evaluation.protocols.bootstrap import folders, interval
from sfm_jax.evaluation.protocols.outcome import Estimate, Outcome, Row
from sfm_jax.morphable import statistics
from sfm_jax.morphable.model import MorphableModel

COLUMNS = ("compactness %", "generalisation mm", "specificity mm")
DRAWN = 500
SHOWN = (1, 2, 5, 10, 20, 50, 100, 200)  # components; all of them as well


def evaluate(model: MorphableModel, faces: dict[str, np.ndarray], name: str | None = None, drawn: int = DRAWN,
             seed: int = 0) -> Outcome:
    """The table of a model and held-out registered faces {name: [V, 3] mm} in its topology and axes, neutral.

    drawn: faces for the specificity, codes of which are standard normal, as the model says of itself.

    Raises:
      ValueError: no faces, or a model in which everybody is the same.
    """
    if not faces:
        raise ValueError("faces: found none, expected registered faces that the model was not made from")
    check_identities(model, name or model.name)
    shapes = np.stack(list(faces.values())).astype(np.float64)
    mean, basis = np.asarray(model.mean, np.float64), np.asarray(model.identity_basis, np.float64)
    counts = component_counts(len(basis))
    share = 100 * compactness(basis)
    errors = heldout_errors(shapes, mean, basis, counts)
    codes = np.random.default_rng(seed).standard_normal((drawn, len(basis)))
    distances = np.array([drawn_distances(mean, basis, codes[:, :count], shapes) for count in counts])
    ends = [interval(lambda rows, values=values: values[:, rows].mean(1), groups, seed=seed)
            for values, groups in ((errors, folders(list(faces))), (distances, np.arange(drawn)))]
    rows = []
    for place, count in enumerate(counts):
        measured = [Estimate(float(values[place].mean()), low[place], high[place])
                    for values, (low, high) in zip((errors, distances), ends, strict=True)]
        rows.append(Row(f"{name or model.name}, {_counted(count)}",
                        dict(zip(COLUMNS, (Estimate(float(share[count - 1])), *measured), strict=True))))
    samples = [{"name": face, **{f"rms mm, {count} components": float(errors[place, row])
                                 for place, count in enumerate(counts)}} for row, face in enumerate(faces)]
    notes = (f"{len(shapes)} held-out faces; specificity of {drawn} faces drawn from a standard normal, its distances "
             "to no more faces than these: it falls as they grow more. Intervals are over held-out faces, or the "
             "folders they are in, PERSON of PERSON/SCAN, those of the specificity over drawn ones.",)
    curve = figures.curves({"generalisation": (counts, errors.mean(1)), "specificity": (counts, distances.mean(1))},
                           "components", "mm")
    compact = figures.curves({"": (np.arange(1, len(share) + 1), share)}, "components", "share of the variance, %")
    compact.axes[0].set_ylim(bottom=0)
    return Outcome("model_quality", "Quality of a morphable model on held-out registered faces", COLUMNS, tuple(rows),
                   tuple(samples), (), notes, {"generalisation_specificity": curve, "compactness": compact})


def check_identities(model: MorphableModel, where: str) -> None:
    """ValueError where no identity moves a vertex: there is no variance to share out."""
    if not np.any(model.identity_basis):
        raise ValueError(f"{where}: identity_basis: found {len(model.identity_basis)} components, none of which moves "
                         "a vertex, expected identities")


def _counted(components):
    return f"{components} component{'s' if components > 1 else ''}"


def component_counts(components: int) -> list[int]:
    """Numbers of components that are looked at: SHOWN, as far as there are so many, and all."""
    return sorted({count for count in SHOWN if count < components} | {components})


def compactness(basis: np.ndarray) -> np.ndarray:
    """Share of the variance in the first 1 .. K components [K] of a basis [K, V, 3] per standard deviation.

    A component's variance is its squared length: components that overlap, as learned ones may, count each for itself.
    """
    return statistics.compactness(np.linalg.norm(np.asarray(basis, np.float64).reshape(len(basis), -1), axis=1))


def heldout_errors(shapes: np.ndarray, mean: np.ndarray, basis: np.ndarray, counts: Sequence[int]) -> np.ndarray:
    """Rms vertex errors [len(counts), N] of the best fits to shapes [N, V, 3] with the first components.

    As statistics.generalisation, shape by shape: what is left of a shape beyond the span of the components.
    """
    frame, within = np.linalg.qr(basis.reshape(len(basis), -1).T)
    residual = (shapes - mean).reshape(len(shapes), -1)
    along = residual @ frame @ _orthonormal(within.T).T
    left = np.square(residual).sum(1)[:, None] - np.cumsum(np.square(along), axis=1)
    return np.sqrt(left.clip(0).T[np.asarray(counts) - 1] / len(mean))


def _orthonormal(rows):
    """Axes of rows [K, n] by Gram and Schmidt: zero where a row is within the span of those before it, and so adds
    nothing. (Householder's QR alone has there an axis that takes away from later ones.)"""
    axes, least = np.zeros_like(rows), 1e-10 * np.linalg.norm(rows, axis=1).max()
    for number, left in enumerate(rows):
        for _ in range(2):  # the second time for what rounding left
            left = left - axes[:number].T @ (axes[:number] @ left)
        length = np.linalg.norm(left)
        axes[number] = left / length if length > least else 0
    return axes


def drawn_distances(mean: np.ndarray, basis: np.ndarray, codes: np.ndarray, shapes: np.ndarray) -> np.ndarray:
    """Rms vertex distances [S] of the faces of codes [S, k] from the nearest of shapes [N, V, 3].

    As statistics.specificity, face by face.
    """
    drawn = np.tensordot(codes, basis[:codes.shape[1]], 1).reshape(len(codes), -1)
    people = (shapes - mean).reshape(len(shapes), -1)
    squared = np.square(drawn).sum(1)[:, None] + np.square(people).sum(1) - 2 * drawn @ people.T
    return np.sqrt(squared.min(1).clip(0) / len(mean))
