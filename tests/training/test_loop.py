"""The loop reaches the least-squares solution, and a run that was cut off anywhere goes on as if it had not been."""

import json
import os
import random
import signal
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy_regression
from started import ROOT, environment
from toy_regression import SplitRegression, ToyRegression, config

from sfm_jax.errors import BadInput
from sfm_jax.training import parallel
from sfm_jax.training.checkpoint import Checkpoints
from sfm_jax.training.logbook import read_metrics
from sfm_jax.training.loop import train
from sfm_jax.training.workdir import keep_sources, open_workdir

STEPS = 20


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """A run that nothing disturbs."""
    return train(SplitRegression(), config(steps=STEPS), tmp_path_factory.mktemp("uninterrupted"))


def assert_same_history(ours, theirs):
    assert [line["step"] for line in ours] == [line["step"] for line in theirs]
    for one, other in zip(ours, theirs, strict=True):
        assert one == pytest.approx(other, rel=1e-6, abs=1e-6)


def assert_same_run(ours, theirs):
    assert_same_history(ours.history, theirs.history)
    for name, value in theirs.params.items():
        np.testing.assert_allclose(ours.params[name], value, rtol=1e-6, atol=1e-6)
    assert ours.state["examples"] == theirs.state["examples"]


@pytest.mark.parametrize("optimiser, rate", [("adam", 0.3), ("adamw", 0.3), ("sgd", 0.03)])
def test_training_reaches_the_least_squares_solution(tmp_path, optimiser, rate):
    full_batch = config(steps=250, batch_size=toy_regression.ROWS, log_every=50, save_every=1000, ema_decay=0.0,
                        optimiser__name=optimiser, optimiser__learning_rate=rate, optimiser__clip_norm=0.0)
    result = train(ToyRegression(), full_batch, tmp_path)
    weights, bias = toy_regression.solution()
    np.testing.assert_allclose(result.params["weights"], weights, atol=1e-4)
    np.testing.assert_allclose(result.params["bias"], bias, atol=1e-4)
    assert not result.preempted and result.step == 250
    assert [line["step"] for line in result.history] == [1, 50, 100, 150, 200, 250]
    assert result.state["examples"] == 250 * toy_regression.ROWS


@pytest.mark.parametrize("first, second", [("pmap", "shard_map"), ("shard_map", "pmap")])
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path, uninterrupted, first, second):
    asked = []

    def power_cut(k, batch):
        if k == 8:
            raise InterruptedError("power cut")
        return batch

    def record(k, batch):
        asked.append(k)
        return batch

    with pytest.raises(InterruptedError, match="power cut"):  # raised in the thread that prepares the batches
        train(SplitRegression(power_cut), config(steps=STEPS, executor=first), tmp_path)
    assert read_metrics(tmp_path / "metrics.jsonl")[-1]["step"] == 8
    resumed = train(SplitRegression(record), config(steps=STEPS, executor=second), tmp_path)
    assert sorted(asked)[1:] == list(range(6, STEPS))  # [0] shows the shapes; step 6 was the last save
    assert_same_run(resumed, uninterrupted)
    assert_same_history(read_metrics(tmp_path / "metrics.jsonl"), uninterrupted.history)
    file = json.loads((tmp_path / "seconds.json").read_text())
    assert file["timed_steps"] == 5 + (STEPS - 6) - 1 and file["train_seconds"] > file["timed_seconds"] > 0


def test_a_finished_run_is_not_trained_again(tmp_path, uninterrupted):
    train(SplitRegression(), config(steps=STEPS), tmp_path)
    again = train(SplitRegression(), config(steps=STEPS), tmp_path)
    assert again.step == STEPS and not again.preempted
    saved = json.loads((tmp_path / "seconds.json").read_text())
    assert again.train_seconds == saved["train_seconds"] > again.compile_seconds == saved["compile_seconds"] > 0
    assert_same_run(again, uninterrupted)


def start(workdir):
    return subprocess.Popen([sys.executable, "tests/toy_regression.py", str(workdir), "slow", f"steps={STEPS}"],
                            cwd=ROOT, text=True, env=environment(1), stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def send_at(process, step, which):
    """Send the signal as soon as the process says it has done this step; returns what it wrote to stderr."""
    for line in process.stdout:
        if line.startswith(f"step {step}/"):
            process.send_signal(which)
            break
    return process.communicate(timeout=60)[1]


def test_killed_at_a_random_step(tmp_path, uninterrupted):
    step = random.randrange(1, STEPS // 2)
    process = start(tmp_path / "run")
    send_at(process, step, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL, f"killed at step {step}"
    before = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert step <= before[-1]["step"] < STEPS, f"killed at step {step}"
    resumed = train(SplitRegression(), config(steps=STEPS), tmp_path / "run")
    assert_same_run(resumed, uninterrupted)


def test_sigterm_saves_and_exits_with_0(tmp_path, uninterrupted):
    process = start(tmp_path / "run")
    errors = send_at(process, 4, signal.SIGTERM)
    assert process.returncode == 0 and errors == ""  # nor does a normal run write anything to stderr
    last = read_metrics(tmp_path / "run" / "metrics.jsonl")[-1]["step"]
    assert 4 <= last < STEPS and (tmp_path / "run" / "checkpoints" / str(last)).is_dir()
    assert_same_run(train(SplitRegression(), config(steps=STEPS), tmp_path / "run"), uninterrupted)


def test_sigterm_within_a_process(tmp_path):
    before = signal.getsignal(signal.SIGTERM)

    def terminate(k, batch):
        if k == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        return batch

    result = train(ToyRegression(terminate), config(steps=200, save_every=1000), tmp_path)
    assert result.preempted and 3 <= result.step < 200
    assert [entry.name for entry in (tmp_path / "checkpoints").iterdir()] == [str(result.step)]
    assert signal.getsignal(signal.SIGTERM) is before


def test_sigterm_during_the_last_save_ends_nothing(tmp_path, monkeypatch):
    """It comes when all steps are done and their save is still under way: the process is not ended by it."""
    leave, ended = Checkpoints.__exit__, []

    def terminate(self, *error):
        os.kill(os.getpid(), signal.SIGTERM)
        leave(self, *error)

    before = signal.signal(signal.SIGTERM, lambda *_: ended.append(True))
    try:
        monkeypatch.setattr(Checkpoints, "__exit__", terminate)
        result = train(ToyRegression(), config(save_every=1000), tmp_path)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert not ended and result.step == STEPS
    assert [entry.name for entry in (tmp_path / "checkpoints").iterdir()] == [str(STEPS)]


class SquareRootOfZero(ToyRegression):
    """Its loss is finite; its gradient is not."""

    def loss(self, params, state, batch, rng):
        loss, aux = super().loss(params, state, batch, rng)
        return loss + jnp.sqrt(0.0 * params["bias"]), aux


@pytest.mark.parametrize("task, culprits, step", [
    (ToyRegression(toy_regression.poisoned), "gradient_norm, loss", 7), (SquareRootOfZero(), "gradient_norm", 1)])
def test_a_step_that_is_not_finite_stops_the_run(tmp_path, task, culprits, step):
    settings = config(save_every=2, log_every=50)
    with pytest.raises(FloatingPointError, match=f"^step {step}: not finite: {culprits}; nothing was saved") as raised:
        train(task, settings, tmp_path)
    saved = [int(entry.name) for entry in (tmp_path / "checkpoints").iterdir()]
    assert max(saved, default=0) == step - 1  # the clean steps before it are there to go on from
    file = tmp_path / "nonfinite-0.json"
    assert str(file) in str(raised.value)
    ids = ToyRegression().dataset(settings.batch_size, settings.seed)[step - 1]["id"].tolist()
    assert json.loads(file.read_text()) == {"step": step, "not_finite": culprits.split(", "), "ids": {"id": ids}}


@pytest.mark.parametrize("executor", [parallel.PmapExecutor, parallel.ShardMapExecutor])
def test_a_step_gets_nothing_from_the_host(tmp_path, monkeypatch, executor):
    """The loop forbids transfers in a step, and every other test runs under that. Here it is seen to refuse one."""
    name = {parallel.PmapExecutor: "pmap", parallel.ShardMapExecutor: "shard_map"}[executor]
    shard = executor.shard
    monkeypatch.setattr(executor, "shard", lambda self, batch: jax.device_get(shard(self, batch)))
    with pytest.raises(Exception, match="Disallowed host-to-device transfer"):
        train(ToyRegression(), config(executor=name), tmp_path)


@pytest.mark.parametrize("executor, name, times", [("pmap", "_fun", 2), ("shard_map", "step", 1)])  # pmap: place, too
def test_a_run_compiles_its_step_once(tmp_path, caplog, executor, name, times):
    with jax.log_compiles(), caplog.at_level("WARNING", logger="jax"):
        train(SplitRegression(), config(executor=executor, save_every=4), tmp_path)
    assert sum(f"Compiling jit({name})" in record.getMessage() for record in caplog.records) == times


def test_a_workdir_of_another_config_is_refused(tmp_path):
    workdir = open_workdir(tmp_path / "run", config())
    (workdir / "checkpoints").mkdir()
    other = config(seed=3, executor="shard_map", optimiser__learning_rate=0.5)
    with pytest.raises(ValueError) as refused:
        open_workdir(workdir, other, free_keys=frozenset({"executor"}))
    message = str(refused.value)
    assert "\n" not in message and str(workdir) in message
    assert "seed is 0 there and 3 here" in message
    assert "optimiser.learning_rate is 0.05 there and 0.5 here" in message and "executor" not in message
    assert open_workdir(workdir, config()) == workdir


@pytest.mark.parametrize("key", ["steps", "log_every", "save_every", "keep"])
def test_a_period_of_nothing_is_refused(tmp_path, key):
    with pytest.raises(BadInput, match=f"^{key}: found 0, expected 1 or more$"):
        train(ToyRegression(), config(**{key: 0}), tmp_path)


@pytest.mark.parametrize("key, value, expected", [
    ("seed", -1, "0 or more"), *(("ema_decay", value, "0 or more and below 1") for value in (1.0, -0.1, float("nan")))])
def test_numbers_that_no_run_has_are_refused(tmp_path, key, value, expected):
    with pytest.raises(BadInput, match=f"^{key}: found {value}, expected {expected}$"):
        train(ToyRegression(), config(**{key: value}), tmp_path)


def test_a_run_that_was_refused_has_not_taken_its_folder(tmp_path):
    """Nothing of it is there but what it claimed the folder with."""
    workdir = open_workdir(tmp_path / "run", config(batch_size=0))
    keep_sources(workdir, {"Ann": "held out"})
    assert open_workdir(workdir, config(batch_size=8)) == workdir
    assert [entry.name for entry in workdir.iterdir()] == ["config.json"]
    assert json.loads((workdir / "config.json").read_text())["batch_size"] == 8
    for sources in ({"Ann": "held out"}, {"Bob": "held out"}):
        keep_sources(workdir, sources)
        assert json.loads((workdir / "sources.json").read_text()) == sources


def test_a_folder_with_other_things_is_refused(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(ValueError, match="exists and is not a workdir"):
        open_workdir(tmp_path, config())
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_folder_with_half_a_config_is_taken(tmp_path):
    (tmp_path / ".config.json.4711.partial").write_text('{"seed": ')
    open_workdir(tmp_path, config())
    assert open_workdir(tmp_path, config()) == tmp_path


def test_a_damaged_config_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"seed": ')
    with pytest.raises(ValueError, match="config.json: not a readable config"):
        open_workdir(tmp_path, config())


def test_transfers_are_allowed_while_a_step_is_compiled_and_not_after(tmp_path, monkeypatch):
    """Arrays that are compiled in come from the device; on an accelerator that is a transfer that a guard sees."""
    traced, steps = [], []

    class Watched(ToyRegression):
        def loss(self, params, state, batch, rng):
            traced.append(jax.config.jax_transfer_guard_device_to_host)
            return super().loss(params, state, batch, rng)

    guard = jax.transfer_guard
    monkeypatch.setattr(jax, "transfer_guard", lambda level: steps.append(level) or guard(level))
    train(Watched(), config(steps=3), tmp_path)
    assert traced and set(traced) <= {"allow", None}
    assert steps == ["allow", "disallow", "disallow"]
