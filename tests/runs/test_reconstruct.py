"""The reconstruct command as a user starts it: what it writes, what it says, and how it ends."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sfm_jax
from sfm_jax.inference.detection import overlap
from sfm_jax.reconstruct import main

PHOTO = Path(__file__).parents[2] / "docs" / "images" / "astronaut.jpg"


@pytest.fixture(scope="module")
def picture():
    return Image.open(PHOTO).convert("RGB")


def run(capsys, *arguments):
    """(exit code, lines of the error stream that are ours)."""
    code = main([*map(str, arguments), "--level=0"])
    return code, [line for line in capsys.readouterr().err.splitlines() if line.startswith("sfm_jax")]


def test_a_photo_as_a_process(tmp_path):
    command = [sys.executable, "-m", "sfm_jax.reconstruct", str(PHOTO), "--out=faces", "--level=0"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "faces/index.html: 1 faces" in done.stdout
    assert (tmp_path / "faces" / "astronaut_1" / "face.glb").is_file()
    assert "astronaut_1/overlay.png" in (tmp_path / "faces" / "index.html").read_text()


def test_photos_that_are_none_or_have_no_face(tmp_path, capsys, picture):
    (tmp_path / "text.jpg").write_text("no image")
    picture.save(tmp_path / "good.png")
    Image.new("RGB", (1, 1)).save(tmp_path / "one.png")
    code, lines = run(capsys, tmp_path, f"--out={tmp_path / 'faces'}")
    assert code == 3 and len(lines) == 2, "of the first that failed: one.png"
    assert "one.png: no face found" in lines[0] and "text.jpg: not an image of a known format" in lines[1]
    page = (tmp_path / "faces" / "index.html").read_text()
    assert all(text in page for text in ("good_1/face.obj", "no face found", "not an image of a known format"))
    code, lines = run(capsys, tmp_path / "text.jpg", f"--out={tmp_path / 'faces'}")
    assert code == 2 and len(lines) == 1 and lines[0].startswith("sfm_jax: error: ")


def test_transparent_photos(tmp_path, capsys, picture):
    picture.putalpha(255)
    picture.save(tmp_path / "clear.png")
    assert run(capsys, tmp_path / "clear.png", f"--out={tmp_path / 'faces'}") == (0, [])


@pytest.mark.parametrize(("names", "out", "said"), [
    (["missing.jpg"], "faces", "missing.jpg: no such file or folder"),
    (["empty"], "faces", "empty: found no photos or videos"),
    (["empty"], "file/faces", "not a directory"),
])
def test_bad_input_is_named(tmp_path, capsys, monkeypatch, picture, names, out, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    if out != "faces":
        picture.save(tmp_path / "empty" / "a.png")
    code, lines = run(capsys, *names, f"--out={out}")
    assert code == 2 and len(lines) == 1 and said in lines[0]


@pytest.mark.slow
def test_forty_faces_each_where_it_is(picture):
    face = picture.crop((140, 20, 300, 220))
    sheet = Image.new("RGB", (8 * 160, 5 * 200))
    places = [(160 * column, 200 * row) for row in range(5) for column in range(8)]
    for place in places:
        sheet.paste(face, place)
    found = sfm_jax.reconstruct(np.asarray(sheet), detail=0)
    boxes = np.array([one.face_box for one in found])
    tiles = np.array([[x, y, x + 160, y + 200] for x, y in places], float)
    shares = np.array([overlap(tile, boxes).max() for tile in tiles])
    assert len(found) == 40 and (shares > 0.2).all()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")  # Pillow warns of 108 megapixels
def test_a_huge_photo(tmp_path, capsys, picture):
    sheet = Image.new("RGB", (12000, 9000), (90, 90, 90))
    sheet.paste(picture.resize((3000, 3000)), (5000, 3000))
    sheet.save(tmp_path / "huge.jpg", quality=60)
    code, _ = run(capsys, tmp_path / "huge.jpg", f"--out={tmp_path / 'faces'}")
    assert code == 0
    with np.load(tmp_path / "faces" / "huge_1" / "params.npz") as params:
        x, y = (params["landmarks68_px"].mean(0) - [5000, 3000]) / 3000 * 512
    assert 180 < x < 270 and 80 < y < 190
