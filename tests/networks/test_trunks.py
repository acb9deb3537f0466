"""Every trunk: shapes, sizes as published, the same under jit, statistics of the whole batch on several devices."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sfm_jax.errors import BadInput
from sfm_jax.networks import face_recognition
from sfm_jax.networks.compact import CompactTrunk
from sfm_jax.networks.resnet import ResNet
from sfm_jax.networks.trunk import create_trunk

SIZE = 32
# Features, and the map of an image of 32 pixels.
SHAPES = {
    "compact": (512, (2, 2, CompactTrunk.widths[-2])), "recognition": (768, (2, 2, CompactTrunk.widths[-2])),
    "mobile": (512, (2, 2, 512)), "resnet18": (512, (1, 1, 512)), "resnet34": (512, (1, 1, 512)),
    "resnet50": (2048, (1, 1, 2048)), "ir50": (512, (2, 2, 512)),
}
SMALL = ["compact", "recognition", "mobile", "resnet18", "ir18"]


def make(name, axis_name=None):
    return ResNet(18, "ir", axis_name=axis_name) if name == "ir18" else create_trunk(name, axis_name)


def images(count=2):
    return np.random.default_rng(0).uniform(size=(count, SIZE, SIZE, 3)).astype(np.float32)


@functools.cache
def variables(name):
    return jax.jit(functools.partial(make(name).init, train=False))(jax.random.key(0), images())


def parameters(name, size):
    shapes = jax.eval_shape(functools.partial(create_trunk(name).init, train=False), jax.random.key(0),
                            jnp.zeros((1, size, size, 3)))
    return sum(np.prod(leaf.shape, dtype=int) for leaf in jax.tree.leaves(shapes["params"]))


@pytest.mark.usefixtures("standard_promotion")  # flax's BatchNorm multiplies bfloat16 by float32
@pytest.mark.parametrize("name", SHAPES)
def test_shapes(name):
    length, shape = SHAPES[name]
    module = create_trunk(name, dtype=jnp.bfloat16)
    features, state = jax.eval_shape(
        functools.partial(module.init_with_output, train=False), jax.random.key(0), images())
    chex.assert_shape(features.pooled, (2, length))
    chex.assert_shape(features.map, (2, *shape))
    assert features.pooled.dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(state["params"])} == {jnp.dtype("float32")}


@pytest.mark.parametrize("name, size, head, published", [
    # torchvision's networks with 1000 classes; pre-activation moves a norm of 3 x 64 to 448 parameters.
    ("resnet18", 224, 1000 * 513, 11_689_512), ("resnet34", 224, 1000 * 513, 21_797_672),
    ("resnet50", 224, 1000 * 2049, 25_557_032),
    # InsightFace's iresnet50 at 112 pixels.
    ("ir50", 112, 0, 43_590_848),
])
def test_size_is_as_published(name, size, head, published):
    assert parameters(name, size) + head == pytest.approx(published, rel=2e-3)


def test_another_name_is_an_error():
    with pytest.raises(BadInput, match="trunk: found 'resnet19', expected one of"):
        create_trunk("resnet19")


@pytest.mark.parametrize("name", SMALL)
def test_jit_equals_eager(name):
    """XLA's CPU backend is known to miscompile some patterns of residual networks."""
    apply = functools.partial(make(name).apply, train=False)
    chex.assert_trees_all_close(jax.jit(apply)(variables(name), images()), apply(variables(name), images()),
                                atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("name", SMALL)
def test_gradients_are_finite_and_reach_every_parameter(name):
    state = variables(name)

    @jax.jit
    def loss(params):
        features, _ = make(name).apply(state | {"params": params}, images(4), train=True, mutable=["batch_stats"])
        weight = jnp.arange(features.pooled.shape[1], dtype=jnp.float32) % 7 - 3.0
        return jnp.sum(jnp.sin(features.pooled) * weight)

    gradients = jax.jit(jax.grad(loss))(state["params"])
    chex.assert_tree_all_finite(gradients)
    still = [jax.tree_util.keystr(path) for path, leaf in jax.tree_util.tree_leaves_with_path(gradients)
             if not np.any(leaf)]
    assert not still


def test_devices_share_the_statistics_of_the_whole_batch():
    """A mapped axis of two shares, against the batch in one piece."""
    name = "mobile"
    state, batch = variables(name), images(8)
    whole, stats = jax.jit(functools.partial(make(name).apply, train=True, mutable=["batch_stats"]))(state, batch)
    shared = functools.partial(make(name, "data").apply, state, train=True, mutable=["batch_stats"])
    halves, both = jax.jit(jax.vmap(shared, axis_name="data"))(batch.reshape(2, 4, *batch.shape[1:]))
    np.testing.assert_allclose(halves.pooled.reshape(whole.pooled.shape), whole.pooled, atol=2e-3)
    chex.assert_trees_all_close(jax.tree.map(lambda leaf: leaf[1], both), stats, atol=1e-4, rtol=1e-3)


def test_recognition_reads_the_ready_made_network():
    """Its numbers, standardised and mixed by hand, whatever the rest of the trunk has learned."""
    state = jax.tree.map(np.asarray, variables("recognition"))
    rng = np.random.default_rng(1)
    state["batch_stats"]["means"] = {"mean": rng.normal(size=640), "var": rng.uniform(0.5, 2, 640)}
    state["params"]["compact"] = jax.tree.map(lambda leaf: leaf + 0.1, state["params"]["compact"])
    found = make("recognition").apply(state, images(), train=False).pooled[:, 512:]
    resized = jax.image.resize(images(), (2, 150, 150, 3), "linear")
    maps = face_recognition.feature_maps(face_recognition.load_face_recognition(), resized)
    assert [one.shape[1:] for one in maps] == [(35, 35, 32), (17, 17, 64), (8, 8, 128), (4, 4, 256), (2, 2, 256)]
    means = np.concatenate([np.mean(one, (1, 2)) for one in maps[2:]], -1)
    stats = state["batch_stats"]["means"]
    known = (means - stats["mean"]) / np.sqrt(stats["var"] + 1e-5) @ state["params"]["Dense_0"]["kernel"]
    np.testing.assert_allclose(found, np.maximum(known / np.sqrt(1 + 1e-5), 0), atol=1e-4)
