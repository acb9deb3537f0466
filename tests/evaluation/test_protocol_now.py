"""NoW: a benchmark of spheres and of the embedded face laid out as its authors do, with errors that are known."""

import json

import numpy as np
import pytest
import trimesh

from sfm_jax.evaluation.protocols import now
from sfm_jax.evaluation.protocols.meshes import read_mesh, read_points, read_prediction
from sfm_jax.morphable.default import load_default

SEVEN = np.array([[-45.0, 10, 0], [-15, 10, 20], [15, 10, 20], [45, 10, 0], [0, -10, 25], [-20, -30, 4], [20, -30, 0]])
IMAGES = ("Ann/multiview_neutral/IMG_1", "Ann/selfie/IMG_2", "Bob/multiview_expressions/IMG_3",
          "Bob/multiview_occlusions/IMG_4")


def ball(radius, subdivisions=3):
    return trimesh.creation.icosphere(subdivisions=subdivisions, radius=radius)


def write_pp(path, points):
    lines = "".join(f'<point x="{x}" y="{y}" z="{z}" name="{k}" active="1"/>\n' for k, (x, y, z) in enumerate(points))
    path.write_text(f"<!DOCTYPE PickedPoints>\n<PickedPoints>\n<DocumentData/>\n{lines}</PickedPoints>\n")


@pytest.fixture
def truth(tmp_path):
    """Two people whose heads are balls of 40 mm, all of which the crop takes in."""
    place = tmp_path / "NoW"
    for person in ("Ann", "Bob"):
        for folder in ("scans", "scans_lmks_onlypp"):
            (place / folder / person).mkdir(parents=True)
        ball(40.0).export(place / "scans" / person / "scan.obj")
        write_pp(place / "scans_lmks_onlypp" / person / "scan.pp", SEVEN)
    (place / "imagepathsvalidation.txt").write_text("".join(f"{name}.jpg\n" for name in IMAGES))
    return place


def predict(folder, radii, factor=1.0):
    for name, radius in zip(IMAGES, radii, strict=False):
        mesh = ball(radius, 5)
        now.write_prediction(folder, name, factor * mesh.vertices, mesh.faces, factor * SEVEN)
    return folder


def test_known_swellings_come_out_person_by_person_and_challenge_by_challenge(truth, tmp_path):
    folder = predict(tmp_path / "out", (41.0, 42.0, 43.0, 43.0))
    outcome = now.evaluate(truth, folder, "balls", metrical=True)
    np.testing.assert_allclose([sample["median"] for sample in outcome.samples], [1, 2, 3, 3], atol=0.02)
    assert [sample["challenge"] for sample in outcome.samples] == ["neutral", "selfie", "expression", "occlusion"]
    everyone = outcome.rows[0].values
    np.testing.assert_allclose(everyone["median"].value, 2.5, atol=0.51)  # between 2 and 3: half the points are of each
    np.testing.assert_allclose(everyone["mean"].value, 2.25, atol=0.02)
    np.testing.assert_allclose(everyone["std"].value, np.std([1, 2, 3, 3]), atol=0.02)
    names = [row.name for row in outcome.rows]
    assert names == ["balls (4 of 4 images)", "balls, neutral (1)", "balls, expression (1)", "balls, occlusion (1)",
                     "balls, selfie (1)"]
    np.testing.assert_allclose([row.values["mean"].value for row in outcome.rows[1:]], [1, 3, 3, 2], atol=0.02)
    # Persons are drawn, not images: Ann twice, both, or Bob twice.
    np.testing.assert_allclose([everyone["mean"].low, everyone["mean"].high], [1.5, 3.0], atol=0.02)
    np.testing.assert_allclose([everyone["std"].low, everyone["std"].high], [0, np.std([1, 2, 3, 3])], atol=0.02)
    assert everyone["median"].low < 2.02
    np.testing.assert_allclose(everyone["median"].high, 3, atol=0.02)
    assert outcome.published == () and np.isnan(outcome.rows[1].values["mean"].low)
    lines = outcome.figures["cumulative"].axes[0].lines
    for line, radius in zip(lines[:4], (1, 3, 3, 2), strict=True):
        np.testing.assert_allclose(np.interp([radius - 0.1, radius + 0.1], *line.get_data()), [0, 100], atol=0.1)
    x, y = lines[-1].get_data()
    np.testing.assert_allclose(np.interp([0.9, 1.1, 1.9, 2.1, 3.1], x, y), [0, 25, 25, 50, 100], atol=0.1)


def test_intervals_draw_persons_with_all_their_images(truth, tmp_path):
    """Two people of the same two errors: whoever is drawn, the mean is theirs."""
    mean = now.evaluate(truth, predict(tmp_path / "out", (41.0, 43.0) * 2), metrical=True).rows[0].values["mean"]
    np.testing.assert_allclose([mean.low, mean.value, mean.high], 2.0, atol=0.02)


def test_without_metrical_any_unit_will_do_and_size_is_no_error(truth, tmp_path):
    folder = predict(tmp_path / "out", (41.0, 42.0, 43.0, 43.0), factor=0.001)
    outcome = now.evaluate(truth, folder)
    assert outcome.rows[0].values["mean"].value < 0.02
    np.testing.assert_allclose(outcome.samples[1]["scale"], 1000 * 40 / 42, rtol=1e-3)
    assert [row.name for row in outcome.published][0].startswith("DECA")
    with pytest.raises(ValueError, match="found a face of 0.1.* mm .*: multiply by 1000 if these are metres"):
        now.evaluate(truth, folder, metrical=True)
    assert now.evaluate(truth, folder, metrical=True, unit=1000.0).rows[0].values["mean"].value > 2


def test_a_mesh_with_the_expression_of_its_params_is_refused(truth, tmp_path):
    model = load_default(0)
    identity, expression = np.zeros(120, np.float32), np.zeros(51, np.float32)
    identity[:5], expression[7] = 1.0, 0.6
    neutral = np.asarray(model.decode(identity))
    smiling = np.asarray(model.decode(identity, expression))
    folder = tmp_path / "out" / "Ann" / "multiview_neutral"
    for vertices in (neutral, smiling):
        now.write_prediction(tmp_path / "out", IMAGES[0], vertices, model.topology.triangles,
                             vertices[model.topology.landmarks[list(now.NOW_LANDMARKS)]])
        np.savez(folder / "params.npz", identity=identity, expression=expression, vertices=smiling, model="default",
                 detail=0, expression_names=np.array(model.expression_names))
        if vertices is neutral:
            now.read_prediction(folder / "IMG_1.ply")
    with pytest.raises(ValueError, match=rf"IMG_1.ply: includes an expression \({model.expression_names[7]} 0.60 in "
                                         r"params.npz\), expected the neutral mesh"):
        now.evaluate(truth, tmp_path / "out", partial=True)


def test_an_expression_is_seen_in_a_mesh_whose_vertices_are_split_at_seams(tmp_path):
    """As in a mesh with UVs, in another order and in centimetres."""
    model, rng = load_default(0), np.random.default_rng(0)
    expression = np.zeros(51, np.float32)
    expression[7] = 0.6
    smiling, neutral = np.asarray(model.decode(np.zeros(120), expression)), np.asarray(model.mean)
    np.savez(tmp_path / "params.npz", identity=np.zeros(120), expression=expression, vertices=smiling, model="default",
             detail=0)
    rows = rng.permutation(np.r_[np.arange(len(neutral)), rng.integers(len(neutral), size=200)])
    first = np.argsort(rows, kind="stable")[np.searchsorted(np.sort(rows), np.arange(len(neutral)))]
    for vertices, name in ((neutral, "neutral.ply"), (smiling, "face.ply")):
        trimesh.Trimesh(vertices[rows] / 10, first[model.topology.triangles], process=False).export(tmp_path / name)
    for unit in (10.0, 1.0):
        read_prediction(tmp_path / "neutral.ply", unit, scale_free=True)
        with pytest.raises(ValueError, match="face.ply: includes an expression .code 7 0.60"):
            read_prediction(tmp_path / "face.ply", unit, scale_free=True)


def test_the_list_of_images_is_the_truths_or_ones_own(truth, tmp_path):
    assert now.image_names(truth) == list(IMAGES)
    own = tmp_path / "own.txt"
    with pytest.raises(ValueError, match="own.txt: found no list of images"):
        now.image_names(truth, own)
    own.write_text(f"photos/{IMAGES[1]}.jpg\n\n{IMAGES[0]}.png\n")
    assert now.image_names(truth, own) == [IMAGES[1], IMAGES[0]]
    for text, message in (("\n", "an empty list of images"),
                          (f"{IMAGES[0]}.jpg\nAnn/IMG.jpg", "line 2: found 'Ann/IMG.jpg'"),
                          ("Ann/smiling/IMG.jpg", "line 1: found 'Ann/smiling/IMG.jpg', expected PERSON/CHALLENGE")):
        own.write_text(text)
        with pytest.raises(ValueError, match=f"own.txt: {message}"):
            now.image_names(truth, own)
    (truth / "imagepathsvalidation.txt").rename(truth / "imagepathstest.txt")
    assert now.image_names(truth) == list(IMAGES)
    (truth / "imagepathstest.txt").unlink()
    with pytest.raises(ValueError, match="NoW: found no list of images, expected imagepathsvalidation.txt or"):
        now.image_names(truth)


def test_a_person_has_one_scan_with_seven_landmarks_in_millimetres(truth):
    scan, folders = now.read_scan(truth, "Ann"), {name: truth / name / "Ann" for name in ("scans", "scans_lmks_onlypp")}
    np.testing.assert_allclose(scan.vertices, ball(40.0).vertices, atol=1e-6)
    np.testing.assert_array_equal(scan.landmarks, SEVEN)

    def told(message):
        with pytest.raises(ValueError, match=message):
            now.read_scan(truth, "Ann")

    for points in (SEVEN[:6], np.where(np.eye(7, 3, dtype=bool), np.nan, SEVEN)):
        write_pp(folders["scans_lmks_onlypp"] / "scan.pp", points)
        told(rf"scan.pp: found landmarks of shape \({len(points)}, 3\), expected \(7, 3\), finite")
    write_pp(folders["scans_lmks_onlypp"] / "scan.pp", SEVEN)
    ball(0.04).export(folders["scans"] / "scan.obj")
    told("scan.obj: found a face of .*: multiply by 1000 if these are metres")
    ball(40.0).export(folders["scans"] / "second.obj")
    told("Ann: found 2 scans/Ann/.* and 1 scans_lmks_onlypp/Ann/.*, expected one of each")
    (folders["scans"] / "second.obj").unlink()
    (folders["scans_lmks_onlypp"] / "scan.pp").unlink()
    told("Ann: found 1 scans/Ann/.* and 0 scans_lmks_onlypp/Ann/")


def test_what_is_written_is_what_is_read(tmp_path):
    mesh = ball(60.0)
    path = now.write_prediction(tmp_path, IMAGES[0], mesh.vertices, mesh.faces, SEVEN)
    again, landmarks = now.read_prediction(path)
    np.testing.assert_allclose(again.vertices, mesh.vertices, atol=1e-4)
    np.testing.assert_array_equal(again.triangles, mesh.faces)
    np.testing.assert_array_equal(landmarks, SEVEN)
    assert sorted(file.name for file in path.parent.iterdir()) == ["IMG_1.npy", "IMG_1.ply"]
    with pytest.raises(ValueError, match=r"IMG_2.ply: found landmarks of shape \(6, 3\), expected \(7, 3\)"):
        now.write_prediction(tmp_path, IMAGES[1], mesh.vertices, mesh.faces, SEVEN[:6])
    path.with_suffix(".npy").unlink()
    np.savetxt(path.with_suffix(".txt"), SEVEN)
    np.testing.assert_allclose(now.read_prediction(path)[1], SEVEN)


def test_official_landmarks_are_read_in_their_order(tmp_path):
    write_pp(tmp_path / "a.pp", SEVEN)
    np.testing.assert_array_equal(read_points(tmp_path / "a.pp"), SEVEN)
    np.savez(tmp_path / "a.npz", landmarks=np.array([["x", "y", "z"]]))
    with pytest.raises(ValueError, match="a.npz: landmarks: found text, expected numbers"):
        read_points(tmp_path / "a.npz")


def test_names_that_do_not_match_are_listed(truth, tmp_path):
    folder = predict(tmp_path / "out", (40.0, 40.0))
    with pytest.raises(ValueError, match="2 of 4 names match; 2 without a prediction "
                                         r"\(Bob/multiview_expressions/IMG_3, Bob/multiview_occlusions/IMG_4\)"):
        now.evaluate(truth, folder)
    assert "2 of 4 images" in now.evaluate(truth, folder, partial=True).rows[0].name


@pytest.mark.parametrize("landmarks, message", [
    (SEVEN[:6], r"found landmarks of shape \(6, 3\), expected \(7, 3\)"),
    (SEVEN * np.nan, "landmark 0 is not finite"),
    (SEVEN * 1000, "landmark 0 is .* from the mesh, .*: do both have one unit and place"),
    (SEVEN[[3, 2, 1, 0, 4, 6, 5]], "found landmarks with left and right exchanged, or of a mirrored mesh"),
    (SEVEN[[4, 0, 1, 2, 3, 5, 6]], "found landmarks off the scan's by .*: iBUG's 36, 39, 42, 45, 33, 48, 54, in this"),
])
def test_wrong_landmarks_are_named(truth, tmp_path, landmarks, message):
    folder = predict(tmp_path / "out", (40.0,) * 4)
    np.save(folder / f"{IMAGES[2]}.npy", landmarks)
    with pytest.raises(ValueError, match="IMG_3.(npy|ply): " + message):
        now.evaluate(truth, folder)


def test_wrong_meshes_are_named(tmp_path):
    (tmp_path / "points.obj").write_text("v 0 0 0\nv 100 0 0\nv 0 100 50\n")
    with pytest.raises(ValueError, match="points.obj: a mesh without triangles"):
        read_mesh(tmp_path / "points.obj")
    (tmp_path / "nan.obj").write_text("v 0 0 0\nv 100 nan 0\nv 0 100 50\nf 1 2 3\n")
    with pytest.raises(ValueError, match="nan.obj: vertex 1 is .*nan.*expected finite numbers"):
        read_mesh(tmp_path / "nan.obj")
    for vertex in (9, -1):
        (tmp_path / "index.ply").write_text(
            "ply\nformat ascii 1.0\nelement vertex 3\nproperty float x\nproperty float y\nproperty float z\n"
            "element face 1\nproperty list uchar int vertex_indices\nend_header\n"
            f"0 0 0\n100 0 0\n0 100 0\n3 0 1 {vertex}\n")
        with pytest.raises(ValueError, match=rf"index.ply: triangles: indices {min(vertex, 0)}..{max(vertex, 1)}, "):
            read_mesh(tmp_path / "index.ply")
    np.save(tmp_path / "one.npy", 3.0)
    with pytest.raises(ValueError, match=r"one.npy: found points of shape \(\), expected \[P, 3\]"):
        read_points(tmp_path / "one.npy")
    (tmp_path / "broken.ply").write_bytes(b"ply\nformat nonsense")
    with pytest.raises(ValueError, match="broken.ply: not a readable mesh"):
        read_mesh(tmp_path / "broken.ply")
    for factor, unit in ((0.001, "1000 if these are metres"), (0.1, "10 if these are centimetres")):
        mesh = ball(100.0)
        mesh.apply_scale(factor)
        mesh.export(tmp_path / "small.ply")
        with pytest.raises(ValueError, match=f"small.ply: found a face of .*: multiply by {unit}"):
            read_mesh(tmp_path / "small.ply")
        read_mesh(tmp_path / "small.ply", unit=1 / factor)


def test_the_table_survives_as_json(truth, tmp_path):
    from sfm_jax.evaluation.protocols import table

    outcome = now.evaluate(truth, predict(tmp_path / "out", (41.0,) * 4), metrical=True)
    table.write(outcome, tmp_path / "files")
    read = json.loads((tmp_path / "files" / "outcome.json").read_text())
    assert read["samples"] == 4 and read["measured"][0]["values"]["mean"]["value"] == pytest.approx(1, abs=0.02)
    assert (tmp_path / "files" / "cumulative.png").stat().st_size > 5000
