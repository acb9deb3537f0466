"""Convert dlib's face recognition network to sfm_jax/assets/face_recognition.npz.

    pip download --no-deps face_recognition_models==0.3.0
    python -m experiments.face_recognition.convert --source=face_recognition_models-0.3.0.tar.gz [--check]

The archive is only a container here: of its content, dlib_face_recognition_resnet_model_v1.dat is read, public
domain (CC0 1.0, see sfm_jax/assets/LICENSES). dlib is not needed. `--check` converts and compares with the committed
asset. The affine layer behind each convolution becomes part of it.
"""

import argparse
import hashlib
import tarfile
from pathlib import Path

import numpy as np

from sfm_jax.atomic_files import atomic_write
from sfm_jax.networks.face_recognition import ASSET, BLOCKS, FEATURES, kernel_shapes

MEMBER = "dlib_face_recognition_resnet_model_v1.dat"
SHA256 = "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", required=True, help="the archive, or the .dat itself")
    parser.add_argument("--check", action="store_true", help="compare with the asset instead of writing it")
    options = parser.parse_args()
    arrays = convert(read_source(options.source))
    if options.check:
        with np.load(ASSET, allow_pickle=False) as file:
            same = set(file.files) == set(arrays) and all(np.array_equal(file[key], arrays[key]) for key in arrays)
        raise SystemExit(None if same else f"{ASSET} differs from what {options.source} converts to")
    with atomic_write(ASSET) as partial, open(partial, "wb") as file:
        np.savez_compressed(file, **arrays)
    print(f"{ASSET}: {ASSET.stat().st_size / 1e6:.1f} MB")


def read_source(path: str) -> bytes:
    """The .dat, from the archive or by itself. ValueError if it is not the one that is known."""
    if Path(path).suffix == ".dat":
        content = Path(path).read_bytes()
    else:
        with tarfile.open(path) as archive:
            member = next(name for name in archive.getnames() if name.endswith(MEMBER))
            content = archive.extractfile(member).read()
    found = hashlib.sha256(content).hexdigest()
    if found != SHA256:
        raise ValueError(f"{path}: {MEMBER}: found SHA-256 {found}, expected {SHA256}")
    return content


def convert(content: bytes) -> dict[str, np.ndarray]:
    """The arrays of the asset, float16. Every tensor's length is known, so each is searched for by its header."""
    arrays, cursor = {}, 0
    for i, (size, _, width, channels) in enumerate(kernel_shapes()):
        weights, cursor = _tensor(content, cursor, channels * width * size * size + channels)
        affine, cursor = _tensor(content, cursor, 2 * channels)
        kernel = weights[:-channels].reshape(channels, width, size, size).transpose(2, 3, 1, 0)
        scale, offset = np.split(affine, 2)
        arrays[f"kernel_{i:02}"] = (kernel * scale).astype(np.float16)
        arrays[f"bias_{i:02}"] = (weights[-channels:] * scale + offset).astype(np.float16)
    embedding, _ = _tensor(content, cursor, BLOCKS[-1][0] * FEATURES)
    return arrays | {"embedding": embedding.reshape(-1, FEATURES).astype(np.float16)}


def _tensor(content, cursor, count):
    """The next float32 [count], and where it ends. A tensor is its version 2, four sizes, and the numbers.

    Parameters are tensors of `count` samples of one number, but for the fully connected layer's: [256, 128].
    """
    sizes = (BLOCKS[-1][0], FEATURES, 1, 1) if count == BLOCKS[-1][0] * FEATURES else (count, 1, 1, 1)
    header = b"".join(_integer(size) for size in (2, *sizes))
    start = content.index(header, cursor) + len(header)
    return np.frombuffer(content, "<f4", count, start), start + 4 * count


def _integer(value):
    """dlib's form of a positive integer: the number of its bytes, then they, the lowest first."""
    size = (value.bit_length() + 7) // 8
    return bytes([size]) + value.to_bytes(size, "little")


if __name__ == "__main__":
    main()
