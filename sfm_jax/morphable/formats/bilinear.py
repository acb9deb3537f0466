"""Bilinear face models, FaceWarehouse and FaceScape: a core tensor [3V, E, I]. They need their publisher's licence.

A face is core . identity . expression, and one-hot expressions are blendshapes, the first of which is neutral. That is
linear in the identity for the neutral face, and for a mean identity in the expression: so it becomes our model. What
is lost is that expressions differ from person to person.
Cao et al., "FaceWarehouse", TVCG 2014; Yang et al., "FaceScape", CVPR 2020.
"""

import os
from pathlib import Path

import numpy as np

from sfm_jax.array_files import integers, lengths, read_npz
from sfm_jax.morphable.formats.assemble import assemble, unit_factor
from sfm_jax.morphable.formats.landmarks import all_landmarks
from sfm_jax.morphable.formats.obj import read_topology
from sfm_jax.morphable.formats.principal import orthogonal
from sfm_jax.morphable.model import MorphableModel

CORES = ("shape_bm_core", "core_tensor", "core")
ALIKE = 2.0  # times larger or smaller than the median: a face still, not a mode of a decomposition


def load_bilinear(
    path: str | os.PathLike,
    factors: str | os.PathLike | None = None,
    topology: str | os.PathLike | None = None,
    unit: str = "mm",
    landmarks: str | os.PathLike | None = None,
) -> MorphableModel:
    """Identities about the mean as principal components, expressions of the mean identity as blendshapes.

    Args:
      path: .npy with the core, or .npz with it as shape_bm_core (FaceScape 1.6, with fv_indices, ft_indices and
        texcoords), core_tensor or core; [3V, E, I] or [I, E, 3V].
      factors: .npy of the identity coefficients of people [N, I], whose mean and covariance the identities get. None:
        the core is not decomposed along identities, each of which is a face, such as FaceWarehouse's raw tensor.
      topology: a mesh with the triangles, where the file has none.
      unit: of its lengths: m, dm, cm, mm or um.
      landmarks: a file of 68 vertices (see `read_landmarks`); None takes FaceScape's own.

    Raises:
      ValueError: naming the file and the key that is missing or wrong.
    """
    arrays = read_npz(path, (*CORES, "fv_indices", "ft_indices", "texcoords", "lm_list_v16"))
    key = next((key for key in ("", *CORES) if key in arrays), None)
    if key is None:
        raise ValueError(f"{path}: key '{CORES[0]}' is missing, expected a core tensor")
    core = lengths(path, key or "core", arrays[key])
    core = np.moveaxis(core, 2, 0).swapaxes(1, 2) if core.ndim == 3 and core.shape[2] > core.shape[0] else core
    if core.ndim != 3 or len(core) % 3 or not core.size:
        raise ValueError(f"{path}: core: shape {arrays[key].shape}, expected [3 x vertices, expressions, identities]")
    faces = np.moveaxis(core.reshape(-1, 3, *core.shape[1:]), (2, 3), (1, 0))  # [I, E, V, 3]
    people = _people(path, faces[:, 0]) if factors is None else _factors(factors, len(faces))
    average = people.mean(0)
    deviations = (people - average) / np.sqrt(max(len(people) - 1, 1))
    blend = np.tensordot(average, faces, 1)  # [E, V, 3]
    if topology is not None:
        mesh = read_topology(topology, faces.shape[2])
        parts = {"triangles": mesh.triangles, "uv": mesh.uv, "uv_triangles": mesh.uv_triangles}
    elif "fv_indices" in arrays:
        parts = {"triangles": _fans(path, "fv_indices", arrays["fv_indices"]) - 1}
        if "texcoords" in arrays and "ft_indices" in arrays:
            parts |= {"uv": arrays["texcoords"], "uv_triangles": _fans(path, "ft_indices", arrays["ft_indices"]) - 1}
    else:
        raise ValueError(f"{path}: key 'fv_indices' is missing: give a mesh with the triangles as topology")
    points = all_landmarks(landmarks) if landmarks is not None else arrays.get("lm_list_v16")
    return assemble(
        path, mean=blend[0], identity=orthogonal(np.tensordot(_reduced(deviations), faces[:, 0], 1)),
        expression=blend[1:] - blend[0], landmarks=points, **parts, millimetres=unit_factor(unit),
        name=Path(path).stem, source=f"bilinear model {Path(path).name} about its mean")


def _people(path, neutral):
    """One-hot coefficients [I, I], if each of the neutral shapes [I, V, 3] is a face."""
    sizes = np.linalg.norm(neutral - neutral.mean(1, keepdims=True), axis=(1, 2))
    if sizes.max() > ALIKE * np.median(sizes) or sizes.min() * ALIKE < np.median(sizes):
        raise ValueError(f"{path}: its identities are modes of a decomposition, not faces: give the factors [N, "
                         f"{len(neutral)}] of its people")
    return np.eye(len(neutral))


def _factors(path, count):
    factors = read_npz(path)
    values = lengths(path, "factors", next(iter(factors.values()), np.zeros(0)))
    if values.ndim != 2 or values.shape[1] != count or len(values) < 2:
        raise ValueError(f"{path}: factors: shape {values.shape}, expected [people, {count}]")
    return values


def _reduced(deviations):
    """At most I rows with the same covariance as deviations [N, I]."""
    return np.linalg.qr(deviations, mode="r") if len(deviations) > deviations.shape[1] else deviations


def _fans(path, key, polygons):
    """[F, 3] of polygons [P, n], as fans."""
    polygons = integers(path, key, polygons)
    if polygons.ndim != 2 or polygons.shape[1] < 3:
        raise ValueError(f"{path}: {key}: shape {polygons.shape}, expected [polygons, 3 or more]")
    return np.concatenate([polygons[:, [0, i, i + 1]] for i in range(1, polygons.shape[1] - 1)])
