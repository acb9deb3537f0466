"""The closest point of a triangle mesh to each of many points: exact, on the host.

Space is cut into cubes. The triangles that can be the closest to a point of a cube lie no farther from the cube's
middle than the surface does and the cube's diagonal more: these are looked up when the first point of a cube is asked
for, kept, and sorted by their distance from the middle. A point tries the nearest few, and then those that the distance
so found has not ruled out. So neighbours share the work, and so do the rounds of an alignment. Points far from each
other that come first are looked up one by one: most surfaces are asked but once.

Triangles are looked up by seeds, in SciPy's k-d tree: the centroids of the congruent pieces each is cut into, so that
every triangle is covered within one radius of its seeds. Ours; the distance to one triangle as by Ericson, Real-Time
Collision Detection (2005), 5.1.5, but by way of its three sides, so that triangles without area are no exception.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.spatial import cKDTree

from sfm_jax.array_types import AnyArray, Triangles

_SEEDS = 4  # at most so many times more seeds than triangles
_FIRST = 4  # seeds whose triangles bound the distance of a cube's middle
_NEAREST = 8  # triangles of its cube that a point tries at first
_PAIRS = 2**21  # of a point and a triangle, or a cube and a seed, at once
_KNOWN = 2**23  # triangles of cubes that are kept
_WORTH = 4  # points a cube, from which on it is kept though it may never be asked again
_COMPILED = 2**18  # pairs in one compiled call, at most
_CUBES = 2**20  # in each direction from the middle; beyond, all triangles are tried


class ClosestPoints(NamedTuple):
    """points of the surface; their distances; triangles: which one each is on; barycentric: where. Double precision;
    which of two triangles is nearer is told in single precision of the mesh's size, 1e-5 mm."""

    points: Float[np.ndarray, "N 3"]
    distances: Float[np.ndarray, " N"]
    triangles: Int[np.ndarray, " N"]
    barycentric: Float[np.ndarray, "N 3"]


class Surface:
    """A triangle mesh in any unit, ready to be asked."""

    def __init__(self, vertices: Float[AnyArray, "V 3"], triangles: Triangles):
        self.vertices, self.triangles = np.asarray(vertices, np.float64), np.asarray(triangles)
        if not len(self.triangles):
            raise ValueError("triangles: the mesh has none, expected at least one")
        if not np.isfinite(self.vertices).all():
            raise ValueError("vertices: hold NaN or infinite numbers, expected finite ones")
        corners = self.vertices[self.triangles]
        self._middle = corners.mean((0, 1))  # of what is used: a vertex of no triangle may be anywhere
        corners -= self._middle
        a, b, c = corners.astype(np.float32).transpose(1, 2, 0)
        self._table = jnp.asarray(np.concatenate([a, b - a, c - a]))
        seeds, self._owner, self._radius = _seeds(corners)
        self._tree = cKDTree(seeds, balanced_tree=False)
        self._edge = 2 * self._radius / np.sqrt(3)  # half a cube's diagonal is the radius
        self._slack = 1e-5 * max(np.abs(corners).max(), self._radius)  # distances are known in single precision
        self._asked = False
        self._forget()

    @functools.cached_property
    def normals(self) -> Float[np.ndarray, "F 3"]:
        """Unit normals, outward for counter-clockwise triangles; zero for a triangle without area."""
        a, b, c = np.moveaxis(self.vertices[self.triangles], 1, 0)
        normal = np.cross(b - a, c - a)
        length = np.linalg.norm(normal, axis=1, keepdims=True)
        return np.divide(normal, length, out=np.zeros_like(normal), where=length > 0)

    @functools.cached_property
    def border(self) -> Bool[np.ndarray, "F 3"]:
        """Whether the side opposite to each corner belongs to this triangle alone."""
        sides = np.sort(self.triangles[:, [[1, 2], [2, 0], [0, 1]]].reshape(-1, 2), axis=1).astype(np.int64)
        _, which, count = np.unique(sides @ [len(self.vertices), 1], return_inverse=True, return_counts=True)
        return (count[which] == 1).reshape(-1, 3)

    @functools.cached_property
    def _rim(self):
        """[V] bool: whether a vertex ends a side that belongs to one triangle alone."""
        rim = np.zeros(len(self.vertices), bool)
        for corner in range(3):
            rim[np.delete(self.triangles, corner, axis=1)[self.border[:, corner]]] = True
        return rim

    def closest(self, points: Float[AnyArray, "N 3"]) -> ClosestPoints:
        """The closest point to each of points. ValueError, naming the row, where one is not finite."""
        points = np.asarray(points, np.float64)
        check_points(points)
        triangle = self._nearest_triangles(points - self._middle)
        # The triangle is found in single precision, the place on it in double.
        a, b, c = self.vertices[self.triangles[triangle]].transpose(1, 2, 0)
        squared, v, w = _point_triangle(points.T - a, b - a, c - a, np)
        found = (a + v * (b - a) + w * (c - a)).T
        return ClosestPoints(found, np.sqrt(squared), triangle, np.column_stack([1 - v - w, v, w]))

    def on_border(self, closest: ClosestPoints) -> Bool[np.ndarray, " N"]:
        """Whether a closest point is on the rim of the mesh, where the surface that was meant has ended."""
        at_side = self.border[closest.triangles] & (closest.barycentric < 1e-6)
        # At a corner that many triangles share, the one that is told may have no side on the rim.
        at_corner = self._rim[self.triangles[closest.triangles]] & (closest.barycentric > 1 - 1e-6)
        return (at_side | at_corner).any(1)

    def _nearest_triangles(self, points):
        """The nearest triangle [N] to each of points [N, 3]: cube by cube, or else by `_search`."""
        cube = np.clip(np.floor(points / self._edge), -_CUBES, _CUBES - 1).astype(np.int64)
        name = ((cube[:, 0] + _CUBES) << 42) | ((cube[:, 1] + _CUBES) << 21) | (cube[:, 2] + _CUBES)
        order = np.argsort(name, kind="stable")
        first = np.flatnonzero(np.diff(name[order], prepend=-1))
        new, self._asked = not self._asked, True
        if new and _WORTH * len(first) > len(points):
            return self._search(points)
        count, triangle = np.diff(first, append=len(order)), np.empty(len(points), np.int64)
        for group, place in self._known(name[order[first]], cube[order[first]]):
            rows = order[_ranges(first[group], count[group])]
            middle = (cube[rows] + 0.5) * self._edge
            triangle[rows] = self._nearest(points[rows], middle, np.repeat(place, count[group]))
        return triangle

    def _search(self, points):
        """The nearest triangle [N] to each of points [N, 3], of which nothing is kept: where few share a cube, and the
        surface may never be asked again, as one that moves, looking up its triangles costs more than it saves."""
        reach = self._at_most(self._bound(points)) + self._radius
        count = self._tree.query_ball_point(points, reach, return_length=True, workers=-1)
        by_count, triangle = np.argsort(count, kind="stable"), np.empty(len(points), np.int64)
        for part in _portions(count[by_count]):
            rows = by_count[part]
            seeds = self._tree.query_ball_point(points[rows], reach[rows], return_sorted=False, workers=-1)
            owner = self._owner[np.concatenate(seeds).astype(np.int64)]
            triangle[rows] = self._least(owner, np.cumsum(count[rows]) - count[rows], count[rows], points[rows])[1]
        return triangle

    def _bound(self, points):
        """How far the surface is from points [N, 3] at most: as far as the triangles of the first seeds, [N]."""
        seeds = min(_FIRST, len(self._owner))
        tried = self._owner[self._tree.query(points, k=np.arange(1, seeds + 1), workers=-1)[1]]
        rows = np.arange(len(points))
        return self._least(tried.ravel(), rows * seeds, np.full(len(points), seeds), points)[0]

    def _forget(self):
        """No cube is known: of each, its place in the tables below; of each place, the first of its triangles and how
        many they are; of each of these, by distance from the middle: its number, and place << 32 | bits of distance."""
        self._places = {}
        self._first, self._count, self._keys = (np.zeros(0, np.int64) for _ in range(3))
        self._candidates = np.zeros(0, np.int32)

    def _known(self, name, cube):
        """Groups of the cubes, rows of name [C] and cube [C, 3], that are known by the time they come, and places."""
        place = np.array([self._places.get(each, -1) for each in name.tolist()])
        if (place >= 0).any():
            yield np.flatnonzero(place >= 0), place[place >= 0]
        unknown = np.flatnonzero(place < 0)
        if not len(unknown):
            return
        middle = (cube[unknown] + 0.5) * self._edge
        reach = self._at_most(self._bound(middle) + 2 * self._radius)
        reach[(np.abs(cube[unknown] + 0.5) > _CUBES - 1).any(1)] = np.inf
        count = self._tree.query_ball_point(middle, reach + self._radius, return_length=True, workers=-1)
        by_count = np.argsort(count, kind="stable")
        for part in _portions(count[by_count]):
            chosen = by_count[part]
            yield unknown[chosen], self._learn(name[unknown[chosen]], middle[chosen], reach[chosen])

    def _learn(self, name, middle, reach):
        """The places of new cubes name [M] around middle [M, 3], whose triangles are those within reach [M] of it."""
        if len(self._candidates) > _KNOWN:
            self._forget()
        place = len(self._places) + np.arange(len(name))
        seeds = self._tree.query_ball_point(middle, reach + self._radius, return_sorted=False, workers=-1)
        row = np.repeat(np.arange(len(name)), [len(each) for each in seeds])
        pair = np.sort((row << 32) | self._owner[np.concatenate(seeds).astype(np.int64)])
        pair = pair[np.diff(pair, prepend=-1) > 0]  # each triangle but once
        row, owner = pair >> 32, (pair & (2**32 - 1)).astype(np.int32)
        squared = self._squared(owner, row, middle)
        near = np.sqrt(squared.astype(np.float64)) <= reach[row]
        row, owner, squared = row[near], owner[near], squared[near]
        keys = _keys(place[row], squared)
        order = np.argsort(keys)
        count = np.bincount(row, minlength=len(name))
        self._first = np.append(self._first, len(self._keys) + np.cumsum(count) - count)
        self._count = np.append(self._count, count)
        self._keys = np.append(self._keys, keys[order])
        self._candidates = np.append(self._candidates, owner[order])
        self._places.update(zip(name.tolist(), place.tolist(), strict=True))
        return place

    def _nearest(self, points, middle, place):
        """The nearest triangle [N] to each of points [N, 3], in cubes around middle [N, 3] at place [N]."""
        first, count = self._first[place], self._count[place]
        few = np.minimum(count, _NEAREST)
        distance, triangle = self._least(self._candidates, first, few, points)
        # What is farther from the middle than this is farther from the point than what was found.
        limit = self._at_most(distance + np.linalg.norm(points - middle, axis=1))
        last = np.searchsorted(self._keys, _keys(place, np.square(limit).astype(np.float32)), side="right")
        more = np.flatnonzero(last > first + few)
        if len(more):
            begin = (first + few)[more]
            also, other = self._least(self._candidates, begin, last[more] - begin, points[more])
            triangle[more] = np.where(also < distance[more], other, triangle[more])
        return triangle

    def _at_most(self, distance):
        return distance * (1 + 1e-5) + self._slack

    def _least(self, candidates, first, count, points):
        """Distance and triangle [N], of the nearest to points [N, 3] of candidates[first : first + count], each [N]."""
        best, triangle = np.empty(len(points), np.float32), np.zeros(len(points), np.int64)
        for part in _portions(count):
            length = count[part]
            row = np.repeat(np.arange(len(length)), length)
            owner = candidates[_ranges(first[part], length)]
            squared = self._squared(owner, row, points[part])
            best[part] = np.minimum.reduceat(squared, np.cumsum(length) - length)
            hits = np.flatnonzero(squared == best[part][row])
            triangle[part][row[hits]] = owner[hits]
        return np.sqrt(best.astype(np.float64)), triangle

    def _squared(self, owner, row, points):
        """Squared distances [P] of triangles owner [P] from the rows [P] of points [N, 3]; single precision."""
        padded = np.zeros((3, _power(len(points))), np.float32)  # few sizes: each one is compiled
        padded[:, :len(points)] = points.T
        padded, size = jnp.asarray(padded), min(_power(len(owner)), _COMPILED)
        parts = []
        for begin in range(0, len(owner), size):
            pair = np.zeros((2, size), np.int32)
            chosen = slice(begin, begin + size)
            pair[:, :len(owner[chosen])] = owner[chosen], row[chosen]
            parts.append(_squared_distances(self._table, padded, *pair))
        return np.concatenate([np.asarray(part) for part in parts])[:len(owner)]


def closest_points(
    points: Float[AnyArray, "N 3"], vertices: Float[AnyArray, "V 3"], triangles: Triangles
) -> ClosestPoints:
    """The closest points of one mesh to points: `Surface` for those who ask once."""
    return Surface(vertices, triangles).closest(points)


def sample_surface(
    vertices: Float[AnyArray, "V 3"], triangles: Triangles, count: int, rng: np.random.Generator
) -> ClosestPoints:
    """`count` points, uniform over the area of a mesh (Osada et al., TOG 21(4) 2002); their distances are 0."""
    a, b, c = np.moveaxis(np.asarray(vertices, np.float64)[triangles], 1, 0)
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    if not area.sum() > 0:
        raise ValueError("triangles: have no area, so no points are on them")
    chosen = rng.choice(len(triangles), count, p=area / area.sum())
    root, along = np.sqrt(rng.random(count)), rng.random(count)
    weights = np.column_stack([1 - root, root * (1 - along), root * along])
    points = np.einsum("nk,nkc->nc", weights, np.stack([a, b, c], 1)[chosen])
    return ClosestPoints(points, np.zeros(count), chosen, weights)


def check_points(points: Float[AnyArray, "..."], name: str = "points") -> None:
    """ValueError unless points are [N, 3] with N > 0 and finite."""
    if points.ndim != 2 or points.shape[1] != 3 or not len(points):
        raise ValueError(f"{name}: found shape {points.shape}, expected [N, 3]")
    if not np.isfinite(points).all():
        row = int(np.argmin(np.isfinite(points).all(1)))
        raise ValueError(f"{name}: row {row} is {points[row].tolist()}, expected finite numbers")


def _seeds(corners):
    """seeds [S, 3] of triangles [F, 3, 3], the triangle [S] of each, and the radius within which they cover them."""
    radius = np.linalg.norm(corners - corners.mean(1, keepdims=True), axis=2).max(1)
    limit = np.median(radius)
    if limit <= 0:
        limit = max(radius.max(), np.finfo(float).tiny)
    while (np.maximum(np.ceil(radius / limit), 1) ** 2).sum() > _SEEDS * len(corners):
        limit *= 1.25
    pieces = np.maximum(np.ceil(radius / limit), 1).astype(int)
    seeds, owners = [], []
    for n in np.unique(pieces):
        rows = np.flatnonzero(pieces == n)
        centres = _piece_centres(n)
        seeds.append(np.einsum("sk,fkc->fsc", centres, corners[rows]).reshape(-1, 3))
        owners.append(np.repeat(rows, len(centres)))
    return np.concatenate(seeds), np.concatenate(owners).astype(np.int32), (radius / pieces).max()


def _piece_centres(n):
    """Barycentric centroids [n^2, 3] of the n^2 congruent pieces of a triangle."""
    i, j = np.divmod(np.arange(n * n), n)
    upright, turned = i + j < n, i + j < n - 1
    first = np.column_stack([i[upright] + 1 / 3, j[upright] + 1 / 3])
    second = np.column_stack([i[turned] + 2 / 3, j[turned] + 2 / 3])
    two = np.concatenate([first, second]) / n
    return np.column_stack([1 - two.sum(1), two])


def _keys(place, squared):
    """place << 32 | bits of squared distances: sorted by both, for the bits of positive numbers are in their order."""
    return (place << 32) | squared.view(np.int32)


def _ranges(first, count):
    """first[0], first[0] + 1, .., `count[0]` of them, then those of first[1], and so on."""
    return np.arange(count.sum()) + np.repeat(first - (np.cumsum(count) - count), count)


def _portions(count):
    """Slices of `count` [N] that follow each other, each of one entry or a sum of at most _PAIRS."""
    total, begin = np.cumsum(count), 0
    while begin < len(count):
        done = total[begin - 1] if begin else 0
        end = max(np.searchsorted(total, done + _PAIRS, side="right"), begin + 1)
        yield slice(begin, end)
        begin = end


def _power(count):
    return max(1 << (count - 1).bit_length(), 1024)


@jax.jit
def _squared_distances(table, points, owner, row):
    """Squared distances [P] of triangles owner [P], columns of the table [9, F] of a, b - a, c - a, from points [3, N],
    the one in column row [P]."""
    # Component by component: gathers of whole triangles are several times slower on CPUs.
    a, ab, ac = jnp.split(jnp.stack([each.at[owner].get(mode="promise_in_bounds") for each in table]), 3)
    chosen = jnp.stack([each.at[row].get(mode="promise_in_bounds") for each in points])
    return _point_triangle(chosen - a, ab, ac, jnp)[0]


def _point_triangle(ap, ab, ac, xp):
    """Squared distance [..] of p from the triangle a, b, c, and v, w [..] of its closest point a + v ab + w ac, given
    p - a, b - a, c - a, each [3, ..]. The nearest of four: on each side, and above the inside where there is one.
    `xp` is the array library, NumPy or jax.numpy."""
    def dot(x, y):
        return x[0] * y[0] + x[1] * y[1] + x[2] * y[2]

    def divided(x, y, allowed):
        return xp.where(allowed, x / xp.where(allowed, y, 1), 0)

    def share(product, squared):
        return xp.clip(divided(product, squared, squared > 0), 0, 1)

    bb, bc, cc, pb, pc = dot(ab, ab), dot(ab, ac), dot(ac, ac), dot(ap, ab), dot(ap, ac)
    area = bb * cc - bc * bc
    v, w = cc * pb - bc * pc, bb * pc - bc * pb
    inside = (v > 0) & (w > 0) & (v + w < area)
    along, zero = share(pc - pb - bc + bb, bb + cc - 2 * bc), xp.zeros_like(v)
    places = [(divided(v, area, inside), divided(w, area, inside)), (share(pb, bb), zero), (zero, share(pc, cc)),
              (1 - along, along)]
    best = zero + xp.inf, zero, zero
    for v, w in places:
        away = ap - v * ab - w * ac
        squared = dot(away, away)
        best = tuple(xp.where(squared < best[0], x, y) for x, y in zip((squared, v, w), best, strict=True))
    return best
