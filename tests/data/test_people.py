"""Who is learned from and who is held out: nobody is both, in any run, nor in two that go on from each other."""

import numpy as np
import pytest
import toy

from sfm_jax.data.people import disjoint_people, people_of
from sfm_jax.morphable.default import load_default


def rows(people):
    return {code.tobytes() for code in np.asarray(people.identity)}


@pytest.mark.parametrize("seed", (0, 1, 7))
def test_nobody_who_is_held_out_was_learned_from_by_a_larger_run_of_any_seed(seed):
    model = load_default(0)
    first, _ = disjoint_people(model, 2400, 400, 0)
    most, _ = disjoint_people(model, 5400, 600, seed + 1)
    own, heldout = disjoint_people(model, 2000, 200, seed)
    assert len(rows(heldout)) == 200
    for learned in (first, most, own):
        assert not rows(learned) & rows(heldout)
    assert rows(own) <= rows(first)


def test_made_up_people_who_are_held_out_are_always_the_same():
    (a, held_a), (b, held_b) = (disjoint_people(toy.model(), 50, 20, seed) for seed in (0, 1))
    larger, _ = disjoint_people(toy.model(), 500, 20, 0)
    assert rows(held_a) == rows(held_b) and not rows(a) & rows(b)
    assert not (rows(larger) | rows(a) | rows(b)) & rows(held_a)
    assert rows(people_of(toy.model(), 50, 0)) == rows(a)


@pytest.mark.parametrize(("persons", "heldout", "message"), [
    (5401, 100, "data.persons: found 5401, expected at most 5400 of the 6000 people"),
    (100, 601, "data.heldout_persons: found 601, expected at most 600 of the 6000 people"),
    (10, 1, "data.heldout_persons: found 1, expected 2 or more"), (0, 10, "data.persons: found 0, expected 2 or more")])
def test_too_many_and_too_few_are_refused(persons, heldout, message):
    with pytest.raises(ValueError, match=message):
        disjoint_people(load_default(0), persons, heldout, 0)
