"""The report of learned detail: its numbers, coarse and fine faces side by side, and faces as files."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sfm_jax.data.crop import within_edges
from sfm_jax.evaluation import figures, strips
from sfm_jax.evaluation.report import Report, run_numbers
from sfm_jax.inference.detail_encoder import Detailed
from sfm_jax.inference.detail_files import clay, write_face
from sfm_jax.inference.face import Face
from sfm_jax.tasks.batched import in_batches
from sfm_jax.tasks.detail_measures import measure
from sfm_jax.tasks.photo_data import synthetic_photos, true_face

CURVES = ("photo", "displacement", "normal", "map", "vertex_normals", "triangle_normals", "hidden")
PICTURES, BATCH = 6, 3
DEEPEST = 0.6  # mm, at the ends of the scale of displacement pictures
LARGEST_ANGLE = 40.0  # degrees
HEADLINES = {  # name in report.json -> title, unit, the number it stands beside and what that is
    "detail/normal_error_fine_degrees": ("Normals, fine", "degrees", "detail/normal_error_coarse_degrees", "coarse"),
    "detail/correlation": ("Relief: correlation with the truth", "", "given_shape/correlation", "given the shape"),
    "given_shape/wrinkle_correlation": ("Wrinkles, given the shape: correlation", "", None, ""),
    "detail/photo_error_fine": ("Distance to the photo, fine", "", "detail/photo_error_coarse", "coarse"),
    "detail/largest_in_masked_mm": ("Displacement at brows, eyes, nose tip", "mm", None, ""),
}


def write_report(task, params, state, workdir: Path, run) -> dict:
    """Measure, write report.json, report.html and detail/ into `workdir`; returns the numbers by name."""
    config = task.config
    numbers = measure(task, params, state) | run_numbers(run) | {
        "run/uv_size": config.uv_size, "run/direction": config.direction, "run/coarse": config.coarse}
    report = Report("Detail: displacement maps learned from the photo itself",
                    f"Coarse faces of {config.coarse}; {config.uv_size} texels, photos of {config.image_size} pixels; "
                    f"{run.step} steps of {config.batch_size} photos on {run.device}.")
    for name, value in numbers.items():
        title, unit, rival, rival_name = HEADLINES.get(name, ("", "", None, ""))
        report.number(name, value, title, unit, f"{rival_name}: {numbers[rival]:.3g}" if rival else "")
    report.section("Learning", "What the network sees is the photo and the coarse face alone. True wrinkles are known "
                   "of synthetic photos and used for the figures above, on people never trained on: pixel by pixel on "
                   "the skin that is seen and may be displaced.")
    logged = [name for name in CURVES if any(name in row for row in run.history)]
    if logged:
        report.figure(figures.loss_curves(run.history, logged), "Loss terms over the run.")
    folder = Path(workdir) / "detail"
    for shown in _collections(task):
        found = _detailed(task, params, state, shown)
        report.section(shown.title, shown.text)
        report.figure(_sheet(task, found, shown.truth), "Displacement: dark is in, bright is out, the scale ends at "
                      f"{DEEPEST} mm. Errors: degrees between normals.", wide=True)
        for number in range(min(config.examples, len(shown.images))):
            one = jax.tree.map(lambda leaf, n=number: leaf[n], found)
            write_face(folder / f"{shown.name}_{number}", task.space, one)
    report.write(workdir)
    return report.numbers


class Shown(NamedTuple):
    """Photos of the report: images [N, S, S, 3] sRGB, and edges [N, 4, 3] of what they show (data/photos.py); truth:
    their record, if it is known; face_of: (state, images, ids [B]) -> coarse faces."""

    name: str
    title: str
    text: str
    images: np.ndarray
    edges: np.ndarray
    truth: dict | None
    face_of: Callable[[dict, jax.Array, jax.Array], Face]


def _collections(task):
    config = task.config
    photos = synthetic_photos(config, task.model, task.people.heldout, config.seed + 1)
    record = jax.device_get(jax.jit(photos.__call__)(jnp.arange(min(PICTURES, photos.persons), dtype=jnp.int32)))

    def coarse(state, images, ids):
        return task.coarse_face(state, images)

    yield Shown("heldout", "Held-out people", "Photos with known wrinkles, the coarse face, and the face with learned "
                "detail: in the photo's light, and as clay under a raking light.", record["image"], record["edges"],
                record, coarse)
    yield Shown("given_shape", "Held-out people, given their shape", "The same photos, if the coarse face were the "
                "true one but for its wrinkles: what is left to explain is detail alone.", record["image"],
                record["edges"], record, lambda state, images, ids: true_face(photos, photos.scenes(ids)))
    if task.shown is not None:
        shown = task.shown.load(np.arange(min(config.data.shown_photos, len(task.shown))))
        yield Shown("shown", "Real photos", f"From {config.data.shown}. Of these nobody knows the truth: what has no "
                    "cause in the face is noise, from hair, shadows, compression or a coarse face that does not fit.",
                    shown["image"].astype(np.float32) / 255, shown["edges"], None, coarse)


def _detailed(task, params, state, shown: Shown) -> Detailed:
    """The detailed faces of any number of photos, in NumPy."""
    def show(params, state, images, edges, ids):
        inside = within_edges(edges, task.config.image_size)
        return task.encoder.detailed(params, shown.face_of(state, images, ids), images, inside)

    show = jax.jit(show)
    return in_batches(lambda rows: show(params, state, shown.images[rows], shown.edges[rows], jnp.asarray(rows)),
                      len(shown.images), BATCH)


def _sheet(task, found: Detailed, truth: dict | None):
    columns = {"photo": found.photo, "coarse": found.coarse["colour"], "fine": found.fine["colour"]}
    columns |= dict(zip(("coarse, clay", "fine, clay"), clay(task.space, found), strict=True))
    columns["displacement"] = _relief(found.fine["displacement"])
    if truth is not None:
        columns["true displacement"] = _relief(truth["displacement"])
        for title, seen in (("coarse error", found.coarse), ("fine error", found.fine)):
            cosine = np.sum(seen["normals"] * truth["normals"], -1)
            inside = (seen["free"] > 0.5) & (truth["mask"] > 0.9)
            columns[title] = np.where(inside, np.degrees(np.arccos(np.clip(cosine, -1, 1))), np.nan)
    return strips.strips(columns, highest=LARGEST_ANGLE, side=200)


def _relief(displacement):
    """Grey pictures [N, S, S, 3] of displacements [N, S, S] mm."""
    grey = np.clip(0.5 + 0.5 * np.asarray(displacement) / DEEPEST, 0, 1)
    return np.repeat(grey[..., None], 3, -1)
