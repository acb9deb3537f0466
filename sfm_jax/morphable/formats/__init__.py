"""Other face models in: `load_face_model` guesses a file's or folder's format and reads it as a MorphableModel."""

import inspect
import os
from pathlib import Path

from sfm_jax.array_files import read_npz
from sfm_jax.morphable.formats import bilinear, eos, flame, gltf, ict, matlab, meshes, npz, statismo
from sfm_jax.morphable.model import FORMAT, MorphableModel


def _load_ours(path: str | os.PathLike) -> MorphableModel:
    return MorphableModel.load(path)


LOADERS = {
    "sfm-jax": _load_ours, "eos": eos.load_eos, "glb": gltf.load_gltf, "meshes": meshes.load_meshes,
    "npz": npz.load_npz, "ict": ict.load_ict, "bfm2009": matlab.load_bfm2009, "deep3d": matlab.load_deep3d,
    "matlab": matlab.load_matlab, "bfm": statismo.load_statismo, "flame": flame.load_flame,
    "bilinear": bilinear.load_bilinear,
}
"""What reads each format; its parameters after the path are the options of `load_face_model`."""
_SUFFIXES = {".bin": "eos", ".glb": "glb", ".h5": "bfm", ".hdf5": "bfm", ".pkl": "flame", ".npy": "bilinear"}


def load_face_model(path: str | os.PathLike, format: str | None = None, **options: object) -> MorphableModel:
    """A face model of any format that is read here.

    Args:
      path: a file, or a folder of ICT FaceKit's or registered meshes.
      format: one of LOADERS; None guesses it.
      options: of that format's loader; those that are None are left out.

    Raises:
      ValueError: one line naming the file and what is missing or wrong, or the option that the format has not.
    """
    format = format or guess_format(path)
    if format not in LOADERS:
        raise ValueError(f"format: found {format!r}, expected one of {', '.join(LOADERS)}")
    options = {key: value for key, value in options.items() if value is not None}
    known = list(inspect.signature(LOADERS[format]).parameters)[1:]
    for key in options:
        if key not in known:
            raise ValueError(f"{path}: format {format!r} has no option {key!r}, has {', '.join(known) or 'none'}")
    return LOADERS[format](path, **options)


def guess_format(path: str | os.PathLike) -> str:
    """The name in LOADERS that fits a file or folder. ValueError if there is no such file or none fits."""
    path = Path(path)
    if path.is_dir():
        is_ict = any((folder / ict.NEUTRAL).is_file() for folder in (path, path / "FaceXModel"))
        return "ict" if is_ict else "meshes"
    if not path.exists():
        raise ValueError(f"{path}: no such file or folder")
    suffix = path.suffix.lower()
    if suffix == ".npz":
        keys = read_npz(path, ("format", *bilinear.CORES, "v_template"))
        if str(keys.get("format", "")) == FORMAT:
            return "sfm-jax"
        return "flame" if "v_template" in keys else "npz" if not set(keys) & set(bilinear.CORES) else "bilinear"
    if suffix == ".mat":
        keys = matlab.mat_keys(path)
        return "bfm2009" if "shapeMU" in keys else "deep3d" if "meanshape" in keys else "matlab"
    if suffix not in _SUFFIXES:
        raise ValueError(f"{path}: no face model ends in {suffix!r}, expected {', '.join(_SUFFIXES)}, .mat, .npz or a "
                         "folder")
    return _SUFFIXES[suffix]
