"""The time of a run, with a clock that tells what it is told."""

import json

import pytest

from sfm_jax.training import clock
from sfm_jax.training.clock import Clock


@pytest.fixture
def at(monkeypatch):
    """Sets the time."""
    now = {"is": 0.0}
    monkeypatch.setattr(clock.time, "perf_counter", lambda: now["is"])
    return lambda seconds: now.update({"is": seconds})


def part(at, workdir, start, begin, train, first, end, step):
    """A part of a run that saves at its end; what it tells there."""
    at(train)
    running = Clock(workdir, start, begin)
    if step > start:
        at(first)
        running.first_step_is_done()
    at(end)
    if step > start:
        running.save(step)
    return running.times(step)


def test_a_run_of_one_part(at, tmp_path):
    assert part(at, tmp_path, 0, 10.0, 13.0, 15.0, 25.0, 21) == {
        "begin": 10.0, "train_seconds": 12.0, "compile_seconds": 2.0, "steps_per_second": 2.0}


def test_parts_add_up_and_a_finished_run_that_is_repeated_has_learned_no_longer(at, tmp_path):
    """Another process's clock begins anywhere."""
    part(at, tmp_path, 0, 10.0, 13.0, 15.0, 25.0, 21)  # 15 s, of which 12 s and 2 s
    assert part(at, tmp_path, 21, 1000.0, 1001.0, 1004.0, 1024.0, 32) == {
        "begin": 985.0, "train_seconds": 35.0, "compile_seconds": 5.0, "steps_per_second": 1.0}
    for _ in range(2):
        assert part(at, tmp_path, 32, 5.0, 6.0, 6.0, 7.0, 32) == {
            "begin": 5.0 - 39.0, "train_seconds": 35.0, "compile_seconds": 5.0, "steps_per_second": 1.0}


def test_a_run_that_begins_again_counts_nothing_of_before(at, tmp_path):
    part(at, tmp_path, 0, 10.0, 13.0, 15.0, 25.0, 21)
    assert part(at, tmp_path, 0, 0.0, 0.0, 1.0, 2.0, 3)["train_seconds"] == 2.0


@pytest.mark.parametrize("text", [None, "[", "[" * 100_000, "[]", "{}", json.dumps({"seconds": None})])
def test_what_is_not_known_of_before_is_nothing(at, tmp_path, text):
    if text is not None:
        (tmp_path / "seconds.json").write_text(text)
    assert part(at, tmp_path, 5, 10.0, 13.0, 15.0, 25.0, 26) == {
        "begin": 10.0, "train_seconds": 12.0, "compile_seconds": 2.0, "steps_per_second": 2.0}
