"""MICC, FaceScape and REALY over folders: faces with known errors, moved, scaled, mislabelled."""

import numpy as np
import pytest
import trimesh
from scipy.spatial.transform import Rotation

from sfm_jax.evaluation.protocols import facescape, micc, realy
from sfm_jax.evaluation.scan_to_mesh import NOW_LANDMARKS
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
                                                  for kind in ("Deep3D's, rms", "GANFIT's, mean")]
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
    outcome = micc.evaluate(tmp_path / "truth", tmp_path / "out")
    for row in outcome.rows:
        np.testing.assert_allclose(row.values["mean"].value, 2.0, atol=0.05)
        np.testing.assert_allclose(row.values["std"].value, 1.0, atol=0.05)
    (tmp_path / "out" / "b.ply").rename(tmp_path / "out" / "c.ply")
    with pytest.raises(ValueError, match=r"1 of 2 names match; 1 without a prediction \(b\); 1 predicted .* \(c\)"):
        micc.evaluate(tmp_path / "truth", tmp_path / "out")


def test_facescapes_measures_of_known_errors(face, tmp_path):
    save(tmp_path / "truth" / "x.ply", *ball(60.0))
    save(tmp_path / "truth" / "y.ply", *ball(60.0))
    save(tmp_path / "out" / "x.ply", *ball(61.0))
    outcome = facescape.evaluate(tmp_path / "truth", tmp_path / "out", aligned=True, partial=True)
    values = outcome.rows[0].values
    np.testing.assert_allclose(values["chamfer mm"].value, 1.0, atol=0.01)
    np.testing.assert_allclose(values["completeness %"].value, 100)
    assert values["done %"].value == 50 and values["normals degrees"].value < 2
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
    """{region: (vertices, triangles, keypoints)} of the face: balls of 25 mm around landmarks."""
    vertices, triangles, landmarks = face
    found = {}
    for region, middle, points in (("nose", 30, range(27, 36)), ("mouth", 51, range(48, 60)),
                                   ("forehead", 21, range(17, 27)), ("cheek", 2, ())):
        kept = np.linalg.norm(vertices - landmarks[middle], axis=1) < 25
        inside = triangles[kept[triangles].all(1)]
        used = np.unique(inside)
        order = np.full(len(vertices), -1)
        order[used] = np.arange(len(used))
        own = [point for point in points if np.linalg.norm(vertices[used] - landmarks[point], axis=1).min() < 1e-9]
        found[region] = vertices[used], order[inside], landmarks[own].reshape(-1, 3)
    return found


def lay_out(tmp_path, face, regions, change=lambda points: points):
    """A truth NAME/REGION, and a prediction that `change` makes of the face."""
    for region, (vertices, triangles, _) in regions.items():
        save(tmp_path / "truth" / "ann" / f"{region}.ply", vertices, triangles)
    np.savez(tmp_path / "truth" / "ann" / "keypoints.npz",
             **{region: part[2] for region, part in regions.items() if len(part[2])})
    save(tmp_path / "out" / "ann.ply", change(face[0]), face[1])
    np.savez(tmp_path / "out" / "ann.npz", **{region: change(part[2]) for region, part in regions.items()
                                              if len(part[2])})


def test_realy_of_the_face_itself_moved_is_zero_and_of_a_longer_nose_is_not(tmp_path, face, regions):
    motion = somewhere()
    lay_out(tmp_path, face, regions, motion.apply)
    values = realy.evaluate(tmp_path / "truth", tmp_path / "out").rows[0].values
    assert set(values) == {"nose", "mouth", "forehead", "cheek", "all"}
    assert max(estimate.value for estimate in values.values()) < 0.05
    tip = face[2][30]

    def longer(points):
        near = np.exp(-np.square(points - tip).sum(1, keepdims=True) / (2 * 15.0**2))
        return points + 8 * near * [0.0, 0.0, 1.0]

    lay_out(tmp_path, face, regions, longer)
    values = realy.evaluate(tmp_path / "truth", tmp_path / "out").rows[0].values
    assert values["nose"].value > 0.8 > 5 * values["forehead"].value
    np.testing.assert_allclose(values["all"].value,
                               np.mean([values[region].value for region in realy.REGIONS]))


def test_realy_names_what_is_wrong(tmp_path, face, regions):
    lay_out(tmp_path, face, regions, lambda points: points / 1000)
    with pytest.raises(ValueError, match="ann.ply: found a face of .*: multiply by 1000 if these are metres"):
        realy.evaluate(tmp_path / "truth", tmp_path / "out")
    lay_out(tmp_path, face, regions)
    np.savez(tmp_path / "out" / "ann.npz", nose=np.ones((3, 3)))
    with pytest.raises(ValueError, match=r"key 'nose': found keypoints of shape \(3, 3\), the truth has \([0-9]+, 3\)"):
        realy.evaluate(tmp_path / "truth", tmp_path / "out")
    lay_out(tmp_path, face, regions | {"cheek": (*regions["cheek"][:2], face[2][[30]])})
    with pytest.raises(ValueError, match="keypoints.npz: key 'cheek': keypoint 0 is .* mm from the region"):
        realy.evaluate(tmp_path / "truth", tmp_path / "out")
    (tmp_path / "truth" / "ann" / "cheek.ply").unlink()
    with pytest.raises(ValueError, match="ann: found no cheek, expected nose, mouth, forehead, cheek"):
        realy.evaluate(tmp_path / "truth", tmp_path / "out")
