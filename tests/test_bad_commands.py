"""A command line that is not understood is told in one line, by every command, and its exit code is 2."""

import importlib

import pytest


@pytest.mark.parametrize("name", ["convert", "evaluate", "export", "reconstruct", "view"])
def test_an_unknown_option_is_one_line(name, capsys):
    assert importlib.import_module(f"sfm_jax.{name}").main(["--nothing"]) == 2
    out, error = capsys.readouterr()
    assert not out and error.startswith("sfm_jax: error: ") and error.count("\n") == 1


@pytest.mark.parametrize(("name", "arguments", "shortened"), [
    ("convert", ["nowhere", "out.npz"], "--identit=3"), ("evaluate", ["--protocol=now"], "--prediction=nowhere"),
    ("export", ["nowhere", "--out=out"], "--dtyp=uint8"), ("reconstruct", ["nowhere.jpg"], "--leve=1"),
    ("view", ["nowhere"], "--brows")])
def test_a_shortened_option_is_unknown(name, arguments, shortened, capsys):
    assert importlib.import_module(f"sfm_jax.{name}").main([*arguments, shortened]) == 2
    assert f"unrecognized arguments: {shortened}" in capsys.readouterr().err
