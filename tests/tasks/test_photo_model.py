"""Learning from photos on a toy model: what the terms see, and bad settings."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from tiny_runs import config

from sfm_jax.morphable.formats.assemble import rms
from sfm_jax.tasks import create_task


def prepared(model, **changes):
    task = create_task(config("stage2", model, **changes))
    batch = task.dataset(8, 0)[0]
    params, state = task.init(jax.random.key(0), batch)
    stacked = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], (params, state, batch))

    def loss(params, state, batch):
        return task.loss(params, state, batch, jax.random.key(1))

    return task, stacked, jax.jit(jax.vmap(loss, axis_name="data"))


@pytest.fixture(scope="module")
def plain(model):
    return prepared(model, batch_size=8)


@pytest.fixture(scope="module")
def perceptual(model):
    return prepared(model, batch_size=8, loss__perceptual=1.0)


def test_loss_is_the_weighted_sum_of_its_terms(plain):
    task, stacked, loss = plain
    total, aux = loss(*stacked)
    weights = task.config.loss
    summed = sum(weights[name] * float(value[0]) for name, value in aux.metrics.items() if name in weights)
    assert float(total[0]) == pytest.approx(summed, rel=1e-5)


def test_a_term_weighed_zero_is_left_out(model):
    _, stacked, loss = prepared(model, batch_size=8, loss__pixel=0.0, loss__identity=0.0)
    _, aux = jax.eval_shape(loss, *stacked)
    assert not {"pixel", "identity", "overflow"} & set(aux.metrics)


def test_perceptual_term_of_the_trunk(perceptual):
    _, stacked, loss = perceptual
    value = float(loss(*stacked)[1].metrics["perceptual"][0])
    assert 0 <= value <= 2


def test_run_begins_at_the_mean_face(plain):
    task, (params, state, batch), _ = plain
    params, state, batch = jax.tree.map(lambda leaf: leaf[0], (params, state, batch))

    @jax.jit
    def first(params, state, batch):
        prediction, _ = task.predict(params, state, task.mixture.records(batch)["image"])
        return prediction, task.decoder(params)(prediction.codes, 32)

    prediction, face = first(params, state, batch)
    away = np.abs(np.asarray(face.neutral) - np.asarray(task.start.mean)).max()
    assert away < 6.0  # mm
    np.testing.assert_allclose(np.linalg.norm(prediction.z, axis=1), 1, atol=1e-5)


def test_labels_that_are_hidden_have_no_influence(plain):
    """The identity part's landmarks and codes, the landmark part's person: changed, nothing changes."""
    task, (params, state, batch), _ = plain
    params, state, batch = jax.tree.map(lambda leaf: leaf[0], (params, state, batch))
    record = jax.jit(task.mixture.records)(batch)
    count = len(batch["identity"]["id"])

    @jax.jit
    def value(record):
        def loss(params):
            prediction, _ = task.predict(params, state, record["image"], train=False)
            values, _, _ = task.terms(params, state["moments"], task.decoder(params), prediction, record, None)
            return sum(values.values())
        return jax.vmap(lambda _: loss(params), axis_name="data")(jnp.zeros(1))[0]

    changed = record | {
        "landmarks": record["landmarks"].at[:count].add(7.0), "rotation": record["rotation"].at[:count].multiply(-1.0),
        "identity": record["identity"].at[:count].add(1.0), "expression": record["expression"].at[:count].add(1.0)}
    assert float(value(changed)) == pytest.approx(float(value(record)), rel=1e-6)


def test_what_lies_beyond_a_photos_edges_has_no_influence(perceptual):
    """Photos whose left third is said to be no photo: whatever is there, the pixel term is the same; of the other two
    thirds it is not, nor is the perceptual one."""
    task, (params, state, batch), _ = perceptual
    params, state, batch = jax.tree.map(lambda leaf: leaf[0], (params, state, batch))
    record = jax.jit(task.mixture.records)(batch)
    size = record["image"].shape[1]
    edges = np.zeros((4, 3), np.float32)
    edges[0] = 1, 0, -size / 3
    record["edges"] = jnp.broadcast_to(edges, record["edges"].shape)

    @jax.jit
    def value(image):
        prediction, _ = task.predict(params, state, record["image"], train=False)

        def loss(_):
            values, _, _ = task.terms(params, state["moments"], task.decoder(params), prediction,
                                      record | {"image": image}, lambda images, _: images[:, ::4, ::4].reshape(8, -1))
            return values["pixel"], values["perceptual"]

        return jax.vmap(loss, axis_name="data")(jnp.zeros(1))

    def changed(columns):
        return np.array(value(record["image"].at[:, :, columns].set(0.0)))[:, 0]

    beyond, photo = slice(0, size // 3 - 4), slice(size // 2, size)
    before = np.array(value(record["image"]))[:, 0]
    assert changed(beyond)[0] == pytest.approx(before[0], rel=1e-5)
    assert (np.abs(changed(photo) - before) > 1e-3).all()


def test_the_photos_that_the_documentation_names_go_together(model):
    """Of every row of its table, whatever it names being synthetic here."""
    page = (Path(__file__).parents[2] / "docs" / "learning.md").read_text()
    rows = re.findall(r"^\| `(--config\.data\.[^`]*)`", page, re.MULTILINE)
    assert len(rows) >= 4
    for row in rows:
        chosen = dict(re.findall(r"--config\.(data\.\w+)=(\S*)", row))
        create_task(config("stage2", model, **{key: place and "synthetic" for key, place in chosen.items()}))


def test_photos_of_nobody_cannot_tell_who_is_who(model, tmp_path):
    Image.new("RGB", (40, 40)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match="data.identity: found nobody who is known in folder:.*, expected photos"):
        create_task(config("stage2", model, data__identity=f"folder:{tmp_path}"))


def test_codes_of_a_learned_gaussian_model_are_those_held_to_the_normal_law(model):
    """The basis that a run saves makes the network's faces of the very codes that its KL is of."""
    task = create_task(config("sir", model, batch_size=8))
    batch = task.dataset(8, 0)[0]
    params, state = task.init(jax.random.key(0), batch)
    rng = np.random.default_rng(0)
    params |= {"log_radius": jnp.float32(0.4), "residual": jnp.asarray(
        rng.normal(size=params["residual"].shape), jnp.float32)}
    params["network"] = jax.tree.map(lambda leaf: leaf + 0.1 * rng.normal(size=leaf.shape).astype(leaf.dtype),
                                     params["network"])
    codes = task.predict(params, state, jnp.asarray(rng.random((3, 32, 32, 3)), jnp.float32))[0].codes
    learned = task.learned_model(params)
    assert np.abs(codes.identity).max() > 0.1
    np.testing.assert_allclose(learned.decode(codes.identity), task.decoder(params)(codes, 32).neutral, atol=1e-3)
    np.testing.assert_allclose(learned.identity_sigma, rms(np.asarray(learned.identity_basis)), rtol=1e-5)


@pytest.mark.parametrize("changes, message", [
    ({"data__identity": "", "data__landmarks": ""}, "found photos for nothing"),
    ({"data__all": "synthetic"}, "expected data.all, data.pairs or data.clips alone"),
    ({"data__identity_share": 1.5}, "data.identity_share: found 1.5"),
    ({"sphere": "cube"}, "sphere: found 'cube'"),
    ({"trunk": "vgg"}, "trunk: found 'vgg'"),
    ({"precision": "bf16"}, "precision: found 'bf16', expected one of float32, bfloat16"),
    ({"image_size": 34}, "image_size: found 34 x 34 pixels, expected multiples of 4"),
    ({"perceptual": "vgg"}, "perceptual: found 'vgg'"),
    ({"moments_decay": 1.0}, "moments_decay: found 1.0, expected 0 or more and less than 1"),
    ({"moments_decay": -0.5}, "moments_decay: found -0.5, expected 0 or more and less than 1"),
    ({"albedo_components": -1}, "albedo_components: found -1, expected 0 or more"),
    ({"rendered_photos": -1}, "rendered_photos: found -1, expected 0 or more"),
    ({"data__identity": "folder:/nowhere"}, "/nowhere: no such folder"),
    ({"data__identity": "photos"}, "found 'photos', expected one of folder:PLACE"),
    ({"data__max_bad_fraction": 0.5, "data__landmarks": "aflw:/nowhere"}, "/nowhere: no such folder")])
def test_bad_settings_are_refused_in_one_line(model, changes, message):
    with pytest.raises(ValueError, match=message) as refused:
        task = create_task(config("stage2", model, **changes))
        task.init(jax.random.key(0), task.dataset(8, 0)[0])
    assert "\n" not in str(refused.value)

