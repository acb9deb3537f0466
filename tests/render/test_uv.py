import dataclasses
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scenes
import shape_checks
import trimesh
from jax.test_util import check_grads

from sfm_jax.geometry.camera import Orthographic, Perspective, frame, to_camera
from sfm_jax.geometry.rotation import rotation_from_euler
from sfm_jax.morphable.default import load_default
from sfm_jax.render.renderer import render, surface
from sfm_jax.render.uv import displace, map_to_vertices, sample_map, unwrap, uv_layout, vertices_to_map
from sfm_jax.render.visibility import visibility

FACE = load_default(0)
LAYOUT = uv_layout(FACE.topology, 128)
MEAN = np.asarray(FACE.mean, np.float64)


SPHERE, BALL = scenes.octahedral_sphere(24, 50.0)
TILT = Orthographic(rotation_from_euler(jnp.array([20.0, 30.0, 10.0])), jnp.zeros(3), jnp.float32(0.4),
                    jnp.array([32.0, 24.0]))
SHAPE = (48, 64)
UNWRAP = jax.jit(unwrap, static_argnums=3)


def texel_uv(size):
    row, column = np.mgrid[:size, :size]
    return np.stack([(column + 0.5) / size, 1 - (row + 0.5) / size], -1)


def see(vertices, mesh, camera, image_size):
    seen = jax.jit(lambda points: visibility(points, mesh.triangles, image_size))(camera.project(vertices))
    assert seen.overflow == 0
    return seen.triangle


# ------------------------------------------------------------------------------------------------ layout

@pytest.mark.parametrize("size", [64, 256])
def test_weights_give_the_uv_of_the_texels_centre(size):
    layout = uv_layout(FACE.topology, size)
    corner = layout.uv[layout.uv_triangles[layout.triangle]]
    uv = np.sum(layout.weights[..., None] * corner, -2)
    np.testing.assert_allclose(uv[layout.mask], texel_uv(size)[layout.mask], atol=1e-6)
    assert layout.weights[layout.mask].min() > -1e-6
    corners = FACE.topology.uv[FACE.topology.uv_triangles].astype(np.float64)
    area = np.linalg.det(corners[:, 1:] - corners[:, :1]).sum() / 2
    assert abs(layout.mask.mean() - area) < 0.01 * area
    gutter = (layout.triangle >= 0) & ~layout.mask
    apart = np.linalg.norm(uv - texel_uv(size), axis=-1)[gutter] * size
    assert gutter.sum() > 0.02 * size**2 and apart.max() < 2.01
    assert (layout.weights[gutter].min(-1) == 0).all()


def test_row_zero_is_the_top():
    vertices, triangles, uv = scenes.grid(3, 2, lambda uv: np.pad(uv, ((0, 0), (0, 1))), y=(0.6, 0.95))
    layout = uv_layout(surface(triangles, uv), 32)
    assert layout.mask[2:12].any() and not layout.mask[14:].any()
    position = np.asarray(vertices_to_map(vertices, layout))
    np.testing.assert_allclose(position[layout.mask][:, :2], texel_uv(32)[layout.mask], atol=1e-6)


def test_linear_map_comes_back_to_the_vertices():
    uv, topology = texel_uv(128), FACE.topology
    ramp = np.concatenate([uv, 3 * uv[..., :1] - uv[..., 1:] + 1], -1).astype(np.float32)
    hidden = np.where(LAYOUT.mask[..., None], ramp, np.nan)
    found = np.asarray(map_to_vertices(jnp.asarray(hidden), LAYOUT))
    pairs = np.unique(np.stack([topology.triangles, topology.uv_triangles], -1).reshape(-1, 2), axis=0)
    count = np.bincount(pairs[:, 0])
    mean = np.stack([np.bincount(pairs[:, 0], topology.uv[pairs[:, 1], k]) / count for k in (0, 1)], 1)
    expected = np.concatenate([mean, 3 * mean[:, :1] - mean[:, 1:] + 1], 1)
    # Away from borders all four texels around belong to the vertex's chart.
    inside = np.bincount(LAYOUT.sample_vertex, (LAYOUT.sample_weights > 0).all(1)) == count
    assert inside.mean() > 0.8
    np.testing.assert_allclose(found[inside], expected[inside], atol=2e-6)
    np.testing.assert_allclose(found[:, :2], expected[:, :2], atol=1.5 / 128)


# ------------------------------------------------------------------------------------------------ unwrap

@pytest.mark.parametrize("perspective", [False, True])
def test_linear_image_unwraps_exactly(perspective):
    camera = Perspective(TILT.rotation, jnp.array([0.0, 0.0, -400.0]), jnp.float32(160.0), TILT.centre)
    camera = camera if perspective else TILT
    vertices, triangles, uv = scenes.grid(6, 6, scenes.plane)
    mesh = surface(triangles, uv)
    layout = uv_layout(mesh, 64)
    row, column = np.mgrid[:SHAPE[0], :SHAPE[1]] + 0.5
    image = np.stack([2 * column - row, 0.1 * column + 3 * row], -1).astype(np.float32)
    colour, visible = UNWRAP(image, vertices, camera, layout, see(vertices, mesh, camera, SHAPE))
    c = scenes.as_float64(camera)
    points = scenes.plane(texel_uv(64).reshape(-1, 2)) @ c["rotation"].T + c["translation"]
    scale = c["focal"] / -points[:, 2] if perspective else c["scale"]
    x = (c["centre"][0] + scale * points[:, 0]).reshape(64, 64)
    y = (c["centre"][1] - scale * points[:, 1]).reshape(64, 64)
    expected = np.stack([2 * x - y, 0.1 * x + 3 * y], -1)
    np.testing.assert_allclose(np.asarray(colour)[layout.mask], expected[layout.mask], atol=2e-3)
    assert not np.asarray(visible)[~layout.mask].any() and np.asarray(visible).sum() > 0.85 * layout.mask.sum()


def test_visible_texels_are_those_that_rays_reach():
    camera = frame(FACE.mean, (192, 192), rotation_from_euler(jnp.array([0.0, 40.0, 0.0])))
    layout = uv_layout(FACE.topology, 64)
    triangles = FACE.topology.triangles
    _, visible = UNWRAP(np.zeros((192, 192, 1)), FACE.mean, camera, layout,
                        see(FACE.mean, FACE.topology, camera, (192, 192)))
    some = layout.mask & (np.arange(64)[:, None] % 2 == np.arange(64) % 2)
    visible, face, weights = np.asarray(visible)[some], layout.triangle[some], layout.weights[some]
    place = np.einsum("tk,tkc->tc", weights.astype(np.float64), MEAN[triangles[face]])
    towards = np.asarray(camera.rotation, np.float64)[2]
    normal = trimesh.Trimesh(MEAN, triangles, process=False).face_normals[face]
    # From a millimetre (less than a pixel) above the surface nothing may be in the way to the viewer.
    ids, *_ = scenes.cast(MEAN, triangles, place + 1.0 * towards, np.broadcast_to(towards, place.shape))
    free = ids < 0
    assert free[visible].mean() > 0.995 and (normal[visible] @ towards > 0.1).all()
    assert visible[free & (normal @ towards > 0.4)].mean() > 0.95
    assert abs(visible.mean() / (free & (normal @ towards > 0.15)).mean() - 1) < 0.1


def test_what_is_visible_does_not_depend_on_the_place_of_the_worlds_origin():
    camera = frame(FACE.mean, (64, 64), rotation_from_euler(jnp.array([60.0, 0.0, 0.0])), field_of_view=20.0)
    layout, image = uv_layout(FACE.topology, 64), np.zeros((64, 64, 1), np.float32)
    moved = to_camera(FACE.mean, camera.rotation, camera.translation)
    at_origin = camera.replace(rotation=jnp.eye(3), translation=jnp.zeros(3))
    _, expected = UNWRAP(image, FACE.mean, camera, layout, see(FACE.mean, FACE.topology, camera, (64, 64)))
    _, visible = UNWRAP(image, moved, at_origin, layout, see(moved, FACE.topology, at_origin, (64, 64)))
    assert np.mean(visible != expected) < 0.002 and np.mean(expected) > 0.2


@pytest.mark.parametrize("aside,depth,turn", [(9e3, -400.0, 0.0), (0.0, 100.0, 0.0), (0.0, -400.0, 180.0)])
def test_what_the_camera_does_not_see_is_not_visible(aside, depth, turn):
    vertices, triangles, uv = scenes.grid(6, 6, scenes.plane)
    mesh = surface(triangles, uv)
    camera = Perspective(rotation_from_euler(jnp.array([0.0, turn, 0.0])), jnp.array([aside, 0.0, depth]),
                         jnp.float32(160.0), TILT.centre)
    image = np.ones((*SHAPE, 1), np.float32)
    layout, seen = uv_layout(mesh, 32), see(vertices, mesh, camera, SHAPE)

    @jax.jit
    def differentiate(vertices):
        result = unwrap(image, vertices, camera, layout, seen)
        return result, jax.grad(lambda v: jnp.sum(unwrap(image, v, camera, layout, seen).colour))(vertices)

    result, gradient = differentiate(vertices)
    assert not np.asarray(result.visible).any()
    assert np.isfinite(np.asarray(result.colour)).all() and np.isfinite(np.asarray(gradient)).all()


def test_unwrapped_image_renders_as_it_was():
    size = (224, 224)
    mesh = surface(FACE.topology.triangles, FACE.topology.uv, FACE.topology.uv_triangles)
    layout = uv_layout(FACE.topology, 256)
    camera = frame(FACE.mean, size, rotation_from_euler(jnp.array([5.0, 20.0, 0.0])))
    texture = scenes.colours(3 * np.asarray(vertices_to_map(FACE.mean, layout)))

    @jax.jit
    def there_and_back(vertices):
        seen = render(vertices, mesh, camera, size, albedo=FACE.albedo(jnp.zeros(1)), edge_width=0.0)
        picture = jnp.where(seen.triangle[..., None] >= 0, sample_map(texture, seen.uv), 0.0)
        unwrapped = unwrap(picture, vertices, camera, layout, seen.triangle)
        return seen, picture, unwrapped, sample_map(unwrapped.colour, seen.uv), sample_map(
            unwrapped.visible[..., None].astype(jnp.float32), seen.uv)

    seen, picture, unwrapped, again, share = jax.tree.map(np.asarray, there_and_back(FACE.mean))
    assert seen.overflow == 0

    def psnr(error):
        return -10 * np.log10(np.mean(np.square(error, dtype=np.float64)))

    shown = (seen.triangle >= 0) & (share[..., 0] > 0.99)
    assert shown.sum() > 0.85 * (seen.triangle >= 0).sum() and unwrapped.visible.sum() > 0.4 * layout.mask.sum()
    figures = psnr((again - picture)[shown]), psnr((unwrapped.colour - texture)[unwrapped.visible])
    assert min(figures) > 30, figures


# ------------------------------------------------------------------------------------------------ displace

def test_constant_map_moves_a_sphere_along_its_normals():
    layout = uv_layout(SPHERE, 32)
    offsets = map_to_vertices(jnp.full((32, 32, 1), 3.0), layout)[:, 0]
    np.testing.assert_allclose(offsets, 3, atol=1e-5)
    moved = displace(jnp.asarray(BALL), SPHERE.triangles, offsets)
    np.testing.assert_allclose(np.linalg.norm(moved, axis=1), 53, atol=0.01)


def test_moves_along_depth_keep_the_image_points():
    camera = Perspective(TILT.rotation, jnp.array([5.0, 0.0, -300.0]), jnp.float32(160.0), TILT.centre)
    offsets = jnp.linspace(-4.0, 6.0, len(BALL))
    moved = displace(jnp.asarray(BALL), SPHERE.triangles, offsets, camera)
    np.testing.assert_allclose(camera.project(moved)[:, :2], camera.project(BALL)[:, :2], atol=1e-3)
    eye = -np.asarray(camera.rotation).T @ np.asarray(camera.translation)
    nearer = np.linalg.norm(BALL - eye, axis=1) - np.linalg.norm(moved - eye, axis=1)
    np.testing.assert_allclose(nearer, offsets, atol=1e-3)
    along = displace(jnp.asarray(BALL), SPHERE.triangles, offsets, TILT)
    np.testing.assert_allclose(along - BALL, offsets[:, None] * TILT.rotation[2], atol=1e-5)


# ------------------------------------------------------------------------------------------------ as functions

def test_gradients_are_finite_differences():
    """In an image that bilinear interpolation reproduces, hence without kinks."""
    vertices, triangles, uv = scenes.grid(3, 3, scenes.plane)
    mesh = surface(triangles, uv)
    layout = uv_layout(mesh, 16)
    row, column = (np.mgrid[:SHAPE[0], :SHAPE[1]] + 0.5).astype(np.float32) / 64
    image = jnp.asarray(np.stack([column - 2 * row, column * row], -1))
    seen = see(vertices, mesh, TILT, SHAPE)
    weights = np.random.default_rng(1).random((16, 16, 2)).astype(np.float32)

    @jax.jit
    def unwrapped(image, vertices, camera):
        return jnp.sum(weights * unwrap(image, vertices, camera, layout, seen).colour)

    @jax.jit
    def displaced(height, vertices):
        moved = displace(vertices, triangles, map_to_vertices(height, layout)[:, 0], TILT)
        return jnp.sum(jnp.sin(displace(moved, triangles, moved[:, 0] / 40) / 30))

    check_grads(lambda i: unwrapped(i, vertices, TILT), (image,), 1, ["rev"], eps=1e-1, atol=1e-2, rtol=1e-2)
    check_grads(partial(unwrapped, image), (jnp.asarray(vertices), TILT), 1, ["rev"], eps=1e-2, atol=1e-2, rtol=1e-2)
    check_grads(displaced, (jnp.asarray(weights[..., :1]), jnp.asarray(vertices)), 1, ["rev"], eps=1e-1, atol=1e-2,
                rtol=1e-2)


def test_one_trace_for_equal_layouts_and_batches():
    mesh = surface(*(np.array(a) for a in scenes.grid(3, 3, scenes.plane)[1:]))
    vertices = scenes.grid(3, 3, scenes.plane)[0]
    image = np.random.default_rng(2).random((*SHAPE, 3)).astype(np.float32)
    seen = see(vertices, mesh, TILT, SHAPE)

    def batched(image, vertices, layout):
        return jax.vmap(lambda v: unwrap(image, v, TILT, layout, seen))(vertices)

    function = jax.jit(chex.assert_max_traces(batched, n=1), static_argnums=2)

    batch = np.stack([vertices, vertices + 1])
    assert uv_layout(mesh, 32) != uv_layout(mesh, 64) and uv_layout(mesh, 32) == uv_layout(mesh, 32)
    results = [function(image, batch, uv_layout(mesh, 32)) for _ in range(2)]
    chex.assert_trees_all_equal(*results)
    chex.assert_type(results[0].colour, jnp.float32)
    single = UNWRAP(image, batch[1], TILT, uv_layout(mesh, 32), seen)
    np.testing.assert_allclose(results[0].colour[1], single.colour, atol=1e-5)
    np.testing.assert_array_equal(results[0].visible[1], single.visible)


# ------------------------------------------------------------------------------------------------ bad input

@shape_checks.off()
def test_errors_say_what_was_expected():
    none = dataclasses.replace(FACE.topology, uv=np.zeros((0, 2)), uv_triangles=np.zeros((0, 3), np.int32))
    cases = [
        (lambda: uv_layout(none, 64), "no UV layout; add one with dataclasses.replace"),
        (lambda: uv_layout(surface(FACE.topology.triangles), 64), "no UV layout; add one"),
        (lambda: uv_layout(FACE.topology, 100), "size: found 100, expected a power of two"),
        (lambda: uv_layout(FACE.topology, 64.0), "size: found 64.0, expected a power of two"),
        (lambda: uv_layout(FACE.topology, 4), "size: 4 leaves . of 7 UV charts without a texel"),
        (lambda: uv_layout(dataclasses.replace(FACE.topology, uv=FACE.topology.uv * 2), 64), "expected 0..1"),
        (lambda: uv_layout(dataclasses.replace(FACE.topology, uv=FACE.topology.uv[:50]), 64), "below 50"),
        (lambda: map_to_vertices(jnp.zeros((64, 64, 1)), LAYOUT), r"expected \[128, 128, C\]"),
        (lambda: unwrap(jnp.zeros((8, 8, 3)), FACE.mean, TILT, LAYOUT, jnp.zeros((8, 9), int)), "triangle .8, 9."),
        (lambda: displace(FACE.mean, FACE.topology.triangles, jnp.zeros((3642, 1))), r"expected \(3642,\)"),
    ]
    for call, message in cases:
        with pytest.raises(ValueError, match=message) as error:
            call()
        assert "\n" not in str(error.value)
