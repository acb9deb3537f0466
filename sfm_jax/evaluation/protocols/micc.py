"""MICC Florence: scans against predicted neutral meshes (Bagdanov et al. 2011), by the two protocols that are quoted.

Scans are cropped to 95 mm around the tip of the nose and meshes aligned with scale, as Genova et al. (CVPR 2018)
proposed; each prediction has one number, of which mean and standard deviation are taken.

Deep3D's (Deng et al., CVPRW 2019): the root mean square of point-to-plane distances, scan to mesh.

GANFIT's (Gecer et al., CVPR 2019, run_micc of github.com/barisgecer/GANFit): mesh and scan, each cropped, are moved
onto the other with scale by closest points until the mean distance falls by less than a micrometre, and the mean
distances to the closest points of both directions are averaged (which that code, too, calls point to plane). There
scans are first registered to one template, whose correspondences start the alignment and whose size is the unit, person
28 is cropped to 60 mm, and of a person's two scans the nearer counts; here scans are taken as they are, in mm, one for
each name, and the alignment starts from that of Deep3D's number.

Truth: PERSON.obj or .ply in mm, landmarks beside it (iBUG's 36, 39, 42, 45, 33, 48, 54 and 30, the tip of the nose, or
all 68). Predictions: PERSON.obj or PERSON/SCENARIO.obj, landmarks likewise, without the tip or all 68: then GANFIT's
crop of the mesh is, as there, around its own landmark 30, else around its vertex nearest to the scan's tip.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from sfm_jax.evaluation import figures
from sfm_jax.evaluation.protocols import published
from sfm_jax.evaluation.protocols.bootstrap import interval
from sfm_jax.evaluation.protocols.matching import common_names, files_by_name
from sfm_jax.evaluation.protocols.meshes import (
    MESH_SUFFIXES,
    Mesh,
    check_order,
    points_beside,
    read_landmarks,
    read_mesh,
    read_prediction,
    refuse_expressions,
)
from sfm_jax.evaluation.protocols.outcome import Estimate, Outcome, Row
from sfm_jax.evaluation.scan_to_mesh import MICC_RADIUS, NOW_LANDMARKS, cumulative_curve, micc_errors, with_area
from sfm_jax.geometry.closest_point import Surface
from sfm_jax.geometry.icp import Similarity, similarity_between

NOSE_TIP = 30
REPORTED = {"Deep3D's": "rms mm", "GANFIT's": "both ways mm"}
STILL = 1e-3  # mm
COLUMNS = ("mean", "std")
CURVE_END = 7.0  # mm


def evaluate(truth: str | Path, predictions: str | Path, name: str = "predictions", unit: float = 1.0,
             partial: bool = False, seed: int = 0, progress: Callable[[Iterable], Iterable] = iter) -> Outcome:
    """The table of a folder of predictions, all together and by scenario; intervals draw persons.

    Raises:
      ValueError: names that do not match, or anything wrong with a file.
    """
    scans = files_by_name(truth, MESH_SUFFIXES, "PERSON.obj or .ply")
    refuse_expressions(predictions)
    files = files_by_name(predictions, MESH_SUFFIXES, "PERSON.obj or PERSON/SCENARIO.obj")
    person = {one: one if one in scans else one.rpartition("/")[0] or one for one in files}
    matched = set(common_names(set(person.values()), scans, f"{predictions} and {truth}", partial))
    names = sorted(one for one in files if person[one] in matched)
    for one in names:  # every prediction is looked at before the first minute is spent
        _landmarks_and_tip(read_prediction(files[one], unit, scale_free=True), unit)
    distances, samples = [], []
    for one in progress(names):
        scan, mesh = read_mesh(scans[person[one]]), read_prediction(files[one], unit, scale_free=True)
        places = read_landmarks(scan, (*NOW_LANDMARKS, NOSE_TIP))
        landmarks, own_tip = _landmarks_and_tip(mesh, unit)
        check_order(landmarks, places[:-1], files[one])
        start = similarity_between(landmarks, places[:-1], scale=True)
        try:
            surface = with_area(Surface(mesh.vertices, mesh.triangles))
            found = micc_errors(scan.vertices, places[-1], surface, start)
        except ValueError as error:
            raise ValueError(f"{files[one]}: {error}") from None
        distances.append(found.distances)
        samples.append({"name": one, "person": person[one], "scenario": one[len(person[one]) + 1:],
                        "points": len(found.distances), "rms mm": float(np.sqrt(np.square(found.distances).mean())),
                        "both ways mm": both_ways(surface, found.motion, scan, places[-1], own_tip),
                        "scale": float(found.motion.scale),
                        "converged": int(found.report.converged)})
    scenarios = np.array([sample["scenario"] for sample in samples])
    rows = [Row(f"{name}{', ' + scenario if scenario else ''}, {title} ({len(some)})",
                _estimates([sample[key] for sample in some], [sample["person"] for sample in some], seed))
            for scenario in ("", *sorted(set(scenarios) - {""}))
            for some in [[sample for sample in samples if scenario in ("", sample["scenario"])]]
            for title, key in REPORTED.items()]
    limits = np.linspace(0, CURVE_END, 281)
    curve = figures.curves({"": (limits, cumulative_curve(distances, limits))}, "distance, mm",
                           "points of the scans, %")
    title = ("MICC Florence: distances of scans, cropped to 95 mm, and predicted meshes, in mm, over predictions: "
             "Deep3D's rms point to plane, GANFIT's mean both ways")
    return Outcome("micc", title, COLUMNS, tuple(rows), tuple(samples), published.MICC, (), {"cumulative": curve})


def _landmarks_and_tip(mesh, unit):
    """The seven landmarks [7, 3] of a predicted mesh, and the tip [3] of its nose, None where it has these alone."""
    landmarks = read_landmarks(mesh, unit=unit)
    if len(points_beside(mesh, "landmarks", unit)[0]) != 68:
        return landmarks, None
    return landmarks, read_landmarks(mesh, (NOSE_TIP,), unit)[0]


def both_ways(surface: Surface, motion: Similarity, scan: Mesh, tip: np.ndarray,
              own_tip: np.ndarray | None = None) -> float:
    """GANFIT's distance of a mesh, aligned by `motion`, and a scan with the tip [3] of its nose, in the scan's mm.

    own_tip: [3] of the mesh, in its axes; None: its vertex nearest to the scan's.
    """
    vertices = motion.apply(surface.vertices)
    nearest = vertices[np.linalg.norm(vertices - tip, axis=1).argmin()]
    own_tip = nearest if own_tip is None else motion.apply(own_tip)
    # In the mesh's own axes: what was learned there of its triangles is used again.
    there = motion.scale * _one_way(motion.undo(_cropped(scan.vertices, tip)), surface, STILL / motion.scale)
    back = _one_way(_cropped(vertices, own_tip), Surface(scan.vertices, scan.triangles), STILL)
    return (there + back) / 2


def _cropped(points, tip):
    return points[np.linalg.norm(points - tip, axis=1) < MICC_RADIUS]


def _one_way(points, surface, still):
    """Mean distance of points [n, 3] to a surface onto which they are moved with scale."""
    closest, before = surface.closest(points), np.inf
    while before - (mean := float(closest.distances.mean())) > still:
        before = mean
        points = similarity_between(points, closest.points, scale=True).apply(points)
        closest = surface.closest(points)
    return mean


def _estimates(values, people, seed):
    values = np.array(values)

    def moments(rows):
        return np.array([values[rows].mean(), values[rows].std()])

    return dict(zip(COLUMNS, map(Estimate, moments(np.arange(len(values))),
                                 *interval(moments, np.array(people), seed=seed)), strict=True))
