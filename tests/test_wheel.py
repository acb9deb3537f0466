"""The wheel has what the package needs, nothing else, and works alone: without the repository around it."""

import email
import os
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LICENCES = ("LICENSE", "sfm_jax/assets/LICENSES/CC0-1.0.md", "sfm_jax/assets/LICENSES/MEDIAPIPE-LICENSE.txt",
            "sfm_jax/assets/LICENSES/NOTICE.md")
USE = """
import sfm_jax
from sfm_jax.morphable.default import load_default
print(sfm_jax.__file__, load_default().mean.shape)
"""


def installed(package):
    """The first part of its version, 0 if it is absent. It is not imported: setuptools replaces distutils."""
    try:
        return int(version(package).partition(".")[0])
    except PackageNotFoundError:
        return 0


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not installed("pip") or installed("setuptools") < 77, reason="needs pip, and setuptools >= 77"),
]


def pip(*arguments):
    done = subprocess.run([sys.executable, "-m", "pip", *map(str, arguments)], text=True, capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr


def repository_files():
    """The files that a commit would have, relative to the repository."""
    if not (ROOT / ".git").exists() or not shutil.which("git"):
        pytest.skip("this is no git repository: which files belong to it is not known")
    listed = subprocess.check_output(["git", "ls-files", "-z", "-co", "--exclude-standard"], cwd=ROOT, text=True)
    return sorted({name for name in listed.split("\0") if name and (ROOT / name).is_file()})


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy of the repository, so that nothing left lying about gets in, and without the network."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in repository_files():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, source / name)
    pip("wheel", source, "--no-deps", "--no-build-isolation", "-w", out)
    (path,) = out.iterdir()
    return path


def test_wheel_has_the_whole_package_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        packed = {name: archive.getinfo(name).file_size for name in archive.namelist() if ".dist-info/" not in name}
    expected = {name: (ROOT / name).stat().st_size for name in repository_files() if name.startswith("sfm_jax/")}
    assert packed == expected
    assert wheel.stat().st_size < 30e6  # docs/installation.md says 24 MB


def test_wheel_says_its_licences_and_requirements(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = email.message_from_bytes(archive.read(name))
        texts = {name.partition("/licenses/")[2]: archive.read(name) for name in archive.namelist()
                 if ".dist-info/licenses/" in name}
    assert texts == {name: (ROOT / name).read_bytes() for name in LICENCES}
    assert sorted(metadata.get_all("License-File")) == sorted(LICENCES)
    assert metadata["License-Expression"] == "Apache-2.0 AND CC0-1.0"  # the code, and the face model
    needed = {line.replace(" ", "") for line in metadata.get_all("Requires-Dist") if "extra ==" not in line}
    said = {line for line in (ROOT / "requirements.txt").read_text().splitlines() if not line.startswith("#")}
    assert needed == said


def test_wheel_works_from_any_folder(wheel, tmp_path):
    target, elsewhere = tmp_path / "target", tmp_path / "elsewhere"
    elsewhere.mkdir()
    pip("install", "--no-deps", "--no-index", "--target", target, wheel)
    environment = os.environ | {"PYTHONPATH": str(target), "JAX_PLATFORMS": "cpu"}

    def run(*arguments):
        done = subprocess.run([sys.executable, *arguments], cwd=elsewhere, env=environment, text=True,
                              capture_output=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    place, shape = run("-c", USE).split(maxsplit=1)
    assert Path(place).is_relative_to(target) and shape.strip() == "(3642, 3)"
    run("-m", "sfm_jax.reconstruct", str(ROOT / "docs" / "images" / "astronaut.jpg"), "--level=0")
    assert (elsewhere / "faces" / "astronaut_1" / "face.glb").is_file()
