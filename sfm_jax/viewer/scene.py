"""The face in the browser: decoded, coloured, lit, and beside it another one to compare it with."""

import dataclasses
import functools
from collections.abc import Callable

import jax
import numpy as np

from sfm_jax.geometry.mesh import vertex_normals
from sfm_jax.morphable.model import MorphableModel, linear_shape
from sfm_jax.viewer import colours
from sfm_jax.viewer.coloured_mesh import ColouredMesh

TEXTURE, CLAY, NORMALS, DIFFERENCE, PHOTO_LIGHT = "texture", "clay", "normals", "difference", "light of the photo"
NOTHING = "nothing"
FIELD_OF_VIEW = 28.0  # degrees
BACK = 2.35  # distance of the camera, in heights of the face
GAP = 1.12  # distance of two faces, in widths
ASIDE = 0.4  # how far two faces step back to be seen whole, in heights
LIGHT_DISTANCE = 1000.0
KEY, FILL, SKY, GROUND = (255, 246, 236), (214, 228, 255), (240, 244, 255), (120, 106, 96)  # sRGB


# A face to stand beside: expression [E] -> (label, vertices [V, 3] mm, albedo [V, 3] or None for the same).
Companion = Callable[[np.ndarray], tuple[str, np.ndarray, np.ndarray | None]]


@dataclasses.dataclass
class Look:
    """How the face is shown: expression [E]; colouring and beside, by their names; scale in mm of differences, 0 for
    one that fits; rotation [3, 3] of the head; those of the photo, if there is one, and its light [9, 3]; azimuth (to
    the image's right) and elevation of the main light in degrees, its intensity, and that of the light all around."""

    expression: np.ndarray
    colouring: str = TEXTURE
    beside: str = NOTHING
    wireframe: bool = False
    scale: float = 0.0
    rotation: np.ndarray = dataclasses.field(default_factory=lambda: np.eye(3, dtype=np.float32))
    photo_rotation: np.ndarray = dataclasses.field(default_factory=lambda: np.eye(3, dtype=np.float32))
    photo_light: np.ndarray | None = None
    azimuth: float = -30.0
    elevation: float = 35.0
    intensity: float = 2.1
    ambient: float = 1.6


class Decoder:
    """The model's decode, compiled once: codes -> vertices, unit normals [V, 3] and, apart, albedo [V, 3]."""

    def __init__(self, model: MorphableModel):
        triangles = model.topology.triangles

        @jax.jit
        def decode(mean, identity_basis, expression_basis, identity, expression):
            vertices = linear_shape(mean, identity_basis, identity, expression_basis, expression)
            return vertices, vertex_normals(vertices, triangles)

        self._decode, self._normals = decode, jax.jit(lambda vertices: vertex_normals(vertices, triangles))
        albedo = jax.jit(MorphableModel.albedo)
        self._albedo = functools.lru_cache(4)(lambda code: np.asarray(albedo(model, np.frombuffer(code, np.float32))))
        self.model = model

    def shape(self, identity: np.ndarray, expression: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        model = self.model
        found = self._decode(model.mean, model.identity_basis, model.expression_basis, identity, expression)
        return np.asarray(found[0]), np.asarray(found[1])

    def normals(self, vertices: np.ndarray) -> np.ndarray:
        return np.asarray(self._normals(vertices))

    def albedo(self, code: np.ndarray) -> np.ndarray:
        return self._albedo(np.asarray(code, np.float32).tobytes())


class Scene:
    """The nodes of a viser server that show one face, and what stands beside it.

    explorer: where the identity comes from; companions: by the names that Look.beside takes; on_legend: is given the
    HTML of the colour scale, None where there is none to show.
    """

    def __init__(self, server, decoder: Decoder, explorer, companions: dict[str, Companion],
                 on_legend: Callable[[str | None], None]):
        self.server, self.decoder, self.explorer, self.companions = server, decoder, explorer, companions
        self.look = Look(np.zeros(len(decoder.model.expression_basis), np.float32))
        self._on_legend = on_legend
        mean = np.asarray(decoder.model.mean)
        self._mesh = ColouredMesh(decoder.model.topology.triangles, len(mean))
        self._centre, self._size = (mean.min(0) + mean.max(0)) / 2, np.ptp(mean, 0)
        self._nodes = {}
        self._set_the_stage()
        self.redraw()

    def redraw(self) -> None:
        """Show the face as it is now."""
        self._draw()
        self.server.flush()  # else up to a sixtieth of a second later

    def relight(self) -> None:
        """Put the lights where they are now."""
        look, azimuth, elevation = self.look, np.radians(self.look.azimuth), np.radians(self.look.elevation)
        towards = np.array([np.sin(azimuth) * np.cos(elevation), np.sin(elevation),
                            np.cos(azimuth) * np.cos(elevation)])
        with self.server.atomic():
            self._key.position, self._key.intensity = tuple(LIGHT_DISTANCE * towards), look.intensity
            self._fill.position = tuple(LIGHT_DISTANCE * np.array([-towards[0], 0.2, abs(towards[2])]))
            self._fill.intensity = look.intensity / 6
            self._sky.intensity = look.ambient

    def _set_the_stage(self):
        scene, camera = self.server.scene, self.server.initial_camera
        scene.set_up_direction("+y")
        scene.configure_default_lights(enabled=False)
        scene.configure_environment_map(None)
        self._key = scene.add_light_directional("/light/key", color=KEY)
        self._fill = scene.add_light_directional("/light/fill", color=FILL)
        self._sky = scene.add_light_hemisphere("/light/sky", sky_color=SKY, ground_color=GROUND,
                                               position=(0, LIGHT_DISTANCE, 0))
        self.relight()
        camera.fov, camera.near = np.radians(FIELD_OF_VIEW), float(self._size[1]) / 100
        camera.look_at = (0.0, 0.0, 0.0)
        camera.position = (0.0, 0.0, float(BACK * self._size[1]))

    def _draw(self):
        look, explorer = self.look, self.explorer
        vertices, normals = self.decoder.shape(explorer.code, look.expression)
        albedo = self.decoder.albedo(explorer.albedo)
        other = self.companions.get(look.beside)
        if other is None:
            faces, legend = {"face": (vertices, normals, self._colour(normals, albedo), None)}, None
        else:
            label, second, second_albedo = other(look.expression)
            second_normals = self.decoder.normals(second)
            second_albedo = albedo if second_albedo is None else second_albedo
            colour, legend = self._compared(vertices, second, normals, albedo)
            faces = {"face": (vertices, normals, colour, "face"),
                     "other": (second, second_normals, self._colour(second_normals, second_albedo), label)}
        measured = {NORMALS, PHOTO_LIGHT} | ({DIFFERENCE} if legend else set())  # no light may change these colours
        with self.server.atomic():
            for number, (name, (vertices, normals, colour, label)) in enumerate(faces.items()):
                aside = number - (len(faces) - 1) / 2
                at = np.array([GAP * self._size[0] * aside, 0, -2 * ASIDE * self._size[1] * abs(aside)])
                lit = look.colouring not in measured or (name == "other" and look.colouring == DIFFERENCE)
                self._show(name, vertices, normals, colour, at, label, lit)
            self._remove(set(self._nodes) - set(faces))
            self._on_legend(legend)

    def _colour(self, normals, albedo):
        look = self.look
        if look.colouring == TEXTURE:
            return albedo
        if look.colouring == NORMALS:
            return colours.of_normals(normals @ look.rotation.T)
        if look.colouring == PHOTO_LIGHT and look.photo_light is not None:
            return colours.in_light(albedo, normals, look.photo_rotation, look.photo_light)
        return colours.clay(len(normals))

    def _compared(self, vertices, other, normals, albedo):
        """The first face's colours, and the legend where they are differences from the other."""
        if self.look.colouring != DIFFERENCE:
            return self._colour(normals, albedo), None
        distances = colours.difference(vertices, other)
        limit = self.look.scale or colours.nice_limit(distances)
        return (colours.of_difference(distances, limit, normals),
                colours.legend(limit, float(distances.max()), float(distances.mean())))

    def _show(self, name, vertices, normals, colour, at, label, lit):
        look, size = self.look, float(self._size[1])
        data = self._mesh.pack((vertices - self._centre) @ look.rotation.T, normals @ look.rotation.T, colour, lit=lit,
                               wireframe=look.wireframe)
        place, text_at = tuple(at), tuple(at - [0, 0.54 * size, 0])
        if name not in self._nodes:
            mesh = self.server.scene.add_glb(f"/{name}", data, cast_shadow=False, receive_shadow=False, position=place)
            text = self.server.scene.add_label(f"/label/{name}", label or "", position=text_at,
                                               anchor="bottom-center", visible=label is not None)
            self._nodes[name] = mesh, text
            return
        mesh, text = self._nodes[name]
        mesh.glb_data, mesh.position = data, place
        text.position, text.visible, text.text = text_at, label is not None, label or ""

    def _remove(self, names):
        for name in names:
            for node in self._nodes.pop(name):
                node.remove()
