"""Changed photos: labels move with the picture."""

import dataclasses

import numpy as np
import pytest

from sfm_jax.data.augment import MIRROR, UNCHANGED, Augmentation, Change
from sfm_jax.data.crop import crop_affine, transform_points
from sfm_jax.geometry.rotation import rotation_from_euler
from sfm_jax.morphable.default import load_default


@pytest.fixture(scope="module")
def head():
    """Vertices and topology of the mean face."""
    model = load_default(0)
    return np.asarray(model.mean), model.topology


def test_mirror_is_the_meshs_symmetry(head):
    _, topology = head
    np.testing.assert_array_equal(topology.symmetry[topology.landmarks], topology.landmarks[MIRROR])


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("roll", [0.0, 25.0])
def test_rotation_explains_the_changed_landmarks(head, mirror, roll):
    """A symmetric head, drawn in parallel projection: the changed label must draw the changed picture."""
    mean, topology = head
    points = mean[topology.landmarks]
    points = (points + points[MIRROR] * [-1, 1, 1]) / 2  # no mesh is symmetric to the last digit
    points -= points.mean(0)
    rotation = np.asarray(rotation_from_euler(np.array([40.0, -15.0, 10.0])))

    def draw(rotation):
        return (points @ rotation.T)[:, :2] * [1, -1] + 150

    change = Change(scale=1.1, shift=(0.1, -0.05), roll=roll, mirror=mirror)
    box = change.box((np.array([150.0, 150.0]), 200.0))
    seen = change.landmarks(transform_points(draw(rotation), crop_affine(box, 112, change.roll, change.mirror)))
    expected = draw(change.rotation(rotation)) * 112 / 220
    np.testing.assert_allclose(seen - seen.mean(0), expected - expected.mean(0), atol=1e-3)
    np.testing.assert_allclose(np.linalg.det(change.rotation(rotation)), 1, atol=1e-6)


def test_box_moves_and_grows():
    centre, side = Change(scale=1.5, shift=(0.1, -0.2)).box((np.array([10.0, 20.0]), 40.0))
    np.testing.assert_allclose([*centre, side], [14, 12, 60])


def test_tone_by_hand():
    image = np.array([[[0, 128, 255]]], np.uint8)
    np.testing.assert_array_equal(UNCHANGED.tone(image), image)
    np.testing.assert_array_equal(Change(brightness=0.1).tone(image), [[[26, 154, 255]]])
    np.testing.assert_array_equal(Change(contrast=0.5).tone(image), [[[64, 128, 191]]])
    np.testing.assert_array_equal(Change(gamma=2.0).tone(image), [[[0, 64, 255]]])


def test_draw_depends_on_seed_photo_and_epoch_alone():
    augmentation = Augmentation()
    first = augmentation.draw(1, 2, 3)
    assert augmentation.draw(1, 2, 3) == first
    others = [(2, 2, 3), (1, 3, 3), (1, 2, 4), (1, 3, 2)]
    assert len({first, *(augmentation.draw(*numbers) for numbers in others)}) == 5


def test_draws_fill_their_ranges():
    augmentation = Augmentation(mirror=0.3, scale=0.2, shift=0.1, roll=20, brightness=0.1, contrast=0.3, gamma=0.5)
    drawn = [dataclasses.asdict(augmentation.draw(0, photo, 0)) for photo in range(1000)]
    assert 0.25 < np.mean([change["mirror"] for change in drawn]) < 0.35
    for name, low, high in [("scale", 0.8, 1.2), ("shift", -0.1, 0.1), ("roll", -20, 20), ("brightness", -0.1, 0.1),
                            ("contrast", 0.7, 1.3), ("gamma", 1 / 1.5, 1.5)]:
        values, slack = np.array([change[name] for change in drawn]), 0.02 * (high - low)
        assert low <= values.min() < low + slack and high - slack < values.max() <= high
