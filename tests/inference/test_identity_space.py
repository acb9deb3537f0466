"""Where codes live, and where a basis starts."""

import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from sfm_jax.inference.identity_space import check_sphere, code_and_direction, start_basis
from sfm_jax.morphable.default import load_default, load_population
from sfm_jax.morphable.sphere_model import SphereFaceModel


@pytest.fixture(scope="module")
def model():
    return load_default(0)


def config(**changes):
    return ConfigDict({"basis": "", "components": 12, "sphere": "hard"} | changes)


def test_hard_codes_are_unit_vectors_and_others_are_left():
    raw = jnp.asarray(np.random.default_rng(0).standard_normal((5, 4)), jnp.float32)
    code, z = code_and_direction(raw, "hard")
    np.testing.assert_allclose(np.linalg.norm(code, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(code, raw / np.linalg.norm(raw, axis=1, keepdims=True), atol=1e-6)
    code, z = code_and_direction(raw, "gaussian")
    np.testing.assert_array_equal(code, raw)
    np.testing.assert_allclose(np.linalg.norm(z, axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("sphere", ["hard", "soft", "gaussian"])
def test_start_code_is_the_mean_face(model, sphere):
    start = start_basis(config(sphere=sphere), model, load_population().identity)
    shape = start.mean + start.radius * np.tensordot(start.code, start.basis, 1)
    np.testing.assert_allclose(shape, model.mean, atol=1e-5)
    assert start.basis.shape == (12, *model.mean.shape)


def test_most_people_fit_on_the_sphere(model):
    """The radius is the 95th percentile of code lengths: a code that short reaches its person exactly."""
    codes = load_population().identity
    start = start_basis(config(), model, codes)
    lengths = np.linalg.norm(codes[:, :11], axis=1)
    assert np.mean(lengths <= start.radius) == pytest.approx(0.95, abs=1e-3)
    person = codes[np.argmin(lengths), :11]
    z = np.append(person, np.sqrt(start.radius**2 - person @ person)) / start.radius
    shape = start.mean + start.radius * np.tensordot(z, start.basis, 1)
    truth = np.asarray(model.decode(jnp.asarray(person)))
    np.testing.assert_allclose(shape, truth, atol=2e-3)


def test_learned_basis_is_read_back(model, tmp_path):
    base = model.replace(identity_basis=2 * model.identity_basis[:5], identity_sigma=model.identity_sigma[:5])
    learned = SphereFaceModel(base, jnp.float32(3.0))
    learned.save(tmp_path / "model.npz")
    start = start_basis(config(basis=str(tmp_path / "model.npz")), model, None)
    assert start.radius == 3.0
    np.testing.assert_array_equal(start.basis, learned.base.identity_basis)


def test_wrong_kinds_are_refused(model, tmp_path):
    model.save(tmp_path / "gaussian.npz")
    with pytest.raises(ValueError, match="gaussian.npz is a Gaussian model, but sphere is 'hard'"):
        start_basis(config(basis=str(tmp_path / "gaussian.npz")), model, None)
    SphereFaceModel(model, jnp.float32(1.0)).save(tmp_path / "sphere.npz")
    with pytest.raises(ValueError, match="is a sphere basis, but sphere is 'gaussian'"):
        start_basis(config(basis=str(tmp_path / "sphere.npz"), sphere="gaussian"), model, None)
    with pytest.raises(ValueError, match="has 3642 vertices, the model 14403"):
        start_basis(config(basis=str(tmp_path / "sphere.npz")), load_default(1), None)
    with pytest.raises(ValueError, match="components: found 200, expected 3 to 121"):
        start_basis(config(components=200), model, None)
    with pytest.raises(ValueError, match="sphere: found 'cube'"):
        check_sphere("cube")
