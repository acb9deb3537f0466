"""Unpickling of arrays and nothing else: a pickle may call any function of any module, this one may not.

NumPy's arrays, SciPy's sparse matrices and chumpy's arrays, which FLAME's files are full of, first become records of
what the pickle says of them; plain numeric arrays are then made of these. Nothing of the three packages runs on
what comes from the file, and neither SciPy nor chumpy is needed.
"""

import io
import os
import pickle
import re

import numpy as np

from sfm_jax.morphable.formats.files import read_bytes

_PLAIN_DTYPE = re.compile(r"[?bhilqBHILQefd]|[biufO]\d{1,2}|[SU]\d{0,6}")
_NUMPY_MODULES = ("numpy", "numpy.core.multiarray", "numpy._core.multiarray", "numpy.core.numeric",
                  "numpy._core.numeric")


def load_pickle(path: str | os.PathLike, content: bytes | None = None):
    """The object in a pickle of builtin containers, numbers, texts and arrays. chumpy's arrays become NumPy's.

    Args:
      path: the file, or what `content` came from, for errors.
      content: the pickle, if not the whole file.

    Raises:
      ValueError: naming the global that the pickle asks for and must not have, or that it is damaged.
    """
    content = read_bytes(path) if content is None else content
    try:
        return _plain(_Unpickler(io.BytesIO(content), encoding="latin1").load())
    except _Refused as error:
        raise ValueError(f"{path}: refused: the pickle asks for {error}, expected arrays alone") from None
    except Exception as error:  # damaged pickles raise whatever they led to
        raise ValueError(f"{path}: not a readable pickle, or truncated ({type(error).__name__}: {error})") from None


class _Refused(Exception):
    pass


class _Unpickler(pickle.Unpickler):
    def find_class(self, module, name):
        kind = None
        if module in _NUMPY_MODULES:
            kind = {"dtype": _Dtype, "ndarray": _Array}.get(name)
            if name in ("_reconstruct", "scalar", "_frombuffer"):
                return _own({"_reconstruct": _Array, "scalar": _scalar, "_frombuffer": _from_buffer}[name])
        elif module.startswith("scipy.sparse") and name in ("csc_matrix", "csr_matrix", "coo_matrix"):
            kind = _Record
        elif module.startswith("chumpy.") and name in ("Ch", "Select", "Reshape"):
            kind = _Chumpy
        elif (module, name) in (("__builtin__", "object"), ("builtins", "object")):
            kind = _Record
        elif (module, name) in (("copy_reg", "_reconstructor"), ("copyreg", "_reconstructor")):
            return _own(_reconstruct)
        elif (module, name) == ("_codecs", "encode"):
            return _own(_latin1)
        elif (module, name) in (("__builtin__", "set"), ("builtins", "set")):
            return _own(set)
        elif (module, name) in (("__builtin__", "bytes"), ("builtins", "bytes")):
            return _own(_no_bytes)
        if kind is None:
            raise _Refused(f"{module}.{name}")
        return type(name, (kind,), {})


def _own(function):
    """A function of this load's own: a pickle may set attributes of whatever it is given."""
    return lambda *arguments: function(*arguments)


class _Record:
    """What is left of an object of another package: its state."""

    def __new__(cls, *arguments):
        return object.__new__(cls)

    def __init__(self, *arguments):
        self.state = {}

    def __setstate__(self, state):
        self.state = state


class _Chumpy(_Record):
    pass


class _Dtype(_Record):
    def __init__(self, code, *flags):
        if not (isinstance(code, str) and _PLAIN_DTYPE.fullmatch(code)):
            raise _Refused(f"numpy.dtype({code!r})")
        self.dtype = np.dtype(code)

    def __setstate__(self, state):
        _, order, subdtype, names, fields, *_ = state
        if (subdtype, names, fields) != (None, None, None):
            raise _Refused("a structured numpy.dtype")
        self.dtype = self.dtype.newbyteorder(order if order in ("<", ">") else "=")


class _Array(_Record):
    """An array that is to come: NumPy's pickles make an empty one and then set its state."""

    def __init__(self, *arguments):
        self.array = None

    def __setstate__(self, state):
        _, shape, kind, fortran, values = state
        self.array = _numbers(values, kind, shape, "F" if fortran else "C")


def _numbers(values, kind, shape, order):
    if kind.dtype == np.dtype(object):
        array = np.empty(len(values), object)
        array[:] = values
    else:
        values = values.encode("latin1") if isinstance(values, str) else values  # bytes of Python 2
        array = np.frombuffer(values, kind.dtype)
    return array.reshape(shape, order=order)


def _scalar(kind, values):
    return _numbers(values, kind, (), "C")[()]


def _from_buffer(values, kind, shape, order, axes=None):
    """NumPy's, of protocol 5; order "K" is that of the permuted axes."""
    array = _numbers(values, kind, shape, "C" if order == "K" else order)
    return array.transpose(axes) if order == "K" and axes is not None else array


def _reconstruct(kind, base, state):
    """copyreg's, for records alone."""
    if not (isinstance(kind, type) and issubclass(kind, _Record)):
        raise _Refused(f"copyreg._reconstructor of {kind!r}")
    return kind()


def _no_bytes():
    """Empty bytes, which old protocols call for."""
    return b""


def _latin1(text, encoding):
    """Bytes, as Python 3 writes them for Python 2."""
    if encoding != "latin1":
        raise _Refused(f"_codecs.encode to {encoding!r}")
    return text.encode("latin1")


def _plain(value):
    """Records as the arrays that they stand for."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_plain(item) for item in value)
    if isinstance(value, _Array):
        value = value.array
    if isinstance(value, np.ndarray) and value.dtype == object and value.size == 1:
        return _plain(value.item())
    return _chumpy(value.state) if isinstance(value, _Chumpy) else value


def _chumpy(state):
    """The numbers of a chumpy array: its `x`, or those of `a` that a Select chooses or a Reshape arranges."""
    state = _plain(state)
    if "x" in state:
        return np.asarray(state["x"])
    if "a" in state and "idxs" in state:
        chosen = np.ravel(state["a"])[np.asarray(state["idxs"])]
        return chosen.reshape(state["preferred_shape"]) if "preferred_shape" in state else chosen
    if "a" in state and "newshape" in state:
        return np.reshape(state["a"], state["newshape"])
    raise ValueError(f"a chumpy array without numbers, of {', '.join(map(str, state)) or 'nothing'}")
