"""Errors of predicted meshes against scans: the protocols of NoW, MICC, FaceScape and REALY, on arrays.

Scans and meshes are aligned first, as each protocol says, so that these are errors of shape. Millimetres: what a scan's
unit is, the distances are; a prediction may have any where its scale is aligned.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy.sparse

from sfm_jax.geometry.closest_point import Surface, check_points, sample_surface
from sfm_jax.geometry.icp import IDENTITY, IcpReport, Similarity, icp, similarity_between
from sfm_jax.geometry.smooth_field import place_matrix, smooth_field, umbrella_matrix

# Outer and inner corner of the right eye, inner and outer of the left, base of the nose, corners of the mouth (iBUG).
NOW_LANDMARKS = (36, 39, 42, 45, 33, 48, 54)
MICC_RADIUS = 95.0  # mm around the tip of the nose
_STILL = 1e-6  # mm^2
_FLAT = 1e-6  # of a mesh's extent: triangles that are lower, single precision does not tell from a line


class ScanErrors(NamedTuple):
    """distances [n] of the points that count, in the scan's unit; rows [n], which of the scan's points they are; motion
    from the mesh's axes to the scan's; report of the alignment."""

    distances: np.ndarray
    rows: np.ndarray
    motion: Similarity
    report: IcpReport


def check_neutral(expression: np.ndarray | None, tolerance: float = 1e-6) -> None:
    """ValueError where expression codes [..., E] of a prediction are not zero: NoW and MICC compare neutral faces."""
    largest = 0.0 if expression is None else float(np.max(np.abs(expression), initial=0.0))
    if not largest <= tolerance:
        raise ValueError(f"expression: found a code of {largest:.3g}, expected 0: the scan is a neutral face, "
                         "decode the identity alone")


def with_area(surface: Surface, name: str = "triangles") -> Surface:
    """The surface without its triangles that are lines or points: where one of them is the closest, it has no normal
    to measure along. Their neighbours cover the same places.

    ValueError, of that name, where none is left.
    """
    corners = surface.vertices[surface.triangles]
    sides = corners - np.roll(corners, 1, axis=1)
    doubled = np.linalg.norm(np.cross(sides[:, 0], sides[:, 1]), axis=1)
    flat = doubled <= _FLAT * np.ptp(corners, axis=(0, 1)).max() * np.linalg.norm(sides, axis=2).max(1)
    if flat.all():
        raise ValueError(f"{name}: found none with an area, expected a surface")
    return Surface(surface.vertices, surface.triangles[~flat]) if flat.any() else surface


# ---------------------------------------------------------------------------------------------- NoW

def now_crop(landmarks: np.ndarray) -> tuple[np.ndarray, float]:
    """Centre [3] and radius of the ball of a scan that NoW looks at, from its landmarks [7, 3]: about the lower third
    of the nose, 0.7 (outer eye distance + length of the nose)."""
    landmarks = _seven(landmarks, "scan_landmarks")
    base, bridge = landmarks[4], (landmarks[1] + landmarks[2]) / 2
    eyes, nose = np.linalg.norm(landmarks[0] - landmarks[3]), np.linalg.norm(bridge - base)
    return base + 0.3 * (bridge - base), 0.7 * float(eyes + nose)


def now_errors(scan: np.ndarray, scan_landmarks: np.ndarray, vertices: np.ndarray, triangles: np.ndarray,
               landmarks: np.ndarray, *, expression: np.ndarray | None = None, metrical: bool = False,
               samples: int | None = 3000) -> ScanErrors:
    """The NoW challenge: distances of a scan's vertices to a predicted neutral mesh.

    Sanyal et al., CVPR 2019, as github.com/soubhiksanyal/now_evaluation computes it: the mesh is moved onto the scan by
    seven landmarks with scale, then the scan is cropped (`now_crop`) and the mesh moved on, with scale, by minimising
    the squared distances of the scan's vertices to it; the distances that remain count, without sign. Where that code
    runs a dogleg over all vertices, here Levenberg's steps run over `samples` of them, drawn once.

    Args:
      scan: [N, 3] vertices, millimetres.
      scan_landmarks: [7, 3] of the scan, in the order of NOW_LANDMARKS.
      vertices, triangles: [V, 3], [F, 3] of the predicted mesh, any unit unless `metrical`.
      landmarks: [7, 3] of the predicted mesh.
      expression: codes that the prediction carries; refused unless zero. A mesh alone does not tell.
      metrical: the metrical challenge: sizes count, so no scale is aligned; vertices in millimetres.
      samples: of the scan, for the alignment; None: all.
    """
    check_neutral(expression)
    scan = np.asarray(scan, np.float64)
    check_points(scan, "scan")
    start = similarity_between(_seven(landmarks, "landmarks"), _seven(scan_landmarks, "scan_landmarks"),
                               scale=not metrical)
    centre, radius = now_crop(scan_landmarks)
    return _errors(with_area(Surface(vertices, triangles)), scan, centre, radius, start, not metrical, samples)


def summary(distances: Sequence[np.ndarray]) -> dict[str, float]:
    """median, mean and std over the points of all scans together, as NoW's table has them."""
    together = np.concatenate([np.ravel(each) for each in distances])
    return {"median": float(np.median(together)), "mean": float(together.mean()), "std": float(together.std())}


def cumulative_curve(distances: Sequence[np.ndarray], limits: np.ndarray) -> np.ndarray:
    """Percentage [L] of the points of all scans that are within each of limits [L]."""
    together = np.sort(np.concatenate([np.ravel(each) for each in distances]))
    return 100.0 * np.searchsorted(together, limits, side="right") / len(together)


# --------------------------------------------------------------------------------------------- MICC

def micc_errors(scan: np.ndarray, nose_tip: np.ndarray, surface: Surface, start: Similarity, *,
                expression: np.ndarray | None = None, radius: float = MICC_RADIUS,
                samples: int | None = 3000) -> ScanErrors:
    """MICC Florence as Deep3D reports it: point-to-plane distances of a scan to a predicted mesh.

    Deng et al., CVPRW 2019, after Genova et al., CVPR 2018: the scan is cropped to 95 mm around the tip of its nose,
    the mesh aligned by ICP with isotropic scale, and what counts is the distance along the normal of the closest
    triangle. One direction, scan to mesh. surface: the predicted mesh; `start`, from its axes to the scan's, is of
    landmarks (`similarity_between`). The other arguments are as in `now_errors`.
    """
    check_neutral(expression)
    scan, nose_tip = np.asarray(scan, np.float64), np.asarray(nose_tip, np.float64)
    check_points(scan, "scan")
    surface = with_area(surface)
    found = _errors(surface, scan, nose_tip, radius, start, True, samples)
    points = found.motion.undo(scan[found.rows])
    closest = surface.closest(points)
    along = np.abs(((points - closest.points) * surface.normals[closest.triangles]).sum(1))
    return found._replace(distances=found.motion.scale * along)


# ----------------------------------------------------------------------------------------- FaceScape

class SurfaceErrors(NamedTuple):
    """chamfer: mean of the mean distances there and back; normals: mean angle in degrees between the truth's normals
    and those of the prediction at the closest points; completeness: share of the truth within reach."""

    chamfer: float
    normals: float
    completeness: float


def surface_errors(predicted: tuple[np.ndarray, np.ndarray], truth: tuple[np.ndarray, np.ndarray], reach: float = 10.0,
                   samples: int = 20_000, seed: int = 0) -> SurfaceErrors:
    """Two aligned meshes, each (vertices [V, 3], triangles [F, 3]), by the three measures of the FaceScape benchmark.

    Zhu et al., TPAMI 2023: Chamfer distance, mean normal error, completeness. They compare in maps around the
    head; here points uniform over either surface are compared with their closest points, so that no map's resolution
    or seam matters. Points farther than `reach` from the other surface are what completeness counts, and nothing else.
    """
    rng = np.random.default_rng(seed)
    surfaces = with_area(Surface(*predicted)), with_area(Surface(*truth))
    points = [sample_surface(each.vertices, each.triangles, samples, rng) for each in surfaces]
    there, back = surfaces[1].closest(points[0].points), surfaces[0].closest(points[1].points)
    near = back.distances <= reach
    if not near.any() or not (there.distances <= reach).any():
        raise ValueError(f"predicted: no point is within {reach:g} of the truth: are the meshes aligned?")
    cosine = (surfaces[1].normals[points[1].triangles] * surfaces[0].normals[back.triangles]).sum(1)[near]
    return SurfaceErrors(
        chamfer=float((there.distances[there.distances <= reach].mean() + back.distances[near].mean()) / 2),
        normals=float(np.degrees(np.arccos(np.clip(cosine, -1, 1))).mean()),
        completeness=float(near.mean()))


# -------------------------------------------------------------------------------------------- REALY

class RegionErrors(NamedTuple):
    """distances [n] of a region's vertices to their corresponding places; places [n, 3] on the aligned mesh."""

    distances: np.ndarray
    places: np.ndarray


def onto_region(surface: Surface, region: np.ndarray, keypoints: np.ndarray, predicted_keypoints: np.ndarray,
                start: Similarity = IDENTITY, share: float = 1.0, iterations: int = 100) -> Similarity:
    """REALY's rigid motion of a predicted surface onto a region [n, 3] of a scan, without scale: by closest points, and
    by keypoints [P, 3], which weigh `share` times as much as the region together, each a whole number of times.

    As github.com/czh-98/REALY has it: the end is a change of the mean squared error, over all, by less than 1e-6; the
    last step is not taken.
    """
    weight = float(int(share * len(region) / max(len(keypoints), 1)))
    weights = np.concatenate([np.ones(len(region)), np.full(len(keypoints), weight)])
    target, motion, before = np.concatenate([region, keypoints]), start, np.inf
    for _ in range(iterations):
        source = np.concatenate([surface.closest(motion.undo(region)).points, predicted_keypoints])
        new = similarity_between(source, target, weights)
        error = np.average(np.square(new.apply(source) - target).sum(1), weights=weights)
        if abs(error - before) < _STILL:
            break
        motion, before = new, error
    return motion


def region_errors(region: np.ndarray, region_triangles: np.ndarray, keypoints: np.ndarray, surface: Surface,
                  predicted_keypoints: np.ndarray, motion: Similarity, stiffness: float = 50.0,
                  keypoint_weight: float = 50.0) -> RegionErrors:
    """REALY's error of one region (nose, mouth, forehead or cheek) of a scan.

    Chai et al., ECCV 2022: the surface has been moved onto the region (`onto_region`); the region is deformed onto it,
    so that corresponding places are found (closest points alone are too kind); the distances of the region as it was
    to those places count. Their deformation is a non-rigid ICP of local affine frames; here a field with an umbrella
    Laplacian prior, of the same purpose but not the same numbers.

    Args:
      region: [n, 3] vertices of the scan's region and region_triangles [f, 3]; millimetres.
      keypoints: [P, 3] of the scan's region, predicted_keypoints [P, 3] of the surface; P may be 0 (REALY's cheek).
      surface: the predicted mesh, in millimetres.
      motion: of the surface onto the region.
      stiffness: weight of the field's Laplacian; keypoint_weight: of a keypoint; a vertex weighs 1.
    """
    region, keypoints = np.asarray(region, np.float64), np.asarray(keypoints, np.float64).reshape(-1, 3)
    predicted_keypoints = np.asarray(predicted_keypoints, np.float64).reshape(-1, 3)
    check_points(region, "region")
    at = motion.undo(region)
    field, weights = surface.closest(at).points - at, np.ones(len(region))
    pulls = scipy.sparse.identity(len(region), format="csr")
    if len(keypoints):
        nearest = Surface(region, region_triangles).closest(keypoints)
        pulls = scipy.sparse.vstack([pulls, place_matrix(region_triangles, nearest.triangles, nearest.barycentric,
                                                         len(region))])
        weights = np.append(weights, np.full(len(keypoints), keypoint_weight))
        field = np.concatenate([field, predicted_keypoints - motion.undo(nearest.points)])
    deformed = at + smooth_field(pulls, field, weights, umbrella_matrix(region_triangles, len(region)), stiffness)
    places = motion.apply(surface.closest(deformed).points)
    return RegionErrors(np.linalg.norm(places - region, axis=1), places)


def _errors(surface, scan, centre, radius, start, scale, samples):
    rows = np.flatnonzero(np.linalg.norm(scan - centre, axis=1) <= radius)
    if len(rows) < 4:
        raise ValueError(f"scan: {len(rows)} points are within {radius:.3g} of the face's middle, expected thousands: "
                         "do scan and landmarks have one unit?")
    points = scan[rows]
    chosen = np.random.default_rng(0).permutation(points)[:samples]
    # Most of the way with a quarter of them.
    start = icp(surface, chosen[:max(len(chosen) // 4, 500)], start, scale=scale, tolerance=1e-3).motion
    result = icp(surface, chosen, start, scale=scale, tolerance=1e-4)
    distances = surface.closest(result.motion.undo(points)).distances * result.motion.scale
    return ScanErrors(distances, rows, result.motion, result.report)


def _seven(landmarks, name):
    landmarks = np.asarray(landmarks, np.float64)
    if landmarks.shape != (7, 3) or not np.isfinite(landmarks).all():
        raise ValueError(f"{name}: found shape {landmarks.shape}, expected (7, 3) finite numbers")
    return landmarks
