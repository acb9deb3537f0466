"""MICC Florence: scans against predicted neutral meshes, point to plane (Bagdanov et al. 2011).

As Genova et al. (CVPR 2018) proposed and GANFIT (Gecer et al., CVPR 2019) and Deep3D (Deng et al., CVPRW 2019) report
it: scans cropped to 95 mm around the tip of the nose, meshes aligned with scale, one number for each prediction, mean
and standard deviation over predictions. Deep3D's number is the root mean square, GANFIT's the mean distance.

Truth: PERSON.obj or .ply in mm, landmarks beside it (iBUG's 36, 39, 42, 45, 33, 48, 54 and 30, the tip of the nose, or
all 68). Predictions: PERSON.obj or PERSON/SCENARIO.obj, landmarks likewise, without the tip.
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
    read_landmarks,
    read_mesh,
    read_prediction,
    refuse_expressions,
)
from sfm_jax.evaluation.protocols.outcome import Estimate, Outcome, Row
from sfm_jax.evaluation.scan_to_mesh import NOW_LANDMARKS, cumulative_curve, micc_errors
from sfm_jax.geometry.icp import similarity_between

NOSE_TIP = 30
REPORTED = {"Deep3D's, rms": "rms mm", "GANFIT's, mean": "mean mm"}
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
        read_prediction(files[one], unit, scale_free=True)
    distances, samples = [], []
    for one in progress(names):
        scan, mesh = read_mesh(scans[person[one]]), read_prediction(files[one], unit, scale_free=True)
        places = read_landmarks(scan, (*NOW_LANDMARKS, NOSE_TIP))
        start = similarity_between(read_landmarks(mesh, unit=unit), places[:-1], scale=True)
        try:
            found = micc_errors(scan.vertices, places[-1], mesh.vertices, mesh.triangles, start)
        except ValueError as error:
            raise ValueError(f"{files[one]}: {error}") from None
        distances.append(found.distances)
        samples.append({"name": one, "person": person[one], "scenario": one[len(person[one]) + 1:],
                        "points": len(found.distances), "rms mm": float(np.sqrt(np.square(found.distances).mean())),
                        "mean mm": float(found.distances.mean()), "scale": float(found.motion.scale),
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
    title = ("MICC Florence: point-to-plane distance of scans, cropped to 95 mm, to predicted meshes, in mm, over "
             "predictions")
    return Outcome("micc", title, COLUMNS, tuple(rows), tuple(samples), published.MICC, (), {"cumulative": curve})


def _estimates(values, people, seed):
    values = np.array(values)

    def moments(rows):
        return np.array([values[rows].mean(), values[rows].std()])

    return dict(zip(COLUMNS, map(Estimate, moments(np.arange(len(values))),
                                 *interval(moments, np.array(people), seed=seed)), strict=True))
