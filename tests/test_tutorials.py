"""The tutorials, from their first code block to the last, as a reader would run them."""

import re
import shlex
import subprocess
import sys

import numpy as np
import pytest
import trimesh
from started import ROOT, environment

PAGES = ROOT / "docs" / "tutorials"
# A block of Python, or one of shell behind the comment <!-- quick -->.
BLOCK = re.compile(r"^```python\n(?P<python>.*?)^```|^<!-- quick -->\n```\n(?P<shell>.*?)^```", re.M | re.S)


def run_page(page, folder, monkeypatch):
    """The names that a page's blocks leave behind, run in order in `folder` as a checkout of the repository."""
    monkeypatch.chdir(folder)
    for name in ("docs", "configs"):
        (folder / name).symlink_to(ROOT / name)
    names = {"__name__": page}
    blocks = list(BLOCK.finditer((PAGES / f"{page}.md").read_text()))
    assert blocks
    for block in blocks:
        if block["python"]:
            exec(compile(block["python"], f"{page}.md", "exec"), names)
            continue
        for line in block["shell"].replace("\\\n", " ").strip().splitlines():
            python, *arguments = shlex.split(line)
            assert python == "python"
            done = subprocess.run([sys.executable, *arguments], text=True, capture_output=True, timeout=900,
                                  env=environment(1))
            assert done.returncode == 0, done.stderr
    return names


@pytest.mark.slow
def test_scans(tmp_path, monkeypatch):
    names = run_page("scans", tmp_path, monkeypatch)
    numbers, model = names["numbers"], names["model"]
    assert numbers["heldout/persons"] == 3 and numbers["run/steps"] == 100
    assert numbers["heldout/vertex_error_mm"] < numbers["heldout/mean_face_error_mm"]
    assert model.dimension == 8 and len(names["path"]) == 3 and names["path"][1].shape == (3642, 3)
    np.testing.assert_allclose(np.linalg.norm(names["relatives"], axis=1), 1, atol=1e-5)


@pytest.mark.slow
def test_photo(tmp_path, monkeypatch):
    names = run_page("photo", tmp_path, monkeypatch)
    assert names["others"] == [] and 200 < names["x"] < 260 and 90 < names["y"] < 160  # the nose of the one face
    moved = np.linalg.norm(names["smiling"] - names["face"].vertices(neutral=True), axis=1)
    assert 2 < moved.max() < 20  # mm
    written = trimesh.load(tmp_path / "smiling.obj", process=False)
    np.testing.assert_allclose(np.ptp(written.vertices, axis=0), np.ptp(names["smiling"], axis=0), atol=0.01)
    assert (tmp_path / "face.glb").stat().st_size > 1e6 and (tmp_path / "sides.png").is_file()


@pytest.mark.slow
def test_task(tmp_path, monkeypatch):
    numbers = run_page("task", tmp_path, monkeypatch)["numbers"]
    assert numbers["heldout/mm"] < 0.6 * numbers["heldout/mean_face_mm"]
    assert 3 < numbers["heldout/mean_face_mm"] < 5  # of the population


@pytest.mark.slow
def test_renderer(tmp_path, monkeypatch):
    names = run_page("renderer", tmp_path, monkeypatch)
    before, after = names["before"], names["after"]
    assert before[0] > 20 and after[0] < 3  # degrees
    assert after[1] < 0.7 * before[1]       # mm
