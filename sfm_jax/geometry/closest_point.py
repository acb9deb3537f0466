"""The closest point of a triangle mesh to each of many points: exact, on the host.

Every triangle is covered by seeds: the centroids of the congruent pieces it is cut into, each piece within one radius R
of its seed. A triangle none of whose seeds lies within r of a point is then at least r - R away from it. So the
triangles of a point's k nearest seeds (SciPy's k-d tree) are tried exactly, and k is doubled for the points whose
distance d is not yet proven, d <= r_k - R. Points that are dense are asked for in blocks of neighbours: a few triangles
bound the distances of a block, by d at most, and all triangles are tried that have a seed within d + R of the block,
looked up once for all its points. Ours; the distance to one triangle as by Ericson, Real-Time Collision Detection
(2005), 5.1.5, but by way of its three sides, so that triangles without area are no exception.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.spatial import cKDTree

_STEP = 32  # seeds tried at first, and in one compiled call
_SEEDS = 4  # at most so many times more seeds than triangles
_CHUNK = 2**19  # pairs of a point and a seed at once
_BLOCK = 16  # points
_FIRST = 8  # seeds whose triangles bound the distances of a block
_ROWS = 1024  # blocks in one compiled call


class ClosestPoints(NamedTuple):
    """points [N, 3] of the surface; distances [N]; triangles [N] int, which one each is on; barycentric [N, 3], where.
    Double precision; which of two triangles is nearer is told in single precision of the mesh's size, 1e-5 mm."""

    points: np.ndarray
    distances: np.ndarray
    triangles: np.ndarray
    barycentric: np.ndarray


class Surface:
    """A triangle mesh, ready to be asked: vertices [V, 3], triangles [F, 3] int; any unit."""

    def __init__(self, vertices: np.ndarray, triangles: np.ndarray):
        self.vertices, self.triangles = np.asarray(vertices, np.float64), np.asarray(triangles)
        if not len(self.triangles):
            raise ValueError("triangles: the mesh has none, expected at least one")
        if not np.isfinite(self.vertices).all():
            raise ValueError("vertices: hold NaN or infinite numbers, expected finite ones")
        self._middle = self.vertices.mean(0)
        corners = self.vertices[self.triangles] - self._middle
        a, b, c = corners.astype(np.float32).transpose(1, 2, 0)
        self._table = np.concatenate([a, b - a, c - a])
        seeds, self._owner, self._radius = _seeds(corners)
        self._tree = cKDTree(seeds, balanced_tree=False)

    @functools.cached_property
    def normals(self) -> np.ndarray:
        """Unit normals [F, 3], outward for counter-clockwise triangles; zero for a triangle without area."""
        a, b, c = np.moveaxis(self.vertices[self.triangles], 1, 0)
        normal = np.cross(b - a, c - a)
        length = np.linalg.norm(normal, axis=1, keepdims=True)
        return np.divide(normal, length, out=np.zeros_like(normal), where=length > 0)

    @functools.cached_property
    def border(self) -> np.ndarray:
        """[F, 3] bool: whether the side opposite to each corner belongs to this triangle alone."""
        sides = np.sort(self.triangles[:, [[1, 2], [2, 0], [0, 1]]].reshape(-1, 2), axis=1).astype(np.int64)
        _, which, count = np.unique(sides @ [len(self.vertices), 1], return_inverse=True, return_counts=True)
        return (count[which] == 1).reshape(-1, 3)

    def closest(self, points: np.ndarray) -> ClosestPoints:
        """The closest point to each of points [N, 3]. ValueError, naming the row, where one is not finite."""
        points = np.asarray(points, np.float64)
        check_points(points)
        local = points - self._middle
        best, triangle = np.full(len(points), np.inf), np.zeros(len(points), np.int64)
        blocks, left = _blocks(local, 2 * self._radius)
        if len(blocks):
            triangle[blocks] = self._nearest(local[blocks])
        tried, count = 0, min(_STEP, len(self._owner))
        while len(left) and tried < count:
            rows = max(_CHUNK // (count - tried), 1)
            proven = []
            for begin in range(0, len(left), rows):
                part = left[begin:begin + rows]
                reach, distance, owner = self._try(local[part], tried, count)
                nearer = distance < best[part]
                changed = part[nearer]
                best[changed], triangle[changed] = distance[nearer], owner[nearer]
                proven.append(best[part] <= reach)
            left = left[~np.concatenate(proven)]
            tried, count = count, min(2 * count, len(self._owner))
        # The triangle is found in single precision, the place on it in double.
        a, b, c = self.vertices[self.triangles[triangle]].transpose(1, 2, 0)
        squared, v, w = _point_triangle(points.T - a, b - a, c - a, np)
        found = (a + v * (b - a) + w * (c - a)).T
        return ClosestPoints(found, np.sqrt(squared), triangle, np.column_stack([1 - v - w, v, w]))

    def on_border(self, closest: ClosestPoints) -> np.ndarray:
        """[N] bool: whether a closest point is on the rim of the mesh, where the surface that was meant has ended."""
        return (self.border[closest.triangles] & (closest.barycentric < 1e-6)).any(1)

    def _try(self, points, first, last):
        """Of points [N, 3], by the triangles of the first-th to the last-th nearest seeds: the distance [N] up to which
        no other can be nearer, and the distance and triangle of the nearest of these."""
        away, seeds = self._tree.query(points, k=np.arange(first + 1, last + 1), workers=-1)
        count, size = len(points), max(1 << (len(points) - 1).bit_length(), 1024)  # few sizes: each one is compiled
        owners = np.zeros((-(-(last - first) // _STEP) * _STEP, size), np.int32)
        owners[:last - first, :count] = self._owner[seeds.T]
        padded = np.zeros((3, size, 1), np.float32)
        padded[:, :count, 0] = points.T
        best = np.full((size, 1), np.inf, np.float32), owners[0][:, None]
        for row in range(0, len(owners), _STEP):
            best = _nearer(self._table, owners[row:row + _STEP], padded, best)
        squared, owner = (np.asarray(x)[:count, 0] for x in best)
        return away[:, -1] - self._radius, np.sqrt(squared), owner

    def _nearest(self, points):
        """The nearest triangle [M, B] of each of points [M, B, 3], M blocks of neighbours."""
        middle = (points.max(1) + points.min(1)) / 2
        first = self._tree.query(middle, k=np.arange(1, min(_FIRST, len(self._owner)) + 1), workers=-1)[1]
        found = np.empty(points.shape[:2], np.int64)
        reach = np.empty(len(points))
        for begin in range(0, len(points), _ROWS):
            part = slice(begin, begin + _ROWS)
            distance, _ = self._try_blocks(points[part], self._owner[first[part]])
            reach[part] = (distance + np.linalg.norm(points[part] - middle[part, None], axis=2)).max(1)
        reach = reach * (1 + 1e-5) + self._radius * (1 + 1e-5)  # what is known of distances is in single precision
        count = self._tree.query_ball_point(middle, reach, return_length=True, workers=-1)
        order, begin = np.argsort(count, kind="stable"), 0  # alike ones together: short rows are padded
        while begin < len(order):
            rows = min(_ROWS, len(order) - begin)
            rows = min(rows, max(_CHUNK * 4 // count[order[begin + rows - 1]], 1))
            part = order[begin:begin + rows]
            seeds = self._tree.query_ball_point(middle[part], reach[part], return_sorted=False, workers=-1)
            owners = self._owner[np.concatenate(seeds).astype(np.int64)]
            _, found[part] = self._try_blocks(points[part], _each_once(owners, count[part]))
            begin += rows
        return found

    def _try_blocks(self, points, owners):
        """Distance and triangle [M, B], of the nearest of triangles owners [M, k] to points [M, B, 3]; M <= _ROWS."""
        count, width = len(points), -(-owners.shape[1] // _STEP) * _STEP
        padded = np.zeros((3, _ROWS, points.shape[1]), np.float32)  # one shape: it is compiled
        padded[:, :count] = points.transpose(2, 0, 1)
        tried = np.zeros((width, _ROWS), np.int32)
        tried[:, :count] = np.pad(owners, ((0, 0), (0, width - owners.shape[1])), mode="edge").T
        best = np.full(padded.shape[1:], np.inf, np.float32), np.zeros(padded.shape[1:], np.int32)
        for row in range(0, width, _STEP):
            best = _nearer(self._table, tried[row:row + _STEP], padded, best)
        squared, owner = (np.asarray(x)[:count] for x in best)
        return np.sqrt(squared.astype(np.float64)), owner


def closest_points(points: np.ndarray, vertices: np.ndarray, triangles: np.ndarray) -> ClosestPoints:
    """The closest points of one mesh to points [N, 3]: `Surface` for those who ask once."""
    return Surface(vertices, triangles).closest(points)


def sample_surface(vertices: np.ndarray, triangles: np.ndarray, count: int, rng: np.random.Generator) -> ClosestPoints:
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


def check_points(points: np.ndarray, name: str = "points") -> None:
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


def _blocks(points, limit):
    """Rows of points [N, 3]: blocks [M, _BLOCK] of neighbours within `limit` of their middle, and the others [L]."""
    order = cKDTree(points, leafsize=_BLOCK, balanced_tree=False).indices
    blocks = order[:len(order) // _BLOCK * _BLOCK].reshape(-1, _BLOCK)
    dense = np.linalg.norm(np.ptp(points[blocks], axis=1), axis=1) <= 2 * limit
    return blocks[dense], np.concatenate([blocks[~dense].ravel(), order[blocks.size:]])


def _each_once(owners, count):
    """[M, k]: of each of M rows its owners, `count` [M] of them, each but once; filled up with its last."""
    row = np.repeat(np.arange(len(count)), count)
    key = np.sort((row << 32) | owners)
    key = key[np.append(True, np.diff(key) > 0)]
    row, owner = key >> 32, key & (2**32 - 1)
    count = np.bincount(row, minlength=len(count))
    place = np.minimum(np.arange(count.max()), count[:, None] - 1)
    return owner[place + (np.cumsum(count) - count)[:, None]]


@jax.jit
def _nearer(table, owners, points, best):
    """The nearest to points [3, M, B] of triangles owners [k, M], columns of the table [9, F] of a, b - a, c - a, and
    of `best`: squared distance and triangle, [M, B]."""
    def step(best, owner):
        # Component by component: gathers of whole triangles are several times slower on CPUs.
        gathered = jnp.stack([part.at[owner].get(mode="promise_in_bounds") for part in table])
        a, ab, ac = jnp.split(gathered[:, :, None], 3)
        squared, _, _ = _point_triangle(points - a, ab, ac, jnp)
        nearer = squared < best[0]
        return (jnp.where(nearer, squared, best[0]), jnp.where(nearer, owner[:, None], best[1])), None

    return jax.lax.scan(step, best, owners)[0]


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
