"""What the documentation says exists: options, config keys, modules, files, pages."""

import contextlib
import functools
import importlib
import importlib.util
import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from sfm_jax.training.config import beside

ROOT = Path(__file__).parents[1]
PAGES = {str(path.relative_to(ROOT)): path.read_text() for path in (ROOT / "README.md", *ROOT.glob("docs/**/*.md"))}
CONFIGS = {path.stem: beside(path, path.stem).get_config() for path in ROOT.glob("configs/*.py")}


def commands(text):
    """(module, arguments) of every `python -m MODULE ...` in a page, which may go over a line's end."""
    joined = re.sub(r"python -m\s+", "python -m ", text.replace("\\\n", " "))
    return re.findall(r"python -m ((?:sfm_jax|experiments)[\w.]*)([^`\n#&]*)", joined)


@functools.cache
def known_options(module):
    """The options of a command of the package."""
    if module == "sfm_jax.main":
        from absl import flags

        importlib.import_module(module)
        return {f"--{flag.name}" for flag in flags.FLAGS.get_flags_for_module(module)}
    said = io.StringIO()
    with contextlib.redirect_stdout(said), pytest.raises(SystemExit):
        importlib.import_module(module).main(["--help"])
    return set(re.findall(r"--[a-z][\w-]*", said.getvalue()))


def has_key(config, key):
    for part in key.split("."):
        if part not in config:
            return False
        config = config[part]
    return True


@pytest.mark.parametrize("page", PAGES)
def test_commands_take_these_options(page):
    for module, arguments in commands(PAGES[page]):
        assert importlib.util.find_spec(module.rstrip(".")), module
        options = re.findall(r"(?<=\s)(--[\w.-]+)", arguments)
        if not module.startswith("sfm_jax."):
            continue
        of_config = {option for option in options if option.startswith("--config.")}
        assert set(options) - of_config <= known_options(module) | {"--help"}, (module, arguments)
        named = re.search(r"--config=configs/(\w+)\.py", arguments)
        for option in of_config:
            key = option.removeprefix("--config.")
            assert named and has_key(CONFIGS[named[1]], key), (arguments, key)


@pytest.mark.parametrize("page", PAGES)
def test_config_keys_exist(page):
    for key in re.findall(r"--config\.([\w.]*\w)", PAGES[page]):
        assert any(has_key(config, key) for config in CONFIGS.values()), key


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```", "", PAGES[page], flags=re.DOTALL)):
        if "://" not in target and not target.startswith("#"):
            assert (ROOT / page).parent.joinpath(target.partition("#")[0]).exists(), target


def test_readme_is_one_page():
    assert len(PAGES["README.md"].splitlines()) <= 160


def test_every_page_is_in_the_menu():
    menu = (ROOT / "mkdocs.yml").read_text()
    for page in PAGES:
        assert page == "README.md" or f": {page.removeprefix('docs/')}\n" in menu, page


@pytest.mark.slow
def test_site_builds_and_loads_nothing_from_elsewhere(tmp_path):
    pytest.importorskip("mkdocs")
    pytest.importorskip("mkdocstrings")
    done = subprocess.run([sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-d", str(tmp_path / "site")],
                          cwd=ROOT, text=True, capture_output=True, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"})
    assert done.returncode == 0, done.stdout + done.stderr
    for page in PAGES:
        if page != "README.md":
            built = (tmp_path / "site" / Path(page).relative_to("docs")).with_suffix(".html").read_text()
            assert not re.findall(r"<(?:script|link|img|iframe)[^>]+(?:src|href)=[\"']?(?:https?:)?//", built), page
            assert "<h1" in built and "--8&lt;--" not in built
