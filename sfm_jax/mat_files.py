"""MATLAB's .mat, versions 5 to 7.2: numbers, texts, structs and cells, from files that nobody vouches for.

SciPy's reader, in C, ends the process on damaged files, and believes the sizes that they claim. "MAT-File Format",
The MathWorks: a header of 128 bytes, then elements of a type, a length and contents; one is one variable.
"""

import math
import struct
import zlib
from collections.abc import Iterator

import numpy as np

from sfm_jax.array_files import RATIO, SMALL

_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_TEXTS = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
_MATRIX, _COMPRESSED = 14, 15
_CELL, _STRUCT, _CHAR = 1, 2, 4
_CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}
_COMPLEX = 0x0800
_HEADER, _DEEPEST, _NAME_WITHIN = 128, 20, 4096  # bytes, levels, bytes


def load_mat5(data: bytes) -> dict:
    """The variables of a file by name: arrays as MATLAB has them, texts, dicts of structs' fields, lists of cells' and
    of several structs' items. Variables of other kinds (sparse, objects, functions) are left out.

    Raises:
      ValueError: another format, or damaged.
    """
    budget = _Budget(max(SMALL, RATIO * len(data)))
    found = {}
    for order, body in _variables(data, budget.decompressed):
        name, value = _Matrix(order, budget).read(body, 0)
        if name and value is not None:
            found[name] = value
    return found


def mat5_names(data: bytes) -> list[str]:
    """The names of the variables. ValueError as for `load_mat5`."""
    return [_Matrix(order, None).head(body)[2] for order, body in _variables(data, _beginning)]


class _Budget:
    """How many bytes a file may still become."""

    def __init__(self, left: int):
        self.left = left

    def decompressed(self, content: bytes) -> bytes:
        try:
            stream = zlib.decompressobj()
            data = stream.decompress(content, self.left)
        except zlib.error as error:
            raise ValueError(f"a variable is damaged: {error}") from None
        if stream.unconsumed_tail:
            raise ValueError("its variables are larger than they can be")
        if not stream.eof:
            raise ValueError("a variable is truncated")
        self.left -= len(data)
        return data


def _beginning(content):
    try:
        return zlib.decompressobj().decompress(content, _NAME_WITHIN)
    except zlib.error as error:
        raise ValueError(f"a variable is damaged: {error}") from None


def _variables(data, decompress) -> Iterator[tuple[str, bytes]]:
    """The byte order and the contents of every variable."""
    mark = data[126:128]
    if len(data) < _HEADER or mark not in (b"IM", b"MI"):
        raise ValueError("not a MATLAB file of version 5 to 7.2")
    order, at = "<" if mark == b"IM" else ">", _HEADER
    if struct.unpack_from(order + "H", data, 124)[0] != 0x0100:
        raise ValueError("not a MATLAB file of version 5 to 7.2")
    while at < len(data):
        kind, body, at = _element(order, data, at)
        if kind == _COMPRESSED:
            inner = decompress(body)
            size = len(inner) if len(inner) >= _NAME_WITHIN else None  # the beginning alone may be there
            kind, body, _ = _element(order, inner, 0, size)
        if kind == _MATRIX and len(body):
            yield order, body


def _element(order, data, at, enough=None):
    """(type, contents, where the next begins). enough: bytes of `data` with which to be content."""
    if at + 8 > len(data):
        raise ValueError(f"ends within an element (at byte {at} of {len(data)})")
    kind, size = struct.unpack_from(order + "II", data, at)
    if kind >> 16:  # the small form: both in four bytes, contents in the next four
        size, kind, begin, following = kind >> 16, kind & 0xFFFF, at + 4, at + 8
        if size > 4:
            raise ValueError(f"an element of {size} bytes in four (at byte {at})")
    else:
        begin = at + 8
        following = begin + size + (0 if kind == _COMPRESSED else -size % 8)
    if begin + size > len(data) and enough is None:
        raise ValueError(f"ends within an element (at byte {at} of {len(data)}, which needs {size})")
    return kind, data[begin:begin + size], min(following, len(data))


class _Matrix:
    """Reads variables of one byte order."""

    def __init__(self, order, budget):
        self._order, self._budget = order, budget

    def head(self, data):
        """Class, dimensions, name, whether complex, and where the contents begin."""
        kind, flags, at = _element(self._order, data, 0)
        if kind != 6 or len(flags) != 8:
            raise ValueError("a variable without flags")
        word = struct.unpack_from(self._order + "I", flags)[0]
        kind, dimensions, at = _element(self._order, data, at)
        if kind != 5 or len(dimensions) % 4 or not 8 <= len(dimensions) <= 128:
            raise ValueError("a variable without dimensions")
        shape = tuple(np.frombuffer(dimensions, self._order + "i4").tolist())
        if min(shape) < 0:
            raise ValueError(f"a variable of {shape} numbers")
        _, name, at = _element(self._order, data, at)
        return word & 0xFF, shape, name.decode("latin-1"), bool(word & _COMPLEX), at

    def read(self, data, depth):
        """(name, value), the value None where it is of another kind."""
        if depth > _DEEPEST:
            raise ValueError("structs in structs without end")
        if not data:
            return "", np.zeros((0, 0))
        kind, shape, name, is_complex, at = self.head(data)
        if kind in _CLASSES:
            values, at = self._numbers(data, at, shape)
            values = self._cast(values, _CLASSES[kind])
            if is_complex:
                values = values + 1j * self._numbers(data, at, shape)[0]
            return name, values
        if kind == _CHAR:
            form, content, _ = _element(self._order, data, at)
            if form not in _TEXTS:
                raise ValueError(f"{name}: a text of type {form}")
            codec = _TEXTS[form]
            if codec in ("utf-16", "utf-32"):
                codec += "-le" if self._order == "<" else "-be"
            return name, content.decode(codec, "replace")
        if kind == _CELL:
            return name, [self.read(place, depth + 1)[1] for place in self._places(data, at, math.prod(shape))]
        if kind == _STRUCT:
            return name, self._structs(data, at, shape, depth)
        return name, None

    def _structs(self, data, at, shape, depth):
        _, length, at = _element(self._order, data, at)
        _, names, at = _element(self._order, data, at)
        if len(length) != 4:
            raise ValueError("a struct without names")
        width = struct.unpack(self._order + "i", length)[0]
        if not 0 < width <= 4096 or len(names) % width:
            raise ValueError(f"names of {width} letters in {len(names)}")
        keys = [names[i:i + width].partition(b"\0")[0].decode("latin-1") for i in range(0, len(names), width)]
        places = list(self._places(data, at, math.prod(shape) * len(keys)))
        rows = [dict(zip(keys, (self.read(place, depth + 1)[1] for place in places[i:i + len(keys)]), strict=True))
                for i in range(0, len(places), max(len(keys), 1))]
        return rows[0] if len(rows) == 1 else rows

    def _places(self, data, at, count):
        """The contents of so many elements that follow each other."""
        if count > len(data) // 8:
            raise ValueError(f"{count} items in {len(data)} bytes")
        for _ in range(count):
            kind, body, at = _element(self._order, data, at)
            if kind != _MATRIX:
                raise ValueError(f"an item of type {kind}, expected an array")
            yield body

    def _numbers(self, data, at, shape):
        kind, content, at = _element(self._order, data, at)
        if kind not in _NUMBERS:
            raise ValueError(f"numbers of type {kind}")
        dtype = np.dtype(self._order + _NUMBERS[kind])
        if len(content) != math.prod(shape) * dtype.itemsize:
            raise ValueError(f"{len(content)} bytes for {' x '.join(map(str, shape))} numbers of {dtype.itemsize}")
        return np.frombuffer(content, dtype).reshape(shape, order="F"), at

    def _cast(self, values, dtype):
        """MATLAB keeps numbers in fewer bytes where they fit."""
        if np.dtype(dtype).itemsize > values.dtype.itemsize:
            self._budget.left -= values.size * np.dtype(dtype).itemsize
            if self._budget.left < 0:
                raise ValueError("its variables are larger than they can be")
        with np.errstate(all="ignore"):
            return values.astype(dtype)
