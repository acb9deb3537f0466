"""Losses on pairs against their formulas written out, finite differences and brute force."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from sfm_jax.losses import contrastive


def codes(count, dimension=4, seed=0):
    return np.random.default_rng(seed).normal(size=(count, dimension)).astype(np.float32)


@pytest.mark.parametrize("distance, same, expected", [
    (0.3, 1, 0.09), (2.0, 1, 4.0), (0.3, 0, 0.04), (0.5, 0, 0.0), (2.0, 0, 0.0), (0.0, 0, 0.25)])
def test_contrastive_by_hand(distance, same, expected):
    found = contrastive.contrastive(jnp.float32(distance), jnp.float32(same), 0.5)
    assert float(found) == pytest.approx(expected, abs=1e-6)


def test_independent_whitened_codes_are_one_apart():
    a, b = codes(4000, 64), codes(4000, 64, seed=1)
    assert float(jnp.mean(contrastive.distance(a, b) ** 2)) == pytest.approx(1.0, abs=0.01)


def test_gradients_are_finite_differences():
    a, b, same = codes(6), codes(6, seed=1), jnp.arange(6) % 2
    # No pair at the margin's kink.
    apart = contrastive.distance(a, b)
    assert np.abs(np.asarray(apart) - 1.2).min() > 0.01 and (np.asarray(apart) < 1.2)[::2].any()

    def loss(a):
        return jnp.sum(contrastive.contrastive(contrastive.distance(a, b.astype(a.dtype)), same, 1.2))

    with jax.enable_x64(True):
        jax.test_util.check_grads(loss, (a.astype(np.float64),), order=1, modes=["rev"], eps=1e-5)


def test_gradient_where_codes_meet_is_finite():
    a = codes(2)

    def loss(x):
        return jnp.sum(contrastive.contrastive(contrastive.distance(x, a), jnp.array([0, 1]), 1.0))

    chex.assert_tree_all_finite(jax.grad(loss)(a))


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 1000), nobody=st.booleans())
def test_hardest_other_by_brute_force(seed, nobody):
    rng = np.random.default_rng(seed)
    ours, memory = codes(5, seed=seed), codes(9, seed=seed + 1)
    person, remembered = rng.integers(0, 3, 5), rng.integers(-1, 3, 9)
    if nobody:
        remembered[:] = -1
    found = contrastive.hardest_other(ours, person, memory, remembered)
    apart = cdist(ours, memory)
    for i in range(5):
        others = np.flatnonzero((remembered != person[i]) & (remembered >= 0))
        expected = memory[others[np.argmin(apart[i, others])]] if len(others) else ours[i]
        np.testing.assert_allclose(found[i], expected)


def test_an_unknown_person_is_near_nobody():
    ours = codes(1)
    np.testing.assert_array_equal(contrastive.hardest_other(ours, np.array([-1]), codes(3), np.arange(3)), ours)


def test_memory_keeps_the_latest():
    memory = contrastive.first_memory(4, 2)
    assert (memory["person"] == -1).all()
    for batch in (np.array([1, 2, 3]), np.array([4, 5, 6])):
        memory = contrastive.remember(memory, np.stack([batch, -batch], -1).astype(np.float32), batch)
    np.testing.assert_array_equal(memory["person"], [4, 5, 6, 1])
    np.testing.assert_array_equal(memory["codes"][:, 1], [-4, -5, -6, -1])
