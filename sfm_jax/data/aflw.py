"""300W-LP and AFLW2000-3D as their authors publish them: photos with .mat files of landmarks and a fitted 3D face.

Zhu et al., "Face Alignment Across Large Poses: A 3D Solution", CVPR 2016. Coordinates are MATLAB's, the first pixel's
centre at (1, 1): 0.5 is subtracted. Faces were fitted with the Basel Face Model 2009 and FaceWarehouse's expressions;
Shape_Para (199) and Exp_Para (29) are codes of that model in 3DDFA's scaling, of use only with it.
"""

import re
from pathlib import Path

import numpy as np

from sfm_jax.array_files import one_line
from sfm_jax.data.folders import files_below
from sfm_jax.data.photo_sets import BadPhoto, PhotoList, RawPhoto, read_file
from sfm_jax.mat_files import load_mat5

# HELEN_123_1_0 .. _17: photo, face, and the copies in which the head was turned farther and farther.
_COPY = re.compile(r"(.+)_\d+")


class AflwPhotos(PhotoList):
    """All photos `*.jpg` with a `.mat` of the same name under a folder: AFLW2000, 300W_LP, or a part of it.

    Landmarks are those of the projected 3D face, hidden ones included: `pt3d_68` in AFLW2000-3D; in 300W-LP `pts_3d`
    of `landmarks/PART/NAME_pts.mat` where that folder is, else `pt2d`. The turned copies of one face in 300W-LP are
    one person, named after the photo; AFLW2000-3D names nobody. 300W-LP's mirrored folders (*_Flip) are left out:
    augmentation mirrors.

    Raises:
      ValueError: no such folder, or no photos with a .mat file.
    """

    def __init__(self, folder: str | Path):
        self._folder = Path(folder).resolve()
        if not self._folder.is_dir():
            raise ValueError(f"{folder}: no such folder, expected photos with .mat files")
        labels = [path.relative_to(self._folder) for path in files_below(self._folder)
                  if path.suffix == ".mat" and path.with_suffix(".jpg").exists()]
        paths = sorted(str(path.with_suffix("")) for path in labels
                       if not any(part.endswith("_Flip") for part in path.parts))
        if not paths:
            raise ValueError(f"{folder}: no photos found, expected NAME.jpg and NAME.mat")
        super().__init__(paths, [match[1] if (match := _COPY.fullmatch(path)) else "" for path in paths])

    def name(self, index):
        return super().name(index) + ".jpg"

    def raw(self, index):
        photo = self._folder / self.name(index)
        path = photo.with_suffix(".mat")
        labels = _read_mat(path)
        return RawPhoto(
            read_file(photo), str(photo), int(self._labels[index]), self._landmarks(path, labels),
            rotation=rotation_from_pose(_take(labels, "Pose_Para", 7, path)),
            identity=_take(labels, "Shape_Para", 199, path), expression=_take(labels, "Exp_Para", 29, path))

    def _landmarks(self, path, labels):
        if "pt3d_68" in labels:
            return _take(labels, "pt3d_68", (3, 68), path)[:2].T - 0.5
        part = path.relative_to(self._folder).parent
        # The folder may be 300W_LP itself or one of its parts.
        for folder in (self._folder / "landmarks" / part, self._folder.parent / "landmarks" / self._folder.name):
            points = folder / f"{path.stem}_pts.mat"
            if points.exists():
                return _take(_read_mat(points), "pts_3d", (68, 2), points) - 0.5
        return _take(labels, "pt2d", (2, 68), path).T - 0.5


def rotation_from_pose(pose: np.ndarray) -> np.ndarray:
    """The head's rotation [3, 3] of Pose_Para [>= 3], radians (pitch, yaw, roll): R_x(-pitch) R_y(-yaw) R_z(-roll).

    3DDFA's axes are ours: its images have y upwards until the last step. Checked against landmarks of real photos.
    """
    (cx, cy, cz), (sx, sy, sz) = np.cos(pose[:3]), np.sin(pose[:3])
    about_x = np.array([[1, 0, 0], [0, cx, sx], [0, -sx, cx]])
    about_y = np.array([[cy, 0, -sy], [0, 1, 0], [sy, 0, cy]])
    about_z = np.array([[cz, sz, 0], [-sz, cz, 0], [0, 0, 1]])
    return about_x @ about_y @ about_z


def _read_mat(path):
    content = read_file(path)
    try:
        return load_mat5(content)
    except ValueError as error:
        raise BadPhoto(f"{path}: not a readable .mat file ({one_line(error)})") from None


def _take(labels, key, shape, path):
    """labels[key] as float64 of a shape, or flat if the shape is one number."""
    if key not in labels:
        found = one_line(", ".join(labels) or "nothing")
        raise BadPhoto(f"{path}: key '{key}' is missing, found {found}")
    value = np.asarray(labels[key])
    value = value.ravel() if isinstance(shape, int) else value
    expected = (shape,) if isinstance(shape, int) else shape
    if value.shape != expected or value.dtype.kind not in "fiu":
        raise BadPhoto(f"{path}: {key}: found {value.dtype} of shape {value.shape}, expected numbers of {expected}")
    return value.astype(np.float64)
