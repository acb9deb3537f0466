"""What a camera and a file do to a picture: exposure, blur, noise and lossy compression, on the device.

Pure functions of one image and a random key, to be vmapped. They imitate real damage closely enough to train
against it; they are no model of a particular camera (all ranges are ours).
"""

import jax
import jax.numpy as jnp
import numpy as np

from sfm_jax.data.numbers import between, rows
from sfm_jax.geometry.products import einsum, matmul

# Annex K of the JPEG standard (ITU-T T.81): quantisation of luminance and of chrominance at quality 50.
_LUMINANCE = np.array([
    [16, 11, 10, 16, 24, 40, 51, 61], [12, 12, 14, 19, 26, 58, 60, 55], [14, 13, 16, 24, 40, 57, 69, 56],
    [14, 17, 22, 29, 51, 87, 80, 62], [18, 22, 37, 56, 68, 109, 103, 77], [24, 35, 55, 64, 81, 104, 113, 92],
    [49, 64, 78, 87, 103, 121, 120, 101], [72, 92, 95, 98, 112, 100, 103, 99]], np.float32)
_CHROMINANCE = np.full((8, 8), 99, np.float32)
_CHROMINANCE[:4, :4] = [[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]]
_TO_YCC = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]], np.float32)
_COSINES = np.cos((np.arange(8)[None, :] + 0.5) * np.arange(8)[:, None] * np.pi / 8)
_DCT = (_COSINES * np.where(np.arange(8) == 0, np.sqrt(1 / 8), 0.5)[:, None]).astype(np.float32)


def to_srgb(linear: jax.Array) -> jax.Array:
    """sRGB in [0, 1] of linear RGB, clipped (IEC 61966-2-1)."""
    linear = jnp.clip(linear, 0.0, 1.0)
    return jnp.where(linear <= 0.0031308, 12.92 * linear, 1.055 * jnp.maximum(linear, 1e-6) ** (1 / 2.4) - 0.055)


def to_linear(srgb: jax.Array) -> jax.Array:
    """Linear RGB of sRGB in [0, 1]."""
    return jnp.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def blur(image: jax.Array, sigma: jax.Array) -> jax.Array:
    """Gaussian blur of [H, W, C] by `sigma` pixels, edges renormalised; two products with banded matrices."""
    rows, columns = (_gaussian_matrix(size, sigma) for size in image.shape[:2])
    return einsum("hy,yxc,wx->hwc", rows, image, columns)


def _gaussian_matrix(size, sigma):
    place = jnp.arange(size, dtype=jnp.float32)
    away = place[:, None] - place[None, :]
    weights = jnp.exp(-0.5 * (away / jnp.maximum(sigma, 1e-2)) ** 2)
    return weights / weights.sum(1, keepdims=True)


def compress(image: jax.Array, quality: jax.Array) -> jax.Array:
    """What JPEG at `quality` (1-100) leaves of sRGB [H, W, 3] in [0, 1], chroma not subsampled.

    Blocks of 8 x 8, quantised cosine coefficients, the IJG's quality scale. Sides are padded to multiples of 8.
    """
    height, width = image.shape[:2]
    padded = jnp.pad(image, ((0, -height % 8), (0, -width % 8), (0, 0)), mode="edge")
    ycc = matmul(padded * 255, _TO_YCC.T) - jnp.array([128.0, 0.0, 0.0])
    # All blocks of a row at once: a product with a block-diagonal matrix is faster than many small ones.
    down, across = (np.kron(np.eye(size // 8, dtype=np.float32), _DCT) for size in padded.shape[:2])
    coefficients = einsum("uy,yxc,vx->cuv", down, ycc, across)
    percent = jnp.where(quality < 50, 5000 / jnp.maximum(quality, 1.0), 200 - 2 * quality)
    table = jnp.stack([_LUMINANCE, _CHROMINANCE, _CHROMINANCE]) * percent / 100
    step = jnp.tile(jnp.clip(jnp.round(table), 1.0, 255.0), (1, padded.shape[0] // 8, padded.shape[1] // 8))
    coefficients = jnp.round(coefficients / step) * step
    ycc = einsum("uy,cuv,vx->yxc", down, coefficients, across)
    rgb = matmul(ycc + jnp.array([128.0, 0.0, 0.0]), np.linalg.inv(_TO_YCC).T.astype(np.float32)) / 255
    return jnp.clip(rgb, 0.0, 1.0)[:height, :width]


def photograph(key: jax.Array, linear: jax.Array, strength: float = 1.0) -> jax.Array:
    """An sRGB photo [H, W, 3] in [0, 1] of a linear scene: white balance, exposure, blur, noise, compression.

    strength scales all of it; at 0 the photo is the scene itself, on the sRGB curve.
    """
    tint, exposure, sharp, enlarged, soft, rest = jax.random.split(key, 6)
    grain, level, quality = jax.random.split(rest, 3)
    uniform = rows(jax.random.uniform, 1, sharp=sharp, enlarged=enlarged, soft=soft, level=level, quality=quality)
    normal = rows(jax.random.normal, 3, tint=tint, exposure=exposure)
    size = linear.shape[0]
    gain = jnp.exp(strength * (0.06 * normal["tint"] + 0.25 * normal["exposure"][0]))
    # Most photos are sharp; some were enlarged from small faces.
    sigma = between(uniform["sharp"][0], 0.0, 0.006)
    sigma += jnp.where(uniform["enlarged"][0] < 0.2, between(uniform["soft"][0], 0.0, 0.02), 0.0)
    scene = blur(jnp.maximum(linear, 0.0) * gain, strength * size * sigma)
    level = strength * 0.04 * uniform["level"][0] ** 2
    grain = jax.random.normal(grain, (linear.size,)).reshape(linear.shape)  # compiles faster than drawn in shape
    noise = level * grain * (0.3 + jnp.sqrt(scene))
    photo = to_srgb(scene + noise * (0.2 + scene))
    if not strength:
        return photo
    quality = between(uniform["quality"][0], 30.0, 98.0)
    return compress(photo, 100 - strength * (100 - quality))


def black_and_white(key: jax.Array, photo: jax.Array, probability: float) -> jax.Array:
    """A photo [H, W, 3], or its luma (ITU-R BT.601) in all three channels."""
    luma = jnp.broadcast_to(matmul(photo, _TO_YCC[0])[..., None], photo.shape)
    return jnp.where(jax.random.bernoulli(key, probability), luma, photo)
