"""Pairs of photos, or videos, of one person or of two, in folds, as verification benchmarks publish them.

    LFW          pairs.txt: "10 300", then for each of ten sets 300 lines `name n1 n2` and 300 `name1 n1 name2 n2`
                 (Huang et al. 2007)
    CFP-FP       the folder with Protocol/Pair_list_F.txt, Pair_list_P.txt and Split/FP (Sengupta et al., WACV 2016)
    YTF          splits.txt: lines `split, pair, first video, second video, is same` (Wolf et al., CVPR 2011); in
                 splits_corrected.txt a sixth column is the corrected label, and the one that counts
    AgeDB-30 ..  lines `photo photo 1`, 0 or -1 for two persons, of which each tenth is a fold: the aligned sets of face
                 recognition (Moschoglou et al., CVPRW 2017)
"""

import csv
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sfm_jax.evaluation.protocols.matching import lines_of

FOLDS = 10
CFP_FILES = ("Pair_list_F.txt", "Pair_list_P.txt", "Split/FP")


class Pairs(NamedTuple):
    """first, second: names of the P pairs; same [P] bool; fold [P] int; kind of the list; videos: whether the names are
    those of videos."""

    first: tuple[str, ...]
    second: tuple[str, ...]
    same: np.ndarray
    fold: np.ndarray
    kind: str
    videos: bool = False

    @property
    def names(self) -> list[str]:
        """Everything that is compared, each once."""
        return list(dict.fromkeys(self.first + self.second))

    def rows(self, rows: np.ndarray) -> "Pairs":
        """Some of the pairs."""
        return self._replace(first=tuple(self.first[row] for row in rows),
                             second=tuple(self.second[row] for row in rows), same=self.same[rows],
                             fold=self.fold[rows])


def read_pairs(place: str | Path) -> Pairs:
    """A list of pairs in any of the formats above, told apart by what is in it.

    Raises:
      ValueError: a line that is not understood, fewer than two folds, or a fold without pairs of both kinds.
    """
    place = Path(place)
    if place.is_dir():
        pairs = _read_cfp(place)
    else:
        numbered = lines_of(place, "a list of pairs")
        if not numbered:
            raise ValueError(f"{place}: an empty file, expected pairs")
        head = numbered[0][1].split()
        if len(head) <= 2 and all(part.isdecimal() for part in head):
            pairs = _read_lfw(place, numbered)
        elif "," in numbered[-1][1]:
            pairs = _read_splits(place, numbered)
        else:
            pairs = _read_labelled(place, numbered)
    check_folds(pairs, place)
    return pairs


def check_folds(pairs: Pairs, where: str | Path) -> None:
    """ValueError with fewer than two folds, or a fold without pairs of both kinds."""
    folds = np.unique(pairs.fold)
    for fold in folds:
        same = pairs.same[pairs.fold == fold]
        if same.all() or not same.any():
            raise ValueError(f"{where}: fold {fold + 1}: found {same.sum()} pairs of one person among {len(same)}, "
                             "expected both kinds")
    if len(folds) < 2:
        found = f"fold {folds[0] + 1} alone" if len(folds) else "no pairs"
        raise ValueError(f"{where}: found {found}, expected at least two folds: thresholds come from the other folds")


def _read_lfw(path, lines):
    (_, head), *body = lines
    sets, size = (int(part) for part in head.split()) if len(head.split()) == 2 else (1, int(head))
    if len(body) != 2 * sets * size:
        raise ValueError(f"{path}: found {len(body)} pairs, expected 2 x {sets} x {size} as its first line says")
    first, second, same = [], [], []
    for number, line in body:
        cells = line.split("\t") if "\t" in line else line.split()
        if len(cells) not in (3, 4) or not all(cell.isdecimal() for cell in (cells[1], cells[-1])):
            raise ValueError(f"{path}: line {number}: found {line!r}, expected `name n1 n2` or `name1 n1 name2 n2`")
        other = cells[0] if len(cells) == 3 else cells[2]
        first.append(_lfw_name(cells[0], cells[1]))
        second.append(_lfw_name(other, cells[-1]))
        same.append(len(cells) == 3)
    return Pairs(tuple(first), tuple(second), np.array(same), np.arange(len(body)) // (2 * size), "LFW")


def _lfw_name(person, number):
    return f"{person}/{person}_{int(number):04d}"


def _read_splits(path, lines):
    first, second, same, fold = [], [], [], []
    for cells, (number, line) in zip(csv.reader(line for _, line in lines), lines, strict=True):
        cells = [cell.strip() for cell in cells]
        if number == lines[0][0] and not cells[0].isdecimal():
            continue
        label = cells[4:6][-1:]  # the corrected one where there is one; whatever follows is no label
        if not cells[0].isdecimal() or label not in (["0"], ["1"]):
            raise ValueError(f"{path}: line {number}: found {line!r}, expected `split, pair, first video, second "
                             "video, is same`, and maybe the corrected label")
        fold.append(int(cells[0]) - 1)
        first.append(cells[2])
        second.append(cells[3])
        same.append(label == ["1"])
    return Pairs(tuple(first), tuple(second), np.array(same), np.array(fold), "YTF", videos=True)


def _read_labelled(path, lines):
    first, second, same = [], [], []
    for number, line in lines:
        cells = line.split()
        if len(cells) != 3 or cells[2] not in ("1", "0", "-1"):
            raise ValueError(f"{path}: line {number}: found {line!r}, expected `photo photo 1`, or 0 for two persons")
        first.append(cells[0])
        second.append(cells[1])
        same.append(cells[2] == "1")
    tenths = np.array_split(np.arange(len(lines)), min(FOLDS, len(lines)))
    fold = np.concatenate([np.full(len(rows), number) for number, rows in enumerate(tenths)])
    return Pairs(tuple(first), tuple(second), np.array(same), fold, f"{path.stem} in tenths")


def _read_cfp(folder):
    place = folder / "Protocol" if (folder / "Protocol").is_dir() else folder
    for name in CFP_FILES:
        if not (place / name).exists():
            raise ValueError(f"{place}: found no {name}, expected the protocol of CFP")
    photos = [dict(_numbered(place / name)) for name in CFP_FILES[:2]]
    first, second, same, fold = [], [], [], []
    for number, split in enumerate(sorted(path for path in (place / CFP_FILES[2]).iterdir() if path.is_dir())):
        for file, alike in (("same.txt", True), ("diff.txt", False)):
            for _, line in lines_of(split / file, "pairs of numbers of photos"):
                frontal, _, profile = line.partition(",")
                if frontal not in photos[0] or profile not in photos[1]:
                    raise ValueError(f"{split / file}: found {line!r}, expected numbers of photos in "
                                     f"{' and '.join(CFP_FILES[:2])}")
                first.append(photos[0][frontal])
                second.append(photos[1][profile])
                same.append(alike)
                fold.append(number)
    return Pairs(tuple(first), tuple(second), np.array(same), np.array(fold), "CFP-FP")


def _numbered(path):
    """(number, photo) of each line `number ../Data/Images/001/frontal/01.jpg`."""
    for number, line in lines_of(path, "`number photo` a line"):
        cells = line.split()
        if len(cells) != 2:
            raise ValueError(f"{path}: line {number}: found {line!r}, expected `number photo`")
        yield cells[0], cells[1]
