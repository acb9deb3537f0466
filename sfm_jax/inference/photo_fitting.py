"""Fitting a face to a photo: colours, light and shape are changed until the rendered face looks like it.

Analysis by synthesis (Blanz & Vetter 1999) with our differentiable renderer, by Adam. What holds the face back are the
points that were observed and the codes it started from, weighed as in inference/fitting.py: the start is a network's
answer, or a fit to points. Weights and step sizes are ours.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Float

from sfm_jax.array_types import AnyArray
from sfm_jax.data.damage import to_linear, to_srgb
from sfm_jax.geometry.products import matmul
from sfm_jax.geometry.rotation import rotation_from_axis_angle
from sfm_jax.inference.face import FaceCodes, FaceDecoder
from sfm_jax.inference.face_renderer import FaceRenderer
from sfm_jax.inference.fitting import PointModel, project
from sfm_jax.losses.image import colour_distance, masked_image_mean

_STEPS = {"identity": 0.02, "expression": 0.005, "albedo": 0.05, "turn": 0.003, "log_scale": 0.002, "shift": 0.002,
          "light": 0.02}  # sizes of Adam's steps, in each quantity's own unit; expressions are activations


@dataclasses.dataclass(frozen=True)
class Weights:
    """Of the photo against all else: photo: of the mean distance of colours on the skin, in units of `colour` (sRGB),
    about as many observations as it counts for; deviations: of points (share of the crop's side), and of codes from
    where they started (of activations, in place of others' unit); iterations: of Adam."""

    photo: float = 100.0
    colour: float = 0.05
    points: float = 0.03
    identity: float = 0.3
    expression: float = 0.2
    albedo: float = 1.0
    light: float = 0.5
    iterations: int = 60


class _Change(NamedTuple):
    """What is added to the start's codes; `turn`: axis and angle in radians."""

    identity: jax.Array
    expression: jax.Array
    albedo: jax.Array
    turn: jax.Array
    log_scale: jax.Array
    shift: jax.Array
    light: jax.Array


class PhotoFitter:
    """Fits faces of a decoder to crops of `size` pixels. Compiled once; the call is a pure function, to be vmapped."""

    def __init__(self, decoder: FaceDecoder, size: int, weights: Weights = Weights()):
        self._decoder, self._size, self._weights = decoder, size, weights
        self._renderer = FaceRenderer(decoder.model, size)
        self._unit, self._bounds = decoder.model.expression_unit, decoder.model.expression_bounds
        self._run = jax.jit(self.fit)

    def __call__(
        self, image: Float[AnyArray, "S S 3"], codes: FaceCodes, points: PointModel, seen: Float[AnyArray, "P 2"],
        seen_weights: Float[AnyArray, " P"], inside: Float[AnyArray, "S S"],
    ) -> FaceCodes:
        """As `fit`, compiled."""
        return self._run(image, codes, points, seen, seen_weights, inside)

    def fit(
        self, image: Float[AnyArray, "S S 3"], codes: FaceCodes, points: PointModel, seen: Float[AnyArray, "P 2"],
        seen_weights: Float[AnyArray, " P"], inside: Float[AnyArray, "S S"],
    ) -> FaceCodes:
        """The codes of a face that looks more like a photo.

        Args:
          image: sRGB in [0, 1], the crop.
          codes: where to start, without leading dimensions.
          points: that were observed.
          seen: where, shares of the crop's side.
          seen_weights: how much each counts.
          inside: 1 where the crop shows the photo, 0 beyond its border.
        """
        start = _Change(*(jnp.zeros_like(value) for value in codes[:3]), jnp.zeros(3), jnp.zeros(()), jnp.zeros(2),
                        jnp.zeros((9, 3)))
        background = to_linear(image)

        def loss(change):
            return self._cost(change, image, background, inside, codes, points, seen, seen_weights)

        rule = optax.chain(optax.scale_by_adam(b1=0.8, b2=0.95),
                           optax.scale_by_schedule(optax.cosine_decay_schedule(-1.0, self._weights.iterations)))
        sizes = _Change(**_STEPS | {"expression": self._unit * _STEPS["expression"]})

        def improve(carry, _):
            change, state = carry
            gradient = jax.grad(loss)(change)
            with jax.numpy_dtype_promotion("standard"):  # optax multiplies its counts of steps by floats
                moves, state = rule.update(gradient, state)
            change = jax.tree.map(lambda value, move, size: value + size * move, change, moves, sizes)
            return (change, state), None

        (change, _), _ = jax.lax.scan(improve, (start, rule.init(start)), None, self._weights.iterations)
        return changed(codes, change, self._bounds)

    def _cost(self, change, image, background, inside, codes, points, seen, seen_weights):
        weights, new = self._weights, changed(codes, change, self._bounds)
        face = self._decoder(jax.tree.map(lambda leaf: leaf[None], new), self._size)
        shown = self._renderer(face, background[None])
        distance = colour_distance(to_srgb(shown.colour), image[None])
        skin = jax.lax.stop_gradient(shown.alpha) * inside
        photo = jnp.sum(masked_image_mean(distance, skin)) / weights.colour
        places = project(points, new.identity, new.expression, new.rotation, new.log_scale, new.shift)
        apart = jnp.sum((places - seen) ** 2, -1) / weights.points**2
        moved = [jnp.sum(part**2) / deviation**2 for part, deviation in (
            (change.identity, weights.identity), (change.expression, self._unit * weights.expression),
            (change.albedo, weights.albedo), (change.light, weights.light))]
        return weights.photo * photo + jnp.sum(seen_weights * jnp.log1p(apart)) + sum(moved)


def changed(codes: FaceCodes, change: _Change, bounds: tuple[float, float]) -> FaceCodes:
    """The codes with the change; expressions stay within their bounds."""
    rotation = matmul(rotation_from_axis_angle(change.turn), codes.rotation)
    return FaceCodes(codes.identity + change.identity, jnp.clip(codes.expression + change.expression, *bounds),
                     codes.albedo + change.albedo, rotation, codes.log_scale + change.log_scale,
                     codes.shift + change.shift, codes.light + change.light)
