"""What is in a folder and those below it, also where these are links to other places."""

import os
from pathlib import Path


def files_below(folder: str | os.PathLike) -> list[Path]:
    """The files of a folder and of all below it, sorted; none of no folder. Hidden ones are left out, and links back to
    where they are in."""
    found, inside = [], {}
    for place, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        above = inside.get(os.path.dirname(place), frozenset())
        if real in above:
            folders.clear()
            continue
        inside[place] = above | {real}
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(place, name) for name in files if not name.startswith(".")]
    return sorted(found)
