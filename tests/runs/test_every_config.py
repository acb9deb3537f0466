"""Every config, two tiny steps: on four devices as on one, and every term that is weighed is there."""

import json
import subprocess
import sys
from pathlib import Path

import chex
import jax
import numpy as np
import pytest
from started import environment
from tiny_runs import CONFIGS, config, train

RUNS = [("stage1", "pmap"), ("stage2", "pmap"), ("sir", "shard_map"), ("siamese", "pmap"), ("cycle", "shard_map"),
        ("detail_coarse", "shard_map"), ("detail", "pmap")]
# SGD, for Adam would hide a gradient that is N times too large; and in the first steps turns rounding into signs.
EXACT = {"optimiser__name": "sgd", "optimiser__learning_rate": 1e-3, "optimiser__warmup_steps": 0}
# A weight of hundreds makes the rounding of sums in another order as large.
LIGHTER = {"siamese": {"loss__contrastive": 20.0}, "detail_coarse": {"perceptual": "trunk"}}
# Weighed by default, for codes of another kind than the config's.
OTHERS = {"stage1": {"kl", "sphere", "norm_bound"}, "stage2": {"kl", "sphere"}, "sir": {"sphere"},
          "siamese": {"sphere"}, "cycle": {"sphere"}, "detail_coarse": {"sphere"}, "detail": set()}


def exact(name, model, coarse):
    return config(name, coarse if name == "detail" else model, **EXACT, **LIGHTER.get(name, {}))


@pytest.fixture(scope="module")
def one_device(model, coarse):
    return {name: train(exact(name, model, coarse), "pmap", 2) for name, _ in RUNS}


@pytest.fixture(scope="module")
def four_devices(model, coarse, tmp_path_factory):
    """What this file writes when it is run as a program."""
    out = tmp_path_factory.mktemp("four")
    done = subprocess.run([sys.executable, __file__, str(model), str(coarse), str(out)], env=environment(4), text=True,
                          capture_output=True, timeout=900)
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


def test_no_config_is_forgotten():
    assert {name for name, _ in RUNS} == {path.stem for path in CONFIGS.glob("*.py")}


@pytest.mark.parametrize("name", OTHERS)
def test_every_weighed_term_is_logged_and_finite(one_device, model, coarse, name):
    weights = exact(name, model, coarse).loss
    for metrics in one_device[name][1]:
        assert {term for term in weights if weights[term] > 0} - OTHERS[name] <= set(metrics)
        chex.assert_tree_all_finite(metrics)
        assert metrics.get("overflow", 0) == 0


if __name__ == "__main__":
    for name, executor in RUNS:
        params, history = train(exact(name, *sys.argv[1:3]), executor, 2)
        file = Path(sys.argv[3]) / f"{name}-{executor}"
        file.with_suffix(".json").write_text(json.dumps(history))
        np.savez(file.with_suffix(".npz"), **{jax.tree_util.keystr(path): leaf
                                              for path, leaf in jax.tree.leaves_with_path(params)})
