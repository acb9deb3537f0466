"""Landmarks of photos in files, whichever way methods write them, as [68, 2] pixels with the first centre at 0.5."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sfm_jax.array_files import numbers, read_npz
from sfm_jax.data.labelled_folder import read_landmarks
from sfm_jax.evaluation.protocols.matching import files_by_name, parameter_files

SUFFIXES = (".npy", ".npz", ".pts", ".txt")
POINTS = 68


def read_predictions(place: str | Path, names: Sequence[str], first_pixel: float = 0.5) -> dict[str, np.ndarray]:
    """{name: landmarks [F, 68, 2] of the F faces predicted in a photo}.

    place: a folder of the reconstruct command (NAME_1/params.npz ..), or of files NAME.npy, .npz (key "landmarks"),
    .pts or .txt; or one .npz of arrays by name; or one .npy [N, 68, 2], of `names` in this order. Arrays may be
    [68, 2], [68, 3], [2, 68] or [3, 68]. first_pixel: where the centre of the first pixel is in them; a .pts says it
    itself, 1, and what the reconstruct command writes is 0.5.

    Raises:
      ValueError: another number of landmarks, NaN, a file that cannot be read, or nothing there.
    """
    place, shift = Path(place), 0.5 - first_pixel
    if place.suffix == ".npy":
        stack = read_array(place)
        if stack.ndim != 3 or len(stack) != len(names):
            raise ValueError(f"{place}: found shape {stack.shape}, expected [{len(names)}, 68, 2], one for each of "
                             f"{len(names)} faces by name")
        return {name: _planar(place, one, f"row {row}: ")[None] + shift
                for row, (name, one) in enumerate(zip(names, stack, strict=True))}
    if place.suffix == ".npz":
        return {name: _planar(place, one, f"key '{name}': ")[None] + shift for name, one in read_arrays(place).items()}
    if faces := parameter_files(place):
        return {name: np.stack([_planar(path, read_key(path, "landmarks68_px")) for path in paths])
                for name, paths in faces.items()}
    return {name: _read_file(path, shift)[None]
            for name, path in files_by_name(place, SUFFIXES, "landmarks of photos").items()}


def read_array(path: Path) -> np.ndarray:
    """A .npy of numbers. ValueError names the file."""
    array = read_npz(path).get("")
    if array is None:
        raise ValueError(f"{path}: found several arrays, expected a .npy of one")
    return numbers(path, "array", array).astype(np.float64)


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Every array of an .npz. ValueError names the file."""
    arrays = read_npz(path)
    if "" in arrays:
        raise ValueError(f"{path}: found a single array, expected an .npz of arrays by name")
    return arrays


def read_key(path: Path, key: str) -> np.ndarray:
    """One array of an .npz. ValueError names the file, and the key where it is missing."""
    arrays = read_arrays(path)
    if key not in arrays:
        raise ValueError(f"{path}: key '{key}' is missing, found {', '.join(arrays) or 'nothing'}")
    return arrays[key]


def _read_file(path, shift):
    if path.suffix == ".npy":
        return _planar(path, read_array(path)) + shift
    if path.suffix == ".npz":
        return _planar(path, read_key(path, "landmarks")) + shift
    points = _planar(path, read_landmarks(path)[0])
    return points if path.suffix == ".pts" else points + shift


def _planar(path, points, where=""):
    """[68, 2] of one face's landmarks in any of their layouts."""
    points = numbers(path, where.rstrip(": ") or "landmarks", points).astype(np.float64)
    if points.ndim == 2 and POINTS not in points.shape[:1] and points.shape[0] in (2, 3):
        points = points.T
    if points.ndim != 2 or points.shape[0] != POINTS or points.shape[1] not in (2, 3):
        raise ValueError(f"{path}: {where}found landmarks of shape {points.shape}, expected {POINTS} of them, [68, 2]")
    points = points[:, :2]
    if not np.isfinite(points).all():
        raise ValueError(f"{path}: {where}landmark {int(np.argmin(np.isfinite(points).all(1)))} is "
                         f"not finite, expected numbers")
    return points
