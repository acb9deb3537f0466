"""Faces out of a photo: what is said of them holds together, moves with the photo, and comes back from the files."""

import dataclasses
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pygltflib
import pytest
import scipy.ndimage
import trimesh
from PIL import Image

from sfm_jax.data.damage import to_linear, to_srgb
from sfm_jax.geometry.mesh import vertex_normals
from sfm_jax.geometry.rotation import rotation_from_euler
from sfm_jax.inference import result_files, video
from sfm_jax.inference.face_renderer import FaceRenderer
from sfm_jax.inference.reconstruction import Reconstructor, turned_light
from sfm_jax.inference.texture import Texturer
from sfm_jax.losses.image import colour_distance, masked_image_mean
from sfm_jax.morphable.default import load_default
from sfm_jax.render import harmonics

PHOTO = Path(__file__).parents[2] / "docs" / "images" / "astronaut.jpg"


@pytest.fixture(scope="module")
def image():
    return np.asarray(Image.open(PHOTO).convert("RGB"))


@pytest.fixture(scope="module")
def network():
    return Reconstructor(detail=0)


@pytest.fixture(scope="module")
def fitter():
    return Reconstructor(detail=1, fit=True)


@pytest.fixture(scope="module")
def fitted(fitter, image):
    face, = fitter(image)
    return face


def size_of(face):
    return np.sqrt(np.prod(face.face_box[2:] - face.face_box[:2]))


@pytest.mark.parametrize("which", ["network", "fitter"])
def test_camera_landmarks_pose_and_codes_say_the_same(request, image, which):
    reconstructor = request.getfixturevalue(which)
    face, = reconstructor(image)
    landmarks = face.vertices()[face.model.topology.landmarks]
    np.testing.assert_allclose(face.project(landmarks), face.landmarks68_px, atol=0.05)
    np.testing.assert_allclose(face.rotation, rotation_from_euler(jnp.asarray(face.pose_degrees)), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(face.z), 1, atol=1e-5)
    assert face.fitted == (which == "fitter") and len(face.model.mean) == (14403 if which == "fitter" else 3642)
    assert face.expression.min() >= 0 and face.expression.max() <= 1
    scale = np.linalg.norm(face.camera[0, :3])
    np.testing.assert_allclose(face.camera[:, :3], scale * face.rotation[:2] * [[1], [-1]], atol=1e-4)


def test_the_fit_is_near_the_detectors_points_and_nearer_than_the_network(network, fitted, image):
    found, = network.detector.faces(image)
    inner = slice(17, None)  # the detector knows another jaw

    def error(face):
        return np.linalg.norm(face.landmarks68_px - found.landmarks68, axis=1)[inner].mean() / size_of(face)

    alone, = network(image)
    assert error(fitted) < 0.03 and error(fitted) < error(alone) < 0.1


@pytest.mark.parametrize("which", ["network", "fitter"])
def test_the_photo_moved_enlarged_or_turned(request, image, which):
    reconstructor = request.getfixturevalue(which)
    face, = reconstructor(image)
    padded = np.pad(image, ((40, 0), (73, 0), (0, 0)), mode="edge")
    moved, = reconstructor(padded)
    large, = reconstructor(np.asarray(Image.fromarray(image).resize((1024, 1024), Image.Resampling.BICUBIC)))
    turned, = reconstructor(np.ascontiguousarray(np.rot90(image)))
    tolerance = 0.02 * size_of(face)
    np.testing.assert_allclose(moved.landmarks68_px - [73, 40], face.landmarks68_px, atol=tolerance)
    np.testing.assert_allclose(large.landmarks68_px / 2, face.landmarks68_px, atol=tolerance)
    x, y = turned.landmarks68_px.T
    np.testing.assert_allclose(np.stack([512 - y, x], 1), face.landmarks68_px, atol=2 * tolerance)
    assert abs((turned.pose_degrees - face.pose_degrees)[2] - 90) < 4, "counter-clockwise is positive"


def test_the_levels_are_one_face(network, image):
    coarse, = network(image)
    fine, = Reconstructor(detail=1)(image)
    np.testing.assert_allclose(fine.vertices()[:3642], coarse.vertices(), atol=1e-3)
    points = coarse.vertices()[::50]
    np.testing.assert_allclose(fine.project(points), coarse.project(points), atol=0.05)


def test_one_person_has_one_identity(network, image):
    turned = np.asarray(Image.fromarray(image).rotate(12, Image.Resampling.BICUBIC))
    first, second, nobody = network.person([image, turned, np.full((64, 64, 3), 90, np.uint8)])
    assert nobody is None
    np.testing.assert_array_equal(first.identity, second.identity)
    np.testing.assert_array_equal(first.z, second.z)
    assert abs(second.pose_degrees[2] - first.pose_degrees[2] - 12) < 2
    assert network.person([np.zeros((40, 40, 3), np.uint8)]) == [None]


def test_another_model_is_fitted(tmp_path, image, network):
    model = load_default(0)
    foreign = model.replace(identity_basis=model.identity_basis[:20], name="another")
    face, = Reconstructor(foreign)(image)
    found, = network.detector.faces(image)
    away = np.linalg.norm(face.landmarks68_px - found.landmarks68, axis=1)[17:].mean()
    assert face.fitted and face.z.size == 0 and away < 0.04 * size_of(face)


def test_light_turns_with_the_head():
    rng = np.random.default_rng(0)
    light, normals = rng.normal(size=(9, 3)), rng.normal(size=(40, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    turn = np.asarray(rotation_from_euler(jnp.array([0.0, 0.0, 37.0])))
    np.testing.assert_allclose(np.asarray(harmonics(jnp.asarray(normals @ turn.T))) @ turned_light(light, 37.0),
                               np.asarray(harmonics(jnp.asarray(normals))) @ light, atol=1e-5)


def test_the_fit_makes_the_rendering_look_like_the_photo(fitter, image):
    found, = fitter.detector.faces(image)
    crop, seen = fitter.crop(image, found)
    codes, _ = fitter.encode(crop, seen)
    inner = fitter._encoder
    decoder, renderer = inner.decoder(fitter._params), FaceRenderer(inner.model, fitter.size)

    @jax.jit
    def error(codes):
        padded = codes._replace(identity=jnp.pad(codes.identity, (0, 1)))
        face = decoder(jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], padded), fitter.size)
        shown = renderer(face, to_linear(crop.image)[None])
        return masked_image_mean(colour_distance(to_srgb(shown.colour), crop.image[None]), shown.alpha)[0]

    assert error(fitter._refined(crop, seen, codes)) < 0.8 * error(codes)


def test_texture_holds_the_photos_colours_where_it_shows_the_face(fitter, fitted, image):
    texture = Texturer(fitter.model)(image, fitted)
    assert texture.shape == (512, 512, 3) and 0 <= texture.min() and texture.max() <= 1
    model, vertices = fitted.model, fitted.vertices()
    facing = np.asarray(vertex_normals(jnp.asarray(vertices), model.topology.triangles)) @ fitted.rotation[2] > 0.8
    middle = model.topology.region("cheeks") + model.topology.region("nose") > 0.7
    chosen = np.flatnonzero(facing & middle)
    assert len(chosen) > 50
    x, y = fitted.project(vertices[chosen]).T - 0.5
    photo = np.stack([scipy.ndimage.map_coordinates(image[..., k] / 255, [y, x], order=1) for k in range(3)], 1)
    shown = result_files._vertex_colours(fitted, texture)[chosen]
    assert np.abs(shown - photo).mean() < 0.03
    grey = np.repeat(image.mean(2, keepdims=True).astype(np.uint8), 3, 2)
    faded = Texturer(fitter.model)(grey, fitted)
    assert np.ptp(result_files._vertex_colours(fitted, faded)[chosen], axis=1).max() < 0.02


def test_every_file_is_read_back(tmp_path, fitter, fitted, image):
    texture = Texturer(fitter.model)(image, fitted)
    folder = tmp_path / "astronaut_1"
    result_files.write_face(folder, image, fitted, texture, "default", 1)
    assert sorted(file.name for file in folder.iterdir()) == [
        "face.glb", "face.mtl", "face.obj", "face.ply", "face.png", "overlay.png", "params.json", "params.npz"]
    ply = trimesh.load(folder / "face.ply", process=False)
    np.testing.assert_allclose(ply.vertices, fitted.vertices(), atol=1e-4)
    obj = trimesh.load(folder / "face.obj", process=False)
    assert len(obj.faces) == len(ply.faces) and obj.visual.uv.min() >= 0 and obj.visual.uv.max() <= 1
    np.testing.assert_allclose(obj.vertices[obj.faces], ply.vertices[ply.faces], atol=1e-3)
    glb = pygltflib.GLTF2().load(str(folder / "face.glb"))
    assert glb.meshes[0].extras["targetNames"] == list(fitted.model.expression_names)
    np.testing.assert_allclose(glb.meshes[0].weights, fitted.expression, atol=1e-6)
    text = json.loads((folder / "params.json").read_text())
    with np.load(folder / "params.npz") as arrays:
        assert set(result_files.PARAMETERS) < set(arrays.files) and text["meaning"] == result_files.PARAMETERS
        for name in result_files.PARAMETERS:
            np.testing.assert_allclose(text[name], arrays[name], atol=1e-5)
        np.testing.assert_allclose(arrays["vertices"], fitted.vertices(), atol=1e-6)
        homogeneous = np.c_[arrays["vertices"][fitted.model.topology.landmarks], np.ones(68)]
        np.testing.assert_allclose(homogeneous @ arrays["camera"].T, arrays["landmarks68_px"], atol=0.05)
    page = tmp_path / "index.html"
    result_files.write_page(page, [result_files.Entry("a & b.jpg", ["astronaut_1"]),
                                   result_files.Entry("empty.jpg", problem="no face found")])
    links = [part.split('"')[0] for part in page.read_text().split('href="')[1:]]
    assert len(links) == 7 and all((tmp_path / link).is_file() for link in links)
    assert "a &amp; b.jpg" in page.read_text() and "no face found" in page.read_text()


def test_nothing_partial_is_left(tmp_path, monkeypatch, fitted, image):
    def fail(*args, **options):
        raise OSError("disk full")

    monkeypatch.setattr(result_files.export, "write_image", fail)
    with pytest.raises(OSError, match="disk full"):
        result_files.write_face(tmp_path / "a", image, fitted, np.zeros((8, 8, 3)), "default", 1)
    assert list(tmp_path.iterdir()) == []


def test_through_time_gaps_are_bridged_and_the_rest_is_smoothed(fitted):
    rng = np.random.default_rng(0)
    frames, deviation = 40, 2.0
    yaws, opens = 20 * np.sin(np.arange(frames) / 6), np.clip(rng.normal(0.5, 0.1, frames), 0, 1)
    jaw = fitted.model.expression_names.index("jawOpen")
    seen = []
    for yaw, opened in zip(yaws, opens, strict=True):
        rotation = np.asarray(rotation_from_euler(jnp.array([yaw, 0.0, 0.0])))
        camera = np.column_stack([2.0 * rotation[:2] * [[1], [-1]], [200.0, 220.0]])
        expression = np.zeros_like(fitted.expression)
        expression[jaw] = opened
        seen.append(dataclasses.replace(fitted, rotation=rotation, camera=camera, expression=expression))
    smooth = video.smoothed(seen, deviation)
    np.testing.assert_allclose([face.expression[jaw] for face in smooth],
                               scipy.ndimage.gaussian_filter1d(opens, deviation, mode="nearest"), atol=1e-5)
    assert np.abs([face.pose_degrees[0] for face in smooth] - yaws)[6:-6].max() < 1.5
    for face in smooth:
        np.testing.assert_allclose(face.project(face.vertices()[face.model.topology.landmarks]), face.landmarks68_px,
                                   atol=1e-3)
    bridged = video.smoothed([None if 10 <= index < 20 else face for index, face in enumerate(seen)], 1e-3)
    straight = np.interp(15, [9, 20], [opens[9], opens[20]])
    np.testing.assert_allclose(bridged[15].expression[jaw], straight, atol=1e-5)
    constant = video.smoothed([seen[0], None, seen[0]], deviation)
    np.testing.assert_allclose(constant[1].camera, seen[0].camera, atol=1e-4)
