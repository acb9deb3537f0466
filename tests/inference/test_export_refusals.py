"""What happens when a mesh or a picture cannot be written: one line, and nothing left behind."""

import os
from functools import partial

import numpy as np
import pytest

from sfm_jax.inference import export

SQUARE = np.array([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]])
HALVES = np.array([[0, 1, 2], [0, 2, 3]])
PLACES = dict(uv=SQUARE[:, :2], uv_triangles=HALVES)
GREY = np.full((4, 4, 3), 0.5)
WRITERS = {
    ".obj": partial(export.write_obj, vertices=SQUARE, triangles=HALVES, **PLACES, texture=GREY),
    ".ply": partial(export.write_ply, vertices=SQUARE, triangles=HALVES),
    ".glb": partial(export.write_glb, vertices=SQUARE, triangles=HALVES, **PLACES, texture=GREY),
    ".png": partial(export.write_image, image=GREY),
    ".gif": partial(export.write_gif, frames=[GREY], seconds_per_frame=0.1),
    "-map.png": partial(export.write_displacement, displacement=GREY[..., 0]),
}


def fails(write, path, message, **arguments):
    with pytest.raises(ValueError, match=message) as error:
        write(path, **arguments)
    assert str(path.parent) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("ending", WRITERS)
def test_places_where_nothing_can_be_written(tmp_path, ending):
    write, name = WRITERS[ending], "a" + ending
    fails(write, tmp_path / "a.tiff", "extension '.tiff', expected")
    fails(write, tmp_path / "nowhere" / name, "folder .* does not exist")
    (tmp_path / "file").write_text("")
    fails(write, tmp_path / "file" / name, "folder .* does not exist")
    (tmp_path / name).mkdir()
    fails(write, tmp_path / name, "is a folder")
    (tmp_path / name).rmdir()
    fails(write, tmp_path / ("a" * 254 + ending), "cannot be written .*too long")
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("ending", WRITERS)
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, ending, monkeypatch):
    write, path = WRITERS[ending], tmp_path / ("a" + ending)
    path.write_text("old")

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", full)
        fails(write, path, r"cannot be written \(No space left on device\)")
    assert os.listdir(tmp_path) == [path.name] and path.read_text() == "old"
    write(path)
    assert path.read_bytes() != b"old" and not [name for name in os.listdir(tmp_path) if name.startswith(".")]


NAN = np.where(np.arange(12).reshape(4, 3) == 7, np.nan, SQUARE)
BAD = [
    (".obj", dict(vertices=SQUARE[:, :2]), r"vertices: shape \(4, 2\), expected \[N, 3\]"),
    (".ply", dict(vertices=NAN), "vertices: 1 of 4 rows are not finite, the first is 2"),
    (".ply", dict(vertices=1e39 * SQUARE), "vertices: 3 of 4 rows are not finite, the first is 1"),
    (".ply", dict(triangles=HALVES + 1), r"triangles: indices 1..4, expected 0..3"),
    (".ply", dict(triangles=HALVES - 1), r"triangles: indices -1..2, expected 0..3"),
    (".ply", dict(triangles=HALVES / 1), "triangles: float64 .*, expected integers"),
    (".ply", dict(triangles=HALVES[:0]), r"triangles: int64 \(0, 3\), expected integers \[F, 3\]"),
    (".ply", dict(normals=SQUARE[:3]), r"normals: shape \(3, 3\), expected \[4, 3\]"),
    (".ply", dict(colours=SQUARE[:3]), r"colours: shape \(3, 3\), expected \(4, 3\)"),
    (".ply", dict(colours=2 * SQUARE), "colours: values 0..2, expected 0..1"),
    (".ply", dict(colours=HALVES[[0, 0, 1, 1]]), "colours: int64, expected uint8 or numbers in 0..1"),
    (".obj", dict(uv=2 * SQUARE[:, :2]), "uv: values 0..2, expected 0..1"),
    (".obj", dict(uv_triangles=HALVES[:1]), r"uv_triangles: shape \(1, 3\), expected \(2, 3\)"),
    (".obj", dict(uv=SQUARE[:3, :2], uv_triangles=None), r"uv: shape \(3, 2\), expected \[4, 2\]"),
    (".obj", dict(uv=None, uv_triangles=None), "texture: found without uv"),
    (".obj", dict(texture=GREY[..., 0]), r"texture: shape \(4, 4\), expected \[H, W, 3\]"),
    (".glb", dict(normal_map=2 * GREY - 2), "normal_map: values -1..-1, expected 0..1"),
    (".glb", dict(uv=None, uv_triangles=None, texture=None, normal_map=GREY), "normal_map: found without uv"),
    (".glb", dict(morph_targets={"jawOpen": SQUARE[:2]}), r"morph_targets\['jawOpen'\]: shape \(2, 3\)"),
    (".glb", dict(morph_targets={"jawOpen": NAN}), r"morph_targets\['jawOpen'\]: 1 of 4 rows are not finite"),
    (".png", dict(image=GREY * np.nan), "image: values nan..nan, expected 0..1"),
    (".png", dict(image=GREY[..., :2]), r"image: shape \(4, 4, 2\), expected \[H, W\] or \[H, W, 3\] or"),
    (".gif", dict(frames=[]), "frames: shapes of no frames"),
    (".gif", dict(frames=[GREY, GREY[:2]]), r"frames: shapes \[\(2, 4, 3\), \(4, 4, 3\)\], expected one"),
    (".gif", dict(seconds_per_frame=0.001), "seconds_per_frame: found 0.001, expected 0.02 to 655 for 1 frames"),
    (".gif", dict(seconds_per_frame=np.nan), "seconds_per_frame: found nan"),
    ("-map.png", dict(displacement=GREY), r"displacement: shape \(4, 4, 3\), expected \[S, S\]"),
    ("-map.png", dict(displacement=NAN[:3]), "displacement: 1 of 9 numbers are not finite"),
    ("-map.png", dict(mask=HALVES), r"mask: int64 \(2, 3\), expected bool \(4, 4\)"),
]


@pytest.mark.parametrize(("ending", "arguments", "message"), BAD, ids=[message for _, _, message in BAD])
def test_what_cannot_be_written_is_an_error_of_one_line(tmp_path, ending, arguments, message):
    fails(WRITERS[ending], tmp_path / ("a" + ending), message, **arguments)
    assert not os.listdir(tmp_path)
