"""300W-LP and AFLW2000-3D: their .mat files in our conventions, checked against real photos where they are at hand.

SFM_JAX_TEST_DATA names a folder with photos and .mat files of AFLW2000-3D in aflw2000/; without it those are skipped.
"""

import os
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.io
from PIL import Image
from scipy.spatial.transform import Rotation

from sfm_jax.data.aflw import rotation_from_pose
from sfm_jax.data.photo_sets import BadPhoto
from sfm_jax.data.photos import Photos, open_photos
from sfm_jax.geometry.alignment import procrustes
from sfm_jax.geometry.rotation import rotation_angle
from sfm_jax.morphable.default import load_default

POINTS = np.random.default_rng(0).uniform(100, 350, (68, 2)).astype(np.float32)
LABELS = {"Pose_Para": np.array([[0.1, -0.5, 0.2, 200.0, 210.0, -90.0, 1e-3]], np.float32),
          "Shape_Para": np.arange(199.0)[:, None], "Exp_Para": np.arange(29.0)[:, None], "pt2d": POINTS.T + 7}


def write_face(path, **labels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((450, 450, 3), 90, np.uint8)).save(path.with_suffix(".jpg"))
    scipy.io.savemat(path.with_suffix(".mat"), LABELS | labels)


@pytest.fixture
def wide(tmp_path):
    """300W_LP with two faces, one of them turned twice."""
    for name in ("AFW/AFW_1_1_0", "AFW/AFW_1_1_1", "HELEN/HELEN_9_1_0", "AFW_Flip/AFW_1_1_0"):
        write_face(tmp_path / name)
    (tmp_path / "landmarks/AFW").mkdir(parents=True)
    for name in ("AFW_1_1_0", "AFW_1_1_1"):
        scipy.io.savemat(tmp_path / f"landmarks/AFW/{name}_pts.mat", {"pts_3d": POINTS, "pts_2d": POINTS + 3})
    return tmp_path


def test_300w_lp(wide):
    source = open_photos(f"aflw:{wide}")
    assert [source.name(k) for k in range(len(source))] == [
        "AFW/AFW_1_1_0.jpg", "AFW/AFW_1_1_1.jpg", "HELEN/HELEN_9_1_0.jpg"]
    assert source.people == ("AFW/AFW_1_1", "HELEN/HELEN_9_1")
    turned, other = source.raw(1), source.raw(2)
    assert (turned.person, other.person) == (0, 1)
    np.testing.assert_allclose(turned.landmarks, POINTS - 0.5)
    np.testing.assert_allclose(other.landmarks, POINTS + 6.5)  # without its file in landmarks/
    np.testing.assert_allclose(turned.identity, np.arange(199))
    record = Photos(source, (199, 29), 32, None).load([0])
    assert record["codes_mask"][0] == 1 and record["rotation_mask"][0] == 1 and record["landmark_mask"].all()


def test_one_part_of_300w_lp(wide):
    np.testing.assert_allclose(open_photos(f"aflw:{wide}/AFW").raw(0).landmarks, POINTS - 0.5)


def test_aflw2000(tmp_path):
    write_face(tmp_path / "image00002", pt3d_68=np.concatenate([POINTS.T, POINTS.T[:1]]), pt2d=np.zeros((2, 21)))
    source = open_photos(f"aflw:{tmp_path}")
    assert source.persons == 0 and source.raw(0).person == -1
    np.testing.assert_allclose(source.raw(0).landmarks, POINTS - 0.5)


def test_rotation_from_pose_by_scipy():
    pitch, yaw, roll = 0.3, -0.8, 0.2
    expected = (Rotation.from_rotvec([-pitch, 0, 0]) * Rotation.from_rotvec([0, -yaw, 0])
                * Rotation.from_rotvec([0, 0, -roll])).as_matrix()
    np.testing.assert_allclose(rotation_from_pose(np.array([pitch, yaw, roll])), expected, atol=1e-12)


@pytest.mark.parametrize(("labels", "reason"), [
    ({"Pose_Para": np.zeros((1, 6))}, r"Pose_Para: found float64 of shape \(6,\), expected numbers of \(7,\)"),
    ({"pt2d": np.zeros((2, 21))}, "pt2d: found"), ({"Exp_Para": "text"}, "Exp_Para: found")])
def test_bad_labels_are_named(tmp_path, labels, reason):
    write_face(tmp_path / "a", **labels)
    with pytest.raises(BadPhoto, match=f"a.mat: {reason}"):
        open_photos(f"aflw:{tmp_path}").raw(0)


def test_damaged_and_missing_labels(tmp_path):
    write_face(tmp_path / "a")
    path = tmp_path / "a.mat"
    source = open_photos(f"aflw:{tmp_path}")
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(BadPhoto, match="a.mat: not a readable .mat file"):
        source.raw(0)
    scipy.io.savemat(path, {"pt2d": POINTS.T})
    with pytest.raises(BadPhoto, match="a.mat: key 'Pose_Para' is missing, found pt2d"):
        source.raw(0)
    path.unlink()
    with pytest.raises(BadPhoto, match="a.mat: no such file"):
        source.raw(0)


def test_no_photos(tmp_path):
    with pytest.raises(ValueError, match="no photos found, expected NAME.jpg and NAME.mat"):
        open_photos(f"aflw:{tmp_path}")


@pytest.fixture(scope="module")
def real():
    folder = Path(os.environ.get("SFM_JAX_TEST_DATA", "nowhere")) / "aflw2000"
    if not folder.is_dir():
        pytest.skip("SFM_JAX_TEST_DATA has no aflw2000/")
    return folder, open_photos(f"aflw:{folder}")


def test_real_rotations_turn_our_mean_face_onto_the_real_landmarks(real):
    """Independent of any convention of theirs: the rigid fit of our mean face to their 3D landmarks."""
    folder, source = real
    model = load_default(0)
    points = jnp.asarray(model.landmarks(model.mean))
    for index in range(len(source)):
        labels = scipy.io.loadmat(folder / source.name(index).replace(".jpg", ".mat"))
        seen = jnp.asarray(labels["pt3d_68"].T * [1, -1, 1], jnp.float32)  # y upwards
        fitted = procrustes(points, seen, scale=True)[0]
        raw = source.raw(index)
        assert rotation_angle(jnp.asarray(raw.rotation, jnp.float32), fitted) < 3.0
        # In the photo itself: scale and place fitted, the pose as labelled.
        flat = (np.asarray(points) @ raw.rotation.T)[:, :2] * [1, -1]
        flat, landmarks = flat - flat.mean(0), raw.landmarks - raw.landmarks.mean(0)
        scale = (flat * landmarks).sum() / (flat * flat).sum()
        error = np.linalg.norm(scale * flat - landmarks, axis=1).mean() / np.sqrt(np.ptp(landmarks, axis=0).prod())
        assert error < 0.12


def test_real_crops_show_the_landmarks(real):
    _, source = real
    record = Photos(source, (64, 51), 112, augmentation=None).load(np.arange(len(source)))
    spread = np.ptp(record["landmarks"], axis=1).max(-1)
    np.testing.assert_allclose(spread, 112 / np.sqrt(2), rtol=1e-4)
    assert record["landmarks"].min() > 0 and record["landmarks"].max() < 112
