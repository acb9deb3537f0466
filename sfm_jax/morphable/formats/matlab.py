"""Models in MATLAB files: Basel 2009, its crop for Deep3D, LSFM and LYHM. All need their publisher's licence.

    Basel 2009 (01_MorphableModel.mat): shapeMU, shapePC, shapeEV (standard deviations), texMU .. (0..255), tl from 1;
        micrometres. Paysan et al., "A 3D Face Model for Pose and Illumination Invariant Face Recognition", AVSS 2009.
    Deep3D (BFM_model_front.mat): meanshape, idBase and exBase (scaled already), meantex, texBase, tri and keypoints
        from 1; decimetres. Deng et al., "Accurate 3D Face Reconstruction with Weakly-Supervised Learning", CVPRW 2019.
    LSFM: mean, components, eigenvalues (variances), trilist. Booth et al., "Large Scale 3D Morphable Models", IJCV.
    LYHM: shp and perhaps tex, each with mu, eigVec, eigVal (variances). Dai et al., ICCV 2017.
"""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from sfm_jax.array_files import integers, numbers, one_line
from sfm_jax.mat_files import load_mat5, mat5_names
from sfm_jax.morphable.formats.assemble import UNITS, assemble, columns, points, unit_factor
from sfm_jax.morphable.formats.colours import albedo_from_srgb
from sfm_jax.morphable.formats.files import need, read_bytes
from sfm_jax.morphable.formats.landmarks import all_landmarks
from sfm_jax.morphable.formats.obj import read_topology
from sfm_jax.morphable.model import MorphableModel

_TRIANGLES = ("trilist", "tri", "triangles", "faces", "f", "tl")
_SHORTER = 0.9  # a mesh's edges, of those between vertices that are off by one


def load_bfm2009(path: str | os.PathLike, landmarks: str | os.PathLike | None = None) -> MorphableModel:
    """Basel 2009's 01_MorphableModel.mat. Landmarks come from a file of 68 vertices (see `read_landmarks`), or none.

    Raises:
      ValueError: naming the file and the key that is missing or wrong.
    """
    keys = ("shapeMU", "shapePC", "shapeEV", "texMU", "texPC", "texEV", "tl")
    found = need(path, read_mat(path), *keys)
    mean, basis, sigma, colour, colours, colour_sigma, triangles = (
        numbers(path, key, values) for key, values in zip(keys, found, strict=True))
    return assemble(
        path, mean=points(path, "shapeMU", mean), triangles=integers(path, "tl", triangles) - 1,
        identity=_scaled(path, "shapePC", basis, sigma), albedo=_albedo(
            path, "texMU", colour, _scaled(path, "texPC", colours, colour_sigma), 255),
        landmarks=all_landmarks(landmarks), millimetres=UNITS["um"], name="Basel Face Model 2009",
        source="Paysan et al. 2009")


def load_deep3d(path: str | os.PathLike) -> MorphableModel:
    """Deep3D's BFM_model_front.mat: Basel 2009's face with 80 identity and 64 expression components, and 68 landmarks.

    Raises:
      ValueError: naming the file and the key that is missing or wrong.
    """
    keys = ("meanshape", "idBase", "exBase", "meantex", "texBase", "tri", "keypoints")
    mean, identity, expression, colour, colours, triangles, landmarks = need(path, read_mat(path), *keys)
    colours = columns(path, "texBase", colours)
    return assemble(
        path, mean=points(path, "meanshape", mean), triangles=integers(path, "tri", triangles) - 1,
        identity=columns(path, "idBase", identity), expression=columns(path, "exBase", expression),
        expression_kind="statistical",
        albedo=_albedo(path, "meantex", colour, colours, 255),
        landmarks=np.ravel(integers(path, "keypoints", landmarks)) - 1, millimetres=UNITS["dm"],
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
        colour = numbers(path, f"tex.{names[0]}", colour)
        albedo = _albedo(path, f"tex.{names[0]}", colour, _scaled(path, f"tex.{names[1]}", colours, _roots(
            path, names[2], colour_variance)), 255 if np.max(colour, initial=0) > 1.5 else 1)
    mean = points(path, names[0], mean)
    triangles = read_topology(topology, len(mean)).triangles if topology else _triangles(path, shape, arrays, mean)
    return assemble(
        path, mean=mean, triangles=triangles, albedo=albedo,
        identity=_scaled(path, names[1], basis, _roots(path, names[2], variance)), landmarks=all_landmarks(landmarks),
        millimetres=unit_factor(unit), name=Path(path).stem, source=f"MATLAB model {Path(path).name}")


def mat_keys(path: str | os.PathLike) -> list[str]:
    """The names of the variables of a .mat. ValueError as for `read_mat`."""
    return _read(path, mat5_names)


def read_mat(path: str | os.PathLike) -> dict:
    """The variables of a .mat, structs as dicts. ValueError if damaged, and for MATLAB's HDF5 (v7.3)."""
    return _read(path, load_mat5)


def _read(path, function):
    content = read_bytes(path)
    if content[:19] == b"MATLAB 7.3 MAT-file":
        raise ValueError(f"{path}: MATLAB 7.3, expected version 5 to 7.2: save it anew with -v7")
    try:
        return function(content)
    except ValueError as error:
        raise ValueError(f"{path}: not a readable MATLAB file, or truncated ({one_line(error)})") from None


def _scaled(path, key, basis, sigma):
    """[K, V, 3] of unit columns [3V, K] times the standard deviations [K]."""
    sigma, basis = np.ravel(numbers(path, f"{key}'s deviations", sigma)), numbers(path, key, basis)
    if np.ndim(basis) != 2 or np.shape(basis)[1] != len(sigma):
        raise ValueError(f"{path}: {key}: shape {np.shape(basis)}, expected [3 x vertices, {len(sigma)}]")
    if not np.isfinite(sigma).all():
        raise ValueError(f"{path}: {key}: its standard deviations are not finite numbers of 0 or more")
    return columns(path, key, basis) * sigma[:, None, None]


def _roots(path, key, variance):
    """Standard deviations."""
    variance = numbers(path, key, variance)
    if not (variance >= 0).all():
        raise ValueError(f"{path}: {key}: its standard deviations are not finite numbers of 0 or more")
    return np.sqrt(variance)


def _albedo(path, key, mean, basis, level):
    """Of sRGB colours from 0 to `level`."""
    mean = points(path, key, mean)
    if len(mean) != basis.shape[1]:
        raise ValueError(f"{path}: {key}: {len(mean)} colours, its components have {basis.shape[1]}")
    return albedo_from_srgb(mean / level, basis / level)


def _triangles(path, shape: Mapping, arrays: Mapping, mean):
    """[F, 3] from 0; MATLAB's own count from 1."""
    for place in (shape, arrays):
        for key in _TRIANGLES:
            if key in place:
                triangles = integers(path, key, place[key])
                triangles = triangles.T if triangles.ndim == 2 and triangles.shape[1] != 3 else triangles
                return triangles - _first_vertex(path, key, triangles, mean)
    raise ValueError(f"{path}: key '{_TRIANGLES[0]}' is missing: give a mesh with the triangles as topology")


def _first_vertex(path, key, triangles, mean):
    """0 or 1, what the triangles call the first vertex. Where neither it nor the last one tells, for one of them is in
    no triangle, by the length of the edges: those of vertices that are no neighbours are longer.

    ValueError where they are not.
    """
    if triangles.ndim != 2 or not triangles.size or triangles.min() <= 0 or triangles.max() > len(mean):
        return 0  # if these are no vertices at all, that is found later
    if triangles.max() == len(mean):
        return 1

    def edges(corners):
        places = mean[corners].astype(np.float64)
        return np.linalg.norm(places - np.roll(places, 1, axis=1), axis=2).mean()

    with np.errstate(all="ignore"):  # what is not finite is found later
        from_0, from_1 = edges(triangles), edges(triangles - 1)
    if min(from_0, from_1) > _SHORTER * max(from_0, from_1):
        raise ValueError(f"{path}: {key}: found {triangles.min()}..{triangles.max()} of {len(mean)} vertices, counted "
                         "from 0 or from 1, expected the first or the last among them: give a mesh with the triangles "
                         "as topology")
    return int(from_1 < from_0)
