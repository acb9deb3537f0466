"""Four devices (virtual, in a process of their own) compute what one does, with one trace and one compilation."""

import json
import subprocess
import sys

import chex
import jax
import numpy as np
import pytest
from started import environment
from toy_regression import ToyRegression, config

from sfm_jax.errors import BadInput
from sfm_jax.training import loop
from sfm_jax.training.parallel import (
    AXIS,
    EXECUTORS,
    create_executor,
    mean_over_devices,
    process_batch_size,
    train_step,
    whole,
)

STEPS = 10


def measure(executor_name):
    """Ten steps of the toy task on all devices: parameters, metrics of each step, compilations after the first step.

    SGD, for Adam would hide a gradient that is N times too large.
    """
    settings = config(optimiser__name="sgd", optimiser__clip_norm=0.0, executor=executor_name)
    chex.clear_trace_counter()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "train_step", lambda *args: chex.assert_max_traces(train_step(*args), n=1))
        batches, fresh, executor = loop.prepare(ToyRegression(), settings)
    current = executor.place(fresh)
    history, compiled = [], []
    for k in range(STEPS):
        current, metrics = executor.step(current, executor.shard(batches[k]))
        jax.block_until_ready(metrics)
        if k == 0:
            jax.monitoring.register_event_duration_secs_listener(
                lambda name, *_, **__: compiled.append(name) if name.endswith("backend_compile_duration") else None)
        history.append(metrics)
    recompilations = len(compiled)
    final = whole(executor.saved(current))
    return {
        "devices": jax.device_count(), "recompilations": recompilations, "examples": int(final.state["examples"]),
        "params": jax.tree.map(lambda leaf: np.asarray(leaf).tolist(), final.params),
        "ema": jax.tree.map(lambda leaf: np.asarray(leaf).tolist(), final.ema),
        "history": executor.metrics(history)}


def mixed_tree():
    """Arrays of several shapes and types, a row for each of four devices."""
    draws = np.random.default_rng(0)
    return {"a": draws.normal(size=(4, 3, 2)).astype(np.float32), "b": np.arange(4, dtype=np.float16),
            "c": [draws.normal(size=4).astype(np.float32), draws.normal(size=(4, 5)).astype(np.float16)],
            "d": np.ones(4, np.float32)}


def means(processes):
    """A mixed tree's means over four devices, as so many processes take them, and how many arrays are exchanged."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax, "process_count", lambda: processes)
        mean = jax.pmap(lambda tree: mean_over_devices(tree), axis_name=AXIS)  # traced anew each time
        exchanged = mean.lower(mixed_tree()).as_text().count("all_reduce")
        return {"exchanged": exchanged, "means": [leaf[0].tolist() for leaf in jax.tree.leaves(mean(mixed_tree()))]}


@pytest.fixture(scope="module")
def one_device():
    return measure("pmap")


@pytest.fixture(scope="module")
def four_devices():
    """What this file prints when it is run as a program."""
    done = subprocess.run([sys.executable, __file__], env=environment(4), text=True, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("executor", EXECUTORS)
def test_four_devices_equal_one(one_device, four_devices, executor):
    ours = four_devices[executor]
    assert (one_device["devices"], ours["devices"]) == (1, 4)
    assert ours["examples"] == one_device["examples"] == STEPS * config().batch_size
    for tree in ("params", "ema"):
        chex.assert_trees_all_close(ours[tree], one_device[tree], rtol=1e-6, atol=1e-6)
    for name in ("loss", "gradient_norm"):
        np.testing.assert_allclose(*([line[name] for line in run["history"]] for run in (ours, one_device)), rtol=1e-5)


@pytest.mark.parametrize("executor", EXECUTORS)
def test_every_device_and_step_has_its_own_random_numbers(four_devices, executor):
    for step, line in enumerate(four_devices[executor]["history"]):
        key = jax.random.fold_in(jax.random.key(config().seed), step)
        draws = [float(jax.random.uniform(jax.random.fold_in(key, device))) for device in range(4)]
        assert len(set(draws)) == 4
        assert line["draw"] == pytest.approx(np.mean(draws), abs=1e-6)


@pytest.mark.parametrize("executor", EXECUTORS)
def test_compiled_once(four_devices, executor):
    assert four_devices[executor]["recompilations"] == 0


def test_shard_map_on_one_device_equals_pmap(one_device):
    ours = measure("shard_map")
    chex.assert_trees_all_close(ours["params"], one_device["params"], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("processes, exchanged", (("1", 5), ("2", 2)))  # arrays, or their types
def test_means_are_those_of_numpy_however_they_are_exchanged(four_devices, processes, exchanged):
    found = four_devices["means"][processes]
    expected = [leaf.mean(0) for leaf in jax.tree.leaves(mixed_tree())]
    assert found["exchanged"] == exchanged
    for mean, truth in zip(found["means"], expected, strict=True):
        np.testing.assert_allclose(mean, truth, rtol=2e-3)  # half precision


def test_a_batch_that_cannot_be_shared_is_refused(four_devices):
    assert four_devices["refusal"] == "batch_size: found 6, expected a multiple of the 4 devices"
    with pytest.raises(ValueError, match="batch_size: found 0, expected a multiple of the 1 devices"):
        process_batch_size(0)


def test_an_unknown_executor_is_refused():
    with pytest.raises(BadInput, match="executor: found 'pjit', expected one of pmap, shard_map"):
        create_executor("pjit", lambda train, batch: (train, {}), {})


if __name__ == "__main__":
    measured = {name: measure(name) for name in EXECUTORS} | {"means": {count: means(count) for count in (1, 2)}}
    try:
        process_batch_size(6)
    except ValueError as error:
        measured["refusal"] = str(error)
    print(json.dumps(measured))
