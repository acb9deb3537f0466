"""The embedded face model: CC0, no download, no form. Two levels of detail, and a population of people.

Built by experiments/default_model/build.py from MakeHuman / MPFB2 and the Face Units pack, both CC0 1.0.
"""

import dataclasses
import functools
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import scipy.sparse
from jaxtyping import Float

from sfm_jax.morphable.model import MorphableModel, Topology, load_arrays

ASSET = Path(__file__).parent.parent / "assets" / "face_model.npz"
NAME = "sfm-jax default face"
LICENCE = "CC0-1.0"
SOURCE = ("MakeHuman / MPFB2 base mesh and targets, Face Units by Mika Suominen (both CC0 1.0); identities drawn from "
          "their targets, albedo procedural")


@dataclasses.dataclass(frozen=True)
class Population:
    """People as codes of the default model, in arrays of N rows. Not Gaussian: people are mixtures.

    identity [N, K] and albedo [N, A] in standard deviations; sex [N], 0 female to 1 male; age [N], about 0.2 a child,
    0.5 a young adult, 1 old; ancestry [N, 3], shares of MakeHuman's african, asian and caucasian sculpts.
    """

    identity: Float[np.ndarray, "*people K"]
    albedo: Float[np.ndarray, "*people A"]
    sex: Float[np.ndarray, "*people"] | np.floating
    age: Float[np.ndarray, "*people"] | np.floating
    ancestry: Float[np.ndarray, "*people 3"]

    def __len__(self):
        return len(self.identity)

    def __getitem__(self, rows) -> "Population":
        return Population(*(getattr(self, field.name)[rows] for field in dataclasses.fields(self)))


@functools.cache
def load_default(detail: int = 0) -> MorphableModel:
    """The default face: detail 0 has 3642 vertices, detail 1 has 14403 (one Catmull-Clark step of the same face).

    The vertices of detail 0 are the first ones of detail 1, for every code. 120 identity components, 51 ARKit
    expressions by name (mouthClose only makes sense together with jawOpen), 24 components of log albedo.
    """
    if detail not in (0, 1):
        raise ValueError(f"detail: found {detail!r}, expected 0 or 1")
    arrays = _asset()
    topology = _topology(arrays, detail)
    count = topology.regions.shape[1]
    control = arrays["mean_control"].shape[0]
    refine = scipy.sparse.csr_matrix(
        (arrays["subdivision_data"], arrays["subdivision_indices"], arrays["subdivision_indptr"]),
        shape=(arrays["regions"].shape[1], control))[:count]

    def refined(columns):
        columns = np.asarray(columns, np.float32).reshape(-1, control, 3)
        fine = refine @ columns.transpose(1, 0, 2).reshape(control, -1)
        return np.ascontiguousarray(fine.reshape(count, -1, 3).transpose(1, 0, 2))

    identity = refined(arrays["identity_control"])
    return MorphableModel(
        mean=jnp.asarray(refined(arrays["mean_control"])[0]),
        identity_basis=jnp.asarray(identity),
        # Of all vertices: the asset's own deviations weigh the face more, by which the components were found.
        identity_sigma=jnp.asarray(np.sqrt(np.mean(np.sum(identity**2, -1), -1))),
        expression_basis=jnp.asarray(refined(arrays["expression_control"])),
        albedo_mean=jnp.asarray(arrays["albedo_mean"][:count], jnp.float32),
        albedo_basis=jnp.asarray(arrays["albedo_basis"][:, :count], jnp.float32),
        topology=topology, expression_names=tuple(str(name) for name in arrays["expression_names"]),
        name=f"{NAME}, detail {detail}", licence=LICENCE, source=SOURCE, albedo_space="log")


@functools.cache
def load_population() -> Population:
    """The people that come with the default face."""
    arrays = _asset()
    return Population(*(np.asarray(arrays[f"population_{field.name}"], np.float32)
                        for field in dataclasses.fields(Population)))


def sample_population(rng: np.random.Generator, count: int, population: Population | None = None) -> Population:
    """`count` people drawn with replacement: the way to random faces that look like people."""
    population = load_population() if population is None else population
    return population[rng.integers(len(population), size=count)]


@functools.cache
def _asset():
    return load_arrays(ASSET)


def _topology(arrays, detail):
    triangles = arrays[f"triangles_{detail}"]
    count = int(triangles.max()) + 1
    return Topology(
        triangles=triangles, uv=arrays[f"uv_{detail}"], uv_triangles=arrays[f"uv_triangles_{detail}"],
        landmarks=arrays[f"landmarks_{detail}"], contour_lines=arrays[f"contour_lines_{detail}"],
        region_names=tuple(str(name) for name in arrays["region_names"]),
        regions=np.ascontiguousarray(arrays["regions"][:, :count]), symmetry=arrays[f"symmetry_{detail}"])
