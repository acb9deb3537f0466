"""Fitting a face model to image points, by Levenberg-Marquardt: one face, many faces at once, or one person's photos.

Points are seen by a weak perspective camera (inference/face.py). What is found is the most probable face: image points
are Gaussian around their places, more loosely where a robust weight says so, codes are Gaussian around `Prior`.
Frames of one person share the identity. Its few numbers are then solved for once, those of each frame apart (the Schur
complement of bundle adjustment: Triggs et al. 2000), so that time is linear in frames. Everything is a pure function
of one person, to be vmapped over people; ours, but for the method.
"""

import dataclasses
from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from sfm_jax.array_types import AnyArray, Number, Numbers
from sfm_jax.geometry.mesh import vertex_normals
from sfm_jax.geometry.products import einsum, matmul
from sfm_jax.geometry.rotation import rotation_from_axis_angle
from sfm_jax.geometry.vector import cross, normalise
from sfm_jax.inference.face import crop_frame
from sfm_jax.inference.surface_points import SurfacePoints
from sfm_jax.morphable.model import MorphableModel

CAMERA = 6  # numbers of a frame's camera: rotation (3), log scale, shift (2)
_LEAST_DAMPING, _MOST_DAMPING = 1e-6, 1e6


@flax.struct.dataclass
class PointModel:
    """P points of a face model: mean [P, 3], identity [K, P, 3] and expression [E, P, 3], in units of the mean face's
    crop (`face.crop_frame`), from its middle; normals [P, 3] of the mean face, zero where nothing hides a point.
    What numbers of an expression lie between, and their unit, are the model's (`MorphableModel`)."""

    mean: Float[AnyArray, "P 3"]
    identity: Float[AnyArray, "K P 3"]
    expression: Float[AnyArray, "E P 3"]
    normals: Float[AnyArray, "P 3"]
    expression_bounds: tuple[float, float] = flax.struct.field(pytree_node=False, default=(0.0, 1.0))
    expression_unit: float = flax.struct.field(pytree_node=False, default=1.0)

    def __call__(
        self, identity: Float[AnyArray, "*#batch k"], expression: Float[AnyArray, "*#batch e"]
    ) -> Float[Array, "*batch P 3"]:
        """Points [..., P, 3] of codes [..., K] and [..., E]."""
        return (self.mean + einsum("...k,kpx->...px", identity, self.identity)
                + einsum("...e,epx->...px", expression, self.expression))


class Prior(NamedTuple):
    """Where codes are expected: identity [K] and its deviation [K] or []; expression [F, E] (or [E]) and its
    deviation [E] or []. Expressions stay within [low, high]."""

    identity: Float[AnyArray, " K"]
    identity_deviation: Numbers
    expression: Float[AnyArray, "*frames E"]
    expression_deviation: Numbers
    low: Number
    high: Number


class PointFit(NamedTuple):
    """identity [K]; expression [F, E]; rotation [F, 3, 3], log_scale [F], shift [F, 2]: cameras as in FaceCodes;
    points [F, P, 2]: where the model's points are, shares of the crop's side from its corner; error []: root mean
    square distance to the observed ones, weighted; iterations []."""

    identity: Float[Array, " K"]
    expression: Float[Array, "F E"]
    rotation: Float[Array, "F 3 3"]
    log_scale: Float[Array, " F"]
    shift: Float[Array, "F 2"]
    points: Float[Array, "F P 2"]
    error: Float[Array, ""]
    iterations: Int[Array, ""]


@dataclasses.dataclass(frozen=True)
class Settings:
    """deviation: of an observed point, share of the crop's side; robust: in deviations, beyond which a point counts
    ever less (Cauchy), infinite: never; hidden: weight of points that face away, between 0 and 1; iterations: at most;
    tolerance: relative fall of the cost below which it ends."""

    deviation: float = 0.01
    robust: float = 3.0
    hidden: float = 1.0
    iterations: int = 30
    tolerance: float = 1e-4


def point_model(
    model: MorphableModel, points: Int[AnyArray, " P"] | SurfacePoints | None = None, identities: int | None = None
) -> PointModel:
    """The points of a model that are observed.

    Args:
      model: any.
      points: indices [P] of vertices, SurfacePoints (inference/surface_points.py), or None: the 68 landmarks.
      identities: components to fit; None: all.
    """
    points = model.topology.landmarks if points is None else points
    pick = points if callable(points) else lambda values: values[..., jnp.asarray(points), :]
    pivot, side = crop_frame(model)
    normals = pick(vertex_normals(model.mean, model.topology.triangles))
    return PointModel((pick(model.mean) - pivot) / side, pick(model.identity_basis[:identities]) / side,
                      pick(model.expression_basis) / side, normalise(normals), model.expression_bounds,
                      model.expression_unit)


def joined(*models: PointModel) -> PointModel:
    """The points of all of them, which are of one model."""
    return jax.tree.map(lambda *parts: jnp.concatenate(parts, -2), *models)


def standard_prior(model: PointModel, frames: int = 1, identity_deviation: float = 1.0,
                   expression_deviation: float = 0.3) -> Prior:
    """Of a person of whom nothing is known: the mean face at rest. expression_deviation: of an activation; one of
    statistical expressions is as much in their unit."""
    return Prior(jnp.zeros(len(model.identity)), jnp.asarray(identity_deviation),
                 jnp.zeros((frames, len(model.expression))),
                 jnp.asarray(expression_deviation * model.expression_unit), *model.expression_bounds)


def affine_pose(
    points: Float[AnyArray, "P 3"], observed: Float[AnyArray, "P 2"], weights: Float[AnyArray, " P"]
) -> tuple[Float[Array, "3 3"], Float[Array, ""], Float[Array, "2"]]:
    """rotation [3, 3], log_scale [], shift [2] of points [P, 3] seen at [P, 2]: the affine camera of least squares, and
    the nearest weak perspective one. Exact for one that is; finite, and no more, of points that do not tell."""
    total = jnp.maximum(jnp.sum(weights), 1e-9)
    middle, seen = (matmul(weights, points) / total, matmul(weights, observed) / total)
    centred = (points - middle) * weights[:, None]
    square = matmul(centred.T, points - middle)
    square = square + (1e-6 * jnp.trace(square) + 1e-12) * jnp.eye(3)
    rows = jnp.linalg.solve(square, matmul(centred.T, observed - seen)).T
    rows = rows * jnp.array([[1.0], [-1.0]])  # the image's y points down
    u, singular, vt = jnp.linalg.svd(rows, full_matrices=False)
    across = matmul(u, vt)
    rotation = jnp.concatenate([across, cross(across[0], across[1])[None]])
    scale = jnp.maximum(jnp.mean(singular), 1e-6)
    place = scale * matmul(across, middle) * jnp.array([1.0, -1.0])
    return rotation, jnp.log(scale), seen - 0.5 - place


def fit_points(
    model: PointModel, observed: Float[AnyArray, "F P 2"], weights: Float[AnyArray, "F P"], prior: Prior,
    settings: Settings = Settings(),
) -> PointFit:
    """One person in F frames, from points observed in each.

    Args:
      model: of P points.
      observed: [F, P, 2] shares of the crop's side from its corner, x right, y down.
      weights: [F, P] how much each counts, 0: it is not known.
      prior: of the codes; where the search starts.
      settings: static.

    Returns:
      PointFit. Frames in which nothing is observed get the prior's expression and a camera without meaning.
    """
    known = weights > 0
    observed = jnp.where(known[..., None], observed, 0.5)
    start = prior.identity, jnp.broadcast_to(prior.expression, (len(observed), len(model.expression)))
    seen = model(*start)
    camera = jax.vmap(affine_pose)(seen, observed, weights)
    state = _State(start[0], jnp.clip(start[1], prior.low, prior.high), *camera)
    problem = _Problem(model, observed, weights, prior, settings)
    first = (state, jnp.asarray(1e-3), jnp.asarray(0), jnp.asarray(False))

    def going_on(carry):
        *_, count, done = carry
        return ~done & (count < settings.iterations)

    def improve(carry):
        state, damping, count, _ = carry
        # What is hidden is seen to anew after each step, not within it: turning points away is no way to a better fit.
        visible = problem.visible(state)
        new = problem.step(state, damping, visible)
        cost, new_cost = problem.cost(state, visible), problem.cost(new, visible)
        better = new_cost < cost
        done = better & (cost - new_cost < settings.tolerance * cost) | (damping > _MOST_DAMPING)
        state = jax.tree.map(lambda a, b: jnp.where(better, a, b), new, state)
        damping = jnp.where(better, jnp.maximum(damping / 10, _LEAST_DAMPING), damping * 10)
        return state, damping, count + 1, done

    state, _, count, _ = jax.lax.while_loop(going_on, improve, first)
    projected, _, _ = _project(model, state)
    squared = jnp.sum((projected + 0.5 - observed) ** 2, -1)
    error = jnp.sqrt(jnp.sum(weights * squared) / jnp.maximum(jnp.sum(weights), 1e-9))
    return PointFit(*state, projected + 0.5, error, count)


def project(
    model: PointModel, identity: Float[AnyArray, " k"], expression: Float[AnyArray, " e"],
    rotation: Float[AnyArray, "3 3"], log_scale: Number, shift: Float[AnyArray, "2"],
) -> Float[Array, "P 2"]:
    """Where the points of one face are seen, [P, 2] shares of the crop's side from its corner; codes as FaceCodes."""
    state = _State(identity, expression[None], rotation[None], log_scale[None], shift[None])
    return _project(model, state)[0][0] + 0.5


class _State(NamedTuple):
    identity: jax.Array
    expression: jax.Array
    rotation: jax.Array
    log_scale: jax.Array
    shift: jax.Array


class _Problem(NamedTuple):
    model: PointModel
    observed: jax.Array
    weights: jax.Array
    prior: Prior
    settings: Settings

    def cost(self, state: _State, visible: jax.Array):
        squared, _, _ = self._residuals(state)
        limit = self.settings.robust**2
        loss = squared if not np.isfinite(limit) else limit * jnp.log1p(squared / limit)
        prior = self.prior
        return (jnp.sum(self.weights * visible * loss)
                + jnp.sum(((state.identity - prior.identity) / prior.identity_deviation) ** 2)
                + jnp.sum(((state.expression - prior.expression) / prior.expression_deviation) ** 2))

    def step(self, state: _State, damping: Number, visible: jax.Array) -> _State:
        """The state after a damped Gauss-Newton step. What is at a bound and wants beyond it stays there."""
        model, prior, settings = self.model, self.prior, self.settings
        squared, residual, (image, turned) = self._residuals(state)
        weight = self.weights * visible
        if np.isfinite(settings.robust):
            weight = weight / (1 + squared / settings.robust**2)
        own, shared = _jacobians(model, state, image, turned)
        frames, points = weight.shape
        root = jnp.sqrt(weight)[..., None, None]
        own = (own * root / settings.deviation).reshape(frames, 2 * points, -1)
        shared = (shared * root / settings.deviation).reshape(frames, 2 * points, -1)
        residual = (residual * root[..., 0]).reshape(frames, -1)

        def product(a, b):
            return einsum("fni,fnj->fij", a, b)

        precision = jnp.broadcast_to(prior.expression_deviation, state.expression.shape[-1:]) ** -2.0
        pull = precision * (state.expression - prior.expression)
        h_ll, h_cl = product(own, own), product(shared, own)
        g_l = product(own, residual[..., None])[..., 0].at[:, CAMERA:].add(pull)
        h_ll = h_ll + jnp.diag(jnp.concatenate([jnp.full(CAMERA, 1e-4), precision]))
        at_rest = (state.expression <= prior.low) & (g_l[:, CAMERA:] > 0)
        at_most = (state.expression >= prior.high) & (g_l[:, CAMERA:] < 0)
        free = jnp.concatenate([jnp.ones((frames, CAMERA)), (~(at_rest | at_most)).astype(jnp.float32)], 1)
        size = h_ll.shape[-1]
        h_ll = h_ll * free[:, :, None] * free[:, None] + jnp.eye(size) * (1 - free)[:, None]
        h_ll = h_ll + damping * jnp.eye(size) * jnp.diagonal(h_ll, axis1=1, axis2=2)[:, None]
        g_l, h_cl = g_l * free, h_cl * free[:, None]

        precision = jnp.broadcast_to(prior.identity_deviation, state.identity.shape) ** -2.0
        h_cc = product(shared, shared).sum(0) + jnp.diag(precision)
        h_cc = h_cc + damping * jnp.diag(jnp.diagonal(h_cc))
        g_c = (product(shared, residual[..., None])[..., 0].sum(0)
               + precision * (state.identity - prior.identity))
        # Of every frame's own numbers: the best ones for any identity.
        solved = _solve(h_ll, jnp.concatenate([jnp.swapaxes(h_cl, 1, 2), g_l[..., None]], -1))
        reduced = h_cc - einsum("fcl,fld->cd", h_cl, solved[..., :-1])
        right = g_c - einsum("fcl,fl->c", h_cl, solved[..., -1])
        move = -_solve(reduced, right[:, None])[:, 0]
        own = -solved[..., -1] - einsum("flc,c->fl", solved[..., :-1], move)
        turn = rotation_from_axis_angle(own[:, :3])
        return _State(state.identity + move, jnp.clip(state.expression + own[:, CAMERA:], prior.low, prior.high),
                      matmul(turn, state.rotation), state.log_scale + own[:, 3],
                      state.shift + own[:, 4:CAMERA])

    def visible(self, state: _State) -> jax.Array:
        """Weights [F, P]: less where a point's normal on the mean face turns away."""
        if self.settings.hidden >= 1:
            return jnp.ones(self.weights.shape)
        hidden = self.settings.hidden
        facing = einsum("px,fx->fp", self.model.normals, state.rotation[:, 2])
        seen = jnp.where((self.model.normals == 0).all(-1), 1.0, jnp.clip(facing / 0.3, 0, 1))
        return hidden + (1 - hidden) * seen

    def _residuals(self, state):
        """Squared length [F, P] in deviations, residuals [F, P, 2] likewise, and what `_jacobians` needs."""
        projected, image, turned = _project(self.model, state)
        residual = (projected + 0.5 - self.observed) / self.settings.deviation
        return jnp.sum(residual**2, -1), residual, (image, turned)


def _project(model, state):
    """Places [F, P, 2] from the crop's middle; those without the shift; points in the camera's axes [F, P, 3]."""
    points = model(state.identity, state.expression)
    turned = einsum("fij,fpj->fpi", state.rotation, points)
    image = jnp.exp(state.log_scale)[:, None, None] * turned[..., :2] * jnp.array([1.0, -1.0])
    return image + state.shift[:, None], image, turned


def _jacobians(model, state, image, turned):
    """Of the image points: by a frame's camera and expression [F, P, 2, 6 + E], by the identity [F, P, 2, K]."""
    scale = jnp.exp(state.log_scale)[:, None]
    x, y, z = jnp.moveaxis(turned, -1, 0)
    zero = jnp.zeros_like(x)
    # omega x (x, y, z), the image's y turned down.
    rotation = jnp.stack([jnp.stack([zero, z, -y], -1), jnp.stack([z, zero, -x], -1)], -2) * scale[..., None, None]
    shift = jnp.broadcast_to(jnp.eye(2), (*x.shape, 2, 2))
    across = scale[..., None] * state.rotation[:, :2] * jnp.array([[1.0], [-1.0]])

    def seen(basis):
        return einsum("fij,kpj->fpik", across, basis)

    own = jnp.concatenate([rotation, image[..., None], shift, seen(model.expression)], -1)
    return own, seen(model.identity)


def _solve(matrix, right):
    """matrix^-1 right of symmetric positive definite matrices [..., n, n]."""
    factor = jax.scipy.linalg.cho_factor(matrix, lower=True)
    return jax.scipy.linalg.cho_solve(factor, right)
