"""Everything put together: a subject, an explorer, a scene and a panel on one server."""

import numpy as np

from sfm_jax.morphable.model import MorphableModel
from sfm_jax.viewer.explorer import Explorer, crowd_of
from sfm_jax.viewer.panel import Panel
from sfm_jax.viewer.scene import Companion, Decoder, Scene
from sfm_jax.viewer.server import close_server, open_server
from sfm_jax.viewer.subject import Subject

NEUTRAL, MEAN, PERSON_B, BASE = "without expression", "mean face", "person B", "nearest in base model"


class Viewer:
    """A running viewer: server, explorer, scene and panel. `stop` ends it.

    Raises:
      ValueError: viser is missing, or the port cannot be used.
    """

    def __init__(self, subject: Subject, port: int, seed: int | None = None):
        self.server = open_server(port, "sfm-jax")
        try:
            decoder = Decoder(subject.model)
            self.explorer = Explorer(crowd_of(subject.model, subject.radius), subject.radius is not None, seed)
            self.panel = Panel(self.server, subject, self.explorer)
            companions = _companions(subject, decoder, self.explorer, self.panel)
            self.scene = Scene(self.server, decoder, self.explorer, companions, self.panel.legend)
            self.panel.start(self.scene)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        close_server(self.server)


def _companions(subject, decoder, explorer, panel) -> dict[str, Companion]:
    zero, crowd = np.zeros(len(subject.model.identity_basis), np.float32), explorer.crowd

    def neutral(expression):
        return NEUTRAL, decoder.shape(explorer.code, 0 * expression)[0], None

    def mean(expression):
        return MEAN, decoder.shape(zero, expression)[0], None

    def person_b(expression):
        b = int(panel.b.value)
        vertices, _ = decoder.shape(crowd.length[b] * crowd.z[b], expression)
        return f"person {b}", vertices, decoder.albedo(crowd.albedo[b])

    def base(expression):
        (person,), _ = explorer.nearest(1)
        code = base_crowd.length[person] * base_crowd.z[person]
        return f"person {person} in the base model", base_decoder.shape(code, expression)[0], None

    found = {NEUTRAL: neutral, MEAN: mean}
    if len(explorer.z):
        found[PERSON_B] = person_b
    if crowd.are_people and _is_base(subject.base, subject.model):
        base_decoder, base_crowd = Decoder(subject.base), crowd_of(subject.base, None)
        found[BASE] = base
    return found


def _is_base(base: MorphableModel | None, model: MorphableModel) -> bool:
    return (base is not None and base.mean.shape == model.mean.shape
            and base.expression_basis.shape == model.expression_basis.shape
            and np.array_equal(base.topology.triangles, model.topology.triangles))
