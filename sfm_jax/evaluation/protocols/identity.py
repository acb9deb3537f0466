"""The SIR metric of faces by name: are the shapes of people told apart, not only their codes?

See `sfm_jax.evaluation.sir`, after Jiang et al., CGF 2022 (arXiv 2104.03515). Persons are the folders of the names:
PERSON/PHOTO.
"""

from collections.abc import Collection, Mapping

import numpy as np

from sfm_jax.evaluation import surface
from sfm_jax.evaluation.protocols.bootstrap import LEVEL, draw_rows
from sfm_jax.evaluation.protocols.matching import common_names, listed, without_face
from sfm_jax.evaluation.protocols.outcome import Estimate, Outcome, Row
from sfm_jax.evaluation.sir import sir_metric

COLUMNS = {"sir/between_within_ratio": "between / within", "sir/geometry_rank1": "rank-1 %",
           "sir/geometry_verification_accuracy": "accuracy %", "sir/code_geometry_spearman": "Spearman"}
LEAST_PAIRS = 2  # of one person: the threshold for one is found on the other
LEAST_TOLD = 0.95  # of the draws, for an interval
_PER_CENT = ("rank-1 %", "accuracy %")


def evaluate(codes: Mapping[str, np.ndarray], shapes: Mapping[str, np.ndarray], name: str = "predictions",
             metric: str = "cosine", seed: int = 0, lost: Collection[str] = ()) -> Outcome:
    """The table of codes {PERSON/PHOTO: [d]} and neutral shapes {PERSON/PHOTO: [V, 3] mm}.

    metric: "cosine" of codes on a sphere, "euclidean" of others. The interval of the ratio draws persons. lost: photos
    in which no face was found, to be told of.

    Raises:
      ValueError: names that do not match or have no person, one person alone, fewer than two pairs of photos of one.
    """
    names = common_names(shapes, codes, f"{name}: shapes and codes")
    if alone := [one for one in names if "/" not in one]:
        raise ValueError(f"{name}: found names without a person ({listed(alone)}), expected PERSON/PHOTO")
    people = np.array([one.rpartition("/")[0] for one in names])
    labels = np.unique(people, return_inverse=True)[1]
    same = int(sum(count * (count - 1) // 2 for count in np.bincount(labels)))
    if labels.max() == 0 or same < LEAST_PAIRS:
        raise ValueError(f"{name}: found {len(names)} photos of {labels.max() + 1} people, {same} pairs of photos of "
                         f"one person; expected two people at least, and {LEAST_PAIRS} such pairs")
    for kind, things in (("code", codes), ("shape", shapes)):
        first = np.shape(things[names[0]])
        for one in names:
            if np.shape(things[one]) != first or not np.isfinite(things[one]).all():
                raise ValueError(f"{name}: {one}: found a {kind} of shape {np.shape(things[one])}, expected {first} as "
                                 f"of {names[0]}, finite")
    shape = np.stack([np.asarray(shapes[one]) for one in names])
    numbers = sir_metric(shape, np.stack([np.asarray(codes[one]) for one in names]), labels, metric=metric)
    distances = surface.shape_distances(shape)
    nearest = np.where(np.eye(len(names), dtype=bool), np.inf, distances).argmin(1)
    values = {column: Estimate(numbers[key] * (100 if column in _PER_CENT else 1)) for key, column in COLUMNS.items()}
    ratio = COLUMNS["sir/between_within_ratio"]
    values[ratio] = Estimate(values[ratio].value, *_ratio_ends(distances, labels, seed))
    samples = [{"name": one, "person": person, "nearest": names[other], "distance_mm": float(distances[row, other]),
                "nearest is the person": int(labels[other] == labels[row])}
               for row, (one, person, other) in enumerate(zip(names, people, nearest, strict=True))]
    return Outcome("sir", "SIR metric: mean vertex distances of neutral shapes between and within persons; recognition "
                   "by these alone; rank correlation with distances of codes", tuple(COLUMNS.values()),
                   (Row(f"{name} ({len(names)} photos of {len(set(people))} people)", values),), tuple(samples),
                   notes=without_face(lost, len(names) + len(lost)))


def _ratio_ends(distances, labels, seed):
    """A person drawn twice is one person: pairs of the same photo do not count. Draws of one person alone say nothing
    of the ratio, and do not count either; with so few persons that these are many there is no interval."""
    def ratio(rows):
        block = distances[np.ix_(rows, rows)]
        first, second = np.triu_indices(len(rows), 1)
        apart = rows[first] != rows[second]
        pairs, same = block[first, second][apart], (labels[rows[first]] == labels[rows[second]])[apart]
        if same.all() or not same.any() or not pairs[same].mean() > 0:
            return np.nan
        return pairs[~same].mean() / pairs[same].mean()

    ratios = np.array([ratio(rows) for rows in draw_rows(labels, seed=seed)])
    told = ratios[np.isfinite(ratios)]
    if not len(told) or len(told) < LEAST_TOLD * len(ratios):
        return np.nan, np.nan
    return tuple(np.quantile(told, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]))
