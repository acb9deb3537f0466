"""Files that lie: each kind of defect that experiments/hostile_input.py found, and random damage to every format."""

import io
import json
import pickle
import random
import resource
import struct
import zipfile
import zlib

import h5py
import numpy as np
import pytest
import scipy.io
import shape_checks
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from experiments import hostile_mutations as mutations
from experiments import hostile_seeds as seeds
from sfm_jax import array_files
from sfm_jax.mat_files import load_mat5, mat5_names
from sfm_jax.morphable.formats import load_face_model
from sfm_jax.morphable.formats.eos import load_eos
from sfm_jax.morphable.formats.flame import load_flame
from sfm_jax.morphable.formats.gltf import load_gltf
from sfm_jax.morphable.formats.landmarks import read_landmarks
from sfm_jax.morphable.formats.obj import read_mesh, read_obj
from sfm_jax.morphable.formats.safe_pickle import load_pickle
from sfm_jax.morphable.model import MorphableModel


def refused(read, path, message):
    """One line that names the file."""
    with pytest.raises(ValueError, match=message) as caught:
        read(path)
    assert path.name in str(caught.value) and "\n" not in str(caught.value) and type(caught.value) is ValueError


def resident():
    """Megabytes that this process has had at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


# -------------------------------------------------------------------------------------------- any damage

FORMATS = {
    "model.npz": (seeds.ours, mutations.npz), "a.npz": (seeds.foreign_npz, mutations.npz),
    "b.npz": (seeds.flame_npz, mutations.npz), "c.npz": (seeds.bilinear, mutations.npz),
    "a.mat": (seeds.bfm2009, mutations.matlab), "b.mat": (seeds.deep3d, mutations.matlab),
    "c.mat": (seeds.lyhm, mutations.matlab), "a.h5": (seeds.statismo, mutations.hdf5),
    "a.pkl": (lambda: seeds.flame(2), mutations.pickled), "b.pkl": (lambda: seeds.flame(2), mutations.arrays_pickled),
    "a.bin": (seeds.eos, mutations.head), "a.glb": (seeds.glb, mutations.glb)}


@pytest.mark.parametrize("name", FORMATS)
@shape_checks.off()
def test_damage_is_refused_in_one_line_or_does_not_matter(name, tmp_path, monkeypatch):
    monkeypatch.setattr(mutations, "BOMB", 1 << 16)  # large ones take time to make
    make, mutate = FORMATS[name]
    valid, path = make(), tmp_path / name
    path.write_bytes(valid)
    load_face_model(path)

    @settings(max_examples=25, deadline=None, derandomize=True, database=None,
              suppress_health_check=list(HealthCheck))
    @given(st.integers(0, 2**32), st.booleans())
    def damaged(seed, twice):
        rng = random.Random(seed)
        content = mutate(valid, rng)
        path.write_bytes(mutations.blind(content, rng) if twice else content)
        try:
            load_face_model(path)
        except ValueError as error:
            assert type(error) is ValueError and name in str(error) and "\n" not in str(error)

    damaged()


# -------------------------------------------------------------------------------------------------- arrays

def test_an_npz_that_grows_beyond_measure_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(array_files, "SMALL", 1 << 20)
    path = tmp_path / "bomb.npz"
    np.savez_compressed(path, mean=np.zeros(1 << 22))
    before = resident()
    for read in (array_files.read_npz, load_face_model, MorphableModel.load):
        refused(read, path, r"bomb.npz: not a readable npz .*claims to hold 34 MB in a file of 0\.0")
    assert resident() < before + 20


@pytest.mark.parametrize("order", "<>")
def test_texts_of_numbers_that_are_no_characters_are_refused(tmp_path, order):
    """Making texts of them is a SystemError."""
    path, names = tmp_path / "a.npz", np.array([["ab", "c"], ["", "é"]]).astype(f"{order}U4")
    np.savez(path, names=names, none=np.zeros(0, "U"))
    assert array_files.read_npz(path)["names"].tolist() == names.tolist()
    content = bytearray(names.tobytes())
    content[:4] = b"\xff" * 4
    np.savez(path, names=np.zeros((0, 3), "S1000000000"))
    with pytest.raises(ValueError, match="empty, of elements of 1000 MB"):
        array_files.read_npz(path)
    damaged = np.frombuffer(content, names.dtype).reshape(names.shape)
    np.savez(path, names=damaged)
    np.save(tmp_path / "a.npy", damaged)
    for file in (path, tmp_path / "a.npy"):
        with pytest.raises(ValueError, match="found the character 4294967295, expected at most 1114111"):
            array_files.read_npz(file)


def test_the_header_of_an_array_is_not_believed(tmp_path):
    path = tmp_path / "a.npz"
    for shape in ((10**12,), (10**6, 10**6), (-1, 3)):
        text = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".ljust(117).encode() + b"\n"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("mean.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + bytes(64))
        before = resident()
        refused(load_face_model, path, "a.npz: .*key 'mean'|a.npz: not a readable npz")
        assert resident() < before + 100


@pytest.mark.parametrize("key, value, message", [
    ("mean", np.array("text"), "key 'mean': found text, expected numbers"),
    ("mean", np.zeros((100, 3), complex), "key 'mean': found complex numbers"),
    ("mean", np.zeros(()), "key 'mean': shape"),
    ("triangles", np.zeros((0, 3)) + 0.5, r"key 'uv_triangles': shape \(162, 3\), expected \[0, 3\]"),
    ("symmetry", np.arange(99), r"key 'symmetry': shape \(99,\), expected \[100\]"),
    ("triangles", np.full((5, 3), 0.5), "key 'triangles': found fractions"),
    ("landmarks", np.full(68, 100), "key 'landmarks': 100..100, expected indices below 100"),
    ("uv_triangles", np.full((162, 3), -1), "key 'uv_triangles': -1..-1"),
    ("uv_triangles", np.zeros((161, 3), int), r"key 'uv_triangles': shape \(161, 3\), expected \[162, 3\]"),
    ("identity_sigma", np.ones((2, 2)), r"key 'identity_sigma': shape \(2, 2\), expected \[3\]"),
    ("expression_names", np.array(["a"]), r"key 'expression_basis': shape"),
    ("region_names", np.array([1.0]), "key 'region_names': found float64, expected text"),
    ("albedo_space", np.array("other"), "key 'albedo_space': found 'other', expected 'log' or 'linear'"),
    ("name", None, "key 'name' is missing"), ("kind", np.array("sphere"), "key 'radius': expected one number above 0")])
def test_each_array_of_a_model_is_checked(tmp_path, key, value, message):
    arrays = dict(np.load(io.BytesIO(seeds.ours())))
    np.savez(tmp_path / "m.npz", **{name: array for name, array in arrays.items() if name != key},
             **({} if value is None else {key: value}))
    refused(MorphableModel.load, tmp_path / "m.npz", f"m.npz: {message}")


def test_arrays_of_other_kinds_name_their_key(tmp_path):
    arrays = dict(np.load(io.BytesIO(seeds.foreign_npz())))
    for key, value, message in (("mean", np.zeros(7), r"key 'mean': shape \(7,\), expected"),
                                ("identity_basis", np.full((3, 100, 3), "x"), "identity_basis: found text"),
                                ("landmarks", np.array([0.5] * 68), "landmarks: found fractions"),
                                ("uv", np.zeros(3), r"uv: shape \(3,\)"),
                                ("faces", np.full((4, 3), 2.0**63), "triangles: found fractions|triangles: indices")):
        np.savez(tmp_path / "a.npz", **arrays | {key: value})
        refused(load_face_model, tmp_path / "a.npz", f"a.npz: {message}")


# -------------------------------------------------------------------------------------------------- MATLAB

def test_variables_are_those_that_scipy_reads(tmp_path):
    """Of every class, with and without compression, in structs and cells; both byte orders of an old header."""
    rng = np.random.default_rng(0)
    cell = np.empty((1, 2), object)
    cell[0, 0], cell[0, 1] = np.arange(3.0)[None], "text"
    variables = {kind: rng.integers(0, 100, (3, 4, 2)).astype(kind) for kind in (
        "f8", "f4", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8")}
    variables |= {"complex": np.array([[1 + 2j, 3]]), "word": "naïve", "empty": np.zeros((0, 3)), "cell": cell,
                  "shp": {"mu": rng.normal(size=(5, 1)), "inner": {"a": np.arange(4)[None]}}}
    for compressed in (False, True):
        scipy.io.savemat(tmp_path / "a.mat", variables, do_compression=compressed)
        data = (tmp_path / "a.mat").read_bytes()
        found, truth = load_mat5(data), scipy.io.loadmat(tmp_path / "a.mat")
        assert sorted(found) == sorted(mat5_names(data)) == sorted(variables)
        for key in variables:
            if key not in ("word", "cell", "shp"):
                np.testing.assert_array_equal(found[key], truth[key])
                assert found[key].dtype == truth[key].dtype
        assert found["word"] == "naïve" and found["cell"][1] == "text"
        np.testing.assert_array_equal(found["cell"][0], [[0, 1, 2]])
        np.testing.assert_array_equal(found["shp"]["mu"], variables["shp"]["mu"])
        np.testing.assert_array_equal(found["shp"]["inner"]["a"], [[0, 1, 2, 3]])


def test_a_damaged_mat_is_refused_or_read():
    """Any byte may change: SciPy's reader ends the process on some of these."""
    valid = seeds.aflw()
    refusals = 0
    for seed in range(400):
        try:
            load_mat5(mutations.blind(valid, random.Random(seed)))
        except ValueError:
            refusals += 1
    assert refusals > 100


def test_a_mat_that_grows_beyond_measure_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr("sfm_jax.mat_files.SMALL", 1 << 20)
    path = tmp_path / "bomb.mat"
    scipy.io.savemat(path, {"shapeMU": np.zeros(1 << 22)}, do_compression=True)
    before = resident()
    refused(load_face_model, path, "bomb.mat: not a readable MATLAB file, .*variables are larger than they can be")
    assert resident() < before + 20


# ---------------------------------------------------------------------------------------------------- HDF5

def statismo(tmp_path, change):
    path = tmp_path / "a.h5"
    path.write_bytes(seeds.statismo())
    with h5py.File(path, "r+") as file:
        change(file)
    return path


def replaced(key, value):
    def change(file):
        del file[key]
        file[key] = value
    return change


@pytest.mark.parametrize("key, value, message", [
    ("shape/model/mean", h5py.ExternalLink("/etc/hostname", "/"), "a.h5"),
    ("shape/model/mean", h5py.SoftLink("/shape/model/mean"), "a.h5"),
    ("shape/model/mean", "text", "shape/model/mean"),
    ("version/minorVersion", np.zeros(0), "version is empty"),
    ("metadata/landmarks/json", "[1,", "metadata/landmarks/json: not readable as landmarks"),
    ("metadata/landmarks/json", '[{"id": "a", "coordinates": [1, 2]}]', "metadata/landmarks/json: not readable"),
    ("expression/model/mean", np.zeros(3), "expression/model/pcaBasis")])
def test_data_sets_of_other_kinds_are_refused(tmp_path, key, value, message):
    refused(load_face_model, statismo(tmp_path, replaced(key, value)), message)


def test_a_data_set_that_is_nowhere_takes_no_memory(tmp_path):
    def change(file):
        del file["shape/model/mean"]
        file.create_dataset("shape/model/mean", (1 << 31,), "u1", chunks=(1 << 20,), fillvalue=3)

    before = resident()
    refused(load_face_model, statismo(tmp_path, change), "shape/model/mean: it claims to hold 2147 MB")
    assert resident() < before + 60


# ----------------------------------------------------------------------------------------------- eos, glTF

def test_an_eos_mean_that_is_no_column_is_refused(tmp_path):
    data = bytearray(seeds.eos())
    assert struct.unpack_from("<ii", data, 4) == (300, 1)
    for shape in ((0, 0), (150, 2), (1, 300)):
        struct.pack_into("<ii", data, 4, *shape)
        (tmp_path / "a.bin").write_bytes(data)
        refused(load_eos, tmp_path / "a.bin", "a.bin: ")


def changed_glb(tmp_path, change):
    data = seeds.glb()
    size = struct.unpack_from("<I", data, 12)[0]
    content = json.loads(data[20:20 + size])
    change(content)
    text = json.dumps(content).encode()
    text += b" " * (-len(text) % 4)
    (tmp_path / "a.glb").write_bytes(struct.pack("<4sIIII", b"glTF", 2, len(text) + 20 + len(data) - 20 - size,
                                                 len(text), 0x4E4F534A) + text + data[20 + size:])
    return tmp_path / "a.glb"


@pytest.mark.parametrize("change, message", [
    (lambda tree: tree.update(meshes=3), "not a glTF mesh"), (lambda tree: tree.update(accessors=None), "not a glTF"),
    (lambda tree: tree["meshes"][0].update(extras=[1]), "not a glTF mesh"),
    (lambda tree: tree["bufferViews"][0].update(byteStride=-10**6), "byteStride: found -1000000, expected a whole"),
    (lambda tree: tree["bufferViews"][0].update(byteOffset=-8), "byteOffset: found -8"),
    (lambda tree: tree["accessors"][0].update(count=1.5), "count: found 1.5"),
    (lambda tree: [accessor.pop("bufferView", 0) for accessor in tree["accessors"]]
     + [accessor.update(count=10**12) for accessor in tree["accessors"]], "accessor: it claims to hold"),
    (lambda tree: tree["meshes"][0]["extras"]["sfm_jax"].update(landmarks=[10**9] * 68), "extras: landmarks"),
    (lambda tree: tree["meshes"][0]["extras"]["sfm_jax"].update(landmarks={"a": 1}), "extras: landmarks"),
    (lambda tree: tree["meshes"][0]["primitives"][0]["attributes"].update(TEXCOORD_0=0), "TEXCOORD_0|POSITION")])
def test_gltf_of_other_kinds_is_refused(tmp_path, change, message):
    path = changed_glb(tmp_path, change)
    refused(load_gltf, path, f"a.glb: .*({message})|a.glb: {message}")


# ------------------------------------------------------------------------------------------------- pickles

def doubled(kind, levels=60):
    """Pickle of a container that has the one before twice, so that 2^levels are reached."""
    empty, close = {"list": (b"(lp0\n", b"l"), "tuple": (b")p0\n", b"t")}[kind]
    return empty + b"".join(b"(g%d\ng%d\n%sp%d\n" % (level, level, close, level + 1) for level in range(levels))


@pytest.mark.parametrize("content, message", [
    (b"r\xff\xff\xff\x7f", "not a readable pickle"),  # memory by number
    (doubled("list") + b".", "without end"), (b"}" + doubled("tuple") + b"I1\ns.", "tuples of tuples without end"),
    (b"]q\x00h\x00a.", "a container is in itself"), (b"\x96" + struct.pack("<Q", 2**40) + b".", "bytes of an array"),
    (b"cos\nsystem\n(S'true'\ntR.", "asks for os.system")])
def test_a_pickle_takes_neither_memory_nor_time(tmp_path, content, message):
    before = resident()
    (tmp_path / "a.pkl").write_bytes(content)
    refused(load_pickle, tmp_path / "a.pkl", message)
    assert resident() < before + 60


def test_containers_that_are_shared_are_read(tmp_path):
    shared = [1.0, (2.0, 3.0)]
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"a": [shared, shared], "b": (shared,), "c": bytearray(b"x")}, 5))
    assert load_pickle(tmp_path / "a.pkl") == {"a": [shared, shared], "b": (shared,), "c": bytearray(b"x")}


def test_a_flame_mean_that_is_a_number_is_refused(tmp_path):
    arrays = {"v_template": 1.0, "shapedirs": np.zeros((5, 3, 2)), "f": [[0, 1, 2]]}
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(arrays))
    refused(load_flame, tmp_path / "a.pkl", r"a.pkl: shapedirs: shape .* for a mean of shape \(\)")


# ------------------------------------------------------------------------------------- meshes and landmarks

@pytest.mark.parametrize("text", ["f 1/999999999999999999999999 1/1 1/1", "f 1/-5 1/1 1/1", "v 1 2 1e999999x"])
def test_indices_that_no_mesh_has(tmp_path, text):
    (tmp_path / "a.obj").write_text(f"v 0 0 0\n{text}\n")
    refused(read_obj, tmp_path / "a.obj", "a.obj: line 2: ")


def test_a_ply_of_points_or_of_other_indices_is_refused(tmp_path):
    head = "ply\nformat ascii 1.0\nelement vertex 3\nproperty float x\nproperty float y\nproperty float z\n"
    (tmp_path / "a.ply").write_text(head + "end_header\n0 0 0\n1 0 0\n0 1 0\n")
    refused(read_mesh, tmp_path / "a.ply", "a.ply: ")
    (tmp_path / "b.ply").write_text(head + "element face 1\nproperty list uchar int vertex_indices\nend_header\n"
                                    "0 0 0\n1 0 0\n0 1 0\n3 0 1 9\n")
    refused(read_mesh, tmp_path / "b.ply", "b.ply: not a readable mesh .*indices 0..9, expected 0..2")


@pytest.mark.parametrize("name, content", [
    ("a.json", "3"), ("a.json", "[" * 100_000),
    *(("a.json", json.dumps([value] * 68)) for value in (None, 1e400, True)),
    ("a.toml", "landmark_mappings = 3"), ("a.toml", "[landmark_mappings]\n1 = [2]"), ("a.txt", "9" * 5000)])
def test_landmarks_of_other_kinds_are_refused(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    refused(read_landmarks, tmp_path / name, name)


def test_contours_in_brackets_without_end_are_refused(tmp_path):
    (tmp_path / "eos.bin").write_bytes(seeds.eos())
    (tmp_path / "c.json").write_text("[" * 100_000)
    refused(lambda path: load_eos(tmp_path / "eos.bin", contours=path), tmp_path / "c.json", "not readable as contours")


def test_a_damaged_variable_says_so():
    data = bytearray(seeds.deep3d())
    assert struct.unpack_from("<I", data, 128)[0] == 15  # compressed
    data[140] ^= 255
    with pytest.raises(ValueError, match="damaged|truncated"):
        load_mat5(bytes(data))
    assert zlib.decompress(seeds.deep3d()[136:136 + struct.unpack_from("<I", data, 132)[0]])
