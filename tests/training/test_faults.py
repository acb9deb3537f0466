"""Faults of experiments/faults.py: nothing that was saved is lost, nothing is learned twice, and a user is told."""

import contextlib
import json
import random

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy_regression import ToyRegression, config

from experiments import counted_run, faults
from sfm_jax.errors import BadInput
from sfm_jax.training.checkpoint import Checkpoints
from sfm_jax.training.failures import enough_memory, writing
from sfm_jax.training.logbook import Logbook
from sfm_jax.training.loop import train
from sfm_jax.training.workdir import changed_sources, keep_sources, open_workdir, write_text

STEPS = 60
FULL = "/dev/full"  # every write to it fails as on a full disk


@pytest.mark.slow
def test_a_run_killed_twice_equals_an_undisturbed_one(tmp_path):
    (tmp_path / "undisturbed").mkdir()
    alone = train(counted_run.Counted(tmp_path), counted_run.get_config(STEPS).lock(), tmp_path / "undisturbed")
    outcome = faults.killed(tmp_path / "killed", [0, 1], 2, 2, {"params": alone.params}, random.Random(1), STEPS)
    assert faults.passed(outcome, tolerance=1e-5), outcome  # four devices, and one
    assert outcome["epochs"] == 15 and len(outcome["disturbances"]) == 2  # 60 batches of 16 out of 64


@pytest.mark.parametrize("reason", ["No space left on device", "Read-only file system"])
def test_a_refusing_disk_is_one_line_whoever_says_so(tmp_path, reason):
    """Tensorstore puts the system's reason into the text of a ValueError."""
    for error in (OSError(28, reason), ValueError(f"RESOURCE_EXHAUSTED: Error writing \"x\"\nOS error: {reason}")):
        with pytest.raises(BadInput, match=rf"{tmp_path}: cannot be written \({reason.lower()}\); .*last checkpoint$"):
            with writing(tmp_path):
                raise error
    with pytest.raises(ValueError, match="^another$"), writing(tmp_path):
        raise ValueError("another")


def closed(full):
    """A file on a full disk: closing it tries to write what is left."""
    with contextlib.suppress(OSError):
        full.close()


def test_a_full_disk_stops_the_logbook_and_hangs_nothing(tmp_path):
    """More lines than any queue of events has places for."""
    with Logbook(tmp_path, 0, 100) as logbook:
        (tmp_path / "metrics.jsonl").unlink()
        logbook._stream.close()
        logbook._stream = open(FULL, "w")
        with pytest.raises(BadInput, match="metrics.jsonl: cannot be written .no space left on device"):
            logbook.write(1, {"loss": 1.0})
        closed(logbook._stream)
        logbook._stream = open(tmp_path / "metrics.jsonl", "w")
        records = logbook._board._writer._py_recordio_writer
        records._writer.close()
        records._writer = open(FULL, "wb")
        for step in range(2, 40):
            with pytest.raises(BadInput, match="no space left on device"):
                logbook.write(step, {"loss": 1.0})
        closed(records._writer)
        records._writer = open(tmp_path / "events", "wb")


def test_a_full_disk_ends_a_run_and_what_was_saved_stays(tmp_path, monkeypatch):
    task, settings = ToyRegression(), config(steps=12, save_every=3)
    for name in ("alone", "run"):
        (tmp_path / name).mkdir()
    alone, save = train(task, settings, tmp_path / "alone"), Checkpoints._write_checksums

    def full(self):
        if (tmp_path / "run" / "checkpoints" / "3").exists():
            raise OSError(28, "No space left on device")
        save(self)

    monkeypatch.setattr(Checkpoints, "_write_checksums", full)
    with pytest.raises(BadInput, match="run/checkpoints: cannot be written .no space left on device"):
        train(task, settings, tmp_path / "run")
    monkeypatch.undo()
    again = train(task, settings, tmp_path / "run")
    for name, value in alone.params.items():
        np.testing.assert_array_equal(again.params[name], value)


def test_a_workdir_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"run: cannot be used \(not a directory\); choose another --workdir"):
        open_workdir(tmp_path / "file" / "run", config())


@pytest.mark.parametrize("content", ["[" * 100_000, "[]", "3", "\x00"])
def test_a_config_that_is_none_is_refused(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ValueError, match=f"config.json: not a readable config; remove {tmp_path} or choose another"):
        open_workdir(tmp_path, config())


def test_a_run_goes_on_with_the_data_it_began_with(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    began = {"Ann": "learned from", "Bob": "held out", "basis": "12ab"}
    for _ in range(2):
        keep_sources(tmp_path, began)
    assert json.loads((tmp_path / "sources.json").read_text()) == began
    assert changed_sources(tmp_path, {"basis": "12ab", "model": "of before this was written down"}) == ""
    assert changed_sources(tmp_path, {"basis": "34cd"}) == "basis was 12ab and is 34cd"
    with pytest.raises(ValueError, match="began with other data: Bob was held out and is learned from; "
                                         "Cy was absent and is held out; basis was 12ab and is absent; choose"):
        keep_sources(tmp_path, {"Ann": "learned from", "Bob": "learned from", "Cy": "held out"})
    with pytest.raises(ValueError, match=r"Dora4 was absent and is held out and 4 more; choose"):
        keep_sources(tmp_path, began | {f"Dora{number}": "held out" for number in range(9)})
    for text in ("[", "[" * 100_000, "[]", "\x00"):
        (tmp_path / "sources.json").write_text(text)
        with pytest.raises(ValueError, match="sources.json: not readable; remove"):
            keep_sources(tmp_path, began)


def test_a_partial_file_does_not_stay_behind(tmp_path):
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError):
        write_text(tmp_path / "taken", "text")  # a folder is in its place
    assert [entry.name for entry in tmp_path.iterdir()] == ["taken"]


class Greedy(ToyRegression):
    """Its step needs more memory than any machine has."""

    def loss(self, params, state, batch, rng):
        loss, aux = super().loss(params, state, batch, rng)
        far = jnp.sin(jnp.arange(1 << 24, dtype=loss.dtype) * loss)
        return loss + ((far[:, None] + far[None]) @ far)[0], aux


def test_too_little_memory_names_the_batch_size(tmp_path):
    with pytest.raises(BadInput, match=r"^batch_size: 16 needs more memory than there is \(.*\); what was saved"):
        train(Greedy(), config(), tmp_path)
    with pytest.raises(BadInput, match="batch_size: 5 needs more"), enough_memory(5):
        np.zeros(1 << 60, np.uint8)
    with pytest.raises(BadInput, match=r"batch_size: 5 needs more memory than there is \(MemoryError\)"):
        with enough_memory(5):
            raise MemoryError
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"), enough_memory(5):
        raise jax.errors.JaxRuntimeError("INTERNAL: another")
