"""Reading and writing files with errors of one line that name them."""

import os
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np


def read_bytes(path: str | os.PathLike) -> bytes:
    """The whole file. ValueError if there is none or it cannot be read."""
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from None


def write_bytes(path: str | os.PathLike, content: bytes) -> None:
    """Write under a temporary name, then rename. ValueError if that cannot be done."""
    path = Path(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(content)
        os.replace(partial, path)
    except OSError as error:
        raise ValueError(f"{path}: cannot be written ({error.strerror})") from None
    finally:
        partial.unlink(missing_ok=True)


def read_npz(path: str | os.PathLike, keys: Collection[str] | None = None) -> dict[str, np.ndarray]:
    """The arrays of an npz, of `keys` those that it has, or of a .npy as {"": array}. ValueError: damaged, pickled."""
    try:
        with open(path, "rb") as file:
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return {"": loaded}
            arrays = {}
            for key in loaded.files if keys is None else [key for key in keys if key in loaded.files]:
                try:
                    arrays[key] = loaded[key]
                except Exception as error:  # zipfile, zlib and NumPy each raise their own kinds on damaged files
                    raise ValueError(f"key {key!r}: {error}") from None
            return arrays
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except Exception as error:
        raise ValueError(f"{path}: not readable as npz without pickled objects ({error})") from None


def need(path: str | os.PathLike, arrays: Mapping, *keys: str) -> list:
    """The values of `keys`. ValueError names the first that is missing, and those that are there."""
    for key in keys:
        if key not in arrays:
            found = ", ".join(sorted(str(key) for key in arrays)) or "nothing"
            raise ValueError(f"{path}: key '{key}' is missing, found {found}")
    return [arrays[key] for key in keys]
