"""Fitting to landmarks, against eos: the same model, the same points, the same machine, in one process.

    pip install eos-py h5py && python -m experiments.benchmarks.landmark_fitting --eos-share=eos/share

`share` is the folder of that name in eos' sources: sfm_shape_3448.bin, expression_blendshapes_3448.bin,
ibug_to_sfm.txt, and the example's image_0010.pts beside them. eos (patrikhuber/eos, C++) fits one face after the other,
with its default settings but for the contour, for which ours has no counterpart; ours fits all of them at once, and one
alone; by turns, the median of 21 times each. Landmarks are those that the mapping gives to vertices, of its example
and of people drawn from the model, seen from yaws up to 40 degrees, with noise. Writes
experiments/results/landmark_fitting.{json,md}.
"""

import argparse
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from experiments.results import machine, markdown_table, write_result
from sfm_jax.geometry.rotation import rotation_from_euler
from sfm_jax.inference.fitting import Prior, Settings, fit_points, point_model, project
from sfm_jax.morphable.formats.eos import load_eos
from sfm_jax.morphable.formats.landmarks import read_landmarks

PEOPLE, NOISE, WIDTH = 256, 2.0, 640  # pixels
SETTINGS = Settings(deviation=0.01, robust=float("inf"), iterations=6)
IDENTITY, EXPRESSION = 1.0, 1.0  # deviations of the prior
ROUNDS = 21


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--eos-share", required=True, type=Path)
    share = parser.parse_args().eos_share
    model = load_eos(share / "sfm_shape_3448.bin", share / "expression_blendshapes_3448.bin",
                     share / "ibug_to_sfm.txt", share / "sfm_model_contours.json")
    mapped = sorted(read_landmarks(share / "ibug_to_sfm.txt").items())
    ids, vertices = [index for index, _ in mapped], np.array([vertex for _, vertex in mapped])
    truth, people = draw(model, vertices)
    example = np.loadtxt(share / "image_0010.pts", skiprows=3, max_rows=68, comments="}")[ids] - 1.0
    peer = Eos(share, ids, vertices)
    ours = Ours(model, vertices)
    numbers = {}
    for name, points in (("its example photo", example[None]), (f"{PEOPLE} drawn people", people)):
        contestants = {"eos": lambda points: np.stack([peer(one) for one in points]), "sfm-jax": ours}
        places = {who: fit(points) for who, fit in contestants.items()}  # and compiles
        seconds = {who: [] for who in contestants}
        for _ in range(ROUNDS):
            for who, fit in contestants.items():
                began = time.perf_counter()
                fit(points)
                seconds[who].append((time.perf_counter() - began) / len(points))
        real = truth if len(points) > 1 else None
        for who, found in places.items():
            error = np.linalg.norm(found - points, axis=-1).mean()
            true = np.linalg.norm(found - real, axis=-1).mean() if real is not None else None
            numbers[f"{name}, {who}"] = {
                "reprojection_px": float(error), "seconds_per_fit": float(np.median(seconds[who])),
                "error_to_true_px": None if true is None else float(true)}
    drawn = f"{PEOPLE} drawn people"
    ratio = numbers[f"{drawn}, eos"]["seconds_per_fit"] / numbers[f"{drawn}, sfm-jax"]["seconds_per_fit"]
    values = {"machine": machine(), "rows": numbers, "ratio": ratio, "landmarks": len(ids)}
    print(table(values))
    write_result("landmark_fitting", values, table(values))


def table(values: dict) -> str:
    rows = []
    for name, found in values["rows"].items():
        true = found["error_to_true_px"]
        rows.append([*name.split(", "), f"{found['reprojection_px']:.3f}", "" if true is None else f"{true:.3f}",
                     f"{1 / found['seconds_per_fit']:,.0f}"])
    header = ["landmarks of", "", "to those given, px", "to the true ones, px", "fits per second"]
    return (f"{markdown_table(header, rows)}\n\n{values['landmarks']} landmarks of Surrey's model in pictures {WIDTH} "
            f"pixels wide, {NOISE:g} pixels of noise. In a batch ours fits {values['ratio']:.1f} times as many a "
            "second as eos one by one.")


def draw(model, vertices):
    """True and noisy landmarks [N, P, 2] of people drawn from the model, pixels."""
    rng = np.random.default_rng(0)
    points = point_model(model, vertices)
    identity = rng.standard_normal((PEOPLE, len(points.identity))).astype(np.float32)
    expression = (rng.random((PEOPLE, len(points.expression))) * (rng.random((PEOPLE, len(points.expression))) < 0.3))
    pose = rng.uniform(-1, 1, (PEOPLE, 3)) * [40, 15, 15]
    places = jax.vmap(lambda i, e, r: project(points, i, e, r, jnp.float32(-0.2), jnp.zeros(2)))(
        identity, expression.astype(np.float32), rotation_from_euler(jnp.asarray(pose, jnp.float32)))
    true = WIDTH * np.asarray(places, np.float64)
    return true, true + NOISE * rng.standard_normal(true.shape)


class Ours:
    """Landmarks [N, P, 2] -> the model's [N, P, 2] after fits, all at once."""

    def __init__(self, model, vertices):
        self._points = point_model(model, vertices)
        free = Prior(jnp.zeros(len(self._points.identity)), jnp.float32(IDENTITY),
                     jnp.zeros((1, len(self._points.expression))), jnp.float32(EXPRESSION),
                     *self._points.expression_bounds)

        def one(seen):
            return fit_points(self._points, seen[None], jnp.ones((1, len(vertices))), free, SETTINGS)

        self._fit = jax.jit(jax.vmap(one))

    def __call__(self, points):
        low, high = points.min(1, keepdims=True), points.max(1, keepdims=True)
        corner, side = (low + high) / 2, 2.0**0.5 * (high - low).max(-1, keepdims=True)
        fit = self._fit(jnp.asarray((points - corner) / side + 0.5, jnp.float32))
        return side * (np.asarray(fit.points[:, 0], np.float64) - 0.5) + corner


class Eos:
    """One face's landmarks [P, 2] -> the model's [P, 2] after eos' fit."""

    def __init__(self, share, ids, vertices):
        import eos

        self._eos, self._ids, self._vertices = eos, ids, vertices
        shape = eos.morphablemodel.load_model(str(share / "sfm_shape_3448.bin"))
        expressions = eos.morphablemodel.load_blendshapes(str(share / "expression_blendshapes_3448.bin"))
        self._model = eos.morphablemodel.MorphableModel(
            shape.get_shape_model(), expressions, color_model=eos.morphablemodel.PcaModel(), vertex_definitions=None,
            texture_coordinates=shape.get_texture_coordinates())
        self._mapper = eos.core.LandmarkMapper(str(share / "ibug_to_sfm.txt"))

    def __call__(self, points):
        landmarks = [self._eos.core.Landmark(str(index + 1), point) for index, point in
                     zip(self._ids, points.astype(np.float32), strict=True)]
        mesh, pose, _, _ = self._eos.fitting.fit_shape_and_pose(self._model, landmarks, self._mapper, WIDTH, WIDTH)
        shape = np.c_[np.asarray(mesh.vertices)[self._vertices], np.ones(len(self._vertices))]
        camera = self._eos.fitting.get_3x4_affine_camera_matrix(pose, WIDTH, WIDTH)
        return (shape @ np.asarray(camera).T)[:, :2]


if __name__ == "__main__":
    main()
