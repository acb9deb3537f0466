"""Checkpoints come back bit by bit; damaged ones are passed over, and never lost for nothing."""

import errno
import logging
import os
import shutil

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from toy_regression import SplitRegression, config

from sfm_jax.training.checkpoint import CheckpointError, Checkpoints, check_sums
from sfm_jax.training.failures import passing
from sfm_jax.training.loop import prepare, train
from sfm_jax.training.parallel import TrainState

# Where one array cannot be read, orbax abandons the reads of the others, and Python complains of that.
of_other_threads = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def train_state(step, columns=5, averaged=True):
    """A state with a different number in every leaf."""
    rng = np.random.default_rng(step)
    params = {"weights": jnp.asarray(rng.normal(size=columns), jnp.float32), "bias": jnp.float32(rng.normal())}
    state = {"examples": jnp.int32(16 * step), "half": jnp.asarray(rng.normal(size=3), jnp.bfloat16)}
    fresh = TrainState.create(params, state, optax.adam(1e-3), averaged)
    moments = jax.tree.map(lambda leaf: leaf + jnp.asarray(step, leaf.dtype), fresh.opt_state)
    return fresh.replace(step=jnp.int32(step), opt_state=moments)


def save(workdir, steps, keep=10):
    with Checkpoints(workdir, keep) as checkpoints:
        for step in steps:
            checkpoints.save(step, train_state(step))


def restore(workdir, like):
    with Checkpoints(workdir, keep=10) as checkpoints:
        return checkpoints.restore(like)


def saved_steps(workdir):
    return sorted(int(entry.name) for entry in (workdir / "checkpoints").iterdir())


def test_a_connection_that_breaks_while_one_is_read_is_no_damage(tmp_path, monkeypatch):
    """It is of the agreement that all processes have read it: another one is lost, and the checkpoint is whole."""
    save(tmp_path, [3, 6])
    with Checkpoints(tmp_path, keep=10) as checkpoints:
        def broken(*_, **__):
            raise jax.errors.JaxRuntimeError("UNKNOWN: Gloo AllGather failed: Connection closed by peer")

        monkeypatch.setattr(checkpoints._manager, "restore", broken)
        with pytest.raises(jax.errors.JaxRuntimeError, match="Connection closed"):
            checkpoints.restore(train_state(0))
    assert saved_steps(tmp_path) == [3, 6]


def test_orbax_does_not_ask_whether_to_stop_at_steps_that_are_past(tmp_path, monkeypatch):
    """From a thread of one process: JAX would take the step for that which the process is at."""
    asked = []
    monkeypatch.setattr(ocp.checkpoint_manager.utils, "reached_preemption", lambda step: asked.append(step))
    save(tmp_path, [3, 6])
    assert asked == [] and saved_steps(tmp_path) == [3, 6]


def test_read_needs_no_run(tmp_path):
    """Whatever is in it comes back as nested dicts; the damaged newest one is passed over and left alone."""
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        assert checkpoints.read() is None
    save(tmp_path, [3, 6])
    for file in (tmp_path / "checkpoints" / "6").rglob("*"):
        if file.is_file():
            file.write_bytes(b"")
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        found = checkpoints.read()
    expected = train_state(3)
    np.testing.assert_array_equal(found["params"]["weights"], expected.params["weights"])
    np.testing.assert_array_equal(found["ema"]["bias"], expected.ema["bias"])
    assert found["step"] == 3 and found["state"]["half"].dtype == jnp.bfloat16
    assert saved_steps(tmp_path) == [3, 6]
    for file in (tmp_path / "checkpoints" / "3").rglob("*"):
        if file.is_file():
            file.write_bytes(b"")
    with Checkpoints(tmp_path, keep=2) as checkpoints, pytest.raises(CheckpointError, match="can be read"):
        checkpoints.read()


def test_reading_leaves_what_a_training_is_writing(tmp_path):
    save(tmp_path, [3])
    partial = tmp_path / "checkpoints" / "6.orbax-checkpoint-tmp"
    partial.mkdir()
    with Checkpoints(tmp_path, keep=2, read_only=True) as checkpoints:
        assert checkpoints.read()["step"] == 3
    assert partial.is_dir()
    save(tmp_path, [9])  # a training that goes on takes it away
    assert saved_steps(tmp_path) == [3, 9]


@pytest.mark.parametrize("averaged", [True, False])
def test_round_trip(tmp_path, averaged):
    assert restore(tmp_path, train_state(0, averaged=averaged)) is None
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        checkpoints.save(5, train_state(5, averaged=averaged))
        checkpoints.save(5, train_state(5, averaged=averaged))  # nothing happens
    restored = restore(tmp_path, train_state(0, averaged=averaged))
    chex.assert_trees_all_equal_shapes_and_dtypes(restored, train_state(5, averaged=averaged))
    chex.assert_trees_all_equal(restored, train_state(5, averaged=averaged))


def test_keep(tmp_path):
    save(tmp_path, [1, 2, 3, 4, 5], keep=2)
    assert saved_steps(tmp_path) == [4, 5]


def cut(folder):
    for file in folder.rglob("*"):
        if file.is_file():
            file.write_bytes(file.read_bytes()[:20])


def scramble(folder):
    for file in folder.rglob("d/*"):
        file.write_bytes(np.random.default_rng(0).bytes(file.stat().st_size))


def lose_arrays(folder):
    shutil.rmtree(folder / "default")


@of_other_threads
@pytest.mark.parametrize("damage", [cut, scramble, lose_arrays])
def test_a_damaged_checkpoint_is_named_and_passed_over(tmp_path, caplog, damage):
    save(tmp_path, [1, 2, 3])
    damage(tmp_path / "checkpoints" / "3")
    with caplog.at_level(logging.WARNING, logger="sfm_jax"):
        restored = restore(tmp_path, train_state(0))
    chex.assert_trees_all_equal(restored, train_state(2))
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("sfm_jax")]
    assert len(ours) == 1 and ours[0].startswith("checkpoint 3 cannot be read, going on from 2: ")
    assert saved_steps(tmp_path) == [1, 2]
    save(tmp_path, [3])  # its step comes again
    chex.assert_trees_all_equal(restore(tmp_path, train_state(0)), train_state(3))


@of_other_threads
@pytest.mark.parametrize("seed", range(8))
def test_one_changed_bit_is_found(tmp_path, seed):
    """In the values themselves nothing else would notice: tensorstore reads them all the same."""
    save(tmp_path, [1, 2])
    rng = np.random.default_rng(seed)
    files = [file for file in sorted((tmp_path / "checkpoints" / "2" / "default").rglob("*")) if file.is_file()
             and file.stat().st_size]
    file = files[rng.integers(len(files))]
    content = bytearray(file.read_bytes())
    content[rng.integers(len(content))] ^= 1 << rng.integers(8)
    file.write_bytes(content)
    with pytest.raises(ValueError, match=f"{file.name} is not as it was written"):
        check_sums(tmp_path / "checkpoints" / "2")
    chex.assert_trees_all_equal(restore(tmp_path, train_state(0)), train_state(1))


def stale(*_, **__):
    raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), "a file on a network disk")


def stale_in_words(*_, **__):
    """As tensorstore says it."""
    try:
        stale()
    except OSError as error:
        raise ValueError(f"UNKNOWN: Error reading \"x\": [OS error: {error.strerror}]") from None


def no_memory(*_, **__):
    raise MemoryError


@pytest.mark.parametrize("failing, what, reason", [
    (stale, "sfm_jax.training.checkpoint._checksum", "stale file handle"),
    (no_memory, "sfm_jax.training.checkpoint._checksum", "too little memory"),
    (stale, "orbax.checkpoint.CheckpointManager.restore", "stale file handle"),
    (stale_in_words, "orbax.checkpoint.CheckpointManager.restore", "stale file handle")])
@pytest.mark.parametrize("way", ["restore", "read"])
def test_what_cannot_be_read_now_is_not_removed(tmp_path, monkeypatch, failing, what, reason, way):
    """Nor passed over: the steps after the one before would be learned anew."""
    save(tmp_path, [1, 2])
    arguments = [train_state(0)] if way == "restore" else []
    with Checkpoints(tmp_path, keep=10) as checkpoints:
        with monkeypatch.context() as patched, pytest.raises(CheckpointError) as refused:
            patched.setattr(what, failing)
            getattr(checkpoints, way)(*arguments)
        said = f"{tmp_path}/checkpoints/2: cannot be read now ({reason}); nothing was removed: run again, "
        assert str(refused.value).startswith(said)
        assert saved_steps(tmp_path) == [1, 2]
        found = getattr(checkpoints, way)(*arguments)
    assert (found.step if way == "restore" else found["step"]) == 2


def test_a_missing_file_is_not_one_that_cannot_be_read_now():
    assert passing(jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")) == "too little memory"
    for error in (FileNotFoundError(errno.ENOENT, "No such file or directory"), ValueError("a checksum differs"),
                  NotADirectoryError(errno.ENOTDIR, "Not a directory"), OSError("no number")):
        assert passing(error) is None


def test_a_checkpoint_without_checksums_is_read(tmp_path):
    """Those of versions that wrote none."""
    save(tmp_path, [1])
    (tmp_path / "checkpoints" / "1" / "checksums.json").unlink()
    chex.assert_trees_all_equal(restore(tmp_path, train_state(0)), train_state(1))


def test_checkpoints_of_another_model_are_left_alone(tmp_path):
    save(tmp_path, [1, 2])
    with pytest.raises(ValueError, match=r"\(2: .*weights.*: found shape \(5,\), expected \(6,\)\); remove") as refused:
        restore(tmp_path, train_state(0, columns=6))
    assert "\n" not in str(refused.value)
    assert saved_steps(tmp_path) == [1, 2]
    chex.assert_trees_all_equal(restore(tmp_path, train_state(0)), train_state(2))


@pytest.mark.parametrize("executor", ["pmap", "shard_map"])
def test_a_saved_state_is_not_overwritten_by_the_next_step(tmp_path, executor):
    """The step donates its arguments, and saving goes on beside it."""
    task, settings = SplitRegression(), config(executor=executor, steps=6, save_every=1, keep=100)
    train(task, settings, tmp_path)
    batches, fresh, by_hand = prepare(task, config(steps=6))
    current, expected = by_hand.place(fresh), []
    for k in range(settings.steps):
        current, _ = by_hand.step(current, by_hand.shard(batches[k]))
        expected.append(by_hand.saved(current))
    for step in range(settings.steps, 0, -1):
        chex.assert_trees_all_close(restore(tmp_path, fresh), expected[step - 1], rtol=1e-6, atol=1e-8)
        shutil.rmtree(tmp_path / "checkpoints" / str(step))
