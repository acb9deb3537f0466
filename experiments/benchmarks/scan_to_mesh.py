"""Scans: how fast distances to meshes are, and how near a fit comes to the true face.

    python -m experiments.benchmarks.scan_to_mesh [--people=10] [--scans=100]

Writes experiments/results/scan_to_mesh.{json,md}. Distances: NoW's protocol on scans of 50 000 points against meshes of
14 403 vertices, alignment included; the target is 60 s for 100 scans on two cores. Fits: people who are not in the
statistics of the model that is fitted (mean and 100 components of all others), with a mild expression; the front of the
face, 50 000 points and more, 20 % of it cut out as holes, Gaussian noise, any rotation; the target is 1.0 mm from the
true surface, holes included.
"""

import argparse
import time

import jax.numpy as jnp
import numpy as np
from scipy.spatial.transform import Rotation

from experiments.results import machine, markdown_table, write_result
from sfm_jax.evaluation.scan_to_mesh import NOW_LANDMARKS, now_errors, summary
from sfm_jax.geometry.closest_point import Surface, sample_surface
from sfm_jax.geometry.icp import Similarity
from sfm_jax.inference.scan_fitting import fit_scan
from sfm_jax.morphable.default import load_default, load_population

POINTS, COMPONENTS = 50_000, 100
LANDMARK_NOISE = 1.5  # mm


def without(model, people):
    """The model of the statistics of the codes of `people` [N, K] alone, COMPONENTS of them."""
    basis = np.asarray(model.identity_basis, np.float64).reshape(people.shape[1], -1)
    values, axes = np.linalg.eigh(np.cov(people.T))
    root = (axes * np.sqrt(values)) @ axes.T
    values, axes = np.linalg.eigh(root @ (basis @ basis.T) @ root)
    kept = (root @ axes[:, ::-1][:, :COMPONENTS]).T
    return model.replace(
        mean=model.decode(jnp.asarray(people.mean(0))),
        identity_basis=jnp.asarray((kept @ basis).reshape(COMPONENTS, -1, 3), jnp.float32),
        identity_sigma=jnp.asarray(np.sqrt(values[::-1][:COMPONENTS] / len(model.mean)), jnp.float32))


def mild_expression(model, rng):
    active = rng.random(len(model.expression_names)) < 6 / len(model.expression_names)
    active[model.expression_names.index("mouthClose")] = False
    return (active * rng.uniform(0.1, 0.4, len(active))).astype(np.float32)


def scan_of(model, shape, noise, rng):
    """points [N, 3] of the front of a face [V, 3] with holes, and the motion that was applied to them."""
    face, triangles = model.topology.region("face") > 0.5, model.topology.triangles
    points = sample_surface(shape, triangles[face[triangles].all(1)], int(1.4 * POINTS), rng).points
    kept = np.ones(len(points), bool)
    while kept.mean() > 0.8:
        kept &= np.linalg.norm(points - points[rng.integers(len(points))], axis=1) > rng.uniform(8, 18)
    points = points[kept] + noise * rng.normal(size=(kept.sum(), 3))
    motion = Similarity(Rotation.random(rng=rng).as_matrix(), rng.normal(size=3) * 300, 1.0)
    return motion.apply(points), motion


def fits(people, noise, with_landmarks, displace=False):
    """[people, 3]: mean distance of the true face's vertices to the surface found, and to their own, mm; seconds."""
    full, population = load_default(1), load_population()
    held = np.random.default_rng(5).permutation(len(population))[:people]
    model = without(full, np.delete(population.identity, held, axis=0))
    face, rows = full.topology.region("face") > 0.5, []
    for seed, person in enumerate(held):
        rng = np.random.default_rng(seed)
        shape = full.decode(jnp.asarray(population.identity[person]), jnp.asarray(mild_expression(full, rng)))
        points, motion = scan_of(full, np.asarray(shape, np.float64), noise, rng)
        truth = motion.apply(np.asarray(shape, np.float64))
        landmarks = truth[full.topology.landmarks] + LANDMARK_NOISE * rng.normal(size=(68, 3))
        begin = time.perf_counter()
        fit = fit_scan(model, points, landmarks=landmarks if with_landmarks else None, displace=displace)
        seconds = time.perf_counter() - begin
        nearest = Surface(fit.placed, full.topology.triangles).closest(truth[face]).distances
        own = np.linalg.norm(fit.placed - truth, axis=1)[face]
        rows.append((nearest.mean(), own.mean(), seconds))
        print(noise, with_landmarks, displace, np.round(rows[-1], 3), fit.report[:5], flush=True)
    return np.array(rows)


def now_seconds(scans):
    """Seconds of NoW's protocol on `scans` scans, loading left out; the summary of its errors."""
    model, population = load_default(1), load_population()
    triangles, seven = model.topology.triangles, model.topology.landmarks[list(NOW_LANDMARKS)]
    cases = []
    for k in range(scans):
        rng = np.random.default_rng(k)
        truth, predicted = (np.asarray(model.decode(jnp.asarray(population.identity[2 * k + i]))) for i in range(2))
        points = sample_surface(truth, triangles, 10 * POINTS, rng).points
        tip = truth[model.topology.landmarks[30]]
        # All of the scan's points are within the crop: these are the ones that cost.
        points = points[np.argsort(np.linalg.norm(points - tip, axis=1))[:POINTS]] + 0.2 * rng.normal(size=(POINTS, 3))
        cases.append((points.astype(np.float32), truth[seven], predicted / 1000))
    now_errors(*cases[0][:2], cases[0][2], triangles, cases[0][2][seven])  # compiles
    begin, cpu = time.perf_counter(), time.process_time()
    found = [now_errors(points, landmarks, predicted, triangles, predicted[seven])
             for points, landmarks, predicted in cases]
    return (time.perf_counter() - begin, time.process_time() - cpu, summary([each.distances for each in found]),
            float(np.mean([len(each.distances) for each in found])),
            float(np.mean([each.report.converged for each in found])))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--people", type=int, default=10)
    parser.add_argument("--scans", type=int, default=100)
    flags = parser.parse_args()
    wall, cpu, errors, points, converged = now_seconds(flags.scans)
    print(f"{flags.scans} scans: {wall:.0f} s, {cpu:.0f} s of processor, {points:.0f} points each, "
          f"{converged:.0%} converged, {errors}", flush=True)
    cases = {"68 landmarks, noise 2 mm": (2.0, True), "no landmarks, noise 2 mm": (2.0, False),
             "no landmarks, noise 0.2 mm": (0.2, False), "68 landmarks, noise 2 mm, displaced": (2.0, True, True)}
    results = {name: fits(flags.people, *case) for name, case in cases.items()}
    values = {"machine": machine(), "now": {
        "scans": flags.scans, "points": points, "seconds": wall, "processor_seconds": cpu, "converged": converged,
        **errors}, "fits": {name: found.tolist() for name, found in results.items()}}
    write_result("scan_to_mesh", values, table(values))
    print(table(values))


def table(values: dict) -> str:
    fits, now = {name: np.array(found) for name, found in values["fits"].items()}, values["now"]
    rows = [[name, *(f"{found[:, k].mean():.2f} ({found[:, k].max():.2f})" for k in (0, 1)),
             f"{np.median(found[:, 2]):.1f}"] for name, found in fits.items()]
    people = len(next(iter(fits.values())))
    return markdown_table([f"fit to the scans of {people} held-out people: mean (worst)",
                           "to the surface, mm", "to its own vertex, mm", "s per scan"], rows) + (
        f"\n\nNoW's protocol on {now['scans']} scans of {POINTS} points against 14 403 vertices, alignment included: "
        f"{now['seconds']:.0f} s ({now['processor_seconds']:.0f} s of processor time).")


if __name__ == "__main__":
    main()
