"""What a learned sphere basis is worth on held-out people, beside the classical model on the very same scans."""

import dataclasses

import jax
import numpy as np

from sfm_jax.evaluation import recognition, surface
from sfm_jax.morphable.statistics import best_gaussian_codes, best_sphere_codes

BATCH = 128


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """Codes and shapes of N held-out scans of P people, ours and the classical model's.

    labels [N]; code [N, d], and its direction z; neutral, pca_neutral [N, V, 3] decoded from the identity alone, the
    code as it is; pca_codes [N, d]; truth [N, V, 3] each scan's reference shape; best_fit, pca_best_fit and people
    [P, V, 3]: the best each model can do on the clean reference shapes, and these.
    """

    labels: np.ndarray
    code: np.ndarray
    z: np.ndarray
    neutral: np.ndarray
    pca_codes: np.ndarray
    pca_neutral: np.ndarray
    truth: np.ndarray
    people: np.ndarray
    best_fit: np.ndarray
    pca_best_fit: np.ndarray


def measure_heldout(task, params, state) -> HeldOut:
    """Encode and fit every held-out scan of the task."""
    encode = jax.jit(task.encode)
    model = task.learned_model(params)
    indices = np.arange(len(task.heldout_scans))
    codes, directions, labels, truth, pca_codes = [], [], [], [], []
    for start in range(0, len(indices), BATCH):
        record = task.heldout_scans.batch(indices[start:start + BATCH])
        code, z, _ = jax.device_get(encode(params, state, _padded(record["vertices"])))
        count = len(record["person"])
        codes.append(code[:count])
        directions.append(z[:count])
        labels.append(record["person"])
        truth.append(record["neutral"])
        pca_codes.append(task.classical.fit(record["vertices"], task.model, task.pca_weights)[0])
    codes, pca_codes = np.concatenate(codes), np.concatenate(pca_codes)
    people = task.heldout_scans.neutral_shapes()
    return HeldOut(
        labels=np.concatenate(labels),
        code=codes,
        z=np.concatenate(directions),
        neutral=_decode(model, codes),
        pca_codes=pca_codes,
        pca_neutral=task.classical.decode(pca_codes),
        truth=np.concatenate(truth),
        people=people,
        best_fit=_best_fit(task, model, people),
        pca_best_fit=task.classical.decode(
            best_gaussian_codes(people, task.classical.mean, task.classical.basis, task.weights)),
    )


def _padded(vertices):
    """A full batch: the last one is filled up, so that one compiled function serves all."""
    missing = BATCH - len(vertices)
    return np.concatenate([vertices, np.repeat(vertices[-1:], missing, axis=0)]) if missing else vertices


def _decode(model, codes):
    basis = np.asarray(model.base.identity_basis).reshape(codes.shape[1], -1)
    flat = (float(model.radius) * codes) @ basis
    return (np.asarray(model.base.mean).ravel() + flat).reshape(len(codes), -1, 3)


def _best_fit(task, model, people):
    """The closest faces to `people` the model can make: on the sphere, or anywhere for a Gaussian or soft one."""
    mean, basis, radius = np.asarray(model.base.mean), np.asarray(model.base.identity_basis), float(model.radius)
    if task.config.sphere == "hard":
        return _decode(model, best_sphere_codes(people, mean, basis, radius, task.weights))
    return _decode(model, best_gaussian_codes(people, mean, radius * basis, task.weights))


def summarise(task, heldout: HeldOut, params) -> tuple[dict[str, float], dict[str, dict]]:
    """(the flat numbers of report.json, the verification curves by name).

    The classical codes are compared both by angle and by distance; the better of the two, by rank-1, is quoted.
    """
    def error(prediction, truth):
        return float(np.mean(surface.vertex_error(prediction, truth, task.weights)))

    def recognised(codes, metric):
        return recognition.gallery_and_pairs(recognition.similarity(codes, codes, metric), heldout.labels)

    ours = recognised(heldout.z, "cosine")
    classical = {metric: recognised(heldout.pca_codes, metric) for metric in ("cosine", "euclidean")}
    metric = max(classical, key=lambda name: classical[name]["rank1"])
    theirs = classical[metric]
    subset = _one_in(heldout.labels, people=100)
    shapes = recognition.between_within(surface.shape_distances(heldout.neutral[subset], task.weights),
                                        heldout.labels[subset])
    pca_shapes = recognition.between_within(surface.shape_distances(heldout.pca_neutral[subset], task.weights),
                                            heldout.labels[subset])
    mean_face = np.broadcast_to(task.classical.mean, heldout.people.shape)
    numbers = {
        "heldout/vertex_error_mm": error(heldout.neutral, heldout.truth),
        "heldout/map_pca_vertex_error_mm": error(heldout.pca_neutral, heldout.truth),
        "heldout/best_fit_error_mm": error(heldout.best_fit, heldout.people),
        "heldout/pca_best_fit_error_mm": error(heldout.pca_best_fit, heldout.people),
        "heldout/mean_face_error_mm": error(mean_face, heldout.people),
        "heldout/rank1": ours["rank1"],
        "heldout/pca_rank1": theirs["rank1"],
        "heldout/pca_rank1_cosine": classical["cosine"]["rank1"],
        "heldout/pca_rank1_euclidean": classical["euclidean"]["rank1"],
        "heldout/verification_accuracy": ours["accuracy"],
        "heldout/pca_verification_accuracy": theirs["accuracy"],
        "heldout/equal_error_rate": ours["equal_error_rate"],
        "heldout/tar_at_far_1e-3": ours["tar_at_far_0.001"],
        "heldout/pca_tar_at_far_1e-3": theirs["tar_at_far_0.001"],
        "heldout/pca_metric": metric,
        "heldout/persons": len(heldout.people),
        "heldout/scans": len(heldout.labels),
        "shapes/between_mm": shapes["between"],
        "shapes/within_mm": shapes["within"],
        "shapes/between_within_ratio": shapes["ratio"],
        "shapes/pca_between_within_ratio": pca_shapes["ratio"],
        "codes/uniformity": recognition.uniformity(heldout.z),
        "codes/radius": float(np.exp(params["log_radius"])),
    }
    sphere = task.config.sphere
    if sphere != "gaussian":
        lengths = np.linalg.norm(heldout.code.astype(np.float64), axis=1)
        numbers["codes/norm_deviation_max"] = float(np.abs(lengths - 1.0).max())
    if sphere == "soft":  # the saved model knows unit codes alone
        unit = _decode(task.learned_model(params), heldout.z)
        numbers["heldout/unit_code_vertex_error_mm"] = error(unit, heldout.truth)
    return numbers, {"Gaussian codes" if sphere == "gaussian" else "sphere codes": ours,
                     f"PCA codes ({metric})": theirs}


def _one_in(labels, people):
    """Indices of the scans of the first `people` persons: all pairs of shapes of more would take long."""
    return np.flatnonzero(np.isin(labels, np.unique(labels)[:people]))
