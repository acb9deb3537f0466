"""Pairs of photos in every batch: two of one person, or one each of two people."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np


class Pairs:
    """A part of a batch (data/mixture.py) that is numbered by pairs: photos 2k and 2k + 1 belong together.

    Sample i is the pair of the i-th photo of which the person is known, and a partner drawn anew in every epoch: in
    `positive` of the pairs another photo of that person, each as likely, else one of the photos of all other people.
    A person of whom there is one photo has no positive pairs. Or a fixed list of pairs, [N, 2] numbers of photos.

    Of synthetic photos `turned` of the positive pairs are one scene in two poses, as 300W-LP's turned copies are: the
    partner lends its pose alone.
    """

    rows = 2

    def __init__(self, part, positive: float, seed: int, fixed: np.ndarray | None = None, turned: float = 0.0,
                 key: str = "pairs"):
        """part: the SyntheticPart or PhotoPart of the photos; key: of config.data, for errors. ValueError: no share,
        nobody of whom there are two, or a fixed list without a pair of which both people are known."""
        if not 0 < positive <= 1:
            raise ValueError(f"data.positive: found {positive}, expected a share of the pairs above 0, up to 1")
        if not 0 <= turned <= 1:
            raise ValueError(f"data.turned: found {turned}, expected a share of the positive pairs, 0 to 1")
        self.part, self._positive, self._seed, self._fixed, self._turned = part, positive, seed, fixed, turned
        self.persons = part.persons
        labels = part.labels()
        order = np.argsort(labels, kind="stable").astype(np.int32)
        self._known = order[np.searchsorted(labels[order], 0):]  # photos by person, without those of nobody
        self._person = labels[self._known]
        self._first = np.searchsorted(self._person, np.arange(self.persons + 1))
        if fixed is not None and not (labels[fixed] >= 0).all(1).any():
            raise ValueError(f"data.{key}: found no pair in the list of which both people are known, of {len(fixed)}: "
                             "nothing can be learned from it")
        if fixed is None and np.diff(self._first).max(initial=0) < 2:
            raise ValueError(f"data.{key}: {len(self._known)} photos of {self.persons} known people, but nobody of "
                             "whom there are two: no positive pair can be made")
        if fixed is None and self._positive < 1 and self.persons < 2:
            raise ValueError(f"data.{key}: photos of one person only: no negative pair can be made")
        self.length = len(self._known) if fixed is None else len(fixed)

    def load(self, indices: np.ndarray, epochs: np.ndarray) -> dict:
        """What the part loads of pairs `indices` [n], 2n rows."""
        if self._fixed is None:
            partners, turned = zip(*map(self._partner, indices, epochs), strict=True)
            pairs = np.stack([self._known[indices], partners], -1)
        else:
            pairs, turned = self._fixed[indices], np.zeros(len(indices), bool)
        # Both photos of a pair are as they are in its epoch.
        rows = self.part.load(pairs.reshape(-1), np.repeat(epochs, 2))
        if self._turned > 0:
            scene = np.where(np.array(turned)[:, None], pairs[:, :1], pairs)
            rows["scene"] = scene.reshape(-1).astype(np.int32)
        return rows

    def source(self) -> str:
        """Of the photos; see data/mixture.py."""
        return self.part.source()

    def _partner(self, index, epoch):
        """The number of the photo that the known photo `index` is shown with; is it a turned copy?"""
        rng = np.random.default_rng([self._seed, int(epoch), int(index)])
        person = self._person[index]
        first, end = self._first[person], self._first[person + 1]
        if rng.random() < self._positive and end - first > 1:
            drawn = first + rng.integers(end - first - 1)
            return self._known[drawn + (drawn >= index)], self._turned > 0 and rng.random() < self._turned
        drawn = rng.integers(len(self._known) - (end - first))
        return self._known[drawn + (end - first) * (drawn >= first)], False


def read_pairs(path: str | Path, names: Sequence[str]) -> np.ndarray:
    """Numbers [N, 2] of a list of pairs: a .csv of lines `photo, photo`, each one of `names`.

    Raises:
      ValueError: no such file, no pairs, or a photo that is not there: its line is named.
    """
    path, number = Path(path), {name: index for index, name in enumerate(names)}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [(line, [cell.strip() for cell in row]) for line, row in enumerate(csv.reader(file), 1) if any(row)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: not a readable list of pairs ({error})") from None
    for line, row in rows:
        if len(row) != 2:
            raise ValueError(f"{path}: line {line}: found {len(row)} cells, expected 2: photo, photo")
        for name in row:
            if name not in number:
                raise ValueError(f"{path}: line {line}: photo {name!r} is not among the {len(number)} photos, "
                                 f"such as {next(iter(number), '')!r}")
    if not rows:
        raise ValueError(f"{path}: found no pairs")
    return np.array([[number[name] for name in row] for _, row in rows])
