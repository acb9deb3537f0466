"""REALY's errors by region of the face: nose, mouth, forehead, cheek (Chai et al., ECCV 2022).

By `scan_to_mesh.region_errors`, which says where it differs from the authors' code. Truth: NAME/REGION.obj or .ply in
mm, and NAME/keypoints.npz with an array [P, 3] for each region that has keypoints. Predictions: NAME.obj or .ply in mm,
and NAME.npz with the same keys: the same keypoints of the prediction.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from sfm_jax.evaluation import figures
from sfm_jax.evaluation.protocols.bootstrap import interval
from sfm_jax.evaluation.protocols.landmark_files import read_arrays
from sfm_jax.evaluation.protocols.matching import common_names, files_by_name
from sfm_jax.evaluation.protocols.meshes import MESH_SUFFIXES, check_landmarks, read_mesh
from sfm_jax.evaluation.protocols.outcome import Estimate, Outcome, Row
from sfm_jax.evaluation.scan_to_mesh import region_errors
from sfm_jax.geometry.icp import similarity_between

REGIONS = ("nose", "mouth", "forehead", "cheek")
KEYPOINTS = "keypoints.npz"
REACH = 5.0  # mm, of keypoints from their region


def evaluate(truth: str | Path, predictions: str | Path, name: str = "predictions", unit: float = 1.0,
             partial: bool = False, seed: int = 0, progress: Callable[[Iterable], Iterable] = iter) -> Outcome:
    """The table of a folder of predictions: rms error of each region, and the mean of the regions, in mm.

    Raises:
      ValueError: names that do not match, or anything wrong with a file.
    """
    parts = files_by_name(truth, MESH_SUFFIXES, "NAME/REGION.obj or .ply")
    faces: dict[str, dict[str, Path]] = {}
    for part, path in parts.items():
        face, _, region = part.rpartition("/")
        if region not in REGIONS or not face:
            raise ValueError(f"{path}: found the name {part!r}, expected NAME/REGION, a region being one of "
                             f"{', '.join(REGIONS)}")
        faces.setdefault(face, {})[region] = path
    for face, regions in faces.items():
        if lacking := [region for region in REGIONS if region not in regions]:
            raise ValueError(f"{truth}: {face}: found no {', '.join(lacking)}, expected {', '.join(REGIONS)}")
    files = files_by_name(predictions, MESH_SUFFIXES, "NAME.obj or .ply")
    names = common_names(files, faces, f"{predictions} and {truth}", partial)
    samples = [{"name": one, **_errors_of(faces[one], files[one], unit)} for one in progress(names)]
    values = np.array([[sample[region] for region in REGIONS] for sample in samples])
    values = np.column_stack([values, values.mean(1)])
    columns = (*REGIONS, "all")
    ends = interval(lambda rows: values[rows].mean(0), np.arange(len(names)), seed=seed)
    rows = [Row(f"{name} ({len(names)} of {len(faces)} faces), mean",
                dict(zip(columns, map(Estimate, values.mean(0), *ends), strict=True))),
            Row(f"{name}, std", dict(zip(columns, map(Estimate, values.std(0)), strict=True)))]
    limits = np.linspace(0, max(values.max() * 1.05, 1e-3), 201)
    curve = figures.curves({column: (limits, 100 * (each[:, None] <= limits).mean(0))
                            for column, each in zip(columns, values.T, strict=True)}, "rms error, mm", "faces, %")
    notes = ("Correspondences by a smooth field, not the authors' non-rigid ICP: of the same purpose, not the same "
             "numbers as REALY's table.",)
    title = "REALY: rms distance of a scan's region to its places on the predicted mesh, in mm, over faces"
    return Outcome("realy", title, columns, tuple(rows), tuple(samples), (), notes, {"regions": curve})


def _errors_of(regions, path, unit):
    """{region: rms error} of one prediction."""
    mesh = read_mesh(path, unit)
    folder = regions[REGIONS[0]].parent
    true = _keypoints(folder / KEYPOINTS)
    predicted = {region: unit * points for region, points in _keypoints(path.with_suffix(".npz")).items()}
    for region in REGIONS:
        points = predicted.setdefault(region, np.empty((0, 3)))
        expected = true.setdefault(region, np.empty((0, 3)))
        if points.shape != expected.shape:
            raise ValueError(f"{path.with_suffix('.npz')}: key '{region}': found keypoints of shape {points.shape}, "
                             f"the truth has {expected.shape}")
        if len(points):
            check_landmarks(mesh, points, len(points), path.with_suffix(".npz"))
    start = similarity_between(*(np.concatenate([some[region] for region in REGIONS]) for some in (predicted, true)))
    found = {}
    for region in REGIONS:
        scan = read_mesh(regions[region], scale_free=True)  # a nose is no face
        if len(true[region]) and (away := cKDTree(scan.vertices).query(true[region])[0]).max() > REACH:
            raise ValueError(f"{folder / KEYPOINTS}: key '{region}': keypoint {int(away.argmax())} is {away.max():.3g} "
                             f"mm from the region, expected at most {REACH:g}: it would pull the mesh off")
        errors = region_errors(scan.vertices, scan.triangles, true[region], mesh.vertices, mesh.triangles,
                               predicted[region], start)
        found[region] = float(np.sqrt(np.square(errors.distances).mean()))
    return found


def _keypoints(path):
    arrays = read_arrays(path)
    for region, points in arrays.items():
        if region not in REGIONS or points.ndim != 2 or points.shape[1:] != (3,) or not np.isfinite(points).all():
            raise ValueError(f"{path}: key '{region}': found shape {points.shape}, expected finite [P, 3] of a region "
                             f"among {', '.join(REGIONS)}")
    return {region: points.astype(np.float64) for region, points in arrays.items()}
