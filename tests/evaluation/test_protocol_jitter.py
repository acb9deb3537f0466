"""Jitter: noise of known size, motions that have none, tracks in every layout."""

import numpy as np
import pytest

from sfm_jax.evaluation.protocols import jitter


def test_white_noise_has_the_jitter_of_its_deviation_and_steady_motion_none():
    rng = np.random.default_rng(0)
    time = np.arange(400)[:, None, None]
    steady = rng.normal(size=(1, 500, 2)) * 50 + 0.7 * time
    assert jitter.jitter(steady).max() < 1e-10
    noisy = steady + 0.3 * rng.normal(size=(400, 500, 2))
    values = jitter.evaluate({"clip": noisy}).rows[0].values
    np.testing.assert_allclose(values["jitter"].value, 0.3 * np.sqrt(2), rtol=0.01)
    np.testing.assert_allclose(values["motion"].value, np.sqrt(2 * (0.7**2 + 2 * 0.3**2)), rtol=0.01)
    assert values["jitter"].low < values["jitter"].value < values["jitter"].high
    points = np.zeros((400, 500, 3)) + 0.2 * rng.normal(size=(400, 500, 3))
    np.testing.assert_allclose(np.sqrt(np.square(jitter.jitter(points)).mean()), 0.2 * np.sqrt(3), rtol=0.01)


def test_one_spike_by_hand():
    track = np.zeros((5, 1, 2))
    track[2] = [3, 4]
    np.testing.assert_allclose(jitter.jitter(track), 5 * np.array([1, 2, 1]) / np.sqrt(6))


def of_jitters(values):
    """A track [T + 2, 1, 2] whose frames have these jitters [T]."""
    steps = np.cumsum(np.r_[0, np.sqrt(6) * np.asarray(values, float)])
    along = np.r_[0, np.cumsum(steps)]
    return np.column_stack([along, np.zeros_like(along)])[:, None]


def test_the_table_by_hand():
    """Jitter is the rms over frames, shake their percentile, motion the rms over videos."""
    rising = np.arange(1.0, 22)
    sums = np.sqrt(6) * np.cumsum(np.r_[0, rising])
    time = np.arange(5.0)[:, None, None]
    outcome = jitter.evaluate({"up": time * [0.0, 4.0], "rising": of_jitters(rising), "right": time * [3.0, 0.0]})
    expected = {"right": [5, 0, 0, 3], "rising": [23, np.sqrt(np.square(rising).mean()), 20,
                                                  np.sqrt(np.square(sums).mean())], "up": [5, 0, 0, 4]}
    assert [sample["video"] for sample in outcome.samples] == list(expected)
    found = [[sample[key] for key in ("frames", "jitter", "shake", "motion")] for sample in outcome.samples]
    np.testing.assert_allclose(found, list(expected.values()), atol=1e-12)
    values = outcome.rows[0].values
    np.testing.assert_allclose(values["motion"].value, np.sqrt((9 + 16 + np.square(sums).mean()) / 3))
    every = np.r_[np.zeros(6), rising]
    np.testing.assert_allclose([values["jitter"].value, values["shake"].value],
                               [np.sqrt(np.square(every).mean()), np.quantile(every, 0.95)])
    line = outcome.figures["over_time"].axes[0].lines[1].get_data()
    np.testing.assert_allclose(line, [np.arange(1, 22), rising])


def test_intervals_of_one_video_draw_three_neighbouring_frames_and_of_several_the_videos():
    """Of two blocks or four all drawn are the low ones, or the high ones, in more than a fortieth of the draws."""
    for frames in (3, 6):
        found = jitter.evaluate({"clip": of_jitters(frames * [2.0] + frames * [4.0])}).rows[0].values["jitter"]
        np.testing.assert_allclose(found, [np.sqrt(10), 2, 4])
    noise = {"clip": of_jitters(np.random.default_rng(0).uniform(1, 5, 100))}
    first, again, other = (jitter.evaluate(noise, seed=seed).rows[0].values["jitter"] for seed in (0, 0, 1))
    assert first == again == jitter.evaluate(noise).rows[0].values["jitter"]
    assert first.value == other.value and first.low != other.low
    pair = jitter.evaluate({"a": of_jitters(9 * [2.0]), "b": of_jitters(9 * [4.0])}).rows[0].values["jitter"]
    np.testing.assert_allclose(pair, [np.sqrt(10), 2, 4])


def test_true_shaking_does_not_count_where_there_is_a_truth():
    rng = np.random.default_rng(0)
    truth = {"a": 5 * rng.normal(size=(100, 68, 2)), "b": rng.normal(size=(50, 68, 2))}
    tracks = {name: track + [3, 4] for name, track in truth.items()}
    outcome = jitter.evaluate(tracks, truth)
    assert outcome.rows[0].values["jitter"].value < 1e-10 and "of the error" in outcome.title
    assert jitter.evaluate(tracks).samples[0]["jitter"] > 6
    with pytest.raises(ValueError, match="1 of 2 names match; 1 without a prediction"):
        jitter.evaluate({"a": tracks["a"]}, truth)
    with pytest.raises(ValueError, match=r"b: found points of shape \(49, 68, 2\), the truth has \(50, 68, 2\)"):
        jitter.evaluate(tracks | {"b": tracks["b"][1:]}, truth)


def test_frames_without_a_face_are_left_out_and_told(tmp_path):
    """What the reconstruct command fills in between is no measurement: a straight line has no jitter."""
    rng = np.random.default_rng(0)
    track, found = rng.normal(size=(300, 68, 2)), np.arange(300) % 30 < 10
    filled = track.copy()
    for column in np.ndindex(68, 2):
        filled[(slice(None), *column)] = np.interp(np.arange(300), np.flatnonzero(found), track[found][(..., *column)])
    (tmp_path / "clip_1").mkdir()
    np.savez(tmp_path / "clip_1" / "params.npz", landmarks68_px=filled, found=found)
    outcome = jitter.evaluate(jitter.read_tracks(tmp_path))
    np.testing.assert_allclose(outcome.rows[0].values["jitter"].value, np.sqrt(2), rtol=0.03)
    np.testing.assert_allclose(outcome.rows[0].values["motion"].value, 2, rtol=0.03)
    assert jitter.evaluate({"clip": filled}).rows[0].values["jitter"].value < 1  # which it would have been
    assert outcome.notes == ("Frames without a face, left out: clip: 200 of 300.",)
    assert outcome.samples[0]["without a face"] == 200 and outcome.samples[0]["frames"] == 300
    np.savez(tmp_path / "clip_1" / "params.npz", landmarks68_px=filled, found=np.arange(300) % 3 > 0)
    short = jitter.read_tracks(tmp_path)
    with pytest.raises(ValueError, match="predictions: found no 3 frames in a row with a face in clip"):
        jitter.evaluate(short)
    alone = jitter.evaluate({"other": track})
    beside = jitter.evaluate({"other": track} | short, lost=["film"])
    assert beside.rows[0].values["jitter"].value == alone.rows[0].values["jitter"].value and alone.notes == ()
    assert beside.notes == ("Videos without 3 frames in a row with a face, left out: clip, film.",)
    np.savez(tmp_path / "clip_1" / "params.npz", landmarks68_px=filled, found=found[1:])
    with pytest.raises(ValueError, match=r"clip: found: shape \(299,\), expected \(300,\), whether there is a face"):
        jitter.read_tracks(tmp_path)


def test_tracks_of_every_layout(tmp_path):
    track = np.random.default_rng(0).normal(size=(9, 68, 2))
    (tmp_path / "npy").mkdir()
    np.save(tmp_path / "npy" / "clip.npy", track)
    np.savez(tmp_path / "all.npz", clip=track)
    (tmp_path / "faces" / "clip_1").mkdir(parents=True)
    np.savez(tmp_path / "faces" / "clip_1" / "params.npz", landmarks68_px=track)
    for place in (tmp_path / "npy", tmp_path / "npy" / "clip.npy", tmp_path / "all.npz", tmp_path / "faces"):
        np.testing.assert_array_equal(jitter.read_tracks(place)["clip"], track)
    np.savez(tmp_path / "faces" / "clip_1" / "params.npz", landmarks68_px=track[0])
    with pytest.raises(ValueError, match=r"clip: found points of shape \(68, 2\), expected \[T, P, 2\]"):
        jitter.read_tracks(tmp_path / "faces")
    for wrong, message in ((dict(a=track, b=track[..., [0, 1, 1]]), "found points of 2 and 3 coordinates"),
                           (dict(a=np.array(["x"])), "a: found text, expected numbers"), ({}, "found no arrays"),
                           (dict(a=track[:, :0]), r"a: found points of shape \(9, 0, 2\), expected"),
                           (dict(a=track[:2]), r"a: found points of shape \(2, 68, 2\), expected .* 3 frames"),
                           (dict(a=track[..., [0, 1, 1, 0]]), r"a: found points of shape \(9, 68, 4\), expected")):
        np.savez(tmp_path / "wrong.npz", **wrong)
        with pytest.raises(ValueError, match=message):
            jitter.read_tracks(tmp_path / "wrong.npz")
    track[4, 3] = np.nan
    np.savez(tmp_path / "all.npz", clip=track)
    with pytest.raises(ValueError, match="clip: frame 4 holds NaN"):
        jitter.read_tracks(tmp_path / "all.npz")
