"""Types of the arrays in signatures: the kind of their numbers and their shape, by jaxtyping. The tests check them.

Letters are sizes, the same ones within a signature; `*batch` is any leading shape, and `*#batch` those that broadcast
to it. One size alone has a space before it, " V", or linters would look for a variable of that name.
"""

import jax
import numpy as np
from jaxtyping import Float, Integer, Real

AnyArray = jax.Array | np.ndarray
"""For arguments: NumPy's arrays may be passed, too. Results are jax.Array or np.ndarray."""

Number = Real[jax.typing.ArrayLike, ""]
Numbers = Real[jax.typing.ArrayLike, "..."]
Points = Float[AnyArray, "*batch 3"]
Vertices = Float[AnyArray, "*batch V 3"]
Triangles = Integer[AnyArray, "F 3"]
Rotation = Float[AnyArray, "*batch 3 3"]
