"""The report of a stage 1 run: numbers, curves and faces of held-out people."""

from pathlib import Path

import jax
import numpy as np

from sfm_jax.evaluation import figures, pictures, surface
from sfm_jax.evaluation.report import Report, run_numbers, without_infinite
from sfm_jax.tasks.sphere_measures import measure_heldout, summarise

CURVES = ("loss", "neutral", "scan", "identity")
HEADLINES = {  # name in report.json -> title, unit, the number it stands beside
    "heldout/vertex_error_mm": ("Neutral face from a scan", "mm", "heldout/map_pca_vertex_error_mm"),
    "heldout/unit_code_vertex_error_mm": ("Neutral face, codes at length 1", "mm", "heldout/map_pca_vertex_error_mm"),
    "heldout/best_fit_error_mm": ("Best fit to a clean face", "mm", "heldout/pca_best_fit_error_mm"),
    "heldout/rank1": ("Rank-1 identification", "", "heldout/pca_rank1"),
    "heldout/tar_at_far_1e-3": ("True accepts at 1e-3 false", "", "heldout/pca_tar_at_far_1e-3"),
    "heldout/verification_accuracy": ("Verification accuracy", "", "heldout/pca_verification_accuracy"),
    "codes/uniformity": ("Uniformity of codes", "", None),
}

CODES = {  # by config.sphere: what they are in the subtitle, in the text and in the caption of their lengths
    "hard": ("on the sphere", "The codes are unit vectors `z`; the same `z` is compared by its angle and, times a "
             "learned radius, makes the face. ", ": those of the sphere are all one"),
    "soft": ("near the sphere", "The codes are drawn to length 1, but may have any: as they are, times a learned "
             "radius, they make the face, and they are compared by their angle. The saved model decodes unit vectors: "
             "how far off the codes are at length 1 is a number of its own. ", ", drawn to 1"),
    "gaussian": ("of any length", "The codes are vectors of any length, which make the face and are compared by their "
                 "angle. ", ""),
}


def write_report(task, params, state, workdir: Path, run) -> dict:
    """Measure, write report.json and report.html into `workdir`; returns the numbers by name."""
    heldout = measure_heldout(task, params, state)
    numbers, verifications = summarise(task, heldout, params)
    numbers |= run_numbers(run) | {"run/sphere": task.config.sphere, "run/components": task.config.components}
    numbers, infinite = without_infinite(numbers)
    report = Report("Sphere Face Model, stage 1", _subtitle(task, run))
    for name, value in numbers.items():
        title, unit, rival = HEADLINES.get(name, ("", "", None))
        note = f"classical PCA: {numbers[rival]:.4g}{' ' + unit if unit else ''}" if rival else ""
        report.number(name, value, title, unit, note)
    _learning(report, run, verifications, heldout, task)
    if infinite:
        report.section("Infinite measures", infinite)
    _faces(report, task, heldout)
    _explore(report, task.learned_model(params), heldout, task.config.sphere == "gaussian")
    report.write(workdir)
    return report.numbers


def _subtitle(task, run):
    return (f"{task.train_scans.persons} people to learn from, {task.heldout_scans.persons} held out; "
            f"codes of {task.config.components} numbers, {CODES[task.config.sphere][0]} ({task.config.sphere}); "
            f"{run.step} steps on {run.device}.")


def _learning(report, run, verifications, heldout, task):
    _, text, lengths = CODES[task.config.sphere]
    report.section("Learning", text + "The classical model is a PCA of the same people with the same "
                   "number of components, fitted to the same scans (maximum a posteriori, identity and expression).")
    if run.history:
        report.figure(figures.loss_curves(run.history, CURVES), "Loss terms over the run.")
    report.figure(figures.roc_curves(verifications), "Verification of held-out people, over all pairs of scans.")
    ours = "|z|, sphere" if task.config.sphere == "hard" else "|c|, ours"
    report.figure(figures.norm_histogram({ours: heldout.code, "|c|, PCA": heldout.pca_codes}),
                  f"Lengths of held-out codes{lengths}.")
    errors = {name: np.asarray(surface.error_map(shapes, heldout.truth))
              for name, shapes in (("ours", heldout.neutral), ("PCA", heldout.pca_neutral))}
    face = task.weights > 0
    highest = float(np.percentile(errors["PCA"][face], 98))
    for name, error in errors.items():
        report.figure(figures.error_map(task.classical.mean, task.model.topology.triangles, error, highest),
                      f"Mean error of the neutral face from a scan, {name}.")


def _faces(report, task, heldout):
    report.section("Held-out people", "Each column is one person that was never trained on.")
    frame = pictures.framing(np.asarray(task.model.mean))
    triangles = task.model.topology.triangles
    _, first = np.unique(heldout.labels, return_index=True)
    chosen = first[:6]
    scans = task.heldout_scans.batch(chosen)["vertices"]
    people = heldout.labels[chosen]
    rows = {
        "scan": scans, "truth": heldout.truth[chosen], "ours, from the scan": heldout.neutral[chosen],
        "PCA, from the scan": heldout.pca_neutral[chosen], "best fit": heldout.best_fit[people],
    }
    grid = [[pictures.shaded(shape, triangles, 180, yaw=20, frame=frame) for shape in shapes]
            for shapes in rows.values()]
    report.figure(figures.image_grid(grid, [f"person {label}" for label in people], list(rows)), wide=True)


def _explore(report, model, heldout, gaussian):
    """Between codes and around one, on the sphere or, of a Gaussian model, in space."""
    frame, steps = pictures.framing(np.asarray(model.base.mean)), np.linspace(0.0, 1.0, 7)
    _, first = np.unique(heldout.labels, return_index=True)
    codes = (heldout.code if gaussian else heldout.z)[first]
    if gaussian:
        report.section("The space of codes", "Walks along straight lines between held-out people, and faces around one "
                       "person (half as far as people are from each other).")
        spread = np.std(codes, axis=0) * np.random.default_rng(0).normal(size=(len(steps), codes.shape[1]))
        near = codes[0] + spread.astype(np.float32) / 2
    else:
        report.section("The sphere", "Walks along geodesics between held-out people (`slerp`), and faces around one "
                       "person (von Mises-Fisher).")
        near = model.sample_near(jax.random.key(0), codes[0], 4.0 * model.dimension, len(steps))

    def between(a, b, t):
        return (1 - t) * a + t * b if gaussian else model.interpolate(a, b, t)

    def strip(codes):
        return [pictures.shaded(shape, model.topology.triangles, 160, yaw=15, frame=frame)
                for shape in np.asarray(model.decode(codes))]

    walks = [strip(np.stack([np.asarray(between(codes[2 * k], codes[2 * k + 1], t)) for t in steps]))
             for k in range(min(2, len(codes) // 2))]
    labels = [f"walk {k + 1}" for k in range(len(walks))] + ["around a person"]
    report.figure(figures.image_grid([*walks, strip(np.asarray(near))], [f"{t:.2f}" for t in steps], labels), wide=True)
