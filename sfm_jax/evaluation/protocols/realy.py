"""REALY's errors by region of the face: nose, mouth, forehead, cheek (Chai et al., ECCV 2022).

Truth, as github.com/czh-98/REALY has it: `REALY_scan_region/ID/REGION.obj`, `REALY_HIFI3D_keypoints/ID.obj`, whose
vertices are the 85 keypoints, and `metrical_scale.txt`, the millimetres of a scan's unit in line ID (without it scans
are in mm). Predictions: ID.obj or ID_VIEW.obj or .ply, in any unit, with the same 85 keypoints beside (NAME.npy, .txt,
.npz or .pp), or iBUG's 68, their first.

As in that code the mesh is moved onto seven keypoints with scale, then, without, onto each region and its keypoints,
which together weigh as much as the region, a quarter of it for the cheek. What counts is the mean distance of the
region's vertices to their places on the mesh, over which `scan_to_mesh.region_errors` says where it differs; regions
count the same; the deviation over faces is that of a sample.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from sfm_jax.evaluation import figures
from sfm_jax.evaluation.protocols.bootstrap import interval
from sfm_jax.evaluation.protocols.matching import common_names, files_by_name
from sfm_jax.evaluation.protocols.meshes import (
    MESH_SUFFIXES,
    Mesh,
    check_landmarks,
    check_millimetres,
    check_order,
    points_beside,
    read_mesh,
    read_points,
)
from sfm_jax.evaluation.protocols.outcome import Estimate, Outcome, Row
from sfm_jax.evaluation.scan_to_mesh import NOW_LANDMARKS, onto_region, region_errors, with_area
from sfm_jax.geometry.closest_point import Surface
from sfm_jax.geometry.icp import Similarity, similarity_between

SCANS, POINTS, SCALES = "REALY_scan_region", "REALY_HIFI3D_keypoints", "metrical_scale.txt"
REGIONS = ("nose", "mouth", "forehead", "cheek")
ALL, IBUG = 85, 68
_EYES, _LIPS = range(36, 48), (*range(48, 61), 64)
KEYPOINTS = {"nose": range(27, 36), "mouth": _LIPS, "forehead": (*_EYES, *range(17, 27)), "cheek": ()}
# Those that move the mesh onto a region; for the cheek, of the eyes the corners and the lower lids.
RIGID_KEYPOINTS = KEYPOINTS | {"nose": (*range(27, 36), 70, 71),
                               "cheek": (*_LIPS, 76, 77, 36, 41, 40, 39, 42, 47, 46, 45, 7, 8, 9)}
SHARE = {"nose": 1.0, "mouth": 1.0, "forehead": 1.0, "cheek": 0.25}  # of the keypoints' weight to the region's
REACH = 30.0  # mm, of keypoints from their region: farther is another unit or place


def evaluate(truth: str | Path, predictions: str | Path, name: str = "predictions", partial: bool = False,
             seed: int = 0, progress: Callable[[Iterable], Iterable] = iter) -> Outcome:
    """The table of a folder of predictions: mean error of each region, and the mean of the regions, in mm.

    Intervals draw persons, several views of whom may be predicted.

    Raises:
      ValueError: names that do not match, or anything wrong with a file.
    """
    faces = _regions(Path(truth) / SCANS)
    factors = _millimetres(Path(truth) / SCALES, faces)
    files = files_by_name(predictions, MESH_SUFFIXES, "ID.obj, or ID_VIEW.obj, or .ply")
    person = {one: one if one in faces else one.split("_")[0] for one in files}
    matched = set(common_names(set(person.values()), faces, f"{predictions} and {truth}", partial))
    names = sorted(one for one in files if person[one] in matched)
    truths = {face: _true_keypoints(Path(truth) / POINTS, face, factors[face]) for face in sorted(matched)}
    # All are looked at before the first is measured.
    meshes = {one: _prediction(files[one], truths[person[one]]) for one in names}
    samples, counts = [], set()
    for one in progress(names):
        true = truths[person[one]]
        count = min(len(true), len(meshes[one][1]))
        errors = _errors_of(faces[person[one]], factors[person[one]], *meshes[one], true, count)
        samples.append({"name": one, "person": person[one], **errors})
        counts.add(count)
    values = np.array([[sample[region] for region in REGIONS] for sample in samples])
    values = np.column_stack([values, values.mean(1)])
    columns = (*REGIONS, "all")
    ends = interval(lambda rows: values[rows].mean(0), np.array([person[one] for one in names]), seed=seed)
    deviation = values.std(0, ddof=1) if len(values) > 1 else np.full(len(columns), np.nan)
    rows = [Row(f"{name} ({len(names)} predictions of {len(matched)} of {len(faces)} faces), mean",
                dict(zip(columns, map(Estimate, values.mean(0), *ends), strict=True))),
            Row(f"{name}, std", dict(zip(columns, map(Estimate, deviation), strict=True)))]
    limits = np.linspace(0, max(values.max() * 1.05, 1e-3), 201)
    within = {column: (limits, 100 * (each[:, None] <= limits).mean(0))
              for column, each in zip(columns, values.T, strict=True)}
    curve = figures.curves(within, "mean error, mm", "predictions, %")
    notes = ["Correspondences by a smooth field, not the authors' non-rigid ICP: of the same purpose, not the same "
             "numbers as REALY's table."]
    if IBUG in counts:
        notes.append("Keypoints of iBUG alone: nose and cheek are aligned without REALY's 70, 71, 76 and 77.")
    title = "REALY: mean distance of a scan's region to its places on the predicted mesh, in mm, over predictions"
    return Outcome("realy", title, columns, tuple(rows), tuple(samples), (), tuple(notes), {"regions": curve},
                   digits=3)


def _regions(folder):
    """{ID: {region: path}}."""
    faces: dict[str, dict[str, Path]] = {}
    for part, path in files_by_name(folder, MESH_SUFFIXES, "ID/REGION.obj or .ply").items():
        face, _, region = part.rpartition("/")
        if region not in REGIONS or not face:
            raise ValueError(f"{path}: found the name {part!r}, expected ID/REGION, a region being one of "
                             f"{', '.join(REGIONS)}")
        faces.setdefault(face, {})[region] = path
    for face, regions in faces.items():
        if lacking := [region for region in REGIONS if region not in regions]:
            raise ValueError(f"{folder}: {face}: found no {', '.join(lacking)}, expected {', '.join(REGIONS)}")
    return faces


def _millimetres(path, faces):
    """{ID: millimetres of a unit of its scan}."""
    if not path.exists():
        return dict.fromkeys(faces, 1.0)
    try:
        scales = np.loadtxt(path, ndmin=1)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: not readable as a number a line ({error})") from None
    for face in faces:
        if not face.isdecimal() or not 1 <= int(face) <= len(scales):
            raise ValueError(f"{path}: found {scales.size} lines and the scan {face}, expected scans of these numbers")
        if scales.ndim != 1 or not 0 < scales[int(face) - 1] < np.inf:
            raise ValueError(f"{path}: line {face}: found {scales[int(face) - 1]}, expected a length in millimetres")
    return {face: float(scales[int(face) - 1]) for face in faces}


def _true_keypoints(folder, face, millimetres):
    """[85 or 68, 3] in the scan's unit."""
    path = next((path for suffix in (".obj", ".npy", ".txt", ".npz", ".pp")
                 if (path := folder / f"{face}{suffix}").exists()), folder / f"{face}.obj")
    points = _obj_vertices(path) if path.suffix == ".obj" else read_points(path)
    if points.shape not in ((ALL, 3), (IBUG, 3)) or not np.isfinite(points).all():
        raise ValueError(f"{path}: found keypoints of shape {points.shape}, expected ({ALL}, 3), finite")
    check_millimetres(millimetres * points, path)
    return points


def _obj_vertices(path):
    try:
        lines = [line.split()[1:4] for line in path.read_text().splitlines() if line.startswith("v ")]
        return np.array(lines, np.float64)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: not readable as the vertices of an .obj ({error})") from None


def _prediction(path, true) -> tuple[Mesh, np.ndarray]:
    """A mesh and its keypoints [85 or 68, 3], in the order of the true ones."""
    mesh = read_mesh(path, scale_free=True)
    points, place = points_beside(mesh, f"REALY's {ALL} keypoints, or iBUG's {IBUG}")
    check_landmarks(mesh, points, IBUG if len(points) == IBUG else ALL, place)
    check_order(points[list(NOW_LANDMARKS)], true[list(NOW_LANDMARKS)], place)
    return mesh, points


def _errors_of(regions, millimetres, mesh, predicted, true, count):
    """{region: mean error in mm} of one prediction; `count` keypoints are known of both."""
    start = _onto_seven(predicted, true)
    surface = with_area(Surface(start.apply(mesh.vertices), mesh.triangles), f"{mesh.path}: triangles")
    predicted = start.apply(predicted)
    found = {}
    for region in REGIONS:
        scan = read_mesh(regions[region], scale_free=True)  # a nose is no face
        rigid = [number for number in RIGID_KEYPOINTS[region] if number < count]
        own = list(KEYPOINTS[region])
        away = millimetres * cKDTree(scan.vertices).query(true[own])[0]
        if away.max(initial=0) > REACH:
            raise ValueError(f"{scan.path}: keypoint {own[int(away.argmax())]} is {away.max():.3g} mm from the region, "
                             f"expected at most {REACH:g}: do both have one unit and place?")
        motion = onto_region(surface, scan.vertices, true[rigid], predicted[rigid], share=SHARE[region])
        errors = region_errors(scan.vertices, scan.triangles, true[own], surface, predicted[own], motion)
        found[region] = millimetres * float(errors.distances.mean())
    return found


def _onto_seven(predicted, true):
    """The motion with scale by seven keypoints; the scale is a ratio of sums of absolute coordinates."""
    source, target = predicted[list(NOW_LANDMARKS)], true[list(NOW_LANDMARKS)]
    rotation = similarity_between(source, target).rotation
    turned = (source - source.mean(0)) @ rotation.T
    scale = float(np.abs(target - target.mean(0)).sum() / np.abs(turned).sum())
    return Similarity(rotation, target.mean(0) - scale * rotation @ source.mean(0), scale)
