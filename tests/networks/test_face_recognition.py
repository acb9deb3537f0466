"""The ported network against the original's numbers, and faces against where dlib's chips have them."""

import jax
import numpy as np
import pytest
from scipy.signal import correlate2d

from sfm_jax.networks import face_recognition
from sfm_jax.networks.face_recognition import align_faces, face_features, load_face_recognition, resize_faces

# Of the original float32 weights in dlib's arithmetic, for `waves`: the first features, and the length of all.
FIRST = [[-0.102, 0.09306, 0.07523, -0.03396, -0.04812, -0.04521, -0.0379, -0.05813],
         [-0.12691, 0.1324, 0.08076, -0.01403, -0.08038, 0.01311, -0.02874, -0.16729]]
LENGTH = [1.2844969, 1.4311755]
DISTANCE = 0.6800161


def waves():
    """Two images that anyone can make."""
    v, u = np.mgrid[:150, :150] / 150.0
    phases = (0, 0.4, 0.8)
    return np.stack([
        np.stack([0.5 + 0.3 * np.sin(f * (7 * u + 5 * v * u) + p) + 0.2 * np.cos(9 * v * f - 3 * u + p)
                  for p in phases], -1)
        for f in (1, 2.5)]).astype(np.float32)


def test_features_are_the_originals():
    features = face_features(load_face_recognition(), waves())
    np.testing.assert_allclose(features[:, :8], FIRST, atol=5e-4)
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), LENGTH, atol=1e-3)
    assert np.linalg.norm(features[0] - features[1]) == pytest.approx(DISTANCE, abs=1e-3)


@pytest.mark.parametrize("shape", [(150, 150), (97, 64), (12, 31)])
def test_the_stem_is_a_strided_convolution(shape):
    """As SciPy correlates, every second pixel kept, photo by photo."""
    stem, images = load_face_recognition().convolutions[0], np.random.default_rng(0).random((2, *shape, 3), np.float32)
    for image, found in zip(images, face_recognition._stem(images, stem), strict=True):
        expected = [sum(correlate2d(image[:, :, c], kernel[:, :, c], "valid") for c in range(3))[::2, ::2]
                    for kernel in np.moveaxis(stem.kernel, -1, 0)]
        np.testing.assert_allclose(found, np.stack(expected, -1) + stem.bias, atol=1e-4)


def test_gradients_of_the_stem_are_those_of_a_plain_convolution():
    """Photo by photo or all at once: of the images and of the weights."""
    stem, images = load_face_recognition().convolutions[0], waves()

    def plain(images, stem):
        return stem.bias + jax.lax.conv_general_dilated(
            images, stem.kernel, (2, 2), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    found, truth = (jax.grad(lambda *given: (form(*given) ** 2).sum(), (0, 1))(images, stem)  # noqa: B023
                    for form in (face_recognition._stem, plain))
    for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(truth), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4 * abs(theirs).max())


def test_jit_equals_eager_in_values_and_gradients():
    params, images = load_face_recognition(), waves()[:1]

    def value_and_grad(images):
        return jax.value_and_grad(lambda images: face_features(params, images)[0, 3])(images)

    (value, gradient), (expected, truth) = jax.jit(value_and_grad)(images), value_and_grad(images)
    assert float(value) == pytest.approx(float(expected), abs=1e-6)
    assert np.isfinite(gradient).all()
    assert np.linalg.norm(gradient - truth) < 1e-3 * np.linalg.norm(truth)


def test_gradient_is_a_finite_difference():
    """In double precision and by a tiny step, or it would cross the kinks of a ReLU."""
    direction, step = np.random.default_rng(0).normal(size=(1, 150, 150, 3)), 1e-7
    with jax.enable_x64(True):
        params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), load_face_recognition())
        images = waves()[:1].astype(np.float64)
        value = jax.jit(lambda step: face_features(params, images + step * direction)[0, 3])
        difference = float(value(step) - value(-step)) / (2 * step)
        assert float(jax.jit(jax.grad(value))(0.0)) == pytest.approx(difference, rel=1e-3)


def test_alignment_undoes_a_similarity():
    """A smooth image whose landmarks are the template's, turned, shrunk and moved, comes back as it was."""
    angle, scale, shift = 0.3, 0.8, np.array([40.0, 12.0])
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    # dlib: a chip's point is size * (padding + p) / (2 padding + 1); its pixels are counted from their centres.
    template = 150 * (0.25 + face_recognition._ALIGNED) / 1.5
    landmarks = np.zeros((1, 68, 2), np.float32)
    landmarks[0, [45, 42, 36, 39, 33]] = template @ turn.T + shift + 0.5

    def scene(x, y):
        return np.stack([np.sin(0.05 * x) + np.cos(0.04 * y), 0.01 * x, 0.01 * y], -1)

    y, x = np.mgrid[:150, :150].astype(float)
    rows, columns = np.mgrid[:200, :200].astype(float)
    chip_x, chip_y = np.moveaxis((np.stack([columns, rows], -1) - shift) @ np.linalg.inv(turn).T, -1, 0)
    aligned = align_faces(scene(chip_x, chip_y)[None].astype(np.float32), landmarks)[0]
    expected = scene(x, y)
    corners = np.stack([x, y], -1) @ turn.T + shift
    inside = np.all((corners > 1) & (corners < 198), -1)
    assert inside.mean() > 0.8
    np.testing.assert_allclose(np.asarray(aligned)[inside], expected[inside], atol=3e-3)


def test_resized_faces_fit():
    crops = np.full((2, 112, 112, 3), 0.25, np.float32)
    np.testing.assert_allclose(resize_faces(crops), np.full((2, 150, 150, 3), 0.25), atol=1e-6)


def test_another_size_is_an_error():
    with pytest.raises(ValueError, match=r"found images \(1, 112, 112, 3\), expected \[B, 150, 150, 3\]"):
        face_features(load_face_recognition(), np.zeros((1, 112, 112, 3), np.float32))


def test_a_foreign_file_is_an_error(tmp_path, monkeypatch):
    path = tmp_path / "other.npz"
    np.savez(path, kernel_00=np.zeros((3, 3, 3, 32)))
    monkeypatch.setattr(face_recognition, "ASSET", path)
    load_face_recognition.cache_clear()
    with pytest.raises(ValueError, match="other.npz: key 'embedding': found nothing, expected"):
        load_face_recognition()
    load_face_recognition.cache_clear()
