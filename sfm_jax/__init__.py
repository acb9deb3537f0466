"""sfm_jax: Sphere Face Models and their kin in JAX."""

__version__ = "0.1.0"
