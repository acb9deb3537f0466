"""Synthetic photos: people of a face model, such as the embedded population, rendered with every label known.

An endless, deterministic source: photo number i of a seed is always the same photo, on any device and in any batch.
Photos are made on the device that trains on them, in batches, by our own renderer; nothing is read from a disk.
Every range below is ours: wide enough to train on, not measured on a real collection.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sfm_jax.data import backdrop, damage
from sfm_jax.data.crop import landmark_box
from sfm_jax.data.wrinkles import WrinkledSkin
from sfm_jax.geometry.camera import Perspective
from sfm_jax.geometry.rotation import rotation_from_euler
from sfm_jax.morphable.default import Population
from sfm_jax.morphable.model import MorphableModel
from sfm_jax.render import SphericalHarmonics, render, suggest_caps, surface
from sfm_jax.render.visibility import fastest_backend

# Constants of the nine real spherical harmonics, in the order of render.harmonics.
_HARMONIC = np.array([0.282095, 0.488603, 0.488603, 0.488603, 0.315392, 1.092548, 1.092548, 0.546274, 1.092548])
_CAPS_YAWS = np.linspace(-100, 100, 9)
_SIDES = (("Right", "Left"), ("_R", "_L"))  # endings of expressions' names, by ARKit and by FaceKit


@dataclasses.dataclass(frozen=True)
class Conditions:
    """How photos differ. Angles in degrees.

    yaw: half of the photos spread evenly to +-yaw, half are near frontal (normal, a third of it); pitch, roll:
    standard deviations; expression: mean activation of an active unit, of which `active` are expected a photo;
    distance: range in mm of the camera, log-uniform (near ones distort); scale, shift: of the crop, as shares of its
    side, uniform; occluders: probability of each of two; damage: strength of exposure, blur, noise and compression;
    grey: probability of a black-and-white photo.
    """

    yaw: float = 90.0
    pitch: float = 10.0
    roll: float = 10.0
    expression: float = 0.4
    active: float = 6.0
    distance: tuple[float, float] = (350.0, 2500.0)
    scale: float = 0.12
    shift: float = 0.06
    occluders: float = 0.25
    damage: float = 1.0
    grey: float = 0.0


class Scene(NamedTuple):
    """What a photo shows. Of a batch every field has a leading dimension.

    index, person []; identity, albedo, expression: codes; hair [4]: linear RGB and how much; pose [3] degrees: yaw,
    pitch, roll; light [9, 3]; distance [] mm of the camera; zoom [], where [2]: of the crop, shares of its side;
    surroundings, damage: random keys.
    """

    index: jax.Array
    person: jax.Array
    identity: jax.Array
    albedo: jax.Array
    hair: jax.Array
    expression: jax.Array
    pose: jax.Array
    light: jax.Array
    distance: jax.Array
    zoom: jax.Array
    where: jax.Array
    surroundings: jax.Array
    damage: jax.Array


class SyntheticPhotos:
    """Photos of `people` (codes of `model`): photo i shows person i mod P; all else is drawn from (seed, i)."""

    def __init__(self, model: MorphableModel, people: Population, size: int, conditions: Conditions, seed: int,
                 skin: WrinkledSkin | None = None):
        """skin: what is seen of a face; None: the model's own mesh, smooth."""
        self.model, self.size, self.conditions, self.seed = model, size, conditions, seed
        self.persons = len(people.identity)
        self.people, self._skin = people, skin
        self._surface = surface(skin.triangles if skin else model.topology.triangles)
        self._partner = _partners(model.expression_names)
        self._allowed = np.array([name != "mouthClose" for name in model.expression_names], np.float32)
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
        return jax.vmap(self._scene)(ids)

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

    def _scene(self, index):
        c = self.conditions
        key = jax.random.fold_in(jax.random.key(self.seed), index)
        pose_key, face_key, light_key, camera_key, scene_key, damage_key = jax.random.split(key, 6)
        person = index % self.persons
        far, zoom, where = jax.random.split(camera_key, 3)
        low, high = np.log(c.distance[0]), np.log(c.distance[1])
        return Scene(
            index=index, person=person, identity=jnp.asarray(self.people.identity)[person],
            albedo=jnp.asarray(self.people.albedo)[person], hair=_hair(jax.random.fold_in(face_key, 1)),
            expression=self._expression(face_key), pose=self._pose(pose_key), light=_light(light_key),
            distance=jnp.exp(jax.random.uniform(far, minval=low, maxval=high)),
            zoom=jax.random.uniform(zoom, minval=-c.scale, maxval=c.scale),
            where=jax.random.uniform(where, (2,), minval=-c.shift, maxval=c.shift),
            surroundings=scene_key, damage=damage_key)

    def _shoot(self, scene):
        model, c, size = self.model, self.conditions, self.size
        vertices = model.decode(scene.identity, scene.expression)
        rotation = rotation_from_euler(scene.pose)
        camera, landmarks = self._camera(scene, vertices, rotation)
        behind = self._background(scene.surroundings, camera, vertices, landmarks)
        surface, layers = self._surface_of(scene, vertices)
        seen = render(surface, self._surface, camera, (size, size), light=SphericalHarmonics(scene.light),
                      albedo=layers, background=jnp.pad(behind, ((0, 0), (0, 0), (0, layers.shape[1] - 3))),
                      edge_width=1.0, caps=self._caps, cull=True)
        picture, mask = seen.colour[..., :3], seen.alpha
        for one in jax.random.split(jax.random.fold_in(scene.surroundings, 1), 2) if c.occluders else ():
            colour, cover = backdrop.occluder(one, size, c.occluders)
            picture, mask = picture + cover[..., None] * (colour - picture), mask * (1 - cover)
        image = damage.photograph(scene.damage, picture, c.damage)
        if c.grey:
            image = damage.black_and_white(jax.random.fold_in(scene.damage, 1), image, c.grey)
        turned = model.landmarks(vertices) @ rotation.T
        return {
            "image": image,
            "person": scene.person.astype(jnp.int32),
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

    def _pose(self, key):
        c = self.conditions
        wide, even, normal = jax.random.split(key, 3)
        yaw = jnp.where(jax.random.bernoulli(wide), jax.random.uniform(even, minval=-c.yaw, maxval=c.yaw),
                        c.yaw / 3 * jax.random.normal(jax.random.fold_in(normal, 0)))
        pitch, roll = jax.random.normal(normal, (2,)) * jnp.array([c.pitch, c.roll])
        return jnp.stack([jnp.clip(yaw, -c.yaw, c.yaw), jnp.clip(pitch, -35, 35), jnp.clip(roll, -45, 45)])

    def _expression(self, key):
        """A few active units; most of the time the two sides of a face do the same. Statistical ones: normal."""
        c, count = self.conditions, len(self._partner)
        active, strength, even = jax.random.split(key, 3)
        if self.model.expression_kind == "statistical":
            usual = c.expression / Conditions.expression
            return jnp.clip(usual * jax.random.normal(strength, (count,)), *self.model.expression_bounds)
        # The sum of two exponentials is a gamma variable; jax.random.gamma samples by rejection, in slow loops.
        code = jnp.minimum(c.expression / 2 * jax.random.exponential(strength, (2, count)).sum(0), 1.0)
        code = jnp.where(jax.random.bernoulli(active, min(c.active / max(count, 1), 1.0), (count,)), code, 0.0)
        code = code * self._allowed
        return jnp.where(jax.random.bernoulli(even, 0.8), code[self._partner], code)

    def _albedo(self, scene):
        """Linear RGB [V, 3] of the person, with hair on the scalp."""
        skin = self.model.albedo(scene.albedo)
        return skin + self._hair[:, None] * scene.hair[3] * (scene.hair[:3] - skin)

    def _camera(self, scene, vertices, rotation):
        """A perspective camera that shows the landmarks as a cropped photo would, and the landmarks in it [68, 2]."""
        points = self.model.landmarks(vertices)
        offset = -rotation @ points.mean(0) - jnp.array([0.0, 0.0, 1.0]) * scene.distance
        wide = Perspective(rotation, offset, jnp.ones(()), jnp.zeros(2))
        centre, side = landmark_box(wide.project(points)[:, :2])
        side = side * (1 + scene.zoom)
        centre = centre + side * scene.where
        camera = wide.crop(centre - side / 2, self.size / side)
        return camera, camera.project(points)[:, :2]

    def _background(self, key, camera, vertices, landmarks):
        picture, body = jax.random.split(key)
        lowest = camera.project(vertices[jnp.argmin(self.model.mean[:, 1])][None])[0, :2]
        width = jnp.max(landmarks[:, 0]) - jnp.min(landmarks[:, 0])
        return backdrop.with_shoulders(body, backdrop.texture(picture, self.size), lowest, jnp.maximum(width, 20.0))

    def _capacities(self):
        """The renderer's, from the mean face at the crop's closest in every yaw; expressions fit in the margin."""
        mean = self.model.mean
        # Wrinkles have edges of their own.
        shown = self._skin(mean, mean, jnp.int32(0), jnp.float32(1.0))[0] if self._skin else mean

        def camera(yaw):
            rotation = rotation_from_euler(jnp.stack([yaw, jnp.zeros(()), jnp.zeros(())]))
            points = self.model.landmarks(mean)
            offset = -rotation @ points.mean(0) - jnp.array([0.0, 0.0, 1.0]) * self.conditions.distance[0]
            wide = Perspective(rotation, offset, jnp.ones(()), jnp.zeros(2))
            centre, side = landmark_box(wide.project(points)[:, :2])
            side = side * (1 - self.conditions.scale)
            return wide.crop(centre - side / 2, self.size / side)

        cameras = jax.jit(jax.vmap(camera))(jnp.asarray(_CAPS_YAWS, jnp.float32))
        margin = 2.0 if self._skin else 1.5
        return suggest_caps(shown, self._surface, (self.size, self.size), 1.0, cameras, cull=True, margin=margin,
                        backend=fastest_backend())


def _hair(key):
    """Of some colour, or none: linear RGB and 0 or 1, [4]."""
    bald, grey, dark, shade = jax.random.split(key, 4)
    colour = jnp.where(jax.random.bernoulli(grey, 0.2), jnp.array([0.45, 0.43, 0.4]), jnp.array([0.3, 0.17, 0.07]))
    colour = colour * jnp.exp(-2.5 * jax.random.uniform(dark)) * jnp.exp(0.1 * jax.random.normal(shade, (3,)))
    return jnp.append(colour, jax.random.bernoulli(bald, 0.85).astype(jnp.float32))


def _light(key):
    """Spherical harmonics [9, 3] of a sky and two distant lights; a frontal grey face comes out mid-bright."""
    level, share, where, tint = jax.random.split(key, 4)
    total = jax.random.uniform(level, minval=0.5, maxval=1.1)
    weights = jax.random.exponential(share, (3,)) + jnp.array([0.5, 0.3, 0.0])
    weights = weights / weights.sum()
    # Lights come from all sides of the viewer's half, seldom from below.
    x, y, z = jnp.moveaxis(jax.random.normal(where, (2, 3)) + jnp.array([0.0, 0.6, 1.0]), -1, 0)
    length = jnp.sqrt(x * x + y * y + z * z + 1e-6)
    x, y, z = x / length, y / length, z / length
    basis = jnp.stack([jnp.ones_like(x), z, x, y, 3 * z * z - 1, x * z, y * z, x * x - y * y, x * y], -1) * _HARMONIC
    colours = 1 + 0.12 * jax.random.normal(tint, (3, 3))
    sky = jnp.zeros(9).at[0].set(1 / 0.886227)[:, None] * colours[0]
    # A distant light from l shows a surface facing n as harmonics(n) . Y(l), nearly max(n.l, 0): Lambert in 9 numbers.
    lamps = jnp.einsum("l,lk,lc->kc", weights[1:], basis, colours[1:]) * 1.6  # lamps are brighter than the sky
    return total * (weights[0] * sky + lamps)


def _partners(names):
    """For each unit the one whose activation a symmetric face copies: Right copies Left, others themselves."""
    index = {name: number for number, name in enumerate(names)}
    mirrored = [next((name.removesuffix(right) + left for right, left in _SIDES if name.endswith(right)), name)
                for name in names]
    return np.array([index.get(other, number) for number, other in enumerate(mirrored)], np.int32)
