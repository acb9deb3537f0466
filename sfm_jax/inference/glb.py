"""The bytes of a GLB file: one mesh with morph targets and textures, as glTF 2.0 (ISO/IEC 12113:2022) wants it."""

import json
import struct
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int

from sfm_jax import __version__

CLAY = (0.60, 0.51, 0.44, 1.0)  # linear RGBA of a mesh without a texture: white ones glare
ROUGHNESS = 0.6
_MAGIC, _VERSION, _JSON, _BIN = 0x46546C67, 2, 0x4E4F534A, 0x004E4942
_COMPONENTS = {np.dtype(np.float32): 5126, np.dtype(np.uint16): 5123, np.dtype(np.uint32): 5125}
_TYPES = {1: "SCALAR", 2: "VEC2", 3: "VEC3"}
_VERTEX_BUFFER, _INDEX_BUFFER = 34962, 34963
_TRIANGLES, _LINEAR, _LINEAR_MIPMAP_LINEAR, _CLAMP_TO_EDGE = 4, 9729, 9987, 33071
_RESERVED = 65535  # restarts a primitive where indices have 16 bits: not a vertex


def split_seams(
    triangles: Int[np.ndarray, "F 3"], uv_triangles: Int[np.ndarray, "F 3"]
) -> tuple[Int[np.ndarray, " N"], Int[np.ndarray, " N"], Int[np.ndarray, "F 3"]]:
    """One vertex for each pair of a vertex and a UV that occurs, for formats with one index per corner.

    Returns the vertex and the UV of each (indices into the originals, rising), and the triangles between them. Vertices
    of no triangle are left out.
    """
    pairs = np.stack([triangles.ravel(), uv_triangles.ravel()], 1)
    unique, corner = np.unique(pairs, axis=0, return_inverse=True)
    return unique[:, 0], unique[:, 1], corner.reshape(triangles.shape)


def pack_glb(
    name: str,
    positions: Float[np.ndarray, "N 3"],
    normals: Float[np.ndarray, "N 3"],
    triangles: Int[np.ndarray, "F 3"],
    uv: Float[np.ndarray, "N 2"] | None = None,
    targets: Mapping[str, tuple[Float[np.ndarray, "N 3"], Float[np.ndarray, "N 3"]]] | None = None,
    weights: Sequence[float] = (),
    texture: bytes | None = None,
    normal_map: bytes | None = None,
) -> bytes:
    """A whole GLB file. Arrays must be sound: `export.write_glb` checks what users give.

    Args:
      name: of the mesh, its node and its material.
      positions, normals: in metres and of unit length.
      triangles: indices below N.
      uv: v upwards as everywhere here; glTF has v downwards.
      targets: {name: (positions, normals)}, what each morph target adds.
      weights: of each target when the file is opened.
      texture, normal_map: PNG files, sRGB base colour and tangent-space normals.
    """
    targets = targets or {}
    binary = _Binary()
    attributes = {"POSITION": binary.accessor(positions, bounds=True), "NORMAL": binary.accessor(normals)}
    if uv is not None:
        attributes["TEXCOORD_0"] = binary.accessor(np.stack([uv[:, 0], 1 - uv[:, 1]], 1))
    index_type = np.uint16 if len(positions) <= _RESERVED else np.uint32
    primitive = {"mode": _TRIANGLES, "attributes": attributes, "material": 0,
                 "indices": binary.accessor(triangles.ravel(), index_type, _INDEX_BUFFER)}
    mesh = {"name": name, "primitives": [primitive]}
    if targets:
        primitive["targets"] = [{"POSITION": binary.sparse(moved, bounds=True), "NORMAL": binary.sparse(turned)}
                                for moved, turned in targets.values()]
        mesh |= {"weights": list(weights) or [0.0] * len(targets), "extras": {"targetNames": list(targets)}}

    surface = {"metallicFactor": 0.0, "roughnessFactor": ROUGHNESS}
    # Open at the neck, the mouth and the eyes: the inside is seen, too.
    material = {"name": name, "doubleSided": True, "pbrMetallicRoughness": surface}
    images = []
    if texture is None:
        surface["baseColorFactor"] = list(CLAY)
    else:
        surface["baseColorTexture"] = {"index": binary.image(images, "base colour", texture)}
    if normal_map is not None:
        material["normalTexture"] = {"index": binary.image(images, "normals", normal_map)}

    content = {
        "asset": {"version": "2.0", "generator": f"sfm-jax {__version__}"},
        "scene": 0, "scenes": [{"nodes": [0]}], "nodes": [{"name": name, "mesh": 0}],
        "meshes": [mesh], "materials": [material],
        "accessors": binary.accessors, "bufferViews": binary.views, "buffers": [{"byteLength": binary.length}],
    }
    if images:
        sampler = {"magFilter": _LINEAR, "minFilter": _LINEAR_MIPMAP_LINEAR,
                   "wrapS": _CLAMP_TO_EDGE, "wrapT": _CLAMP_TO_EDGE}
        content |= {"images": images, "samplers": [sampler],
                    "textures": [{"source": i, "sampler": 0} for i in range(len(images))]}
    return _container(json.dumps(content, allow_nan=False, separators=(",", ":")).encode(), b"".join(binary.parts))


class _Binary:
    """The binary chunk as it grows, with the views and accessors into it."""

    def __init__(self):
        self.parts, self.length, self.views, self.accessors = [], 0, [], []

    def accessor(self, values: np.ndarray, dtype=np.float32, target=_VERTEX_BUFFER, bounds: bool = False) -> int:
        """Append values [N] or [N, C]; the accessor's index. Positions must have bounds."""
        values = np.ascontiguousarray(values, np.dtype(dtype).newbyteorder("<"))
        return self._accessor(values, bounds, bufferView=self._view(values.tobytes(), target=target))

    def sparse(self, values: np.ndarray, bounds: bool = False) -> int:
        """As `accessor` of float32 [N, C], but only the rows that are not zero are kept, where that is shorter: an
        expression moves a part of the face."""
        values = np.ascontiguousarray(values, "<f4")
        rows = np.flatnonzero(values.any(1))
        kind = np.uint16 if len(values) <= _RESERVED else np.uint32
        if not len(rows) or len(rows) * (np.dtype(kind).itemsize + values[0].nbytes) >= values.nbytes:
            return self.accessor(values, bounds=bounds)
        indices = self._view(rows.astype(np.dtype(kind).newbyteorder("<")).tobytes())
        return self._accessor(values, bounds, sparse={
            "count": len(rows), "indices": {"bufferView": indices, "componentType": _COMPONENTS[np.dtype(kind)]},
            "values": {"bufferView": self._view(values[rows].tobytes())}})

    def _accessor(self, values, bounds, **content):
        kind = np.dtype(values.dtype.newbyteorder("="))
        accessor = {"count": len(values), "componentType": _COMPONENTS[kind], "type": _TYPES[values[0].size], **content}
        if bounds:
            accessor |= {"min": values.min(0).tolist(), "max": values.max(0).tolist()}
        self.accessors.append(accessor)
        return len(self.accessors) - 1

    def image(self, images: list, name: str, png: bytes) -> int:
        """Append a PNG file and its entry in `images`; the index of the image and of its texture."""
        images.append({"name": name, "mimeType": "image/png", "bufferView": self._view(png)})
        return len(images) - 1

    def _view(self, data, **fields):
        self.views.append({"buffer": 0, "byteOffset": self.length, "byteLength": len(data), **fields})
        self.parts += [data, bytes(-len(data) % 4)]
        self.length += len(data) + len(self.parts[-1])
        return len(self.views) - 1


def _container(content: bytes, binary: bytes) -> bytes:
    content += b" " * (-len(content) % 4)
    length = 12 + 8 + len(content) + 8 + len(binary)
    return b"".join([struct.pack("<III", _MAGIC, _VERSION, length), struct.pack("<II", len(content), _JSON), content,
                     struct.pack("<II", len(binary), _BIN), binary])
