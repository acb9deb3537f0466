"""What the commands have in common: bad input is told in one line, and ends them with exit code 2."""

import argparse
import os
import sys
from pathlib import Path

OTHER_FORMATS = "models of other formats: python -m sfm_jax.convert IN MODEL.npz"


class Parser(argparse.ArgumentParser):
    """ValueError for a command line that is not understood, where argparse would print its usage and exit.

    Options are written out: a mistyped one is not taken for a longer one that begins alike.
    """

    def __init__(self, **settings):
        super().__init__(allow_abbrev=False, **settings)

    def error(self, message):
        raise ValueError(message)


def refuse(error: Exception | str) -> int:
    """Say in one line what is wrong; returns the exit code."""
    print(f"sfm_jax: error: {' '.join(str(error).split())}", file=sys.stderr)
    return 2


def writable(out: str | os.PathLike) -> Path:
    """The folder of --out, made. ValueError where nothing can be written to it."""
    out = Path(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe = out / f".{os.getpid()}.partial"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ValueError(f"--out: {out}: {(error.strerror or str(error)).lower()}") from None
    return out
