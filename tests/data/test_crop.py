"""Crops against closed forms: a ramp tells of every pixel where in the photo it was taken."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sfm_jax.data.crop import (
    crop_affine,
    crop_edges,
    crop_image,
    landmark_box,
    shown_part,
    transform_points,
    warp,
    within_edges,
)


def ramp(height=200, width=240):
    """Red is x, green is y, at every pixel's centre."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([columns, rows, np.full_like(rows, 77)], -1).astype(np.uint8)


def test_landmark_box_by_hand():
    points = np.array([[10.0, 20.0], [50.0, 30.0], [30.0, 90.0], [-500.0, 4000.0]])
    centre, side = landmark_box(points, np.array([1, 1, 1, 0]))
    np.testing.assert_allclose(centre, [30, 55])
    np.testing.assert_allclose(side, np.hypot(70, 70))


def test_landmark_box_is_the_same_in_jax_and_batched():
    points = np.random.default_rng(0).normal(size=(5, 68, 2)).astype(np.float32)
    centre, side = landmark_box(points)
    jax_centre, jax_side = jax.jit(landmark_box)(jnp.asarray(points))
    assert isinstance(side, np.ndarray) and centre.shape == (5, 2)
    np.testing.assert_allclose(jax_centre, centre, rtol=1e-6)
    np.testing.assert_allclose(jax_side, side, rtol=1e-6)


def test_whole_pixels_are_copied():
    crop, affine = crop_image(ramp(), (np.array([60.0, 50.0]), 40.0), 40)
    np.testing.assert_array_equal(crop, ramp()[30:70, 40:80])
    np.testing.assert_allclose(transform_points(np.array([40.0, 30.0]), affine), [0, 0], atol=1e-12)


@pytest.mark.parametrize("size", [16, 37, 90, 150])  # reduced by 5, by 2, nearly as it is, enlarged
@pytest.mark.parametrize(("roll", "mirror"), [(0.0, False), (30.0, False), (-20.0, True), (90.0, True)])
def test_every_pixel_comes_from_where_the_map_says(size, roll, mirror):
    crop, affine = crop_image(ramp(), (np.array([118.3, 101.7]), 90.4), size, roll, mirror)
    pixels = np.stack(np.meshgrid(np.arange(size), np.arange(size)), -1) + 0.5
    source = (pixels - affine[:, 2]) @ np.linalg.inv(affine[:, :2]).T
    np.testing.assert_allclose(crop[..., :2], source - 0.5, atol=1.01)  # PIL rounds twice
    assert (crop[..., 2] == 77).all()


def test_roll_turns_counter_clockwise_and_mirror_exchanges_the_sides():
    box, right = (np.array([50.0, 50.0]), 20.0), np.array([55.0, 50.0])
    np.testing.assert_allclose(transform_points(right, crop_affine(box, 20, roll=90)), [10, 5], atol=1e-9)
    np.testing.assert_allclose(transform_points(right, crop_affine(box, 20, mirror=True)), [5, 10], atol=1e-9)


def test_outside_is_black():
    white = np.full((50, 50, 3), 255, np.uint8)
    crop, _ = crop_image(white, (np.array([0.0, 25.0]), 40.0), 40)
    assert (crop[:, :19] == 0).all() and (crop[:, 21:] == 255).all()
    for far in ([500.0, 25.0], [-5000.0, -5000.0]):
        for side in (40.0, 400.0):
            crop, _ = crop_image(white, (np.array(far), side), 40)
            assert not crop.any()


@pytest.mark.parametrize("box, roll", [(((10.0, 50.0), 60.0), 0.0), (((90.0, 70.0), 40.0), 30.0),
                                       (((50.0, 40.0), 400.0), -20.0), (((500.0, 40.0), 40.0), 0.0)])
def test_the_part_of_a_crop_that_shows_the_photo(box, roll):
    """Of a white photo what is not darkened by the black around; all of it, but for a rim."""
    image, affine = np.full((80, 100, 3), 255, np.uint8), crop_affine(box, 48, roll)
    inside, shown = shown_part(image, affine, 48), warp(image, affine, 48)[..., 0]
    assert inside.dtype == np.float32 and set(np.unique(inside)) <= {0, 1}
    assert (shown[inside > 0] == 255).all()
    rim = (shown == 255) & (inside == 0)
    assert rim.sum() <= 5 * 48 and not (shown[inside == 0] == 255).all() or not inside.any()


def test_edges_of_a_part_are_the_same_in_jax_and_batched():
    """Of a photo that is black but for a rectangle."""
    image, extent = np.zeros((80, 100, 3), np.uint8), np.array([20, 10, 90, 70])
    image[10:70, 20:90] = 255
    affines = [crop_affine(((50.0, 40.0), 120.0), 48, 20.0, mirror=True), crop_affine(((90.0, 70.0), 30.0), 48)]
    edges = np.stack([crop_edges(image, affine, extent) for affine in affines])
    inside = within_edges(edges, 48)
    chex.assert_shape(inside, (2, 48, 48))
    for mask, affine in zip(inside, affines, strict=True):
        shown = warp(image, affine, 48)[..., 0]
        assert (shown[mask > 0] == 255).all() and mask.sum() > 0.8 * (shown == 255).sum()
    np.testing.assert_array_equal(jax.jit(within_edges, static_argnums=1)(jnp.asarray(edges), 48), inside)
    assert within_edges(np.zeros((4, 3), np.float32), 5).all()


def test_small_crops_do_not_alias():
    stripes = np.zeros((240, 240, 3), np.uint8)
    stripes[:, ::2] = 255
    crop, _ = crop_image(stripes, (np.array([120.0, 120.0]), 200.0), 50)
    assert abs(crop.astype(int) - 127.5).max() < 2
