"""Heads and confidence maps: they start at the mean face, frontal, in ambient light, and trust everything alike."""

import chex
import jax
import numpy as np
import pytest

from sfm_jax.geometry.rotation import rotation_from_6d
from sfm_jax.networks.confidence import ConfidenceMaps
from sfm_jax.networks.face_network import FaceNetwork
from sfm_jax.networks.heads import FaceHeads


@pytest.mark.parametrize("hidden, separate", [(0, False), (16, False), (16, True)])
def test_start_is_the_mean_face(hidden, separate):
    features = jax.random.normal(jax.random.key(0), (3, 512))
    codes, _ = FaceHeads(12, 5, 4, hidden, separate).init_with_output(jax.random.key(1), features)
    chex.assert_shape(list(codes), [(3, 12), (3, 5), (3, 4), (3, 6), (3,), (3, 2), (3, 9, 3)])
    np.testing.assert_allclose(rotation_from_6d(codes.rotation), np.broadcast_to(np.eye(3), (3, 3, 3)), atol=0.1)
    for code in (codes.identity, codes.expression, codes.albedo, codes.log_scale, codes.shift, codes.light):
        assert 0 < np.abs(code).max() < 0.1


@pytest.mark.parametrize("separate", [False, True])
def test_heads_are_separate(separate):
    """No parameter of one of the three, or five, modules moves the codes of another."""
    features = jax.random.normal(jax.random.key(0), (2, 8))
    heads = FaceHeads(3, 2, 4, separate=separate)
    params = heads.init(jax.random.key(1), features)["params"]
    camera = ["rotation", "log_scale", "shift"]
    groups = {"identity": ["identity"], "albedo": ["albedo"]} | (
        {"camera": camera, "expression": ["expression"], "light": ["light"]} if separate
        else {"scene": [*camera, "expression", "light"]})
    assert set(params) == set(groups)
    for name, own in groups.items():
        changed = heads.apply({"params": params | {name: jax.tree.map(lambda leaf: leaf + 1, params[name])}}, features)
        moved = {field for field, a, b in zip(changed._fields, changed, heads.apply({"params": params}, features),
                                              strict=True) if np.any(a != b)}
        assert moved == set(own)


def test_confidence_is_even_at_first_and_stays_inside():
    features = jax.random.normal(jax.random.key(0), (2, 3, 4, 8))
    maps, state = ConfidenceMaps().init_with_output(jax.random.key(1), features)
    chex.assert_shape(list(maps), (2, 12, 16))
    assert np.ptp(maps.pixel) < 0.02
    assert 0.8 < maps.pixel.mean() < 0.9
    extreme = jax.tree.map(lambda leaf: 1e4 * leaf, state)
    for confidence in ConfidenceMaps().apply(extreme, 1e4 * features):
        assert 0 < confidence.min() and confidence.max() < 1
        assert np.isfinite(np.log(confidence)).all()


@pytest.mark.parametrize("stop", [False, True])
def test_confidence_shapes_the_trunk_only_if_asked(stop):
    features = jax.random.normal(jax.random.key(0), (1, 2, 2, 8))
    module = ConfidenceMaps(stop_gradient=stop)
    state = module.init(jax.random.key(1), features)
    gradient = jax.grad(lambda features: module.apply(state, features).pixel.sum())(features)
    assert np.any(gradient) != stop


def test_face_network_starts_at_the_mean_face():
    network = FaceNetwork("compact", identity=4, expression=3, albedo=2)
    images = np.random.default_rng(0).uniform(size=(2, 32, 32, 3)).astype(np.float32)
    output, _ = jax.jit(network.init_with_output, static_argnames="train")(jax.random.key(0), images, train=False)
    chex.assert_shape([output.codes.identity, output.features, output.confidence.pixel], [(2, 4), (2, 512), (2, 8, 8)])
    chex.assert_tree_all_finite(output)
    assert np.abs(output.codes.identity).max() < 0.1
