import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sfm_jax.networks.unet import DisplacementNet


@pytest.fixture(scope="module")
def net():
    network = DisplacementNet(limit=2.0, widths=(4, 6, 8))
    maps = jax.random.normal(jax.random.key(0), (2, 16, 16, 6))
    return network, network.init(jax.random.key(1), maps), maps


def test_begins_at_almost_nothing_and_keeps_its_limit(net):
    network, variables, maps = net
    first = network.apply(variables, maps)
    chex.assert_shape(first, (2, 16, 16))
    assert 0 < np.abs(first).max() < 0.2
    louder = jax.tree.map(lambda leaf: 100 * leaf, variables)
    assert np.abs(network.apply(louder, maps)).max() <= 2.0


def test_jit_equals_eager(net):
    network, variables, maps = net
    np.testing.assert_allclose(jax.jit(network.apply)(variables, maps), network.apply(variables, maps), atol=1e-5)


def test_every_texel_hears_of_every_other(net):
    """Halved down to one texel: a change in one corner reaches the opposite one."""
    network, variables, maps = net
    changed = network.apply(variables, maps.at[0, 0, 0].add(5.0)) - network.apply(variables, maps)
    assert np.abs(changed[0, -1, -1]) > 0
    assert not np.any(changed[1])


def test_halvings_follow_the_size():
    shapes = jax.eval_shape(DisplacementNet(1.0, (4,)).init, jax.random.key(0), jnp.zeros((1, 32, 32, 2)))
    assert len(shapes["params"]) == 1 + 5 + 5 + 1  # in, down to one texel, up, out


def test_gradients_are_finite(net):
    network, variables, maps = net
    gradient = jax.grad(lambda v: jnp.sum(network.apply(v, maps)**2))(variables)
    chex.assert_tree_all_finite(gradient)
    assert all(np.any(leaf) for leaf in jax.tree.leaves(gradient))
