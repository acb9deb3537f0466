"""Tables as files: numbers in full, and names that mean something to LaTeX or Markdown."""

import csv
import io
import json

import numpy as np
import pytest

from sfm_jax.evaluation.protocols import table
from sfm_jax.evaluation.protocols.outcome import Estimate, Outcome, Row


@pytest.fixture
def outcome():
    values = {"a_b %": Estimate(1 / 3, 0.1 + 0.2, 2 / 3), "c": Estimate(np.inf), "d": Estimate(1.0, np.nan, np.nan)}
    return Outcome("toy", "a title", ("a_b %", "c", "d", "e"), (Row(r"[x] 50%|_{\\}&$#<>^~*", values),),
                   ({"name": "s, 1", "value": 1 / 7, "count": 3, "lost": -np.inf},),
                   (Row("peer", {"d": Estimate(2.0)}, "A & B, CVPR 2016"),))


def test_csv_and_json_lose_nothing(outcome):
    (measured, peer) = csv.DictReader(io.StringIO(table.table_csv(outcome)))
    assert measured["name"] == outcome.rows[0].name and measured["source"] == "measured here"
    assert [float(measured[key]) for key in ("a_b %", "a_b % low", "a_b % high")] == [1 / 3, 0.1 + 0.2, 2 / 3]
    assert [measured[key] for key in ("c", "d low", "e")] == ["", "", ""] and float(peer["d"]) == 2
    (sample,) = csv.DictReader(io.StringIO(table.samples_csv(outcome)))
    assert sample["name"] == "s, 1" and float(sample["value"]) == 1 / 7 and sample["count"] == "3"
    assert sample["lost"] == ""
    values = json.loads(table.as_json(outcome))["measured"][0]["values"]
    assert values == {"a_b %": {"value": 1 / 3, "low": 0.1 + 0.2, "high": 2 / 3}, "c": {"value": None},
                      "d": {"value": 1.0}}


def test_a_name_is_text_in_latex_and_markdown(outcome):
    rows = [line for line in table.latex(outcome).splitlines() if line.endswith(" \\\\")]
    assert rows[0] == r" & a\_b \% & c & d & e & source \\"
    name = r"[x] 50\%\textbar{}\_\{\textbackslash{}\textbackslash{}\}\&\$\#\textless{}\textgreater{}\textasciicircum{}"
    assert rows[1].startswith("{}" + name + r"\textasciitilde{}* & 0.33 [0.30, 0.67] & inf & 1.00 &  & ")
    assert rows[2] == r"peer &  &  & 2.00 &  & A \& B, CVPR 2016 \\"
    lines = table.markdown(outcome).splitlines()
    assert {line.replace(r"\|", "").count("|") for line in lines if line.startswith("|")} == {7}
    assert "In brackets: 95 % bootstrap intervals." in lines


def test_brackets_are_explained_where_there_are_some(outcome):
    alone = Outcome("toy", "t", ("d",), (Row("x", {"d": outcome.rows[0].values["d"]}),), ())
    assert "brackets" not in table.markdown(alone) and "| 1.00 |" in table.markdown(alone)
