"""Light on surfaces: second-order spherical harmonics, and a point light with Phong's reflection.

A light is a pytree that is called with what a pixel sees and answers with its colour. All directions and positions
are in camera space (x right, y up, z to the viewer; `eye` is the unit vector to it): the light stays with the camera
when the head turns.
"""

import flax.struct
import jax.numpy as jnp
from jaxtyping import Array, Float

from sfm_jax.array_types import AnyArray, Number, Numbers, Points
from sfm_jax.geometry.products import matmul
from sfm_jax.geometry.vector import normalise

# Lambert's cosine in each band (pi, 2 pi / 3, pi / 4) times the normalisation of the real spherical harmonics:
# Ramamoorthi & Hanrahan, "An Efficient Representation for Irradiance Environment Maps", SIGGRAPH 2001.
_BAND0, _BAND1, _ZONAL2, _BAND2, _SQUARES2 = 0.886226925, 1.023326708, 0.247707956, 0.858085531, 0.429042765


def harmonics(normals: Points) -> Float[Array, "*batch 9"]:
    """Irradiance per unit of each coefficient, [..., 9] for unit normals [..., 3].

    In the order 1, z, x, y, 3z^2-1, xz, yz, x^2-y^2, xy (Chen et al., TIP 2020).
    """
    x, y, z = jnp.moveaxis(normals, -1, 0)
    return jnp.stack([
        jnp.full_like(z, _BAND0), _BAND1 * z, _BAND1 * x, _BAND1 * y, _ZONAL2 * (3 * z * z - 1),
        _BAND2 * x * z, _BAND2 * y * z, _SQUARES2 * (x * x - y * y), _BAND2 * x * y,
    ], -1)


def ambient(level: Number = 1.0) -> "SphericalHarmonics":
    """The light under which every surface shows `level` times its albedo: where a fit starts."""
    return SphericalHarmonics(jnp.zeros((9, 3)).at[0].set(level / _BAND0))


@flax.struct.dataclass
class SphericalHarmonics:
    """coefficients [9, 3]: distant light in each colour channel, in the order of `harmonics`."""

    coefficients: Float[AnyArray, "*batch 9 3"]

    def __call__(
        self, albedo: Points, normals: Points, positions: Points | None, eye: Points | None
    ) -> Float[Array, "*batch 3"]:
        """albedo * (harmonics(n) . coefficients) [..., 3]; not clipped, so that gradients live in the dark too."""
        return albedo * matmul(harmonics(normals), self.coefficients)


@flax.struct.dataclass
class PointLight:
    """position [3] mm; colour, ambient [3]; specular [] (strength of the highlight) and shininess [] (its exponent)."""

    position: Float[AnyArray, "*batch 3"]
    colour: Float[AnyArray, "*batch 3"]
    ambient: Float[AnyArray, "*batch 3"]
    specular: Numbers
    shininess: Numbers

    def __call__(self, albedo: Points, normals: Points, positions: Points, eye: Points) -> Float[Array, "*batch 3"]:
        """albedo * (ambient + colour max(n.l, 0)) + colour specular max(r.v, 0)^shininess (Phong 1975)."""
        direction = normalise(self.position - positions)
        facing = jnp.sum(normals * direction, -1, keepdims=True)
        mirrored = 2 * facing * normals - direction
        glance = jnp.maximum(jnp.sum(mirrored * eye, -1, keepdims=True), 0.0)
        lit = (facing > 0) & (glance > 0)
        highlight = jnp.where(lit, jnp.where(lit, glance, 1.0) ** self.shininess, 0.0)
        diffuse = self.ambient + self.colour * jnp.maximum(facing, 0.0)
        return albedo * diffuse + self.colour * self.specular * highlight


Light = SphericalHarmonics | PointLight
