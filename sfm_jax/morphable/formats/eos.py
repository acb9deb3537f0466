"""Models of the eos library, such as the Surrey Face Model: its .bin files, which are cereal's plain binary.

A file is a version (uint32) and, little-endian and unpadded, the members of eos::morphablemodel::MorphableModel:
shape and colour PCA; from version 2 on an optional expression model (PCA or blendshapes); from 3 on optional names of
vertices; texture coordinates, v downwards; from 4 on the triangles of these. A matrix is its rows and columns (int32)
and float32 column by column; a list its length (uint64) and its items; an optional thing a byte, 1 if there is none.
Huber et al., "A Multiresolution 3D Morphable Face Model and Fitting Framework", VISAPP 2016, and the source of
github.com/patrikhuber/eos.
"""

import json
import os
import struct
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from sfm_jax.array_files import one_line
from sfm_jax.morphable.formats.assemble import assemble, columns
from sfm_jax.morphable.formats.colours import albedo_from_srgb, log_albedo, srgb_from_albedo
from sfm_jax.morphable.formats.files import read_bytes, write_bytes
from sfm_jax.morphable.formats.landmarks import complete, read_landmarks
from sfm_jax.morphable.model import MorphableModel

VERSION = 4
_PCA, _BLENDSHAPES = 0, 1  # alternatives of the expression model


def load_eos(
    path: str | os.PathLike,
    blendshapes: str | os.PathLike | None = None,
    landmarks: str | os.PathLike | None = None,
    contours: str | os.PathLike | None = None,
) -> MorphableModel:
    """A model of eos, as mm per standard deviation; equal to what eos itself draws for the same coefficients.

    The files of Surrey's model map 50 of the 68 landmarks. The jaw's 16 points are then spread evenly over the contour
    vertices, from the eyes' height to the chin, and the inner corners of the mouth, which its mesh does not have, are
    the vertices nearest to 30 % of the way from the outer corner to the next inner points: `source` says so.

    Args:
      path: the model (.bin, versions 1 to 4).
      blendshapes: expressions in a file of their own (.bin); they take the place of those in the model.
      landmarks: eos' mapping of iBUG's points to vertices (TOML), or any file that `read_landmarks` takes; None takes
        those named "1" to "68" in the model, if all are there.
      contours: the vertices of the face's two sides (JSON), for the jaw's landmarks that the mapping lacks.

    Raises:
      ValueError: one line that names the file and the part that is missing or wrong.
    """
    cursor = _Cursor(path)
    version = cursor.number("I", "version")
    if not 1 <= version <= VERSION:
        raise ValueError(f"{path}: version {version}, expected 1 to {VERSION} of an eos model")
    shape, colour = cursor.pca("shape"), cursor.pca("colour")
    expression, named = None, {}
    if version >= 2 and not cursor.number("B", "expression model"):
        expression = cursor.expression()
    if version >= 3 and not cursor.number("B", "landmark definitions"):
        named = {cursor.text("landmark definitions"): cursor.number("i", "landmark definitions")
                 for _ in range(cursor.count("landmark definitions", 12))}
    uv = cursor.rows("<f8", 2, "texture coordinates")
    uv_triangles = cursor.rows("<i4", 3, "texture triangles") if version >= 4 else np.zeros((0, 3), np.int32)
    cursor.finish()

    mean = shape.mean.reshape(-1, 3)
    if blendshapes is not None:
        expression = "activations", *load_blendshapes(blendshapes)
    kind, names, offset, basis = expression or ("activations", (), 0, None)
    albedo = albedo_from_srgb(colour.mean.reshape(-1, 3), colour.basis) if colour.mean.size else None
    points, note = _landmarks(path, mean, named, landmarks, contours)
    return assemble(
        path, mean=mean + offset, triangles=shape.triangles, identity=shape.basis, expression=basis,
        expression_names=names, expression_kind=kind, albedo=albedo, uv=uv * [1, -1] + [0, 1] if len(uv) else None,
        uv_triangles=uv_triangles if len(uv_triangles) else None, landmarks=points, name=Path(path).stem,
        source=f"eos model {Path(path).name}{note}")


def load_blendshapes(path: str | os.PathLike) -> tuple[tuple[str, ...], float, Float[np.ndarray, "E V 3"]]:
    """Names, 0 and offsets [E, V, 3] in mm of a file of eos' blendshapes. ValueError names the part that is missing."""
    cursor = _Cursor(path)
    names, basis = cursor.blendshapes()
    cursor.finish()
    return names, 0.0, basis


def companions(path: str | os.PathLike) -> dict[str, Path]:
    """The files that belong to Surrey's model and lie beside it, by the parameter of `load_eos`: for sfm_*_3448.bin
    expression_blendshapes_3448.bin, ibug_to_sfm.txt and sfm_model_contours.json."""
    path = Path(path)
    if not path.name.startswith("sfm_"):
        return {}
    names = {"blendshapes": f"expression_blendshapes_{path.stem.rpartition('_')[2]}.bin",
             "landmarks": "ibug_to_sfm.txt", "contours": "sfm_model_contours.json"}
    return {key: path.with_name(name) for key, name in names.items() if path.with_name(name).is_file()}


def save_eos(path: str | os.PathLike, model: MorphableModel) -> None:
    """Write a model for eos: shape, colours, blendshapes, texture coordinates with their seams, and landmarks "1" to
    "68" where there are so many.

    The same codes give the same vertices there. The columns of its basis are unit vectors and the variances their
    squared lengths; they are orthogonal only where the model's components are (eos' `project` needs that). What the
    format has no place for is left out: contour lines, regions, symmetry, name and licence.
    """
    t = model.topology
    mean, identity = np.asarray(model.mean), np.asarray(model.identity_basis)
    parts = [struct.pack("<I", VERSION), _pack_pca(mean, identity, t.triangles)]
    parts.append(_pack_pca(*srgb_from_albedo(*log_albedo(model)), t.triangles))
    parts.append(_pack_expressions(model))
    names = [(str(i + 1).encode(), int(vertex)) for i, vertex in enumerate(t.landmarks) if len(t.landmarks) == 68]
    parts.append(struct.pack("<BQ", 0, len(names)) if names else b"\1")
    parts += [struct.pack("<Q", len(name)) + name + struct.pack("<i", vertex) for name, vertex in names]
    uv = np.asarray(t.uv, "<f8") * [1, -1] + [0, 1]
    for rows, kind in ((uv, "<f8"), (t.uv_triangles, "<i4")):
        parts += [struct.pack("<Q", len(rows)), np.ascontiguousarray(rows, kind).tobytes()]
    write_bytes(path, b"".join(parts))


class _Pca(NamedTuple):
    mean: np.ndarray  # [3V]
    basis: np.ndarray  # [K, V, 3] at one standard deviation
    triangles: np.ndarray


class _Cursor:
    """Reads a file from front to back; what is not there any more is an error with its name."""

    def __init__(self, path):
        self.path, self.data, self.at = path, read_bytes(path), 0

    def take(self, size, what):
        if not 0 <= size <= len(self.data) - self.at:
            raise ValueError(f"{self.path}: ends within its {what} (at byte {self.at} of {len(self.data)}, which needs "
                             f"{size} more)")
        self.at += size
        return self.data[self.at - size:self.at]

    def number(self, kind, what):
        return struct.unpack("<" + kind, self.take(struct.calcsize("<" + kind), what))[0]

    def count(self, what, smallest):
        """The length of a list whose items have at least `smallest` bytes: a damaged one must not take all memory."""
        count = self.number("Q", what)
        if count * smallest > len(self.data) - self.at:
            raise ValueError(f"{self.path}: ends within its {what} (at byte {self.at} of {len(self.data)}, which needs "
                             f"{count * smallest} more)")
        return count

    def text(self, what):
        return self.take(self.number("Q", what), what).decode("utf-8", "replace")

    def rows(self, kind, width, what):
        size = np.dtype(kind).itemsize * width
        return np.frombuffer(self.take(self.count(what, size) * size, what), kind).reshape(-1, width)

    def matrix(self, what):
        rows, columns_ = self.number("i", what), self.number("i", what)
        if rows < 0 or columns_ < 0:
            raise ValueError(f"{self.path}: {what}: {rows} x {columns_} numbers: not an eos model, or damaged")
        values = np.frombuffer(self.take(4 * rows * columns_, what), "<f4")
        return values.reshape(columns_, rows).T

    def column(self, what):
        values = self.matrix(what)
        if values.size and values.shape[1] != 1:
            raise ValueError(f"{self.path}: {what}: {values.shape[0]} x {values.shape[1]} numbers, expected a column")
        return values.ravel()

    def pca(self, what):
        mean, vectors = self.column(f"{what} mean"), self.matrix(f"{what} basis")
        variance = self.column(f"{what} eigenvalues")
        triangles = self.rows("<i4", 3, f"{what} triangles")
        if vectors.size and (vectors.shape != (len(mean), len(variance)) or len(mean) % 3):
            raise ValueError(f"{self.path}: {what} basis: shape {vectors.shape}, expected {len(mean)} x "
                             f"{len(variance)} and a multiple of 3")
        if variance.size and variance.min() < 0:
            raise ValueError(f"{self.path}: {what} eigenvalues: the least is {variance.min():g}, expected 0 or more")
        basis = vectors * np.sqrt(variance) if vectors.size else np.zeros((len(mean), 0), np.float32)
        return _Pca(mean, columns(self.path, f"{what} basis", basis), triangles)

    def expression(self):
        """Their kind, names, what the mean shape gains, and the basis."""
        kind = self.number("i", "expression model")
        if kind == _BLENDSHAPES:
            names, basis = self.blendshapes()
            return "activations", names, 0.0, basis
        if kind != _PCA:
            raise ValueError(f"{self.path}: expression model: kind {kind}, expected {_PCA} or {_BLENDSHAPES}")
        pca = self.pca("expression")
        return "statistical", (), pca.mean.reshape(-1, 3), pca.basis

    def blendshapes(self):
        names, offsets = [], []
        for index in range(self.count("blendshapes", 16)):
            names.append(self.text(f"blendshape {index + 1}"))
            offsets.append(self.column(f"blendshape {index + 1}"))
        if len({len(offset) for offset in offsets}) > 1:
            raise ValueError(f"{self.path}: blendshapes: of {sorted({len(offset) for offset in offsets})} numbers, "
                             "expected as many in each")
        return tuple(names), columns(self.path, "blendshapes", np.stack(offsets, 1) if offsets else np.zeros((0, 0)))

    def finish(self):
        if self.at != len(self.data):
            raise ValueError(f"{self.path}: {len(self.data) - self.at} bytes follow the end, expected none")


def _landmarks(path, mean, named, landmarks, contours):
    """The 68 vertices or None, and what is to be said of them."""
    found = {int(name) - 1: vertex for name, vertex in named.items() if name.isdigit() and 1 <= int(name) <= 68}
    if landmarks is not None:
        found = read_landmarks(landmarks, named)
    elif len(found) < 68:
        return None, ""
    outside = [index for index, vertex in found.items() if not 0 <= vertex < len(mean)]
    if outside:
        raise ValueError(f"{landmarks or path}: landmark {outside[0] + 1}: vertex {found[outside[0]]}, the model has "
                         f"{len(mean)}")
    contour = None if contours is None else _read_contours(contours, len(mean))
    try:
        points, estimated = complete(mean, found, contour)
    except KeyError as error:
        hint = ", give the contours" if error.args[0] < 17 and contour is None else ""
        raise ValueError(f"{landmarks or path}: landmark {error.args[0] + 1} is missing and cannot be estimated"
                         f"{hint}") from None
    numbers = ", ".join(str(index + 1) for index in estimated)
    return points, f"; landmarks estimated: {numbers}" if estimated else ""


def _read_contours(path, count):
    try:
        contour = json.loads(read_bytes(path))["model_contour"]
        sides = {side: [int(vertex) for vertex in contour[f"{side}_contour"]] for side in ("right", "left")}
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise ValueError(f"{path}: not readable as contours of eos ({one_line(error)})") from None
    for side, line in sides.items():
        if not line or min(line) < 0 or max(line) >= count:
            raise ValueError(f"{path}: {side}_contour: expected vertices in 0..{count - 1}")
    return sides


def _pack_matrix(matrix):
    matrix = np.asarray(matrix, "<f4")
    return struct.pack("<ii", *matrix.shape) + matrix.T.tobytes()


def _pack_pca(mean, basis, triangles):
    length = np.linalg.norm(basis.reshape(len(basis), 3 * len(mean)).astype(np.float64), axis=1)
    vectors = basis.astype(np.float64) / np.where(length > 0, length, 1)[:, None, None]
    triangles = np.ascontiguousarray(triangles, "<i4")
    return b"".join([
        _pack_matrix(np.reshape(mean, (-1, 1))), _pack_matrix(vectors.reshape(len(basis), 3 * len(mean)).T),
        _pack_matrix(np.reshape(length**2, (-1, 1))), struct.pack("<Q", len(triangles)), triangles.tobytes()])


def _pack_expressions(model):
    if not len(model.expression_basis):
        return b"\1"
    if model.expression_kind == "statistical":
        return struct.pack("<Bi", 0, _PCA) + _pack_pca(np.zeros_like(model.mean), np.asarray(model.expression_basis),
                                                       model.topology.triangles)
    parts = [struct.pack("<BiQ", 0, _BLENDSHAPES, len(model.expression_basis))]
    for name, offsets in zip(model.expression_names, np.asarray(model.expression_basis), strict=True):
        parts += [struct.pack("<Q", len(name.encode())), name.encode(), _pack_matrix(offsets.reshape(-1, 1))]
    return b"".join(parts)
