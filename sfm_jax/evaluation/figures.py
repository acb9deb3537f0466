"""Figures for reports in one quiet style: curves, histograms, error maps, grids of pictures.

Matplotlib's object interface only (no pyplot, no window, no state left behind). Backgrounds are transparent and all
ink is INK, which `report` turns into the colour of the page's text, light or dark.
"""

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from PIL import Image, ImageDraw, ImageFont

from sfm_jax.evaluation import pictures

INK = "#54585d"
COLORS = ("#3f7fc1", "#dd7a3b", "#3b9c74", "#b4609d", "#b99a2e", "#7a84d6", "#4fa5b5", "#8a8f98")
STYLE = {
    "axes.edgecolor": INK,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.labelsize": 9,
    "axes.prop_cycle": matplotlib.cycler(color=COLORS),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlesize": 10,
    "figure.facecolor": "none",
    "grid.alpha": 0.18,
    "grid.color": INK,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "lines.linewidth": 1.6,
    "text.color": INK,
    "xtick.color": INK,
    "xtick.labelsize": 8.5,
    "ytick.color": INK,
    "ytick.labelsize": 8.5,
}
MATRIX_COLORMAP = "Blues"
POINTS_PER_CURVE = 400
LABEL_HEIGHT = 22


def curves(
    series: Mapping[str, tuple[np.ndarray, np.ndarray]],
    xlabel: str,
    ylabel: str,
    log_x: bool = False,
    log_y: bool = False,
) -> Figure:
    """Labelled curves {label: (x, y)} on one pair of axes."""
    with matplotlib.rc_context(STYLE):
        figure, axes = _axes(xlabel, ylabel)
        for label, (x, y) in series.items():
            axes.plot(x, y, label=label)
        if log_x:
            axes.set_xscale("log")
        if log_y:
            axes.set_yscale("log")
        _legend(axes, series)
        return figure


def loss_curves(
    history: Sequence[Mapping[str, float]], keys: Sequence[str] | None = None, step: str = "step"
) -> Figure:
    """The values of `keys` over the steps of a run; `history` is one dict for each logged step.

    A key may be missing from some dicts. Long runs are averaged down to POINTS_PER_CURVE points. The axis is
    logarithmic where all values are positive and span more than a factor of 20.
    """
    keys = sorted({key for row in history for key in row} - {step}) if keys is None else keys
    series = {}
    for key in keys:
        points = np.array([(row[step], row[key]) for row in history if key in row], np.float64).reshape(-1, 2)
        if len(points) == 0:
            raise ValueError(f"history: {key!r} is in none of its {len(history)} entries")
        bins = np.array_split(points, min(len(points), POINTS_PER_CURVE))
        series[key] = np.array([part.mean(0) for part in bins]).T
    values = np.concatenate([y for _, y in series.values()])
    log_y = bool(values.min() > 0 and values.max() > 20 * values.min())
    return curves(series, "step", "", log_y=log_y)


def roc_curves(results: Mapping[str, Mapping[str, np.ndarray]]) -> Figure:
    """Results of `recognition.verification`, {label: result}: true accepts over false accepts, logarithmic."""
    with matplotlib.rc_context(STYLE):
        figure, axes = _axes("false-accept rate", "true-accept rate")
        lowest = min(result["far"][result["far"] > 0].min() for result in results.values()) / 2
        limits = np.geomspace(lowest, 1, POINTS_PER_CURVE)  # a million pairs have as many thresholds
        for label, result in results.items():
            reached = np.searchsorted(result["far"], limits, side="right") - 1
            axes.step(limits, result["tar"][reached], where="post", label=label)
        axes.set_xscale("log")
        axes.set_xlim(lowest, 1)
        axes.set_ylim(-0.02, 1.02)
        _legend(axes, results, loc="lower right")
        return figure


def norm_histogram(codes: Mapping[str, np.ndarray], radius: float | None = None) -> Figure:
    """Lengths of codes, {label: [N, d]}, with the sphere's radius marked."""
    with matplotlib.rc_context(STYLE):
        figure, axes = _axes("length of the code", "codes")
        norms = {label: np.linalg.norm(np.asarray(x), axis=-1) for label, x in codes.items()}
        every = np.concatenate(list(norms.values()))
        # Codes on a sphere have one length: bins need a width that does not come from the data alone.
        middle, half = (every.min() + every.max()) / 2, max(every.max() - every.min(), 0.1 * every.max(), 1e-6) * 0.55
        bins = np.linspace(middle - half, middle + half, 41)
        for label, values in norms.items():
            axes.hist(values, bins, alpha=0.65, label=label)
        if radius is not None:
            axes.axvline(radius, color=INK, linewidth=1, linestyle="--")
            axes.annotate(f"radius {radius:.3g}", (radius, 0.98), xycoords=("data", "axes fraction"), xytext=(4, 0),
                          textcoords="offset points", va="top", fontsize=8.5, color=INK)
        _legend(axes, norms)
        return figure


def error_map(
    vertices: np.ndarray,
    triangles: np.ndarray,
    error: np.ndarray,
    highest: float | None = None,
    label: str = "mm",
    yaws: Sequence[float] = (0, 40),
) -> Figure:
    """Errors [V] (mm) on a face [V, 3], from several sides, with a colour bar from 0 to `highest` (the maximum)."""
    error = np.asarray(error, np.float64)
    highest = float(error.max()) if highest is None else highest
    width = 2.6 * len(yaws)
    with matplotlib.rc_context(STYLE):
        figure = Figure((width + 0.7, 2.75))
        for i, yaw in enumerate(yaws):
            view = pictures.shaded(vertices, triangles, 360, yaw, color=error, limits=(0, highest), background=None)
            axes = figure.add_axes((i * 2.6 / (width + 0.7), 0.03, 2.6 / (width + 0.7), 0.94))
            axes.imshow(view)
            axes.set_axis_off()
        bar = figure.add_axes(((width + 0.05) / (width + 0.7), 0.15, 0.13 / (width + 0.7), 0.7))
        scale = ScalarMappable(Normalize(0, highest), pictures.COLORMAP)
        figure.colorbar(scale, cax=bar).outline.set_visible(False)
        bar.set_title(label, fontsize=8.5)
        bar.grid(False)
        return figure


def matrix(
    values: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    ylabel: str = "",
    xlabel: str = "",
) -> Figure:
    """Numbers [R, C] from 0 up as a table of coloured squares; the scale ends at the largest one, or at 1."""
    values = np.asarray(values, np.float64)
    with matplotlib.rc_context(STYLE | {"axes.grid": False}):
        figure = Figure((1.6 + 0.85 * len(columns), 0.9 + 0.5 * len(rows)), layout="constrained")
        axes = figure.add_subplot()
        known = np.where(np.isfinite(values), values, np.nan)
        scale = Normalize(0, max(1.0, np.nanmax(known, initial=0)))
        axes.imshow(values, cmap=MATRIX_COLORMAP, norm=scale, aspect="auto")
        for (i, j), value in np.ndenumerate(values):
            axes.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize=8.5,
                      color="white" if scale(value) > 0.5 else INK)
        axes.set_xticks(range(len(columns)), columns)
        axes.set_yticks(range(len(rows)), rows)
        axes.tick_params(length=0, labeltop=True, labelbottom=False)
        axes.set_xlabel(xlabel)
        axes.set_ylabel(ylabel)
        axes.spines[:].set_visible(False)
        return figure


def image_grid(
    rows: Sequence[Sequence[np.ndarray]],
    column_labels: Sequence[str] = (),
    row_labels: Sequence[str] = (),
    gap: int = 4,
) -> np.ndarray:
    """Pictures of one size, uint8 [H, W, 3], in rows and columns with labels: uint8 [height, width, 3]."""
    shapes = {np.shape(image) for row in rows for image in row}
    if len(shapes) != 1 or any(image.dtype != np.uint8 for row in rows for image in row):
        raise ValueError(f"rows: expected uint8 images of one shape, found {sorted(shapes)}, "
                         f"{sorted({str(image.dtype) for row in rows for image in row})}")
    height, width = next(iter(shapes))[:2]
    font = ImageFont.load_default(13)
    left = max((int(font.getlength(label)) + 14 for label in row_labels), default=0)
    top = LABEL_HEIGHT if column_labels else 0
    columns = max(len(row) for row in rows)
    size = (left + columns * (width + gap) - gap, top + len(rows) * (height + gap) - gap)
    canvas = Image.new("RGB", size, tuple(round(255 * c) for c in pictures.BACKGROUND))
    draw = ImageDraw.Draw(canvas)
    for j, label in enumerate(column_labels):
        draw.text((left + j * (width + gap) + width / 2, top / 2), label, INK, font, "mm")
    for i, row in enumerate(rows):
        if i < len(row_labels):
            draw.text((left - 8, top + i * (height + gap) + height / 2), row_labels[i], INK, font, "rm")
        for j, image in enumerate(row):
            canvas.paste(Image.fromarray(image), (left + j * (width + gap), top + i * (height + gap)))
    return np.asarray(canvas)


def _axes(xlabel: str, ylabel: str) -> tuple[Figure, Axes]:
    figure = Figure((5.2, 3.2), layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.xaxis.set_major_formatter(FuncFormatter(_thousands))
    return figure, axes


def _legend(axes: Axes, series: Mapping, **where) -> None:
    if len(series) > 1 or "" not in series:
        axes.legend(**where)


def _thousands(value: float, _position: int) -> str:
    return f"{value / 1000:g}k" if abs(value) >= 1000 else f"{value:g}"
