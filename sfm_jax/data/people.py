"""Who there is of a face model: the embedded population for the embedded model, for any other people made up for it."""

import numpy as np

from sfm_jax.morphable.default import Population, load_default, load_population
from sfm_jax.morphable.model import MorphableModel

HELDOUT_SEED = 2**40  # of made-up people who are held out: beyond what configs have


def people_of(model: MorphableModel, count: int, seed: int, on_sphere: bool = False) -> Population:
    """The whole embedded population where its codes are those of `model`; else `count` people drawn for `model`.

    Codes say nothing of another model's faces, of however many components it is. Its own people are standard normal
    codes of its components, sex, age and ancestry unknown (0.5, 0.5 and even shares).

    Args:
      on_sphere: the model was read from a Sphere Face Model: its K numbers are drawn uniformly from the sphere of
        radius sqrt(K), on which its faces are.
    """
    if has_population(model):
        return load_population()
    rng = np.random.default_rng(seed)

    def codes(basis):
        return rng.standard_normal((count, len(basis))).astype(np.float32)

    identity, albedo = codes(model.identity_basis), codes(model.albedo_basis)
    if on_sphere:
        identity *= np.sqrt(identity.shape[1]) / np.linalg.norm(identity, axis=1, keepdims=True)
    unknown = np.full(count, 0.5, np.float32)
    return Population(identity, albedo, unknown, unknown, np.full((count, 3), 1 / 3, np.float32))


def disjoint_people(
    model: MorphableModel, persons: int, heldout: int, seed: int, on_sphere: bool = False
) -> tuple[Population, Population]:
    """People to learn from and people held out, as `people_of` has them.

    Of the embedded population these are the first and the last of an order that never changes, of at most nine tenths
    and a tenth of it. So whoever is held out by one run was not learned from by another that it goes on from, whatever
    their seeds and numbers. Those made up for another model are others in every seed, and the held-out ones always the
    same, of nobody's seed.

    Raises:
      ValueError: fewer than two people asked on either side, or more than may be.
    """
    for key, asked in (("persons", persons), ("heldout_persons", heldout)):
        if asked < 2:
            raise ValueError(f"data.{key}: found {asked}, expected 2 or more")
    if not has_population(model):
        return people_of(model, persons, seed, on_sphere), people_of(model, heldout, HELDOUT_SEED, on_sphere)
    population = load_population()
    tenth = len(population) // 10
    for key, asked, most in (("persons", persons, len(population) - tenth), ("heldout_persons", heldout, tenth)):
        if asked > most:
            raise ValueError(f"data.{key}: found {asked}, expected at most {most} of the {len(population)} people")
    order = np.random.default_rng(0).permutation(len(population))
    return population[order[:persons]], population[order[-heldout:]]


def has_population(model: MorphableModel) -> bool:
    """Are the population's codes those of `model`: has it the identity and albedo components of the embedded face?"""
    return any(_same(model.identity_basis, embedded.identity_basis) and _same(model.albedo_basis, embedded.albedo_basis)
               for embedded in map(load_default, (0, 1)))


def _same(a, b):
    return a.shape == b.shape and bool(np.allclose(a, b, atol=1e-5))
