"""Videos made of one photo: where there is a face and where not, what stays constant, and what is written.

Smoothing against SciPy, and bridged gaps, of parameters that are given: test_faces_from_photos.py.
"""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sfm_jax.data.frames import read_frames
from sfm_jax.inference import video
from sfm_jax.inference.reconstruction import Reconstructor
from sfm_jax.inference.texture import Texturer

av = pytest.importorskip("av")
pytest.importorskip("ai_edge_litert")
PHOTO = Path(__file__).parents[2] / "docs" / "images" / "astronaut.jpg"
BEFORE, FIRST, GAP, SECOND = 2, 5, 10, 5  # frames without and with a face
SHIFT = 16  # pixels to the right, in the second part


@pytest.fixture(scope="module")
def face():
    return np.asarray(Image.open(PHOTO).convert("RGB").crop((100, 0, 356, 256)))


@pytest.fixture(scope="module")
def empty(face):
    return np.full_like(face, 90)


@pytest.fixture(scope="module")
def reconstructor():
    return Reconstructor(detail=0)


def write_frames(path, frames, rate=25):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=rate, options={"qscale": "1"})
        stream.height, stream.width, stream.pix_fmt = *frames[0].shape[:2], "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="module")
def film(tmp_path_factory, face, empty):
    """No face, a face, a gap, and the face further to the right."""
    frames = [empty] * BEFORE + [face] * FIRST + [empty] * GAP + [np.roll(face, SHIFT, 1)] * SECOND
    return write_frames(tmp_path_factory.mktemp("film") / "film.mp4", frames)


@pytest.fixture(scope="module")
def faces(reconstructor, film):
    return video.reconstruct_video(reconstructor, film)


def size_of(face):
    return np.sqrt(np.prod(face.face_box[2:] - face.face_box[:2]))


def test_a_still_video_has_one_face_throughout(tmp_path, reconstructor, face):
    """But for the tracker, which settles in the first frames."""
    found = video.reconstruct_video(reconstructor, write_frames(tmp_path / "still.mp4", [face] * 12, rate=30))
    alone, = reconstructor(face)
    assert found.fps == 30 and found.found.all() and len(found.faces) == 12
    landmarks = np.stack([one.landmarks68_px for one in found.faces])
    away = np.linalg.norm(landmarks - alone.landmarks68_px, axis=-1).mean(1) / size_of(alone)
    assert away.max() < 0.03 and np.abs(np.diff(landmarks[6:], axis=0)).max() < 0.005 * size_of(alone)
    for one in found.faces:
        np.testing.assert_array_equal(one.identity, found.faces[0].identity)
        np.testing.assert_array_equal(one.albedo, found.faces[0].albedo)
        np.testing.assert_allclose(np.linalg.norm(one.z), 1, atol=1e-5)
        np.testing.assert_allclose(one.pose_degrees, alone.pose_degrees, atol=4)
        np.testing.assert_allclose(one.project(one.vertices()[one.model.topology.landmarks]), one.landmarks68_px,
                                   atol=0.01)
        np.testing.assert_allclose(one.rotation @ one.rotation.T, np.eye(3), atol=1e-5)


def test_frames_without_a_face_lie_between_their_neighbours(faces):
    expected = [False] * BEFORE + [True] * FIRST + [False] * GAP + [True] * SECOND
    assert faces.found.tolist() == expected and len(faces.faces) == len(expected)
    noses = np.array([one.landmarks68_px[30, 0] for one in faces.faces])
    moved = np.median(noses[-SECOND:]) - np.median(noses[BEFORE:BEFORE + FIRST])
    assert moved == pytest.approx(SHIFT, abs=float(0.03 * size_of(faces.faces[3])))
    between = noses[BEFORE + FIRST + 2:-SECOND - 2]
    np.testing.assert_allclose(np.diff(between), SHIFT / (GAP + 1), atol=0.3)


def test_faces_of_a_model_without_expressions_are_smoothed_too(reconstructor, face):
    one, = reconstructor(face)
    bare = one.model.replace(expression_basis=one.model.expression_basis[:0], expression_names=())
    one = dataclasses.replace(one, model=bare, expression=np.zeros(0, np.float32))
    found = video.smoothed([one, None, one], 0.5)
    assert len(found) == 3
    for each in found:
        np.testing.assert_allclose(each.landmarks68_px, one.project(one.vertices()[bare.topology.landmarks]), atol=0.01)


def test_a_video_without_a_face(tmp_path, reconstructor, empty):
    assert video.reconstruct_video(reconstructor, write_frames(tmp_path / "empty.mp4", [empty] * 3)) is None


def test_a_video_of_one_frame(tmp_path, reconstructor, face):
    found = video.reconstruct_video(reconstructor, write_frames(tmp_path / "one.mp4", [face]))
    assert found.found.tolist() == [True] and np.isfinite(found.faces[0].vertices()).all()


@pytest.mark.parametrize("kind", ["text", "empty", "half"])
def test_damaged_videos_are_named(tmp_path, reconstructor, film, kind):
    path, whole = tmp_path / "film.mp4", film.read_bytes()
    path.write_bytes({"text": b"no film", "empty": b"", "half": whole[:len(whole) // 2]}[kind])
    with pytest.raises(ValueError, match="film.mp4: ") as refused:
        video.reconstruct_video(reconstructor, path)
    assert "\n" not in str(refused.value)


def test_files_of_a_video(tmp_path, reconstructor, film, faces, face):
    folder = tmp_path / "film_1"
    video.write_video(folder, film, faces, Texturer(reconstructor.model, 128, 256), "default", 0)
    assert [path.name for path in tmp_path.iterdir()] == ["film_1"]
    assert sorted(file.name for file in folder.iterdir()) == [
        "face.glb", "face.mtl", "face.obj", "face.ply", "face.png", "overlay.mp4", "overlay.png", "params.json",
        "params.npz"]
    frames = len(faces.faces)
    text = json.loads((folder / "params.json").read_text())
    with np.load(folder / "params.npz") as params:
        for name in video.PER_FRAME:
            expected = np.stack([getattr(one, name) for one in faces.faces])
            np.testing.assert_allclose(params[name], expected, rtol=1e-6)
            np.testing.assert_allclose(text[name], expected, atol=1e-4)
        assert params["found"].tolist() == faces.found.tolist() == text["found"]
        assert set(text["meaning"]) <= set(text) and set(video.PER_FRAME) | {"found", "fps"} <= set(text["meaning"])
        assert isinstance(text["best_frame"], int) and faces.found[text["best_frame"]]
        assert float(params["fps"]) == 25 and params["identity"].ndim == 1 and len(params["vertices"]) == 3642
    with av.open(str(folder / "overlay.mp4")) as container:  # as browsers play it
        stream, = container.streams.video
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
    fps, shown = read_frames(folder / "overlay.mp4")
    shown = list(shown)
    assert fps == 25 and len(shown) == frames and shown[0].shape == face.shape
    _, plain = read_frames(film)
    changes = np.array([np.abs(a.astype(float) - b).mean() for a, b in zip(shown, plain, strict=True)])
    assert changes[faces.found].min() > 3 * changes[~faces.found].max()


def test_the_best_frame_is_large_and_frontal_and_has_a_face(faces):
    def changed(index, **changes):
        return dataclasses.replace(faces.faces[index], **changes)

    turned = np.diag([-1.0, 1, -1])
    box = faces.faces[0].face_box
    large = np.concatenate([box[:2] - 20, box[2:] + 20])
    some = [changed(0), changed(0, face_box=large), changed(0, face_box=large, rotation=turned),
            changed(0, face_box=2 * large)]
    known = np.array([True, True, True, False])
    assert video.best_frame(video.VideoFaces(some, known, 25.0)) == 1
