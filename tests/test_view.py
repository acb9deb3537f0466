import json
import socket
import struct
import sys
import time

import jax.numpy as jnp
import numpy as np
import pytest
import toy
import trimesh
from matplotlib import colormaps
from PIL import Image

from sfm_jax import view
from sfm_jax.morphable.default import load_default, load_population
from sfm_jax.morphable.sphere_model import SphereFaceModel
from sfm_jax.viewer import colours
from sfm_jax.viewer.coloured_mesh import ColouredMesh
from sfm_jax.viewer.panel import breakable, grouped, stacked
from sfm_jax.viewer.server import HOST
from sfm_jax.viewer.subject import open_subject


def free_port():
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]


# ------------------------------------------------------------------------------------------------- colours

def test_difference_is_the_distance_in_numpy():
    a, b = np.random.default_rng(0).normal(size=(2, 40, 3)).astype(np.float32)
    np.testing.assert_allclose(colours.difference(a, b), np.sqrt(((a - b) ** 2).sum(1)), rtol=1e-6)


@pytest.mark.parametrize(("high", "limit"), [
    (0.0, 1.0), (0.9, 1.0), (1.1, 1.2), (2.5, 3.0), (0.02, 0.02), (97.0, 100.0)])
def test_scales_end_at_nice_numbers(high, limit):
    assert colours.nice_limit(np.full(100, high)) == pytest.approx(limit)


def test_an_outlier_does_not_stretch_the_scale():
    assert colours.nice_limit(np.append(np.full(199, 1.9), 50.0)) == 2.0


def tone_mapped(linear):
    """three.js: ACESFilmicToneMapping of ShaderChunk/tonemapping_pars_fragment.glsl.js, at exposure 1."""
    into = np.array([[0.59719, 0.07600, 0.02840], [0.35458, 0.90834, 0.13383], [0.04823, 0.01566, 0.83777]])
    out = np.array([[1.60475, -0.10208, -0.00327], [-0.53108, 1.10813, -0.07276], [-0.07367, -0.00605, 1.07602]])
    v = (linear / 0.6) @ into
    v = (v * (v + 0.0245786) - 0.000090537) / (v * (0.983729 * v + 0.4329510) + 0.238081)
    return np.clip(v @ out, 0, 1)


def test_measured_colours_survive_tone_mapping():
    distances = np.linspace(0, 2, 50)
    front = np.tile(np.float32([0, 0, 1]), (50, 1))
    seen = tone_mapped(colours.of_difference(distances, 2.0, front).astype(np.float64))
    srgb = np.where(seen <= 0.0031308, 12.92 * seen, 1.055 * seen ** (1 / 2.4) - 0.055)
    np.testing.assert_allclose(srgb, colormaps["viridis"](distances / 2)[:, :3], atol=0.02)


def test_the_legend_says_what_the_colours_mean():
    html = colours.legend(4.0, 7.125, 1.5)
    ticks = [f"<span>{tick}</span>" for tick in range(5)]
    for text in (*ticks, "mean 1.50", "largest 7.12", "#440154", "#fde725"):
        assert text in html


def attribute(glb, name):
    """The floats [V, 3] of a vertex attribute, found as glTF 2.0 says."""
    (length,) = struct.unpack_from("<I", glb, 12)
    content, binary = json.loads(glb[20 : 20 + length]), glb[28 + length :]
    accessor = content["accessors"][content["meshes"][0]["primitives"][0]["attributes"][name]]
    start = content["bufferViews"][accessor["bufferView"]]["byteOffset"]
    return np.frombuffer(binary, "<f4", 3 * accessor["count"], start).reshape(-1, 3)


@pytest.mark.parametrize("wireframe", [False, True])
def test_a_mesh_is_read_back_by_trimesh(tmp_path, toy_model, wireframe):
    triangles, vertices = toy_model.topology.triangles, np.asarray(toy_model.mean)
    normals = vertices / np.linalg.norm(vertices, axis=1, keepdims=True)
    colour = np.random.default_rng(0).uniform(size=vertices.shape).astype(np.float32)
    file = tmp_path / "face.glb"
    file.write_bytes(ColouredMesh(triangles, len(vertices)).pack(vertices, normals, colour, wireframe=wireframe))
    parts = list(trimesh.load(file, process=False).geometry.values())
    mesh = next(part for part in parts if isinstance(part, trimesh.Trimesh))
    np.testing.assert_array_equal(mesh.faces, triangles)
    np.testing.assert_allclose(mesh.vertices, vertices)
    np.testing.assert_array_equal(attribute(file.read_bytes(), "COLOR_0"), colour)
    assert len(parts) == 1 + wireframe


# -------------------------------------------------------------------------------------------------- panel

def test_every_expression_has_one_place():
    names = load_default(0).expression_names
    groups = grouped(names)
    assert sorted(index for indices in groups.values() for index in indices) == list(range(51))
    assert [names[index] for index in groups["Jaw"]] == ["jawForward", "jawLeft", "jawOpen", "jawRight"]
    assert grouped(("3", "pc7")) == {"Others": [0, 1]}


def test_names_may_be_broken_but_read_the_same():
    assert breakable("mouthSmileLeft").split("\u200b") == ["mouth", "Smile", "Left"]


def test_the_tiles_of_a_strip_are_stacked():
    tiles = [np.full((40, 40, 3), 40 * k, np.uint8) for k in range(5)]
    gap = np.full((40, 1, 3), 255, np.uint8)
    strip = np.concatenate([part for tile in tiles for part in (tile, gap)][:-1], 1)
    picture = stacked(Image.fromarray(strip))
    quarters = [part for half in np.split(picture, 2) for part in np.split(half, 2, axis=1)]
    assert [int(np.median(quarter)) for quarter in quarters] == [0, 40, 80, 120]
    np.testing.assert_array_equal(stacked(Image.fromarray(tiles[1])), tiles[1])


# ------------------------------------------------------------------------------------------------ subjects

def write_face(folder, **changes):
    folder.mkdir(parents=True, exist_ok=True)
    values = {
        "identity": np.linspace(-1, 1, 120), "expression": np.eye(51)[24], "albedo": np.zeros(24),
        "rotation": np.eye(3), "pose_degrees": np.zeros(3), "light": np.eye(9)[:, :1] * np.ones(3),
        "model": "default", "detail": 0} | changes
    np.savez(folder / "params.npz", **{key: value for key, value in values.items() if value is not None})
    return folder


def test_faces_of_photos_are_found_alone_and_together(tmp_path):
    for name in ("b", "a"):
        write_face(tmp_path / "faces" / name)
    (tmp_path / "faces" / "a" / "overlay.png").touch()
    together = open_subject(str(tmp_path / "faces"))
    assert [face.name for face in together.faces] == ["a", "b"]
    assert together.faces[0].overlay == tmp_path / "faces" / "a" / "overlay.png"
    assert together.faces[1].overlay is None
    assert together.model is load_default(0)
    for alone in ("faces/b", "faces/b/params.npz"):
        subject = open_subject(str(tmp_path / alone))
        np.testing.assert_array_equal(subject.faces[0].expression, np.eye(51)[24])


def test_a_video_has_a_face_for_each_frame(tmp_path):
    def rows(values):
        return np.stack([values, 2 * values, 3 * values])

    subject = open_subject(str(write_face(
        tmp_path / "clip", fps=25.0, expression=rows(np.eye(51)[24] / 3), rotation=rows(np.eye(3)),
        pose_degrees=rows(np.ones(3)), light=rows(np.ones((9, 3))))))
    face = subject.faces[0]
    assert face.frames == 3
    now = face.at(2)
    np.testing.assert_allclose(now.expression, np.eye(51)[24])
    np.testing.assert_array_equal(now.pose, [3, 3, 3])
    assert now.identity.shape == (120,)


@pytest.mark.parametrize(("changes", "key"), [
    ({"light": None}, "light"), ({"rotation": np.eye(2)}, "rotation"), ({"identity": np.full(120, np.nan)}, "identity"),
    ({"identity": np.zeros(121)}, "identity"), ({"model": "missing.npz"}, "model"), ({"detail": 3}, "detail"),
    ({"detail": [1, 1]}, "detail"), ({"detail": "x"}, "detail")])
def test_faces_that_cannot_be_are_refused(tmp_path, changes, key):
    with pytest.raises(ValueError, match=rf"params\.npz: key '{key}'"):
        open_subject(str(write_face(tmp_path / "face", **changes)))


def test_a_face_that_was_left_half_written_is_none(tmp_path):
    """As after a kill: the name of a temporary folder begins with a dot."""
    for name in ("a", ".b.123.partial"):
        write_face(tmp_path / name)
    assert [face.name for face in open_subject(str(tmp_path)).faces] == ["a"]


def test_faces_of_different_models_are_refused(tmp_path):
    write_face(tmp_path / "a")
    write_face(tmp_path / "b", detail=1)
    with pytest.raises(ValueError, match=r"b/params\.npz: key 'model'"):
        open_subject(str(tmp_path))


def test_a_run_comes_with_the_model_it_started_from(tmp_path):
    model = load_default(0)
    SphereFaceModel(model.replace(identity_basis=model.identity_basis[:5],
                                  identity_sigma=model.identity_sigma[:5]), jnp.float32(3)).save(tmp_path / "model.npz")
    assert open_subject(str(tmp_path)).base is None
    (tmp_path / "config.json").write_text(json.dumps({"model": "default", "detail": 0}))
    subject = open_subject(str(tmp_path))
    assert subject.base is model
    assert subject.radius == 3


def test_models_of_both_kinds_are_opened(tmp_path, model):
    assert open_subject(str(model)).radius is None
    SphereFaceModel(toy.model(), jnp.float32(2)).save(tmp_path / "sphere.npz")
    assert open_subject(str(tmp_path / "sphere.npz")).radius == 2
    assert open_subject(None).model is load_default(1)


# ------------------------------------------------------------------------------------------ command, server

def refusal(capsys, *arguments):
    assert view.main(list(arguments)) == 2
    line = capsys.readouterr().err
    assert line.startswith("sfm_jax: error: ")
    assert line.count("\n") == 1
    return line


def test_bad_input_is_one_line(tmp_path, capsys):
    assert "nothing: no such file or folder" in refusal(capsys, str(tmp_path / "nothing"))
    assert "neither model.npz nor params.npz" in refusal(capsys, str(tmp_path))
    (tmp_path / "text.npz").write_text("no model")
    assert "text.npz: not a readable npz" in refusal(capsys, str(tmp_path / "text.npz"))
    np.savez(tmp_path / "other.npz", a=1)
    assert "other.npz: key 'format'" in refusal(capsys, str(tmp_path / "other.npz"))
    (tmp_path / "face.glb").write_bytes(b"glTF\2\0\0\0")
    line = refusal(capsys, str(tmp_path / "face.glb"))
    assert "it is no npz file, but one of another format" in line and "unsafe" not in line
    assert "python -m sfm_jax.convert IN MODEL.npz" in line
    assert "File name too long" in refusal(capsys, "x" * 300)
    assert "--port" in refusal(capsys, "--port", "many")
    assert "found 70000, expected 1 to 65535" in refusal(capsys, "--port", "70000")
    assert "--prot" in refusal(capsys, "--prot", "8080")


def test_what_is_compiled_is_kept_for_the_next_start(capsys, monkeypatch):
    kept = []
    monkeypatch.setattr("sfm_jax.training.compilation.enable_compilation_cache", lambda **given: kept.append(given))
    refusal(capsys, "nowhere.npz")
    assert kept == [{"least_seconds": 0.0}]


def test_a_port_in_use_is_refused(capsys):
    with socket.socket() as other:
        other.bind((HOST, 0))
        other.listen()
        port = other.getsockname()[1]
        assert f"--port: {port} is in use" in refusal(capsys, "--port", str(port))


def test_without_viser_the_error_says_how_to_get_it(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "viser", None)
    assert "pip install -e .[view]" in refusal(capsys, "--port", str(free_port()))


@pytest.fixture(scope="module")
def viewer(tmp_path_factory):
    pytest.importorskip("viser")
    from sfm_jax.viewer.app import Viewer

    subject = open_subject(str(write_face(tmp_path_factory.mktemp("faces") / "face", detail=1)))
    viewer = Viewer(subject, free_port(), seed=0)
    yield viewer
    viewer.stop()


@pytest.mark.skipif(sys.platform != "linux", reason="127.0.0.2 is this machine only on Linux")
def test_only_this_machine_is_served(viewer):
    port = viewer.server.get_port()
    with socket.create_connection((HOST, port), timeout=5):
        pass
    for elsewhere in ("127.0.0.2", "::1"):  # a server on all addresses would answer
        with pytest.raises(OSError):
            socket.create_connection((elsewhere, port), timeout=5)


def test_no_tunnel_is_opened(viewer):
    assert viewer.server.request_share_url() is None


def shown(viewer, tmp_path, name="/face"):
    """The vertices the page was sent."""
    file = tmp_path / "shown.glb"
    file.write_bytes(viewer.server.scene.get_handle_by_name(name).glb_data)
    return np.asarray(next(iter(trimesh.load(file, process=False).geometry.values())).vertices)


def test_the_face_of_the_photo_is_shown_and_expressions_move_it(viewer, tmp_path):
    model, face = load_default(1), viewer.panel.subject.faces[0]
    centre = (np.asarray(model.mean).min(0) + np.asarray(model.mean).max(0)) / 2
    with_jaw = np.asarray(model.decode(face.identity, face.expression))
    np.testing.assert_allclose(shown(viewer, tmp_path), with_jaw - centre, atol=1e-3)
    viewer.scene.look.expression = np.zeros(51, np.float32)
    viewer.scene.redraw()
    neutral = np.asarray(model.decode(face.identity))
    np.testing.assert_allclose(shown(viewer, tmp_path), neutral - centre, atol=1e-3)
    viewer.scene.look.expression = face.expression
    viewer.scene.look.beside = "without expression"
    viewer.scene.redraw()
    np.testing.assert_allclose(shown(viewer, tmp_path, "/other"), neutral - centre, atol=1e-3)
    viewer.scene.look.beside = "nothing"
    viewer.scene.redraw()
    assert viewer.server.scene.get_handle_by_name("/other") is None


def test_beside_a_run_stands_the_same_person_in_its_base_model(tmp_path):
    pytest.importorskip("viser")
    from sfm_jax.viewer.app import Viewer

    model = load_default(0)
    learned = SphereFaceModel(model.replace(identity_basis=model.identity_basis[:30],
                                           identity_sigma=model.identity_sigma[:30]), jnp.float32(9))
    learned.save(tmp_path / "model.npz")
    (tmp_path / "config.json").write_text(json.dumps({"model": "default", "detail": 0}))
    viewer = Viewer(open_subject(str(tmp_path)), free_port(), seed=0)
    try:
        viewer.explorer.go_to(4321)
        viewer.scene.look.beside, viewer.scene.look.colouring = "nearest in base model", "difference"
        viewer.scene.redraw()
        mean = np.asarray(model.mean)
        expected = np.asarray(model.decode(load_population().identity[4321])) - (mean.min(0) + mean.max(0)) / 2
        np.testing.assert_allclose(shown(viewer, tmp_path, "/other"), expected, atol=1e-3)
        best = np.asarray(learned.decode(viewer.explorer.z)) - (mean.min(0) + mean.max(0)) / 2
        np.testing.assert_allclose(shown(viewer, tmp_path), best, atol=1e-3)
    finally:
        viewer.stop()


def test_a_model_of_one_person_is_shown(tmp_path):
    pytest.importorskip("viser")
    from sfm_jax.viewer.app import Viewer

    model = toy.model()
    model = model.replace(identity_basis=model.identity_basis[:0], identity_sigma=model.identity_sigma[:0])
    model.save(tmp_path / "one.npz")
    expression = np.eye(len(model.expression_basis), dtype=np.float32)[1]
    write_face(tmp_path / "face", model=str(tmp_path / "one.npz"), identity=np.zeros(0), expression=expression,
               albedo=np.zeros(2))
    mean = np.asarray(model.mean)
    centre = (mean.min(0) + mean.max(0)) / 2
    for subject, vertices in (("one.npz", mean), ("face", mean + np.asarray(model.expression_basis)[1])):
        viewer = Viewer(open_subject(str(tmp_path / subject)), free_port(), seed=0)
        try:
            np.testing.assert_allclose(shown(viewer, tmp_path), vertices - centre, atol=1e-4)
            assert list(viewer.scene.companions) == ["without expression", "mean face"]
        finally:
            viewer.stop()


def test_a_move_of_a_slider_is_drawn_within_a_tenth_of_a_second(viewer):
    times = []
    for share in np.linspace(0, 1, 11):
        begin = time.perf_counter()
        viewer.explorer.between(1, 2, share)
        viewer.scene.redraw()
        times.append(time.perf_counter() - begin)
    assert np.median(times) < 0.1
