"""Where identity codes live: on the unit sphere, near it, or in a Gaussian; and where learning from photos starts."""

import dataclasses

import numpy as np
from jaxtyping import Array, Float
from ml_collections import ConfigDict

from sfm_jax.array_types import AnyArray
from sfm_jax.geometry import sphere
from sfm_jax.morphable.model import MorphableModel
from sfm_jax.morphable.sphere_model import SphereFaceModel, is_sphere_model

SPHERES = ("hard", "soft", "gaussian")


@dataclasses.dataclass(frozen=True)
class StartBasis:
    """Where a run starts: mean [V, 3], basis [d, V, 3] mm, radius, and the code [d] of the mean face."""

    mean: Float[np.ndarray, "V 3"]
    basis: Float[np.ndarray, "d V 3"]
    radius: float
    code: Float[np.ndarray, " d"]


def check_sphere(kind: str) -> None:
    """ValueError unless `kind` is one of SPHERES."""
    if kind not in SPHERES:
        raise ValueError(f"sphere: found {kind!r}, expected one of {', '.join(SPHERES)}")


def code_and_direction(
    raw: Float[AnyArray, "*batch d"], kind: str
) -> tuple[Float[Array, "*batch d"], Float[Array, "*batch d"]]:
    """A network's numbers [..., d] -> (the code that the basis is multiplied with, its direction on the sphere)."""
    z = sphere.normalise(raw)
    return (z if kind == "hard" else raw), z


def start_basis(config: ConfigDict, model: MorphableModel, people: Float[np.ndarray, "P K"] | None) -> StartBasis:
    """The basis of `config.basis`, a model npz such as stage 1 writes; of the model itself where that is empty.

    The model's first components are lifted onto the sphere with a slack direction (tasks/sphere_basis.py), its radius
    from the codes of `people` [P, K], or of the Gaussian where there are none.

    Raises:
      ValueError: a basis of another mesh, or a Gaussian one where a sphere is asked for and the other way round.
    """
    check_sphere(config.sphere)
    if not config.basis:
        return _from_model(model, config.components, config.sphere, people)
    if not is_sphere_model(config.basis):
        if config.sphere != "gaussian":
            raise ValueError(f"basis: {config.basis} is a Gaussian model, but sphere is {config.sphere!r}; "
                             "expected sphere='gaussian' or a sphere basis, such as stage 1 writes")
        learned = MorphableModel.load(config.basis)
        basis, radius, code = learned.identity_basis, 1.0, np.zeros(len(learned.identity_basis), np.float32)
    else:
        if config.sphere == "gaussian":
            raise ValueError(f"basis: {config.basis} is a sphere basis, but sphere is 'gaussian'")
        found = SphereFaceModel.load(config.basis)
        learned, basis, radius = found.base, found.base.identity_basis, float(found.radius)
        code = _pole(found.dimension)
    if learned.mean.shape != model.mean.shape:
        raise ValueError(f"basis: {config.basis} has {len(learned.mean)} vertices, the model {len(model.mean)}")
    if not np.array_equal(learned.topology.triangles, model.topology.triangles):
        raise ValueError(f"basis: {config.basis} has other triangles than the model, so vertices do not correspond: "
                         "expected a basis learned on this model")
    return StartBasis(np.asarray(learned.mean), np.asarray(basis), radius, code)


def _from_model(model, components, kind, people):
    most = len(model.identity_basis) + (kind != "gaussian")
    if not 3 <= components <= most:
        raise ValueError(f"components: found {components}, expected 3 to {most} with this model")
    mean, basis = np.asarray(model.mean), np.asarray(model.identity_basis)
    if kind == "gaussian":
        return StartBasis(mean, basis[:components], 1.0, np.zeros(components, np.float32))
    used = components - 1
    lengths = np.sqrt(used) if people is None else np.linalg.norm(people[:, :used], axis=1)
    slack = np.zeros((1, *basis.shape[1:]), np.float32)
    return StartBasis(mean, np.concatenate([basis[:used], slack]), float(np.percentile(lengths, 95)),
                      _pole(components))


def _pole(dimension):
    """The slack direction: the last coordinate, which starts without geometry."""
    return np.eye(dimension, dtype=np.float32)[-1]
