"""Measures that can be infinite, of which a report is not lost."""

import dataclasses
import types

import jax.numpy as jnp
import numpy as np
import pytest

from sfm_jax.evaluation.report import Report, without_infinite
from sfm_jax.tasks import photo_report, sphere_report


def test_infinite_numbers_are_named_and_all_others_kept():
    numbers = {"a": 1.5, "b": np.inf, "c": "text", "d": jnp.float32(-jnp.inf), "e": 3, "f": "inf"}
    kept, told = without_infinite(numbers)
    assert list(kept.items()) == [("a", 1.5), ("c", "text"), ("e", 3), ("f", "inf")]
    assert "`b`, `d`" in told
    assert without_infinite(kept) == (kept, "")


def test_what_is_no_number_is_still_refused():
    kept, _ = without_infinite({"a": np.nan})
    with pytest.raises(ValueError, match="'a': expected a finite number, found nan"):
        Report("").number("a", kept["a"])


@dataclasses.dataclass(frozen=True)
class Run:
    """Of training, without any."""

    history: tuple = ()
    step: int = 0
    device: str = "1 x cpu"
    begin: float = 0.0
    train_seconds: float = 0.0
    compile_seconds: float = 0.0
    steps_per_second: float = 0.0


@pytest.mark.parametrize("module, name, shown", [
    (photo_report, "sir/between_within_ratio", ("_learning", "_photos", "_shapes", "_subtitle")),
    (sphere_report, "shapes/between_within_ratio", ("_learning", "_faces", "_explore", "_subtitle"))])
def test_a_report_is_written_without_a_ratio_that_is_infinite(module, name, shown, tmp_path, monkeypatch):
    """As where all photos, or scans, of a person gave the very same shape."""
    numbers = {"codes/uniformity": -1.5, name: np.inf}
    for function in shown:
        monkeypatch.setattr(module, function, lambda *_: "")
    monkeypatch.setattr(module, "measure_heldout", lambda *_: None)
    monkeypatch.setattr(module, "summarise", lambda *_: (numbers, {}))
    monkeypatch.setattr(module, "Examination", lambda *_: None, raising=False)
    task = types.SimpleNamespace(
        title="", rival={}, config=types.SimpleNamespace(sphere="hard", components=3, trunk=""),
        examine=lambda _: {}, illustrate=lambda *_: None, learned_model=lambda _: None)
    written = module.write_report(task, {"log_radius": 0.0}, {}, tmp_path, Run())
    assert written["codes/uniformity"] == -1.5 and name not in written
    assert f"<code>{name}</code>" in (tmp_path / "report.html").read_text()
