"""How well faces and their points are found: on portraits of people that made no asset, and on photos with landmarks.

    python -m experiments.photo_landmarks.measure [--photos=aflw:AFLW2000] [--picture=overlays.png] [--write]

Photos are a collection as `data.photos.open_photos` names it. `--write` puts the table into experiments/results.
"""

import argparse
import time

import numpy as np
from PIL import Image, ImageDraw

from experiments.photo_landmarks.embed import detected
from experiments.photo_landmarks.portraits import facing, portraits, project
from experiments.results import machine, markdown_table, write_result
from sfm_jax.data.photo_sets import decode
from sfm_jax.data.photos import open_photos
from sfm_jax.evaluation.landmarks import nme_percent
from sfm_jax.inference.detection import overlap
from sfm_jax.inference.face_points import FaceDetector, ibug68
from sfm_jax.inference.surface_points import load_surface_points
from sfm_jax.morphable.default import load_default, load_population

COUNT = 160
YAWS = ((0, 35), (45, 60))  # degrees, to either side
HEADER = ["", "found", "68 points", "51 without the jaw", "468 on our surface", "as weighted", "ms each"]
_TILE, _COLUMNS = 480, 4  # of the picture


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", help="a collection of photos with landmarks")
    parser.add_argument("--picture", help="write the photos with what was found to this file")
    parser.add_argument("--write", action="store_true", help="write experiments/results/photo_landmarks")
    options = parser.parse_args()
    began = time.perf_counter()
    detector = FaceDetector()
    print(f"loading the networks: {1e3 * (time.perf_counter() - began):.0f} ms")
    rows = {f"{COUNT} portraits, yaw {low} to {high}": measure_portraits(detector, low, high) for low, high in YAWS}
    if options.photos:
        rows["photos"] = measure_photos(detector, options.photos, options.picture)
    cells = [[name, f"{100 * row['found']:.0f} %", *(f"{row[key]:.2f} %" if key in row else "" for key in
              ("nme", "interior", "surface", "weighted")), f"{row['ms']:.0f}"] for name, row in rows.items()]
    table = markdown_table(HEADER, cells) + "\n\nErrors are means over sqrt(width * height) of the landmarks' box."
    print(table)
    if options.write:
        write_result("photo_landmarks", {"machine": machine(), "rows": rows}, table)


def measure_portraits(detector: FaceDetector, low: float, high: float) -> dict[str, float]:
    """The errors on portraits, of other people than the embedding's, with absolute yaws in a range."""
    rng = np.random.default_rng(1)
    yaws = rng.permutation(np.linspace(low, high, COUNT)) * rng.choice([-1, 1], COUNT)
    shown = portraits(load_default(0), load_population()[1::2], yaws, seed=1)
    began = time.perf_counter()
    shown, points = detected(shown, detector)
    ms = 1e3 * (time.perf_counter() - began) / COUNT
    surface = load_surface_points()
    corners, weights = np.asarray(surface.corners), np.asarray(surface.barycentric)
    error = _percent(points, project(shown, corners, weights), shown.landmarks)
    seen = np.asarray(surface.weight) * (facing(shown, corners) > 0)
    return {"found": len(points) / COUNT, **_landmark_errors(ibug68(points), shown.landmarks),
            "surface": float(error.mean()), "weighted": float(np.average(error, weights=seen)), "ms": ms}


def measure_photos(detector: FaceDetector, photos: str, picture: str | None) -> dict[str, float]:
    """The errors on photos with landmarks, of the face that is most the labelled one."""
    source, found, truth, tiles, seconds = open_photos(photos), [], [], [], 0.0
    for raw in map(source.raw, range(len(source))):
        image = decode(raw.image, raw.name)
        began = time.perf_counter()
        faces = detector.faces(image)
        seconds += time.perf_counter() - began
        box = np.concatenate([raw.landmarks.min(0), raw.landmarks.max(0)])
        shares = overlap(box, np.array([face.box for face in faces]).reshape(-1, 4))
        if shares.max(initial=0) > 0.3:
            found.append(faces[int(shares.argmax())].landmarks68)
            truth.append(raw.landmarks)
        tiles.append(_overlay(image, faces, raw.landmarks))
        print(f"{raw.name}: {len(faces)} faces, presence {[round(face.presence, 3) for face in faces]}")
    if picture:
        blank = [np.zeros_like(tiles[0])] * (-len(tiles) % _COLUMNS)
        grid = np.reshape(tiles + blank, (-1, _COLUMNS, _TILE, _TILE, 3)).transpose(0, 2, 1, 3, 4)
        Image.fromarray(grid.reshape(-1, _COLUMNS * _TILE, 3)).save(picture)
    return {"found": len(found) / len(source), **_landmark_errors(np.stack(found), np.stack(truth)),
            "ms": 1e3 * seconds / len(source)}


def _landmark_errors(found, truth):
    """Mean NME of [N, 68, 2] and of all points but the jaw's, in per cent."""
    interior = _percent(found, truth, truth)[:, 17:]
    return {"nme": float(nme_percent(found, truth).mean()), "interior": float(interior.mean())}


def _percent(found, truth, landmarks):
    size = np.sqrt(np.ptp(landmarks, axis=1).prod(-1))
    return 100 * np.linalg.norm(found - truth, axis=-1) / size[:, None]


def _overlay(image, faces, landmarks):
    """[T, T, 3] of a photo: points green, the 68 of them magenta, the true ones yellow."""
    scale = _TILE / max(image.shape[:2])
    picture = Image.new("RGB", (_TILE, _TILE))
    picture.paste(Image.fromarray(image).resize([max(1, round(scale * length)) for length in image.shape[1::-1]]))
    draw = ImageDraw.Draw(picture)
    layers = [(landmarks, "yellow")]
    for face in faces:
        layers += [(face.points[:, :2], "lime"), (face.landmarks68, "magenta")]
    for points, colour in layers:
        for x, y in scale * points:
            draw.ellipse((x - 1, y - 1, x + 1, y + 1), fill=colour)
    return np.asarray(picture)


if __name__ == "__main__":
    main()
