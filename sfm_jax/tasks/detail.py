"""Detail: displacement maps learned from the photo itself, on top of a coarse network that does not learn.

After Chen et al., "Self-Supervised Learning of Detailed 3D Face Reconstruction" (TIP 2020, arXiv 1910.11791). No true
detail is seen: the coarse face, moved by the map, is to look like the photo (inference/detail.py, losses/detail.py).
"""

import jax
import jax.numpy as jnp

from sfm_jax.data.crop import within_edges
from sfm_jax.data.mixture import Mixture, SyntheticPart
from sfm_jax.geometry.adjacency import face_table, neighbour_table
from sfm_jax.geometry.mesh import triangle_normals, vertex_normals
from sfm_jax.geometry.products import matmul
from sfm_jax.geometry.vector import normalise
from sfm_jax.inference.default_encoder import load_default_encoder
from sfm_jax.inference.detail import DenseFace, of_each_photo
from sfm_jax.inference.detail_encoder import DetailEncoder
from sfm_jax.inference.face import Face
from sfm_jax.losses import detail as losses
from sfm_jax.losses.image import colour_distance, masked_image_mean
from sfm_jax.render import Rendering
from sfm_jax.tasks import photo_data
from sfm_jax.tasks.finished import file_sources, load_encoder, open_model
from sfm_jax.tasks.photo_terms import resize, total_overflow
from sfm_jax.training.task import Aux


class Detail:
    """The task (see training/task.py), a value made from the config of configs/detail.py."""

    def __init__(self, config):
        self.config = config
        self.coarse, *self._learned = (load_default_encoder(config.detail) if config.coarse == "default"
                                       else load_encoder(config.coarse, "coarse"))
        self.model = open_model(config)
        if self.model.topology != self.coarse.model.topology:
            raise ValueError(f"coarse: {config.coarse}: is of model {self.coarse.model.name!r}, expected "
                             f"{self.model.name!r}, as model and detail say")
        self.encoder = DetailEncoder(config, self.model)
        self.space = self.encoder.space
        self.people = photo_data.split_people(config, self.model)
        self.mixture: Mixture = photo_data.training_mixture(config, self.model, self.people.train)
        self.sources = file_sources(config, "model") | self.mixture.sources()
        if not 0 <= config.data.true_shapes <= 1:
            raise ValueError(f"data.true_shapes: found {config.data.true_shapes}, expected a share, 0 to 1")
        # For the report: photos that are not there are missed before training, not after it.
        self.shown = photo_data.shown_photos(config, self.model) if config.data.shown else None
        part = self.mixture.part("all")
        self.photos = part.photos if isinstance(part, SyntheticPart) else None
        self.neighbours = neighbour_table(self.space.dense.triangles, self.space.dense.vertex_count)
        self.face_neighbours = face_table(self.space.dense.triangles)

    # ------------------------------------------------------------------------------------------ training

    def dataset(self, batch_size: int, seed: int):
        """Endless batches {part: ...} for this process (data/mixture.py)."""
        return self.mixture.dataset(batch_size, seed)

    def init(self, rng: jax.Array, batch: dict):
        """A network that answers almost nothing; the coarse one is state, so that a checkpoint is whole."""
        del batch
        params, state = self._learned
        return self.encoder.init(rng), {"coarse": {"params": params, "state": state}}

    def param_labels(self, params: dict) -> dict:
        """One learning rate for all."""
        return jax.tree.map(lambda _: "network", params)

    def loss(self, params: dict, state: dict, batch: dict, rng: jax.Array) -> tuple[jax.Array, Aux]:
        """Sum of the weighted terms of one device's photos; every term is a metric too."""
        del rng
        record = jax.lax.stop_gradient(self.mixture.records(batch, surface=True))
        face = self.coarse_face(state, record["image"])
        if self.photos is not None and self.config.data.true_shapes > 0:
            face = self._some_true(face, batch["all"]["id"])
        known = within_edges(record["edges"], self.config.image_size)
        base, visible, raw = self.encoder.encode(params, face, record["image"], known)
        parts = base, visible, raw, record["image"], known, record["normals"]
        values, overflow = of_each_photo(lambda one: self._terms(*one), parts)
        values = jax.tree.map(jnp.mean, values)
        total = sum(self.config.loss[name] * value for name, value in values.items())
        return total, Aux(metrics=values | {"overflow": total_overflow(overflow)}, state=state)

    def _some_true(self, face: Face, ids: jax.Array) -> Face:
        """The faces in the photos `ids`, those of a share of the photos replaced by the true ones without wrinkles."""
        keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(self.config.seed), ids)
        chosen = jax.vmap(lambda key: jax.random.bernoulli(key, self.config.data.true_shapes))(keys)
        true = photo_data.true_face(self.photos, self.photos.scenes(ids))
        face = face._replace(camera=face.camera.from_afar())
        return jax.tree.map(lambda a, b: jnp.where(chosen.reshape(-1, *[1] * (a.ndim - 1)), a, b), true, face)

    @jax.named_scope("losses")
    def _terms(self, base: DenseFace, visible: jax.Array, raw: jax.Array, photo: jax.Array, known: jax.Array,
               true: jax.Array):
        """({name: value} of the terms weighed above 0 of one photo, the renderer's overflow)."""
        displacement = self.space.fine_part(raw)
        vertices = self.space.displaced(base, displacement)
        shown = self.space.render(base, vertices)
        normals = vertex_normals(vertices, self.space.dense.triangles)
        terms = (self._pictures(shown, photo, known, true) | self._surfaces(vertices, normals)
                 | self._maps(base, vertices, normals, visible, raw, displacement))
        used = {name: term() for name, term in terms.items() if self.config.loss[name] > 0}
        return used, shown.overflow

    def _pictures(self, shown: Rendering, photo: jax.Array, known: jax.Array, true: jax.Array):
        """What is compared pixel by pixel, on the skin: colours where there is a photo, and normals where the true ones
        are known."""
        skin = jax.lax.stop_gradient(shown.colour[..., 3])

        def look_alike():
            return masked_image_mean(colour_distance(self.space.over(shown, photo), photo), skin * known)

        return {"photo": look_alike, "true_normals": lambda: losses.normal_distance(shown.normals, true, skin)}

    def _maps(self, base: DenseFace, vertices: jax.Array, normals: jax.Array, visible: jax.Array, raw: jax.Array,
              displacement: jax.Array):
        """What keeps the map small; depth and normals are compared vertex by vertex, in the camera's axes.

        "displacement" is of what the network says, broad parts included: where nothing holds these, they grow to the
        limit, beyond which nothing is learned any more.
        """
        moved = matmul(vertices - base.vertices, base.camera.rotation[2])
        tilted = normals - base.normals
        free = (jnp.asarray(self.space.mask) > 0).astype(jnp.float32)
        everywhere = jnp.ones(())
        return {
            "displacement": lambda: losses.capped_square(raw, free),
            "depth": lambda: losses.capped_square(moved, everywhere),
            "protected": lambda: losses.capped_square(raw, self.space.protected),
            "normal": lambda: losses.capped_square(tilted, everywhere),
            "map": lambda: losses.map_roughness(displacement, free),
            "hidden": lambda: losses.capped_square(displacement, free * (1 - visible)),
        }

    def _surfaces(self, vertices: jax.Array, normals: jax.Array):
        """Smoothness of the dense surface."""
        zone, triangles = self.config.dead_zone, self.space.dense.triangles
        return {
            "vertices": lambda: losses.roughness(vertices, self.neighbours, zone.vertices),
            "vertex_normals": lambda: losses.roughness(normals, self.neighbours, zone.vertex_normals),
            "triangle_normals": lambda: losses.roughness(
                normalise(triangle_normals(vertices, triangles)), self.face_neighbours, zone.triangle_normals),
        }

    # ---------------------------------------------------------------------------------------- prediction

    def coarse_face(self, state: dict, images: jax.Array) -> Face:
        """What the coarse network makes of sRGB crops [B, S, S, 3], as faces in those crops."""
        coarse = state["coarse"]
        prediction, _ = self.coarse.predict(coarse["params"], coarse["state"],
                                            resize(images, self.coarse.image_size))
        return jax.lax.stop_gradient(self.coarse.decoder(coarse["params"])(prediction.codes, images.shape[1]))

    def finish(self, params: dict, state: dict, workdir, run) -> dict:
        """Measure on held-out people with known wrinkles, write the report and some faces; returns the numbers."""
        from sfm_jax.tasks.detail_report import write_report

        return write_report(self, params, state, workdir, run)
