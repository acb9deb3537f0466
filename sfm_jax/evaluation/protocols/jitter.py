"""Jitter of a video's landmarks or vertices: how much they tremble from frame to frame.

The measure is ours: the rms length of the second difference x[t-1] - 2 x[t] + x[t+1] over sqrt(6). Of points that move
slowly under white noise of standard deviation s per coordinate it is s sqrt(D), D coordinates; of a steady motion it is
0. With a truth it is asked of the difference, so that true shaking does not count. Where a frame shows no face there is
nothing to be measured: what was interpolated there is left out.
"""

from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from sfm_jax.array_files import numbers
from sfm_jax.evaluation import figures
from sfm_jax.evaluation.protocols.bootstrap import interval
from sfm_jax.evaluation.protocols.landmark_files import read_array, read_arrays
from sfm_jax.evaluation.protocols.matching import common_names, files_by_name, listed, parameter_files
from sfm_jax.evaluation.protocols.outcome import Estimate, Outcome, Row

COLUMNS = ("jitter", "shake", "motion")
LEAST_FRAMES = 3


def read_tracks(place: str | Path) -> dict[str, np.ndarray]:
    """{video: points [T, P, 2 or 3]} of a folder of videos' folders by the reconstruct command (their landmarks, in
    pixels, NaN in frames without a face), of .npy files, or of an .npz by name. ValueError names what is wrong."""
    place, found = Path(place), {}
    if place.suffix == ".npz":
        tracks = read_arrays(place)
    elif place.suffix == ".npy":
        tracks = {place.stem: read_array(place)}
    elif files := parameter_files(place):
        videos = {name: read_arrays(paths[0]) for name, paths in files.items()}
        tracks = {name: video.get("landmarks68_px", np.empty(0)) for name, video in videos.items()}
        found = {name: numbers(place, f"{name}: found", video["found"]) for name, video in videos.items()
                 if "found" in video}
    else:
        tracks = {name: read_array(path) for name, path in files_by_name(place, (".npy",), "points of videos").items()}
    if not tracks:
        raise ValueError(f"{place}: found no arrays, expected points of videos by name")
    for name, track in tracks.items():
        tracks[name] = numbers(place, name, track).astype(np.float64)
        check_track(tracks[name], f"{place}: {name}")
        if name in found:
            if found[name].shape != track.shape[:1]:
                raise ValueError(f"{place}: {name}: found: shape {found[name].shape}, expected {track.shape[:1]}, "
                                 "whether there is a face in each frame")
            tracks[name][found[name] == 0] = np.nan
    if len(kinds := {track.shape[2] for track in tracks.values()}) > 1:
        raise ValueError(f"{place}: found points of {' and '.join(map(str, sorted(kinds)))} coordinates, expected one "
                         "kind")
    return tracks


def check_track(track: np.ndarray, where: str) -> None:
    """ValueError unless a track is [T, P, 2 or 3], finite, of at least three frames."""
    if track.ndim != 3 or track.shape[2] not in (2, 3) or not track.shape[1] or len(track) < LEAST_FRAMES:
        raise ValueError(f"{where}: found points of shape {track.shape}, expected [T, P, 2] or [T, P, 3] of at least "
                         f"{LEAST_FRAMES} frames of a video")
    if not np.isfinite(track).all():
        frame = int(np.argmin(np.isfinite(track).all((1, 2))))
        raise ValueError(f"{where}: frame {frame} holds NaN or infinite numbers")


def jitter(track: np.ndarray) -> np.ndarray:
    """[T - 2] of a track [T, P, D]: the rms over points of the second difference's length, over sqrt(6). NaN beside a
    frame of NaN."""
    second = track[:-2] - 2 * track[1:-1] + track[2:]
    return np.sqrt(np.square(second).sum(-1).mean(-1) / 6)


def evaluate(tracks: Mapping[str, np.ndarray], truth: Mapping[str, np.ndarray] | None = None,
             name: str = "predictions", unit: str = "px", partial: bool = False, seed: int = 0,
             lost: Collection[str] = ()) -> Outcome:
    """The table of tracks {video: [T, P, D]}, minus those of the truth where there are some.

    Frames of NaN show no face: they are left out, with the differences they are in, and told of; so are videos without
    three frames in a row, and `lost`, those without any face.
    Columns: jitter, rms over all frames; shake, the 95th percentile of frames; motion, the rms distance that a point
    goes from frame to frame, beside which the jitter is to be seen. Intervals draw videos, or, of one, its frames.

    Raises:
      ValueError: names or shapes that do not match, or no three frames in a row with a face anywhere.
    """
    names = sorted(tracks)
    if truth is not None:
        names = common_names(tracks, truth, f"{name} and truth", partial)
    errors = {one: _error(one, tracks[one], truth) for one in names}
    values = {one: found for one, error in errors.items() if not np.isnan(found := jitter(error)).all()}
    short = [one for one in names if one not in values]
    if not values:
        raise ValueError(f"{name}: found no {LEAST_FRAMES} frames in a row with a face in {listed(short)}")
    names = list(values)
    holes = [int(np.isnan(errors[one]).any((1, 2)).sum()) for one in names]
    motions = [np.sqrt(np.nanmean(np.square(np.diff(np.asarray(tracks[one], np.float64), axis=0)).sum(-1)))
               for one in names]
    measured = [each[~np.isnan(each)] for each in values.values()]
    video = np.repeat(np.arange(len(names)), list(map(len, measured)))
    every = np.concatenate(measured)

    def both(rows):
        return np.array([np.sqrt(np.square(every[rows]).mean()), np.quantile(every[rows], 0.95)])

    # Neighbouring frames share noise: of one video blocks of three are drawn.
    groups = video if len(names) > 1 else np.arange(len(every)) // 3
    estimates = list(map(Estimate, both(np.arange(len(every))), *interval(both, groups, seed=seed)))
    estimates.append(Estimate(float(np.sqrt(np.square(motions).mean()))))
    samples = [{"video": one, "frames": len(tracks[one]), "without a face": missing,
                "jitter": float(np.sqrt(np.square(each).mean())), "shake": float(np.quantile(each, 0.95)),
                "motion": float(motion)}
               for one, each, motion, missing in zip(names, measured, motions, holes, strict=True)]
    left_out = {"Frames without a face": [f"{one}: {missing} of {len(tracks[one])}"
                                          for one, missing in zip(names, holes, strict=True) if missing],
                f"Videos without {LEAST_FRAMES} frames in a row with a face": sorted([*short, *lost])}
    notes = tuple(f"{what}, left out: {listed(which)}." for what, which in left_out.items() if which)
    curve = figures.curves({one: (np.arange(1, len(each) + 1), each)
                            for one, each in list(values.items())[:len(figures.COLORS)]},
                           "frame", f"jitter, {unit}")
    curve.axes[0].set_ylim(bottom=0)
    title = f"Jitter{' of the error' if truth is not None else ''}: rms second difference over sqrt(6), in {unit}"
    row = Row(f"{name} (videos: {len(names)})", dict(zip(COLUMNS, estimates, strict=True)))
    return Outcome("jitter", title, COLUMNS, (row,), tuple(samples), (), notes, {"over_time": curve}, 3)


def _error(name, track, truth):
    """A track [T, P, D], minus its truth where there is one."""
    track = np.asarray(track, np.float64)
    if truth is None:
        return track
    if truth[name].shape != track.shape:
        raise ValueError(f"{name}: found points of shape {track.shape}, the truth has {truth[name].shape}")
    return track - truth[name]
