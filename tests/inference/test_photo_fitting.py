"""Fits to photos that are renders of known faces: they look alike afterwards, and for the right reason."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sfm_jax.data.damage import to_srgb
from sfm_jax.geometry.rotation import rotation_from_euler
from sfm_jax.inference import fitting
from sfm_jax.inference.face import FaceCodes, FaceDecoder
from sfm_jax.inference.face_renderer import FaceRenderer
from sfm_jax.inference.photo_fitting import PhotoFitter
from sfm_jax.morphable.default import load_default, load_population
from sfm_jax.render import ambient

SIZE, COMPONENTS = 64, 20


class World:
    """Renders of one face, how far codes are from a photo, and the fitter."""

    def __init__(self):
        self.model = load_default(0)
        decoder = FaceDecoder(self.model, self.model.mean, self.model.identity_basis[:COMPONENTS])
        renderer, grey = FaceRenderer(self.model, SIZE), jnp.full((1, SIZE, SIZE, 3), 0.2)
        self.points = fitting.point_model(self.model, None, COMPONENTS)
        self.fitter = PhotoFitter(decoder, SIZE)
        self.seen = jax.jit(lambda codes: fitting.project(self.points, codes.identity, codes.expression,
                                                          codes.rotation, codes.log_scale, codes.shift))

        @jax.jit
        def shoot(codes):
            """sRGB [S, S, 3] and coverage [S, S]."""
            shown = renderer(decoder(jax.tree.map(lambda leaf: leaf[None], codes), SIZE), grey)
            return to_srgb(shown.colour)[0], shown.alpha[0]

        self.shoot = shoot

    def person(self, number):
        """Codes of a person, turned and lit from a side."""
        people, rng = load_population()[100 + number], np.random.default_rng(number)
        light = ambient().coefficients + 0.15 * rng.normal(size=(9, 1)) * (np.arange(9)[:, None] < 4)
        return FaceCodes(jnp.asarray(people.identity[:COMPONENTS]), jnp.zeros(51), jnp.asarray(people.albedo),
                         rotation_from_euler(jnp.array([20.0, 5.0, 0.0])), jnp.float32(0), jnp.zeros(2),
                         jnp.asarray(light, jnp.float32))

    def fit(self, image, start, seen, weight=1.0, inside=None):
        inside = jnp.ones((SIZE, SIZE), jnp.float32) if inside is None else inside
        return self.fitter(image, start, self.points, seen, jnp.full(68, weight), inside)

    def distance(self, codes, image):
        """Mean distance of colours on the skin."""
        shown, skin = self.shoot(codes)
        return float((jnp.linalg.norm(shown - image, axis=-1) * skin).sum() / skin.sum())

    def shape(self, codes):
        return self.model.decode(codes.identity, codes.expression)


@pytest.fixture(scope="module")
def world():
    return World()


def apart(a, b):
    return float(jnp.linalg.norm(a - b, axis=-1).mean())


@pytest.mark.parametrize("number", [0, 1, 2])
def test_from_the_mean_face_towards_the_truth(world, number):
    true = world.person(number)
    image, _ = world.shoot(true)
    start = true._replace(identity=0 * true.identity, albedo=0 * true.albedo, light=ambient().coefficients)
    found = world.fit(image, start, world.seen(true))
    assert world.distance(found, image) < 0.3 * world.distance(start, image)
    assert apart(found.albedo, true.albedo) < 0.8 * apart(start.albedo, true.albedo)
    assert apart(world.shape(found), world.shape(true)) < apart(world.shape(start), world.shape(true))
    assert apart(world.seen(found), world.seen(true)) < apart(world.seen(start), world.seen(true))


def test_colours_are_found_where_the_light_is_known(world):
    """Without it, a darker skin in a brighter light would do as well."""
    true = world.person(1)
    image, _ = world.shoot(true)
    start = true._replace(albedo=0 * true.albedo)
    found = world.fit(image, start, world.seen(true))
    colours = [world.model.albedo(codes.albedo) for codes in (found, start, true)]
    assert apart(colours[0], colours[2]) < 0.5 * apart(colours[1], colours[2])


def test_light_is_found_where_the_colours_are_known(world):
    true = world.person(1)
    image, _ = world.shoot(true)
    start = true._replace(light=ambient().coefficients)
    found = world.fit(image, start, world.seen(true))
    assert world.distance(found, image) < 0.2 * world.distance(start, image)
    assert float(jnp.linalg.norm(found.light - true.light)) < 0.6 * float(jnp.linalg.norm(start.light - true.light))


def test_the_truth_stays_where_it_is(world):
    true = world.person(0)
    image, _ = world.shoot(true)
    found = world.fit(image, true, world.seen(true))
    assert world.distance(found, image) < 0.01 and apart(world.seen(found), world.seen(true)) < 3e-3
    assert apart(world.shape(found), world.shape(true)) < 0.3  # mm


def test_points_hold_the_face_where_the_photo_says_nothing(world):
    """A photo without a face, and points of a face a little aside."""
    true = world.person(0)
    seen = world.seen(true) + jnp.array([0.03, 0.0])
    found = world.fit(jnp.full((SIZE, SIZE, 3), 0.5, jnp.float32), true, seen, weight=10.0)
    assert apart(world.seen(found), seen) < 0.3 * apart(world.seen(true), seen)


def test_what_lies_beyond_the_photo_says_nothing(world):
    """A photo that ends below the nose: its light is that of the whole face, not of the black below."""
    true = world.person(1)
    image, _ = world.shoot(true)
    start = true._replace(light=ambient().coefficients)
    inside = jnp.ones((SIZE, SIZE), jnp.float32).at[SIZE * 6 // 10:].set(0.0)
    cut = image * inside[..., None]
    whole, known, unknown = (float(jnp.linalg.norm(world.fit(picture, start, world.seen(true), inside=part).light
                                                   - true.light))
                             for picture, part in ((image, None), (cut, inside), (cut, None)))
    assert whole < known < 0.6 * unknown


@pytest.mark.parametrize("kind", ["black", "white", "outside", "no points"])
def test_numbers_stay_finite(world, kind):
    codes = world.person(0)
    image = jnp.full((SIZE, SIZE, 3), float(kind == "white"), jnp.float32)
    seen = world.seen(codes)
    if kind == "outside":
        codes = codes._replace(shift=jnp.array([3.0, -3.0]))
    found = world.fit(image, codes, seen, weight=0.0 if kind == "no points" else 1.0)
    chex.assert_tree_all_finite(found)
    assert jax.tree.map(jnp.shape, found) == jax.tree.map(jnp.shape, codes)
    assert float(found.expression.min()) >= 0 and float(found.expression.max()) <= 1
    np.testing.assert_allclose(found.rotation @ found.rotation.T, jnp.eye(3), atol=1e-5)
