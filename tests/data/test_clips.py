"""Synthetic clips: one person, moving smoothly through poses of the source."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy

from sfm_jax.data.clips import KEYS, SyntheticClips
from sfm_jax.data.scene import Conditions
from sfm_jax.data.synthetic import SyntheticPhotos
from sfm_jax.morphable.default import Population

FRAMES = 13  # four to a key: keys are at frames 0, 4, 8, 12


@pytest.fixture(scope="module")
def source():
    model = toy.model(subdivisions=2)
    rng = np.random.default_rng(0)
    half = np.full(5, 0.5, np.float32)
    people = Population(rng.standard_normal((5, len(model.identity_basis))).astype(np.float32),
                        rng.standard_normal((5, len(model.albedo_basis))).astype(np.float32), half, half,
                        np.full((5, 3), 1 / 3, np.float32))
    photos = SyntheticPhotos(model, people, 24, Conditions(), 3)
    return photos, SyntheticClips(photos, 7, FRAMES)


@pytest.fixture(scope="module")
def scenes(source):
    return jax.jit(source[1].scenes)(jnp.arange(7 * FRAMES, dtype=jnp.int32))


def test_all_but_expression_pose_and_noise_stays(scenes):
    for name in ("person", "identity", "albedo", "hair", "light", "distance", "zoom", "where", "surroundings"):
        value = getattr(scenes, name)
        value = np.asarray(jax.random.key_data(value) if name == "surroundings" else value)
        value = value.reshape(7, FRAMES, *value.shape[1:])
        assert (value == value[:, :1]).all(), name
    np.testing.assert_array_equal(scenes.person.reshape(7, FRAMES)[:, 0], np.arange(7) % 5)
    noise = np.asarray(jax.random.key_data(scenes.damage)).reshape(7, FRAMES, -1)
    assert len(np.unique(noise[0], axis=0)) == FRAMES


def test_keys_are_photos_of_the_source(source, scenes):
    """Their poses and expressions are those of photos 4c .. 4c + 3, at frames 0, 4, 8 and 12 of clip c."""
    keys = source[0].scenes(jnp.arange(7 * KEYS))
    for name in ("pose", "expression"):
        passed = np.asarray(getattr(scenes, name)).reshape(7, FRAMES, -1)[:, ::4]
        np.testing.assert_allclose(passed, np.asarray(getattr(keys, name)).reshape(7, KEYS, -1), atol=1e-4)


def test_motion_is_smooth(scenes):
    """Between keys it is a smoothstep: at a quarter, the half and three quarters of the way 5/32, 1/2, 27/32 of it."""
    pose = np.asarray(scenes.pose).reshape(7, FRAMES, 3)
    way = pose[:, 4] - pose[:, 0]
    for frame, share in ((1, 5 / 32), (2, 1 / 2), (3, 27 / 32)):
        np.testing.assert_allclose(pose[:, frame] - pose[:, 0], share * way, atol=1e-3)


def test_a_frame_is_a_photo_of_its_clip(source):
    photos, clips = source
    ids = jnp.array([0, FRAMES + 1], jnp.int32)
    frames = jax.jit(clips)(ids)
    np.testing.assert_array_equal(frames["person"], [0, 1])
    np.testing.assert_array_equal(frames["id"], ids)
    assert frames["image"].shape == (2, 24, 24, 3) and int(frames["overflow"].sum()) == 0
    np.testing.assert_array_equal(clips.labels(2 * FRAMES), np.repeat([0, 1], FRAMES))
    assert clips.persons == 7


def test_clips_of_one_frame_are_refused(source):
    with pytest.raises(ValueError, match="data.clip_frames: found 1, expected 2 or more"):
        SyntheticClips(source[0], 3, 1)
