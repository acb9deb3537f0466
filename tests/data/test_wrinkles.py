"""Wrinkles: each person's own, always the same, where skin is; photos of them are labelled with what they show."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy
from scipy.spatial import cKDTree

from sfm_jax.data.scene import Conditions
from sfm_jax.data.synthetic import SyntheticPhotos
from sfm_jax.data.wrinkles import SMOOTH, WrinkledSkin, Wrinkles
from sfm_jax.morphable.default import load_default, load_population
from sfm_jax.render.dense import dense_mesh, dense_vertices
from sfm_jax.render.uv import uv_layout

FACE = load_default(0)
DENSE = dense_mesh(uv_layout(FACE.topology, 128))
CALM = Conditions(yaw=25.0, occluders=0.0, damage=0.0, expression=0.0)


@pytest.fixture(scope="module")
def wrinkles():
    return Wrinkles(FACE, DENSE.corners, DENSE.weights, seed=3)


@pytest.fixture(scope="module")
def photos():
    skin = WrinkledSkin(FACE, 128, seed=3)
    return SyntheticPhotos(FACE, load_population()[:5], 96, CALM, seed=1, skin=skin)


@pytest.fixture(scope="module")
def record(photos):
    return jax.device_get(jax.jit(photos.__call__)(jnp.arange(5)))


def test_repeatable_and_everybodys_own(wrinkles):
    one, again, other = (np.asarray(wrinkles(jax.random.key(k), jnp.float32(0.8))) for k in (0, 0, 1))
    np.testing.assert_array_equal(one, again)
    moved = np.abs(one) > 0.02
    assert moved.mean() > 0.02 and np.corrcoef(one[moved], other[moved])[0, 1] < 0.6
    redrawn = Wrinkles(FACE, DENSE.corners, DENSE.weights, seed=4)(jax.random.key(0), jnp.float32(0.8))
    assert np.corrcoef(one[moved], np.asarray(redrawn)[moved])[0, 1] < 0.6


def test_millimetres_that_grow_with_age(wrinkles):
    young, old = (np.asarray(wrinkles(jax.random.key(2), jnp.float32(age))) for age in (0.2, 1.0))
    np.testing.assert_allclose(old * (0.35 + 0.65 * 0.2), young, atol=1e-6)
    assert 0.15 < np.abs(old).max() < 2.0
    assert -old.min() > old.max()  # furrows are deeper than their shoulders are high


def test_none_where_skin_is_smooth_or_is_not_the_face(wrinkles):
    displacement = np.abs(np.asarray(wrinkles(jax.random.key(5), jnp.float32(1.0))))
    regions = {name: np.asarray(dense_vertices(jnp.asarray(FACE.topology.region(name))[:, None], DENSE))[:, 0]
               for name in (*SMOOTH, "face")}
    for name in SMOOTH:
        assert not displacement[regions[name] > 0.995].any(), name
    assert not displacement[regions["face"] == 0].any()


def test_the_same_lines_at_any_resolution(wrinkles):
    """At vertices that both meshes have, the texels' own neighbourhoods aside: sampled on the mean face."""
    fine_mesh = dense_mesh(uv_layout(FACE.topology, 256))
    fine = Wrinkles(FACE, fine_mesh.corners, fine_mesh.weights, seed=3)
    mean = np.asarray(FACE.mean)
    places = [np.einsum("vk,vkc->vc", mesh.weights, mean[mesh.corners]) for mesh in (DENSE, fine_mesh)]
    away, nearest = cKDTree(places[1]).query(places[0])
    near = away < 0.15
    values = [np.asarray(one(jax.random.key(7), jnp.float32(1.0))) for one in (wrinkles, fine)]
    assert near.sum() > 500
    np.testing.assert_allclose(values[0][near], values[1][nearest[near]], atol=0.15)


def test_photos_show_them(record, monkeypatch):
    """The displacement label against normals: the skin tilts as the label's slope says; landmarks stay the face's."""
    skin = WrinkledSkin(FACE, 128, seed=3)
    monkeypatch.setattr(skin, "_wrinkles", lambda key, age: jnp.zeros(len(DENSE.corners)))
    smooth = SyntheticPhotos(FACE, load_population()[:5], 96, CALM, seed=1, skin=skin)
    plain = jax.device_get(jax.jit(smooth.__call__)(jnp.arange(5)))
    np.testing.assert_allclose(record["landmarks"], plain["landmarks"], atol=1e-4)  # pixels
    assert not plain["displacement"].any() and (record["overflow"] == 0).all()
    assert np.abs(record["displacement"]).max() > 0.1
    inside = (record["mask"] > 0.95) & (record["normals"][..., 2] > 0.7)
    tilt = np.linalg.norm(record["normals"] - plain["normals"], axis=-1)[inside]
    slope = np.linalg.norm(np.gradient(record["displacement"], axis=(1, 2)), axis=0)[inside]
    assert np.corrcoef(tilt, slope)[0, 1] > 0.6
    assert np.median(tilt[slope < 0.002]) < 0.02 < np.median(tilt[slope > 0.05])


def test_a_model_that_is_no_face_is_refused():
    with pytest.raises(ValueError, match="model 'toy' has no regions 'face' and 'forehead'"):
        Wrinkles(toy.model(), np.zeros((1, 3), np.int32), np.ones((1, 3)) / 3, 0)
