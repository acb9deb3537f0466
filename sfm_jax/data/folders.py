"""What is in a folder and those below it, also where these are links to other places."""

import os
from pathlib import Path


def files_below(folder: str | os.PathLike) -> list[Path]:
    """The files of a folder and of all below it, sorted; none of no folder. A link back to where it is in is left."""
    found, inside = [], {}
    for place, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        above = inside.get(os.path.dirname(place), frozenset())
        if real in above:
            folders.clear()
            continue
        inside[place] = above | {real}
        found += [Path(place, name) for name in files]
    return sorted(found)
