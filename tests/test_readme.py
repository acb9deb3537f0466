"""The Python of the README and of the documentation's pages runs as it stands; tutorials have a test of their own."""

import re
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from sfm_jax.morphable.default import load_default
from sfm_jax.morphable.sphere_model import SphereFaceModel

README = Path(__file__).parents[1] / "README.md"
PAGES = (README, *sorted(README.parent.glob("docs/*.md")))
BLOCKS = tuple(dict.fromkeys(block for page in PAGES for block in re.findall(r"```python\n(.*?)```", page.read_text(),
                                                                             flags=re.DOTALL)))


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """A workdir as a run leaves it, in the current folder, and the pictures of the documentation."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs").symlink_to(README.parent / "docs")
    (tmp_path / "runs" / "stage1").mkdir(parents=True)
    base = load_default(0)
    SphereFaceModel(base=base, radius=jnp.float32(8.0)).save("runs/stage1/model.npz")


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.split("\n")[-2][:30])
def test_python_block(block, trained):
    names = {}
    exec(compile(block, "page", "exec"), names)
    if "halfway" in names:
        assert names["halfway"].shape == (3642, 3)
    if "vertices" in names:
        assert names["vertices"].shape == (16, 14403, 3)
    if "others" in names:
        face = names["face"]
        assert names["others"] == [] and face.fitted and abs(np.linalg.norm(face.z) - 1) < 1e-5
        left, top, right, bottom = 175, 60, 275, 215  # around the one face of the photo
        assert (np.abs(face.landmarks68_px - [(left + right) / 2, (top + bottom) / 2]) < [80, 110]).all()
    if "seen" in names:
        assert float(names["seen"].alpha.max()) == 1.0 and int(names["seen"].overflow) == 0
        assert np.isfinite(names["gradient"]).all() and float(jnp.abs(names["gradient"]).max()) > 0


def test_tables_are_filled():
    for page in PAGES:
        text = page.read_text()
        tables = re.findall(r"<!-- table \w+ -->\n(.*?)<!-- end -->", text, flags=re.DOTALL)
        assert len(tables) == text.count("<!-- table ") == text.count("<!-- end -->"), page
        assert all("Measured" in table for table in tables), page
