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

from sfm_jax.array_files import check_expansion, numbers, one_line
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
            cells = cells.T if cells.ndim == 2 and len(cells) == 3 else cells
            key = f"{representer}/points"
            points = _vertices(path, key, _array(path, file, key).T) if key in file else shape
            text = _contents(path, file, "metadata/landmarks/json") if "metadata/landmarks/json" in file else b"[]"
    except (OSError, RuntimeError, KeyError, TypeError, UnicodeDecodeError) as error:  # h5py's, on damaged files
        raise ValueError(f"{path}: not a readable HDF5 file, or truncated ({one_line(error)})") from None
    return assemble(
        path, mean=shape + _expression_mean(path, expression, shape), triangles=cells,
        identity=shape_basis, expression=expression[1] if expression else None, expression_kind="statistical",
        albedo=_albedo(path, colour, shape), landmarks=all_landmarks(landmarks, _named(path, text, points)),
        name=Path(path).stem, source=f"statismo model {Path(path).name}")


def _pca(path, file, part):
    """mean [V, 3] and basis [K, V, 3] at one standard deviation."""
    mean, basis, variance = (_array(path, file, f"{part}/model/{key}") for key in ("mean", "pcaBasis", "pcaVariance"))
    if np.ndim(basis) != 2 or basis.shape != (np.size(mean), np.size(variance)):
        raise ValueError(f"{path}: {part}/model/pcaBasis: shape {np.shape(basis)}, expected "
                         f"({np.size(mean)}, {np.size(variance)})")
    places = (f"{part}/version/minorVersion", "version/minorVersion")
    versions = [_array(path, file, key) for key in places if key in file]
    if any(version.size < 1 for version in versions):
        raise ValueError(f"{path}: {part}: its version is empty")
    scaled = bool(versions) and np.ravel(versions[0])[0] <= LAST_SCALED
    if not scaled and not (variance >= 0).all():
        raise ValueError(f"{path}: {part}/model/pcaVariance: expected finite numbers of 0 or more")
    mean = _vertices(path, f"{part}/model/mean", mean.reshape(-1, 3) if mean.size % 3 == 0 else mean)
    return mean, columns(path, part, basis if scaled else basis * np.sqrt(np.ravel(variance)))


def _albedo(path, colour, shape):
    if colour is None:
        return None
    if colour[0].shape != shape.shape:
        raise ValueError(f"{path}: color/model/mean: {len(colour[0])} colours, the shape has {len(shape)} vertices")
    return albedo_from_srgb(*colour)


def _expression_mean(path, expression, shape):
    if expression is None:
        return 0
    if expression[0].shape != shape.shape:
        raise ValueError(f"{path}: expression/model/mean: {len(expression[0])} vertices, the shape has {len(shape)}")
    return expression[0]


def _vertices(path, key, values):
    if values.ndim != 2 or values.shape[1] != 3 or not len(values) or not np.isfinite(values).all():
        raise ValueError(f"{path}: {key}: shape {values.shape}, expected finite [vertices, 3]")
    return values


def _array(path, file, key):
    return numbers(path, key, _contents(path, file, key))


def _contents(path, file, key):
    """A data set of a file, not of another one."""
    import h5py

    if key not in file:
        raise ValueError(f"{path}: '{key}' is missing, found {one_line(', '.join(file)) if len(file) else 'nothing'}")
    item = file[key]
    if not isinstance(item, h5py.Dataset) or item.file.filename != file.filename or item.external or item.is_virtual:
        raise ValueError(f"{path}: {key}: not a data set of this file")
    try:
        check_expansion(item.size * item.dtype.itemsize, path)
    except ValueError as error:
        raise ValueError(f"{path}: {key}: {error}") from None
    return item[()]


def _named(path, text, points):
    """{name: vertex} of the file's own landmarks, which are points in space."""
    text = text if isinstance(text, (bytes, str)) else np.asarray(text).tobytes()
    try:
        places = {str(entry["id"]): entry["coordinates"] for entry in json.loads(text)}
        wanted = np.array(list(places.values()), np.float64).reshape(-1, 3)
        if len(wanted) != len(places) or not np.isfinite(wanted).all():
            raise ValueError("expected three finite numbers a point")
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise ValueError(f"{path}: metadata/landmarks/json: not readable as landmarks ({one_line(error)})") from None
    vertices = scipy.spatial.cKDTree(points).query(wanted)[1]
    return dict(zip(places, vertices.tolist(), strict=True))
