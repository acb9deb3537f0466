import dataclasses
import json
import os
import struct
from pathlib import Path

import numpy as np
import pytest
from small_face import faces, random_codes, small_face

from sfm_jax import convert
from sfm_jax.morphable.formats.eos import companions, load_blendshapes, load_eos, save_eos

SURREY = os.environ.get("SFM_JAX_EOS_SHARE", "")  # the folder `share` of eos


def matrix(values):
    return struct.pack("<ii", *values.shape) + np.asarray(values, "<f4").tobytes(order="F")


def rows(values, kind):
    return struct.pack("<Q", len(values)) + np.asarray(values, kind).tobytes()


def pca(mean, unit, variance, triangles):
    return matrix(mean.reshape(-1, 1)) + matrix(unit) + matrix(variance.reshape(-1, 1)) + rows(triangles, "<i4")


def blendshapes(face, names=("smile", "frown")):
    packed = [struct.pack("<Q", len(name)) + name.encode() + matrix(move.reshape(-1, 1))
              for name, move in zip(names, face.expression, strict=True)]
    return struct.pack("<Q", len(packed)) + b"".join(packed)


NO_PCA = pca(np.zeros(0), np.zeros((0, 0)), np.zeros(0), np.zeros((0, 3)))


def write_model(path, face, version):
    """All that each version of the format has a place for, byte by byte."""
    uv = np.linspace(0.1, 0.9, 2 * len(face.mean)).reshape(-1, 2)
    names = {"9": int(face.landmarks[8]), "nose": 3}
    data = struct.pack("<I", version) + pca(face.mean, face.unit, face.sigma**2, face.triangles) + NO_PCA
    if version >= 2:
        data += struct.pack("<Bi", 0, 1) + blendshapes(face)
    if version >= 3:
        data += struct.pack("<BQ", 0, len(names)) + b"".join(
            struct.pack("<Q", len(name)) + name.encode() + struct.pack("<i", vertex) for name, vertex in names.items())
    data += rows(uv, "<f8") + (rows(face.triangles, "<i4") if version >= 4 else b"")
    path.write_bytes(data)
    return uv


def write_mapping(path, face, without=(), chin=None):
    lines = [f"{i + 1} = {v}  # a point" for i, v in enumerate(face.landmarks) if i not in without]
    path.write_text("# TOML\n[landmark_mappings]\n" + "\n".join(lines) + "\n[contour_landmarks]\nright = [ 1 ]\n")


@pytest.mark.parametrize("version", [1, 2, 3, 4])
def test_every_version_of_the_format_reads_as_it_was_packed(tmp_path, version):
    face = small_face()
    uv = write_model(tmp_path / "face.bin", face, version)
    write_mapping(tmp_path / "ibug.txt", face)
    model = load_eos(tmp_path / "face.bin", landmarks=tmp_path / "ibug.txt")
    np.testing.assert_array_equal(model.mean, face.mean.astype(np.float32))
    np.testing.assert_allclose(model.identity_basis, face.identity, atol=2e-6)
    np.testing.assert_allclose(model.identity_sigma, [2.0, 1.5, 1.0], rtol=1e-5)
    np.testing.assert_allclose(model.topology.uv, uv * [1, -1] + [0, 1], atol=1e-6)
    np.testing.assert_array_equal(model.topology.triangles, face.triangles)
    np.testing.assert_array_equal(model.topology.landmarks, face.landmarks)
    if version >= 2:
        assert model.expression_names == ("smile", "frown")
        np.testing.assert_array_equal(model.expression_basis, face.expression.astype(np.float32))
    else:
        assert model.expression_basis.shape == (0, len(face.mean), 3)


def test_an_expression_pca_moves_the_mean_and_a_file_of_blendshapes_takes_its_place(tmp_path):
    face = small_face()
    offset = np.linspace(-1, 1, face.mean.size)
    shape = pca(face.mean, face.unit, face.sigma**2, face.triangles)
    expression = pca(offset, face.unit[:, :2], np.array([4.0, 9.0]), face.triangles)
    (tmp_path / "face.bin").write_bytes(struct.pack("<I", 2) + shape + NO_PCA + struct.pack("<Bi", 0, 0) + expression
                                        + rows(np.zeros((0, 2)), "<f8"))
    model = load_eos(tmp_path / "face.bin")
    np.testing.assert_allclose(model.mean, face.mean + offset.reshape(-1, 3), atol=1e-5)
    np.testing.assert_allclose(model.expression_basis[1].ravel(), 3 * face.unit[:, 1], atol=1e-6)
    assert model.topology.landmarks.shape == (0,) and model.topology.uv.shape == (0, 2)
    assert model.expression_kind == "statistical"

    (tmp_path / "blendshapes.bin").write_bytes(blendshapes(face))
    assert load_blendshapes(tmp_path / "blendshapes.bin")[0] == ("smile", "frown")
    model = load_eos(tmp_path / "face.bin", blendshapes=tmp_path / "blendshapes.bin")
    np.testing.assert_array_equal(model.mean, face.mean.astype(np.float32))
    assert model.expression_names == ("smile", "frown") and model.expression_kind == "activations"


def test_landmarks_that_the_mapping_lacks_come_from_the_contour_and_the_lips(tmp_path):
    face = small_face()
    write_model(tmp_path / "face.bin", face, 1)
    missing = [*range(8), *range(9, 17), 60, 64]
    write_mapping(tmp_path / "ibug.txt", face, without=missing)
    sides = {"right_contour": face.landmarks[:8].tolist(), "left_contour": face.landmarks[9:17].tolist()}
    (tmp_path / "contours.json").write_text(json.dumps({"model_contour": sides}))
    model = load_eos(tmp_path / "face.bin", landmarks=tmp_path / "ibug.txt", contours=tmp_path / "contours.json")
    found = model.topology.landmarks
    assert set(found[:8]) <= set(sides["right_contour"]) and set(found[9:17]) <= set(sides["left_contour"])
    heights = face.mean[found[:9], 1]
    assert (np.diff(heights) <= 0).all() and len(set(found[:9])) >= 7
    away = np.linalg.norm(face.mean[found[[60, 64]]] - face.mean[face.landmarks[[60, 64]]], axis=1)
    assert away.max() < 4  # mm
    assert "landmarks estimated: 1, 2, 3" in model.source and "61, 65" in model.source
    with pytest.raises(ValueError, match="ibug.txt: landmark 1 is missing and cannot be estimated, give the contours"):
        load_eos(tmp_path / "face.bin", landmarks=tmp_path / "ibug.txt")


def test_triangles_are_turned_outward(tmp_path):
    face = small_face()
    write_model(tmp_path / "face.bin", face._replace(triangles=face.triangles[:, ::-1]), 4)
    model = load_eos(tmp_path / "face.bin")
    np.testing.assert_array_equal(model.topology.triangles, face.triangles)
    np.testing.assert_array_equal(model.topology.uv_triangles, face.triangles)


def test_writing_and_reading_keeps_the_vertices_of_any_codes(tmp_path):
    model = small_face().model
    save_eos(tmp_path / "face.bin", model)
    again = load_eos(tmp_path / "face.bin")
    codes = random_codes(model)
    np.testing.assert_allclose(faces(again, *codes), faces(model, *codes), atol=1e-5)
    np.testing.assert_allclose(again.albedo_mean, model.albedo_mean, atol=1e-5)
    np.testing.assert_allclose(again.albedo_basis, model.albedo_basis, atol=1e-5)
    for key in ("landmarks", "triangles", "uv_triangles"):
        np.testing.assert_array_equal(getattr(again.topology, key), getattr(model.topology, key))
    np.testing.assert_allclose(again.topology.uv, model.topology.uv, atol=1e-6)
    assert [path.name for path in tmp_path.iterdir()] == ["face.bin"]


def test_landmarks_that_are_not_ibugs_are_left_out_and_told(tmp_path):
    model = small_face().model
    model = model.replace(topology=dataclasses.replace(model.topology, landmarks=model.topology.landmarks[17:]))
    assert "51 landmarks, which are not iBUG's 68" in convert.write(tmp_path / "face.bin", model)
    assert b"\x01\0\0\0\0\0\0\0" b"1" not in (tmp_path / "face.bin").read_bytes()


def test_a_linear_albedo_is_written_to_first_order(tmp_path):
    model = small_face().model
    mean = np.exp(np.asarray(model.albedo_mean))
    linear = model.replace(albedo_mean=mean, albedo_basis=mean * np.asarray(model.albedo_basis), albedo_space="linear")
    save_eos(tmp_path / "face.bin", linear)
    again = load_eos(tmp_path / "face.bin")
    np.testing.assert_allclose(again.albedo_basis, model.albedo_basis, atol=1e-5)
    none = model.replace(identity_basis=model.identity_basis[:0], expression_basis=model.expression_basis[:0],
                         expression_names=())
    save_eos(tmp_path / "face.bin", none)
    assert load_eos(tmp_path / "face.bin").identity_basis.shape == (0, *model.mean.shape)


def test_eos_itself_draws_the_same_faces(tmp_path):
    eos = pytest.importorskip("eos").morphablemodel
    face = small_face()
    save_eos(tmp_path / "ours.bin", face.model)
    theirs = eos.load_model(str(tmp_path / "ours.bin"))
    identity, expression = random_codes(face.model, 1)
    drawn = theirs.draw_sample(identity[0].tolist(), expression[0].tolist(), [])
    np.testing.assert_allclose(drawn.vertices, faces(face.model, identity, expression)[0], atol=5e-5)
    assert theirs.get_landmark_definitions()["31"] == face.landmarks[30]

    shape = eos.PcaModel(face.mean.ravel(), face.unit, face.sigma**2, face.triangles.tolist())
    eos.save_model(eos.MorphableModel(shape, eos.PcaModel()), str(tmp_path / "theirs.bin"))
    model = load_eos(tmp_path / "theirs.bin")
    np.testing.assert_array_equal(np.asarray(model.mean).ravel(), shape.get_mean())
    np.testing.assert_allclose(np.asarray(model.identity_basis).reshape(3, -1).T, shape.get_rescaled_pca_basis(),
                               rtol=3e-7, atol=1e-9)


@pytest.mark.parametrize(("keep", "part"), [(2, "version"), (4000, "shape mean"), (100_000, "shape basis"),
                                            (0.5, "shape triangles"), (-100, "texture triangles")])
def test_a_truncated_file_is_an_error_that_names_the_missing_part(tmp_path, keep, part):
    face = small_face()
    write_model(tmp_path / "face.bin", face, 4)
    data = (tmp_path / "face.bin").read_bytes()
    at = data.index(rows(face.triangles, "<i4")) + 100 if keep == 0.5 else keep
    (tmp_path / "face.bin").write_bytes(data[:at])
    with pytest.raises(ValueError, match=f"face.bin: ends within its {part}") as caught:
        load_eos(tmp_path / "face.bin")
    assert "\n" not in str(caught.value)


def test_what_is_no_eos_model_is_refused_in_one_line(tmp_path):
    face = small_face()
    for content, message in ((b"hello, this is text", "version 1819043176, expected 1 to 4"),
                             (b"", "ends within its version")):
        (tmp_path / "no.bin").write_bytes(content)
        with pytest.raises(ValueError, match=message):
            load_eos(tmp_path / "no.bin")
    with pytest.raises(ValueError, match="absent.bin: no such file"):
        load_eos(tmp_path / "absent.bin")
    write_model(tmp_path / "face.bin", face, 4)
    with open(tmp_path / "face.bin", "ab") as file:
        file.write(b"more")
    with pytest.raises(ValueError, match="4 bytes follow the end"):
        load_eos(tmp_path / "face.bin")


@pytest.mark.parametrize(("factor", "hint"), [
    (0.1, "multiply by 10, as if in cm"), (0.001, "multiply by 1000, as if in m"),
    (1000, "multiply by 0.001, as if in um"), (7, "expected 100 to 600 mm$")])
def test_lengths_that_are_no_millimetres_are_refused_with_the_factor(tmp_path, factor, hint):
    face = small_face()
    write_model(tmp_path / "face.bin", face._replace(mean=factor * face.mean), 4)
    with pytest.raises(ValueError, match=hint):
        load_eos(tmp_path / "face.bin")


def test_a_face_that_looks_elsewhere_is_refused(tmp_path):
    face = small_face()
    write_mapping(tmp_path / "ibug.txt", face)
    for axes, message in (([-1, 1, -1], "right eye is not at the smaller x"), ([1, -1, -1], "chin is not below")):
        write_model(tmp_path / "face.bin", face._replace(mean=face.mean * axes), 4)
        with pytest.raises(ValueError, match=message):
            load_eos(tmp_path / "face.bin", landmarks=tmp_path / "ibug.txt")


@pytest.mark.skipif(not SURREY, reason="SFM_JAX_EOS_SHARE names no folder with the Surrey Face Model")
def test_the_surrey_face_model_as_eos_reads_it():
    path = Path(SURREY) / "sfm_shape_3448.bin"
    model = load_eos(path, **companions(path))
    assert model.identity_basis.shape == (63, 3448, 3) and model.topology.contour_lines.shape == (17, 11)
    assert model.expression_names == ("anger", "disgust", "fear", "happiness", "sadness", "surprise")
    eos = pytest.importorskip("eos").morphablemodel
    shape = eos.load_model(str(path)).get_shape_model()
    np.testing.assert_array_equal(np.asarray(model.mean).ravel(), shape.get_mean())
    np.testing.assert_array_equal(model.topology.triangles, shape.get_triangle_list())
    np.testing.assert_allclose(np.asarray(model.identity_basis).reshape(63, -1).T, shape.get_rescaled_pca_basis(),
                               rtol=3e-7, atol=1e-7)
    theirs = eos.load_blendshapes(str(companions(path)["blendshapes"]))
    np.testing.assert_array_equal(np.asarray(model.expression_basis).reshape(6, -1),
                                  [blendshape.deformation for blendshape in theirs])
