"""Two processes of two devices each are one run: if one is told to stop both do, and a single one can go on."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from toy_regression import ToyRegression, config

from sfm_jax.training import distributed
from sfm_jax.training.logbook import read_metrics
from sfm_jax.training.loop import train

ROOT = Path(__file__).parents[2]
STEPS = 60


def start(index, port, workdir):
    environment = os.environ | {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT),
        "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}", "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": str(index)}
    return subprocess.Popen([sys.executable, "tests/toy_regression.py", str(workdir), str(STEPS)], cwd=ROOT, text=True,
                            env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


@pytest.mark.slow
def test_two_processes_stop_together_and_one_goes_on(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    first, second = (start(index, port, tmp_path / "run") for index in range(2))
    for line in first.stdout:  # only process 0 tells
        if line.startswith("step 4/"):
            second.send_signal(signal.SIGTERM)
            break
    told = [process.communicate(timeout=60)[0] for process in (first, second)]
    assert [first.returncode, second.returncode] == [0, 0], told
    assert "step " not in told[1].replace("sync point, step", "")

    steps = [line["step"] for line in read_metrics(tmp_path / "run" / "metrics.jsonl")]
    assert steps == list(range(1, len(steps) + 1)) and 4 <= len(steps) < STEPS
    assert (tmp_path / "run" / "checkpoints" / str(len(steps))).is_dir()
    resumed = train(ToyRegression(), config(steps=STEPS), tmp_path / "run")
    alone = train(ToyRegression(), config(steps=STEPS), tmp_path / "alone")
    for name in ("loss", "gradient_norm"):
        np.testing.assert_allclose(*([line[name] for line in run.history] for run in (resumed, alone)), rtol=1e-5)
    np.testing.assert_allclose(resumed.params["weights"], alone.params["weights"], rtol=1e-5)
    assert resumed.state["examples"] == alone.state["examples"]


ADDRESS = {"JAX_COORDINATOR_ADDRESS": "127.0.0.1:1"}


@pytest.fixture
def joined(monkeypatch):
    """The arguments of every call of jax.distributed.initialize, in an environment of one process."""
    calls = []
    monkeypatch.setattr(distributed.jax.distributed, "initialize", lambda *arguments: calls.append(arguments))
    for name in ("SLURM_JOB_NUM_NODES", "JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID",
                 "MEGASCALE_COORDINATOR_ADDRESS", "TPU_WORKER_HOSTNAMES"):
        monkeypatch.delenv(name, raising=False)
    return calls


@pytest.mark.parametrize("environment, expected", [
    ({}, []),
    ({"SLURM_JOB_NUM_NODES": "1"}, []),
    ({"TPU_WORKER_HOSTNAMES": "localhost"}, []),
    ({"SLURM_JOB_NUM_NODES": "2"}, [()]),
    ({"TPU_WORKER_HOSTNAMES": "a,b"}, [()]),
    (ADDRESS | {"JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "1"}, [("127.0.0.1:1", 2, 1)])])
def test_other_processes_are_joined_where_there_are_some(monkeypatch, joined, environment, expected):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    distributed.initialise()
    assert joined == expected


def test_an_address_without_numbers_is_refused(monkeypatch, joined):
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", ADDRESS["JAX_COORDINATOR_ADDRESS"])
    monkeypatch.setenv("JAX_NUM_PROCESSES", "two")
    with pytest.raises(ValueError, match="JAX_NUM_PROCESSES and JAX_PROCESS_ID must be numbers too"):
        distributed.initialise()
    assert joined == []
