import dataclasses
import json

import numpy as np
import pytest
import toy
from small_face import faces, random_codes, small_face, write_obj

from sfm_jax import convert
from sfm_jax.morphable.formats import load_face_model
from sfm_jax.morphable.formats.eos import save_eos
from sfm_jax.morphable.formats.obj import read_mesh
from sfm_jax.morphable.model import MorphableModel


@pytest.fixture(scope="module")
def face():
    return small_face()


def run(*arguments):
    return convert.main([str(argument) for argument in arguments])


def test_there_and_back_by_every_suffix(face, tmp_path, capsys):
    face.model.save(tmp_path / "face.npz")
    assert run(tmp_path / "face.npz", tmp_path / "face.bin") == 0
    assert run(tmp_path / "face.bin", tmp_path / "face.glb") == 0
    assert run(tmp_path / "face.glb", tmp_path / "again.npz") == 0
    again, codes = MorphableModel.load(tmp_path / "again.npz"), random_codes(face.model)
    np.testing.assert_allclose(faces(again, *codes), faces(face.model, *codes), atol=3e-5)
    np.testing.assert_array_equal(again.topology.landmarks, face.landmarks)
    out, error = capsys.readouterr()
    assert not error and "3642, in 7120 triangles" in out and "2, activations: jawOpen, mouthSmileLeft" in out
    assert "not found    regions\n" in out and "not found    albedo, regions\n" in out
    assert "written, without regions, contour lines" in out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again.npz", "face.bin", "face.glb", "face.npz"]


def test_a_folder_of_objs(face, tmp_path):
    face.model.save(tmp_path / "face.npz")
    assert run(tmp_path / "face.npz", tmp_path / "objs", "--identities=2") == 0
    names = ["expression_jawOpen", "expression_mouthSmileLeft", "identity_001", "identity_002", "mean"]
    assert sorted(path.stem for path in (tmp_path / "objs").glob("*.obj")) == names
    model = load_face_model(tmp_path / "objs")
    assert len(model.identity_basis) == 4 and len(model.topology.uv) == len(face.model.topology.uv)


def test_of_a_folder_only_what_was_written_before_is_replaced(tmp_path, capsys):
    objs, model = tmp_path / "objs", toy.model()
    model.save(tmp_path / "toy.npz")
    objs.mkdir()
    mine = {"identity_of_anna.obj", "expression_smile_scan.obj", "identity_007.obj"}
    for name in mine:
        (objs / name).write_text("mine")
    assert run(tmp_path / "toy.npz", objs) == 0
    model.replace(mean=model.mean + 1, expression_basis=model.expression_basis[:1],
                  expression_names=("unit0",)).save(tmp_path / "toy.npz")
    assert run(tmp_path / "toy.npz", objs, "--identities=2") == 0
    written = {"mean.obj", "identity_001.obj", "identity_002.obj", "expression_unit0.obj"}
    assert {path.name for path in objs.iterdir()} == mine | written | {"sfm_jax_convert.txt"}
    assert {path.name for path in objs.iterdir() if path.read_text() == "mine"} == mine
    np.testing.assert_allclose(read_mesh(objs / "mean.obj").vertices, model.mean + 1, atol=1e-4)
    (objs / "sfm_jax_convert.txt").unlink()
    (objs / "mean.obj").write_text("mine")
    assert run(tmp_path / "toy.npz", objs) == 2
    assert "objs/expression_unit0.obj: is in the way, expected nothing or what" in capsys.readouterr().err
    assert (objs / "mean.obj").read_text() == "mine"


@pytest.mark.parametrize(("names", "target", "message"), [
    (("x", "y", "x"), "out.glb", "out.glb: expressions 'x', 'x': found more than one"),
    (("a/b", "y", "a_b"), "out", "out: expressions 'a/b', 'a_b': found more than one"),
    (("x", "identity 1", "y"), "out.glb", "out.glb: expression 'identity 1': would be taken for an identity")])
def test_expressions_that_would_replace_others_are_refused(tmp_path, capsys, names, target, message):
    toy.model().replace(expression_names=names).save(tmp_path / "toy.npz")
    assert run(tmp_path / "toy.npz", tmp_path / target) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / target).exists()


def test_a_model_with_other_landmarks_than_ibugs(face, tmp_path, capsys):
    topology = dataclasses.replace(face.model.topology, landmarks=face.model.topology.landmarks[17:37])
    face.model.replace(topology=topology).save(tmp_path / "face.npz")
    assert run(tmp_path / "face.npz", tmp_path / "face.glb") == 0
    out = capsys.readouterr().out
    assert "landmarks    20\n" in out and "20 landmarks, which are not iBUG's 68" in out
    assert len(load_face_model(tmp_path / "face.glb").topology.landmarks) == 0


def test_what_is_said_of_identities_is_measured_on_their_vertices(tmp_path, capsys):
    model = toy.model()
    model.save(tmp_path / "toy.npz")
    assert run(tmp_path / "toy.npz", tmp_path / "out.npz") == 0
    spread = [np.sqrt(np.mean([x**2 + y**2 + z**2 for x, y, z in move])) for move in model.identity_basis]
    assert f"identities   6, rms {max(spread):.2f} to {min(spread):.2f} mm" in capsys.readouterr().out


def test_companions_of_the_surrey_model_are_found_beside_it(face, tmp_path, capsys):
    save_eos(tmp_path / "sfm_shape_7.bin", face.model)
    mapping = "\n".join(f"{i + 1} = {vertex}" for i, vertex in enumerate(face.landmarks) if not i < 8)
    (tmp_path / "ibug_to_sfm.txt").write_text(f"[landmark_mappings]\n{mapping}\n")
    sides = {"right_contour": face.landmarks[:8].tolist(), "left_contour": face.landmarks[9:17].tolist()}
    (tmp_path / "sfm_model_contours.json").write_text(json.dumps({"model_contour": sides}))
    assert run(tmp_path / "sfm_shape_7.bin", tmp_path / "out.npz") == 0
    out = capsys.readouterr().out
    assert "with landmarks:" in out and "with contours:" in out and "landmarks estimated: 1, 2, 3, 4, 5, 6, 7, 8" in out


def test_keys_and_units_of_an_npz(face, tmp_path):
    np.savez(tmp_path / "in.npz", mu=face.mean / 10, W=face.identity / 10)
    write_obj(tmp_path / "template.obj", face.mean, face.triangles)
    arguments = (tmp_path / "in.npz", tmp_path / "out.npz", "--keys=mean:mu,identity:W")
    assert run(*arguments, "--unit=cm", f"--topology={tmp_path / 'template.obj'}") == 0
    np.testing.assert_allclose(MorphableModel.load(tmp_path / "out.npz").mean, face.mean, atol=2e-5)


@pytest.mark.parametrize(("arguments", "message"), [
    (["absent.bin", "out.npz"], "absent.bin: no such file or folder"),
    (["in.npz", "out.fbx"], "out.fbx: suffix '.fbx', expected .npz, .bin, .glb or a folder's name without one"),
    (["in.npz", "nowhere/out.npz"], "nowhere/out.npz: the folder nowhere does not exist"),
    (["in.npz"], "the following arguments are required: OUT"),
    (["in.npz", "out.npz", "--unit=inch"], "unit: found 'inch'"),
    (["in.npz", "out.npz", "--keys=mean"], "--keys: found 'mean', expected PART:KEY,.."),
    (["in.npz", "out.npz", "--uv=a.obj"], "in.npz: format 'npz' has no option 'uv'"),
    (["in.npz", "out.npz", "--format=maya"], "format: found 'maya', expected one of"),
    (["in.npz", "out.npz", "--identities=-1"], "--identities: found -1, expected 1 or more"),
    (["default", "out.npz", "--identities=500"], "--identities: found 500, expected at most the 120 of default"),
    (["default", "out.npz", "--unit=m"], "--unit: found with the embedded model, expected with a file"),
    (["in.npz", "out.npz", "--identities=many"], "invalid int value: 'many'"),
    (["in.npz", "out.npz"], "in.npz: key 'mean' is missing, found x"),
    (["cut.bin", "out.npz"], "cut.bin: ends within its shape basis"),
    (["default", "folder.npz"], "Is a directory")])
def test_bad_input_is_one_line_and_exit_code_2(face, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    np.savez("in.npz", x=1)
    (tmp_path / "folder.npz").mkdir()
    save_eos("cut.bin", face.model)
    (tmp_path / "cut.bin").write_bytes((tmp_path / "cut.bin").read_bytes()[:100_000])
    assert run(*arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("sfm_jax: error: ") and message in error and error.count("\n") == 1
    assert not (tmp_path / "out.npz").exists()
