"""The training loop: any task, from its config, with exact resume."""

import dataclasses
import json
import math
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import jax
import numpy as np
from jax.experimental import multihost_utils

from sfm_jax.errors import BadInput
from sfm_jax.training.checkpoint import CheckpointError, Checkpoints
from sfm_jax.training.clock import Clock
from sfm_jax.training.distributed import Companions, exchange
from sfm_jax.training.failures import enough_memory
from sfm_jax.training.logbook import Logbook
from sfm_jax.training.optimiser import create_optimiser
from sfm_jax.training.parallel import (
    Executor,
    TrainState,
    create_executor,
    process_batch_size,
    split_params,
    train_step,
    whole,
)
from sfm_jax.training.profile import OFF, Window
from sfm_jax.training.task import Task
from sfm_jax.training.workdir import write_text

NONFINITE_FILE = "nonfinite-{process}.json"


@dataclasses.dataclass(frozen=True)
class Result:
    """A finished (or preempted) run. params are the averaged ones where averaging is on."""

    params: dict
    state: dict
    history: list[dict]     # the lines of metrics.jsonl
    step: int
    preempted: bool
    device: str
    begin: float            # of time.perf_counter(), had it been in one part; this and the rest: see Clock.times
    train_seconds: float
    compile_seconds: float
    steps_per_second: float


def train(task: Task, config, workdir: Path, begin: float | None = None) -> Result:
    """Train to config.steps, from the newest checkpoint of `workdir` where there is one.

    begin: time.perf_counter() when the process began, for the report; None is now.

    SIGTERM saves and returns with `preempted`. A loss or a gradient that is not finite raises FloatingPointError
    naming its step, and is never saved. BadInput: the workdir cannot be written any more, memory is too small for the
    batch, or the config has a number that makes no sense.
    """
    check_numbers(config)
    with enough_memory(config.batch_size):
        return _train(task, config, workdir, begin)


def check_numbers(config) -> None:
    """BadInput, naming the key, for a number that makes no sense in any task. (The optimiser's: `create_optimiser`.)"""
    for key, least in (("seed", 0), ("steps", 1), ("log_every", 1), ("save_every", 1), ("keep", 1)):
        if (found := config.get(key, least)) < least:
            raise BadInput(f"{key}: found {found}, expected {least} or more")
    if not 0 <= (found := config.get("ema_decay", 0)) < 1:
        raise BadInput(f"ema_decay: found {found}, expected 0 or more and below 1")


def _train(task, config, workdir, begin):
    begin = time.perf_counter() if begin is None else begin
    window = Window(workdir, config.get("profile", OFF), config.steps)
    dataset, fresh, executor = prepare(task, config)
    # SIGTERM does not end the process while the last save is under way: the request is left after the checkpoints.
    with _StopRequest() as stop, Companions(workdir) as companions, Checkpoints(workdir, config.keep) as checkpoints:
        with companions.told_of_errors((CheckpointError,)):
            current = _restored(checkpoints, workdir, fresh)
            start = step = int(current.step)
            train_state = executor.place(current)
        window.begin(start)
        clock = Clock(workdir, start, begin)
        del fresh, current
        with Logbook(workdir, start, config.steps) as logbook, companions.told_of_errors((FloatingPointError,)), window:
            pending = []
            for step, (ids, batch) in _prefetched(lambda k: _placed(dataset[k], executor), start, config.steps):
                # All that a step needs is on the device; what is constant comes to the host once, to be compiled in.
                with jax.transfer_guard("allow" if step == start + 1 else "disallow"), window.step(step):
                    train_state, metrics = executor.step(train_state, batch)
                window.done(step, metrics)
                pending.append((step, ids, metrics))
                if step == start + 1:
                    jax.block_until_ready(metrics)
                    clock.first_step_is_done()
                stopping = stop.asked(step) or step == config.steps
                saving = stopping or step % config.save_every == 0
                if saving or step % config.log_every == 0 or step == start + 1:
                    values = _checked(pending, executor, workdir)
                    pending = []
                    if step % config.log_every == 0 or step == 1:
                        logbook.write(step, values)
                if saving:
                    checkpoints.save(step, executor.saved(train_state))
                    clock.save(step)
                if stopping:
                    break
        saved = executor.saved(train_state)
    return Result(
        params=whole(saved.ema or saved.params), state=whole(saved.state), history=logbook.history, step=step,
        preempted=step < config.steps, device=f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        **clock.times(step))


def _restored(checkpoints: Checkpoints, workdir: Path, fresh: TrainState) -> TrainState:
    """The newest checkpoint, or the fresh state. CheckpointError unless all processes are at the same one."""
    current = checkpoints.restore(fresh) or fresh
    if len(set(steps := exchange(str(current.step)))) > 1:
        raise CheckpointError(f"{workdir}: processes found other checkpoints than each other, of steps "
                              f"{', '.join(steps)}: run all again")
    return current


def prepare(task: Task, config) -> tuple[Sequence, TrainState, Executor]:
    """A run before its first step: this process's batches, the state in the host's memory, and what runs the step."""
    dataset = task.dataset(process_batch_size(config.batch_size), config.seed)
    params, state = task.init(jax.random.key(config.seed), dataset[0])
    optimiser = create_optimiser(config.optimiser, config.steps, task.param_labels(params))
    fresh = TrainState.create(params, state, optimiser, averaged=bool(config.ema_decay))
    step = train_step(task, optimiser, config.seed, config.ema_decay, config.optimiser.clip_norm)
    return dataset, fresh, create_executor(config.executor, step, fresh.split(split_params(task, params), optimiser))


def _checked(pending, executor, workdir: Path) -> dict[str, float]:
    """The metrics of the last of the pending steps, after checking the loss and the gradient of every one.

    FloatingPointError names the first step that is not finite; its photos, or whatever its batch numbers as "id",
    are listed in NONFINITE_FILE.
    """
    values = {}
    fetched = executor.metrics([metrics for _, _, metrics in pending])
    for (step, ids, _), values in zip(pending, fetched, strict=True):
        if not math.isfinite(values["loss"] + values["gradient_norm"]):
            culprits = [name for name, value in values.items() if not math.isfinite(value)]
            file = workdir / NONFINITE_FILE.format(process=jax.process_index())
            write_text(file, json.dumps({"step": step, "not_finite": culprits, "ids": ids}, indent=2) + "\n")
            raise FloatingPointError(f"step {step}: not finite: {', '.join(culprits)}; nothing was saved after that; "
                                     f"the batch is listed in {file}")
    return values


def _placed(batch, executor):
    """(the sample numbers of a batch, by the path of every array called "id"; the batch on the devices)."""
    ids = {jax.tree_util.keystr(path, simple=True, separator="."): np.asarray(leaf).tolist()
           for path, leaf in jax.tree.leaves_with_path(batch) if getattr(path[-1], "key", "") == "id"}
    return ids, executor.shard(batch)


def _prefetched(load: Callable, start: int, stop: int, depth: int = 2) -> Iterator[tuple[int, object]]:
    """(step, load(step - 1)) for step = start + 1 .. stop, prepared in a thread, `depth` ahead."""
    ready, closed = queue.Queue(maxsize=depth), threading.Event()

    def offer(item):
        while not closed.is_set():
            try:
                return ready.put(item, timeout=0.2)
            except queue.Full:
                continue

    def work():
        try:
            for step in range(start + 1, stop + 1):
                if closed.is_set():
                    return
                offer((step, load(step - 1)))
            offer(None)
        except BaseException as error:  # raised again in the training thread
            offer(error)

    thread = threading.Thread(target=work, name="batches", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        closed.set()
        thread.join()


class _StopRequest:
    """While inside, SIGTERM asks to stop instead of ending the process (in the main thread; elsewhere nothing changes).

    Of several processes all stop after the same step: JAX, which then watches for the signal itself, agrees on one.
    """

    def __enter__(self):
        self._event, self._before = threading.Event(), None
        if threading.current_thread() is threading.main_thread() and jax.process_count() == 1:
            self._before = signal.signal(signal.SIGTERM, lambda *_: self._event.set())
        return self

    def asked(self, step: int) -> bool:
        if jax.process_count() > 1:
            return multihost_utils.reached_preemption_sync_point(step)
        return self._event.is_set()

    def __exit__(self, *_):
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)
