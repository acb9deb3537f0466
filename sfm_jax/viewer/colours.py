"""What a vertex's colour says: albedo, the direction of the surface, the light of a photo, millimetres of difference.

All functions give linear RGB [V, 3] for the browser's renderer, which maps tones (ACES) also where there is no light:
`shown_as` undoes that for colours that must come out as they are, such as those of a legend.
"""

import matplotlib
import numpy as np

from sfm_jax.data.damage import to_linear
from sfm_jax.evaluation.surface import vertex_distances
from sfm_jax.render.shading import harmonics

CLAY = (0.60, 0.51, 0.44)  # linear RGB
COLORMAP = "viridis"
BRIGHTEST = 0.97  # the tone mapping reaches 1 only at infinity
NICE = (1.0, 1.2, 1.6, 2.0, 3.0, 4.0, 6.0, 8.0, 10.0)  # ends of scales, whose quarters are nice, too

# ACES as fitted by Stephen Hill and used by three.js: linear sRGB -> RRT_SAT -> fit -> ODT_SAT -> linear sRGB.
_EXPOSURE = 0.6
_RRT = np.array([[0.59719, 0.35458, 0.04823], [0.07600, 0.90834, 0.01566], [0.02840, 0.13383, 0.83777]])
_ODT = np.array([[1.60475, -0.53108, -0.07367], [-0.10208, 1.10813, -0.00605], [-0.00327, -0.07276, 1.07602]])


def clay(count: int) -> np.ndarray:
    """One colour for `count` vertices."""
    return np.broadcast_to(np.float32(CLAY), (count, 3))


def of_normals(normals: np.ndarray) -> np.ndarray:
    """Unit normals [V, 3] as sRGB (n + 1) / 2."""
    return shown_as(to_linear((normals + 1) / 2))


def in_light(albedo: np.ndarray, normals: np.ndarray, rotation: np.ndarray, light: np.ndarray) -> np.ndarray:
    """Albedo [V, 3] in spherical harmonics light [9, 3] of a camera that sees the head turned by rotation [3, 3]."""
    return shown_as(albedo * (np.asarray(harmonics(normals @ rotation.T)) @ light).clip(0))


def difference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Distance [V] in mm of corresponding vertices [V, 3]."""
    return np.asarray(vertex_distances(a, b))


def of_difference(distances: np.ndarray, limit: float, normals: np.ndarray) -> np.ndarray:
    """Distances [V] through the colormap, which ends at `limit` mm; slightly shaded from the front, for the form."""
    colours = matplotlib.colormaps[COLORMAP](distances / limit)[:, :3]
    return shown_as(to_linear(colours) * (0.55 + 0.45 * normals[:, 2:].clip(0)))


def nice_limit(distances: np.ndarray) -> float:
    """The end of a scale that holds 98 of 100 distances: one of NICE times a power of ten."""
    high = float(np.percentile(distances, 98))
    if high <= 1e-6:
        return 1.0
    decade = 10.0 ** np.floor(np.log10(high))
    return float(decade * next(step for step in NICE if step * decade >= high * (1 - 1e-6)))


def legend(limit: float, largest: float, mean: float) -> str:
    """HTML of the scale of `of_difference`."""
    stops = matplotlib.colormaps[COLORMAP](np.linspace(0, 1, 9))
    gradient = ", ".join(matplotlib.colors.to_hex(stop) for stop in stops)
    ticks = "".join(f"<span>{limit * share:g}</span>" for share in (0, 0.25, 0.5, 0.75, 1))
    return (f'<div style="margin:0.2em 0.8em 0.6em;font-size:0.8em"><div style="height:0.9em;border-radius:2px;'
            f'background:linear-gradient(to right, {gradient})"></div>'
            f'<div style="display:flex;justify-content:space-between">{ticks}</div>'
            f"<div>difference in mm: mean {mean:.2f}, largest {largest:.2f}</div></div>")


def shown_as(linear: np.ndarray) -> np.ndarray:
    """What must be sent [..., 3] so that `linear` RGB is seen after the browser's tone mapping: its inverse.

    Bright yellows need a little less than no blue; shaders take that.
    """
    wanted = np.clip(linear, 0, BRIGHTEST) @ np.linalg.inv(_ODT).T
    # fit(v) = (v (v + 0.0245786) - 0.000090537) / (v (0.983729 v + 0.4329510) + 0.238081), solved for v >= 0
    a = 1 - 0.983729 * wanted
    b = 0.0245786 - 0.4329510 * wanted
    c = -0.000090537 - 0.238081 * wanted
    fitted = (-b + np.sqrt((b * b - 4 * a * c).clip(0))) / (2 * a)
    return (_EXPOSURE * fitted @ np.linalg.inv(_RRT).T).astype(np.float32)
