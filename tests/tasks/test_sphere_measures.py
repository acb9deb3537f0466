"""What the report of stage 1 says of codes on the sphere, near it, and of any length, is so."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_runs import config

from sfm_jax.evaluation.report import Report
from sfm_jax.morphable.formats.assemble import rms
from sfm_jax.morphable.model import MorphableModel
from sfm_jax.morphable.sphere_model import SphereFaceModel
from sfm_jax.tasks import create_task, sphere_report
from sfm_jax.tasks.sphere_measures import measure_heldout, summarise
from sfm_jax.tasks.sphere_report import _learning, _subtitle

RUN = types.SimpleNamespace(step=0, device="1 x cpu", history=[])


def examined(kind):
    """(task, its first parameters, what they make of held-out scans, the numbers, the curves)."""
    task = create_task(config("stage1", None, sphere=kind))
    params, state = task.init(jax.random.key(0), None)
    heldout = measure_heldout(task, params, state)
    return task, params, heldout, *summarise(task, heldout, params)


class Told(Report):
    """Keeps what it is told."""

    def __init__(self):
        super().__init__("")
        self.texts, self.captions = [], []

    def section(self, title, text=""):
        self.texts.append(text)

    def figure(self, figure, caption="", wide=False):
        self.captions.append(caption)


def told(task, heldout, curves):
    """The text, and the caption of the lengths of codes."""
    report = Told()
    _learning(report, RUN, curves, heldout, task)
    return report.texts[0], next(caption for caption in report.captions if "Lengths" in caption)


def test_soft_codes_are_told_from_the_unit_codes_that_the_model_takes(tmp_path):
    task, params, heldout, numbers, curves = examined("soft")
    lengths = np.linalg.norm(heldout.code, axis=1)
    assert numbers["codes/norm_deviation_max"] == pytest.approx(np.abs(lengths - 1).max(), rel=1e-5)
    assert numbers["codes/norm_deviation_max"] > 0.01
    task.learned_model(params).save(tmp_path / "model.npz")
    shapes = np.asarray(SphereFaceModel.load(tmp_path / "model.npz").decode(heldout.z))
    expected = np.average(np.linalg.norm(shapes - heldout.truth, axis=-1).mean(0), weights=task.weights)
    assert numbers["heldout/unit_code_vertex_error_mm"] == pytest.approx(expected, rel=1e-4)
    assert abs(numbers["heldout/unit_code_vertex_error_mm"] - numbers["heldout/vertex_error_mm"]) > 1e-3
    text, caption = told(task, heldout, curves)
    assert "codes are unit vectors" not in text and "drawn to length 1" in text
    assert "all one" not in caption


def test_hard_codes_are_of_length_one():
    task, _, heldout, numbers, curves = examined("hard")
    assert numbers["codes/norm_deviation_max"] < 1e-5 and "heldout/unit_code_vertex_error_mm" not in numbers
    assert "on the sphere (hard)" in _subtitle(task, RUN)
    text, caption = told(task, heldout, curves)
    assert "codes are unit vectors" in text and "all one" in caption


def test_nothing_of_a_sphere_is_said_of_gaussian_codes():
    task, _, heldout, numbers, curves = examined("gaussian")
    assert not {"codes/norm_deviation_max", "heldout/unit_code_vertex_error_mm"} & set(numbers)
    for text in (_subtitle(task, RUN), *told(task, heldout, curves), *curves):
        assert "sphere" not in text


def test_the_saved_basis_of_gaussian_codes_is_that_of_the_normal_law(tmp_path, monkeypatch):
    """The KL is of radius times code: the basis for these is the learned one as it is."""
    task, params, *_ = examined("gaussian")
    monkeypatch.setattr(sphere_report, "write_report", lambda *_: {})
    params = params | {"log_radius": jnp.float32(0.5)}
    task.finish(params, None, tmp_path, RUN)
    saved = MorphableModel.load(tmp_path / "model.npz")
    np.testing.assert_allclose(saved.identity_basis, params["basis"], rtol=1e-6)
    np.testing.assert_allclose(saved.identity_sigma, rms(np.asarray(params["basis"])), rtol=1e-5)


@pytest.mark.parametrize("changes, message", [
    ({"data__scans_per_person": 0}, "data.scans_per_person: found 0, expected 1 or more"),
    ({"features": 0}, "features: found 0, expected 1 to 1535"), ({"features": 1536}, "features: found 1536, expected"),
    ({"components": 2}, "components: found 2, expected at least 3")])
def test_bad_settings_are_refused_in_one_line(changes, message):
    with pytest.raises(ValueError, match=message) as refused:
        create_task(config("stage1", None, **changes))
    assert "\n" not in str(refused.value)
