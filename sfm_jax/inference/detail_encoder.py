"""From coarse faces in photos to detailed ones: the space of detail, the network in it, and what both make of a photo.

After Chen et al., "Self-Supervised Learning of Detailed 3D Face Reconstruction" (TIP 2020, arXiv 1910.11791); see
inference/detail.py.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray
from ml_collections import ConfigDict

from sfm_jax.array_types import AnyArray
from sfm_jax.inference.detail import CHANNELS, DenseFace, DetailSpace, of_each_photo
from sfm_jax.inference.face import Face
from sfm_jax.morphable.model import MorphableModel
from sfm_jax.networks.features import check_precision
from sfm_jax.networks.initial import first_variables
from sfm_jax.networks.unet import DisplacementNet
from sfm_jax.render.uv import map_to_vertices


class Detailed(NamedTuple):
    """Faces of photos (sRGB): the coarse face, its dense mesh, displacement in mm, moved vertices, and both as seen:
    coarse and fine are {"colour" over the photo, "normals", "depth", "alpha", "displacement", "free"}, images of the
    size of the photos."""

    photo: Float[AnyArray, "*batch S S 3"]
    face: Face
    base: DenseFace
    displacement: Float[AnyArray, "*batch U U"]
    vertices: Float[AnyArray, "*batch V 3"]
    coarse: dict
    fine: dict


class DetailEncoder:
    """A value made from a detail config (configs/detail.py) and its face model. params: the network's."""

    def __init__(self, config: ConfigDict, model: MorphableModel):
        """config: only what it says under "Network", and the model's name for errors, is read.

        Raises:
          ValueError: what DetailSpace refuses, one line that names the keys.
        """
        self.model, self.relight = model, config.relight
        try:
            self.space = DetailSpace(model, config.uv_size, config.image_size, config.direction, config.broadest)
        except ValueError as error:
            raise ValueError(f"model {config.model}, uv_size {config.uv_size}: {error}") from None
        self.network = DisplacementNet(config.limit, tuple(config.widths),
                                       dtype=jnp.dtype(check_precision(config.precision)))

    def init(self, rng: PRNGKeyArray) -> dict:
        """First parameters: a network that answers almost nothing."""
        size = self.space.uv_size
        return first_variables(self.network, rng, jnp.zeros((1, size, size, CHANNELS)))["params"]

    @jax.named_scope("network")
    def encode(
        self, params: dict, face: Face, images: Float[AnyArray, "B S S 3"],
        inside: Float[AnyArray, "B S S"] | None = None
    ) -> tuple[DenseFace, Float[Array, "B U U"], Float[Array, "B U U"]]:
        """Batched coarse faces in sRGB crops -> (their dense meshes, the texels that are visible, 0 or 1, and the
        network's displacement in mm before the mask). inside: of the crops, see DetailSpace.unwrap."""

        def look(one):
            face, photo, inside = one
            base = self.space.dense_face(face)
            seen = self.space.unwrap(face, base, photo, inside)
            if self.relight:
                base = self.space.relit(base, seen)
            return base, seen.visible.astype(jnp.float32), self.space.maps(face, base, seen)

        base, visible, maps = jax.lax.stop_gradient(of_each_photo(look, (face, images, inside)))
        return base, visible, self.network.apply({"params": params}, maps)

    def detailed(
        self, params: dict, face: Face, images: Float[AnyArray, "B S S 3"],
        inside: Float[AnyArray, "B S S"] | None = None
    ) -> Detailed:
        """The coarse faces in sRGB crops in [0, 1], detailed; to be called under jit. inside: as of `encode`."""
        space = self.space
        base, _, raw = self.encode(params, face, images, inside)
        displacement = space.fine_part(raw)
        free = map_to_vertices(jnp.asarray(space.mask)[..., None], space.dense)

        def see(one):
            base, displacement, photo = one
            offsets = map_to_vertices(displacement[..., None], space.dense)
            vertices = space.displaced(base, displacement)
            return vertices, *(_seen(space, base, shape, jnp.concatenate([offsets, free], 1), photo)
                               for shape in (base.vertices, vertices))

        vertices, coarse, fine = of_each_photo(see, (base, displacement, images))
        return Detailed(images, face, base, displacement, vertices, coarse, fine)


def _seen(space, base, vertices, layers, photo):
    shown = space.render(base, vertices, layers)
    return {"colour": space.over(shown, photo), "normals": shown.normals, "depth": shown.depth,
            "alpha": shown.colour[..., 3], "displacement": shown.colour[..., 4], "free": shown.colour[..., 5],
            "overflow": shown.overflow}
