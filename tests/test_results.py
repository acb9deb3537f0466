"""The tables of README and documentation are those that their stored numbers make."""

import importlib
import json

import pytest

from experiments import results

SHOWN = [(page.name, name, shown) for page in results.pages()
         for name, shown in results.tables(page.read_text()).items()]


@pytest.mark.parametrize(("page", "name", "shown"), SHOWN, ids=lambda value: value if len(value) < 40 else "")
def test_pages_show_what_the_command_makes(page, name, shown):
    assert results.remade(name) == shown, "python -m experiments.results"


def test_a_table_follows_its_numbers():
    """No figure is written in a script."""
    values = json.loads((results.RESULTS / "stage1.json").read_text())
    values["report"]["heldout/rank1"] = 0.125
    values["report"]["run/steps"] = 4321
    text = importlib.import_module(results.TABLES["stage1"]).table(values)
    assert "| rank-1 identification | 0.125 |" in text and "4321 steps" in text


def test_every_stored_number_has_its_script():
    assert {path.stem for path in results.RESULTS.glob("*.json")} == set(results.TABLES)


def test_every_script_of_a_table_says_how_it_is_run():
    for name, module in results.TABLES.items():
        assert f"-m {module}" in importlib.import_module(module).__doc__, name


def test_refreshing_replaces_a_table_alone(tmp_path, monkeypatch):
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- table stage1 -->\nold\n<!-- end -->\nafter\n")
    for name in ("stage1.json", "stage1.md"):
        (tmp_path / name).write_text((results.RESULTS / name).read_text())
    monkeypatch.setattr(results, "README", readme)
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    results.refresh_pages()
    assert readme.read_text() == f"before\n<!-- table stage1 -->\n{results.remade('stage1')}<!-- end -->\nafter\n"
