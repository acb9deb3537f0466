"""Folders of meshes, ICT FaceKit, npz of any names."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import trimesh
from scipy.spatial.transform import Rotation
from small_face import small_face, write_obj

from sfm_jax.morphable.formats import guess_format, load_face_model
from sfm_jax.morphable.formats.assemble import mirror_images
from sfm_jax.morphable.formats.colours import albedo_from_srgb, srgb_from_albedo
from sfm_jax.morphable.formats.ict import load_ict
from sfm_jax.morphable.formats.landmarks import slide_lines
from sfm_jax.morphable.formats.meshes import load_meshes
from sfm_jax.morphable.formats.npz import load_npz
from sfm_jax.morphable.formats.obj import read_obj

ICT = os.environ.get("SFM_JAX_ICT_NPZ", "")  # mean, identity_basis, expression_basis, faces .. of FaceKit, centimetres


@pytest.fixture(scope="module")
def face():
    return small_face()


def similarity(points):
    """Motions [7, 3V] that move, turn and scale points, orthonormal."""
    centred = points - points.mean(0)
    fields = [np.broadcast_to(axis, points.shape) for axis in np.eye(3)]
    fields += [np.cross(axis, centred) for axis in np.eye(3)] + [centred]
    return np.linalg.qr(np.stack(fields).reshape(7, -1).T)[0].T


# -------------------------------------------------------------------------------------------------- meshes

def test_quads_uvs_and_negative_indices_of_an_obj(tmp_path):
    (tmp_path / "a.obj").write_text(
        "# a square\nv 0 0 0 1 0 0\nv 1 0 0 0 1 0\nv 1 1 0 0 0 1\nv 0 1 0 1 1 1\nvt 0 0\nvt 1 0\nvt 1 1\nvt 0 1\n"
        "vn 0 0 1\ns 1\nf 1/1/1 2/2/1 3/3/1 4/4/1\nf -4/-4 -3/-3 -2/-2\n")
    mesh = read_obj(tmp_path / "a.obj")
    np.testing.assert_array_equal(mesh.triangles, [[0, 1, 2], [0, 2, 3], [0, 1, 2]])
    np.testing.assert_array_equal(mesh.uv_triangles, mesh.triangles)
    np.testing.assert_array_equal(mesh.vertices[2], [1, 1, 0])
    for line, number in (("v 1 2", 1), ("f 1 2 9", 1), ("vt x 1", 1)):
        (tmp_path / "bad.obj").write_text(f"{line}\n")
        with pytest.raises(ValueError, match=f"bad.obj: line {number}: '{line}' is not sound OBJ"):
            read_obj(tmp_path / "bad.obj")


def people(face, count=6):
    """Registered scans, each turned and moved by a little."""
    rng = np.random.default_rng(2)
    shapes = face.mean + np.tensordot(rng.normal(size=(count, 3)), face.identity, 1)
    turns = Rotation.from_euler("xyz", rng.normal(size=(count, 3)) * 3, degrees=True).as_matrix()
    return shapes, np.einsum("nij,nvj->nvi", turns, shapes) + rng.normal(size=(count, 1, 3)) * 5


@pytest.mark.parametrize("suffix", [".obj", ".ply"])
def test_a_folder_of_registered_meshes_becomes_their_principal_components(face, tmp_path, suffix):
    shapes, scans = people(face)
    (tmp_path / "scans").mkdir()
    for i, scan in enumerate(scans):
        trimesh.Trimesh(scan / 10, face.triangles, process=False).export(tmp_path / "scans" / f"{i}{suffix}")
    (tmp_path / "points.json").write_text(json.dumps(face.landmarks.tolist()))
    assert guess_format(tmp_path / "scans") == "meshes"
    model = load_meshes(tmp_path / "scans", unit="cm", landmarks=tmp_path / "points.json")
    basis = np.asarray(model.identity_basis, np.float64).reshape(len(model.identity_basis), -1)
    assert len(basis) <= 5 and basis.shape[1] == face.mean.size
    # The shapes apart from turning and moving, which is taken out: every scan's distances can be made again.
    for scan in scans:
        turn, _ = Rotation.align_vectors(np.asarray(model.mean) - np.mean(model.mean, 0), scan - scan.mean(0))
        at = turn.apply(scan - scan.mean(0)) + np.mean(model.mean, 0)
        rest = (at - np.asarray(model.mean)).ravel()
        rest -= basis.T @ np.linalg.lstsq(basis.T, rest, rcond=None)[0]
        assert np.sqrt(np.mean(rest**2)) < 0.02  # mm; the deviation itself is millimetres
    variance = np.sum(basis**2) / len(face.mean)
    motions = similarity(face.mean)[:6]
    truth = (shapes - shapes.mean(0)).reshape(6, -1)
    truth -= truth @ motions.T @ motions
    np.testing.assert_allclose(variance, np.sum(truth**2) / 5 / len(face.mean), rtol=0.03)
    np.testing.assert_array_equal(model.topology.landmarks, face.landmarks)


def test_a_person_with_a_mesh_in_both_formats_is_one(face, tmp_path):
    _, scans = people(face)
    for i, scan in enumerate(scans):
        trimesh.Trimesh(scan, face.triangles, process=False).export(tmp_path / f"{i}.obj")
    alone = load_meshes(tmp_path)
    for i in range(3):
        trimesh.Trimesh(scans[i], face.triangles, process=False).export(tmp_path / f"{i}.ply")
    (tmp_path / "2.ply").rename(tmp_path / "2.PLY")
    both = load_meshes(tmp_path)
    assert "6 registered meshes" in alone.source == both.source
    np.testing.assert_array_equal(both.identity_basis, alone.identity_basis)


def test_meshes_that_do_not_correspond_are_refused_by_name(face, tmp_path):
    with pytest.raises(ValueError, match="found 0 meshes"):
        load_meshes(tmp_path)
    with pytest.raises(ValueError, match="absent: no such folder"):
        load_meshes(tmp_path / "absent")
    write_obj(tmp_path / "a.obj", face.mean, face.triangles)
    write_obj(tmp_path / "b.obj", face.mean + 1, face.triangles[::-1])
    with pytest.raises(ValueError, match="b.obj: other triangles than a.obj"):
        load_meshes(tmp_path)
    write_obj(tmp_path / "b.obj", face.mean[:100], face.triangles[(face.triangles < 100).all(1)])
    with pytest.raises(ValueError, match="b.obj: 100 vertices, a.obj has 3642"):
        load_meshes(tmp_path)
    write_obj(tmp_path / "b.obj", face.mean + 1, face.triangles)
    with pytest.raises(ValueError, match="its 2 meshes are all the same"):
        load_meshes(tmp_path)
    with pytest.raises(ValueError, match="unit: found 'inch', expected one of m, dm"):
        load_meshes(tmp_path, unit="inch")


# ----------------------------------------------------------------------------------------------------- ICT

def write_ict(folder, face, modes):
    """FaceKit's layout: centimetres, UVs of their own, vertices and polygons behind the face's."""
    (folder / "FaceXModel").mkdir(parents=True)
    folder = folder / "FaceXModel"
    polygons = np.concatenate([face.triangles, len(face.mean) + np.array([[0, 1, 2]])])
    uv = np.random.default_rng(0).uniform(size=(len(face.mean) + 3, 2))

    def write(name, vertices):
        write_obj(folder / name, np.concatenate([vertices / 10, np.ones((3, 3))]), polygons, uv, polygons)

    write("generic_neutral_mesh.obj", face.mean)
    for i, mode in enumerate(modes):
        write(f"identity{i:03d}.obj", face.mean + mode)
    for name, move in zip(("jawOpen", "mouthSmile_L"), face.expression, strict=True):
        write(f"{name}.obj", face.mean + move)
    (folder / "vertex_indices.json").write_text(json.dumps({
        "expressions": ["jawOpen", "mouthSmile_L"], "idx_to_landmark_verts": face.landmarks.tolist(),
        "idx_to_rigid_verts": [1, 2]}))
    return uv


def mixed_modes(face):
    """Modes that are no principal components: mixed, and with size and motion in them."""
    motions = 30 * similarity(face.mean).reshape(7, -1, 3)
    a, b, c = face.identity
    return np.stack([a + b + motions[6], a - 0.5 * b + motions[0], c + motions[4], 0.3 * a + 2 * motions[6]])


def test_ict_facekits_modes_are_aligned_and_made_orthogonal(face, tmp_path):
    modes = mixed_modes(face)
    uv = write_ict(tmp_path / "ICT-FaceKit", face, modes)
    assert guess_format(tmp_path / "ICT-FaceKit") == "ict"
    model = load_ict(tmp_path / "ICT-FaceKit", vertices=len(face.mean))
    np.testing.assert_allclose(model.mean, face.mean, atol=2e-5)
    np.testing.assert_allclose(model.expression_basis, face.expression, atol=5e-5)
    assert model.expression_names == ("jawOpen", "mouthSmile_L")
    np.testing.assert_array_equal(model.topology.triangles, face.triangles)
    np.testing.assert_array_equal(model.topology.landmarks, face.landmarks)
    np.testing.assert_allclose(model.topology.uv[model.topology.uv_triangles], uv[face.triangles], atol=1e-6)

    motions = similarity(face.mean)
    flat = modes.reshape(4, -1)
    flat = flat - flat @ motions.T @ motions
    basis = np.asarray(model.identity_basis, np.float64).reshape(len(model.identity_basis), -1)
    np.testing.assert_allclose(basis @ motions.T, 0, atol=1e-2)
    np.testing.assert_allclose(np.sum(basis**2), np.sum(flat**2), rtol=1e-5)
    probe = np.random.default_rng(1).normal(size=(face.mean.size, 2))
    np.testing.assert_allclose(basis.T @ (basis @ probe), flat.T @ (flat @ probe), atol=5e-2)  # one covariance
    gram = basis @ basis.T
    np.testing.assert_allclose(gram - np.diag(np.diag(gram)), 0, atol=1e-4 * gram[0, 0])
    assert (np.diff(np.diag(gram)) <= 0).all()

    sized = load_ict(tmp_path / "ICT-FaceKit", vertices=len(face.mean), keep_size=True)
    sized = np.asarray(sized.identity_basis, np.float64).reshape(len(sized.identity_basis), -1)
    sizes = modes.reshape(4, -1) @ motions[6]
    np.testing.assert_allclose(np.sum((sized @ motions[6]) ** 2), np.sum(sizes**2), rtol=1e-4)


def test_what_a_folder_of_ict_facekit_lacks_is_named(face, tmp_path):
    write_ict(tmp_path / "ict", face, mixed_modes(face)[:1])
    folder = tmp_path / "ict" / "FaceXModel"
    (folder / "jawOpen.obj").unlink()
    with pytest.raises(ValueError, match="jawOpen.obj: no such file"):
        load_ict(folder)
    write_obj(folder / "jawOpen.obj", face.mean / 10, face.triangles)
    with pytest.raises(ValueError, match="jawOpen.obj: 3642 vertices, generic_neutral_mesh.obj has 3645"):
        load_ict(folder)
    (folder / "vertex_indices.json").write_text('{"expressions": []}')
    with pytest.raises(ValueError, match="key 'idx_to_landmark_verts' is missing, found expressions"):
        load_ict(folder)
    (folder / "vertex_indices.json").write_text('{"expressions": [')
    with pytest.raises(ValueError, match="vertex_indices.json: not readable as JSON"):
        load_ict(folder)
    (folder / "identity000.obj").unlink()
    (folder / "vertex_indices.json").write_text('{"expressions": [], "idx_to_landmark_verts": [0]}')
    with pytest.raises(ValueError, match="identity000.obj is missing"):
        load_ict(folder)
    with pytest.raises(ValueError, match="generic_neutral_mesh.obj is missing"):
        load_ict(tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(not ICT, reason="SFM_JAX_ICT_NPZ names no file with FaceKit's arrays")
def test_the_real_facekit_reads_as_its_arrays_say(tmp_path):
    arrays = dict(np.load(ICT))
    mean, modes = arrays["mean"].astype(np.float64), arrays["identity_basis"].astype(np.float64)
    names = [str(name) for name in arrays["expression_names"]]
    for name, vertices in ({"generic_neutral_mesh": mean} | {f"identity{i:03d}": mean + m for i, m in enumerate(modes)}
                           | {n: mean + m for n, m in zip(names, arrays["expression_basis"], strict=True)}).items():
        write_obj(tmp_path / f"{name}.obj", vertices, arrays["faces"], arrays["uvs"], arrays["uv_faces"])
    (tmp_path / "vertex_indices.json").write_text(json.dumps(
        {"expressions": names, "idx_to_landmark_verts": arrays["landmarks68"].tolist()}))
    model = load_face_model(tmp_path)
    np.testing.assert_allclose(model.mean, 10 * mean, atol=1e-4)
    np.testing.assert_allclose(model.expression_basis, 10 * arrays["expression_basis"].astype(np.float32), atol=1e-3)
    motions, flat = similarity(mean), 10 * modes.reshape(len(modes), -1)
    flat = flat - flat @ motions.T @ motions
    basis = np.asarray(model.identity_basis, np.float64).reshape(len(model.identity_basis), -1)
    sigma = np.linalg.svd(flat, compute_uv=False)[:len(basis)]
    np.testing.assert_allclose(np.linalg.norm(basis, axis=1), sigma, rtol=1e-3)
    np.testing.assert_array_equal(model.topology.landmarks, arrays["landmarks68"])


# ----------------------------------------------------------------------------------------------------- npz

@pytest.mark.parametrize(("sigma", "kind"), [({}, "activations"), ({"expression_sigma": [3.0, 3.0]}, "statistical")])
def test_expressions_of_an_npz_with_deviations_are_statistical(face, tmp_path, sigma, kind):
    np.savez(tmp_path / "a.npz", mean=face.mean, identity=face.identity, triangles=face.triangles,
             expression=face.expression, **sigma)
    model = load_npz(tmp_path / "a.npz")
    assert model.expression_kind == kind
    np.testing.assert_allclose(model.expression_basis, face.expression * (3 if sigma else 1), rtol=1e-6)


@pytest.mark.parametrize("layout", ["KV3", "V3K", "K3V", "3VK"])
def test_an_npz_of_any_names_and_any_order_of_axes(face, tmp_path, layout):
    basis = {"KV3": face.identity, "V3K": np.moveaxis(face.identity, 0, -1), "K3V": face.identity.reshape(3, -1),
             "3VK": face.identity.reshape(3, -1).T}[layout]
    np.savez(tmp_path / "a.npz", mu=face.mean.ravel() / 1000, W=basis / 2000, s=np.full(3, 2.0), faces=face.triangles,
             lm=face.landmarks)
    keys = {"mean": "mu", "identity": "W", "identity_sigma": "s", "landmarks": "lm"}
    assert guess_format(tmp_path / "a.npz") == "npz"
    model = load_npz(tmp_path / "a.npz", keys, unit="m")
    np.testing.assert_allclose(model.mean, face.mean, atol=2e-5)
    np.testing.assert_allclose(model.identity_basis, face.identity, atol=2e-5)
    np.testing.assert_array_equal(model.topology.landmarks, face.landmarks)
    with pytest.raises(ValueError, match="multiply by 1000, as if in m"):
        load_npz(tmp_path / "a.npz", keys)
    with pytest.raises(ValueError, match="a.npz: key 'mean' is missing, found W, faces, lm, mu, s"):
        load_npz(tmp_path / "a.npz")
    with pytest.raises(ValueError, match="a.npz: key 'nothing' is missing"):
        load_npz(tmp_path / "a.npz", {"mean": "nothing"})


def test_a_topology_is_that_of_the_model_and_takes_nothing_away(face, tmp_path):
    trimesh.creation.icosphere(2).export(tmp_path / "ball.obj")
    triangles = trimesh.Trimesh(face.mean, face.triangles, process=False)
    triangles.export(tmp_path / "face.ply")
    np.savez(tmp_path / "bare.npz", mean=face.mean, identity=face.identity)
    scipy.io.savemat(tmp_path / "bare.mat", {"mean": face.mean.ravel(), "components": face.unit,
                                             "eigenvalues": face.sigma ** 2})
    for name in ("bare.npz", "bare.mat"):
        with pytest.raises(ValueError, match=f"ball.obj: found 162 vertices, expected the model's {len(face.mean)}"):
            load_face_model(tmp_path / name, topology=tmp_path / "ball.obj")
        model = load_face_model(tmp_path / name, topology=tmp_path / "face.ply")
        np.testing.assert_array_equal(model.topology.triangles, face.triangles)
    places = np.random.default_rng(0).random((len(face.mean), 2))
    np.savez(tmp_path / "uv.npz", mean=face.mean, identity=face.identity, uv=places)
    model = load_npz(tmp_path / "uv.npz", topology=tmp_path / "face.ply")
    np.testing.assert_allclose(model.topology.uv, places, atol=1e-6)
    seams = np.random.default_rng(1).random((len(face.mean) + 20, 2))
    corners = face.triangles.copy()
    corners[0, 0] = len(face.mean) + 3
    lines = [f"v {x} {y} {z}" for x, y, z in face.mean] + [f"vt {u} {v}" for u, v in seams]
    lines += ["f " + " ".join(f"{a + 1}/{b + 1}" for a, b in zip(*rows, strict=True))
              for rows in zip(face.triangles, corners, strict=True)]
    (tmp_path / "seams.obj").write_text("\n".join(lines))
    for arrays in ({}, {"uv": seams}):
        np.savez(tmp_path / "seams.npz", mean=face.mean, identity=face.identity, **arrays)
        topology = load_npz(tmp_path / "seams.npz", topology=tmp_path / "seams.obj").topology
        np.testing.assert_allclose(topology.uv[topology.uv_triangles], seams[corners], atol=1e-6)
    np.savez(tmp_path / "whole.npz", mean=face.mean, identity=face.identity, triangles=face.triangles[5:])
    with pytest.raises(ValueError, match="face.ply: other triangles than key 'triangles' of .*whole.npz has"):
        load_npz(tmp_path / "whole.npz", topology=tmp_path / "face.ply")


@pytest.mark.parametrize("shape", [(-1, 3), (-1,), (1, -1), (-1, 1), (3, -1)])
def test_a_mean_of_any_shape_that_says_whose_its_numbers_are(face, tmp_path, shape):
    mean = face.mean.T if shape[0] == 3 else face.mean.reshape(shape)
    np.savez(tmp_path / "a.npz", mean=mean, identity=face.identity, faces=face.triangles)
    scipy.io.savemat(tmp_path / "a.mat", {"mean": mean, "components": face.unit, "eigenvalues": face.sigma ** 2,
                                          "trilist": face.triangles + 1})
    for path, key in ((tmp_path / "a.npz", "key 'mean'"), (tmp_path / "a.mat", "mean")):
        if shape[0] != 3:
            np.testing.assert_allclose(load_face_model(path).mean, face.mean, atol=2e-5)
            continue
        with pytest.raises(ValueError, match=rf"{path.name}: {key}: shape \(3, 3642\), expected \[vertices, 3\]"):
            load_face_model(path)


def test_a_damaged_npz_names_the_array(face, tmp_path):
    np.savez(tmp_path / "a.npz", mean=face.mean, identity=face.identity, faces=face.triangles)
    data = bytearray((tmp_path / "a.npz").read_bytes())
    data[200_000] ^= 255
    (tmp_path / "a.npz").write_bytes(data)
    with pytest.raises(ValueError, match="a.npz: not a readable npz without pickled objects .key 'identity'"):
        load_npz(tmp_path / "a.npz")
    (tmp_path / "a.npz").write_bytes(data[:100_000])
    with pytest.raises(ValueError, match="a.npz: not a readable npz"):
        load_face_model(tmp_path / "a.npz")
    np.savez(tmp_path / "nan.npz", mean=face.mean * np.nan, identity=face.identity, faces=face.triangles)
    with pytest.raises(ValueError, match="nan.npz: mean: 10926 of 10926 numbers are NaN or infinite"):
        load_npz(tmp_path / "nan.npz")


# --------------------------------------------------------------------------------------------- conventions

def test_colours_and_albedo_are_each_others_inverse():
    rng = np.random.default_rng(0)
    mean, basis = rng.uniform(0.01, 1, (50, 3)), rng.normal(size=(2, 50, 3))
    back = srgb_from_albedo(*albedo_from_srgb(mean, basis))
    np.testing.assert_allclose(back[0], mean, atol=1e-12)
    np.testing.assert_allclose(back[1], basis, rtol=1e-10)
    log_mean, log_basis = albedo_from_srgb(mean, basis)
    step = 1e-6
    moved = albedo_from_srgb(mean + step * basis[0], basis)[0]
    np.testing.assert_allclose((moved - log_mean) / step, log_basis[0], rtol=1e-3)


def test_mirror_images_and_contour_lines_of_the_embedded_face(face):
    symmetry = mirror_images(face.mean.astype(np.float32), face.landmarks)
    truth = face.model.topology.symmetry
    away = np.linalg.norm(face.mean[symmetry] - face.mean[truth], axis=1)
    assert np.mean(away < 0.5) > 0.98
    lines = slide_lines(face.mean.astype(np.float32), face.landmarks)
    assert lines.shape == (17, 11)
    assert all(landmark in line for landmark, line in zip(face.landmarks[:17], lines, strict=True))
    for line in lines[3:14]:  # from the cheek or chin backwards
        assert np.mean(np.diff(face.mean[line, 2])) < 0


def test_formats_and_options_that_there_are_not(face, tmp_path):
    for path, message in ((tmp_path / "absent.npz", "no such file or folder"),
                          (Path(__file__), "no face model ends in")):
        with pytest.raises(ValueError, match=message):
            guess_format(path)
    face.model.save(tmp_path / "ours.npz")
    assert guess_format(tmp_path / "ours.npz") == "sfm-jax"
    with pytest.raises(ValueError, match="format 'sfm-jax' has no option 'unit', has none"):
        load_face_model(tmp_path / "ours.npz", unit="m")
    with pytest.raises(ValueError, match="format: found 'maya', expected one of sfm-jax, eos"):
        load_face_model(tmp_path / "ours.npz", format="maya")
