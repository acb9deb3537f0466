"""One train step, written for one device, run on all of them by either of two executors.

The step is a function of one device's share of the batch; collectives over the axis AXIS make it a step of the
whole batch. `jax.pmap` (the default) and `jax.jit(jax.shard_map(...))` run the same function.
"""

from collections.abc import Callable

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from sfm_jax.training.task import Task

AXIS = "data"
EXECUTORS = ("pmap", "shard_map")


@flax.struct.dataclass
class TrainState:
    """Everything a step changes. ema: averaged parameters, or {} when averaging is off."""

    step: jax.Array
    params: dict
    state: dict
    opt_state: optax.OptState
    ema: dict

    @staticmethod
    def create(params, state, optimiser: optax.GradientTransformation, averaged: bool) -> "TrainState":
        ema = jax.tree.map(jnp.copy, params) if averaged else {}  # a copy: the step donates its arguments
        return TrainState(jnp.zeros((), jnp.int32), params, state, optimiser.init(params), ema)


def train_step(task: Task, optimiser: optax.GradientTransformation, seed: int, ema_decay: float) -> Callable:
    """(TrainState, one device's batch) -> (TrainState, metrics), to be run under an axis called AXIS."""

    def step(train: TrainState, batch):
        rng = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), train.step), jax.lax.axis_index(AXIS))
        value_and_grad = jax.value_and_grad(task.loss, has_aux=True)
        (loss, aux), gradients = value_and_grad(train.params, train.state, batch, rng)
        gradients, metrics = jax.lax.pmean((gradients, {"loss": loss} | aux.metrics), AXIS)
        updates, opt_state = optimiser.update(gradients, train.opt_state, train.params)
        params = optax.apply_updates(train.params, updates)
        ema = optax.incremental_update(params, train.ema, 1.0 - ema_decay) if ema_decay else train.ema
        metrics["gradient_norm"] = optax.tree.norm(gradients)
        return TrainState(train.step + 1, params, aux.state, opt_state, ema), metrics

    return step


class PmapExecutor:
    """Every array of the state is stacked over the local devices, [devices, ...]."""

    def __init__(self, step: Callable):
        self._devices = jax.local_devices()
        self.step = jax.pmap(step, axis_name=AXIS, donate_argnums=0)

    def replicate(self, tree):
        """Stacked in NumPy, then sent through a pmap that changes nothing: only arrays that come out of a pmap have
        the sharding with which the step's own results come back to it, and with any other it compiles twice."""
        count = len(self._devices)
        stacked = jax.tree.map(lambda leaf: np.broadcast_to(np.asarray(leaf), (count, *np.shape(leaf))), tree)
        return jax.pmap(lambda replica: replica, axis_name=AXIS)(stacked)

    def shard(self, batch):
        """This process's batch [devices * b, ...] -> [devices, b, ...]."""
        count = len(self._devices)
        return jax.tree.map(lambda leaf: leaf.reshape(count, -1, *leaf.shape[1:]), batch)

    def first(self, tree):
        """One replica."""
        return jax.tree.map(lambda leaf: leaf[0], tree)


class ShardMapExecutor:
    """The state is one replicated array; the batch is split over a one-dimensional mesh of all devices."""

    def __init__(self, step: Callable):
        self._mesh = Mesh(np.asarray(jax.devices()), (AXIS,))
        replicated, split = PartitionSpec(), PartitionSpec(AXIS)
        # check_vma=True would sum the gradients of replicated parameters by itself: pmean would then be N times off.
        mapped = jax.shard_map(
            step, mesh=self._mesh, in_specs=(replicated, split), out_specs=replicated, check_vma=False)
        self.step = jax.jit(mapped, donate_argnums=0)

    def replicate(self, tree):
        sharding = NamedSharding(self._mesh, PartitionSpec())
        return jax.tree.map(lambda leaf: jax.device_put(np.asarray(leaf), sharding), tree)

    def shard(self, batch):
        """This process's batch -> one array over all devices of all processes."""
        sharding = NamedSharding(self._mesh, PartitionSpec(AXIS))
        return jax.tree.map(lambda leaf: jax.make_array_from_process_local_data(sharding, leaf), batch)

    def first(self, tree):
        return tree


def create_executor(name: str, step: Callable) -> PmapExecutor | ShardMapExecutor:
    """The executor called "pmap" or "shard_map"."""
    if name not in EXECUTORS:
        raise ValueError(f"executor: found {name!r}, expected one of {', '.join(EXECUTORS)}")
    return PmapExecutor(step) if name == "pmap" else ShardMapExecutor(step)


def process_batch_size(batch_size: int) -> int:
    """This process's share of the global batch. ValueError if the devices cannot share it evenly."""
    if batch_size < 1 or batch_size % jax.device_count():
        raise ValueError(f"batch_size: found {batch_size}, expected a multiple of the {jax.device_count()} devices")
    return batch_size // jax.process_count()
