"""Schedules and update rules against their formulas, written out in NumPy."""

import chex
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from toy_regression import ToyRegression, config

from sfm_jax.errors import BadInput
from sfm_jax.training.loop import prepare
from sfm_jax.training.optimiser import create_optimiser, learning_rate

pytestmark = pytest.mark.usefixtures("standard_promotion")  # optax multiplies its counts of steps by floats
LABELS = {"weights": "weights", "bias": "bias"}
PARAMS = {"weights": np.float32([1.0, -2.0, 0.5]), "bias": np.float32(3.0)}
GRADIENTS = [{"weights": np.float32([0.3, -4.0, 1.0]) / (k + 1), "bias": np.float32(0.5 * k - 0.7)} for k in range(6)]
RATE, DECAY = 0.1, 0.01


def settings(**changes):
    """A constant rate of RATE and nothing else, but for the changes."""
    plain = dict(learning_rate=RATE, schedule="constant", warmup_steps=0, clip_norm=0.0, multipliers={})
    return config(**{f"optimiser__{key}": value for key, value in (plain | changes).items()}).optimiser


def run(optimiser_config, gradients=GRADIENTS):
    """The parameters after one step per gradient."""
    optimiser = create_optimiser(optimiser_config, 100, LABELS)
    params, state = PARAMS, optimiser.init(PARAMS)
    for gradient in gradients:
        updates, state = optimiser.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
    return params


def by_hand(rule, gradients=GRADIENTS):
    """The same, each leaf on its own in float64: rule(parameter, gradients so far) -> step to subtract."""
    params = {}
    for name, leaf in PARAMS.items():
        leaf = np.float64(leaf)
        for k in range(len(gradients)):
            leaf = leaf - rule(leaf, [np.float64(gradient[name]) for gradient in gradients[: k + 1]])
        params[name] = leaf
    return params


def adam_direction(gradients, b1=0.9, b2=0.999, eps=1e-8):
    """Kingma & Ba 2015, algorithm 1, with its moments as explicit sums."""
    t = len(gradients)
    first = sum((1 - b1) * b1 ** (t - 1 - i) * g for i, g in enumerate(gradients)) / (1 - b1**t)
    second = sum((1 - b2) * b2 ** (t - 1 - i) * g**2 for i, g in enumerate(gradients)) / (1 - b2**t)
    return first / (np.sqrt(second) + eps)


def assert_close(ours, theirs, atol=2e-6):
    chex.assert_trees_all_close(ours, {name: np.float32(leaf) for name, leaf in theirs.items()}, atol=atol)


def test_adam():
    expected = by_hand(lambda _, g: RATE * adam_direction(g))
    assert_close(run(settings(name="adam")), expected, atol=2e-5)  # 1 - 0.999^t has four digits in float32


def test_adamw_decays_beside_the_gradient():
    """Loshchilov & Hutter 2019, algorithm 2."""
    expected = by_hand(lambda leaf, g: RATE * (adam_direction(g) + DECAY * leaf))
    assert_close(run(settings(name="adamw", weight_decay=DECAY)), expected, atol=2e-5)


def test_sgd_has_momentum_and_decays_in_the_gradient():
    velocity = [np.zeros_like(leaf, np.float64) for leaf in PARAMS.values()]
    leaves = [np.float64(leaf) for leaf in PARAMS.values()]
    for gradient in GRADIENTS:
        for i, name in enumerate(PARAMS):
            velocity[i] = 0.9 * velocity[i] + gradient[name] + DECAY * leaves[i]
            leaves[i] = leaves[i] - RATE * velocity[i]
    assert_close(run(settings(name="sgd", weight_decay=DECAY)), dict(zip(PARAMS, leaves, strict=True)))


def test_a_group_learns_at_its_multiple_of_the_rate():
    plain = run(settings(name="adam"))
    scaled = run(settings(name="adam", multipliers={"bias": 0.25}))
    frozen = run(settings(name="adam", multipliers={"weights": 0.0}))
    np.testing.assert_array_equal(scaled["weights"], plain["weights"])
    np.testing.assert_allclose(scaled["bias"] - PARAMS["bias"], 0.25 * (plain["bias"] - PARAMS["bias"]), atol=1e-6)
    np.testing.assert_array_equal(frozen["weights"], PARAMS["weights"])
    np.testing.assert_array_equal(frozen["bias"], plain["bias"])


def rates(steps, **changes):
    schedule = learning_rate(settings(**changes), steps)
    return np.asarray([schedule(jnp.int32(step)) for step in range(steps + 1)])


@pytest.mark.parametrize("warmup", [0, 1, 10, 40])
def test_cosine_with_warm_up(warmup):
    t, steps = np.arange(41), 40
    cosine = RATE * 0.5 * (1 + np.cos(np.pi * (t - warmup) / max(steps - warmup, 1)))
    expected = np.where(t < warmup, RATE * (t + 1) / (warmup + 1), cosine)
    np.testing.assert_allclose(rates(steps, schedule="cosine", warmup_steps=warmup), expected, atol=1e-7)


def test_constant_with_warm_up():
    np.testing.assert_allclose(rates(6, warmup_steps=3), RATE * np.float32([0.25, 0.5, 0.75, 1, 1, 1, 1]), rtol=1e-6)


@pytest.mark.parametrize("warmup", [0, 5, 70])
def test_step_with_warm_up(warmup):
    t = np.arange(101)
    falling = RATE * np.where(t < 60, 1, np.where(t < 85, 0.1, 0.01))
    expected = np.where(t < warmup, RATE * (t + 1) / (warmup + 1), falling)
    np.testing.assert_allclose(rates(100, schedule="step", warmup_steps=warmup), expected, rtol=1e-5)


@pytest.mark.parametrize("changes, message", [
    (dict(learning_rate=-1.0), "optimiser.learning_rate: found -1.0, expected a number above 0"),
    (dict(name="adagrad"), "optimiser.name: found 'adagrad', expected one of adam, adamw, sgd"),
    (dict(schedule="linear"), "optimiser.schedule: found 'linear', expected one of constant, cosine, step"),
    (dict(multipliers={"basis": 2.0}), "optimiser.multipliers.basis: no such group, expected one of bias, weights")])
def test_unknown_names_are_refused(changes, message):
    with pytest.raises(BadInput, match=f"^{message}$"):
        create_optimiser(settings(**changes), 10, LABELS)


def test_averaged_parameters():
    """ema_n = d^n params_0 + (1 - d) sum_t d^(n-t) params_t, which is ema_t = d ema_(t-1) + (1 - d) params_t solved."""
    decay, steps = 0.8, 5
    batches, fresh, executor = prepare(ToyRegression(), config(ema_decay=decay))
    current, visited = executor.place(fresh), [fresh.params]
    for k in range(steps):
        current, _ = executor.step(current, executor.shard(batches[k]))
        visited.append(executor.saved(current).params)
    for name, averaged in executor.saved(current).ema.items():
        expected = decay**steps * np.float64(visited[0][name])
        expected += (1 - decay) * sum(decay ** (steps - t) * np.float64(visited[t][name]) for t in range(1, steps + 1))
        np.testing.assert_allclose(averaged, expected, atol=1e-6)
