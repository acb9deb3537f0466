"""Files of weights that come with the package: from finished runs, rounded, limited in size, and whole."""

import argparse
import json
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import numpy as np
from flax.traverse_util import flatten_dict

from sfm_jax.atomic_files import atomic_write

LICENCE = ("CC0-1.0: trained on nothing but synthetic photos of the embedded face model (CC0 1.0), with a recognition "
           "network in the public domain")


def pack_by_command(description: str, asset: Path, pack: Callable[[Path, Path], int]) -> tuple[Path, Path]:
    """Read --workdir and --out, write the file by `pack`, which returns its size, and print that; the two paths."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--workdir", required=True, type=Path, help="of the finished run")
    parser.add_argument("--out", default=asset, type=Path, help="the npz to write")
    options = parser.parse_args()
    try:
        size = pack(options.workdir, options.out)
    except ValueError as error:
        parser.exit(2, f"{parser.prog}: error: {error}\n")
    print(f"{options.out}: {size / 1e6:.2f} MB")
    return options.workdir, options.out


def check_config(workdir: Path, config: Mapping, expected: Mapping[str, str]) -> None:
    """ValueError where a key of a run's config is not as expected."""
    for key, value in expected.items():
        if config.get(key) != value:
            raise ValueError(f"workdir: {workdir}: config key {key!r}: found {config.get(key)!r}, expected {value!r}")


def facts(form: str, config: Mapping, settings: Collection[str], report: str) -> dict[str, np.ndarray]:
    """What a file says of itself: its format, its licence, the run's report, and the `settings` of its config."""
    texts = {"format": form, "licence": LICENCE, "report": report,
             "config": json.dumps({key: config[key] for key in settings})}
    return {key: np.asarray(text) for key, text in texts.items()}


def save(out: Path, arrays: dict[str, np.ndarray], largest: float) -> int:
    """Write an npz, whole or not at all; its size in bytes. ValueError: more than `largest` bytes."""
    with atomic_write(out) as partial:
        with open(partial, "wb") as file:
            np.savez_compressed(file, **arrays)
        size = partial.stat().st_size
        if size > largest:
            raise ValueError(f"{out}: would be {size / 1e6:.1f} MB, expected at most {largest / 1e6:.0f}")
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
