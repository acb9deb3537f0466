"""One train step, written for one device, run on all of them by either of two executors.

The step is a function of one device's share of the batch; collectives over the axis AXIS make it a step of the
whole batch. `jax.pmap` (the default) and `jax.jit(jax.shard_map(...))` run the same function.

Most parameters are replicated. Tables with a row for every person may be split: each device holds its rows, of them,
of their optimiser state and of their running average. The objective is the mean over devices of their losses, so the
gradient of a replicated parameter is the mean of all devices' and that of a split one its own over their number.
"""

from collections.abc import Callable, Sequence

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.experimental import multihost_utils
from jax.flatten_util import ravel_pytree
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from sfm_jax.errors import BadInput
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
        """The state before the first step, in the host's memory: a table may be too large for one device."""
        with jax.default_device(host()):
            return TrainState(jnp.zeros((), jnp.int32), params, state, optimiser.init(params),
                              jax.tree.map(jnp.copy, params) if averaged else {})

    def split(self, split_params, optimiser: optax.GradientTransformation) -> "TrainState":
        """A TrainState of booleans: which leaves are split over the devices, as `split_params` says of the parameters.

        BadInput if the devices cannot share the rows of a split parameter evenly.
        """
        for (path, leaf), is_split in zip(jax.tree.leaves_with_path(self.params), jax.tree.leaves(split_params),
                                          strict=True):
            if is_split and len(leaf) % jax.device_count():
                raise BadInput(f"parameter {jax.tree_util.keystr(path)}: {len(leaf)} rows cannot be split evenly over "
                                 f"{jax.device_count()} devices")
        moments = optax.tree_map_params(optimiser, lambda _, is_split: is_split, self.opt_state, split_params,
                                        transform_non_params=lambda _: False)
        state = jax.tree.map(lambda _: False, self.state)
        return TrainState(False, split_params, state, moments, split_params if self.ema else {})


def host() -> jax.Device:
    """The host as a device; where JAX_PLATFORMS leaves it out, the first accelerator."""
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        return jax.local_devices()[0]


def split_params(task: Task, params):
    """Which parameters the task wants split: a pytree of booleans like `params`; none where it does not say."""
    if hasattr(task, "split"):
        return task.split(params)
    return jax.tree.map(lambda _: False, params)


def train_step(task: Task, optimiser: optax.GradientTransformation, seed: int, ema_decay: float,
               clip_norm: float = 0.0) -> Callable:
    """(TrainState, one device's batch) -> (TrainState, metrics), to be run under an axis called AXIS.

    ema_decay: of averaged parameters; 0: there are none. After n steps min(ema_decay, (1 + n) / (10 + n)) is taken, as
      in TensorFlow and timm, or the untrained parameters would stay in the average for about 1 / (1 - ema_decay) steps.
    clip_norm: gradients longer than that, all parameters together, are shortened to it; 0: none is.
    """

    def step(train: TrainState, batch):
        rng = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), train.step), jax.lax.axis_index(AXIS))
        value_and_grad = jax.value_and_grad(task.loss, has_aux=True)
        (loss, aux), gradients = value_and_grad(train.params, train.state, batch, rng)
        is_split = split_params(task, train.params)
        with jax.named_scope("optimiser"):
            gradients, norm = _averaged(gradients, is_split)
        metrics = mean_over_devices({"loss": loss} | aux.metrics) | {"gradient_norm": norm}
        with jax.named_scope("optimiser"):
            if clip_norm:
                gradients = jax.tree.map(lambda gradient: gradient * jnp.minimum(1.0, clip_norm / norm), gradients)
            with jax.numpy_dtype_promotion("standard"):  # optax multiplies its counts of steps by floats
                updates, opt_state = optimiser.update(gradients, train.opt_state, train.params)
            params = optax.apply_updates(train.params, updates)
            ema = train.ema
            if ema_decay:
                ema = optax.incremental_update(params, ema, 1 - _early(ema_decay, train.step))
        return TrainState(train.step + 1, params, aux.state, opt_state, ema), metrics

    return step


def _early(ema_decay, steps):
    """The decay of the average after so many steps."""
    steps = steps.astype(jnp.float32)
    return jnp.minimum(ema_decay, (1 + steps) / (10 + steps))


def _averaged(gradients, is_split):
    """Gradients of the mean of all devices' losses, and their norm over all devices' rows."""
    devices = jax.lax.axis_size(AXIS)
    leaves, structure = jax.tree.flatten(gradients)
    splits = jax.tree.leaves(is_split)
    means = iter(mean_over_devices([gradient for gradient, split in zip(leaves, splits, strict=True) if not split]))
    leaves = [gradient / devices if split else next(means) for gradient, split in zip(leaves, splits, strict=True)]
    squares = {True: jnp.zeros(()), False: jnp.zeros(())}
    for gradient, split in zip(leaves, splits, strict=True):
        squares[split] += jnp.sum(gradient**2)
    return jax.tree.unflatten(structure, leaves), jnp.sqrt(squares[False] + jax.lax.psum(squares[True], AXIS))


def mean_over_devices(tree):
    """The mean over all devices of each array of a tree.

    Processes without accelerators exchange every array by TCP on its own, in up to 20 ms, and no compiler combines
    these exchanges: there the arrays go as one of each dtype.
    """
    if jax.process_count() == 1 or jax.default_backend() != "cpu":
        return jax.lax.pmean(tree, AXIS)
    leaves, structure = jax.tree.flatten(jax.tree.map(jnp.asarray, tree))
    for dtype in dict.fromkeys(leaf.dtype for leaf in leaves):
        which = [index for index, leaf in enumerate(leaves) if leaf.dtype == dtype]
        flat, restore = ravel_pytree([leaves[index] for index in which])
        for index, leaf in zip(which, restore(jax.lax.pmean(flat, AXIS)), strict=True):
            leaves[index] = leaf
    return jax.tree.unflatten(structure, leaves)


class PmapExecutor:
    """Every array of the state is stacked over the local devices, [devices, ...]."""

    def __init__(self, step: Callable, split: TrainState):
        self._devices, self._split = jax.local_devices(), split
        self.step = jax.pmap(step, axis_name=AXIS, donate_argnums=0)

    def place(self, train: TrainState) -> TrainState:
        """The state of NumPy arrays, or arrays of one device, on all devices.

        Through a pmap that changes nothing: only arrays that come out of a pmap have the sharding with which the
        step's own results come back to it, and with any other it compiles twice.
        """
        count = len(self._devices)

        def stacked(leaf, split):
            leaf = np.asarray(leaf)
            if not split:
                return np.broadcast_to(leaf, (count, *leaf.shape))
            shares = leaf.reshape(jax.device_count(), -1, *leaf.shape[1:])
            return shares[jax.process_index() * count:][:count]

        placed = jax.pmap(lambda replica: replica, axis_name=AXIS)(jax.tree.map(stacked, train, self._split))
        self._sharding = placed.step.sharding
        return placed

    def shard(self, batch):
        """This process's batch [devices * b, ...] -> [devices, b, ...] on the devices."""
        stacked = jax.tree.map(lambda leaf: leaf.reshape(len(self._devices), -1, *leaf.shape[1:]), batch)
        return jax.device_put(stacked, self._sharding)

    def metrics(self, steps: Sequence[dict]) -> list[dict[str, float]]:
        """One replica's scalars of each step."""
        replicas = jax.device_get([{name: leaf.addressable_shards[0].data for name, leaf in tree.items()}
                                   for tree in steps])
        return [{name: float(value[0]) for name, value in replica.items()} for replica in replicas]

    def saved(self, train: TrainState) -> TrainState:
        """For a checkpoint: replicated arrays in NumPy; split ones as one array, of which each process has a part."""
        sharding = NamedSharding(Mesh(np.asarray(jax.devices()), (AXIS,)), PartitionSpec(AXIS))

        def one(leaf, split):
            if not split:
                return jax.device_get(leaf.addressable_shards[0].data)[0]
            rows = [shard.data.reshape(shard.data.shape[1:]) for shard in leaf.addressable_shards]
            shape = (jax.device_count() * rows[0].shape[0], *rows[0].shape[1:])
            return jax.make_array_from_single_device_arrays(shape, sharding, rows)

        return jax.tree.map(one, train, self._split)


class ShardMapExecutor:
    """The state is one array over a one-dimensional mesh of all devices, replicated or split by rows."""

    def __init__(self, step: Callable, split: TrainState, devices: Sequence[jax.Device] | None = None):
        """devices: None is all that there are."""
        self._mesh, self._split = Mesh(np.asarray(devices or jax.devices()), (AXIS,)), split
        specs = jax.tree.map(lambda is_split: PartitionSpec(AXIS) if is_split else PartitionSpec(), split)
        # check_vma=True would sum the gradients of replicated parameters by itself: pmean would then be N times off.
        mapped = jax.shard_map(step, mesh=self._mesh, in_specs=(specs, PartitionSpec(AXIS)),
                               out_specs=(specs, PartitionSpec()), check_vma=False)
        self.step = jax.jit(mapped, donate_argnums=0)

    def place(self, train: TrainState) -> TrainState:
        """The state of NumPy arrays, or arrays of one device, on all devices of all processes."""
        def one(leaf, split):
            leaf = np.asarray(leaf)
            return jax.make_array_from_callback(leaf.shape, self.sharding(split), lambda index: leaf[index])

        return jax.tree.map(one, train, self._split)

    def shard(self, batch):
        """This process's batch -> one array over all devices of all processes."""
        devices = jax.local_devices()

        def one(leaf):
            parts = [jax.device_put(part, device) for part, device in zip(np.split(leaf, len(devices)), devices,
                                                                          strict=True)]
            shape = (len(leaf) * jax.process_count(), *leaf.shape[1:])
            return jax.make_array_from_single_device_arrays(shape, self.sharding(True), parts)

        return jax.tree.map(one, batch)

    def metrics(self, steps: Sequence[dict]) -> list[dict[str, float]]:
        """The scalars of each step, which are the same on all devices."""
        return [{name: float(value) for name, value in tree.items()} for tree in jax.device_get(list(steps))]

    def saved(self, train: TrainState) -> TrainState:
        """For a checkpoint: replicated arrays in NumPy, split ones as they are."""
        return jax.tree.map(lambda leaf, split: leaf if split else jax.device_get(leaf), train, self._split)

    def sharding(self, split: bool) -> NamedSharding:
        """Of an array that is split over the devices by rows, as a batch is, or is whole on each."""
        return NamedSharding(self._mesh, PartitionSpec(AXIS) if split else PartitionSpec())


Executor = PmapExecutor | ShardMapExecutor


def create_executor(name: str, step: Callable, split: TrainState) -> Executor:
    """The executor called "pmap" or "shard_map"; split: of `TrainState.split`."""
    if name not in EXECUTORS:
        raise BadInput(f"executor: found {name!r}, expected one of {', '.join(EXECUTORS)}")
    return PmapExecutor(step, split) if name == "pmap" else ShardMapExecutor(step, split)


def whole(tree):
    """A saved state (`executor.saved`), or a part of it, in NumPy, on every process."""
    def one(leaf):
        if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
            return multihost_utils.process_allgather(leaf, tiled=True)
        return jax.device_get(leaf)

    return jax.tree.map(one, tree)


def process_batch_size(batch_size: int) -> int:
    """This process's share of the global batch. BadInput if the devices cannot share it evenly."""
    if batch_size < 1 or batch_size % jax.device_count():
        raise BadInput(f"batch_size: found {batch_size}, expected a multiple of the {jax.device_count()} devices")
    return batch_size // jax.process_count()
