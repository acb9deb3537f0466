"""Strips of what a network sees and says: photo, render, overlay and error side by side, a row for each sample."""

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from sfm_jax.evaluation.figures import INK, image_grid
from sfm_jax.evaluation.pictures import BACKGROUND

COLORMAP = "inferno"
TRUTH, FOUND, OUTLINE = (255, 255, 255), (72, 230, 150), (30, 34, 38)
PAPER = tuple(round(255 * c) for c in BACKGROUND)
GAP, CORNER, MARGIN, HEAD, FOOT = 8, 7, 12, 36, 40  # pixels
SUPERSAMPLING = 3
# iBUG's 68 points as lines: contour, brows, bridge and base of the nose; and closed: eyes, outer and inner mouth.
_LINES = ((0, 17, False), (17, 22, False), (22, 27, False), (27, 31, False), (31, 36, False),
          (36, 42, True), (42, 48, True), (48, 60, True), (60, 68, True))


def strips(
    columns: Mapping[str, np.ndarray],
    landmarks: Mapping[str, np.ndarray] | None = None,
    truth: Mapping[str, np.ndarray] | None = None,
    rows: Sequence[str] = (),
    highest: float = 0.5,
    unit: str = "",
    side: int = 256,
) -> np.ndarray:
    """A contact sheet, uint8 sRGB [height, width, 3], for `Report.figure` or a PNG.

    Args:
      columns: {title: images}, sRGB [N, H, W, 3], uint8 or in [0, 1]; or errors [N, H, W], drawn as heat from 0 to
        `highest` with the scale beneath, left blank where they are NaN.
      landmarks, truth: {title: points [N, L, 2] in pixels of that column's images}, drawn over it, in green and white;
        68 points are joined as a face.
      rows: a label for each sample.
      unit: of the errors.
      side: width in pixels at which each image is shown.

    Raises:
      ValueError: no samples, columns of different lengths or proportions, points for a column that is not there.
    """
    landmarks, truth = landmarks or {}, truth or {}
    _check(columns, {**landmarks, **truth})
    tiles = {}
    for title, images in columns.items():
        marks = [(points[title], colour) for points, colour in ((truth, TRUTH), (landmarks, FOUND)) if title in points]
        tiles[title] = [_tile(np.asarray(image), [(points[i], colour) for points, colour in marks], highest, side)
                        for i, image in enumerate(images)]
    body = Image.fromarray(image_grid(list(zip(*tiles.values(), strict=True)), row_labels=rows, gap=GAP))
    left = MARGIN + body.width - len(columns) * (side + GAP) + GAP
    legend = {title: [*[("true", TRUTH)] * (title in truth), *[("found", FOUND)] * (title in landmarks)]
              for title in columns}
    scaled = {title for title, images in columns.items() if np.ndim(images) == 3}
    foot = FOOT if scaled or any(legend.values()) else 0
    sheet = Image.new("RGB", (body.width + 2 * MARGIN, HEAD + body.height + foot + MARGIN), PAPER)
    sheet.paste(body, (MARGIN, HEAD))
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(16)
    for j, title in enumerate(columns):
        x, y = left + j * (side + GAP), HEAD + body.height + 10
        draw.text((x + side / 2, HEAD / 2), title, INK, font, "mm")
        if title in scaled:
            _scale(sheet, x, y, side, highest, unit)
        else:
            _legend(sheet, x + side / 2, y + 8, legend[title])
    return np.asarray(sheet)


def _check(columns, marked):
    shapes = {title: np.shape(images) for title, images in columns.items()}
    if len({(shape[0], shape[1] / shape[2]) for shape in shapes.values()}) != 1 or not next(iter(shapes.values()))[0]:
        raise ValueError(f"columns: expected images of one number, not 0, and one proportion, found {shapes}")
    for title, points in marked.items():
        if title not in shapes or np.shape(points)[::2] != (shapes[title][0], 2):
            raise ValueError(f"landmarks: found {title!r} {np.shape(points)}, expected [N, L, 2] for one of "
                             f"{', '.join(shapes)}")


def _tile(image, marks, highest, side):
    """One image or error as uint8 [height, side, 3], with marked points and rounded corners."""
    height, width = image.shape[:2]
    zoom = side * SUPERSAMPLING / width
    size = (side * SUPERSAMPLING, round(height * zoom))
    picture = _heat(image, highest, size) if image.ndim == 2 else _photo(image, size)
    for points, colour in marks:
        _mark(picture, np.asarray(points) * zoom, colour)
    mask = Image.new("L", size)
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, size[0] - 1, size[1] - 1), CORNER * SUPERSAMPLING, fill=255)
    paper = Image.new("RGB", size, PAPER)
    paper.paste(picture, mask=mask)
    return np.asarray(paper.resize((side, round(size[1] / SUPERSAMPLING)), Image.Resampling.BOX))


def _photo(image, size):
    if image.dtype != np.uint8:
        image = np.uint8(np.round(255 * np.clip(image, 0, 1)))
    return Image.fromarray(image).resize(size, Image.Resampling.BICUBIC)


def _heat(error, highest, size):
    """Errors in the colours of the scale, on paper where they are NaN: enlarged first, coloured afterwards."""
    known = np.isfinite(error)

    def enlarged(values):
        return np.asarray(Image.fromarray(values.astype(np.float32)).resize(size, Image.Resampling.BILINEAR))

    cover = enlarged(known)[..., None]
    value = enlarged(np.where(known, error, 0)) / np.maximum(cover[..., 0], 1e-6)
    colour = 255 * matplotlib.colormaps[COLORMAP](np.clip(value / highest, 0, 1))[..., :3]
    return Image.fromarray(np.uint8(np.round(PAPER + cover * (colour - PAPER))))


def _mark(picture, points, colour):
    """Dots at points in pixels of the picture, rimmed so that they show on any skin; 68 of them joined by lines."""
    draw, scale = ImageDraw.Draw(picture, "RGBA"), SUPERSAMPLING
    for first, last, closed in _LINES if len(points) == 68 else ():
        line = [tuple(point) for point in points[first:last]]
        draw.line(line + line[:1] * closed, fill=(*colour, 150), width=scale, joint="curve")
    for x, y in points:
        for radius, fill in ((2.6 * scale, (*OUTLINE, 150)), (1.9 * scale, (*colour, 255))):
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill)


def _scale(sheet, x, y, width, highest, unit):
    """The colour scale from 0 to `highest`, `width` pixels wide, its numbers beneath."""
    ramp = matplotlib.colormaps[COLORMAP](np.linspace(0, 1, width * SUPERSAMPLING))[None, :, :3]
    bar = Image.fromarray(np.uint8(255 * ramp)).resize((width * SUPERSAMPLING, 9 * SUPERSAMPLING))
    mask = Image.new("L", bar.size)
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, bar.width - 1, bar.height - 1), bar.height / 2, fill=255)
    sheet.paste(bar.resize((width, 9), Image.Resampling.BOX), (x, y), mask.resize((width, 9), Image.Resampling.BOX))
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    most = " ".join(filter(None, (f"{highest:g}", unit, "or more")))
    for share, number, anchor in ((0, "0", "la"), (0.5, f"{highest / 2:g}", "ma"), (1, most, "ra")):
        draw.text((x + share * width, y + 14), number, INK, font, anchor)


def _legend(sheet, centre, y, entries):
    """A dot and a name for each of the entries (name, colour), in one line around `centre`."""
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    widths = [font.getlength(name) + 30 for name, _ in entries]
    x = centre - sum(widths) / 2
    for (name, colour), width in zip(entries, widths, strict=True):
        draw.ellipse((x + 4, y - 5, x + 13, y + 4), fill=colour, outline=OUTLINE)
        draw.text((x + 19, y), name, INK, font, "lm")
        x += width
