"""A mesh with a colour for each vertex as binary glTF, quickly: what the browser is sent when a slider moves.

The viewer's server has no other way to colour vertices. Only positions, normals and colours are packed anew; the rest
of the file is made once. Lengths stay in millimetres here, for nobody but our own browser page reads these bytes.
"""

import json
import struct

import numpy as np

from sfm_jax.geometry.mesh import edge_list

ROUGHNESS = 0.55
LINE_OFFSET = 0.15  # mm in front of the surface, so that lines are not half buried in it
LINE_COLOUR = (0.02, 0.02, 0.03, 0.4)  # linear RGB and opacity
_FLOAT, _SHORT, _INT = 5126, 5123, 5125
_LINES, _TRIANGLES = 1, 4
_VERTEX_BUFFER, _INDEX_BUFFER = 34962, 34963


class ColouredMesh:
    """triangles [F, 3] of V vertices; `pack` makes the bytes."""

    def __init__(self, triangles: np.ndarray, vertices: int):
        kind = np.uint16 if vertices < 2**16 - 1 else np.uint32
        self._faces = np.ascontiguousarray(triangles, kind)
        self._lines = edge_list(triangles).vertices.astype(kind)

    def pack(self, vertices: np.ndarray, normals: np.ndarray, colours: np.ndarray, *, lit: bool = True,
             wireframe: bool = False) -> bytes:
        """vertices, unit normals and linear RGB colours [V, 3] as a GLB file; colours that are not lit are shown as
        they are; with wireframe the edges lie on top. Back faces are not seen: at silhouettes they would glitter."""
        buffer = _Buffer()
        attributes = {"POSITION": buffer.floats(vertices, bounds=True), "NORMAL": buffer.floats(normals),
                      "COLOR_0": buffer.floats(colours)}
        primitives = [{"mode": _TRIANGLES, "attributes": attributes, "indices": buffer.indices(self._faces),
                       "material": 0}]
        if wireframe:
            dark = np.broadcast_to(np.float32(LINE_COLOUR), (len(vertices), 4))
            attributes = {"POSITION": buffer.floats(vertices + LINE_OFFSET * normals, bounds=True),
                          "COLOR_0": buffer.floats(dark)}
            primitives.append({"mode": _LINES, "attributes": attributes, "indices": buffer.indices(self._lines),
                               "material": 1})
        surface = {"pbrMetallicRoughness": {"metallicFactor": 0, "roughnessFactor": ROUGHNESS}}
        plain = {"extensions": {"KHR_materials_unlit": {}}}
        content = {
            "asset": {"version": "2.0"}, "extensionsUsed": ["KHR_materials_unlit"],
            "scene": 0, "scenes": [{"nodes": [0]}], "nodes": [{"mesh": 0}], "meshes": [{"primitives": primitives}],
            "materials": [surface if lit else plain, plain | {"alphaMode": "BLEND"}],
            "accessors": buffer.accessors, "bufferViews": buffer.views, "buffers": [{"byteLength": buffer.length}]}
        return buffer.file(content)


class _Buffer:
    def __init__(self):
        self.accessors, self.views, self.parts, self.length = [], [], [], 0

    def floats(self, values, bounds=False) -> int:
        values = np.ascontiguousarray(values, np.float32)
        accessor = {"componentType": _FLOAT, "count": len(values), "type": f"VEC{values.shape[1]}"}
        if bounds:
            accessor |= {"min": values.min(0).tolist(), "max": values.max(0).tolist()}
        return self._append(values, accessor, _VERTEX_BUFFER)

    def indices(self, values) -> int:
        component = _SHORT if values.dtype == np.uint16 else _INT
        accessor = {"componentType": component, "count": values.size, "type": "SCALAR"}
        return self._append(values, accessor, _INDEX_BUFFER)

    def _append(self, values, accessor, target) -> int:
        data = values.tobytes()
        self.accessors.append(accessor | {"bufferView": len(self.views)})
        self.views.append({"buffer": 0, "byteOffset": self.length, "byteLength": len(data), "target": target})
        self.parts += [data, bytes(-len(data) % 4)]
        self.length += len(data) + len(self.parts[-1])
        return len(self.accessors) - 1

    def file(self, content) -> bytes:
        text = json.dumps(content, allow_nan=False, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 4)
        return b"".join([b"glTF", struct.pack("<II", 2, 12 + 8 + len(text) + 8 + self.length),
                         struct.pack("<I4s", len(text), b"JSON"), text,
                         struct.pack("<I4s", self.length, b"BIN\0"), *self.parts])
