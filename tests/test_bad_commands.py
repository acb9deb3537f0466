"""A command line that is not understood is told in one line, by every command, and its exit code is 2."""

import importlib

import pytest


@pytest.mark.parametrize("name", ["convert", "evaluate", "export", "reconstruct", "view"])
def test_an_unknown_option_is_one_line(name, capsys):
    assert importlib.import_module(f"sfm_jax.{name}").main(["--nothing"]) == 2
    out, error = capsys.readouterr()
    assert not out and error.startswith("sfm_jax: error: ") and error.count("\n") == 1
