"""Fits to points: against SciPy on the same residuals, finite differences and faces that are known."""

import functools

import chex
import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from sfm_jax.geometry.rotation import rotation_from_axis_angle, rotation_from_euler
from sfm_jax.inference import fitting
from sfm_jax.inference.face import FaceCodes, FaceDecoder
from sfm_jax.inference.fitting import PointModel, Settings, affine_pose, fit_points, standard_prior
from sfm_jax.morphable.default import load_default

POSES = ((0, 0, 0), (30, 15, -10), (-75, 0, 20), (90, 5, 0), (20, -30, 100), (0, 0, 180))  # degrees
EXACT = Settings(deviation=1e-4, robust=np.inf, iterations=100, tolerance=1e-7)
GAUSSIAN = Settings(deviation=0.01, robust=np.inf, iterations=100, tolerance=1e-7)


@functools.cache
def small_model(points=30, identities=5, expressions=4):
    """Random points as far apart as a face's, in crops."""
    rng = np.random.default_rng(0)

    def draw(scale, *shape):
        return jnp.asarray(scale * rng.normal(size=(*shape, points, 3)), jnp.float32)

    return PointModel(draw(0.25), draw(0.03, identities), draw(0.04, expressions), jnp.zeros((points, 3)))


def fit(model, observed, weights=None, prior=None, settings=GAUSSIAN):
    """fit_points of [F, P, 2], compiled."""
    weights = jnp.ones(observed.shape[:2]) if weights is None else weights
    prior = standard_prior(model, len(observed)) if prior is None else prior
    return jax.jit(fit_points, static_argnames="settings")(model, observed, weights, prior, settings=settings)


def truth(model, frames, seed=1, poses=POSES):
    """(identity [K], expression [F, E], rotation, log_scale, shift) of one person."""
    rng = np.random.default_rng(seed)
    turns = Rotation.from_euler("YXZ", np.resize(poses, (frames, 3)), degrees=True).as_matrix()
    draws = (rng.normal(size=len(model.identity)), rng.uniform(0.1, 0.9, (frames, len(model.expression))), turns,
             rng.normal(size=frames) * 0.1, rng.normal(size=(frames, 2)) * 0.05)
    return tuple(jnp.asarray(value, jnp.float32) for value in draws)


@jax.jit
def seen(model, codes):
    """The points [F, P, 2] of `truth`."""
    return jax.vmap(fitting.project, in_axes=(None, None, 0, 0, 0, 0))(model, *codes)


def degrees_between(a, b):
    return np.rad2deg((Rotation.from_matrix(a) * Rotation.from_matrix(b).inv()).magnitude())


def test_points_are_seen_where_the_decoder_puts_them():
    """Of the embedded face's landmarks, in the camera of a crop."""
    model = load_default(0)
    points = fitting.point_model(model, None, 12)
    rng = np.random.default_rng(0)
    identity, expression = (jnp.asarray(rng.uniform(0, 1, size), jnp.float32) for size in (12, 51))
    camera = rotation_from_euler(jnp.array([40.0, -10.0, 20.0])), jnp.float32(0.2), jnp.array([0.1, -0.05])
    codes = FaceCodes(identity, expression, jnp.zeros(24), *camera, jnp.zeros((9, 3)))
    face = FaceDecoder(model, model.mean, model.identity_basis)(jax.tree.map(lambda leaf: leaf[None], codes), 100)
    np.testing.assert_allclose(100 * fitting.project(points, identity, expression, *camera), face.landmarks[0],
                               atol=1e-3)
    assert (np.asarray(points.normals)[30] @ [0, 0, 1]) > 0.7  # the tip of the nose looks ahead
    both = fitting.joined(points, fitting.point_model(model, np.array([5, 7]), 12))
    np.testing.assert_array_equal(both(identity, expression)[:68], points(identity, expression))
    assert both.mean.shape == (70, 3) and both.normals.shape == (70, 3)


def test_jacobians_are_the_derivatives():
    model = small_model()
    codes = truth(model, 1, poses=((50, -20, 30),))
    state = fitting._State(*codes)

    @jax.jit
    def places(own, identity):
        turn = rotation_from_axis_angle(own[:3])
        moved = fitting._State(state.identity + identity, state.expression + own[6:], turn @ state.rotation,
                               state.log_scale + own[3], state.shift + own[4:6])
        return fitting._project(model, moved)[0][0]

    _, image, turned = fitting._project(model, state)
    own, shared = fitting._jacobians(model, state, image, turned)
    zeros = jnp.zeros(6 + len(model.expression)), jnp.zeros(len(model.identity))
    expected = jax.jit(jax.jacfwd(places, (0, 1)))(*zeros)
    np.testing.assert_allclose(own[0], expected[0], atol=2e-6)
    np.testing.assert_allclose(shared[0], expected[1], atol=2e-6)
    step = 1e-3
    for index in (0, 2, 3, 5, 7):
        nudge = step * jnp.eye(len(zeros[0]))[index]
        difference = (places(nudge, zeros[1]) - places(-nudge, zeros[1])) / (2 * step)
        np.testing.assert_allclose(own[0, ..., index], difference, atol=1e-4)


@hypothesis.settings(max_examples=60, deadline=None)
@hypothesis.given(st.tuples(*[st.floats(-1, 1, width=32)] * 4), st.floats(-1.5, 1.5), st.integers(0, 10**6))
def test_pose_of_exact_points(quaternion, log_scale, seed):
    """Any rotation, scale and shift, points of any weights."""
    hypothesis.assume(np.linalg.norm(quaternion) > 0.1)
    rng = np.random.default_rng(seed)
    points, weights = rng.normal(size=(12, 3)) * 0.3, rng.uniform(0.2, 2, 12)
    rotation, shift = Rotation.from_quat(quaternion).as_matrix(), rng.normal(size=2)
    observed = np.exp(log_scale) * (points @ rotation.T)[:, :2] * [1, -1] + shift + 0.5
    found = _pose(*(jnp.asarray(value, jnp.float32) for value in (points, observed, weights)))
    assert degrees_between(found[0], rotation) < 0.05
    assert float(found[1]) == pytest.approx(log_scale, abs=1e-3)
    np.testing.assert_allclose(found[2], shift, atol=2e-3)


_pose = jax.jit(affine_pose)


@pytest.mark.parametrize("pose", POSES)
def test_exact_points_give_the_codes_back(pose):
    model = small_model()
    codes = truth(model, 1, poses=(pose,))
    found = fit(model, seen(model, codes), settings=EXACT)
    # One view does not say everything of 9 codes: what it says is said exactly.
    assert float(found.error) < 2e-5
    np.testing.assert_allclose(found.points, seen(model, codes), atol=1e-4)
    assert degrees_between(found.rotation[0], codes[2][0]) < 0.2
    np.testing.assert_allclose(found.identity, codes[0], atol=0.02)
    np.testing.assert_allclose(found.expression, codes[1], atol=0.02)
    np.testing.assert_allclose(found.log_scale, codes[3], atol=2e-3)
    np.testing.assert_allclose(found.shift, codes[4], atol=2e-3)


def test_the_embedded_face_is_found_from_its_landmarks():
    """Turned far, in one frame and in three."""
    model = fitting.point_model(load_default(0), None, 10)
    for poses in (((-80, 0, 0),), ((0, 0, 160),), ((0, 0, 0), (40, 0, 0), (-70, 10, 15))):
        codes = truth(model, len(poses), poses=poses)
        codes = codes[0], codes[1] * (np.arange(51) % 12 == 0), *codes[2:]
        found = fit(model, seen(model, codes), settings=EXACT)
        np.testing.assert_allclose(found.points, seen(model, codes), atol=5e-4)
        assert degrees_between(found.rotation, codes[2]).max() < 2
        if len(poses) > 1:  # depth
            np.testing.assert_allclose(found.identity, codes[0], atol=0.1)


class Reference:
    """The same problem in float64, every unknown in one vector: identity, expressions, turns, log scales, shifts."""

    def __init__(self, model, observed, weights, prior, settings):
        self.model = [np.asarray(part, np.float64) for part in (model.mean, model.identity, model.expression)]
        self.observed, self.weights = np.asarray(observed, np.float64), np.asarray(weights, np.float64)
        self.prior, self.settings, (self.frames, self.points) = prior, settings, self.weights.shape
        self.splits = np.cumsum([len(model.identity), self.frames * len(model.expression), 3 * self.frames,
                                 self.frames])

    def parts(self, vector):
        identity, expression, turns, log_scale, shift = np.split(vector, self.splits)
        return (identity, expression.reshape(self.frames, -1), Rotation.from_rotvec(turns.reshape(-1, 3)).as_matrix(),
                log_scale, shift.reshape(-1, 2))

    def residuals(self, vector):
        """Their sum of squares is twice SciPy's cost."""
        identity, expression, rotation, log_scale, shift = self.parts(vector)
        mean, identities, expressions = self.model
        points = mean + np.tensordot(identity, identities, 1) + np.tensordot(expression, expressions, 1)
        image = np.exp(log_scale)[:, None, None] * np.einsum("fij,fpj->fpi", rotation, points)[..., :2] * [1, -1]
        image = image + shift[:, None] + 0.5
        data = np.sqrt(self.weights)[..., None] * (image - self.observed) / self.settings.deviation
        pulls = ((identity - self.prior.identity) / self.prior.identity_deviation,
                 (expression - self.prior.expression) / self.prior.expression_deviation)
        return np.concatenate([data.ravel(), *(np.ravel(pull) for pull in pulls)])

    def vector(self, found):
        turns = Rotation.from_matrix(np.asarray(found.rotation, np.float64)).as_rotvec()
        return np.concatenate([np.ravel(np.asarray(part, np.float64)) for part in (
            found.identity, found.expression, turns, found.log_scale, found.shift)])

    def cost(self, found):
        return (self.residuals(self.vector(found)) ** 2).sum()

    def best(self, start):
        low = np.full(len(self.vector(start)), -np.inf)
        low[self.splits[0]:self.splits[1]] = self.prior.low
        high = np.full(len(low), np.inf)
        high[self.splits[0]:self.splits[1]] = self.prior.high
        inside = np.clip(self.vector(start), low + 1e-6, high - 1e-6)
        return scipy.optimize.least_squares(self.residuals, inside, bounds=(low, high), xtol=1e-12, ftol=1e-12,
                                            gtol=1e-12, x_scale="jac", max_nfev=300)


@pytest.mark.parametrize(("frames", "noise"), [(1, 0.005), (1, 0.03), (4, 0.02)])
def test_fits_are_those_of_scipy(frames, noise):
    """Activations at both bounds among them; several frames share the identity."""
    model = small_model()
    codes = truth(model, frames, seed=frames, poses=((10, 0, 0), (-40, 10, 5), (60, 0, -20), (0, 20, 0)))
    rng = np.random.default_rng(0)
    beyond = codes[1] + jnp.asarray(rng.choice([-0.6, 0, 0.6], codes[1].shape), jnp.float32)
    observed = seen(model, (codes[0], beyond, *codes[2:])) + noise * rng.normal(size=(frames, 30, 2))
    observed = jnp.asarray(observed, jnp.float32)
    weights = jnp.asarray(rng.uniform(0.2, 1.5, (frames, 30)), jnp.float32)
    prior = standard_prior(model, frames, 0.8, 0.4)
    found = fit(model, observed, weights, prior)
    reference = Reference(model, observed, weights, prior, GAUSSIAN)
    best = reference.best(found)
    assert reference.cost(found) == pytest.approx(2 * best.cost, rel=1e-3)
    # From the mean face at rest, too: it is not only that SciPy stays where it starts.
    rest = found._replace(identity=jnp.zeros_like(found.identity), expression=jnp.full_like(found.expression, 0.5))
    assert reference.cost(found) < 2 * reference.best(rest).cost * 1.001
    identity, expression, *_ = reference.parts(best.x)
    np.testing.assert_allclose(found.identity, identity, atol=0.02)
    np.testing.assert_allclose(found.expression, expression, atol=0.02)
    at_bounds = (np.asarray(found.expression) == 0) | (np.asarray(found.expression) == 1)
    assert at_bounds.any()
    squared = weights * jnp.sum((found.points - observed) ** 2, -1)
    assert float(found.error) == pytest.approx(float(jnp.sqrt(squared.sum() / weights.sum())), rel=1e-4)


def test_a_step_over_many_frames_is_that_of_the_dense_normal_equations():
    """What the Schur complement leaves out, it solves for all the same."""
    model, frames = small_model(), 3
    codes = truth(model, frames)
    observed = seen(model, codes) + 0.01 * jax.random.normal(jax.random.key(0), (frames, 30, 2))
    prior = standard_prior(model, frames)._replace(low=-np.inf, high=np.inf)
    state = fitting._State(0.5 * codes[0], 0.5 * codes[1], *codes[2:])
    weights = jnp.ones((frames, 30)).at[1, :7].set(0.3)
    problem = fitting._Problem(model, observed, weights, prior, GAUSSIAN)
    damping = 0.01
    own = 6 + len(model.expression)

    def moved(vector):
        shared, apart = vector[frames * own:], vector[:frames * own].reshape(frames, own)
        return fitting._State(state.identity + shared, state.expression + apart[:, 6:],
                              rotation_from_axis_angle(apart[:, :3]) @ state.rotation,
                              state.log_scale + apart[:, 3], state.shift + apart[:, 4:6])

    def residuals(vector):
        new = moved(vector)
        data = jnp.sqrt(weights)[..., None] * (seen(model, new) - observed) / GAUSSIAN.deviation
        return jnp.concatenate([data.ravel(), new.identity, (new.expression / 0.3).ravel()])

    zero = jnp.zeros(frames * own + len(model.identity))
    jacobian, residual = (np.asarray(value, np.float64) for value in jax.jit(
        lambda: (jax.jacfwd(residuals)(zero), residuals(zero)))())
    normal = jacobian.T @ jacobian
    step = -np.linalg.solve(normal + damping * np.diag(np.diag(normal)), jacobian.T @ residual)
    stepped = jax.jit(lambda: problem.step(state, damping, jnp.ones((frames, 30))))()
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=2e-4), stepped,
                 jax.jit(moved)(jnp.asarray(step, jnp.float32)))


def test_what_is_not_seen_changes_nothing():
    model = small_model()
    codes = truth(model, 2)
    observed = seen(model, codes) + 0.01 * jax.random.normal(jax.random.key(0), (2, 30, 2))
    plain = fit(model, observed)
    strange = jnp.concatenate([observed.at[:, :5].set(jnp.nan), observed[:1] * jnp.inf])
    weights = jnp.ones((3, 30)).at[:, :5].set(0).at[2].set(0)
    with_hole = fit(model, observed, jnp.ones((2, 30)).at[:, :5].set(0))
    for order in ([0, 1, 2], [2, 0, 1]):  # the empty frame last and first
        found = fit(model, strange[np.array(order)], weights[np.array(order)])
        chex.assert_tree_all_finite(found)
        kept = np.argsort(order)[:2]
        np.testing.assert_allclose(found.identity, with_hole.identity, atol=2e-3)
        np.testing.assert_allclose(found.points[kept], with_hole.points, atol=2e-4)
        np.testing.assert_allclose(found.expression[np.argsort(order)[2]], 0, atol=1e-6)  # the prior's
        assert float(found.error) == pytest.approx(float(with_hole.error), rel=1e-3)
    assert np.abs(plain.identity - with_hole.identity).max() > 1e-2  # the five points said something


def test_the_prior_is_the_answer_where_points_say_nothing():
    model = small_model()
    rng = np.random.default_rng(0)
    prior = fitting.Prior(jnp.asarray(rng.normal(size=5), jnp.float32), jnp.float32(1.0),
                          jnp.asarray(rng.uniform(size=(2, 4)), jnp.float32), jnp.float32(0.3), 0.0, 1.0)
    found = fit(model, jnp.full((2, 30, 2), 0.5), jnp.zeros((2, 30)), prior)
    np.testing.assert_allclose(found.identity, prior.identity, atol=1e-6)
    np.testing.assert_allclose(found.expression, prior.expression, atol=1e-6)


def test_outliers_are_left_out_by_a_robust_fit():
    model = small_model(points=60)
    codes = truth(model, 1)
    rng = np.random.default_rng(0)
    clean = np.asarray(seen(model, codes)) + 0.003 * rng.normal(size=(1, 60, 2))
    dirty = clean.copy()
    dirty[:, :12] += rng.uniform(0.1, 0.3, (1, 12, 2))
    clean, dirty = jnp.asarray(clean, jnp.float32), jnp.asarray(dirty, jnp.float32)
    robust = Settings(deviation=0.003, robust=3.0, iterations=100)
    errors = {}
    for name, observed, settings in (("clean", clean, robust), ("robust", dirty, robust), (
            "plain", dirty, Settings(deviation=0.003, robust=np.inf, iterations=100))):
        found = fit(model, observed, settings=settings)
        errors[name] = float(np.linalg.norm(found.points - seen(model, codes), axis=-1)[:, 12:].mean())
    assert errors["robust"] < 2 * errors["clean"] < 0.2 * errors["plain"], errors


def test_a_robust_fit_is_a_minimum_of_cauchys_cost():
    model = small_model()
    observed = jnp.asarray(seen(model, truth(model, 1)) + 0.02 * np.random.default_rng(0).standard_t(2, (1, 30, 2)),
                           jnp.float32)
    settings = Settings(deviation=0.01, robust=2.0, iterations=200, tolerance=1e-8)
    prior = standard_prior(model)._replace(low=-np.inf, high=np.inf)
    found = fit(model, observed, None, prior, settings)
    reference = Reference(model, observed, np.ones((1, 30)), prior, settings)

    def cost(vector):
        residuals = reference.residuals(vector)
        squared = (residuals[:60].reshape(30, 2) ** 2).sum(1)
        return 4 * np.log1p(squared / 4).sum() + (residuals[60:] ** 2).sum()

    best = scipy.optimize.minimize(cost, reference.vector(found))
    assert cost(reference.vector(found)) == pytest.approx(best.fun, rel=1e-4)


def test_points_that_face_away_count_less():
    """Their places are wrong here: hidden at 0 they do not pull at all."""
    model = small_model(points=60)
    back = np.arange(60) < 20
    normals = jnp.where(back[:, None], jnp.array([0.0, 0, -1]), jnp.array([0.0, 0, 1]))
    model = model.replace(normals=normals)
    codes = truth(model, 1, poses=((0, 0, 0),))
    observed = seen(model, codes).at[:, :20].add(0.2)
    shares = {hidden: float(jnp.abs(fit(model, observed, settings=Settings(0.003, np.inf, hidden, 100)).points
                                    - seen(model, codes))[:, 20:].max()) for hidden in (0.0, 0.3, 1.0)}
    assert shares[0.0] < 2e-3 < shares[0.3] < shares[1.0]


def test_what_is_found_with_hidden_points_is_the_best_for_the_weights_it_leads_to():
    """Else a turn that hides bad points would look like a better fit, or a better fit be refused for what it shows."""
    model = small_model(points=60)
    settings = Settings(0.01, np.inf, 0.2, 200, 1e-7)
    rng = np.random.default_rng(0)
    normals = rng.normal(size=(60, 3)) + [0, 0, 0.7]
    model = model.replace(normals=jnp.asarray(normals / np.linalg.norm(normals, axis=1, keepdims=True), jnp.float32))
    for seed in range(8):
        codes = truth(model, 1, seed, poses=((50, 10, 0),))
        observed = seen(model, codes) + 0.04 * jax.random.normal(jax.random.key(seed), (1, 60, 2))
        found = fit(model, observed, settings=settings)
        facing = np.asarray(model.normals) @ np.asarray(found.rotation[0, 2])
        weights = jnp.asarray(0.2 + 0.8 * np.clip(facing / 0.3, 0, 1), jnp.float32)[None]
        best = fit(model, observed, weights, settings=Settings(0.01, np.inf, 1.0, 200, 1e-7))
        np.testing.assert_allclose(found.points, best.points, atol=2e-4)


def test_many_people_at_once_are_one_after_the_other():
    model = small_model()
    people = [seen(model, truth(model, 2, seed)) + 0.01 * jax.random.normal(jax.random.key(seed), (2, 30, 2))
              for seed in range(4)]
    weights, prior = jnp.ones((2, 30)), standard_prior(model, 2)
    together = jax.jit(jax.vmap(lambda observed: fit_points(model, observed, weights, prior)))(jnp.stack(people))
    assert len(set(np.asarray(together.iterations).tolist())) > 1  # some are done earlier, and are left alone
    for index, observed in enumerate(people):
        alone = fit(model, observed, settings=Settings())
        assert int(together.iterations[index]) == int(alone.iterations)
        jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-4),
                     jax.tree.map(lambda leaf, index=index: leaf[index], together), alone)


def test_one_program_for_all():
    model = small_model()
    chex.clear_trace_counter()
    run = jax.jit(chex.assert_max_traces(fit_points, n=1), static_argnames="settings")
    for seed in range(3):
        observed = seen(model, truth(model, 2, seed))
        found = run(model, observed, jnp.ones((2, 30)) * (seed + 1), standard_prior(model, 2, 1.0 + seed),
                    settings=Settings())
        chex.assert_shape(tuple(found), [(5,), (2, 4), (2, 3, 3), (2,), (2, 2), (2, 30, 2), (), ()])
        chex.assert_type(found[:-1], jnp.float32)


@pytest.mark.parametrize("kind", ["equal", "line", "one known", "two known", "none known", "far away", "huge weights"])
def test_degenerate_points_give_finite_numbers(kind):
    model = small_model()
    observed, weights = seen(model, truth(model, 2)), jnp.ones((2, 30))
    if kind == "equal":
        observed = jnp.full_like(observed, 0.3)
    elif kind == "line":
        observed = observed.at[..., 1].set(0.5)
    elif kind.endswith("known"):
        weights = weights * (jnp.arange(30) < ("none", "one", "two").index(kind.split()[0]))
    elif kind == "far away":
        observed = 1e6 * observed
    else:
        weights = 1e9 * weights
    found = fit(model, observed, weights, settings=Settings())
    chex.assert_tree_all_finite(found)
    products = jnp.einsum("fij,fkj->fik", found.rotation, found.rotation)
    np.testing.assert_allclose(products, jnp.broadcast_to(jnp.eye(3), (2, 3, 3)), atol=1e-4)
    assert (found.expression >= 0).all() and (found.expression <= 1).all()
