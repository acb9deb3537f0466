"""Reconstructions of portraits whose landmarks and poses are known, alone, together and out of files.

What one reconstruction says of itself, and how it moves with the photo: test_faces_from_photos.py.
"""

import numpy as np
import pytest
import shape_checks
from PIL import Image

import sfm_jax
from experiments.photo_landmarks.portraits import portraits
from sfm_jax.evaluation.landmarks import nme_percent
from sfm_jax.inference.reconstruction import Reconstructor
from sfm_jax.morphable.default import load_default, load_population

pytest.importorskip("ai_edge_litert")
pytestmark = pytest.mark.slow  # the portraits and the programs alone take half a minute
YAWS = (-45, -20, 0, 20, 45)


@pytest.fixture(scope="module")
def people():
    """Portraits that the network may have seen the likes of; it is not measured here."""
    return portraits(load_default(0), load_population()[100:100 + len(YAWS)], np.array(YAWS, float), 3)


@pytest.fixture(scope="module")
def fitter():
    return Reconstructor(detail=0, fit=True)


@pytest.fixture(scope="module")
def alone(fitter, people):
    return [fitter(image) for image in people.image]


def test_fitted_landmarks_are_the_true_ones(alone, people):
    assert [len(faces) for faces in alone] == [1] * len(YAWS)
    found = np.stack([faces[0].landmarks68_px for faces in alone])
    errors = nme_percent(found, people.landmarks)
    assert errors.max() < 6 and errors.mean() < 4, errors


def test_fitted_heads_are_turned_as_the_true_ones(alone, people):
    pose = np.stack([faces[0].pose_degrees for faces in alone])
    assert np.abs(pose - people.pose).max() < 15, pose - people.pose
    assert np.abs(pose - people.pose).mean() < 5
    # The scale of a camera far away is that of the middle of the head.
    scales = np.array([np.linalg.norm(faces[0].camera[0, :3]) for faces in alone])
    np.testing.assert_allclose(scales, people.scale, rtol=0.12)


def test_faces_beside_each_other_are_what_they_are_alone(fitter, alone, people):
    """The larger first, wherever it is."""
    small = np.asarray(Image.fromarray(people.image[1]).resize((200, 200), Image.Resampling.LANCZOS))
    sheet = np.full((400, 640, 3), 90, np.uint8)
    sheet[100:300, 20:220], sheet[60:380, 300:620] = small, people.image[3]
    faces = fitter(sheet)
    assert len(faces) == 2
    for face, (before,), zoom, corner in zip(faces, (alone[3], alone[1]), (1, 0.625), ((300, 60), (20, 100)),
                                             strict=True):
        expected = before.landmarks68_px * zoom + corner
        size = np.ptp(expected, axis=0).max()
        assert np.linalg.norm(face.landmarks68_px - expected, axis=1).mean() < 0.03 * size
        np.testing.assert_allclose(face.pose_degrees, before.pose_degrees, atol=6)


def test_a_file_is_upright_as_its_exif_says(tmp_path, people):
    image = Image.fromarray(people.image[2])
    upright, turned = tmp_path / "upright.png", tmp_path / "turned.png"
    image.save(upright)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by 90 degrees
    image.transpose(Image.Transpose.ROTATE_90).save(turned, exif=exif)
    (one,), (other,) = (sfm_jax.reconstruct(path, detail=0) for path in (upright, str(turned)))
    np.testing.assert_array_equal(one.landmarks68_px, other.landmarks68_px)
    np.testing.assert_array_equal(one.identity, other.identity)


def test_another_model_without_expressions_and_colours(people):
    """On a neutral portrait."""
    model = load_default(0)
    other = model.replace(identity_basis=model.identity_basis[:8], expression_basis=model.expression_basis[:0],
                          albedo_basis=model.albedo_basis[:0], expression_names=())
    found, = sfm_jax.reconstruct(people.image[3], model=other)
    assert found.model is other and found.fitted and np.isfinite(found.vertices()).all()
    assert found.identity.shape == (8,) and found.expression.shape == found.albedo.shape == (0,)
    assert nme_percent(found.landmarks68_px[None], people.landmarks[3:4]).max() < 7


@pytest.mark.parametrize("bad", [np.zeros((40, 40), np.uint8), np.zeros((40, 40, 4), np.uint8), np.zeros((40, 40, 3))])
@shape_checks.off()
def test_other_arrays_are_refused(fitter, bad):
    with pytest.raises(ValueError, match=r"image: found .*, expected uint8 \[H, W, 3\]"):
        fitter(bad)


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (500, 1), (3, 3), (64, 64)])
def test_photos_without_a_face(fitter, shape):
    assert fitter(np.full((*shape, 3), 120, np.uint8)) == []
