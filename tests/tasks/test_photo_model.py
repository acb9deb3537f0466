"""Stage 2 and SIR on a toy model: every config on one and four devices, every term against its weight."""

import json
import os
import subprocess
import sys
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy
from photo_runs import config, train

from sfm_jax.tasks import create_task

ROOT = Path(__file__).parents[2]
RUNS = [("stage2", "pmap"), ("sir", "shard_map")]
# SGD, for Adam would hide a gradient that is N times too large; and in the first steps turns rounding into signs.
EXACT = {"optimiser__name": "sgd", "optimiser__learning_rate": 1e-3, "optimiser__warmup_steps": 0}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "toy.npz"
    toy.model(subdivisions=2).save(path)
    return path


@pytest.fixture(scope="module")
def one_device(model):
    return {name: train(config(name, model, **EXACT), "pmap", 2) for name in ("stage2", "sir")}


@pytest.fixture(scope="module")
def four_devices(model, tmp_path_factory):
    """What this file writes when it is run as a program."""
    out = tmp_path_factory.mktemp("four")
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu",
                                "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    done = subprocess.run([sys.executable, __file__, str(model), str(out)], env=environment, text=True,
                          capture_output=True, timeout=500)
    assert done.returncode == 0, done.stderr
    return out


@pytest.mark.slow
@pytest.mark.parametrize("name, executor", RUNS)
def test_four_devices_equal_one(one_device, four_devices, name, executor):
    params, history = one_device[name]
    ours = json.loads((four_devices / f"{name}-{executor}.json").read_text())
    for step, (here, there) in enumerate(zip(history, ours, strict=True)):
        for term in here:
            assert there[term] == pytest.approx(here[term], rel=2e-3, abs=1e-4), (step, term)
    leaves = np.load(four_devices / f"{name}-{executor}.npz")
    for path, leaf in jax.tree.leaves_with_path(params):
        np.testing.assert_allclose(leaves[jax.tree_util.keystr(path)], leaf, atol=2e-5, rtol=2e-4)


@pytest.mark.parametrize("name", ["stage2", "sir"])
def test_every_weighed_term_is_logged_and_finite(one_device, model, name):
    weights = config(name, model).loss
    other = {"stage2": {"kl", "sphere"}, "sir": {"sphere"}}[name]
    for metrics in one_device[name][1]:
        assert {term for term in weights if weights[term] > 0} - other <= set(metrics)
        chex.assert_tree_all_finite(metrics)
        assert metrics["overflow"] == 0


def setup(model, **changes):
    task = create_task(config("stage2", model, **changes))
    batch = task.dataset(8, 0)[0]
    params, state = task.init(jax.random.key(0), batch)
    stacked = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], (params, state, batch))

    def loss(params, state, batch):
        return task.loss(params, state, batch, jax.random.key(1))

    return task, stacked, jax.jit(jax.vmap(loss, axis_name="data"))


@pytest.fixture(scope="module")
def plain(model):
    return setup(model, batch_size=8)


def test_loss_is_the_weighted_sum_of_its_terms(plain):
    task, stacked, loss = plain
    total, aux = loss(*stacked)
    weights = task.config.loss
    summed = sum(weights[name] * float(value[0]) for name, value in aux.metrics.items() if name in weights)
    assert float(total[0]) == pytest.approx(summed, rel=1e-5)


def test_a_term_weighed_zero_is_left_out(model):
    _, stacked, loss = setup(model, batch_size=8, loss__pixel=0.0, loss__identity=0.0)
    _, aux = loss(*stacked)
    assert not {"pixel", "identity", "overflow"} & set(aux.metrics)


def test_perceptual_term_of_the_trunk(model):
    _, stacked, loss = setup(model, batch_size=8, loss__perceptual=1.0)
    value = float(loss(*stacked)[1].metrics["perceptual"][0])
    assert 0 <= value <= 2


def test_run_begins_at_the_mean_face(plain):
    task, (params, state, batch), _ = plain
    params, state, batch = jax.tree.map(lambda leaf: leaf[0], (params, state, batch))
    prediction, _ = task.predict(params, state, task.mixture.records(batch)["image"])
    face = task.decoder(params)(prediction.codes, 32)
    away = np.abs(np.asarray(face.neutral) - np.asarray(task.start.mean)).max()
    assert away < 6.0  # mm
    np.testing.assert_allclose(np.linalg.norm(prediction.z, axis=1), 1, atol=1e-5)


def test_labels_that_are_hidden_have_no_influence(plain):
    """The identity part's landmarks and codes, the landmark part's person: changed, nothing changes."""
    task, (params, state, batch), _ = plain
    params, state, batch = jax.tree.map(lambda leaf: leaf[0], (params, state, batch))
    record = task.mixture.records(batch)
    count = len(batch["identity"]["id"])

    def value(record):
        def loss(params):
            prediction, _ = task.predict(params, state, record["image"], train=False)
            values, _, _ = task.terms(params, state["moments"], task.decoder(params), prediction, record, None)
            return sum(values.values())
        return jax.vmap(lambda _: loss(params), axis_name="data")(jnp.zeros(1))[0]

    changed = record | {
        "landmarks": record["landmarks"].at[:count].add(7.0), "rotation": record["rotation"].at[:count].multiply(-1.0),
        "identity": record["identity"].at[:count].add(1.0), "expression": record["expression"].at[:count].add(1.0)}
    assert float(value(changed)) == pytest.approx(float(value(record)), rel=1e-6)


@pytest.mark.parametrize("changes, message", [
    ({"data__identity": "", "data__landmarks": ""}, "found photos for nothing"),
    ({"data__all": "synthetic"}, "or data.all alone"),
    ({"data__identity_share": 1.5}, "data.identity_share: found 1.5"),
    ({"sphere": "cube"}, "sphere: found 'cube'"),
    ({"trunk": "vgg"}, "trunk: found 'vgg'"),
    ({"perceptual": "vgg"}, "perceptual: found 'vgg'"),
    ({"data__identity": "folder:/nowhere"}, "/nowhere: no such folder"),
    ({"data__identity": "photos"}, "found 'photos', expected one of folder:PLACE"),
    ({"data__max_bad_fraction": 0.5, "data__landmarks": "aflw:/nowhere"}, "/nowhere: no such folder")])
def test_bad_settings_are_refused_in_one_line(model, changes, message):
    with pytest.raises(ValueError, match=message) as refused:
        task = create_task(config("stage2", model, **changes))
        task.init(jax.random.key(0), task.dataset(8, 0)[0])
    assert "\n" not in str(refused.value)


if __name__ == "__main__":
    for name, executor in RUNS:
        params, history = train(config(name, sys.argv[1], **EXACT), executor, 2)
        file = Path(sys.argv[2]) / f"{name}-{executor}"
        file.with_suffix(".json").write_text(json.dumps(history))
        np.savez(file.with_suffix(".npz"), **{jax.tree_util.keystr(path): leaf
                                              for path, leaf in jax.tree.leaves_with_path(params)})
