"""A differentiable soft rasteriser in jax.numpy: from vertices, a camera and light to an image, and back.

The steps are open to use by themselves: `visibility.visibility`, `interpolate.interpolate`, `silhouette.soften`.
"""

from sfm_jax.render.caps import Caps, default_caps
from sfm_jax.render.renderer import Rendering, Surface, check_overflow, render, suggest_caps, surface
from sfm_jax.render.shading import Light, PointLight, SphericalHarmonics, ambient, harmonics

__all__ = [
    "Caps", "Light", "PointLight", "Rendering", "SphericalHarmonics", "Surface", "ambient", "check_overflow",
    "default_caps", "harmonics", "render", "suggest_caps", "surface",
]
