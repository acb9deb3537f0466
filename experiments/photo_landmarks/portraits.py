"""Clean portraits of the embedded population, with what every pixel of them shows."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sfm_jax.data import backdrop
from sfm_jax.data.crop import landmark_box
from sfm_jax.data.damage import to_srgb
from sfm_jax.data.scene import Conditions
from sfm_jax.data.synthetic import SyntheticPhotos
from sfm_jax.geometry.camera import Perspective, to_camera
from sfm_jax.geometry.rotation import rotation_from_euler
from sfm_jax.morphable.default import Population
from sfm_jax.morphable.model import MorphableModel
from sfm_jax.render import PointLight, render, surface

SIZE = 320  # pixels
_ROOM = 1.4  # of a picture's side, over that of the landmarks' box: the head is all in it
_BATCH = 16


class Portraits(NamedTuple):
    """image [N, S, S, 3] uint8; vertices [N, V, 3] mm in camera space; projected [N, V, 2] and landmarks [N, 68, 2]
    pixels; triangle [N, S, S] int32, -1 where there is none; scale [N] pixels per mm of the head; pose [N, 3] degrees
    (yaw, pitch, roll); jaw_open [N], the activation of that unit.
    """

    image: np.ndarray
    vertices: np.ndarray
    projected: np.ndarray
    landmarks: np.ndarray
    triangle: np.ndarray
    scale: np.ndarray
    pose: np.ndarray
    jaw_open: np.ndarray


def portraits(model: MorphableModel, people: Population, yaws: np.ndarray, seed: int) -> Portraits:
    """One portrait for each yaw [N] in degrees, of one person after the other.

    Of three faces one is neutral, one has some expression, one has it with an open mouth.
    """
    conditions = Conditions(pitch=8.0, roll=6.0, distance=(800.0, 2500.0))
    photos = SyntheticPhotos(model, people, SIZE, conditions, seed)
    mesh = surface(model.topology.triangles)
    scalp = jnp.asarray(model.topology.region("scalp"))[:, None]
    jaw = model.expression_names.index("jawOpen")

    def portrait(scene, yaw):
        kind = scene.index % 3
        wide = jax.random.uniform(jax.random.fold_in(scene.surroundings, 3), minval=0.3, maxval=0.9)
        expression = jnp.where(kind == 0, 0.0, scene.expression.at[jaw].max(jnp.where(kind == 2, wide, 0.0)))
        vertices = model.decode(scene.identity, expression)
        pose = scene.pose.at[0].set(yaw)
        camera = _camera(model.landmarks(vertices), rotation_from_euler(pose), scene.distance)
        skin = model.albedo(scene.albedo)
        albedo = skin + scalp * scene.hair[3] * (scene.hair[:3] - skin)
        seen = render(vertices, mesh, camera, (SIZE, SIZE), albedo=albedo, light=_lamp(scene),
                      background=backdrop.texture(scene.surroundings, SIZE), edge_width=1.0, cull=True)
        image = jnp.round(255 * to_srgb(jnp.clip(seen.colour, 0.0, 1.0))).astype(jnp.uint8)
        projected = camera.project(vertices)[:, :2]
        in_camera = to_camera(vertices, camera.rotation, camera.translation)
        scale = camera.focal / scene.distance
        return Portraits(image, in_camera, projected, projected[model.topology.landmarks], seen.triangle, scale, pose,
                         expression[jaw]), seen.overflow

    @jax.jit
    def batch(ids, yaws):
        return jax.lax.map(lambda pair: portrait(*pair), (photos.scenes(ids), yaws))

    parts = []
    for first in range(0, len(yaws), _BATCH):
        # The last batch is filled up: one program for all.
        ids = np.arange(first, first + _BATCH, dtype=np.int32)
        shown, overflow = jax.device_get(batch(ids, np.resize(yaws, first + _BATCH)[first:].astype(np.float32)))
        if overflow.max():
            raise ValueError("portraits: the renderer lost triangles")
        parts.append(shown)
    return Portraits(*(np.concatenate(values)[:len(yaws)] for values in zip(*parts, strict=True)))


def _lamp(scene):
    """A lamp before the face, off to a side. Softer light leaves little of a nose that has no shadow."""
    side, rest = jax.random.split(jax.random.fold_in(scene.surroundings, 2))
    low, high = jnp.array([100.0, 100.0, 150.0]), jnp.array([600.0, 500.0, 500.0])
    place = jax.random.uniform(rest, (3,), minval=low, maxval=high)
    place = place.at[0].multiply(jax.random.rademacher(side, (), jnp.float32))
    return PointLight(place - jnp.array([0.0, 0.0, 1.0]) * scene.distance, colour=jnp.full(3, 1.3),
                      ambient=jnp.full(3, 0.3), specular=jnp.float32(0.1), shininess=jnp.float32(15.0))


def _camera(landmarks, rotation, distance):
    """Perspective, the box of the landmarks [68, 3] in the middle."""
    offset = -rotation @ landmarks.mean(0) - jnp.array([0.0, 0.0, 1.0]) * distance
    wide = Perspective(rotation, offset, jnp.ones(()), jnp.zeros(2))
    centre, side = landmark_box(wide.project(landmarks)[:, :2])
    side = _ROOM * side
    return wide.crop(centre - side / 2, SIZE / side)


def project(shown: Portraits, corners: np.ndarray, barycentric: np.ndarray) -> np.ndarray:
    """Surface points, by corners [P, 3] and their weights [P, 3], in every portrait: pixels [N, P, 2].

    Straight between the projected corners; over a few millimetres perspective does not matter.
    """
    return np.einsum("pk,npkx->npx", barycentric, shown.projected[:, corners])


def facing(shown: Portraits, corners: np.ndarray) -> np.ndarray:
    """Cosine [N, P] of the angle at which the camera sees triangles of corners [P, 3] or [N, P, 3]; below 0, none."""
    corners = np.broadcast_to(corners, (len(shown.vertices), *corners.shape[-2:]))
    a, b, c = np.moveaxis(shown.vertices[np.arange(len(corners))[:, None, None], corners], 2, 0)
    normal, ray = np.cross(b - a, c - a), -(a + b + c)
    return (normal * ray).sum(-1) / np.maximum(np.linalg.norm(normal, axis=-1) * np.linalg.norm(ray, axis=-1), 1e-9)

