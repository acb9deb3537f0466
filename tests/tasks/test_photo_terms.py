"""Terms of learning from photos, one at a time: which photos are rendered, and what a weight means."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_runs import config

from sfm_jax.losses import landmark
from sfm_jax.networks.confidence import Confidence
from sfm_jax.tasks import create_task
from sfm_jax.tasks.photo_terms import Beside, Terms, spread_rows
from sfm_jax.training.parallel import AXIS

LOST = 3  # fragments of each rendered photo


def rendered(devices, batch, count):
    """Numbers [devices, n] of the photos of a batch that are rendered, on each device a quarter of the first part and
    then the second one; and the overflow that is logged."""
    first = np.arange(batch // 4).reshape(devices, -1)
    second = np.arange(batch // 4, batch).reshape(devices, -1)

    def device(photos):
        seen = []

        def beside(face, record):
            seen.append(record["image"])
            return Beside(0, 0, 0, jnp.full(len(record["image"]), LOST))

        stub = types.SimpleNamespace(config=types.SimpleNamespace(rendered_photos=count), beside=beside)
        _, overflow = Terms._images(stub, photos, photos, {"image": photos}, None)
        return seen[0], overflow

    return jax.device_get(jax.vmap(device, axis_name=AXIS)(np.concatenate([first, second], 1)))


@pytest.mark.parametrize("devices", [1, 2, 4, 8])
def test_photos_of_both_parts_are_rendered_on_any_number_of_devices(devices):
    photos, overflow = rendered(devices, 32, 8)
    assert len(set(photos.ravel())) == 8
    assert (photos < 8).sum() == 2 and (photos >= 8).sum() == 6  # as in the batch
    assert (overflow == 8 * LOST).all()  # on each, of which the mean is logged
    if devices == 1:
        assert photos.ravel().tolist() == list(range(0, 32, 4))


@pytest.mark.parametrize("devices, rows, count", [(8, 4, 1), (8, 3, 2), (3, 7, 2), (4, 5, 5), (2, 4, 9), (5, 9, 4)])
def test_rows_are_even_and_each_devices_own(devices, rows, count):
    every = np.arange(devices * rows).reshape(devices, rows)
    found = np.asarray(jax.vmap(lambda leaf: spread_rows({"leaf": leaf}, count)["leaf"], axis_name=AXIS)(every))
    assert found.shape == (devices, min(count, rows))
    assert (np.diff(found, axis=1) == max(rows // count, 1)).all()
    assert (found // rows == np.arange(devices)[:, None]).all()  # none of the next device, none twice


@pytest.fixture(scope="module")
def with_and_without(model):
    """The terms of a run with confidences, and without."""
    return [create_task(config("stage2", model, confidence=confidence)).terms for confidence in (True, False)]


def confident(value):
    maps = jnp.full((2, 8, 8), value)
    return types.SimpleNamespace(confidence=Confidence(maps, maps))


def landmark_term(terms, value, error):
    truth = np.random.default_rng(0).uniform(4, 28, (2, 68, 2)).astype(np.float32)
    face = types.SimpleNamespace(landmarks=truth + np.float32([error, 0]))
    return float(terms._landmarks(face, confident(value), {
        "landmarks": truth, "landmark_mask": np.ones((2, 68), np.float32)})["landmark"]())


def pixel_term(terms, value, error):
    black = jnp.zeros((2, 16, 16, 3))
    seen = Beside(black, black.at[..., 1].set(error), jnp.ones((2, 16, 16)), jnp.zeros(2))
    return float(terms.difference(seen, confident(value).confidence).mean())


def test_a_weight_means_the_same_with_confidences_and_without(with_and_without):
    """Errors count in tolerances: without confidences as with a network that is sure of all."""
    sure, without = with_and_without
    tolerance = sure.config.tolerance
    assert landmark.WEIGHTS.std() > 0
    for term, error, expected in ((landmark_term, 1.5, 1.5 / 32 / tolerance.landmark),
                                  (pixel_term, 0.25, 0.25 / tolerance.pixel)):
        assert term(without, 1.0, error) == pytest.approx(expected, rel=1e-4)
        assert term(without, 0.5, error) == term(without, 1.0, error) == pytest.approx(term(sure, 1.0, error))
        assert term(sure, 0.5, error) == pytest.approx(expected / 2 + np.log(2), rel=1e-4)
