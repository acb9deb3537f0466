"""The NoW challenge: scans against predicted neutral meshes, from files as its authors lay them out.

Sanyal et al., CVPR 2019; github.com/soubhiksanyal/now_evaluation. Truth: `scans/PERSON/*.obj`,
`scans_lmks_onlypp/PERSON/*.pp` and `imagepathsvalidation.txt` (or imagepathstest.txt). Predictions:
`PERSON/CHALLENGE/IMAGE.obj` or .ply with seven landmarks IMAGE.npy or .txt beside it. What the numbers are is said by
`scan_to_mesh.now_errors`; medians, means and deviations are over the points of all scans together. Where the authors'
code goes on without a prediction that is missing, or mirrors a mesh whose landmarks then fit better, here there is an
error.

NoW scores the neutral face. A mesh that carries an expression is refused where it can be known: where the params.npz of
the reconstruct command lies beside it.
"""

from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sfm_jax.atomic_files import atomic_write
from sfm_jax.data.folders import files_below
from sfm_jax.evaluation import figures
from sfm_jax.evaluation.protocols import meshes, published
from sfm_jax.evaluation.protocols.bootstrap import interval
from sfm_jax.evaluation.protocols.matching import (
    common_names,
    files_by_name,
    lines_of,
    listed,
    without_face,
)
from sfm_jax.evaluation.protocols.meshes import MESH_SUFFIXES, Mesh, read_landmarks, read_mesh, read_points
from sfm_jax.evaluation.protocols.outcome import Estimate, Outcome, Row
from sfm_jax.evaluation.scan_to_mesh import NOW_LANDMARKS, cumulative_curve, now_errors, summary

CHALLENGES = {"multiview_neutral": "neutral", "multiview_expressions": "expression",
              "multiview_occlusions": "occlusion", "selfie": "selfie"}
LISTS = ("imagepathsvalidation.txt", "imagepathstest.txt")
CURVE_END = 7.0  # mm
BIN = 0.005  # mm, of the histograms that the intervals are made of
COLUMNS = ("median", "mean", "std")


class Scan(NamedTuple):
    """vertices [N, 3] mm and landmarks [7, 3] of a person's scan."""

    vertices: np.ndarray
    landmarks: np.ndarray


def image_names(truth: str | Path, images: str | Path | None = None) -> list[str]:
    """PERSON/CHALLENGE/IMAGE of every line of the benchmark's list. ValueError names the file and the line."""
    found = [Path(truth) / name for name in LISTS if (Path(truth) / name).exists()]
    path = Path(images) if images is not None else found[0] if found else None
    if path is None or not path.is_file():
        raise ValueError(f"{path or truth}: found no list of images, expected {' or '.join(LISTS)}")
    names = []
    for number, line in lines_of(path, "PERSON/CHALLENGE/IMAGE a line"):
        parts = Path(line).with_suffix("").parts[-3:]
        if len(parts) != 3 or parts[1] not in CHALLENGES:
            raise ValueError(f"{path}: line {number}: found {line!r}, expected PERSON/CHALLENGE/IMAGE of a challenge "
                             f"among {', '.join(CHALLENGES)}")
        names.append("/".join(parts))
    if not names:
        raise ValueError(f"{path}: an empty list of images")
    return names


def read_scan(truth: str | Path, person: str) -> Scan:
    """A person's scan and landmarks. ValueError where there is not one of each, or they are not in millimetres."""
    scans, points = (sorted((Path(truth) / folder / person).glob(pattern)) for folder, pattern in
                     (("scans", "*.obj"), ("scans_lmks_onlypp", "*.pp")))
    if len(scans) != 1 or len(points) != 1:
        raise ValueError(f"{truth}: {person}: found {len(scans)} scans/{person}/*.obj and {len(points)} "
                         f"scans_lmks_onlypp/{person}/*.pp, expected one of each")
    landmarks = read_points(points[0])
    if landmarks.shape != (len(NOW_LANDMARKS), 3) or not np.isfinite(landmarks).all():
        raise ValueError(f"{points[0]}: found landmarks of shape {landmarks.shape}, expected "
                         f"({len(NOW_LANDMARKS)}, 3), finite")
    return Scan(read_mesh(scans[0]).vertices, landmarks)


def read_prediction(path: Path, unit: float = 1.0, metrical: bool = False) -> tuple[Mesh, np.ndarray]:
    """(a predicted neutral mesh, its seven landmarks). Only `metrical` predictions need be in millimetres.

    Raises:
      ValueError: whatever is wrong with the files, or an expression in the mesh.
    """
    mesh = meshes.read_prediction(path, unit, scale_free=not metrical)
    return mesh, read_landmarks(mesh, unit=unit)


def check_folder(folder: str | Path, names: Collection[str]) -> None:
    """ValueError where a folder has files that are not of PERSON/CHALLENGE/IMAGE of `names`: a submission has none, and
    they are not ours to remove."""
    folder = Path(folder)
    for path in files_below(folder):
        name = path.relative_to(folder).with_suffix("").as_posix()
        if path.suffix not in (".ply", ".npy") or name not in names:
            raise ValueError(f"{path}: is in the way, expected predictions of the list's images alone: remove it, or "
                             "give another --out")


def remove_prediction(folder: str | Path, name: str) -> None:
    """Remove what `write_prediction` wrote for PERSON/CHALLENGE/IMAGE in an earlier run, if anything."""
    for suffix in (".ply", ".npy"):
        (Path(folder) / f"{name}{suffix}").unlink(missing_ok=True)


def evaluate(truth: str | Path, predictions: str | Path, name: str = "predictions", images: str | Path | None = None,
             unit: float = 1.0, metrical: bool = False, partial: bool = False, seed: int = 0,
             progress: Callable[[Iterable], Iterable] = iter, lost: Collection[str] = ()) -> Outcome:
    """The table of a folder of predictions, of all challenges together and of each.

    images: a list to be used in place of the truth's own. metrical: no scale is aligned. partial: predictions of some
    images do. Intervals draw persons with all their images, as these share a scan. lost: images in which no face was
    found, to be told of.

    Raises:
      ValueError: names that do not match, or anything wrong with a file.
    """
    wanted = image_names(truth, images)
    meshes.refuse_expressions(predictions)
    files = files_by_name(predictions, MESH_SUFFIXES, "PERSON/CHALLENGE/IMAGE.obj or .ply")
    names = common_names(files, wanted, f"{predictions} and {truth}", partial)
    people = [one.split("/")[0] for one in names]
    scans = {}
    distances, samples = [], []
    # Every prediction is looked at before the first of many minutes is spent.
    for one in names:
        read_prediction(files[one], unit, metrical)
    for one, person in progress(list(zip(names, people, strict=True))):
        if person not in scans:
            scans = {person: read_scan(truth, person)}  # names are sorted by person
        mesh, landmarks = read_prediction(files[one], unit, metrical)
        meshes.check_order(landmarks, scans[person].landmarks, files[one])
        try:
            found = now_errors(*scans[person], mesh.vertices, mesh.triangles, landmarks, metrical=metrical)
        except ValueError as error:
            raise ValueError(f"{files[one]}: {error}") from None
        distances.append(found.distances)
        samples.append({"name": one, "person": person, "challenge": CHALLENGES[one.split("/")[1]],
                        "points": len(found.distances), **summary([found.distances]), "scale": found.motion.scale,
                        "converged": int(found.report.converged)})
    groups = np.unique(people, return_inverse=True)[1]
    kinds = np.array([sample["challenge"] for sample in samples])
    rows = [Row(f"{name} ({len(names)} of {len(set(wanted))} images)", _estimates(distances, groups, seed))]
    rows += [Row(f"{name}, {kind} ({np.sum(kinds == kind)})",
                 _estimates([one for one, own in zip(distances, kinds == kind, strict=True) if own],
                            groups[kinds == kind], seed))
             for kind in CHALLENGES.values() if (kinds == kind).any()]
    slow = [sample["name"] for sample in samples if not sample["converged"]]
    notes = [*without_face(lost, len(names) + len(lost))]
    if slow:
        notes.append(f"The alignment did not come to an end for {len(slow)}: {listed(slow)}.")
    peers = () if metrical else published.NOW
    if peers:
        notes.append("The peers' rows are of the test set, whose scans are not public; the validation set is another.")
    title = (f"NoW{', metrical' if metrical else ''}: distance of the scans' points to the predicted neutral meshes, "
             "in mm, over the points of all scans")
    return Outcome("now", title, COLUMNS, tuple(rows), tuple(samples), peers, tuple(notes),
                   {"cumulative": _curve(distances, kinds)})


def write_prediction(folder: str | Path, name: str, vertices: np.ndarray, triangles: np.ndarray,
                     landmarks: np.ndarray) -> Path:
    """One image's files as the challenge takes them: PERSON/CHALLENGE/IMAGE.ply, in mm, and IMAGE.npy [7, 3].

    name: PERSON/CHALLENGE/IMAGE; vertices [V, 3] of the neutral face, mm; landmarks [7, 3]: NOW_LANDMARKS.
    """
    import trimesh

    path = Path(folder) / f"{name}.ply"
    path.parent.mkdir(parents=True, exist_ok=True)
    landmarks = np.asarray(landmarks, np.float64)
    if landmarks.shape != (len(NOW_LANDMARKS), 3):
        raise ValueError(f"{path}: found landmarks of shape {landmarks.shape}, expected ({len(NOW_LANDMARKS)}, 3)")
    mesh = trimesh.Trimesh(vertices, triangles, process=False)
    with atomic_write(path) as partial:
        mesh.export(partial, file_type="ply")
    with atomic_write(path.with_suffix(".npy")) as partial, open(partial, "wb") as file:
        np.save(file, landmarks)
    return path


def _estimates(distances, groups, seed):
    """Of the points of all scans; the ends by histograms, to BIN."""
    edges = np.arange(0, max(map(np.max, distances)) + 2 * BIN, BIN)
    counts = np.stack([np.histogram(one, edges)[0] for one in distances]).astype(float)
    sums, squares = np.array([[one.sum(), np.square(one).sum()] for one in distances]).T

    def moments(rows):
        total = np.cumsum(counts[rows].sum(0))
        mean = sums[rows].sum() / total[-1]
        return np.array([edges[np.searchsorted(total, total[-1] / 2)] + BIN / 2, mean,
                         np.sqrt(max(squares[rows].sum() / total[-1] - mean**2, 0.0))])

    values = summary(distances)
    return {column: Estimate(values[column], low, high)
            for column, low, high in zip(COLUMNS, *interval(moments, groups, seed=seed), strict=True)}


def _curve(distances, kinds):
    limits = np.linspace(0, CURVE_END, 281)
    series = {kind: [one for one, own in zip(distances, kinds == kind, strict=True) if own]
              for kind in CHALLENGES.values() if (kinds == kind).any()}
    series = series | {"all": distances} if len(series) > 1 else {"": distances}
    return figures.curves({label: (limits, cumulative_curve(some, limits)) for label, some in series.items()},
                          "distance, mm", "points of the scans, %")
