import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scenes
import shape_checks
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st

from sfm_jax.render import Caps, render, surface
from sfm_jax.render.visibility import BACKENDS, visibility

SIZE = 48


@pytest.mark.parametrize("perspective", [False, True])
def test_ids_and_depths_are_those_of_ray_casting(perspective):
    vertices, triangles = scenes.head(2)
    mesh = surface(triangles)

    @jax.jit
    def draw(camera):
        return render(vertices, mesh, camera, (SIZE, SIZE), albedo=scenes.colours(vertices), edge_width=0.0)

    compared = 0
    for camera in scenes.cameras(vertices, SIZE, 6, perspective):
        image = draw(camera)
        origin, direction = scenes.rays(camera, SIZE)
        ids, parameters, clearance = scenes.cast(vertices, triangles, origin, direction)
        sure = clearance > 1e-4
        found = np.asarray(image.triangle).ravel()
        np.testing.assert_array_equal(found[sure], ids[sure])
        assert image.overflow == 0 and np.mean(sure) > 0.97
        seen = sure & (ids >= 0)
        hit = (origin + direction * parameters[:, None])[seen]
        expected = -scenes.project(camera, hit)[:, 2]
        np.testing.assert_allclose(np.asarray(image.depth).ravel()[seen], expected, rtol=1e-5, atol=2e-3)
        compared += seen.sum()
    assert compared > 3000


@pytest.mark.parametrize("face", [scenes.embedded, scenes.ict])
def test_realistic_face_against_embree(face):
    pytest.importorskip("embreex")
    vertices, triangles = face()
    caster = trimesh.ray.ray_pyembree.RayMeshIntersector(trimesh.Trimesh(vertices, triangles, process=False))
    size, same, covered = 112, 0, 0
    for camera in scenes.cameras(vertices, size, 20, perspective=False):
        found = np.asarray(see(camera.project(vertices), triangles, (size, size)).triangle).ravel()
        origin, direction = scenes.rays(camera, size)
        ids = caster.intersects_first(origin, direction)
        # Away from edges: the four rays 0.02 pixels around hit the same triangle.
        shift = 0.02 / np.asarray(camera.scale) * np.asarray(camera.rotation)[:2]
        sure = np.all([caster.intersects_first(origin + s, direction) == ids for s in (*shift, *-shift)], 0)
        same += np.sum((found == ids)[sure & (ids >= 0)])
        covered += np.sum(sure & (ids >= 0))
    assert covered > 40_000 and same >= 0.999 * covered, (same, covered)


see = jax.jit(visibility, static_argnames=["image_size", "backend", "caps", "cull"])


def identical(points, triangles, size, cull=False):
    seen = [see(points, triangles, size, backend, GENEROUS, cull) for backend in BACKENDS]
    for other in seen[1:]:
        np.testing.assert_array_equal(other.triangle, seen[0].triangle)
    assert [int(s.overflow) for s in seen] == [0, 0, 0]
    return np.asarray(seen[0].triangle)


GENEROUS = Caps(fragments=200_000, large=200_000, tile_pairs=20_000, tile_blocks=400)


@pytest.mark.parametrize("cull", [False, True])
def test_backends_give_identical_ids_on_a_head(cull):
    vertices, triangles = scenes.head(2)
    for camera in scenes.cameras(vertices, 53, 3, perspective=True, seed=1):
        ids = identical(camera.project(vertices), triangles, (53, 40), cull)
        assert len(np.unique(ids)) > 50


def test_backends_give_identical_ids_where_thousands_of_triangles_share_a_tile():
    vertices, triangles = scenes.head(4)
    for camera in scenes.cameras(vertices, 19, 2, perspective=True, seed=3):
        assert len(np.unique(identical(camera.project(vertices), triangles, (19, 17)))) > 50


@pytest.mark.parametrize("backend", BACKENDS)
def test_images_drawn_as_one_as_on_accelerators_are_each_what_it_was(backend, monkeypatch):
    vertices, triangles = scenes.head(3)
    points = jnp.stack([camera.project(vertices) for camera in scenes.cameras(vertices, 40, 3, perspective=True)])

    def draw(points):
        seen = visibility(points, triangles, (40, 37), backend, GENEROUS)
        return seen.triangle, seen.depth, seen.overflow

    alone = [jax.jit(draw)(each) for each in points]
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    ids, depths, overflow = jax.jit(jax.vmap(draw))(points)
    assert not overflow.any() and len(np.unique(ids)) > 100
    for index, (id_alone, depth_alone, _) in enumerate(alone):
        # Two programs round the depth, and whether a pixel lies on an edge, differently.
        same = np.asarray(ids[index] == id_alone)
        assert np.mean(same) > 0.995
        np.testing.assert_allclose(np.asarray(depths[index])[same], np.asarray(depth_alone)[same], rtol=1e-5)


def test_too_few_blocks_lose_pixels_and_say_so():
    vertices, triangles = scenes.head(3)
    points = next(scenes.cameras(vertices, 40, 1, perspective=True)).project(vertices)
    whole = see(points, triangles, (40, 40), "tiles", GENEROUS)
    for blocks in (0, 1, 5, 9):
        seen = see(points, triangles, (40, 40), "tiles", Caps(tile_pairs=20_000, tile_blocks=blocks))
        assert int(seen.overflow) == int(whole.demand.tile_blocks) - blocks > 0
        # What is listed is compared in full but for the tile that was cut off: there something farther may be seen.
        wrong = (np.asarray(seen.triangle) >= 0) & (np.asarray(seen.triangle) != np.asarray(whole.triangle))
        rows, columns = np.nonzero(wrong)
        assert len({*zip(rows // 16, columns // 16, strict=True)}) <= 1
        assert (np.asarray(seen.triangle) >= 0).sum() >= 100 * (blocks >= 5)


def test_what_too_few_pairs_demand_is_enough():
    vertices, triangles = scenes.head(3)
    points = next(scenes.cameras(vertices, 40, 1, perspective=True)).project(vertices)
    whole = see(points, triangles, (40, 40), "tiles", GENEROUS)
    short = see(points, triangles, (40, 40), "tiles", Caps(tile_pairs=100, tile_blocks=4))
    assert int(short.overflow) > 0 and short.demand.tile_pairs == whole.demand.tile_pairs
    enough = Caps(tile_pairs=int(short.demand.tile_pairs), tile_blocks=int(short.demand.tile_blocks))
    again = see(points, triangles, (40, 40), "tiles", enough)
    assert int(again.overflow) == 0
    np.testing.assert_array_equal(again.triangle, whole.triangle)


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 2**31), scale=st.sampled_from([0.5, 5.0, 100.0, 3000.0]))
def test_backends_give_identical_ids_on_triangle_soup(seed, scale):
    """Slivers, collapsed and coincident triangles, and such as reach far outside of the image."""
    rng = np.random.default_rng(seed)
    points = rng.normal(20.0, scale, (60, 3)).astype(np.float32)
    points[:12] = np.round(points[:12])
    identical(jnp.asarray(points), TRIANGLES_OF_SOUP, (41, 37))


TRIANGLES_OF_SOUP = np.random.default_rng(0).integers(0, 60, (100, 3)).astype(np.int32)


def test_ties_go_to_the_smaller_index():
    points = jnp.array([[-5.0, -5.0, 1.0], [40.0, -5.0, 1.0], [-5.0, 40.0, 1.0]])
    for first in ([0, 1, 2], [2, 1, 0]):
        assert (identical(points, np.array([first, [0, 1, 2]]), (8, 8)) == 0).all()


def test_no_pinholes_in_a_closed_surface():
    vertices, triangles = scenes.head(3)
    for camera in scenes.cameras(vertices, 64, 4, perspective=False, seed=2):
        points = camera.project(vertices)
        covered = np.asarray(see(points, triangles, (64, 64)).triangle) >= 0
        # The same outline from the triangles that face away: a hole would be in only one of the two.
        behind = np.asarray(see(points, triangles[:, ::-1], (64, 64), cull=True).triangle) >= 0
        assert (covered >= behind).all() and covered.sum() - behind.sum() <= 12


def test_culling_leaves_out_what_faces_away():
    vertices, triangles = scenes.head(2)
    points = next(scenes.cameras(vertices, 48, 1, perspective=False)).project(vertices)
    everything, culled, inverted = (np.asarray(see(points, t, (48, 48), cull=cull).triangle)
                                    for t, cull in ((triangles, False), (triangles, True), (triangles[:, ::-1], True)))
    np.testing.assert_array_equal(culled, everything)  # a closed surface shows no back
    both = (culled >= 0) & (inverted >= 0)
    assert both.sum() > 300 and not np.any(culled[both] == inverted[both])


def test_demand_is_the_number_of_pixels_in_bounding_boxes():
    points = jnp.array([[0.0, 0.0, 1.0], [10.0, 0.0, 1.0], [0.0, 4.0, 1.0]])
    seen = see(points, np.array([[0, 1, 2]]), (16, 16), "fragments", Caps(fragments=30))
    assert (int(seen.demand.fragments), int(seen.overflow)) == (40, 10)


@pytest.mark.parametrize("points,triangles,size,message", [
    (np.zeros((3, 2)), [[0, 1, 2]], (4, 4), r"points: shape \(3, 2\)"),
    (np.zeros((3, 3)), [[0, 1, 3]], (4, 4), r"triangles: indices 0..3, expected 0..2"),
    (np.zeros((3, 3)), [[-1, 1, 2]], (4, 4), r"triangles: indices -1..2"),
    (np.zeros((3, 3)), [[0.0, 1.0, 2.0]], (4, 4), r"triangles: dtype float64"),
    (np.zeros((3, 3)), [0, 1, 2], (4, 4), r"triangles: shape \(3,\)"),
    (np.zeros((3, 3)), np.zeros((0, 3), int), (4, 4), r"triangles: shape \(0, 3\)"),
    (np.full((3, 3), np.nan), [[0, 1, 2]], (4, 4), r"points: 3 of 3 are not finite"),
    (np.zeros((3, 3)), [[0, 1, 2]], (0, 4), r"image_size: found \(0, 4\)"),
    (np.zeros((3, 3)), [[0, 1, 2]], (4,), r"image_size"),
])
@shape_checks.off()
def test_bad_input_is_named(points, triangles, size, message):
    with pytest.raises(ValueError, match=message):
        visibility(jnp.asarray(points, jnp.float32), np.asarray(triangles), size)
    with pytest.raises(ValueError, match="backend: found 'opengl'"):
        visibility(jnp.zeros((3, 3)), np.array([[0, 1, 2]]), (4, 4), "opengl")
