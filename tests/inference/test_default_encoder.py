"""Packed networks: what goes into the file comes out, at float16's precision, and what does not belong is refused."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tiny_runs import PHOTOS

from experiments.default_weights import pack
from sfm_jax.geometry.rotation import rotation_from_euler
from sfm_jax.inference import default_encoder
from sfm_jax.inference.default_encoder import ASSET, load_default_encoder, packed_facts, read_encoder, reframed
from sfm_jax.inference.face import FaceCodes, view
from sfm_jax.inference.identity_space import start_basis
from sfm_jax.inference.photo_encoder import PhotoEncoder
from sfm_jax.morphable.default import load_default
from sfm_jax.tasks.finished import load_encoder
from sfm_jax.training.checkpoint import Checkpoints
from sfm_jax.training.config import beside
from sfm_jax.training.parallel import TrainState
from sfm_jax.training.workdir import open_workdir

CONFIG = Path(pack.__file__).with_name("config.py")
REPORT = {"heldout/nme_percent": 4.5, "run/steps": 7}


@pytest.fixture(scope="module")
def make_run():
    """Makes a workdir: a run whose network says something else of every photo, its averages something else again."""
    config = beside(CONFIG, "config").get_config()
    config.update({key: value for key, value in PHOTOS.items() if "." not in key})
    config.components = 5
    encoder = PhotoEncoder(config, load_default(0), start_basis(config, load_default(0), None))
    variables = jax.jit(encoder.init)(jax.random.key(0))
    statistics = jax.tree.map(lambda leaf: leaf - 0.1, variables["batch_stats"])
    for head in variables["params"]["FaceHeads_0"].values():
        head["Dense_1"]["kernel"] *= 100  # they start at almost nothing
    first = {"network": variables["params"], "residual": jnp.zeros(encoder.start.basis.shape),
             "log_radius": jnp.float32(2.1234567), "classes": jnp.ones((6, 5))}

    def make(folder, change=lambda params: params):
        train = TrainState.create(change(first), {"batch_stats": statistics}, optax.sgd(1.0), averaged=True)
        train.ema["network"]["FaceHeads_0"]["identity"]["Dense_1"]["kernel"] *= 2
        workdir = open_workdir(folder, config)
        with Checkpoints(workdir, 1) as checkpoints:
            checkpoints.save(7, train)
        (workdir / "report.json").write_text(json.dumps(REPORT))
        return workdir

    return make


@pytest.fixture(scope="module")
def workdir(make_run, tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("finished") / "run")


@pytest.fixture(scope="module")
def file(workdir):
    out = workdir.parent / "encoder.npz"
    assert pack.pack(workdir, out) == out.stat().st_size
    assert [path.name for path in out.parent.iterdir() if path.name.startswith(".")] == []
    return out


@pytest.fixture(scope="module")
def images():
    return jax.random.uniform(jax.random.key(2), (3, 32, 32, 3)) * jnp.array([0.2, 1, 0.6])[:, None, None, None]


def predict(encoder, params, state, images):
    return jax.device_get(jax.jit(encoder.predict)(params, state, images)[0])


def test_predictions_are_those_of_rounded_averages(workdir, file, images):
    encoder, params, state = load_encoder(workdir, "workdir")

    def rounded(tree):
        return jax.tree.map(lambda leaf: np.float32(np.float16(leaf)), tree)

    full = predict(encoder, params, state, images)
    expected = predict(encoder, params | {"network": rounded(params["network"])}, rounded(state), images)
    found = predict(*read_encoder(file, 0), images)
    jax.tree.map(lambda ours, theirs: np.testing.assert_allclose(ours, theirs, atol=1e-6), found, expected)
    change = np.abs(found.codes.identity - full.codes.identity).max()
    assert 0 < change < 1e-2 * np.abs(full.codes.identity).max()


def test_coarse_vertices_are_the_first_of_fine_ones(file, images):
    faces = []
    for detail in (0, 1):
        encoder, params, state = read_encoder(file, detail)
        codes = encoder.predict(params, state, images)[0].codes
        assert encoder.start.radius == pytest.approx(float(np.exp(2.1234567)), rel=1e-6)
        faces.append(encoder.decoder(params)(codes, 32))
    coarse, fine = faces
    assert coarse.vertices.shape == (3, 3642, 3) and fine.vertices.shape == (3, 14403, 3)
    np.testing.assert_allclose(fine.vertices[:, :3642], coarse.vertices, atol=1e-3)
    seen = [jax.vmap(lambda camera, points: camera.project(points))(face.camera, coarse.vertices) for face in faces]
    np.testing.assert_allclose(seen[1][..., :2], seen[0][..., :2], atol=1e-3)
    np.testing.assert_allclose(np.ptp(seen[1][..., 2], axis=1), np.ptp(seen[0][..., 2], axis=1), rtol=1e-4)
    assert np.ptp(np.asarray(coarse.neutral), axis=0).max() > 1  # different people


def test_camera_of_another_frame_sees_the_same():
    """Against the definition: a frame's middle is seen at the shift, its side is the crop's at a log scale of 0."""
    model, size = load_default(0), 100
    rotation = rotation_from_euler(jnp.array([[30.0, -20.0, 10.0]]))
    codes = FaceCodes(*[jnp.zeros((1, 1))] * 3, rotation, jnp.array([0.2]), jnp.array([[0.1, -0.05]]), None)
    frame = np.array([3.0, -7.0, 11.0, 150.0], np.float32)
    moved = reframed(codes, frame, model)
    camera = view(model, size, moved.rotation[0], moved.log_scale[0], moved.shift[0])
    middle = frame[:3] + np.array([[0, 0, 0], *np.asarray(rotation[0])]) * 50  # to the camera's right, up, nearer
    scale = size / 150 * np.exp(0.2)
    expected = [60, 45] + scale * 50 * np.array([[0, 0], [1, 0], [0, -1], [0, 0]])
    np.testing.assert_allclose(camera.project(middle)[:, :2], expected, atol=1e-3)


def test_codes_are_those_of_the_embedded_model(file, images):
    """All but the last, the slack of the sphere, in standard deviations."""
    encoder, params, state = read_encoder(file)
    codes = encoder.predict(params, state, images)[0].codes
    np.testing.assert_allclose(jnp.linalg.norm(codes.identity, axis=1), np.exp(2.1234567), rtol=1e-5)
    theirs = load_default(1).decode(codes.identity[:, :-1], codes.expression)
    np.testing.assert_allclose(encoder.decoder(params)(codes, 32).vertices, theirs, atol=1e-3)


def test_file_holds_the_network_alone(file):
    with np.load(file) as arrays:
        kinds = {key.split("/")[0]: arrays[key].dtype for key in arrays.files}
        assert set(kinds) == {"format", "licence", "config", "report", "crop_frame", "log_radius", "params",
                              "batch_stats"}
        assert kinds["params"] == kinds["batch_stats"] == np.float16
        assert not any("classes" in key or "residual" in key for key in arrays.files)
    facts = packed_facts(file)
    assert facts["report"] == REPORT and "CC0" in facts["licence"]


def test_loads_without_checkpoints_and_optimisers(file):
    code = ("import sys\nfor name in ('orbax', 'orbax.checkpoint', 'optax', 'grain', 'tensorflow_datasets'):\n"
            "    sys.modules[name] = None\n"
            "from sfm_jax.inference.default_encoder import read_encoder\n"
            f"print(read_encoder({str(file)!r})[0].image_size)")
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], text=True, capture_output=True)
    assert done.stdout == "32\n", done.stderr


def test_other_runs_are_not_packed(make_run, tmp_path):
    def learned(params):
        return params | {"residual": params["residual"].at[2, 5, 1].set(-0.25)}

    def huge(params):
        return params | {"network": jax.tree.map(lambda leaf: 1e6 + leaf, params["network"])}

    out = tmp_path / "encoder.npz"
    with pytest.raises(ValueError, match="the basis has learned, by up to 0.25 mm"):
        pack.pack(make_run(tmp_path / "learned", learned), out)
    with pytest.raises(ValueError, match=r"params/.*: found up to 1e\+06, which float16 does not hold"):
        pack.pack(make_run(tmp_path / "huge", huge), out)
    with pytest.raises(ValueError, match="found no config.json"):
        pack.pack(tmp_path / "nowhere", out)
    unfinished = make_run(tmp_path / "unfinished")
    (unfinished / "report.json").unlink()
    with pytest.raises(ValueError, match="found no report.json, expected a run that has finished"):
        pack.pack(unfinished, out)
    config = json.loads((unfinished / "config.json").read_text())
    load_default(0).save(tmp_path / "other.npz")
    (unfinished / "config.json").write_text(json.dumps(config | {"model": str(tmp_path / "other.npz")}))
    with pytest.raises(ValueError, match="config key 'model': found '.*other.npz', expected 'default'"):
        pack.pack(unfinished, out)
    assert not out.exists()


def test_size_is_limited(workdir, tmp_path, monkeypatch):
    monkeypatch.setattr(pack, "LARGEST", 1e5)
    with pytest.raises(ValueError, match=r"MB, expected at most 0"):
        pack.pack(workdir, tmp_path / "encoder.npz")
    assert list(tmp_path.iterdir()) == []


def test_other_files_are_refused(file, tmp_path, monkeypatch):
    monkeypatch.setattr(default_encoder, "ASSET", tmp_path / "missing.npz")
    load_default_encoder.cache_clear()
    with pytest.raises(ValueError, match="missing.npz: no such file"):
        load_default_encoder()
    load_default(0).save(tmp_path / "model.npz")
    with pytest.raises(ValueError, match="key 'format': found 'sfm-jax model 1', expected 'sfm-jax photo encoder 1'"):
        read_encoder(tmp_path / "model.npz")
    (tmp_path / "cut.npz").write_bytes(file.read_bytes()[:-500])
    with pytest.raises(ValueError, match="cut.npz: not a readable npz"):
        read_encoder(tmp_path / "cut.npz")
    with np.load(file) as arrays:
        kept = {key: arrays[key] for key in arrays.files}
    np.savez(tmp_path / "less.npz", **{key: value for key, value in kept.items() if key != "log_radius"})
    with pytest.raises(ValueError, match="key 'log_radius' is missing"):
        read_encoder(tmp_path / "less.npz")
    np.savez(tmp_path / "more.npz", **kept, classes=np.ones(3))
    with pytest.raises(ValueError, match="key 'classes': not one of"):
        read_encoder(tmp_path / "more.npz")
    with pytest.raises(ValueError, match="detail: found 2"):
        read_encoder(file, detail=2)


@pytest.mark.skipif(not ASSET.exists(), reason="the weights are not here")
def test_shipped_weights():
    """They are small, load once, and look alike whether photos come one by one or together."""
    assert ASSET.stat().st_size <= pack.LARGEST
    encoder, params, state = load_default_encoder()
    assert load_default_encoder()[0] is encoder
    assert len(encoder.model.mean) == 14403 and "heldout/nme_percent" in packed_facts()["report"]
    photos = jax.random.uniform(jax.random.key(0), (2, encoder.image_size, encoder.image_size, 3))
    both = predict(encoder, params, state, photos)
    one = predict(encoder, params, state, photos[1:])
    assert np.isfinite(both.codes.identity).all()
    np.testing.assert_allclose(both.codes.identity[1:], one.codes.identity, atol=1e-3)
