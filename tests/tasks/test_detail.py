"""Learned detail, end to end on the embedded model, tiny; and what is refused."""

import dataclasses
import json
import shutil
import types

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy
from PIL import Image
from tiny_runs import config

from sfm_jax.inference import detail
from sfm_jax.inference.default_encoder import load_default_encoder
from sfm_jax.inference.detail import of_each_photo
from sfm_jax.inference.detail_encoder import Detailed
from sfm_jax.inference.export import read_displacement
from sfm_jax.morphable.default import load_default
from sfm_jax.tasks import create_task
from sfm_jax.tasks.detail import Detail
from sfm_jax.tasks.detail_measures import _scores, _summary
from sfm_jax.tasks.detail_report import Shown, _detailed
from sfm_jax.tasks.finished import load_encoder
from sfm_jax.tasks.photo_data import true_face
from sfm_jax.training.loop import train
from sfm_jax.training.workdir import open_workdir


@pytest.fixture(scope="module")
def task(coarse):
    return create_task(config("detail", coarse))


@pytest.fixture(scope="module")
def found(task):
    """The faces of a first network in four photos, and the photos' records."""
    params, state = task.init(jax.random.key(0), None)
    params = jax.tree.map(lambda leaf: 3 * leaf, params)

    @jax.jit
    def make(params, state):
        record = task.mixture.records({"all": {"id": jnp.arange(4, dtype=jnp.int32)}})
        return task.encoder.detailed(params, task.coarse_face(state, record["image"]), record["image"])

    return jax.device_get(make(params, state))


def test_coarse_faces_are_those_of_the_coarse_run(coarse, task):
    """Loaded without its photos, the network says what the run's own task says."""
    encoder, params, state = load_encoder(coarse, "coarse")
    settings = json.loads((coarse / "config.json").read_text())
    assert settings["loss"]["contour"] > 0 and encoder.image_size == settings["image_size"]
    images = jax.random.uniform(jax.random.key(0), (2, 32, 32, 3))
    ours, _ = encoder.predict(params, state, images)
    first = encoder.predict({**params, "network": encoder.init(jax.random.key(0))["params"]}, state, images)[0]
    assert np.abs(ours.codes.identity - first.codes.identity).max() > 1e-6
    face = task.coarse_face({"coarse": {"params": params, "state": state}}, images)
    expected = encoder.decoder(params)(ours.codes, 32)
    np.testing.assert_allclose(face.vertices, expected.vertices, atol=1e-3)


def test_the_packages_own_network_can_be_the_coarse_one(coarse):
    task = create_task(config("detail", coarse, coarse="default"))
    encoder, params, state = load_default_encoder(0)
    images = jax.random.uniform(jax.random.key(0), (2, encoder.image_size, encoder.image_size, 3))
    _, kept = task.init(jax.random.key(0), None)
    codes = encoder.predict(params, state, images)[0].codes
    np.testing.assert_allclose(task.coarse_face(kept, images).vertices,
                               encoder.decoder(params)(codes, encoder.image_size).vertices, atol=1e-3)


def test_true_faces_leave_only_the_wrinkles_to_explain(task, found):
    """A photo's own shape, colours, light and camera show nearly the photo, unlike a coarse run of two steps."""
    params, state = task.init(jax.random.key(0), None)

    @jax.jit
    def make(params):
        face = true_face(task.photos, task.photos.scenes(jnp.arange(4, dtype=jnp.int32)))
        return task.encoder.detailed(params, face, found.photo)

    errors = [np.mean(np.abs(faces.coarse["colour"] - found.photo)[found.coarse["free"] > 0.9])
              for faces in (make(params), found)]
    assert errors[0] < 0.03 and errors[0] < 0.5 * errors[1]


def test_displacement_only_where_it_may_be(task, found):
    assert np.abs(found.displacement).max() > 0
    assert not found.displacement[:, task.space.mask == 0].any()
    moved = np.linalg.norm(found.vertices - found.base.vertices, axis=-1)
    assert moved.max() == pytest.approx(np.abs(found.displacement).max(), rel=0.3)


def test_an_offset_that_moves_nothing_is_held(task):
    """What is broad is taken off a map, but it costs: else the network drifts to its limit and stays there."""
    params, state = task.init(jax.random.key(0), None)
    last = max(params, key=lambda name: int(name.partition("_")[2]))
    params[last] = {"kernel": jnp.zeros_like(params[last]["kernel"]), "bias": jnp.full(1, 0.5)}
    batch = {"all": {"id": jnp.arange(2, dtype=jnp.int32)}}
    _, aux = jax.jit(jax.vmap(lambda _: task.loss(params, state, batch, jax.random.key(0)), axis_name="data"))(
        jnp.zeros(1))
    assert aux.metrics["displacement"] == pytest.approx((task.config.limit * np.tanh(0.5)) ** 2, rel=1e-5)
    assert aux.metrics["map"] == pytest.approx(0, abs=1e-4)


def test_photos_together_as_on_accelerators_are_each_what_it_was(task, monkeypatch):
    """Five photos by threes, a batch and a rest, smoothed in UV space."""
    maps = jax.random.normal(jax.random.key(0), (5, task.space.uv_size, task.space.uv_size))

    def total(maps):
        values = of_each_photo(lambda one: jnp.sum(task.space.fine_part(one)**2), maps)
        return jnp.sum(jnp.arange(1.0, 6.0) * values), values

    alone = jax.device_get(jax.value_and_grad(total, has_aux=True)(maps))
    monkeypatch.setattr(detail, "TOGETHER", 3)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert "3,64,64" in str(jax.make_jaxpr(total)(maps))
    together = jax.device_get(jax.value_and_grad(total, has_aux=True)(maps))
    chex.assert_trees_all_close(together, alone, rtol=1e-4, atol=1e-4)


def test_what_the_renderer_loses_is_counted_over_all_devices():
    """Of two devices with three photos each, of which metrics are otherwise the mean."""
    record = {"image": jnp.zeros((3, 8, 8, 3)), "edges": jnp.zeros((3, 4, 3)), "normals": jnp.zeros((3, 8, 8, 3))}
    stub = types.SimpleNamespace(
        config=types.SimpleNamespace(image_size=8, loss={"photo": 1.0}), photos=None,
        mixture=types.SimpleNamespace(records=lambda batch, surface: record), coarse_face=lambda state, images: None,
        encoder=types.SimpleNamespace(encode=lambda *_: (jnp.zeros(3), jnp.zeros(3), jnp.zeros(3))))

    def lost(device):
        stub._terms = lambda *_: ({"photo": jnp.ones(())}, device)
        return Detail.loss(stub, None, None, None, None)[1].metrics

    metrics = jax.vmap(lost, axis_name="data")(jnp.array([1, 5]))
    assert metrics["overflow"].tolist() == [18, 18] and metrics["photo"].tolist() == [1, 1]


def test_what_lies_beyond_a_photos_edges_has_no_influence(task, found):
    """Photos whose left half is said to be no photo: whatever is there, map and look are the same; right, they are
    not."""
    params, _ = task.init(jax.random.key(0), None)
    params = jax.tree.map(lambda leaf: 3 * leaf, params)
    size = found.photo.shape[1]
    known = jnp.zeros((4, size, size)).at[:, :, size // 2:].set(1.0)

    @jax.jit
    def value(images):
        base, visible, raw = task.encoder.encode(params, found.face, images, known)
        parts = base, visible, raw, images, known, jnp.zeros_like(images)
        return raw, jax.lax.map(lambda one: task._terms(*one), parts)[0]["photo"]

    before = value(jnp.asarray(found.photo))
    beyond = value(jnp.asarray(found.photo).at[:, :, :size // 2].set(0.0))
    for a, b in zip(before, beyond, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
    inside = value(jnp.asarray(found.photo).at[:, :, size // 2:].set(0.0))
    assert all(np.abs(a - b).max() > 1e-3 for a, b in zip(before, inside, strict=True))


def test_the_report_leaves_out_what_lies_beyond_a_photos_edges(task, found):
    params, state = task.init(jax.random.key(0), None)
    params = jax.tree.map(lambda leaf: 3 * leaf, params)
    size = found.photo.shape[1]
    edges = np.zeros((4, 4, 3), np.float32)
    edges[:, 0] = [1, 0, -size // 2]  # the photo is where x is beyond the middle

    def maps(images):
        shown = Shown("shown", "", "", images, edges, None,
                      lambda state, images, ids: jax.tree.map(lambda leaf: jnp.asarray(leaf)[ids], found.face))
        return _detailed(task, params, state, shown).displacement

    beyond, inside = found.photo.copy(), found.photo.copy()
    beyond[:, :, :size // 2 - 1] = 0
    inside[:, :, size // 2 + 1:] = 0
    before = maps(found.photo)
    np.testing.assert_allclose(maps(beyond), before, atol=1e-5)
    assert np.abs(maps(inside) - before).max() > 1e-3


def record_of(found):
    """The record of photos in which the found surface is the true one."""
    return {"normals": found.fine["normals"], "depth": found.fine["depth"], "displacement": found.fine["displacement"],
            "mask": np.ones_like(found.fine["depth"]), "overflow": np.zeros(4, np.int32)}


def test_scores_of_a_perfect_face_and_of_its_opposite(task, found):
    numbers = _summary(jax.device_get(_scores(task, found, record_of(found))))
    assert numbers["correlation"] == pytest.approx(1, abs=1e-3)
    assert numbers["wrinkle_correlation"] == pytest.approx(1, abs=1e-3)
    assert numbers["normal_error_fine_degrees"] < 0.1 < numbers["normal_error_coarse_degrees"]
    assert numbers["relief_error_mm"] < 1e-6 and numbers["largest_in_masked_mm"] == 0
    opposite = record_of(found) | {"depth": 2 * found.coarse["depth"] - found.fine["depth"],
                                   "displacement": -found.fine["displacement"]}
    numbers = _summary(jax.device_get(_scores(task, found, opposite)))
    assert numbers["correlation_pooled"] == pytest.approx(-1, abs=1e-3)
    assert numbers["wrinkle_correlation"] == pytest.approx(-1, abs=1e-3)


def test_where_the_head_stands_in_depth_does_not_count(task, found):
    """A truth that is farther away, and slanted, has the same relief."""
    slant = np.float32(40 + 0.02 * np.arange(48)[:, None] + 0.03 * np.arange(48))
    same = record_of(found) | {"depth": found.fine["depth"] + slant}
    valid = found.fine["free"] > 0.5
    assert valid.sum() > 500
    numbers = _summary(jax.device_get(_scores(task, found, same)))
    assert numbers["relief_error_mm"] < 0.05 and numbers["apart_percent"] < 1


def test_relief_is_along_the_normals(task, found):
    """What is d nearer along the rays is d times the cosine nearer along the surface's normals."""
    ripples = np.float32(0.5 * (-1) ** np.arange(48))  # far finer than RELIEF
    numbers = _summary(jax.device_get(_scores(task, found, record_of(found) | {
        "depth": found.coarse["depth"] - ripples})))
    valid = (found.coarse["free"] > 0.5) & (found.fine["free"] > 0.5)
    expected = np.abs(ripples * found.coarse["normals"][..., 2])[valid].mean()
    assert numbers["true_relief_mm"] == pytest.approx(expected, rel=0.1)


def test_other_parts_of_the_face_are_no_relief(task, found):
    """Where the true surface is far behind the coarse one, as beside a nose that was misplaced, no pixel counts."""
    valid = (found.coarse["free"] > 0.5) & (found.fine["free"] > 0.5)
    jumped = valid & (np.arange(48) % 8 == 0)  # few, so that the mean around them stays
    before = _summary(jax.device_get(_scores(task, found, record_of(found))))
    behind = record_of(found) | {"depth": found.fine["depth"] + 30 * np.float32(jumped)}
    numbers = _summary(jax.device_get(_scores(task, found, behind)))
    more = numbers["apart_percent"] - before["apart_percent"]
    assert more == pytest.approx(100 * jumped.sum() / valid.sum(), rel=0.1)
    for key in ("true_relief_mm", "correlation"):
        assert numbers[key] == pytest.approx(before[key], rel=0.1), key


def test_correlation_and_angles_are_numpys(task, found):
    """On unrelated truth, against NumPy over the same pixels."""
    rng = np.random.default_rng(0)
    normals = rng.normal(size=found.fine["normals"].shape).astype(np.float32)
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    truth = rng.normal(size=found.fine["displacement"].shape).astype(np.float32)
    numbers = _summary(jax.device_get(_scores(task, found, record_of(found) | {
        "normals": normals, "displacement": truth})))
    valid = (found.coarse["free"] > 0.5) & (found.fine["free"] > 0.5)
    each = [np.corrcoef(found.fine["displacement"][i][valid[i]], truth[i][valid[i]])[0, 1] for i in range(4)]
    assert numbers["wrinkle_correlation"] == pytest.approx(np.mean(each), abs=1e-4)
    cosine = np.sum(found.fine["normals"] * normals, -1)[valid]
    assert numbers["normal_error_fine_degrees"] == pytest.approx(np.degrees(np.arccos(cosine)).mean(), abs=0.05)


@pytest.mark.slow
def test_run_to_its_report(coarse, tmp_path):
    settings = config("detail", coarse, steps=2, data__heldout_photos=3)
    workdir = open_workdir(tmp_path / "run", settings)
    task = create_task(settings)
    result = train(task, settings, workdir)
    numbers = task.finish(result.params, result.state, workdir, result)
    assert numbers["detail/photos"] == 3 and numbers["detail/overflow"] == 0
    assert json.loads((workdir / "report.json").read_text()) == numbers
    folder = workdir / "detail" / "heldout_0"
    displacement = read_displacement(folder / "displacement.png")
    assert displacement.shape == (64, 64) and not displacement[task.space.mask == 0].any()
    normal_map = np.asarray(Image.open(folder / "normal_map.png"))
    np.testing.assert_allclose(normal_map[task.space.mask == 0].mean(0), [127.5, 127.5, 255], atol=6)
    with Image.open(folder / "turntable.gif") as turntable:
        assert turntable.n_frames > 8
    assert {path.name for path in folder.iterdir()} >= {"detailed.obj", "detailed.ply", "detailed.glb", "coarse.glb",
                                                        "albedo.png", "displacement.npz"}


def no_uv(path):
    face = load_default(0)
    face.replace(topology=dataclasses.replace(face.topology, uv=np.zeros((0, 2), np.float32),
                                              uv_triangles=np.zeros((0, 3), np.int32))).save(path)


@pytest.mark.parametrize("changes, message", [
    ({"coarse": "/nowhere"}, "coarse: /nowhere: found no config.json, expected the workdir of a finished run"),
    ({"uv_size": 96}, "uv_size 96: .*expected a power of two"),
    ({"direction": "up"}, "direction: found 'up'"),
    ({"data__true_shapes": 2.0}, "data.true_shapes: found 2.0"),
    ({"model": "toy.npz"}, "coarse: .*: is of model 'sfm-jax default face, detail 0', expected 'toy'"),
    ({"model": "no_uv.npz"}, "coarse: .*is of model"),
    ({"data__all": "folder:/nowhere"}, "/nowhere: no such folder"),
    ({"data__shown": "aflw:/nowhere"}, "data.shown: /nowhere: no such folder"),
    ({"data__shown": "photos"}, "data.shown: photos: found 'photos', expected one of folder:PLACE"),
    ({"data__shown_photos": 0}, "data.shown_photos: found 0, expected 1 or more")])
def test_bad_settings_are_refused_in_one_line(coarse, tmp_path, monkeypatch, changes, message):
    monkeypatch.chdir(tmp_path)
    toy.model().save("toy.npz")
    no_uv("no_uv.npz")
    with pytest.raises(ValueError, match=message) as refused:
        create_task(config("detail", coarse, **changes))
    assert "\n" not in str(refused.value)


def test_a_model_without_uvs_says_how_to_add_them(coarse, tmp_path):
    plain, workdir = tmp_path / "plain.npz", tmp_path / "coarse"
    no_uv(plain)
    shutil.copytree(coarse, workdir)
    settings = json.loads((workdir / "config.json").read_text())
    (workdir / "config.json").write_text(json.dumps(settings | {"model": str(plain)}))
    with pytest.raises(ValueError, match="model .*plain.npz, uv_size 64: uv: the model has no UV layout; add one with"):
        create_task(config("detail", workdir, model=str(plain)))
    (workdir / "sources.json").write_text('{"model": "another"}')
    with pytest.raises(ValueError, match="coarse: .*: learned with another file: model was another and is "):
        load_encoder(workdir, "coarse")


def test_a_run_of_another_kind_or_without_a_checkpoint(tmp_path):
    for name, text, message in (("scans", '{"task": "sphere_basis", "keep": 2}', "found task 'sphere_basis'"),
                                ("broken", "{", "not a readable config"),
                                ("empty", '{"task": "photo_model", "trunk": "compact", "sphere": "hard", "keep": 2}',
                                 "found no checkpoint")):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "config.json").write_text(text)
        with pytest.raises(ValueError, match=f"coarse: .*{message}"):
            load_encoder(folder, "coarse")


def test_detailed_is_a_pytree(found):
    assert isinstance(jax.tree.map(lambda leaf: leaf[:1], found), Detailed)
