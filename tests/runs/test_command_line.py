"""The front door: exit codes and one-line errors of `python -m sfm_jax.main`, and a run on a folder of scans."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sfm_jax.morphable.formats.assemble import rms
from sfm_jax.morphable.model import MorphableModel
from sfm_jax.morphable.sphere_model import is_sphere_model

ROOT = Path(__file__).parents[2]


def run(*arguments):
    return subprocess.run([sys.executable, "-m", "sfm_jax.main", *map(str, arguments)], cwd=ROOT, text=True,
                          capture_output=True, timeout=300)


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """A toy model file and a folder of 12 people with 3 scans each."""
    import toy

    root, model = tmp_path_factory.mktemp("scans"), toy.model(subdivisions=2)
    model.save(root / "toy.npz")
    rng = np.random.default_rng(0)
    for person in range(12):
        folder = root / "people" / f"person{person:02d}"
        folder.mkdir(parents=True)
        identity = rng.normal(size=6).astype(np.float32)
        for scan in range(3):
            vertices = np.asarray(model.decode(identity, rng.uniform(0, 0.5, 3).astype(np.float32)))
            np.savez(folder / f"{scan}.npz", vertices=vertices + rng.normal(size=vertices.shape) * 0.2)
    return root


def folder_arguments(scans, workdir, *more):
    return ("--config=configs/stage1.py", f"--workdir={workdir}", f"--config.model={scans / 'toy.npz'}",
            f"--config.data.folder={scans / 'people'}", "--config.components=5", "--config.features=12",
            "--config.batch_size=8", "--config.steps=12", "--config.log_every=4", *more)


def test_training_on_a_folder_of_scans(scans, tmp_path):
    done = run(*folder_arguments(scans, tmp_path / "run"))
    assert done.returncode == 0, done.stderr
    numbers = json.loads((tmp_path / "run" / "report.json").read_text())
    assert numbers["heldout/persons"] == 2 and numbers["run/steps"] == 12
    assert numbers["codes/norm_deviation_max"] < 1e-5
    assert numbers["heldout/vertex_error_mm"] < numbers["heldout/mean_face_error_mm"]
    assert "<html" in (tmp_path / "run" / "report.html").read_text()[:200].lower()
    learned = MorphableModel.load(tmp_path / "run" / "model.npz")
    assert learned.identity_basis.shape == (5, 162, 3)

    other = run(*folder_arguments(scans, tmp_path / "run", "--config.seed=1"))
    assert other.returncode == 2
    assert "seed is 0 there and 1 here" in other.stderr and other.stderr.count("\n") == 1
    again = run(*folder_arguments(scans, tmp_path / "run"))
    assert again.returncode == 0, again.stderr

    more = tmp_path / "more"
    shutil.copytree(scans, more)
    moved = np.load(more / "people" / "person01" / "2.npz")["vertices"] + 1
    np.savez(more / "people" / "person01" / "2.npz", vertices=moved)
    config = tmp_path / "run" / "config.json"
    config.write_text(config.read_text().replace(str(scans), str(more)))
    changed = run(*folder_arguments(more, tmp_path / "run"))
    assert changed.returncode == 2 and changed.stderr.count("\n") == 1, changed.stderr
    told = re.search(r"person01 was (.*), 3 scans \((\w+)\) and is (.*), 3 scans \((\w+)\)", changed.stderr)
    assert told[1] == told[3] and told[2] != told[4]


@pytest.mark.parametrize(("arguments", "message"), [
    (["--config=configs/stage1.py", "--config.stepz=3"], "steps"),
    (["--config=configs/stage1.py", "--config.steps=many"], "steps"),
    (["--config=configs/absent.py"], "absent.py"),
    ([], "--config is missing"),
    (["--config=configs/stage1.py", "--config.sphere=round"], "sphere: found 'round', expected one of hard"),
    (["--config=configs/stage1.py", "--config.data.folder=/nowhere"], "/nowhere: no such folder"),
    (["--config=configs/stage1.py", "--config.cpu_devices=2"], "config key 'cpu_devices' does not exist"),
    (["--config=configs/stage2.py", "--config.cpu_devices=0"], "cpu_devices: found 0, expected 1 or more"),
    (["--config=configs/stage1.py", "--config.model=/nowhere.npz"], "/nowhere.npz: no such file"),
    (["--config=configs/stage1.py", "--config.data.persons=100000"], "persons: found 100000, expected at most"),
    (["--config=configs/stage1.py", "--config.data.heldout_persons=1"], "data.heldout_persons: found 1, expected 2"),
    (["--config=configs/stage1.py", "--config.data.heldout_scans_per_person=1"], "heldout_scans_per_person: found 1"),
])
def test_bad_input_is_one_line_and_writes_nothing(arguments, message, tmp_path):
    refused = run(*arguments, f"--workdir={tmp_path / 'run'}")
    assert refused.returncode == 2
    assert message in refused.stderr
    assert refused.stderr.strip().count("\n") == 0
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("key", "value", "message"), [
    ("steps", "-3", "found -3, expected 1 or more"), ("executor", "pmapp", "found 'pmapp', expected one of"),
    ("optimiser.name", "adamm", "found 'adamm', expected one of"),
    ("data.heldout_persons", "1", "found 1, expected 2 or more")])
def test_what_a_run_cannot_begin_with_is_told_in_one_line(scans, key, value, message, tmp_path):
    refused = run(*folder_arguments(scans, tmp_path / "run", f"--config.{key}={value}"))
    assert refused.returncode == 2 and refused.stderr.strip().count("\n") == 0, refused.stderr
    assert f"{key}: {message}" in refused.stderr


def test_a_gaussian_run_leaves_a_gaussian_model(scans, tmp_path):
    """Whose codes are standard deviations: of people as far from the mean as those that it learned from."""
    done = run(*folder_arguments(scans, tmp_path / "run", "--config.sphere=gaussian", "--config.components=4"))
    assert done.returncode == 0, done.stderr
    assert not is_sphere_model(tmp_path / "run" / "model.npz")
    learned, base = (MorphableModel.load(path) for path in (tmp_path / "run" / "model.npz", scans / "toy.npz"))
    drawn, true = (np.sqrt(np.sum(np.square(model.identity_basis, dtype=np.float64))) for model in (learned, base))
    assert 0.5 < drawn / true < 1.3
    np.testing.assert_allclose(learned.identity_sigma, rms(np.asarray(learned.identity_basis)), rtol=1e-4)


def test_help(capsys):
    from sfm_jax.main import main

    assert main(["main", "--help"]) == 0
    said = capsys.readouterr().out
    assert all(text in said for text in ("--config=configs/stage1.py", "--workdir", "--coordinator", "Exit code"))
