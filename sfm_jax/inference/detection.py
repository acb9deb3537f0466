"""Where faces are in a photo: BlazeFace, for faces of any size, turned by any angle.

BlazeFace (Bazarevsky et al. 2019, arXiv 1907.05047) is the short-range network of MediaPipe 0.10.21, Apache 2.0 (see
assets/LICENSES). It sees 128 x 128 pixels, and in them faces that are about upright and fill a fifth or more. Smaller
faces are found in overlapping tiles of the photo, others in the turned photo. Points are in pixels, x right, y down,
pixel centres at +0.5.
"""

import contextlib
import os
import sys
import tempfile
import threading
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32, UInt8
from PIL import Image

from sfm_jax.array_types import Numbers
from sfm_jax.data.crop import crop_affine, transform_points, warp

ASSETS = Path(__file__).parent.parent / "assets"
DETECTION_NETWORK = "face_detection_short_range.tflite"
SIZE = 128  # pixels that the network sees
KEYPOINTS = ("right eye", "left eye", "nose tip", "mouth", "right ear", "left ear")  # the person's right
MIN_SCORE, MAX_OVERLAP = 0.5, 0.3  # MediaPipe's
_ZOOM_OUT = 1.5  # sides of a photo, for faces that fill more than all of it
_NEAR = 2.0  # sides of a face's box, the square in which it is looked at from near
_SURE = 0.9  # a score that faces reach upright only
_SMALLEST_TILE = 64  # pixels of a photo that are worth to be magnified
_STDERR, _ONE_AT_A_TIME = 2, threading.Lock()
_ANCHORS = ((16, 2), (8, 6))  # (rows and columns, boxes at each place) of the network's two maps


class Detections(NamedTuple):
    """boxes (left, top, right, bottom) and keypoints in pixels; the largest first.

    A box reaches from the brows to the chin; keypoints are in the order of KEYPOINTS.
    """

    boxes: Float[np.ndarray, "N 4"]
    scores: Float[np.ndarray, " N"]
    keypoints: Float[np.ndarray, "N 6 2"]


NOTHING = Detections(np.zeros((0, 4)), np.zeros(0), np.zeros((0, 6, 2)))


class Look(NamedTuple):
    """One way to look at a photo: in square tiles of `side` pixels, turned by `turn` degrees counter-clockwise."""

    side: float
    turn: int


class Network:
    """A .tflite file: image -> its outputs, flat, the longest first. May be used by many threads."""

    def __init__(self, path: Path, threads: int = 1):
        """ValueError where ai-edge-litert is missing, or the file is not a network."""
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError:
            raise ValueError("finding faces in photos needs ai-edge-litert: pip install ai-edge-litert") from None
        try:
            with _without_remarks():
                self._interpreter = Interpreter(str(path), num_threads=threads)
                self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise ValueError(f"{path}: not readable as a network ({error})") from None
        self._input = self._interpreter.get_input_details()[0]["index"]
        outputs = sorted(self._interpreter.get_output_details(), key=lambda output: -np.prod(output["shape"]))
        self._outputs = [output["index"] for output in outputs]
        self._lock = threading.Lock()

    def __call__(self, image: Float32[np.ndarray, "S S 3"]) -> list[Float32[np.ndarray, " _"]]:
        with self._lock:
            self._interpreter.set_tensor(self._input, image[None])
            self._interpreter.invoke()
            return [self._interpreter.get_tensor(output).ravel() for output in self._outputs]


@contextlib.contextmanager
def _without_remarks():
    """Standard error without the lines "INFO: ..." that LiteRT writes as a network is opened, for which it has no
    switch. Whatever else is written meanwhile comes out at the end."""
    with _ONE_AT_A_TIME, tempfile.TemporaryFile() as caught:
        try:
            kept = os.dup(_STDERR)
        except OSError:  # closed: nobody reads it
            yield
            return
        if sys.stderr is not None:
            sys.stderr.flush()
        os.dup2(caught.fileno(), _STDERR)
        try:
            yield
        finally:
            os.dup2(kept, _STDERR)
            os.close(kept)
            caught.seek(0)
            for line in caught:
                if not line.startswith(b"INFO: "):
                    os.write(_STDERR, line)


class BlazeFace:
    """The detector, for one look at a photo at a time; `looks` are those that find all there is to find."""

    def __init__(self, threads: int = 1):
        self._network = Network(ASSETS / DETECTION_NETWORK, threads)
        self._anchors = anchors()

    def __call__(self, image: UInt8[np.ndarray, "H W 3"], look: Look | None = None) -> Detections:
        """Faces in a photo, RGB. Without a look at all of it: those that fill a fifth or more."""
        check_image(image)
        look = look or Look(max(image.shape[:2]), 0)
        centres = tile_centres(image.shape[:2], look.side)
        tiles = [self._tile(image, (centre, look.side), look.turn) for centre in centres]
        return merge(*map(np.concatenate, zip(*tiles, strict=True)))

    def closer(
        self, image: UInt8[np.ndarray, "H W 3"], box: Float[np.ndarray, "4"], keypoints: Float[np.ndarray, "6 2"]
    ) -> Detections:
        """A detection, looked at from near and turned upright: one or none.

        Upside down, a face is found as well, with its mouth for its eyes. Upright it has the highest score.
        """
        square = (box[:2] + box[2:]) / 2, max(_NEAR * (box[2:] - box[:2]).max(), 1.0)
        level, best = angle(keypoints[1] - keypoints[0]), NOTHING
        for turn in (0, 180, 90, 270):
            found = merge(*self._tile(image, square, level + turn))
            scores = np.where(overlap(box, found.boxes) > MAX_OVERLAP, found.scores, 0)
            if scores.max(initial=0) > best.scores.max(initial=0):
                best = Detections(*(value[[scores.argmax()]] for value in found))
            if best.scores.max(initial=0) > _SURE:
                break
        return best

    def _tile(self, image, box, turn):
        """Every candidate in a square (centre [2], side) of an image: boxes, scores, keypoints."""
        affine = crop_affine(box, SIZE, turn)
        raw, scores = self._network(view(image, affine, SIZE).astype(np.float32) / 127.5 - 1)
        scores = sigmoid(scores)
        found = scores > MIN_SCORE
        points = raw.reshape(-1, 8, 2)[found]
        points[:, [0, *range(2, 8)]] += SIZE * self._anchors[found, None]
        half = points[:, 1] / 2 * box[1] / SIZE
        points = transform_points(points, inverse_affine(affine))
        # A turned box becomes an upright one of the same size.
        return np.concatenate([points[:, 0] - half, points[:, 0] + half], 1), scores[found], points[:, 2:]


def check_image(image: object) -> None:
    """ValueError unless a photo is uint8 [H, W, 3] with pixels in it."""
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 \
            or image.size == 0:
        found = f"{image.dtype} {list(image.shape)}" if isinstance(image, np.ndarray) else type(image).__name__
        raise ValueError(f"image: found {found}, expected uint8 [H, W, 3] RGB (data.photo_sets.decode reads files so)")


def looks(shape: tuple[int, ...], closest: int = 3) -> list[list[Look]]:
    """Looks at a photo [H, W, ...], from the whole ever closer: sides halve `closest` times, while tiles have pixels.

    In each list the first look is at the upright photo; those that follow, from farther away and at the turned photo,
    are for one in which that finds nothing. The closest looks are not turned: they would be many.
    """
    longer, shorter = max(shape[:2]), min(shape[:2])
    sides = [float(longer)]
    while sides[-1] / 2 >= max(_SMALLEST_TILE, shorter / 2**closest):
        sides.append(sides[-1] / 2)
    levels = [[Look(side, turn) for turn in ((0, 90, 180, 270) if side >= longer / 2 else (0,))] for side in sides]
    levels[0].insert(1, Look(_ZOOM_OUT * longer, 0))
    return levels


def shrink(image: UInt8[np.ndarray, "H W 3"], closest: int = 3) -> tuple[UInt8[np.ndarray, "h w 3"], int]:
    """A photo for all its looks, and how many of its pixels one of these averages along each axis."""
    block = max(1, int(min(image.shape[:2]) / 2**closest // SIZE))
    return (np.asarray(Image.fromarray(image).reduce(block)), block) if block > 1 else (image, 1)


def tile_centres(size: tuple[int, int], side: float) -> Float[np.ndarray, "N 2"]:
    """Centres of square tiles over an image (height, width), each half over the next.

    What fits into half a tile is whole in one of them. Where the image is narrower than a tile, that is centred.
    """
    y, x = (np.array([length / 2]) if length <= side else
            np.linspace(side / 2, length - side / 2, int(np.ceil(2 * (length - side) / side)) + 1) for length in size)
    return np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)


def anchors() -> Float[np.ndarray, "896 2"]:
    """Centres in (0, 1), x and y, to which the network's boxes refer."""
    grids = []
    for count, boxes in _ANCHORS:
        centres = (np.arange(count) + 0.5) / count
        grids.append(np.repeat(np.stack(np.meshgrid(centres, centres), -1).reshape(-1, 2), boxes, 0))
    return np.concatenate(grids).astype(np.float32)


def merge(
    boxes: Float[np.ndarray, "N 4"], scores: Float[np.ndarray, " N"], keypoints: Float[np.ndarray, "N 6 2"]
) -> Detections:
    """Candidates -> one detection for each group of overlapping ones, their mean weighted by the scores.

    BlazeFace's replacement of non-maximum suppression: steadier than the best candidate alone.
    """
    values = np.concatenate([boxes, keypoints.reshape(-1, 12)], 1)
    left, merged = np.argsort(-scores, kind="stable"), []
    while len(left):
        near = overlap(boxes[left[0]], boxes[left]) > MAX_OVERLAP
        near[0] = True
        group = left[near]
        merged.append([*np.average(values[group], 0, scores[group]), scores[left[0]]])
        left = left[~near]
    merged = np.array(merged, np.float64).reshape(-1, 17)
    order = np.argsort(-box_area(merged[:, :4]), kind="stable")
    return Detections(merged[order, :4], merged[order, 16], merged[order, 4:16].reshape(-1, 6, 2))


def overlap(box: Float[np.ndarray, "4"], boxes: Float[np.ndarray, "N 4"]) -> Float[np.ndarray, " N"]:
    """Intersection over union of a box with boxes; 0 where both are empty."""
    low, high = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
    common = np.clip(high - low, 0, None).prod(-1)
    return common / np.maximum(box_area(box) + box_area(boxes) - common, 1e-12)


def box_area(boxes: Float[np.ndarray, "*batch 4"]) -> Float[np.ndarray | np.floating, "*batch"]:
    """Square pixels of each box."""
    return np.clip(boxes[..., 2:] - boxes[..., :2], 0, None).prod(-1)


def inverse_affine(affine: Float[np.ndarray, "2 3"]) -> Float[np.ndarray, "2 3"]:
    """The map that undoes this one."""
    linear = np.linalg.inv(affine[:, :2])
    return np.column_stack([linear, -linear @ affine[:, 2]])


def view(
    image: UInt8[np.ndarray, "H W 3"], affine: Float[np.ndarray, "2 3"], size: int
) -> UInt8[np.ndarray, "{size} {size} 3"]:
    """`crop.warp`, handed no more of a large photo than it needs."""
    corners = transform_points(size * np.array([[0, 0], [0, 1], [1, 0], [1, 1]]), inverse_affine(affine))
    margin = 2 + 2 / np.sqrt(abs(np.linalg.det(affine[:, :2])))
    low = np.clip(corners.min(0) - margin, 0, None).astype(int)
    high = np.clip(corners.max(0) + margin, 0, image.shape[1::-1]).astype(int)
    if not np.all(low < high):
        return np.zeros((size, size, 3), np.uint8)
    moved = np.column_stack([affine[:, :2], affine[:, 2] + affine[:, :2] @ low])
    return warp(image[low[1]:high[1], low[0]:high[0]], moved, size)


def angle(vector: Float[np.ndarray, "2"]) -> float:
    """Degrees of a vector from the x axis, positive clockwise in a picture: y points down."""
    return float(np.rad2deg(np.arctan2(vector[1], vector[0])))


def sigmoid(values: Numbers) -> Numbers:
    return 1 / (1 + np.exp(-np.clip(values, -80, 80)))
