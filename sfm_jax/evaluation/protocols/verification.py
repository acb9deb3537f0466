"""Are two photos of one person? LFW, CFP-FP, AgeDB-30, YTF: accuracy over the folds of a published list of pairs.

The protocol of LFW (Huang et al. 2007), unrestricted: on each fold the threshold is the one that is best on the others.
Where codes recognise a person, shapes need not: both may be asked, codes by their cosine, shapes by minus their mean
vertex distance after a rigid alignment.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from sfm_jax.evaluation import figures, recognition
from sfm_jax.evaluation.protocols.bootstrap import interval
from sfm_jax.evaluation.protocols.matching import listed, resolve
from sfm_jax.evaluation.protocols.outcome import Estimate, Outcome, Row
from sfm_jax.evaluation.protocols.pairs import Pairs, check_folds
from sfm_jax.geometry.icp import similarity_between

RATES = (1e-1, 1e-2, 1e-3)
COLUMNS = ("accuracy", "std error", *(f"TAR@FAR={rate:g}" for rate in RATES), "equal error rate", "area under curve")


def evaluate(pairs: Pairs, described: Mapping[str, Mapping[str, np.ndarray | None]], partial: bool = False,
             seed: int = 0) -> Outcome:
    """The table of several descriptions of the same photos, {row: {name: code [d] or shape [V, 3]}}.

    None for a photo: no face was found in it, and its pairs are refused at every threshold: no true accept, no false
    one (the generalised rates of ISO/IEC 19795-1), so that one of two persons is told right, and the ROC never reaches
    the true-accept rate of 1. Names of videos stand for the mean of their frames. partial: pairs of which a
    photo is missing altogether are left out.

    Raises:
      ValueError: photos that are missing, sizes that differ, NaN, folds that are left with pairs of one kind.
    """
    rows, samples, results, notes = [], None, {}, []
    for title, things in described.items():
        kept, used = _all_there(pairs, things, title, partial)
        scores = pair_scores(used, kept, title)
        correct = fold_decisions(scores, used.same, used.fold)
        rows.append(Row(f"{title} ({len(scores)} of {len(pairs.same)} pairs)", _estimates(scores, used, correct, seed)))
        results[title] = dict(zip(("far", "tar"), roc(scores, used.same)[:2], strict=True))
        lost = sorted(name for name in used.names if kept[name] is None)
        if lost:
            notes.append(f"{title}: no face found in {len(lost)} of {len(used.names)} photos, whose "
                         f"{np.sum(np.isneginf(scores))} pairs are refused at every threshold: {listed(lost)}.")
        columns = {f"score {title}": scores, f"correct {title}": correct.astype(int)}
        samples = _sampled(used) if samples is None else samples
        if len(samples) != len(scores):
            raise ValueError(f"{title}: found {len(scores)} pairs, expected the {len(samples)} of the other rows")
        for number, sample in enumerate(samples):
            sample.update({key: value[number].item() for key, value in columns.items()})
    others = int(np.sum(~used.same))
    if 1 / others > min(RATES):
        notes.append(f"{others} pairs of two persons: rates below {1 / others:.2g} are at no false accept at all.")
    notes.append(_fold_note(pairs))
    title = (f"Verification, {pairs.kind}, {len(np.unique(pairs.fold))} folds: accuracy at the best threshold of the "
             "other folds, standard error over the folds, rates over all pairs, in per cent")
    return Outcome("verification", title, COLUMNS, tuple(rows), tuple(samples), (), tuple(notes),
                   {"roc": figures.roc_curves(results)})


def _fold_note(pairs):
    """What the intervals are worth: folds must not share people, and if they do so it shows in shared photos."""
    folds: dict[str, set[int]] = {}
    for names in (pairs.first, pairs.second):
        for name, fold in zip(names, pairs.fold.tolist(), strict=True):
            folds.setdefault(name, set()).add(fold)
    if shared := sorted(name for name, some in folds.items() if len(some) > 1):
        return (f"Intervals resample whole folds, but {len(shared)} of {len(folds)} names are in several "
                f"({listed(shared)}): they are too narrow.")
    return ("Intervals resample whole folds, with their thresholds held: pairs share people, but published lists have "
            "no person in two folds.")


def pair_scores(pairs: Pairs, things: Mapping[str, np.ndarray | None], where: str) -> np.ndarray:
    """Scores [P] of pairs of codes [d], their cosine, or of shapes [V, 3], minus their distance; with a None -inf,
    which no threshold accepts.

    Raises:
      ValueError: things of different shapes, codes of length 0, NaN.
    """
    known = {name: np.asarray(thing) for name, thing in things.items() if thing is not None}
    shapes = {thing.shape for thing in known.values()}
    if len(shapes) != 1 or len(next(iter(shapes))) not in (1, 2):
        raise ValueError(f"{where}: found shapes {sorted(map(str, shapes))}, expected codes [d] or shapes [V, 3], all "
                         "of one size")
    for name, thing in known.items():
        if not np.isfinite(thing).all() or not thing.any():
            raise ValueError(f"{where}: {name}: {'NaN or infinite' if thing.any() else 'only zeros'}, expected numbers")
    likeness = cosine if len(next(iter(shapes))) == 1 else closeness
    scores = np.array([likeness(known[a], known[b]) if a in known and b in known else -np.inf
                       for a, b in zip(pairs.first, pairs.second, strict=True)])
    if np.isneginf(scores).all():
        raise ValueError(f"{where}: no pair has two faces")
    return scores


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Cosine of codes [d]."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def closeness(a: np.ndarray, b: np.ndarray) -> float:
    """Minus the mean vertex distance of shapes [V, 3], after the best rotation and shift, without scale."""
    moved = similarity_between(a, b).apply(np.asarray(a, np.float64))
    return -float(np.linalg.norm(moved - b, axis=1).mean())


def fold_decisions(scores: np.ndarray, same: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Whether each pair [P] is told right at the threshold of the greatest accuracy on the other folds.

    A threshold lies midway between two scores; of equally good ones the highest is taken.
    """
    correct = np.empty(len(scores), bool)
    for number in np.unique(fold):
        inside = fold == number
        correct[inside] = (scores[inside] >= best_threshold(scores[~inside], same[~inside])) == same[inside]
    return correct


def best_threshold(scores: np.ndarray, same: np.ndarray) -> float:
    """The threshold of the greatest plain accuracy."""
    far, tar, thresholds = roc(scores, same)
    positives = np.sum(same)
    accuracy = tar * positives + (1 - far) * (len(same) - positives)
    thresholds = thresholds[thresholds > -np.inf]
    best = int(np.argmax(accuracy[:len(thresholds)]))
    if best == 0:
        return np.nextafter(thresholds[1], np.inf) if len(thresholds) > 1 else np.inf
    return (thresholds[best] + thresholds[min(best + 1, len(thresholds) - 1)]) / 2


def roc(scores: np.ndarray, same: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`recognition.roc` of pairs of which some, -inf, are accepted at no threshold: from the rates of the lowest score
    the curve goes on to a false-accept rate of 1 without gaining a true accept."""
    lost = np.isneginf(scores)
    if not lost.any():
        return recognition.roc(scores, same)
    refused = np.min(scores[~lost], initial=0.0) - 1
    far, tar, thresholds = recognition.roc(np.where(lost, refused, scores), same)
    return np.append(far[:-1], 1.0), np.append(tar[:-1], tar[-2]), np.append(thresholds[:-1], -np.inf)


def _estimates(scores, pairs, correct, seed):
    folds = np.array([correct[pairs.fold == number].mean() for number in np.unique(pairs.fold)])

    def over_all(rows):
        far, tar, _ = roc(scores[rows], pairs.same[rows])
        accepted = [recognition.tar_at_far(far, tar, rate) for rate in RATES]
        return 100 * np.array([correct[rows].mean(), *accepted, recognition.equal_error_rate(far, tar),
                               np.trapezoid(tar, far)])

    everyone = np.arange(len(scores))
    values = over_all(everyone)
    values[0] = 100 * folds.mean()
    ends = interval(over_all, pairs.fold, seed=seed)
    measured = dict(zip((COLUMNS[0], *COLUMNS[2:]), map(Estimate, values, *ends), strict=True))
    return measured | {"std error": Estimate(100 * float(folds.std(ddof=1) / np.sqrt(len(folds))))}


def _all_there(pairs, things, where, partial):
    """({name: thing} of every name in the pairs, the pairs whose photos are all there)."""
    if pairs.videos:
        things = mean_of_frames(pairs.names, things)
    found = resolve(pairs.names, things, where, partial)
    if len(found) < len(pairs.names):
        there = [a in found and b in found for a, b in zip(pairs.first, pairs.second, strict=True)]
        pairs = pairs.rows(np.flatnonzero(there))
        check_folds(pairs, f"{where}: what --partial leaves")
    return {name: things[key] for name, key in found.items()}, pairs


def mean_of_frames(videos: Sequence[str], codes: Mapping[str, np.ndarray | None]) -> dict[str, np.ndarray | None]:
    """Codes or shapes of videos: their own where there is one, else of the frames "VIDEO/...", but for those without a
    face, the mean shape, or of codes the mean direction, for their lengths say nothing."""
    frames: dict[str, list[np.ndarray | None]] = {}
    for name, code in codes.items():
        parts = name.split("/")
        for folder in {"/".join(parts[start:end]) for end in range(1, len(parts)) for start in range(end)}:
            frames.setdefault(folder, []).append(code)
    found = dict(codes)
    for video in videos:
        seen = [code / (np.linalg.norm(code) if np.ndim(code) == 1 else 1) for code in frames.get(video, ())
                if code is not None]
        if video not in found and video in frames:
            found[video] = np.mean(seen, 0) if seen else None
    return found


def _sampled(pairs):
    return [{"first": a, "second": b, "same": int(same), "fold": int(fold) + 1} for a, b, same, fold in
            zip(pairs.first, pairs.second, pairs.same, pairs.fold, strict=True)]
