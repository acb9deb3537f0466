"""What the reconstruct command wrote of a face, read again: its identity code, and its shape without the expression."""

import functools
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from sfm_jax.array_files import lengths, one_line
from sfm_jax.evaluation.protocols.landmark_files import read_arrays
from sfm_jax.morphable.default import load_default
from sfm_jax.morphable.model import MorphableModel

STILL = 1e-6  # an expression code below this is none
KEYS = ("identity", "expression", "vertices", "model", "detail")


def read_face(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a params.npz. ValueError names the file, and a key that is missing or wrong."""
    arrays = read_arrays(path)
    for key in KEYS:
        if key not in arrays:
            raise ValueError(f"{path}: key '{key}' is missing, expected what the reconstruct command writes")
    for key in {"identity", "expression", "vertices", "z"} & set(arrays):
        arrays[key] = lengths(path, f"key '{key}'", arrays[key])
    identity = arrays["identity"].shape
    try:
        components = len(model_of(arrays, detail=0).identity_basis)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: key 'model': {one_line(error)}") from None
    if len(identity) != 1 or identity[0] > components:
        raise ValueError(f"{path}: key 'identity': found shape {identity}, expected [{components}] of one face")
    return arrays


def model_of(face: dict[str, np.ndarray], detail: int | None = None) -> MorphableModel:
    """The model that a face was reconstructed with, the embedded one at level `detail`, by default the face's own."""
    name = str(face["model"])
    return _open(name, int(face["detail"]) if detail is None else detail)


@functools.lru_cache(maxsize=4)
def _open(name, detail):
    return load_default(detail) if name == "default" else MorphableModel.load(name)


def neutral_shape(face: dict[str, np.ndarray], detail: int | None = None) -> np.ndarray:
    """[V, 3] float32 mm, of the identity alone."""
    model, identity = model_of(face, detail), np.asarray(face["identity"], np.float32)
    return np.asarray(model.mean) + np.tensordot(identity, np.asarray(model.identity_basis)[:len(identity)], 1)


def expression_in(face: dict[str, np.ndarray], vertices: np.ndarray) -> str:
    """What expression the mesh with these vertices [W, 3] has: its largest code and that code's name; "" if none.

    Files of meshes with UVs have other vertices than the model, of the same places, and maybe another unit: a mesh is
    neutral where it lies nearer to the face of the identity alone than to the one that was saved, by their boxes.
    """
    expression = np.asarray(face["expression"], np.float64).ravel()
    if not np.abs(expression).max(initial=0) > STILL:
        return ""
    places = cKDTree(_boxed(vertices))
    neutral, saved = (places.query(_boxed(points))[0].mean() for points in (neutral_shape(face), face["vertices"]))
    if neutral < saved:
        return ""
    strongest = int(np.argmax(np.abs(expression)))
    names = [str(name) for name in np.ravel(face.get("expression_names", ()))]
    name = names[strongest] if strongest < len(names) else f"code {strongest}"
    return f"{name} {expression[strongest]:.2f}"


def _boxed(points):
    """Points [.., 3] in the frame of their own box: its middle, and its diagonal as the unit."""
    low, high = points.min(0), points.max(0)
    return (points - (low + high) / 2) / np.linalg.norm(high - low)
