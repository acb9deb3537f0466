"""Times of contenders that share a machine with whatever else runs on it."""

import multiprocessing
import os
import time
from collections.abc import Callable, Mapping

import jax
import numpy as np


def medians(contenders: Mapping[object, Callable[[], object]], rounds: int) -> dict[object, float]:
    """Median seconds of functions of no argument, called in turns, after a round that may compile."""
    times = {name: [] for name in contenders}
    for _ in range(rounds + 1):
        for name, call in contenders.items():
            begin = time.perf_counter()
            jax.block_until_ready(call())
            times[name].append(time.perf_counter() - begin)
    return {name: float(np.median(values[1:])) for name, values in times.items()}


class Apart:
    """An object in a process of its own. Several are made at once, for each takes long to trace and compile; their
    methods are called in turns, while the others wait."""

    def __init__(self, make: Callable[..., object], *arguments: object):
        """`make` and `arguments` have to be importable there."""
        spawn = multiprocessing.get_context("spawn")
        self._pipe, theirs = spawn.Pipe()
        self._process = spawn.Process(target=_serve, args=(theirs, make, arguments), daemon=True)
        self._process.start()
        theirs.close()  # or a process that dies would be waited for

    def wait(self) -> None:
        """Until it is made; what failed there is raised here."""
        self._answer()

    def call(self, method: str, *arguments: object) -> object:
        """object.method(*arguments)."""
        self._pipe.send((method, arguments))
        return self._answer()

    def _answer(self):
        value, error = self._pipe.recv()
        if error is not None:
            raise error
        return value


def _serve(pipe, make, arguments):
    try:
        made = make(*arguments)
        pipe.send((None, None))
        while True:
            method, arguments = pipe.recv()
            pipe.send((getattr(made, method)(*arguments), None))
    except EOFError:
        pass
    except Exception as error:
        pipe.send((None, error))


def share_accelerator(processes: int) -> None:
    """Let each of so many processes, started from now on, take its part of the accelerator's memory."""
    os.environ["XLA_PYTHON_CLIENT_MEM_FRACTION"] = f"{0.9 / processes:.3f}"
