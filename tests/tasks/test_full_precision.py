"""What is no network is computed in full float32 on accelerators too, which by default multiply in fewer bits."""

import re
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.extend.core import ClosedJaxpr, Jaxpr
from tiny_runs import CONFIGS, config

import sfm_jax
from sfm_jax.tasks import create_task
from sfm_jax.training.parallel import AXIS

PRODUCTS = ("dot_general", "conv_general_dilated")
HIGHEST = (jax.lax.Precision.HIGHEST,) * 2


def products(jaxpr, scopes=""):
    """(equation, all its scopes) of every matrix product and convolution of a program."""
    for equation in jaxpr.eqns:
        within = f"{scopes}/{equation.source_info.name_stack}"
        if equation.primitive.name in PRODUCTS:
            yield equation, within
        for value in equation.params.values():
            for inner in value if isinstance(value, tuple | list) else [value]:
                inner = inner.jaxpr if isinstance(inner, ClosedJaxpr) else inner
                if isinstance(inner, Jaxpr):
                    yield from products(inner, within)


def test_the_walk_finds_products_in_loops_and_gradients():
    @jax.named_scope("network")
    def network(x):
        return x @ x

    def loss(x):
        return jax.lax.fori_loop(0, 3, lambda _, x: x @ x, network(x)).sum()

    found = list(products(jax.make_jaxpr(jax.jit(jax.value_and_grad(loss)))(np.eye(2, dtype=np.float32)).jaxpr))
    assert len(found) == 6
    assert sum("network" in scopes for _, scopes in found) == 3
    assert all(equation.params["precision"] != HIGHEST for equation, _ in found)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(path.stem for path in CONFIGS.glob("*.py")))
def test_steps_of_every_config(name, model):
    """Loss and gradient, traced, not run."""
    task = create_task(settings := config(name, "default" if name == "detail" else model))
    batch = task.dataset(settings.batch_size, 0)[0]
    params, state = task.init(jax.random.key(0), batch)

    def gradient(batch):
        return jax.value_and_grad(lambda params: task.loss(params, state, batch, jax.random.key(0))[0])(params)

    traced = jax.make_jaxpr(jax.vmap(gradient, axis_name=AXIS))(jax.tree.map(lambda leaf: leaf[None], batch))
    found = list(products(traced.jaxpr))
    assert any("network" in scopes for _, scopes in found)
    coarse = [f"{scopes}: {equation}" for equation, scopes in found
              if "network" not in scopes and equation.params["precision"] != HIGHEST]
    assert not coarse, "use sfm_jax.geometry.products:\n" + "\n".join(coarse)


def test_no_product_without_a_precision_beside_networks():
    root = Path(sfm_jax.__file__).parent
    found = [f"{path.relative_to(root)}: {line}" for path in sorted(root.rglob("*.py"))
             if path.name != "products.py" and path.parent.name != "networks"
             for line in path.read_text().splitlines()
             if re.search(r"jnp\.(dot|matmul|einsum|tensordot|inner|vdot)\(", line)]
    assert not found
