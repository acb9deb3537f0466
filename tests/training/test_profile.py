"""A window of steps is traced, no more and no less, and changes nothing."""

import jax
import pytest
from ml_collections import ConfigDict
from toy_regression import ToyRegression, config

from sfm_jax.errors import BadInput
from sfm_jax.training.loop import train
from sfm_jax.training.profile import PROFILE_FOLDER, Window


def traced(workdir, **changes):
    """The result of six steps of a run, and the numbers of the steps in its trace."""
    settings = ConfigDict(config(steps=6, save_every=6).to_dict() | changes).lock()
    result = train(ToyRegression(), settings, workdir)
    steps = []
    for file in (workdir / PROFILE_FOLDER).rglob("*.xplane.pb"):
        for plane in jax.profiler.ProfileData.from_file(str(file)).planes:
            for line in plane.lines:
                steps += [dict(event.stats)["step_num"] for event in line.events if event.name == "train"]
    return result, sorted(set(steps))


def test_the_steps_of_the_window_are_traced(tmp_path):
    plain, none = traced(tmp_path / "plain")
    result, steps = traced(tmp_path / "traced", profile=(2, 4))
    assert none == [] and steps == [2, 3, 4]
    assert not (tmp_path / "plain" / PROFILE_FOLDER).exists()
    assert result.history == plain.history


@pytest.mark.parametrize("window, expected", [((5, 6), [5, 6]), ((1, 1), [1])])
def test_a_window_at_the_ends_of_a_run(tmp_path, window, expected):
    assert traced(tmp_path, profile=window)[1] == expected


@pytest.mark.parametrize("window", [(3, 2), (0, 4), (-1, -1), (3,), (1, 2, 3), ("a", "b")])
def test_windows_that_are_none(tmp_path, window):
    with pytest.raises(BadInput, match="profile: found .*, expected the numbers of the first and the last step"):
        Window(tmp_path, window, 6)


@pytest.mark.parametrize("window", [(5, 99), (7, 9)])
def test_a_window_beyond_the_run_is_refused(tmp_path, window):
    with pytest.raises(BadInput, match=rf"^profile: found \({window[0]}, {window[1]}\), expected steps of the run, "):
        traced(tmp_path, profile=window)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("window, told, expected", [
    ((1, 2), "profile: steps 1 to 2 were done before and are not traced now", []),
    ((2, 5), "profile: steps 2 to 3 were done before and are not traced now", [4, 5]), ((4, 5), "", [4, 5])])
def test_steps_that_were_done_before_are_told(tmp_path, caplog, window, told, expected):
    def power_cut(k, batch):
        if k == 4:
            raise InterruptedError
        return batch

    with pytest.raises(InterruptedError):
        train(ToyRegression(power_cut), config(steps=6, save_every=3), tmp_path)
    with caplog.at_level("WARNING", logger="sfm_jax"):
        assert traced(tmp_path, profile=window)[1] == expected
    assert [one.getMessage() for one in caplog.records if one.name.startswith("sfm_jax")] == ([told] if told else [])
