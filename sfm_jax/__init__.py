"""sfm_jax: Sphere Face Models and their kin in JAX. `sfm_jax.reconstruct(image)` finds the faces of a photo."""

__version__ = "0.1.0"


def __getattr__(name):
    # Imported when asked for: the package itself stays light.
    if name == "reconstruct":
        import importlib

        return importlib.import_module("sfm_jax.reconstruct")
    raise AttributeError(f"module 'sfm_jax' has no attribute {name!r}")
