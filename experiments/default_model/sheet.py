"""A contact sheet of the embedded face model: docs/images/face_model.png.

    python -m experiments.default_model.sheet [--out=FILE]
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from sfm_jax.evaluation.pictures import BACKGROUND, shaded, to_srgb
from sfm_jax.morphable.default import load_default, load_population

SIZE, COLUMNS, LABEL, SUPER = 190, 8, 20, 2
INK = (70, 70, 74)
OUT = Path(__file__).parents[2] / "docs" / "images" / "face_model.png"
POSES = {"mean": 0, "45 degrees": 45, "85 degrees": 85}
EXPRESSIONS = {
    "jawOpen": {"jawOpen": 1.0}, "smile": {"mouthSmile": 0.9, "cheekSquint": 0.6}, "eyeBlink": {"eyeBlink": 1.0},
    "anger": {"browDown": 1.0, "noseSneer": 0.9}, "mouthPucker": {"mouthPucker": 1.0},
    "surprise": {"eyeWide": 1.0, "browInnerUp": 1.0, "browOuterUp": 1.0, "jawOpen": 0.5},
    "cheekPuff": {"cheekPuff": 1.0}, "mouthFrown": {"mouthFrown": 1.0, "browInnerUp": 0.7},
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default=str(OUT))
    out = Path(parser.parse_args().out)
    out.parent.mkdir(parents=True, exist_ok=True)
    sheet().save(out, optimize=True)


def sheet() -> Image.Image:
    model, population = load_default(1), load_population()
    mean = np.asarray(model.mean)
    frame = ((mean.max(0) + mean.min(0)) / 2, 1.17 * float(np.ptp(mean[:, 1])))
    rng = np.random.default_rng(1)

    def picture(vertices, yaw=0.0, albedo=None, size=SIZE * SUPER):
        color = {} if albedo is None else {"color": to_srgb(albedo)}
        return shaded(np.asarray(vertices), model.topology.triangles, size, yaw, frame=frame, **color)

    average = model.albedo(np.zeros(1, np.float32))
    rows = [{name: picture(mean, yaw) for name, yaw in POSES.items()}]
    rows[0] |= {"mean albedo": picture(mean, 0, average), "albedo, 45": picture(mean, 45, average),
                "68 landmarks": landmarks_picture(model, picture, frame),
                "regions": regions_picture(model, picture, mean),
                "UV layout": uv_picture(model)}
    for sign in (3.0, -3.0):
        codes = sign * np.eye(COLUMNS, dtype=np.float32)
        rows.append({f"component {k}: {sign:+.0f} sigma": picture(model.decode(code)) for k, code in enumerate(codes)})
    people = population[rng.choice(len(population), 16, replace=False)]
    shapes, tones = model.decode(people.identity), model.albedo(people.albedo)
    for row in (range(8), range(8, 16)):
        rows.append({f"person {k + 1}": picture(shapes[k], (0, 30, 0, -30)[k % 4], tones[k]) for k in row})
    gauss = rng.standard_normal((2, 4, model.albedo_basis.shape[0])).astype(np.float32)
    rows.append({f"albedo {k}: {s:+.0f}": picture(mean, 0, model.albedo(s * np.eye(4, dtype=np.float32)[k]))
                 for k in range(3) for s in (2, -2)}
                | {f"random albedo {k}": picture(mean, 0, model.albedo(gauss[0, k])) for k in range(2)})
    rows.append({name: picture(model.decode(np.zeros(1, np.float32), expression_code(model, units)), 0, average)
                 for name, units in EXPRESSIONS.items()})
    return paste(rows)


def expression_code(model, units: dict[str, float]) -> np.ndarray:
    """Code [E] from unit names; a name without its side sets both sides."""
    code = np.zeros(len(model.expression_names), np.float32)
    for name, value in units.items():
        sides = [n for n in (name, f"{name}Left", f"{name}Right") if n in model.expression_names]
        for side in sides:
            code[model.expression_names.index(side)] = value
    return code


def landmarks_picture(model, picture, frame):
    image = Image.fromarray(picture(model.mean))
    draw, (centre, width), size = ImageDraw.Draw(image), frame, image.width
    for place in np.asarray(model.mean)[model.topology.landmarks]:
        x, y = (place[:2] - centre[:2]) * [1, -1] * size / width + size / 2
        draw.ellipse([x - 2.6, y - 2.6, x + 2.6, y + 2.6], fill=(200, 40, 40))
    return np.asarray(image)


def regions_picture(model, picture, mean):
    """Every region in a colour of its own, on grey."""
    hues = np.random.default_rng(5).permutation(len(model.topology.region_names)) / len(model.topology.region_names)
    color = np.full((len(mean), 3), 0.6)
    for name, hue in zip(model.topology.region_names, hues, strict=True):
        if name not in ("skin", "face"):
            weight = model.topology.region(name)[:, None]
            own = 0.5 + 0.4 * np.cos(2 * np.pi * (hue + np.array([0, 1 / 3, 2 / 3])))
            color = color * (1 - weight) + weight * own
    return picture(mean, albedo=color**2.2)


def uv_picture(model):
    side = SIZE * SUPER
    image = Image.new("RGB", (side, side), tuple(int(255 * c) for c in BACKGROUND))
    draw = ImageDraw.Draw(image)
    uv = model.topology.uv
    low, high = uv.min(0), uv.max(0)
    places = (uv - (low + high) / 2) / (high - low).max() * 0.92 * [1, -1] * side + side / 2
    for triangle in model.topology.uv_triangles:
        draw.polygon([tuple(places[k]) for k in triangle], outline=(150, 150, 155))
    return np.asarray(image)


def paste(rows):
    font = ImageFont.load_default(12)
    image = Image.new("RGB", (COLUMNS * SIZE, len(rows) * (SIZE + LABEL)), tuple(int(255 * c) for c in BACKGROUND))
    draw = ImageDraw.Draw(image)
    for y, row in enumerate(rows):
        for x, (name, pixels) in enumerate(row.items()):
            small = Image.fromarray(pixels).resize((SIZE, SIZE), Image.Resampling.LANCZOS)
            image.paste(small, (x * SIZE, y * (SIZE + LABEL) + LABEL))
            draw.text((x * SIZE + SIZE / 2, y * (SIZE + LABEL) + 4), name, fill=INK, font=font, anchor="ma")
    return image


if __name__ == "__main__":
    main()
