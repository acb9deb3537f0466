"""Shards of photos: written, resumed, read back, and readable by TFDS itself; published sets in TFDS's own layout."""

import dataclasses
import io
import json
import pickle
import subprocess
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordWriter
from PIL import Image

from sfm_jax.data.aflw import rotation_from_pose
from sfm_jax.data.crop import within_edges
from sfm_jax.data.photo_sets import BadPhoto
from sfm_jax.data.photos import Photos, open_photos
from sfm_jax.data.pipeline import batches
from sfm_jax.data.shards import Packing, build_shards

COUNT = 23
SMALL = Packing(size=0, photos_per_shard=10)


@pytest.fixture
def folder(tmp_path):
    """Three people, smooth photos, landmarks beside every second one, photo 7 damaged."""
    rows, columns = np.mgrid[:120, :100]
    rng = np.random.default_rng(0)
    folder = tmp_path / "photos"
    for number in range(COUNT):
        path = folder / "abc"[number * 3 // COUNT] / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image = np.stack([columns * 2, rows * 2, np.full_like(rows, 10 * number)], -1).astype(np.uint8)
        Image.fromarray(image).save(path)
        if number % 2:
            mask = (np.arange(68) != number).astype(np.float32)
            np.savez(path.with_suffix(".npz"), landmarks=rng.uniform(20, 90, (68, 2)), landmark_mask=mask)
    (folder / "a/07.png").write_bytes(b"")
    return folder


def assert_same(first, second, but=("id",), **tolerance):
    for name in first:
        if name not in but:
            np.testing.assert_allclose(first[name].astype(float), second[name].astype(float), err_msg=name,
                                       **tolerance)


def good(record_ids):
    return np.array([index for index in record_ids if index != 7])


def test_shards_hold_what_the_folder_holds(folder, tmp_path):
    source = open_photos(f"folder:{folder}")
    manifest = build_shards(source, tmp_path / "out", SMALL, max_bad_fraction=0.1)
    assert manifest["photos"] == COUNT - 1 and manifest["persons"] == 3
    assert list(manifest["bad"]) == ["a/07.png"] and "the file is empty" in manifest["bad"]["a/07.png"]
    shards = open_photos(f"shards:{tmp_path}/out")
    assert len(shards) == COUNT - 1 and shards.people == ("a", "b", "c") and shards.name(7) == "b/08.png"
    first = Photos(source, (3, 2), 32, None).load(good(range(COUNT)))
    assert_same(first, Photos(shards, (3, 2), 32, None).load(np.arange(COUNT - 1)), rtol=1e-5)
    assert first["landmark_mask"].sum() == 10 * 67 and set(first["person"]) == {0, 1, 2}


def test_crops_keep_their_labels(folder, tmp_path):
    source = open_photos(f"folder:{folder}")
    build_shards(source, tmp_path / "out", Packing(size=64, photos_per_shard=10), max_bad_fraction=0.1)
    shards = open_photos(f"shards:{tmp_path}/out")
    second = Photos(shards, (3, 2), 32, None).load(np.arange(COUNT - 1))
    first = Photos(source, (3, 2), 32, None).load(good(range(COUNT)))
    assert_same(first, second, but=("id", "image", "edges"), rtol=1e-4, atol=1e-4)
    inner = np.s_[:, 2:-2, 2:-2]  # the photo's edge is blurred twice
    assert np.abs(first["image"][inner].astype(int) - second["image"][inner]).mean() < 2
    data = tfds.builder_from_directory(str(tmp_path / "out")).as_data_source("train")
    assert {example["image"].shape for example in data} == {(64, 64, 3)}


def test_crops_know_where_the_photo_ends(tmp_path):
    """White photos of faces at their borders, cropped, and cropped once more."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for number, centre in enumerate([(20, 60), (85, 100), (50, 50)]):
        Image.new("RGB", (100, 120), "white").save(photos / f"{number}.png")
        angle = np.linspace(0, 2 * np.pi, 68, endpoint=False)
        np.savez(photos / f"{number}.npz", landmarks=np.stack([np.cos(angle), np.sin(angle)], -1) * 30 + centre)
    source = open_photos(f"folder:{photos}")
    build_shards(source, tmp_path / "out", Packing(size=64))
    once = tmp_path / "once"
    build_shards(open_photos(f"shards:{tmp_path}/out"), once, Packing(size=56, margin=1.2))
    direct = within_edges(Photos(source, (3, 2), 32, None).load(np.arange(3))["edges"], 32)
    for place in (tmp_path / "out", once):
        record = Photos(open_photos(f"shards:{place}"), (3, 2), 32, None).load(np.arange(3))
        inside = within_edges(record["edges"], 32)
        assert record["image"][inside > 0].min() > 240 and inside[2].all()
        assert (inside <= direct).all() and (inside.sum((1, 2)) > 0.9 * direct.sum((1, 2))).all()
        assert (direct[:2].mean((1, 2)) < 0.95).all()


def test_several_processes_write_the_same(folder, tmp_path):
    source = open_photos(f"folder:{folder}")
    one = build_shards(source, tmp_path / "one", SMALL, max_bad_fraction=0.1)
    two = build_shards(source, tmp_path / "two", SMALL, processes=2, max_bad_fraction=0.1)
    assert one == two
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "two").iterdir())
    assert not [name for name in names if "partial" in name or name == "progress"]


class Stopped(Exception):
    pass


class Watched:
    """A source that counts what is read, and stops at a photo."""

    def __init__(self, source, stop=None):
        self._source, self._stop, self.read = source, stop, []
        self.people, self.persons = source.people, source.persons
        self.name, self.fingerprint = source.name, source.fingerprint

    def __len__(self):
        return len(self._source)

    def raw(self, index):
        if index == self._stop:
            raise Stopped
        self.read.append(index)
        return self._source.raw(index)


def test_a_stopped_build_goes_on(folder, tmp_path):
    source = open_photos(f"folder:{folder}")
    with pytest.raises(Stopped):
        build_shards(Watched(source, stop=15), tmp_path / "out", SMALL)
    with pytest.raises(ValueError, match="photos.json is missing: no shards, or not finished"):
        open_photos(f"shards:{tmp_path}/out")
    rest = Watched(source)
    manifest = build_shards(rest, tmp_path / "out", SMALL, max_bad_fraction=0.1)
    assert rest.read == list(range(10, COUNT))  # the first shard was finished
    assert manifest == build_shards(source, tmp_path / "whole", SMALL, max_bad_fraction=0.1)
    done = Watched(source)
    assert build_shards(done, tmp_path / "out", SMALL) == manifest and not done.read


def test_shards_of_another_packing_are_made_again(folder, tmp_path):
    source = open_photos(f"folder:{folder}")
    with pytest.raises(Stopped):
        build_shards(Watched(source, stop=15), tmp_path / "out", SMALL)
    other = dataclasses.replace(SMALL, photos_per_shard=8)
    rest = Watched(source)
    build_shards(rest, tmp_path / "out", other, max_bad_fraction=0.1)
    assert rest.read == list(range(COUNT))
    assert len(list((tmp_path / "out").glob("*array_record*"))) == 3
    with pytest.raises(ValueError, match="photos.json: finished shards of other photos, or packed otherwise"):
        build_shards(source, tmp_path / "out", SMALL)


def test_too_many_bad_photos(folder, tmp_path):
    with pytest.raises(ValueError, match="1 of 23 photos cannot be used, .* is 0.01; the first: .*07.png"):
        build_shards(open_photos(f"folder:{folder}"), tmp_path / "out", SMALL)


def test_a_shard_without_a_good_photo(folder, tmp_path):
    packing = dataclasses.replace(SMALL, photos_per_shard=1)
    build_shards(open_photos(f"folder:{folder}"), tmp_path / "out", packing, max_bad_fraction=0.1)
    shards = open_photos(f"shards:{tmp_path}/out")
    assert [shards.name(index) for index in (6, 7)] == ["a/06.png", "b/08.png"]


def test_tfds_reads_them_itself(folder, tmp_path):
    build_shards(open_photos(f"folder:{folder}"), tmp_path / "out", SMALL, max_bad_fraction=0.1)
    builder = tfds.builder_from_directory(str(tmp_path / "out"))
    assert builder.info.splits["train"].num_examples == COUNT - 1
    assert builder.info.features["label"].names == ["a", "b", "c"]
    example = builder.as_data_source("train")[8]
    assert example["name"] == b"b/09.png" and example["label"] == 1
    np.testing.assert_array_equal(example["image"], np.asarray(Image.open(folder / "b/09.png")))
    with np.load(folder / "b/09.npz") as labels:
        np.testing.assert_allclose(example["landmarks"], labels["landmarks"], rtol=1e-6)
    part = open_photos(f"shards:{tmp_path}/out#train[50%:]")
    assert len(part) == (COUNT - 1) // 2 and part.name(0) == "b/12.png"


def test_damaged_records_are_bad_photos(folder, tmp_path):
    build_shards(open_photos(f"folder:{folder}"), tmp_path / "out", SMALL, max_bad_fraction=0.1)
    path = tmp_path / "out/photos-train.array_record-00001-of-00003"
    content = bytearray(path.read_bytes())
    content[content.find(b"IDAT") + 20] ^= 255  # in the first photo; the record's checksum tells
    path.write_bytes(content)
    photos = Photos(open_photos(f"shards:{tmp_path}/out"), (3, 2), 32, max_bad_fraction=0.5)
    np.testing.assert_array_equal(photos.load([8, 9, 10])["id"], [8, 10, 10])
    with pytest.raises(BadPhoto, match=r"photos#train\[9\]: not a readable record"):
        photos.source.raw(9)
    assert list(photos.bad()) == ["photos#train[9]"]


def test_damaged_records_are_of_nobody_known(folder, tmp_path):
    """Pairs are made from the labels of all photos: one that cannot be read is in none."""
    build_shards(open_photos(f"folder:{folder}"), tmp_path / "out", SMALL, max_bad_fraction=0.1)
    before = open_photos(f"shards:{tmp_path}/out").labels()
    path = tmp_path / "out/photos-train.array_record-00001-of-00003"
    content = bytearray(path.read_bytes())
    content[content.find(b"IDAT") + 20] ^= 255
    path.write_bytes(content)
    after = open_photos(f"shards:{tmp_path}/out").labels()
    assert (before >= 0).all() and after[9] == -1
    np.testing.assert_array_equal(np.delete(after, 9), np.delete(before, 9))


def test_fingerprints_tell_of_other_photos(folder, tmp_path):
    """As many, of the same people: under other names, and packed otherwise."""
    def fingerprint(name, packing=SMALL):
        build_shards(open_photos(f"folder:{folder}"), tmp_path / name, packing, max_bad_fraction=0.1)
        return open_photos(f"shards:{tmp_path}/{name}").fingerprint()

    first = fingerprint("first")
    assert fingerprint("again") == first != fingerprint("smaller", dataclasses.replace(SMALL, size=16))
    for path in (folder / "a").iterdir():
        path.rename(path.with_name(f"x{path.name}"))
    assert fingerprint("renamed") != first
    (tmp_path / "first" / "photos.json").write_text("[]")
    with pytest.raises(ValueError, match="photos.json: not the manifest of shards"):
        open_photos(f"shards:{tmp_path}/first")


class Named:
    """Photos and people of these names; none is ever read."""

    def __init__(self, people, photos=()):
        self.people, self.persons, self._photos = people, len(people), photos

    def __len__(self):
        return len(self._photos)

    def name(self, index):
        return self._photos[index]

    def fingerprint(self):
        return "names"


@pytest.mark.parametrize("people, photos, message", [
    (["a", "a "], [], "person 'a ': expected a name of one line, without blanks at its ends"),
    (["\ta"], [], r"person '\\ta': "), ([" "], [], "person ' ': "), ([""], [], "person '': "),
    (["a\nb"], [], r"person 'a\\nb': "), (["a\n"], [], r"person 'a\\n': "), (["a\u2028b"], [], r"person 'a\\u2028b': "),
    (["a\udcff"], [], r"'a\\udcff': expected a name in UTF-8"),
    (["a"], ["a/1.png", "a/\udcfe.png"], r"'a/\\udcfe.png': expected a name in UTF-8")])
def test_names_that_would_come_back_as_others_are_refused(tmp_path, people, photos, message):
    with pytest.raises(ValueError, match=message) as refused:
        build_shards(Named(people, photos), tmp_path / "out")
    assert "\n" not in str(refused.value) and not (tmp_path / "out").exists()


def test_names_come_back_as_they_are(folder, tmp_path):
    (folder / "b").rename(folder / "b #1 ö")
    build_shards(open_photos(f"folder:{folder}"), tmp_path / "out", SMALL, max_bad_fraction=0.1)
    shards = open_photos(f"shards:{tmp_path}/out")
    assert shards.people == ("a", "b #1 ö", "c") and shards.name(7) == "b #1 ö/08.png"


def test_folders_may_have_a_number_sign_in_their_names(folder, tmp_path):
    place = tmp_path / "take #2" / "out #3"
    build_shards(open_photos(f"folder:{folder}"), place, SMALL, max_bad_fraction=0.1)
    for kind in ("shards", "tfds"):
        assert len(open_photos(f"{kind}:{place}")) == COUNT - 1
        assert len(open_photos(f"{kind}:{place}#train[:5]")) == 5
    write_data_set(tmp_path / "take #2", "lfw", [{"label": "Zoe", "image": grey(250, 250)}])
    for split in ("", "#train"):
        assert open_photos(f"tfds:lfw{tmp_path}/take #2{split}").people == ("Zoe",)


def grey(height, width, level=90):
    file = io.BytesIO()
    Image.new("RGB", (width, height), (level, level, level)).save(file, "PNG")
    return file.getvalue()


def write_data_set(folder, name, examples, split="train"):
    """Examples as `tfds build NAME --file_format=array_record` leaves them."""
    builder = tfds.builder(name, data_dir=str(folder), file_format="array_record")
    builder.data_path.mkdir(parents=True)
    writer = ArrayRecordWriter(str(builder.data_path / f"{name}-{split}.array_record-00000-of-00001"), "group_size:1")
    for example in examples:
        features = builder.info.features
        writer.write(features.serialize_example(features.encode_example(example)))
    writer.close()
    template = tfds.core.ShardedFileTemplate(data_dir=builder.data_path, dataset_name=name, split=split,
                                             filetype_suffix="array_record")
    builder.info.set_splits(tfds.core.splits.SplitDict([tfds.core.SplitInfo(
        name=split, shard_lengths=[len(examples)], num_bytes=1, filename_template=template)]))
    builder.info.write_to_directory(str(builder.data_path))
    return builder.data_path


def write_labelled(folder, feature, labels):
    """Grey photos with labels of a kind, as `tfds build` leaves them; nothing knows the data set by name."""
    features = tfds.features.FeaturesDict({"image": tfds.features.Image(shape=(None, None, 3)), "label": feature})
    folder.mkdir()
    writer = ArrayRecordWriter(str(folder / "faces-train.array_record-00000-of-00001"), "group_size:1")
    for label in labels:
        writer.write(features.serialize_example(features.encode_example({"image": grey(40, 40), "label": label})))
    writer.close()
    info = tfds.core.DatasetInfo(features=features, builder=tfds.core.dataset_info.DatasetIdentity(
        name="faces", version=tfds.core.Version("1.0.0"), data_dir=str(folder), module_name=""))
    info.set_file_format("array_record")
    template = tfds.core.ShardedFileTemplate(data_dir=folder, dataset_name="faces", split="train",
                                             filetype_suffix="array_record")
    info.set_splits(tfds.core.splits.SplitDict([tfds.core.SplitInfo(
        name="train", shard_lengths=[len(labels)], num_bytes=1, filename_template=template)]))
    info.write_to_directory(folder)


@pytest.mark.parametrize("feature, labels, people", [
    (np.int64, [7, 12, 7], ("12", "7")), (tfds.features.Text(), ["b", "a", "b"], ("a", "b")),
    (tfds.features.ClassLabel(names=["y", "x"]), [1, 0, 1], ("y", "x"))])
def test_a_label_is_the_person(tmp_path, feature, labels, people):
    write_labelled(tmp_path / "faces", feature, labels)
    source = open_photos(f"tfds:{tmp_path}/faces")
    assert source.people == people and source.labels().tolist() == [1, 0, 1] and source.raw(1).person == 0


def test_labels_that_name_nobody_are_refused(tmp_path):
    write_labelled(tmp_path / "faces", np.float32, [0.5])
    with pytest.raises(ValueError, match=r"label: found float.. of shape \(\), expected a text or a whole number"):
        open_photos(f"tfds:{tmp_path}/faces")


POINTS = np.random.default_rng(0).uniform(100, 350, (68, 2)).astype(np.float32)


def test_300w_lp(tmp_path):
    zeros = {name: np.zeros(size, np.float32) for name, size in
             [("roi", 4), ("illum_params", 10), ("color_params", 7), ("tex_params", 199)]}
    pose = np.array([0.1, -0.6, 0.2, 0, 0, 0, 1], np.float32)
    write_data_set(tmp_path, "the300w_lp", [zeros | {
        "image": grey(450, 450), "landmarks_origin": POINTS * 0, "landmarks_2d": POINTS * 0,
        "landmarks_3d": POINTS / 450, "shape_params": np.arange(199, dtype=np.float32),
        "exp_params": np.arange(29, dtype=np.float32), "pose_params": pose}])
    source = open_photos(f"tfds:the300w_lp{tmp_path}")
    raw = source.raw(0)
    np.testing.assert_allclose(raw.landmarks, POINTS - 0.5, rtol=1e-5)
    np.testing.assert_allclose(raw.rotation, rotation_from_pose(pose), rtol=1e-6)
    record = Photos(source, (199, 29), 32, None).load([0])
    assert record["codes_mask"][0] == 1 and record["person"][0] == -1 and source.persons == 0


def test_aflw2k3d(tmp_path):
    write_data_set(tmp_path, "aflw2k3d", [{
        "image": grey(450, 450), "landmarks_68_3d_xy_normalized": POINTS / 450,
        "landmarks_68_3d_z": POINTS[:, :1]}])
    raw = open_photos(f"tfds:aflw2k3d{tmp_path}").raw(0)
    np.testing.assert_allclose(raw.landmarks, POINTS - 0.5, rtol=1e-5)
    assert raw.rotation is None


def test_lfw(tmp_path):
    image = grey(250, 250)
    write_data_set(tmp_path, "lfw", [{"label": label, "image": image} for label in ("Zoe", "Adam", "Zoe")])
    source = open_photos(f"tfds:lfw{tmp_path}")
    assert source.people == ("Adam", "Zoe") and source.name(1) == "lfw#train[1]"
    record = Photos(source, (3, 2), 32, None).load(np.arange(3))
    np.testing.assert_array_equal(record["person"], [1, 0, 1])
    assert (record["image"] == 90).all()


def test_celeb_a(tmp_path):
    features = tfds.builder("celeb_a", data_dir=str(tmp_path)).info.features
    points = {"lefteye_x": 69, "lefteye_y": 111, "righteye_x": 108, "righteye_y": 111, "nose_x": 88, "nose_y": 131,
              "leftmouth_x": 72, "leftmouth_y": 152, "rightmouth_x": 105, "rightmouth_y": 152}
    write_data_set(tmp_path, "celeb_a", [{
        "image": grey(218, 178), "landmarks": points,
        "attributes": dict.fromkeys(features["attributes"], False), "identity": {"Identity_No": number}}
        for number in (7, 10177)], split="test")
    source = open_photos(f"tfds:celeb_a{tmp_path}#test")
    assert [source.people[source.raw(index).person] for index in range(2)] == ["7", "10177"]
    centre, side = source.raw(0).box
    np.testing.assert_allclose([*centre, side], [89, 140.2, 131.2], atol=0.5)
    with pytest.raises(ValueError, match="not readable as a TFDS data set.*split 'train'"):
        open_photos(f"tfds:celeb_a{tmp_path}")


def test_not_prepared(tmp_path):
    for place in (f"tfds:lfw{tmp_path}", f"tfds:no_such_set{tmp_path}", f"tfds:{tmp_path}"):
        with pytest.raises(ValueError, match="expected one prepared with --file_format=array_record") as error:
            open_photos(place)
        assert "\n" not in str(error.value)


def test_pipeline_reads_shards(folder, tmp_path):
    build_shards(open_photos(f"folder:{folder}"), tmp_path / "out", SMALL, max_bad_fraction=0.1)
    photos = Photos(open_photos(f"shards:{tmp_path}/out"), (3, 2), 32)
    data = batches(len(photos), 8, seed=0, load=photos.load)
    ids = np.concatenate([data[number]["id"] for number in range(11)])
    np.testing.assert_array_equal(np.sort(ids), np.repeat(np.arange(COUNT - 1), 4))
    # The last photos of the first epoch are in a batch with the first of the second, changed in another way.
    assert np.any(data[2]["image"] != photos.load(data[2]["id"], 0)["image"])
    np.testing.assert_array_equal(data[2]["image"], photos.load(data[2]["id"], [0] * 6 + [1] * 2)["image"])


def test_sources_travel_to_other_processes(folder, tmp_path):
    build_shards(open_photos(f"folder:{folder}"), tmp_path / "out", SMALL, max_bad_fraction=0.1)
    photos = Photos(open_photos(f"shards:{tmp_path}/out"), (3, 2), 32)
    assert_same(photos.load([1, 2]), pickle.loads(pickle.dumps(photos)).load([1, 2]), but=())


def test_no_tensorflow(folder, tmp_path):
    script = f"""
import sys
from sfm_jax.data.photo_sets import BadPhoto
from sfm_jax.data.photos import Photos, open_photos
from sfm_jax.data.shards import build_shards, Packing
build_shards(open_photos("folder:{folder}"), "{tmp_path}/out", Packing(), max_bad_fraction=0.1)
Photos(open_photos("shards:{tmp_path}/out"), (3, 2), 32).load([0, 1])
print([name for name in sys.modules if name.split(".")[0] in ("tensorflow", "jax")])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.strip().replace("'", '"')) == []
