"""The viewer in a real browser, without a window: what is on the screen, and that nothing but this machine is asked."""

import io
import os
import re
import shutil
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

sync_api = pytest.importorskip("playwright.sync_api")
pytest.importorskip("viser")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")]

SOFTWARE = ("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--no-sandbox")
PATIENCE = 120  # seconds: a browser without a GPU on a busy machine


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def address():
    command = [sys.executable, "-m", "sfm_jax.view", "--port", str(free_port())]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"JAX_PLATFORMS": "cpu"})
    try:
        line = process.stdout.readline()
        assert "http://127.0.0.1:" in line
        yield re.search(r"http://[\d.:]+", line)[0]
    finally:
        process.terminate()
        assert process.wait(PATIENCE) == 0
        process.stdout.close()


@pytest.fixture(scope="module")
def page(address):
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(SOFTWARE))
        page = browser.new_page(viewport={"width": 900, "height": 600})
        page.set_default_timeout(1000 * PATIENCE)
        page.asked = []
        page.on("request", lambda request: page.asked.append(request.url))
        page.goto(address)
        page.get_by_role("tab", name="Identity").wait_for()
        yield page
        browser.close()


def picture(page):
    """sRGB [600, 900, 3] in 0..1."""
    return np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB"), float) / 255


def cheek(picture):
    """Mean colour in the middle of the view, where the face is."""
    return picture[250:350, 250:330].mean((0, 1))


def wait_until(page, is_so):
    end = time.monotonic() + PATIENCE
    while not is_so(seen := picture(page)):
        assert time.monotonic() < end, "not seen"
        time.sleep(0.3)
    return seen


def is_skin(colour):
    """Lit well, and red above green above blue, as skin of every shade is."""
    return 0.15 < colour.mean() < 0.9 and colour[0] > colour[1] > colour[2]


def test_a_lit_face_is_seen_and_controls_move_it(page, address):
    seen = wait_until(page, lambda seen: is_skin(cheek(seen)))

    page.get_by_role("tab", name="Expression").click()
    page.get_by_text("Jaw", exact=True).click()
    jaw_open = page.locator("[role=slider]:visible").nth(2)
    jaw_open.focus()
    page.keyboard.press("End")
    mouth = np.s_[330:560, 230:420]
    opened = wait_until(page, lambda now: np.abs(now[mouth] - seen[mouth]).mean() > 0.02)
    assert np.abs(opened[60:150, 260:380] - seen[60:150, 260:380]).max() < 0.05  # the forehead stays
    page.get_by_role("button", name="Reset", exact=True).click()
    wait_until(page, lambda now: np.abs(now[mouth] - seen[mouth]).mean() < 0.002)

    page.get_by_role("tab", name="View").click()
    choose(page, 1, "mean face")
    choose(page, 0, "difference")
    page.get_by_text("difference in mm").wait_for()
    colourful = wait_until(page, lambda now: not is_skin(now[250:350, 150:220].mean((0, 1))))
    assert np.ptp(colourful[250:350, 120:220].reshape(-1, 3), 0).max() > 0.05

    ours = (address, f"blob:{address}", "data:")
    assert [url for url in page.asked if not url.startswith(ours)] == []


def choose(page, index, option):
    page.locator('input[aria-haspopup="listbox"]:visible').nth(index).click()
    page.get_by_role("option", name=option, exact=True).click()
