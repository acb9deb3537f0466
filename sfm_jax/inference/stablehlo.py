"""Networks and face decoders as programs that run without this package: StableHLO, weights included, by jax.export.

    import jax, jax.export
    network = jax.jit(jax.export.deserialize(open("encoder.stablehlo", "rb").read()).call)
    codes = network(crops)

One file serves CPUs, CUDA and TPUs, and batches of any size, each of which is compiled once. JAX promises to read what
was written up to six months before (docs.jax.dev, "Exporting and serializing").
"""

import io
import json
import os
import textwrap
from pathlib import Path

import jax
import jax.numpy as jnp
import jaxlib
import numpy as np
from jax import export

import sfm_jax
from sfm_jax.inference.face import FaceDecoder, crop_frame, view
from sfm_jax.inference.photo_encoder import PhotoEncoder
from sfm_jax.morphable.model import MorphableModel, linear_shape

FORMAT = "sfm-jax export 1"
PLATFORMS = ("cpu", "cuda", "tpu")
DTYPES = ("uint8", "float32")
NETWORK, DECODER, MESH, SIGNATURE, README = (
    "encoder.stablehlo", "decoder.stablehlo", "mesh.npz", "signature.json", "README.txt")
MEANINGS = {
    "images": "sRGB crops, rows from the top: uint8, or float32 in [0, 1]",
    "identity": "as the decoder takes it: standard deviations of the components where the basis is the face model's "
                "own, but for the last number, the slack of the sphere",
    "expression": "of model.expressions in signature.json: activations, 1 is the full one, or standard deviations",
    "albedo": "standard deviations of the components of the skin's colour",
    "rotation": "matrix from the face's axes to the camera's: x to the image's right, y up, z towards the viewer",
    "log_scale": "of the camera; at 0 the mean face fills the crop",
    "shift": "of the camera, shares of the crop's side to the right and down",
    "light": "spherical harmonics 1, z, x, y, 3z^2-1, xz, yz, x^2-y^2, xy of the normal, for each of R, G and B",
    "z": "direction of the identity code, a unit vector; two people are compared by its cosine",
    "landmarks": "iBUG-68 in pixels of the crop: x right, y down, pixel centres at +0.5",
    "vertices": "mm, in the face's axes, in the order of mesh.npz",
    "colour": "linear RGB of the skin at the vertices, without light",
}


# ------------------------------------------------------------------------------------------------ programs

def export_network(encoder: PhotoEncoder, params: dict, state: dict, dtype: str = "uint8") -> bytes:
    """The network as a program: crops [b, S, S, 3] -> a dict, see MEANINGS for units.

    identity [b, d], expression [b, E], albedo [b, A], rotation [b, 3, 3], log_scale [b], shift [b, 2],
    light [b, 9, 3], z [b, d], landmarks [b, 68, 2].

    Args:
      dtype: of the crops, "uint8" or "float32".

    Raises:
      ValueError: another dtype.
    """
    if dtype not in DTYPES:
        raise ValueError(f"dtype: found {dtype!r}, expected one of {', '.join(DTYPES)}")
    size, model, decoder = encoder.image_size, encoder.model, encoder.decoder(params)
    # At the landmarks alone, or the program would hold all of the bases.
    mean, identity, expression = (np.asarray(array)[..., model.topology.landmarks, :] for array in (
        decoder.mean, decoder.basis, model.expression_basis))

    def answer(image):
        # One photo, then vmapped: trunks count the photos of their batch, which has no number yet.
        if dtype == "uint8":
            image = image.astype(jnp.float32) / 255
        prediction = jax.tree.map(lambda leaf: leaf[0], encoder.predict(params, state, image[None])[0])
        codes = prediction.codes
        points = linear_shape(mean, identity, codes.identity, expression, codes.expression)
        camera = view(model, size, codes.rotation, codes.log_scale, codes.shift)
        return codes._asdict() | {"z": prediction.z, "landmarks": camera.project(points)[:, :2]}

    def network(images):
        return jax.vmap(answer)(images)

    return _program(network, jax.ShapeDtypeStruct((1, size, size, 3), dtype))


def export_decoder(decoder: FaceDecoder, albedo: int | None = None) -> bytes:
    """The decoder as a program: identity [b, d], expression [b, E], albedo [b, A] -> {"vertices", "colour"} [b, V, 3].

    albedo: A, all that the model has by default.
    """
    model = decoder.model

    def decode(identity, expression, albedo):
        vertices = linear_shape(decoder.mean, decoder.basis, identity, model.expression_basis, expression)
        return {"vertices": vertices, "colour": model.albedo(albedo)}

    counts = len(decoder.basis), len(model.expression_basis), len(model.albedo_basis) if albedo is None else albedo
    return _program(decode, *[jax.ShapeDtypeStruct((1, count), jnp.float32) for count in counts])


def _program(function, *like) -> bytes:
    """The program of a function whose arguments are like these, but for the size of the batch."""
    return bytes(export.export(jax.jit(function), platforms=PLATFORMS)(
        *export.symbolic_args_specs(like, "b, ...")).serialize())


# --------------------------------------------------------------------------------------------------- files

def write_programs(folder: str | os.PathLike, encoder: PhotoEncoder, params: dict, state: dict, weights: dict,
                   dtype: str = "uint8") -> dict[str, int]:
    """Write network, decoder, mesh, signature.json and README.txt to a folder; the bytes of each file by name.

    Args:
      weights: what signature.json says of the weights, at least their "licence".

    Raises:
      ValueError: the folder cannot be made or written.
    """
    model, folder = encoder.model, Path(folder)
    decoder = export_decoder(encoder.decoder(params), encoder.network.albedo)
    programs = {NETWORK: (("images",), export_network(encoder, params, state, dtype)),
                DECODER: (("identity", "expression", "albedo"), decoder)}
    signature = {
        "format": FORMAT,
        "made_with": {"sfm_jax": sfm_jax.__version__, "jax": jax.__version__, "jaxlib": jaxlib.__version__},
        "programs": {name: describe(program, inputs) for name, (inputs, program) in programs.items()},
        "crop": crop_convention(model, encoder.image_size),
        "model": {"name": model.name, "licence": model.licence, "source": model.source, "vertices": len(model.mean),
                  "expressions": list(model.expression_names)},
        "weights": weights,
    }
    files = {name: program for name, (_, program) in programs.items()}
    files |= {MESH: _mesh(model), README: readme(signature).encode(),
              SIGNATURE: (json.dumps(signature, indent=2) + "\n").encode()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder, files)
    except OSError as error:
        raise ValueError(f"out: {folder}: cannot be written ({error})") from None
    return {name: len(content) for name, content in files.items()}


def describe(program: bytes, inputs: tuple[str, ...]) -> dict:
    """What a program takes and gives: shapes (b: the batch), dtypes and meanings by name, and what can run it."""
    exported = export.deserialize(bytearray(program))
    outputs = jax.tree.unflatten(exported.out_tree, exported.out_avals)

    def described(avals):
        return {name: {"shape": [size if isinstance(size, int) else str(size) for size in aval.shape],
                       "dtype": str(aval.dtype), "meaning": MEANINGS[name]} for name, aval in avals.items()}

    return {"inputs": described(dict(zip(inputs, exported.in_avals, strict=True))), "outputs": described(outputs),
            "platforms": list(exported.platforms), "calling_convention_version": exported.calling_convention_version}


def crop_convention(model: MorphableModel, size: int) -> dict:
    """How crops are made, and how a face is seen in them, by `data.crop` and `inference.face`."""
    pivot, side = crop_frame(model)
    return {
        "pixels": size,
        "made": "a square, its middle that of the bounding box of the face's iBUG-68 landmarks, its side sqrt(2) times "
                "the longer side of that box; resized, black outside the photo",
        "pivot_mm": [round(float(number), 4) for number in pivot],
        "side_mm": round(side, 4),
        "camera": "x = pixels * (0.5 + shift[0]) + s * p[0], y = pixels * (0.5 + shift[1]) - s * p[1], where "
                  "p = rotation @ (vertex - pivot_mm) and s = pixels / side_mm * exp(log_scale)",
    }


def readme(signature: dict) -> str:
    """README.txt, for those who have the files and not this package."""
    crop, model, made, programs = (signature[key] for key in ("crop", "model", "made_with", "programs"))
    calls = [f"    {name.partition('.')[0]} = jax.jit(jax.export.deserialize(open(\"{name}\", \"rb\").read()).call)"
             for name in programs]
    codes = ", ".join(f'codes["{name}"]' for name in programs[DECODER]["inputs"])
    versions = ", ".join(f"{name} {version}" for name, version in made.items())
    lines = [
        "A network from photos to 3D faces, and the decoder of its codes. They need jax and nothing else:", "",
        "    import jax, jax.export, numpy as np", "", *calls, "    codes = encoder(crops)",
        f"    face = decoder({codes})", f'    triangles = np.load("{MESH}")["triangles"]', "",
        *(line for name, program in programs.items() for line in _described(name, program)),
        MESH, "  triangles [F, 3], outward counter-clockwise; uv [U, 2], v upwards, with uv_triangles [F, 3];",
        "  landmarks [68], vertices in iBUG's order", "",
        f"Crops are {crop['pixels']} x {crop['pixels']} pixels: {crop['made']}.", "",
        f"Camera: {crop['camera']}; pivot_mm = {crop['pivot_mm']}, side_mm = {crop['side_mm']}.", "",
        f"Written by {versions}. JAX promises to read it for six months from then.", "",
        f"Weights: {signature['weights']['licence']}.", "",
        f"Face model: {model['name']}, {model['vertices']} vertices. Licence: {model['licence'] or 'not stated'}. "
        f"Source: {model['source'] or 'not stated'}."]
    return "".join(f"{textwrap.fill(line, 110, subsequent_indent=_indent(line))}\n" for line in lines)


def _described(name, program):
    """A program's lines in README.txt."""
    yield (f"{name}: calling convention {program['calling_convention_version']} of jax.export; runs on "
           f"{', '.join(program['platforms'])}; b is any number of faces, each of which is compiled once")
    for kind in ("input", "output"):
        for key, value in program[f"{kind}s"].items():
            yield f"  {kind} {key} [{', '.join(map(str, value['shape']))}] {value['dtype']}: {value['meaning']}"
    yield ""


def _indent(line):
    """Of the lines that go on with it."""
    return " " * (len(line) - len(line.lstrip())) + "  "


def _mesh(model):
    content, topology = io.BytesIO(), model.topology
    np.savez_compressed(content, **{name: getattr(topology, name) for name in (
        "triangles", "uv", "uv_triangles", "landmarks")})
    return content.getvalue()


def _write(folder, files):
    """All of them beside their places, then renamed."""
    partial = {folder / name: folder / f".{name}.{os.getpid()}.partial" for name in files}
    try:
        for temporary, content in zip(partial.values(), files.values(), strict=True):
            temporary.write_bytes(content)
        for path, temporary in partial.items():
            os.replace(temporary, path)
    finally:
        for temporary in partial.values():
            temporary.unlink(missing_ok=True)
