"""Models that need a licence, in small files of the exact layout."""

import json
import os
import pickle
import sys
import types

import numpy as np
import pytest
import scipy.io
import scipy.sparse
from small_face import small_face, write_obj

from sfm_jax.morphable.formats import guess_format, load_face_model
from sfm_jax.morphable.formats.bilinear import load_bilinear
from sfm_jax.morphable.formats.flame import load_flame
from sfm_jax.morphable.formats.matlab import load_bfm2009, load_deep3d, load_matlab
from sfm_jax.morphable.formats.safe_pickle import load_pickle
from sfm_jax.morphable.formats.statismo import load_statismo


@pytest.fixture(scope="module")
def face():
    return small_face()


def check(model, face, expressions=2):
    """The mean, the identity basis at one standard deviation, outward triangles."""
    np.testing.assert_allclose(model.mean, face.mean, atol=2e-5)
    np.testing.assert_allclose(model.identity_basis, face.identity, atol=2e-5)
    np.testing.assert_allclose(model.expression_basis, face.expression[:expressions], atol=2e-5)
    corners = set(map(tuple, np.sort(face.triangles, 1)))
    assert set(map(tuple, np.sort(model.topology.triangles, 1))) == corners
    a, b, c = (face.mean[model.topology.triangles[:, k]] for k in range(3))
    assert np.sum(np.cross(a, b) * c) > 0


def check_albedo(model, face):
    srgb = np.where((linear := np.asarray(model.albedo(np.zeros(2, np.float32)), np.float64)) <= 0.0031308,
                    12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    np.testing.assert_allclose(srgb, face.colours, atol=1e-5)
    small = 0.01 * np.eye(2, dtype=np.float32)[0]
    moved = np.asarray(model.albedo(small), np.float64)
    truth = face.colours + 0.01 * (face.colour_unit * face.colour_sigma).T[0].reshape(-1, 3)
    np.testing.assert_allclose(1.055 * moved ** (1 / 2.4) - 0.055, truth, atol=1e-5)


# -------------------------------------------------------------------------------------------------- MATLAB

def write_bfm2009(path, face, unit=1000.0):
    column = (-1, 1)
    scipy.io.savemat(path, {
        "shapeMU": (unit * face.mean).reshape(column), "shapePC": face.unit,
        "shapeEV": unit * face.sigma.reshape(column),
        "texMU": 255 * face.colours.reshape(column), "texPC": face.colour_unit,
        "texEV": 255 * face.colour_sigma.reshape(column), "tl": face.triangles[:, [1, 0, 2]] + 1,
        "segMM": np.ones((3, 4)), "segMB": np.ones((3, 4))})


def test_basel_2009(face, tmp_path):
    path = tmp_path / "01_MorphableModel.mat"
    write_bfm2009(path, face)
    (tmp_path / "points.txt").write_text("\n".join(map(str, face.landmarks)))
    assert guess_format(path) == "bfm2009"
    model = load_face_model(path, landmarks=tmp_path / "points.txt")
    check(model, face, expressions=0)
    check_albedo(model, face)
    np.testing.assert_array_equal(model.topology.landmarks, face.landmarks)


def test_basel_2009_in_millimetres_is_refused_with_the_factor(face, tmp_path):
    write_bfm2009(tmp_path / "mm.mat", face, unit=1.0)
    with pytest.raises(ValueError, match="mm.mat: the mean face measures 0.253.*multiply by 1000"):
        load_bfm2009(tmp_path / "mm.mat")


def test_deep3d(face, tmp_path):
    path = tmp_path / "BFM_model_front.mat"
    scipy.io.savemat(path, {
        "meanshape": face.mean.reshape(1, -1) / 100, "idBase": face.unit * face.sigma / 100,
        "exBase": face.expression.reshape(2, -1).T / 100, "meantex": 255 * face.colours.reshape(1, -1),
        "texBase": 255 * face.colour_unit * face.colour_sigma, "tri": face.triangles + 1,
        "keypoints": face.landmarks[None] + 1})
    assert guess_format(path) == "deep3d"
    model = load_deep3d(path)
    check(model, face)
    check_albedo(model, face)
    np.testing.assert_array_equal(model.topology.landmarks, face.landmarks)
    assert model.expression_kind == "statistical"


def test_lsfm_and_lyhm(face, tmp_path):
    scipy.io.savemat(tmp_path / "lsfm.mat", {
        "mean": face.mean.reshape(1, -1), "components": face.unit, "eigenvalues": face.sigma[None] ** 2,
        "trilist": face.triangles, "n_training_samples": 9663})
    check(load_matlab(tmp_path / "lsfm.mat"), face, expressions=0)
    shp = {"mu": face.mean.reshape(1, -1) / 10, "eigVec": face.unit, "eigVal": face.sigma[:, None] ** 2 / 100}
    tex = {"mu": 255 * face.colours.reshape(1, -1), "eigVec": face.colour_unit,
           "eigVal": (255 * face.colour_sigma[:, None]) ** 2}
    scipy.io.savemat(tmp_path / "lyhm.mat", {"shp": shp, "tex": tex, "tri": face.triangles + 1})
    assert guess_format(tmp_path / "lyhm.mat") == "matlab"
    model = load_matlab(tmp_path / "lyhm.mat", unit="cm")
    check(model, face, expressions=0)
    check_albedo(model, face)
    scipy.io.savemat(tmp_path / "bare.mat", {"shp": shp})
    with pytest.raises(ValueError, match="key 'trilist' is missing: give a mesh"):
        load_matlab(tmp_path / "bare.mat", unit="cm")
    write_obj(tmp_path / "template.obj", face.mean, face.triangles)
    check(load_matlab(tmp_path / "bare.mat", unit="cm", topology=tmp_path / "template.obj"), face, expressions=0)


@pytest.mark.parametrize("base", [0, 1])
def test_triangles_tell_what_they_count_from_where_the_ends_are_not_in_use(face, tmp_path, base):
    used = face.triangles[((face.triangles > 0) & (face.triangles < len(face.mean) - 1)).all(1)]
    model = {"mean": face.mean.ravel(), "components": face.unit, "eigenvalues": face.sigma ** 2, "trilist": used + base}
    scipy.io.savemat(tmp_path / "a.mat", model)
    found = load_matlab(tmp_path / "a.mat").topology.triangles
    assert set(map(tuple, np.sort(found, 1))) == set(map(tuple, np.sort(used, 1)))
    mixed = np.random.default_rng(0).permutation(face.mean).ravel()
    scipy.io.savemat(tmp_path / "a.mat", model | {"mean": mixed})
    with pytest.raises(ValueError, match=r"a.mat: trilist: found \d+..\d+ of 3642 vertices, counted from 0 or"):
        load_matlab(tmp_path / "a.mat")


def test_damaged_matlab_files_are_refused_by_name(face, tmp_path):
    path = tmp_path / "face.mat"
    write_bfm2009(path, face)
    arrays = scipy.io.loadmat(path)
    scipy.io.savemat(tmp_path / "part.mat", {k: v for k, v in arrays.items() if k[0] != "_" and k != "shapePC"})
    with pytest.raises(ValueError, match="part.mat: key 'shapePC' is missing, found segMB"):
        load_bfm2009(tmp_path / "part.mat")
    path.write_bytes(path.read_bytes()[:100_000])
    for load in (load_bfm2009, load_face_model):
        with pytest.raises(ValueError, match="face.mat: not a readable MATLAB file, or truncated") as caught:
            load(path)
        assert "\n" not in str(caught.value)
    scipy.io.savemat(path, {k: v for k, v in arrays.items() if k[0] != "_"} | {"shapeEV": arrays["shapeEV"][:2]})
    with pytest.raises(ValueError, match=r"shapePC: shape \(10926, 3\), expected \[3 x vertices, 2\]"):
        load_bfm2009(path)
    path.write_bytes(b"MATLAB 7.3 MAT-file, Platform: ...")
    with pytest.raises(ValueError, match="save it anew with -v7"):
        load_bfm2009(path)


# ---------------------------------------------------------------------------------------------------- HDF5

def write_statismo(path, face, minor=9, unit=1.0):
    h5py = pytest.importorskip("h5py")

    def part(file, name, mean, basis, sigma):
        group = file.create_group(name)
        group["model/mean"] = unit * mean.ravel() if name != "color" else mean.ravel()
        scale = 1.0 if name == "color" else unit
        group["model/pcaBasis"] = basis * sigma * scale if minor == 8 else basis
        group["model/pcaVariance"] = (scale * sigma) ** 2
        group["model/noiseVariance"] = 0.0
        group["representer/cells"] = face.triangles.T
        group["representer/points"] = unit * face.mean.T
        group["version/majorVersion"], group["version/minorVersion"] = 0, minor

    offset = np.linspace(-2, 2, face.mean.size).reshape(-1, 3)
    norms = np.linalg.norm(face.expression.reshape(2, -1), axis=1)
    with h5py.File(path, "w") as file:
        part(file, "shape", face.mean - offset, face.unit, face.sigma)
        part(file, "color", face.colours, face.colour_unit, face.colour_sigma)
        part(file, "expression", offset, face.expression.reshape(2, -1).T / norms, norms)
        names = [{"id": f"point.{i}", "coordinates": face.mean[v].tolist()} for i, v in enumerate(face.landmarks)]
        file["metadata/landmarks/json"] = json.dumps(names)


@pytest.mark.parametrize("minor", [8, 9])
def test_basel_2017(face, tmp_path, minor):
    path = tmp_path / "model2017-1_face12_nomouth.h5"
    write_statismo(path, face, minor)
    mapping = "\n".join(f'{i + 1} = "point.{i}"' for i in range(68))
    (tmp_path / "ibug.txt").write_text(f"[landmark_mappings]\n{mapping}\n")
    model = load_face_model(path, landmarks=tmp_path / "ibug.txt")
    check(model, face)
    check_albedo(model, face)
    np.testing.assert_array_equal(model.topology.landmarks, face.landmarks)
    assert model.expression_names == ("expression 1", "expression 2") and model.expression_kind == "statistical"
    (tmp_path / "wrong.txt").write_text('[landmark_mappings]\n1 = "ear"\n')
    with pytest.raises(ValueError, match="wrong.txt: landmark 1: the model has no vertex named 'ear'"):
        load_statismo(path, tmp_path / "wrong.txt")


def test_damaged_hdf5_files_are_refused_by_name(face, tmp_path):
    path = tmp_path / "bfm.h5"
    write_statismo(path, face)
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "a") as file:
        del file["shape/model/pcaBasis"]
    with pytest.raises(ValueError, match="bfm.h5: 'shape/model/pcaBasis' is missing"):
        load_statismo(path)
    write_statismo(path, face, unit=0.001)
    with pytest.raises(ValueError, match="multiply by 1000, as if in m"):
        load_statismo(path)
    for kept in (100_000, 100):
        path.write_bytes(path.read_bytes()[:kept])
        with pytest.raises(ValueError, match="bfm.h5: not a readable HDF5 file, or truncated") as caught:
            load_statismo(path)
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="absent.h5: no such file"):
        load_statismo(tmp_path / "absent.h5")


# --------------------------------------------------------------------------------------------------- FLAME

@pytest.fixture
def chumpy(monkeypatch):
    """A module that pickles as chumpy does: Ch(x) by its state, sets and flags included."""
    def new(cls, x):
        self = object.__new__(cls)
        self.__dict__ |= {"_dirty_vars": set(), "x": x, "_itr": None, "_make_dense": False}
        return self

    module, package = types.ModuleType("chumpy.ch"), types.ModuleType("chumpy")
    module.Ch = type("Ch", (), {"__module__": "chumpy.ch"})
    package.ch = module
    monkeypatch.setitem(sys.modules, "chumpy", package)
    monkeypatch.setitem(sys.modules, "chumpy.ch", module)
    return lambda x: new(module.Ch, x)


def flame(face, wrap=np.asarray, unit=0.001):
    directions = np.moveaxis(np.concatenate([face.identity, face.expression]), 0, -1)
    return {
        "v_template": wrap(unit * face.mean), "shapedirs": wrap(unit * directions),
        "f": face.triangles.astype(np.uint32), "weights": wrap(np.ones((len(face.mean), 5))),
        "J_regressor": scipy.sparse.csc_matrix(np.eye(5, len(face.mean))),
        "kintree_table": np.array([[4294967295, 0, 1, 1, 1], [0, 1, 2, 3, 4]], np.uint32), "bs_type": "lrotmin",
        "bs_style": "lbs"}


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_flame_with_chumpy_arrays_and_sparse_matrices(face, tmp_path, chumpy, protocol):
    path = tmp_path / "generic_model.pkl"
    path.write_bytes(pickle.dumps(flame(face, chumpy), protocol=protocol))
    model = load_face_model(path, identities=3)
    check(model, face)
    assert model.expression_kind == "statistical"


def embedding(face):
    """Triangles and weights whose largest lie at the landmarks; the jaw for 5 yaws."""
    first = {v: (f, k) for f, triangle in reversed(list(enumerate(face.triangles))) for k, v in enumerate(triangle)}
    places = [first[v] for v in face.landmarks]
    faces, weights = np.array([f for f, _ in places]), 0.1 + 0.7 * np.eye(3)[[k for _, k in places]]
    return {"static_lmk_faces_idx": faces[17:], "static_lmk_bary_coords": weights[17:],
            "dynamic_lmk_faces_idx": np.stack([faces[:17] + 3 * yaw for yaw in range(5)]),
            "dynamic_lmk_bary_coords": np.stack([weights[:17]] * 5), "full_lmk_faces_idx": faces[None],
            "full_lmk_bary_coords": weights[None]}


@pytest.mark.parametrize("kind", ["full.npy", "static.npy", "plain.npz", "plain.pkl"])
def test_flames_landmark_embeddings(face, tmp_path, kind):
    (tmp_path / "flame.pkl").write_bytes(pickle.dumps(flame(face)))
    arrays, path = embedding(face), tmp_path / kind
    if kind == "full.npy":
        np.save(path, arrays, allow_pickle=True)
    elif kind == "static.npy":
        np.save(path, {k: v for k, v in arrays.items() if not k.startswith("full")}, allow_pickle=True)
    else:
        plain = {"lmk_face_idx": arrays["full_lmk_faces_idx"][0], "lmk_b_coords": arrays["full_lmk_bary_coords"][0]}
        np.savez(path, **plain) if kind == "plain.npz" else path.write_bytes(pickle.dumps(plain))
    topology = load_flame(tmp_path / "flame.pkl", landmarks=path, identities=3).topology
    np.testing.assert_array_equal(topology.landmarks, face.landmarks)
    assert topology.contour_lines.shape == (17, 5 if kind.endswith(".npy") else 11)
    assert all(landmark in line for landmark, line in zip(face.landmarks[:17], topology.contour_lines, strict=True))


class Attack:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(("attack", "name"), [
    (Attack(os.system, "touch pwned"), "(posix|nt).system"), (Attack(eval, "1"), "builtins.eval"),
    (Attack(np.load, "x"), "numpy.load"), (Attack(getattr, "text", "upper"), "builtins.getattr"),
    (Attack(scipy.io.loadmat, "x"), "scipy.io.*loadmat"), (Attack(np.dtype, [("a", "O")]), r"numpy.dtype\(\[")])
def test_a_pickle_that_calls_anything_is_refused_with_the_name_of_it(face, tmp_path, monkeypatch, attack, name):
    monkeypatch.chdir(tmp_path)
    for path, content in ((tmp_path / "flame.pkl", pickle.dumps(flame(face) | {"f": attack})),
                          (tmp_path / "embedding.npy", None)):
        if content is None:
            np.save(path, {"lmk_face_idx": attack}, allow_pickle=True)
            (tmp_path / "flame.pkl").write_bytes(pickle.dumps(flame(face)))
            arguments = (tmp_path / "flame.pkl", path)
        else:
            path.write_bytes(content)
            arguments = (path,)
        with pytest.raises(ValueError, match=f"{path.name}: refused: the pickle asks for {name}") as caught:
            load_flame(*arguments)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "pwned").exists()


def test_a_structured_type_by_the_back_door_is_refused(tmp_path):
    """NumPy's own unpickling takes any state of a dtype, and so any memory."""
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(np.zeros(2, [("a", "f8")])))
    with pytest.raises(ValueError, match="refused"):
        load_pickle(tmp_path / "a.pkl")


def test_pickled_arrays_of_all_kinds_are_restored_as_numpy_does(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {"f8": rng.normal(size=(3, 4)), "f4": np.asfortranarray(rng.normal(size=(3, 4)).astype(np.float32)),
              "big": rng.normal(size=5).astype(">f8"), "u4": np.arange(6, dtype=np.uint32),
              "bool": np.eye(2, dtype=bool),
              "text": np.array(["ab", "c"]), "empty": np.zeros((0, 3)), "object": np.array([1, "a", None], object),
              "scalar": np.float32(3), "deep": [np.arange(3), {"a": (np.arange(2),)}]}
    for protocol in range(6):
        (tmp_path / "a.pkl").write_bytes(pickle.dumps(arrays, protocol=protocol))
        found = load_pickle(tmp_path / "a.pkl")
        for key, value in arrays.items():
            if key != "deep":
                np.testing.assert_array_equal(found[key], value)
                assert found[key].dtype == value.dtype
        np.testing.assert_array_equal(found["deep"][1]["a"][0], np.arange(2))


def test_damaged_and_foreign_flame_files_are_refused_by_name(face, tmp_path):
    path = tmp_path / "flame.pkl"
    content = pickle.dumps(flame(face))
    for damaged, message in ((content[:50_000], "flame.pkl: not a readable pickle, or truncated"), (b"", "truncated"),
                             (pickle.dumps([1]), "holds a list"),
                             (pickle.dumps({"f": 1}), "key 'v_template' is missing")):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=message) as caught:
            load_flame(path)
        assert "\n" not in str(caught.value)
    path.write_bytes(pickle.dumps(flame(face, unit=1.0)))
    with pytest.raises(ValueError, match="multiply by 0.001, as if in um"):
        load_flame(path)


# ------------------------------------------------------------------------------------------------- bilinear

def tensor(face, people):
    """A core [3V, E, I] of faces whose expressions grow with the person, and its people [I, V, 3]."""
    rng = np.random.default_rng(1)
    shapes = face.mean + np.tensordot(rng.normal(size=(people, 3)), face.identity, 1)
    strength = np.linspace(0.8, 1.2, people)[:, None, None]
    units = [np.zeros_like(face.mean), *face.expression]
    faces = np.stack([shapes + strength * unit for unit in units], 1)  # [I, E, V, 3]
    return faces.reshape(people, 3, -1).transpose(2, 1, 0), shapes


def test_a_tensor_of_faces_becomes_identities_and_expressions_about_the_mean(face, tmp_path):
    core, shapes = tensor(face, 8)
    np.save(tmp_path / "core.npy", core)
    write_obj(tmp_path / "template.obj", face.mean, face.triangles)
    with pytest.raises(ValueError, match="core.npy: key 'fv_indices' is missing: give a mesh"):
        load_bilinear(tmp_path / "core.npy")
    model = load_bilinear(tmp_path / "core.npy", topology=tmp_path / "template.obj")
    np.testing.assert_allclose(model.mean, shapes.mean(0), atol=1e-4)
    np.testing.assert_allclose(model.expression_basis, face.expression, atol=1e-4)
    basis = np.asarray(model.identity_basis, np.float64).reshape(3, -1)
    np.testing.assert_allclose(basis.T @ (basis @ basis[0]), covariance(shapes, basis[0]), rtol=1e-3, atol=1e-2)
    gram = basis @ basis.T
    np.testing.assert_allclose(gram - np.diag(np.diag(gram)), 0, atol=1e-4 * gram[0, 0])


def covariance(shapes, vector):
    """The sample covariance of shapes [N, V, 3] times a vector."""
    centred = (shapes - shapes.mean(0)).reshape(len(shapes), -1)
    return centred.T @ (centred @ vector) / (len(shapes) - 1)


def test_a_decomposed_core_with_the_factors_of_its_people_is_the_same_model(face, tmp_path):
    core, shapes = tensor(face, 8)
    flat = core.reshape(-1, 8)
    left, singular, right = np.linalg.svd(flat, full_matrices=False)
    np.savez(tmp_path / "core.npz", shape_bm_core=(left * singular).reshape(core.shape),
             fv_indices=face.triangles + 1, sym_dict=np.array([{}], object))
    np.save(tmp_path / "factors.npy", right.T)
    with pytest.raises(ValueError, match="core.npz: its identities are modes of a decomposition, not faces"):
        load_bilinear(tmp_path / "core.npz")
    assert guess_format(tmp_path / "core.npz") == "bilinear"
    model = load_face_model(tmp_path / "core.npz", factors=tmp_path / "factors.npy")
    np.testing.assert_allclose(model.mean, shapes.mean(0), atol=1e-4)
    np.testing.assert_allclose(model.expression_basis, face.expression, atol=1e-4)
    first = np.asarray(model.identity_basis, np.float64).reshape(len(model.identity_basis), -1)[0]
    np.testing.assert_allclose(covariance(shapes, first), (first @ first) * first, rtol=1e-3, atol=1e-2)
