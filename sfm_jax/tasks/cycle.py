"""Cycle-consistency: what changes between two frames is put into a face, read from it, and taken out again.

After Yang, Zhao, Yang and Shen, "Learning 3D Face Reconstruction From the Cycle-Consistency of Dynamic Faces" (IEEE
TMM 26, 2023; its abstract: no code is public). A photo model (tasks/photo_model.py) whose batch holds pairs of frames
of one clip, known by their landmarks alone, and whose network has a branch for each property. A render of frame a's
face with b's expression, or pose, must be read as just that; with the change taken out again it must look like frame
a. And a's person with b's expression, pose and light must look like frame b. Ours: an expression is put in over frame
a, a pose over frame b, where the head already is; the landmarks of the swapped face; every weight.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from sfm_jax.data.damage import to_linear, to_srgb
from sfm_jax.inference.face import FaceCodes, FaceDecoder
from sfm_jax.inference.face_renderer import FaceRenderer
from sfm_jax.inference.photo_encoder import Prediction
from sfm_jax.inference.variation import inverse, variation, vary_expression, vary_pose
from sfm_jax.losses import cycle, landmark
from sfm_jax.losses.masks import masked_mean
from sfm_jax.tasks.photo_model import PhotoModel
from sfm_jax.tasks.photo_terms import share_of_device, total_overflow
from sfm_jax.tasks.siamese import in_pairs, same_person

NEEDS_PERSON = ("identity", "centre")


class Cycled(NamedTuple):
    """Of B pairs of frames (a, b) 2B faces, first with b's expression, then with b's pose: codes `put` into renders,
    image [2B, S, S, 3] sRGB, `found` there, and `back`: found, the change taken out again; before: frames a."""

    put: FaceCodes
    image: jax.Array
    found: FaceCodes
    back: FaceCodes
    before: dict
    overflow: jax.Array


class Cycle(PhotoModel):
    """The task (see training/task.py), a value made from the config of configs/cycle.py."""

    def __init__(self, config):
        if not config.data.clips:
            raise ValueError("data.clips: found nothing, expected clips of which two frames can be seen at once")
        for name in NEEDS_PERSON:
            if config.loss[name] > 0:
                raise ValueError(f"loss.{name}: found {config.loss[name]}, expected 0: clips do not tell who it is")
        if config.cycled_pairs < 0:
            raise ValueError(f"cycled_pairs: found {config.cycled_pairs}, expected 0 or more")
        super().__init__(config)
        self.renderer = FaceRenderer(self.model, config.image_size)

    @property
    def title(self) -> str:
        """Of the report."""
        return "Cycle-consistency: learning from clips"

    def examine(self, examination) -> dict[str, float]:
        """As the photo model, and what moves in an answer when something moves in the photo."""
        from sfm_jax.tasks.motion_measures import measure_disentanglement, measure_jitter

        return super().examine(examination) | measure_disentanglement(examination) | measure_jitter(examination)

    def illustrate(self, report, params: dict, state: dict, numbers: dict) -> None:
        """The matrix of what moves with what, and the way of some faces through the cycle."""
        from sfm_jax.tasks.cycle_report import illustrate

        illustrate(report, self, params, state, numbers)

    def measure(self, params: dict, state: dict, prediction: Prediction, record: dict) -> tuple[dict, dict, dict]:
        """The photo model's terms, and those of the first pairs of frames."""
        values, new, extra = super().measure(params, state, prediction, record)
        if self.config.cycled_pairs == 0:
            return values, new, extra
        count = self._cycled_pairs(len(record["person"]))
        # How sure the network may be of a photo is learned where it is compared with its own face.
        seen = record | {"codes": prediction.codes, "confidence": jax.lax.stop_gradient(prediction.confidence)}
        first, second = (jax.tree.map(lambda rows, place=place: in_pairs(rows)[place][:count], seen)
                         for place in (0, 1))
        # A frame that could not be read may have been replaced by one of another clip.
        mask = jnp.prod(jnp.stack(same_person(record["person"])), 0)[:count]
        decode = self.decoder(params)
        cycled = self.cycle(lambda images: self.predict(params, state, images, train=True)[0].codes, decode, first,
                            second)
        terms = self._read(cycled) | self._swapped(decode, first["codes"], second) | {
            "cycle_return": lambda: self._looks(decode, cycled.back, cycled.before)}
        values |= {name: masked_mean(term().reshape(-1, len(mask)), mask) for name, term in terms.items()
                   if self.config.loss[name] > 0}
        return values, new, extra | {"overflow": extra.get("overflow", 0) + total_overflow(cycled.overflow)}

    def _cycled_pairs(self, rows: int) -> int:
        """Of a device's rows the pairs that are cycled, the first: clips come before photos with landmarks, which are
        no pairs, in the shares of data/mixture.py."""
        share = self.config.data.identity_share if self.config.data.landmarks else 1.0
        return min(share_of_device(self.config.cycled_pairs), max(round(share * rows / 2), 1))

    def cycle(self, encode: Callable[[jax.Array], FaceCodes], decode: FaceDecoder, first: dict, second: dict) -> Cycled:
        """The two frames [B, ...] of each pair (image, codes), as far as the faces with the change taken out."""
        a, change = first["codes"], variation(first["codes"], second["codes"])
        put = _both(vary_expression(a, change), vary_pose(a, change))
        behind = jnp.concatenate([first["image"], second["image"]])
        seen = self.renderer(decode(put, self.config.image_size), to_linear(behind))
        image = to_srgb(seen.colour)
        found = encode(image)
        with_expression, with_pose = (jax.tree.map(lambda leaf, half=half: jnp.split(leaf, 2)[half], found)
                                      for half in (0, 1))
        back = _both(vary_expression(with_expression, inverse(change)), vary_pose(with_pose, inverse(change)))
        return Cycled(put, image, found, back, _both(first, first), jnp.sum(seen.overflow))

    # ------------------------------------------------------------------------------------------ one by one

    def _read(self, cycled: Cycled):
        """What was found in the faces against what was put into them, which is the truth: it is not drawn to what was
        found, or pose and expression would shrink until both agree."""
        put, found = jax.lax.stop_gradient(cycled.put), cycled.found
        pose = [(getattr(put, name), getattr(found, name)) for name in ("rotation", "log_scale", "shift")]
        return {
            "cycle_identity": lambda: cycle.code_change(put.identity, found.identity),
            "cycle_expression": lambda: cycle.expression_change(*(
                codes.expression / self.model.expression_unit for codes in (put, found))),
            "cycle_pose": lambda: cycle.pose_change(*pose),
            "cycle_albedo": lambda: cycle.code_change(put.albedo, found.albedo),
        }

    def _swapped(self, decode: FaceDecoder, a: FaceCodes, second: dict):
        """The first frame's person against what the second frame shows."""
        b, size = second["codes"], self.config.image_size
        codes = b._replace(identity=a.identity, albedo=a.albedo)

        def landmarks():
            error = landmark.distance(decode(codes, size).landmarks, second["landmarks"]) / size
            mean = jax.vmap(lambda one, mask: masked_mean(one, mask, landmark.WEIGHTS))
            return mean(error, second["landmark_mask"]) / self.config.tolerance.landmark

        return {"swap": lambda: self._looks(decode, codes, second), "swap_landmark": landmarks}

    def _looks(self, decode: FaceDecoder, codes: FaceCodes, frame: dict):
        """How far faces lie from what frames show, [B]."""
        return self.terms.difference(self.terms.beside(decode(codes, self.config.image_size), frame),
                                     frame["confidence"])


def _both(first, second):
    return jax.tree.map(lambda a, b: jnp.concatenate([a, b]), first, second)
