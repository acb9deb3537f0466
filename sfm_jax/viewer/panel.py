"""The controls beside the face: photo, identity, expression, view. Each changes explorer or look, and redraws."""

import re
import threading
from collections.abc import Callable

import numpy as np
from PIL import Image

from sfm_jax.viewer import scene as scenes
from sfm_jax.viewer.explorer import Explorer
from sfm_jax.viewer.scene import Scene
from sfm_jax.viewer.subject import FoundFace, Subject

COMPONENTS = 10
NEAREST = 5
TILE = 320  # pixels
FREE_RANGE = 3.0  # of components: standard deviations
GROUPS = {"brow": "Brows", "cheek": "Cheeks and nose", "nose": "Cheeks and nose", "eye": "Eyes", "jaw": "Jaw",
          "mouth": "Mouth"}
OTHERS = "Others"


def grouped(names: tuple[str, ...]) -> dict[str, list[int]]:
    """Indices of expressions by the part of the face that ARKit's names begin with, in the order of GROUPS."""
    groups = {title: [] for title in (*dict.fromkeys(GROUPS.values()), OTHERS)}
    for index, name in enumerate(names):
        prefix = re.match("[a-z]*", name)[0]
        groups[GROUPS.get(prefix, OTHERS)].append(index)
    return {title: indices for title, indices in groups.items() if indices}


def breakable(name: str) -> str:
    """A name like mouthSmileLeft, seen the same, that a narrow line is broken in before its capitals."""
    return re.sub("(?<=[a-z])(?=[A-Z])", "\u200b", name)


def stacked(strip: Image.Image) -> np.ndarray:
    """A picture for the panel's width, uint8 [H, W, 3]: the first four square tiles of a strip two by two; one that is
    no strip as it is."""
    width, height = strip.size
    count = round(width / height)
    if count < 4:
        strip.thumbnail((2 * TILE, 2 * TILE))
        return np.asarray(strip)
    starts = np.linspace(0, width - height, count)[:4]
    tiles = [np.asarray(strip.resize((TILE, TILE), box=(x, 0, x + height, height))) for x in starts]
    return np.concatenate([np.concatenate(tiles[:2], 1), np.concatenate(tiles[2:], 1)])


class Panel:
    """All controls. `legend` is called by the scene; `start` builds what needs the scene."""

    def __init__(self, server, subject: Subject, explorer: Explorer):
        self.gui, self.subject, self.explorer = server.gui, subject, explorer
        self._busy = threading.Lock()
        self.gui.add_markdown(_headline(subject, explorer))
        self._legend = self.gui.add_html("", visible=False)

    def legend(self, html: str | None) -> None:
        """Show the colour scale, or none."""
        self._legend.visible = html is not None
        if html is not None:
            self._legend.content = html

    def start(self, scene: Scene) -> None:
        """Build the controls, and show the first photo's face or the first person."""
        self.scene = scene
        tabs = self.gui.add_tab_group()
        if self.subject.faces:
            with tabs.add_tab("Photo"):
                self._photo()
        if len(self.explorer.z):  # else the model has no identities
            with tabs.add_tab("Identity"):
                self._identity()
        with tabs.add_tab("Expression"):
            self._expression()
        with tabs.add_tab("View"):
            self._view()
        if self.subject.faces:
            self._take(self.subject.faces[0])
        elif len(self.explorer.z):
            self._at_person(self.explorer.random_person())

    def _when(self, control, act: Callable) -> None:
        """act(value) when someone moves the control, not when the program does. Moves come from many threads: one acts
        at a time, and of those that wait for it one is left, which takes the newest value."""
        waiting = threading.Lock()

        def changed(event):
            if event.client is None or not waiting.acquire(blocking=False):
                return
            with self._busy:
                waiting.release()
                act(control.value)

        control.on_update(changed)

    def _press(self, button, act: Callable) -> None:
        """act() at each click."""
        def clicked(_):
            with self._busy:
                act()

        button.on_click(clicked)

    # ------------------------------------------------------------------------------------------- photo

    def _photo(self):
        faces = {face.name: face for face in self.subject.faces}
        chooser = self.gui.add_dropdown("Face", tuple(faces))
        self._frame = self.gui.add_slider("Frame", 0, 1, 1, 0, visible=False)
        self._overlay = self.gui.add_image(np.full((2, 2, 3), 255, np.uint8), format="jpeg", visible=False)
        self._facts = self.gui.add_markdown("")
        self._pose = self.gui.add_checkbox("Pose of the photo", False)
        back = self.gui.add_button("Back to the photo's face")
        self._when(chooser, lambda value: self._take(faces[value]))
        self._when(self._frame, lambda frame: self._show_frame(faces[chooser.value], frame))
        self._when(self._pose, self._turn)
        self._press(back, lambda: self._take(faces[chooser.value]))

    def _take(self, face: FoundFace):
        problem, overlay = "", None
        try:
            if face.overlay is not None:
                overlay = stacked(Image.open(face.overlay).convert("RGB"))
        except OSError as error:
            problem = f"  \n{face.overlay.name} cannot be read ({error})"
        self._overlay.visible, self._problem = overlay is not None, problem
        if overlay is not None:
            self._overlay.image = overlay
        self._frame.visible, self._frame.max, self._frame.value = face.frames > 1, max(face.frames - 1, 1), 0
        model = self.subject.model
        self.explorer.stand(_padded(face.identity, len(model.identity_basis)),
                            _padded(face.albedo, len(model.albedo_basis)))
        self._show_frame(face, 0)
        self._moved()

    def _show_frame(self, face, frame):
        """Pose, light and expression of a photo, or of a frame of a video."""
        look, now = self.scene.look, face.at(frame)
        yaw, pitch, roll = now.pose
        self._facts.content = (f"yaw {yaw:.0f}°, pitch {pitch:.0f}°, roll {roll:.0f}°; "
                               f"identity code {np.linalg.norm(now.identity):.1f} long{self._problem}")
        look.photo_rotation, look.photo_light = now.rotation, now.light
        look.rotation = now.rotation if self._pose.value else np.eye(3, dtype=np.float32)
        self._set_expression(_padded(now.expression, len(look.expression)))
        self.scene.redraw()

    def _turn(self, as_photo):
        look = self.scene.look
        look.rotation = look.photo_rotation if as_photo else np.eye(3, dtype=np.float32)
        self.scene.redraw()

    # ---------------------------------------------------------------------------------------- identity

    def _identity(self):
        gui, explorer = self.gui, self.explorer
        last = len(explorer.crowd.z) - 1
        self._press(gui.add_button("Random person"), lambda: self._at_person(explorer.random_person()))
        with gui.add_folder("From person to person"):
            self.a = gui.add_number("Person A", 0, min=0, max=last, step=1)
            self.b = gui.add_number("Person B", min(1, last), min=0, max=last, step=1)
            self._share = gui.add_slider("A to B", 0.0, 1.0, 0.01, 0.0)
        with gui.add_folder("Walk on the sphere"):
            self._angle = gui.add_slider("Angle (°)", -180, 180, 1, 0, hint="Along a great circle through here")
            turn = gui.add_button("Another direction", hint="Starts from where the face is now")
        with gui.add_folder("Nearest people" if explorer.crowd.are_people else "Nearest random codes"):
            self._near = gui.add_markdown("")
            self._go = gui.add_button_group("Go to", ("0",))
        with gui.add_folder("Components", expand_by_default=False):
            gui.add_markdown("in standard deviations")
            self._components = [gui.add_slider(f"{k + 1}", -FREE_RANGE, FREE_RANGE, 0.05, 0.0)
                                for k in range(min(COMPONENTS, len(explorer.z)))]
            if not explorer.fixed_length:
                self._length = gui.add_slider("Length", 0.0, 2 * float(np.max(explorer.crowd.length)) // 1, 0.1, 0.0,
                                              hint="0 is the mean face")
                self._when(self._length, self._set_length)
        self._when(self.a, lambda value: self._at_person(int(value)))
        # Person B may just as well be someone to stand beside: the face only moves when it is on the way to them.
        self._when(self.b, lambda _: self._between() if self._share.value else self.scene.redraw())
        self._when(self._share, lambda _: self._between())
        self._when(self._angle, self._walk)
        self._press(turn, self._new_direction)
        self._press(self._go, lambda: self._at_person(int(self._go.value)))
        for k, slider in enumerate(self._components):
            self._when(slider, lambda value, k=k: self._set_component(k, value))

    def _at_person(self, person):
        self.explorer.go_to(person)
        self.a.value, self._share.value = person, 0.0
        self._moved()

    def _between(self):
        self.explorer.between(int(self.a.value), int(self.b.value), self._share.value)
        self._moved()

    def _walk(self, degrees):
        self.explorer.walk(np.radians(degrees))
        self._moved(walking=True)

    def _new_direction(self):
        self.explorer.turn()
        self._angle.value = 0

    def _set_component(self, k, value):
        self.explorer.set_component(k, value)
        self._moved(but=k)

    def _set_length(self, value):
        self.explorer.length = value
        self._moved(but="length")

    def _moved(self, walking=False, but=None):
        """The identity is another: draw first, then let the other controls say where it is."""
        self.scene.redraw()
        explorer = self.explorer
        if not len(explorer.z):
            return
        if not walking:
            self._angle.value = 0
        for k, slider in enumerate(self._components):
            if k != but:
                slider.value = float(np.clip(round(explorer.component(k), 2), -FREE_RANGE, FREE_RANGE))
        if not explorer.fixed_length and but != "length":
            self._length.value = min(round(explorer.length, 1), self._length.max)
        who, angles = explorer.nearest(min(NEAREST, len(explorer.crowd.z)))
        rows = "".join(f"\n| {person} | {np.degrees(angle):.0f}° | {np.cos(angle):.2f} |"
                       for person, angle in zip(who, angles, strict=True))
        self._near.content = f"| person | angle | cosine |\n|---|---|---|{rows}"
        self._go.options = tuple(str(person) for person in who)

    # -------------------------------------------------------------------------------------- expression

    def _expression(self):
        names = self.subject.model.expression_names or tuple(
            f"{k + 1}" for k in range(len(self.subject.model.expression_basis)))
        found = np.concatenate([[0.0], *(face.expression.ravel() for face in self.subject.faces)])
        low, high = self.subject.model.expression_bounds
        low, high = min(low, float(np.floor(10 * found.min()) / 10)), max(high, float(np.ceil(10 * found.max()) / 10))
        self._press(self.gui.add_button("Reset"), lambda: self._reset_expression())
        self._sliders = [None] * len(names)
        for title, indices in grouped(names).items():
            with self.gui.add_folder(title, expand_by_default=title in ("Mouth", OTHERS)):
                for index in indices:
                    slider = self.gui.add_slider(breakable(names[index]), low, high, 0.01, 0.0)
                    self._when(slider, lambda value, index=index: self._express(index, value))
                    self._sliders[index] = slider

    def _express(self, index, value):
        expression = self.scene.look.expression.copy()
        expression[index] = value
        self.scene.look.expression = expression
        self.scene.redraw()

    def _set_expression(self, expression):
        self.scene.look.expression = np.asarray(expression, np.float32)
        for slider, value in zip(self._sliders, expression, strict=True):
            slider.value = round(float(value), 2)

    def _reset_expression(self):
        self._set_expression(np.zeros(len(self._sliders), np.float32))
        self.scene.redraw()

    # -------------------------------------------------------------------------------------------- view

    def _view(self):
        gui, look = self.gui, self.scene.look
        options = [scenes.TEXTURE, scenes.CLAY, scenes.NORMALS, scenes.DIFFERENCE]
        if self.subject.faces:
            options.append(scenes.PHOTO_LIGHT)
        self._redrawing(gui.add_dropdown("Colours", tuple(options), hint="Differences: from the face beside it"),
                        "colouring")
        self._redrawing(gui.add_checkbox("Wireframe", look.wireframe), "wireframe")
        with gui.add_folder("Compare"):
            beside = gui.add_dropdown("Beside it", (scenes.NOTHING, *self.scene.companions))
            self._redrawing(beside, "beside")
            scale = gui.add_number("Scale (mm)", look.scale, min=0.0, step=0.1,
                                   hint="Of differences from vertex to corresponding vertex; 0: as large as they are")
            self._redrawing(scale, "scale")
        with gui.add_folder("Light"):
            self._lighting(gui.add_slider("Azimuth (°)", -180, 180, 1, int(look.azimuth)), "azimuth")
            self._lighting(gui.add_slider("Elevation (°)", -90, 90, 1, int(look.elevation)), "elevation")
            self._lighting(gui.add_slider("Intensity", 0.0, 6.0, 0.1, look.intensity), "intensity")
            self._lighting(gui.add_slider("Ambient", 0.0, 4.0, 0.1, look.ambient), "ambient")

    def _redrawing(self, control, name):
        self._sets(control, name, self.scene.redraw)

    def _lighting(self, control, name):
        self._sets(control, name, self.scene.relight)

    def _sets(self, control, name, then):
        def changed(value):
            setattr(self.scene.look, name, value)
            then()

        self._when(control, changed)


def _padded(code, size):
    return np.pad(code, (0, size - len(code))).astype(np.float32)


def _headline(subject, explorer):
    model = subject.model
    kind = f"sphere, {len(explorer.z)} coordinates" if explorer.fixed_length else f"{len(explorer.z)} components"
    return (f"**{subject.name}**  \n{len(model.mean)} vertices, identity: {kind}, "
            f"{len(model.expression_basis)} expressions")
