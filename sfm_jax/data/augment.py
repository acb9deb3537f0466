"""Random changes of a photo that leave it a photo: another crop, a small turn, a mirror, other exposure.

All ranges are ours. Everything is drawn from (seed, photo, epoch) alone.
"""

import dataclasses

import numpy as np

# Where each of the 68 iBUG landmarks is found in the mirrored picture.
MIRROR = np.array([*range(16, -1, -1), *range(26, 16, -1), 27, 28, 29, 30, 35, 34, 33, 32, 31,
                   45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40,
                   54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65])
_X_MIRROR = np.array([-1.0, 1.0, 1.0], np.float32)


@dataclasses.dataclass(frozen=True)
class Change:
    """One draw: scale of the crop's side, shift [2] in sides, roll in degrees, mirror, and the tone's three numbers."""

    scale: float = 1.0
    shift: tuple[float, float] = (0.0, 0.0)
    roll: float = 0.0
    mirror: bool = False
    brightness: float = 0.0
    contrast: float = 1.0
    gamma: float = 1.0

    def box(self, box: tuple[np.ndarray, float]) -> tuple[np.ndarray, float]:
        """The box (centre [2], side), moved and scaled."""
        centre, side = box
        return np.asarray(centre) + side * np.array(self.shift), side * self.scale

    def tone(self, image: np.ndarray) -> np.ndarray:
        """uint8 sRGB, each value v in [0, 1] becoming contrast (v^gamma - 1/2) + 1/2 + brightness, clipped."""
        values = (np.arange(256) / 255) ** self.gamma
        table = np.clip(self.contrast * (values - 0.5) + 0.5 + self.brightness, 0, 1)
        return np.rint(255 * table).astype(np.uint8)[image]

    def landmarks(self, points: np.ndarray) -> np.ndarray:
        """Rows [68, ...] of the changed picture's landmarks: in a mirrored face left is right."""
        return points[MIRROR] if self.mirror else points

    def rotation(self, rotation: np.ndarray) -> np.ndarray:
        """The head's rotation [3, 3] in the changed picture: turned about the viewing axis, then mirrored."""
        cosine, sine = np.cos(np.deg2rad(self.roll)), np.sin(np.deg2rad(self.roll))
        turned = np.array([[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]]) @ rotation
        return turned * np.outer(_X_MIRROR, _X_MIRROR) if self.mirror else turned


UNCHANGED = Change()


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """How far photos are changed: the probability of a mirror, ranges +-x of all else (uniform).

    scale, shift: shares of the crop's side; roll: degrees; brightness: of the sRGB range; contrast, gamma: shares.
    """

    mirror: float = 0.5
    scale: float = 0.1
    shift: float = 0.06
    roll: float = 15.0
    brightness: float = 0.1
    contrast: float = 0.2
    gamma: float = 0.2

    def draw(self, seed: int, index: int, epoch: int) -> Change:
        """The change of photo `index` in `epoch`."""
        rng = np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, epoch, index]))
        scale, x, y, roll, brightness, contrast, gamma = rng.uniform(-1, 1, 7)
        return Change(1 + self.scale * scale, (self.shift * x, self.shift * y), self.roll * roll,
                      bool(rng.random() < self.mirror), self.brightness * brightness,
                      1 + self.contrast * contrast, (1 + self.gamma) ** gamma)
