"""Models in glTF: one mesh whose morph targets are the components. Metres there, millimetres here.

Targets named "identity 1", "identity 2", .. are identities, all others expressions. Vertices that seams of UVs split
become one again: rows that follow each other and move alike in every target. The mesh is where its node puts it in the
scene. What glTF has no place for stands in the mesh's extras, under "sfm_jax": landmarks and contour lines as rows of
the accessors, name, source and licence.
"""

import json
import os
import struct
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

from sfm_jax.array_files import check_expansion, integers, lengths, one_line
from sfm_jax.morphable.formats.assemble import NO_LICENCE, UNITS, assemble
from sfm_jax.morphable.formats.files import read_bytes
from sfm_jax.morphable.model import MorphableModel

IDENTITY = "identity "
EXTRAS = "sfm_jax"
_MAGIC, _JSON, _BIN = 0x46546C67, 0x4E4F534A, 0x004E4942
_DTYPES = {5120: "i1", 5121: "u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
_WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3}


def load_gltf(path: str | os.PathLike) -> MorphableModel:
    """The model of a .glb: of its first mesh the first primitive, which must be of triangles; the source tells how many
    others there are.

    Raises:
      ValueError: naming the file and the part that is missing or wrong.
    """
    parts = _read(path)
    moves = np.stack([parts.positions, *parts.targets])  # [1 + targets, rows, 3]
    fresh = np.append(True, (moves[:, 1:] != moves[:, :-1]).any((0, 2)))
    vertex = np.cumsum(fresh) - 1  # of each row
    mean, *components = moves[:, fresh]
    if parts.placed is not None:
        with np.errstate(all="ignore"):  # what is not finite is found later
            mean = mean @ parts.placed[:3, :3].T + parts.placed[:3, 3]
            components = [each @ parts.placed[:3, :3].T for each in components]
    is_identity = [name.startswith(IDENTITY) for name in parts.names]

    def basis(wanted):
        chosen = [each for each, own in zip(components, is_identity, strict=True) if own == wanted]
        return np.reshape(chosen, (-1, len(mean), 3))

    extras = parts.extras
    try:
        return assemble(
            path, mean=mean, triangles=vertex[parts.triangles], identity=basis(True), expression=basis(False),
            expression_names=[name for name, own in zip(parts.names, is_identity, strict=True) if not own],
            expression_kind="statistical" if extras.get("expression_kind") == "statistical" else "activations",
            uv=parts.uv, uv_triangles=None if parts.uv is None else parts.triangles,
            **{key: vertex[rows] for key, rows in parts.rows.items()}, millimetres=UNITS["m"],
            name=str(extras.get("name", Path(path).stem)), licence=str(extras.get("licence", NO_LICENCE)),
            source=str(extras.get("source", f"glTF {Path(path).name}")) + parts.others)
    except ValueError as error:  # of another mesh than was meant
        raise ValueError(f"{error}{parts.others}") from None


class _Parts(NamedTuple):
    """positions [rows, 3], triangles [F, 3], uv [rows, 2] or None; targets, each [rows, 3], and their names; rows, by
    what they mark (landmarks, contour lines); extras: ours; placed: [4, 4] from the mesh's axes to the scene's, None
    where they are the same; others: what was left out, in words."""

    positions: np.ndarray
    triangles: np.ndarray
    uv: np.ndarray | None
    targets: list[np.ndarray]
    names: list[str]
    rows: dict[str, np.ndarray]
    extras: dict
    placed: np.ndarray | None
    others: str


def _read(path) -> _Parts:
    """The parts of the first primitive of a .glb's first mesh, which fit together."""
    content, binary = unpack_glb(path, read_bytes(path))
    try:
        mesh = content["meshes"][0]
        extras = mesh.get("extras") or {}
        primitive = mesh["primitives"][0]
        if primitive.get("mode", 4) != 4:
            raise ValueError(f"{path}: mode {primitive['mode']}, expected triangles")
        accessors = _Accessors(path, content, binary)
        positions = accessors.array(primitive["attributes"]["POSITION"])
        triangles = _threes(path, accessors.array(primitive["indices"]))
        uv = primitive["attributes"].get("TEXCOORD_0")
        uv = None if uv is None else _places(path, accessors.array(uv), len(positions))
        targets = [accessors.array(target["POSITION"]) for target in primitive.get("targets", [])]
        names = extras.get("targetNames") or [f"target {i + 1}" for i in range(len(targets))]
        names, extras = [str(name) for name in names], extras.get(EXTRAS) or {}
        rows = {key: integers(path, f"extras: {key}", extras[key]) for key in ("landmarks", "contour_lines")
                if np.size(extras.get(key, ()))}
        placed, others = _placed(path, content), _others(content)
    except (KeyError, IndexError) as error:
        raise ValueError(f"{path}: not a glTF mesh of triangles: {error} is missing") from None
    except (TypeError, AttributeError, OverflowError) as error:  # JSON of other kinds than glTF has
        raise ValueError(f"{path}: not a glTF mesh of triangles ({error})") from None
    if positions.ndim != 2 or positions.shape[1] != 3 or not len(positions):
        raise ValueError(f"{path}: POSITION: shape {positions.shape}, expected [rows, 3]")
    if len(names) != len(targets) or any(target.shape != positions.shape for target in targets):
        raise ValueError(f"{path}: {len(names)} target names for {len(targets)} targets, expected as many, of "
                         f"{len(positions)} rows each")
    for key, marked in rows.items():
        if marked.min() < 0 or marked.max() >= len(positions):
            raise ValueError(f"{path}: extras: {key}: {marked.min()}..{marked.max()}, expected 0..{len(positions) - 1}")
    if triangles.min() < 0 or triangles.max() >= len(positions):
        raise ValueError(f"{path}: indices {triangles.min()}..{triangles.max()}, expected 0..{len(positions) - 1}")
    return _Parts(positions, triangles, uv, targets, names, rows, extras, placed, others)


def _others(content):
    """How many meshes and primitives there are besides the one that is read."""
    counts = {"mesh": len(content["meshes"]) - 1, "primitive": len(content["meshes"][0]["primitives"]) - 1}
    plural = {"mesh": "meshes", "primitive": "primitives"}
    told = " and ".join(f"{count} other {kind if count == 1 else plural[kind]}" for kind, count in counts.items()
                        if count)
    return f" ({told} left out)" if told else ""


def _placed(path, content):
    """[4, 4] of the first node that has the first mesh, through all nodes above it; None: it moves nothing.

    As glTF 2.0 has it: column-major matrices, or scale, then rotation, then translation; a skinned mesh stays.
    """
    nodes = content.get("nodes", [])
    above = {child: number for number, node in enumerate(nodes) for child in node.get("children", [])}
    at = next((number for number, node in enumerate(nodes) if node.get("mesh") == 0 and "skin" not in node), None)
    found, seen = np.eye(4), set()
    while at is not None:
        if at in seen:
            raise ValueError(f"{path}: node {at}: found among the nodes below itself, expected a tree")
        seen.add(at)
        with np.errstate(all="ignore"):  # what is not finite is found later
            found = _own_matrix(path, nodes[at], at) @ found
        at = above.get(at)
    return None if (found == np.eye(4)).all() else found


def _own_matrix(path, node, number):
    def values(key, default):
        array = lengths(path, f"node {number}: {key}", node.get(key, default))
        if array.shape != np.shape(default):
            raise ValueError(f"{path}: node {number}: {key}: shape {array.shape}, expected {np.shape(default)}")
        return array

    matrix = values("matrix", np.eye(4).ravel()).reshape(4, 4).T
    if "matrix" not in node:
        turn = values("rotation", [0.0, 0.0, 0.0, 1.0])  # a quaternion x, y, z, w
        if abs(np.linalg.norm(turn) - 1) > 0.01:
            raise ValueError(f"{path}: node {number}: rotation: found {turn.tolist()}, expected a unit quaternion")
        matrix[:3, :3] = Rotation.from_quat(turn).as_matrix() * values("scale", [1.0, 1.0, 1.0])
        matrix[:3, 3] = values("translation", [0.0, 0.0, 0.0])
    return matrix


def unpack_glb(path: str | os.PathLike, data: bytes) -> tuple[dict, bytes]:
    """The JSON and the binary chunk of a GLB. ValueError if it is none, or truncated."""
    if len(data) < 12 or struct.unpack_from("<I", data)[0] != _MAGIC:
        raise ValueError(f"{path}: not a binary glTF (.glb)")
    total, at, chunks = struct.unpack_from("<I", data, 8)[0], 12, {}
    while at + 8 <= total:
        size, kind = struct.unpack_from("<II", data, at) if at + 8 <= len(data) else (total, None)
        if at + 8 + size > len(data):
            raise ValueError(f"{path}: ends within its {'JSON' if kind == _JSON else 'binary'} chunk (has {len(data)} "
                             f"of {total} bytes)")
        chunks[kind], at = data[at + 8:at + 8 + size], at + 8 + size
    try:
        return json.loads(chunks[_JSON]), chunks.get(_BIN, b"")
    except (KeyError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: its JSON chunk is missing or damaged ({one_line(error)})") from None


def with_extras(data: bytes, extras: dict) -> bytes:
    """A GLB with `extras` under "sfm_jax" in those of its first mesh."""
    content, binary = unpack_glb("glb", data)
    content["meshes"][0].setdefault("extras", {})[EXTRAS] = extras
    text = json.dumps(content, allow_nan=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    return b"".join([struct.pack("<III", _MAGIC, 2, 12 + 8 + len(text) + 8 + len(binary)),
                     struct.pack("<II", len(text), _JSON), text, struct.pack("<II", len(binary), _BIN), binary])


def _threes(path, indices):
    if indices.ndim != 1 or not indices.size or indices.size % 3:
        raise ValueError(f"{path}: indices: shape {indices.shape}, expected three a triangle")
    return integers(path, "indices", indices).reshape(-1, 3)


def _places(path, uv, count):
    """v upwards."""
    if uv.shape != (count, 2):
        raise ValueError(f"{path}: TEXCOORD_0: shape {uv.shape}, expected [{count}, 2]")
    return uv * np.float32([1, -1]) + np.float32([0, 1])


class _Accessors:
    def __init__(self, path, content, binary):
        self.path, self.content, self.binary = path, content, binary

    def array(self, index):
        """Accessor [count, width] (or [count]), dense or sparse."""
        accessor = self.content["accessors"][index]
        dtype, width = _DTYPES[accessor["componentType"]], _WIDTHS[accessor["type"]]
        count = self._whole(accessor, "count")
        if "bufferView" in accessor:
            values = self._view(accessor["bufferView"], self._whole(accessor, "byteOffset"), dtype, width, count)
        else:
            self._check_size(count * width * np.dtype(dtype).itemsize)
            values = np.zeros((count, width), dtype)
        if "sparse" in accessor:
            sparse = accessor["sparse"]
            changed = self._whole(sparse, "count")
            rows = integers(self.path, "sparse indices", self._view(
                sparse["indices"]["bufferView"], self._whole(sparse["indices"], "byteOffset"),
                _DTYPES[sparse["indices"]["componentType"]], 1, changed))[:, 0]
            if changed and (rows.min() < 0 or rows.max() >= count):
                raise ValueError(f"{self.path}: sparse indices {rows.min()}..{rows.max()}, expected 0..{count - 1}")
            values = values.copy()
            values[rows] = self._view(sparse["values"]["bufferView"], self._whole(sparse["values"], "byteOffset"),
                                      dtype, width, changed)
        if accessor.get("normalized") and np.issubdtype(values.dtype, np.integer):
            values = np.maximum(values / np.iinfo(values.dtype).max, -1.0)  # glTF 2.0, 3.11
        return values[:, 0] if width == 1 else values

    def _view(self, index, offset, dtype, width, count):
        view = self.content["bufferViews"][index]
        size = np.dtype(dtype).itemsize * width
        stride = self._whole(view, "byteStride") or size
        start = self._whole(view, "byteOffset") + offset
        if not count:
            return np.zeros((0, width), dtype)
        if start + stride * (count - 1) + size > len(self.binary):
            raise ValueError(f"{self.path}: buffer view {index} ends beyond the {len(self.binary)} bytes of the binary")
        rows = np.lib.stride_tricks.as_strided(np.frombuffer(self.binary, np.uint8)[start:], (count, size), (stride, 1))
        return np.ascontiguousarray(rows).view(dtype)

    def _check_size(self, size):
        try:
            check_expansion(size, self.path)
        except ValueError as error:
            raise ValueError(f"{self.path}: accessor: {error}") from None

    def _whole(self, place, key):
        """A whole number of 0 or more; 0 if it is not there."""
        value = place.get(key, 0)
        if type(value) is not int or value < 0:
            raise ValueError(f"{self.path}: {key}: found {one_line(repr(value))}, expected a whole number of 0 or more")
        return value
