"""Textures of photos that are renders: their colours come back where they are seen, and beyond, in the photo's tone."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sfm_jax.data.damage import to_srgb
from sfm_jax.geometry.camera import Orthographic
from sfm_jax.geometry.mesh import vertex_normals
from sfm_jax.geometry.rotation import rotation_from_euler
from sfm_jax.inference.face_renderer import shown_weights
from sfm_jax.inference.reconstruction import Reconstruction
from sfm_jax.inference.texture import LEAST_COSINE, Texturer
from sfm_jax.morphable.default import load_default
from sfm_jax.render import ambient, render, surface
from sfm_jax.render.uv import uv_layout, vertices_to_map

SIZE, TEXELS = 400, 256
YAW = 25.0


class World(NamedTuple):
    """facing [V]: cosine at which a vertex is seen; skin [V]: 1 where the face is shown; share: per texel of a value
    at the vertices."""

    model: object
    texturer: Texturer
    facing: np.ndarray
    skin: np.ndarray
    mapped: object
    mask: np.ndarray


@pytest.fixture(scope="module")
def world():
    model = load_default(0)
    rotation = np.asarray(rotation_from_euler(jnp.array([YAW, 0.0, 0.0])))
    layout = uv_layout(model.topology, TEXELS)
    normals = np.asarray(vertex_normals(model.mean, model.topology.triangles))
    return World(model, Texturer(model, TEXELS, 512), normals @ rotation[2], np.asarray(shown_weights(model)),
                 jax.jit(lambda values: vertices_to_map(values, layout)), np.asarray(layout.mask))


def reconstruction(model, shift=(0.0, 0.0)):
    """Of the mean face as `photo` shows it, its colours the model's."""
    rotation = np.asarray(rotation_from_euler(jnp.array([YAW, 0.0, 0.0])))
    camera = np.column_stack([1.6 * rotation[:2] * [[1], [-1]], np.full(2, SIZE / 2) + shift])
    landmarks = np.asarray(model.mean)[model.topology.landmarks] @ camera[:, :3].T + camera[:, 3]
    return Reconstruction(
        model, np.zeros(4, np.float32), np.zeros(0), np.zeros(51, np.float32), np.zeros(24, np.float32),
        np.asarray(ambient().coefficients), rotation, np.array([YAW, 0, 0]), camera, landmarks,
        np.concatenate([landmarks.min(0), landmarks.max(0)]), 1.0, 1.0, True)


def photo(model, colours):
    """uint8 [S, S, 3] of the mean face in linear colours [V, 3] without light, before green."""
    found = reconstruction(model)
    camera = Orthographic(jnp.asarray(found.rotation), jnp.zeros(3), jnp.float32(1.6),
                          jnp.asarray(found.camera[:, 3], jnp.float32))
    return np.round(255 * np.asarray(_shoot(model, camera, colours))).astype(np.uint8)


@jax.jit
def _shoot(model, camera, colours):
    seen = render(model.mean, surface(model.topology.triangles), camera, (SIZE, SIZE), albedo=colours,
                  background=jnp.array([0.0, 1.0, 0.0]), cull=True)
    return to_srgb(jnp.clip(seen.colour, 0, 1))


def pattern(model):
    """Linear colours [V, 3] that the model knows nothing of: stripes of some centimetres."""
    x, y, z = np.asarray(model.mean).T / 12.0
    return jnp.asarray(np.stack([0.4 + 0.3 * np.sin(x), 0.4 + 0.3 * np.cos(y + z), 0.4 + 0.2 * np.sin(y)], 1),
                       jnp.float32)


def test_colours_of_what_is_seen_come_back(world):
    colours = pattern(world.model)
    texture = world.texturer(photo(world.model, colours), reconstruction(world.model))
    assert texture.shape == (TEXELS, TEXELS, 3) and texture.min() >= 0 and texture.max() <= 1
    maps = np.asarray(world.mapped(jnp.concatenate(
        [colours, jnp.asarray(np.stack([world.facing, world.skin], 1), jnp.float32)], 1)))
    seen = (maps[..., 3] > 0.6) & (maps[..., 4] > 0.99) & world.mask
    # Ears and nose may hide some of it, and at the rims the photo fades out.
    errors = np.abs(texture - np.asarray(to_srgb(jnp.asarray(maps[..., :3])))).max(-1)[seen]
    assert len(errors) > 5000
    assert np.median(errors) < 0.01 and (errors < 0.05).mean() > 0.9


def test_beyond_the_border_of_a_photo_the_face_is_not_black(world):
    """A photo that ends at the mouth: above as in the whole one, below what the model says."""
    whole, found = photo(world.model, world.model.albedo(jnp.zeros(24))), reconstruction(world.model)
    cut = whole[:int(found.landmarks68_px[60:, 1].mean())]
    textures = [world.texturer(image, found) for image in (whole, cut)]
    rows = np.asarray(world.mapped(jnp.asarray(world.model.mean @ found.camera[:, :3].T + found.camera[:, 3])))[..., 1]
    chin, brow = (world.mask & part for part in (rows > len(cut), rows < len(cut) - 30))
    assert chin.sum() > 2000 and textures[1][chin].mean(-1).min() > 0.5 * textures[0][chin].mean(-1).min() > 0.05
    np.testing.assert_allclose(textures[1][brow], textures[0][brow], atol=0.05)


def test_what_is_not_seen_is_the_models_in_the_photos_tone(world):
    """A photo of the model's own colours, but for exposure and white balance, makes a texture of nothing else."""
    tone = np.array([0.9, 0.7, 0.5])
    colours = world.model.albedo(jnp.zeros(24)) * jnp.asarray(tone, jnp.float32)
    texture = world.texturer(photo(world.model, colours), reconstruction(world.model))
    expected = np.asarray(to_srgb(jnp.asarray(world.mapped(colours))))
    hidden = np.asarray(world.mapped(jnp.asarray(world.facing[:, None] < LEAST_COSINE, jnp.float32)))[..., 0] == 1
    errors = np.abs(texture - expected).max(-1)
    assert (hidden & world.mask).sum() > 3000
    assert errors[hidden & world.mask].max() < 0.02
    # Where the skin's colours change at once (lips, brows), photo and mesh blur them differently.
    assert np.quantile(errors[world.mask], 0.98) < 0.05


def test_a_black_and_white_photo_makes_a_grey_texture(world):
    grey = jnp.mean(pattern(world.model), 1, keepdims=True) * jnp.ones(3)
    image = photo(world.model, grey)
    image = np.repeat(image[..., :1], 3, 2)
    texture = world.texturer(image, reconstruction(world.model))[world.mask]
    assert np.ptp(texture, axis=-1).mean() < 0.05  # the model's brows and lips keep a little of theirs
    assert np.median(np.ptp(texture, axis=-1)) < 0.01


@pytest.mark.parametrize(("shift", "level"), [((5000.0, 0.0), 255), ((0.0, 0.0), 0), ((-160.0, 150.0), 200)])
def test_photos_that_show_little_of_the_face(world, shift, level):
    """Far outside; a black one; only a corner of the face."""
    image = np.full((SIZE, SIZE, 3), level, np.uint8)
    texture = world.texturer(image, reconstruction(world.model, shift))
    assert np.isfinite(texture).all() and texture.min() >= 0 and texture.max() <= 1
