"""The Sphere Face Model: a linear face whose identity code is a unit vector.

After Jiang et al. 2023 ("Sphere Face Model: A 3D morphable model with hypersphere manifold latent space using
joint 2D/3D training", CVM 9(2), arXiv 2112.02238). The learned radius is ours: vertices = mean + r z . B + e . E
with |z| = 1, so that the same z feeds the cosine logits of recognition and the geometry.
"""

import os

import flax.struct
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from sfm_jax.array_types import AnyArray, Number, Numbers, Vertices
from sfm_jax.geometry import sphere
from sfm_jax.morphable.model import (
    MorphableModel,
    Topology,
    linear_shape,
    load_arrays,
    model_arrays,
    model_from_arrays,
    radius_from_arrays,
    save_arrays,
)


@flax.struct.dataclass
class SphereFaceModel:
    """base: the model it was learned on, its identity_basis replaced by the learned one [d, V, 3] in mm;
    radius: scalar, so that codes are radius * z."""

    base: MorphableModel
    radius: Number

    @property
    def dimension(self) -> int:
        """The number of coordinates d of the unit identity vector."""
        return self.base.identity_basis.shape[0]

    @property
    def topology(self) -> Topology:
        return self.base.topology

    def decode(
        self, identity: Float[AnyArray, "*#batch d"], expression: Float[AnyArray, "*#batch E"] | None = None
    ) -> Float[Array, "*batch V 3"]:
        """Vertices [..., V, 3] in mm from unit identity vectors [..., d] and expression codes [..., E]."""
        model = self.base
        return linear_shape(model.mean, model.identity_basis, self.radius * identity,
                            model.expression_basis, expression)

    def albedo(self, code: Float[AnyArray, "*batch a"]) -> Float[Array, "*batch V 3"]:
        """Linear RGB albedo [..., V, 3]."""
        return self.base.albedo(code)

    def landmarks(self, vertices: Vertices) -> Float[AnyArray, "*batch L 3"]:
        """The 68 landmarks [..., 68, 3]."""
        return self.base.landmarks(vertices)

    def sample(self, rng: PRNGKeyArray, count: int) -> Float[Array, "{count} d"]:
        """Uniform identities [count, d]."""
        return sphere.sample_uniform(rng, (count, self.dimension))

    def sample_near(
        self, rng: PRNGKeyArray, identity: Float[AnyArray, " d"], concentration: Number, count: int
    ) -> Float[Array, "{count} d"]:
        """Identities [count, d] around one person, von Mises-Fisher with the given concentration."""
        return sphere.sample_von_mises_fisher(rng, identity, concentration, count)

    def interpolate(
        self, a: Float[AnyArray, "*batch d"], b: Float[AnyArray, "*batch d"], t: Numbers
    ) -> Float[Array, "*points d"]:
        """Identity at fraction t of the geodesic between two people; t as of `geometry.sphere.slerp`."""
        return sphere.slerp(a, b, t)

    def save(self, path: str | os.PathLike, **extra: object) -> None:
        """Write one npz; `MorphableModel.load` reads it too, as a Gaussian model of the same spread."""
        save_arrays(path, kind="sphere", radius=np.asarray(self.radius), **model_arrays(self.base), **extra)

    @staticmethod
    def load(path: str | os.PathLike) -> "SphereFaceModel":
        """Read an npz written by `save`. ValueError if the file holds a Gaussian model."""
        arrays = load_arrays(path)
        if str(arrays.get("kind")) != "sphere":
            raise ValueError(f"{path}: key 'kind': found {str(arrays.get('kind'))!r}, expected 'sphere'")
        return SphereFaceModel(base=model_from_arrays(path, arrays), radius=radius_from_arrays(path, arrays))


def is_sphere_model(path: str | os.PathLike) -> bool:
    """Does a model npz hold a SphereFaceModel? ValueError where it is no model npz."""
    return str(load_arrays(path).get("kind")) == "sphere"
