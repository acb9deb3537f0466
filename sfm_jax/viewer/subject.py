"""What there is to look at: a model, the faces of reconstructed photos, or a finished run."""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from sfm_jax.array_files import integers, one_line, read_npz
from sfm_jax.command_line import OTHER_FORMATS
from sfm_jax.morphable.default import load_default
from sfm_jax.morphable.model import MorphableModel
from sfm_jax.morphable.sphere_model import SphereFaceModel, is_sphere_model
from sfm_jax.tasks.finished import open_model
from sfm_jax.training.workdir import CONFIG_FILE

DEFAULT = "default"
DETAIL = 1  # 14k vertices: the most that is there, and quick enough
MOVING = ("expression", "rotation", "pose", "light")
MODEL_FILE, FACE_FILE, OVERLAY_FILE = "model.npz", "params.npz", "overlay.png"


class FoundFace(NamedTuple):
    """A face of a photo: codes identity [K] (standard deviations), expression [E] and albedo [A]; rotation [3, 3] of
    the head and pose [3] (yaw, pitch, roll in degrees); light [9, 3]; its model and, or None, the overlay picture.
    Of a video those that move, MOVING, have one row for each frame; frames is 0 for a photo."""

    name: str
    identity: np.ndarray
    expression: np.ndarray
    albedo: np.ndarray
    rotation: np.ndarray
    pose: np.ndarray
    light: np.ndarray
    model: tuple[str, int]
    overlay: Path | None
    frames: int = 0

    def at(self, frame: int) -> "FoundFace":
        """The face of one frame of a video."""
        return self._replace(frames=0, **{key: getattr(self, key)[frame] for key in MOVING}) if self.frames else self


class Subject(NamedTuple):
    """name for people; the model, with the radius of its codes where they live on a sphere (its basis in mm per unit
    of radius * z), else None; base, the model it was learned on, if there is one; the faces of photos."""

    name: str
    model: MorphableModel
    radius: float | None = None
    base: MorphableModel | None = None
    faces: tuple[FoundFace, ...] = ()


def open_subject(path: str | None) -> Subject:
    """None or "default": the embedded model. A model npz; a folder with model.npz (a finished run) or with params.npz
    in it or in its folders (faces of photos).

    Raises:
      ValueError: one line on what is there and what was expected.
    """
    if path is None or path == DEFAULT:
        model = load_default(DETAIL)
        return Subject(model.name, model)
    place = Path(path)
    if place.name == FACE_FILE and place.is_file():
        place = place.parent
    if not place.is_dir():
        if not place.exists():
            raise ValueError(f"{path}: no such file or folder")
        try:
            return Subject(place.name, *_open_model(place))
        except ValueError as error:
            raise ValueError(f"{error}; {OTHER_FORMATS}") from None
    if (place / MODEL_FILE).is_file():
        return Subject(place.resolve().name, *_open_model(place / MODEL_FILE), _base_of(place))
    files = [place / FACE_FILE] if (place / FACE_FILE).is_file() else sorted(
        file for file in place.glob(f"*/{FACE_FILE}") if not file.parent.name.startswith("."))  # half written
    if not files:
        raise ValueError(f"{path}: holds neither {MODEL_FILE} nor {FACE_FILE} nor folders with {FACE_FILE}, expected "
                         "a finished run or reconstructed faces")
    return _open_faces(place.resolve().name, files)


def _open_model(path: Path) -> tuple[MorphableModel, float | None]:
    if is_sphere_model(path):
        found = SphereFaceModel.load(path)
        return found.base, float(found.radius)
    return MorphableModel.load(path), None


def _base_of(workdir: Path) -> MorphableModel | None:
    """The model that a run started from, as far as its config names one that is still there."""
    try:
        config = ConfigDict(json.loads((workdir / CONFIG_FILE).read_text()))
    except (OSError, ValueError):
        return None
    if "model" not in config or "detail" not in config:
        return None
    try:
        return open_model(config)
    except ValueError:  # moved since then
        return None


# ------------------------------------------------------------------------------------------ faces of photos

def _open_faces(name: str, files: list[Path]) -> Subject:
    faces = [_read_face(file) for file in files]
    for face, file in zip(faces, files, strict=True):
        if face.model != faces[0].model:
            raise ValueError(f"{file}: key 'model': found {face.model}, expected {faces[0].model} as in {files[0]}; "
                             "look at them one by one")
    model, detail = faces[0].model
    try:
        # Of a Sphere Face Model, too, their identities are standard deviations.
        opened = load_default(detail) if model == DEFAULT else MorphableModel.load(model)
    except ValueError as error:
        raise ValueError(f"{files[0]}: key 'model': {error}") from None
    for face, file in zip(faces, files, strict=True):
        for key, basis in (("identity", "identity_basis"), ("expression", "expression_basis"),
                           ("albedo", "albedo_basis")):
            found, most = getattr(face, key).shape[-1], len(getattr(opened, basis))
            if found > most:
                raise ValueError(f"{file}: key '{key}': {found} numbers, expected at most {most} for model {model!r}")
    return Subject(name, opened, faces=tuple(faces))


def _detail(file, found):
    detail = integers(file, "key 'detail'", found.get("detail", DETAIL))
    if detail.shape != () or detail not in (0, 1):
        raise ValueError(f"{file}: key 'detail': found {one_line(repr(detail.tolist()))}, expected 0 or 1")
    return int(detail)


def _read_face(file: Path) -> FoundFace:
    found = read_npz(file)

    def read(key, *shape):
        if key not in found:
            raise ValueError(f"{file}: key '{key}' is missing, expected the parameters of a face")
        value = found[key]
        expected = f"numbers [{', '.join('n' if size is None else str(size) for size in shape)}]"
        if value.dtype.kind not in "fiu" or value.ndim != len(shape) or any(
                size not in (None, there) for size, there in zip(shape, value.shape, strict=True)):
            raise ValueError(f"{file}: key '{key}': {value.dtype} {list(value.shape)}, expected {expected}")
        if not np.isfinite(value).all():
            raise ValueError(f"{file}: key '{key}': holds NaN or infinite numbers")
        return value.astype(np.float32)

    overlay = file.parent / OVERLAY_FILE
    frames = len(found["rotation"]) if "fps" in found and found.get("rotation", np.eye(3)).ndim == 3 else 0
    rows = (frames,) if frames else ()
    return FoundFace(
        name=file.parent.resolve().name, identity=read("identity", None), expression=read("expression", *rows, None),
        albedo=read("albedo", None), rotation=read("rotation", *rows, 3, 3), pose=read("pose_degrees", *rows, 3),
        light=read("light", *rows, 9, 3), model=(str(found.get("model", DEFAULT)), _detail(file, found)),
        overlay=overlay if overlay.is_file() else None, frames=frames)
