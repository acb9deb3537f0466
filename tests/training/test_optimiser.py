"""Schedules and update rules against their formulas, written out in NumPy."""

import chex
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from toy_regression import SplitRegression, ToyRegression, config

from sfm_jax.errors import BadInput
from sfm_jax.training.loop import prepare
from sfm_jax.training.optimiser import create_optimiser, learning_rate
from sfm_jax.training.parallel import EXECUTORS

pytestmark = pytest.mark.usefixtures("standard_promotion")  # optax multiplies its counts of steps by floats
LABELS = {"weights": "weights", "norm": "norm", "bias": "bias", "table": "table"}
GROUPS = {"weights": "network", "norm": "network", "bias": "network", "table": "classes"}
PARAMS = {"weights": np.float32([[1.0, -2.0, 0.5]]), "norm": np.float32([1.0, 2.0]), "bias": np.float32(3.0),
          "table": np.float32([[1.0, 2.0], [-3.0, 4.0]])}  # of two people; the second is in no batch
GRADIENTS = [{"weights": np.float32([[0.3, -4.0, 1.0]]) / (k + 1), "norm": np.float32([0.2, -0.1 * k]),
              "bias": np.float32(0.5 * k - 0.7), "table": np.float32([[0.4 - k, 1.0], [0.0, 0.0]])} for k in range(6)]
RATE, DECAY = 0.1, 0.01
DECAYS = {"weights": DECAY, "norm": 0.0, "bias": 0.0, "table": 0.0}  # on kernels of the network alone


def settings(**changes):
    """A constant rate of RATE and nothing else, but for the changes."""
    plain = dict(learning_rate=RATE, schedule="constant", warmup_steps=0, clip_norm=0.0, multipliers={})
    return config(**{f"optimiser__{key}": value for key, value in (plain | changes).items()}).optimiser


def run(optimiser_config, labels=LABELS):
    """The parameters after one step per gradient."""
    optimiser = create_optimiser(optimiser_config, 100, labels)
    params, state = PARAMS, optimiser.init(PARAMS)
    for gradient in GRADIENTS:
        updates, state = optimiser.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
    return params


def by_hand(rule, decays):
    """The same, each leaf on its own in float64: rule(parameter, gradients so far, decay) -> step to subtract."""
    params = {}
    for name, leaf in PARAMS.items():
        leaf = np.float64(leaf)
        for k in range(len(GRADIENTS)):
            leaf = leaf - rule(leaf, [np.float64(gradient[name]) for gradient in GRADIENTS[: k + 1]], decays[name])
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
    expected = by_hand(lambda _, g, decay: RATE * adam_direction(g), dict.fromkeys(PARAMS))
    assert_close(run(settings(name="adam")), expected, atol=2e-5)  # 1 - 0.999^t has four digits in float32


def test_adamw_decays_beside_the_gradient():
    """Loshchilov & Hutter 2019, algorithm 2."""
    expected = by_hand(lambda leaf, g, decay: RATE * (adam_direction(g) + decay * leaf), DECAYS)
    assert_close(run(settings(name="adamw", weight_decay=DECAY), GROUPS), expected, atol=2e-5)


def test_sgd_has_momentum_and_decays_in_the_gradient():
    velocity = [np.zeros_like(leaf, np.float64) for leaf in PARAMS.values()]
    leaves = [np.float64(leaf) for leaf in PARAMS.values()]
    for gradient in GRADIENTS:
        for i, name in enumerate(PARAMS):
            velocity[i] = 0.9 * velocity[i] + gradient[name] + DECAYS[name] * leaves[i]
            leaves[i] = leaves[i] - RATE * velocity[i]
    assert_close(run(settings(name="sgd", weight_decay=DECAY), GROUPS), dict(zip(PARAMS, leaves, strict=True)))


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_decay_leaves_all_but_kernels_alone(name):
    """To the last bit, and so the person of whom no photo came: Adam would have made a full step of its decay."""
    plain, decayed = run(settings(name=name), GROUPS), run(settings(name=name, weight_decay=0.1), GROUPS)
    for leaf in ("norm", "bias", "table"):
        np.testing.assert_array_equal(decayed[leaf], plain[leaf])
    np.testing.assert_array_equal(decayed["table"][1], PARAMS["table"][1])
    assert (np.abs(decayed["weights"] - plain["weights"]) > 1e-3).any()


@pytest.mark.parametrize("executor", EXECUTORS)
def test_decay_beside_a_split_table(executor):
    """One step of the whole run, against w - rate (g + decay w) of the same gradient without decay."""
    class OneNetwork(SplitRegression):
        def init(self, rng, batch):
            params, state = super().init(rng, batch)
            return params | {"weights": params["weights"][:, None]}, state

        def loss(self, params, state, batch, rng):
            return super().loss(params | {"weights": params["weights"][:, 0]}, state, batch, rng)

        def param_labels(self, params):
            return {"weights": "network", "bias": "bias"}

    made = {}
    for decay in (0.0, 0.5):
        changes = {"name": "sgd", "weight_decay": decay, "learning_rate": RATE, "warmup_steps": 0, "clip_norm": 0.0,
                   "schedule": "constant", "multipliers": {}}
        batches, fresh, runner = prepare(OneNetwork(), config(executor=executor, **{
            f"optimiser__{key}": value for key, value in changes.items()}))
        made[decay] = runner.saved(runner.step(runner.place(fresh), runner.shard(batches[0]))[0]).params
    np.testing.assert_allclose(made[0.5]["weights"], made[0.0]["weights"] - RATE * 0.5 * fresh.params["weights"],
                               atol=1e-6)
    np.testing.assert_array_equal(made[0.5]["bias"], made[0.0]["bias"])


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
    (dict(warmup_steps=-1), "optimiser.warmup_steps: found -1, expected 0 or more"),
    (dict(clip_norm=-10.0), "optimiser.clip_norm: found -10.0, expected 0 or more"),
    (dict(clip_norm=float("nan")), "optimiser.clip_norm: found nan, expected 0 or more"),
    (dict(weight_decay=-0.1), "optimiser.weight_decay: found -0.1, expected 0 or more"),
    (dict(weight_decay=0.1), "optimiser.weight_decay: found 0.1, expected 0: no group is called network"),
    (dict(multipliers={"basis": 2.0}),
     "optimiser.multipliers.basis: no such group, expected one of bias, norm, table, weights")])
def test_what_no_optimiser_has_is_refused(changes, message):
    with pytest.raises(BadInput, match=f"^{message}$"):
        create_optimiser(settings(**changes), 10, LABELS)


def test_averaged_parameters():
    """The weights of all parameters that there were, ema_t = d_t ema_(t-1) + (1 - d_t) params_t solved, for d_t of
    1/10, 2/11, 3/12, 0.3 and 0.3: little is left of the untrained ones."""
    decays, steps = [1 / 10, 2 / 11, 3 / 12, 0.3, 0.3], 5
    weights = [np.prod(decays)] + [(1 - decays[t]) * np.prod(decays[t + 1:]) for t in range(steps)]
    np.testing.assert_allclose(sum(weights), 1)
    batches, fresh, executor = prepare(ToyRegression(), config(ema_decay=0.3))
    current, visited = executor.place(fresh), [fresh.params]
    for k in range(steps):
        current, _ = executor.step(current, executor.shard(batches[k]))
        visited.append(executor.saved(current).params)
    for name, averaged in executor.saved(current).ema.items():
        expected = sum(weight * np.float64(params[name]) for weight, params in zip(weights, visited, strict=True))
        np.testing.assert_allclose(averaged, expected, atol=1e-6)
