"""Verification: published lists read, folds against scikit-learn's ROC, codes and shapes with known answers."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from sklearn.metrics import auc, roc_curve

from sfm_jax.evaluation.protocols import verification
from sfm_jax.evaluation.protocols.matching import resolve
from sfm_jax.evaluation.protocols.pairs import Pairs, read_pairs


def noisy_pairs(folds=10, size=30, seed=0):
    """Pairs (with their scores) of which about a sixth are told wrong."""
    rng = np.random.default_rng(seed)
    same = np.tile(np.repeat([True, False], size), folds)
    scores = rng.normal(size=len(same)) + 2 * same
    names = tuple(f"a{i}" for i in range(len(same))), tuple(f"b{i}" for i in range(len(same)))
    return Pairs(*names, same, np.arange(len(same)) // (2 * size), "test"), scores


def test_folds_are_those_of_scikit_learns_roc():
    pairs, scores = noisy_pairs()
    expected = []
    for fold in range(10):
        inside = pairs.fold == fold
        far, tar, thresholds = roc_curve(pairs.same[~inside], scores[~inside], drop_intermediate=False)
        best = np.argmax(tar + 1 - far)
        threshold = (thresholds[best] + thresholds[best + 1]) / 2
        expected.append(np.mean((scores[inside] >= threshold) == pairs.same[inside]))
    correct = verification.fold_decisions(scores, pairs.same, pairs.fold)
    np.testing.assert_allclose([correct[pairs.fold == fold].mean() for fold in range(10)], expected)
    assert 0.75 < np.mean(expected) < 0.92


def test_the_table_is_scikit_learns():
    """Codes in the plane whose cosine is the score, or nearly."""
    pairs, scores = noisy_pairs()
    angle = np.arccos(np.tanh(scores / 4))
    codes = {name: np.array([2.0, 0.0]) for name in pairs.first} | {
        name: 3 * np.array([np.cos(a), np.sin(a)]) for name, a in zip(pairs.second, angle, strict=True)}
    outcome = verification.evaluate(pairs, {"codes": codes})
    values = outcome.rows[0].values
    far, tar, _ = roc_curve(pairs.same, scores, drop_intermediate=False)
    np.testing.assert_allclose(values["area under curve"].value, 100 * auc(far, tar))
    for rate in (0.1, 0.01, 0.001):
        np.testing.assert_allclose(values[f"TAR@FAR={rate:g}"].value, 100 * tar[far <= rate].max())
    correct = verification.fold_decisions(scores, pairs.same, pairs.fold)
    folds = [correct[pairs.fold == fold].mean() for fold in range(10)]
    np.testing.assert_allclose(values["accuracy"].value, 100 * np.mean(folds))
    np.testing.assert_allclose(values["std error"].value, 100 * np.std(folds, ddof=1) / np.sqrt(10))
    assert values["accuracy"].low < values["accuracy"].value < values["accuracy"].high
    assert outcome.notes[0] == "300 pairs of two persons: rates below 0.0033 are at no false accept at all."
    assert [sample["correct codes"] for sample in outcome.samples] == correct.astype(int).tolist()


def test_the_interval_is_that_of_folds_whose_people_differ():
    """Folds as hard as their people: the half width is that of a mean of ten numbers, not of 600 pairs."""
    pairs, scores = noisy_pairs()
    hard = scores - 2 * pairs.same * (pairs.fold % 2)
    correct = verification.fold_decisions(hard, pairs.same, pairs.fold)
    folds = np.array([correct[pairs.fold == fold].mean() for fold in range(10)])
    angle = np.arccos(np.tanh(hard / 4))
    codes = dict.fromkeys(pairs.first, np.array([1.0, 0.0])) | {
        name: np.array([np.cos(a), np.sin(a)]) for name, a in zip(pairs.second, angle, strict=True)}
    found = verification.evaluate(pairs, {"codes": codes}).rows[0].values["accuracy"]
    draws = np.random.default_rng(1).choice(100 * folds, (4000, 10)).mean(1)
    np.testing.assert_allclose([found.low, found.high], np.quantile(draws, [0.025, 0.975]), atol=1.5)
    single = 100 * np.sqrt(np.mean(correct) * (1 - np.mean(correct)) / len(correct))
    assert found.high - found.low > 1.4 * 2 * 1.96 * single


def test_a_threshold_that_nothing_passes_may_be_the_best():
    scores, same = np.array([3.0, 2.0, 1.0]), np.array([False, False, True])
    assert verification.best_threshold(np.r_[scores, 0.5], np.r_[same, False]) > 3.0
    assert verification.best_threshold(np.array([3.0, 1.0]), np.array([True, False])) == 2.0
    assert verification.best_threshold(np.array([7.0, 3.0, 1.0]), np.array([True, False, False])) == 5.0
    np.testing.assert_allclose(verification.cosine([3, 4], [8, 6]), 0.96)


def test_shapes_are_compared_after_alignment_without_scale():
    shape = np.random.default_rng(0).normal(size=(50, 3)) * 60
    moved = shape @ Rotation.random(rng=1).as_matrix().T + [10, -20, 30]
    np.testing.assert_allclose(verification.closeness(shape, moved), 0, atol=1e-9)
    centred = shape - shape.mean(0)
    np.testing.assert_allclose(verification.closeness(centred, 1.1 * centred),
                               -0.1 * np.linalg.norm(centred, axis=1).mean())


def test_shapes_that_tell_people_apart_do_so_and_others_do_not():
    rng = np.random.default_rng(0)
    people = rng.normal(size=(20, 40, 3)) * 5
    turns = Rotation.random(40, rng=1).as_matrix()
    shapes = {f"{person}/{k}": (people[person] + 0.1 * rng.normal(size=(40, 3))) @ turns[2 * person + k].T
              for person in range(20) for k in range(2)}
    first = tuple(f"{person}/0" for person in range(20)) * 2
    second = tuple(f"{person}/1" for person in range(20)) + tuple(f"{(person + 1) % 20}/1" for person in range(20))
    pairs = Pairs(first, second, np.repeat([True, False], 20), np.tile(np.arange(20) % 4, 2), "test")
    alike = {name: rng.normal(size=8) for name in shapes}
    told = verification.evaluate(pairs, {"shapes": shapes, "noise": alike})
    assert told.rows[0].values["accuracy"].value == 100 and told.rows[0].values["TAR@FAR=0.001"].value == 100
    assert told.rows[1].values["accuracy"].value < 75


def test_photos_without_a_face_are_refused_and_told(capsys):
    pairs, scores = noisy_pairs()
    codes = {name: np.array([1.0, 0.0]) for name in pairs.first} | {
        name: np.array([1.0, 0.0]) if same else np.array([0.0, 1.0]) for name, same in
        zip(pairs.second, pairs.same, strict=True)}
    assert verification.evaluate(pairs, {"codes": codes}).rows[0].values["accuracy"].value == 100
    lost = codes | {"a0": None}
    outcome = verification.evaluate(pairs, {"codes": lost})
    np.testing.assert_allclose(outcome.rows[0].values["accuracy"].value, 100 * 599 / 600)
    assert "no face found in 1 of 1200 photos" in outcome.notes[0] and "a0" in outcome.notes[0]
    for row, same in ((0, True), (30, False)):  # a pair of one person is lost, one of two is not
        lost = verification.evaluate(pairs, {"codes": codes | {f"a{row}": None}}).rows[0].values
        accepted = 100 * (1 - same / 300)
        np.testing.assert_allclose([lost[key].value for key in ("accuracy", "TAR@FAR=0.001", "area under curve")],
                                   [100 * (1 - same / 600), accepted, accepted])
        np.testing.assert_allclose(lost["equal error rate"].value, 100 - accepted, atol=1e-9)
    del codes["a0"], codes["b7"]
    with pytest.raises(ValueError, match=r"codes: 2 of 1200 names are not there \(a0, b7\)"):
        verification.evaluate(pairs, {"codes": codes})
    assert "598 of 600 pairs" in verification.evaluate(pairs, {"codes": codes}, partial=True).rows[0].name


def test_photos_in_several_folds_are_told():
    rng = np.random.default_rng(0)
    pairs, codes = noisy_pairs()[0], {}
    codes = {name: rng.normal(size=4) for name in pairs.names}
    assert "no person in two folds" in verification.evaluate(pairs, {"codes": codes}).notes[-1]
    again = pairs._replace(first=(*pairs.first[:-1], pairs.first[0]))
    notes = verification.evaluate(again, {"codes": codes}).notes
    assert f"but 1 of {len(again.names)} names are in several ({pairs.first[0]}): they are too narrow" in notes[-1]


@pytest.mark.parametrize("kept, message", [
    (lambda fold, same: fold == 0 or same, "fold 2: found 30 pairs of one person among 30, expected both kinds"),
    (lambda fold, same: fold == 1, "found fold 2 alone, expected at least two folds"),
    (lambda fold, same: False, "found no pairs, expected at least two folds")])
def test_folds_that_partial_leaves_with_one_kind_of_pair_or_alone_are_named(kept, message):
    pairs, _ = noisy_pairs(folds=2)
    codes = dict.fromkeys(pairs.first, np.ones(2)) | {name: np.ones(2) for name, fold, same in zip(
        pairs.second, pairs.fold, pairs.same, strict=True) if kept(fold, same)}
    with pytest.raises(ValueError, match=f"codes: what --partial leaves: {message}"):
        verification.evaluate(pairs, {"codes": codes}, partial=True)


def test_lost_pairs_are_accepted_at_no_threshold():
    """Generalised rates by counting: of all pairs those that pass, lost ones never, from the highest score down."""
    pairs, scores = noisy_pairs(folds=2)
    lost = np.random.default_rng(3).uniform(size=len(scores)) < 0.2
    scores[lost] = -np.inf
    far, tar, thresholds = verification.roc(scores, pairs.same)
    known = np.sort(scores[~lost])[::-1]
    np.testing.assert_array_equal(thresholds, np.r_[np.inf, known, -np.inf])
    for found, kind in ((far, ~pairs.same), (tar, pairs.same)):
        counted = [np.sum(scores[kind] >= threshold) / kind.sum() for threshold in known]
        np.testing.assert_allclose(found[:-1], np.r_[0, counted])
    assert far[-1] == 1 and tar[-1] == tar[-2] == 1 - lost[pairs.same].mean()
    scores[pairs.same] = -np.inf  # nothing to gain by accepting
    assert verification.best_threshold(scores, pairs.same) > scores.max()
    assert verification.best_threshold(np.full(4, -np.inf), np.array([True, True, True, False])) == np.inf
    alone = verification.best_threshold(np.array([2.0, 1.0, -np.inf]), np.array([True, True, False]))
    assert -np.inf < alone <= 1


@pytest.mark.parametrize("change, message", [
    ({"b3": np.array([np.nan, 1.0])}, "codes: b3: NaN or infinite"),
    ({"b3": np.zeros(2)}, "codes: b3: only zeros"),
    ({"b3": np.ones(3)}, "expected codes"),
])
def test_bad_codes_are_named(change, message):
    pairs, _ = noisy_pairs()
    codes = {name: np.ones(2) for name in pairs.names} | change
    with pytest.raises(ValueError, match=message):
        verification.evaluate(pairs, {"codes": codes})


def test_lfw(tmp_path):
    lines = ["2\t3"]
    for fold in range(2):
        lines += [f"Ann_{fold}\t{k}\t{k + 10}" for k in range(1, 4)]
        lines += [f"Ann_{fold}\t{k}\tBob\t{k}" for k in range(1, 4)]
    (tmp_path / "pairs.txt").write_text("\n".join(lines) + "\n")
    pairs = read_pairs(tmp_path / "pairs.txt")
    assert pairs.kind == "LFW" and pairs.same.tolist() == 2 * (3 * [True] + 3 * [False])
    assert pairs.fold.tolist() == 6 * [0] + 6 * [1]
    assert (pairs.first[7], pairs.second[7]) == ("Ann_1/Ann_1_0002", "Ann_1/Ann_1_0012")
    assert (pairs.first[9], pairs.second[9]) == ("Ann_1/Ann_1_0001", "Bob/Bob_0001")
    (tmp_path / "pairs.txt").write_text("\n".join(line.replace("\t", " ") for line in lines))
    spaced = read_pairs(tmp_path / "pairs.txt")
    assert spaced.first == pairs.first and spaced.second == pairs.second
    (tmp_path / "pairs.txt").write_text("\n".join(["3", *lines[1:7]]))  # as of the development sets
    with pytest.raises(ValueError, match="found fold 1 alone, expected at least two folds"):
        read_pairs(tmp_path / "pairs.txt")
    (tmp_path / "pairs.txt").write_text("\n".join(lines[:-1]))
    with pytest.raises(ValueError, match="found 11 pairs, expected 2 x 2 x 3"):
        read_pairs(tmp_path / "pairs.txt")
    (tmp_path / "pairs.txt").write_text("\n".join([*lines[:-1], "Ann\tx\tBob\t3"]))
    with pytest.raises(ValueError, match="line 13: found 'Ann.tx.tBob.t3', expected `name n1 n2`"):
        read_pairs(tmp_path / "pairs.txt")


def test_cfp(tmp_path):
    protocol = tmp_path / "Protocol"
    for number in (1, 2):
        split = protocol / "Split" / "FP" / f"{number:02d}"
        split.mkdir(parents=True)
        (split / "same.txt").write_text(f"{number},{number}\n")
        (split / "diff.txt").write_text(f"{number},{3 - number}\n")
    for letter, kind in (("F", "frontal"), ("P", "profile")):
        (protocol / f"Pair_list_{letter}.txt").write_text(
            "".join(f"{k} ../Data/Images/{k:03d}/{kind}/01.jpg\n" for k in (1, 2)))
    pairs = read_pairs(tmp_path)
    assert pairs.kind == "CFP-FP" and pairs.same.tolist() == [True, False, True, False]
    assert pairs.first[1] == "../Data/Images/001/frontal/01.jpg"
    assert pairs.second[1] == "../Data/Images/002/profile/01.jpg"
    keys = [f"{k:03d}/{kind}/01" for k in (1, 2) for kind in ("frontal", "profile")]
    assert resolve(pairs.names, keys, "x")[pairs.second[1]] == "002/profile/01"
    assert read_pairs(protocol).first == pairs.first
    for wrong in ("1,9", "9,1"):
        (protocol / "Split" / "FP" / "01" / "same.txt").write_text(f"{wrong}\n")
        with pytest.raises(ValueError, match=f"same.txt: found '{wrong}', expected numbers of photos"):
            read_pairs(tmp_path)
    (protocol / "Pair_list_P.txt").write_text("1 ../Data/Images/001/profile/01.jpg 2\n")
    with pytest.raises(ValueError, match="Pair_list_P.txt: line 1: found '1 .* 2', expected `number photo`"):
        read_pairs(tmp_path)
    (protocol / "Pair_list_P.txt").unlink()
    with pytest.raises(ValueError, match="Protocol: found no Pair_list_P.txt, expected the protocol of CFP"):
        read_pairs(tmp_path)


def test_ytf(tmp_path):
    (tmp_path / "splits.txt").write_text(
        "split number, pair number, first name, second name, is same\n1, 1, Ann/0, Ann/3, 1\n1, 2, Ann/0, Bob/1, 0\n"
        "2, 1, Bob/1, Bob/2, 1\n2, 2, Bob/2, Ann/3, 0\n")
    pairs = read_pairs(tmp_path / "splits.txt")
    assert pairs.videos and pairs.fold.tolist() == [0, 0, 1, 1] and pairs.same.tolist() == [True, False, True, False]
    (tmp_path / "corrected.txt").write_text(  # original label, corrected label; and a column that is none
        "1, 1, Ann/0, Ann/3, 1, 1\n1, 2, Ann/0, Bob/1, 0, 0\n"
        "2, 1, Bob/1, Bob/2, 0, 1, 0\n2, 2, Bob/2, Ann/3, 1, 0, 1\n")
    np.testing.assert_array_equal(read_pairs(tmp_path / "corrected.txt").same, pairs.same)
    assert pairs.first == ("Ann/0", "Ann/0", "Bob/1", "Bob/2") and pairs.second == ("Ann/3", "Bob/1", "Bob/2", "Ann/3")
    for line in ("1, 1, Ann/0, 1", "x, 1, Ann/0, Ann/3, 1", "1, 1, Ann/0, Ann/3, yes"):
        (tmp_path / "wrong.txt").write_text(f"1, 1, Ann/0, Ann/3, 1\n{line}\n")
        with pytest.raises(ValueError, match=f"line 2: found '{line}', expected `split, pair"):
            read_pairs(tmp_path / "wrong.txt")
    frames = {"f/Ann/0/0.1.jpg": np.array([2.0, 0]), "f/Ann/0/0.4.jpg": np.array([3.0, 0]),
              "f/Ann/0/0.2.jpg": np.array([0, 5.0]), "f/Ann/0/0.3.jpg": None,
              "Ann/3": np.array([1.0, 1]), "f/Bob/1/1.jpg": None, "Bob/2": np.array([3.0, 1])}
    codes = verification.mean_of_frames(pairs.names, frames)
    np.testing.assert_allclose(codes["Ann/0"], [2 / 3, 1 / 3])
    assert codes["Bob/1"] is None and codes["Ann/3"] is frames["Ann/3"]
    both = frames | {"Ann/3/1.jpg": np.array([7.0, 1])}
    assert verification.mean_of_frames(pairs.names, both)["Ann/3"] is frames["Ann/3"]
    shape = np.random.default_rng(0).normal(size=(50, 3)) * 40  # whose size is part of it
    shapes = verification.mean_of_frames(["Ann/0"], {"Ann/0/1": shape, "Ann/0/2": 1.5 * shape, "Ann/0/3": None})
    np.testing.assert_allclose(shapes["Ann/0"], 1.25 * shape)


def test_labelled_pairs_in_tenths(tmp_path):
    (tmp_path / "agedb_30_pair.txt").write_text("".join(f"{k}.jpg {k + 50}.jpg {k % 2}\n" for k in range(43)))
    pairs = read_pairs(tmp_path / "agedb_30_pair.txt")
    assert np.bincount(pairs.fold).tolist() == [5, 5, 5, 4, 4, 4, 4, 4, 4, 4]  # as sklearn's KFold without shuffling
    assert pairs.same.tolist() == [k % 2 == 1 for k in range(43)] and pairs.kind == "agedb_30_pair in tenths"
    assert (pairs.first[7], pairs.second[7]) == ("7.jpg", "57.jpg")
    for line in ("a.jpg b.jpg yes", "a.jpg 1", "a.jpg b.jpg c.jpg 1"):
        (tmp_path / "agedb_30_pair.txt").write_text(f"{line}\n")
        with pytest.raises(ValueError, match=f"line 1: found '{line}'"):
            read_pairs(tmp_path / "agedb_30_pair.txt")
    for label, same in ((1, 1), (0, 0), (-1, 0)):
        (tmp_path / "agedb_30_pair.txt").write_text(f"a.jpg b.jpg {label}\nc.jpg d.jpg {label}\n")
        with pytest.raises(ValueError, match=f"fold 1: found {same} pairs of one person among 1, expected both kinds"):
            read_pairs(tmp_path / "agedb_30_pair.txt")
    (tmp_path / "agedb_30_pair.txt").write_text("\n\n")
    with pytest.raises(ValueError, match="agedb_30_pair.txt: an empty file, expected pairs"):
        read_pairs(tmp_path / "agedb_30_pair.txt")


def test_names_agree_from_their_ends():
    keys = ["lfw/Ann/Ann_0001.jpg", "Bob_0001", "x/c", "y/c"]
    assert resolve(["Ann/Ann_0001", "Bob/Bob_0001.jpg", "y/c"], keys, "w") == {
        "Ann/Ann_0001": "lfw/Ann/Ann_0001.jpg", "Bob/Bob_0001.jpg": "Bob_0001", "y/c": "y/c"}
    with pytest.raises(ValueError, match="w: c: may be any of x/c, y/c, expected one"):
        resolve(["c"], keys, "w")


def test_two_names_never_mean_one_prediction():
    with pytest.raises(ValueError, match="w: 1: is meant by Ann/1 and by Bob/1, expected one for each"):
        resolve(["Ann/1", "Bob/1"], ["1", "1-2"], "w")
