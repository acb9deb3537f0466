"""Detail in UV space: with the true face nothing is to be explained, and what is unwrapped renders as it was."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sfm_jax.data.damage import to_linear, to_srgb
from sfm_jax.geometry.rotation import rotation_from_euler
from sfm_jax.inference.detail import DOUBT, GAIN, PROTECTED, DetailSpace, least_rise, shade
from sfm_jax.inference.face import FaceCodes, FaceDecoder
from sfm_jax.morphable.default import load_default, load_population
from sfm_jax.render.relief import texel_map
from sfm_jax.render.uv import map_to_vertices, sample_image, vertices_to_map

FACE, PEOPLE = load_default(0), load_population()
SIZE = 128


@pytest.fixture(scope="module")
def space():
    return DetailSpace(FACE, 128, SIZE)


@pytest.fixture(scope="module")
def face():
    """One person, half turned, under coloured light, decoded for crops of SIZE pixels."""
    rng = np.random.default_rng(0)
    light = jnp.asarray(rng.normal(0, 0.1, (1, 9, 3)), jnp.float32).at[:, 0].set(0.8).at[:, 2].add(0.35)
    codes = FaceCodes(PEOPLE.identity[3:4], np.zeros((1, 51), np.float32), PEOPLE.albedo[3:4],
                      rotation_from_euler(jnp.array([[25.0, 5.0, -4.0]])), jnp.zeros(1), jnp.zeros((1, 2)), light)
    decoded = FaceDecoder(FACE, FACE.mean, FACE.identity_basis)(codes, SIZE)
    return jax.tree.map(lambda leaf: leaf[0], decoded)


@pytest.fixture(scope="module")
def bumps(space):
    """Waves of half a millimetre all over the free part of the face."""
    row, column = np.mgrid[:128, :128]
    return jnp.asarray(0.5 * np.sin(row / 2.5) * np.cos(column / 3.0) * space.mask, jnp.float32)


@pytest.fixture(scope="module")
def run(space):
    """Compiled: (face, displacement) -> (dense face, moved vertices, rendering, photo of it, what is seen in that,
    and the network's maps)."""

    @jax.jit
    def all_of_it(face, displacement):
        base = space.dense_face(face)
        vertices = space.displaced(base, displacement)
        shown = space.render(base, vertices)
        photo = to_srgb(shown.colour[..., :3])
        seen = space.unwrap(face, base, photo)
        return base, vertices, shown, photo, seen, space.maps(face, base, seen)

    return all_of_it


def test_true_face_leaves_no_difference(space, face, run):
    base, _, shown, _, seen, maps = run(face, jnp.zeros((128, 128)))
    assert int(shown.overflow) == 0
    visible = np.asarray(seen.visible)
    assert 0.2 < visible[space.mask > 0].mean() < 1
    free = visible & (space.mask > 0.99)
    assert np.abs(np.asarray(maps)[free][:, :3]).mean() / GAIN < 0.004  # linear RGB
    assert not np.any(np.asarray(maps)[~visible])


def test_unwrapped_photo_renders_as_it_was(space, face, run):
    """The photo's texels as the albedo of an unlit face: PSNR over what both show of the skin."""
    base, vertices, _, photo, seen, _ = run(face, jnp.zeros((128, 128)))
    places = texel_map(base.camera.project(base.vertices), space.dense)[..., :2]
    texels = sample_image(to_linear(photo), places)
    known = map_to_vertices(seen.visible[..., None].astype(jnp.float32), space.dense)
    colours = map_to_vertices(texels, space.dense)
    again = space.render(base._replace(albedo=colours, light=jnp.zeros((9, 3)).at[0].set(1 / 0.886226925)), vertices,
                         known)
    inside = (np.asarray(again.colour[..., 4]) > 0.999) & (np.asarray(again.colour[..., 3]) > 0.99)
    assert inside.sum() > 1500
    error = (to_srgb(again.colour[..., :3]) - photo)[inside]
    assert -10 * np.log10(np.mean(np.asarray(error)**2)) >= 30


def test_difference_follows_displacement(space, face, run, bumps):
    """What the network is told: to first order the difference is slope along u and v times how the map rises."""
    *_, seen, maps = run(face, bumps)
    *_, plain, plain_maps = run(face, jnp.zeros((128, 128)))
    change = np.asarray(maps - plain_maps)[..., :3].mean(-1)
    places = np.asarray(vertices_to_map(face.vertices, space.layout))
    along = [np.linalg.norm(np.gradient(places, axis=axis), axis=-1) for axis in (1, 0)]  # mm per texel: u, v
    free = np.asarray(seen.visible & plain.visible) & (space.mask > 0.99)
    rise_u, rise_v = (np.gradient(np.asarray(bumps), axis=axis)[free] / length[free]
                      for axis, length in zip((1, 0), along, strict=True))
    slopes = np.asarray(plain_maps)[free]
    predicted = slopes[:, 5] * rise_u - slopes[:, 6] * rise_v  # rows go down, v up
    assert np.corrcoef(change[free], predicted)[0, 1] > 0.85
    assert 0.7 < np.sum(change[free] * predicted) / np.sum(predicted**2) < 1.3


def test_least_rise_is_the_least_squares_solution():
    """With coloured light, against NumPy; with one light, along what it shows."""
    rng = np.random.default_rng(0)
    difference, along_u, along_v = rng.normal(size=(3, 6, 3)).astype(np.float32)
    found = least_rise(difference, along_u, along_v)
    for i in range(6):
        system = np.vstack([np.stack([along_u[i], along_v[i]], 1), DOUBT * np.eye(2)])
        expected = np.linalg.lstsq(system, np.append(difference[i], [0, 0]), rcond=None)[0]
        np.testing.assert_allclose(found[i], expected, rtol=1e-3, atol=1e-4)
    grey = np.float32([0.3, 0.3, 0.3])
    np.testing.assert_allclose(least_rise(0.5 * grey, grey, 0 * grey), [0.5 / (1 + DOUBT**2 / 0.27), 0], rtol=1e-5)


def test_light_is_found_again(space, face, run):
    """From another light back to the true one, though a tenth of the photo is covered."""
    base, *_, seen, _ = run(face, jnp.zeros((128, 128)))
    covered = seen._replace(colour=seen.colour.at[70:80].multiply(0.1))
    for photo, tolerance in ((seen, 0.01), (covered, 0.02)):
        other = base._replace(light=0.5 * base.light + 0.05)
        found = jax.jit(space.relit)(other, photo)
        chosen = np.asarray(seen.visible & (space.mask > 0)).reshape(-1)[space.dense.texel]
        away = [np.abs(np.asarray(shade(one, one.normals) - shade(base, base.normals))[:len(chosen)][chosen]).mean()
                for one in (other, found)]
        assert away[1] < tolerance < away[0]


def test_masked_regions_do_not_move(space, face, run, bumps):
    base, vertices, *_ = run(face, bumps + space.mask)
    moved = np.linalg.norm(np.asarray(vertices - base.vertices), axis=1)
    free = np.asarray(map_to_vertices(jnp.asarray(space.mask > 0, jnp.float32)[..., None], space.dense))[:, 0]
    assert moved.max() > 0.9 and not moved[free == 0].any()
    weights = space.dense.weights
    for name in PROTECTED:
        inside = np.einsum("vk,vk->v", weights, FACE.topology.region(name)[space.dense.corners]) > 0.6
        assert inside.any() and not moved[inside].any(), name
    tip = np.einsum("vk,vkc->vc", weights, np.asarray(FACE.mean)[space.dense.corners])
    away = np.linalg.norm(tip - np.asarray(FACE.mean)[FACE.topology.landmarks[30]], axis=1)
    assert not moved[away < 4].any()


def test_what_is_broad_is_left_to_the_coarse_face():
    """Waves in UV space, broad and narrow, pass as a Gaussian high-pass lets them: 1 - exp(-(sk)^2 / 2)."""
    limited = DetailSpace(FACE, 128, SIZE, broadest=8.0)
    texel = np.linalg.norm(np.diff(np.asarray(vertices_to_map(FACE.mean, limited.layout)), axis=1), axis=-1)
    texel = np.median(texel[limited.mask[:, 1:] > 0])
    column = np.arange(128)
    inside = np.zeros((128, 128), bool)
    inside[24:34, 50:78] = True  # forehead, away from every rim
    assert (limited.mask[inside] == 1).all()
    for length in (6.0, 90.0):  # mm
        wave = jnp.asarray(np.broadcast_to(np.sin(2 * np.pi * column * texel / length), (128, 128)), jnp.float32)
        passed = np.asarray(limited.fine_part(wave))
        expected = 1 - np.exp(-0.5 * (8.0 * 2 * np.pi / length)**2)
        share = np.sum(passed[inside] * np.asarray(wave)[inside]) / np.sum(np.asarray(wave)[inside]**2)
        assert share == pytest.approx(expected, abs=0.2)
        assert not passed[limited.mask == 0].any()
    np.testing.assert_allclose(limited.fine_part(jnp.ones((128, 128))), 0, atol=1e-5)


def test_depth_moves_along_the_rays(face, bumps):
    along_rays = DetailSpace(FACE, 128, SIZE, direction="depth")
    base = along_rays.dense_face(face)
    before, after = (base.camera.project(points) for points in (base.vertices, along_rays.displaced(base, bumps)))
    np.testing.assert_allclose(after[:, :2], before[:, :2], atol=2e-3)
    expected = map_to_vertices(bumps[..., None], along_rays.dense)[:, 0] * base.camera.scale
    np.testing.assert_allclose(after[:, 2] - before[:, 2], expected, atol=2e-3)


def test_gradients_reach_the_displacement(space, face, bumps):
    """Of the distance to another picture, on skin that faces the viewer, against finite differences."""
    base = jax.jit(space.dense_face)(face)
    row, column = np.mgrid[:128, :128]
    direction = bumps + 0.2 * jnp.asarray(np.cos(row / 4 + column / 5) * space.mask, jnp.float32)
    plain = jax.jit(space.render)(base, base.vertices)
    inside = (plain.colour[..., 3:4] > 0.99) & (plain.normals[..., 2:] > 0.6)

    @jax.jit
    def measure(displacement):
        shown = space.render(base, space.displaced(base, displacement))
        return jnp.sum(jnp.where(inside, (shown.colour - plain.colour)[..., :3] ** 2, 0))

    gradient = jax.grad(measure)(bumps)
    assert np.isfinite(gradient).all()
    step = 0.02
    expected = (measure(bumps + step * direction) - measure(bumps - step * direction)) / (2 * step)
    assert abs(expected) > 0.1
    assert float(jnp.sum(gradient * direction)) == pytest.approx(float(expected), rel=0.1)


@pytest.mark.parametrize("options, message", [
    ({"direction": "sideways"}, "direction: found 'sideways', expected one of normal, depth"),
    ({"uv_size": 100}, "expected a power of two"),
])
def test_bad_settings(options, message):
    with pytest.raises(ValueError, match=message):
        DetailSpace(FACE, **({"uv_size": 64, "image_size": 64} | options))
