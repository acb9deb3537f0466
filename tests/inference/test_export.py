"""Files read back by other readers: trimesh, pygltflib, Pillow."""

import io
import os
from functools import partial

import numpy as np
import pygltflib
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from sfm_jax.inference import export
from sfm_jax.morphable.default import load_default

ROWS, COLUMNS = 96, 128  # of textures: not square, so that swapped axes show
COMPONENTS = {5123: np.uint16, 5125: np.uint32, 5126: np.float32}
WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3}


def box():
    """A box of 8 vertices with a UV square for each side: every edge is a seam."""
    vertices = np.array([[x, y, z] for x in (-40, 40) for y in (-60, 60) for z in (-50, 50)], np.float32)
    vertices += np.float32(0.123457)
    sides = np.array([[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]])
    corner = np.array([[0.02, 0.02], [0.31, 0.02], [0.31, 0.45], [0.02, 0.45]])
    uv = np.concatenate([corner + [k % 3 / 3, k // 3 / 2] for k in range(6)]).astype(np.float32)
    halves = np.array([[0, 1, 2], [0, 2, 3]])
    uv_triangles = np.concatenate([4 * k + halves for k in range(6)])
    return dict(vertices=vertices, triangles=sides[:, halves].reshape(-1, 3), uv=uv, uv_triangles=uv_triangles)


def face():
    model = load_default(0)
    topology = model.topology
    return dict(vertices=np.asarray(model.mean), triangles=topology.triangles, uv=topology.uv,
                uv_triangles=topology.uv_triangles)


def painted():
    """A texture whose colour tells the place: red is u, green is v (upwards)."""
    row, column = np.mgrid[:ROWS, :COLUMNS] + 0.5
    return np.stack([column / COLUMNS, 1 - row / ROWS, np.full((ROWS, COLUMNS), 0.25)], -1)


def colour_at(image, x, y):
    """The pixel at x, y in 0..1, y downwards from the first row."""
    return image[(y * len(image)).astype(int), (x * image.shape[1]).astype(int)] / 255


def place_colour(uv):
    return np.concatenate([uv, np.full_like(uv[:, :1], 0.25)], 1)


load = partial(trimesh.load, process=False, force="mesh")


class Glb:
    """A GLB file, as pygltflib and the specification's layout of accessors have it."""

    def __init__(self, path):
        self.file = pygltflib.GLTF2().load(str(path))
        self.mesh, = self.file.meshes
        self.primitive, = self.mesh.primitives
        content = path.read_bytes()
        assert len(content) % 4 == 0 and int.from_bytes(content[8:12], "little") == len(content)
        assert all(view.byteOffset % 4 == 0 for view in self.file.bufferViews)

    def accessor(self, index):
        accessor = self.file.accessors[index]
        kind, width = np.dtype(COMPONENTS[accessor.componentType]), WIDTHS[accessor.type]
        if accessor.sparse is None:
            values = self.view(accessor.bufferView, kind, accessor.count, width)
        else:
            sparse = accessor.sparse
            values = np.zeros((accessor.count, width), kind)
            rows = self.view(sparse.indices.bufferView, np.dtype(COMPONENTS[sparse.indices.componentType]),
                             sparse.count, 1)[:, 0]
            assert (np.diff(rows.astype(int)) > 0).all(), "the specification wants them rising"
            values[rows] = self.view(sparse.values.bufferView, kind, sparse.count, width)
        if accessor.min:
            np.testing.assert_array_equal([accessor.min, accessor.max], [values.min(0), values.max(0)])
        return values

    def view(self, index, kind, count, width):
        view = self.file.bufferViews[index]
        assert view.byteLength == count * width * kind.itemsize
        values = np.frombuffer(self.file.binary_blob(), kind, count * width, view.byteOffset)
        return values.reshape(count, width)

    def attribute(self, name):
        return self.accessor(getattr(self.primitive.attributes, name))

    def corners(self):
        return self.accessor(self.primitive.indices).reshape(-1, 3)

    def target(self, name):
        """What a morph target adds to positions and normals."""
        target = self.primitive.targets[self.mesh.extras["targetNames"].index(name)]
        return self.accessor(target["POSITION"]), self.accessor(target["NORMAL"])

    def image(self, texture):
        image = self.file.images[self.file.textures[texture.index].source]
        view = self.file.bufferViews[image.bufferView]
        blob = self.file.binary_blob()[view.byteOffset : view.byteOffset + view.byteLength]
        return np.asarray(Image.open(io.BytesIO(blob)))


@pytest.mark.parametrize("shape", [box, face])
@pytest.mark.parametrize(("name", "scale", "near"), [("a.obj", 1, 1e-4), ("a.glb", 1e-3, 1e-7)])
def test_textured_meshes_come_back(tmp_path, shape, name, scale, near):
    mesh = shape()
    write = {"a.obj": export.write_obj, "a.glb": export.write_glb}[name]
    write(tmp_path / name, **mesh, texture=painted())
    read = load(tmp_path / name)
    np.testing.assert_allclose(read.vertices[read.faces], scale * mesh["vertices"][mesh["triangles"]], atol=near)
    uv = read.visual.uv[read.faces].reshape(-1, 2)
    np.testing.assert_allclose(uv, mesh["uv"][mesh["uv_triangles"]].reshape(-1, 2), atol=1e-6)
    material = read.visual.material
    texture = np.asarray((material.image if name == "a.obj" else material.baseColorTexture).convert("RGB"))
    np.testing.assert_array_equal(texture, np.rint(255 * painted()))
    np.testing.assert_allclose(colour_at(texture, uv[:, 0], 1 - uv[:, 1]), place_colour(uv), atol=0.5 / ROWS + 0.004)


def test_obj_keeps_its_vertices_at_seams(tmp_path):
    mesh = box()
    export.write_obj(tmp_path / "a.obj", **mesh, texture=painted())
    assert sorted(os.listdir(tmp_path)) == ["a.mtl", "a.obj", "a.png"]
    lines = (tmp_path / "a.obj").read_text().splitlines()
    count = {kind: sum(line.startswith(kind + " ") for line in lines) for kind in ("v", "vt", "vn", "f")}
    assert count == {"v": 8, "vt": 24, "vn": 0, "f": 12}
    assert "millimetres" in lines[0]


@pytest.mark.parametrize("with_uv", [False, True])
def test_obj_with_normals(tmp_path, with_uv):
    ball = trimesh.creation.icosphere(2, 80.0)
    normals = ball.vertices / 80
    uv = dict(uv=np.random.default_rng(0).random((len(normals), 2))) if with_uv else {}
    export.write_obj(tmp_path / "a.obj", ball.vertices, ball.faces, normals=normals, **uv)
    lines = [line.split() for line in (tmp_path / "a.obj").read_text().splitlines()]
    corners = np.array([[part.split("/") for part in line[1:]] for line in lines if line[0] == "f"])
    for column in ([0, 1, 2] if with_uv else [0, 2]):
        np.testing.assert_array_equal(corners[..., column].astype(int) - 1, ball.faces)
    assert with_uv or (corners[..., 1] == "").all()
    found = np.array([line[1:] for line in lines if line[0] == "vn"], float)
    np.testing.assert_allclose(found[corners[..., 2].astype(int) - 1], normals[ball.faces], atol=1e-5)


@pytest.mark.parametrize("bare", [False, True])
def test_ply(tmp_path, bare):
    vertices, triangles = face()["vertices"], face()["triangles"]
    colours, normals = np.random.default_rng(0).random((2, *vertices.shape))
    extras = {} if bare else dict(colours=colours, normals=normals)
    export.write_ply(tmp_path / "a.ply", vertices, triangles, **extras)
    read = load(tmp_path / "a.ply")
    np.testing.assert_array_equal(read.vertices, vertices)
    np.testing.assert_array_equal(read.faces, triangles)
    if extras:
        np.testing.assert_array_equal(read.visual.vertex_colors[:, :3], np.rint(255 * colours))
        raw = read.metadata["_ply_raw"]["vertex"]["data"]
        np.testing.assert_array_equal(np.stack([raw["nx"], raw["ny"], raw["nz"]], 1), normals.astype(np.float32))
    head = (tmp_path / "a.ply").read_bytes().split(b"end_header")[0].decode("ascii")
    assert "format binary_little_endian 1.0" in head and "millimetres" in head


@pytest.mark.parametrize("shape", [box, face])
def test_glb_splits_vertices_at_seams_and_nowhere_else(tmp_path, shape):
    mesh = shape()
    export.write_glb(tmp_path / "a.glb", **mesh, texture=painted())
    glb = Glb(tmp_path / "a.glb")
    pairs = set(zip(mesh["triangles"].ravel().tolist(), mesh["uv_triangles"].ravel().tolist(), strict=True))
    assert len(pairs) > len(mesh["vertices"])
    for name in ("POSITION", "NORMAL", "TEXCOORD_0"):
        assert len(glb.attribute(name)) == len(pairs)
    # The first row of a glTF texture is at v = 0.
    uv = glb.attribute("TEXCOORD_0")
    texture = glb.image(glb.file.materials[0].pbrMetallicRoughness.baseColorTexture)
    ours = np.stack([uv[:, 0], 1 - uv[:, 1]], 1)
    np.testing.assert_allclose(colour_at(texture, uv[:, 0], uv[:, 1]), place_colour(ours), atol=0.5 / ROWS + 0.004)
    # No crease at seams: what was one vertex has one normal.
    corners, found = mesh["triangles"].ravel(), glb.attribute("NORMAL")[glb.corners().ravel()]
    normal = np.zeros((len(mesh["vertices"]), 3))
    normal[corners] = found
    np.testing.assert_array_equal(normal[corners], found)


def test_morph_targets_are_the_models_expressions(tmp_path):
    model = load_default(0)
    basis = np.asarray(model.expression_basis)
    export.write_glb(tmp_path / "a.glb", **face(), morph_targets=dict(zip(model.expression_names, basis, strict=True)))
    glb = Glb(tmp_path / "a.glb")
    assert tuple(glb.mesh.extras["targetNames"]) == model.expression_names
    assert glb.mesh.weights == [0.0] * 51 == [0.0] * len(glb.primitive.targets)
    identity = np.zeros(1, np.float32)
    for k, name in enumerate(model.expression_names):
        moved = glb.attribute("POSITION") + glb.target(name)[0]
        decoded = np.asarray(model.decode(identity, np.eye(51, dtype=np.float32)[k]))
        np.testing.assert_allclose(moved[glb.corners()], decoded[model.topology.triangles] / 1000, atol=1e-7)
    accessors = [index for target in glb.primitive.targets for index in target.values()]
    assert {glb.file.accessors[index].componentType for index in accessors} == {5126}
    assert all(glb.file.accessors[target["POSITION"]].min for target in glb.primitive.targets)


def test_normals_of_a_ball_and_of_the_ellipsoid_into_which_it_is_morphed(tmp_path):
    ball = trimesh.creation.icosphere(4, 80.0)
    axes = np.array([1.0, 1.5, 0.7])
    stretch = ball.vertices * (axes - 1)
    export.write_glb(tmp_path / "a.glb", ball.vertices, ball.faces, morph_targets={"stretch": stretch})
    glb = Glb(tmp_path / "a.glb")
    position, normal = glb.attribute("POSITION"), glb.attribute("NORMAL")
    np.testing.assert_allclose(normal, position / 0.08, atol=0.01)
    np.testing.assert_allclose(np.linalg.norm(normal, axis=1), 1, atol=1e-6)
    moved, turned = glb.target("stretch")
    gradient = (position + moved) / axes**2
    np.testing.assert_allclose(normal + turned, gradient / np.linalg.norm(gradient, axis=1, keepdims=True), atol=0.02)


def test_given_normals_are_made_unit(tmp_path):
    mesh = box()
    normals = np.tile(np.float32([0, 3, 4]), (8, 1))
    normals[5] = 0
    export.write_glb(tmp_path / "a.glb", mesh["vertices"], mesh["triangles"], normals=normals)
    expected = np.tile(np.float32([0, 0.6, 0.8]), (8, 1))
    expected[5] = [0, 0, 1]
    np.testing.assert_allclose(Glb(tmp_path / "a.glb").attribute("NORMAL"), expected, atol=1e-7)


def test_glb_material(tmp_path):
    mesh = box()
    bumps = np.random.default_rng(0).integers(0, 256, (8, 4, 3), np.uint8)
    export.write_glb(tmp_path / "a.glb", **mesh, texture=painted(), normal_map=bumps)
    glb = Glb(tmp_path / "a.glb")
    material, = glb.file.materials
    np.testing.assert_array_equal(glb.image(material.normalTexture), bumps)
    np.testing.assert_array_equal(glb.image(material.pbrMetallicRoughness.baseColorTexture), np.rint(255 * painted()))
    assert material.pbrMetallicRoughness.metallicFactor == 0
    assert material.pbrMetallicRoughness.roughnessFactor == pytest.approx(0.6)
    assert {image.mimeType for image in glb.file.images} == {"image/png"}
    assert glb.file.buffers[0].uri is None


@pytest.mark.parametrize(("count", "kind"), [(65535, np.uint16), (65536, np.uint32)])
def test_indices_have_as_many_bits_as_the_vertices_need(tmp_path, count, kind):
    """The index 65535 would end the triangle: it is no vertex of 16 bits."""
    vertices = np.random.default_rng(0).standard_normal((count, 3))
    export.write_glb(tmp_path / "a.glb", vertices, [[0, 1, count - 1]])
    corners = Glb(tmp_path / "a.glb").corners()
    assert corners.dtype == kind
    np.testing.assert_array_equal(corners, [[0, 1, count - 1]])


@settings(max_examples=60, deadline=None)
@given(arrays(np.float32, st.integers(1, 12).map(lambda side: (side, side)),
              elements=st.floats(-1, 1, width=32)), st.sampled_from([1e-20, 1e-3, 1.0, 7.3, 1e5]))
def test_displacement_round_trip(tmp_path_factory, shape, scale):
    given_mm = (shape * np.float32(scale)).astype(np.float32)
    path = tmp_path_factory.mktemp("map") / "a.png"
    export.write_displacement(path, given_mm, given_mm > 0)
    with np.load(path.with_suffix(".npz")) as file:
        unit, offset = file["millimetres_per_unit"], file["offset_mm"]
        np.testing.assert_array_equal(file["displacement_mm"], given_mm)
        np.testing.assert_array_equal(file["mask"], given_mm > 0)
    with Image.open(path) as image:
        assert (image.mode, image.format) == ("I;16", "PNG")
        assert [float(image.text[key]) for key in ("millimetres_per_unit", "offset_mm")] == [unit, offset]
        values = np.asarray(image).astype(np.float64)
    assert np.abs(values * unit + offset - given_mm).max() <= unit * (0.5 + 1e-6)
    assert values.min() >= 1 and (values[given_mm == 0] == 32768).all()
    assert np.abs(export.read_displacement(path) - given_mm.astype(np.float64)).max() <= unit * 0.51
    assert export.read_displacement(path).dtype == np.float32
    assert (export.read_displacement(path)[given_mm == 0] == 0).all()
    np.testing.assert_array_equal(export.read_displacement(path.with_suffix(".npz")), given_mm)


def test_displacement_has_sixteen_bits(tmp_path):
    ramp = np.linspace(-1, 1, 256 * 256).reshape(256, 256)
    export.write_displacement(tmp_path / "a.png", ramp)
    assert len(np.unique(np.asarray(Image.open(tmp_path / "a.png")))) == 65535  # from 1, as many below 0 as above
    assert (tmp_path / "a.png").read_bytes()[24:26] == bytes([16, 0])  # IHDR: bit depth, greyscale


def test_files_that_are_no_displacement_maps(tmp_path):
    export.write_image(tmp_path / "colour.png", painted())
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(tmp_path / "bare.png")
    np.savez(tmp_path / "other.npz", mask=np.zeros(3))
    (tmp_path / "broken.npz").write_bytes(b"PK")
    for name, message in [("colour.png", "mode RGB"), ("bare.png", "'millimetres_per_unit' is missing"),
                          ("other.npz", "'displacement_mm' is missing"), ("broken.npz", "not a readable"),
                          ("absent.png", "No such file"), ("a.tif", "extension '.tif'")]:
        with pytest.raises(ValueError, match=message) as error:
            export.read_displacement(tmp_path / name)
        assert name in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("channels", [(), (3,), (4,)])
def test_images(tmp_path, channels):
    levels = np.random.default_rng(0).integers(0, 256, (5, 7, *channels), np.uint8)
    for image in (levels, levels / 255, np.float32(levels / 255)):
        export.write_image(tmp_path / "a.png", image)
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "a.png")), levels)


def test_gif(tmp_path):
    """Smooth colours from red to blue: each frame has a palette of its own, and the last one, given twice, lasts."""
    row, column = np.mgrid[:60, :80] / 80
    frames = [np.stack([(1 - k / 9) * column, row, k / 9 * column], -1) for k in range(10)]
    export.write_gif(tmp_path / "a.gif", iter([*frames, frames[-1]]), 1 / 30)
    with Image.open(tmp_path / "a.gif") as image:
        assert image.n_frames == 10 and image.info["loop"] == 0
        durations = []
        for k, frame in enumerate(frames):
            image.seek(k)
            durations.append(image.info["duration"])
            assert np.abs(np.asarray(image.convert("RGB")) / 255 - frame).mean() < 0.015
    # Hundredths of a second that add up to 11 / 30.
    assert set(durations[:-1]) == {30, 40} and durations[-1] == 70 and sum(durations) == 370
