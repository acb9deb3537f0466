"""The README's pictures of the renderer and of synthetic photos: render.png, fit.png and synthetic.png in docs/images.

    python -m experiments.pictures
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from PIL import Image, ImageDraw, ImageFont

from sfm_jax.data.scene import Conditions
from sfm_jax.data.synthetic import SyntheticPhotos
from sfm_jax.evaluation.pictures import to_srgb
from sfm_jax.geometry.camera import frame
from sfm_jax.geometry.rotation import rotation_angle, rotation_from_axis_angle, rotation_from_euler
from sfm_jax.morphable.default import load_default, load_population
from sfm_jax.render import SphericalHarmonics, check_overflow, render, suggest_caps, surface
from sfm_jax.render.uv import unwrap, uv_layout

IMAGES = Path(__file__).parents[1] / "docs" / "images"
SIZE, LABEL = 256, 22
PAPER, INK = (244, 244, 242), (70, 70, 74)
# Spherical harmonics in the order 1, z, x, y, ...: a soft light from the upper left.
DAYLIGHT = jnp.array([[0.62, 0.60, 0.59], [0.42, 0.41, 0.40], [-0.30, -0.29, -0.27], [0.32, 0.30, 0.28],
                      *[[0.02, 0.02, 0.02]] * 5])


def main():
    IMAGES.mkdir(parents=True, exist_ok=True)
    strip(outputs()).save(IMAGES / "render.png", optimize=True)
    frames, wanted = fit()
    named = {f"step {step}: {angle:.1f} degrees, {error:.2f} mm": image for step, angle, error, image in frames}
    strip(named | {"the image it saw": wanted}).save(IMAGES / "fit.png", optimize=True)
    Image.fromarray(synthetic(columns=9, rows=3)).save(IMAGES / "synthetic.png", optimize=True)


def synthetic(columns, rows):
    """The first synthetic photos of the default conditions, side by side, uint8."""
    photos = SyntheticPhotos(load_default(1), load_population(), 96, Conditions(), seed=0)
    image = np.asarray(jax.jit(photos.__call__)(jnp.arange(columns * rows))["image"])
    tiles = image.reshape(rows, columns, *image.shape[1:]).transpose(0, 2, 1, 3, 4)
    return np.uint8(np.round(255 * tiles.reshape(rows * image.shape[1], columns * image.shape[2], 3)))


def outputs():
    """Everything one call of the renderer gives, of one person."""
    face, people = load_default(detail=1), load_population()
    person = 4
    vertices, albedo = face.decode(people.identity[person]), face.albedo(people.albedo[person])
    topology = face.topology
    mesh = surface(topology.triangles, topology.uv, topology.uv_triangles)
    turned = rotation_from_euler(jnp.array([28.0, 6.0, 0.0]))
    camera = frame(vertices, (SIZE, SIZE), turned, fill=0.92, field_of_view=20.0)
    seen = render(vertices, mesh, camera, (SIZE, SIZE), albedo=albedo, light=SphericalHarmonics(DAYLIGHT),
                  background=0.9, cull=True)
    check_overflow(seen)
    inside = np.asarray(seen.triangle) >= 0
    depth = np.asarray(seen.depth)
    near, far = depth[inside].min(), depth[inside].max()
    grey = np.where(inside, 1 - 0.85 * (depth - near) / (far - near), 0.95)[..., None].repeat(3, -1)
    normals = np.where(inside[..., None], 0.5 + 0.5 * np.asarray(seen.normals), 0.95)
    uv = np.concatenate([np.asarray(seen.uv), 0.3 + 0 * depth[..., None]], -1)
    layout = uv_layout(topology, SIZE)
    texture = unwrap(seen.colour, vertices, camera, layout, seen.triangle)
    unwrapped = np.where(np.asarray(texture.visible)[..., None], np.asarray(texture.colour), 0.9)
    return {"colour": to_srgb(seen.colour), "alpha": np.asarray(seen.alpha)[..., None].repeat(3, -1), "depth": grey,
            "normals": normals, "uv": np.where(inside[..., None], uv, 0.95), "unwrapped": to_srgb(unwrapped)}


def fit(steps=600, shown=(0, 20, 60, 150, 600), wait=60):
    """Pose and shape from one image by gradient descent, started 30 degrees off and at the mean face.

    Returns one (step, pose error in degrees, mean vertex error in mm, picture) for each step of `shown`, and the image
    that was fitted.
    """
    face, people = load_default(detail=0), load_population()
    mesh, size, components = surface(face.topology.triangles), (96, 96), 20
    truth = face.decode(people.identity[11, :components])
    albedo, light = face.albedo(jnp.zeros(1)), SphericalHarmonics(DAYLIGHT)
    camera, turned = frame(truth, size, jnp.eye(3), fill=0.9), jnp.deg2rad(jnp.array([0.0, -20.0, 0.0]))
    caps = suggest_caps(truth, mesh, size, 3.0, margin=1.6)

    def picture(turn, code, width=2.0):
        posed = camera.replace(rotation=rotation_from_axis_angle(turn))
        return render(face.decode(code), mesh, posed, size, albedo=albedo, light=light, edge_width=width, caps=caps)

    wanted = picture(turned, people.identity[11, :components])

    def loss(parameters):
        seen = picture(parameters["turn"], parameters["code"])
        image = jnp.mean((seen.colour - wanted.colour) ** 2) + jnp.mean((seen.alpha - wanted.alpha) ** 2)
        return image + 1e-4 * jnp.mean(parameters["code"] ** 2)

    parameters = {"turn": jnp.deg2rad(jnp.array([0.0, 10.0, 0.0])), "code": jnp.zeros(components)}
    # The pose first: a face seen 30 degrees off teaches the shape nonsense.
    falling = optax.cosine_decay_schedule(0.08, steps - wait)
    later = optax.join_schedules([optax.constant_schedule(0.0), falling], [wait])
    rates = {"turn": optax.adam(optax.cosine_decay_schedule(0.03, steps)), "code": optax.adam(later)}
    optimiser = optax.multi_transform(rates, {"turn": "turn", "code": "code"})
    state = optimiser.init(parameters)
    step = jax.jit(jax.value_and_grad(loss))
    frames = []
    for index in range(steps + 1):
        if index in shown:
            seen = picture(parameters["turn"], parameters["code"], 1.5)
            check_overflow(seen)
            angle = rotation_angle(*map(rotation_from_axis_angle, (parameters["turn"], turned)))
            error = np.linalg.norm(face.decode(parameters["code"]) - truth, axis=-1).mean()
            frames.append((index, float(angle), float(error), to_srgb(seen.colour)))
        _, gradient = step(parameters)
        updates, state = optimiser.update(gradient, state)
        parameters = optax.apply_updates(parameters, updates)
    return frames, to_srgb(wanted.colour)


def strip(pictures):
    """One row of labelled pictures."""
    font = ImageFont.load_default(12)
    sheet = Image.new("RGB", (SIZE * len(pictures), SIZE + LABEL), PAPER)
    draw = ImageDraw.Draw(sheet)
    for k, (name, values) in enumerate(pictures.items()):
        image = Image.fromarray(np.uint8(255 * np.clip(values, 0, 1))).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
        sheet.paste(image, (k * SIZE, LABEL))
        draw.text((k * SIZE + SIZE / 2, 5), name, fill=INK, font=font, anchor="ma")
    return sheet


if __name__ == "__main__":
    main()
