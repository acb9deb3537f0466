"""The reconstruct command's further doors: one person, other models, videos, strange names, failures while writing.

Photos, bad input and the process itself: test_reconstruct.py.
"""

import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import pytest
import toy
from PIL import Image
from small_face import small_face

import sfm_jax
from sfm_jax.inference import result_files
from sfm_jax.reconstruct import main

pytest.importorskip("ai_edge_litert")
PHOTO = Path(__file__).parents[2] / "docs" / "images" / "astronaut.jpg"


@pytest.fixture(scope="module")
def picture():
    return Image.open(PHOTO).convert("RGB").crop((100, 0, 356, 256))


@pytest.fixture
def run(capsys, tmp_path):
    """Runs in `tmp_path`: (exit code, lines of the error stream that are ours)."""
    def call(*arguments):
        code = main([*map(str, arguments), f"--out={tmp_path / 'faces'}"])
        return code, [line for line in capsys.readouterr().err.splitlines() if line.startswith("sfm_jax")]

    return call


def read(folder):
    return json.loads((folder / "params.json").read_text())


def test_photos_of_one_person_share_the_identity(tmp_path, run, picture):
    picture.save(tmp_path / "a.png")
    picture.rotate(10, Image.Resampling.BICUBIC).save(tmp_path / "b.png")
    Image.new("RGB", (50, 50)).save(tmp_path / "c.png")
    (tmp_path / "d.png").write_text("no photo")
    (tmp_path / "e.mp4").write_text("no photo either")
    code, lines = run(tmp_path, "--person", "--level=0")
    assert code == 2 and len(lines) == 3
    for line, said in zip(lines, ("d.png: not an image", "e.mp4: a video, expected photos with --person",
                                  "c.png: no face found"), strict=True):
        assert said in line
    first, second = (read(tmp_path / "faces" / name) for name in ("a_1", "b_1"))
    assert first["identity"] == second["identity"] and first["z"] == second["z"]
    assert first["fitted"] and abs(second["pose_degrees"][2] - first["pose_degrees"][2] - 10) < 3


def test_the_same_name_twice_and_strange_ones(tmp_path, run, picture):
    for name in ("a.png", "a.bmp", "a-2.png", "50% #1.png"):
        picture.save(tmp_path / name)
    assert run(*(tmp_path / name for name in ("a.png", "a.bmp", "a-2.png", "50% #1.png")), "--level=0") == (0, [])
    names = {path.name for path in (tmp_path / "faces").iterdir()}
    assert names == {"a_1", "a-2_1", "a-2-2_1", "50% #1_1", "index.html"}
    assert "50%25%20%231_1/face.glb" in (tmp_path / "faces" / "index.html").read_text()


def test_faces_that_are_no_longer_found_leave_nothing(tmp_path, run, picture):
    """As if the photo's file had shown two faces before; folders of others stay."""
    picture.save(tmp_path / "a.png")
    faces = tmp_path / "faces"
    for name in ("a_2", "a_2_1", "a_x"):
        (faces / name).mkdir(parents=True)
        (faces / name / "params.json").write_text("{}")
    (faces / "a_3").mkdir()
    assert run(tmp_path / "a.png", "--level=0") == (0, [])
    assert sorted(path.name for path in faces.iterdir()) == ["a_1", "a_2_1", "a_3", "a_x", "index.html"]


def test_a_failure_while_writing_is_a_line_and_the_rest_is_done(tmp_path, run, picture, monkeypatch):
    for name in ("a.png", "b.png", "c.png"):
        picture.save(tmp_path / name)
    (tmp_path / "faces" / "a_1").mkdir(parents=True)
    (tmp_path / "faces" / "a_1" / "diary.txt").write_text("dear diary")
    plain = result_files.write_parameters

    def full_disk(place, *rest):
        if "b_1" in place.name:
            raise OSError(28, "No space left on device", str(place / "params.npz"))
        plain(place, *rest)

    monkeypatch.setattr(result_files, "write_parameters", full_disk)
    for more in ((), ("--person",)):
        code, lines = run(tmp_path, "--level=0", *more)
        assert code == 2 and len(lines) == 2
        assert "a_1: is in the way" in lines[0] and "No space left on device" in lines[1]
        assert {path.name for path in (tmp_path / "faces").iterdir()} == {"a_1", "c_1", "index.html"}
        assert (tmp_path / "faces" / "a_1" / "diary.txt").is_file()
        assert "c_1/face.obj" in (tmp_path / "faces" / "index.html").read_text()


@pytest.mark.slow
def test_another_model_without_uvs_is_fitted(tmp_path, run):
    model = small_face().model
    topology = dataclasses.replace(model.topology, uv=np.zeros((0, 2), np.float32),
                                   uv_triangles=np.zeros((0, 3), np.int32))
    model.replace(topology=topology).save(tmp_path / "other.npz")
    assert run(PHOTO, f"--model={tmp_path / 'other.npz'}") == (0, [])
    found = read(tmp_path / "faces" / "astronaut_1")
    assert found["model"] == str(tmp_path / "other.npz") and found["fitted"] and found["z"] == []
    assert found["detail"] == 0  # level of the embedded model
    assert len(found["identity"]) == 3 and found["expression_names"] == ["jawOpen", "mouthSmileLeft"]
    assert not (tmp_path / "faces" / "astronaut_1" / "face.mtl").exists()


@pytest.mark.parametrize(("content", "said"), [
    (b"no model", "not a readable npz"), (b"glTF\2\0\0\0", "not a readable npz"), (None, "no such file")])
def test_a_bad_model_is_named(tmp_path, run, content, said):
    path = tmp_path / "other.npz"
    if content:
        path.write_bytes(content)
    code, lines = run(PHOTO, f"--model={path}")
    assert code == 2 and len(lines) == 1 and f"other.npz: {said}" in lines[0] and "unsafe" not in lines[0]
    assert "python -m sfm_jax.convert IN MODEL.npz" in lines[0]


def test_one_person_is_fitted_to_points_alone(run):
    assert run(PHOTO, "--person", "--fit") == (
        2, ["sfm_jax: error: --fit: found with --person, which fits the points of all photos, expected one of them"])


def test_a_name_that_is_no_utf8(tmp_path, run, picture):
    """As old archives have them, where the file system takes them."""
    name = os.fsdecode(b"caf\xe9.png")
    try:
        picture.save(tmp_path / name)
    except OSError:
        pytest.skip("names are UTF-8 here")
    assert run(tmp_path / name, "--level=0") == (0, [])
    page = (tmp_path / "faces" / "index.html").read_text(encoding="utf-8")
    assert "caf\\udce9" in page and 'href="caf%E9_1/face.obj"' in page


def test_a_folder_of_results_that_is_no_utf8(tmp_path, capsys):
    out = tmp_path / os.fsdecode(b"out_\xff")
    try:
        out.mkdir()
    except OSError:
        pytest.skip("names are UTF-8 here")
    Image.new("RGB", (50, 50)).save(tmp_path / "a.png")
    assert main([str(tmp_path / "a.png"), f"--out={out}", "--level=0"]) == 3
    assert "out_\\udcff/index.html: 0 faces\n" in capsys.readouterr().out


def test_another_model_has_no_levels(tmp_path, run):
    assert run(PHOTO, "--model=other.npz", "--level=0") == (
        2, ["sfm_jax: error: --level: found --model=other.npz, expected the embedded face model, whose it is"])


def test_a_video_and_a_bad_one(tmp_path, run, picture):
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "film.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=25, options={"qscale": "1"})
        stream.width, stream.height, stream.pix_fmt = *picture.size, "yuv420p"
        for _ in range(4):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.asarray(picture), format="rgb24")))
        container.mux(stream.encode())
    (tmp_path / "bad.mp4").write_text("no film")
    code, lines = run(tmp_path, "--level=0")
    assert code == 2 and len(lines) == 1 and "bad.mp4: not readable as a video" in lines[0]
    assert read(tmp_path / "faces" / "film_1")["found"] == [True] * 4
    page = (tmp_path / "faces" / "index.html").read_text()
    assert 'src="film_1/overlay.mp4"' in page and "4 frames, a face in 4" in page


def test_names_that_are_too_long(tmp_path, run, picture):
    picture.save(tmp_path / ("x" * 251 + ".png"))  # so that the result's folder, as a partial one, is
    code, lines = run(tmp_path / ("y" * 300 + ".png"))
    assert code == 2 and len(lines) == 1 and "no such file or folder" in lines[0]
    code, lines = run(tmp_path, "--level=0")
    assert code == 2 and len(lines) == 1 and "File name too long" in lines[0]


def test_a_model_in_python_is_set_up_once(monkeypatch, picture):
    """Models have no hash."""
    made = []

    class Counted:
        def __init__(self, *arguments):
            made.append(arguments)

        def __call__(self, image, closest):
            return [image.shape]

    monkeypatch.setattr("sfm_jax.inference.reconstruction.Reconstructor", Counted)
    sfm_jax.reconstruct._reconstructor.cache_clear()
    first, second = toy.model(), toy.model()
    for model in (first, second, first, None, second, None):
        assert sfm_jax.reconstruct(np.asarray(picture), model=model) == [(256, 256, 3)]
    sfm_jax.reconstruct._reconstructor.cache_clear()
    assert [arguments[0] for arguments in made[:2]] == [first, second] and len(made) == 3
