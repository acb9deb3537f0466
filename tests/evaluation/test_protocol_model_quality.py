"""Compactness, generalisation and specificity against scikit-learn's PCA, and against morphable/statistics.py."""

import numpy as np
import pytest
import toy
from sklearn.decomposition import PCA

from sfm_jax.evaluation.protocols import model_quality
from sfm_jax.morphable import statistics


@pytest.fixture(scope="module")
def shapes():
    """[60, 42, 3]: people of a toy model and a little noise, of whom 40 are to make a model of."""
    model, rng = toy.model(), np.random.default_rng(0)
    faces = np.asarray(model.decode(rng.normal(size=(60, 6)).astype(np.float32)), np.float64)
    return faces + 0.2 * rng.normal(size=faces.shape)


@pytest.fixture(scope="module")
def learned(shapes):
    """The model of 12 components of the first 40."""
    mean, basis, sigma = statistics.weighted_pca(shapes[:40], None, 12)
    return toy.model().replace(mean=mean, identity_basis=basis, identity_sigma=sigma)


def test_a_model_made_by_pca_is_measured_as_scikit_learn_would(shapes, learned):
    pca = PCA().fit(shapes[:40].reshape(40, -1))
    heldout = {f"face{k}": shape for k, shape in enumerate(shapes[40:])}
    outcome = model_quality.evaluate(learned, heldout, "toy")
    assert [row.name for row in outcome.rows] == ["toy, 1 component", *(f"toy, {k} components" for k in (2, 5, 10, 12))]
    variance = pca.explained_variance_[:12]
    for row, count in zip(outcome.rows, (1, 2, 5, 10, 12), strict=True):
        np.testing.assert_allclose(row.values["compactness %"].value, 100 * variance[:count].sum() / variance.sum(),
                                   rtol=1e-4)
        flat = shapes[40:].reshape(20, -1) - pca.mean_
        axes = pca.components_[:count]
        errors = np.sqrt(np.square(flat - flat @ axes.T @ axes).sum(1) / 42)
        generalisation = row.values["generalisation mm"]
        np.testing.assert_allclose(generalisation.value, errors.mean(), rtol=1e-4)
        assert generalisation.low < generalisation.value < generalisation.high
        np.testing.assert_allclose([sample[f"rms mm, {count} components"] for sample in outcome.samples], errors,
                                   rtol=1e-3)


def test_specificity_is_that_of_drawn_codes_by_brute_force(shapes, learned):
    heldout = {f"face{k}": shape for k, shape in enumerate(shapes[40:])}
    rows = model_quality.evaluate(learned, heldout, drawn=300).rows
    mean, basis = np.asarray(learned.mean, np.float64), np.asarray(learned.identity_basis, np.float64)
    codes = np.random.default_rng(0).standard_normal((300, 12))
    for row, count in zip(rows, (1, 2, 5, 10, 12), strict=True):
        nearest = [min(np.sqrt(np.square(mean + np.tensordot(code[:count], basis[:count], 1) - shape).sum(1).mean())
                       for shape in shapes[40:]) for code in codes]
        found = row.values["specificity mm"]
        np.testing.assert_allclose(found.value, np.mean(nearest))
        half = 1.96 * np.std(nearest) / np.sqrt(300)
        np.testing.assert_allclose([found.low, found.high], found.value + half * np.array([-1, 1]), atol=0.3 * half)
    other = model_quality.evaluate(learned, heldout, drawn=300, seed=1).rows[0].values
    assert other["specificity mm"].value != rows[0].values["specificity mm"].value
    generalisations = other["generalisation mm"], rows[0].values["generalisation mm"]
    assert generalisations[0].value == generalisations[1].value and generalisations[0].low != generalisations[1].low


def test_intervals_of_the_generalisation_draw_people(shapes, learned):
    """Ten scans of one person and ten of another: each is drawn with all scans."""
    mean = np.asarray(learned.mean, np.float64)
    faces = {f"near/{k}": mean for k in range(10)} | {f"far/{k}": mean + [0, 0, 0.5] for k in range(10)}
    found = model_quality.evaluate(learned, faces, drawn=10).rows[0].values["generalisation mm"]
    np.testing.assert_allclose([found.low, found.high], [0, 2 * found.value], atol=1e-12)


@pytest.mark.parametrize("components, expected", [
    (1, [1]), (2, [1, 2]), (7, [1, 2, 5, 7]), (150, [1, 2, 5, 10, 20, 50, 100, 150]),
    (300, [1, 2, 5, 10, 20, 50, 100, 200, 300])])
def test_numbers_of_components_that_are_looked_at(components, expected):
    assert model_quality.component_counts(components) == expected


def test_the_same_as_the_statistics_of_models(shapes, learned):
    mean, basis = np.asarray(learned.mean, np.float64), np.asarray(learned.identity_basis, np.float64)
    errors = model_quality.heldout_errors(shapes[40:], mean, basis, [1, 3, 12])
    np.testing.assert_allclose(errors.mean(1), statistics.generalisation(shapes[40:], mean, basis, counts=[1, 3, 12]))
    codes = np.random.default_rng(1).normal(size=(30, 4))
    drawn = mean + np.tensordot(codes, basis[:4], 1)
    np.testing.assert_allclose(model_quality.drawn_distances(mean, basis, codes, shapes).mean(),
                               statistics.specificity(drawn, shapes))


def test_faces_of_the_model_itself_are_without_error_and_a_repeated_component_changes_nothing(learned):
    mean, basis = np.asarray(learned.mean, np.float64), np.asarray(learned.identity_basis, np.float64)
    codes = np.random.default_rng(2).normal(size=(8, 5))
    own = mean + np.tensordot(codes, basis[:5], 1)
    errors = model_quality.heldout_errors(own, mean, basis, [4, 5, 12])
    assert (errors[0] > 0.01).all() and errors[1:].max() < 1e-6
    twice = np.concatenate([basis[:4], basis[:1], basis[4:5]])
    np.testing.assert_allclose(model_quality.heldout_errors(own, mean, twice, [4, 5])[1], errors[0], rtol=1e-9)
    np.testing.assert_allclose(model_quality.drawn_distances(mean, basis, codes, own), 0, atol=1e-6)


@pytest.mark.parametrize("number, weights", [(0, []), (4, []), (5, [1]), (5, [0, 1, 2]), (9, [2, 0, -1])])
def test_components_that_are_zero_or_of_others_add_nothing(shapes, learned, number, weights):
    """The best fits of NumPy's least squares, and those of the statistics of models."""
    mean, basis = np.asarray(learned.mean, np.float64), np.asarray(learned.identity_basis, np.float64)
    basis[number] = np.tensordot(np.array(weights, float), basis[:len(weights)], 1)
    counts = [max(number, 1), number + 1, 12]
    errors = model_quality.heldout_errors(shapes[40:], mean, basis, counts)
    residual = (shapes[40:] - mean).reshape(20, -1)
    for row, count in zip(errors, counts, strict=True):
        axes = basis[:count].reshape(count, -1).T
        left = residual.T - axes @ np.linalg.lstsq(axes, residual.T, rcond=1e-10)[0]
        np.testing.assert_allclose(row, np.sqrt(np.square(left).sum(0) / 42), rtol=1e-6)
    np.testing.assert_allclose(errors.mean(1), statistics.generalisation(shapes[40:], mean, basis, counts=counts))


def test_a_known_spread_has_a_known_compactness():
    basis = np.zeros((3, 5, 3))
    basis[0, 0, 0], basis[1, 1, 1], basis[2, 2, 2] = 3, 2, 1
    np.testing.assert_allclose(model_quality.compactness(basis), [9 / 14, 13 / 14, 1])


@pytest.mark.parametrize("count", [0, 2])
def test_a_model_in_which_everybody_is_the_same_is_refused(learned, shapes, count):
    same = learned.replace(identity_basis=np.zeros((count, 42, 3)), identity_sigma=np.zeros(count))
    with pytest.raises(ValueError, match=f"mine: identity_basis: found {count} components, none of which moves"):
        model_quality.evaluate(same, {"a": shapes[0]}, "mine")


def test_no_faces_are_refused(learned):
    with pytest.raises(ValueError, match="faces: found none"):
        model_quality.evaluate(learned, {})
