"""A differentiable soft rasteriser in jax.numpy: from vertices, a camera and light to an image, and back."""

from sfm_jax.render.caps import Caps, default_caps
from sfm_jax.render.interpolate import blend, interpolate
from sfm_jax.render.renderer import Rendering, Surface, check_overflow, render, suggest_caps, surface
from sfm_jax.render.shading import PointLight, SphericalHarmonics, ambient, harmonics
from sfm_jax.render.visibility import visibility

__all__ = [
    "Caps", "PointLight", "Rendering", "SphericalHarmonics", "Surface", "ambient", "blend", "check_overflow",
    "default_caps", "harmonics", "interpolate", "render", "suggest_caps", "surface", "visibility",
]
