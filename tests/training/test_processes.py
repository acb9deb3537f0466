"""Two processes of two devices each are one run: they stop together, end together, and a single one can go on."""

import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from started import ROOT, environment
from toy_regression import Batches, SplitRegression, WholeRegression, config

from sfm_jax.training import distributed
from sfm_jax.training.logbook import read_metrics
from sfm_jax.training.loop import train

STEPS = 40


def start_two(workdir, edit, *settings):
    """Both processes of a run; only the first tells its steps. "PROCESS" in the workdir: one for each."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = environment(2) | {"JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}", "JAX_NUM_PROCESSES": "2"}

    def start(index):
        command = [sys.executable, "tests/toy_regression.py", str(workdir).replace("PROCESS", index), edit, *settings]
        return subprocess.Popen(command, cwd=ROOT, text=True, env=shared | {"JAX_PROCESS_ID": index},
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    return [start("0"), start("1")]


def wait_for_step(first, step):
    told = []
    for line in first.stdout:
        if line.startswith(f"step {step}/"):
            return
        told.append(line)
    raise AssertionError("the run ended before: " + "".join(told))


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """One device, and no splitting."""
    return train(WholeRegression(), config(steps=STEPS), tmp_path_factory.mktemp("alone"))


@pytest.mark.slow
@pytest.mark.parametrize("executor, told", [("pmap", 0), ("shard_map", 1)])
def test_two_processes_stop_together_and_one_goes_on(tmp_path, alone, executor, told):
    processes = start_two(tmp_path, "slow", f"steps={STEPS}", f"executor={executor}")
    wait_for_step(processes[0], 4)
    processes[told].send_signal(signal.SIGTERM)
    outputs = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert "step 5/" not in outputs[1]

    steps = [line["step"] for line in read_metrics(tmp_path / "metrics.jsonl")]
    assert steps == list(range(1, len(steps) + 1)) and 4 <= len(steps) < STEPS
    assert (tmp_path / "checkpoints" / str(len(steps))).is_dir()
    resumed = train(SplitRegression(), config(steps=STEPS), tmp_path)
    for name in ("loss", "gradient_norm"):
        np.testing.assert_allclose(*([line[name] for line in run.history] for run in (resumed, alone)), rtol=1e-5)
    for name, value in alone.params.items():
        np.testing.assert_allclose(resumed.params[name], value, atol=1e-5)
    assert resumed.state["examples"] == alone.state["examples"]


@pytest.mark.slow
@pytest.mark.parametrize("way", [signal.SIGKILL, signal.SIGSTOP])
def test_a_lost_process_ends_the_others(tmp_path, way):
    """Killed, its connections break; stopped, they stay open and every collective waits."""
    first, second = start_two(tmp_path, "slow", "steps=2000")
    wait_for_step(first, 4)
    second.send_signal(way)
    lost = time.monotonic()
    output = first.communicate(timeout=60)[0]
    second.kill()
    second.communicate()
    assert first.returncode == distributed.LOST and time.monotonic() - lost < 30
    (line,) = [line for line in output.splitlines() if line.startswith("sfm_jax: error: ")]
    assert "lost " in line and line.endswith("run all processes again to go on from the last checkpoint")


@pytest.mark.slow
def test_processes_with_a_folder_each_refuse_at_once(tmp_path):
    """As on machines whose workdir is a disk of their own: all say so, and none has trained."""
    outputs = [process.communicate(timeout=60)[0] for process in start_two(tmp_path / "PROCESS", "slow")]
    for output in outputs:
        assert re.search(r"BadInput: .*: process 1 does not see what process 0 writes there", output), output
        assert "step 1/" not in output
    assert [file.name for file in (tmp_path / "0").iterdir()] == ["config.json"]


@pytest.mark.slow
def test_a_process_that_never_comes_is_missed(tmp_path):
    """It is stuck before its first word; the other waits for it in what both have to say."""
    first, second = start_two(tmp_path, "absent", "steps=2000")
    began = time.monotonic()
    output = first.communicate(timeout=60)[0]
    second.kill()
    second.communicate()
    assert first.returncode == distributed.LOST and time.monotonic() - began < 50
    assert "sfm_jax: error: lost process 1, which has been silent for" in output or "lost another process" in output


@pytest.mark.slow
def test_an_error_in_one_process_ends_the_others(tmp_path):
    first, second = start_two(tmp_path, "failing", "steps=2000")
    outputs = [process.communicate(timeout=60)[0] for process in (first, second)]
    assert [first.returncode, second.returncode] == [distributed.LOST, 1], outputs
    assert "lost process 1, which failed; run all" in outputs[0]
    assert "process 1 failed: OSError('a photo cannot be read'); run all" in outputs[1]


@pytest.mark.slow
def test_a_loss_that_is_not_finite_ends_both_alike(tmp_path):
    """Each lists its own rows of the batch; what was saved is older."""
    outputs = [process.communicate(timeout=60)[0] for process in start_two(tmp_path, "poisoned", "log_every=50")]
    listed = []
    for index, output in enumerate(outputs):
        file = tmp_path / f"nonfinite-{index}.json"
        assert "FloatingPointError: step 7: not finite: gradient_norm, loss; nothing" in output and str(file) in output
        listed += json.loads(file.read_text())["ids"]["id"]
    assert listed == Batches(16, 0, lambda k, batch: batch)[6]["id"].tolist()
    assert sorted(entry.name for entry in (tmp_path / "checkpoints").iterdir()) == ["3", "6"]


def test_a_first_process_that_dies_while_it_starts_ends_the_others(monkeypatch, capsys):
    """It answers for a moment, and then no more; JAX would try for minutes."""
    ended, first = threading.Event(), socket.create_server(("127.0.0.1", 0))
    monkeypatch.setattr(distributed, "BEAT", 0.05)
    monkeypatch.setattr(distributed, "SILENCE", 0.3)
    monkeypatch.setattr(distributed.os, "_exit", lambda code: (codes.append(code), ended.set()))
    monkeypatch.setattr(distributed.jax.distributed, "initialize", lambda *arguments, **limits: ended.wait(20))
    codes, address = [], f"127.0.0.1:{first.getsockname()[1]}"
    threading.Timer(0.5, first.close).start()
    began = time.monotonic()
    distributed.initialise(address, 2, 1)
    assert codes[0] == distributed.LOST and 0.5 < time.monotonic() - began < 10
    assert f"sfm_jax: error: process 0 does not answer at {address} (" in capsys.readouterr().err


def test_the_first_process_does_not_wait_for_ever(monkeypatch, capsys):
    ended, codes = threading.Event(), []
    monkeypatch.setattr(distributed, "BEAT", 0.05)
    monkeypatch.setattr(distributed, "STARTING", 0.3)
    monkeypatch.setattr(distributed.os, "_exit", lambda code: (codes.append(code), ended.set()))
    monkeypatch.setattr(distributed.jax.distributed, "initialize", lambda *arguments, **limits: ended.wait(20))
    distributed.initialise("127.0.0.1:9", 2, 0)
    assert codes[0] == distributed.LOST
    assert "sfm_jax: error: not all other processes have come to 127.0.0.1:9; run all" in capsys.readouterr().err


def test_sigterm_ends_a_process_that_has_left(monkeypatch):
    """JAX goes on to catch it: the report would not be stopped."""
    monkeypatch.setattr(distributed.jax.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed.jax.distributed, "shutdown", lambda: None)
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        distributed.leave()
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)


ADDRESS = {"JAX_COORDINATOR_ADDRESS": "127.0.0.1:1"}
TWO = ADDRESS | {"JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "1"}


@pytest.fixture
def joined(monkeypatch):
    """The addresses and numbers of every call of jax.distributed.initialize, in an environment of one process."""
    calls = []
    monkeypatch.setattr(distributed.jax.distributed, "initialize", lambda *arguments, **limits: calls.append(arguments))
    for name in [*distributed._SEVERAL, *TWO]:
        monkeypatch.delenv(name, raising=False)
    return calls


@pytest.mark.parametrize("environment, expected", [
    ({}, []),
    ({"SLURM_JOB_NUM_NODES": "2", "SLURM_NTASKS": "2"}, []),  # a batch script, outside srun
    ({"SLURM_STEP_NUM_TASKS": "1"}, []),
    ({"SLURM_STEP_NUM_TASKS": "2"}, [()]),
    ({"OMPI_COMM_WORLD_SIZE": "1"}, []),
    ({"OMPI_COMM_WORLD_SIZE": "2"}, [()]),
    ({"TPU_WORKER_HOSTNAMES": "localhost"}, []),
    ({"TPU_WORKER_HOSTNAMES": "a,b"}, [()]),
    ({"MEGASCALE_COORDINATOR_ADDRESS": "a"}, [()]),
    (TWO, [("127.0.0.1:1", 2, 1)])])
def test_other_processes_are_joined_where_there_are_some(monkeypatch, joined, environment, expected):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    distributed.initialise()
    assert joined == expected


def test_the_command_line_goes_before_the_environment(monkeypatch, joined):
    for name, value in TWO.items():
        monkeypatch.setenv(name, value)
    distributed.initialise("host:5", 4, 0)
    distributed.initialise("auto")
    assert joined == [("host:5", 4, 0), ()]


@pytest.mark.parametrize("arguments, message", [
    (("host:5",), "coordinator host:5: the number of processes and this one's index must be given too"),
    (("host:5", 2), "coordinator host:5: the number of processes and this one's index must be given too"),
    (("host:5", 2, 2), "process_id: found 2, expected 0 to 1 of 2 processes"),
    ((None, 2, 1), "num_processes and process_id need a coordinator")])
def test_half_an_address_is_refused(joined, arguments, message):
    with pytest.raises(ValueError, match=message):
        distributed.initialise(*arguments)
    assert joined == []


def test_numbers_that_are_none_are_refused(monkeypatch, joined):
    for name, value in (TWO | {"JAX_NUM_PROCESSES": "two"}).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match="must be given too"):
        distributed.initialise()
    assert joined == []
