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
                           (dict(a=track[:, :0]), r"a: found points of shape \(9, 0, 2\), expected")):
        np.savez(tmp_path / "wrong.npz", **wrong)
        with pytest.raises(ValueError, match=message):
            jitter.read_tracks(tmp_path / "wrong.npz")
    track[4, 3] = np.nan
    np.savez(tmp_path / "all.npz", clip=track)
    with pytest.raises(ValueError, match="clip: frame 4 holds NaN"):
        jitter.read_tracks(tmp_path / "all.npz")
