"""What a network makes of what moves in front of it: does all else stay, and does the answer tremble?"""

import jax
import jax.numpy as jnp
import numpy as np

from sfm_jax.data.clips import SyntheticClips
from sfm_jax.evaluation import landmarks, surface
from sfm_jax.evaluation.disentanglement import disentanglement
from sfm_jax.geometry.rotation import rotation_from_euler
from sfm_jax.morphable.model import MorphableModel
from sfm_jax.tasks.photo_measures import Examination

PROPERTIES = ("identity", "expression", "pose", "albedo", "light")
SAMPLES = 100  # photos that are varied
CLIPS, FRAMES = 20, 16


def properties(model: MorphableModel) -> tuple[str, ...]:
    """Those of PROPERTIES that can change in a face model's photos: it may have no expressions, or one colour."""
    fixed = {name for name, basis in (("expression", model.expression_basis), ("albedo", model.albedo_basis))
             if not len(basis)}
    return tuple(name for name in PROPERTIES if name not in fixed)


def measured(numbers: dict) -> list[str]:
    """Those of PROPERTIES of which `measure_disentanglement` says something."""
    return [name for name in PROPERTIES if f"disentanglement/{name}_response" in numbers]


def measure_disentanglement(examination: Examination) -> dict[str, float]:
    """Of held-out photos, each shot again with another person's shape, another expression, pose, albedo or light, and
    nothing else changed (evaluation/disentanglement.py).

    `disentanglement/off_diagonal`: the mass; `disentanglement/ROW_moves_COLUMN`: the entries; and
    `disentanglement/PROPERTY_response`: how far the answer moves, relative to the truth, when the property does. What
    the face model cannot change, or the photos' conditions never do, is left out.
    """
    scenes = examination.scenes(np.arange(SAMPLES))
    others = examination.scenes(np.arange(SAMPLES) + 1)  # the next photo shows the next person
    truth = {name: change.mean() for name, change in zip(PROPERTIES, _true_changes(examination, scenes, others),
                                                         strict=True)}
    names = [name for name in properties(examination.task.model) if truth[name] > 0]
    chosen = [PROPERTIES.index(name) for name in names]
    before = examination.encode(scenes)
    after = [examination.encode(scenes._replace(**{name: getattr(others, name)})) for name in names]
    moved = np.array([[change.mean() for change in _changes(examination, before, one)] for one in after])[:, chosen]
    matrix, mass = disentanglement(moved)
    numbers = {"disentanglement/off_diagonal": mass}
    for i, row in enumerate(names):
        numbers[f"disentanglement/{row}_response"] = float(moved[i, i] / truth[row])
        numbers |= {f"disentanglement/{row}_moves_{column}": float(matrix[i, j])
                    for j, column in enumerate(names) if i != j}
    return numbers


def measure_jitter(examination: Examination) -> dict[str, float]:
    """On synthetic clips of held-out people: `clips/jitter_mm`, mean change of the neutral shape, which should not
    change, from frame to frame; `clips/jitter_degrees`, of the rotation's error; `clips/nme_percent`."""
    clips = SyntheticClips(examination.photos, CLIPS, FRAMES)
    scenes = jax.jit(clips.scenes)(jnp.arange(CLIPS * FRAMES, dtype=jnp.int32))
    seen = {name: value.reshape(CLIPS, FRAMES, *value.shape[1:]) for name, value in examination.encode(scenes).items()}
    weights = examination.task.weights
    shapes = [surface.vertex_error(one[1:], one[:-1], weights) for one in seen["neutral"]]
    error = seen["rotation"] @ np.swapaxes(seen["true_rotation"], -1, -2)
    turns = [landmarks.rotation_error_degrees(one[1:], one[:-1]) for one in error]
    nme = landmarks.nme_percent(seen["landmarks"].reshape(-1, 68, 2), seen["true_landmarks"].reshape(-1, 68, 2))
    return {"clips/jitter_mm": float(np.concatenate(shapes).mean()),
            "clips/jitter_degrees": float(np.concatenate(turns).mean()), "clips/nme_percent": float(np.mean(nme))}


def _changes(examination, a, b):
    """Mean over the face, or degrees, [N] each, in the order of PROPERTIES: how far two answers are apart."""
    task = examination.task
    albedo = np.asarray(task.model.albedo_basis)[:a["albedo"].shape[-1]]
    return (surface.vertex_error(a["neutral"], b["neutral"], task.weights), *_apart(task, a, b, albedo))


def _true_changes(examination, a, b):
    task = examination.task
    basis = np.asarray(task.model.identity_basis)
    shape = _over_face(np.tensordot(a.identity - b.identity, basis, 1), task.weights)
    rotations = [np.asarray(rotation_from_euler(one.pose)) for one in (a, b)]
    fields = [{"expression": np.asarray(one.expression), "rotation": rotation, "albedo": np.asarray(one.albedo),
               "light": np.asarray(one.light)} for one, rotation in zip((a, b), rotations, strict=True)]
    return (shape, *_apart(task, *fields, np.asarray(task.model.albedo_basis)))


def _apart(task, a, b, albedo):
    """Of expression (mm), pose (degrees), albedo (linear RGB) and light (coefficients)."""
    expression = np.tensordot(a["expression"] - b["expression"], np.asarray(task.model.expression_basis), 1)
    colour = np.tensordot(a["albedo"] - b["albedo"], albedo, 1)
    return (_over_face(expression, task.weights), landmarks.rotation_error_degrees(a["rotation"], b["rotation"]),
            _over_face(colour, task.weights), np.sqrt(np.mean((a["light"] - b["light"]) ** 2, (-1, -2))))


def _over_face(offsets, weights):
    """Weighted mean length [N] of offsets [N, V, 3]."""
    return np.average(np.linalg.norm(offsets, axis=-1), axis=-1, weights=weights)
