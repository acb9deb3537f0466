"""Pairs of photos: who is shown with whom, how often, and the same again."""

import jax
import numpy as np
import pytest

from sfm_jax.data.mixture import Mixture
from sfm_jax.data.pairs import Pairs, read_pairs
from sfm_jax.errors import BadInput

LABELS = np.array([2, 0, 1, 0, -1, 2, 0, 1, 3], np.int32)  # of person 3 there is one photo, of photo 4 nobody is known


class Part:
    rows = 1

    def __init__(self, labels=LABELS):
        self._labels, self.persons, self.length = np.asarray(labels), int(max(labels)) + 1, len(labels)

    def labels(self):
        return self._labels

    def load(self, indices, epochs):
        return {"id": np.asarray(indices, np.int32), "epoch": np.asarray(epochs)}


def drawn(pairs, epochs=400):
    """[epochs * length, 2] photo numbers."""
    indices = np.tile(np.arange(pairs.length), epochs)
    return pairs.load(indices, np.repeat(np.arange(epochs), pairs.length))["id"].reshape(-1, 2)


def test_every_known_photo_comes_first_once_an_epoch():
    first = drawn(Pairs(Part(), 0.5, 0), epochs=3)[:, 0].reshape(3, -1)
    for epoch in first:
        np.testing.assert_array_equal(np.sort(epoch), np.flatnonzero(LABELS >= 0))


def test_positive_share_and_no_photo_with_itself():
    pairs = drawn(Pairs(Part(), 0.7, 0))
    assert (pairs[:, 0] != pairs[:, 1]).all() and 4 not in pairs
    same = LABELS[pairs[:, 0]] == LABELS[pairs[:, 1]]
    alone = LABELS[pairs[:, 0]] == 3
    assert not same[alone].any()
    assert same[~alone].mean() == pytest.approx(0.7, abs=0.03)  # of 2800


@pytest.mark.parametrize("positive", [1.0, 1e-9])
def test_partners_are_equally_likely(positive):
    pairs = drawn(Pairs(Part(), positive, 0), epochs=2000)
    of_zero = pairs[pairs[:, 0] == 3, 1]  # photo 3 shows person 0, as photos 1 and 6 do
    partners = [1, 6] if positive == 1 else [0, 2, 5, 7, 8]
    found, count = np.unique(of_zero, return_counts=True)
    np.testing.assert_array_equal(found, partners)
    np.testing.assert_allclose(count / 2000, 1 / len(partners), atol=0.05)


def test_partners_are_the_same_again_and_others_in_another_epoch():
    one, two, other = (Pairs(Part(), 0.5, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(drawn(one), drawn(two))
    assert not np.array_equal(drawn(one), drawn(other))
    by_epoch = drawn(one).reshape(400, -1, 2)
    assert not np.array_equal(by_epoch[0], by_epoch[1])


def test_a_batch_holds_whole_pairs():
    mixture = Mixture({"pairs": Pairs(Part(), 1.0, 0), "landmarks": Part()}, {"pairs": 0.5, "landmarks": 0.5})
    batch = mixture.dataset(8, 0)[5]
    first, second = batch["pairs"]["id"].reshape(-1, 2).T
    assert len(first) == 2 and len(batch["landmarks"]["id"]) == 4
    known = LABELS[first] != 3
    np.testing.assert_array_equal(LABELS[first][known], LABELS[second][known])


def test_turned_copies_are_a_share_of_the_positive_pairs():
    pairs = Pairs(Part(), 0.7, 0, turned=0.4)
    indices, epochs = np.tile(np.arange(pairs.length), 400), np.repeat(np.arange(400), pairs.length)
    rows = pairs.load(indices, epochs)
    number, scene = rows["id"].reshape(-1, 2), rows["scene"].reshape(-1, 2)
    np.testing.assert_array_equal(scene[:, 0], number[:, 0])
    turned = scene[:, 1] != number[:, 1]
    np.testing.assert_array_equal(scene[turned, 1], number[turned, 0])
    same = LABELS[number[:, 0]] == LABELS[number[:, 1]]
    assert same[turned].all() and turned[same].mean() == pytest.approx(0.4, abs=0.04)  # of about 1700
    assert "scene" not in Pairs(Part(), 0.7, 0).load(indices[:2], epochs[:2])


@pytest.mark.parametrize(("batch", "devices"), [(7, 1), (6, 2)])
def test_pairs_are_never_cut_in_two(batch, devices, monkeypatch):
    monkeypatch.setattr(jax, "local_device_count", lambda: devices)
    message = f"batch_size: {batch} photos a process are no whole pairs on each of its {devices} devices"
    with pytest.raises(BadInput, match=message):
        Mixture({"pairs": Pairs(Part(), 1.0, 0)}, {"pairs": 1.0}).dataset(batch, 0)


def test_a_list_of_pairs(tmp_path):
    (tmp_path / "pairs.csv").write_text("a/1.jpg, a/2.jpg\n\nb/1.jpg,a/1.jpg\n")
    fixed = read_pairs(tmp_path / "pairs.csv", ["a/1.jpg", "a/2.jpg", "b/1.jpg"])
    np.testing.assert_array_equal(fixed, [[0, 1], [2, 0]])
    pairs = Pairs(Part([0, 0, 1]), 0.5, 0, fixed)
    assert pairs.length == 2
    np.testing.assert_array_equal(pairs.load(np.array([1]), np.array([0]))["id"], [2, 0])


@pytest.mark.parametrize("text, message", [
    ("a.jpg, z.jpg\n", "line 1: photo 'z.jpg' is not among the 2 photos, such as 'a.jpg'"),
    ("a.jpg, b.jpg\na.jpg\n", "line 2: found 1 cells, expected 2"),
    ("\n", "found no pairs"),
    (None, "not a readable list of pairs")])
def test_bad_lists_are_refused(tmp_path, text, message):
    path = tmp_path / "pairs.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ValueError, match=message) as refused:
        read_pairs(path, ["a.jpg", "b.jpg"])
    assert str(path) in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize("labels, positive, message", [
    ([0, 1, 2], 0.5, "3 photos of 3 known people, but nobody of whom there are two"),
    ([-1, -1], 0.5, "0 photos of 0 known people"),
    ([0, 0], 0.5, "of one person only"),
    ([0, 0], 0.0, "data.positive: found 0.0"), ([0, 0], 1.5, "data.positive: found 1.5")])
def test_impossible_pairs_are_refused(labels, positive, message):
    with pytest.raises(ValueError, match=message):
        Pairs(Part(labels), positive, 0)


def test_a_list_of_pairs_of_nobody_is_refused():
    with pytest.raises(ValueError, match="data.pairs: found no pair in the list of which both people are known, of 2"):
        Pairs(Part([-1, 0, 0]), 0.5, 0, np.array([[0, 1], [2, 0]]))
    Pairs(Part([-1, 0, 0]), 0.5, 0, np.array([[0, 1], [2, 1]]))
    with pytest.raises(ValueError, match="data.clips: 0 photos of 0 known people"):
        Pairs(Part([-1]), 1.0, 0, key="clips")


def test_a_share_of_turned_copies_is_a_share():
    with pytest.raises(ValueError, match="data.turned: found 1.2, expected a share of the positive pairs, 0 to 1"):
        Pairs(Part(), 0.5, 0, turned=1.2)
