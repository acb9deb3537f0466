"""MICC, FaceScape and REALY over folders: faces with known errors, moved, scaled, mislabelled."""

import shutil

import numpy as np
import pytest
import trimesh
from scipy.spatial.transform import Rotation

from sfm_jax.evaluation.protocols import facescape, micc, realy
from sfm_jax.evaluation.protocols.meshes import Mesh, read_mesh
from sfm_jax.evaluation.scan_to_mesh import NOW_LANDMARKS, RegionErrors, onto_region
from sfm_jax.geometry.closest_point import Surface
from sfm_jax.geometry.icp import IDENTITY, Similarity
from sfm_jax.morphable.default import load_default

SEVEN = list(NOW_LANDMARKS)


@pytest.fixture(scope="module")
def face():
    """vertices [V, 3], triangles [F, 3], landmarks [68, 3]: every other triangle list turned, so that the mesh is not
    known as the embedded one."""
    model = load_default(0)
    vertices = np.asarray(model.mean, np.float64)
    return vertices, model.topology.triangles[:, [1, 2, 0]], vertices[model.topology.landmarks]


def save(path, vertices, triangles, landmarks=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    trimesh.Trimesh(vertices, triangles, process=False).export(path)
    if landmarks is not None:
        np.save(path.with_suffix(".npy"), landmarks)


def somewhere(factor=1.0, seed=0):
    rng = np.random.default_rng(seed)
    return Similarity(Rotation.random(rng=rng).as_matrix(), rng.normal(size=3) * 50, factor)


def ball(radius, subdivisions=5):
    mesh = trimesh.creation.icosphere(subdivisions=subdivisions, radius=radius)
    return np.asarray(mesh.vertices), np.asarray(mesh.faces)


def test_micc_of_the_scan_itself_is_zero_in_any_place_and_size(face, tmp_path):
    vertices, triangles, landmarks = face
    for number, person in enumerate(("p1", "p2")):
        save(tmp_path / "truth" / f"{person}.ply", vertices, triangles, landmarks[[*SEVEN, 30]])
        for scenario in ("cooperative", "indoor"):
            motion = somewhere(0.001, number)
            save(tmp_path / "out" / person / f"{scenario}.ply", motion.apply(vertices), triangles,
                 motion.apply(landmarks))
    outcome = micc.evaluate(tmp_path / "truth", tmp_path / "out")
    scenarios = {"": 4, ", cooperative": 2, ", indoor": 2}
    assert [row.name for row in outcome.rows] == [f"predictions{scenario}, {kind} ({count})"
                                                  for scenario, count in scenarios.items()
                                                  for kind in ("Deep3D's", "GANFIT's")]
    assert max(row.values["mean"].value for row in outcome.rows) < 5e-3  # the files are in single precision
    np.testing.assert_allclose([sample["scale"] for sample in outcome.samples], 1000, rtol=1e-4)


def test_micc_of_a_known_spread_by_hand(tmp_path):
    """Scans of four shells, as much inside the mesh as outside, which no scale undoes; their rms is the offset."""
    landmarks = np.array([[-45.0, 10, 0], [-15, 10, 40], [15, 10, 40], [45, 10, 0], [0, -10, 45], [-20, -30, 30],
                          [20, -30, 30], [0, 0, 50]])
    scans = {}
    for person, off in (("a", 1.0), ("b", 3.0)):
        points, triangles = ball(50.0, 4)
        shells = np.resize([0.2, -0.2, 1.4, -1.4], len(points))
        radii = 50 + off * np.random.default_rng(0).permutation(shells)
        scans[person] = points * (radii / 50)[:, None]
        save(tmp_path / "truth" / f"{person}.ply", scans[person], triangles, landmarks)
        save(tmp_path / "out" / f"{person}.ply", *ball(0.05), landmarks[:7] / 1000)
    outcome = micc.evaluate(tmp_path / "truth", tmp_path / "out", unit=1000.0)
    mean, std = (outcome.rows[0].values[key] for key in ("mean", "std"))
    np.testing.assert_allclose([mean, std], [[2, 1, 3], [1, 0, 1]], atol=0.05)
    np.testing.assert_allclose([sample["scale"] for sample in outcome.samples], 1, atol=0.01)
    assert [sample["points"] for sample in outcome.samples] == [
        np.sum(np.linalg.norm(scan - [0, 0, 50], axis=1) <= 95) for scan in scans.values()]
    (tmp_path / "out" / "b.ply").rename(tmp_path / "out" / "c.ply")
    (tmp_path / "out" / "b.npy").rename(tmp_path / "out" / "c.npy")
    with pytest.raises(ValueError, match=r"1 of 2 names match; 1 without a prediction \(b\); 1 predicted .* \(c\)"):
        micc.evaluate(tmp_path / "truth", tmp_path / "out")
    alone = micc.evaluate(tmp_path / "truth", tmp_path / "out", unit=1000.0, partial=True)
    assert [sample["name"] for sample in alone.samples] == ["a"]
    np.testing.assert_allclose(alone.rows[0].values["mean"].value, mean.low)


@pytest.mark.parametrize("protocol", [micc, facescape])
def test_landmarks_of_a_mirrored_mesh_are_refused_and_wrong_ones_before_anything_is_measured(face, tmp_path, protocol):
    vertices, triangles, landmarks = face
    for name in ("a", "b"):
        save(tmp_path / "truth" / f"{name}.ply", vertices, triangles, landmarks)
        save(tmp_path / "out" / f"{name}.ply", vertices * [-1, 1, 1], triangles[:, ::-1], landmarks * [-1, 1, 1])
    with pytest.raises(ValueError, match="a.ply: found landmarks with left and right exchanged, or of a mirrored mesh"):
        protocol.evaluate(tmp_path / "truth", tmp_path / "out")
    np.save(tmp_path / "out" / "b.npy", landmarks + 500)
    with pytest.raises(ValueError, match="b.npy: landmark [0-9] is .* from the mesh"):
        protocol.evaluate(tmp_path / "truth", tmp_path / "out", progress=lambda _: pytest.fail("measured"))


def test_ganfits_distance_is_the_mean_of_both_ways_within_the_crop():
    """A scan whose octants lie alternately a millimetre inside a ball and outside, which neither scale nor shift
    undoes, and far from it what the crop leaves out; then what only one direction sees."""
    points, triangles = ball(50.0, 4)
    octants = points * (1 + np.sign(points.prod(1)) / 50)[:, None]
    far = points + [0, 0, 200.0]
    scan = Mesh(np.r_[octants, far], np.r_[triangles, triangles + len(points)], None)
    tip = octants[octants[:, 2].argmax()]
    mesh = Surface(points, triangles)
    np.testing.assert_allclose(micc.both_ways(mesh, IDENTITY, scan, tip), 1.0, atol=0.15)
    # The same mesh in another unit and place.
    motion = somewhere(0.002)
    elsewhere = micc.both_ways(Surface(motion.undo(points), triangles), motion, scan, tip)
    np.testing.assert_allclose(elsewhere, micc.both_ways(mesh, IDENTITY, scan, tip), atol=1e-5)
    # Of the mesh's second shell, 3 mm out, only the mesh knows: no point of the scan is nearest to it.
    shells = Surface(np.r_[points, points * 53 / 50], np.r_[triangles, triangles + len(points)])
    one = micc.both_ways(shells, IDENTITY, Mesh(points, triangles, None), tip)
    np.testing.assert_allclose(one, (0 + 1.5) / 2, atol=0.05)  # scale spreads the 3 mm over both shells
    # Each way has a scale of its own, and the mesh, too, is cropped, around its own tip.
    assert micc.both_ways(Surface(points * 52 / 50, triangles), IDENTITY, Mesh(points, triangles, None), tip) < 0.05
    more = Surface(np.r_[points, far + [0, 0, 9]], np.r_[triangles, triangles + len(points)])
    np.testing.assert_allclose(micc.both_ways(more, IDENTITY, scan, tip), micc.both_ways(mesh, IDENTITY, scan, tip),
                               atol=1e-5)


def test_ganfits_crop_of_the_mesh_is_around_its_own_landmark_30_where_it_is_known(face, tmp_path, monkeypatch):
    vertices, triangles, landmarks = face
    save(tmp_path / "truth" / "p.ply", vertices, triangles, landmarks)
    low, tips = landmarks - 20 * np.eye(68)[30][:, None] * [0, 1, 0], []
    monkeypatch.setattr(micc, "_cropped", lambda points, tip: tips.append(tip) or points[::40])
    for known, expected in ((low, low[30]), (low[SEVEN], landmarks[30])):
        save(tmp_path / "out" / "p.ply", vertices, triangles, known)
        micc.evaluate(tmp_path / "truth", tmp_path / "out")
        np.testing.assert_allclose(tips[-1], expected, atol=1e-2)  # the scan is cropped first


def test_facescapes_measures_of_known_errors(face, tmp_path):
    save(tmp_path / "truth" / "x.ply", *ball(60.0))
    save(tmp_path / "truth" / "y.ply", *ball(60.0))
    save(tmp_path / "out" / "x.ply", *ball(61.0))
    outcome = facescape.evaluate(tmp_path / "truth", tmp_path / "out", aligned=True, partial=True)
    values = outcome.rows[0].values
    np.testing.assert_allclose(values["chamfer mm"].value, 1.0, atol=0.01)
    np.testing.assert_allclose(values["completeness %"].value, 100)
    assert values["done %"].value == 50 and values["normals degrees"].value < 2
    points, triangles = ball(61.0)
    save(tmp_path / "out" / "x.ply", points, triangles[:, ::-1])
    with pytest.raises(ValueError, match="x.ply: found normals 1[78][0-9] degrees off .* turned inside out"):
        facescape.evaluate(tmp_path / "truth", tmp_path / "out", aligned=True, partial=True)
    vertices, triangles, landmarks = face
    motion = somewhere(0.002)
    for name in ("x", "y"):
        save(tmp_path / "truth" / f"{name}.ply", vertices, triangles, landmarks)
        wrong = landmarks + np.random.default_rng(0).normal(size=landmarks.shape)
        save(tmp_path / "out" / f"{name}.ply", motion.apply(vertices), triangles, motion.apply(wrong))
    values = facescape.evaluate(tmp_path / "truth", tmp_path / "out").rows[0].values
    assert values["chamfer mm"].value < 0.02 and values["done %"].value == 100
    with pytest.raises(ValueError, match="multiply by 1000 if these are metres"):
        facescape.evaluate(tmp_path / "truth", tmp_path / "out", aligned=True)
    (tmp_path / "out" / "y.npy").unlink()
    with pytest.raises(ValueError, match="y.ply: found no landmarks beside it, expected y.npy"):
        facescape.evaluate(tmp_path / "truth", tmp_path / "out")


def test_facescapes_reach_is_ten_millimetres(tmp_path):
    """A ball, and true shells 0, 9 and 11 mm off it; another a millimetre off: areas go with squared radii."""
    radii = np.array([60.0, 69, 71])
    shells = [ball(radius, 3) for radius in radii]
    triangles = shells[0][1]
    together = np.concatenate([shell[0] for shell in shells])
    save(tmp_path / "truth" / "a" / "x.ply", together,
         np.concatenate([triangles + k * len(shells[0][0]) for k in range(3)]))
    save(tmp_path / "truth" / "b" / "x.ply", *ball(61.0, 3))
    for person in ("a", "b"):
        save(tmp_path / "out" / person / "x.ply", *shells[0])
    outcome = facescape.evaluate(tmp_path / "truth", tmp_path / "out", aligned=True)
    areas = radii**2
    chamfer, complete = 9 * areas[1] / areas[:2].sum() / 2, 100 * areas[:2].sum() / areas.sum()
    found = [[sample[key] for key in ("chamfer mm", "completeness %")] for sample in outcome.samples]
    np.testing.assert_allclose(found, [[chamfer, complete], [1, 100]], atol=1.5)
    np.testing.assert_allclose([each[0] for each in found], [chamfer, 1], atol=0.1)
    for column, estimate in zip(("chamfer mm", "completeness %"), np.transpose(found), strict=True):
        np.testing.assert_allclose(outcome.rows[0].values[column], [estimate.mean(), estimate.min(), estimate.max()])
    x, y = outcome.figures["chamfer"].axes[0].lines[0].get_data()
    np.testing.assert_allclose(np.interp([0.5, 1.5, 5], x, y), [0, 50, 100])


def test_facescapes_alignment_leaves_out_what_only_the_scan_has(face, tmp_path):
    """Beyond the face, a scan has a ball 40 mm in front of it; the prediction is in metres, its landmarks off by
    1 mm."""
    vertices, triangles, landmarks = face
    lump = ball(15.0, 3)
    save(tmp_path / "scan.ply", np.r_[vertices, lump[0] + vertices.mean(0) + [0, 0, 100]],
         np.r_[triangles, lump[1] + len(vertices)], landmarks)
    motion = somewhere(0.001)
    wrong = landmarks + np.random.default_rng(0).normal(size=landmarks.shape)
    save(tmp_path / "mesh.ply", motion.apply(vertices), triangles, motion.apply(wrong))
    scan = read_mesh(tmp_path / "scan.ply")
    for unit in (1000.0, 1.0):
        mesh = read_mesh(tmp_path / "mesh.ply", unit, scale_free=True)
        found = facescape.alignment(mesh, scan, unit)
        np.testing.assert_allclose(found.apply(mesh.vertices), vertices, atol=0.02)
        np.testing.assert_allclose(found.scale, 1000 / unit, rtol=1e-4)


@pytest.fixture(scope="module")
def regions(face):
    """{region: (vertices, triangles)} of the face: balls around landmarks, of the forehead what is above the eyes."""
    vertices, triangles, landmarks = face
    found = {}
    for region, middle, radius in (("nose", 30, 42), ("mouth", 51, 30), ("forehead", 27, 65), ("cheek", 2, 25)):
        kept = np.linalg.norm(vertices - landmarks[middle], axis=1) < radius
        if region == "forehead":
            kept &= vertices[:, 1] > landmarks[36:48, 1].min() - 3
        inside = triangles[kept[triangles].all(1)]
        used = np.unique(inside)
        order = np.full(len(vertices), -1)
        order[used] = np.arange(len(used))
        found[region] = vertices[used], order[inside]
    return found


@pytest.fixture(scope="module")
def keypoints(face):
    """Rows [85] of vertices: iBUG's 68, and 17 around the nose."""
    nearest = np.argsort(np.linalg.norm(face[0] - face[2][30], axis=1))
    return np.r_[load_default(0).topology.landmarks, nearest[20:37]]


def lay_out(tmp_path, face, regions, keypoints, change=lambda points: points, unit=8.0):
    """The truth of the second person, in units of 8 mm, and a prediction that `change` makes of the face."""
    for region, (vertices, triangles) in regions.items():
        save(tmp_path / "truth" / realy.SCANS / "2" / f"{region}.obj", vertices / unit, triangles)
    (tmp_path / "truth" / realy.POINTS).mkdir(exist_ok=True)
    (tmp_path / "truth" / realy.POINTS / "2.obj").write_text(
        "# keypoints\n" + "".join(f"v {x} {y} {z} 1 0 0\n" for x, y, z in face[0][keypoints] / unit))
    (tmp_path / "truth" / realy.SCALES).write_text(f"1.0\n{unit}\n")
    changed = change(face[0])
    save(tmp_path / "out" / "2_7.ply", changed, face[1], changed[keypoints])


def test_realy_of_the_face_itself_in_any_place_and_size_is_zero_and_of_a_longer_nose_is_not(tmp_path, face, regions,
                                                                                            keypoints):
    lay_out(tmp_path, face, regions, keypoints, somewhere(0.001).apply)
    outcome = realy.evaluate(tmp_path / "truth", tmp_path / "out")
    values = outcome.rows[0].values
    assert set(values) == {"nose", "mouth", "forehead", "cheek", "all"} and len(outcome.notes) == 1
    assert max(estimate.value for estimate in values.values()) < 0.05
    assert outcome.rows[0].name == "predictions (1 predictions of 1 of 1 faces), mean"
    tip = face[2][30]

    def longer(points):
        near = np.exp(-np.square(points - tip).sum(1, keepdims=True) / (2 * 12.0**2))
        return points + 8 * near * [0.0, 0.0, 1.0]

    lay_out(tmp_path, face, regions, keypoints, longer)
    np.save(tmp_path / "out" / "2_7.npy", np.load(tmp_path / "out" / "2_7.npy")[:68])
    outcome = realy.evaluate(tmp_path / "truth", tmp_path / "out")
    values = outcome.rows[0].values
    assert values["nose"].value > 0.6 > 4 * values["forehead"].value and "iBUG alone" in outcome.notes[1]
    np.testing.assert_allclose(values["all"].value,
                               np.mean([values[region].value for region in realy.REGIONS]))


def test_realy_counts_mean_distances_in_millimetres_and_the_deviation_of_a_sample(tmp_path, face, regions, keypoints,
                                                                                  monkeypatch):
    lay_out(tmp_path, face, regions, keypoints)
    save(tmp_path / "out" / "2.ply", face[0], face[1], face[0][keypoints])
    distances = iter(np.arange(8)[:, None] + np.array([1.0, 2, 6]))
    monkeypatch.setattr(realy, "region_errors", lambda *_, **__: RegionErrors(next(distances), None))
    mean, deviation = realy.evaluate(tmp_path / "truth", tmp_path / "out").rows
    expected = 8.0 * (3 + np.arange(8).reshape(2, 4))
    np.testing.assert_allclose([mean.values[region].value for region in realy.REGIONS], expected.mean(0))
    np.testing.assert_allclose([deviation.values[region].value for region in (*realy.REGIONS, "all")],
                               np.full(5, 32 / np.sqrt(2)))
    assert mean.values["nose"].low is None or np.isnan(mean.values["nose"].low)  # both are of one person


def test_realys_intervals_draw_persons_of_whom_each_has_a_prediction(tmp_path, face, regions, keypoints, monkeypatch):
    """Of two people; the first one's scan is in millimetres, as all are where no file tells otherwise."""
    lay_out(tmp_path, face, regions, keypoints, unit=1.0)
    (tmp_path / "truth" / realy.SCALES).unlink()
    shutil.copytree(tmp_path / "truth" / realy.SCANS / "2", tmp_path / "truth" / realy.SCANS / "1")
    shutil.copy(tmp_path / "truth" / realy.POINTS / "2.obj", tmp_path / "truth" / realy.POINTS / "1.obj")
    monkeypatch.setattr(realy, "region_errors", lambda *_, **__: RegionErrors(next(distances), None))
    with pytest.raises(ValueError, match=r"1 of 2 names match; 1 without a prediction \(1\)"):
        realy.evaluate(tmp_path / "truth", tmp_path / "out")
    distances = iter(np.ones((4, 3)))
    outcome = realy.evaluate(tmp_path / "truth", tmp_path / "out", partial=True)
    assert outcome.rows[0].name == "predictions (1 predictions of 1 of 2 faces), mean"
    assert outcome.rows[0].values["all"].value == 1 and np.isnan(outcome.rows[1].values["all"].value)
    save(tmp_path / "out" / "1.ply", face[0], face[1], face[0][keypoints])
    expected = np.random.default_rng(0).uniform(1, 3, (2, 4))
    distances = iter(expected.ravel()[:, None] * [0.5, 0.5, 2])
    outcome = realy.evaluate(tmp_path / "truth", tmp_path / "out")
    mean = outcome.rows[0].values
    for column, errors in (*zip(realy.REGIONS, expected.T, strict=True), ("all", expected.mean(1))):
        np.testing.assert_allclose(mean[column], [errors.mean(), errors.min(), errors.max()])
    x, y = outcome.figures["regions"].axes[0].lines[-1].get_data()
    np.testing.assert_allclose(np.interp([mean["all"].value, x[-1]], x, y), [50, 100])


def test_the_millimetres_of_a_scan_are_in_the_line_of_its_number(tmp_path):
    path = tmp_path / "metrical_scale.txt"
    assert realy._millimetres(path, ["1", "x"]) == {"1": 1.0, "x": 1.0}
    path.write_text("2.5\n8.0\n4.0\n")
    assert realy._millimetres(path, ["1", "3"]) == {"1": 2.5, "3": 4.0}
    for wrong in ("0", "4", "x"):
        with pytest.raises(ValueError, match=f"metrical_scale.txt: found 3 lines and the scan {wrong}, expected scans"):
            realy._millimetres(path, ["1", wrong])
    for wrong in ("0", "-1", "nan", "inf"):
        path.write_text(f"2.5\n{wrong}\n")
        with pytest.raises(ValueError, match="metrical_scale.txt: line 2: found .*, expected a length in millimetres"):
            realy._millimetres(path, ["1", "2"])
        assert realy._millimetres(path, ["1"]) == {"1": 2.5}


def of_realy(vertices, triangles, region, predicted, true, rate):
    """The authors' rICP, step by step."""
    predicted, true = np.vstack([predicted] * int(rate)), np.vstack([true] * int(rate))
    before = 0.0
    for _ in range(101):
        closest = Surface(vertices, triangles).closest(region).points
        source, target = np.vstack([closest, predicted]), np.vstack([region, true])
        rotation, _ = Rotation.align_vectors(target - target.mean(0), source - source.mean(0))
        shift = target.mean(0) - rotation.apply(source.mean(0))
        error = np.sum((rotation.apply(source) + shift - target)**2, axis=1).mean()
        if abs(error - before) < 1e-6:
            break
        before = error
        vertices, predicted = rotation.apply(vertices) + shift, rotation.apply(predicted) + shift
    return vertices


def test_of_the_eyes_the_cheek_is_aligned_by_corners_and_lower_lids(face):
    """27 keypoints, as the authors' code has them; the upper lids are the two highest points of an eye."""
    cheek = realy.RIGID_KEYPOINTS["cheek"]
    assert len(cheek) == len(set(cheek)) == 27 and {7, 8, 9, 76, 77} < set(cheek)
    for eye in (range(36, 42), range(42, 48)):
        assert set(eye) - set(cheek) == set(sorted(eye, key=lambda number: face[2][number, 1])[-2:])


@pytest.mark.parametrize("region, share", [("nose", 1.0), ("mouth", 1.0), ("forehead", 1.0), ("cheek", 0.25)])
def test_the_alignment_onto_a_region_is_the_authors(face, regions, keypoints, region, share):
    turned = Similarity(Rotation.from_rotvec([0.03, -0.05, 0.02]).as_matrix(), np.array([1.0, -2, 1.5]), 1.02)
    vertices = turned.apply(face[0]) / 8
    rows = keypoints[list(realy.RIGID_KEYPOINTS[region])]
    scan, true = regions[region][0] / 8, face[0][rows] / 8
    predicted = vertices[rows] + [0, 0, 0.2]  # so that what they weigh matters
    expected = of_realy(vertices, face[1], scan, predicted, true, share * len(scan) / len(true))
    motion = onto_region(Surface(vertices, face[1]), scan, true, predicted, share=realy.SHARE[region])
    np.testing.assert_allclose(motion.apply(vertices), expected, atol=2e-3)
    assert np.abs(expected - vertices).max() > 0.1


def test_the_scale_of_the_seven_is_a_ratio_of_absolute_coordinates(face):
    rng = np.random.default_rng(0)
    predicted = face[2] + rng.normal(size=(68, 3))
    motion = realy._onto_seven(predicted, face[2])
    source, target = predicted[SEVEN] - predicted[SEVEN].mean(0), face[2][SEVEN] - face[2][SEVEN].mean(0)
    rotation, _ = Rotation.align_vectors(target, source)
    np.testing.assert_allclose(motion.rotation, rotation.as_matrix(), atol=1e-7)
    np.testing.assert_allclose(motion.scale, np.abs(target).sum() / np.abs(rotation.apply(source)).sum())
    np.testing.assert_allclose(motion.apply(predicted[SEVEN]).mean(0), face[2][SEVEN].mean(0))


def test_realy_names_what_is_wrong(tmp_path, face, regions, keypoints):
    def told(message):
        with pytest.raises(ValueError, match=message):
            realy.evaluate(tmp_path / "truth", tmp_path / "out")

    lay_out(tmp_path, face, regions, keypoints)
    (tmp_path / "truth" / realy.SCALES).unlink()
    told("2.obj: found a face of .* mm from corner to corner")
    (tmp_path / "truth" / realy.SCALES).write_text("8.0\n")
    told("metrical_scale.txt: found 1 lines and the scan 2")
    lay_out(tmp_path, face, regions, keypoints)
    np.save(tmp_path / "out" / "2_7.npy", np.ones((3, 3)))
    told(r"2_7.npy: found landmarks of shape \(3, 3\), expected \(85, 3\)")
    lay_out(tmp_path, face, regions, keypoints, lambda points: points * [-1, 1, 1])
    told("2_7.npy: found landmarks with left and right exchanged, or of a mirrored mesh")
    lay_out(tmp_path, face, regions | {"mouth": (regions["mouth"][0] + 100, regions["mouth"][1])}, keypoints)
    told("mouth.obj: keypoint [0-9]+ is .* mm from the region")
    (tmp_path / "truth" / realy.SCANS / "2" / "cheek.obj").unlink()
    told("2: found no cheek, expected nose, mouth, forehead, cheek")
    (tmp_path / "truth" / realy.SCANS / "2" / "chin.obj").write_text("")
    told("chin.obj: found the name '2/chin', expected ID/REGION")
    (tmp_path / "truth" / realy.SCANS / "2" / "chin.obj").rename(tmp_path / "truth" / realy.SCANS / "nose.obj")
    told("nose.obj: found the name 'nose', expected ID/REGION")
