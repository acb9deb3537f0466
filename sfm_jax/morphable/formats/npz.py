"""An npz with a mean, bases and triangles under whatever names. (Our own is read by `MorphableModel.load`.)"""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from sfm_jax.array_files import numbers, read_npz, texts
from sfm_jax.morphable.formats.assemble import assemble, points, unit_factor
from sfm_jax.morphable.formats.files import need
from sfm_jax.morphable.formats.landmarks import all_landmarks
from sfm_jax.morphable.formats.obj import read_topology
from sfm_jax.morphable.model import MorphableModel

PARTS = ("mean", "identity", "identity_sigma", "expression", "expression_sigma", "expression_names", "triangles", "uv",
         "uv_triangles", "landmarks")
_NAMES = {"identity": "identity_basis", "expression": "expression_basis", "triangles": "faces"}  # next to their own


def load_npz(
    path: str | os.PathLike,
    keys: Mapping[str, str] | None = None,
    unit: str = "mm",
    topology: str | os.PathLike | None = None,
    landmarks: str | os.PathLike | None = None,
) -> MorphableModel:
    """A model of an npz (without pickled objects) that is not ours.

    Args:
      path: has at least a mean and an identity basis: [V, 3] or [3V], and [K, V, 3], [V, 3, K], [K, 3V] or [3V, K].
      keys: {part: key in the file} where they differ, of the parts mean, identity (at one standard deviation, unless
        identity_sigma [K] is there: then it is scaled), expression and expression_sigma likewise (with it they are
        statistical, without it activations), expression_names, triangles, uv, uv_triangles and landmarks.
      unit: of its lengths: m, dm, cm, mm or um.
      topology: a mesh with its triangles and UVs, where the file has none.
      landmarks: a file of 68 vertices (see `read_landmarks`), where the file has none.

    Raises:
      ValueError: naming the file and the key that is missing or wrong.
    """
    factor, keys = unit_factor(unit), dict(keys or {})
    unknown = [part for part in keys if part not in PARTS]
    if unknown:
        raise ValueError(f"keys: no part {unknown[0]!r}, expected {', '.join(PARTS)}")
    arrays = read_npz(path)
    need(path, arrays, *keys.values())
    for part in PARTS:
        keys.setdefault(part, part if part in arrays else _NAMES.get(part, part))
    found = {part: arrays[key] for part, key in keys.items() if key in arrays}
    need(path, arrays, keys["mean"], keys["identity"])
    mean = points(path, f"key '{keys['mean']}'", found["mean"])
    parts = {"uv": found.get("uv"), "uv_triangles": found.get("uv_triangles"), "triangles": found.get("triangles")}
    if topology is not None:
        mesh = read_topology(topology, len(mean))
        if parts["triangles"] is not None and not np.array_equal(parts["triangles"], mesh.triangles):
            raise ValueError(f"{topology}: other triangles than key '{keys['triangles']}' of {path} has")
        parts["triangles"] = mesh.triangles
        if parts["uv_triangles"] is None and mesh.uv is not None:
            own = parts["uv"] is not None and np.shape(parts["uv"]) == mesh.uv.shape
            parts |= {"uv": parts["uv"] if own else mesh.uv, "uv_triangles": mesh.uv_triangles}
    if parts["triangles"] is None:
        raise ValueError(f"{path}: key '{keys['triangles']}' is missing: give a mesh with the triangles as topology")
    bases = {part: _basis(path, keys, found, part, len(mean)) for part in ("identity", "expression") if part in found}
    return assemble(
        path, mean=mean, **bases, **parts, millimetres=factor,
        expression_names=[str(name) for name in
                          np.ravel(texts(path, keys["expression_names"], found.get("expression_names", ())))],
        expression_kind="statistical" if "expression_sigma" in found else "activations",
        landmarks=found.get("landmarks") if landmarks is None else all_landmarks(landmarks),
        name=Path(path).stem, source=f"npz {Path(path).name}")


def _basis(path, keys, found, part, count):
    """[K, V, 3] of any order of axes that the number of vertices tells apart."""
    values = numbers(path, keys[part], found[part]).astype(np.float64)
    if values.ndim == 2 and values.shape[1] == 3 * count:
        values = values.reshape(-1, count, 3)
    elif values.ndim == 2 and values.shape[0] == 3 * count:
        values = values.T.reshape(-1, count, 3)
    elif values.ndim == 3 and values.shape[:2] == (count, 3) and values.shape[1:] != (count, 3):
        values = np.moveaxis(values, -1, 0)
    if values.ndim != 3 or values.shape[1:] != (count, 3):
        raise ValueError(f"{path}: key '{keys[part]}': shape {np.shape(found[part])}, expected components "
                         f"of {count} x 3")
    sigma = found.get(f"{part}_sigma")
    if sigma is None:
        return values
    sigma = numbers(path, keys[f"{part}_sigma"], sigma)
    if np.size(sigma) != len(values):
        raise ValueError(f"{path}: key '{keys[f'{part}_sigma']}': {np.size(sigma)} numbers, expected {len(values)}")
    with np.errstate(all="ignore"):  # what is not finite is found later
        return values * np.ravel(sigma)[:, None, None]
