"""Procedural skin: albedo of people from melanin and haemoglobin, lips, brows, beards and eyes, at every vertex.

Skin is a bloodless, melanin-free dermis seen through two absorbers (Beer-Lambert):

    albedo = dermis * exp(-melanin * mel(rgb) - blood * hem(rgb))          linear RGB

Red, green and blue stand for 610, 550 and 465 nm. Melanin absorbs as wavelength^-3.33 (Jacques, Optical properties
of biological tissues: a review, Phys. Med. Biol. 58, 2013; OMLC). Haemoglobin is 75 % saturated (Prahl, Tabulated
molar extinction coefficients for hemoglobin in water, OMLC 1999). Both are relative to green. The amounts, and how
they go with ancestry, sex and age, are ours: plausible, not measured on anyone.
"""

import numpy as np
import scipy.sparse as sp

from experiments.default_model.head import quad_edges
from experiments.default_model.people import ANCESTRIES, People

WAVELENGTHS = np.array([610.0, 550.0, 465.0])  # nm
MELANIN = (WAVELENGTHS / 550.0) ** -3.33
# Molar extinction at 610, 550 nm and the mean of 460 and 470 nm, cm^-1 / M: oxygenated and not.
OXYGENATED, REDUCED = np.array([1506.0, 43016.0, 38844.6]), np.array([9443.6, 53412.0, 19772.6])
BLOOD = 0.75 * OXYGENATED + 0.25 * REDUCED
BLOOD = BLOOD / BLOOD[1]
DERMIS = np.array([0.86, 0.74, 0.64])
SCLERA, MOUTH_BAG, PUPIL = np.array([0.66, 0.61, 0.57]), np.array([0.23, 0.05, 0.045]), 0.012
MELANIN_OF = dict(zip(ANCESTRIES, (1.05, 0.30, 0.13), strict=True))  # geometric means
DARKEST = 0.004


def log_albedo(people: People, regions: dict[str, np.ndarray], depth: np.ndarray, quads: np.ndarray,
               rng: np.random.Generator) -> np.ndarray:
    """log linear RGB [N, n, 3] float32 of every person; depth [n] mm, how far back a vertex lies."""
    blotches = _blotches(regions["skin"], quads, 12, rng)
    draws = _draw_tones(people, rng)
    return np.stack([np.log(_paint(draw, regions, depth, blotches)) for draw in draws]).astype(np.float32)


def _draw_tones(people, rng):
    """What each person's skin is made of: a list of dicts of numbers."""
    means = np.log([MELANIN_OF[name] for name in ANCESTRIES])
    for sex, age, ancestry in zip(people.sex, people.age, people.ancestry, strict=True):
        melanin = np.exp(ancestry @ means + rng.normal(0, 0.28))
        dark_haired = melanin > 0.35 or rng.random() < 0.45
        light_hair = _mix(rng.random(), (0.03, 0.018, 0.012), (0.17, 0.10, 0.055))
        hair = np.array([0.016, 0.012, 0.011]) if dark_haired else light_hair
        grey = np.clip((age - 0.72) / 0.28, 0, 1) * rng.random()
        dark_eyes = melanin > 0.25 or rng.random() < 0.35
        light_eyes = _mix(rng.random(), (0.10, 0.16, 0.24), (0.13, 0.14, 0.07))
        shaven = rng.random() < 0.55
        yield {
            "melanin": np.clip(melanin, 0.05, 1.6), "blood": np.clip(rng.normal(0.22, 0.045), 0.11, 0.36),
            "lips": rng.uniform(0.25, 0.55), "flush": rng.uniform(0.02, 0.13),
            "brows": np.clip(rng.normal(0.45 + 0.25 * sex, 0.15), 0.15, 0.95),
            "beard": 0.0 if sex < 0.6 or age < 0.35 else rng.uniform(0.02, 0.16) if shaven else rng.uniform(0.15, 0.55),
            "hair": hair * (1 - grey) + 0.30 * grey,
            "iris": (np.array([0.085, 0.045, 0.022]) if dark_eyes else light_eyes) * rng.uniform(0.75, 1.3),
            "blotches": rng.standard_normal(12),
        }


def _paint(draw, regions, depth, blotches):
    """Linear RGB [n, 3] of one person."""
    flush = regions["cheeks"] + 0.8 * regions["nose"] * regions["face"] + 0.8 * regions["ears"]
    melanin = draw["melanin"] * (1 + 0.12 * regions["eyelids"] + 0.18 * regions["under_eye"]
                                 + 0.025 * draw["blotches"][:6] @ blotches[:6])
    # Dark lips owe more to melanin than to blood.
    melanin = melanin * (1 - 0.25 * regions["lips"])
    blood = (draw["blood"] + draw["lips"] * regions["lips"] + draw["flush"] * flush + 0.05 * regions["under_eye"]
             + 0.015 * draw["blotches"][6:] @ blotches[6:])
    color = DERMIS * np.exp(-np.maximum(melanin, 0)[:, None] * MELANIN - np.maximum(blood, 0)[:, None] * BLOOD)
    color = _over(color, 0.85 * draw["brows"] * regions["brows"], draw["hair"])
    color = _over(color, draw["beard"] * regions["beard"], 1.6 * draw["hair"])
    color = _over(color, regions["mouth"], MOUTH_BAG * np.clip(1 - depth / 40, 0.4, 1)[:, None])
    eyes = _over(_over(np.broadcast_to(SCLERA, color.shape), regions["iris"], draw["iris"]), regions["pupil"], PUPIL)
    return np.clip(_over(color, regions["eyes"], eyes), DARKEST, 1)


def _over(below, share, above):
    return below * (1 - share[:, None]) + share[:, None] * above


def _mix(share, a, b):
    return (1 - share) * np.array(a) + share * np.array(b)


def _blotches(skin, quads, count, rng):
    """[count, n] smooth random fields of unit variance on the skin."""
    size = len(skin)
    edges = np.unique(quad_edges(quads), axis=0)
    graph = sp.csr_matrix((np.ones(len(edges)), edges.T), shape=(size, size))
    graph = graph + graph.T
    average = sp.diags(1 / np.asarray(graph.sum(1)).ravel()) @ graph
    fields = rng.standard_normal((count, size)).T
    for _ in range(80):
        fields = 0.5 * fields + 0.5 * (average @ fields)
    return ((fields - fields.mean(0)) / fields.std(0)).T * skin
