"""Named places on the mean face: regions, the 68 landmarks, contour lines and the symmetry map, at both levels.

Eyes, lips and the profile are found by topology and extremes; brows and nose base by the proportions of the average
face of iBUG 300-W annotations; the jaw where the face, seen from the front, ends. All of it is ours.
"""

import dataclasses

import numpy as np
import scipy.spatial

from experiments.default_model.head import EYE, LID, MOUTH, SKIN

# Brow landmarks 17-21 from the middle between the outer eye corners (sideways, up), in units of the distance between
# those corners: the mean of the 300-W annotations, as dlib's face chips use it.
BROWS = ((0.665, 0.149), (0.563, 0.241), (0.419, 0.268), (0.271, 0.247), (0.131, 0.189))
# Mirror images of the landmarks on the face's right side (the image's left).
PAIRS = {0: 16, 1: 15, 2: 14, 3: 13, 4: 12, 5: 11, 6: 10, 7: 9, 17: 26, 18: 25, 19: 24, 20: 23, 21: 22, 31: 35, 32: 34,
         36: 45, 37: 44, 38: 43, 39: 42, 40: 47, 41: 46, 48: 54, 49: 53, 50: 52, 59: 55, 58: 56, 60: 64, 61: 63, 67: 65}
CONTOUR_POINTS = 11
# Degrees that a surface has turned away from the viewer, at the ear, between and at the chin, whose underside is short:
# where the face as seen from the front ends, so the jaw of 300W-LP's and AFLW2000's 3D annotations; and where it bends.
END, BEND = ((-40, 30, 60, 90), (88, 88, 80, 75)), ((0, 60, 90), (67, 58, 50))


@dataclasses.dataclass(frozen=True)
class Surface:
    """What anatomy looks at: vertices [n, 3] mm and normals [n, 3] of the mean; parts [4, n] bool; texture masks
    {name: [n]}; jaw [n, 3], the displacement of jawOpen; symmetry [n]."""

    vertices: np.ndarray
    normals: np.ndarray
    parts: np.ndarray
    masks: dict[str, np.ndarray]
    jaw: np.ndarray
    symmetry: np.ndarray

    @property
    def skin(self):
        return self.parts[SKIN]

    def first(self, count: int) -> "Surface":
        """The coarse level: the first vertices, without those that map outside it."""
        return Surface(self.vertices[:count], self.normals[:count], self.parts[:, :count],
                       {name: mask[:count] for name, mask in self.masks.items()}, self.jaw[:count],
                       self.symmetry[:count])


def mirror_map(vertices: np.ndarray, quads: np.ndarray) -> np.ndarray:
    """The vertex [n] that lies at each vertex's mirror image. ValueError unless it maps the mesh onto itself."""
    _, image = scipy.spatial.cKDTree(vertices).query(vertices * [-1, 1, 1])
    kept = {tuple(quad) for quad in np.sort(quads, axis=1)}
    if not np.array_equal(image[image], np.arange(len(image))) or any(
            tuple(quad) not in kept for quad in np.sort(image[quads], axis=1)):
        raise ValueError("base mesh: not symmetric")
    return image.astype(np.int32)


def landmarks(s: Surface) -> np.ndarray:
    """The 68 landmarks [68] of iBUG 300-W as vertex indices; mirrored pairs are mirror images exactly."""
    v, found = s.vertices, np.zeros(68, np.int64)
    on_midline = np.flatnonzero(s.skin & (s.symmetry == np.arange(len(v))))
    right = s.skin & (v[:, 0] < 0)
    found[[36, 37, 38, 39, 40, 41]] = _eye(v, np.flatnonzero(right & s.parts[LID]))
    eyes = v[found[36]] * [0, 1, 1]
    span = -2 * v[found[36], 0]

    profile = on_midline[(v[on_midline, 2] > 0) & (s.normals[on_midline, 2] > -0.9)]
    tip = profile[np.argmax(v[profile, 2])]
    found[30] = tip
    root = 0.5 * (v[found[36], 1] + v[found[39], 1]) + 1.0
    bridge = profile[v[profile, 1] > v[tip, 1]]
    for index, share in zip((27, 28, 29), (0, 1 / 3, 2 / 3), strict=True):
        found[index] = bridge[np.argmin(abs(v[bridge, 1] - (root + share * (v[tip, 1] - root))))]

    _mouth(s, found, profile)
    _nose_base(s, found, profile, right)
    for index, (aside, up) in zip(range(17, 22), BROWS, strict=True):
        found[index] = _in_front(s, right, -aside * span, eyes[1] + up * span)
    found[:17] = outline(s, found, *END)
    for a, b in PAIRS.items():
        found[b] = s.symmetry[found[a]]
    return found.astype(np.int32)


def _eye(v, margin):
    """Outer corner, two above, inner corner, two below: on the lid margin [m]."""
    outer, inner = margin[np.argmin(v[margin, 0])], margin[np.argmax(v[margin, 0])]
    share = (v[margin, 0] - v[outer, 0]) / (v[inner, 0] - v[outer, 0])
    above = v[margin, 1] > v[outer, 1] + share * (v[inner, 1] - v[outer, 1])

    def at(pool, where):
        return margin[pool][np.argmin(abs(share[pool] - where))]

    return outer, at(above, 0.32), at(above, 0.68), inner, at(~above, 0.68), at(~above, 0.32)


def _mouth(s, found, profile):
    """Inner lips on the seam between skin and mouth bag, outer lips on the border of the lip mask."""
    v = s.vertices
    seam = np.flatnonzero(s.skin & s.parts[MOUTH])
    corner = seam[np.argmin(v[seam, 0])]
    half = -v[corner, 0]
    drop = -s.jaw[seam, 1]
    upper, lower = seam[drop < 0.35 * drop.max()], seam[drop >= 0.35 * drop.max()]

    def at(pool, share):
        return pool[np.argmin(abs(v[pool, 0] + share * half))]

    found[48], found[60] = corner, at(upper, 0.86)
    found[61], found[62], found[67], found[66] = at(upper, 0.42), at(upper, 0.0), at(lower, 0.42), at(lower, 0.0)
    lips = s.skin & (s.masks["lips"] > 0.4) & (v[:, 2] > v[corner, 2] - 6)
    height = np.interp(v[:, 0], [-half, 0, half], v[[corner, found[62], corner], 1])
    for indices, above in (((49, 50, 51), True), ((59, 58, 57), False)):
        pool = np.flatnonzero(lips & ((v[:, 1] > height) == above))
        edge = pool[np.argsort(v[pool, 1] * (-1 if above else 1))]
        for index, share in zip(indices, (0.62, 0.28, 0.0), strict=True):
            candidates = np.intersect1d(edge, profile) if share == 0 else edge
            near = candidates[abs(v[candidates, 0] + share * half) < max(2.0, 0.05 * half)]
            found[index] = near[np.argmax(v[near, 1] * (1 if above else -1))]


def _nose_base(s, found, profile, right):
    """Subnasale, where the profile below the tip is deepest, and the row towards the base of the wing."""
    v = s.vertices
    tip, lip = v[found[30]], v[found[51]]
    between = profile[(v[profile, 1] < tip[1]) & (v[profile, 1] > lip[1])]
    chord = (v[between, 1] - lip[1]) / (tip[1] - lip[1])
    found[33] = between[np.argmin(v[between, 2] - (lip[2] + chord * (tip[2] - lip[2])))]
    base = v[found[33]]
    wing = right & (abs(v[:, 1] - base[1] - 6) < 5) & (v[:, 2] > base[2] - 12)
    half = -v[wing & (s.normals[:, 0] < -0.6), 0].min()
    found[31] = _in_front(s, right, -0.78 * half, base[1] + 2.5)
    found[32] = _in_front(s, right, -0.40 * half, base[1] + 0.5)


def _in_front(s, pool, x, y):
    """The vertex of `pool` seen at (x, y) from the front."""
    candidates = np.flatnonzero(pool & (s.normals[:, 2] > 0))
    squared = ((s.vertices[candidates, :2] - [x, y]) ** 2).sum(1)
    near = candidates[squared < squared.min() + 4.0]
    foremost = near[s.vertices[near, 2] > s.vertices[near, 2].max() - 6]
    return foremost[np.argmin(((s.vertices[foremost, :2] - [x, y]) ** 2).sum(1))]


# ------------------------------------------------------------------------------------------------ the jaw

def _meridians(s, found, angles, tilts):
    """Skin vertices [A, T] nearest to directions from a centre inside the head: `angles` around the axis of sight
    (0: the face's right, 90 degrees: down), `tilts` away from it. Ears are left out."""
    v = s.vertices
    centre = np.array([0.0, v[found[33], 1], v[found[30], 2] - 105])
    pool = np.flatnonzero(s.skin & (s.masks["ears"] < 0.3) & (v[:, 1] > v[found[57], 1] - 75))
    direction = v[pool] - centre
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    around, away = np.radians(angles)[:, None], np.radians(tilts)[None]
    wanted = np.stack([-np.cos(around) * np.sin(away), -np.sin(around) * np.sin(away),
                       np.cos(away) + 0 * around], -1)
    return pool[scipy.spatial.cKDTree(direction).query(wanted)[1]]


def outline(s: Surface, found: np.ndarray, around: tuple, degrees: tuple) -> np.ndarray:
    """17 vertices from ear to ear where the face, followed outwards from the nose, turns away from the viewer.

    degrees: how far, at angles `around` the axis of sight (0: the face's right, 90: down).
    """
    angles = np.linspace(-40, 90, 131)
    lines = _meridians(s, found, angles, np.arange(35.0, 125.0))
    limit = np.interp(angles, around, degrees)
    turned = s.normals[lines, 2] < np.cos(np.radians(limit))[:, None]
    turned |= s.vertices[lines, 2] < s.vertices[s.masks["ears"] > 0.5, 2].max()  # the jaw begins before the ear
    edge = s.vertices[lines[np.arange(len(lines)), np.argmax(turned, axis=1)]]
    for _ in range(10):  # vertices are millimetres apart: an even curve
        edge[1:-1] = 0.5 * edge[1:-1] + 0.25 * (edge[2:] + edge[:-2])
    start = np.argmin(abs(edge[:, 1] - s.vertices[found[36], 1]))
    edge = edge[start:]
    length = np.append(0, np.cumsum(np.linalg.norm(np.diff(edge, axis=0), axis=1)))
    wanted = np.stack([np.interp(np.linspace(0, length[-1], 9), length, edge[:, axis]) for axis in range(3)], 1)
    pool = np.flatnonzero(s.skin & (s.vertices[:, 0] <= 1e-3) & (s.masks["ears"] < 0.3))
    chosen = pool[scipy.spatial.cKDTree(s.vertices[pool]).query(wanted)[1]]
    middle = np.flatnonzero(s.skin & (s.symmetry == np.arange(len(s.symmetry))) & (s.normals[:, 1] < 0.3))
    chosen[8] = middle[scipy.spatial.cKDTree(s.vertices[middle]).query(wanted[8] * [0, 1, 1])[1]]
    return np.append(chosen, s.symmetry[chosen[7::-1]])


def contour_lines(s: Surface, found: np.ndarray) -> np.ndarray:
    """For each jaw landmark the line [17, L] along which it slides as the head turns, from cheek to ear or throat."""
    centre = np.array([0.0, s.vertices[found[33], 1], s.vertices[found[30], 2] - 105])

    def direction(vertex):
        """Degrees around the axis of sight, and away from it."""
        x, y, z = s.vertices[vertex] - centre
        return np.degrees(np.arctan2(-y, -x)), np.degrees(np.arctan2(np.hypot(x, y), z))

    edge, lines = outline(s, found, *BEND), np.zeros((17, CONTOUR_POINTS), np.int64)
    for index in range(9):
        around, tilt = direction(found[index])
        _, tilt_of_edge = direction(edge[index])
        tilts = np.linspace(tilt_of_edge - (30 if index < 7 else 18), tilt + (8 if index < 7 else 12), CONTOUR_POINTS)
        lines[index] = _meridians(s, found, np.array([around]), tilts)[0]
        lines[index, np.argmin(abs(tilts - tilt))] = found[index]
    lines[9:] = s.symmetry[lines[7::-1]]
    return lines.astype(np.int32)


# ------------------------------------------------------------------------------------------------ regions

def regions(s: Surface, found: np.ndarray) -> dict[str, np.ndarray]:
    """Soft masks {name: [n]} in [0, 1]."""
    v, points = s.vertices, s.vertices[found]
    points[:17] = v[outline(s, found, *BEND)]
    skin = (s.skin | s.parts[LID]).astype(float)
    lips, ears = s.masks["lips"] * skin, s.masks["ears"] * skin

    def blob(centre, size):
        return np.exp(-0.5 * (((v - centre) / size) ** 2).sum(1)) * skin

    def both(place, size):
        return np.maximum(blob(place, size), blob(place * [-1, 1, 1], size))

    brow = np.minimum(*(_polyline_distance(v, points[list(ids)] - [0, 1.0, 0], (0.7, 1, 1, 0.85))
                        for ids in (range(17, 22), range(26, 21, -1))))
    brows = np.clip(1.4 - brow / 3.0, 0, 1) * skin
    bridge = _polyline_distance(v, points[[27, 28, 29, 30]], (0.75, 0.9, 1.25))
    nose = np.clip(1.5 - bridge / 12, 0, 1) * skin * (v[:, 1] > points[33, 1] - 2)
    cheek = 0.5 * (points[36] + points[48]) + [-4, 2, 0]
    jaw_line = _polyline_distance(v, points[2:15], (1,) * 12)
    below = _below_jaw(v, points)
    face = s.masks["face"] * skin * (1 - below)
    moustache = blob(0.5 * (points[33] + points[51]), [18, 6, 20])
    beard = np.clip(np.clip(1.6 - jaw_line / 16, 0, 1) * (v[:, 1] < points[33, 1] - 1) + moustache, 0, 1)
    chin = blob(0.5 * (points[8] + points[57]), [20, 11, 25])
    hairline = points[19, 1] + 48
    scalp_height = (v[:, 1] - hairline) / 18 + np.clip((points[36, 2] - 28 - v[:, 2]) / 30, 0, 3)
    scalp = np.clip(scalp_height, 0, 1) * skin * (1 - ears) * (v[:, 1] > points[1, 1])
    over_brows = np.clip((v[:, 1] - points[19, 1]) / 6, 0, 1)
    iris, pupil = _iris(s)
    return {
        "skin": skin, "face": np.clip(face, 0, 1), "nose": nose, "lips": lips,
        "eyes": (s.parts[EYE] & ~s.skin).astype(float), "mouth": (s.parts[MOUTH] & ~s.skin).astype(float),
        "eyelids": s.masks["eyelids"] * skin, "brows": brows, "cheeks": both(cheek, [14, 12, 30]), "chin": chin,
        "forehead": over_brows * (1 - scalp) * skin * (s.normals[:, 2] > -0.2), "ears": ears,
        "neck": below * skin * (1 - ears), "scalp": scalp, "beard": beard * skin * (1 - lips) * (1 - 0.7 * below),
        "under_eye": both(0.5 * (points[40] + points[41]) - [0, 6.5, 0], [11, 4, 14]), "iris": iris, "pupil": pupil,
    }


def _below_jaw(v, points):
    """Soft mask of what lies under the jaw line: neck and throat."""
    order = np.argsort(points[:17, 0])
    height = np.interp(v[:, 0], points[:17][order, 0], points[:17][order, 1])
    return np.clip((height - 2 - v[:, 1]) / 8, 0, 1)


def _iris(s):
    """Soft masks of iris and pupil around the foremost point of each eyeball."""
    v = s.vertices
    iris, pupil = np.zeros(len(v)), np.zeros(len(v))
    for side in (-1, 1):
        ball = np.flatnonzero(s.parts[EYE] & ~s.skin & (side * v[:, 0] > 0))
        centre = 0.5 * (v[ball].max(0) + v[ball].min(0))
        radius = np.linalg.norm(v[ball, :2] - centre[:2], axis=1)
        iris[ball], pupil[ball] = np.clip((6.4 - radius) / 0.8, 0, 1), np.clip((2.6 - radius) / 0.8, 0, 1)
    return iris * (1 - pupil), pupil


def _polyline_distance(v, points, widths):
    """Distance [n] to a chain of segments, each measured in units of its width."""
    nearest = np.full(len(v), np.inf)
    for a, b, width in zip(points[:-1], points[1:], widths, strict=True):
        share = np.clip(((v - a) @ (b - a)) / ((b - a) @ (b - a)), 0, 1)[:, None]
        nearest = np.minimum(nearest, np.linalg.norm(v - (a + share * (b - a)), axis=1) / width)
    return nearest
