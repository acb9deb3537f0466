"""Which prediction belongs to which truth: by name, and nothing is left out without a word."""

import json
from collections.abc import Collection, Iterable
from pathlib import Path, PurePosixPath

from sfm_jax.array_files import one_line
from sfm_jax.data.folders import files_below
from sfm_jax.morphable.formats.files import read_bytes

LISTED = 10  # names in an error
NO_FACE = "no_face.json"  # beside the folders of faces: the names of photos in which there was none


def common_names(predicted: Collection[str], truth: Collection[str], where: str, partial: bool = False) -> list[str]:
    """The names of the truth, sorted, each of which has a prediction.

    where: what the names are of, for errors. partial: those that have both, as long as there is one.

    Raises:
      ValueError: names that are on one side alone, listed.
    """
    both = sorted(set(predicted) & set(truth))
    lacking, foreign = sorted(set(truth) - set(predicted)), sorted(set(predicted) - set(truth))
    if (lacking or foreign) and not (partial and both):
        sides = [f"{len(names)} {kind} ({listed(names)})" for names, kind in (
            (lacking, "without a prediction"), (foreign, "predicted that the truth does not have")) if names]
        raise ValueError(f"{where}: {len(both)} of {len(set(truth))} names match; {'; '.join(sides)}")
    if not both:
        raise ValueError(f"{where}: found nothing to compare")
    return both


def listed(names: Iterable[str]) -> str:
    """The first few names."""
    names = list(names)
    return ", ".join(names[:LISTED]) + (f" and {len(names) - LISTED} more" if len(names) > LISTED else "")


def files_by_name(folder: str | Path, suffixes: Collection[str], what: str) -> dict[str, Path]:
    """The files of a folder and those below by their path in it, without the suffix and with "/".

    Raises:
      ValueError: no such folder, none of these files, or two of one name.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder, expected {what}")
    found = {}
    for path in files_below(folder):
        if path.suffix.lower() not in suffixes or path.name.startswith(".") or not path.is_file():
            continue
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name in found:
            raise ValueError(f"{path}: {found[name].name} has the same name, expected one file for each")
        found[name] = path
    if not found:
        raise ValueError(f"{folder}: found no files {', '.join(suffixes)}, expected {what}")
    return found


def lines_of(path: str | Path, what: str) -> list[tuple[int, str]]:
    """(number, line) of each line of a text that is not blank. ValueError names the file, and what was expected."""
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not readable as text, expected {what} ({error})") from None
    return [(number, line.strip()) for number, line in enumerate(lines, 1) if line.strip()]


def parameter_files(folder: str | Path) -> dict[str, list[Path]]:
    """The params.npz of the reconstruct command below a folder by the photo's name, the largest face's first."""
    found = {}
    folder = Path(folder)
    for path in files_below(folder):
        if path.name != "params.npz":
            continue
        place = path.parent.relative_to(folder).as_posix()
        name, _, number = place.rpartition("_")
        name, rank = (name, int(number)) if number.isdecimal() and name else (place, 1)
        found.setdefault(name, []).append((rank, path))
    return {name: [path for _, path in sorted(paths)] for name, paths in found.items()}


def photos_without_face(folder: str | Path) -> list[str]:
    """The photos below a folder in which the reconstruct command found no face, named as in `parameter_files`.

    ValueError where a list of them cannot be read.
    """
    folder = Path(folder)
    return [(path.parent.relative_to(folder) / name).as_posix()
            for path in files_below(folder) if path.name == NO_FACE for name in read_no_face(path)]


def without_face(lost: Collection[str], count: int) -> tuple[str, ...]:
    """The note of photos, `count` with the others, in which no face was found; () where there are none."""
    told = f"No face found in {len(lost)} of {count} photos, left out, which flatters: {listed(sorted(lost))}."
    return (told,) if lost else ()


def read_no_face(path: Path) -> list[str]:
    """The names in a list of photos without a face. ValueError names the file."""
    content = read_bytes(path)
    try:
        names = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not readable as JSON ({one_line(error)})") from None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{path}: found no list of names, expected the photos without a face")
    return names


def resolve(names: Iterable[str], available: Collection[str], where: str, partial: bool = False) -> dict[str, str]:
    """{name: the one of `available` that it means}: paths agree from their ends, as far as both of them go.

    "Ann/Ann_0001" is "lfw/Ann/Ann_0001" or "Ann_0001", suffixes of files left out. partial: names without a match are
    left out.

    Raises:
      ValueError: names without a match, listed, one that means several, or several that mean one.
    """
    by_end: dict[str, set[str]] = {}
    for key in available:
        parts = _parts(key)
        for start in range(len(parts)):
            by_end.setdefault("/".join(parts[start:]), set()).add(key)
    found, lacking = {}, []
    for name in dict.fromkeys(names):
        parts = _parts(name)
        whole = by_end.get("/".join(parts), set())
        shorter = [key for key in by_end.get(parts[-1], ()) if _parts(key) == parts[-len(_parts(key)):]]
        longest = sorted(shorter, key=lambda key: -len(_parts(key)))[:1]
        matches = {name} if name in available else whole or set(longest)
        if len(matches) > 1:
            raise ValueError(f"{where}: {name}: may be any of {listed(sorted(matches))}, expected one")
        if matches:
            found[name] = matches.pop()
        else:
            lacking.append(name)
    meant: dict[str, str] = {}
    for name, key in found.items():
        if key in meant:
            raise ValueError(f"{where}: {key}: is meant by {meant[key]} and by {name}, expected one for each; folders "
                             "as in the truth tell them apart")
        meant[key] = name
    if lacking and not partial:
        raise ValueError(f"{where}: {len(lacking)} of {len(lacking) + len(found)} names are not there "
                         f"({listed(lacking)})")
    return found


def _parts(name):
    path = PurePosixPath(name.replace("\\", "/"))
    suffix = path.suffix.lower()
    path = path.with_suffix("") if suffix[1:].isalpha() else path
    return [part for part in path.parts if part not in ("..", ".", "/")]
