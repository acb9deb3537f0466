"""The report's files as a reader finds them: JSON parsed back, HTML parsed back, images decoded back."""

import base64
import io
import json
from html.parser import HTMLParser

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from sfm_jax.evaluation import figures, report
from sfm_jax.evaluation.report import Report

VOID = {"meta", "img"}


class _Page(HTMLParser):
    """Checks that tags nest, and collects images, text and the children of each grid."""

    def __init__(self, text):
        super().__init__()
        self.open, self.sources, self.words, self.tags = [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append((tag, attrs.get("class"), tuple(cls for _, cls in self.open)))
        if tag not in VOID:
            self.open.append((tag, attrs.get("class")))
        assert tag not in ("script", "link", "iframe")
        if tag in ("img", "image"):
            self.sources.append(attrs.get("src") or attrs.get("xlink:href"))

    def handle_startendtag(self, tag, attrs):
        if tag == "image":
            self.sources.append(dict(attrs)["xlink:href"])

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        self.words.append(data)


def _full_report():
    result = Report("Title <b>", "subtitle & more")
    result.number("b/error_mm", np.float32(1.25), "Error", "mm", "mean <over> all")
    result.number("a/pairs", jnp.int32(12345))
    result.number("c/config", "configs/stage1.py")
    result.section("Text", "First `code` & <script>alert(1)</script>.\n\nSecond.")
    result.figure(figures.curves({"one": ([1, 2], [3, 4])}, "x", "y"), "Curve")
    result.figure([np.zeros((4, 6, 3), np.uint8), np.full((4, 6, 4), 9, np.uint8)], ["left", "right"])
    result.table([{"code": "sphere", "mm": 1.23456}, {"code": "plain"}], "Errors")
    result.figure(np.zeros((4, 6, 3), np.uint8), wide=True)
    return result


def test_json_holds_the_numbers_sorted(tmp_path):
    _full_report().write(tmp_path / "run")
    text = (tmp_path / "run" / "report.json").read_text()
    assert json.loads(text) == {"a/pairs": 12345, "b/error_mm": 1.25, "c/config": "configs/stage1.py"}
    assert list(json.loads(text)) == ["a/pairs", "b/error_mm", "c/config"]


def test_page_is_well_formed_escaped_and_self_contained(tmp_path):
    page = _Page(_full_report().write(tmp_path).read_text(encoding="utf-8"))
    words = " ".join(page.words)
    for text in ("Title <b>", "<script>alert(1)</script>", "mean <over> all", "1.25", "1.235", "All 3 numbers"):
        assert text in words
    assert all(source.startswith("data:image/") for source in page.sources)
    classes = [cls for tag, cls, _ in page.tags if tag == "div"]
    assert classes.count("grid") == 2 and classes.count("card") == 1
    assert all("grid" in parents for tag, _, parents in page.tags if tag == "figure")


def test_small_images_survive_exactly(tmp_path):
    image = np.random.default_rng(0).integers(0, 255, (5, 7, 4), dtype=np.uint8)
    result = Report("Image")
    result.figure(image)
    source = _Page(result.write(tmp_path).read_text()).sources[0]
    decoded = np.asarray(Image.open(io.BytesIO(base64.b64decode(source.split(",")[1]))))
    np.testing.assert_array_equal(decoded, image)


def test_drawings_take_the_colour_of_the_page(tmp_path):
    result = Report("Ink")
    result.figure(figures.curves({"one": ([1, 2], [3, 4])}, "x", "y"))
    text = result.write(tmp_path).read_text()
    assert "currentColor" in text and figures.INK not in text


@pytest.mark.parametrize("value", [np.nan, np.inf, jnp.array(-jnp.inf)])
def test_numbers_that_are_none_are_refused_by_name(value):
    with pytest.raises(ValueError, match="'heldout/error': expected a finite number"):
        Report("").number("heldout/error", value)
    with pytest.raises(ValueError, match=r"'Errors\[0\].mm': expected a finite number"):
        Report("").table([{"mm": value}], "Errors")


@pytest.mark.parametrize("value", [np.zeros(2), None, [1, 2]])
def test_what_is_no_number_is_refused_by_name(value):
    with pytest.raises(ValueError, match="'a': expected one number or a string"):
        Report("").number("a", value)


def test_a_name_is_given_once():
    result = Report("")
    result.number("a", 1)
    with pytest.raises(ValueError, match="'a': expected a new name"):
        result.number("a", 2)


def test_a_failed_write_leaves_the_old_page_whole(tmp_path, monkeypatch):
    path = _full_report().write(tmp_path)
    before = path.read_bytes()
    monkeypatch.setattr(report.Path, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk")))
    with pytest.raises(OSError, match="disk"):
        Report("new").write(tmp_path)
    assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["report.html", "report.json"]


@pytest.mark.parametrize("image", [np.zeros((4, 4, 3)), np.zeros((4, 4), np.uint8)])
def test_images_of_another_kind_are_refused(image):
    with pytest.raises(ValueError, match=r"figure image: expected uint8 \[H, W, 3 or 4\]"):
        Report("").figure(image)
