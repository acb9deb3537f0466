"""The SIR metric by names: people with known distances, and what `sir` itself says."""

import numpy as np
import pytest

from sfm_jax.evaluation.protocols import identity
from sfm_jax.evaluation.sir import sir_metric


def faces(people=6, photos=4, noise=0.5):
    rng = np.random.default_rng(0)
    base, codes = 5 * rng.normal(size=(people, 30, 3)), rng.normal(size=(people, 8))
    names = [f"p{person}/{photo}" for person in range(people) for photo in range(photos)]
    shapes = {name: base[k // photos] + noise * rng.normal(size=(30, 3)) for k, name in enumerate(names)}
    return {name: codes[k // photos] + 0.1 * rng.normal(size=8) for k, name in enumerate(names)}, shapes


def test_the_table_is_the_metric():
    codes, shapes = faces()
    outcome = identity.evaluate(codes, shapes, "toy")
    names = sorted(codes)
    labels = np.repeat(np.arange(6), 4)
    numbers = sir_metric(np.stack([shapes[name] for name in names]), np.stack([codes[name] for name in names]), labels)
    values = outcome.rows[0].values
    np.testing.assert_allclose([values[column].value for column in identity.COLUMNS.values()],
                               np.array([numbers[key] for key in identity.COLUMNS]) * [1, 100, 100, 1])
    ratio = values["between / within"]
    assert values["rank-1 %"].value == 100 and ratio.low < ratio.value < ratio.high
    assert all(sample["nearest is the person"] for sample in outcome.samples)


def test_people_on_a_line():
    """Two people a millimetre apart, each with two photos a tenth of it apart, across: ratio by hand."""
    shapes = {name: np.full((5, 3), 0.0) + [x, y, 0] for name, x, y in
              (("a/0", 0, 0), ("a/1", 0, 0.1), ("b/0", 1, 0), ("b/1", 1, 0.1))}
    codes = {name: shape[0] + 1.0 for name, shape in shapes.items()}
    between = (1 + 1 + 2 * np.sqrt(1.01)) / 4
    outcome = identity.evaluate(codes, shapes)
    np.testing.assert_allclose(outcome.rows[0].values["between / within"].value, between / 0.1)
    assert [sample["nearest"] for sample in outcome.samples] == ["a/1", "a/0", "b/1", "b/0"]


def test_photos_without_a_face_are_told():
    assert identity.evaluate(*faces()).notes == ()
    notes = identity.evaluate(*faces(), lost=["p1/x", "p0/y"]).notes
    assert notes == ("No face found in 2 of 26 photos, left out, which flatters: p0/y, p1/x.",)


def test_names_must_match_and_name_people():
    codes, shapes = faces()
    del shapes["p0/1"]
    with pytest.raises(ValueError, match=r"23 of 24 names match; 1 predicted|23 of 24 names match; 1 without a "
                                         r"prediction \(p0/1\)"):
        identity.evaluate(codes, shapes)
    for some, people in (("p0/0 p0/2", 1), ("p0/0 p2/2", 2), ("p0/0 p0/2 p2/2", 2)):
        few = {name: shapes[name] for name in some.split()}
        with pytest.raises(ValueError, match=f"found {len(few)} photos of {people} people, . pairs .* expected two"):
            identity.evaluate({name: codes[name] for name in few}, few)
    del codes["p0/1"]
    for wrong, found in ((np.full(8, np.nan), r"\(8,\)"), (np.ones(7), r"\(7,\)")):
        with pytest.raises(ValueError, match=rf"p3/2: found a code of shape {found}, expected \(8,\) as of p0/0, fin"):
            identity.evaluate(codes | {"p3/2": wrong}, shapes)
    with pytest.raises(ValueError, match=r"found names without a person \(x\), expected PERSON/PHOTO"):
        identity.evaluate({"x": np.ones(3)}, {"x": np.ones((4, 3))})
