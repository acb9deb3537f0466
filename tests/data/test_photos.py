"""Photos as records: files of every kind, bad ones among them, and labels that stay on the picture."""

import dataclasses
import io
import logging
import pickle
import time

import chex
import numpy as np
import pytest
from PIL import Image

from sfm_jax.data.augment import MIRROR, Augmentation
from sfm_jax.data.crop import within_edges
from sfm_jax.data.photo_sets import BadPhoto, RawPhoto, decode
from sfm_jax.data.photos import Photos, open_photos

SIZE = 64


def picture(height=40, width=60):
    rows, columns = np.mgrid[:height, :width]
    return np.stack([4 * columns, 6 * rows, np.full_like(rows, 90)], -1).astype(np.uint8)


def encoded(image, format="PNG", **settings):
    file = io.BytesIO()
    image.save(file, format, **settings)
    return file.getvalue()


def face(seed=0):
    """68 different points in a photo of 200 x 240."""
    rng = np.random.default_rng(seed)
    angle = np.linspace(0, 2 * np.pi, 68, endpoint=False)
    return np.stack([120 + 60 * np.cos(angle), 100 + 70 * np.sin(angle)], -1) + rng.uniform(-2, 2, (68, 2))


@dataclasses.dataclass
class ListSource:
    """Photos in memory; an exception in the list is raised."""

    photos: list
    people: tuple = ("a", "b")

    @property
    def persons(self):
        return len(self.people)

    def __len__(self):
        return len(self.photos)

    def name(self, index):
        return f"photo{index}"

    def raw(self, index):
        if isinstance(self.photos[index], Exception):
            raise self.photos[index]
        return self.photos[index]


def plain(count, **labels):
    image = np.full((200, 240, 3), 100, np.uint8)
    return [RawPhoto(image, f"photo{index}", **labels) for index in range(count)]


class TestDecode:
    def test_plain(self):
        np.testing.assert_array_equal(decode(encoded(Image.fromarray(picture())), "x"), picture())

    def test_grey(self):
        grey = picture()[..., 0]
        np.testing.assert_array_equal(decode(encoded(Image.fromarray(grey)), "x"), np.stack([grey] * 3, -1))

    def test_sixteen_bits(self):
        grey = picture()[..., 0]
        deep = encoded(Image.fromarray(grey.astype(np.uint16) * 257))
        assert Image.open(io.BytesIO(deep)).mode.startswith("I")
        np.testing.assert_array_equal(decode(deep, "x"), np.stack([grey] * 3, -1))

    def test_palette(self):
        few = (picture() // 64) * 64
        data = encoded(Image.fromarray(few).convert("P", palette=Image.Palette.ADAPTIVE))
        np.testing.assert_allclose(decode(data, "x"), few, atol=4)

    def test_cmyk(self):
        data = encoded(Image.fromarray(picture()).convert("CMYK"), "JPEG", quality=98)
        assert Image.open(io.BytesIO(data)).mode == "CMYK"
        np.testing.assert_allclose(decode(data, "x"), picture(), atol=12)

    def test_transparent_is_white(self):
        alpha = np.full((*picture().shape[:2], 1), 255, np.uint8)
        alpha[:, :30] = 0
        decoded = decode(encoded(Image.fromarray(np.concatenate([picture(), alpha], -1))), "x")
        assert (decoded[:, :30] == 255).all()
        np.testing.assert_array_equal(decoded[:, 30:], picture()[:, 30:])

    @pytest.mark.parametrize(("orientation", "upright"), [
        (1, lambda image: image), (2, lambda image: image[:, ::-1]), (3, lambda image: image[::-1, ::-1]),
        (6, lambda image: np.rot90(image, -1)), (8, lambda image: np.rot90(image, 1))])
    def test_orientation(self, orientation, upright):
        exif = Image.Exif()
        exif[0x0112] = orientation
        np.testing.assert_array_equal(decode(encoded(Image.fromarray(picture()), exif=exif), "x"), upright(picture()))

    @pytest.mark.parametrize("data", [
        encoded(Image.fromarray(np.array([[0, 65535]], np.uint16)), "TIFF"),
        encoded(Image.fromarray(np.array([[0, 65535]], ">u2")), "TIFF"),
        b"P5 2 1 65535\n\0\0\xff\xff", b"P5 2 1 4095\n\0\0\x0f\xff"])
    def test_deep_grey_of_other_formats(self, data):
        np.testing.assert_array_equal(decode(data, "x"), [[[0] * 3, [255] * 3]])

    @pytest.mark.parametrize(("data", "reason"), [
        (encoded(Image.fromarray(picture()[..., 0].astype(np.int32)), "TIFF"), "grey of 32 bits, expected 8 or 16"),
        (encoded(Image.fromarray(picture()[..., 0].astype(np.int32)), "TIFF", tiffinfo={0x0112: 6}), "of 32 bits"),
        (b"", "the file is empty"), (b"<html>404</html>", "not an image of a known format"),
        (encoded(Image.fromarray(picture()), "JPEG")[:400], "truncated|not readable"),
        (encoded(Image.fromarray(picture()))[:90], "truncated|not readable"),
        (encoded(Image.fromarray(picture()[..., 0].astype(np.float32)), "TIFF"), "float pixels"),
        (encoded(Image.fromarray(picture()[..., 0].astype(np.int32) * 70000), "TIFF"), "expected 8 or 16 bits")])
    def test_bad_files_are_named(self, data, reason):
        with pytest.raises(BadPhoto, match=rf"^folder/a\.jpg: .*({reason})"):
            decode(data, "folder/a.jpg")


def test_record_without_labels():
    record = Photos(ListSource(plain(3)), (5, 4), SIZE).load(np.arange(3))
    assert {name: (value.shape, value.dtype.name) for name, value in record.items()} == {
        "image": ((3, SIZE, SIZE, 3), "uint8"), "person": ((3,), "int32"), "landmarks": ((3, 68, 2), "float32"),
        "landmark_mask": ((3, 68), "float32"), "rotation": ((3, 3, 3), "float32"), "rotation_mask": ((3,), "float32"),
        "identity": ((3, 5), "float32"), "expression": ((3, 4), "float32"), "codes_mask": ((3,), "float32"),
        "edges": ((3, 4, 3), "float32"), "id": ((3,), "int32")}
    chex.assert_tree_all_finite(record)
    assert not any(record[name].any() for name in ("landmark_mask", "rotation_mask", "codes_mask"))
    np.testing.assert_array_equal(record["person"], -1)
    np.testing.assert_array_equal(record["rotation"], np.stack([np.eye(3)] * 3))


def test_photo_without_landmarks_is_cropped_in_the_middle():
    image = np.zeros((200, 240, 3), np.uint8)
    image[:, 20:220] = 255
    crop = Photos(ListSource([RawPhoto(image, "x")]), (5, 4), 50, augmentation=None).load([0])["image"][0]
    assert (crop == 255).all()


def test_landmarks_stay_on_the_picture():
    """A white spot is painted at every landmark in turn; in the changed crop it must be where the label says."""
    landmarks = face()
    rows, columns = np.mgrid[:200, :240] + 0.5
    mirrored = []
    for number in range(0, 68, 3):
        x, y = landmarks[number]
        spot = 255 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 18)
        raw = RawPhoto(np.repeat(spot[..., None], 3, -1).astype(np.uint8), "x", landmarks=landmarks)
        changes = Augmentation(shift=0.02, brightness=0, contrast=0, gamma=0)
        record = Photos(ListSource([raw]), (5, 4), SIZE, changes, seed=1).load([0], epochs=number)
        weight = record["image"][0, ..., 0].astype(float)
        pixels = np.stack(np.meshgrid(np.arange(SIZE), np.arange(SIZE)), -1) + 0.5
        seen = (weight[..., None] * pixels).sum((0, 1)) / weight.sum()
        # Which of the two it is, the test does not know beforehand.
        distances = [np.linalg.norm(record["landmarks"][0, k] - seen) for k in (number, MIRROR[number])]
        assert min(distances) < 0.15
        mirrored.append(int(np.argmin(distances)))
    assert 0 < np.mean(mirrored) < 1


@pytest.mark.parametrize("extent", [None, (30, 0, 240, 150)])
def test_edges_tell_the_photo_from_the_black_around_it(extent):
    """A white photo, of which a part may have been black before."""
    image = np.zeros((200, 240, 3), np.uint8)
    left, top, right, bottom = extent or (0, 0, 240, 200)
    image[top:bottom, left:right] = 255
    raw = RawPhoto(image, "x", landmarks=face() + [60, 40], extent=extent if extent is None else np.array(extent))
    changes = Augmentation(brightness=0, contrast=0, gamma=0)
    record = Photos(ListSource([raw] * 8), (5, 4), SIZE, changes).load(np.arange(8))
    inside, white = within_edges(record["edges"], SIZE) > 0, (record["image"] == 255).all(-1)
    assert white[inside].all() and not white.all((1, 2)).any() and inside.sum() > 0.9 * white.sum()


def test_unknown_landmarks_are_masked_and_finite():
    landmarks, mask = face(), np.ones(68)
    landmarks[5], mask[5] = np.nan, 0
    record = Photos(ListSource(plain(1, landmarks=landmarks, landmark_mask=mask)), (5, 4), SIZE, None).load([0])
    chex.assert_tree_all_finite(record)
    np.testing.assert_array_equal(record["landmark_mask"][0], mask)


def test_same_photo_and_epoch_give_the_same_record():
    source = ListSource([RawPhoto(np.random.default_rng(k).integers(0, 255, (200, 240, 3), np.uint8), "x",
                                  landmarks=face(k)) for k in range(6)])
    photos = Photos(source, (5, 4), SIZE, seed=3)
    record = photos.load(np.arange(6), np.full(6, 2))
    other = Photos(source, (5, 4), SIZE, seed=3, threads=2).load(np.array([4, 1]), np.array([2, 2]))
    for name, value in other.items():
        np.testing.assert_array_equal(value, record[name][[4, 1]])
    assert np.any(photos.load(np.arange(6), 3)["image"] != record["image"])
    again = pickle.loads(pickle.dumps(photos)).load(np.arange(6), 2)
    np.testing.assert_array_equal(again["image"], record["image"])


def test_people_are_mirrored_as_one():
    """All else is as it is without; the halves of the photos are dark and bright."""
    photo = np.zeros((200, 240, 3), np.uint8)
    photo[:, 120:] = 200
    source = ListSource([RawPhoto(photo, "x", person) for person in (0, 0, 0, 1, 1, 1, -1, -1)])
    everything, epochs = np.tile(np.arange(8), 12), np.repeat(np.arange(12), 8)
    apart, together = (Photos(source, (5, 4), SIZE, seed=3, mirror_people=people).load(everything, epochs)["image"]
                       for people in (False, True))
    left, right = (half.mean((1, 2, 3)) for half in np.split(together, 2, axis=2))
    mirrored = (left > right).reshape(12, 8)
    for person in (mirrored[:, :3], mirrored[:, 3:6]):
        assert (person == person[:, :1]).all() and 0 < person[:, 0].sum() < 12
    assert (mirrored[:, 0] != mirrored[:, 3]).any() and (mirrored[:, 6] != mirrored[:, 7]).any()
    changed = (together != apart).any((1, 2, 3))
    assert not changed.reshape(12, 8)[:, 6:].any() and changed.any()
    np.testing.assert_allclose(together[changed].astype(int), apart[changed][:, :, ::-1], atol=1)


def test_codes_of_the_model_in_use_only():
    labels = {"identity": np.arange(5.0), "expression": np.arange(4.0), "rotation": np.eye(3)}
    record = Photos(ListSource(plain(1, **labels)), (5, 4), SIZE, None).load([0])
    np.testing.assert_array_equal(record["identity"][0], np.arange(5))
    np.testing.assert_array_equal(record["expression"][0], np.arange(4))
    assert record["codes_mask"][0] == 1
    other = Photos(ListSource(plain(1, **labels)), (6, 4), SIZE, None).load([0])
    assert other["codes_mask"][0] == 0 and other["identity"].shape == (1, 6) and not other["expression"].any()
    mirrored = Photos(ListSource(plain(1, **labels)), (5, 4), SIZE, Augmentation(mirror=1.0)).load([0])
    assert mirrored["codes_mask"][0] == 0 and mirrored["rotation_mask"][0] == 1


class TestBadPhotos:
    def bad(self, name="b.jpg"):
        return BadPhoto(f"{name}: the file is empty, expected an image")

    def test_replaced_by_the_next_and_logged_once(self, caplog):
        source = ListSource(plain(300))
        source.photos[4] = source.photos[5] = self.bad()
        photos = Photos(source, (5, 4), SIZE, max_bad_fraction=0.05)
        with caplog.at_level(logging.WARNING):
            record = photos.load([3, 4, 4, 299])
            photos.load([4, 5])
        np.testing.assert_array_equal(record["id"], [3, 6, 6, 299])
        assert sum("photo 4" in line for line in caplog.messages) == 1
        assert list(photos.bad()) == ["photo4", "photo5"]

    def test_last_is_replaced_by_the_first(self):
        photos = Photos(ListSource([*plain(200), self.bad()]), (5, 4), SIZE)
        np.testing.assert_array_equal(photos.load([200])["id"], [0])

    @pytest.mark.parametrize("threads", [1, 5])
    def test_too_many(self, threads, monkeypatch):
        """The count is that of the batch's order, also where the good photos' threads are done last."""
        source = ListSource([self.bad(f"{k}.jpg") if k % 10 == 0 else photo for k, photo in enumerate(plain(300))])
        photos = Photos(source, (5, 4), SIZE, max_bad_fraction=0.05, threads=threads)
        if threads > 1:
            row = photos._row
            monkeypatch.setattr(photos, "_row", lambda number, epoch: (time.sleep(number % 10 * 2e-3),
                                                                       row(number, epoch))[1])
        with pytest.raises(ValueError, match=r"^photos: 6 of 51 cannot be used.*0\.05; the first: 0\.jpg: the file"):
            photos.load(np.arange(300))

    def test_one_of_few_is_too_many_at_once(self):
        with pytest.raises(ValueError, match="1 of 1 cannot be used"):
            Photos(ListSource([self.bad(), *plain(7)]), (5, 4), SIZE, max_bad_fraction=0.05).load([0])

    def test_none_good(self):
        with pytest.raises(ValueError, match="none of 2 can be used"):
            Photos(ListSource([self.bad(), self.bad()]), (5, 4), SIZE, max_bad_fraction=1.0).load([0])

    @pytest.mark.parametrize(("labels", "reason"), [
        ({"landmarks": face() + [400, 0]}, "landmarks: one lies .* outside the photo of 240 x 200"),
        ({"landmarks": np.where(np.arange(68)[:, None] == 3, np.nan, face())}, "landmarks: found 68 known ones, 67"),
        ({"landmarks": face()[:51]}, r"landmarks: found shape \(51, 2\)"),
        ({"landmarks": np.zeros((68, 2))}, "landmarks"),
        ({"landmarks": face(), "landmark_mask": np.zeros(68)}, "landmarks: found 0 known ones"),
        ({"rotation": np.ones((3, 3))}, "rotation: found a matrix that is not orthonormal"),
        ({"identity": np.full(5, np.inf)}, "identity: found a number that is not finite")])
    def test_bad_labels(self, labels, reason):
        with pytest.raises(ValueError, match=f"photo0: {reason}"):
            Photos(ListSource(plain(1, **labels)), (5, 4), SIZE).load([0])

    def test_landmarks_a_little_outside_are_kept(self):
        record = Photos(ListSource(plain(1, landmarks=face() + [0, 60])), (5, 4), SIZE, None).load([0])
        assert record["landmark_mask"].all()


@pytest.mark.parametrize("name", ["", "folder", "folder:", "nowhere:/x", "/data/photos"])
def test_unknown_kinds(name):
    kinds = ", ".join(f"{kind}:PLACE" for kind in ("folder", "aflw", "tfds", "shards", "frames", "videos"))
    with pytest.raises(ValueError, match=f"^photos: found .*{kinds}$"):
        open_photos(name)


@pytest.mark.parametrize("kind", ["folder", "aflw", "shards", "tfds"])
def test_nothing_there(kind, tmp_path):
    with pytest.raises(ValueError, match="nothing_here") as error:
        open_photos(f"{kind}:{tmp_path}/nothing_here")
    assert "\n" not in str(error.value)
