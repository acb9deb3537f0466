"""Faces in photos with 468 points each, from them iBUG's 68, and the same face in the next frame of a video.

The points are those of MediaPipe 0.10.21's face_landmark.tflite (Kartynnik et al. 2019, arXiv 1907.06724), Apache 2.0
(see assets/LICENSES). Everything is in pixels of the given photo: x right, y down, pixel centres at +0.5. "Right" and
"left" are the person's. Photos are uint8 [H, W, 3] RGB, upright as `data.photo_sets.decode` reads them.
"""

import dataclasses

import numpy as np
from jaxtyping import Float, UInt8

from sfm_jax.data.crop import crop_affine, transform_points
from sfm_jax.inference.detection import (
    ASSETS,
    BlazeFace,
    Network,
    angle,
    box_area,
    check_image,
    inverse_affine,
    looks,
    overlap,
    shrink,
    sigmoid,
    view,
)

POINT_NETWORK = "face_landmark.tflite"
POINTS = 468
_SIZE = 192  # pixels that the network sees
_MARGIN = 1.5  # of the square that it sees, over the longer side of the face's box; MediaPipe's
_PASSES, _SETTLED_DEGREES, _SETTLED_SHIFT = 6, 5.0, 0.03  # shift as a share of the square's side
_EYES = (33, 263)  # outer corners, right and left
# For each of iBUG's 68 points the one of the 468 that is nearest in meaning, or the two it lies between.
_IBUG68 = (
    (127,), (234,), (93,), (132, 58), (58, 172), (136,), (150,), (176,), (152,), (400,), (379,), (365,), (397, 288),
    (361, 288), (323,), (454,), (356,),
    (70,), (63,), (105,), (66,), (107,), (336,), (296,), (334,), (293,), (300,),
    (168, 6), (197, 195), (5,), (4,), (75,), (97,), (2,), (326,), (305,),
    (33,), (160,), (158,), (133,), (153,), (144,), (362,), (385,), (387,), (263,), (373,), (380,),
    (61,), (39,), (37,), (0,), (267,), (269,), (291,), (321,), (314,), (17,), (84,), (91,),
    (78,), (82,), (13,), (312,), (308,), (317,), (14,), (87,))
_KEYPOINTS = ((33, 133), (362, 263), (4,), (13, 14), (234,), (454,))


@dataclasses.dataclass(frozen=True)
class DetectedFace:
    """One face of a photo.

    points: x, y, and z towards the viewer in the same pixels, 0 somewhere within the head;
    presence: the network's probability that it saw a face; score: the detector's, in a video of the frame in which
    the face was found.
    """

    points: Float[np.ndarray, "468 3"]
    presence: float
    score: float

    @property
    def box(self) -> Float[np.ndarray, "4"]:
        """(left, top, right, bottom) of the points: from the upper forehead to the chin."""
        return np.concatenate([self.points[:, :2].min(0), self.points[:, :2].max(0)])

    @property
    def keypoints(self) -> Float[np.ndarray, "6 2"]:
        """Middle of the right and left eye, nose tip, middle of the mouth, right and left ear."""
        return _means(self.points[:, :2], _KEYPOINTS)

    @property
    def landmarks68(self) -> Float[np.ndarray, "68 2"]:
        """In iBUG's order, a first answer: see `ibug68`."""
        return ibug68(self.points[:, :2])


class FaceDetector:
    """Finds faces and their points. Holds two small networks; may be used by many threads."""

    def __init__(self, min_presence: float = 0.5, threads: int = 1):
        """min_presence: of what is called a face; 0.9 lets few other things pass, and not all faces behind masks.
        threads: of each network, which are too small for many.

        Raises:
          ValueError: ai-edge-litert is not installed.
        """
        self._min_presence = min_presence
        self._boxes = BlazeFace(threads)
        self._network = Network(ASSETS / POINT_NETWORK, threads)

    def faces(self, image: UInt8[np.ndarray, "H W 3"], closest: int = 3) -> list[DetectedFace]:
        """The faces of a photo, the largest first; an empty list if there are none.

        Looks at the whole, then into tiles of half its side, and so on to 1 / 2^closest of the shorter side, as long as
        nothing is found or a closer look finds more: 3 for faces down to about 1/40 of the photo, 0 is the fastest.
        Heads may be turned in the picture by any angle.

        Raises:
          ValueError: another kind of image than uint8 [H, W, 3].
        """
        check_image(image)
        small, block = shrink(image, closest)
        found: list[DetectedFace] = []
        for level in looks(small.shape, closest):
            new: list[DetectedFace] = []
            for look in level:
                if look is not level[0] and (found or new):
                    break
                new = self._confirmed(image, self._boxes(small, look), block, found)
            if found and not new:
                break
            found += new
        return sorted(found, key=lambda face: -box_area(face.box))

    def track(
        self, image: UInt8[np.ndarray, "H W 3"], previous: DetectedFace | None, closest: int = 3
    ) -> DetectedFace | None:
        """The face of the previous frame in the next one, None if there is none.

        It is looked for where it was. Where it is no longer seen, or was not, the frame is searched as by `faces`: for
        the face that overlaps most with the previous one, or else the largest.
        """
        check_image(image)
        if previous is not None:
            points, presence = self._points(image, _region(previous.points))
            if presence >= self._min_presence:
                return DetectedFace(points, presence, previous.score)
        found = self.faces(image, closest)
        if not found or previous is None:
            return found[0] if found else None
        return found[int(np.argmax(overlap(previous.box, np.stack([face.box for face in found]))))]

    def _confirmed(self, image, detections, block, known):
        """The detections that are faces for the second network too, and not among those known."""
        new = []
        for box, _, keypoints in zip(*detections, strict=True):
            if _among(block * box, [*known, *new]):
                continue
            near = self._boxes.closer(image, block * box, block * keypoints)
            if not len(near.scores):
                continue
            points, presence = self._settled(image, _first_region(near.boxes[0], near.keypoints[0]))
            face = DetectedFace(points, presence, float(near.scores[0]))
            if presence >= self._min_presence and not _among(face.box, [*known, *new]):
                new.append(face)
        return new

    def _settled(self, image, region):
        """points and presence, looked for again where the points are, until that is where they were looked for."""
        for _ in range(_PASSES):
            points, presence = self._points(image, region)
            (centre, side, roll), region = region, _region(points)
            turned = abs((region[2] - roll + 180) % 360 - 180)
            if turned < _SETTLED_DEGREES and np.abs(region[0] - centre).max() < _SETTLED_SHIFT * side:
                break
        return points, presence

    def _points(self, image, region):
        """points [468, 3] and presence of the face in a region (centre [2], side, degrees)."""
        *box, roll = region
        affine = crop_affine(box, _SIZE, roll)
        points, presence = self._network(view(image, affine, _SIZE).astype(np.float32) / 255)
        points = points.reshape(POINTS, 3).astype(np.float64)
        flat = transform_points(points[:, :2], inverse_affine(affine))
        return np.column_stack([flat, -points[:, 2] * box[1] / _SIZE]), float(sigmoid(presence[0]))


def ibug68(points: Float[np.ndarray, "*batch 468 2"]) -> Float[np.ndarray, "*batch 68 2"]:
    """iBUG's 68 landmarks out of the 468 points, as near as they come.

    Brows, eyes, nose and mouth are within a few per cent of a face's size. The jaw, the first 17, is another line:
    these stay at their places of the skin as the head turns, iBUG's follow the outline.
    """
    return _means(points, _IBUG68)


def _first_region(box, keypoints):
    """Where to look for points (centre [2], side, degrees) of a detected face: its eyes will be level."""
    return (box[:2] + box[2:]) / 2, _MARGIN * (box[2:] - box[:2]).max(), angle(keypoints[1] - keypoints[0])


def _region(points):
    """Where to look (centre [2], side, degrees) once more, or in the next frame, for a face with points [468, 3]."""
    right, left = points[list(_EYES), :2]
    roll = angle(left - right)
    cosine, sine = np.cos(np.deg2rad(roll)), np.sin(np.deg2rad(roll))
    turn = np.array([[cosine, sine], [-sine, cosine]])
    level = points[:, :2] @ turn.T
    low, high = level.min(0), level.max(0)
    return (low + high) / 2 @ turn, _MARGIN * (high - low).max(), roll


def _among(box, faces):
    """Whether a box is mostly one of a known face, or of a part of it."""
    boxes = np.array([face.box for face in faces]).reshape(-1, 4)
    low, high = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
    return bool((np.clip(high - low, 0, None).prod(-1) > 0.5 * np.minimum(box_area(box), box_area(boxes))).any())


def _means(points, groups):
    return np.stack([points[..., list(group), :].mean(-2) for group in groups], -2)
