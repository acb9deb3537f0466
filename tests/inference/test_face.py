"""Codes to faces in crops, against NumPy written out, and the renderer of many of them."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sfm_jax.geometry.rotation import rotation_from_euler
from sfm_jax.inference.face import FaceCodes, FaceDecoder, crop_frame
from sfm_jax.inference.face_renderer import FaceRenderer
from sfm_jax.morphable.default import load_default
from sfm_jax.render import ambient

SIZE = 96


@pytest.fixture(scope="module")
def model():
    return load_default(0)


@pytest.fixture(scope="module")
def decoder(model):
    return jax.jit(lambda given, size: FaceDecoder(model, model.mean, model.identity_basis[:10])(given, size),
                   static_argnums=1)


def codes(count, yaw=0.0, seed=None):
    """Mean faces, or random ones, turned by `yaw` degrees."""
    rng = np.random.default_rng(seed)

    def draw(size):
        return jnp.asarray(rng.standard_normal((count, size)) * (seed is not None), jnp.float32)

    rotation = rotation_from_euler(jnp.array([yaw, 0.0, 0.0]))
    return FaceCodes(draw(10), 0.3 * draw(51), draw(24), jnp.broadcast_to(rotation, (count, 3, 3)),
                     0.1 * draw(1)[:, 0], 0.05 * draw(2), jnp.broadcast_to(ambient().coefficients, (count, 9, 3)))


def test_shapes(decoder, model):
    face = decoder(codes(3, seed=0), SIZE)
    vertices = (3, *model.mean.shape)
    chex.assert_shape([face.neutral, face.vertices, face.albedo], vertices)
    chex.assert_shape(face.landmarks, (3, 68, 2))
    chex.assert_tree_all_finite(face)


def test_decoding_is_the_formula(decoder, model):
    given = codes(2, yaw=30.0, seed=1)
    face = decoder(given, SIZE)
    pivot, side = crop_frame(model)
    for k in range(2):
        shape = np.asarray(model.mean, np.float64)
        for code, basis in zip(given.identity[k], model.identity_basis[:10], strict=True):
            shape = shape + float(code) * np.asarray(basis, np.float64)
        np.testing.assert_allclose(face.neutral[k], shape, atol=1e-4)
        for code, basis in zip(given.expression[k], model.expression_basis, strict=True):
            shape = shape + float(code) * np.asarray(basis, np.float64)
        points = (shape[model.topology.landmarks] - pivot) @ np.asarray(given.rotation[k], np.float64).T
        scale = SIZE / side * np.exp(float(given.log_scale[k]))
        middle = SIZE * (0.5 + np.asarray(given.shift[k], np.float64))
        np.testing.assert_allclose(face.landmarks[k], middle + scale * points[:, :2] * [1, -1], atol=2e-3)


def test_mean_face_fills_the_crop(decoder):
    """As a photo that was cropped around its landmarks: their larger extent, times sqrt 2, is the side."""
    landmarks = np.asarray(decoder(codes(1), SIZE).landmarks[0])
    low, high = landmarks.min(0), landmarks.max(0)
    np.testing.assert_allclose((low + high) / 2, SIZE / 2, atol=1e-3)
    assert np.sqrt(2) * (high - low).max() == pytest.approx(SIZE, rel=1e-5)


@pytest.mark.parametrize("yaw", [0.0, 60.0])
def test_renders_lie_under_their_landmarks(model, decoder, yaw):
    renderer = FaceRenderer(model, SIZE)
    face = decoder(codes(4, yaw, seed=2), SIZE)
    rendering = jax.jit(renderer)(face, jnp.zeros((4, SIZE, SIZE, 3)))
    assert int(rendering.overflow.max()) == 0
    inner = np.asarray(face.landmarks)[:, 27:]
    column, row = np.floor(inner).astype(int).clip(0, SIZE - 1).transpose(2, 0, 1)
    covered = np.asarray(rendering.alpha)[np.arange(4)[:, None], row, column]
    assert (covered > 0.5).mean() > 0.9  # an open mouth or a far eye may show what lies behind


def test_render_at_another_size_is_the_smaller_picture(model, decoder):
    face = decoder(codes(2, 20.0, seed=3), SIZE)
    large, small = FaceRenderer(model, SIZE), FaceRenderer(model, SIZE // 2)
    black = jnp.zeros((2, SIZE, SIZE, 3))
    big = jax.jit(large)(face, black).alpha.reshape(2, SIZE // 2, 2, SIZE // 2, 2).mean((2, 4))
    little = jax.jit(small)(small.scaled(face, SIZE), black[:, ::2, ::2]).alpha
    assert float(jnp.mean(jnp.abs(big - little))) < 0.01


def test_gradients_reach_every_code(decoder, model):
    renderer = FaceRenderer(model, 32)
    target = jnp.full((1, 32, 32, 3), 0.3)

    def loss(given):
        face = decoder(given, 32)
        return jnp.mean((renderer(face, target * 0).colour - target) ** 2)

    gradients = jax.jit(jax.grad(loss))(codes(1, seed=4))
    chex.assert_tree_all_finite(gradients)
    for name, value in gradients._asdict().items():
        assert float(jnp.abs(value).max()) > 0, name
