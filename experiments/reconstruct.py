"""The README's table of faces from photos: how near, on photos with landmarks, and how fast.

    python -m experiments.reconstruct --photos=aflw:AFLW2000

Photos are a collection as data.photos.open_photos names it. Of each photo the face counts that is most the labelled
one. Writes experiments/results/reconstruct.{json,md}.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from experiments.results import machine, markdown_table, write_result
from sfm_jax.data.photo_sets import decode
from sfm_jax.data.photos import open_photos
from sfm_jax.evaluation.landmarks import nme_percent
from sfm_jax.inference.detection import overlap
from sfm_jax.inference.reconstruction import Reconstructor

WAYS = {"detector's points alone": None, "network alone": False, "with --fit": True}
LEAST_OVERLAP = 0.3


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", required=True, help="a collection of photos with landmarks")
    photos = parser.parse_args().photos
    source = open_photos(photos)
    raws = [source.raw(index) for index in range(len(source))]
    images = [decode(raw.image, raw.name) for raw in raws]
    numbers = {"photos": len(raws)}
    for way, fit in WAYS.items():
        errors, seconds = measure(raws, images, fit)
        numbers[way] = {"found": len(errors), "errors": errors.tolist(), "seconds": seconds}
    numbers["command"] = {f"{name}{' --fit' if fit else ''}": seconds for fit in (False, True)
                          for name, seconds in command_times(raws[0], fit).items()}
    values = {"machine": machine(), "numbers": numbers}
    print(table(values))
    write_result("reconstruct", values, table(values))


def table(values: dict) -> str:
    numbers, rows = values["numbers"], []
    for way in WAYS:
        errors, seconds = np.array(numbers[way]["errors"]), numbers[way]["seconds"]
        rows.append([way, f"{numbers[way]['found']} of {numbers['photos']}", f"{np.median(errors[:, 0]):.2f} %",
                     f"{errors[:, 0].mean():.2f} %", f"{np.median(errors[:, 1]):.2f} %", f"{seconds:.2f} s"])
    text = markdown_table([f"{numbers['photos']} photos", "found", "68 points, median", "mean",
                           "51 without the jaw, median", "each further photo"], rows)
    told = "; ".join(f"{name}: {seconds:.1f} s" for name, seconds in numbers["command"].items())
    return (f"{text}\n\nErrors over sqrt(width * height) of the true landmarks' box. The command, with all its files: "
            f"{told}.")


def measure(raws, images, fit: bool | None) -> tuple[np.ndarray, float]:
    """Errors [N, 2] in per cent, of 68 and of 51 landmarks, of the photos in which the face was found; median seconds.
    fit None: of the detector's own points."""
    reconstructor = Reconstructor(fit=bool(fit))
    find = reconstructor if fit is not None else reconstructor.detector.faces
    find(images[0])
    errors, seconds = [], []
    for raw, image in zip(raws, images, strict=True):
        began = time.perf_counter()
        faces = find(image)
        seconds.append(time.perf_counter() - began)
        box = np.concatenate([raw.landmarks.min(0), raw.landmarks.max(0)])
        boxes = np.array([face.box if fit is None else face.face_box for face in faces]).reshape(-1, 4)
        shares = overlap(box, boxes)
        if shares.max(initial=0) < LEAST_OVERLAP:
            continue
        face = faces[int(shares.argmax())]
        found = face.landmarks68 if fit is None else face.landmarks68_px
        inner = np.linalg.norm(found - raw.landmarks, axis=-1)[17:].mean()
        size = np.sqrt(np.ptp(raw.landmarks, axis=0).prod())
        errors.append((nme_percent(found[None], raw.landmarks[None])[0], 100 * inner / size))
    return np.array(errors), float(np.median(seconds))


def command_times(raw, fit: bool) -> dict[str, float]:
    """Seconds of the whole command on one photo: with nothing compiled yet, and once more."""
    with tempfile.TemporaryDirectory() as folder:
        photo = Path(folder) / "photo.png"
        Image.fromarray(decode(raw.image, raw.name)).save(photo)
        command = [sys.executable, "-m", "sfm_jax.reconstruct", str(photo), f"--out={folder}/faces"]
        environment = {**os.environ, "XDG_CACHE_HOME": folder}
        times = {}
        for name in ("first", "again"):
            began = time.perf_counter()
            subprocess.run(command + ["--fit"] * fit, check=True, env=environment, capture_output=True)
            times[name] = time.perf_counter() - began
        return times


if __name__ == "__main__":
    main()
