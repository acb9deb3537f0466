"""metrics.jsonl: what a kill leaves behind, and what a resumed run makes of it."""

import json

import pytest
from tensorboardX.proto.event_pb2 import Event

from sfm_jax.training.logbook import Logbook, read_metrics


def write(workdir, start, steps, scale=1.0):
    with Logbook(workdir, start, 10) as logbook:
        for step in steps:
            logbook.write(step, {"loss": scale / step, "error": 2.0 * step})
    return logbook.history


def lines(workdir):
    """Read by nothing of ours."""
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def test_what_is_written_can_be_read(tmp_path):
    expected = [{"step": step, "loss": 1 / step, "error": 2.0 * step} for step in (1, 2, 3)]
    assert write(tmp_path, 0, [1, 2, 3]) == expected == lines(tmp_path) == read_metrics(tmp_path / "metrics.jsonl")


def test_lines_after_the_resumed_step_are_dropped(tmp_path):
    write(tmp_path, 0, [1, 2, 3, 4, 5])
    history = write(tmp_path, 3, [4, 5, 6], scale=7.0)
    assert [line["step"] for line in history] == [1, 2, 3, 4, 5, 6]
    assert [line["loss"] for line in history] == [1, 1 / 2, 1 / 3, 7 / 4, 7 / 5, 7 / 6]
    assert lines(tmp_path) == history


def test_the_file_is_cut_before_the_first_new_line(tmp_path):
    write(tmp_path, 0, [1, 2, 3])
    with Logbook(tmp_path, 1, 10):
        assert [line["step"] for line in lines(tmp_path)] == [1]


@pytest.mark.parametrize("left", range(1, 40, 6))
def test_a_half_written_last_line_is_dropped(tmp_path, left):
    write(tmp_path, 0, [1, 2, 3])
    file = tmp_path / "metrics.jsonl"
    whole = file.read_text()
    last = whole.splitlines(keepends=True)[-1]
    file.write_text(whole[: len(whole) - len(last) + left])
    assert [line["step"] for line in read_metrics(file)] == [1, 2]
    history = write(tmp_path, 2, [3, 4])
    assert [line["step"] for line in history] == [1, 2, 3, 4] and lines(tmp_path) == history


def test_a_lost_line_end_does_not_join_two_lines(tmp_path):
    write(tmp_path, 0, [1, 2])
    file = tmp_path / "metrics.jsonl"
    file.write_text(file.read_text().rstrip("\n"))
    assert [line["step"] for line in write(tmp_path, 2, [3])] == [1, 2, 3]
    assert [line["step"] for line in lines(tmp_path)] == [1, 2, 3]


@pytest.mark.parametrize("damage", [b"3", b"[]", b"{}", b'{"step": "x"}', b"\xff\xfe", b"[" * 100_000])
def test_what_follows_a_damaged_line_is_dropped(tmp_path, damage):
    write(tmp_path, 0, [1])
    file = tmp_path / "metrics.jsonl"
    file.write_bytes(file.read_bytes() + damage + b'\n{"step": 3}\n')
    assert [line["step"] for line in read_metrics(file)] == [1]


def test_no_file_is_no_history(tmp_path):
    assert read_metrics(tmp_path / "metrics.jsonl") == []


def test_tensorboard_gets_the_same_numbers(tmp_path):
    write(tmp_path, 0, [1, 2])
    (file,) = (tmp_path / "tensorboard").iterdir()
    data, events = file.read_bytes(), []
    while data:  # TFRecord: uint64 length, crc32, payload, crc32
        length = int.from_bytes(data[:8], "little")
        events.append(Event.FromString(data[12:12 + length]))
        data = data[16 + length:]
    found = {(value.tag, event.step): value.simple_value for event in events for value in event.summary.value}
    assert found == {("loss", 1): 1.0, ("error", 1): 2.0, ("loss", 2): 0.5, ("error", 2): 4.0}


def test_progress_is_told_where_there_is_no_terminal(tmp_path, capsys):
    write(tmp_path, 0, [1, 10])
    told = capsys.readouterr().out.splitlines()
    assert len(told) == 2 and told[0].startswith("step 1/10  loss 1.0000  ") and told[1].endswith(" 0 s left")
