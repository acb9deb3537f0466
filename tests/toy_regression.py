"""Tasks small enough to solve by hand: least squares on 64 synthetic rows, with a hook where a test can interfere."""

import ast
import dataclasses
import sys
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from sfm_jax.training import distributed
from sfm_jax.training.loop import train
from sfm_jax.training.parallel import AXIS
from sfm_jax.training.task import Aux
from sfm_jax.training.workdir import open_workdir

ROWS, COLUMNS, GROUPS = 64, 5, 8


def config(**changes) -> ConfigDict:
    """What the training loop reads; dots in a changed key are written as two underscores."""
    plain = ConfigDict(dict(
        seed=0, batch_size=16, steps=20, executor="pmap", ema_decay=0.9, keep=3, save_every=3, log_every=1,
        optimiser=dict(name="adam", learning_rate=0.05, schedule="cosine", warmup_steps=4, weight_decay=0.0,
                       clip_norm=10.0, multipliers=dict(bias=2.0))))
    plain.update_from_flattened_dict({key.replace("__", "."): value for key, value in changes.items()})
    return plain.lock()


def rows() -> dict[str, np.ndarray]:
    """x [ROWS, COLUMNS], y [ROWS]: a plane plus noise; id [ROWS]."""
    rng = np.random.default_rng(7)
    x = rng.normal(size=(ROWS, COLUMNS))
    y = x @ np.arange(1.0, COLUMNS + 1) - 2 + 0.5 * rng.normal(size=ROWS)
    return {"x": x.astype(np.float32), "y": y.astype(np.float32), "id": np.arange(ROWS, dtype=np.int32)}


def solution() -> tuple[np.ndarray, float]:
    """The least-squares weights [COLUMNS] and bias, by LAPACK."""
    data = rows()
    design = np.column_stack([data["x"], np.ones(ROWS)]).astype(np.float64)
    solved = np.linalg.lstsq(design, data["y"].astype(np.float64))[0]
    return solved[:-1], solved[-1]


@dataclasses.dataclass(frozen=True)
class Batches:
    """Batch k: rows drawn without replacement from (seed, k), of which each process gets its part.

    `edit(k, batch)` may change it, wait, or raise.
    """

    size: int
    seed: int
    edit: Callable

    def __getitem__(self, k: int):
        chosen = np.random.default_rng((self.seed, k)).choice(ROWS, self.size * jax.process_count(), replace=False)
        part = chosen.reshape(-1, self.size)[jax.process_index()]
        return self.edit(k, jax.tree.map(lambda column: column[part], rows()))


@dataclasses.dataclass(frozen=True)
class ToyRegression:
    """Mean squared error of x w + b. The state counts the examples; the metric `draw` shows the random stream."""

    edit: Callable = lambda k, batch: batch

    def dataset(self, batch_size, seed):
        return Batches(batch_size, seed, self.edit)

    def init(self, rng, batch):
        weights = 0.1 * jax.random.normal(rng, batch["x"].shape[1:])
        return {"weights": weights, "bias": jnp.zeros(())}, {"examples": jnp.zeros((), jnp.int32)}

    def offset(self, params, batch):
        return params["bias"]

    def loss(self, params, state, batch, rng):
        residual = batch["x"] @ params["weights"] + self.offset(params, batch) - batch["y"]
        examples = state["examples"] + jax.lax.psum(len(residual), AXIS)
        return jnp.mean(residual**2), Aux({"draw": jax.random.uniform(rng)}, {"examples": examples})

    def param_labels(self, params):
        return {name: name for name in params}


class SplitRegression(ToyRegression):
    """Each of GROUPS groups of rows has a bias of its own, in a table that is split over the devices."""

    def init(self, rng, batch):
        params, state = super().init(rng, batch)
        return {"weights": params["weights"], "bias": np.linspace(-1, 1, GROUPS, dtype=np.float32)[:, None]}, state

    def split(self, params):
        return {"weights": False, "bias": True}

    def offset(self, params, batch):
        groups = jax.lax.all_gather(batch["id"] % GROUPS, AXIS, tiled=True)
        own = groups - len(params["bias"]) * jax.lax.axis_index(AXIS)
        mine = (own >= 0) & (own < len(params["bias"]))
        everyone = jax.lax.psum(jnp.where(mine, params["bias"][jnp.where(mine, own, 0), 0], 0.0), AXIS)
        count = len(batch["id"])
        return jax.lax.dynamic_slice_in_dim(everyone, count * jax.lax.axis_index(AXIS), count)


class WholeRegression(SplitRegression):
    """The same with the table on every device: what SplitRegression is compared with."""

    def split(self, params):
        return {"weights": False, "bias": False}

    def offset(self, params, batch):
        return params["bias"][batch["id"] % GROUPS, 0]


def slowly(k, batch):
    """An edit that leaves a killer some time."""
    time.sleep(0.05)
    return batch


def failing(k, batch):
    """An edit that fails in one of several processes."""
    if k == 5 and jax.process_index() == 1:
        raise OSError("a photo cannot be read")
    return batch


def poisoned(k, batch):
    """An edit that makes the loss of step 7 infinite, in the last of several processes."""
    bad = k == 6 and jax.process_index() == jax.process_count() - 1
    return batch | {"y": batch["y"] + np.float32(np.inf)} if bad else batch


if __name__ == "__main__":  # a run in a process of its own: python toy_regression.py WORKDIR EDIT [KEY=VALUE ...]
    distributed.BEAT, distributed.SILENCE = 1.0, 6.0  # a test does not wait long
    distributed.initialise()
    if sys.argv[2] == "absent":
        distributed.STARTING = 8.0
        time.sleep(600 * jax.process_index())
    pairs = (argument.split("=", 1) for argument in sys.argv[3:])
    run = config(**{key: value if value.isidentifier() else ast.literal_eval(value) for key, value in pairs})
    edits = {"slow": slowly, "absent": slowly, "failing": failing, "poisoned": poisoned}
    train(SplitRegression(edits[sys.argv[2]]), run, open_workdir(Path(sys.argv[1]), run))
