"""Basel Face Models 2017 and 2019: HDF5 in statismo's layout. They need their publisher's licence.

    shape, color, expression: model/mean [3V], model/pcaBasis [3V, K], model/pcaVariance [K],
                              representer/cells [3, F], representer/points [3, V]
    version/minorVersion      up to 8 the basis is scaled by the standard deviations already
    metadata/landmarks/json   named points of the reference

Millimetres, colours 0..1. Gerig et al., "Morphable Face Models - An Open Framework", FG 2018.
"""

import json
import os
from pathlib import Path

import numpy as np
import scipy.spatial

from sfm_jax.morphable.formats.assemble import assemble, columns
from sfm_jax.morphable.formats.colours import albedo_from_srgb
from sfm_jax.morphable.formats.files import read_bytes
from sfm_jax.morphable.formats.landmarks import all_landmarks
from sfm_jax.morphable.model import MorphableModel

LAST_SCALED = 8  # minor version of statismo 0.x


def load_statismo(path: str | os.PathLike, landmarks: str | os.PathLike | None = None) -> MorphableModel:
    """A model2017-1_*.h5 or model2019_*.h5, its mean expression added to the mean.

    Args:
      path: the .h5.
      landmarks: a mapping of all 68 points to vertices or to the names of the file's own points (see
        `read_landmarks`), or None.

    Raises:
      ValueError: naming the file and the data set that is missing or wrong.
    """
    try:
        import h5py
    except ImportError:
        raise ValueError(f"{path}: reading HDF5 needs h5py: pip install h5py") from None
    read_bytes(path)
    try:
        with h5py.File(path, "r") as file:
            shape, shape_basis = _pca(path, file, "shape")
            colour = _pca(path, file, "color") if "color" in file else None
            expression = _pca(path, file, "expression") if "expression" in file else None
            representer = "representer" if "representer" in file else "shape/representer"  # for all, or of each part
            cells = _array(path, file, f"{representer}/cells")
            points = file[f"{representer}/points"][()].T if f"{representer}/points" in file else shape
            named = _named(file, points)
    except OSError as error:
        raise ValueError(f"{path}: not a readable HDF5 file, or truncated ({error})") from None
    except KeyError as error:
        raise ValueError(f"{path}: {error.args[0]}") from None
    return assemble(
        path, mean=shape + (expression[0] if expression else 0), triangles=cells.T if len(cells) == 3 else cells,
        identity=shape_basis, expression=expression[1] if expression else None,
        albedo=albedo_from_srgb(*colour) if colour else None, landmarks=all_landmarks(landmarks, named),
        name=Path(path).stem, source=f"statismo model {Path(path).name}")


def _pca(path, file, part):
    """mean [V, 3] and basis [K, V, 3] at one standard deviation."""
    mean, basis, variance = (_array(path, file, f"{part}/model/{key}") for key in ("mean", "pcaBasis", "pcaVariance"))
    if np.ndim(basis) != 2 or basis.shape != (np.size(mean), np.size(variance)):
        raise ValueError(f"{path}: {part}/model/pcaBasis: shape {np.shape(basis)}, expected "
                         f"({np.size(mean)}, {np.size(variance)})")
    versions = [file[key][()] for key in (f"{part}/version/minorVersion", "version/minorVersion") if key in file]
    scaled = bool(versions) and int(np.ravel(versions[0])[0]) <= LAST_SCALED
    return np.reshape(mean, (-1, 3)), columns(path, part, basis if scaled else basis * np.sqrt(np.ravel(variance)))


def _array(path, file, key):
    if key not in file:
        raise ValueError(f"{path}: '{key}' is missing, found {', '.join(file) or 'nothing'}")
    return file[key][()]


def _named(file, points):
    """{name: vertex} of the file's own landmarks, which are points in space."""
    if "metadata/landmarks/json" not in file:
        return {}
    text = file["metadata/landmarks/json"][()]
    text = text if isinstance(text, (bytes, str)) else np.asarray(text).tobytes()
    places = {entry["id"]: entry["coordinates"] for entry in json.loads(text)}
    vertices = scipy.spatial.cKDTree(points).query(np.array(list(places.values())).reshape(-1, 3))[1]
    return dict(zip(places, vertices.tolist(), strict=True))
