"""The cycle on a toy model: with a network that says the truth it is the identity."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_runs import config

from sfm_jax.data.damage import to_srgb
from sfm_jax.geometry.rotation import rotation_from_euler
from sfm_jax.inference.face import FaceCodes
from sfm_jax.networks.confidence import Confidence
from sfm_jax.tasks import create_task
from sfm_jax.tasks.cycle import Cycled
from sfm_jax.tasks.photo_model import PhotoModel
from sfm_jax.tasks.photo_report import _subtitle

PAIRS, SIZE = 2, 32


@pytest.fixture(scope="module")
def task(model):
    return create_task(config("cycle", model, batch_size=8, confidence=False, render_size=SIZE))


def codes(task, seed, like=None):
    """Of PAIRS faces; the same persons in the same light as `like`."""
    keys = jax.random.split(jax.random.key(seed), 7)

    def draw(number, *shape):
        return jax.random.normal(keys[number], (PAIRS, *shape))

    light = jnp.zeros((PAIRS, 9, 3)).at[:, 0].set(3.0).at[:, 2].set(0.4)
    made = FaceCodes(draw(0, len(task.start.basis)), 0.5 * jnp.abs(draw(1, len(task.model.expression_basis))),
                     draw(2, task.encoder.network.albedo), rotation_from_euler(20 * draw(3, 3)), 0.1 * draw(4),
                     0.05 * draw(5, 2), light)
    return made if like is None else made._replace(identity=like.identity, albedo=like.albedo, light=like.light)


@pytest.fixture(scope="module")
def frames(task):
    """Two frames of each clip, exactly as our renderer shows the true codes, and the decoder."""
    decode = task.decoder({"residual": jnp.zeros_like(jnp.asarray(task.start.basis))})

    @jax.jit
    def photo(codes):
        seen = task.renderer(decode(codes, SIZE), jnp.zeros((PAIRS, SIZE, SIZE, 3)))
        # As if each pixel were all face or none: a face over it once more is then the same picture.
        alpha = seen.alpha[..., None]
        return to_srgb(jnp.where(alpha > 1e-4, seen.colour / jnp.maximum(alpha, 1e-4), 0.25))

    a = codes(task, 1)
    b = codes(task, 2, like=a)
    confidence = Confidence(jnp.ones((PAIRS, 8, 8)), jnp.ones((PAIRS, 8, 8)))
    return [{"codes": one, "image": photo(one), "confidence": confidence, "landmarks": decode(one, SIZE).landmarks,
             "landmark_mask": jnp.ones((PAIRS, 68)), "edges": jnp.zeros((PAIRS, 4, 3))} for one in (a, b)], decode


def truth(a, b):
    """What a perfect network reads from the faces with b's expression, and with b's pose."""
    expression = a._replace(expression=b.expression)
    pose = a._replace(rotation=b.rotation, log_scale=b.log_scale, shift=b.shift)
    return jax.tree.map(lambda *parts: jnp.concatenate(parts), expression, pose)


def terms(task, decode, cycled, first, second):
    values = task._read(cycled) | {"cycle_return": lambda: task._looks(decode, cycled.back, cycled.before)}
    return {name: np.asarray(term()) for name, term in (values | task._swapped(decode, first["codes"], second)).items()}


def test_the_cycle_of_true_codes_is_the_identity(task, frames):
    (first, second), decode = frames

    def encode(images):
        assert images.shape == (2 * PAIRS, SIZE, SIZE, 3)
        return truth(first["codes"], second["codes"])

    cycled = task.cycle(encode, decode, first, second)
    assert int(cycled.overflow) == 0
    for name, value in terms(task, decode, cycled, first, second).items():
        np.testing.assert_allclose(value, 0, atol=1e-4, err_msg=name)
    twice = jax.tree.map(lambda leaf: jnp.concatenate([leaf, leaf]), first["codes"])
    for name, found, expected in zip(FaceCodes._fields, cycled.back, twice, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-4, err_msg=name)


def test_what_is_put_in_is_seen(task, frames):
    """The renders are no copies of the frames: with b's expression over a, and with b's pose over b."""
    (first, second), decode = frames
    cycled = task.cycle(lambda images: truth(first["codes"], second["codes"]), decode, first, second)
    for image, frame in zip(jnp.split(cycled.image, 2), (first, second), strict=True):
        assert float(jnp.abs(image - frame["image"]).max()) > 0.02


@pytest.mark.parametrize("name, wrong, seen_by", [
    ("identity", lambda x: x + 0.2, {"cycle_identity", "cycle_return"}),
    ("expression", lambda x: x + 2.0, {"cycle_expression", "cycle_return"}),
    ("albedo", lambda x: x + 0.5, {"cycle_albedo", "cycle_return"}),
    ("rotation", lambda x: rotation_from_euler(jnp.array([0.0, 8.0, 0.0])) @ x, {"cycle_pose", "cycle_return"}),
    ("log_scale", lambda x: x + 0.1, {"cycle_pose", "cycle_return"}),
    ("shift", lambda x: x + 0.05, {"cycle_pose", "cycle_return"})])
def test_each_term_sees_its_own_property(task, frames, name, wrong, seen_by):
    (first, second), decode = frames
    said = truth(first["codes"], second["codes"])
    cycled = task.cycle(lambda images: said._replace(**{name: wrong(getattr(said, name))}), decode, first, second)
    found = {term for term, value in terms(task, decode, cycled, first, second).items() if value.min() > 1e-3}
    assert found == seen_by


def test_a_network_that_reads_a_change_the_wrong_way_is_caught(task, frames):
    """It leaves the faces as they were before the change: taken out of them once more, they are not frame a."""
    (first, second), decode = frames
    twice = jax.tree.map(lambda leaf: jnp.concatenate([leaf, leaf]), first["codes"])
    cycled = task.cycle(lambda images: twice, decode, first, second)
    values = terms(task, decode, cycled, first, second)
    assert values["cycle_return"].min() > 1e-3
    assert values["cycle_expression"][:PAIRS].min() > 1e-3 and values["cycle_pose"][PAIRS:].min() > 1e-3


def test_the_swap_sees_another_person(task, frames):
    (first, second), decode = frames
    other = first["codes"]._replace(identity=first["codes"].identity + 0.5)
    values = {name: np.asarray(term()) for name, term in task._swapped(decode, other, second).items()}
    assert values["swap"].min() > 1e-3 and values["swap_landmark"].min() > 1e-2


def test_gradients_flow_through_both_renders_and_encodings(task, frames):
    """A stand-in network, linear in the pixels: its weights get a gradient from what it reads at last, and the codes
    of both frames from what is made of them. What is read is against a finite difference in the direction of the
    gradient; how renders look is not, for their mask counts as constant."""
    (first, second), decode = frames
    said = truth(first["codes"], second["codes"])

    @jax.jit
    def losses(weights, a, b):
        def encode(images):
            bright = jnp.mean(images, (1, 2, 3))
            return said._replace(log_scale=said.log_scale + weights[0] * bright,
                                 identity=said.identity + weights[1] * bright[:, None])

        cycled = task.cycle(encode, decode, first | {"codes": a}, second | {"codes": b})
        read = task._read(cycled)
        return (sum(jnp.mean(read[name]()) for name in ("cycle_pose", "cycle_identity")),
                jnp.mean(task._looks(decode, cycled.back, cycled.before)))

    point = jnp.array([0.3, 0.2]), first["codes"], second["codes"]
    for number in (0, 1):
        gradient = jax.grad(lambda *args, number=number: losses(*args)[number], argnums=(0, 1, 2))(*point)
        reached = gradient[0], gradient[1].identity, gradient[1].rotation, gradient[1].albedo, gradient[2].expression
        assert all(float(jnp.abs(leaf).max()) > 1e-6 for leaf in reached)
    read = jax.grad(lambda *args: losses(*args)[0])(*point)
    step = 2e-3 * read / jnp.linalg.norm(read)
    there, back = (float(losses(point[0] + sign * step, *point[1:])[0]) for sign in (1, -1))
    assert (there - back) / 4e-3 == pytest.approx(float(jnp.linalg.norm(read)), rel=0.05)


@pytest.mark.parametrize("rows, share", [(9, 0.25), (16, 0.25), (7, 0.9), (20, 0.5)])
def test_only_pairs_of_clips_are_cycled(model, monkeypatch, rows, share):
    """Beside photos with landmarks, an odd number of them too, which are no pairs; and what every device's renderer
    loses adds up."""
    task = create_task(config("cycle", model, data__landmarks="synthetic", data__identity_share=share, batch_size=rows))
    clips = len(task.dataset(rows, 0)[0]["clips"]["id"])
    record = {"person": jnp.concatenate([jnp.arange(clips) // 2, jnp.full(rows - clips, -1)])}
    cycled = []

    def cycle(encode, decode, first, second):
        cycled.append((first["person"].shape, second["person"].shape))
        return Cycled(None, None, None, None, None, overflow=jnp.min(first["person"]) + 3)

    monkeypatch.setattr(PhotoModel, "measure", lambda *_: ({}, {}, {"overflow": 4}))
    for name, stub in (("cycle", cycle), ("decoder", lambda params: None), ("_read", lambda cycled: {}),
                       ("_swapped", lambda *_: {}), ("_looks", lambda decode, codes, frame: jnp.ones(2 * pairs))):
        monkeypatch.setattr(task, name, stub)
    pairs = min(clips // 2, 4)  # 8 over two devices
    seen = types.SimpleNamespace(codes=jnp.zeros(rows), confidence=jnp.zeros(rows))
    values, _, extra = jax.vmap(lambda _: task.measure(None, None, seen, record), axis_name="data")(jnp.zeros(2))
    assert cycled == [((pairs,), (pairs,))]
    assert extra["overflow"].tolist() == [10, 10]  # 4 of all devices, and 3 of each
    np.testing.assert_allclose(values["cycle_return"], 1)


def test_the_report_counts_nobody_where_nobody_is_told(task):
    run = types.SimpleNamespace(step=2, device="1 x cpu")
    assert _subtitle(task, run).startswith("4 people held out; trunk")


@pytest.mark.parametrize("changes, message", [
    ({"data__clips": ""}, "data.clips: found nothing"),
    ({"loss__identity": 1.0}, "loss.identity: found 1.0, expected 0: clips do not tell who"),
    ({"data__clip_frames": 1}, "data.clip_frames: found 1, expected 2 or more"),
    ({"data__clip_frames": 0}, "data.clip_frames: found 0, expected 2 or more"),
    ({"data__pairs": "synthetic"}, "found photos for data.pairs, data.clips, expected"),
    ({"cycled_pairs": -1}, "cycled_pairs: found -1, expected 0 or more")])
def test_bad_settings_are_refused_in_one_line(model, changes, message):
    with pytest.raises(ValueError, match=message) as refused:
        create_task(config("cycle", model, **changes))
    assert "\n" not in str(refused.value)
