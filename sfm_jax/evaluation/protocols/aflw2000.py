"""AFLW2000-3D: the normalised mean error of 68 landmarks by yaw (Zhu et al., CVPR 2016).

As the authors' benchmark of 3DDFA computes it: `landmarks.nme_percent` and `landmarks.by_yaw`. The balanced subset has
as many faces in every bin as the smallest one has, drawn by a seed: papers after Zhu et al. use one of 696 faces, but
which ones was not published. Coordinates are ours, the first pixel's centre at 0.5: half a pixel is .2 % of a face of
250 pixels.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from sfm_jax.array_files import numbers, one_line
from sfm_jax.data.augment import MIRROR
from sfm_jax.evaluation import figures, landmarks
from sfm_jax.evaluation.protocols import published
from sfm_jax.evaluation.protocols.bootstrap import interval
from sfm_jax.evaluation.protocols.landmark_files import POINTS, read_array, read_predictions
from sfm_jax.evaluation.protocols.matching import common_names, files_by_name, listed
from sfm_jax.evaluation.protocols.outcome import Estimate, Outcome, Row
from sfm_jax.mat_files import load_mat5
from sfm_jax.morphable.formats.files import read_bytes

BINS = tuple(f"{low}-{high}" for low, high in landmarks.YAW_BINS)
COLUMNS = (*BINS, "mean", "all faces")
LEAST_OVERLAP = 0.3  # of the boxes of a found face and the true one
MOST_OFF = 0.5  # of the yaws' mean size, the mean difference of other yaws
LEAST_FACES = 20  # of fewer nobody can tell a layout from an accident
WRONG = 10.0  # per cent: of landmarks in another layout the error is above it, of the same in the right one below
MISFIT = 30.0  # per cent: of the mean face at any other pose it is below, of points in any other order above
LEAST_SIZE = 0.3  # of the true faces: what has shrunk to a spot has no order
CURVE_END = 10.0  # per cent


class Truth(NamedTuple):
    """names, sorted; points [N, 68, 2] pixels, the first one's centre at 0.5; yaw [N] degrees."""

    names: tuple[str, ...]
    points: np.ndarray
    yaw: np.ndarray


def read_truth(folder: str | Path, reannotated: str | Path | None = None, yaws: str | Path | None = None,
               first_pixel: float = 1.0) -> Truth:
    """The .mat files of AFLW2000-3D as published: `pt3d_68`, and the yaw of `Pose_Para`.

    reannotated: other landmarks, as `read_predictions` reads them, such as 3DDFA's AFLW2000-3D-Reannotated.pts68.npy;
    first_pixel: where the centre of the first pixel is in these, MATLAB's 1 by default. yaws: a .npy [N] of degrees in
    the order of the names, such as 3DDFA's AFLW2000-3D.pose.npy, whose bins are not quite those of Pose_Para.

    Raises:
      ValueError: a file that is missing or wrong, or landmarks of other photos.
    """
    files = files_by_name(folder, (".mat",), "the .mat files of AFLW2000-3D")
    names, labels = tuple(files), [_read_mat(path) for path in files.values()]
    points, yaw = np.stack([one[0] for one in labels]), np.array([one[1] for one in labels])
    if reannotated is not None:
        other = read_predictions(reannotated, names, first_pixel)
        common_names(other, names, f"{reannotated} and {folder}")
        points = np.stack([other[name][0] for name in names])
    if yaws is not None:
        yaw = read_array(Path(yaws)).ravel()
        if yaw.shape != (len(names),) or not np.isfinite(yaw).all():
            raise ValueError(f"{yaws}: found shape {yaw.shape}, expected {len(names)} finite numbers, degrees of yaw")
        own = np.abs([one[1] for one in labels])
        off = np.abs(np.abs(yaw) - own).mean()
        if off > MOST_OFF * own.mean() + 2:
            raise ValueError(f"{yaws}: found yaws that differ from Pose_Para by {off:.3g} degrees in the mean, whose "
                             f"mean is {own.mean():.3g}: are they in degrees, in the order of the names?")
    return Truth(names, points, yaw)


def evaluate(truth: Truth, predictions: dict[str, np.ndarray], name: str = "predictions", detected: bool = False,
             partial: bool = False, seed: int = 0) -> Outcome:
    """The table of predictions {name: [F, 68, 2]}, F faces found in the photo, against the truth.

    Of several faces the one counts whose box overlaps most with the true one's. detected: the faces come from a
    detector, so that F may be 0, and a face that hardly overlaps is another person's: the labelled one is then not
    found. Means are over the faces that were found; the curve is over all. partial: predictions of some photos do.

    Raises:
      ValueError: names that do not match, no face found at all, or predictions in other pixels than the photos'.
    """
    names = common_names(predictions, truth.names, f"{name} and truth", partial)
    rows = [truth.names.index(one) for one in names]
    points, yaw = truth.points[rows], truth.yaw[rows]
    chosen = [_face_of(predictions[one], true, detected) for one, true in zip(names, points, strict=True)]
    found = np.array([one is not None for one in chosen])
    if not found.any():
        raise ValueError(f"{name}: found none of the {len(names)} labelled faces")
    nme, there = np.full(len(names), np.nan), np.stack([one for one in chosen if one is not None])
    _check_pixels(there, points[found], name)
    nme[found] = landmarks.nme_percent(there, points[found])
    bins = bin_numbers(yaw)
    balanced = balanced_rows(np.flatnonzero(found), bins, seed)
    told = f"{found.sum()} of {len(truth.names)} faces"
    table = [Row(f"{name} ({told})", _estimates(nme[found], yaw[found], seed))]
    notes = [f"Faces by bin: {', '.join(f'{title}: {np.sum(bins[found] == k)}' for k, title in enumerate(BINS))}; "
             "the mean is that of the bins."]
    if len(balanced):
        share = len(balanced) // len(BINS)
        table.append(Row(f"{name}, balanced (3 x {share}, seed {seed})",
                         _estimates(nme[balanced], yaw[balanced], seed)))
    else:
        notes.append("A bin is empty: no balanced subset, and a mean of the others, which flatters.")
    if not found.all():
        notes.append(f"No face found in {np.sum(~found)} of {len(names)} photos, left out of the means and failures in "
                     f"the curve: {listed(np.array(names)[~found])}.")
    samples = [{"name": one, "yaw_degrees": float(degrees), "bin": BINS[number], "found": int(there),
                "nme_percent": float(value), "balanced": int(row in balanced)}
               for row, (one, degrees, number, there, value) in enumerate(
                   zip(names, yaw, bins, found, nme, strict=True))]
    return Outcome("aflw2000", "AFLW2000-3D: mean error of 68 landmarks over sqrt(width * height) of the true box, in "
                   "per cent, by degrees of yaw", COLUMNS, tuple(table), tuple(samples), published.AFLW2000,
                   tuple(notes), {"curve": _curve(nme, bins)})


def bin_numbers(yaw: np.ndarray) -> np.ndarray:
    """0, 1 or 2 for each of yaw [N], in degrees of either sign; 30 and 60 belong to the bin below."""
    return np.digitize(np.abs(yaw), [high for _, high in landmarks.YAW_BINS[:-1]], right=True)


def balanced_rows(rows: np.ndarray, bins: np.ndarray, seed: int = 0) -> np.ndarray:
    """Of rows [n], sorted, equally many of each bin, drawn without replacement; none where a bin is empty."""
    members = [rows[bins[rows] == number] for number in range(len(BINS))]
    share, rng = min(map(len, members)), np.random.default_rng(seed)
    return np.sort(np.concatenate([rng.permutation(one)[:share] for one in members]))


def _estimates(nme, yaw, seed):
    bins, everyone = bin_numbers(yaw), np.arange(len(nme))
    values = {}
    for column, value in landmarks.by_yaw(nme, yaw).items():
        rows = everyone if column == "mean" else np.flatnonzero(bins == BINS.index(column))
        values[column] = Estimate(value, *interval(
            lambda drawn, rows=rows: landmarks.by_yaw(nme[rows[drawn]], yaw[rows[drawn]])["mean"],
            np.arange(len(rows)), bins[rows], seed=seed))
    return values | {"all faces": Estimate(float(nme.mean()), *interval(lambda rows: nme[rows].mean(), everyone,
                                                                        seed=seed))}


def _face_of(faces, truth, detected):
    """The one of faces [F, 68, 2] that is at the truth [68, 2], None if there is none."""
    if len(faces) == 0:
        return None
    shares = [_overlap(face, truth) for face in faces]
    best = int(np.argmax(shares))
    return None if detected and shares[best] < LEAST_OVERLAP else faces[best]


def _check_pixels(predicted, points, name):
    """ValueError where landmarks [N, 68, 2] are in other pixels than the true ones, or in another order."""
    def error(faces):
        return float(np.median(landmarks.nme_percent(faces, points)))

    found = error(predicted)
    exchanged = error(predicted[..., ::-1])
    if 3 * exchanged < found:
        raise ValueError(f"{name}: found an error of {found:.3g} %, of {exchanged:.3g} % with x and y exchanged, "
                         "expected x first")
    if len(points) >= LEAST_FACES:
        _check_layout(predicted, points, name, error)
    middles = predicted.mean(1)
    outside = ~((points.min(1) <= middles) & (middles <= points.max(1))).all(1)
    if 2 * outside.sum() > len(points):
        raise ValueError(f"{name}: found the middle of {outside.sum()} of {len(points)} faces outside the true ones' "
                         "boxes, expected pixels of the whole photo")


def _check_layout(predicted, points, name, error):
    """ValueError where landmarks [N, 68, 2] agree far better with the true ones read otherwise, or in no way."""
    found, width = error(predicted), np.median((predicted + points)[..., 0].mean(1))
    mirrored = np.stack([width - predicted[..., 0], predicted[..., 1]], -1)
    readings = [(predicted[:, MIRROR], "left and right landmarks exchanged", "iBUG's order"),
                (np.roll(predicted, 1, 1), "every landmark one earlier", "iBUG's order"),
                (np.roll(predicted, -1, 1), "every landmark one later", "iBUG's order"),
                (mirrored, "x mirrored", "x to the right"),
                (mirrored[:, MIRROR], "the photos mirrored", "landmarks of the photos as they are")]
    distances = np.linalg.norm(points.mean(1), axis=1) / np.maximum(np.linalg.norm(predicted.mean(1), axis=1), 1e-9)
    scaled, shift = np.median(distances) * predicted, np.median((points - predicted).mean(1), 0)
    if error(scaled) < error(predicted + shift):  # a method that is off by some pixels is no mistake
        readings.append((scaled, f"all numbers times {np.median(distances):.3g}", "pixels of the photos as they are"))
    for faces, what, expected in readings:
        other = error(faces)
        if other < WRONG < found and 3 * other < found:
            raise ValueError(f"{name}: found an error of {found:.3g} %, of {other:.3g} % with {what}, expected "
                             f"{expected}")
    misfit, size = error(_aligned(predicted, points)), np.median(np.ptp(predicted, axis=1) / np.ptp(points, axis=1))
    if misfit > MISFIT and size > LEAST_SIZE:
        raise ValueError(f"{name}: found an error of {misfit:.3g} % with every face moved, turned and scaled onto the "
                         f"true one, expected at most {MISFIT:g}: iBUG's 68 landmarks, in this order")


def _aligned(source, target):
    """Each of source [N, P, 2] moved, turned and scaled so that it is nearest to its target: in complex numbers, where
    to turn and to scale is one product."""
    source, target = (one[..., 0] + 1j * one[..., 1] for one in (source, target))
    middle = target.mean(1, keepdims=True)
    source, target = source - source.mean(1, keepdims=True), target - middle
    factor = (source.conj() * target).sum(1) / np.maximum((np.abs(source) ** 2).sum(1), 1e-12)
    moved = factor[:, None] * source + middle
    return np.stack([moved.real, moved.imag], -1)


def _overlap(a, b):
    """Intersection over union of the boxes of landmarks."""
    low, high = np.maximum(a.min(0), b.min(0)), np.minimum(a.max(0), b.max(0))
    shared = np.clip(high - low, 0, None).prod()
    return shared / (np.ptp(a, axis=0).prod() + np.ptp(b, axis=0).prod() - shared)


def _curve(nme, bins):
    limits = np.linspace(0, CURVE_END, 201)

    def within(values):
        return limits, 100 * np.mean(np.nan_to_num(values, nan=np.inf)[:, None] <= limits, axis=0)

    series = {f"{title} degrees": within(nme[bins == number]) for number, title in enumerate(BINS)
              if (bins == number).any()}
    return figures.curves(series | {"all": within(nme)}, "normalised mean error, %", "faces, %")


def _read_mat(path):
    content = read_bytes(path)
    try:
        labels = load_mat5(content)
    except ValueError as error:
        raise ValueError(f"{path}: not a readable .mat file ({one_line(error)})") from None
    for key in ("pt3d_68", "Pose_Para"):
        if key not in labels:
            raise ValueError(f"{path}: key '{key}' is missing, expected a label of AFLW2000-3D")
    points, pose = (numbers(path, key, labels[key]).astype(np.float64) for key in ("pt3d_68", "Pose_Para"))
    pose = pose.ravel()
    if points.shape != (3, POINTS) or len(pose) < 3 or not np.isfinite(points).all() or not np.isfinite(pose[1]):
        raise ValueError(f"{path}: pt3d_68 and Pose_Para: found shapes {points.shape} and {pose.shape}, expected "
                         f"(3, {POINTS}) and (7,), finite")
    return points[:2].T - 0.5, np.degrees(pose[1])  # MATLAB's first pixel is (1, 1)
