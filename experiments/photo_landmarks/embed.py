"""Tie the detector's 468 points to the embedded face model: sfm_jax/assets/face_points.npz.

    python -m experiments.photo_landmarks.embed [--check]

Takes about two minutes. Clean portraits of half of the embedded population are shown to the detector. Where a point
lies on the surface is averaged over them, on one face, then moved to where its projections are nearest to the
detections. What remains is the point's spread, and decides how much it counts. `--check` makes it all again and
compares with the committed asset.
"""

import argparse

import numpy as np
import trimesh

from experiments.photo_landmarks.portraits import Portraits, facing, portraits, project
from sfm_jax.atomic_files import atomic_write
from sfm_jax.inference.face_points import POINTS, FaceDetector
from sfm_jax.inference.surface_points import ASSET
from sfm_jax.morphable.default import load_default, load_population
from sfm_jax.morphable.model import MorphableModel

COUNT, MAX_YAW = 480, 35
TOLERANCE = 0.1  # mm by which the same points may move on another machine
_STEPS, _ROBUST = 12, 2.0  # mm beyond which a detection counts as an outlier
_OPEN = 0.25  # activation of jawOpen from which the lips are apart
_MIN_FACING = 0.2  # cosine
_MIN_SEEN = 0.25  # share of the portraits in which a triangle must face the camera for points to lie on it
_FULL, _TOO_MUCH = 1.5, 4.0  # mm of spread up to which a point counts fully, and from which not at all


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare with the asset instead of writing it")
    options = parser.parse_args()
    model = load_default(0)
    yaws = np.random.default_rng(0).permutation(np.linspace(-MAX_YAW, MAX_YAW, COUNT))
    shown, points = detected(portraits(model, load_population()[::2], yaws, seed=0), FaceDetector())
    print(f"{len(points)} of {COUNT} faces found")
    arrays = embed(model, shown, points)
    if options.check:
        raise SystemExit(compare(model, arrays))
    with atomic_write(ASSET) as partial, open(partial, "wb") as file:
        np.savez_compressed(file, **arrays)
    weight, spread = arrays["weight"], arrays["spread"]
    print(f"{ASSET}: {ASSET.stat().st_size / 1e3:.0f} kB; spread {np.median(spread):.1f} mm (median), "
          f"{(weight > 0).sum()} of {POINTS} points count, their weights' mean {weight[weight > 0].mean():.2f}")


def detected(shown: Portraits, detector: FaceDetector) -> tuple[Portraits, np.ndarray]:
    """The portraits in which one face is found, and its points [N, 468, 2]."""
    faces = [detector.faces(image, closest=0) for image in shown.image]
    found = np.array([len(face) == 1 for face in faces])
    return Portraits(*(values[found] for values in shown)), np.stack([face[0].points[:, :2] for face in faces
                                                                      if len(face) == 1])


def embed(model: MorphableModel, shown: Portraits, points: np.ndarray) -> dict[str, np.ndarray]:
    """The arrays of the asset: see sfm_jax.inference.surface_points; spread [468] mm beside them."""
    triangles = np.asarray(model.topology.triangles)
    # The mean face with an open mouth: a point of one lip must not become one of the other.
    jaw = np.arange(len(model.expression_names)) == model.expression_names.index("jawOpen")
    shape = np.asarray(model.decode(np.zeros(1, np.float32), jaw.astype(np.float32)), np.float64)
    skin = on_skin(model, shown)
    mesh = trimesh.Trimesh(shape, triangles[skin], process=False)
    open_mouths = shown.jaw_open > _OPEN
    some = Portraits(*(values[open_mouths] for values in shown))
    corners, barycentric = nearest(mesh, averaged(shape, triangles, skin, some, points[open_mouths]))
    for _ in range(_STEPS):
        corners, barycentric = nearest(mesh, improved(shape, corners, barycentric, shown, points))
    seen = facing(shown, corners) > _MIN_FACING
    error = np.linalg.norm(points - project(shown, corners, barycentric), axis=-1) / shown.scale[:, None]
    spread = np.array([np.median(e[s]) for e, s in zip(error.T, seen.T, strict=True)])
    weight = np.where(spread < _TOO_MUCH, np.minimum((_FULL / spread) ** 2, 1), 0)
    return {"corners": corners.astype(np.int32), "barycentric": barycentric.astype(np.float32),
            "weight": weight.astype(np.float32), "spread": spread.astype(np.float32)}


def on_skin(model: MorphableModel, shown: Portraits) -> np.ndarray:
    """Which triangles [F] points may lie on: not the eyes, what is in the mouth, or folds that are hardly seen."""
    inside = np.maximum(model.topology.region("eyes"), model.topology.region("mouth")) > 0.5
    some = Portraits(*(values[::8] for values in shown))
    seen = (facing(some, model.topology.triangles) > _MIN_FACING).mean(0) > _MIN_SEEN
    return seen & ~inside[model.topology.triangles].any(1)


def averaged(shape, triangles, skin, shown: Portraits, points: np.ndarray) -> np.ndarray:
    """Where on a face of vertices `shape` [V, 3] the points are, on average over the portraits: [468, 3] mm, near it.

    A detection is taken to lie on what its pixel shows. The average is one of least distances, which outliers, as
    those behind a cheek, hardly move, and surfaces seen at a slant count less.
    """
    column, row = np.clip(np.floor(points).astype(int), 0, shown.image.shape[1] - 1).transpose(2, 0, 1)
    portrait = np.arange(len(points))[:, None]
    triangle = shown.triangle[portrait, row, column]
    corner = triangles[triangle]
    a, b, c = np.moveaxis(shown.projected[portrait[..., None], corner].astype(np.float64), 2, 0)
    area = _cross(b - a, c - a)
    v, w = _cross(points - a, c - a) / area, _cross(b - a, points - a) / area
    place = np.einsum("npk,npkx->npx", np.concatenate([1 - v - w, v, w], -1), shape[corner])
    weight = np.where((triangle >= 0) & skin[triangle], np.maximum(facing(shown, corner), 0), 0) ** 2
    average = np.einsum("np,npx->px", weight, place) / weight.sum(0)[:, None]
    for _ in range(30):  # Weiszfeld's
        near = weight / np.sqrt(np.square(place - average).sum(-1) + 1)
        average = np.einsum("np,npx->px", near, place) / near.sum(0)[:, None]
    return average


def improved(shape, corners, barycentric, shown: Portraits, points: np.ndarray) -> np.ndarray:
    """The points [468, 3] mm after a robust Gauss-Newton step, along the face `shape` [V, 3], on all projections."""
    unit = shown.scale[:, None, None]
    residual = (points - project(shown, corners, barycentric)) / unit
    a, b, c = np.moveaxis(shown.projected[:, corners] / unit[..., None], 2, 0)
    jacobian = np.stack([b - a, c - a], -1)
    weight = np.maximum(facing(shown, corners) - _MIN_FACING, 0)
    weight = weight / (1 + np.square(residual).sum(-1) / _ROBUST**2)
    normal = np.einsum("npxi,np,npxj->pij", jacobian, weight, jacobian)
    normal = normal + 1e-3 * np.trace(normal, axis1=1, axis2=2)[:, None, None] * np.eye(2)
    step = np.linalg.solve(normal, np.einsum("npxi,np,npx->pi", jacobian, weight, residual)[..., None])
    a, b, c = np.moveaxis(shape[corners], 1, 0)
    step = step[:, 0] * (b - a) + step[:, 1] * (c - a)
    length = np.linalg.norm(step, axis=-1, keepdims=True)
    place = np.einsum("pk,pkx->px", barycentric, shape[corners])
    return place + step * np.minimum(1, 3 / np.maximum(length, 1e-9))  # mm; the surface bends


def nearest(mesh: trimesh.Trimesh, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The corners [P, 3] and barycentric weights [P, 3] of the surface point nearest to each place [P, 3]."""
    surface, _, triangle = trimesh.proximity.closest_point_naive(mesh, places)
    weights = np.maximum(trimesh.triangles.points_to_barycentric(mesh.triangles[triangle], surface), 0)
    return mesh.faces[triangle], weights / weights.sum(1, keepdims=True)


def compare(model: MorphableModel, arrays: dict[str, np.ndarray]) -> str | None:
    """What differs from the committed asset by more than the tolerance, None if nothing does."""
    def places(values):
        return np.einsum("pk,pkx->px", values["barycentric"], np.asarray(model.mean)[values["corners"]])

    with np.load(ASSET, allow_pickle=False) as file:
        moved = np.linalg.norm(places(file) - places(arrays), axis=-1)[file["weight"] > 0]
        print(f"points moved by {np.median(moved):.3f} mm (median), {moved.max():.3f} mm at most")
    return f"{ASSET}: a point moved by {moved.max():.2f} mm" if moved.max() > TOLERANCE else None


def _cross(first, second):
    return (first[..., 0] * second[..., 1] - first[..., 1] * second[..., 0])[..., None]


if __name__ == "__main__":
    main()
