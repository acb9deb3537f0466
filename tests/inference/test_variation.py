"""Changes between faces are a group: put in and taken out again nothing is left."""

import jax
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sfm_jax.geometry.rotation import rotation_from_euler
from sfm_jax.inference.face import FaceCodes
from sfm_jax.inference.variation import inverse, variation, vary_expression, vary_pose


def face(seed):
    keys = jax.random.split(jax.random.key(seed), 7)

    def draw(number, *shape):
        return jax.random.normal(keys[number], (2, *shape))

    return FaceCodes(draw(0, 4), draw(1, 5), draw(2, 3), rotation_from_euler(60 * draw(3, 3)), draw(4), draw(5, 2),
                     draw(6, 9, 3))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_a_change_leads_from_one_face_to_the_other_and_back(one, other):
    a, b = face(one), face(other)
    change = variation(a, b)
    posed, moved = vary_pose(a, change), vary_expression(a, change)
    for name in ("rotation", "log_scale", "shift"):
        np.testing.assert_allclose(getattr(posed, name), getattr(b, name), atol=2e-6)
        assert getattr(moved, name) is getattr(a, name)
    np.testing.assert_allclose(moved.expression, b.expression, atol=2e-6)
    assert posed.expression is a.expression
    for there in (vary_pose, vary_expression):
        back = there(there(a, change), inverse(change))
        for found, expected in zip(back, a, strict=True):
            np.testing.assert_allclose(found, expected, atol=4e-6)


def test_a_turn_is_in_camera_axes():
    """The same change of another head turns it about the same axes of the picture: b's rotation times a's inverse."""
    a, b, c = face(1), face(2), face(3)
    moved = vary_pose(c, variation(a, b))
    expected = np.asarray(b.rotation) @ np.linalg.inv(np.asarray(a.rotation)) @ np.asarray(c.rotation)
    np.testing.assert_allclose(moved.rotation, expected, atol=4e-6)
