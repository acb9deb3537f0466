"""The measures of the FaceScape benchmark: Chamfer distance, normal error and completeness of predicted meshes.

Zhu et al., TPAMI 2023, by `scan_to_mesh.surface_errors`. Truth and predictions: NAME.obj or .ply, of one name, with
landmarks beside them (see `meshes.read_landmarks`): meshes are aligned by these and by closest points, with scale, as
single photos do not say sizes. `aligned` ones are taken as they are and need no landmarks. Intervals draw folders,
PERSON of PERSON/NAME.obj.

The same questions as the benchmark's own code (benchmark/code of github.com/zhuhao-nju/facescape), not its numbers.
There nothing is turned: the prediction stays where its camera puts it, is shifted in depth alone, and scaled so that
the truth's pupils are 62.85 mm apart, so that errors of the pose count. Both are unrolled to maps of 256 x 256 around
the head; completeness is the share of the truth's pixels that both have, and Chamfer's distance the mean over the
vertices of both maps there, with no limit. Angles are of normals to whose components 1 was added, in radians, which
makes them smaller. Faces that were not predicted count for "done" alone, as here.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from sfm_jax.evaluation import figures
from sfm_jax.evaluation.protocols import published
from sfm_jax.evaluation.protocols.bootstrap import folders, interval
from sfm_jax.evaluation.protocols.matching import common_names, files_by_name
from sfm_jax.evaluation.protocols.meshes import MESH_SUFFIXES, Mesh, check_order, read_landmarks, read_mesh
from sfm_jax.evaluation.protocols.outcome import Estimate, Outcome, Row
from sfm_jax.evaluation.scan_to_mesh import surface_errors, with_area
from sfm_jax.geometry.closest_point import Surface
from sfm_jax.geometry.icp import Similarity, icp, similarity_between

MEASURES = {"chamfer mm": "chamfer", "normals degrees": "normals", "completeness %": "completeness"}
COLUMNS = (*MEASURES, "done %")
REACH = 10.0  # mm
SAMPLES = 3000  # of the truth, that the alignment looks at


def evaluate(truth: str | Path, predictions: str | Path, name: str = "predictions", unit: float = 1.0,
             aligned: bool = False, partial: bool = False, seed: int = 0,
             progress: Callable[[Iterable], Iterable] = iter) -> Outcome:
    """The table of a folder of predictions. partial: what was not predicted only lessens "done".

    Raises:
      ValueError: names that do not match, or anything wrong with a file.
    """
    scans = files_by_name(truth, MESH_SUFFIXES, "NAME.obj or .ply")
    files = files_by_name(predictions, MESH_SUFFIXES, "NAME.obj or .ply")
    names = common_names(files, scans, f"{predictions} and {truth}", partial)
    for one in names:  # every prediction is looked at before the first minute is spent
        mesh = read_mesh(files[one], unit, scale_free=not aligned)
        if not aligned:
            read_landmarks(mesh, unit=unit)
    samples = []
    for one in progress(names):
        scan, mesh = read_mesh(scans[one]), read_mesh(files[one], unit, scale_free=not aligned)
        vertices = mesh.vertices if aligned else alignment(mesh, scan, unit).apply(mesh.vertices)
        try:
            found = surface_errors((vertices, mesh.triangles), (scan.vertices, scan.triangles), REACH, seed=seed)
        except ValueError as error:
            raise ValueError(f"{files[one]}: {error}") from None
        if found.normals > 90:
            raise ValueError(f"{files[one]}: found normals {found.normals:.0f} degrees off the truth's, expected at "
                             "most 90: its triangles, or the truth's, are turned inside out")
        samples.append({"name": one, **{column: getattr(found, key) * (100 if column.endswith("%") else 1)
                                        for column, key in MEASURES.items()}})
    values = np.array([[sample[column] for column in MEASURES] for sample in samples])
    ends = interval(lambda rows: values[rows].mean(0), folders(names), seed=seed)
    measured = dict(zip(MEASURES, map(Estimate, values.mean(0), *ends), strict=True))
    measured["done %"] = Estimate(100 * len(names) / len(scans))
    limits = np.linspace(0, REACH, 201)
    curve = figures.curves({"": (limits, 100 * (values[:, :1] <= limits).mean(0))}, "Chamfer distance, mm", "faces, %")
    notes = ("The peers' row is by the benchmark's own code, which aligns by the camera and counts errors of the pose. "
             f"Points farther than {REACH:g} mm from the other mesh count for completeness alone. Meshes are "
             f"{'taken as they are' if aligned else 'aligned by landmarks and closest points, with scale'}.",)
    title = "FaceScape's measures: mean over faces of Chamfer distance, normal error and completeness"
    row = Row(f"{name} ({len(names)} of {len(scans)} faces)", measured)
    return Outcome("facescape", title, COLUMNS, (row,), tuple(samples), published.FACESCAPE, notes,
                   {"chamfer": curve})


def alignment(mesh: Mesh, scan: Mesh, unit: float = 1.0) -> Similarity:
    """The motion of a mesh onto a scan, with scale: by seven landmarks, then by closest points.

    Raises:
      ValueError: landmarks that are missing or wrong.
    """
    landmarks, places = read_landmarks(mesh, unit=unit), read_landmarks(scan)
    check_order(landmarks, places, mesh.path)
    start = similarity_between(landmarks, places, scale=True)
    points = np.random.default_rng(0).permutation(scan.vertices)[:SAMPLES]
    surface = with_area(Surface(mesh.vertices, mesh.triangles), f"{mesh.path}: triangles")
    return icp(surface, points, start, scale=True, cutoff=REACH, tolerance=1e-4).motion
