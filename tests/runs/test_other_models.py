"""Other face models in every task and door: Basel's in its exact layout, Surrey's and FaceKit's where they are at hand.

They have no colours, no expressions, no texture coordinates or no landmarks, other vertices, triangles and sizes.
What is possible runs to its end; what is not ends at once, in one line that says what to do.
"""

import json
import os
from pathlib import Path

import jax
import numpy as np
import pytest
import scipy.io
import tiny_runs
from small_face import small_face

from sfm_jax import convert
from sfm_jax.data.people import has_population, people_of
from sfm_jax.inference.fitting import point_model
from sfm_jax.morphable.default import load_default, load_population
from sfm_jax.morphable.model import MorphableModel
from sfm_jax.morphable.sphere_model import SphereFaceModel
from sfm_jax.tasks import create_task
from sfm_jax.tasks.finished import open_photo_model
from sfm_jax.tasks.motion_measures import properties
from sfm_jax.tasks.photo_data import split_people
from sfm_jax.training.loop import train
from sfm_jax.training.parallel import AXIS
from sfm_jax.training.workdir import open_workdir
from sfm_jax.viewer.explorer import Explorer, crowd_of
from sfm_jax.viewer.subject import open_subject

DATA = Path(os.environ.get("SFM_JAX_TEST_DATA", "/nowhere"))  # eos/sfm_shape_3448.bin and ict/ict_face_f16.npz
PHOTO_RUNS = ("stage2", "sir", "siamese", "cycle", "detail_coarse")


def converted(source, target, *options):
    assert convert.main([str(source), str(target), *options]) == 0
    return target


@pytest.fixture(scope="module")
def basel(tmp_path_factory):
    """Files of Basel 2009's layout, converted: with landmarks and without. Its vertices are in an order of its own."""
    folder, face = tmp_path_factory.mktemp("basel"), small_face()
    order = np.random.default_rng(0).permutation(len(face.mean))
    place = np.argsort(order)
    rows = (3 * order[:, None] + np.arange(3)).ravel()
    scipy.io.savemat(folder / "01_MorphableModel.mat", {
        "shapeMU": 1000 * face.mean[order].reshape(-1, 1), "shapePC": face.unit[rows],
        "shapeEV": 1000 * face.sigma.reshape(-1, 1), "texMU": 255 * face.colours[order].reshape(-1, 1),
        "texPC": face.colour_unit[rows], "texEV": 255 * face.colour_sigma.reshape(-1, 1),
        "tl": place[face.triangles[:, [1, 0, 2]]] + 1})
    (folder / "points.txt").write_text("\n".join(map(str, place[face.landmarks])))
    mat = folder / "01_MorphableModel.mat"
    return {"bare": converted(mat, folder / "bare.npz"),
            "landmarks": converted(mat, folder / "points.npz", f"--landmarks={folder / 'points.txt'}")}


@pytest.fixture(scope="module", params=["basel", "surrey", "ict"])
def other(request, basel, tmp_path_factory):
    """A converted model with landmarks."""
    if request.param == "basel":
        return basel["landmarks"]
    target = tmp_path_factory.mktemp("other") / f"{request.param}.npz"
    source, options = {
        "surrey": (DATA / "eos" / "sfm_shape_3448.bin", ()),
        "ict": (DATA / "ict" / "ict_face_f16.npz", ("--unit=cm", "--identities=20", "--keys=triangles:faces,uv:uvs,"
                                                   "uv_triangles:uv_faces,landmarks:landmarks68")),
    }[request.param]
    if not source.is_file():
        pytest.skip(f"SFM_JAX_TEST_DATA names no folder with {source.relative_to(DATA)}")
    return converted(source, target, *options)


def test_a_model_without_landmarks_learns_a_sphere_to_the_report(basel, tmp_path):
    settings = tiny_runs.config("stage1", None, model=str(basel["bare"]), components=64, steps=2)
    workdir = open_workdir(tmp_path / "run", settings)
    task = create_task(settings)
    result = train(task, settings, workdir)
    numbers = task.finish(result.params, result.state, workdir, result)
    assert (workdir / "report.html").stat().st_size > 10_000
    assert numbers["run/components"] == 3  # as many as there are
    assert 0 < numbers["heldout/vertex_error_mm"] < 3 < numbers["heldout/mean_face_error_mm"] + 2
    learned = SphereFaceModel.load(workdir / "model.npz")
    assert learned.base.mean.shape == MorphableModel.load(basel["bare"]).mean.shape


@pytest.mark.parametrize("name", PHOTO_RUNS)
def test_every_term_on_photos_can_be_computed(other, name):
    """The step is traced, not run: what does not fit together shows in the shapes."""
    if name != "cycle" and "basel" not in str(other):
        pytest.skip("cycle has the most of what a model may lack")
    task = create_task(tiny_runs.config(name, other, components=64, batch_size=4))
    batch = task.dataset(4, 0)[0]
    params, state = task.init(jax.random.key(0), batch)
    one_device = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((1, *leaf.shape), leaf.dtype), batch)
    step = jax.vmap(task.loss, axis_name=AXIS, in_axes=(None, None, 0, None))
    loss, aux = jax.eval_shape(step, params, state, one_device, jax.random.key(0))
    assert loss.shape == (1,) and "landmark" in aux.metrics
    expected = len(task.model.identity_basis) + (task.config.sphere != "gaussian")
    assert len(task.start.basis) == min(64, expected)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["stage2", "cycle"])
def test_photos_of_another_model_to_the_report(other, name, tmp_path):
    """The cycle with a model of one colour, as most have that are not made of photographs."""
    if name == "cycle":
        model = MorphableModel.load(other)
        other = tmp_path / "plain.npz"
        model.replace(albedo_basis=model.albedo_basis[:0]).save(other)
    settings = tiny_runs.config(name, other, steps=2, batch_size=4)
    workdir = open_workdir(tmp_path / "run", settings)
    task = create_task(settings)
    result = train(task, settings, workdir)
    numbers = task.finish(result.params, result.state, workdir, result)
    assert all(np.isfinite(value) for name, value in numbers.items() if not isinstance(value, str)), numbers
    assert json.loads((workdir / "metrics.jsonl").read_text().splitlines()[-1])["overflow"] == 0


@pytest.mark.parametrize("name", PHOTO_RUNS)
def test_photos_need_landmarks_and_say_so_at_once(basel, name):
    with pytest.raises(ValueError, match=r"bare.npz: key 'landmarks': found 0, expected 68 .*--landmarks=FILE"):
        create_task(tiny_runs.config(name, basel["bare"]))
    with pytest.raises(ValueError, match="model 'Basel Face Model 2009': key 'landmarks': found 0"):
        point_model(MorphableModel.load(basel["bare"]))


def test_other_formats_are_sent_to_convert(basel):
    with pytest.raises(ValueError, match=r"01_MorphableModel.mat.*python -m sfm_jax.convert"):
        create_task(tiny_runs.config("stage2", basel["bare"].with_name("01_MorphableModel.mat")))


def test_the_population_is_of_the_embedded_model_alone(basel, tmp_path):
    embedded = load_default(0)
    assert has_population(embedded) and people_of(embedded, 5, 0) is load_population()
    embedded.save(tmp_path / "same.npz")
    assert has_population(MorphableModel.load(tmp_path / "same.npz"))
    # As many components are not the same ones.
    turned = embedded.replace(identity_basis=embedded.identity_basis[::-1])
    people = people_of(turned, 4000, 0)
    assert not has_population(turned) and people.identity.shape == (4000, 120)
    np.testing.assert_allclose(people.identity.mean(0), 0, atol=0.08)
    np.testing.assert_allclose(people.identity.std(0), 1, atol=0.06)
    np.testing.assert_array_equal(people_of(turned, 4000, 0).identity, people.identity)
    assert people_of(MorphableModel.load(basel["bare"]), 7, 0).identity.shape == (7, 3)


def test_people_of_a_sphere_model_are_on_the_sphere(tmp_path):
    base = load_default(0)
    base = base.replace(identity_basis=base.identity_basis[:6], identity_sigma=base.identity_sigma[:6])
    SphereFaceModel(base, np.float32(5.0)).save(tmp_path / "model.npz")
    settings = tiny_runs.config("stage2", tmp_path / "model.npz")
    people = split_people(settings, open_photo_model(settings))
    np.testing.assert_allclose(np.linalg.norm(people.train.identity, axis=1), np.sqrt(6), atol=1e-5)


def test_what_cannot_move_is_not_measured(basel):
    assert properties(MorphableModel.load(basel["bare"])) == ("identity", "pose", "albedo", "light")
    assert properties(load_default(0).replace(albedo_basis=load_default(0).albedo_basis[:0])) == (
        "identity", "expression", "pose", "light")


def test_the_viewer_makes_up_codes_for_another_mesh(other):
    subject = open_subject(str(other))
    crowd = crowd_of(subject.model, subject.radius)
    assert not crowd.are_people and crowd.z.shape[1] == len(subject.model.identity_basis)
    explorer = Explorer(crowd, fixed_length=False, seed=0)
    explorer.random_person()
    assert np.isfinite(np.asarray(subject.model.decode(explorer.code))).all()
