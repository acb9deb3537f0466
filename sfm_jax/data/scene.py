"""What synthetic photos show, drawn at random: people, expressions, poses, lights and cameras.

Scene number i of a seed is always the same, to rounding, on any device and in any batch. Every range is ours: wide
enough to train on, not measured on a real collection.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sfm_jax.data.numbers import between, rows
from sfm_jax.geometry.products import einsum
from sfm_jax.morphable.default import Population
from sfm_jax.morphable.model import MorphableModel

# Constants of the nine real spherical harmonics, in the order of render.harmonics.
_HARMONIC = np.array([0.282095, 0.488603, 0.488603, 0.488603, 0.315392, 1.092548, 1.092548, 0.546274, 1.092548])
_SIDES = (("Right", "Left"), ("_R", "_L"))  # endings of expressions' names, by ARKit and by FaceKit


@dataclasses.dataclass(frozen=True)
class Conditions:
    """How photos differ. Angles in degrees.

    yaw: half of the photos spread evenly to +-yaw, half are near frontal (normal, a third of it); pitch, roll:
    standard deviations; expression: mean activation of an active unit, of which `active` are expected a photo;
    distance: range in mm of the camera, log-uniform (near ones distort); scale, shift: of the crop, as shares of its
    side, uniform; occluders: probability of each of two; damage: strength of exposure, blur, noise and compression;
    grey: probability of a black-and-white photo.
    """

    yaw: float = 90.0
    pitch: float = 10.0
    roll: float = 10.0
    expression: float = 0.4
    active: float = 6.0
    distance: tuple[float, float] = (350.0, 2500.0)
    scale: float = 0.12
    shift: float = 0.06
    occluders: float = 0.25
    damage: float = 1.0
    grey: float = 0.0


class Scene(NamedTuple):
    """What a photo shows. Of a batch every field has a leading dimension.

    index, person []; label []: whom the photo counts as, the person or the clip; identity, albedo, expression: codes;
    hair [4]: linear RGB and how much; pose [3] degrees: yaw, pitch, roll; light [9, 3]; distance [] mm of the
    camera; zoom [], where [2]: of the crop, shares of its side; surroundings, damage: random keys.
    """

    index: jax.Array
    person: jax.Array
    label: jax.Array
    identity: jax.Array
    albedo: jax.Array
    hair: jax.Array
    expression: jax.Array
    pose: jax.Array
    light: jax.Array
    distance: jax.Array
    zoom: jax.Array
    where: jax.Array
    surroundings: jax.Array
    damage: jax.Array


class Scenes:
    """Of photos of `people` (codes of `model`): scene i shows person i mod P; all else is drawn from (seed, i)."""

    def __init__(self, model: MorphableModel, people: Population, conditions: Conditions, seed: int):
        self._people, self._conditions, self._seed = people, conditions, seed
        self._statistical, self._bounds = model.expression_kind == "statistical", model.expression_bounds
        self._partner = _partners(model.expression_names)
        self._allowed = np.array([name != "mouthClose" for name in model.expression_names], np.float32)

    def __call__(self, ids: jax.Array) -> Scene:
        """The scenes `ids` [B] int32, batched."""
        return jax.vmap(self._scene)(ids)

    def _scene(self, index):
        key = jax.random.fold_in(jax.random.key(self._seed), index)
        pose, face, light, camera, surroundings, damage = jax.random.split(key, 6)
        uniform, normal, exponential = self._numbers(pose, face, light, camera)
        c, person = self._conditions, index % len(self._people.identity)
        return Scene(
            index=index, person=person, label=person, identity=jnp.asarray(self._people.identity)[person],
            albedo=jnp.asarray(self._people.albedo)[person], hair=_hair(uniform, normal),
            expression=self._expression(uniform, normal, exponential), pose=self._pose(uniform, normal),
            light=_light(uniform, normal, exponential),
            distance=jnp.exp(between(uniform["far"][0], *np.log(c.distance))),
            zoom=between(uniform["zoom"][0], -c.scale, c.scale),
            where=between(uniform["where"][:2], -c.shift, c.shift),
            surroundings=surroundings, damage=damage)

    def _numbers(self, pose, face, light, camera):
        """Rows of random numbers by what they are for: uniform, normal, exponential."""
        split = jax.vmap(lambda one: jax.random.split(one, 4))
        pose, face, light, camera, hair = split(jnp.stack([pose, face, light, camera, jax.random.fold_in(face, 1)]))
        units = len(self._partner)
        uniform = rows(jax.random.uniform, max(units, 2), wide=pose[0], even=pose[1], active=face[0], alike=face[2],
                        level=light[0], far=camera[0], zoom=camera[1], where=camera[2], bald=hair[0], grey=hair[1],
                        dark=hair[2])
        normal = rows(jax.random.normal, max(units, 9), yaw=jax.random.fold_in(pose[2], 0), tilt=pose[2],
                       expression=face[1], lamps=light[2], tint=light[3], hair=hair[3])
        return uniform, normal, rows(jax.random.exponential, max(2 * units, 3), expression=face[1], share=light[1])

    def _pose(self, uniform, normal):
        c = self._conditions
        yaw = jnp.where(uniform["wide"][0] < 0.5, between(uniform["even"][0], -c.yaw, c.yaw),
                        c.yaw / 3 * normal["yaw"][0])
        pitch, roll = normal["tilt"][:2] * jnp.array([c.pitch, c.roll])
        return jnp.stack([jnp.clip(yaw, -c.yaw, c.yaw), jnp.clip(pitch, -35, 35), jnp.clip(roll, -45, 45)])

    def _expression(self, uniform, normal, exponential):
        """A few active units; most of the time the two sides of a face do the same. Statistical ones: normal."""
        c, count = self._conditions, len(self._partner)
        if self._statistical:
            return jnp.clip(c.expression / Conditions.expression * normal["expression"][:count], *self._bounds)
        # The sum of two exponentials is a gamma variable; jax.random.gamma samples by rejection, in slow loops.
        two = exponential["expression"][:2 * count].reshape(2, count)
        code = jnp.minimum(c.expression / 2 * two.sum(0), 1.0)
        code = jnp.where(uniform["active"][:count] < min(c.active / max(count, 1), 1.0), code, 0.0) * self._allowed
        return jnp.where(uniform["alike"][0] < 0.8, code[self._partner], code)


def _hair(uniform, normal):
    """Of some colour, or none: linear RGB and 0 or 1, [4]."""
    colour = jnp.where(uniform["grey"][0] < 0.2, jnp.array([0.45, 0.43, 0.4]), jnp.array([0.3, 0.17, 0.07]))
    colour = colour * jnp.exp(-2.5 * uniform["dark"][0]) * jnp.exp(0.1 * normal["hair"][:3])
    return jnp.append(colour, (uniform["bald"][0] < 0.85).astype(jnp.float32))


def _light(uniform, normal, exponential):
    """Spherical harmonics [9, 3] of a sky and two distant lights; a frontal grey face comes out mid-bright."""
    total = between(uniform["level"][0], 0.5, 1.1)
    weights = exponential["share"][:3] + jnp.array([0.5, 0.3, 0.0])
    weights = weights / weights.sum()
    # Lights come from all sides of the viewer's half, seldom from below.
    x, y, z = jnp.moveaxis(normal["lamps"][:6].reshape(2, 3) + jnp.array([0.0, 0.6, 1.0]), -1, 0)
    length = jnp.sqrt(x * x + y * y + z * z + 1e-6)
    x, y, z = x / length, y / length, z / length
    basis = jnp.stack([jnp.ones_like(x), z, x, y, 3 * z * z - 1, x * z, y * z, x * x - y * y, x * y], -1) * _HARMONIC
    colours = 1 + 0.12 * normal["tint"][:9].reshape(3, 3)
    sky = jnp.zeros(9).at[0].set(1 / 0.886227)[:, None] * colours[0]
    # A distant light from l shows a surface facing n as harmonics(n) . Y(l), nearly max(n.l, 0): Lambert in 9 numbers.
    lamps = einsum("l,lk,lc->kc", weights[1:], basis, colours[1:]) * 1.6  # lamps are brighter than the sky
    return total * (weights[0] * sky + lamps)


def _partners(names):
    """For each unit the one whose activation a symmetric face copies: Right copies Left, others themselves."""
    index = {name: number for number, name in enumerate(names)}
    mirrored = [next((name.removesuffix(right) + left for right, left in _SIDES if name.endswith(right)), name)
                for name in names]
    return np.array([index.get(other, number) for number, other in enumerate(mirrored)], np.int32)
