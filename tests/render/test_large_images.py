"""Images of more pixels than float32 has whole numbers: rectangles whose pixels are counted by hand."""

import jax
import numpy as np
import pytest

from sfm_jax.render.caps import default_caps
from sfm_jax.render.visibility import visibility

QUAD = np.array([[0, 1, 2], [0, 2, 3]], np.int32)


def rectangle(left, top, right, bottom):
    return np.float32([[left, top, 1], [left, bottom, 1], [right, bottom, 1], [right, top, 1]])


@pytest.mark.parametrize("backend", ("fragments", "window", "tiles"))
def test_every_pixel_far_down_is_covered(backend):
    size = (4200, 4200)
    points = rectangle(4180, 4180, 4190, 4190)
    caps = default_caps(size, 2, 0.0)._replace(fragments=4096, large=4096, tile_pairs=64, tile_blocks=64)
    seen = jax.jit(lambda points: visibility(points, QUAD, size, backend, caps))(points)
    covered = np.zeros(size, bool)
    covered[4180:4190, 4180:4190] = True
    np.testing.assert_array_equal(np.asarray(seen.triangle) >= 0, covered)
    assert int(seen.overflow) == 0


def test_a_box_of_many_pixels_is_walked_row_by_row():
    size = (3000, 3000)
    caps = default_caps(size, 2, 0.0)._replace(fragments=2 * 3000 * 3000)
    seen = jax.jit(lambda points: visibility(points, QUAD, size, "fragments", caps))(rectangle(0, 0, 3000, 3000))
    assert (np.asarray(seen.triangle) >= 0).all() and int(seen.overflow) == 0
