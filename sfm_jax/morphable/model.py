"""The morphable model: a linear face as an immutable pytree, and its topology as a static value.

A 3D morphable model (Blanz & Vetter 1999) is a mean shape and a few bases. Here every face is

    vertices = mean + identity . identity_basis + expression . expression_basis        [V, 3], millimetres
    albedo   = exp(albedo_mean + albedo_code . albedo_basis)                           [V, 3], linear RGB

All functions are written for one face; `jax.vmap` makes them batched, and `decode` accepts codes of any
leading shape by itself.
"""

import dataclasses
import math
import os
from pathlib import Path

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from sfm_jax.geometry.static import StaticArrays

FORMAT = "sfm-jax model 1"
_ARRAYS = ("mean", "identity_basis", "identity_sigma", "expression_basis", "albedo_mean", "albedo_basis")


@dataclasses.dataclass(frozen=True, eq=False)
class Topology(StaticArrays):
    """What never changes while a model is trained: connectivity, UVs and named places. NumPy, static under jit.

    triangles [F, 3] int32, outward counter-clockwise; uv [U, 2] in [0, 1] (v upwards) with uv_triangles [F, 3]
    (one UV per corner, so seams are kept); landmarks [68] vertex indices (iBUG order); contour_lines [17, L]
    vertex indices, for each jaw landmark the line along which it slides as the head turns; regions [R, V] in
    [0, 1] with their names; symmetry [V], the index of each vertex's mirror image. Two topologies are equal
    when their contents are: equal models share one compiled function.
    """

    triangles: np.ndarray
    uv: np.ndarray
    uv_triangles: np.ndarray
    landmarks: np.ndarray
    contour_lines: np.ndarray
    region_names: tuple[str, ...]
    regions: np.ndarray
    symmetry: np.ndarray

    def region(self, name: str) -> np.ndarray:
        """Weight [V] in [0, 1] of a named region, float32. ValueError names the regions there are."""
        if name not in self.region_names:
            raise ValueError(f"region '{name}': not in this model, which has {', '.join(self.region_names) or 'none'}")
        return np.asarray(self.regions[self.region_names.index(name)], np.float32)


@flax.struct.dataclass
class MorphableModel:
    """A linear face model with Gaussian identity codes (one unit = one standard deviation).

    mean [V, 3] mm; identity_basis [K, V, 3] mm per unit code; identity_sigma [K] mm (root mean square vertex
    displacement at one sigma); expression_basis [E, V, 3] mm at full expression; albedo_mean [V, 3] and
    albedo_basis [A, V, 3] in log linear RGB (`albedo_space` "log") or linear RGB ("linear").
    """

    mean: jax.Array
    identity_basis: jax.Array
    identity_sigma: jax.Array
    expression_basis: jax.Array
    albedo_mean: jax.Array
    albedo_basis: jax.Array
    topology: Topology = flax.struct.field(pytree_node=False)
    expression_names: tuple[str, ...] = flax.struct.field(pytree_node=False, default=())
    name: str = flax.struct.field(pytree_node=False, default="unnamed")
    licence: str = flax.struct.field(pytree_node=False, default="")
    source: str = flax.struct.field(pytree_node=False, default="")
    albedo_space: str = flax.struct.field(pytree_node=False, default="log")

    def decode(self, identity: jax.Array, expression: jax.Array | None = None) -> jax.Array:
        """Vertices [..., V, 3] in mm from codes [..., K'] and [..., E]; K' <= K uses the first K' components."""
        return linear_shape(self.mean, self.identity_basis, identity, self.expression_basis, expression)

    def albedo(self, code: jax.Array) -> jax.Array:
        """Linear RGB albedo [..., V, 3] from codes [..., A'], positive where the space is "log"."""
        values = linear_shape(self.albedo_mean, self.albedo_basis, code)
        return jnp.exp(values) if self.albedo_space == "log" else values

    def landmarks(self, vertices: jax.Array) -> jax.Array:
        """The 68 landmarks [..., 68, 3] of decoded vertices [..., V, 3]."""
        return vertices[..., self.topology.landmarks, :]

    def save(self, path: str | os.PathLike, **extra) -> None:
        """Write one npz (written beside, then renamed). `extra` arrays are kept for other readers."""
        save_arrays(path, kind="gaussian", **model_arrays(self), **extra)

    @staticmethod
    def load(path: str | os.PathLike) -> "MorphableModel":
        """Read an npz written by `save`, or by SphereFaceModel.save: then radius * basis is the identity basis."""
        arrays = load_arrays(path)
        if str(arrays["kind"]) == "sphere":
            arrays["identity_basis"] = arrays["identity_basis"] * arrays["radius"]
        return model_from_arrays(path, arrays)


def linear_shape(mean, basis, code, second_basis=None, second_code=None) -> jax.Array:
    """mean [V, 3] + code [..., k] . basis[:k] (+ the same of a second basis) -> [..., V, 3]."""
    shape = mean + _combine(code, basis)
    return shape if second_code is None else shape + _combine(second_code, second_basis)


def _combine(code, basis):
    count, size = code.shape[-1], basis.shape[1:]
    if count > basis.shape[0]:
        raise ValueError(f"code: has {count} numbers, the basis has {basis.shape[0]} components")
    flat = jnp.dot(code, basis[:count].reshape(count, math.prod(size)), precision=jax.lax.Precision.HIGHEST)
    return flat.reshape(code.shape[:-1] + size)


# ---------------------------------------------------------------------------------------------- files

def save_arrays(path: str | os.PathLike, **arrays) -> None:
    """np.savez_compressed under a temporary name, then renamed: nothing partial is left behind."""
    path = Path(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with open(partial, "wb") as file:
            np.savez_compressed(file, format=FORMAT, **arrays)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def load_arrays(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Every array of a model npz. ValueError, one line, for a missing, truncated, foreign or pickled file."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file, expected a model npz") from None
    except Exception as error:  # zipfile, zlib and NumPy each raise their own kinds on damaged files
        raise ValueError(f"{path}: not a readable npz without pickled objects ({error})") from None
    found = str(arrays.get("format", "no 'format' key"))
    if found != FORMAT:
        raise ValueError(f"{path}: key 'format': found {found!r}, expected {FORMAT!r}")
    return arrays


def model_arrays(model) -> dict[str, np.ndarray]:
    arrays = {key: np.asarray(getattr(model, key)) for key in _ARRAYS}
    for field in dataclasses.fields(Topology):
        arrays[field.name] = np.asarray(getattr(model.topology, field.name))
    texts = ("expression_names", "name", "licence", "source", "albedo_space")
    return arrays | {key: np.asarray(getattr(model, key), dtype=np.str_) for key in texts}


def model_from_arrays(path, arrays: dict[str, np.ndarray]) -> MorphableModel:
    """Check and assemble a MorphableModel; errors name the file and the key."""
    topology_keys = [field.name for field in dataclasses.fields(Topology)]
    for key in (*_ARRAYS, *topology_keys, "expression_names"):
        if key not in arrays:
            raise ValueError(f"{path}: key '{key}' is missing")
    vertex_count = arrays["mean"].shape[0]
    for key in _ARRAYS:
        value = arrays[key]
        if not np.isfinite(value).all():
            raise ValueError(f"{path}: key '{key}': holds NaN or infinite numbers")
        if key != "identity_sigma" and value.shape[-2:] != (vertex_count, 3):
            raise ValueError(f"{path}: key '{key}': shape {value.shape}, expected [..., {vertex_count}, 3]")
    triangles = arrays["triangles"]
    if triangles.ndim != 2 or triangles.shape[1] != 3 or triangles.min() < 0 or triangles.max() >= vertex_count:
        raise ValueError(f"{path}: key 'triangles': expected [F, 3] indices below {vertex_count}")
    topology = Topology(**{key: arrays[key] for key in topology_keys if key != "region_names"},
                        region_names=tuple(str(name) for name in arrays["region_names"]))
    return MorphableModel(
        **{key: jnp.asarray(arrays[key], jnp.float32) for key in _ARRAYS}, topology=topology,
        expression_names=tuple(str(name) for name in arrays["expression_names"]),
        name=str(arrays["name"]), licence=str(arrays["licence"]), source=str(arrays["source"]),
        albedo_space=str(arrays["albedo_space"]))
