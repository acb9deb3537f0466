"""Off-diagonal mass of answers whose truth is known."""

import numpy as np
import pytest

from sfm_jax.evaluation.disentanglement import disentanglement


def test_an_answer_that_separates_all_has_no_mass_and_one_that_mixes_all_has_one():
    assert disentanglement(np.diag([0.1, 20.0, 3.0]))[1] == 0
    assert disentanglement(np.ones((3, 1)) * np.array([0.1, 20.0, 3.0]))[1] == pytest.approx(1)


def test_columns_are_in_units_of_what_really_moves():
    moved = np.array([[2.0, 5.0], [0.5, 10.0]])
    matrix, mass = disentanglement(moved)
    np.testing.assert_allclose(matrix, [[1, 0.5], [0.25, 1]])
    assert mass == pytest.approx(0.375)
    # Another unit of a column changes nothing; nor does an answer that says half of everything.
    np.testing.assert_allclose(disentanglement(moved * [1000, 0.5])[0], matrix)


def test_an_answer_that_follows_nothing_is_not_rewarded():
    matrix, mass = disentanglement(np.array([[0.0, 1.0], [0.2, 1.0]]))
    assert matrix[1, 0] == np.inf and mass == np.inf
    assert disentanglement(np.zeros((2, 2)))[1] == 1  # as much with everything as with itself
    entangled = np.full((3, 3), 0.5) + 0.5 * np.eye(3)
    silent = entangled * [0, 1, 1]
    assert disentanglement(silent)[1] == pytest.approx(4 / 6)
    assert disentanglement(entangled)[1] == pytest.approx(1 / 2)


@pytest.mark.parametrize("bad", [np.ones((2, 3)), np.ones((1, 1)), -np.ones((2, 2)), np.full((2, 2), np.nan)])
def test_what_is_no_matrix_of_movements_is_refused(bad):
    with pytest.raises(ValueError, match="moved: found shape"):
        disentanglement(bad)
