"""Detail of faces in photos by the network in the package: its files, and that they say what the face is."""

import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
import trimesh
from PIL import Image
from tiny_runs import CONFIGS

from experiments.default_weights import pack_detail
from experiments.default_weights.packing import save
from sfm_jax.data.crop import transform_points
from sfm_jax.inference import default_detail
from sfm_jax.inference.default_detail import ASSET, detail_facts, load_default_detail, read_detail
from sfm_jax.inference.export import read_displacement
from sfm_jax.inference.photo_detail import FOLDER, PICTURE, PhotoDetailer, face_in_crop
from sfm_jax.reconstruct import main, read_photo, reconstruct
from sfm_jax.tasks import create_task
from sfm_jax.training.checkpoint import Checkpoints
from sfm_jax.training.config import beside
from sfm_jax.training.optimiser import create_optimiser
from sfm_jax.training.parallel import TrainState
from sfm_jax.training.workdir import open_workdir

PHOTO = Path(__file__).parents[2] / "docs" / "images" / "astronaut.jpg"


@pytest.fixture(scope="module")
def encoder():
    return load_default_detail()[0]


@pytest.fixture(scope="module", params=[0, 1])
def found(request):
    return reconstruct(PHOTO, detail=request.param)[0]


def test_the_face_stands_in_its_crop_as_in_the_photo(encoder, found):
    """Any vertex, seen by the crop's camera, is where the photo's camera and the crop's map put it."""
    face, affine = face_in_crop(found, encoder.model, 256)
    vertices = np.asarray(face.vertices)
    seen = np.asarray(face.camera.project(face.vertices))[:, :2]
    in_photo = np.c_[vertices, np.ones(len(vertices))] @ found.camera.T
    np.testing.assert_allclose(seen, transform_points(in_photo, affine), atol=0.02)
    low, high = np.asarray(face.landmarks).min(0), np.asarray(face.landmarks).max(0)
    assert (low > 0).all() and (high < 256).all() and (high - low).min() > 80


@pytest.mark.slow
def test_files_of_a_face(tmp_path, encoder):
    """The command writes them beside the face; displaced vertices differ from the coarse ones by the map, in mm."""
    assert main([str(PHOTO), "--detail", f"--out={tmp_path}"]) == 0
    folder = tmp_path / "astronaut_1"
    with Image.open(folder / PICTURE) as picture:
        assert picture.size == (3 * 512 + 20, 512)
    displacement = read_displacement(folder / FOLDER / "displacement.png")
    space = encoder.space
    assert displacement.shape == (256, 256) and not displacement[space.mask == 0].any()
    assert 0.05 < np.abs(displacement).max() < 2 * 3.0, "config.limit, less a mean that is within it too"
    params = json.loads((folder / "params.json").read_text())
    coarse = encoder.model.decode(np.float32(params["identity"]), np.float32(params["expression"]))
    fine = trimesh.load(folder / FOLDER / "detailed.ply", process=False)
    assert len(fine.vertices) == space.dense.vertex_count and len(fine.faces) == len(space.dense.triangles)
    corners = np.asarray(coarse)[encoder.model.topology.triangles]
    for point in fine.vertices[::1000]:
        nearest = trimesh.triangles.closest_point(corners, np.tile(point, (len(corners), 1)))
        away = np.linalg.norm(nearest - point, axis=1).min()
        assert away < np.abs(displacement).max() + 1.0, "no farther than displaced and rounded"
    with Image.open(folder / FOLDER / "turntable.gif") as turntable:
        assert turntable.n_frames == 24


def test_other_face_models_are_refused_at_once(tmp_path, capsys):
    assert main([str(PHOTO), "--detail", "--model=other.npz", f"--out={tmp_path}"]) == 2
    assert "--detail: found --model=other.npz, expected the embedded face model" in capsys.readouterr().err


def test_a_smooth_face_stays_smooth(encoder):
    """On a photo that is the coarse face's own picture there is little to explain."""
    _, params = load_default_detail()
    one = reconstruct(PHOTO, detail=0)[0]
    image = read_photo(PHOTO)
    detailer = PhotoDetailer(encoder, params)
    on_photo = detailer(image, one)
    face, _ = face_in_crop(one, encoder.model, 256)
    batched = jax.tree.map(lambda leaf: np.asarray(leaf)[None], (face, on_photo.coarse["colour"]))
    on_itself = jax.device_get(jax.jit(encoder.detailed)(params, *batched))
    assert np.abs(on_itself.displacement).mean() < 0.5 * np.abs(on_photo.displacement).mean()


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """A run of no steps, with a report."""
    config = beside(CONFIGS / "any.py", "detail").get_config()
    config.update({"uv_size": 64, "image_size": 48, "widths": (4, 6)})
    config.data.update({"wrinkle_size": 64, "persons": 6, "heldout_persons": 2, "synthetic_photos": 8})
    task = create_task(config)
    params, state = task.init(jax.random.key(3), None)
    train = TrainState.create(params, state, create_optimiser(config.optimiser, 2, task.param_labels(params)),
                              averaged=False)
    folder = open_workdir(tmp_path_factory.mktemp("detail") / "run", config)
    with Checkpoints(folder, 1) as checkpoints:
        checkpoints.save(1, train)
    (folder / "report.json").write_text('{"detail/correlation": 0.5}')
    return folder, params


def test_what_is_packed_is_read(workdir, tmp_path):
    folder, params = workdir
    save(tmp_path / "detail.npz", pack_detail.packed(folder), 1e6)
    encoder, found = read_detail(tmp_path / "detail.npz")
    assert (encoder.space.uv_size, encoder.space.image_size) == (64, 48)
    assert jax.tree.structure(found) == jax.tree.structure(params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4, rtol=1e-3), found, params)
    facts = detail_facts(tmp_path / "detail.npz")
    assert facts["report"] == {"detail/correlation": 0.5} and "CC0" in facts["licence"]


def test_what_cannot_be_packed_or_read_is_named(workdir, tmp_path, monkeypatch):
    shutil.copytree(workdir[0], tmp_path / "run")
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    (tmp_path / "run" / "config.json").write_text(json.dumps(config | {"coarse": "runs/mine"}))
    with pytest.raises(ValueError, match="config key 'coarse': found 'runs/mine', expected 'default'"):
        pack_detail.packed(tmp_path / "run")
    (tmp_path / "run" / "report.json").unlink()
    with pytest.raises(ValueError, match="found no report.json, expected a run that has finished"):
        pack_detail.packed(tmp_path / "run")
    (tmp_path / "cut.npz").write_bytes(ASSET.read_bytes()[:-100])
    for name, said in (("missing.npz", "no such file"),
                       ("cut.npz", "not a readable npz")):
        monkeypatch.setattr(default_detail, "ASSET", tmp_path / name)
        with pytest.raises(ValueError, match=f"{name}: {said}"):
            read_detail(default_detail.ASSET)
    with pytest.raises(ValueError, match="expected 'sfm-jax detail 1'"):
        read_detail(ASSET.with_name("photo_encoder.npz"))


def test_shipped_weights():
    """Small, and what they say of themselves holds what the README promises of detail."""
    assert ASSET.stat().st_size <= pack_detail.LARGEST
    report = detail_facts()["report"]
    assert report["detail/largest_in_masked_mm"] == 0
    assert report["detail/normal_error_fine_degrees"] < report["detail/normal_error_coarse_degrees"]
