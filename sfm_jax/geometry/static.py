"""Tables that are fixed while a function is compiled: NumPy arrays that jit may treat as a static value."""

import dataclasses
import hashlib

import numpy as np


class StaticArrays:
    """Base of frozen dataclasses (eq=False) of NumPy arrays, numbers and strings: read-only, equal by content.

    Two equal ones share one compiled function.
    """

    def __post_init__(self):
        digest = hashlib.sha256()
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, np.ndarray) and (value.flags.writeable or value.base is not None):
                value = value.copy()  # nobody else's, so that nothing changes it and its owner may
                value.flags.writeable = False
                object.__setattr__(self, field.name, value)
            digest.update(field.name.encode() + str(np.shape(value)).encode())
            digest.update(np.ascontiguousarray(value).tobytes())
        object.__setattr__(self, "_digest", digest.hexdigest())

    def __hash__(self):
        return hash(self._digest)

    def __eq__(self, other):
        return type(other) is type(self) and self._digest == other._digest
