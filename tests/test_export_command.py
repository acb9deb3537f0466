"""`python -m sfm_jax.export`: its files, and its refusals in one line."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import shape_checks
from jax import export
from tiny_runs import config

from sfm_jax.export import main
from sfm_jax.inference.default_encoder import ASSET
from sfm_jax.inference.identity_space import start_basis
from sfm_jax.inference.photo_encoder import PhotoEncoder
from sfm_jax.morphable.model import MorphableModel
from sfm_jax.training.checkpoint import Checkpoints
from sfm_jax.training.parallel import TrainState
from sfm_jax.training.workdir import open_workdir


@pytest.fixture(scope="module", autouse=True)
def unchecked():
    """jaxtyping cannot compare the symbolic sizes with which programs are exported."""
    with shape_checks.off():
        yield


@pytest.fixture
def workdir(model, tmp_path):
    """A run on photos that has saved a network of zeros: it sees the mean face everywhere."""
    settings, loaded = config("stage2", model), MorphableModel.load(model)
    encoder = PhotoEncoder(settings, loaded, start_basis(settings, loaded, None))
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), jax.eval_shape(encoder.init, jax.random.key(0)))
    params = {"network": zeros["params"], "residual": jnp.zeros(encoder.start.basis.shape),
              "log_radius": jnp.float32(1.5)}
    folder = open_workdir(tmp_path / "run", settings)
    with Checkpoints(folder, 1) as checkpoints:
        checkpoints.save(1, TrainState.create(params, {"batch_stats": zeros["batch_stats"]}, optax.sgd(1.0), False))
    return folder


def refused(capsys, *arguments):
    """The one line that says why."""
    code, said = main([*map(str, arguments)]), capsys.readouterr().err
    assert code == 2 and said.count("\n") == 1 and said.startswith("sfm_jax: error: ")
    return said


def test_a_run_becomes_files(workdir, model, tmp_path, capsys):
    out = tmp_path / "new" / "exported"
    assert main([str(workdir), f"--out={out}", "--dtype=float32"]) == 0
    said = capsys.readouterr().out
    names = {"encoder.stablehlo", "decoder.stablehlo", "mesh.npz", "README.txt", "signature.json"}
    assert {path.name for path in out.iterdir()} == names and all(f"{out}/{name}" in said for name in names)
    signature = json.loads((out / "signature.json").read_text())
    images = signature["programs"]["encoder.stablehlo"]["inputs"]["images"]
    assert images["shape"] == ["b", 32, 32, 3] and images["dtype"] == "float32"
    network, decoder = (export.deserialize(bytearray((out / name).read_bytes()))
                        for name in ("encoder.stablehlo", "decoder.stablehlo"))
    codes = network.call(np.zeros((2, 32, 32, 3), np.float32))
    faces = decoder.call(codes["identity"], codes["expression"], codes["albedo"])
    mean = MorphableModel.load(model).mean
    np.testing.assert_allclose(faces["vertices"], np.stack([mean, mean]), atol=1e-4)


def test_refusals(workdir, tmp_path, capsys):
    out = tmp_path / "out"
    assert "found no config.json" in refused(capsys, tmp_path / "nowhere", "--out", out)
    assert "--out" in refused(capsys)
    assert "--detail: a run has its own" in refused(capsys, workdir, "--out", out, "--detail=1")
    assert "--dtype" in refused(capsys, workdir, "--out", out, "--dtype=float64")
    file = tmp_path / "file"
    file.write_text("mine")
    assert "cannot be written" in refused(capsys, workdir, "--out", file)
    settings = json.loads((workdir / "config.json").read_text())
    (workdir / "config.json").write_text(json.dumps({"task": "sphere_basis", "keep": settings["keep"]}))
    assert "found task 'sphere_basis', expected one that learns from photos" in refused(capsys, workdir, "--out", out)
    assert not out.exists()


@pytest.mark.slow
@pytest.mark.skipif(not ASSET.exists(), reason="the weights are not here")
def test_weights_that_ship(tmp_path):
    done = subprocess.run([sys.executable, "-m", "sfm_jax.export", f"--out={tmp_path}", "--detail=0"],
                          cwd=Path(__file__).parents[1], text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    signature = json.loads((tmp_path / "signature.json").read_text())
    assert signature["model"]["vertices"] == 3642 and "heldout/nme_percent" in signature["weights"]["report"]
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 60e6
