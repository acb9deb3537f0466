"""Synthetic photos: repeatable, in range, and labelled with what they show."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sfm_jax.data.scene import Conditions
from sfm_jax.data.synthetic import SyntheticPhotos
from sfm_jax.geometry.rotation import rotation_to_euler
from sfm_jax.morphable.default import load_default, load_population

SIZE = 64
PEOPLE = 7


@pytest.fixture(scope="module")
def photos():
    return SyntheticPhotos(load_default(0), load_population()[np.arange(PEOPLE)], SIZE, Conditions(), seed=3)


@pytest.fixture(scope="module")
def make(photos):
    return jax.jit(photos.__call__)


@pytest.fixture(scope="module")
def record(make):
    return jax.device_get(make(jnp.arange(40)))


def test_shapes_and_finiteness(record):
    chex.assert_shape(record["image"], (40, SIZE, SIZE, 3))
    chex.assert_shape(record["landmarks"], (40, 68, 2))
    chex.assert_tree_all_finite(record)
    assert record["image"].min() >= 0 and record["image"].max() <= 1
    assert record["image"].std() > 0.1


def test_photo_depends_on_its_number_alone(make, record):
    other = jax.device_get(make(jnp.arange(40)[::-1] + 7))
    for name in ("image", "landmarks", "expression", "light"):
        np.testing.assert_allclose(other[name][39 - 5], record[name][12], atol=2e-3)
    assert np.abs(record["image"][0] - record["image"][PEOPLE]).max() > 0.1  # the same person, another photo


def test_a_photo_stays_what_it_was(photos):
    """Of photos 2 and 9 of seed 3 what release 0.1 drew: whoever wrote numbers of photos down finds them again."""
    scenes = jax.device_get(jax.jit(photos.scenes)(jnp.array([2, 9])))
    known = {"pose": [[-20.476263, -7.070823, -8.455743], [-44.404007, 0.867611, -5.067062]],
             "distance": [1877.2592, 1993.6521], "zoom": [-0.049473, 0.083311],
             "where": [[0.043954, 0.010189], [0.014859, -0.019254]],
             "hair": [[0.337037, 0.145562, 0.072742, 1.0], [0.109502, 0.114485, 0.116939, 0.0]]}
    for name, value in known.items():
        np.testing.assert_allclose(getattr(scenes, name), value, rtol=2e-5, atol=2e-6, err_msg=name)
    np.testing.assert_allclose(scenes.light.sum(1), [[0.668266, 0.595352, 0.698293], [1.022541, 0.808748, 1.005553]],
                               rtol=1e-5)
    np.testing.assert_allclose(scenes.expression.sum(1), [3.531722, 1.298197], rtol=1e-5)
    np.testing.assert_array_equal(jax.random.key_data(scenes.damage),
                                  [[1829702645, 1275232839], [1182079051, 3299765361]])


def test_people_take_turns(record):
    np.testing.assert_array_equal(record["person"], np.arange(40) % PEOPLE)
    codes = load_population().identity[:PEOPLE]
    np.testing.assert_array_equal(record["identity"], codes[record["person"]])


def test_pose_is_the_rotations(record):
    angles = np.asarray(rotation_to_euler(jnp.asarray(record["rotation"])))
    np.testing.assert_allclose(angles, record["pose"], atol=1e-2)
    assert np.abs(record["pose"][:, 0]).max() > 45


def test_faces_are_those_in_the_photos(photos, record):
    vertices, cameras, landmarks = jax.jit(lambda ids: photos.faces(photos.scenes(ids)))(jnp.arange(5))
    seen = jax.vmap(lambda camera, points: camera.project(points)[:, :2])(cameras, photos.model.landmarks(vertices))
    np.testing.assert_allclose(seen, record["landmarks"][:5], atol=1e-3)
    np.testing.assert_allclose(landmarks, record["landmarks"][:5], atol=1e-3)


def test_landmarks_fill_the_crop(record):
    spread = record["landmarks"].max(1) - record["landmarks"].min(1)
    share = spread.max(-1) * np.sqrt(2) / SIZE  # of the crop's side: 1 +- Conditions.scale
    assert share.min() > 0.85 and share.max() < 1.16
    assert record["landmarks"].min() > 0 and record["landmarks"].max() < SIZE


def test_depth_image_agrees_with_the_landmarks(record):
    """Where a landmark is seen, the depth there is the landmark's: another path through camera and renderer."""
    frontal = np.flatnonzero(np.abs(record["pose"]).max(1) < 20)
    assert len(frontal) >= 3
    inner = np.array([27, 28, 29, 30, 31, 35, 36, 39, 42, 45, 48, 54])  # never hidden in these poses
    for photo in frontal:
        column, row = np.floor(record["landmarks"][photo, inner]).astype(int).T
        seen = -record["depth"][photo, row, column]
        known = record["landmarks_3d"][photo, inner, 2]
        offset = seen - known
        assert np.median(np.abs(offset - np.median(offset))) < 2.5  # mm, as a pixel is here


def test_nothing_is_lost_in_the_renderer(make):
    overflow = [int(np.max(make(jnp.arange(40) + 40 * batch)["overflow"])) for batch in range(8)]
    assert max(overflow) == 0


def test_mask_is_the_face_and_less_where_something_stands_before_it(photos):
    bare = SyntheticPhotos(photos.model, photos.people, SIZE, Conditions(occluders=0.0), seed=3)
    hidden = SyntheticPhotos(photos.model, photos.people, SIZE, Conditions(occluders=1.0), seed=3)
    whole, less = (np.asarray(jax.jit(source)(jnp.arange(12))["mask"]) for source in (bare, hidden))
    assert np.all(less <= whole + 1e-3)  # two programs: their edges differ in the last digits
    assert less.sum() < 0.97 * whole.sum()


def test_expressions_are_mostly_symmetric(record, photos):
    names = photos.model.expression_names
    left, right = (record["expression"][:, names.index(f"mouthSmile{side}")] for side in ("Left", "Right"))
    assert np.mean(left == right) > 0.6
    assert record["expression"].min() >= 0 and record["expression"].max() <= 1
    assert not record["expression"][:, names.index("mouthClose")].any()
