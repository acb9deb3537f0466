"""What a network trained on photos is worth on held-out people, whom it has never seen."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from sfm_jax.data.scene import Scene
from sfm_jax.evaluation import landmarks as landmark_measures
from sfm_jax.evaluation import recognition, sir, surface
from sfm_jax.morphable.model import linear_shape
from sfm_jax.tasks.batched import in_batches
from sfm_jax.tasks.photo_data import synthetic_photos

BATCH = 50
YAWS, YAW_PERSONS = (-75, -50, -25, 0, 25, 50, 75), 50  # degrees
SHAPE_PERSONS = 100  # of whom shapes are compared in pairs: all pairs of more would take long


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """N photos of P people, in the order of the photos: photo i shows person i mod P.

    person [N]; z [N, d]; code [N, d]; neutral [N, V, 3] mm; landmarks, true_landmarks [N, 68, 2] px;
    rotation, true_rotation [N, 3, 3]; pose [N, 3] degrees; people [P, V, 3]: true neutral shapes.
    """

    person: np.ndarray
    z: np.ndarray
    code: np.ndarray
    neutral: np.ndarray
    landmarks: np.ndarray
    true_landmarks: np.ndarray
    rotation: np.ndarray
    true_rotation: np.ndarray
    pose: np.ndarray
    people: np.ndarray


class Examination:
    """Synthetic photos of the held-out people, encoded batch by batch with one compiled function."""

    def __init__(self, task, params, state):
        config = task.config
        self.task, self._params, self._state = task, params, state
        self.photos = synthetic_photos(config, task.model, task.people.heldout, config.seed + 1)
        self._scenes, self._encode = jax.jit(self.photos.scenes), jax.jit(self._encoded)

    def scenes(self, ids: np.ndarray) -> Scene:
        """What the photos `ids` [N] show."""
        return self._scenes(jnp.asarray(ids, jnp.int32))

    def encode(self, scenes: Scene) -> dict[str, np.ndarray]:
        """What the network says of batched scenes [N], beside the truth: the fields of HeldOut, and the codes
        expression, albedo and light."""
        def encoded(rows):
            return self._encode(self._params, self._state, jax.tree.map(lambda leaf: leaf[rows], scenes))

        return in_batches(encoded, len(scenes.index), BATCH)

    def _encoded(self, params, state, scenes):
        record = self.photos.shoot(scenes)
        prediction, _ = self.task.predict(params, state, record["image"])
        face = self.task.decoder(params)(prediction.codes, self.task.config.image_size)
        return {
            "person": record["person"], "z": prediction.z, "code": prediction.code, "neutral": face.neutral,
            "landmarks": face.landmarks, "true_landmarks": record["landmarks"],
            "rotation": prediction.codes.rotation, "true_rotation": record["rotation"], "pose": record["pose"],
            "expression": prediction.codes.expression, "albedo": prediction.codes.albedo,
            "light": prediction.codes.light}


def measure_heldout(examination: Examination) -> HeldOut:
    """Of every held-out person as many random photos as the config says."""
    task, photos = examination.task, examination.photos
    ids = np.arange(photos.persons * task.config.data.heldout_photos_per_person)
    values = examination.encode(examination.scenes(ids))
    people = linear_shape(task.model.mean, task.model.identity_basis, jnp.asarray(task.people.heldout.identity))
    fields = {field.name for field in dataclasses.fields(HeldOut)}
    return HeldOut(people=np.asarray(people), **{name: value for name, value in values.items() if name in fields})


def measure_over_yaw(examination: Examination) -> dict[str, float]:
    """How much the neutral shape of a person changes when nothing but the yaw of the head in the photo does, in mm.

    `pose/within_mm`: mean distance of two photos' shapes of one person; `pose/between_mm`: of different people at the
    same yaw; `pose/ratio`; `pose/change_YAW_mm`: from the frontal photo's shape, both sides together. After the
    question of Luo et al. (arXiv 1905.06505); the measure is ours.
    """
    persons = np.arange(min(YAW_PERSONS, examination.photos.persons))
    scenes = examination.scenes(np.repeat(persons, len(YAWS)))
    pose = np.stack([np.tile(YAWS, len(persons)), np.zeros(len(scenes.index)), np.zeros(len(scenes.index))], -1)
    shapes = examination.encode(scenes._replace(pose=jnp.asarray(pose, jnp.float32)))["neutral"]
    shapes = shapes.reshape(len(persons), len(YAWS), *shapes.shape[1:])
    weights = examination.task.weights
    pairs = np.triu_indices(len(YAWS), 1)
    within = np.mean([surface.shape_distances(one, weights)[pairs] for one in shapes])
    pairs = np.triu_indices(len(persons), 1)
    between = np.mean([surface.shape_distances(shapes[:, k], weights)[pairs] for k in range(len(YAWS))])
    frontal = np.broadcast_to(shapes[:, [YAWS.index(0)]], shapes.shape)
    change = np.asarray(surface.vertex_error(shapes, frontal, weights)).mean(0)
    sides = {yaw: change[np.abs(YAWS) == yaw].mean() for yaw in YAWS if yaw > 0}
    return {"pose/within_mm": float(within), "pose/between_mm": float(between),
            "pose/ratio": float(between / max(within, 1e-9)),
            **{f"pose/change_{yaw}_mm": float(value) for yaw, value in sides.items()}}


def summarise(task, heldout: HeldOut) -> tuple[dict[str, float], dict]:
    """(the flat numbers of report.json, the verification curve's data)."""
    truth = heldout.people[heldout.person]
    basis, mean = np.asarray(task.model.identity_basis), np.asarray(task.model.mean)
    training_mean = mean + np.tensordot(task.people.train.identity.mean(0), basis, 1).astype(np.float32)
    error = surface.vertex_error(heldout.neutral, truth, task.weights)
    baseline = surface.vertex_error(np.broadcast_to(training_mean, truth.shape), truth, task.weights)
    # People whose photos are averaged: what several photos of one person say together.
    everyone = [np.mean(heldout.neutral[heldout.person == person], axis=0) for person in range(len(heldout.people))]
    together = surface.vertex_error(np.stack(everyone), heldout.people, task.weights)
    nme = landmark_measures.nme_percent(heldout.landmarks, heldout.true_landmarks)
    by_yaw = landmark_measures.by_yaw(nme, heldout.pose[:, 0])
    verified = recognition.gallery_and_pairs(recognition.similarity(heldout.z, heldout.z), heldout.person)
    some = np.flatnonzero(heldout.person < SHAPE_PERSONS)
    codes = heldout.z[some] if task.config.sphere == "hard" else heldout.code[some]
    metric = "cosine" if task.config.sphere == "hard" else "euclidean"
    numbers = {
        "heldout/nme_percent": float(np.mean(nme)),
        **{f"heldout/nme_percent_yaw_{name}": value for name, value in by_yaw.items()},
        "heldout/neutral_shape_error_mm": float(np.mean(error)),
        "heldout/mean_face_error_mm": float(np.mean(baseline)),
        "heldout/all_photos_shape_error_mm": float(np.mean(together)),
        "heldout/rotation_error_degrees": float(np.mean(
            landmark_measures.rotation_error_degrees(heldout.rotation, heldout.true_rotation))),
        "heldout/rank1": verified["rank1"],
        "heldout/rank1_chance": 1 / len(heldout.people),
        "heldout/verification_accuracy": verified["accuracy"],
        "heldout/equal_error_rate": verified["equal_error_rate"],
        "heldout/tar_at_far_1e-2": verified["tar_at_far_0.01"],
        "heldout/persons": len(heldout.people),
        "heldout/photos": len(heldout.person),
        **sir.sir_metric(heldout.neutral[some], codes, heldout.person[some], task.weights, metric),
    }
    return numbers, verified
