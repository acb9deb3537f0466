"""Public functions are typed, and calls and results that are of another shape or kind of number are errors in tests."""

import functools
import importlib
import inspect
import pkgutil
import types
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import shape_checks
from jaxtyping import TypeCheckError, jaxtyped

from sfm_jax.geometry.camera import Orthographic
from sfm_jax.geometry.icp import IDENTITY
from sfm_jax.geometry.mesh import vertex_normals
from sfm_jax.geometry.rotation import rotation_from_6d, rotation_to_6d
from sfm_jax.geometry.sphere import sample_uniform
from sfm_jax.losses.identity import margin_cross_entropy
from sfm_jax.losses.surface import vertex_distance
from sfm_jax.morphable.statistics import weighted_pca
from sfm_jax.networks.compact import patches
from sfm_jax.networks.heads import FaceHeads
from sfm_jax.render import ambient, render, surface
from sfm_jax.render.uv import displace

TRIANGLES = np.array([[0, 1, 2], [0, 2, 3]], np.int32)


def typed_modules():
    for name in shape_checks.TYPED:
        module = importlib.import_module(name)
        yield module
        for part in pkgutil.walk_packages(getattr(module, "__path__", ()), f"{name}."):
            yield importlib.import_module(part.name)


def public_functions(place, module):
    """Functions of a module, methods and properties of its classes, as they were written."""
    for name, value in vars(place).items():
        if isinstance(value, property):
            value = value.fget
        elif isinstance(value, functools.cached_property):
            value = value.func
        value = inspect.unwrap(value.__func__ if isinstance(value, staticmethod) else value)
        if getattr(value, "__module__", None) != module.__name__:
            continue
        if isinstance(value, type) and not name.startswith("_"):
            yield from public_functions(value, module)
        elif isinstance(value, types.FunctionType) and (not name.startswith("_") or name in ("__init__", "__call__")):
            yield value


@pytest.mark.parametrize("module", list(typed_modules()), ids=lambda module: module.__name__)
def test_public_functions_are_typed(module):
    for function in public_functions(module, module):
        signature = inspect.signature(function)
        missing = [name for name, parameter in signature.parameters.items()
                   if name != "self" and parameter.annotation is parameter.empty]
        if function.__name__ != "__init__" and signature.return_annotation is signature.empty:
            missing.append("return")
        assert not missing, f"{module.__name__}.{function.__qualname__}: without types: {', '.join(missing)}"


@pytest.mark.parametrize("call", [
    lambda: rotation_to_6d(jnp.zeros((3, 2))),
    lambda: rotation_from_6d(jnp.zeros(6, jnp.int32)),
    lambda: vertex_normals(jnp.zeros((4, 2)), TRIANGLES),
    lambda: vertex_normals(jnp.zeros((4, 3)), TRIANGLES.astype(np.float32)),
    lambda: vertex_distance(jnp.zeros((2, 4, 3)), jnp.zeros((2, 4, 3)), jnp.ones(5)),
    lambda: margin_cross_entropy(jnp.zeros((3, 10)), jnp.zeros(3)),
    lambda: weighted_pca(np.zeros((9, 4, 3)), np.ones(5), 2),
    lambda: sample_uniform(jnp.zeros(2), (3,)),
    lambda: displace(jnp.zeros((4, 3)), TRIANGLES, jnp.zeros(3)),
    lambda: render(jnp.zeros((4, 3)), surface(TRIANGLES), None, (8, 8), albedo=jnp.zeros((4, 3))),
    lambda: ambient("bright"),
    lambda: IDENTITY.apply(np.zeros((4, 2))),
    lambda: patches(jnp.zeros((1, 8, 8, 3), jnp.int32), 4),
    lambda: FaceHeads(3, 2, 1).init(jax.random.key(0), jnp.zeros(8)),
    lambda: FaceHeads(3, 2, 1.5),
    lambda: jax.jit(rotation_to_6d)(jnp.zeros((3, 2))),
])
def test_other_shapes_and_numbers_are_errors(call):
    with pytest.raises(TypeCheckError):
        call()


def test_batches_and_numpy_are_accepted():
    assert rotation_to_6d(np.eye(3, dtype=np.float32)).shape == (6,)
    assert jax.vmap(rotation_to_6d)(jnp.zeros((5, 2, 3, 3))).shape == (5, 2, 6)


def test_off_leaves_errors_to_the_function():
    with shape_checks.off(), pytest.raises(ValueError, match=r"offsets: shape \(3,\), expected \(4,\)"):
        displace(jnp.zeros((4, 3)), TRIANGLES, jnp.zeros(3))


def test_pytrees_may_hold_other_leaves():
    camera = Orthographic(jnp.eye(3), jnp.zeros(3), 1.0, jnp.zeros(2))
    assert jax.tree.map(lambda leaf: None, camera).rotation is None
    batch = jax.tree.map(lambda leaf: jnp.stack([leaf] * 2), camera)
    points = jax.vmap(Orthographic.project, in_axes=(camera.replace(
        rotation=0, translation=0, scale=0, centre=0), None))(batch, jnp.ones((4, 3)))
    assert points.shape == (2, 4, 3)


def test_a_models_arrays_are_as_its_fields_say(toy_model):
    for part in (toy_model, toy_model.topology):
        with jaxtyped("context"):
            for name, kind in part.__annotations__.items():
                if "Float" in str(kind) or "Int" in str(kind):
                    assert isinstance(getattr(part, name), get_args(kind) or kind), name
