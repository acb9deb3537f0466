"""Strips of what a network sees and says: photo, render, overlay and error, side by side."""

from collections.abc import Mapping

import matplotlib
import numpy as np
from PIL import Image, ImageDraw

from sfm_jax.evaluation.figures import image_grid

COLORMAP = "inferno"
FOUND, TRUTH = (80, 255, 120), (255, 255, 255)


def strips(columns: Mapping[str, np.ndarray], landmarks: Mapping[str, np.ndarray] | None = None,
           truth: Mapping[str, np.ndarray] | None = None, highest: float = 0.5, zoom: int = 2) -> np.ndarray:
    """A contact sheet, uint8 [height, width, 3]: a row for each sample, a column for each entry.

    columns: {title: sRGB images [N, S, S, 3] in [0, 1], or errors [N, S, S], drawn as heat from 0 to `highest`};
    landmarks, truth: {title: points [N, 68, 2] px} to be drawn over a column, truth in white.
    """
    rendered = {title: [_picture(image, highest, zoom) for image in images] for title, images in columns.items()}
    for points, colour in ((truth or {}, TRUTH), (landmarks or {}, FOUND)):
        for title, samples in points.items():
            rendered[title] = [_dotted(image, one * zoom, colour)
                               for image, one in zip(rendered[title], samples, strict=True)]
    return image_grid([list(row) for row in zip(*rendered.values(), strict=True)], list(rendered))


def _picture(image, highest, zoom):
    image = np.asarray(image)
    if image.ndim == 2:
        image = matplotlib.colormaps[COLORMAP](np.clip(image / highest, 0, 1))[..., :3]
    pixels = np.uint8(np.round(255 * np.clip(image, 0, 1)))
    size = (pixels.shape[1] * zoom, pixels.shape[0] * zoom)
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))


def _dotted(image, points, colour, radius=1.5):
    picture = Image.fromarray(image)
    draw = ImageDraw.Draw(picture)
    for x, y in np.asarray(points):
        draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=colour)
    return np.asarray(picture)
