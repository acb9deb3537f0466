"""From the command to the report on photos: a toy run of configs/stage2.py, stopped by nothing and by bad photos."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import toy
from PIL import Image
from tiny_runs import PHOTOS, TINY

from sfm_jax.morphable.sphere_model import SphereFaceModel

ROOT = Path(__file__).parents[2]
KEYS = {
    "heldout/nme_percent", "heldout/neutral_shape_error_mm", "heldout/mean_face_error_mm", "heldout/rank1",
    "heldout/verification_accuracy", "sir/between_within_ratio", "sir/geometry_rank1", "sir/code_geometry_spearman",
    "run/steps_per_second", "run/compile_seconds"}


def run(root, workdir, *more):
    toy.model(subdivisions=2).save(root / "toy.npz")
    tiny = [f"--config.{key}={value}" for key, value in (TINY | PHOTOS).items()]
    return subprocess.run(
        [sys.executable, "-m", "sfm_jax.main", "--config=configs/stage2.py", f"--workdir={workdir}",
         f"--config.model={root / 'toy.npz'}", *tiny, *more], cwd=ROOT, text=True, capture_output=True, timeout=500)


@pytest.mark.slow
def test_a_run_writes_its_report(tmp_path):
    done = run(tmp_path, tmp_path / "run")
    assert done.returncode == 0, done.stderr
    numbers = json.loads((tmp_path / "run" / "report.json").read_text())
    assert KEYS <= set(numbers)
    assert numbers["run/steps"] == 4 and numbers["heldout/persons"] == 4
    assert "Held-out photos" in (tmp_path / "run" / "report.html").read_text()
    assert SphereFaceModel.load(tmp_path / "run" / "model.npz").dimension == 5


@pytest.mark.slow
def test_too_many_bad_photos_stop_the_run_in_one_line(tmp_path):
    rng = np.random.default_rng(0)
    for person in range(4):
        folder = tmp_path / "photos" / f"person{person}"
        folder.mkdir(parents=True)
        for photo in range(4):
            Image.fromarray(rng.integers(0, 255, (40, 40, 3), dtype=np.uint8)).save(folder / f"{photo}.jpg")
    broken = tmp_path / "photos" / "person2" / "1.jpg"
    broken.write_bytes(broken.read_bytes()[:300])
    done = run(tmp_path, tmp_path / "run", f"--config.data.identity=folder:{tmp_path / 'photos'}")
    assert done.returncode == 2, done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("sfm_jax: error: photos: 1 of ")
    assert "1.jpg" in done.stderr

    (tmp_path / "photos" / "person2" / "1.jpg").rename(tmp_path / "photos" / "person3" / "4.jpg")
    done = run(tmp_path, tmp_path / "run", f"--config.data.identity=folder:{tmp_path / 'photos'}")
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert "began with other data: data.identity was 16 photos of 4 people (" in done.stderr
