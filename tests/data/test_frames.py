"""Clips of real people: folders of frames and video files, whole and broken."""

import struct

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from sfm_jax.data.frames import FrameFolder, VideoFolder, read_frames
from sfm_jax.data.mixture import PhotoPart
from sfm_jax.data.pairs import Pairs
from sfm_jax.data.photo_sets import BadPhoto
from sfm_jax.data.photos import Photos, open_photos
from sfm_jax.tasks.photo_data import training_mixture

LEVELS = (20, 60, 100, 140, 180, 220)  # grey of each frame


def write_frames(folder, clip, levels=LEVELS, size=(40, 30)):
    (folder / clip).mkdir(parents=True)
    for number, level in enumerate(levels, 1):
        Image.new("RGB", size, (level,) * 3).save(folder / clip / f"{number:06d}.png")


def write_video(path, levels=LEVELS, gap=4, codec="mpeg4", **options):
    """Every frame is grey; only each fourth can be decoded alone."""
    return write_pictures(path, [np.full((48, 64, 3), level, np.uint8) for level in levels], gap, codec, **options)


def write_pictures(path, pictures, gap=4, codec="mpeg4", **options):
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        whole = {"qscale": "1", "sc_threshold": "1000000000"}  # a cut makes no frame whole
        stream = container.add_stream(codec, rate=25, options=whole | options)
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = 64, 48, "yuv420p", gap
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


def write_trimmed(path, source, first):
    """A copy of the stream that is shown from frame `first` on: those before it are only there to decode it."""
    av = pytest.importorskip("av")
    with av.open(str(source)) as whole, av.open(str(path), "w") as container:
        stream = whole.streams.video[0]
        copy, start = container.add_stream_from_template(stream), int(first / 25 / stream.time_base)
        for packet in whole.demux(stream):
            if packet.size:
                packet.pts, packet.dts, packet.stream = packet.pts - start, packet.dts - start, copy
                container.mux(packet)
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


def test_both_frames_of_a_pair_are_mirrored_or_none_is(tmp_path, toy_model):
    """The left half of every frame is bright."""
    frame = Image.fromarray(np.repeat(np.uint8([[200] * 20 + [0] * 20] * 40)[..., None], 3, -1))
    for clip in range(16):
        (tmp_path / f"{clip}").mkdir()
        for number in range(2):
            frame.save(tmp_path / f"{clip}" / f"{number}.png")
    data = {"clips": f"frames:{tmp_path}", "max_bad_fraction": 0.0}
    config = ConfigDict({"data": data, "batch_size": 64, "image_size": 16, "seed": 0})
    mixture = training_mixture(config, toy_model, None)
    first, second = mixture.dataset(64, 0)[0]["clips"]["image"].reshape(32, 2, 16, 16, 3).swapaxes(0, 1)
    mirrored = [image[:, :, :8].mean((1, 2, 3)) < image[:, :, 8:].mean((1, 2, 3)) for image in (first, second)]
    np.testing.assert_array_equal(*mirrored)
    assert 0 < mirrored[0].sum() < 32 and (first != second).any((1, 2, 3)).all()  # turned and shifted each by its own


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


@pytest.mark.parametrize("suffix, codec", [("mp4", "mpeg4"), ("avi", "mpeg4"), ("mpg", "mpeg2video")])
def test_frames_that_are_decoded_in_another_order_are_found(tmp_path, suffix, codec):
    """Two of three frames are decoded after one that is shown later."""
    levels = np.random.default_rng(0).permutation(range(20, 245, 9))
    path = write_video(tmp_path / f"film.{suffix}", levels, 12, codec, bf="2")
    source, film = VideoFolder(path), list(read_frames(path)[1])
    assert len(source) == len(film) == 25
    for index, frame in enumerate(film):
        np.testing.assert_array_equal(source.raw(index).image, frame, err_msg=str(index))


def test_frames_before_the_start_of_a_trimmed_video_are_none(tmp_path):
    film = write_video(tmp_path / "film.mp4", gap=6)
    source = VideoFolder(write_trimmed(tmp_path / "trimmed.mp4", film, 2))
    assert len(source) == len(list(read_frames(tmp_path / "trimmed.mp4")[1])) == 4
    np.testing.assert_allclose([source.raw(index).image.mean() for index in range(4)], LEVELS[2:], atol=8)


# Rows of the matrix: where one step to the right and one step down go, right and down.
SHOWN = {"as it is": ((1, 0), (0, 1), lambda image: image),
         "clockwise": ((0, 1), (-1, 0), lambda image: np.rot90(image, -1)),
         "left for right": ((-1, 0), (0, 1), lambda image: image[:, ::-1]),
         "upside down": ((1, 0), (0, -1), lambda image: image[::-1]),
         "transposed": ((0, 1), (1, 0), lambda image: image.swapaxes(0, 1))}


@pytest.mark.parametrize("right, down, shown", SHOWN.values(), ids=SHOWN)
def test_a_video_is_turned_and_mirrored_as_it_says(tmp_path, right, down, shown):
    picture = np.full((48, 64, 3), 60, np.uint8)
    picture[:16], picture[:, :16] = 120, 200
    path = write_pictures(tmp_path / "film.mp4", [picture] * 2)
    content = bytearray(path.read_bytes())
    matrix = content.index(b"tkhd") + 44  # behind the track's times, number, length and layer
    one, plain = 1 << 16, struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    assert content[matrix:matrix + 36] == plain
    content[matrix:matrix + 24] = struct.pack(">6i", right[0] * one, right[1] * one, 0, down[0] * one, down[1] * one, 0)
    path.write_bytes(content)
    for image in (VideoFolder(path).raw(1).image, list(read_frames(path)[1])[1]):
        assert image.shape == shown(picture).shape
        assert np.abs(image.astype(int) - shown(picture)).mean() < 4


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


def test_hidden_files_are_no_videos(tmp_path):
    write_video(tmp_path / "film.mp4")
    (tmp_path / "._film.mp4").write_bytes(b"of another system")
    assert VideoFolder(tmp_path).people == ("film.mp4",)


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
