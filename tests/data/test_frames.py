"""Clips of real people: folders of frames and video files, whole and broken."""

import numpy as np
import pytest
from PIL import Image

from sfm_jax.data.frames import FrameFolder, VideoFolder
from sfm_jax.data.mixture import PhotoPart
from sfm_jax.data.pairs import Pairs
from sfm_jax.data.photo_sets import BadPhoto
from sfm_jax.data.photos import Photos, open_photos

LEVELS = (20, 60, 100, 140, 180, 220)  # grey of each frame


def write_frames(folder, clip, levels=LEVELS, size=(40, 30)):
    (folder / clip).mkdir(parents=True)
    for number, level in enumerate(levels, 1):
        Image.new("RGB", size, (level,) * 3).save(folder / clip / f"{number:06d}.png")


def write_video(path, levels=LEVELS, gap=4):
    """Every frame is grey; only each fourth can be decoded alone."""
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25, options={"qscale": "1"})
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = 64, 48, "yuv420p", gap
        for level in levels:
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), level, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def test_frames_are_in_order_and_a_clip_is_its_own_person(tmp_path):
    write_frames(tmp_path, "b", LEVELS[:2])
    write_frames(tmp_path, "a")
    source = open_photos(f"frames:{tmp_path}")
    assert source.people == ("a", "b") and source.labels().tolist() == [0] * 6 + [1] * 2
    photos = Photos(source, (3, 2), 16, augmentation=None)
    record = photos.load(np.arange(8))
    assert record["image"][:, 8, 8, 0].tolist() == [*LEVELS, *LEVELS[:2]]
    pairs = Pairs(PhotoPart(photos), 1.0, 0)
    seen = pairs.load(np.arange(8), np.zeros(8, int))
    person, number = seen["person"].reshape(8, 2), seen["id"].reshape(8, 2)
    assert (person[:, 0] == person[:, 1]).all() and (number[:, 0] != number[:, 1]).all()


def test_a_clip_of_one_frame_is_refused(tmp_path):
    write_frames(tmp_path, "long")
    write_frames(tmp_path, "short", LEVELS[:1])
    with pytest.raises(ValueError, match="short: found a clip of 1 frames, expected 2 or more"):
        FrameFolder(tmp_path)


def test_a_photo_outside_a_clip_is_refused(tmp_path):
    write_frames(tmp_path, "clip")
    Image.new("RGB", (40, 30)).save(tmp_path / "alone.png")
    with pytest.raises(ValueError, match="alone.png: found outside a clip"):
        FrameFolder(tmp_path)


def test_frames_of_another_size_are_refused(tmp_path):
    write_frames(tmp_path, "clip")
    Image.new("RGB", (40, 31)).save(tmp_path / "clip" / "000004.png")
    with pytest.raises(ValueError, match="000004.png: found 40 x 31 pixels, expected 40 x 30"):
        FrameFolder(tmp_path)


def test_a_broken_frame_is_a_bad_photo_later(tmp_path):
    write_frames(tmp_path, "clip")
    (tmp_path / "clip" / "000001.png").write_bytes(b"")
    source = FrameFolder(tmp_path)
    record = Photos(source, (3, 2), 16, augmentation=None, max_bad_fraction=0.5).load(np.array([0]))
    assert record["id"].tolist() == [1]


def test_frames_of_a_video_are_read_in_any_order(tmp_path):
    write_video(tmp_path / "film.mp4")
    source = open_photos(f"videos:{tmp_path}")
    assert len(source) == 6 and source.people == ("film.mp4",)
    for index in (5, 0, 3, 4, 1, 2):
        image = source.raw(index).image
        assert image.shape == (48, 64, 3) and image.dtype == np.uint8
        assert np.abs(image.astype(int) - LEVELS[index]).max() <= 8, index  # compressed; neighbours are 40 apart
    assert source.name(4) == "film.mp4#4"


def test_landmarks_beside_a_video(tmp_path):
    video = write_video(tmp_path / "film.mp4")
    landmarks = np.random.default_rng(0).uniform(10, 40, (6, 68, 2))
    landmarks[2], landmarks[3, 5] = np.nan, np.nan
    np.savez(tmp_path / "film.npz", landmarks=landmarks)
    source = VideoFolder(video)
    assert source.raw(2).landmarks is None
    raw = source.raw(3)
    np.testing.assert_array_equal(raw.landmarks, landmarks[3])
    assert raw.landmark_mask.sum() == 67 and not raw.landmark_mask[5]
    np.savez(tmp_path / "film.npz", landmarks=landmarks[:4])
    with pytest.raises(ValueError, match=r"film.npz: landmarks: found shape \(4, 68, 2\), expected \(6, 68, 2\)"):
        VideoFolder(video)


def test_what_is_no_video_is_named(tmp_path):
    with pytest.raises(ValueError, match="no videos found"):
        VideoFolder(tmp_path)
    pytest.importorskip("av")
    (tmp_path / "film.mp4").write_bytes(b"not a film")
    with pytest.raises(ValueError, match="film.mp4: not readable as a video") as refused:
        VideoFolder(tmp_path)
    assert "\n" not in str(refused.value)
    write_video(tmp_path / "film.mp4", LEVELS[:1])
    with pytest.raises(ValueError, match="film.mp4: found a clip of 1 frames"):
        VideoFolder(tmp_path)


def test_a_video_that_is_cut_off_has_bad_frames_or_is_refused(tmp_path):
    path = write_video(tmp_path / "film.avi", LEVELS * 10)
    source = VideoFolder(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:len(whole) // 2])
    with pytest.raises(BadPhoto, match="film.avi"):
        source.raw(len(source) - 1)
