"""The 68 landmarks of iBUG's order on the vertices of other models, and what is estimated where a model lacks some."""

import json
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import scipy.spatial
from jaxtyping import Float, Int

from sfm_jax.array_files import integers, one_line, read_npz

CONTOUR_POINTS = 11
BEHIND_THE_NOSE = 105.0  # mm from its tip to the middle of the head, around which the contour turns
INNER_CORNER = 0.3  # of the way from a corner of the mouth to the next points of the inner lips


def read_landmarks(path: str | os.PathLike, names: Mapping[str, int] | None = None) -> dict[int, int]:
    """{landmark 0..67: vertex} of a mapping file.

    Either a TOML as eos has them (`[landmark_mappings]` of iBUG's numbers 1..68 to vertices, or to names that the
    model gives to vertices: `names`), or 68 vertices in a row: in a text file (.anl, .txt), a JSON list or a .npy.
    ValueError names the file and what is wrong with it.
    """
    path = Path(path)
    try:
        mapping = _read_mapping(path)
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file, expected landmarks") from None
    except (OSError, ValueError, RecursionError) as error:  # of tomllib, json and NumPy
        raise ValueError(f"{path}: not readable as landmarks ({one_line(error)})") from None
    found = {}
    for number, vertex in mapping.items():
        if isinstance(vertex, str) and vertex in (names or {}):
            vertex = names[vertex]
        if not (str(number).isascii() and str(number).isdigit() and 1 <= int(number) <= 68):
            continue  # such files may map other points, too
        if isinstance(vertex, str):
            raise ValueError(f"{path}: landmark {number}: the model has no vertex named {vertex!r}")
        if type(vertex) is not int or not 0 <= vertex < 2**31:
            raise ValueError(f"{path}: landmark {number}: found {one_line(repr(vertex))}, expected a vertex's number")
        found[int(number) - 1] = vertex
    return found


def _read_mapping(path):
    if path.suffix.lower() == ".npy":
        rows = integers(path, "landmarks", read_npz(path).get("", ())).ravel().tolist()
    elif path.suffix.lower() == ".json":
        rows = json.loads(path.read_text())
    else:
        text = path.read_text()
        if "landmark_mappings" in text:
            mapping = tomllib.loads(text).get("landmark_mappings")
            if not isinstance(mapping, dict):
                raise ValueError("landmark_mappings: expected a table")
            return mapping
        rows = [int(word) for word in text.split()]
    if not isinstance(rows, list) or len(rows) != 68:
        raise ValueError(f"{len(rows) if isinstance(rows, list) else type(rows).__name__} numbers, expected 68")
    return dict(enumerate(rows, 1))


def complete(
    mean: Float[np.ndarray, "V 3"], found: Mapping[int, int], contour: Mapping[str, list[int]] | None
) -> tuple[np.ndarray, list[int]]:
    """All 68 landmarks, and which of them (0..67) are estimated.

    The jaw's points are spread evenly over the contour of each side, from the height of the eyes to the chin. Inner
    corners of the mouth are the vertices nearest to a place a little inside the outer ones.

    Args:
      mean: [V, 3].
      found: {landmark: vertex}; the eyes, the mouth's corners and inner lips, and the chin must be there.
      contour: vertices of the "right" and "left" side of the face, or None.

    Raises:
      KeyError: of the first landmark that is missing and cannot be estimated.
    """
    found = dict(found)
    missing = [index for index in range(68) if index not in found]
    for side, eye, points in (("right", 36, range(8)), ("left", 45, range(16, 8, -1))):
        if contour and any(index in missing for index in points):
            spread = _spread(mean, contour[side], found[eye], found[8])
            found |= {index: vertex for index, vertex in zip(points, spread, strict=True) if index in missing}
    for index, corner, inside in ((60, 48, (61, 67)), (64, 54, (63, 65))):
        if index in missing:
            inner = mean[[found[point] for point in inside]].mean(0)
            wanted = mean[found[corner]] + INNER_CORNER * (inner - mean[found[corner]])
            found[index] = int(scipy.spatial.cKDTree(mean).query(wanted)[1])
    return np.array([found[index] for index in range(68)], np.int32), missing


def _spread(mean, line, eye, chin):
    """8 vertices of a contour line, evenly spaced in length from the eye's height downwards, the chin being the 9th."""
    line = np.array(sorted(line, key=lambda vertex: -mean[vertex, 1]))
    start = np.argmin(abs(mean[line, 1] - mean[eye, 1]))
    path = mean[np.append(line[start:], chin)]
    length = np.append(0, np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1)))
    wanted = np.stack([np.interp(np.linspace(0, length[-1], 9)[:8], length, path[:, axis]) for axis in range(3)], 1)
    return line[scipy.spatial.cKDTree(mean[line]).query(wanted)[1]].tolist()


def slide_lines(mean: Float[np.ndarray, "V 3"], landmarks: Int[np.ndarray, " L"]) -> Int[np.ndarray, "17 11"]:
    """For each of the jaw's 17 landmarks the line [17, 11] of vertices along which it slides as the head turns.

    Seen from the middle of the head, a line runs from the cheek or chin through its landmark towards ear or throat;
    of the vertices near each direction the outermost is taken. mean [V, 3] mm, landmarks [68].
    """
    centre = np.array([mean[landmarks[33], 0], mean[landmarks[33], 1], mean[landmarks[30], 2] - BEHIND_THE_NOSE])
    away = (mean - centre).astype(np.float64)
    radius = np.maximum(np.linalg.norm(away, axis=1), 1e-9)
    tree = scipy.spatial.cKDTree(away / radius[:, None])
    x, y, z = away[landmarks[:17]].T
    around, tilt = np.arctan2(y, x), np.arctan2(np.hypot(x, y), z)
    steps = np.radians(np.linspace(-25, 10, CONTOUR_POINTS))
    tilts = tilt[:, None] + steps
    wanted = np.stack([np.cos(around)[:, None] * np.sin(tilts), np.sin(around)[:, None] * np.sin(tilts),
                       np.cos(tilts)], -1)
    near = tree.query(wanted, k=min(4, len(mean)))[1].reshape(*tilts.shape, -1)
    lines = np.take_along_axis(near, radius[near].argmax(-1)[..., None], -1)[..., 0]
    lines[:, np.argmin(abs(steps))] = landmarks[:17]
    return lines.astype(np.int32)


def all_landmarks(
    path: str | os.PathLike | None, names: Mapping[str, int] | None = None
) -> Int[np.ndarray, "68"] | None:
    """The 68 vertices [68] of a mapping file, None for None. ValueError if the file lacks some."""
    if path is None:
        return None
    found = read_landmarks(path, names)
    missing = [index for index in range(68) if index not in found]
    if missing:
        raise ValueError(f"{path}: landmark {missing[0] + 1} is missing, expected all 68")
    return np.array([found[index] for index in range(68)], np.int32)
