"""Photos, labels and scans that lie: each kind of defect that experiments/hostile_input.py found."""

import io
import struct
import zlib

import numpy as np
import pytest
import scipy.io
from PIL import Image

from experiments import hostile_seeds as seeds
from sfm_jax.data import photo_sets
from sfm_jax.data.aflw import AflwPhotos
from sfm_jax.data.data_sets import open_shards
from sfm_jax.data.frames import FrameFolder
from sfm_jax.data.labelled_folder import read_landmarks
from sfm_jax.data.photo_sets import BadPhoto, decode
from sfm_jax.data.scans import read_scan


def refused(call, *arguments, message):
    """One line."""
    with pytest.raises(ValueError, match=message) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)


def png_of(width, height):
    """A PNG that claims this size, with the right checksum."""
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
            + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b""))


def test_a_picture_of_more_pixels_than_it_can_have_is_refused():
    refused(decode, png_of(60_000, 60_000), "a.png", message="a.png: not readable as an image .*pixels")


def test_formats_that_start_programs_are_not_known(monkeypatch):
    """Pillow gives EPS to Ghostscript."""
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *_, **__: pytest.fail("was started"))
    refused(decode, seeds.image("EPS"), "a.jpg", message="a.jpg: not an image of a known format")


@pytest.mark.parametrize("name", [name for name in seeds.images() if not name.endswith(".eps")])
def test_all_formats_that_are_named_are_read(name):
    assert decode(seeds.images()[name], name).shape in ((32, 24, 3), (24, 32, 3))  # turned by its EXIF


def test_the_list_of_formats_is_that_of_pillow():
    Image.init()
    assert set(photo_sets.FORMATS) <= set(Image.OPEN)


def test_a_frame_that_claims_too_many_pixels_is_a_bad_photo_later(tmp_path):
    (tmp_path / "clip").mkdir()
    for number, content in enumerate((seeds.image("PNG"), png_of(60_000, 60_000), seeds.image("PNG"))):
        (tmp_path / "clip" / f"{number}.png").write_bytes(content)
    source = FrameFolder(tmp_path)
    refused(lambda: decode(source.raw(1).image, "clip/1.png"), message="clip/1.png: not readable")


def test_a_record_of_a_person_who_is_not_listed_is_a_bad_photo(tmp_path):
    for name, content in seeds.shards().items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "label.labels.txt").write_text("person0\n")
    source = open_shards(str(tmp_path))
    assert source.people == ("person0",) and source.raw(0).person == 0
    with pytest.raises(BadPhoto, match="not a record of this data set"):
        [source.raw(index) for index in range(3)]


def test_labels_of_other_kinds_are_bad_photos(tmp_path):
    (tmp_path / "a.jpg").write_bytes(seeds.image("JPEG"))
    scipy.io.savemat(tmp_path / "a.mat", {"pt3d_68": "text", "Pose_Para": np.zeros((1, 7))})
    with pytest.raises(BadPhoto, match="a.mat: "):
        AflwPhotos(tmp_path).raw(0)
    np.savez(tmp_path / "a.npz", landmarks=np.full((68, 2), "text"))
    with pytest.raises(BadPhoto, match="a.npz: not readable as 68 landmarks .*found text, expected numbers"):
        read_landmarks(tmp_path / "a.jpg")


@pytest.mark.parametrize("arrays, message", [
    ({"vertices": np.array("text")}, "vertices: found text"),
    ({"vertices": np.zeros((100, 3)), "triangles": np.zeros(5)}, r"triangles: found shape \(5,\)"),
    ({"vertices": np.zeros((100, 3)), "triangles": np.full((5, 3), np.nan)}, "triangles: found fractions, NaN")])
def test_scans_of_other_kinds_are_refused(tmp_path, arrays, message):
    file = io.BytesIO()
    np.savez(file, **arrays)
    (tmp_path / "a.npz").write_bytes(file.getvalue())
    refused(read_scan, tmp_path / "a.npz", seeds.model(), message=f"a.npz: {message}")
