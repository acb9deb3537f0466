"""The report of learning from photos: numbers, curves, and pictures of held-out people."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from sfm_jax.data.damage import to_linear, to_srgb
from sfm_jax.evaluation import figures, pictures, strips, surface
from sfm_jax.evaluation.report import Report, run_numbers, without_infinite
from sfm_jax.inference.face_renderer import FaceRenderer
from sfm_jax.losses.image import colour_distance
from sfm_jax.tasks.photo_data import synthetic_photos
from sfm_jax.tasks.photo_measures import Examination, HeldOut, measure_heldout, summarise

CURVES = ("loss", "landmark", "shape", "identity", "pixel", "rotation", "contrastive", "same_features", "parameters",
          "cycle_identity", "cycle_expression", "cycle_pose", "cycle_return", "swap")
PICTURES = 8
COMPARED = ("heldout", "sir", "pose")  # measures that stand beside those of another run
HEADLINES = {  # name in report.json -> title, unit, the number it stands beside and what that is
    "heldout/nme_percent": ("Landmark error (NME)", "%", None, ""),
    "heldout/neutral_shape_error_mm": ("Neutral face from one photo", "mm", "heldout/mean_face_error_mm", "mean face"),
    "heldout/rank1": ("Rank-1 from shape codes", "", "heldout/rank1_chance", "chance"),
    "heldout/verification_accuracy": ("Verification accuracy", "", None, ""),
    "sir/between_within_ratio": ("Shapes: between / within people", "", None, ""),
    "sir/geometry_rank1": ("Rank-1 from shapes", "", None, ""),
    "pose/within_mm": ("Change of a shape over yaw", "mm", "pose/between_mm", "between people"),
}


def write_report(task, params, state, workdir: Path, run) -> dict:
    """Measure, write report.json and report.html into `workdir`; returns the numbers by name."""
    examination = Examination(task, params, state)
    heldout = measure_heldout(examination)
    numbers, verified = summarise(task, heldout)
    numbers |= task.examine(examination) | run_numbers(run) | {
        "run/sphere": task.config.sphere, "run/trunk": task.config.trunk,
        "codes/radius": float(np.exp(params["log_radius"]))}
    numbers, infinite = without_infinite(numbers)
    report = Report(task.title, _subtitle(task, run))
    for name, value in numbers.items():
        title, unit, rival, rival_name = HEADLINES.get(name, ("", "", None, ""))
        note = f"{rival_name}: {numbers[rival]:.3g}{' ' + unit if unit else ''}" if rival else ""
        report.number(name, value, title, unit, note)
    _learning(report, task, run, heldout, verified, numbers)
    if infinite:
        report.section("Infinite measures", infinite)
    _photos(report, task, params, state)
    _shapes(report, task, heldout)
    task.illustrate(report, params, state, numbers)
    if task.rival:
        others = f" Its held-out photos are others: {'; '.join(task.rival_differs)}." if task.rival_differs else ""
        report.section("Beside another run", f"{task.config.rival}: the same measures.{others}")
        report.table([{"": name, "this run": value, "the other": task.rival[name]} for name, value in numbers.items()
                      if name.split("/")[0] in COMPARED and name in task.rival])
    report.write(workdir)
    return report.numbers


def _subtitle(task, run):
    config, persons = task.config, task.mixture.persons
    heldout = len(task.people.heldout.identity)
    # Clips, and photos of which landmarks alone are known, do not tell who is in them.
    people = f"{persons} people to learn from, {heldout} held out" if persons else f"{heldout} people held out"
    return (f"{people}; trunk {config.trunk} at {config.image_size} pixels; {run.step} steps of {config.batch_size} "
            f"photos on {run.device}.")


def _learning(report, task, run, heldout, verified, numbers):
    report.section("Learning", "Photos with a person's label shape the identity codes, photos with landmarks and 3D "
                   "labels the geometry. All figures are of people, and photos, that were never trained on.")
    logged = [name for name in CURVES if any(name in row for row in run.history)]
    if logged:
        report.figure(figures.loss_curves(run.history, logged), "Loss terms over the run.")
    report.figure(figures.roc_curves({"shape codes": verified}), "Verification from shape codes, over all pairs.")
    baseline = np.broadcast_to(task.model.mean, heldout.neutral.shape)
    truth = heldout.people[heldout.person]
    errors = {"from one photo": surface.error_map(heldout.neutral, truth),
              "mean face": surface.error_map(baseline, truth)}
    highest = float(np.percentile(np.asarray(errors["mean face"])[task.weights > 0], 98))
    for name, error in errors.items():
        report.figure(figures.error_map(task.start.mean, task.model.topology.triangles, np.asarray(error), highest),
                      f"Mean error of the neutral face: {name}.")
    report.table([{"yaw": name.rsplit("_", 1)[1], "NME %": value} for name, value in numbers.items()
                  if name.startswith("heldout/nme_percent_yaw_")], "Landmark error by yaw, degrees")


def _photos(report, task, params, state):
    """Photo, render, overlay and error of a few held-out photos."""
    size = task.config.image_size
    photos = synthetic_photos(task.config, task.model, task.people.heldout, task.config.seed + 1)
    renderer = FaceRenderer(task.model, size)

    @jax.jit
    def show(params, state, ids):
        record = photos(ids)
        prediction, _ = task.predict(params, state, record["image"])
        face = task.decoder(params)(prediction.codes, size)
        alone = renderer(face, jnp.ones((len(ids), size, size, 3)))
        over = renderer(face, to_linear(record["image"]))
        error = colour_distance(to_srgb(over.colour), record["image"])
        error = jnp.where(over.alpha > 0.5, error, jnp.nan)  # not on the face: left blank
        return (record["image"], to_srgb(alone.colour), to_srgb(over.colour), error, face.landmarks,
                record["landmarks"])

    photo, alone, over, error, found, truth = jax.device_get(show(params, state, jnp.arange(PICTURES)))
    report.section("Held-out photos", "What the network sees, and what it makes of it.")
    report.figure(strips.strips({"photo": photo, "render": alone, "overlay": over, "error": error},
                                landmarks={"overlay": found}, truth={"photo": truth}),
                  "Error: distance of sRGB colours in [0, 1].", wide=True)


def _shapes(report, task, heldout: HeldOut):
    report.section("Held-out people", "Each column is one person: the true neutral face, and the neutral faces that "
                   "three photos of it gave.")
    frame = pictures.framing(np.asarray(task.model.mean))
    people = range(min(6, len(heldout.people)))
    rows = {"truth": [heldout.people[person] for person in people]}
    for number in range(3):
        chosen = [np.flatnonzero(heldout.person == person) for person in people]
        rows[f"photo {number + 1}"] = [heldout.neutral[photos[number % len(photos)]] for photos in chosen]
    grid = [[pictures.shaded(shape, task.model.topology.triangles, 180, yaw=20, frame=frame) for shape in shapes]
            for shapes in rows.values()]
    report.figure(figures.image_grid(grid, [f"person {person}" for person in people], list(rows)), wide=True)
