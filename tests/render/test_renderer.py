from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scenes
import shape_checks
from jax.experimental import checkify

from sfm_jax.geometry.camera import Orthographic, Perspective, frame, to_camera
from sfm_jax.geometry.rotation import rotation_angle, rotation_from_6d, rotation_from_euler, rotation_to_6d
from sfm_jax.render import (
    Caps,
    PointLight,
    SphericalHarmonics,
    ambient,
    check_overflow,
    default_caps,
    render,
    suggest_caps,
    surface,
)

SIZE = (40, 48)
VERTICES, TRIANGLES = scenes.head(2)
UV = (VERTICES[:, :2] / 200 + 0.5).astype(np.float32)
MESH = surface(TRIANGLES, UV)
ALBEDO = jnp.asarray(scenes.colours(VERTICES))
CAMERA = Perspective(rotation_from_euler(jnp.array([25.0, 10.0, 5.0])), jnp.array([2.0, -3.0, -500.0]),
                     jnp.float32(110.0), jnp.array([24.0, 20.0]))
DRAW = jax.jit(lambda vertices, camera, albedo, light, background: render(
    vertices, MESH, camera, SIZE, albedo=albedo, light=light, background=background))


def test_outputs_have_their_shapes_and_ranges():
    image = DRAW(VERTICES, CAMERA, ALBEDO, ambient(), np.full((*SIZE, 3), 0.5, np.float32))
    chex.assert_shape([image.colour, image.normals], (*SIZE, 3))
    chex.assert_shape([image.alpha, image.depth, image.triangle], SIZE)
    chex.assert_shape(image.uv, (*SIZE, 2))
    chex.assert_type([image.colour, image.alpha, image.depth, image.normals, image.uv], jnp.float32)
    seen, alpha = np.asarray(image.triangle) >= 0, np.asarray(image.alpha)
    assert 300 < seen.sum() < 1500 and alpha.min() == 0 and alpha.max() == 1
    assert np.all(alpha[seen] > 0.4) and np.all(alpha[~seen] < 0.6) and np.any((alpha > 0) & (alpha < 1))
    assert np.all((np.asarray(image.depth) > 0) == seen) and np.all(np.asarray(image.uv)[~seen] == 0)
    length = np.linalg.norm(image.normals, axis=-1)
    np.testing.assert_allclose(length, seen, atol=1e-5)
    np.testing.assert_array_equal(np.asarray(image.colour)[alpha == 0], 0.5)


def test_attributes_are_those_of_the_ray_hit():
    """UV and colours that are linear in space equal those of the hit point: perspective-correct."""
    linear = jnp.asarray(VERTICES / 100)
    image = jax.jit(lambda vertices: render(vertices, MESH, CAMERA, SIZE, albedo=linear, edge_width=0.0))(VERTICES)
    row, column = np.mgrid[:SIZE[0], :SIZE[1]] + 0.5
    depth = np.asarray(image.depth, np.float64)
    in_camera = np.stack([(column - 24) / 110 * depth, (20 - row) / 110 * depth, -depth], -1)
    hit = (in_camera - np.asarray(CAMERA.translation)) @ np.asarray(CAMERA.rotation, np.float64)
    seen = np.asarray(image.triangle) >= 0
    np.testing.assert_allclose(np.asarray(image.colour)[seen] * 100, hit[seen], atol=0.02)
    np.testing.assert_allclose(np.asarray(image.uv)[seen], hit[seen][:, :2] / 200 + 0.5, atol=2e-4)


@pytest.mark.parametrize("behind", [False, True])
def test_the_place_of_the_worlds_origin_does_not_matter(behind):
    """Nor whether it lies behind the camera, or the mesh is in camera space already: soft edges are as they were."""
    camera = frame(VERTICES, SIZE, CAMERA.rotation, field_of_view=20.0) if behind else CAMERA
    expected = DRAW(VERTICES, camera, ALBEDO, ambient(), 0.5).colour
    if behind:
        moved = VERTICES - np.float32(np.asarray(camera.rotation)[2] * 1500)
        camera = frame(moved, SIZE, CAMERA.rotation, field_of_view=20.0)
        assert camera.translation[2] > 100
    else:
        moved = np.asarray(to_camera(VERTICES, camera.rotation, camera.translation))
        camera = camera.replace(rotation=jnp.eye(3), translation=jnp.zeros(3))
    np.testing.assert_allclose(DRAW(moved, camera, ALBEDO, ambient(), 0.5).colour, expected, atol=0.01)


def test_background_is_composited_by_alpha():
    picture = np.random.default_rng(0).random((*SIZE, 3)).astype(np.float32)
    black = DRAW(VERTICES, CAMERA, ALBEDO, ambient(), np.zeros_like(picture))
    over = DRAW(VERTICES, CAMERA, ALBEDO, ambient(), picture)
    np.testing.assert_allclose(over.colour, black.colour + (1 - black.alpha)[..., None] * picture, atol=1e-6)
    np.testing.assert_array_equal(over.alpha, black.alpha)


# Adversarial scenes: what a fit may run into.
COLLAPSED = np.zeros_like(VERTICES)
FLAT = VERTICES * np.float32([1, 1, 0])
LINE = VERTICES * np.float32([1, 0, 0])
HUGE = VERTICES * np.float32(1e4)


@pytest.mark.parametrize("name,vertices,shift", [
    ("collapsed", COLLAPSED, (0, 0, 0)), ("flat", FLAT, (0, 0, 0)), ("line", LINE, (0, 0, 0)),
    ("huge", HUGE, (0, 0, 0)),
    ("behind", VERTICES, (0, 0, 2000)), ("around", VERTICES, (0, 0, 500)), ("aside", VERTICES, (1e5, 0, 0)),
    ("partly", np.where(np.arange(len(VERTICES))[:, None] % 3 == 0, VERTICES, VERTICES[:1]), (0, 0, 0)),
])
def test_nothing_is_ever_nan(name, vertices, shift):
    camera = CAMERA.replace(translation=CAMERA.translation + jnp.array(shift, jnp.float32))
    image, gradients = DIFFERENTIATE(jnp.asarray(vertices, jnp.float32), camera, ALBEDO, LAMP)
    for leaf in jax.tree.leaves((image, gradients)):
        assert np.isfinite(np.asarray(leaf)).all()
    if name in ("behind", "aside", "collapsed", "line"):
        assert np.all(np.asarray(image.alpha) == 0) and np.all(np.asarray(gradients[0]) == 0)
    if name == "flat":
        assert np.asarray(image.alpha).max() > 0.9


LAMP = PointLight(position=jnp.array([50.0, 80.0, 100.0]), colour=jnp.full(3, 0.8), ambient=jnp.full(3, 0.2),
                  specular=jnp.float32(0.3), shininess=jnp.float32(8.0))


@jax.jit
def DIFFERENTIATE(vertices, camera, albedo, light):
    def loss(vertices, camera, albedo, light):
        image = render(vertices, MESH, camera, SIZE, albedo=albedo, light=light)
        parts = image.colour**2, image.alpha, image.depth**2, image.normals**2
        return sum(jnp.sum(part) for part in parts), image

    gradients, image = jax.grad(loss, (0, 1, 2, 3), has_aux=True)(vertices, camera, albedo, light)
    return image, gradients


def test_vmap_is_a_loop_and_traces_once():
    yaws = jnp.array([-30.0, 0.0, 40.0])
    shapes = VERTICES * jnp.array([1.0, 0.9, 1.1])[:, None, None]

    @jax.jit
    @chex.assert_max_traces(1)
    def both(vertices, yaw, light):
        camera = CAMERA.replace(rotation=rotation_from_euler(jnp.stack([yaw, 0 * yaw, 0 * yaw])))

        def loss(vertices, light):
            image = render(vertices, MESH, camera, SIZE, albedo=ALBEDO, light=light)
            return jnp.sum(image.colour**2), image

        return jax.grad(loss, (0, 1), has_aux=True)(vertices, light)

    lights = jax.tree.map(lambda a: a * jnp.arange(1.0, 4.0)[:, None, None], ambient())
    batched = jax.jit(jax.vmap(both.__wrapped__.__wrapped__))(shapes, yaws, lights)
    for i in range(3):
        single = both(shapes[i], yaws[i], jax.tree.map(lambda a, i=i: a[i], lights))
        chex.assert_trees_all_close(jax.tree.map(lambda a, i=i: a[i], batched), single, rtol=2e-3, atol=2e-3)
        np.testing.assert_array_equal(batched[1].triangle[i], single[1].triangle)


@pytest.mark.parametrize("part", ["depth", "light", "phong"])
def test_interior_gradients_are_finite_differences(part):
    """Along random directions, of a smooth functional inside of the outline, where the ids do not change the image."""
    rng = np.random.default_rng(1)
    row, column = np.mgrid[:40, :48]
    window = np.exp(-((row - 20) ** 2 + (column - 22) ** 2) / 12).astype(np.float32)[..., None]
    sky = SphericalHarmonics(jnp.asarray(rng.normal(0, 0.3, (9, 3)), jnp.float32))
    light = {"depth": None, "light": sky, "phong": LAMP}[part]

    @jax.jit
    def functional(vertices, light):
        camera = CAMERA.replace(rotation=jnp.eye(3))
        image = render(vertices, BALL, camera, SIZE, albedo=BALL_ALBEDO, light=light, edge_width=0.0)
        return jnp.sum((image.colour * jnp.array([1.0, 0.5, -0.7]) if light else image.depth[..., None]) * window)

    arguments = (jnp.asarray(BALL_VERTICES), light)
    gradient = jax.jit(jax.grad(functional, (0, 1)))(*arguments)
    wave = jnp.asarray(BALL_VERTICES / 80 + 0.3 * np.sin(BALL_VERTICES / 40))
    direction = (wave, jax.tree.map(lambda a: 0.02 * a, light))
    step = 0.1

    def at(amount):
        return float(functional(*jax.tree.map(lambda a, d: a + amount * d, arguments, direction)))

    slope = float(sum(jax.tree.leaves(jax.tree.map(jnp.vdot, gradient, direction))))
    assert slope == pytest.approx((at(step) - at(-step)) / (2 * step), rel=0.03)


BALL_VERTICES, _triangles = scenes.head(4)
BALL, BALL_ALBEDO = surface(_triangles), jnp.asarray(scenes.colours(BALL_VERTICES))


def test_suggested_caps_hold_every_pose_and_overflow_names_caps_that_do():
    caps = suggest_caps(VERTICES, MESH, SIZE, edge_width=2.0)
    cameras = list(scenes.cameras(VERTICES, 40, 12, perspective=True, seed=7))

    @partial(jax.jit, static_argnums=1)
    def draw(camera, caps):
        return render(VERTICES, MESH, camera, SIZE, albedo=ALBEDO, caps=caps)

    for camera in cameras:
        check_overflow(draw(camera, caps))
    tiny = Caps(fragments=500, large=64, tile_pairs=64, tile_blocks=8, contour=20, contour_fragments=100, band=30)
    image = draw(cameras[0], tiny)
    assert image.overflow > 0
    with pytest.raises(ValueError, match=r"list entries did not fit; caps=Caps\(fragments=\d+") as error:
        check_overflow(image)
    offered = eval(str(error.value).split("caps=")[1].removesuffix(" would do"), {"Caps": Caps})
    check_overflow(draw(cameras[0], offered))
    np.testing.assert_allclose(draw(cameras[0], offered).colour, draw(cameras[0], caps).colour, atol=1e-6)


@pytest.mark.parametrize("backend", ("window", "tiles"))
def test_the_silhouettes_list_is_as_long_whatever_finds_the_triangles(backend):
    poses = scenes.cameras(VERTICES, 40, 3, perspective=True, seed=1)
    cameras = jax.tree.map(lambda *leaves: jnp.stack(leaves), *poses)
    sizes = {name: suggest_caps(VERTICES, MESH, SIZE, cameras=cameras, backend=name).band
             for name in ("fragments", backend)}
    assert sizes[backend] == sizes["fragments"]


def test_a_vertex_that_is_no_number_leaves_the_background_alone():
    broken = jnp.asarray(VERTICES).at[TRIANGLES[0, 0]].set(jnp.nan)  # of the triangle that the background looks up
    image = jax.jit(lambda vertices: render(vertices, MESH, CAMERA, SIZE, albedo=ALBEDO, edge_width=0.0))(broken)
    background = np.asarray(image.triangle) < 0
    for part in (image.colour, image.depth, image.normals, image.uv):
        assert not np.asarray(part)[background].any()  # and no NaN, which is true


@shape_checks.off()
def test_bad_input_is_an_error():
    with pytest.raises(ValueError, match=r"albedo: shape \(162, 1\), expected \[162, C >= 3\]"):
        render(VERTICES, MESH, CAMERA, SIZE, albedo=jnp.zeros((162, 1)), light=ambient())
    with pytest.raises(ValueError, match=r"albedo: shape \(5, 3\), expected \[162, C\]"):
        render(VERTICES, MESH, CAMERA, SIZE, albedo=jnp.zeros((5, 3)))
    with pytest.raises(ValueError, match="1 of 162 are not finite"):
        render(jnp.asarray(VERTICES).at[3].set(jnp.nan), MESH, CAMERA, SIZE, albedo=ALBEDO)
    for shape in ((40, 40), (40, 48), (4,), (48, 40, 3), (2, 40, 48, 3)):
        with pytest.raises(ValueError, match=r"background: shape \(.*\), expected a number, \[C\] or \[H, W, C\]"):
            render(VERTICES, MESH, CAMERA, SIZE, albedo=ALBEDO, background=jnp.zeros(shape))
    with pytest.raises(ValueError, match=r"background: shape \(3,\)"):
        render(VERTICES, MESH, CAMERA, SIZE, albedo=ALBEDO[:, :1], background=jnp.zeros(3))
    with pytest.raises(ValueError, match=r"uv_triangles: shape \(1, 3\)"):
        surface(TRIANGLES, UV, TRIANGLES[:1])
    with pytest.raises(ValueError, match=r"uv_triangles: shape \(320, 3\), indices -1..160, expected .* within 0..161"):
        surface(TRIANGLES, UV, TRIANGLES - 1)


def test_no_texture_coordinates_are_none():
    bare = surface(TRIANGLES, np.zeros((0, 2)), np.zeros((0, 3), int))
    assert bare.uv is None and render(VERTICES, bare, CAMERA, SIZE, albedo=ALBEDO).uv is None


@pytest.mark.parametrize("caps", [
    default_caps(SIZE, len(TRIANGLES), 0.0), default_caps(SIZE, len(TRIANGLES))._replace(contour_fragments=0),
    default_caps(SIZE, len(TRIANGLES))._replace(band=0)])
def test_no_room_for_contours_is_overflow(caps):
    whole = render(VERTICES, MESH, CAMERA, SIZE, albedo=ALBEDO, caps=default_caps(SIZE, len(TRIANGLES)))
    found = render(VERTICES, MESH, CAMERA, SIZE, albedo=ALBEDO, caps=caps)
    assert int(whole.overflow) == 0 < int(found.overflow)
    np.testing.assert_array_equal(found.triangle, whole.triangle)
    chex.assert_tree_all_finite((found.colour, found.alpha))


def test_checkify_reports_what_jit_cannot_raise():
    def draw(vertices):
        return render(vertices, MESH, CAMERA, SIZE, albedo=ALBEDO, edge_width=0.0).alpha

    checked = jax.jit(checkify.checkify(draw, checkify.user_checks))
    assert checked(jnp.asarray(VERTICES))[0].get() is None
    assert "non-finite" in checked(jnp.asarray(VERTICES).at[3].set(jnp.nan))[0].get()


def test_fit_recovers_pose_and_shape_from_an_image():
    """30 degrees off and with the mean shape, Adam on colour and alpha finds the head that a hard, fine image shows."""
    size, fine = 48, 4
    vertices, triangles = scenes.head(3)
    mesh, albedo = surface(triangles), jnp.asarray(scenes.colours(vertices))
    basis = jnp.asarray(np.stack([
        vertices * [0.15, 0, 0], vertices * [0, 0.15, 0], vertices * [0, 0, 0.15],
        8 * np.sin(vertices / 30)[:, [1, 2, 0]],
    ]).astype(np.float32))
    code = jnp.array([1.0, -0.8, -1.0, 0.9])

    def parameters(degrees, shift, code):
        return {"six": rotation_to_6d(rotation_from_euler(jnp.array(degrees))), "shift": jnp.array(shift), "code": code}

    truth = parameters([15.0, -10.0, 5.0], [8.0, -6.0], code)
    start = parameters([-15.0, -8.0, 8.0], [0.0, 0.0], jnp.zeros(4))

    def image(p, size, width):
        offset, scale = jnp.append(p["shift"], 0.0), jnp.float32(size * 0.33 / 80)
        camera = Orthographic(rotation_from_6d(p["six"]), offset, scale, jnp.full(2, size / 2))
        shape = vertices + jnp.tensordot(p["code"], basis, 1)
        shot = render(shape, mesh, camera, (size, size), albedo=albedo, edge_width=width)
        return jnp.concatenate([shot.colour, shot.alpha[..., None]], -1)

    target = jax.jit(lambda p: image(p, size * fine, 0.0))(truth).reshape(size, fine, size, fine, 4).mean((1, 3))
    optimiser = optax.adam(optax.cosine_decay_schedule(0.05, 250))
    scale = {"six": 1.0, "shift": 20.0, "code": 1.0}

    def loss(scaled):
        return jnp.mean(jnp.abs(image(jax.tree.map(lambda a, s: a * s, scaled, scale), size, 2.0) - target))

    @jax.jit
    def fit(scaled):
        def step(carry, _):
            scaled, state = carry
            gradient = jax.grad(loss)(scaled)
            with jax.numpy_dtype_promotion("standard"):  # optax multiplies its counts of steps by floats
                updates, state = optimiser.update(gradient, state)
            return (optax.apply_updates(scaled, updates), state), None

        return jax.lax.scan(step, (scaled, optimiser.init(scaled)), None, 250)[0][0]

    found = jax.tree.map(lambda a, s: a * s, fit(jax.tree.map(lambda a, s: a / s, start, scale)), scale)
    angle = rotation_angle(rotation_from_6d(found["six"]), rotation_from_6d(truth["six"]))
    error = np.linalg.norm(jnp.tensordot(found["code"] - code, basis, 1), axis=1).mean()
    at_start = np.linalg.norm(jnp.tensordot(code, basis, 1), axis=1).mean()
    assert angle < 1.0 and error < 0.5 * at_start, (angle, error, at_start)
    np.testing.assert_allclose(found["shift"], truth["shift"], atol=1.0)
