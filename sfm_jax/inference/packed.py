"""Networks that come with the package, as files: npz of named arrays that say what they are and under which licence."""

import os
from collections.abc import Iterable

import jax.numpy as jnp
import numpy as np
from flax.traverse_util import unflatten_dict

from sfm_jax.array_files import read_npz


def read_packed(path: str | os.PathLike, form: str, keys: Iterable[str]) -> dict[str, np.ndarray]:
    """The arrays of a file by name; of trees of parameters each leaf: "params/Conv_0/kernel".

    Args:
      path: an npz.
      form: what its "format" has to say.
      keys: its other names, of trees their roots; no more and no fewer.

    Raises:
      ValueError: no such file, another format, or a damaged file.
    """
    arrays = read_npz(path)
    found = str(arrays.get("format", "no 'format' key"))
    if found != form:
        raise ValueError(f"{path}: key 'format': found {found!r}, expected {form!r}")
    roots = {key.partition("/")[0] for key in arrays}
    for key in keys:
        if key not in roots:
            raise ValueError(f"{path}: key {key!r} is missing")
    if unknown := roots - {"format", *keys}:
        raise ValueError(f"{path}: key {min(unknown)!r}: not one of {form!r}")
    return arrays


def unpacked_tree(arrays: dict[str, np.ndarray], root: str) -> dict:
    """The nested dict of one tree of parameters of a file, float32."""
    leaves = {key.removeprefix(f"{root}/"): jnp.asarray(value, jnp.float32)
              for key, value in arrays.items() if key.startswith(f"{root}/")}
    return unflatten_dict(leaves, sep="/")
