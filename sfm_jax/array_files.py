"""Arrays from files that nobody vouches for: NumPy's own, and checks of those of any format.

Whatever a file claims of itself, no more is taken into memory than it can honestly hold: arrays of an npz may have
RATIO times the file's bytes, at least SMALL.
"""

import os
import sys
import zipfile
from collections.abc import Collection
from pathlib import Path

import numpy as np

SMALL, RATIO = 1 << 28, 100  # bytes
_STARTS = b"\x93NUMPY", b"PK\3\4", b"PK\5\6"  # of a .npy, of an .npz and of an empty one
_LONGEST = 1e12
_LONGEST_TEXT = 1 << 20  # bytes, of an array that holds none
_LARGEST_INTEGER = 2.0**53  # that floating point has without gaps


def read_npz(path: str | os.PathLike, keys: Collection[str] | None = None) -> dict[str, np.ndarray]:
    """The arrays of an npz, of `keys` those that it has, or of a .npy as {"": array}.

    Raises:
      ValueError: one line that names the file: none there, of another format, damaged, pickled objects in it, larger
        than it can be.
    """
    kind = "npy" if str(path).lower().endswith(".npy") else "npz"
    try:
        with open(path, "rb") as file:
            if zipfile.is_zipfile(file):
                check_expansion(sum(entry.file_size for entry in zipfile.ZipFile(file).infolist()), path)
            file.seek(0)
            start = file.read(len(_STARTS[0]))
            if start and not start.startswith(_STARTS):
                raise ValueError(f"it is no {kind} file, but one of another format")
            file.seek(0)
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                _check_texts(loaded)
                return {"": loaded}
            with loaded:
                return {key: _member(loaded, key) for key in (loaded.files if keys is None else keys)
                        if key in loaded.files}
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except Exception as error:  # zipfile, zlib and NumPy each raise their own kinds on damaged files
        raise ValueError(f"{path}: not a readable {kind} without pickled objects ({one_line(error)})") from None


def _member(loaded, key):
    try:
        array = loaded[key]
        if not isinstance(array, np.ndarray):
            raise ValueError("not an array")
        _check_texts(array)
    except Exception as error:
        raise ValueError(f"key {key!r}: {error}") from None
    return array


def _check_texts(array):
    """ValueError if an array of texts holds numbers that are no characters: Python dies of making texts of them; or if
    it is empty but for the length of texts that it claims, which is taken into memory where it is converted."""
    if not array.size and array.dtype.itemsize > _LONGEST_TEXT:
        raise ValueError(f"empty, of elements of {array.dtype.itemsize / 1e6:.0f} MB")
    if array.dtype.kind == "U":
        points = np.frombuffer(array.tobytes(), np.dtype(np.uint32).newbyteorder(array.dtype.byteorder))
        if points.max(initial=0) > sys.maxunicode:
            raise ValueError(f"found the character {points.max()}, expected at most {sys.maxunicode}")


def check_expansion(size: int, path: str | os.PathLike) -> None:
    """ValueError if a file claims to hold `size` bytes that it cannot honestly hold."""
    length = Path(path).stat().st_size
    if size > max(SMALL, RATIO * length):
        raise ValueError(f"it claims to hold {size / 1e6:.0f} MB in a file of {length / 1e6:.3f} MB")


def one_line(error: BaseException | str) -> str:
    """A text, an error's, or its kind where it has none, on one line and not too long."""
    return " ".join(str(error).split())[:300] or type(error).__name__


def numbers(path: str | os.PathLike, key: str, values) -> np.ndarray:
    """Values of a file as an array of real numbers. ValueError names the file and the key."""
    try:
        array = np.asarray(values)
    except (ValueError, OverflowError) as error:  # rows of different length
        raise ValueError(f"{path}: {key}: not an array of numbers ({one_line(error)})") from None
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{path}: {key}: found {_kind(array)}, expected numbers")
    return array


def lengths(path: str | os.PathLike, key: str, values) -> np.ndarray:
    """Values of a file as float64 that can be squared and summed. ValueError names the file and the key."""
    array = numbers(path, key, values).astype(np.float64)
    if not (np.abs(array) < _LONGEST).all():
        raise ValueError(f"{path}: {key}: holds NaN, infinite numbers or some of {_LONGEST:g} and more")
    return array


def integers(path: str | os.PathLike, key: str, values) -> np.ndarray:
    """Values of a file as int64, which they have to be. ValueError names the file and the key."""
    array = numbers(path, key, values)
    if array.dtype.kind == "f":
        if not (np.isfinite(array).all() and (array == np.rint(array)).all() and
                (np.abs(array) < _LARGEST_INTEGER).all()):
            raise ValueError(f"{path}: {key}: found fractions, NaN or infinite numbers, expected whole numbers")
    elif array.dtype == np.uint64 and array.size and array.max() > np.iinfo(np.int64).max:
        raise ValueError(f"{path}: {key}: found {array.max()}, expected smaller numbers")
    return array.astype(np.int64)


def triangle_indices(path: str | os.PathLike, key: str, triangles, count: int) -> np.ndarray:
    """Triangles [F, 3] int32 of `count` vertices. ValueError, naming file and key, of another shape or of vertices that
    are not there."""
    triangles = integers(path, key, triangles)
    if triangles.ndim != 2 or triangles.shape[1] != 3 or not len(triangles):
        raise ValueError(f"{path}: {key}: shape {triangles.shape}, expected [triangles, 3]")
    if triangles.min() < 0 or triangles.max() >= count:
        raise ValueError(f"{path}: {key}: indices {triangles.min()}..{triangles.max()}, expected 0..{count - 1}")
    return triangles.astype(np.int32)


def texts(path: str | os.PathLike, key: str, values) -> np.ndarray:
    """Values of a file as an array of texts. ValueError names the file and the key."""
    array = np.asarray(values)
    if array.dtype.kind not in "US":
        if array.size:
            raise ValueError(f"{path}: {key}: found {_kind(array)}, expected text")
        return array.astype(np.str_)  # an empty array has lost its kind
    return np.char.decode(array, "utf-8", "replace") if array.dtype.kind == "S" else array


def _kind(array):
    return {"U": "text", "S": "text", "O": "objects", "c": "complex numbers"}.get(array.dtype.kind, str(array.dtype))
