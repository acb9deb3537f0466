"""Reading and writing files with errors of one line that name them."""

import os
from collections.abc import Mapping
from pathlib import Path

from sfm_jax.array_files import one_line
from sfm_jax.atomic_files import atomic_write


def read_bytes(path: str | os.PathLike) -> bytes:
    """The whole file. ValueError if there is none or it cannot be read."""
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:  # ValueError: a name with a NUL
        raise ValueError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None


def write_bytes(path: str | os.PathLike, content: bytes) -> None:
    """Write all of it or nothing. ValueError if that cannot be done."""
    try:
        with atomic_write(path) as partial:
            partial.write_bytes(content)
    except OSError as error:
        raise ValueError(f"{path}: cannot be written ({error.strerror})") from None


def need(path: str | os.PathLike, arrays: Mapping, *keys: str) -> list:
    """The values of `keys`. ValueError names the first that is missing, and those that are there."""
    if not isinstance(arrays, Mapping):
        raise ValueError(f"{path}: found a {type(arrays).__name__}, expected one with the keys {', '.join(keys)}")
    for key in keys:
        if key not in arrays:
            found = one_line(", ".join(sorted(str(key) for key in arrays))) if arrays else "nothing"
            raise ValueError(f"{path}: key '{key}' is missing, found {found}")
    return [arrays[key] for key in keys]
