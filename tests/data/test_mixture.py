"""Batches of two kinds of photos, and which labels each may show."""

import jax
import numpy as np
import pytest
from tiny_runs import config

from sfm_jax.data.clips import SyntheticClips
from sfm_jax.data.mixture import FIELDS, SIZES, Mixture, PhotoPart, SyntheticPart
from sfm_jax.data.pairs import Pairs
from sfm_jax.data.scene import Conditions
from sfm_jax.data.synthetic import SyntheticPhotos
from sfm_jax.morphable.default import load_default, load_population
from sfm_jax.morphable.model import MorphableModel
from sfm_jax.tasks.photo_data import training_mixture
from sfm_jax.training.workdir import keep_sources

SIZE = 32


@pytest.fixture(scope="module")
def source():
    return SyntheticPhotos(load_default(0), load_population()[np.arange(5)], SIZE, Conditions(), seed=0)


@pytest.fixture(scope="module")
def mixture(source):
    part = SyntheticPart(source, 100)
    return Mixture({"identity": part, "landmarks": part}, {"identity": 0.25, "landmarks": 0.75})


def test_shares_of_the_batch(mixture):
    batch = mixture.dataset(8, 0)[3]
    assert {name: len(part["id"]) for name, part in batch.items()} == {"identity": 2, "landmarks": 6}


def test_parts_of_one_source_see_different_photos(source):
    part = SyntheticPart(source, 1000)
    batch = Mixture({"identity": part, "landmarks": part}, {"identity": 0.5, "landmarks": 0.5}).dataset(32, 0)[0]
    assert not np.array_equal(batch["identity"]["id"], batch["landmarks"]["id"])


def test_each_part_hides_the_labels_it_does_not_carry(mixture):
    record = jax.device_get(jax.jit(mixture.records)(mixture.dataset(8, 0)[0]))
    assert set(record) == set(FIELDS)
    assert (record["person"][:2] >= 0).all() and (record["person"][2:] == -1).all()
    for mask in ("landmark_mask", "rotation_mask", "codes_mask"):
        assert not record[mask][:2].any() and record[mask][2:].all()
    assert mixture.persons == 5


def test_a_turned_copy_shares_all_but_its_pose_with_the_photo(source):
    records = jax.jit(Mixture({"all": SyntheticPart(source, 100)}, {"all": 1.0}).records)
    photos = jax.device_get(records({"all": {"id": np.array([3, 8], np.int32)}}))
    copy = jax.device_get(records({"all": {"id": np.array([3, 8], np.int32), "scene": np.array([3, 3], np.int32)}}))
    for name in FIELDS:  # a photo in its own scene is itself
        np.testing.assert_allclose(copy[name][0], photos[name][0], rtol=1e-6, atol=1e-6, err_msg=name)
    for name in ("person", "identity", "expression"):
        np.testing.assert_array_equal(copy[name][1], photos[name][0], err_msg=name)
    np.testing.assert_allclose(copy["rotation"][1], photos["rotation"][1], atol=1e-6)
    assert copy["id"][1] == 8
    assert np.abs(copy["image"][1] - photos["image"][1]).mean() > 0.01


@pytest.fixture(scope="module")
def shoot(source):
    return jax.jit(source.shoot)


@pytest.mark.parametrize("kind", ["identity", "turned pairs", "clips"])
def test_what_is_drawn_together_is_what_each_part_shows(source, shoot, kind):
    """All that is synthetic is rendered as one: each photo is the one of its number, with the labels of its part."""
    ids, others, shown = np.array([3, 8, 11, 12], np.int32), np.array([5, 9], np.int32), source
    rows, part, name = {"id": ids}, SyntheticPart(source, 100), "identity"
    if kind == "turned pairs":  # in its own scene a photo is itself
        rows, part, name = rows | {"scene": ids}, Pairs(part, 1.0, 0, turned=1.0), "pairs"
    elif kind == "clips":
        shown, name = SyntheticClips(source, 4, 5), "clips"
        part = SyntheticPart(shown, 20)
    mixture = Mixture({name: part, "landmarks": SyntheticPart(source, 100)}, {name: 0.6, "landmarks": 0.4})
    record = jax.device_get(jax.jit(mixture.records)({name: rows, "landmarks": {"id": others}}))
    alone = jax.tree.map(lambda *parts: np.concatenate(parts), *jax.device_get(
        [shoot(jax.jit(one.scenes)(numbers)) for one, numbers in ((shown, ids), (source, np.tile(others, 2)))]))
    for field in ("image", "landmarks", "rotation", "identity", "expression", "id"):
        # Different programs: an edge may differ by a little.
        np.testing.assert_allclose(record[field], alone[field][:6], atol=2e-3, err_msg=field)
    np.testing.assert_array_equal(record["person"], [*alone["person"][:4], -1, -1])


def test_two_synthetic_sources_are_refused(source):
    other = SyntheticPhotos(source.model, source.people, SIZE, Conditions(), seed=1)
    with pytest.raises(ValueError, match="^data: identity and landmarks are of two synthetic sources, expected one$"):
        Mixture({"identity": SyntheticPart(source, 10), "landmarks": SyntheticPart(other, 10)},
                {"identity": 0.5, "landmarks": 0.5})


class FourPhotos:
    """A collection of four grey photos, with a person each and no landmarks."""

    persons = 4

    def __len__(self):
        return 4

    def load(self, indices, epochs):
        count = len(indices)
        return {
            "image": np.full((count, SIZE, SIZE, 3), 51, np.uint8), "person": indices.astype(np.int32),
            "landmarks": np.zeros((count, 68, 2), np.float32), "landmark_mask": np.zeros((count, 68), np.float32),
            "rotation": np.tile(np.eye(3, dtype=np.float32), (count, 1, 1)),
            "rotation_mask": np.zeros(count, np.float32), "identity": np.zeros((count, 120), np.float32),
            "expression": np.zeros((count, 51), np.float32), "codes_mask": np.zeros(count, np.float32),
            "edges": np.zeros((count, 4, 3), np.float32), "id": indices.astype(np.int32)}


def test_photos_from_files_beside_synthetic_ones(source):
    parts = {"identity": PhotoPart(FourPhotos()), "landmarks": SyntheticPart(source, 100)}
    mixture = Mixture(parts, {"identity": 0.5, "landmarks": 0.5})
    record = jax.device_get(jax.jit(mixture.records)(mixture.dataset(8, 0)[0]))
    np.testing.assert_allclose(record["image"][:4], 0.2, atol=1e-6)
    assert record["image"].shape == (8, SIZE, SIZE, 3) and record["image"].dtype == np.float32
    assert mixture.persons == 4
    np.testing.assert_array_equal(np.sort(record["person"][:4]), np.arange(4))


def test_normals_are_those_of_the_skin_that_is_seen(source):
    """Of photos from files none are known; of synthetic ones the scene's, but for what stands before the face."""
    covered = SyntheticPhotos(source.model, source.people, SIZE, Conditions(occluders=1.0), seed=0)
    parts = {"identity": PhotoPart(FourPhotos()), "landmarks": SyntheticPart(covered, 100)}
    mixture = Mixture(parts, {"identity": 0.5, "landmarks": 0.5})
    record = jax.device_get(jax.jit(lambda batch: mixture.records(batch, surface=True))(mixture.dataset(16, 0)[0]))
    assert record["normals"].shape == (16, SIZE, SIZE, 3) and not record["normals"][:8].any()
    scene = jax.device_get(jax.jit(covered.__call__)(record["id"][8:]))
    seen = scene["mask"] > 0.9
    assert 0 < seen.sum() < 0.95 * (scene["depth"] > 0).sum()
    np.testing.assert_allclose(record["normals"][8:][seen], scene["normals"][seen], atol=3e-5)
    assert not record["normals"][8:][~seen].any()


def on_devices(monkeypatch, local, processes=1):
    for name, count in (("local_device_count", local), ("device_count", local * processes),
                        ("process_count", processes)):
        monkeypatch.setattr(jax, name, lambda count=count: count)


@pytest.mark.parametrize("local, processes, identity", [(1, 1, 10), (2, 1, 10), (4, 1, 8), (8, 1, 8), (2, 2, 8)])
def test_sources_tell_how_the_parts_share_a_batch(source, monkeypatch, local, processes, identity):
    """A quarter of 40 is 10, and on four devices 8: each has as many as the others."""
    on_devices(monkeypatch, local, processes)
    part = SyntheticPart(source, 100)
    mixture = Mixture({"identity": part, "landmarks": part}, {"identity": 0.25, "landmarks": 0.75}, 40)
    assert mixture.sources() == {"batch_size over the devices": f"{identity} identity + {40 - identity} landmarks"}
    assert processes * len(mixture.dataset(40 // processes, 0)[0]["identity"]["id"]) == identity


def test_a_run_goes_on_where_its_batches_are_the_same(model, monkeypatch, tmp_path):
    """On two devices as on one; not on four, where a batch would be made of other photos."""
    settings = config("stage2", model, batch_size=40)
    people = load_population()[np.arange(5)]
    (tmp_path / "checkpoints").mkdir()
    for count in (1, 2, 4):
        on_devices(monkeypatch, count)
        sources = training_mixture(settings, MorphableModel.load(model), people).sources()
        if count < 4:
            keep_sources(tmp_path, sources)
    with pytest.raises(ValueError, match=r"batch_size over the devices was 10 identity \+ 30 landmarks and is "
                                         r"8 identity \+ 32 landmarks; choose another --workdir$"):
        keep_sources(tmp_path, sources)


def test_a_run_of_before_goes_on(tmp_path):
    """It has not written down how its parts share a batch."""
    (tmp_path / "checkpoints").mkdir()
    keep_sources(tmp_path, {"model": "12ab"})
    keep_sources(tmp_path, {"model": "12ab", SIZES: "10 identity + 30 landmarks"})
    with pytest.raises(ValueError, match="began with other data: model was 12ab and is 34cd; choose"):
        keep_sources(tmp_path, {"model": "34cd", SIZES: "10 identity + 30 landmarks"})


def test_one_part_is_the_whole_batch(source):
    assert Mixture({"all": SyntheticPart(source, 100)}, {"all": 1.0}, 40).sources() == {}


@pytest.mark.parametrize("length", [0, -3])
def test_no_synthetic_photos_is_an_error(source, length):
    with pytest.raises(ValueError, match=f"^data.synthetic_photos: found {length}, expected 1 or more$"):
        SyntheticPart(source, length)


def test_a_part_without_photos_is_an_error(source):
    part = SyntheticPart(source, 10)
    with pytest.raises(ValueError, match="leave none for a part"):
        Mixture({"identity": part, "landmarks": part}, {"identity": 0.01, "landmarks": 0.99}).dataset(4, 0)
