import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scenes
import trimesh

from sfm_jax.geometry.camera import Orthographic
from sfm_jax.render import ambient, harmonics, render, surface

SIZE = 40
BALL = trimesh.creation.icosphere(subdivisions=0, radius=1.0)
VERTICES, TRIANGLES = np.asarray(BALL.vertices), np.asarray(BALL.faces, np.int32)
NORMALS = VERTICES / np.linalg.norm(VERTICES, axis=1, keepdims=True)
COLOURS = scenes.colours(37 * VERTICES)
MESH = surface(TRIANGLES)
row, column = np.mgrid[:SIZE, :SIZE] / SIZE
WEIGHTS = np.stack([np.sin(5 * column + 3 * row + k) + np.cos(4 * row - 2 * column * k) for k in range(4)], -1)
# What a test moves: vertices [12, 3], colours [12, 3], (yaw, x, y) of the camera, light [9, 3].
START = {
    "vertices": VERTICES, "colours": COLOURS.astype(np.float64), "camera": np.array([0.3, 0.05, -0.1]),
    "light": np.random.default_rng(0).normal(0, 0.15, (9, 3)) + np.asarray(ambient(0.8).coefficients, np.float64),
}


def ours(parameters, edge_width=2.0):
    """The image [H, W, 4] (colour, alpha) of a lit ball of twenty faces."""
    camera, zero = parameters["camera"], jnp.zeros(())
    c, s = jnp.cos(camera[0]), jnp.sin(camera[0])
    rotation = jnp.stack([jnp.stack([c, zero, s]), jnp.array([0.0, 1.0, 0.0]), jnp.stack([-s, zero, c])])
    shot = Orthographic(rotation, jnp.stack([camera[1], camera[2], zero]), jnp.float32(14.0), jnp.full(2, SIZE / 2))
    lit = parameters["colours"] * (harmonics(jnp.asarray(NORMALS, jnp.float32)) @ parameters["light"])
    image = render(parameters["vertices"], MESH, shot, (SIZE, SIZE), albedo=lit, edge_width=edge_width)
    return jnp.concatenate([image.colour, image.alpha[..., None]], -1)


def reference(parameters, fine=2, sigma=0.1, gamma=1e-2):
    """The same of Soft Rasterizer's image, `fine` times oversampled: float64 NumPy."""
    angle, x, y = parameters["camera"]
    c, s = np.cos(angle), np.sin(angle)
    p = parameters["vertices"] @ np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]).T + [x, y, 0]
    p = np.stack([SIZE / 2 + 14 * p[:, 0], SIZE / 2 - 14 * p[:, 1], 14 * p[:, 2]], 1)
    p[:, :2] *= fine
    x, y, z = NORMALS.T
    a, b, c, d, e = 0.886227, 1.023327, 0.247708, 0.858086, 0.429043
    basis = np.stack([a + 0 * z, b * z, b * x, b * y,
                      c * (3 * z * z - 1), d * x * z, d * y * z, e * (x * x - y * y), d * x * y], 1)
    lit = parameters["colours"] * (basis @ parameters["light"])
    colour, alpha = scenes.softras(p, TRIANGLES, lit[TRIANGLES], SIZE * fine, sigma * fine**2, gamma)
    return np.concatenate([colour, alpha[..., None]], -1).reshape(SIZE, fine, SIZE, fine, 4).mean((1, 3))


@pytest.fixture(scope="module")
def single():
    return jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), START)


@pytest.fixture(scope="module")
def soft_and_hard(single):
    """Per edge width: gradients and image."""
    def functional(parameters, width):
        image = ours(parameters, width)
        return jnp.sum(image * WEIGHTS.astype(np.float32)), image

    return {w: jax.jit(jax.grad(lambda p, w=w: functional(p, w), has_aux=True))(single) for w in (0.0, 2.0)}


@pytest.mark.parametrize("name", list(START))
def test_gradients_are_those_of_the_full_soft_rasterizer(name, soft_and_hard):
    expected = scenes.differences(lambda at: np.sum(reference({**START, name: at}) * WEIGHTS), START[name], 1e-2)
    cosine, ratio = scenes.agreement(soft_and_hard[2.0][0][name], expected)
    assert cosine > 0.98 and 0.9 < ratio < 1.1, (cosine, ratio)
    # The measure tells: a hard renderer fails it wherever edges move.
    cosine, ratio = scenes.agreement(soft_and_hard[0.0][0][name], expected)
    assert (cosine > 0.98 and 0.9 < ratio < 1.1) == (name in ("colours", "light"))


def test_image_is_that_of_the_full_soft_rasterizer(soft_and_hard):
    """Up to its bias: there a face reaches beyond its edges, so a ball of faces is fatter by a third of a pixel."""
    image = soft_and_hard[2.0][1]
    error = np.abs(image - reference(START))
    assert error.mean() < 0.012 and error.max() < 0.4
    assert 30 < np.sum((image[..., 3] > 0.02) & (image[..., 3] < 0.98)) < 250


# A square plate [20, 44] x [20, 44] before a wall that is larger than the image: the edges are self-occlusions.
PLATE = np.array([[20, 20, 9], [44, 20, 9], [44, 44, 9], [20, 44, 9]], np.float32)
WALL = np.array([[-50, -50, 0], [150, -50, 0], [150, 150, 0], [-50, 150, 0]], np.float32)
QUAD = np.array([[0, 1, 2], [0, 2, 3]])
PIXELS = Orthographic(np.diag([1, -1, 1]).astype(np.float32), jnp.zeros(3), jnp.float32(1), jnp.zeros(2))  # y down
TONES = np.repeat(np.array([[0.9], [0.2]], np.float32), 4, 0)


def plate_image(x, y, size, width, wall=WALL):
    """The plate moved by (x, y) and grown by `size` about its middle, as [64, 64]."""
    middle = jnp.array([32.0, 32.0, 9.0])
    grown = middle + jnp.stack([x, y, 0 * x]) + size * (PLATE - middle)
    mesh = surface(np.concatenate([QUAD, QUAD + 4]) if wall is not None else QUAD)
    vertices = grown if wall is None else jnp.concatenate([grown, wall])
    image = render(vertices, mesh, PIXELS, (64, 64), albedo=jnp.asarray(TONES[:len(vertices)]), edge_width=width)
    return image.colour[..., 0]


@pytest.mark.parametrize("wall,contrast", [(WALL, 0.7), (None, 0.9)], ids=["self-occlusion", "outer"])
def test_edge_gradients_are_those_of_areas(wall, contrast, width=2.0):
    """d sum(x image) / d shift = contrast * area, and d sum(image) / d size = contrast * 2 area: no constants to tune.

    Up to the corners, which distance rounds.
    """
    at = (jnp.float32(0.3), jnp.float32(-0.2), jnp.float32(1.0))
    columns = np.arange(64, dtype=np.float32) + 0.5

    @jax.jit
    def both(x, y, size):
        image, pull = jax.vjp(lambda *a: plate_image(*a, width, wall), x, y, size)
        weighted = jnp.broadcast_to(jnp.asarray(columns), (64, 64))
        return image, pull(weighted), pull(weighted.T), pull(jnp.ones((64, 64)))

    image, along, down, growth = both(*at)
    area = 24 * 24
    np.testing.assert_allclose(along[0], contrast * area, rtol=0.06)
    np.testing.assert_allclose(down[1], contrast * area, rtol=0.06)
    np.testing.assert_allclose(growth[2], contrast * 2 * area, rtol=0.06)
    behind = 0.0 if wall is None else 0.2 * 64**2
    np.testing.assert_allclose(np.asarray(image, np.float64).sum(), contrast * area + behind, rtol=0.01)
    assert np.all((image >= 0) & (image <= 0.9 + 1e-6))


def test_no_gradient_without_width():
    slope = jax.jit(jax.grad(lambda x: jnp.sum(plate_image(x, jnp.zeros(()), jnp.ones(()), 0.0) * np.arange(64.0))))
    assert abs(slope(0.3)) < 1e-4


def test_nose_over_cheek_moves_with_the_head():
    """Turned by 21 to 28 degrees: the slope by yaw of the colours around the nose, against oversampled hard images."""
    vertices, triangles = scenes.head(4)
    mesh, size, fine = surface(triangles), 64, 6
    albedo = jnp.asarray(scenes.colours(vertices))
    row, column = np.mgrid[:size, :size]
    window = np.exp(-((row - 34) ** 2 + (column - 42) ** 2) / 32)[..., None]  # around the tip of the nose

    def image(degrees, size, width):
        angle = jnp.deg2rad(degrees)
        c, s, zero, one = jnp.cos(angle), jnp.sin(angle), jnp.zeros(()), jnp.ones(())
        rotation = jnp.stack([jnp.stack([c, zero, s]), jnp.stack([zero, one, zero]), jnp.stack([-s, zero, c])])
        camera = Orthographic(rotation, jnp.zeros(3), jnp.float32(size * 0.3 / 80), jnp.full(2, size / 2))
        return render(vertices, mesh, camera, (size, size), albedo=albedo, edge_width=width, background=0.5).colour

    fine_image = jax.jit(lambda degrees: image(degrees, size * fine, 0.0))

    def truth(degrees):
        small = np.asarray(fine_image(degrees), np.float64).reshape(size, fine, size, fine, 3).mean((1, 3))
        return np.sum(small * window)

    def slope(width):
        differentiate = jax.jit(jax.grad(lambda d: jnp.sum(image(d, size, width) * window)))
        return np.mean([differentiate(d) for d in np.arange(21.0, 28.5, 0.5)])

    expected = (truth(28.25) - truth(20.75)) / 7.5
    assert abs(slope(2.0) - expected) < 0.1 * abs(expected)
    assert abs(slope(0.0) - expected) > 0.3 * abs(expected)
