"""Square crops around faces, and where the points of a photo come to lie in them.

Points are in pixels, x right, y down, pixel centres at +0.5, in photo and crop alike.
"""

import numpy as np
from PIL import Image


def landmark_box(landmarks, mask=None):
    """The square box of 3DDFA around landmarks: (centre [..., 2], side [...]).

    The centre is the middle of the landmarks' bounding box, the side the diagonal of the square over its longer side
    (Guo et al., ECCV 2020, as in the authors' code of 3DDFA).

    Args:
      landmarks: [..., P, 2] pixels; NumPy or JAX, the answer is of the same kind.
      mask: [..., P]; only points above 0 count, at least one must. None: all do.
    """
    xp = landmarks.__array_namespace__()
    known = xp.ones(landmarks.shape[:-1], bool) if mask is None else mask > 0
    low = xp.where(known[..., None], landmarks, xp.inf).min(-2)
    high = xp.where(known[..., None], landmarks, -xp.inf).max(-2)
    return (low + high) / 2, 2.0 ** 0.5 * (high - low).max(-1)


def crop_affine(box: tuple[np.ndarray, float], size: int, roll: float = 0.0, mirror: bool = False) -> np.ndarray:
    """The map [2, 3] from pixels of a photo to those of its crop: crop = A[:, :2] @ photo + A[:, 2].

    Args:
      box: (centre [2], side) of the square that the crop shows.
      size: side of the crop in pixels.
      roll: degrees by which the picture is turned in its crop, positive counter-clockwise.
      mirror: left and right exchanged, after turning.
    """
    (centre, side), angle = box, np.deg2rad(roll)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])  # y points down
    linear = size / side * (np.diag([-1.0, 1.0]) if mirror else np.eye(2)) @ turn
    return np.column_stack([linear, size / 2 - linear @ np.asarray(centre, np.float64)])


def crop_image(image: np.ndarray, box: tuple[np.ndarray, float], size: int, roll: float = 0.0, mirror: bool = False
               ) -> tuple[np.ndarray, np.ndarray]:
    """The crop [size, size, 3] uint8 of an image [H, W, 3] uint8, and its map [2, 3] (see `crop_affine`).

    What lies outside the image is black. Large photos are averaged over whole blocks of pixels first, so that
    nothing aliases; the rest is bilinear.
    """
    affine = crop_affine(box, size, roll, mirror)
    return warp(image, affine, size), affine


def warp(image: np.ndarray, affine: np.ndarray, size: int) -> np.ndarray:
    """[size, size, 3] uint8 of an image [H, W, 3] uint8 under a map [2, 3] from its pixels to those of the result."""
    inverse = np.linalg.inv(affine[:, :2])
    origin = -inverse @ affine[:, 2]
    picture = Image.fromarray(image)
    shrink = int(1 / np.sqrt(abs(np.linalg.det(affine[:, :2]))) + 1e-6)
    if shrink > 1:
        corners = origin + size * np.array([[0, 0], [0, 1], [1, 0], [1, 1]]) @ inverse.T
        window = _window(corners, picture.size, shrink)
        if window is None:
            return np.zeros((size, size, 3), np.uint8)
        picture = picture.reduce(shrink, window)
        inverse, origin = inverse / shrink, (origin - window[:2]) / shrink
    coefficients = (*inverse[0], origin[0], *inverse[1], origin[1])
    return np.asarray(picture.transform((size, size), Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR))


def shown_part(image: np.ndarray, affine: np.ndarray, size: int) -> np.ndarray:
    """[size, size] float32 of an image [H, W, 3] under a map [2, 3]: 1 where a pixel of `warp`'s answer shows the
    image, 0 where it lies outside, or so near to the border that it is not wholly inside."""
    inverse = np.linalg.inv(affine[:, :2])
    centres = np.stack(np.meshgrid(np.arange(size) + 0.5, np.arange(size) + 0.5), -1)
    points = (centres - affine[:, 2]) @ inverse.T
    reach = np.maximum(np.abs(inverse).sum(1), 1.0) / 2  # of a pixel of the answer, and of a bilinear sample
    limits = np.array(image.shape[1::-1]) - reach
    return np.all((points >= reach) & (points <= limits), -1).astype(np.float32)


def _window(corners, limits, block):
    """The part (left, top, right, bottom) of an image that a crop needs, a block more on each side; None: nothing."""
    low = np.maximum(np.floor(corners.min(0)).astype(int) - block, 0)
    high = np.minimum(np.ceil(corners.max(0)).astype(int) + block, limits)
    return (*map(int, low), *map(int, high)) if np.all(low < high) else None


def transform_points(points: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Points [..., 2] under a map [2, 3]."""
    return points @ affine[:, :2].T + affine[:, 2]
