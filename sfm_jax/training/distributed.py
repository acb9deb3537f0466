"""Several processes as one run: how they find each other, and how all end when one is lost."""

import contextlib
import itertools
import os
import secrets
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

import jax
from jax._src import distributed as runtime  # JAX's key-value store has no public name

from sfm_jax.errors import BadInput
from sfm_jax.training.failures import runtime_broke

LOST = 3  # the exit code where another process was lost: run again to go on

# Seconds. JAX aborts a process that has not heard of another for HEARTBEAT, with its stack: ours is to be earlier.
BEAT, SILENCE, HEARTBEAT = 2.0, 14.0, 28
STARTING = 280.0  # likewise before JAX's 300: processes of a cluster may start minutes apart

_SEVERAL = {  # a variable that a launcher sets -> whether its value means several processes
    "JAX_COORDINATOR_ADDRESS": bool,
    "MEGASCALE_COORDINATOR_ADDRESS": bool,
    "TPU_WORKER_HOSTNAMES": lambda hosts: "," in hosts,
    "SLURM_STEP_NUM_TASKS": lambda count: count != "1",  # of srun: a batch script alone is one process
    "OMPI_COMM_WORLD_SIZE": lambda count: count != "1",
}


def initialise(coordinator: str | None = None, count: int | None = None, index: int | None = None) -> None:
    """Join the other processes of this run where there are some: before JAX is used, in each of them.

    Args:
      coordinator: ADDRESS:PORT of process 0, which opens that port; "auto" leaves all three to JAX; without it they are
        JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID, or what JAX finds out under srun, mpirun and on
        TPU pods. A process of none of these is alone.
      count, index: of all processes, and of this one, 0 .. count - 1.

    Raises:
      ValueError: an address without numbers, or the other way round.
    """
    if not coordinator and (count, index) != (None, None):
        raise ValueError("num_processes and process_id need a coordinator, for example --coordinator=host:1234")
    if not coordinator and not any(several(os.environ.get(name, "")) for name, several in _SEVERAL.items()
                                   if os.environ.get(name)):
        return
    limits = {"heartbeat_timeout_seconds": HEARTBEAT, "shutdown_timeout_seconds": HEARTBEAT}
    address = coordinator or os.environ.get("JAX_COORDINATOR_ADDRESS")
    if address in (None, "auto"):
        jax.distributed.initialize(**limits)
        return
    try:
        count = int(os.environ["JAX_NUM_PROCESSES"] if count is None else count)
        index = int(os.environ["JAX_PROCESS_ID"] if index is None else index)
    except (KeyError, ValueError):
        raise ValueError(f"coordinator {address}: the number of processes and this one's index must be given too "
                         "(JAX_NUM_PROCESSES and JAX_PROCESS_ID, or --num_processes and --process_id)") from None
    if not 0 <= index < count:
        raise ValueError(f"process_id: found {index}, expected 0 to {count - 1} of {count} processes")
    with _Starting(address, index):
        jax.distributed.initialize(address, count, index, **limits)


def check_joined() -> None:
    """ValueError if there are other processes and this one has not joined them, as on a TPU pod whose workers no
    variable names: they would compute together, but neither stop nor save together."""
    if jax.process_count() > 1 and not jax.distributed.is_initialized():
        raise ValueError(f"this is one of {jax.process_count()} processes, which have not found each other: "
                         "add --coordinator=auto")


class _Starting:
    """While inside, processes wait for each other: for process 0 as long as it answers at its address, for all others
    STARTING seconds. Then this one ends with a line and exit code LOST.

    JAX itself would try for five minutes to reach a process that died while it started, and then abort with its stack.
    """

    def __init__(self, address: str, index: int):
        self._address, self._index, self._joined = address, index, threading.Event()

    def __enter__(self):
        self._thread = threading.Thread(target=self._watch, name="starting", daemon=True)
        self._thread.start()

    def __exit__(self, *_):
        self._joined.set()
        self._thread.join()

    def _watch(self):
        host, _, port = self._address.rpartition(":")
        limit, missing = time.monotonic() + STARTING, f"not all other processes have come to {self._address}"
        while not self._joined.wait(BEAT):
            if self._index:
                try:
                    socket.create_connection((host.strip("[]"), int(port)), timeout=BEAT).close()
                    limit = time.monotonic() + SILENCE
                except (OSError, ValueError) as error:
                    missing = f"process 0 does not answer at {self._address} ({error})"
            if time.monotonic() > limit:
                print(f"sfm_jax: error: {missing}; run all processes again", file=sys.stderr, flush=True)
                os._exit(LOST)


def leave() -> None:
    """Part from the other processes, when all are done: what follows takes its time in one of them."""
    if jax.distributed.is_initialized():
        jax.distributed.shutdown()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # which JAX goes on to catch


_EXCHANGES = itertools.count()


def exchange(word: str) -> list[str]:
    """What every process says, in their order, to be called by all; [word] where this one is alone.

    A process that says nothing for STARTING seconds is a JaxRuntimeError.
    """
    store = runtime.global_state.client
    if not store:
        return [word]
    topic = f"exchange/{next(_EXCHANGES)}"
    store.key_value_set(f"{topic}/{jax.process_index()}", word)
    return [store.blocking_key_value_get(f"{topic}/{process}", int(1000 * STARTING))
            for process in range(jax.process_count())]


def _blind(folder: Path) -> list[int]:
    """The processes that do not see what the first one writes into a folder: they have another one of that name."""
    first, mark = jax.process_index() == 0, secrets.token_hex(8)
    if first:
        (folder / f".{mark}.partial").touch()
    file = folder / f".{exchange(mark)[0]}.partial"
    limit = time.monotonic() + SILENCE  # disks in a network show others' files a little later
    while not (seen := file.exists()) and time.monotonic() < limit:
        time.sleep(0.2)
    answers = exchange("sees" if seen else "blind")
    if first:
        file.unlink()
    return [process for process, answer in enumerate(answers) if answer == "blind"]


class Companions:
    """While inside, the processes of a run, which share a workdir, tell each other that they live; alone, nothing
    happens. BadInput on entering if each has a folder of its own.

    If one is silent for SILENCE seconds, or has not come after STARTING, all end at once: a line on stderr and exit
    code LOST, where they would wait, for ever or for minutes, for an answer in a collective or in Python's own exit.
    """

    def __init__(self, workdir: Path):
        self._workdir, self._ended = workdir, threading.Event()
        self._me, self._store = jax.process_index(), runtime.global_state.client

    def __enter__(self):
        if self._store:
            self._tell(0)
            self._thread = threading.Thread(target=self._watch, name="companions", daemon=True)
            self._thread.start()
            with self.told_of_errors((BadInput,)):
                if others := _blind(self._workdir):
                    raise BadInput(f"{self._workdir}: process {others[0]} does not see what process 0 writes there, "
                                   "expected one folder that all processes share: choose another --workdir")
        return self

    def __exit__(self, kind, error, _):
        self._fall_silent()
        if self._store and error is None:
            self._tell("done")

    @contextlib.contextmanager
    def told_of_errors(self, but: tuple[type[Exception], ...]) -> Iterator[None]:
        """While inside, an error ends this process and all others at once, as a lost one does.

        but: errors that come to all processes in the same step, or that each tells its user by itself; these are raised
        as usual, and others that have none end when they miss this process.
        """
        try:
            yield
        except BaseException as error:
            if not self._store:
                raise
            if broken := runtime_broke(error):  # a collective saw another's connection break: the watch may know more
                self._thread.join(2 * BEAT)
            self._fall_silent()
            if isinstance(error, but):
                raise
            if broken:
                self._end(f"lost another process: {str(error).splitlines()[0]}", LOST)
            self._tell("failed")
            traceback.print_exception(error)
            self._end(f"process {self._me} failed: {error!r}", 1)

    def _fall_silent(self):
        self._ended.set()
        if self._store:
            self._thread.join()

    def _tell(self, word):
        self._store.key_value_set(f"companions/{self._me}", str(word), allow_overwrite=True)

    def _watch(self):
        # process -> (its last word, when it came)
        beat, heard = 0, dict.fromkeys(range(jax.process_count()), ("", time.monotonic()))
        while not self._ended.wait(BEAT):
            beat += 1
            try:
                self._tell(beat)
                words = dict(self._store.key_value_dir_get("companions"))
            except jax.errors.JaxRuntimeError as error:
                self._end(f"lost process 0: {str(error).splitlines()[0]}", LOST)
            now = time.monotonic()
            for process, (before, since) in heard.items():
                word = words.get(f"companions/{process}", "")
                if word == "failed":
                    self._end(f"lost process {process}, which failed", LOST)
                if word != before:
                    heard[process] = word, now
                elif word != "done" and now - since > (SILENCE if word else STARTING):
                    self._end(f"lost process {process}, which has been silent for {now - since:.0f} s", LOST)

    def _end(self, message, code):
        print(f"sfm_jax: error: {message}; run all processes again to go on from the last checkpoint", file=sys.stderr)
        if self._me == 0:
            time.sleep(2 * BEAT)  # JAX aborts the others when process 0 is gone: they are to say why first
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # at once: Python's own exit would wait for the other processes
