"""Exported programs, in a process that has neither this package nor flax, against the package itself."""

import json
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import shape_checks
import toy
from jax import export
from ml_collections import ConfigDict

from sfm_jax.inference import stablehlo
from sfm_jax.inference.identity_space import start_basis
from sfm_jax.inference.photo_encoder import PhotoEncoder

SIZE = 32
# Runs the programs on the arrays of a file; a batch size that has been seen is not compiled again.
SCRIPT = """
import sys

BANNED = ("flax", "optax", "orbax", "sfm_jax", "ml_collections")

class Ban:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in BANNED:
            raise ImportError(f"{name} is banned")

sys.meta_path.insert(0, Ban())
import jax, jax.export, numpy as np

folder = sys.argv[1]

def program(name):
    with open(f"{folder}/{name}", "rb") as file:
        return jax.jit(jax.export.deserialize(file.read()).call)

encoder, decoder = program("encoder.stablehlo"), program("decoder.stablehlo")
images, found = np.load(f"{folder}/images.npy"), {}
for count in (1, 3, 1, 3):
    codes = encoder(images[:count])
    face = decoder(codes["identity"], codes["expression"], codes["albedo"])
    found |= {f"{count}/{name}": value for name, value in {**codes, **face}.items()}
assert encoder._cache_size() == decoder._cache_size() == 2
assert not [name for name in sys.modules if name.split(".")[0] in BANNED]
np.savez(f"{folder}/found.npz", **found)
"""


def trained(trunk, size=SIZE):
    """(encoder, params, state) with random numbers for a network, on a toy model."""
    config = ConfigDict({"basis": "", "components": 5, "sphere": "hard", "trunk": trunk, "albedo_components": 2,
                         "image_size": size, "separate_heads": True, "precision": "float32"})
    model = toy.model(subdivisions=2)
    encoder = PhotoEncoder(config, model, start_basis(config, model, None))
    rng = np.random.default_rng(0)

    def random(path, like):
        name = path[-1].key
        if name in ("scale", "var"):
            return jnp.asarray(rng.uniform(0.5, 1.5, like.shape), jnp.float32)
        fan_in = np.prod(like.shape[:-1]) if name == "kernel" else 100
        return jnp.asarray(rng.normal(size=like.shape) / np.sqrt(fan_in), jnp.float32)

    variables = jax.tree.map_with_path(random, jax.eval_shape(encoder.init, jax.random.key(0)))
    residual = jnp.asarray(rng.normal(size=encoder.start.basis.shape), jnp.float32)
    params = {"network": variables["params"], "residual": residual, "log_radius": jnp.float32(0.7)}
    return encoder, params, {"batch_stats": variables["batch_stats"]}


def photos(count, dtype, size=SIZE):
    images = np.random.default_rng(1).integers(0, 256, (count, size, size, 3), np.uint8)
    return images if dtype == "uint8" else np.float32(images) / 255


@pytest.fixture(scope="module", autouse=True)
def unchecked():
    """jaxtyping cannot compare the symbolic sizes with which programs are exported."""
    with shape_checks.off():
        yield


@pytest.fixture(scope="module")
def compact():
    return trained("compact")


@pytest.mark.parametrize("dtype", stablehlo.DTYPES)
def test_programs_run_without_the_package(compact, dtype, tmp_path):
    encoder, params, state = compact
    sizes = stablehlo.write_programs(tmp_path, *compact, {"licence": "none"}, dtype)
    assert sizes == {path.name: path.stat().st_size for path in tmp_path.iterdir()}  # and nothing temporary
    np.save(tmp_path / "images.npy", photos(3, dtype))
    done = subprocess.run([sys.executable, "-c", SCRIPT, tmp_path], text=True, capture_output=True)
    assert done.returncode == 0, done.stderr

    prediction, _ = jax.jit(encoder.predict)(params, state, photos(3, "float32"))
    face = encoder.decoder(params)(prediction.codes, SIZE)
    expected = prediction.codes._asdict() | {
        "z": prediction.z, "landmarks": face.landmarks, "vertices": face.vertices, "colour": face.albedo}
    assert np.ptp(np.asarray(face.landmarks), 0).max() > 0.1  # photos are told apart
    signature = json.loads((tmp_path / "signature.json").read_text())
    outputs = {name: value for program in signature["programs"].values() for name, value in program["outputs"].items()}
    assert outputs.keys() == expected.keys()
    with np.load(tmp_path / "found.npz") as found:
        assert len(found.files) == 2 * len(expected)
        for count in (1, 3):
            for name, value in expected.items():
                ours, scale = found[f"{count}/{name}"], max(1, float(jnp.abs(value).max()))
                np.testing.assert_allclose(ours, value[:count], atol=1e-5 * scale, err_msg=name)
                shape = [count if size == "b" else size for size in outputs[name]["shape"]]
                assert [*ours.shape] == shape and ours.dtype == outputs[name]["dtype"]


def test_signature_says_how_a_vertex_is_seen(compact, tmp_path):
    """Landmarks by the written formula, in NumPy, from what the files hold."""
    stablehlo.write_programs(tmp_path, *compact, {"licence": "ours alone"})
    signature = json.loads((tmp_path / "signature.json").read_text())
    network, decoder = (export.deserialize(bytearray((tmp_path / name).read_bytes()))
                        for name in ("encoder.stablehlo", "decoder.stablehlo"))
    found = network.call(photos(2, "uint8"))
    vertices = decoder.call(found["identity"], found["expression"], found["albedo"])["vertices"]
    crop, places = signature["crop"], np.load(tmp_path / "mesh.npz")["landmarks"]
    codes = {name: np.asarray(value, np.float64) for name, value in found.items()}
    p = np.einsum("bij,bvj->bvi", codes["rotation"], np.asarray(vertices)[:, places] - crop["pivot_mm"])
    s = crop["pixels"] / crop["side_mm"] * np.exp(codes["log_scale"])[:, None, None]
    expected = crop["pixels"] * (0.5 + codes["shift"][:, None]) + s * p[..., :2] * [1, -1]
    np.testing.assert_allclose(found["landmarks"], expected, atol=2e-3)
    assert signature["model"]["vertices"] == vertices.shape[1] == 162
    assert signature["weights"] == {"licence": "ours alone"} and signature["made_with"]["jax"] == jax.__version__
    readme = (tmp_path / "README.txt").read_text()
    for said in ("input images [b, 32, 32, 3] uint8", "output vertices [b, 162, 3] float32", "Weights: ours alone",
                 "calling convention", "Crops are 32 x 32 pixels"):
        assert said in readme
    assert max(map(len, readme.splitlines())) <= 110


@pytest.mark.parametrize("trunk", ["compact", "recognition", "mobile", "resnet18"])
def test_every_platform_can_run_every_trunk(trunk):
    """Lowered on a CPU for others; of custom calls only the checks of shapes, which compiling takes away."""
    program = export.deserialize(bytearray(stablehlo.export_network(*trained(trunk))))
    assert program.platforms == ("cpu", "cuda", "tpu")
    assert set(re.findall(r"custom_call @(\w+)", program.mlir_module())) <= {"shape_assertion"}
    assert str(program.in_avals[0].shape) == "(b, 32, 32, 3)"


def test_fewer_colours_than_the_model_has(compact):
    encoder, params, _ = compact
    decoder = encoder.decoder(params)
    program = export.deserialize(bytearray(stablehlo.export_decoder(decoder, albedo=1)))
    codes = np.array([[2.0]], np.float32)
    colour = program.call(np.zeros((1, 5), np.float32), np.zeros((1, 3), np.float32), codes)["colour"]
    np.testing.assert_allclose(colour, encoder.model.albedo(codes), atol=1e-6)


def test_wrong_input_is_refused(compact, tmp_path):
    with pytest.raises(ValueError, match="dtype: found 'int8', expected one of uint8, float32"):
        stablehlo.export_network(*compact, "int8")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ValueError, match="out: .*file: cannot be written"):
        stablehlo.write_programs(tmp_path / "file", *compact, {"licence": ""})
    assert (tmp_path / "file").read_text() == "mine"
