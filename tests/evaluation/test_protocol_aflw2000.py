"""AFLW2000-3D: labels as published, known errors, 3DDFA's benchmark step by step, predictions in every layout."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import scipy.stats
from scipy.spatial.transform import Rotation
from started import environment

from sfm_jax.data.augment import MIRROR
from sfm_jax.evaluation.protocols import aflw2000, landmark_files
from sfm_jax.morphable.default import load_default

YAWS = (2.0, -30.0, 31.0, -59.0, 75.0, -88.0, 12.0)


@pytest.fixture
def folder(tmp_path):
    """Seven labels; the box of face k is 90 x 40 pixels times k + 1, so that its size is 60 (k + 1)."""
    rng = np.random.default_rng(0)
    place = tmp_path / "AFLW2000"
    place.mkdir()
    for number, yaw in enumerate(YAWS):
        points = rng.uniform(0, 1, (68, 2))
        points[:2] = [[0, 0], [1, 1]]
        points = points * [90 * (number + 1), 40 * (number + 1)] + 30
        pose = np.array([[0.1, np.deg2rad(yaw), 0.2, 0, 0, 0, 1e-3]])
        scipy.io.savemat(place / f"image{number:05d}.mat",
                         {"pt3d_68": np.vstack([points.T, rng.normal(size=68)]), "Pose_Para": pose})
    return place


def of_3ddfa(predicted, points, yaws):
    """Bin means and their mean as in cleardusk/3DDFA, benchmark_aflw2000.py, on [N, 2, 68] in MATLAB's pixels."""
    nme = []
    for fit, true in zip(predicted, points, strict=True):
        size = np.sqrt((true[0].max() - true[0].min()) * (true[1].max() - true[1].min()))
        nme.append(np.mean(np.sqrt(np.sum(np.power(fit - true[:2], 2), 0))) / size)
    nme, yaws = np.array(nme), np.abs(yaws)
    means = [100 * nme[rows].mean() for rows in (yaws <= 30, (yaws > 30) & (yaws <= 60), yaws > 60)]
    return [*means, np.mean(means)]


def values(row):
    return [row.values[column].value for column in ("0-30", "30-60", "60-90", "mean")]


def test_the_truth_is_that_of_the_files(folder):
    truth = aflw2000.read_truth(folder)
    assert truth.names == tuple(f"image{number:05d}" for number in range(7))
    np.testing.assert_allclose(truth.yaw, YAWS)
    np.testing.assert_allclose(truth.points[2, :2], [[29.5, 29.5], [299.5, 149.5]])


def test_a_known_shift_gives_the_error_by_hand(folder):
    truth = aflw2000.read_truth(folder)
    shifted = {name: points[None] + [3.0, 4.0] for name, points in zip(truth.names, truth.points, strict=True)}
    outcome = aflw2000.evaluate(truth, shifted, "shifted")
    errors = 100 * 5 / (60 * (np.arange(7) + 1))
    np.testing.assert_allclose([sample["nme_percent"] for sample in outcome.samples], errors)
    bins = [errors[[0, 1, 6]].mean(), errors[[2, 3]].mean(), errors[[4, 5]].mean()]
    np.testing.assert_allclose(values(outcome.rows[0]), [*bins, np.mean(bins)])
    np.testing.assert_allclose(outcome.rows[0].values["all faces"].value, errors.mean())
    assert all(estimate.low <= estimate.value <= estimate.high for estimate in outcome.rows[0].values.values())


def test_3ddfas_benchmark_on_the_same_numbers(folder):
    truth = aflw2000.read_truth(folder)
    matlab = np.stack([scipy.io.loadmat(folder / f"{name}.mat")["pt3d_68"] for name in truth.names])
    predicted = matlab[:, :2] + np.random.default_rng(1).normal(size=(7, 2, 68))
    np.save(folder.parent / "predicted.npy", predicted)
    ours = landmark_files.read_predictions(folder.parent / "predicted.npy", truth.names, first_pixel=1)
    np.testing.assert_allclose(values(aflw2000.evaluate(truth, ours).rows[0]), of_3ddfa(predicted, matlab, YAWS))


def test_damaged_labels_are_refused(folder):
    """One of them says that its numbers are complex, of which half are not there: SciPy's reader ends the process."""
    path = folder / "image00003.mat"
    content = bytearray(path.read_bytes())
    content[145] = 8
    path.write_bytes(content)
    code = ("import sys\nfrom sfm_jax.evaluation.protocols.aflw2000 import read_truth\n"
            "try:\n    read_truth(sys.argv[1])\nexcept ValueError as error:\n    print(error)")
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True,
                          env=environment(1))
    assert done.stdout.startswith(f"{path}: not a readable .mat file (") and done.stdout.count("\n") == 1
    for labels, message in (({"pt3d_68": "abc"}, "pt3d_68: found text, expected numbers"),
                            ({"pt3d_68": np.ones((3, 68)) * 1j}, "pt3d_68: found complex numbers"),
                            ({"Pose_Para": {"a": 1.0}}, "Pose_Para: found objects, expected numbers")):
        scipy.io.savemat(path, {"pt3d_68": np.ones((3, 68)), "Pose_Para": np.zeros((1, 7))} | labels)
        with pytest.raises(ValueError, match=f"image00003.mat: {message}"):
            aflw2000.read_truth(folder)


def test_reannotated_landmarks_and_other_yaws_replace_those_of_the_files(folder, tmp_path):
    truth = aflw2000.read_truth(folder)
    other = np.random.default_rng(2).uniform(0, 300, (7, 3, 68))
    np.save(tmp_path / "Reannotated.pts68.npy", other)
    np.save(tmp_path / "pose.npy", np.array([40.0, *YAWS[1:]]))
    again = aflw2000.read_truth(folder, tmp_path / "Reannotated.pts68.npy", tmp_path / "pose.npy")
    np.testing.assert_allclose(again.points, other[:, :2].transpose(0, 2, 1) - 0.5)
    np.testing.assert_array_equal(again.yaw, [40.0, *YAWS[1:]])
    (tmp_path / "texts").mkdir()
    for name, points in zip(truth.names, other, strict=True):
        np.savetxt(tmp_path / "texts" / f"{name}.txt", points[:2].T)
    np.testing.assert_allclose(aflw2000.read_truth(folder, tmp_path / "texts").points, again.points)
    for wrong in (np.deg2rad(YAWS), np.roll(YAWS, 1)):
        np.save(tmp_path / "pose.npy", wrong)
        with pytest.raises(ValueError, match="pose.npy: found yaws that differ from Pose_Para by .* degrees"):
            aflw2000.read_truth(folder, yaws=tmp_path / "pose.npy")
    np.save(tmp_path / "pose.npy", np.ones(6))
    with pytest.raises(ValueError, match=r"pose.npy: found shape \(6,\), expected 7 finite numbers"):
        aflw2000.read_truth(folder, yaws=tmp_path / "pose.npy")


def test_thirty_and_sixty_belong_to_the_bin_below_whichever_the_side():
    yaws = np.array([0, 30, -30, 30.01, 60, -60, 60.01, -99])
    assert aflw2000.bin_numbers(yaws).tolist() == [0, 0, 0, 1, 1, 1, 2, 2]


def test_the_balanced_subset_has_as_many_of_each_bin_and_one_seed_one_subset():
    bins = np.repeat([0, 1, 2], [100, 30, 12])
    rows = aflw2000.balanced_rows(np.arange(142), bins, seed=3)
    assert np.bincount(bins[rows]).tolist() == [12, 12, 12] and len(set(rows)) == 36
    np.testing.assert_array_equal(rows, aflw2000.balanced_rows(np.arange(142), bins, seed=3))
    assert set(rows) != set(aflw2000.balanced_rows(np.arange(142), bins, seed=4))
    assert len(aflw2000.balanced_rows(np.arange(130), bins)) == 0


def test_of_several_faces_the_labelled_one_counts_and_none_is_no_success(folder):
    truth = aflw2000.read_truth(folder)
    faces = {name: np.stack([points + 500, points + [0, 3]]) for name, points in
             zip(truth.names, truth.points, strict=True)}
    faces["image00001"] = truth.points[1][None] + 500
    faces["image00002"] = np.empty((0, 68, 2))
    outcome = aflw2000.evaluate(truth, faces, "detector", detected=True)
    assert [sample["found"] for sample in outcome.samples] == [1, 0, 0, 1, 1, 1, 1]
    np.testing.assert_allclose(outcome.samples[3]["nme_percent"], 100 * 3 / 240)
    assert "5 of 7 faces" in outcome.rows[0].name and "image00001, image00002" in "".join(outcome.notes)
    x, y = outcome.figures["curve"].axes[0].lines[-1].get_data()
    np.testing.assert_allclose(y[-1], 100 * 5 / 7)
    with pytest.raises(ValueError, match="found none of the 7 labelled faces"):
        aflw2000.evaluate(truth, {name: np.empty((0, 68, 2)) for name in truth.names}, detected=True)


@pytest.mark.parametrize("shift, found", [(0.5, 1), (0.6, 0)])
def test_a_detected_face_counts_from_an_overlap_of_three_tenths(folder, shift, found):
    """Boxes of one size, moved by a share s of it along x or y, overlap by (1 - s) / (1 + s): 1/3 and 1/4."""
    truth = aflw2000.read_truth(folder)
    faces = {name: points[None] for name, points in zip(truth.names, truth.points, strict=True)}
    for row, axis in ((1, 0), (2, 1), (5, 1)):
        faces[truth.names[row]] = faces[truth.names[row]] + shift * np.ptp(truth.points[row], axis=0) * np.eye(2)[axis]
    expected = [1, found, found, 1, 1, found, 1]
    assert [sample["found"] for sample in aflw2000.evaluate(truth, faces, detected=True).samples] == expected
    assert [sample["found"] for sample in aflw2000.evaluate(truth, faces).samples] == [1] * 7


def test_the_balanced_row_is_of_the_faces_told_in_the_samples(folder):
    truth = aflw2000.read_truth(folder)
    shifted = {name: points[None] + [3.0, 4.0] for name, points in zip(truth.names, truth.points, strict=True)}
    outcome = aflw2000.evaluate(truth, shifted)
    chosen = [sample for sample in outcome.samples if sample["balanced"]]
    assert [sample["bin"] for sample in outcome.samples] == ["0-30", "0-30", "30-60", "30-60", "60-90", "60-90", "0-30"]
    by_bin = [[sample["nme_percent"] for sample in chosen if sample["bin"] == title] for title in aflw2000.BINS]
    assert [len(errors) for errors in by_bin] == [2, 2, 2] and "(3 x 2, seed 0)" in outcome.rows[1].name
    means = np.mean(by_bin, axis=1)
    np.testing.assert_allclose(values(outcome.rows[1]), [*means, means.mean()])


def test_without_faces_in_a_bin_there_is_no_balanced_row(folder):
    truth = aflw2000.read_truth(folder)
    shifted = {name: points[None] + [3.0, 4.0] for name, points in zip(truth.names[:4], truth.points, strict=False)}
    outcome = aflw2000.evaluate(truth, shifted, partial=True)
    errors = 100 * 5 / (60 * (np.arange(4) + 1))
    np.testing.assert_allclose([outcome.rows[0].values[column].value for column in ("0-30", "30-60", "mean")],
                               [errors[:2].mean(), errors[2:].mean(), errors.mean()])
    assert len(outcome.rows) == 1 and "60-90" not in outcome.rows[0].values
    assert "60-90: 0;" in outcome.notes[0] and "A bin is empty" in outcome.notes[1]
    assert len(outcome.figures["curve"].axes[0].lines) == 3


def test_intervals_are_those_of_the_means_of_faces_and_of_bins():
    """Errors of 60 faces, twenty of each bin: SciPy's bootstrap, of each bin's faces for the mean of bins."""
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 100, (60, 68, 2))
    points[:, :2] = [[0, 0], [100, 100]]
    truth = aflw2000.Truth(tuple(f"{row:02d}" for row in range(60)), points, np.repeat([10.0, -45, 80], 20))
    errors = rng.exponential(1 + np.repeat([1.0, 2, 9], 20))
    predictions = {name: points[row][None] + [errors[row], 0] for row, name in enumerate(truth.names)}
    found = aflw2000.evaluate(truth, predictions).rows[0].values
    bins = errors.reshape(3, 20)

    def mean_of_means(*each, axis):
        return np.mean([one.mean(axis) for one in each], axis=0)

    for column, samples in (("0-30", bins[:1]), ("60-90", bins[2:]), ("mean", bins), ("all faces", errors[None])):
        expected = scipy.stats.bootstrap(tuple(samples), mean_of_means, method="percentile", rng=1).confidence_interval
        np.testing.assert_allclose(found[column].value, np.mean(samples))
        np.testing.assert_allclose([found[column].low, found[column].high], expected,
                                   atol=0.08 * (expected.high - expected.low))
    again = aflw2000.evaluate(truth, predictions, seed=1).rows[0].values
    assert all(again[column].low != found[column].low for column in again)


def test_predictions_of_every_layout_are_the_same(folder, tmp_path):
    truth = aflw2000.read_truth(folder)
    points = dict(zip(truth.names, truth.points + 1.5, strict=True))
    places = {kind: tmp_path / kind for kind in ("npy", "npz", "pts", "txt", "faces")}
    for place in places.values():
        place.mkdir()
    for name, one in points.items():
        np.save(places["npy"] / f"{name}.npy", one.T)
        np.savez(places["npz"] / f"{name}.npz", landmarks=np.column_stack([one, one[:, 0]]))
        lines = "\n".join(f"{x} {y}" for x, y in one + 0.5)
        (places["pts"] / f"{name}.pts").write_text(f"version: 1\nn_points: 68\n{{\n{lines}\n}}\n")
        np.savetxt(places["txt"] / f"{name}.txt", one)
        (places["faces"] / f"{name}_1").mkdir()
        np.savez(places["faces"] / f"{name}_1" / "params.npz", landmarks68_px=one)
    np.savez(tmp_path / "all.npz", **points)
    np.save(tmp_path / "all.npy", np.stack(list(points.values())))
    for place in (*places.values(), tmp_path / "all.npz", tmp_path / "all.npy"):
        found = landmark_files.read_predictions(place, truth.names)
        assert set(found) == set(points)
        np.testing.assert_allclose(np.stack([found[name][0] for name in truth.names]), truth.points + 1.5, atol=1e-6)


@pytest.mark.parametrize("array, message", [
    (np.ones((49, 2)), r"one.npy: found landmarks of shape \(49, 2\), expected 68 of them"),
    (np.full((68, 2), np.nan), "one.npy: landmark 0 is not finite"),
    (np.array(["a"]), "one.npy: array: found text, expected numbers"),
])
def test_wrong_landmarks_are_named(tmp_path, array, message):
    np.save(tmp_path / "one.npy", array)
    with pytest.raises(ValueError, match=message):
        landmark_files.read_predictions(tmp_path, ["one"])


def test_other_pixels_than_the_photos_are_refused(folder):
    truth = aflw2000.read_truth(folder)

    def evaluated(change):
        return aflw2000.evaluate(truth, {name: change(points)[None] for name, points in
                                         zip(truth.names, truth.points, strict=True)})

    for change in (lambda points: points / 450, lambda points: points + 1000, lambda points: points + [1000, 0],
                   lambda points: points - [0, 1000]):
        with pytest.raises(ValueError, match="predictions: found the middle of [67] of 7 faces outside the true ones"):
            evaluated(change)
    with pytest.raises(ValueError, match=r"found an error of .* %, of 0 % with x and y exchanged, expected x first"):
        evaluated(lambda points: points[:, ::-1])
    evaluated(lambda points: points.mean(0) + 0 * points)  # bad, but where it should be
    evaluated(lambda points: points[::-1])  # of so few faces it may be an accident


@pytest.fixture(scope="module")
def faces():
    """Landmarks [200, 68, 2] in photos of 450 pixels, of heads turned to either side."""
    model, rng = load_default(0), np.random.default_rng(0)
    shape = np.asarray(model.mean, np.float64)[model.topology.landmarks]
    turns = Rotation.from_euler("YXZ", rng.uniform(-1, 1, (200, 3)) * [80, 25, 25], degrees=True).as_matrix()
    points = np.einsum("nij,pj->npi", turns, shape - shape.mean(0))[..., :2] * [1, -1]
    return points * rng.uniform(0.8, 1.6, (200, 1, 1)) + 225 + rng.normal(size=(200, 1, 2)) * 15


@pytest.mark.parametrize(("change", "told"), [
    (lambda faces: faces[:, MIRROR], "of 0 % with left and right landmarks exchanged, expected iBUG's order"),
    (lambda faces: [450, 0] + faces * [-1, 1], "with x mirrored, expected x to the right"),
    (lambda faces: ([450, 0] + faces * [-1, 1])[:, MIRROR], "with the photos mirrored, expected landmarks of the phot"),
    (lambda faces: faces * 320 / 450, "with all numbers times 1.41, expected pixels of the photos as they are"),
    (lambda faces: np.roll(faces, 1, 1), "with every landmark one later, expected iBUG's order"),
    (lambda faces: faces[:, np.random.default_rng(0).permutation(68)], "moved, turned and scaled onto the true one"),
    (lambda faces: faces[:, ::-1], "moved, turned and scaled onto the true one, expected at most 30: iBUG's 68")])
def test_another_order_side_or_size_of_the_photos_is_told(faces, change, told):
    truth = aflw2000.Truth(tuple(f"{number:03d}" for number in range(200)), faces, np.linspace(-80, 80, 200))
    noisy = faces + 4 * np.random.default_rng(1).normal(size=faces.shape)

    def evaluated(predicted):
        return aflw2000.evaluate(truth, dict(zip(truth.names, predicted[:, None], strict=True)))

    with pytest.raises(ValueError, match=told):
        evaluated(change(faces))
    with pytest.raises(ValueError, match=told.removeprefix("of 0 % ")):
        evaluated(change(noisy))
    frontal = np.broadcast_to(faces[np.abs(faces[:, 36] - faces[:, 45])[:, 0].argmax()], faces.shape)
    # Bad is no mistake: noise, the same face everywhere, all a fifth of their size off.
    for bad in (noisy, frontal - frontal.mean(1, keepdims=True) + faces.mean(1, keepdims=True), faces + 20):
        assert evaluated(bad).rows[0].values["mean"].value > 3


def test_names_that_do_not_match_are_listed(folder):
    truth = aflw2000.read_truth(folder)
    predictions = dict(zip((*truth.names[:5], "image9"), truth.points[:6, None], strict=True))
    with pytest.raises(ValueError, match=r"5 of 7 names match; 2 without a prediction \(image00005, image00006\); "
                                         r"1 predicted that the truth does not have \(image9\)"):
        aflw2000.evaluate(truth, predictions)
    assert "5 of 7 faces" in aflw2000.evaluate(truth, predictions, partial=True).rows[0].name


@pytest.mark.skipif("SFM_JAX_TEST_PHOTOS" not in os.environ, reason="SFM_JAX_TEST_PHOTOS: photos with .mat files")
def test_labels_as_published(tmp_path, capsys):
    """A blank face at the mean of the true points of each photo, by the command and by hand."""
    from sfm_jax import evaluate

    folder = Path(os.environ["SFM_JAX_TEST_PHOTOS"])
    files = sorted(folder.glob("*.mat"))
    labels = [scipy.io.loadmat(path) for path in files]
    points = np.stack([one["pt3d_68"] for one in labels]).astype(float)
    yaws = np.degrees([one["Pose_Para"][0, 1] for one in labels])
    predicted = np.broadcast_to(points[:, :2].mean(2, keepdims=True), (len(files), 2, 68))
    np.savez(tmp_path / "middles.npz", **{path.stem: one for path, one in zip(files, predicted, strict=True)})
    arguments = [f"--truth={folder}", f"--predictions={tmp_path / 'middles.npz'}", "--first-pixel=1"]
    assert evaluate.main(["--protocol=aflw2000", f"--out={tmp_path / 'out'}", *arguments]) == 0
    numbers = json.loads((tmp_path / "out" / "outcome.json").read_text())["measured"][0]["values"]
    np.testing.assert_allclose([numbers[key]["value"] for key in ("0-30", "30-60", "60-90", "mean")],
                               of_3ddfa(predicted, points, yaws))
