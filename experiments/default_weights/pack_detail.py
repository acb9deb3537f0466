"""Pack a finished run of configs/detail.py as the network of learned detail that comes with the package.

    python -m experiments.default_weights.pack_detail --workdir=runs/detail [--out=sfm_jax/assets/detail.npz]

Stores float16, averaged parameters where the run has any. Prints the file's size.
"""

import json
from pathlib import Path

import numpy as np

from experiments.default_weights.packing import check_config, facts, halved, pack_by_command, save
from sfm_jax.inference.default_detail import ASSET, FORMAT, SETTINGS
from sfm_jax.training.checkpoint import Checkpoints
from sfm_jax.training.workdir import CONFIG_FILE

LARGEST = 2e6  # bytes


def main():
    pack_by_command(__doc__.splitlines()[0], ASSET, lambda workdir, out: save(out, packed(workdir), LARGEST))


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
    check_config(workdir, config, {"task": "detail", "model": "default", "coarse": "default"})
    with Checkpoints(workdir, config["keep"]) as checkpoints:
        found = checkpoints.read()
    if found is None:
        raise ValueError(f"workdir: {workdir}: found no checkpoint, expected a run that has saved one")
    return {**facts(FORMAT, config, SETTINGS, files["report.json"].read_text()),
            **halved(workdir, {"params": found["ema"] or found["params"]})}


if __name__ == "__main__":
    main()
