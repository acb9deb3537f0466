"""The Siamese task on a toy model: what its terms see, and true codes as their optimum."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_runs import config

from sfm_jax.geometry.rotation import rotation_from_axis_angle
from sfm_jax.inference.face import FaceCodes
from sfm_jax.inference.photo_encoder import Prediction
from sfm_jax.tasks import create_task
from sfm_jax.tasks.photo_model import read_rival
from sfm_jax.tasks.siamese import in_pairs, same_person


@pytest.fixture(scope="module")
def seen(model):
    """The task, a batch's records, and a prediction that says the truth of every photo."""
    task = create_task(config("siamese", model, batch_size=8, components=6))
    record = jax.jit(task.mixture.records)(task.dataset(8, 0)[0])
    log_scale, shift = task._true_camera(record)
    count = task.labelled
    identity = jnp.zeros((8, len(task.start.basis))).at[:, :count].set(record["identity"][:, :count])
    codes = FaceCodes(identity, record["expression"], jnp.zeros((8, 2)), record["rotation"], log_scale, shift,
                      jnp.zeros((8, 9, 3)))
    return task, record, Prediction(identity, identity, codes, identity, None)


def test_pairs_alternate(seen):
    _, record, _ = seen
    same, known = same_person(record["person"])
    assert known.all() and 0 < same.sum() < 4
    first, second = in_pairs(record["id"])
    assert (np.asarray(first) != np.asarray(second)).all()
    np.testing.assert_array_equal(same_person(jnp.array([1, 1, 2, -1, -1, -1, 0])), [[1, 0, 1], [1, 0, 0]])


def test_true_parameters_are_the_optimum(seen):
    task, record, prediction = seen
    assert float(task._parameters(prediction, record)) < 1e-8
    for name, nudge in {"identity": 0.3, "expression": 0.3, "log_scale": 0.1, "shift": 0.1}.items():
        wrong = prediction.codes._replace(**{name: getattr(prediction.codes, name) + nudge})
        assert float(task._parameters(prediction._replace(codes=wrong), record)) > 1e-3, name


def test_a_turn_costs_its_squared_angle(seen):
    """It moves the vertices as far whichever way it is counted: of one wrong parameter the weight is 1."""
    task, record, prediction = seen
    little = rotation_from_axis_angle(jnp.array([0.0, 0.2, 0.0]))
    turned = prediction.codes._replace(rotation=jnp.einsum("rk,bkn->brn", little, prediction.codes.rotation))
    assert float(task._parameters(prediction._replace(codes=turned), record)) == pytest.approx(0.04, rel=1e-3)


def test_true_camera_projects_landmarks_nearly_as_the_photo_did(seen):
    """Photos are in perspective from as near as 350 mm: a weak perspective is off by some per cent of the crop."""
    task, record, prediction = seen
    landmarks = task.decoder({"residual": jnp.zeros_like(jnp.asarray(task.start.basis))})
    face = landmarks(prediction.codes._replace(identity=record["identity"][:, :len(task.start.basis)]), 1)
    assert float(jnp.abs(face.landmarks - record["landmarks"] / task.config.image_size).mean()) < 0.03


def test_codes_of_one_person_have_no_contrastive_loss_and_gradients_part_others(seen):
    task, record, prediction = seen
    memory = {"codes": jnp.zeros((4, prediction.codes.identity.shape[1])), "person": jnp.full(4, -1)}
    same, _ = same_person(record["person"])

    def loss(identity):
        codes = prediction.codes._replace(identity=identity)
        return task._contrastive(prediction._replace(codes=codes), record, memory)

    near = jnp.repeat(0.01 * jax.random.normal(jax.random.key(0), prediction.codes.identity.shape)[::2], 2, 0)
    near = near.at[1::2].add(0.01)
    gradient = jax.grad(loss)(near)
    first, second = in_pairs(near)
    towards = jnp.sum(in_pairs(gradient)[0] * (second - first), -1)  # downhill is minus the gradient
    assert (np.asarray(towards)[np.asarray(same) == 1] < 0).all()
    assert (np.asarray(towards)[np.asarray(same) == 0] > 0).all()


def test_a_batch_without_a_positive_pair_is_finite_and_draws_nobody_together(seen):
    """As happens by chance, and of everybody unknown nothing is said at all."""
    task, record, prediction = seen
    memory = {"codes": jnp.zeros((4, prediction.codes.identity.shape[1])), "person": jnp.full(4, -1)}
    features = jax.random.normal(jax.random.key(1), prediction.features.shape)
    strangers = record | {"person": jnp.arange(8)}
    nobody = record | {"person": jnp.full(8, -1)}
    for record in (strangers, nobody):
        value, gradient = jax.value_and_grad(lambda features, record=record: task._same_features(
            prediction._replace(features=features), record))(features)
        assert float(value) == 0 and not np.any(gradient)
    codes = prediction.codes._replace(identity=0.01 * features)
    value, gradient = (part(lambda identity: task._contrastive(
        prediction._replace(codes=codes._replace(identity=identity)), nobody, memory))(codes.identity)
        for part in (lambda f: f, jax.grad))
    assert float(value) == 0 and not np.any(gradient)
    assert np.isfinite(task._contrastive(prediction._replace(codes=codes), strangers, memory))


def test_a_rival_measured_on_other_photos_is_told_so(model, tmp_path):
    ours = config("siamese", model, rival=str(tmp_path))
    theirs = json.loads(json.dumps(ours.to_dict()))
    (tmp_path / "report.json").write_text('{"heldout/nme_percent": 5.0}')
    (tmp_path / "config.json").write_text(json.dumps(theirs | {"steps": 7, "batch_size": 3}))
    assert read_rival(ours) == ({"heldout/nme_percent": 5.0}, [])
    theirs["data"]["conditions"]["grey"] = 0.75
    del theirs["data"]["heldout_photos_per_person"]
    (tmp_path / "config.json").write_text(json.dumps(theirs))
    here = ours.data
    assert read_rival(ours)[1] == [f"data.conditions.grey: there 0.75, here {here.conditions.grey}",
                                   f"data.heldout_photos_per_person: there None, here {here.heldout_photos_per_person}"]
    (tmp_path / "config.json").write_text("[1]")
    with pytest.raises(ValueError, match="rival: .*config.json: not a readable report"):
        read_rival(ours)


def test_a_rival_without_a_measure_to_compare_is_refused(model, tmp_path):
    """Or the report would be lost when the run is over."""
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "report.json").write_text('{"detail/correlation": 0.5, "seconds": 3}')
    with pytest.raises(ValueError, match="rival: .*: found no measures of heldout, sir, pose, expected another run"):
        read_rival(config("siamese", model, rival=str(tmp_path)))


@pytest.mark.parametrize("changes, message", [
    ({"data__pairs": ""}, "data.pairs: found nothing"),
    ({"data__positive": 0.0}, "data.positive: found 0.0"),
    ({"data__persons": 64}, "nobody of whom there are two"),
    ({"data__identity": "synthetic"}, "found photos for data.pairs, data.identity, expected"),
    ({"data__pair_list": "pairs.csv"}, "data.pair_list: for photos that have names"),
    ({"memory": -1}, "memory: found -1, expected 0 or more"),
    ({"rival": "/nowhere"}, "rival: /nowhere/report.json: not a readable report")])
def test_bad_settings_are_refused_in_one_line(model, changes, message):
    with pytest.raises(ValueError, match=message) as refused:
        create_task(config("siamese", model, **changes))
    assert "\n" not in str(refused.value)
