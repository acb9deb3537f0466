"""Does one property of a face move in the answer when only another one moves in the photo? Host side, NumPy."""

import numpy as np


def disentanglement(moved: np.ndarray) -> tuple[np.ndarray, float]:
    """(matrix [P, P], off-diagonal mass) of how far answers move, moved [P, P]: row i, property i varied in the photo;
    column j, mean change of the answer's property j, in a unit of its own.

    Each column is divided by its entry on the diagonal: how far a property moves for no reason, relative to how far it
    moves when it really changes. The mass is the mean of all entries off the diagonal: 0 is perfect, 1 is an answer in
    which everything moves with everything. Ours. An answer that follows nothing gains nothing by that: a property that
    never moves at all moves as much with everything as with itself, entries of 1; one that moves, but not where it
    should, has infinite ones.

    Raises:
      ValueError: not a square matrix of two properties or more, or numbers below 0.
    """
    moved = np.asarray(moved, np.float64)
    if moved.ndim != 2 or len(moved) != moved.shape[-1] or len(moved) < 2 or not (moved >= 0).all():
        raise ValueError(f"moved: found shape {moved.shape}, expected [P, P] with P > 1, nothing below 0")
    with np.errstate(divide="ignore", invalid="ignore"):
        matrix = np.where(moved > 0, moved / np.diag(moved), 0.0)
    matrix[:, ~moved.any(0)] = 1.0
    np.fill_diagonal(matrix, 1.0)
    off = ~np.eye(len(matrix), dtype=bool)
    return matrix, float(matrix[off].mean())
