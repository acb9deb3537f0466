"""Folders that a command line names for its results."""

import os
from pathlib import Path


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
