"""Labelled folders and tables of one's own photos."""

import numpy as np
import pytest
from PIL import Image

from sfm_jax.data.labelled_folder import read_landmarks
from sfm_jax.data.photo_sets import BadPhoto
from sfm_jax.data.photos import Photos, open_photos

POINTS = np.random.default_rng(0).uniform(10, 90, (68, 2)).round(3)


def write_photo(path, level=100):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((100, 100, 3), level, np.uint8)).save(path)


@pytest.fixture
def folder(tmp_path):
    for level, name in enumerate(["zoe/1.jpg", "adam/2.png", "adam/1.JPG", "adam/10.jpeg", "alone.jpg"]):
        write_photo(tmp_path / name, 40 * level)
    for name in ("adam/notes.md", "adam/.hidden.jpg", "zoe/deeper/3.jpg", ".thumbnails/1.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("no photo")
    return tmp_path


def test_people_are_the_folders(folder):
    source = open_photos(f"folder:{folder}")
    assert source.people == ("adam", "zoe") and source.persons == 2
    assert [source.name(k) for k in range(len(source))] == [
        "adam/1.JPG", "adam/10.jpeg", "adam/2.png", "alone.jpg", "zoe/1.jpg"]
    record = Photos(source, (3, 2), 16, augmentation=None).load(np.arange(5))
    np.testing.assert_array_equal(record["person"], [0, 0, 0, -1, 1])
    np.testing.assert_allclose(record["image"].mean((1, 2, 3)), [80, 120, 40, 160, 0], atol=1)


def test_landmarks_beside_the_photo(folder):
    photo = folder / "adam/2.png"
    assert read_landmarks(photo) == (None, None)
    photo.with_suffix(".txt").write_text("\n".join(f"{x} {y}" for x, y in POINTS))
    np.testing.assert_allclose(read_landmarks(photo)[0], POINTS)
    body = "\n".join(f"{x:.3f} {y:.3f}" for x, y in POINTS + 0.5)
    photo.with_suffix(".pts").write_text(f"version: 1\nn_points:  68\n{{\n{body}\n}}\n")
    np.testing.assert_allclose(read_landmarks(photo)[0], POINTS)  # iBUG's first pixel is 1, its centre ours at 0.5
    mask = (np.arange(68) > 16).astype(np.float32)
    np.savez(photo.with_suffix(".npz"), landmarks=POINTS + 1, landmark_mask=mask)
    landmarks, known = read_landmarks(photo)
    np.testing.assert_allclose(landmarks, POINTS + 1)
    np.testing.assert_array_equal(known, mask)
    record = Photos(open_photos(f"folder:{folder}"), (3, 2), 16).load([2])
    assert record["landmark_mask"].sum() == 51


@pytest.mark.parametrize(("name", "content", "reason"), [
    ("a.pts", "1 2\n3 4\n", "expected points between"), ("a.pts", "{\n1 2\n3 4\n}", r"found shape \(2, 2\)"),
    ("a.txt", "x y\n", "not readable as 68 landmarks"), ("a.npz", "PK", "not readable as 68 landmarks")])
def test_bad_landmark_files_are_named(tmp_path, name, content, reason):
    (tmp_path / name).write_text(content)
    with pytest.raises(BadPhoto, match=rf"{name}: .*{reason}"):
        read_landmarks(tmp_path / "a.jpg")


def test_npz_without_landmarks(tmp_path):
    np.savez(tmp_path / "b.npz", landmarks=np.full((68, 2), "x"))
    with pytest.raises(BadPhoto, match="b.npz: not readable as 68 landmarks"):
        read_landmarks(tmp_path / "b.jpg")
    np.savez(tmp_path / "a.npz", points=POINTS)
    with pytest.raises(BadPhoto, match="a.npz: .*key 'landmarks' is missing, found points"):
        read_landmarks(tmp_path / "a.jpg")


@pytest.mark.parametrize(("name", "text"), [
    ("labels.csv", "path,person\nzoe/1.jpg,Zoe\n\nalone.jpg,\nadam/2.png, Adam\n"),
    ("labels.tsv", "zoe/1.jpg\tZoe\nalone.jpg\t\nadam/2.png\tAdam")])
def test_table(folder, name, text):
    (folder / name).write_text(text)
    source = open_photos(f"folder:{folder}/{name}")
    assert source.people == ("Adam", "Zoe")
    np.testing.assert_array_equal(Photos(source, (3, 2), 16).load(np.arange(3))["person"], [1, -1, 0])


def test_table_naming_a_missing_photo(folder):
    (folder / "labels.csv").write_text("zoe/1.jpg,Zoe\nzoe/gone.jpg,Zoe\nadam/2.png,Adam\n")
    photos = Photos(open_photos(f"folder:{folder}/labels.csv"), (3, 2), 16, max_bad_fraction=0.5)
    np.testing.assert_array_equal(photos.load(np.arange(3))["id"], [0, 2, 2])
    (name, reason), = photos.bad().items()
    assert name == "zoe/gone.jpg" and "no such file" in reason
    with pytest.raises(ValueError, match="1 of 2 cannot be used.*zoe/gone.jpg: no such file"):
        Photos(open_photos(f"folder:{folder}/labels.csv"), (3, 2), 16, max_bad_fraction=0.1).load(np.arange(3))


@pytest.mark.parametrize(("text", "reason"), [
    ("a.jpg;Zoe\n", "line 1: found 1 cells, expected 2"), ("path,person\n", "no photos found"),
    ("a.jpg,Zoe\nb.jpg,Zoe,3\n", "line 2: found 3 cells"), ('a.jpg,"Zoe\n', "not a readable table"),
    ("\xff\xfe", "not a readable table")])
def test_bad_tables(tmp_path, text, reason):
    (tmp_path / "labels.csv").write_text(text, encoding="latin1")
    with pytest.raises(ValueError, match=f"labels.csv: {reason}"):
        open_photos(f"folder:{tmp_path}/labels.csv")


def test_people_without_photos_are_told(folder, caplog):
    open_photos(f"folder:{folder}")
    assert not [line for line in caplog.messages if "hold no photos" in line]
    (folder / "bert" / "session1").mkdir(parents=True)
    write_photo(folder / "bert" / "session1" / "1.jpg")
    write_photo(folder / "zoe" / "moving.gif")
    photos = open_photos(f"folder:{folder}")
    assert "bert" not in photos.people and "zoe/moving.gif" in map(photos.name, range(len(photos)))
    (line,) = [line for line in caplog.messages if "hold no photos" in line]
    assert "1 of its folders hold no photos and are left out, the first: bert" in line


def test_empty_folder(tmp_path):
    with pytest.raises(ValueError, match="no photos found, expected person/photo.jpg"):
        open_photos(f"folder:{tmp_path}")


def test_fingerprint_tells_of_other_photos(folder):
    first = open_photos(f"folder:{folder}").fingerprint()
    assert open_photos(f"folder:{folder}").fingerprint() == first
    write_photo(folder / "zoe/2.jpg")
    assert open_photos(f"folder:{folder}").fingerprint() != first
