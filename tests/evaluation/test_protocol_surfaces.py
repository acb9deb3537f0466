"""MICC, FaceScape and REALY over folders: faces with known errors, moved, scaled, mislabelled."""

import numpy as np
import pytest
import trimesh
from scipy.spatial.transform import Rotation

from sfm_jax.evaluation.protocols import facescape, micc, realy
from sfm_jax.evaluation.protocols.meshes import Mesh
from sfm_jax.evaluation.scan_to_mesh import NOW_LANDMARKS, RegionErrors, onto_region
from sfm_jax.geometry.closest_point import Surface
from sfm_jax.geometry.icp import Similarity
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
    """Scans of two shells: half the points lie a millimetre inside the mesh, half outside, which no scale undoes."""
    landmarks = np.array([[-45.0, 10, 0], [-15, 10, 40], [15, 10, 40], [45, 10, 0], [0, -10, 45], [-20, -30, 30],
                          [20, -30, 30], [0, 0, 30]])
    for person, off in (("a", 1.0), ("b", 3.0)):
        points, triangles = ball(50.0, 4)
        radii = 50 + off * np.random.default_rng(0).permutation(np.where(np.arange(len(points)) % 2, 1, -1))
        save(tmp_path / "truth" / f"{person}.ply", points * (radii / 50)[:, None], triangles, landmarks)
        save(tmp_path / "out" / f"{person}.ply", *ball(50.0), landmarks[:7])
    row = micc.evaluate(tmp_path / "truth", tmp_path / "out").rows[0]
    np.testing.assert_allclose([row.values["mean"].value, row.values["std"].value], [2, 1], atol=0.05)
    (tmp_path / "out" / "b.ply").rename(tmp_path / "out" / "c.ply")
    with pytest.raises(ValueError, match=r"1 of 2 names match; 1 without a prediction \(b\); 1 predicted .* \(c\)"):
        micc.evaluate(tmp_path / "truth", tmp_path / "out")


def test_ganfits_distance_is_the_mean_of_both_ways_within_the_crop():
    """A scan whose octants lie alternately a millimetre inside a ball and outside, which neither scale nor shift
    undoes, and far from it what the crop leaves out; then what only one direction sees."""
    points, triangles = ball(50.0, 4)
    octants = points * (1 + np.sign(points.prod(1)) / 50)[:, None]
    far = points + [0, 0, 200.0]
    scan = Mesh(np.r_[octants, far], np.r_[triangles, triangles + len(points)], None)
    tip = octants[octants[:, 2].argmax()]
    np.testing.assert_allclose(micc.both_ways(points, triangles, scan, tip), 1.0, atol=0.15)
    # Of the mesh's second shell, 3 mm out, only the mesh knows: no point of the scan is nearest to it.
    shells = np.r_[points, points * 53 / 50], np.r_[triangles, triangles + len(points)]
    one = micc.both_ways(*shells, Mesh(points, triangles, None), tip)
    np.testing.assert_allclose(one, (0 + 1.5) / 2, atol=0.05)  # scale spreads the 3 mm over both shells


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
        "".join(f"v {x} {y} {z}\n" for x, y, z in face[0][keypoints] / unit))
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


@pytest.mark.parametrize("region", ["nose", "cheek"])
def test_the_alignment_onto_a_region_is_the_authors(face, regions, keypoints, region):
    turned = Similarity(Rotation.from_rotvec([0.03, -0.05, 0.02]).as_matrix(), np.array([1.0, -2, 1.5]), 1.02)
    vertices = turned.apply(face[0]) / 8
    rows = keypoints[list(realy.RIGID_KEYPOINTS[region])]
    scan, true = regions[region][0] / 8, face[0][rows] / 8
    expected = of_realy(vertices, face[1], scan, vertices[rows], true, realy.SHARE[region] * len(scan) / len(true))
    motion = onto_region(Surface(vertices, face[1]), scan, true, vertices[rows], share=realy.SHARE[region])
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
    lay_out(tmp_path, face, regions | {"mouth": (regions["mouth"][0] + 100, regions["mouth"][1])}, keypoints)
    told("mouth.obj: keypoint [0-9]+ is .* mm from the region")
    (tmp_path / "truth" / realy.SCANS / "2" / "cheek.obj").unlink()
    told("2: found no cheek, expected nose, mouth, forehead, cheek")
    (tmp_path / "truth" / realy.SCANS / "2" / "chin.obj").write_text("")
    told("chin.obj: found the name '2/chin', expected ID/REGION")
