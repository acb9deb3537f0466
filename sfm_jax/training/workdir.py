"""The folder of one run: it belongs to one config."""

import json
import os
from pathlib import Path

from sfm_jax.atomic_files import atomic_write

CONFIG_FILE = "config.json"
SOURCES_FILE = "sources.json"
_NEW = ("batch_size over the devices",)  # keys of sources (data/mixture.py) that workdirs of before lack
_CLAIM = {CONFIG_FILE, SOURCES_FILE}  # with which a run takes its folder, before it begins


def open_workdir(path: str | os.PathLike, config, free_keys: frozenset[str] = frozenset()) -> Path:
    """Make the folder, or accept it if it belongs to this config (free_keys may differ), or to one that never began.

    ValueError, with nothing written, if it belongs to another config (naming the keys), holds other things or cannot be
    read or written.
    """
    path = Path(path)
    try:
        return _open(path, config, free_keys)
    except OSError as error:
        raise ValueError(f"{path}: cannot be used ({(error.strerror or str(error)).lower()}); choose another --workdir"
                         ) from None


def _open(path, config, free_keys):
    ours = flat_settings(config)
    file = path / CONFIG_FILE
    # Looked at once: of several processes that open it another may be writing.
    names = _names(path)
    if CONFIG_FILE in names:
        try:
            theirs = flatten(json.loads(file.read_text()))
        except (ValueError, AttributeError, RecursionError):
            raise ValueError(f"{file}: not a readable config; remove {path} or choose another --workdir") from None
        differing = [key for key in sorted(ours.keys() | theirs.keys())
                     if key not in free_keys and ours.get(key) != theirs.get(key)]
        if differing and names - _CLAIM:
            listed = "; ".join(f"{key} is {theirs.get(key, 'absent')!r} there and {ours.get(key, 'absent')!r} here"
                               for key in differing)
            raise ValueError(f"{path}: belongs to another config: {listed}; choose another --workdir")
        if differing:  # of a run that was refused before it had begun
            (path / SOURCES_FILE).unlink(missing_ok=True)
            write_text(file, json.dumps(config.to_dict(), indent=2))
    elif names or path.is_file():
        raise ValueError(f"{path}: exists and is not a workdir (no {CONFIG_FILE}); choose another --workdir")
    else:
        path.mkdir(parents=True, exist_ok=True)
        write_text(file, json.dumps(config.to_dict(), indent=2))
    return path


def keep_sources(path: Path, sources: dict[str, str]) -> None:
    """Write down what a run reads besides its config, {what: which}; where that is written, compare.

    Raises:
      ValueError: something is new, is gone, or is another one than the run began with.
    """
    before = _sources(path)
    if not before or not _names(path) - _CLAIM:
        write_text(path / SOURCES_FILE, json.dumps(sources, indent=1))
    elif differing := _differing({key: sources[key] for key in _NEW if key in sources} | before, sources):
        raise ValueError(f"{path}: began with other data: {differing}; choose another --workdir")


def changed_sources(path: Path, sources: dict[str, str]) -> str:
    """Which of `sources` are others than those that the run in a workdir began with, in words; "" if none is."""
    before = _sources(path)
    return _differing({name: before[name] for name in sources if name in before},
                      {name: which for name, which in sources.items() if name in before})


def _names(path):
    return {entry.name for entry in path.iterdir() if not _is_partial(entry)} if path.is_dir() else set()


def _sources(path):
    """What is written down; nothing where nothing is, as in workdirs of before."""
    file = path / SOURCES_FILE
    if not file.exists():
        return {}
    try:
        return dict(json.loads(file.read_text()).items())
    except (OSError, ValueError, AttributeError, RecursionError):
        raise ValueError(f"{file}: not readable; remove {path} or choose another --workdir") from None


def _differing(before, now):
    found = [f"{name} was {before.get(name, 'absent')} and is {now.get(name, 'absent')}"
             for name in sorted(before.keys() | now.keys()) if before.get(name) != now.get(name)]
    return "; ".join(found[:5]) + (f" and {len(found) - 5} more" if len(found) > 5 else "")


def flat_settings(config) -> dict:
    """The settings of a config, flat, as they come back from CONFIG_FILE: tuples are lists."""
    return flatten(json.loads(json.dumps(config.to_dict())))


def flatten(tree: dict, prefix: str = "") -> dict:
    """{"a": {"b": 1}} -> {"a.b": 1}."""
    flat = {}
    for key, value in tree.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def write_text(path: Path, text: str) -> None:
    """The whole text or nothing of it: a reader sees the old file or the new one."""
    with atomic_write(path) as partial:
        partial.write_text(text)


def _is_partial(path: Path) -> bool:
    """Left by a killed write_text, or another process is in the midst of one."""
    return path.name.startswith(".") and path.name.endswith(".partial")
