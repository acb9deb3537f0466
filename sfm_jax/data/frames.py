"""Clips of real people: folders of frames, or video files."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from sfm_jax.array_files import numbers, read_npz
from sfm_jax.data.labelled_folder import LabelledFolder
from sfm_jax.data.photo_sets import BadPhoto, RawPhoto, digest, open_image

VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v", ".mpg", ".mpeg")
# FFmpeg's names of formats that say when every frame is shown. After seeking in others, some FFmpegs give a frame
# another one's time.
_INDEXED = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "avi")


class FrameFolder(LabelledFolder):
    """A folder `clip/000001.jpg`: frames in the order of their names; a clip is its own person. Landmarks beside the
    frames, as in labelled_folder.py.

    Raises:
      ValueError: no clips, a photo outside a clip, a clip of one frame, frames of different size in one clip.
    """

    def __init__(self, place: str | Path):
        super().__init__(place)
        order = np.argsort(self._labels, kind="stable")
        ends = np.searchsorted(self._labels[order], np.arange(-1, len(self.people)), side="right")
        if ends[0]:
            raise ValueError(f"{self._folder / self._paths[order[0]]}: found outside a clip, expected clip/000001.jpg")
        for clip, first, end in zip(self.people, ends, ends[1:], strict=False):
            _check_length(self._folder / clip, end - first)
            _check_sizes([self._folder / self._paths[index] for index in order[first:end]])


def _check_length(clip, frames):
    if frames < 2:
        raise ValueError(f"{clip}: found a clip of {frames} frames, expected 2 or more")


def _check_sizes(frames):
    sizes = [_size(frame) for frame in frames]
    first = next((size for size in sizes if size), None)
    for frame, size in zip(frames, sizes, strict=True):
        if size not in (first, None):
            raise ValueError(f"{frame}: found {size[0]} x {size[1]} pixels, expected {first[0]} x {first[1]} as the "
                             "first frame of its clip")


def _size(path):
    """Width and height in pixels, from the head of the file; None of one that cannot be read: a bad photo, later."""
    try:
        with open_image(path) as picture:
            return picture.size
    except Exception:  # damaged files make Pillow raise OSError, SyntaxError, struct.error and others
        return None


class VideoFolder:
    """A folder of video files, or one of them; needs PyAV (`pip install av`). A video is its own person.

    Landmarks of `clip.mp4` are read from `clip.npz` beside it, if there is one: key `landmarks` [F, 68, 2] for its F
    frames, pixels, pixel centres at +0.5; rows that are not finite are not known.

    Raises:
      ValueError: no videos, PyAV is not there, a file that is no video or has one frame, landmarks of other frames.
    """

    def __init__(self, place: str | Path):
        place = Path(place)
        if place.is_dir():
            names = sorted(name for name in os.listdir(place)
                           if name.lower().endswith(VIDEO_SUFFIXES) and not name.startswith("."))
            self._folder = place
        else:
            names, self._folder = [place.name] if place.is_file() else [], place.parent
        if not names:
            raise ValueError(f"{place}: no videos found, expected one of {', '.join(VIDEO_SUFFIXES)}")
        self.people = tuple(names)
        times = [_frame_times(self._folder / name) for name in names]
        for name, found in zip(names, times, strict=True):
            _check_length(self._folder / name, len(found))
        self._landmarks = [_video_landmarks(self._folder / name, len(found))
                           for name, found in zip(names, times, strict=True)]
        self._labels = np.repeat(np.arange(len(names), dtype=np.int32), [len(found) for found in times])
        self._frame = np.concatenate([np.arange(len(found)) for found in times])
        self._time = np.concatenate(times)

    @property
    def persons(self) -> int:
        return len(self.people)

    def __len__(self):
        return len(self._labels)

    def labels(self):
        return self._labels

    def name(self, index):
        return f"{self.people[self._labels[index]]}#{self._frame[index]}"

    def fingerprint(self):
        return digest(self.people, np.bincount(self._labels).tolist())

    def raw(self, index):
        clip = int(self._labels[index])
        path = self._folder / self.people[clip]
        landmarks = None if self._landmarks[clip] is None else self._landmarks[clip][self._frame[index]]
        known = None if landmarks is None else np.isfinite(landmarks).all(-1)
        if known is not None and not known.any():
            landmarks = known = None
        image = _decode_at(path, int(self._time[index]))
        return RawPhoto(image, f"{path}#{self._frame[index]}", clip, landmarks, known)


def _open(path):
    try:
        import av
    except ImportError:
        raise ValueError(f"{path}: reading videos needs PyAV: pip install av") from None
    try:
        container = av.open(str(path))
    except (OSError, ValueError) as error:  # PyAV's own errors are among them
        raise ValueError(f"{path}: not readable as a video ({error})") from None
    if not container.streams.video:
        container.close()
        raise ValueError(f"{path}: found no picture in it, expected a video")
    return container


def _frame_times(path):
    """When each frame is shown, sorted, in units of the stream; nothing is decoded. Those that a video was trimmed of
    are in the file, but not shown."""
    try:
        with _open(path) as container:
            return np.array(sorted(packet.pts for packet in container.demux(container.streams.video[0])
                                   if packet.pts is not None and packet.size and not packet.is_discard), np.int64)
    except OSError as error:
        raise ValueError(f"{path}: not readable as a video ({error})") from None


def _decode_at(path, time):
    """The frame that is shown at `time`, [H, W, 3] uint8 sRGB, upright. BadPhoto if there is none."""
    try:
        # Seeking goes by when frames are decoded, and may come to lie behind the one that is sought.
        frame = _sought(path, time, seek=True) or _sought(path, time, seek=False)
    except (OSError, ValueError) as error:
        raise BadPhoto(f"{path}: frame at {time}: {error}") from None
    if frame is None:
        raise BadPhoto(f"{path}: no frame at {time}, the file is damaged or ends before it")
    return _upright(frame)


def _sought(path, time, seek):
    """The frame at `time`, None if it does not come; seek: not from the start of the file, where that is safe."""
    with _open(path) as container:
        stream = container.streams.video[0]
        if seek and container.format.name in _INDEXED:
            container.seek(time, stream=stream)  # to the last frame before it that needs no other one
        for frame in container.decode(stream):
            if frame.pts is not None and frame.pts >= time:
                return frame if frame.pts == time else None
    return None


def read_frames(path: Path) -> tuple[float, Iterator[np.ndarray]]:
    """Frames per second of a video, and its frames one after the other, [H, W, 3] uint8 sRGB, upright.

    Raises:
      ValueError: PyAV is not there, a file that is no video, or, on the way, one that is damaged.
    """
    container = _open(path)

    def frames():
        with container:
            try:
                for frame in container.decode(container.streams.video[0]):
                    yield _upright(frame)
            except (OSError, ValueError) as error:
                raise ValueError(f"{path}: damaged video ({error})") from None

    return float(container.streams.video[0].average_rate or 25), frames()


def _upright(frame):
    """[H, W, 3] as the video is shown: mirrored, and turned by quarters."""
    image = frame.to_ndarray(format="rgb24")
    return np.ascontiguousarray(np.rot90(image[::-1] if _mirrored(frame) else image, round(frame.rotation / 90)))


def _mirrored(frame):
    """Whether top and bottom change places before the frame is turned."""
    try:
        matrix = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:  # PyAV does not know all that FFmpeg adds to a frame, as to those of spatial videos
        return False
    if matrix is None:
        return False
    a, b, _, c, d, *_ = np.frombuffer(matrix, np.int32).tolist()
    return a * d < b * c


def _video_landmarks(video, frames):
    path = video.with_suffix(".npz")
    if not path.exists():
        return None
    arrays = read_npz(path, ("landmarks",))
    if "landmarks" not in arrays:
        raise ValueError(f"{path}: key 'landmarks' is missing, expected those of a video")
    landmarks = numbers(path, "landmarks", arrays["landmarks"]).astype(np.float64)
    if landmarks.shape != (frames, 68, 2):
        raise ValueError(f"{path}: landmarks: found shape {landmarks.shape}, expected ({frames}, 68, 2)")
    return landmarks
