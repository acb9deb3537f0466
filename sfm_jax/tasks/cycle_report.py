"""What the report shows of cycle-consistency: what moves with what, and faces on their way through the cycle."""

import jax
import jax.numpy as jnp
import numpy as np

from sfm_jax.data.clips import SyntheticClips
from sfm_jax.data.damage import to_linear, to_srgb
from sfm_jax.evaluation import figures, strips
from sfm_jax.evaluation.report import Report
from sfm_jax.tasks.motion_measures import PROPERTIES, measured
from sfm_jax.tasks.photo_data import synthetic_photos

PAIRS, FRAMES, APART = 6, 16, 5  # pairs shown, frames of their clips, frames between the two
COLUMNS = ("frame a", "frame b", "b's expression", "taken out", "b's pose", "turned back", "a as b")


def illustrate(report: Report, task, params: dict, state: dict, numbers: dict) -> None:
    """Add to the report of a Cycle task."""
    _matrix(report, numbers)
    report.section("Through the cycle", "Frames a and b of clips of held-out people. What the network says of b's "
                   "expression, or pose, is put into a's face; that picture is read, and the change taken out again. "
                   "Last, a's person as the network sees it in b's place.")
    report.figure(strips.strips(_pictures(task, params, state), side=190), wide=True)


def _matrix(report, numbers):
    names = measured(numbers)
    still = [name for name in PROPERTIES if name not in names]
    left_out = f" Left out, for these photos do not vary it: {', '.join(still)}." if still else ""
    report.section("What moves with what", "Held-out photos, shot again with one property changed. A column says how "
                   "far the answer's property moves, relative to how far it does when it really changes: 0 is "
                   f"perfect.{left_out}")
    # What is infinite is no number of the report.
    matrix = np.array([[1.0 if row == column else numbers.get(f"disentanglement/{row}_moves_{column}", np.inf)
                        for column in names] for row in names])
    report.figure(figures.matrix(matrix, names, names, "varied in the photo", "moves in the answer"),
                  f"Mean off the diagonal: {numbers.get('disentanglement/off_diagonal', np.inf):.3f}.")


def _pictures(task, params, state):
    """Columns of sRGB images [PAIRS, S, S, 3] by title."""
    photos = synthetic_photos(task.config, task.model, task.people.heldout, task.config.seed + 1)
    clips = SyntheticClips(photos, PAIRS, FRAMES)

    @jax.jit
    def show(params, state):
        ids = jnp.arange(PAIRS, dtype=jnp.int32) * FRAMES
        images = [clips(frames)["image"] for frames in (ids, ids + APART)]
        decode, size = task.decoder(params), task.config.image_size

        def encode(images):
            return task.predict(params, state, images)[0].codes

        first, second = ({"image": image, "codes": encode(image)} for image in images)
        cycled = task.cycle(encode, decode, first, second)
        back = to_srgb(task.renderer(decode(cycled.back, size), to_linear(cycled.before["image"])).colour)
        person = {name: getattr(first["codes"], name) for name in ("identity", "albedo")}
        swapped = task.renderer(decode(second["codes"]._replace(**person), size), to_linear(second["image"]))
        put = jnp.split(cycled.image, 2)
        back = jnp.split(back, 2)
        return [*images, put[0], back[0], put[1], back[1], to_srgb(swapped.colour)]

    return dict(zip(COLUMNS, jax.device_get(show(params, state)), strict=True))
