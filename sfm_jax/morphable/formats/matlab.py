"""Models in MATLAB files: Basel 2009, its crop for Deep3D, LSFM and LYHM. All need their publisher's licence.

    Basel 2009 (01_MorphableModel.mat): shapeMU, shapePC, shapeEV (standard deviations), texMU .. (0..255), tl from 1;
        micrometres. Paysan et al., "A 3D Face Model for Pose and Illumination Invariant Face Recognition", AVSS 2009.
    Deep3D (BFM_model_front.mat): meanshape, idBase and exBase (scaled already), meantex, texBase, tri and keypoints
        from 1; decimetres. Deng et al., "Accurate 3D Face Reconstruction with Weakly-Supervised Learning", CVPRW 2019.
    LSFM: mean, components, eigenvalues (variances), trilist. Booth et al., "Large Scale 3D Morphable Models", IJCV.
    LYHM: shp and perhaps tex, each with mu, eigVec, eigVal (variances). Dai et al., ICCV 2017.
"""

import io
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import scipy.io

from sfm_jax.morphable.formats.assemble import UNITS, assemble, columns, unit_factor
from sfm_jax.morphable.formats.colours import albedo_from_srgb
from sfm_jax.morphable.formats.files import need, read_bytes
from sfm_jax.morphable.formats.landmarks import all_landmarks
from sfm_jax.morphable.formats.obj import read_mesh
from sfm_jax.morphable.model import MorphableModel

_TRIANGLES = ("trilist", "tri", "triangles", "faces", "f", "tl")


def load_bfm2009(path: str | os.PathLike, landmarks: str | os.PathLike | None = None) -> MorphableModel:
    """Basel 2009's 01_MorphableModel.mat. Landmarks come from a file of 68 vertices (see `read_landmarks`), or none.

    Raises:
      ValueError: naming the file and the key that is missing or wrong.
    """
    keys = ("shapeMU", "shapePC", "shapeEV", "texMU", "texPC", "texEV", "tl")
    mean, basis, sigma, colour, colours, colour_sigma, triangles = need(path, read_mat(path), *keys)
    return assemble(
        path, mean=np.reshape(mean, (-1, 3)), triangles=triangles.astype(np.int64) - 1,
        identity=_scaled(path, "shapePC", basis, sigma), albedo=albedo_from_srgb(
            np.reshape(colour, (-1, 3)) / 255, _scaled(path, "texPC", colours, colour_sigma) / 255),
        landmarks=all_landmarks(landmarks), millimetres=UNITS["um"], name="Basel Face Model 2009",
        source="Paysan et al. 2009")


def load_deep3d(path: str | os.PathLike) -> MorphableModel:
    """Deep3D's BFM_model_front.mat: Basel 2009's face with 80 identity and 64 expression components, and 68 landmarks.

    Raises:
      ValueError: naming the file and the key that is missing or wrong.
    """
    keys = ("meanshape", "idBase", "exBase", "meantex", "texBase", "tri", "keypoints")
    mean, identity, expression, colour, colours, triangles, landmarks = need(path, read_mat(path), *keys)
    return assemble(
        path, mean=np.reshape(mean, (-1, 3)), triangles=triangles.astype(np.int64) - 1,
        identity=columns(path, "idBase", identity), expression=columns(path, "exBase", expression),
        albedo=albedo_from_srgb(np.reshape(colour, (-1, 3)) / 255, columns(path, "texBase", colours) / 255),
        landmarks=np.ravel(landmarks).astype(np.int64) - 1, millimetres=UNITS["dm"],
        name="Basel Face Model 2009, front", source="Paysan et al. 2009, Guo et al. 2018, Deng et al. 2019")


def load_matlab(
    path: str | os.PathLike,
    unit: str = "mm",
    topology: str | os.PathLike | None = None,
    landmarks: str | os.PathLike | None = None,
) -> MorphableModel:
    """LSFM's or LYHM's .mat, or one like them.

    Args:
      path: has mean, components and eigenvalues, or a struct shp with mu, eigVec and eigVal.
      unit: of its lengths: m, dm, cm, mm or um.
      topology: a mesh with its triangles, where the file has none.
      landmarks: a file of 68 vertices (see `read_landmarks`), or None.

    Raises:
      ValueError: naming the file and the key that is missing or wrong.
    """
    arrays = read_mat(path)
    shape = arrays.get("shp", arrays)
    names = ("mu", "eigVec", "eigVal") if "shp" in arrays else ("mean", "components", "eigenvalues")
    mean, basis, variance = need(path, shape, *names)
    albedo = None
    if "tex" in arrays and "shp" in arrays:
        colour, colours, colour_variance = need(path, arrays["tex"], *names)
        level = 255 if np.max(colour) > 1.5 else 1
        albedo = albedo_from_srgb(np.reshape(colour, (-1, 3)) / level,
                                  _scaled(path, names[1], colours, np.sqrt(colour_variance)) / level)
    triangles = read_mesh(topology).triangles if topology else _triangles(path, shape, arrays, np.size(mean) // 3)
    return assemble(
        path, mean=np.reshape(mean, (-1, 3)), triangles=triangles, albedo=albedo,
        identity=_scaled(path, names[1], basis, np.sqrt(variance)), landmarks=all_landmarks(landmarks),
        millimetres=unit_factor(unit), name=Path(path).stem, source=f"MATLAB model {Path(path).name}")


def mat_keys(path: str | os.PathLike) -> list[str]:
    """The names of the variables of a .mat. ValueError as for `read_mat`."""
    return [name for name, *_ in _scipy_io(path, "whosmat")]


def read_mat(path: str | os.PathLike) -> dict:
    """The variables of a .mat, structs as dicts. ValueError if damaged, and for MATLAB's HDF5 (v7.3)."""
    arrays = _scipy_io(path, "loadmat", struct_as_record=False)
    return {key: _plain(value) for key, value in arrays.items() if not key.startswith("__")}


def _scipy_io(path, function, **options):
    content = read_bytes(path)
    if content[:19] == b"MATLAB 7.3 MAT-file":
        raise ValueError(f"{path}: MATLAB 7.3, expected version 5 to 7.2: save it anew with -v7")
    try:
        return getattr(scipy.io, function)(io.BytesIO(content), **options)
    except Exception as error:  # SciPy raises whatever the damaged file led it to
        raise ValueError(f"{path}: not a readable MATLAB file, or truncated "
                         f"({type(error).__name__}: {error})") from None

def _plain(value):
    if isinstance(value, np.ndarray) and value.dtype == object and value.size == 1:
        value = value.item()
    if hasattr(value, "_fieldnames"):
        return {name: _plain(getattr(value, name)) for name in value._fieldnames}
    return value


def _scaled(path, key, basis, sigma):
    """[K, V, 3] of unit columns [3V, K] times the standard deviations [K]."""
    sigma = np.ravel(sigma)
    if np.ndim(basis) != 2 or np.shape(basis)[1] != len(sigma):
        raise ValueError(f"{path}: {key}: shape {np.shape(basis)}, expected [3 x vertices, {len(sigma)}]")
    if not np.isfinite(sigma).all():
        raise ValueError(f"{path}: {key}: its standard deviations are not finite numbers of 0 or more")
    return columns(path, key, basis) * sigma[:, None, None]


def _triangles(path, shape: Mapping, arrays: Mapping, count):
    """[F, 3] from 0; MATLAB's own count from 1."""
    for place in (shape, arrays):
        for key in _TRIANGLES:
            if key in place:
                triangles = np.asarray(place[key]).astype(np.int64)
                triangles = triangles.T if triangles.ndim == 2 and triangles.shape[1] != 3 else triangles
                return triangles - (1 if triangles.min() > 0 and triangles.max() == count else 0)
    raise ValueError(f"{path}: key '{_TRIANGLES[0]}' is missing: give a mesh with the triangles as topology")
