"""Recognition losses whose tables are split over devices equal those of one table: values and gradients.

jax.vmap with an axis name has the semantics of pmap, collectives included, on one device; the executors themselves
run the same functions in tests/training/test_split.py.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sfm_jax.losses import identity

DEVICES, SAMPLES, ROWS, SIZE, PERSONS = 4, 3, 5, 6, 17
MARGINS = [{"m3": 0.2, "scale": 16.0}, {"m2": 0.3, "scale": 10.0}, {"m1": 2.0, "scale": 8.0}]


def draw(seed=0):
    rng = np.random.default_rng(seed)
    codes = jnp.asarray(rng.standard_normal((DEVICES, SAMPLES, SIZE)), jnp.float32)
    table = jnp.asarray(rng.standard_normal((DEVICES, ROWS, SIZE)), jnp.float32)
    labels = jnp.asarray(rng.integers(-1, PERSONS, (DEVICES, SAMPLES)), jnp.int32)
    return codes, table, labels


def split_mean(codes, table, labels, **margin):
    def one(codes, rows, labels):
        return identity.split_margin_cross_entropy(codes, rows, labels, PERSONS, "data", **margin)[0].mean()
    return jnp.mean(jax.vmap(one, axis_name="data")(codes, table, labels))


def whole_mean(codes, table, labels, **margin):
    cosine = identity.cosine_logits(codes.reshape(-1, SIZE), table.reshape(-1, SIZE)[:PERSONS])
    return jnp.mean(identity.margin_cross_entropy(cosine, labels.ravel(), **margin))


@pytest.mark.parametrize("margin", MARGINS)
def test_margin_loss_and_gradients_equal_the_whole_tables(margin):
    codes, table, labels = draw()
    ours = jax.value_and_grad(split_mean, (0, 1))(codes, table, labels, **margin)
    truth = jax.value_and_grad(whole_mean, (0, 1))(codes, table, labels, **margin)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6), ours, truth)
    assert not np.any(ours[1][1].reshape(-1, SIZE)[PERSONS:])  # padding learns nothing


def test_correct_is_the_argmax():
    codes, table, labels = draw(1)
    cosine = identity.cosine_logits(codes.reshape(-1, SIZE), table.reshape(-1, SIZE)[:PERSONS])
    best = jnp.argmax(cosine, 1)
    labels = jnp.where(jnp.arange(DEVICES * SAMPLES) % 2 == 0, best, labels.ravel()).reshape(labels.shape)

    def one(codes, rows, labels):
        return identity.split_margin_cross_entropy(codes, rows, labels, PERSONS, "data")[1]

    found = jax.vmap(one, axis_name="data")(codes, table, labels)
    np.testing.assert_array_equal(found.ravel(), np.asarray(best) == np.asarray(labels.ravel()))


def test_large_logits_do_not_overflow():
    codes, table, labels = draw(2)
    assert np.isfinite(split_mean(codes, table, labels, scale=1e4))


def centre_mean(codes, table, labels, weights):
    def one(*arguments):
        return identity.split_centre_loss(*arguments, "data").mean()
    return jnp.mean(jax.vmap(one, axis_name="data")(codes, table, labels, weights))


def test_centre_loss_is_the_formula():
    codes, table, labels = draw(3)
    weights = jnp.asarray(np.random.default_rng(4).random(labels.shape), jnp.float32)
    flat, centres, label = np.asarray(codes).reshape(-1, SIZE), np.asarray(table).reshape(-1, SIZE), labels.ravel()
    away = np.where((label >= 0)[:, None], flat - centres[label], 0)
    assert float(centre_mean(codes, table, labels, weights)) == pytest.approx(0.5 * (away**2).sum(1).mean(), rel=1e-5)
    code_gradient, centre_gradient = jax.grad(centre_mean, (0, 1))(codes, table, labels, weights)
    np.testing.assert_allclose(code_gradient.reshape(-1, SIZE), away / len(away), atol=1e-6)
    pulls = np.zeros_like(centres)
    for row, weight, person in zip(away, np.asarray(weights).ravel(), np.asarray(label), strict=True):
        if person >= 0:
            pulls[person] -= weight * row / len(away)
    np.testing.assert_allclose(centre_gradient.reshape(-1, SIZE), pulls, atol=1e-6)


@pytest.mark.parametrize("persons, rows", [(0, 1024), (1, 1024), (1024, 1024), (1025, 2048), (1_000_000, 1_000_448)])
def test_padding(persons, rows):
    assert identity.padded_classes(persons) == rows


def test_labels_beyond_all_persons_are_no_number_and_never_correct():
    codes, table, _ = draw()
    labels = jnp.full((DEVICES, SAMPLES), PERSONS, jnp.int32).at[0, 0].set(0).at[0, 1].set(DEVICES * ROWS + 3)

    def one(codes, rows, labels):
        return identity.split_margin_cross_entropy(codes, rows, labels, PERSONS, "data", m3=0.2)

    loss, correct = jax.vmap(one, axis_name="data")(codes, table, labels)
    assert np.isfinite(loss[0, 0]) and np.isnan(np.delete(np.ravel(loss), 0)).all()
    assert not np.delete(np.ravel(correct), 0).any()
