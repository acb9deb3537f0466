"""First variables of a network."""

import functools

import flax.linen as nn
import jax
from jaxtyping import Float, PRNGKeyArray

from sfm_jax.array_types import AnyArray


def first_variables(network: nn.Module, rng: PRNGKeyArray, *inputs: Float[AnyArray, "..."], **settings: bool) -> dict:
    """`network.init(rng, *inputs, **settings)` as one program: a hundred small ones take longer to compile, and none of
    them is kept for the next start."""
    init = functools.partial(network.init, **settings)
    if isinstance(rng, jax.core.Tracer):  # within another program, or where only shapes are asked for
        return init(rng, *inputs)
    # It runs once: on CPUs, compiling it well would take four times as long as compiling it at all.
    options = {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else None
    return jax.jit(init, compiler_options=options)(rng, *inputs)
