"""Depthwise convolution: by shifted multiply-adds on CPUs, where XLA's grouped convolution is ten times slower."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from sfm_jax.array_types import AnyArray


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def depthwise_conv(
    x: Float[AnyArray, "B H W C"], kernel: Float[AnyArray, "k k C"], stride: int = 1
) -> Float[Array, "B h w C"]:
    """A convolution of each channel by itself: k odd, zero padding k // 2; h = ceil(H / stride), w = ceil(W / stride).

    y[b, u, v, c] = sum_ij x[b, stride u + i - k // 2, stride v + j - k // 2, c] kernel[i, j, c]. The platform it is
    compiled for picks the implementation.
    """
    return jax.lax.platform_dependent(
        x, kernel, cpu=partial(_shifted, stride=stride), default=partial(_grouped, stride=stride))


def _forward(x, kernel, stride):
    return depthwise_conv(x, kernel, stride), (x, kernel)


def _backward(stride, residuals, gradient):
    def grouped(x, kernel, gradient):
        return jax.vjp(partial(_grouped, stride=stride), x, kernel)[1](gradient)

    def shifted(x, kernel, gradient):
        return (_input_gradient(gradient, kernel, x.shape, stride),
                _kernel_gradient(x, gradient, kernel.shape[0], stride).astype(kernel.dtype))

    return jax.lax.platform_dependent(*residuals, gradient, cpu=shifted, default=grouped)


depthwise_conv.defvjp(_forward, _backward)


class DepthwiseConv(nn.Module):
    """`depthwise_conv` with its kernel, and no bias: a batch norm follows."""

    size: int = 3
    stride: int = 1
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[AnyArray, "B H W C"]) -> Float[Array, "B h w C"]:
        scale = nn.initializers.variance_scaling(2.0, "fan_in", "truncated_normal", in_axis=(0, 1), out_axis=())
        kernel = self.param("kernel", _per_channel(scale), (self.size, self.size, x.shape[-1]))
        return depthwise_conv(x.astype(self.dtype), kernel.astype(self.dtype), self.stride)


def _per_channel(initialiser):
    """A channel's fan-in is k * k: the initialiser sees one channel of input, and the channels as a batch."""
    def init(key, shape, dtype=jnp.float32):
        size, _, channels = shape
        return jax.vmap(lambda key: initialiser(key, (size, size), dtype), out_axes=-1)(jax.random.split(key, channels))
    return init


def _grouped(x, kernel, stride):
    pad = kernel.shape[0] // 2
    return jax.lax.conv_general_dilated(
        x, kernel[:, :, None], (stride, stride), [(pad, pad)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1])


def _shifted(x, kernel, stride):
    size = kernel.shape[0]
    height, width = _strided(x.shape[1], stride), _strided(x.shape[2], stride)
    padded = _pad(x, size // 2)
    return sum(padded[:, i:i + stride * (height - 1) + 1:stride, j:j + stride * (width - 1) + 1:stride] * kernel[i, j]
               for i in range(size) for j in range(size))


def _input_gradient(gradient, kernel, shape, stride):
    """The gradient, spread `stride` apart, under the kernel turned by 180 degrees."""
    size = kernel.shape[0]
    low = size - 1 - size // 2
    edges = [(low, length - 1 - stride * (count - 1) + size // 2, stride - 1)
             for length, count in zip(shape[1:3], gradient.shape[1:3], strict=True)]
    spread = jax.lax.pad(gradient, jnp.zeros((), gradient.dtype), [(0, 0, 0), *edges, (0, 0, 0)])
    last, height, width = size - 1, *shape[1:3]
    return sum(spread[:, last - i:last - i + height, last - j:last - j + width] * kernel[i, j]
               for i in range(size) for j in range(size))


def _kernel_gradient(x, gradient, size, stride):
    """Row by row, so that the inner loop is a plain multiply-add: a reduction of shifted products runs scalar."""
    batch, height, width, channels = gradient.shape
    padded = _pad(x, size // 2)

    def add_row(row, totals):
        outer = jax.lax.dynamic_index_in_dim(gradient, row, 1, keepdims=False)
        inner = jax.lax.dynamic_slice_in_dim(padded, stride * row, size, 1)
        return [total + inner[:, i // size, i % size:i % size + stride * (width - 1) + 1:stride] * outer
                for i, total in enumerate(totals)]

    start = [jnp.zeros((batch, width, channels), gradient.dtype)] * size**2
    totals = jax.lax.fori_loop(0, height, add_row, start)
    return jnp.stack([total.sum((0, 1)) for total in totals]).reshape(size, size, channels)


def _pad(x, pad):
    return jnp.pad(x, [(0, 0), (pad, pad), (pad, pad), (0, 0)])


def _strided(length, stride):
    return -(-length // stride)
