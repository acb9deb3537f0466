"""What the machine under a run may refuse, a place to write or memory, as errors of one line for its user."""

import contextlib
import errno
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import jax

from sfm_jax.errors import BadInput

_REFUSALS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG, errno.EIO, errno.ENOTDIR)
_MISSING = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR)
_PASSING = (  # of a file that is there, and may be whole
    errno.EIO, errno.EREMOTEIO, errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN, errno.EINTR, errno.EBUSY, errno.ENOMEM,
    errno.EMFILE, errno.ENFILE, errno.EACCES, errno.EPERM, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETDOWN,
    errno.ENETUNREACH, errno.ECONNRESET, errno.ECONNREFUSED, errno.ENOTCONN)


@contextlib.contextmanager
def writing(place: Path) -> Iterator[None]:
    """BadInput, naming `place` and the reason, where the disk refuses what is written inside: full, read-only and such.

    Orbax's threads raise tensorstore's ValueErrors, which have the system's reason in their text alone.
    """
    try:
        yield
    except BadInput:
        raise
    except Exception as error:
        told = "\n".join(str(cause) for cause in _chain(error))
        reason = next((os.strerror(code) for code in _REFUSALS if os.strerror(code) in told), None)
        if reason is None:
            raise
        raise BadInput(f"{place}: cannot be written ({reason.lower()}); what was saved there before is kept: run again "
                       "to go on from the last checkpoint") from None


def passing(error: Exception) -> str | None:
    """Why something could not be read that may be whole: a disk that is away, or too little memory. None where what was
    read is itself at fault: missing, changed, or something else.

    Tensorstore raises ValueErrors, which have the system's reason in their text alone.
    """
    for cause in _chain(error):
        if isinstance(cause, MemoryError):
            return "too little memory"
        if isinstance(cause, OSError) and cause.errno is not None and cause.errno not in _MISSING:
            return os.strerror(cause.errno).lower()
    told = "\n".join(str(cause) for cause in _chain(error))
    reason = next((os.strerror(code).lower() for code in _PASSING if os.strerror(code) in told), None)
    return reason or ("too little memory" if "RESOURCE_EXHAUSTED" in told else None)


def runtime_broke(error: BaseException) -> bool:
    """Whether JAX's runtime failed for another reason than too little memory: of several processes one may be lost."""
    return isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" not in str(error)


@contextlib.contextmanager
def enough_memory(batch_size: int) -> Iterator[None]:
    """BadInput, naming `batch_size`, where the host or a device has too little memory for what is done inside."""
    try:
        yield
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        if runtime_broke(error):
            raise
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise BadInput(f"batch_size: {batch_size} needs more memory than there is ({reason}); what was saved before is "
                       "kept") from None


@contextlib.contextmanager
def orbax_unlogged(level: int = logging.ERROR) -> Iterator[None]:
    """Without what orbax logs at this level and above, such as the stacks of errors which its threads raise as well."""
    def wanted(record):
        return record.levelno < level or f"{os.sep}orbax{os.sep}" not in record.pathname

    logger = logging.getLogger("absl")
    logger.addFilter(wanted)
    try:
        yield
    finally:
        logger.removeFilter(wanted)


def _chain(error):
    """The error and what led to it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
