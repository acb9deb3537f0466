"""What weight decay falls on, of the parameters of tasks."""

import jax
import jax.numpy as jnp
from tiny_runs import config

from sfm_jax.tasks import create_task
from sfm_jax.training.optimiser import create_optimiser


def test_in_stage_1_decay_leaves_the_basis_its_radius_and_people_alone(standard_promotion):
    settings = config("stage1", None, optimiser__weight_decay=0.1)
    task = create_task(settings)
    params, _ = task.init(jax.random.key(0), None)
    optimiser = create_optimiser(settings.optimiser, settings.steps, task.param_labels(params))
    nothing = jax.tree.map(jnp.zeros_like, params)
    updates, _ = optimiser.update(nothing, optimiser.init(params), params)
    moved = {jax.tree_util.keystr(path) for path, step in jax.tree.leaves_with_path(updates) if jnp.any(step != 0)}
    kernels = {jax.tree_util.keystr(path) for path, leaf in jax.tree.leaves_with_path(params["encoder"])
               if leaf.ndim > 1 and jnp.any(leaf != 0)}
    assert moved == {f"['encoder']{path}" for path in kernels} and kernels
