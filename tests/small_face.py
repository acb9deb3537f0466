"""A face of few components in arrays, to be written in other models' formats: the embedded one, thinned out."""

from typing import NamedTuple

import numpy as np

from sfm_jax.morphable.default import load_default
from sfm_jax.morphable.model import MorphableModel


class SmallFace(NamedTuple):
    """Lengths in mm, float64; `unit` columns [3V, K] of length 1 and their standard deviations [K]."""

    model: MorphableModel
    mean: np.ndarray  # [V, 3]
    triangles: np.ndarray
    landmarks: np.ndarray
    identity: np.ndarray  # [3, V, 3] at one standard deviation, orthogonal
    unit: np.ndarray
    sigma: np.ndarray
    expression: np.ndarray  # [2, V, 3]
    colours: np.ndarray  # [V, 3] sRGB in [0, 1]
    colour_unit: np.ndarray  # [3V, 2]
    colour_sigma: np.ndarray


def small_face() -> SmallFace:
    face = load_default()
    expression = [face.expression_names.index(name) for name in ("jawOpen", "mouthSmileLeft")]
    model = face.replace(identity_basis=face.identity_basis[:3], identity_sigma=face.identity_sigma[:3],
                         expression_basis=face.expression_basis[np.array(expression)],
                         expression_names=("jawOpen", "mouthSmileLeft"), albedo_basis=face.albedo_basis[:2])
    mean = np.asarray(model.mean, np.float64)
    flat = np.asarray(model.identity_basis, np.float64).reshape(3, -1)
    unit, _ = np.linalg.qr(flat.T)
    sigma = np.sqrt(mean.size / 3) * np.array([2.0, 1.5, 1.0])
    rng = np.random.default_rng(5)
    colour_unit, _ = np.linalg.qr(rng.normal(size=(mean.size, 2)))
    return SmallFace(
        model, mean, np.asarray(model.topology.triangles), np.asarray(model.topology.landmarks),
        (unit * sigma).T.reshape(3, -1, 3), unit, sigma, np.asarray(model.expression_basis, np.float64),
        rng.uniform(0.3, 0.7, mean.shape), colour_unit, np.array([1.0, 0.5]))


def faces(model: MorphableModel, identity: np.ndarray, expression: np.ndarray) -> np.ndarray:
    """Vertices of codes [N, K] and [N, E] in float64, which rounds nothing."""
    parts = (np.asarray(part, np.float64) for part in (model.mean, model.identity_basis, model.expression_basis))
    mean, identities, expressions = parts
    return mean + np.tensordot(identity, identities, 1) + np.tensordot(expression, expressions, 1)


def random_codes(model: MorphableModel, count: int = 4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    return (rng.normal(size=(count, len(model.identity_basis))),
            rng.uniform(size=(count, len(model.expression_basis))))


def write_obj(path, vertices, polygons, uv=None, uv_polygons=None) -> None:
    """An OBJ with 9 digits, polygons as they are."""
    lines = [f"v {x:.9g} {y:.9g} {z:.9g}" for x, y, z in vertices]
    lines += [f"vt {u:.9g} {v:.9g}" for u, v in ([] if uv is None else uv)]
    for i, polygon in enumerate(np.asarray(polygons)):
        words = [str(v + 1) if uv is None else f"{v + 1}/{uv_polygons[i][k] + 1}" for k, v in enumerate(polygon)]
        lines.append("f " + " ".join(words))
    path.write_text("\n".join(lines) + "\n")
