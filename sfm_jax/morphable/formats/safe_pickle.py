"""Unpickling of arrays and nothing else: a pickle may call any function of any module, this one may not.

NumPy's arrays, SciPy's sparse matrices and chumpy's arrays, which FLAME's files are full of, first become records of
what the pickle says of them; plain numeric arrays are then made of these. Nothing of the three packages runs on
what comes from the file, and neither SciPy nor chumpy is needed.

A pickle of a hundred bytes can also stand for lists of lists of lists of 2^60 numbers, and name memory by numbers that
no memory has. So containers count as often as they are referred to, and Python's own unpickler is used, whose memo is
a dict; NumPy's arrays, which are most of every file, it reads as fast as the one in C.
"""

import io
import os
import pickle
import re

import numpy as np

from sfm_jax.array_files import one_line
from sfm_jax.morphable.formats.files import read_bytes

SMALL, EXPANSION = 100_000, 10  # items of all containers: these, and so many for each byte
_PLAIN_DTYPE = re.compile(r"[?bhilqBHILQefd]|[biufO]\d{1,2}|[SU]\d{0,6}")
_NUMPY_MODULES = ("numpy", "numpy.core.multiarray", "numpy._core.multiarray", "numpy.core.numeric",
                  "numpy._core.numeric")


def load_pickle(path: str | os.PathLike, content: bytes | None = None) -> object:
    """The object in a pickle of builtin containers, numbers, texts and arrays. chumpy's arrays become NumPy's.

    Args:
      path: the file, or what `content` came from, for errors.
      content: the pickle, if not the whole file.

    Raises:
      ValueError: naming the global that the pickle asks for and must not have, or that it is damaged.
    """
    content = read_bytes(path) if content is None else content
    try:
        return _Plain(SMALL + EXPANSION * len(content))(_Unpickler(io.BytesIO(content), encoding="latin1").load())
    except _Refused as error:
        raise ValueError(f"{path}: refused: the pickle asks for {one_line(error)}, expected arrays alone") from None
    except Exception as error:  # damaged pickles raise whatever they led to
        raise ValueError(f"{path}: not a readable pickle, or truncated ({type(error).__name__}: {one_line(error)})"
                         ) from None


class _Refused(Exception):
    pass


class _Unpickler(pickle._Unpickler):
    dispatch = dict(pickle._Unpickler.dispatch)

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self._weights = {}  # by the id of each tuple: how many its hash will go through

    def _weigh_tuple(self):
        made = self.stack[-1]
        self._weights[id(made)] = 1 + sum(self._weights.get(id(item), 1) for item in made if isinstance(item, tuple))
        if self._weights[id(made)] > SMALL:
            raise _Refused("tuples of tuples without end")

    def _bytearray(self):
        """Python's own makes one of the length that the pickle claims, and then reads it."""
        length = int.from_bytes(self.read(8), "little")
        content = self.read(length) if length < 1 << 62 else b""
        if len(content) != length:
            raise ValueError(f"{length} bytes of an array, found {len(content)}")
        self.append(bytearray(content))

    dispatch[pickle.BYTEARRAY8[0]] = _bytearray

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


def _weighing(build):
    """An instruction that makes a tuple."""
    def instruction(unpickler):
        build(unpickler)
        unpickler._weigh_tuple()

    return instruction


for _code in (pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3):
    _Unpickler.dispatch[_code[0]] = _weighing(_Unpickler.dispatch[_code[0]])


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


class _Plain:
    """Records as the arrays that they stand for. Containers may have `most` items, each as often as it is met."""

    def __init__(self, most: int):
        self._most, self._met = most, {}  # by id: what became of it, and its items

    def __call__(self, value):
        return self._weighed(value)[0]

    def _weighed(self, value):
        if not isinstance(value, (dict, list, tuple, _Array, _Chumpy, np.ndarray)):
            return value, 1
        if id(value) in self._met:
            if self._met[id(value)] is None:
                raise ValueError("a container is in itself")
        else:
            self._met[id(value)] = None
            self._met[id(value)] = (*self._made(value), value)  # the value is kept, or its id might be another's
        return self._met[id(value)][:2]

    def _made(self, value):
        if isinstance(value, dict):
            items = {key: self._weighed(item) for key, item in value.items()}
            return {key: item for key, (item, _) in items.items()}, self._sum(items.values())
        if isinstance(value, (list, tuple)):
            items = [self._weighed(item) for item in value]
            return type(value)(item for item, _ in items), self._sum(items)
        if isinstance(value, _Array):
            return self._weighed(value.array)
        if isinstance(value, _Chumpy):
            state, weight = self._weighed(value.state)
            return _chumpy(state), weight
        return self._weighed(value.item()) if value.dtype == object and value.size == 1 else (value, 1)

    def _sum(self, items):
        weight = 1 + sum(weight for _, weight in items)
        if weight > self._most:
            raise ValueError("containers of containers without end")
        return weight


def _chumpy(state):
    """The numbers of a chumpy array: its `x`, or those of `a` that a Select chooses or a Reshape arranges."""
    if not isinstance(state, dict):
        raise ValueError(f"a chumpy array without numbers, of a {type(state).__name__}")
    if "x" in state:
        return np.asarray(state["x"])
    if "a" in state and "idxs" in state:
        chosen = np.ravel(state["a"])[np.asarray(state["idxs"])]
        return chosen.reshape(state["preferred_shape"]) if "preferred_shape" in state else chosen
    if "a" in state and "newshape" in state:
        return np.reshape(state["a"], state["newshape"])
    raise ValueError(f"a chumpy array without numbers, of {', '.join(map(str, state)) or 'nothing'}")
