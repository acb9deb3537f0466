"""Camera damage, against SciPy's blur and a real JPEG encoder."""

import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from sfm_jax.data import damage


def picture(size=48):
    """A smooth picture with an edge, sRGB in [0, 1]."""
    y, x = np.mgrid[:size, :size] / size
    image = np.stack([x, y, 0.5 + 0.5 * np.sin(9 * x * y)], -1)
    image[size // 4:size // 2, size // 3:] *= 0.3
    return image.astype(np.float32)


def test_curves_are_inverse_and_known():
    srgb = jnp.linspace(0, 1, 101)
    np.testing.assert_allclose(damage.to_srgb(damage.to_linear(srgb)), srgb, atol=1e-6)
    assert float(damage.to_linear(jnp.float32(0.5))) == pytest.approx(0.21404, abs=1e-5)  # IEC 61966-2-1


@pytest.mark.parametrize("sigma", [0.7, 1.6])
def test_blur_is_scipys(sigma):
    image = picture()
    truth = gaussian_filter(image, (sigma, sigma, 0), truncate=8)
    inside = slice(12, -12)  # the two treat the picture's border differently
    np.testing.assert_allclose(damage.blur(image, sigma)[inside, inside], truth[inside, inside], atol=2e-4)


def test_no_blur_leaves_the_picture():
    np.testing.assert_allclose(damage.blur(picture(), 0.0), picture(), atol=1e-6)


@pytest.mark.parametrize("quality", [20, 55, 90])
def test_compression_is_that_of_a_real_encoder(quality):
    image = np.round(picture() * 255) / 255
    file = io.BytesIO()
    Image.fromarray(np.uint8(np.round(image * 255))).save(file, "jpeg", quality=quality, subsampling=0)
    real = np.asarray(Image.open(file), np.float32) / 255
    ours = np.asarray(damage.compress(jnp.asarray(image, jnp.float32), jnp.float32(quality)))
    # The two round in different places, so here and there a coefficient falls to the other side: judge by the blocks.
    blocks = ((ours - real) ** 2).reshape(6, 8, 6, 8, 3).mean((1, 3, 4))
    lost = np.mean((real - image) ** 2)
    assert np.median(blocks) < 3e-5 + 0.1 * lost
    assert np.mean((ours - image) ** 2) == pytest.approx(lost, rel=0.2)


def test_compression_of_any_size_keeps_it():
    assert damage.compress(jnp.asarray(picture(45)), jnp.float32(80)).shape == (45, 45, 3)


def test_no_damage_is_the_srgb_curve():
    linear = damage.to_linear(jnp.asarray(picture()))
    np.testing.assert_allclose(damage.photograph(jax.random.key(0), linear, 0.0), picture(), atol=1e-5)


def test_damage_is_repeatable_and_in_range():
    linear = 3 * damage.to_linear(jnp.asarray(picture()))  # brighter than white
    photos = [np.asarray(damage.photograph(jax.random.key(key), linear)) for key in (1, 1, 2)]
    np.testing.assert_array_equal(photos[0], photos[1])
    assert np.abs(photos[0] - photos[2]).max() > 0.01
    assert photos[0].min() >= 0 and photos[0].max() <= 1
