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

import flax.struct
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from sfm_jax.array_files import integers, numbers, one_line, read_npz, texts
from sfm_jax.array_types import AnyArray, Vertices
from sfm_jax.atomic_files import atomic_write
from sfm_jax.geometry.products import matmul
from sfm_jax.geometry.static import StaticArrays

FORMAT = "sfm-jax model 1"
_TEXTS = ("expression_names", "name", "licence", "source", "albedo_space")
_KINDS = {"activations": (0.0, 1.0), "statistical": (-3.0, 3.0)}  # of expressions: what their codes lie between
_ACTIVE = 0.3  # root mean square of an activation, where one of a statistical expression is 1
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

    triangles: Int[np.ndarray, "F 3"]
    uv: Float[np.ndarray, "U 2"]
    uv_triangles: Int[np.ndarray, "G 3"]
    landmarks: Int[np.ndarray, " L"]
    contour_lines: Int[np.ndarray, "J S"]
    region_names: tuple[str, ...]
    regions: Float[np.ndarray, "R V"]
    symmetry: Int[np.ndarray, " V"]

    def region(self, name: str) -> Float[np.ndarray, " V"]:
        """Weight [V] in [0, 1] of a named region, float32. ValueError names the regions there are."""
        if name not in self.region_names:
            raise ValueError(f"region '{name}': not in this model, which has {', '.join(self.region_names) or 'none'}")
        return np.asarray(self.regions[self.region_names.index(name)], np.float32)


@flax.struct.dataclass
class MorphableModel:
    """A linear face model with Gaussian identity codes (one unit = one standard deviation).

    mean [V, 3] mm; identity_basis [K, V, 3] mm per unit code; identity_sigma [K] mm (root mean square vertex
    displacement at one sigma); expression_basis [E, V, 3] mm at full expression (`expression_kind` "activations", of
    0 to 1) or at one standard deviation ("statistical", of either sign); albedo_mean [V, 3] and albedo_basis [A, V, 3]
    in log linear RGB (`albedo_space` "log") or linear RGB ("linear").
    """

    mean: Float[AnyArray, "V 3"]
    identity_basis: Float[AnyArray, "K V 3"]
    identity_sigma: Float[AnyArray, " K"]
    expression_basis: Float[AnyArray, "E V 3"]
    albedo_mean: Float[AnyArray, "V 3"]
    albedo_basis: Float[AnyArray, "A V 3"]
    topology: Topology = flax.struct.field(pytree_node=False)
    expression_names: tuple[str, ...] = flax.struct.field(pytree_node=False, default=())
    name: str = flax.struct.field(pytree_node=False, default="unnamed")
    licence: str = flax.struct.field(pytree_node=False, default="")
    source: str = flax.struct.field(pytree_node=False, default="")
    albedo_space: str = flax.struct.field(pytree_node=False, default="log")
    expression_kind: str = flax.struct.field(pytree_node=False, default="activations")

    @property
    def expression_bounds(self) -> tuple[float, float]:
        """What the numbers of an expression code lie between."""
        return _KINDS[self.expression_kind]

    @property
    def expression_unit(self) -> float:
        """The change of a number of an expression code that says as much as one of an activation by 1 (ours)."""
        return 1.0 if self.expression_kind == "activations" else 1 / _ACTIVE

    def decode(
        self, identity: Float[AnyArray, "*#batch k"], expression: Float[AnyArray, "*#batch E"] | None = None
    ) -> Float[Array, "*batch V 3"]:
        """Vertices [..., V, 3] in mm from codes [..., K'] and [..., E]; K' <= K uses the first K' components."""
        return linear_shape(self.mean, self.identity_basis, identity, self.expression_basis, expression)

    def albedo(self, code: Float[AnyArray, "*batch a"]) -> Float[Array, "*batch V 3"]:
        """Linear RGB albedo [..., V, 3] from codes [..., A'], positive where the space is "log"."""
        values = linear_shape(self.albedo_mean, self.albedo_basis, code)
        return jnp.exp(values) if self.albedo_space == "log" else values

    def landmarks(self, vertices: Vertices) -> Float[AnyArray, "*batch L 3"]:
        """The 68 landmarks [..., 68, 3] of decoded vertices [..., V, 3]."""
        return vertices[..., self.topology.landmarks, :]

    def save(self, path: str | os.PathLike, **extra: object) -> None:
        """Write one npz (written beside, then renamed). `extra` arrays are kept for other readers."""
        save_arrays(path, kind="gaussian", **model_arrays(self), **extra)

    @staticmethod
    def load(path: str | os.PathLike) -> "MorphableModel":
        """Read an npz written by `save`, or by SphereFaceModel.save.

        A Sphere Face Model becomes the Gaussian one of the same spread: its code is sqrt(d) * z, of which each number's
        standard deviation is one where z is uniform on the sphere of d dimensions.
        """
        arrays = load_arrays(path)
        model = model_from_arrays(path, arrays)
        if str(arrays.get("kind")) != "sphere":
            return model
        root = math.sqrt(len(model.identity_basis))
        return model.replace(identity_basis=model.identity_basis * radius_from_arrays(path, arrays) / root,
                             identity_sigma=model.identity_sigma / root)


def linear_shape(
    mean: Float[AnyArray, "*#batch V 3"], basis: Float[AnyArray, "K V 3"], code: Float[AnyArray, "*#batch k"],
    second_basis: Float[AnyArray, "E V 3"] | None = None, second_code: Float[AnyArray, "*#batch e"] | None = None,
) -> Float[Array, "*batch V 3"]:
    """mean [V, 3] + code [..., k] . basis[:k] (+ the same of a second basis) -> [..., V, 3]."""
    shape = mean + _combine(code, basis)
    return shape if second_code is None else shape + _combine(second_code, second_basis)


def _combine(code, basis):
    count, size = code.shape[-1], basis.shape[1:]
    if count > basis.shape[0]:
        raise ValueError(f"code: has {count} numbers, the basis has {basis.shape[0]} components")
    flat = matmul(code, basis[:count].reshape(count, math.prod(size)))
    return flat.reshape(code.shape[:-1] + size)


# ---------------------------------------------------------------------------------------------- files

def save_arrays(path: str | os.PathLike, **arrays: object) -> None:
    """np.savez_compressed, whole or not at all."""
    with atomic_write(path) as partial, open(partial, "wb") as file:
        np.savez_compressed(file, format=FORMAT, **arrays)


def load_arrays(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Every array of a model npz. ValueError, one line, for a missing, truncated, foreign or pickled file."""
    arrays = read_npz(path)
    found = str(arrays.get("format", "no 'format' key"))
    if found != FORMAT:
        raise ValueError(f"{path}: key 'format': found {one_line(found)!r}, expected {FORMAT!r}")
    return arrays


def model_arrays(model: MorphableModel) -> dict[str, np.ndarray]:
    arrays = {key: np.asarray(getattr(model, key)) for key in _ARRAYS}
    for field in dataclasses.fields(Topology):
        arrays[field.name] = np.asarray(getattr(model.topology, field.name))
    return arrays | {key: np.asarray(getattr(model, key), dtype=np.str_) for key in (*_TEXTS, "expression_kind")}


def model_from_arrays(path: str | os.PathLike, arrays: dict[str, np.ndarray]) -> MorphableModel:
    """Check and assemble a MorphableModel; errors name the file and the key."""
    for key in (*_ARRAYS, *(field.name for field in dataclasses.fields(Topology)), *_TEXTS):
        if key not in arrays:
            raise ValueError(f"{path}: key '{key}' is missing")
    values = {key: numbers(path, f"key '{key}'", arrays[key]) for key in _ARRAYS}
    for key, value in values.items():
        if not np.isfinite(value).all():
            raise ValueError(f"{path}: key '{key}': holds NaN or infinite numbers")
    vertices, names = len(values["mean"]) if values["mean"].ndim else 0, _names(path, arrays, "expression_names")
    shapes = {"mean": (vertices, 3), "identity_basis": ("K", vertices, 3), "albedo_mean": (vertices, 3),
              "expression_basis": (len(names), vertices, 3), "albedo_basis": ("A", vertices, 3),
              "identity_sigma": (values["identity_basis"].shape[:1] or (0,))}
    for key, shape in shapes.items():
        _check_shape(path, key, values[key], shape)
    space = str(arrays["albedo_space"])
    if space not in ("log", "linear"):
        raise ValueError(f"{path}: key 'albedo_space': found {one_line(space)!r}, expected 'log' or 'linear'")
    kind = str(arrays.get("expression_kind", "activations"))  # which older files do not say
    if kind not in _KINDS:
        raise ValueError(f"{path}: key 'expression_kind': found {one_line(kind)!r}, expected {' or '.join(_KINDS)}")
    return MorphableModel(
        expression_kind=kind,
        **{key: jnp.asarray(value, jnp.float32) for key, value in values.items()},
        topology=_topology(path, arrays, vertices), expression_names=names, albedo_space=space,
        **{key: str(texts(path, f"key '{key}'", arrays[key])) for key in ("name", "licence", "source")})


def radius_from_arrays(path: str | os.PathLike, arrays: dict[str, np.ndarray]) -> Float[Array, ""]:
    """The scalar radius of a SphereFaceModel's file. ValueError if it is missing or no radius."""
    radius = numbers(path, "key 'radius'", arrays.get("radius", ()))
    if radius.shape != () or not np.isfinite(radius) or radius <= 0:
        raise ValueError(f"{path}: key 'radius': expected one number above 0")
    return jnp.asarray(radius, jnp.float32)


def _topology(path, arrays, vertices):
    regions = _names(path, arrays, "region_names")
    uv = numbers(path, "key 'uv'", arrays["uv"])
    weights = numbers(path, "key 'regions'", arrays["regions"])
    _check_shape(path, "uv", uv, ("U", 2))
    _check_shape(path, "regions", weights, (len(regions), vertices))
    if not (np.isfinite(uv).all() and np.isfinite(weights).all()):
        raise ValueError(f"{path}: key 'uv' or 'regions': holds NaN or infinite numbers")
    indices = {}
    cut = len(arrays["triangles"]) if len(uv) and arrays["triangles"].ndim else "F"
    for key, shape, below in (("triangles", ("F", 3), vertices), ("uv_triangles", (cut, 3), len(uv)),
                              ("landmarks", ("L",), vertices), ("contour_lines", ("J", "L"), vertices),
                              ("symmetry", (vertices,), vertices)):
        found = integers(path, f"key '{key}'", arrays[key])
        _check_shape(path, key, found, shape)
        if found.size and (found.min() < 0 or found.max() >= below):
            raise ValueError(f"{path}: key '{key}': {found.min()}..{found.max()}, expected indices below {below}")
        indices[key] = found.astype(np.int32)
    return Topology(uv=uv, regions=weights, region_names=regions, **indices)


def _names(path, arrays, key):
    return tuple(np.ravel(texts(path, f"key '{key}'", arrays[key])).tolist())


def _check_shape(path, key, value, shape):
    """Letters are any number."""
    if value.ndim != len(shape) or any(have != want for have, want in zip(value.shape, shape, strict=True)
                                       if isinstance(want, int)):
        raise ValueError(f"{path}: key '{key}': shape {value.shape}, expected [{', '.join(map(str, shape))}]")
