"""The command, around a small task: what it refuses before it begins, and a report that fails after the training."""

import subprocess
import sys
from pathlib import Path

from ml_collections import ConfigDict
from started import environment
from toy_regression import ToyRegression, config


class Reported(ToyRegression):
    """Its report shows a file."""

    def __init__(self, settings):
        super().__init__()
        object.__setattr__(self, "settings", settings)

    def finish(self, params, state, workdir, result):
        shown = Path(self.settings.data.shown).read_text()
        if shown == "nothing":
            raise ValueError("data.shown: nothing\nto be seen")
        return {"shown": shown * self.settings.examples}


def get_config():
    return ConfigDict(config(steps=4).to_dict() | {"data": {"shown": "", "shown_photos": 8}, "examples": 1})


def command(workdir, *flags):
    return subprocess.run([sys.executable, __file__, f"--config={__file__}", f"--workdir={workdir}", *flags],
                          env=environment(1), text=True, capture_output=True, timeout=120)


def test_a_report_that_fails_is_one_line_and_made_by_the_next_start(tmp_path):
    """The keys of the report alone may be others then."""
    (tmp_path / "empty").write_text("nothing")
    (tmp_path / "face").write_text("face ")
    missing = command(tmp_path / "run", f"--config.data.shown={tmp_path / 'missing'}")
    assert "step 4/4" in missing.stdout
    empty = command(tmp_path / "run", f"--config.data.shown={tmp_path / 'empty'}")
    for done, why in ((missing, f"[Errno 2] No such file or directory: '{tmp_path / 'missing'}'"),
                      (empty, "data.shown: nothing to be seen")):
        assert done.returncode == 2
        assert done.stderr == (f"sfm_jax: error: no report: {why}; what was learned is saved: run again for the report "
                               "alone\n")
    good = command(tmp_path / "run", f"--config.data.shown={tmp_path / 'face'}", "--config.data.shown_photos=3",
                   "--config.examples=2")
    assert good.returncode == 0, good.stderr
    assert "face face" in good.stdout and "step " not in good.stdout
    other = command(tmp_path / "run", "--config.batch_size=8")
    assert other.returncode == 2 and "belongs to another config: batch_size is 16 there and 8 here" in other.stderr


def test_a_seed_that_is_none_is_named(tmp_path):
    refused = command(tmp_path / "run", "--config.seed=-1")
    assert refused.returncode == 2 and refused.stderr == "sfm_jax: error: seed: found -1, expected 0 or more\n"
    assert not (tmp_path / "run").exists()


if __name__ == "__main__":
    from sfm_jax import main, tasks

    tasks.create_task = Reported
    sys.exit(main.main())
