"""One person's face through a video: one identity, an expression and a pose for every frame, without jitter."""

import dataclasses
import fractions
import json
from collections.abc import Iterator
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import scipy.ndimage
from jaxtyping import Bool, UInt8

from sfm_jax.data.frames import read_frames
from sfm_jax.geometry.rotation import rotation_from_6d, rotation_to_6d, rotation_to_euler
from sfm_jax.inference import result_files
from sfm_jax.inference.photo_detail import PhotoDetailer
from sfm_jax.inference.reconstruction import Reconstruction, Reconstructor
from sfm_jax.inference.texture import Texturer

SMOOTHING = 0.05  # seconds: standard deviation of the Gaussian over time
SHOWN_SIDE, MOST_SHOWN = 640, 600  # pixels; frames of the overlay
CODECS = ("libx264", "libopenh264", "mpeg4")  # of the overlay: the first that there is
PER_FRAME = ("expression", "light", "rotation", "pose_degrees", "camera", "landmarks68_px", "face_box", "presence",
             "score")
MEANING = {  # of what only a video's parameters have
    "found": "[T] whether there is a face in the frame; where there is none it is interpolated",
    "fps": "frames a second",
    "best_frame": "the frame that shows the face best, counted from 0: of it are the meshes and overlay.png",
}


@dataclasses.dataclass(frozen=True)
class VideoFaces:
    """faces: one for each frame, with one identity and albedo, smooth over time; found: where there was a face, in
    between it is interpolated; fps."""

    faces: list[Reconstruction]
    found: Bool[np.ndarray, " T"]
    fps: float


def reconstruct_video(reconstructor: Reconstructor, path: Path) -> VideoFaces | None:
    """The face of a video that is largest where it first appears; None: there is none in any frame.

    Raises:
      ValueError: not a video, or damaged.
    """
    fps, frames = read_frames(path)
    seen, before = [], None
    for image in frames:
        before = reconstructor.detector.track(image, before, closest=1)
        seen.append(None if before is None else reconstructor.face(image, before))
    found = np.array([face is not None for face in seen], bool)
    if not found.any():
        return None
    return VideoFaces(smoothed(seen, SMOOTHING * fps), found, fps)


def smoothed(seen: list[Reconstruction | None], deviation: float) -> list[Reconstruction]:
    """Faces of all frames with the mean identity and albedo of those that were found, all else smoothed over time by a
    Gaussian of `deviation` frames; frames without a face lie between their neighbours."""
    known = np.array([index for index, face in enumerate(seen) if face is not None])
    some = [seen[index] for index in known]

    def through_time(values):
        """[K, ...] of the known frames -> [T, ...]."""
        values = np.asarray(values, np.float64)
        flat = values.reshape(len(known), -1)
        filled = np.empty((len(seen), flat.shape[1]))
        for column in range(flat.shape[1]):  # none of a model without expressions
            filled[:, column] = np.interp(np.arange(len(seen)), known, flat[:, column])
        return scipy.ndimage.gaussian_filter1d(filled, deviation, axis=0, mode="nearest").reshape(
            len(seen), *values.shape[1:])

    def mean(name):
        return np.mean([getattr(face, name) for face in some], 0)

    z = mean("z")
    fixed = {"identity": mean("identity"), "albedo": mean("albedo"),
             "z": z / np.linalg.norm(z) if z.size else z, "fitted": some[0].fitted, "model": some[0].model}
    six = through_time([np.asarray(rotation_to_6d(jnp.asarray(face.rotation))) for face in some])
    rotations = np.asarray(rotation_from_6d(jnp.asarray(six, jnp.float32)))
    # The camera is a scale, the rotation and a place: of the model's origin, far from no landmark.
    scales = np.exp(through_time([np.log(np.linalg.norm(face.camera[0, :3])) for face in some]))
    places = through_time([face.camera[:, 3] for face in some])
    moving = {name: through_time([getattr(face, name) for face in some])
              for name in ("expression", "light", "face_box")}
    certainty = {name: through_time([getattr(face, name) for face in some]) for name in ("presence", "score")}
    faces = []
    for index, (rotation, scale, place) in enumerate(zip(rotations, scales, places, strict=True)):
        camera = np.column_stack([scale * rotation[:2] * [[1], [-1]], place])
        face = Reconstruction(**fixed, **{name: values[index].astype(np.float32) for name, values in moving.items()},
                              **{name: float(values[index]) for name, values in certainty.items()},
                              rotation=rotation, pose_degrees=np.asarray(rotation_to_euler(jnp.asarray(rotation))),
                              camera=camera, landmarks68_px=np.zeros((68, 2)))
        points = face.model.landmarks(face.vertices())
        faces.append(dataclasses.replace(face, landmarks68_px=face.project(np.asarray(points))))
    return faces


def write_video(folder: Path, path: Path, video: VideoFaces, texturer: Texturer | None, model_name: str, detail: int,
                detailer: PhotoDetailer | None = None) -> None:
    """The files of result_files.write_face for the frame that shows the face best; params.npz and params.json with an
    entry for every frame in PER_FRAME, and found, fps, best_frame; overlay.mp4, the shape over the video."""
    best = best_frame(video)
    _, frames = read_frames(path)
    image = next(frame for index, frame in enumerate(frames) if index == best)
    face = video.faces[best]
    with result_files.complete(folder) as place:
        texture = texturer and texturer(image, face)
        result_files.write_face(place / "face", image, face, texture, model_name, detail, detailer)
        for file in (place / "face").iterdir():
            file.rename(place / file.name)
        (place / "face").rmdir()
        _over_time(place, video)
        _, frames = read_frames(path)
        write_overlay(place / "overlay.mp4", frames, video)


def best_frame(video: VideoFaces) -> int:
    """Of those with a face the one that is large and frontal."""
    def worth(face):
        left, top, right, bottom = face.face_box
        return face.rotation[2, 2] * np.sqrt(max((right - left) * (bottom - top), 0))

    return int(np.argmax([worth(face) if there else -1 for face, there in zip(video.faces, video.found, strict=True)]))


def write_overlay(path: Path, frames: Iterator[UInt8[np.ndarray, "H W 3"]], video: VideoFaces) -> None:
    """A video of the frames with the shape over each, at most MOST_SHOWN of them; H.264, which browsers play, where
    PyAV's build has it."""
    import av

    codec = next(name for name in CODECS if name in av.codecs_available)
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream = None
        for image, face, there in zip(frames, video.faces[:MOST_SHOWN], video.found, strict=False):
            shown = result_files.laid_over(image, face if there else None, SHOWN_SIDE)
            if stream is None:
                stream = container.add_stream(codec, rate=_rate(video.fps))
                stream.width, stream.height, stream.pix_fmt = shown.shape[1], shown.shape[0], "yuv420p"
                stream.bit_rate = 4_000_000
            for packet in stream.encode(av.VideoFrame.from_ndarray(shown, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


def _rate(fps):
    """Frames a second that an MP4 can say."""
    return fractions.Fraction(min(max(fps, 0.1), 240)).limit_denominator(1001)


def _over_time(place, video):
    """The parameters of one frame become those of all."""
    values = {name: np.stack([np.asarray(getattr(face, name)) for face in video.faces]) for name in PER_FRAME}
    values |= {"found": video.found, "fps": np.asarray(video.fps), "best_frame": np.asarray(best_frame(video))}
    with np.load(place / "params.npz") as file:
        arrays = {name: file[name] for name in file.files} | values
    with open(place / "params.npz", "wb") as file:
        np.savez_compressed(file, **arrays)
    text = json.loads((place / "params.json").read_text())
    text |= {name: result_files.rounded(value) for name, value in values.items()}
    text["meaning"] |= MEANING | {name: f"[T] frames of: {text['meaning'][name]}" for name in PER_FRAME}
    (place / "params.json").write_text(json.dumps(text) + "\n")
