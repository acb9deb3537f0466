"""From the trunk's features to the codes of a face, by separate heads."""

from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from sfm_jax.array_types import AnyArray

FRONTAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
LIGHT_BANDS = 9


class HeadCodes(NamedTuple):
    """What the heads say of B photos, before anything is projected or orthonormalised.

    rotation: see geometry.rotation.rotation_from_6d; log_scale: 0 = the mean face fills the crop; shift: shares of the
    crop's side; light: what is added to the ambient spherical harmonics.
    """

    identity: Float[Array, "B d"]
    expression: Float[Array, "B E"]
    albedo: Float[Array, "B A"]
    rotation: Float[Array, "B 6"]
    log_scale: Float[Array, " B"]
    shift: Float[Array, "B 2"]
    light: Float[Array, "B 9 3"]


class Head(nn.Module):
    """A linear layer to `size` numbers that starts at almost nothing, after `hidden` units if any. Size 0, of a model
    without expressions or colours, has no parameters."""

    size: int
    hidden: int = 0

    @nn.compact
    def __call__(self, x: Float[AnyArray, "B F"]) -> Float[AnyArray, "B {self.size}"]:
        if not self.size:
            return x[:, :0]
        if self.hidden:
            x = nn.relu(nn.Dense(self.hidden)(x))
        small = nn.initializers.variance_scaling(1e-4, "fan_in", "truncated_normal")
        return nn.Dense(self.size, kernel_init=small)(x)


class FaceHeads(nn.Module):
    """Features -> HeadCodes, at first of the mean face, frontal, centred, in ambient light.

    Three modules on one trunk, as in SIR (Jiang et al. 2022): shape; albedo; camera, expression and light together.
    Or, `separate`, five: camera, expression and light have one each, as in Yang et al. (TMM 2023). The layers' sizes
    and starts are ours.
    """

    identity: int
    expression: int
    albedo: int
    hidden: int = 0
    separate: bool = False

    @nn.compact
    def __call__(self, features: Float[AnyArray, "B F"]) -> HeadCodes:
        features = features.astype(jnp.float32)
        identity = Head(self.identity, self.hidden, name="identity")(features)
        albedo = Head(self.albedo, self.hidden, name="albedo")(features)
        sizes = (6, 1, 2, self.expression, 3 * LIGHT_BANDS)
        if self.separate:
            groups = {"camera": sum(sizes[:3]), "expression": sizes[3], "light": sizes[4]}
        else:
            groups = {"scene": sum(sizes)}
        scene = [Head(size, self.hidden, name=name)(features) for name, size in groups.items()]
        ends = [sum(sizes[:i]) for i in range(1, len(sizes))]
        rotation, log_scale, shift, expression, light = jnp.split(jnp.concatenate(scene, -1), ends, axis=-1)
        return HeadCodes(identity, expression, albedo, jnp.asarray(FRONTAL) + rotation, log_scale[:, 0], shift,
                         light.reshape(-1, LIGHT_BANDS, 3))
