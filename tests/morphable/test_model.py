import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sfm_jax.morphable.model import MorphableModel
from sfm_jax.morphable.sphere_model import SphereFaceModel


def test_decode_is_the_sum_of_the_columns(toy_model):
    rng = np.random.default_rng(0)
    c, e = rng.normal(size=6).astype(np.float32), rng.normal(size=3).astype(np.float32)
    expected = np.array(toy_model.mean, np.float64)
    for k in range(6):
        expected += float(c[k]) * np.asarray(toy_model.identity_basis[k])
    for k in range(3):
        expected += float(e[k]) * np.asarray(toy_model.expression_basis[k])
    np.testing.assert_allclose(toy_model.decode(c, e), expected, atol=1e-4)
    padded = np.r_[c[:2], np.zeros(4, np.float32)]
    np.testing.assert_allclose(toy_model.decode(c[:2]), toy_model.decode(padded), atol=1e-5)


def test_codes_of_any_leading_shape_jit_vmap_grad_and_one_trace(toy_model):
    @jax.jit
    @chex.assert_max_traces(n=1)
    def decode(model, c, e):
        return model.decode(c, e)

    c, e = jnp.ones((4, 5, 6)), jnp.ones((4, 5, 3))
    chex.assert_shape(decode(toy_model, c, e), (4, 5, 42, 3))
    decode(toy_model.replace(name=toy_model.name), c + 1, e)
    np.testing.assert_allclose(jax.vmap(jax.vmap(toy_model.decode))(c, e), decode(toy_model, c, e), atol=1e-4)
    gradient = jax.grad(lambda c: toy_model.decode(c)[5, 1])(jnp.zeros(6))
    np.testing.assert_allclose(gradient, np.asarray(toy_model.identity_basis)[:, 5, 1], rtol=1e-5)


def test_albedo_in_log_space_is_always_positive(toy_model):
    codes = 20.0 * np.random.default_rng(1).normal(size=(10, 2)).astype(np.float32)
    assert (np.asarray(toy_model.albedo(codes)) > 0).all()
    linear = toy_model.replace(albedo_space="linear")
    np.testing.assert_allclose(np.log(toy_model.albedo(codes[0])), linear.albedo(codes[0]), rtol=1e-3)


def test_too_long_a_code_is_refused(toy_model):
    with pytest.raises(ValueError, match="has 7 numbers, the basis has 6"):
        toy_model.decode(np.zeros(7, np.float32))


def test_gaussian_and_sphere_models_survive_the_disk(toy_model, tmp_path):
    toy_model.save(tmp_path / "model.npz")
    again = MorphableModel.load(tmp_path / "model.npz")
    chex.assert_trees_all_equal(jax.device_get(again), jax.tree.map(np.asarray, toy_model))
    assert again.topology == toy_model.topology and hash(again.topology) == hash(toy_model.topology)

    ours = SphereFaceModel(base=toy_model, radius=jnp.float32(3.0))
    ours.save(tmp_path / "sphere.npz")
    z = ours.sample(jax.random.key(0), 5)
    truth = ours.decode(z)
    np.testing.assert_allclose(SphereFaceModel.load(tmp_path / "sphere.npz").decode(z), truth, atol=1e-4)
    assert [path.name for path in tmp_path.glob(".*")] == []
    with pytest.raises(ValueError, match="key 'kind': found 'gaussian'"):
        SphereFaceModel.load(tmp_path / "model.npz")


def damage(path, kind):
    arrays = dict(np.load(path))
    if kind == "truncated":
        path.write_bytes(path.read_bytes()[:-200])
    elif kind == "text":
        path.write_text("not a model")
    else:
        arrays |= {"pickled": {"source": np.array([{}], dtype=object)}, "foreign": {"format": "other"},
                   "nan": {"mean": np.full_like(arrays["mean"], np.nan)},
                   "shape": {"identity_basis": arrays["identity_basis"][:, :-1]},
                   "triangles": {"triangles": arrays["triangles"] + 1}}[kind]
        np.savez(path, **arrays)


@pytest.mark.parametrize(("kind", "message"), [
    ("truncated", "not a readable npz"), ("text", "not a readable npz"), ("pickled", "without pickled objects"),
    ("foreign", "key 'format': found 'other'"), ("nan", "key 'mean': holds NaN"),
    ("shape", "key 'identity_basis': shape"), ("triangles", "key 'triangles'")])
def test_damaged_files_are_refused_by_name_in_one_line(toy_model, tmp_path, kind, message):
    path = tmp_path / "model.npz"
    toy_model.save(path)
    damage(path, kind)
    with pytest.raises(ValueError, match=message) as caught:
        MorphableModel.load(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_sphere_model_read_as_a_gaussian_one_has_its_spread(toy_model, tmp_path):
    """So that priors of one standard deviation hold, and the deviations in mm are those of its faces."""
    deviations = 2.0 * np.sqrt(np.mean(np.sum(np.asarray(toy_model.identity_basis) ** 2, -1), -1))
    ours = SphereFaceModel(base=toy_model.replace(identity_sigma=jnp.asarray(deviations)), radius=jnp.float32(2.0))
    ours.save(tmp_path / "sphere.npz")
    gaussian, z = MorphableModel.load(tmp_path / "sphere.npz"), ours.sample(jax.random.key(0), 20_000)
    codes = np.sqrt(z.shape[1]) * z
    np.testing.assert_allclose(gaussian.decode(codes[:5]), ours.decode(z[:5]), atol=1e-4)
    np.testing.assert_allclose(np.std(codes, axis=0), 1, atol=0.02)
    moved = gaussian.decode(jnp.eye(z.shape[1])) - gaussian.mean
    np.testing.assert_allclose(np.sqrt(np.mean(np.sum(moved**2, -1), -1)), gaussian.identity_sigma, rtol=1e-4)


def test_sphere_model_walks_geodesics(toy_model):
    ours = SphereFaceModel(base=toy_model, radius=jnp.float32(2.0))
    a, b = ours.sample(jax.random.key(3), 2)
    np.testing.assert_allclose(ours.interpolate(a, b, 0.0), a, atol=1e-6)
    np.testing.assert_allclose(ours.interpolate(a, b, 1.0), b, atol=1e-5)
    near = ours.sample_near(jax.random.key(4), a, 500.0, 32)
    assert float((near @ a).min()) > 0.9


def test_a_topology_keeps_its_own_arrays(toy_model):
    given = np.array(toy_model.topology.triangles)
    topology = dataclasses.replace(toy_model.topology, triangles=given[:])
    assert topology == toy_model.topology
    given[0] = 0  # may be written to, and changes nothing
    assert topology == toy_model.topology and topology.triangles[0].any()
    with pytest.raises(ValueError, match="read-only"):
        topology.triangles[0] = 0
