"""glTF: written and read again, of other programs, placed by nodes, damaged."""

import json
import struct

import numpy as np
import pytest
import trimesh
from scipy.spatial.transform import Rotation
from small_face import faces, random_codes, small_face

from sfm_jax import convert
from sfm_jax.morphable.formats.gltf import load_gltf, unpack_glb


@pytest.fixture(scope="module")
def face():
    return small_face()


def test_gltf_gives_back_the_vertices_of_any_codes(face, tmp_path):
    convert.write_glb_model(tmp_path / "face.glb", face.model)
    again = load_gltf(tmp_path / "face.glb")
    codes = random_codes(face.model)
    np.testing.assert_allclose(faces(again, *codes), faces(face.model, *codes), atol=2e-5)  # float32 metres
    assert again.expression_names == face.model.expression_names and again.licence == face.model.licence
    for key in ("landmarks", "contour_lines", "triangles"):
        np.testing.assert_array_equal(getattr(again.topology, key), getattr(face.model.topology, key))
    ours, theirs = face.model.topology, again.topology
    np.testing.assert_allclose(theirs.uv[theirs.uv_triangles], ours.uv[ours.uv_triangles], atol=1e-6)


@pytest.mark.parametrize(("dtype", "kind", "tolerance"), [(np.uint16, 5123, 1e-5), (np.uint8, 5121, 3e-3)])
def test_normalised_integers_are_fractions(face, tmp_path, dtype, kind, tolerance):
    """Texture coordinates may be so in the core of glTF 2.0."""
    convert.write_glb_model(tmp_path / "face.glb", face.model)
    content, binary = unpack_glb("", (tmp_path / "face.glb").read_bytes())
    accessor = content["accessors"][content["meshes"][0]["primitives"][0]["attributes"]["TEXCOORD_0"]]
    view = content["bufferViews"][accessor["bufferView"]]
    start = view.get("byteOffset", 0) + accessor.get("byteOffset", 0)
    values = np.frombuffer(binary, np.float32, 2 * accessor["count"], start)
    whole = np.round(np.clip(values, 0, 1) * np.iinfo(dtype).max).astype(dtype).tobytes()
    content["bufferViews"].append({"buffer": 0, "byteOffset": len(binary), "byteLength": len(whole)})
    accessor |= {"componentType": kind, "normalized": True, "bufferView": len(content["bufferViews"]) - 1,
                 "byteOffset": 0}
    binary += whole + bytes(-len(whole) % 4)
    content["buffers"][0]["byteLength"] = len(binary)
    text = json.dumps(content).encode()
    text += b" " * (-len(text) % 4)
    (tmp_path / "whole.glb").write_bytes(
        struct.pack("<III", 0x46546C67, 2, 28 + len(text) + len(binary)) + struct.pack("<II", len(text), 0x4E4F534A)
        + text + struct.pack("<II", len(binary), 0x004E4942) + binary)
    found, true = (load_gltf(tmp_path / name).topology for name in ("whole.glb", "face.glb"))
    np.testing.assert_allclose(found.uv[found.uv_triangles], true.uv[true.uv_triangles], atol=tolerance)


def test_other_readers_see_the_morph_targets(face, tmp_path):
    pygltflib = pytest.importorskip("pygltflib")
    convert.write_glb_model(tmp_path / "face.glb", face.model)
    mesh = pygltflib.GLTF2().load(str(tmp_path / "face.glb")).meshes[0]
    assert mesh.extras["targetNames"] == ["identity 1", "identity 2", "identity 3", "jawOpen", "mouthSmileLeft"]
    assert len(mesh.primitives[0].targets) == 5 and mesh.name == "face"


def test_foreign_and_damaged_gltf(face, tmp_path):
    mesh = trimesh.Trimesh(face.mean / 1000, face.triangles, process=False)
    (tmp_path / "theirs.glb").write_bytes(mesh.export(file_type="glb"))
    model = load_gltf(tmp_path / "theirs.glb")
    np.testing.assert_allclose(model.mean, face.mean, atol=2e-5)
    assert model.identity_basis.shape == (0, len(face.mean), 3) and not len(model.topology.landmarks)
    np.testing.assert_array_equal(model.decode(np.zeros(0, np.float32), np.zeros(0, np.float32)), model.mean)
    data = (tmp_path / "theirs.glb").read_bytes()
    for content, message in ((data[:-5000], "ends within its binary chunk"), (data[:100], "ends within its JSON chunk"),
                             (b"glTF", "not a binary glTF"), (data[:10] + b"xx", "glb: ")):
        (tmp_path / "bad.glb").write_bytes(content)
        with pytest.raises(ValueError, match=message) as caught:
            load_gltf(tmp_path / "bad.glb")
        assert "bad.glb" in str(caught.value) and "\n" not in str(caught.value)
    content, binary = unpack_glb("theirs.glb", data)
    assert content["asset"]["version"] == "2.0" and len(binary) >= face.mean.size * 4


def pack(path, content, binary):
    text = json.dumps(content).encode()
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<2I", len(text), 0x4E4F534A) + text + struct.pack("<2I", len(binary), 0x004E4942) + binary
    path.write_bytes(struct.pack("<3I", 0x46546C67, 2, 12 + len(chunks)) + chunks)


def test_the_mesh_of_a_gltf_is_where_its_nodes_put_it(face, tmp_path):
    """Moved away in its own axes, and back by nodes: glTF's order of scale, rotation, translation, and its columns."""
    turn, other = Rotation.from_euler("xyz", [20, -70, 130], degrees=True), Rotation.from_euler("x", 50, degrees=True)
    scale, shift, matrix = np.array([0.5, 2.0, 3.0]), np.array([0.1, -0.2, 0.3]), np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = 0.1 * other.as_matrix(), [1.0, 2.0, 3.0]

    def away(points, moved=1.0):  # in mm; of displacements without the shifts
        within = turn.inv().apply(points.reshape(-1, 3) - 1000 * moved * shift) / scale
        return (10 * other.inv().apply(within - 1000 * moved * matrix[:3, 3])).reshape(points.shape)

    model = face.model
    moved = model.replace(mean=away(np.asarray(model.mean, np.float64)), identity_basis=away(face.identity, 0),
                          expression_basis=away(face.expression, 0))
    convert.write_glb_model(tmp_path / "moved.glb", moved)
    content, binary = unpack_glb("moved.glb", (tmp_path / "moved.glb").read_bytes())
    content["nodes"] = [{"mesh": 0, "matrix": matrix.T.ravel().tolist()},
                        {"children": [0], "rotation": turn.as_quat().tolist(), "scale": scale.tolist(),
                         "translation": shift.tolist()}, {"children": [1]}]
    content["scenes"] = [{"nodes": [2]}]
    pack(tmp_path / "face.glb", content, binary)
    again, codes = load_gltf(tmp_path / "face.glb"), random_codes(model)
    truth = faces(model.replace(identity_basis=face.identity), *codes)
    np.testing.assert_allclose(faces(again, *codes), truth, atol=0.01)  # float32, some metres away
    seen = trimesh.load(tmp_path / "face.glb", process=False).to_mesh().vertices
    np.testing.assert_allclose(np.sort(1000 * seen[:, 2])[[0, -1]], np.sort(again.mean[:, 2])[[0, -1]], atol=0.01)
    for wrong, message in (({"children": [2]}, "node 0: found among the nodes below itself, expected a tree"),
                           ({"matrix": [1.0, 2.0]}, r"node 0: matrix: shape \(2,\), expected \(16,\)"),
                           ({"rotation": [0, 0, 0, 0]}, "node 0: rotation: found .*, expected a unit quaternion")):
        pack(tmp_path / "bad.glb", content | {"nodes": [{"mesh": 0} | wrong, *content["nodes"][1:]]}, binary)
        with pytest.raises(ValueError, match=f"bad.glb: {message}"):
            load_gltf(tmp_path / "bad.glb")


@pytest.mark.parametrize("names, told", [(["head", "eye"], "1 other mesh left out"),
                                         (["head", "eye", "tooth"], "2 other meshes left out"), (["head"], "")])
def test_meshes_of_a_gltf_that_are_left_out_are_counted(face, tmp_path, names, told):
    scene, ball = trimesh.Scene(), trimesh.creation.icosphere(radius=0.03)
    for name in names:
        mesh = trimesh.Trimesh(face.mean / 1000, face.triangles, process=False) if name == "head" else ball
        scene.add_geometry(mesh, geom_name=name, node_name=name)
    scene.export(tmp_path / "a.glb")
    assert load_gltf(tmp_path / "a.glb").source == "glTF a.glb" + (f" ({told})" if told else "")
    content, binary = unpack_glb("a.glb", (tmp_path / "a.glb").read_bytes())
    content["meshes"] = content["meshes"][::-1]
    pack(tmp_path / "a.glb", content, binary)
    if told:
        with pytest.raises(ValueError, match=rf"a.glb: the mean face measures 60 .* \({told}\)"):
            load_gltf(tmp_path / "a.glb")
