"""Synthetic photos: people of a face model, such as the embedded population, rendered with every label known.

An endless, deterministic source: photo number i of a seed is always the same photo, to rounding, on any device and in
any batch. Photos are made on the device that trains on them, in batches, by our own renderer; nothing is read from a
disk.
"""

import jax
import jax.numpy as jnp
import numpy as np

from sfm_jax.data import backdrop, damage
from sfm_jax.data.crop import landmark_box
from sfm_jax.data.scene import Conditions, Scene, Scenes
from sfm_jax.data.wrinkles import WrinkledSkin
from sfm_jax.geometry.camera import Perspective
from sfm_jax.geometry.products import matmul
from sfm_jax.geometry.rotation import rotation_from_euler
from sfm_jax.morphable.default import Population
from sfm_jax.morphable.model import MorphableModel
from sfm_jax.render import SphericalHarmonics, render, suggest_caps, surface
from sfm_jax.render.visibility import fastest_backend

_CAPS_YAWS = np.linspace(-100, 100, 9)


class SyntheticPhotos:
    """Photos of `people` (codes of `model`): photo i shows person i mod P; all else is drawn from (seed, i)."""

    def __init__(self, model: MorphableModel, people: Population, size: int, conditions: Conditions, seed: int,
                 skin: WrinkledSkin | None = None):
        """skin: what is seen of a face; None: the model's own mesh, smooth."""
        self.model, self.size, self.conditions, self.seed = model, size, conditions, seed
        self.persons = len(people.identity)
        self.people, self._skin = people, skin
        self._scenes = Scenes(model, people, conditions, seed)
        self._surface = surface(skin.triangles if skin else model.topology.triangles)
        regions = model.topology.region_names
        self._hair = model.topology.region("scalp") if "scalp" in regions else np.zeros(len(model.mean), np.float32)
        self._caps = self._capacities()

    def __call__(self, ids: jax.Array) -> dict[str, jax.Array]:
        """The photos `ids` [B] int32 and all their labels, to be called under jit; see `shoot`."""
        return self.shoot(self.scenes(ids))

    def labels(self, length: int) -> np.ndarray:
        """The person [length] of the first photos."""
        return np.arange(length, dtype=np.int32) % self.persons

    def scenes(self, ids: jax.Array) -> Scene:
        """What the photos `ids` [B] int32 show, batched: to be changed where less is to be left to chance."""
        return self._scenes(ids)

    def shoot(self, scenes: Scene) -> dict[str, jax.Array]:
        """The photos of batched scenes.

        A photo record (data/photos.py), the image as float32 sRGB in [0, 1], and more:
            albedo        [B, A] code
            light         [B, 9, 3] spherical harmonics
            pose          [B, 3] degrees: yaw, pitch, roll
            mask          [B, S, S] in [0, 1]: the face where nothing stands before it
            depth         [B, S, S] mm along the viewing axis, 0 on the background
            normals       [B, S, S, 3] unit, in camera axes, 0 on the background
            displacement  [B, S, S] mm, of the wrinkles that are seen, 0 where there are none
            landmarks_3d  [B, 68, 3] mm, turned into camera axes, their mean at the origin
            overflow      [B] int32: what the renderer lost; 0 (see render.check_overflow)
        """
        return jax.vmap(self._shoot)(scenes)

    def faces(self, scenes: Scene) -> tuple[jax.Array, Perspective, jax.Array]:
        """Of the faces in batched scenes the vertices [B, V, 3] mm, without wrinkles, the cameras that see them, and
        the landmarks [B, 68, 2] px."""

        def one(scene):
            vertices = self.model.decode(scene.identity, scene.expression)
            return vertices, *self._camera(scene, vertices, rotation_from_euler(scene.pose))

        return jax.vmap(one)(scenes)

    def _shoot(self, scene):
        model, c, size = self.model, self.conditions, self.size
        vertices = model.decode(scene.identity, scene.expression)
        rotation = rotation_from_euler(scene.pose)
        camera, landmarks = self._camera(scene, vertices, rotation)
        behind = self._behind(scene.surroundings, camera, vertices, landmarks)
        surface, layers = self._surface_of(scene, vertices)
        seen = render(surface, self._surface, camera, (size, size), light=SphericalHarmonics(scene.light),
                      albedo=layers, background=jnp.pad(behind, ((0, 0), (0, 0), (0, layers.shape[1] - 3))),
                      edge_width=1.0, caps=self._caps, cull=True)
        picture, mask = seen.colour[..., :3], seen.alpha
        if c.occluders:
            for colour, cover in zip(*backdrop.occluders(jax.random.fold_in(scene.surroundings, 1), size, c.occluders),
                                     strict=True):
                picture, mask = picture + cover[..., None] * (colour - picture), mask * (1 - cover)
        image = damage.photograph(scene.damage, picture, c.damage)
        if c.grey:
            image = damage.black_and_white(jax.random.fold_in(scene.damage, 1), image, c.grey)
        turned = matmul(model.landmarks(vertices), rotation.T)
        return {
            "image": image,
            "person": scene.label.astype(jnp.int32),
            "landmarks": landmarks, "landmark_mask": jnp.ones(68),
            "rotation": rotation, "rotation_mask": jnp.ones(()),
            "identity": scene.identity, "expression": scene.expression, "codes_mask": jnp.ones(()),
            "edges": jnp.zeros((4, 3)), "id": scene.index.astype(jnp.int32),
            "albedo": scene.albedo, "light": scene.light, "pose": scene.pose, "mask": mask, "depth": seen.depth,
            "normals": seen.normals,
            "displacement": seen.colour[..., 3] if self._skin else jnp.zeros((size, size)),
            "landmarks_3d": turned - turned.mean(0), "overflow": seen.overflow,
        }

    def _surface_of(self, scene, vertices):
        """What is rendered of a face: vertices, and linear RGB, with the displacement where there are wrinkles."""
        albedo = self._albedo(scene)
        if self._skin is None:
            return vertices, albedo
        surface, albedo, displacement = self._skin(vertices, albedo, scene.person,
                                                   jnp.asarray(self.people.age)[scene.person])
        return surface, jnp.concatenate([albedo, displacement[:, None]], 1)

    def _albedo(self, scene):
        """Linear RGB [V, 3] of the person, with hair on the scalp."""
        skin = self.model.albedo(scene.albedo)
        return skin + self._hair[:, None] * scene.hair[3] * (scene.hair[:3] - skin)

    def _camera(self, scene, vertices, rotation):
        """A perspective camera that shows the landmarks as a cropped photo would, and the landmarks in it [68, 2]."""
        points = self.model.landmarks(vertices)
        offset = -matmul(rotation, points.mean(0)) - jnp.array([0.0, 0.0, 1.0]) * scene.distance
        wide = Perspective(rotation, offset, jnp.ones(()), jnp.zeros(2))
        centre, side = landmark_box(wide.project(points)[:, :2])
        side = side * (1 + scene.zoom)
        centre = centre + side * scene.where
        camera = wide.crop(centre - side / 2, self.size / side)
        return camera, camera.project(points)[:, :2]

    def _behind(self, key, camera, vertices, landmarks):
        lowest = camera.project(vertices[jnp.argmin(self.model.mean[:, 1])][None])[0, :2]
        width = jnp.max(landmarks[:, 0]) - jnp.min(landmarks[:, 0])
        return backdrop.behind(key, self.size, lowest, jnp.maximum(width, 20.0))

    def _capacities(self):
        """The renderer's, from the mean face at the crop's closest in every yaw; expressions fit in the margin."""
        mean = self.model.mean
        # Wrinkles have edges of their own.
        shown = self._skin(mean, mean, jnp.int32(0), jnp.float32(1.0))[0] if self._skin else mean

        def camera(yaw):
            rotation = rotation_from_euler(jnp.stack([yaw, jnp.zeros(()), jnp.zeros(())]))
            points = self.model.landmarks(mean)
            offset = -matmul(rotation, points.mean(0)) - jnp.array([0.0, 0.0, 1.0]) * self.conditions.distance[0]
            wide = Perspective(rotation, offset, jnp.ones(()), jnp.zeros(2))
            centre, side = landmark_box(wide.project(points)[:, :2])
            side = side * (1 - self.conditions.scale)
            return wide.crop(centre - side / 2, self.size / side)

        cameras = jax.jit(jax.vmap(camera))(jnp.asarray(_CAPS_YAWS, jnp.float32))
        margin = 2.0 if self._skin else 1.5
        return suggest_caps(shown, self._surface, (self.size, self.size), 1.0, cameras, cull=True, margin=margin,
                        backend=fastest_backend())
