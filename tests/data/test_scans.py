import numpy as np
import pytest
import trimesh

from sfm_jax.data.scans import Capture, FolderScans, PopulationScans, find_people, read_scan
from sfm_jax.morphable.default import load_default, load_population

CLEAN = Capture(expression=0, noise=0, deformation=0, weight=0, rotation_degrees=0, translation=0, missing=0)


@pytest.fixture
def people():
    return np.random.default_rng(0).normal(size=(5, 6)).astype(np.float32)


def test_a_clean_capture_is_the_neutral_face(toy_model, people):
    source = PopulationScans(toy_model, people, 3, CLEAN, seed=0)
    record = source.batch(np.array([0, 4, 14]))
    np.testing.assert_array_equal(record["person"], [0, 1, 4])
    expected = np.asarray(toy_model.decode(people[record["person"]]))
    np.testing.assert_allclose(record["vertices"], expected, atol=1e-3)
    np.testing.assert_allclose(record["neutral"], expected, atol=1e-3)
    np.testing.assert_allclose(source.neutral_shapes(), np.asarray(toy_model.decode(people)), atol=1e-3)


def test_a_scan_depends_on_its_index_alone(toy_model, people):
    one, two = (PopulationScans(toy_model, people, 4, Capture(), seed=7) for _ in range(2))
    among_others, alone = one.batch(np.array([3, 9, 12])), two.batch(np.array([9]))
    np.testing.assert_allclose(among_others["vertices"][1], alone["vertices"][0], atol=1e-4)
    other = PopulationScans(toy_model, people, 4, Capture(), seed=8).batch(np.array([9]))
    assert np.abs(other["vertices"] - two.batch(np.array([9]))["vertices"]).max() > 0.1


@pytest.mark.parametrize(("name", "value", "expected"), [("noise", 0.8, 0.8), ("translation", 2.0, 2.0)])
def test_disturbances_have_the_size_they_say(toy_model, people, name, value, expected):
    source = PopulationScans(toy_model, people, 200, Capture(**{**CLEAN.__dict__, name: value}), seed=0)
    record = source.batch(np.arange(1000))
    assert np.std(record["vertices"] - record["neutral"]) == pytest.approx(expected, rel=0.08)


def test_deformation_is_smooth_and_of_the_size_it_says():
    model, people = load_default(0), load_population().identity[:2]
    source = PopulationScans(model, people, 100, Capture(**{**CLEAN.__dict__, "deformation": 2.0}), seed=0)
    record = source.batch(np.arange(200))
    change = record["vertices"] - record["neutral"]
    assert 1.0 < np.std(change) < 3.0
    triangles = model.topology.triangles  # edges of about 5 mm; the shortest wavelength is 60 mm
    assert np.std(change[:, triangles[:, 0]] - change[:, triangles[:, 1]]) < 0.5 * np.std(change)


def write_folder(model, root, people=3, scans=2):
    rng = np.random.default_rng(0)
    for person in range(people):
        folder = root / f"person{person}"
        folder.mkdir(parents=True)
        for scan, suffix in zip(range(scans), (".obj", ".ply"), strict=False):
            vertices = np.asarray(model.mean) + rng.normal(size=(42, 3))
            trimesh.Trimesh(vertices, model.topology.triangles, process=False).export(folder / f"scan{scan}{suffix}")
    return root


def test_folder_of_meshes(toy_model, tmp_path):
    folder = write_folder(toy_model, tmp_path / "scans")
    shapes = np.asarray(toy_model.mean) + 5.0
    np.savez(folder / "person1" / "neutral.npz", vertices=shapes, triangles=toy_model.topology.triangles[::-1])
    source = FolderScans(toy_model, find_people(folder))
    assert source.names == ("person0", "person1", "person2") and len(source) == 7
    np.testing.assert_allclose(source.neutral_shapes()[1], shapes, atol=1e-4)
    record = source.batch(np.array([0, 1]))
    np.testing.assert_allclose(record["neutral"][0], record["vertices"].mean(0), atol=1e-4)
    direct = trimesh.load(folder / "person0" / "scan1.ply", process=False)
    np.testing.assert_allclose(record["vertices"][1], direct.vertices, atol=1e-4)


def test_the_neutral_scan_in_any_case_and_one_alone(toy_model, tmp_path):
    folder = write_folder(toy_model, tmp_path / "scans")
    neutral = np.asarray(toy_model.mean) + 7.0
    trimesh.Trimesh(neutral, toy_model.topology.triangles, process=False).export(folder / "person1" / "n.obj")
    (folder / "person1" / "n.obj").rename(folder / "person1" / "Neutral.OBJ")
    np.testing.assert_allclose(FolderScans(toy_model, find_people(folder)).neutral_shapes()[1], neutral, atol=1e-4)
    np.savez(folder / "person1" / "neutral.npz", vertices=neutral + 1)
    with pytest.raises(ValueError, match="person1: found 2 scans called neutral, expected one"):
        FolderScans(toy_model, find_people(folder))


def test_hidden_files_are_no_scans_and_no_people(toy_model, tmp_path):
    folder = write_folder(toy_model, tmp_path / "scans")
    (folder / "person1" / "._scan0.obj").write_bytes(b"of another system")
    (folder / ".cache").mkdir()
    assert {person: [path.name for path in paths] for person, paths in find_people(folder).items()} == {
        f"person{number}": ["scan0.obj", "scan1.ply"] for number in range(3)}


def test_an_obj_of_several_materials_keeps_its_vertices(toy_model, tmp_path):
    vertices, triangles = np.asarray(toy_model.mean), toy_model.topology.triangles
    lines = [*(f"v {x} {y} {z}" for x, y, z in vertices.tolist()), "usemtl skin",
             *(f"f {a} {b} {c}" for a, b, c in (triangles + 1).tolist())]
    lines.insert(-30, "usemtl lips")
    (tmp_path / "scan.obj").write_text("\n".join(lines))
    np.testing.assert_allclose(read_scan(tmp_path / "scan.obj", toy_model), vertices, atol=1e-4)


@pytest.mark.parametrize("factor, found, advice", [
    (0.001, "0.08", "multiply by 1000, as if in m"), (0.1, "8", "multiply by 10, as if in cm"),
    (10, "800", "expected 32 to 200$"), (0, "0", "expected 32 to 200$")])
def test_a_scan_that_is_not_in_millimetres_is_refused(toy_model, tmp_path, factor, found, advice):
    """All vertices of the model lie 80 mm from its middle."""
    np.savez(tmp_path / "scan.npz", vertices=factor * np.asarray(toy_model.mean))
    with pytest.raises(ValueError, match=f"scan.npz: vertices: found {found} mm .*{advice}") as caught:
        read_scan(tmp_path / "scan.npz", toy_model)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_a_small_or_large_face_is_none_the_less_one(toy_model, tmp_path, factor):
    np.savez(tmp_path / "scan.npz", vertices=factor * np.asarray(toy_model.mean))
    read_scan(tmp_path / "scan.npz", toy_model)


def spoil(model, path, kind):
    vertices, triangles = np.asarray(model.mean).copy(), model.topology.triangles.copy()
    if kind == "nan":
        vertices[5] = np.inf
    if kind == "count":
        vertices = vertices[:-1]
    if kind == "triangles":
        triangles[0] = triangles[0][::-1]
    np.savez(path, vertices=vertices, triangles=triangles)
    if kind == "truncated":
        path.write_bytes(path.read_bytes()[:-100])
    if kind == "pickled":
        np.savez(path, vertices=np.array([{}], dtype=object))
    if kind == "no vertices":
        np.savez(path, points=vertices)


@pytest.mark.parametrize(("kind", "message"), [
    ("nan", "vertex 5 is"), ("count", r"found shape \(41, 3\), the model has \(42, 3\)"),
    ("triangles", "not those of the model"), ("truncated", "not a readable npz"),
    ("pickled", "not a readable npz"), ("no vertices", "key 'vertices' is missing, found points")])
def test_a_bad_scan_is_named(toy_model, tmp_path, kind, message):
    path = tmp_path / "scan.npz"
    spoil(toy_model, path, kind)
    with pytest.raises(ValueError, match=message) as caught:
        read_scan(path, toy_model)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_bad_folders_are_named(toy_model, tmp_path):
    with pytest.raises(ValueError, match="no such folder"):
        find_people(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no scans found"):
        find_people(tmp_path / "empty")
    folder = write_folder(toy_model, tmp_path / "single", scans=1)
    with pytest.raises(ValueError, match="person0: found 1 scans, expected at least 2"):
        find_people(folder)
    bad = tmp_path / "bad.obj"
    bad.write_bytes(b"\x00\xff f 1 2")
    with pytest.raises(ValueError, match="bad.obj"):
        read_scan(bad, toy_model)
