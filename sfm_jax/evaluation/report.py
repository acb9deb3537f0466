"""The report of a run: its numbers as JSON for machines, and one self-contained HTML page for people."""

import base64
import html
import io
import json
import math
import os
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import matplotlib
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from sfm_jax.atomic_files import atomic_write
from sfm_jax.evaluation.figures import INK

Number = int | float | str


class Report:
    """Collects numbers, text, figures and tables in reading order; `write` puts report.json and report.html.

    Numbers given with a title are the headlines: they stand as cards on top of the page. All numbers are listed at
    its end and in report.json under their names ("heldout/error_mm").
    """

    def __init__(self, title: str, subtitle: str = ""):
        self.title, self.subtitle = title, subtitle
        self.numbers: dict[str, Number] = {}
        self._cards: list[str] = []
        self._blocks: list[tuple[str, str]] = []  # kind and HTML; neighbouring figures share one grid

    def number(self, name: str, value: Number, title: str = "", unit: str = "", note: str = "") -> None:
        """Record `value`, a number or a string, under a unique flat name; with a title it becomes a card."""
        if name in self.numbers:
            raise ValueError(f"report number {name!r}: expected a new name, found it already set")
        self.numbers[name] = _plain(name, value)
        if title:
            shown = html.escape(_shown(self.numbers[name]))
            unit = f"<small>{html.escape(unit)}</small>" if unit else ""
            note = f"<p>{html.escape(note)}</p>" if note else ""
            self._cards.append(f"<div class=card><h3>{html.escape(title)}</h3><b>{shown}{unit}</b>{note}</div>")

    def section(self, title: str, text: str = "") -> None:
        """A heading and paragraphs of plain text: a blank line parts them, `backticks` mark code."""
        self._blocks.append(("text", f"<h2>{html.escape(title)}</h2>{_paragraphs(text)}"))

    def figure(
        self, figure: Figure | np.ndarray | Sequence[np.ndarray], caption: str | Sequence[str] = "", wide: bool = False
    ) -> None:
        """A matplotlib figure, a uint8 image [H, W, 3 or 4], or a list of images with a caption for each.

        `wide` figures take the whole width of the page instead of a place in the grid.
        """
        if isinstance(figure, list | tuple):
            captions = [caption] * len(figure) if isinstance(caption, str) else caption
            if len(captions) != len(figure):
                raise ValueError(f"figure captions: expected {len(figure)}, one for each image, found {len(captions)}")
            for image, one in zip(figure, captions, strict=True):
                self.figure(image, one, wide)
            return
        body = _svg(figure) if isinstance(figure, Figure) else _image(figure)
        title = f"<figcaption>{html.escape(caption)}</figcaption>" if caption else ""
        self._blocks.append(("figure", f"<figure{' class=wide' if wide else ''}>{body}{title}</figure>"))

    def table(self, rows: Sequence[Mapping[str, Number]], caption: str = "") -> None:
        """Rows {column: value} with the columns of the first row; a missing value stays empty."""
        if not rows:
            raise ValueError(f"table {caption!r}: expected at least one row, found none")
        values = [{key: _plain(f"{caption or 'table'}[{i}].{key}", value) for key, value in row.items()}
                  for i, row in enumerate(rows)]
        self._blocks.append(("text", _table(values, list(rows[0]), caption)))

    def write(self, workdir: str | os.PathLike) -> Path:
        """Write report.json and report.html into `workdir`, each whole or not at all; returns the page's path."""
        folder = Path(workdir)
        folder.mkdir(parents=True, exist_ok=True)
        numbers = json.dumps(self.numbers, indent=2, sort_keys=True) + "\n"
        for name, text in (("report.json", numbers), ("report.html", self._page())):
            with atomic_write(folder / name) as partial:
                partial.write_text(text, encoding="utf-8")
        return folder / "report.html"

    def _page(self) -> str:
        body, before = [], ""
        for kind, block in self._blocks:
            if kind != before and "figure" in (kind, before):
                body.append("<div class=grid>" if kind == "figure" else "</div>")
            body.append(block)
            before = kind
        if before == "figure":
            body.append("</div>")
        if self.numbers:
            listed = [{"name": name, "value": value} for name, value in sorted(self.numbers.items())]
            body.append(f"<details><summary>All {len(listed)} numbers</summary>"
                        f"{_table(listed, ['name', 'value'])}</details>")
        cards = f"<div class=cards>{''.join(self._cards)}</div>" if self._cards else ""
        subtitle = f"<p class=subtitle>{html.escape(self.subtitle)}</p>" if self.subtitle else ""
        title = html.escape(self.title)
        return (f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
                f'<meta name="viewport" content="width=device-width, initial-scale=1">'
                f"<title>{title}</title><style>{PAGE_STYLE}</style></head>\n"
                f"<body><main><h1>{title}</h1>{subtitle}\n{cards}\n" + "\n".join(body) + "\n</main></body></html>\n")


def run_numbers(run) -> dict[str, Number]:
    """How long a finished run (training.loop.Result) took, and on what, by their names in report.json."""
    return {
        "run/seconds": time.perf_counter() - run.begin, "run/train_seconds": run.train_seconds,
        "run/compile_seconds": run.compile_seconds, "run/steps": run.step,
        "run/steps_per_second": run.steps_per_second, "run/device": run.device, "run/processors": os.cpu_count() or 0,
        "run/jax": jax.__version__,
    }


def without_infinite(numbers: Mapping[str, Number]) -> tuple[dict[str, Number], str]:
    """(the numbers without infinite ones, which no report can have; a sentence on these, empty if there are none)."""
    infinite = [name for name, value in numbers.items() if not isinstance(value, str) and np.isinf(value)]
    told = f"Infinite, and left out of the numbers: {', '.join(f'`{name}`' for name in infinite)}." if infinite else ""
    return {name: value for name, value in numbers.items() if name not in infinite}, told


def _plain(name: str, value: Number) -> Number:
    """A finite Python number or a string, from NumPy and JAX scalars too."""
    if isinstance(value, str):
        return value
    array = np.asarray(value)
    if array.size != 1 or array.dtype.kind not in "biuf" and array.dtype.name != "bfloat16":
        raise ValueError(f"report number {name!r}: expected one number or a string, found {type(value).__name__} "
                         f"of shape {array.shape}, {array.dtype}")
    number = array.reshape(()).item()
    if not math.isfinite(number):
        raise ValueError(f"report number {name!r}: expected a finite number, found {number}")
    return number


def _shown(value: Number) -> str:
    """Four significant digits, thousands set apart; strings and integers as they are."""
    if isinstance(value, str | bool):
        return str(value)
    if isinstance(value, int) or abs(value) >= 10_000:
        return f"{value:,.0f}".replace(",", "\u2009")
    return f"{value:.4g}"


def _paragraphs(text: str) -> str:
    parts = [part.strip() for part in re.split(r"\n\s*\n", text) if part.strip()]
    coded = [re.sub("`([^`]+)`", r"<code>\1</code>", html.escape(part)) for part in parts]
    return "".join(f"<p>{part}</p>" for part in coded)


def _table(rows: Sequence[Mapping[str, Number]], columns: Sequence[str], caption: str = "") -> str:
    def cell(row: Mapping[str, Number], column: str) -> str:
        value = row.get(column, "")
        return f"<td{'' if isinstance(value, str) else ' class=n'}>{html.escape(_shown(value))}</td>"

    head = "".join(f"<th{'' if isinstance(rows[0].get(c, ''), str) else ' class=n'}>{html.escape(c)}</th>"
                   for c in columns)
    body = "".join(f"<tr>{''.join(cell(row, column) for column in columns)}</tr>" for row in rows)
    title = f"<caption>{html.escape(caption)}</caption>" if caption else ""
    return f"<div class=scroll><table>{title}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def _svg(figure: Figure) -> str:
    """Inline SVG whose ink follows the page's text colour, so that it reads on light and dark."""
    stream = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "report"}):
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None})
    drawing = stream.getvalue()
    return drawing[drawing.index("<svg"):].replace(INK, "currentColor")


def _image(image: np.ndarray) -> str:
    """An <img> with the smaller of PNG and JPEG (PNG where there is transparency) inside."""
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (3, 4):
        raise ValueError(f"figure image: expected uint8 [H, W, 3 or 4], found {image.dtype} {list(image.shape)}")
    encoded = {"png": _encoded(image, "PNG", optimize=True)}
    if image.shape[2] == 3:
        encoded["jpeg"] = _encoded(image, "JPEG", quality=92, subsampling=0)
    kind, data = min(encoded.items(), key=lambda item: len(item[1]))
    height, width = image.shape[:2]
    return (f'<img alt="" width={width} height={height} '
            f'src="data:image/{kind};base64,{base64.b64encode(data).decode()}">')


def _encoded(image: np.ndarray, kind: str, **options) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, kind, **options)
    return stream.getvalue()


PAGE_STYLE = """
:root { color-scheme: light dark; --page: #fbfbfa; --ink: #1d2023; --soft: #666b72; --line: #e4e4e1; --card: #ffffff }
@media (prefers-color-scheme: dark) {
  :root { --page: #141618; --ink: #e3e5e7; --soft: #9aa0a7; --line: #2c3034; --card: #1b1e21 }
  img { filter: brightness(.92) }
}
* { box-sizing: border-box }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif }
main { max-width: 1080px; margin: 0 auto; padding: clamp(20px, 5vw, 56px) clamp(16px, 4vw, 40px) 64px }
h1 { font-size: clamp(1.5rem, 4vw, 2.1rem); line-height: 1.2; font-weight: 650; letter-spacing: -.02em; margin: 0 }
h2 { font-size: 1.2rem; font-weight: 620; letter-spacing: -.01em; margin: 2.6em 0 .4em }
p { max-width: 70ch; margin: .5em 0 1em }
code { font: .88em ui-monospace, "SF Mono", Menlo, Consolas, monospace; background: var(--line);
  padding: .1em .35em; border-radius: 4px; overflow-wrap: anywhere }
.subtitle { color: var(--soft); margin: .5em 0 0 }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px; margin: 28px 0 8px }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 14px 16px }
.card h3 { font-size: .8rem; font-weight: 500; color: var(--soft); margin: 0 0 4px }
.card b { font-size: 1.65rem; line-height: 1.2; font-weight: 620; letter-spacing: -.02em;
  font-variant-numeric: tabular-nums }
.card small { font-size: .9rem; font-weight: 450; color: var(--soft); margin-left: .25em; letter-spacing: 0 }
.card p { font-size: .78rem; line-height: 1.4; color: var(--soft); margin: 4px 0 0 }
.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 330px), 1fr)); gap: 18px;
  margin: 18px 0; align-items: start }
figure { margin: 0; background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 14px;
  min-width: 0 }
figure.wide { grid-column: 1 / -1 }
figure img { display: block; max-width: 100%; height: auto; border-radius: 6px; margin: 0 auto }
figure.wide img { width: 100% }
figure svg { display: block; width: 100%; height: auto; color: var(--soft) }
figure svg text { font-family: inherit !important }
figcaption { font-size: .84rem; line-height: 1.45; color: var(--soft); margin-top: 10px }
.scroll { overflow-x: auto; margin: 16px 0 }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; min-width: min(100%, 420px) }
caption { text-align: left; color: var(--soft); font-size: .84rem; padding-bottom: 6px }
th { text-align: left; font-weight: 550; color: var(--soft); white-space: nowrap }
th, td { padding: 6px 18px 6px 0; border-bottom: 1px solid var(--line) }
td.n, th.n { text-align: right; white-space: nowrap }
details { margin-top: 48px; border-top: 1px solid var(--line); padding-top: 14px }
summary { cursor: pointer; color: var(--soft) }
@media print { body { background: none } figure, .card { break-inside: avoid } }
"""
