"""What a network trained on photos is worth on held-out people, whom it has never seen."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from sfm_jax.evaluation import landmarks as landmark_measures
from sfm_jax.evaluation import recognition, sir, surface
from sfm_jax.morphable.model import linear_shape
from sfm_jax.tasks.photo_data import synthetic_photos

BATCH = 50
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


def measure_heldout(task, params, state) -> HeldOut:
    """Render the held-out photos and encode them, batch by batch."""
    config = task.config
    photos = synthetic_photos(config, task.model, task.people.heldout, config.seed + 1)
    decoder = task.decoder(params)

    @jax.jit
    def measure(params, state, ids):
        record = photos(ids)
        prediction, _ = task.predict(params, state, record["image"])
        face = decoder(prediction.codes, config.image_size)
        return {
            "person": record["person"], "z": prediction.z, "code": prediction.code, "neutral": face.neutral,
            "landmarks": face.landmarks, "true_landmarks": record["landmarks"],
            "rotation": prediction.codes.rotation, "true_rotation": record["rotation"], "pose": record["pose"]}

    count = photos.persons * config.data.heldout_photos_per_person
    ids = np.arange(-(-count // BATCH) * BATCH, dtype=np.int32).reshape(-1, BATCH)
    parts = [jax.device_get(measure(params, state, jnp.asarray(batch))) for batch in ids]
    values = {name: np.concatenate([part[name] for part in parts])[:count] for name in parts[0]}
    people = linear_shape(task.model.mean, task.model.identity_basis, jnp.asarray(task.people.heldout.identity))
    return HeldOut(people=np.asarray(people), **values)


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
