"""While tests run, every function of TYPED is checked against its annotations: by beartype, shapes by jaxtyping.

To be imported before sfm_jax, whose modules are instrumented as they are imported.
"""

import contextlib
import functools

import beartype
import jaxtyping

TYPED = (
    "sfm_jax.geometry", "sfm_jax.losses", "sfm_jax.morphable", "sfm_jax.networks", "sfm_jax.render",
    "sfm_jax.inference.default_detail", "sfm_jax.inference.default_encoder", "sfm_jax.inference.detail",
    "sfm_jax.inference.detail_encoder", "sfm_jax.inference.detail_files", "sfm_jax.inference.detection",
    "sfm_jax.inference.face", "sfm_jax.inference.face_points", "sfm_jax.inference.face_renderer",
    "sfm_jax.inference.fitting", "sfm_jax.inference.glb", "sfm_jax.inference.identity_space",
    "sfm_jax.inference.packed", "sfm_jax.inference.photo_detail", "sfm_jax.inference.photo_encoder",
    "sfm_jax.inference.photo_fitting", "sfm_jax.inference.reconstruction", "sfm_jax.inference.result_files",
    "sfm_jax.inference.scan_fitting", "sfm_jax.inference.scan_start", "sfm_jax.inference.surface_points",
    "sfm_jax.inference.texture", "sfm_jax.inference.variation", "sfm_jax.inference.video",
)
_CHECK = beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))  # an int is a float, as in PEP 484


def check(function):
    """beartype; but JAX rebuilds pytrees by their __init__, with leaves of any kind."""
    checked = _CHECK(function)
    if function.__name__ != "__init__":
        return checked

    @functools.wraps(function)
    def unless_pytree(self, *args, **kwargs):
        return None if hasattr(type(self), "_flax_dataclass") else checked(self, *args, **kwargs)

    return unless_pytree


@contextlib.contextmanager
def off():
    """For what a function itself says of arguments of a wrong shape. Also a decorator of tests."""
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)


jaxtyping.install_import_hook(TYPED, "shape_checks.check")
