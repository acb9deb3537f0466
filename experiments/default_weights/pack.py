"""Pack a finished run of config.py beside this file as the network that comes with the package.

    python -m experiments.default_weights.pack --workdir=runs/default_weights [--out=sfm_jax/assets/photo_encoder.npz]

Stores float16, averaged parameters where the run has any, neither its tables of people nor the basis; and the crop
that cameras are relative to, so pack with the face model that the run has seen. Prints the file's size, and how far its
answers are from the run's own on synthetic photos.
"""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from experiments.default_weights.packing import check_config, facts, halved, pack_by_command, save
from sfm_jax.data.scene import Conditions
from sfm_jax.data.synthetic import SyntheticPhotos
from sfm_jax.geometry.rotation import rotation_angle
from sfm_jax.inference.default_encoder import ASSET, FORMAT, SETTINGS, read_encoder
from sfm_jax.inference.face import crop_frame
from sfm_jax.morphable.default import load_default, load_population
from sfm_jax.tasks.finished import load_encoder
from sfm_jax.training.workdir import CONFIG_FILE

LARGEST = 16e6  # bytes
PHOTOS = 32


def main():
    workdir, out = pack_by_command(__doc__.splitlines()[0], ASSET, pack)
    print(f"largest differences from {workdir} in {PHOTOS} photos:")
    for name, value in differences(workdir, out).items():
        print(f"  {name:<28} {value:.3g}")


def pack(workdir: str | Path, out: Path) -> int:
    """Write the npz, whole or not at all; its size in bytes.

    Raises:
      ValueError: not a finished run on photos of the embedded model, one whose basis has learned, numbers that
        float16 does not hold, or more than LARGEST bytes.
    """
    return save(out, packed(Path(workdir)), LARGEST)


def packed(workdir: Path) -> dict[str, np.ndarray]:
    """The arrays of the file."""
    encoder, params, state = load_encoder(workdir, "workdir")
    config = json.loads((workdir / CONFIG_FILE).read_text())
    check_config(workdir, config, {"model": "default", "basis": ""})
    if moved := float(np.abs(params["residual"]).max()):
        raise ValueError(f"workdir: {workdir}: the basis has learned, by up to {moved:.2g} mm, which the file does not "
                         "hold; expected a run with config.optimiser.multipliers.basis = 0")
    report = workdir / "report.json"
    if not report.is_file():
        raise ValueError(f"workdir: {workdir}: found no {report.name}, expected a run that has finished")
    pivot, side = crop_frame(encoder.model)
    trees = {"params": params["network"], "batch_stats": state["batch_stats"]}
    return {**facts(FORMAT, config, SETTINGS, report.read_text()),
            "crop_frame": np.array([*pivot, side], np.float32),
            "log_radius": np.asarray(params["log_radius"], np.float32),
            **halved(workdir, trees)}


def differences(workdir: str | Path, out: Path) -> dict[str, float]:
    """The largest differences between what the run's network and the packed one say of synthetic photos."""
    encoder, *full = load_encoder(workdir, "workdir")
    _, *half = read_encoder(out, detail=0)
    model = load_default(1)
    photos = SyntheticPhotos(model, load_population(), encoder.image_size, Conditions(), seed=0)
    images = jax.jit(photos.__call__)(jnp.arange(PHOTOS))["image"]

    @jax.jit
    def answer(params, state, images):
        prediction, _ = encoder.predict(params, state, images)
        return prediction, encoder.decoder(params)(prediction.codes, encoder.image_size)

    (prediction, face), (other, moved) = answer(*full, images), answer(*half, images)
    codes, others = prediction.codes, other.codes
    return {
        "identity (deviations)": _largest(codes.identity, others.identity),
        "expression (activations)": _largest(codes.expression, others.expression),
        "albedo (deviations)": _largest(codes.albedo, others.albedo),
        "rotation (degrees)": float(rotation_angle(codes.rotation, others.rotation).max()),
        "light": _largest(codes.light, others.light),
        "vertices (mm)": _largest(face.vertices, moved.vertices),
        "landmarks (pixels)": _largest(face.landmarks, moved.landmarks),
    }


def _largest(first, second):
    return float(jnp.abs(first - second).max())


if __name__ == "__main__":
    main()
