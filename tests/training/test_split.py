"""Tables split over devices learn as whole ones do, and a run may go on with another number of devices.

Four devices, then two (virtual, in processes of their own), then one train parts of a run by either executor; it equals
a run on one device whose losses know nothing of splitting.
"""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from started import environment
from toy_regression import Batches, config

from sfm_jax.losses import identity
from sfm_jax.training.loop import prepare, train
from sfm_jax.training.parallel import AXIS, EXECUTORS
from sfm_jax.training.task import Aux

PERSONS, ROWS, SIZE, PART = 11, 16, 4, 6  # with four devices the last has padding only
CLIP = 2.0  # of some steps, not of all


def settings(**changes):
    return config(**dict(optimiser__schedule="constant", optimiser__clip_norm=CLIP, optimiser__multipliers={},
                         save_every=PART, keep=1) | changes)


def person(batch):
    """The person of every row; a fifth of the rows is of nobody known."""
    return jnp.where(batch["id"] % 5 == 0, -1, batch["id"] % PERSONS)


def weight(batch):
    return jnp.abs(jnp.sin(batch["id"].astype(jnp.float32)))


@dataclasses.dataclass(frozen=True)
class Recognition:
    """A linear embedding, class weights and class centres."""

    rows: int = ROWS

    def dataset(self, batch_size, seed):
        return Batches(batch_size, seed, lambda k, batch: batch)

    def init(self, rng, batch):
        draw = np.random.default_rng(1)
        return {"embedding": jax.random.normal(rng, (batch["x"].shape[1], SIZE)),
                "classes": draw.normal(size=(self.rows, SIZE)).astype(np.float32),
                "centres": draw.normal(size=(self.rows, SIZE)).astype(np.float32)}, {}

    def param_labels(self, params):
        return {name: name for name in params}

    def split(self, params):
        return {name: name != "embedding" for name in params}

    def terms(self, params, code, batch):
        margin, correct = identity.split_margin_cross_entropy(
            code, params["classes"], person(batch), PERSONS, AXIS, m3=0.2, scale=8.0)
        return margin, correct, identity.split_centre_loss(code, params["centres"], person(batch), weight(batch), AXIS)

    def loss(self, params, state, batch, rng):
        margin, correct, centre = self.terms(params, batch["x"] @ params["embedding"], batch)
        return jnp.mean(margin + 0.1 * centre), Aux({"accuracy": jnp.mean(correct)}, state)


class WholeRecognition(Recognition):
    """The same on one device, by indexing whole tables."""

    def split(self, params):
        return {name: False for name in params}

    def terms(self, params, code, batch):
        known, label = person(batch) >= 0, jnp.maximum(person(batch), 0)
        cosine = identity.cosine_logits(code, params["classes"][:PERSONS])
        centre = params["centres"][label]
        moved = weight(batch)[:, None] * centre + jax.lax.stop_gradient((1 - weight(batch)[:, None]) * centre)
        return (identity.margin_cross_entropy(cosine, person(batch), m3=0.2, scale=8.0),
                known & (cosine.argmax(1) == label), jnp.where(known, 0.5 * jnp.sum((code - moved) ** 2, 1), 0.0))


def part(folder, devices, steps):
    """One run of this file as a program; what it says at the end."""
    done = subprocess.run([sys.executable, __file__, str(folder), str(steps)], env=environment(devices), text=True,
                          capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """Two unfinished runs, begun by one executor on four devices and continued by the other on two."""
    folder = tmp_path_factory.mktemp("split")
    return folder, part(folder, 4, PART), part(folder, 2, 2 * PART)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return train(WholeRecognition(), settings(steps=3 * PART), tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_run_on_four_then_two_then_one_device_equals_a_whole_one(parts, whole, executor):
    folder, _, _ = parts
    finished = train(Recognition(), settings(steps=3 * PART), folder / executor)
    for name in ("loss", "gradient_norm", "accuracy"):
        np.testing.assert_allclose(*([line[name] for line in run.history] for run in (finished, whole)), rtol=1e-5)
    for name, value in whole.params.items():
        np.testing.assert_allclose(finished.params[name], value, atol=1e-5)
    norms = [line["gradient_norm"] for line in whole.history]
    assert min(norms) < CLIP < max(norms)
    assert 0 < whole.history[-1]["accuracy"] < 1


def test_every_device_holds_its_rows_only(parts):
    _, on_four, on_two = parts
    for measured, devices in ((on_four, 4), (on_two, 2)):
        for executor in EXECUTORS:  # the tables, both of Adam's moments, and the average
            assert measured[executor] == {"classes": [ROWS // devices] * 4, "embedding": [5] * 4}


def test_rows_that_devices_cannot_share_are_refused(parts):
    _, on_four, _ = parts
    assert on_four["refusal"] == "parameter ['centres']: 18 rows cannot be split evenly over 4 devices"


def rows_on_the_first_device(executor):
    """{parameter: rows of it, its moments and its average}."""
    _, fresh, made = prepare(Recognition(), settings(executor=executor))
    placed = made.place(fresh)
    found = {"classes": [], "embedding": []}
    for path, leaf in jax.tree.leaves_with_path((placed.params, placed.opt_state, placed.ema)):
        for name in found:
            if name in jax.tree_util.keystr(path):
                found[name].append(leaf.addressable_shards[0].data.shape[-2])
    return found


if __name__ == "__main__":
    root, last = Path(sys.argv[1]), int(sys.argv[2])
    report = {name: rows_on_the_first_device(name) for name in EXECUTORS}
    for name, used in zip(EXECUTORS, EXECUTORS if last == PART else reversed(EXECUTORS), strict=True):
        train(Recognition(), settings(steps=last, executor=used), root / name)
    try:
        train(Recognition(rows=18), settings(steps=1), root / "refused")
    except ValueError as error:
        report["refusal"] = str(error)
    print(json.dumps(report))
