"""Max pooling against flax's, whose gradient is XLA's own."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sfm_jax.networks.pooling import max_pool


@pytest.mark.parametrize("height, width", [(8, 6), (7, 9), (1, 2)])
def test_value_and_gradient_are_those_of_flax(height, width):
    x = jax.random.normal(jax.random.key(0), (2, height, width, 3))
    value, pull = jax.vjp(max_pool, x)
    expected, expected_pull = jax.vjp(lambda x: nn.max_pool(x, (3, 3), (2, 2), [(1, 1), (1, 1)]), x)
    np.testing.assert_array_equal(value, expected)
    gradient = jax.random.normal(jax.random.key(1), value.shape)
    np.testing.assert_allclose(pull(gradient)[0], expected_pull(gradient)[0], atol=1e-6)


def test_ties_share_the_gradient():
    """Windows of an even image: what flows back is what flowed in, and every number of a window has as much of it."""
    gradient = jax.vjp(max_pool, jnp.ones((1, 4, 4, 1)))[1](jnp.ones((1, 2, 2, 1)))[0][0, :, :, 0]
    assert float(gradient.sum()) == pytest.approx(4)
    # The first window has the image's first 2 x 2 numbers; of the last only the very last number is its alone.
    assert float(gradient[0, 0]) == pytest.approx(1 / 4)
    assert float(gradient[3, 3]) == pytest.approx(1 / 9)
