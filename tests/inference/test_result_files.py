"""Result files of a toy face, with and without UVs; pages of strangely named photos; failures on the way.

What is in the files of the embedded face: test_faces_from_photos.py.
"""

import dataclasses
import json
import os
import urllib.parse
from html.parser import HTMLParser

import jax.numpy as jnp
import numpy as np
import pygltflib
import pytest
import toy
import trimesh
from PIL import Image

from sfm_jax.geometry.rotation import rotation_from_euler
from sfm_jax.inference import result_files
from sfm_jax.inference.reconstruction import Reconstruction
from sfm_jax.inference.result_files import Entry, complete, laid_over, overlay, write_face, write_page
from sfm_jax.render import ambient

PHOTO = np.random.default_rng(0).integers(0, 255, (120, 160, 3), dtype=np.uint8)
TEXTURE = np.random.default_rng(1).uniform(0, 1, (32, 32, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def found():
    """A face of a toy model, turned, 80 pixels wide in the middle of the photo."""
    model = toy.model(subdivisions=2)
    rotation = np.asarray(rotation_from_euler(jnp.array([20.0, -10.0, 5.0])))
    camera = np.column_stack([0.5 * rotation[:2] * [[1], [-1]], [80.0, 60.0]])
    rng = np.random.default_rng(2)
    face = Reconstruction(
        model, rng.normal(size=6).astype(np.float32), np.eye(4)[0], np.float32([0.1, 0.7, 0.0]), np.float32([1, -1]),
        np.asarray(ambient().coefficients), rotation, np.array([20.0, -10, 5]), camera, np.zeros((68, 2)),
        np.array([40.0, 20, 120, 100]), 0.9, 0.8, True)
    return dataclasses.replace(face, landmarks68_px=face.project(face.vertices()[model.topology.landmarks]))


def without_uv(found):
    topology = dataclasses.replace(found.model.topology, uv=np.zeros((0, 2), np.float32),
                                   uv_triangles=np.zeros((0, 3), np.int32))
    return dataclasses.replace(found, model=found.model.replace(topology=topology, expression_names=()))


def test_sizes_and_colours_of_what_is_written(tmp_path, found):
    write_face(tmp_path / "a", PHOTO, found, TEXTURE, "toy.npz", 1)
    with Image.open(tmp_path / "a" / "overlay.png") as shown:
        assert shown.size == (5 * result_files.TILE + 4 * result_files.GAP, result_files.TILE)
    with Image.open(tmp_path / "a" / "face.png") as picture:
        np.testing.assert_array_equal(np.asarray(picture), np.rint(255 * TEXTURE))
    obj = trimesh.load(tmp_path / "a" / "face.obj", process=False)
    corners = obj.visual.uv[obj.faces] * [1, 1]
    topology = found.model.topology
    np.testing.assert_allclose(corners, topology.uv[topology.uv_triangles], atol=1e-5)
    ply = trimesh.load(tmp_path / "a" / "face.ply", process=False)
    linear = (np.maximum((ply.visual.vertex_colors[:, :3] / 255 + 0.055) / 1.055, 0)) ** 2.4  # none is that dark
    np.testing.assert_allclose(linear, found.colours(), atol=0.01)
    glb = pygltflib.GLTF2().load(str(tmp_path / "a" / "face.glb"))
    assert glb.meshes[0].extras["targetNames"] == ["unit0", "unit1", "unit2"]
    np.testing.assert_allclose(glb.meshes[0].weights, found.expression)
    with np.load(tmp_path / "a" / "params.npz") as params:
        assert params["image_size"].tolist() == [160, 120] and str(params["model"]) == "toy.npz"


def test_a_model_without_uvs_and_names(tmp_path, found):
    bare = without_uv(found)
    write_face(tmp_path / "a", PHOTO, bare, None, "toy.npz", 1)
    assert {file.name for file in (tmp_path / "a").iterdir()} == {
        "face.glb", "face.obj", "face.ply", "overlay.png", "params.json", "params.npz"}
    obj = trimesh.load(tmp_path / "a" / "face.obj", process=False)
    np.testing.assert_allclose(obj.vertices, bare.vertices(), atol=1e-4)
    glb = pygltflib.GLTF2().load(str(tmp_path / "a" / "face.glb"))
    assert glb.meshes[0].extras["targetNames"] == ["expression0", "expression1", "expression2"]
    assert json.loads((tmp_path / "a" / "params.json").read_text())["expression_names"] == []
    write_page(tmp_path / "index.html", [Entry("bare.jpg", ["a"])])
    assert "at rest" in (tmp_path / "index.html").read_text()


def test_the_overlay_shows_the_photo_and_the_face_where_it_is(found):
    """White before black: the photo's tile is black, and white where the clay lies, about the middle."""
    black = np.zeros_like(PHOTO)
    picture = overlay(black, found, TEXTURE)
    tile = result_files.TILE
    plain, clay, dots = (picture[:, start:start + tile].astype(float).max(-1)
                         for start in (0, tile + result_files.GAP, 2 * (tile + result_files.GAP)))
    assert plain.max() == 0
    covered = clay > 10
    row, column = np.nonzero(covered)
    # A sphere of 80 mm at half a pixel per mm; the tile is 1.35 times the larger extent of points and box.
    corners = np.concatenate([found.landmarks68_px, found.face_box.reshape(2, 2)])
    low, high = corners.min(0), corners.max(0)
    zoom = tile / (1.35 * (high - low).max())
    expected = tile / 2 + zoom * (found.camera[:, 3] - (low + high) / 2)
    outline = found.project(found.vertices())
    extent = zoom * np.ptp(outline, axis=0)
    np.testing.assert_allclose([column.mean(), row.mean()], expected, atol=8)
    np.testing.assert_allclose([np.ptp(column), np.ptp(row)], extent, atol=4)
    assert 0 < (dots > 0).mean() < 0.3


@pytest.mark.parametrize(("shape", "size"), [((120, 160), (48, 64)), ((161, 121), (64, 48)), ((30, 41), (30, 40)),
                                             ((1, 300), (2, 64)), ((3, 3), (2, 2))])
def test_frames_for_a_video_have_even_sides(found, shape, size):
    image = np.full((*shape, 3), 100, np.uint8)
    for face in (None, found):
        shown = laid_over(image, face, 64)
        assert shown.shape == (*size, 3) and shown.dtype == np.uint8
    assert (laid_over(image, None, 64) == 100).all()


def test_the_shape_lies_over_the_frame_where_the_face_is(found):
    shown = laid_over(np.zeros((120, 160, 3), np.uint8), found, 64)
    row, column = np.nonzero(shown.max(-1) > 10)
    expected = 0.4 * found.project(found.vertices())
    np.testing.assert_allclose([column.min(), row.min()], expected.min(0), atol=1.5)
    np.testing.assert_allclose([column.max() + 1, row.max() + 1], expected.max(0), atol=1.5)


class Links(HTMLParser):
    """Every href and src of a page, as a browser understands it."""

    def __init__(self, text):
        super().__init__()
        self.paths = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        for key, value in attributes:
            if key in ("href", "src"):
                address = urllib.parse.urlsplit(value)
                assert not address.query and not address.fragment and not address.scheme
                self.paths.append(urllib.parse.unquote(address.path))


@pytest.mark.parametrize("name", ["photo", "a b", 'x"y', "50% #1?", "<b>&amp;", "Zürich 笑", "a:b"])
def test_links_of_any_name_lead_to_files(tmp_path, found, name):
    folder = f"{name}_1"
    (tmp_path / folder).mkdir()
    result_files.write_parameters(tmp_path / folder, found, "toy.npz", 1, found.vertices(), PHOTO.shape)
    for file in ("overlay.png", "overlay.mp4", "face.obj", "face.mtl"):
        (tmp_path / folder / file).write_bytes(b"")
    write_page(tmp_path / "index.html", [Entry(f"{name}.jpg", [folder]), Entry("<i>.jpg", problem="no <face>")])
    text = (tmp_path / "index.html").read_text()
    links = Links(text).paths
    assert len(links) == 7  # five files but for the material, a picture, and a video
    assert all((tmp_path / link).is_file() for link in links), links
    assert "<i>" not in text and "<face>" not in text and "unit1 0.70" in text


def test_a_folder_is_whole_or_as_it_was(tmp_path, found, monkeypatch):
    place = tmp_path / "a"
    write_face(place, PHOTO, found, TEXTURE, "toy.npz", 1)
    before = {file.name: file.read_bytes() for file in place.iterdir()}
    for name in ("write_obj", "write_ply", "write_glb", "write_image"):
        def fail(*_, name=name, **__):
            raise OSError(f"{name}: no space left")

        with monkeypatch.context() as patch:
            patch.setattr(result_files.export, name, fail)
            with pytest.raises(OSError, match="no space left"):
                write_face(place, PHOTO, found, TEXTURE, "toy.npz", 1)
            with pytest.raises(OSError, match="no space left"):
                write_face(tmp_path / "new", PHOTO, found, TEXTURE, "toy.npz", 1)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert {file.name: file.read_bytes() for file in place.iterdir()} == before
    write_face(place, PHOTO, without_uv(found), None, "toy.npz", 1)
    assert not (place / "face.png").exists()  # nothing of the earlier result


def test_what_is_no_result_is_not_replaced(tmp_path, found):
    (tmp_path / "holiday_1").mkdir()
    (tmp_path / "holiday_1" / "diary.txt").write_text("dear diary")
    (tmp_path / "file_1").write_text("")
    for name in ("holiday_1", "file_1"):
        with pytest.raises(ValueError, match=f"{name}: is in the way, expected nothing or an earlier result"):
            write_face(tmp_path / name, PHOTO, found, TEXTURE, "toy.npz", 1)
    assert (tmp_path / "holiday_1" / "diary.txt").read_text() == "dear diary"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file_1", "holiday_1"]


def test_what_a_killed_process_of_the_same_number_left_is_replaced(tmp_path):
    left = tmp_path / f".a.{os.getpid()}.partial"
    left.mkdir()
    (left / "half").write_text("")
    with complete(tmp_path / "a") as place:
        (place / "params.json").write_text("{}")
    assert [path.name for path in tmp_path.rglob("*")] == ["a", "params.json"]


def test_whole_numbers_can_index():
    text = json.dumps([result_files.rounded(np.asarray(value)) for value in (5, True, [2, 3], 0.1234567)])
    assert text == "[5, true, [2, 3], 0.12346]"


def test_an_interrupt_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), complete(tmp_path / "a") as place:
        (place / "half").write_text("")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("names, expected", [
    (("a", "b", "a", "a", "b"), ["a", "b", "a 2", "a 3", "b 2"]), (("a", "a", "a 2"), ["a", "a 3", "a 2"]), ((), [])])
def test_names_of_morph_targets_are_distinct(names, expected):
    assert result_files.distinct(names) == expected
