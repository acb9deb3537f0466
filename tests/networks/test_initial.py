"""First variables are the network's own, made by one program."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from sfm_jax.networks.initial import first_variables


class Small(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        return nn.BatchNorm(use_running_average=not train)(nn.Dense(3)(x))


def test_they_are_what_init_makes():
    inputs = jnp.ones((2, 5))
    mine = first_variables(Small(), jax.random.key(3), inputs, train=False)
    theirs = Small().init(jax.random.key(3), inputs, train=False)
    assert jax.tree.structure(mine) == jax.tree.structure(theirs)
    for a, b in zip(jax.tree.leaves(mine), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_within_other_programs():
    """Where only shapes are asked for, and under jit."""
    def make(key):
        return first_variables(Small(), key, jnp.ones((2, 5)), train=False)

    shapes = jax.eval_shape(make, jax.random.key(0))
    assert shapes["params"]["Dense_0"]["kernel"].shape == (5, 3)
    jitted, alone = jax.jit(make)(jax.random.key(0)), make(jax.random.key(0))
    np.testing.assert_allclose(jitted["params"]["Dense_0"]["kernel"], alone["params"]["Dense_0"]["kernel"], rtol=1e-6)
