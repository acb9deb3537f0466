"""The command: tables in every format, a network's own predictions, bad input told in one line."""

import argparse
import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import toy
import trimesh
from matplotlib import cbook
from PIL import Image

from sfm_jax import evaluate
from sfm_jax.evaluation.protocols.matching import photos_without_face
from sfm_jax.evaluation.protocols.now import write_prediction
from sfm_jax.inference.result_files import settle
from sfm_jax.morphable.default import load_default
from sfm_jax.reconstruct import main as reconstruct


def run(*arguments):
    return evaluate.main([str(argument) for argument in arguments])


def write_label(path, points, yaw):
    """An AFLW2000-3D label of points [68, 2] in our pixels."""
    scipy.io.savemat(path, {"pt3d_68": np.vstack([points.T + 0.5, np.zeros(68)]),
                            "Pose_Para": np.array([[0, np.deg2rad(yaw), 0, 0, 0, 0, 1e-3]])})


@pytest.fixture
def labels(tmp_path):
    """The truth of three faces, of every bin, whose boxes are 60 pixels large; and their points."""
    points = np.random.default_rng(0).uniform(0, 1, (3, 68, 2))
    points[:, :2] = [[0, 0], [1, 1]]
    points *= [90, 40]
    (tmp_path / "truth").mkdir()
    for number, yaw in enumerate((1, 45, -80)):
        write_label(tmp_path / "truth" / f"face{number}.mat", points[number], yaw)
    return points


def predict(path, points, shift=(0.0, 3.0)):
    np.savez(path, **{f"face{number}": one + np.array(shift) for number, one in enumerate(points)})
    return path


def test_a_table_in_every_format(labels, tmp_path, capsys):
    """A shift of 3 pixels is 5 % of boxes of 60; of peers there are rows with where they are from."""
    predictions = predict(tmp_path / "mine.npz", labels)
    arguments = ("--protocol=aflw2000", f"--truth={tmp_path / 'truth'}", f"--predictions={predictions}")
    assert run(*arguments, f"--out={tmp_path / 'out'}", "--name=A_method") == 0
    printed = capsys.readouterr().out
    out = tmp_path / "out"
    assert (out / "table.md").read_text().strip() in printed
    assert "| **A_method (3 of 3 faces)** | 5.00 | 5.00 | 5.00 | 5.00 | 5.00 [5.00, 5.00] | measured here |" in printed
    assert "| 3DDFA | 3.78 | 4.54 | 7.93 | 5.42 |  | Zhu et al., CVPR 2016 |" in printed
    tex = (out / "table.tex").read_text()
    assert r"A\_method (3 of 3 faces) & 5.00 & 5.00" in tex and tex.count("\\\\\n") == 8 and "\\toprule" in tex
    rows = list(csv.DictReader((out / "table.csv").read_text().splitlines()))
    assert float(rows[0]["mean"]) == pytest.approx(5) and rows[2]["source"] == "Zhu et al., CVPR 2016"
    samples = list(csv.DictReader((out / "per_sample.csv").read_text().splitlines()))
    assert [row["name"] for row in samples] == ["face0", "face1", "face2"]
    assert [float(row["nme_percent"]) for row in samples] == pytest.approx([5, 5, 5])
    numbers = json.loads((out / "outcome.json").read_text())
    assert numbers["measured"][0]["values"]["60-90"] == {"value": pytest.approx(5)}
    assert len(numbers["published"]) == 5 and all(row["source"] for row in numbers["published"])
    picture = np.asarray(Image.open(out / "curve.png").convert("RGB"))
    assert picture.min() < 200 and (picture == 255).mean() > 0.7
    assert sorted(file.name for file in out.iterdir()) == [
        "curve.png", "outcome.json", "per_sample.csv", "table.csv", "table.md", "table.tex"]


def test_one_seed_one_table(labels, tmp_path):
    rng = np.random.default_rng(0)
    for number in range(3, 40):
        write_label(tmp_path / "truth" / f"face{number}.mat", labels[0], rng.uniform(-90, 90))
    noisy = {f"face{number}": labels[number if number < 3 else 0] + rng.normal(size=(68, 2)) for number in range(40)}
    np.savez(tmp_path / "noisy.npz", **noisy)
    texts = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert run("--protocol=aflw2000", f"--truth={tmp_path / 'truth'}", f"--predictions={tmp_path / 'noisy.npz'}",
                   f"--out={tmp_path / name}", f"--seed={seed}") == 0
        texts.append((tmp_path / name / "outcome.json").read_text())
    assert texts[0] == texts[1] != texts[2]


@pytest.fixture(scope="module")
def photo():
    """A path, and what the package's network says of it."""
    from sfm_jax.inference.reconstruction import Reconstructor
    from sfm_jax.reconstruct import read_photo

    path = cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)
    (face,) = Reconstructor(detail=0)(read_photo(path))
    return path, face


def test_the_network_of_the_package_on_photos(photo, tmp_path, capsys):
    """Labels that are its own answer, and of another face that is not there."""
    path, face = photo
    (tmp_path / "truth").mkdir()
    for name, shift in (("a", 0), ("b", [0.0, 500.0])):
        shutil.copy(path, tmp_path / "truth" / f"{name}.jpg")
        write_label(tmp_path / "truth" / f"{name}.mat", face.landmarks68_px + shift, 5)
    assert run("--protocol=aflw2000", f"--truth={tmp_path / 'truth'}", f"--out={tmp_path / 'out'}", "--level=0") == 0
    samples = list(csv.DictReader((tmp_path / "out" / "per_sample.csv").read_text().splitlines()))
    assert [row["found"] for row in samples] == ["1", "0"] and float(samples[0]["nme_percent"]) < 1e-3
    assert "No face found in 1 of 2 photos" in (tmp_path / "out" / "table.md").read_text()

    arguments = ("--protocol=aflw2000", f"--truth={tmp_path / 'truth'}", f"--out={tmp_path / 'some'}", "--level=0")
    (tmp_path / "truth" / "b.jpg").unlink()
    capsys.readouterr()
    assert "b.jpg: no such file" in refused(capsys, *arguments)
    assert run(*arguments, "--partial") == 0 and "(1 of 2 faces)" in capsys.readouterr().out
    (tmp_path / "truth" / "a.jpg").unlink()
    assert "truth: found none of the 2 photos, such as a.jpg" in refused(capsys, *arguments, "--partial")


@pytest.mark.slow
def test_the_network_of_a_workdir_on_photos(coarse, photo, tmp_path):
    path, face = photo
    (tmp_path / "truth").mkdir()
    shutil.copy(path, tmp_path / "truth" / "a.jpg")
    write_label(tmp_path / "truth" / "a.mat", face.landmarks68_px, 5)
    assert run("--protocol=aflw2000", f"--truth={tmp_path / 'truth'}", f"--workdir={coarse}",
               f"--out={tmp_path / 'out'}") == 0
    (sample,) = csv.DictReader((tmp_path / "out" / "per_sample.csv").read_text().splitlines())
    # Two steps of training teach nothing, but that the face is where it was cropped.
    assert 0.5 < float(sample["nme_percent"]) < 30


@pytest.mark.slow
def test_codes_of_a_gaussian_network_are_compared_by_their_distance(coarse, photo, tmp_path, caplog):
    """As in the report of its run; those on a sphere by their cosine."""
    shutil.copytree(coarse, tmp_path / "hard")
    config = tmp_path / "hard" / "config.json"
    config.write_text(config.read_text().replace('"gaussian"', '"hard"'))
    for workdir, metric in ((coarse, "euclidean"), (tmp_path / "hard", "cosine")):
        photos = evaluate._Photos(argparse.Namespace(workdir=workdir, fit=False))
        (face,) = photos.of({"a": Path(photo[0])})["a"]
        length = np.linalg.norm(face.code)
        assert photos.metric == metric and (abs(length - 1) < 1e-5) == (metric == "cosine")
        np.testing.assert_allclose(face.z, face.code / length, atol=1e-5)
    assert not caplog.records


def test_predictions_for_now_are_neutral_and_as_the_challenge_takes_them(photo, tmp_path, capsys):
    path, face = photo
    (tmp_path / "photos" / "Ann" / "selfie").mkdir(parents=True)
    shutil.copy(path, tmp_path / "photos" / "Ann" / "selfie" / "IMG_1.jpg")
    (tmp_path / "imagepathstest.txt").write_text("Ann/selfie/IMG_1.jpg\n")
    arguments = ("--protocol=now", f"--truth={tmp_path}", f"--photos={tmp_path / 'photos'}", "--level=0",
                 f"--out={tmp_path / 'out'}")
    assert run(*arguments) == 0
    assert "predictions of 1 of 1 photos, as the challenge takes them" in capsys.readouterr().out
    place = tmp_path / "out" / "predictions" / "Ann" / "selfie"
    mesh = trimesh.load(place / "IMG_1.ply", process=False)
    np.testing.assert_allclose(mesh.vertices, face.vertices(neutral=True), atol=1e-3)
    np.testing.assert_allclose(np.load(place / "IMG_1.npy"),
                               mesh.vertices[face.model.topology.landmarks[[36, 39, 42, 45, 33, 48, 54]]], atol=1e-4)
    # A scan that is the prediction, turned: no error.
    points = "".join(f'<point x="{z}" y="{x}" z="{y}"/>' for x, y, z in np.load(place / "IMG_1.npy"))
    for folder in ("scans", "scans_lmks_onlypp"):
        (tmp_path / folder / "Ann").mkdir(parents=True)
    trimesh.Trimesh(mesh.vertices[:, [2, 0, 1]], mesh.faces, process=False).export(tmp_path / "scans/Ann/scan.obj")
    (tmp_path / "scans_lmks_onlypp" / "Ann" / "scan.pp").write_text(f"<PickedPoints>{points}</PickedPoints>")
    assert run(*arguments) == 0
    values = json.loads((tmp_path / "out" / "outcome.json").read_text())["measured"][0]["values"]
    assert values["mean"]["value"] < 0.01
    # What is not ours is not touched; what an earlier run left of an image that shows no face is removed, and told.
    (place / "notes.npy").write_bytes(b"")
    capsys.readouterr()
    assert f"{place / 'notes.npy'}: is in the way, expected predictions of the list's" in refused(capsys, *arguments)
    assert (place / "notes.npy").exists() and (place / "IMG_1.ply").exists()
    (place / "notes.npy").unlink()
    (tmp_path / "imagepathstest.txt").write_text("Ann/selfie/IMG_1.jpg\nAnn/selfie/IMG_2.jpg\n")
    Image.new("RGB", (64, 64)).save(tmp_path / "photos" / "Ann" / "selfie" / "IMG_2.jpg")
    (place / "IMG_2.ply").write_bytes((place / "IMG_1.ply").read_bytes())
    (place / "IMG_2.npy").write_bytes((place / "IMG_1.npy").read_bytes())
    assert run(*arguments) == 0
    assert sorted(file.name for file in place.iterdir()) == ["IMG_1.npy", "IMG_1.ply"]
    assert "No face found in 1 of 2 photos, left out, which flatters: Ann/selfie/IMG_2." in capsys.readouterr().out


def test_codes_shapes_models_and_videos(tmp_path, capsys):
    rng = np.random.default_rng(0)
    people = rng.normal(size=(8, 16))
    names = {f"p{person}/{photo}": people[person] + 0.1 * rng.normal(size=16) for person in range(8)
             for photo in range(2)}
    np.savez(tmp_path / "codes.npz", **names)
    lines = [f"p{person}/0.jpg p{person}/1.jpg 1\np{person}/0.jpg p{(person + 1) % 8}/1.jpg 0" for person in range(8)]
    (tmp_path / "pairs.txt").write_text("\n".join(lines + lines[:2]) + "\n")
    assert run("--protocol=verification", f"--truth={tmp_path / 'pairs.txt'}", f"--out={tmp_path / 'v'}",
               f"--predictions={tmp_path / 'codes.npz'}") == 0
    perfect = "100.00 [100.00, 100.00]"
    assert f"**codes, codes (20 of 20 pairs)** | {perfect} | 0.00 | {perfect} |" in capsys.readouterr().out
    toy.model().save(tmp_path / "model.npz")
    faces = np.asarray(toy.model().decode(rng.normal(size=(5, 6)).astype(np.float32)))
    (tmp_path / "faces").mkdir()
    for number, vertices in enumerate(faces):
        np.savez(tmp_path / "faces" / f"{number}.npz", vertices=vertices)
    assert run("--protocol=model_quality", f"--truth={tmp_path / 'faces'}", f"--out={tmp_path / 'q'}",
               f"--predictions={tmp_path / 'model.npz'}") == 0
    assert "**model, 6 components** | 100.00 | 0.00 [0.00, 0.00]" in capsys.readouterr().out
    toy.model().replace(identity_basis=np.zeros((0, 42, 3)), identity_sigma=np.zeros(0)).save(tmp_path / "none.npz")
    assert "none.npz: identity_basis: found 0 components" in refused(
        capsys, "--protocol=model_quality", f"--truth={tmp_path / 'faces'}", f"--predictions={tmp_path / 'none.npz'}",
        f"--out={tmp_path / 'q'}")
    np.save(tmp_path / "clip.npy", np.arange(60.0)[:, None, None] * np.ones((60, 68, 2)))
    assert run("--protocol=jitter", f"--out={tmp_path / 'j'}", f"--predictions={tmp_path / 'clip.npy'}") == 0
    assert "(videos: 1)** | 0.000 [0.000, 0.000] | 0.000 [0.000, 0.000] | 1.414 |" in capsys.readouterr().out


def test_shapes_and_codes_of_the_reconstruct_command(tmp_path, capsys):
    model, rng = load_default(0), np.random.default_rng(0)
    for person in range(3):
        identity = rng.normal(size=120).astype(np.float32)
        for photo in range(2):
            place = tmp_path / "faces" / f"p{person}" / f"photo{photo}_1"
            place.mkdir(parents=True)
            noisy = identity + 0.05 * rng.normal(size=120).astype(np.float32)
            np.savez(place / "params.npz", identity=noisy, z=noisy / np.linalg.norm(noisy), expression=np.full(51, 0.2),
                     vertices=np.asarray(model.mean), model="default", detail=1)
    assert run("--protocol=sir", f"--predictions={tmp_path / 'faces'}", f"--out={tmp_path / 's'}") == 0
    values = json.loads((tmp_path / "s" / "outcome.json").read_text())["measured"][0]["values"]
    assert values["rank-1 %"]["value"] == 100 and values["between / within"]["value"] > 5
    assert "faces (6 photos of 3 people)" in (out := capsys.readouterr().out) and "No face" not in out
    settle(tmp_path / "faces" / "p0", "turned", 0)
    assert run("--protocol=sir", f"--predictions={tmp_path / 'faces'}", f"--out={tmp_path / 's'}") == 0
    assert "No face found in 1 of 7 photos, left out, which flatters: p0/turned." in capsys.readouterr().out

    # A photo in which no face was found left no folder, but is listed: its pairs are refused, and it is told.
    pairs = [f"p{k % 3}/photo0 p{(k + other) % 3}/photo1 {1 - other}" for k in range(10) for other in (0, 1)]
    (tmp_path / "pairs.txt").write_text("\n".join(pairs) + "\n")
    (tmp_path / "faces" / "p2" / "photo1_1" / "params.npz").unlink()
    arguments = ("--protocol=verification", f"--truth={tmp_path / 'pairs.txt'}", f"--predictions={tmp_path / 'faces'}",
                 f"--out={tmp_path / 'v'}")
    assert "faces, codes: 1 of 6 names are not there (p2/photo1)" in refused(capsys, *arguments)
    settle(tmp_path / "faces" / "p2", "photo1", 0)
    assert run(*arguments) == 0
    assert "p2/photo1" in capsys.readouterr().out
    lines = (tmp_path / "v" / "per_sample.csv").read_text().splitlines()[1:]
    without = {tuple(line.split(",")[:2]) for line in lines if line.split(",")[4] == ""}  # a score
    assert len(lines) == 20 and without == {("p1/photo0", "p2/photo1"), ("p2/photo0", "p2/photo1")}


def test_photos_without_a_face_are_told_from_those_never_looked_at(labels, tmp_path, capsys):
    """As the reconstruct command lists them; the list follows later runs, and is no excuse for a face."""
    faces = tmp_path / "faces"
    (faces / "face0_1").mkdir(parents=True)
    np.savez(faces / "face0_1" / "params.npz", landmarks68_px=labels[0] + [0, 3.0])
    (faces / "face0_1" / "params.json").write_text("{}")
    arguments = ("--protocol=aflw2000", f"--truth={tmp_path / 'truth'}", f"--out={tmp_path / 'out'}",
                 f"--predictions={faces}")
    assert "1 of 3 names match; 2 without a prediction (face1, face2)" in refused(capsys, *arguments)
    for name, count in (("face0", 1), ("face1", 0), ("face2", 0), ("face2", 1), ("face1", 0)):
        settle(faces, name, count)
    assert json.loads((faces / "no_face.json").read_text()) == ["face1"]
    assert "2 of 3 names match; 1 without a prediction (face2)" in refused(capsys, *arguments)
    assert run(*arguments, "--partial") == 0
    assert "No face found in 1 of 2 photos" in (out := capsys.readouterr().out) and "face1." in out
    settle(faces, "face2", 0)
    assert run(*arguments) == 0
    assert "No face found in 2 of 3 photos" in capsys.readouterr().out
    (faces / "no_face.json").write_text('["face0", "face1", "face2"]')
    assert run(*arguments) == 0
    assert "No face found in 2 of 3 photos" in capsys.readouterr().out
    for text, message in (("[", "not readable as JSON"), ('{"face1": 1}', "found no list of names")):
        (faces / "no_face.json").write_text(text)
        assert f"no_face.json: {message}" in refused(capsys, *arguments)


def test_the_reconstruct_command_lists_photos_without_a_face(tmp_path):
    Image.new("RGB", (40, 30)).save(tmp_path / "blank.png")
    (tmp_path / "text.png").write_text("no photo")
    assert reconstruct([str(tmp_path / "blank.png"), str(tmp_path / "text.png"), f"--out={tmp_path / 'faces'}",
                        "--level=0"]) == 3
    assert photos_without_face(tmp_path) == ["faces/blank"]


def ball(path, factor=1.0):
    path.parent.mkdir(parents=True, exist_ok=True)
    mesh = trimesh.creation.icosphere(subdivisions=2, radius=80.0 * factor)
    mesh.export(path)
    return mesh


def refused(capsys, *arguments):
    """The line that tells what is wrong."""
    assert run(*arguments) == 2
    out, error = capsys.readouterr()
    assert not out and error.startswith("sfm_jax: error: ") and error.count("\n") == 1
    return error


def test_bad_input_is_told_in_one_line(labels, tmp_path, capsys):
    def aflw(points, *more):
        return refused(capsys, "--protocol=aflw2000", f"--truth={tmp_path / 'truth'}", f"--out={tmp_path / 'out'}",
                       f"--predictions={predict(tmp_path / 'p.npz', points)}", *more)

    assert "p.npz: key 'face0': found landmarks of shape (49, 2), expected 68" in aflw(labels[:, :49])
    assert "key 'face0': landmark 0 is not finite" in aflw(labels * np.nan)
    assert "2 of 3 names match; 1 without a prediction (face2)" in aflw(labels[:2])
    assert "--truth: is needed" in refused(capsys, "--protocol=aflw2000", f"--out={tmp_path / 'out'}")
    assert "nowhere: no such folder" in refused(capsys, "--protocol=aflw2000", "--truth=nowhere",
                                                f"--out={tmp_path / 'out'}")
    (tmp_path / "file").write_text("")
    assert "--out: " in refused(capsys, "--protocol=jitter", f"--out={tmp_path / 'file' / 'out'}", "--predictions=x")

    ball(tmp_path / "scans" / "a.ply")
    meshes = ("--protocol=facescape", "--aligned", f"--truth={tmp_path / 'scans'}", f"--out={tmp_path / 'out'}",
              f"--predictions={tmp_path / 'meshes'}")
    ball(tmp_path / "meshes" / "a.ply", 0.001)
    assert "found a face of 0.2771 mm" in (error := refused(capsys, *meshes)) and "multiply by 1000" in error
    assert run(*meshes, "--unit=m") == 0
    capsys.readouterr()
    ball(tmp_path / "meshes" / "b.ply")
    assert "1 of 1 names match; 1 predicted that the truth does not have (b)" in refused(capsys, *meshes)
    trimesh.PointCloud(ball(tmp_path / "meshes" / "b.ply").vertices).export(tmp_path / "meshes" / "a.ply")
    (tmp_path / "meshes" / "b.ply").unlink()
    assert "a.ply: a mesh without triangles" in refused(capsys, *meshes)
    assert "no scans" not in refused(capsys, "--protocol=now", f"--truth={tmp_path / 'scans'}",
                                     f"--predictions={tmp_path / 'meshes'}", f"--out={tmp_path / 'out'}")


def test_now_refuses_what_the_reconstruct_command_calls_the_face(tmp_path, capsys):
    model = load_default(0)
    expression = np.zeros(51, np.float32)
    expression[3] = 0.5
    smiling = np.asarray(model.decode(np.zeros(120, np.float32), expression))
    path = write_prediction(tmp_path / "out", "Ann/selfie/IMG_1", smiling, model.topology.triangles,
                            smiling[model.topology.landmarks[[36, 39, 42, 45, 33, 48, 54]]])
    np.savez(path.parent / "params.npz", identity=np.zeros(120), expression=expression, vertices=smiling,
             model="default", detail=0)
    (tmp_path / "imagepathsvalidation.txt").write_text("Ann/selfie/IMG_1.jpg\n")
    error = refused(capsys, "--protocol=now", f"--truth={tmp_path}", f"--predictions={tmp_path / 'out'}",
                    f"--out={tmp_path / 'results'}")
    assert "IMG_1.ply: includes an expression" in error and "expected the neutral mesh" in error


@pytest.mark.parametrize("arguments, message", [
    (["--protocol=nothing"], "found 'nothing'? expected one of aflw2000, now, .*model_quality, jitter"),
    (["--protocol=verificaton"], "found 'verificaton', did you mean verification?"),
    (["--protocol=jitter", "--metrical"], "--metrical: found with --protocol=jitter, expected with now only"),
    (["--protocol=realy", "--unit=m"], "--unit: found with --protocol=realy, expected with now, micc, facescape only"),
    (["--protocol=now", "--predictions=x", "--photos=y"], "--photos: found with --predictions, expected without"),
    (["--protocol=sir", "--partial"], "--partial: found with --protocol=sir, expected with aflw2000, now"),
    (["--protocol=sir", "--predictions=x", "--level=1"], "--level: found with --workdir or --predictions"),
    (["--protocol=now", "--seed=-1"], "--seed: found -1, expected 0 or more"),
    (["--protocol=aflw2000", "--first-pixel=nan"], "--first-pixel: found nan, expected a number of pixels"),
])
def test_options_that_cannot_be_meant_are_told_in_one_line(arguments, message, capsys):
    assert run(*arguments) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and re.search(message.replace("?", r"\?"), error)
