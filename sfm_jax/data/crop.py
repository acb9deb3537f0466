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
    shrink = _shrink(affine)
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
    return within_edges(crop_edges(image, affine), size)


def crop_edges(image: np.ndarray, affine: np.ndarray, extent: np.ndarray | None = None) -> np.ndarray:
    """Four lines [4, 3] float32 in a crop between which its pixels lie that wholly show an image, or a part of it.

    Args:
      image: [H, W, ...].
      affine: the crop's map [2, 3].
      extent: left, top, right, bottom [4] of the part, in whole pixels of the image; None: all.

    Returns:
      Rows (a, b, c): a pixel centre (x, y) of the crop is on the inner side of a line where a x + b y + c >= 0.
    """
    inverse = np.linalg.inv(affine[:, :2])
    point = np.column_stack([inverse, -inverse @ affine[:, 2]])  # of the image, from one of the crop
    lines = np.concatenate([point, -point])
    whole = np.array([0, 0, *image.shape[1::-1]], np.float64)
    limits = whole if extent is None else np.asarray(extent, np.float64)
    reach = np.maximum(np.abs(inverse).sum(1), 1.0) / 2  # of a pixel of the crop, and of a bilinear sample
    # Averaged blocks end at the image's border, but lie anyhow at those of a part.
    shrink = _shrink(affine)
    blocks = 1.5 * shrink * (limits != whole) if shrink > 1 else np.zeros(4)
    lines[:, 2] -= limits * [1, 1, -1, -1] + np.maximum(np.tile(reach, 2), blocks)
    return lines.astype(np.float32)


def within_edges(edges, size: int):
    """[..., size, size] float32: 1 at the pixels between edges [..., 4, 3] of `crop_edges`; of zeros at all pixels.

    edges: NumPy or JAX, the answer is of the same kind.
    """
    xp = edges.__array_namespace__()
    centres = xp.arange(size, dtype=xp.float32) + 0.5
    a, b, c = (edges[..., None, None, :, column] for column in range(3))
    return xp.all(a * centres[:, None] + b * centres[:, None, None] + c >= 0, axis=-1).astype(xp.float32)


def _shrink(affine):
    """Pixels along the side of the blocks that are averaged first; 1 or less: none are."""
    return int(1 / np.sqrt(abs(np.linalg.det(affine[:, :2]))) + 1e-6)


def _window(corners, limits, block):
    """The part (left, top, right, bottom) of an image that a crop needs, a block more on each side; None: nothing."""
    low = np.maximum(np.floor(corners.min(0)).astype(int) - block, 0)
    high = np.minimum(np.ceil(corners.max(0)).astype(int) + block, limits)
    return (*map(int, low), *map(int, high)) if np.all(low < high) else None


def transform_points(points: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Points [..., 2] under a map [2, 3]."""
    return points @ affine[:, :2].T + affine[:, 2]
