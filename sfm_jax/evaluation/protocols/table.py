"""An outcome as files: table.md, table.tex, table.csv, outcome.json, per_sample.csv, and every figure as a PNG."""

import csv
import io
import json
import os
from pathlib import Path

import numpy as np

from sfm_jax.atomic_files import atomic_write
from sfm_jax.evaluation.protocols.bootstrap import LEVEL
from sfm_jax.evaluation.protocols.outcome import Estimate, Outcome, Row

PAPER, DPI = "#ffffff", 160
_TEX = {"\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
        "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
        "|": r"\textbar{}", '"': r"\textquotedbl{}"}


def write(outcome: Outcome, out: str | os.PathLike) -> list[Path]:
    """Every file of an outcome into a folder, each whole or not at all; the paths."""
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    texts = {"table.md": markdown(outcome), "table.tex": latex(outcome), "table.csv": table_csv(outcome),
             "outcome.json": as_json(outcome), "per_sample.csv": samples_csv(outcome)}
    for name, text in texts.items():
        with atomic_write(out / name) as partial:
            partial.write_text(text, encoding="utf-8")
    for name, figure in outcome.figures.items():
        with atomic_write(out / f"{name}.png") as partial:
            figure.savefig(partial, format="png", dpi=DPI, facecolor=PAPER)
    return [out / name for name in (*texts, *(f"{name}.png" for name in outcome.figures))]


def markdown(outcome: Outcome) -> str:
    """The title, a table of what was measured and what was published, and the notes."""
    header = ["", *outcome.columns, "source"]
    lines = [header, ["---", *["---:"] * len(outcome.columns), "---"]]
    lines += [[_bold(row), *_cells(outcome, row), _source(row)] for row in (*outcome.rows, *outcome.published)]
    table = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
    return "\n\n".join([outcome.title, table, *_notes(outcome)]) + "\n"


def latex(outcome: Outcome) -> str:
    """A booktabs tabular; notes and title as comments above it."""
    comments = "".join(f"% {line}\n" for line in (outcome.title, *_notes(outcome)))
    header = " & ".join(map(_escaped, ("", *outcome.columns, "source")))

    def body(rows):
        # After the \\ of the line above a bracket or a star would be an option of it.
        return "".join("{}" * row.name.startswith(("[", "*"))
                       + " & ".join(_escaped(cell) for cell in (row.name, *_cells(outcome, row), _source(row)))
                       + " \\\\\n" for row in rows)

    published = "\\midrule\n" + body(outcome.published) if outcome.published else ""
    return (f"{comments}\\begin{{tabular}}{{l{'r' * len(outcome.columns)}l}}\n\\toprule\n{header} \\\\\n\\midrule\n"
            f"{body(outcome.rows)}{published}\\bottomrule\n\\end{{tabular}}\n")


def table_csv(outcome: Outcome) -> str:
    """A line for each row; of every column the value and the ends of its interval, in full precision."""
    header = ["name", *(f"{column}{end}" for column in outcome.columns for end in ("", " low", " high")), "source"]
    lines = [[row.name, *(_full(number) for column in outcome.columns
                          for number in row.values.get(column, Estimate(np.nan))), _source(row)]
             for row in (*outcome.rows, *outcome.published)]
    return _csv([header, *lines])


def samples_csv(outcome: Outcome) -> str:
    """A line for each sample, in full precision; what is not finite is left empty."""
    header = list(outcome.samples[0]) if outcome.samples else []
    return _csv([header, *([_full(sample[key]) for key in header] for sample in outcome.samples)])


def as_json(outcome: Outcome) -> str:
    """Everything but the figures, for machines; a value that is not finite is null."""
    def rows(some):
        return [{"name": row.name, "source": _source(row),
                 "values": {column: {key: value for key, value in _finite(estimate).items()
                                     if value is not None or key == "value"}
                            for column, estimate in row.values.items()}} for row in some]

    return json.dumps({
        "protocol": outcome.protocol, "title": outcome.title, "interval": LEVEL, "columns": list(outcome.columns),
        "measured": rows(outcome.rows), "published": rows(outcome.published), "notes": list(outcome.notes),
        "samples": len(outcome.samples)}, indent=1) + "\n"


def _finite(estimate):
    return {key: None if value is None or not np.isfinite(value) else float(value)
            for key, value in estimate._asdict().items()}


def _cells(outcome, row):
    return [_shown(row.values.get(column), outcome.digits) for column in outcome.columns]


def _shown(estimate: Estimate | None, digits: int) -> str:
    """1.23 [1.10, 1.40]"""
    if estimate is None or np.isnan(estimate.value):
        return ""
    text = f"{estimate.value:.{digits}f}"  # "inf" of what is infinite
    if estimate.low is None or not np.isfinite(estimate.low):
        return text
    return f"{text} [{estimate.low:.{digits}f}, {estimate.high:.{digits}f}]"


def _bold(row: Row) -> str:
    return row.name if row.source else f"**{row.name}**"


def _source(row: Row) -> str:
    return row.source or "measured here"


def _notes(outcome):
    bounded = any(estimate.low is not None and np.isfinite(estimate.low) for row in outcome.rows
                  for estimate in row.values.values())
    return [*outcome.notes, *([f"In brackets: {100 * LEVEL:g} % bootstrap intervals."] if bounded else [])]


def _escaped(text):
    return "".join(_TEX.get(letter, letter) for letter in text)


def _full(value):
    if value is None or (isinstance(value, float | np.floating) and not np.isfinite(value)):
        return ""
    return repr(float(value)) if isinstance(value, float | np.floating) else value


def _csv(lines):
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(lines)
    return stream.getvalue()
