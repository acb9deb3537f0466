"""Pack a finished run of configs/detail.py as the network of learned detail that comes with the package.

    python -m experiments.default_weights.pack_detail --workdir=runs/detail [--out=sfm_jax/assets/detail.npz]

Stores float16, averaged parameters where the run has any. Prints the file's size.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from experiments.default_weights.pack import LICENCE
from experiments.default_weights.packing import halved, save
from sfm_jax.inference.default_detail import ASSET, FORMAT, SETTINGS
from sfm_jax.training.checkpoint import Checkpoints
from sfm_jax.training.workdir import CONFIG_FILE

LARGEST = 2e6  # bytes


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", required=True, help="of the finished run")
    parser.add_argument("--out", default=ASSET, type=Path, help="the npz to write")
    options = parser.parse_args()
    try:
        size = save(options.out, packed(Path(options.workdir)), LARGEST)
    except ValueError as error:
        parser.exit(2, f"pack_detail: error: {error}\n")
    print(f"{options.out}: {size / 1e6:.2f} MB")


def packed(workdir: Path) -> dict[str, np.ndarray]:
    """The arrays of the file.

    Raises:
      ValueError: not a finished run of detail on the package's own network, or numbers that float16 does not hold.
    """
    files = {name: workdir / name for name in (CONFIG_FILE, "report.json")}
    for file in files.values():
        if not file.is_file():
            raise ValueError(f"workdir: {workdir}: found no {file.name}, expected a run that has finished")
    config = json.loads(files[CONFIG_FILE].read_text())
    for key, expected in (("task", "detail"), ("model", "default"), ("coarse", "default")):
        if config.get(key) != expected:
            raise ValueError(f"workdir: {workdir}: config key {key!r}: found {config.get(key)!r}, "
                             f"expected {expected!r}")
    with Checkpoints(workdir, config["keep"]) as checkpoints:
        found = checkpoints.read()
    if found is None:
        raise ValueError(f"workdir: {workdir}: found no checkpoint, expected a run that has saved one")
    texts = {"format": FORMAT, "licence": LICENCE, "report": files["report.json"].read_text(),
             "config": json.dumps({key: config[key] for key in SETTINGS})}
    return {**{key: np.asarray(text) for key, text in texts.items()},
            **halved(workdir, {"params": found["ema"] or found["params"]})}


if __name__ == "__main__":
    main()
