"""The depthwise convolution against XLA's grouped one: two implementations that share nothing."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from sfm_jax.networks.depthwise import DepthwiseConv, depthwise_conv

CASES = [(8, 9, 5, 3, 1), (8, 8, 4, 3, 2), (7, 9, 3, 3, 2), (10, 7, 2, 5, 1), (9, 8, 2, 5, 2), (5, 4, 3, 1, 1),
         (6, 6, 1, 3, 3)]


def grouped(x, kernel, stride):
    pad = kernel.shape[0] // 2
    return jax.lax.conv_general_dilated(
        x, kernel[:, :, None], (stride, stride), [(pad, pad)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1])


def inputs(height, width, channels, size):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, height, width, channels)), jnp.float32)
    return x, jnp.asarray(rng.normal(size=(size, size, channels)), jnp.float32)


@pytest.mark.parametrize("height, width, channels, size, stride", CASES)
def test_values_and_gradients_are_those_of_the_grouped_convolution(height, width, channels, size, stride):
    x, kernel = inputs(height, width, channels, size)
    value, pull = jax.vjp(lambda x, kernel: depthwise_conv(x, kernel, stride), x, kernel)
    expected, expected_pull = jax.vjp(lambda x, kernel: grouped(x, kernel, stride), x, kernel)
    np.testing.assert_allclose(value, expected, atol=1e-5)
    cotangent = jnp.asarray(np.random.default_rng(1).normal(size=value.shape), jnp.float32)
    for found, truth in zip(pull(cotangent), expected_pull(cotangent), strict=True):
        np.testing.assert_allclose(found, truth, atol=1e-4)


def test_gradients_are_finite_differences():
    x, kernel = inputs(6, 5, 2, 3)
    check_grads(lambda x, kernel: depthwise_conv(x, kernel, 2), (x, kernel), order=1, modes=["rev"], rtol=1e-2,
                eps=1e-2)


def test_layer_equals_flax():
    x, _ = inputs(8, 8, 6, 3)
    layer = DepthwiseConv(size=3, stride=2)
    variables = layer.init(jax.random.key(0), x)
    reference = nn.Conv(6, (3, 3), 2, padding=1, feature_group_count=6, use_bias=False)
    kernel = variables["params"]["kernel"][:, :, None]
    expected = reference.apply({"params": {"kernel": kernel}}, x)
    np.testing.assert_allclose(layer.apply(variables, x), expected, atol=1e-5)
    np.testing.assert_allclose(jax.jit(layer.apply)(variables, x), expected, atol=1e-5)


def test_layer_keeps_the_variance():
    """He initialisation: after a ReLU the mean square stays."""
    x = jax.nn.relu(jax.random.normal(jax.random.key(0), (4, 16, 16, 256)))
    y, _ = DepthwiseConv().init_with_output(jax.random.key(1), x)
    inside = y[:, 1:-1, 1:-1]
    assert float(jnp.mean(inside**2)) == pytest.approx(2 * float(jnp.mean(x**2)), rel=0.2)
