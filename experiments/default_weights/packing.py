"""Files of weights that come with the package: rounded, limited in size, and whole."""

import os
from pathlib import Path

import numpy as np
from flax.traverse_util import flatten_dict


def save(out: Path, arrays: dict[str, np.ndarray], largest: float) -> int:
    """Write an npz (beside, then renamed); its size in bytes. ValueError: more than `largest` bytes."""
    partial = out.with_name(f".{out.name}.{os.getpid()}.partial")
    try:
        with open(partial, "wb") as file:
            np.savez_compressed(file, **arrays)
        size = partial.stat().st_size
        if size > largest:
            raise ValueError(f"{out}: would be {size / 1e6:.1f} MB, expected at most {largest / 1e6:.0f}")
        os.replace(partial, out)
    finally:
        partial.unlink(missing_ok=True)
    return size


def halved(workdir: str | Path, trees: dict) -> dict[str, np.ndarray]:
    """{"params/Conv_0/kernel": float16} of nested trees. ValueError: `workdir` has what that cannot hold."""
    arrays = {}
    for key, value in flatten_dict(trees, sep="/").items():
        with np.errstate(over="ignore"):
            arrays[key] = np.asarray(value).astype(np.float16)
        if not np.isfinite(arrays[key]).all():
            raise ValueError(f"workdir: {workdir}: {key}: found up to {np.abs(value).max():.3g}, "
                             "which float16 does not hold")
    return arrays
