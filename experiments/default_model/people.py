"""Drawing people: weights of MakeHuman targets, from broad distributions of sex, age, ancestry, build and features.

The result is no Gaussian: sex is bimodal, ancestry is a Dirichlet mixture, and a feature's two directions are two
different sculpts. The distributions are ours; they are wide enough to cover people, not fitted to any census.
"""

import dataclasses

import numpy as np

from experiments.default_model.makehuman import TARGETS, Source

# Standard deviation of the weights of each family's axes. Left and right share one weight plus a little of their own.
SPREAD = {"head": 0.14, "nose": 0.24, "mouth": 0.20, "chin": 0.22, "eyes": 0.22, "ears": 0.25, "cheek": 0.20,
          "forehead": 0.16, "eyebrows": 0.30, "neck": 0.15, "asym": 0.10}
OWN_SIDE = 0.04
# Not features of a face (pose, measures of the body), or sculpts that look painted on.
LEFT_OUT = ("head-age", "head-trans", "head-angle", "head-back", "neck-trans", "neck-back", "neck-double-incr",
            "measure-neck", "asymm-", "ear-shape-pointed", "ear-flap", "mouth-laugh-lines", "mouth-dimples",
            "chin-triangle")
OPPOSITES = (("decr", "incr"), ("down", "up"), ("in", "out"), ("backward", "forward"), ("concave", "convex"),
             ("compress", "uncompress"))
ANCESTRIES = ("african", "asian", "caucasian")


@dataclasses.dataclass(frozen=True)
class Axis:
    """One feature: targets towards + and - (None: one-sided), and the name it shares with its other side."""

    family: str
    shared: str
    sided: bool
    plus: np.ndarray
    minus: np.ndarray | None


@dataclasses.dataclass(frozen=True)
class People:
    """shapes [N, n, 3] dm; sex [N], 0 female to 1 male; age [N], 0.19 a child, 0.5 a young adult, 1 old; ancestry
    [N, 3], shares that sum to one."""

    shapes: np.ndarray
    sex: np.ndarray
    age: np.ndarray
    ancestry: np.ndarray


def draw_people(source: Source, base: np.ndarray, neutral: np.ndarray, count: int, rng: np.random.Generator) -> People:
    """`count` people on the vertices `base` [n] of the base mesh, whose positions are `neutral` [n, 3]."""
    macro = source.targets(TARGETS + "macrodetails/", base)
    sex, age = rng.beta(0.6, 0.6, count), np.where(rng.random(count) < 0.9, rng.uniform(0.35, 1.0, count),
                                                   rng.uniform(0.19, 0.35, count))
    ancestry = rng.dirichlet([0.5, 0.5, 0.5], count)
    muscle, weight = (0.5 + _truncated_normal(rng, 0.2, 0.45, count) for _ in range(2))
    weights = _macro_weights(sex, age, ancestry, muscle, weight)
    names = sorted(weights)
    shapes = neutral.ravel() + _mix([weights[name] for name in names], [macro[name] for name in names])
    axes = feature_axes(source, base)
    weights, columns = _feature_weights(axes, count, rng)
    shapes += _mix(weights, columns)
    return People(shapes.reshape(count, -1, 3), sex, age, ancestry)


def feature_axes(source: Source, base: np.ndarray) -> list[Axis]:
    """Axes from pairs of opposite targets; what has no opposite is one-sided."""
    axes = []
    for family in SPREAD:
        targets = {name: moved for name, moved in source.targets(f"{TARGETS}{family}/", base).items()
                   if not _bare(name).startswith(LEFT_OUT) and abs(moved).max() > 1e-6}
        pairs = (("l", "r"),) if family == "asym" else OPPOSITES
        done = set()
        for name, moved in targets.items():
            opposite = _opposite(name, pairs)
            if name in done:
                continue
            other = targets.get(opposite)
            done |= {name, opposite}
            axes.append(Axis(family, _bare(name), name != _bare(name), other if other is not None else moved,
                             moved if other is not None else None))
    return axes


def _bare(name):
    """A target's name without the side it is on."""
    return name[2:] if name[:2] in ("l-", "r-") else name


def _opposite(name, pairs):
    stem, _, end = name.rpartition("-")
    for low, high in pairs:
        if end in (low, high):
            return f"{stem}-{high if end == low else low}"
    return ""


def _macro_weights(sex, age, ancestry, muscle, weight):
    """Multilinear weights [N] of the macro targets, by name. Ages are anchored at child 0.1875, young 0.5, old 1."""
    child, old = np.clip((0.5 - age) / 0.3125, 0, 1), np.clip((age - 0.5) / 0.5, 0, 1)
    ages = {"child": child, "young": 1 - child - old, "old": old}
    result = {}
    for sex_name, of_sex in (("female", 1 - sex), ("male", sex)):
        for age_name, of_age in ages.items():
            group = f"{sex_name}-{age_name}"
            for index, name in enumerate(ANCESTRIES):
                result[f"{name}-{group}"] = of_sex * of_age * ancestry[:, index]
            for muscle_name, of_muscle in _levels(muscle, "muscle").items():
                for weight_name, of_weight in _levels(weight, "weight").items():
                    result[f"universal-{group}-{muscle_name}-{weight_name}"] = of_sex * of_age * of_muscle * of_weight
    return result


def _levels(value, name):
    return {f"min{name}": np.clip(1 - 2 * value, 0, 1), f"average{name}": 1 - abs(2 * value - 1),
            f"max{name}": np.clip(2 * value - 1, 0, 1)}


def _feature_weights(axes, count, rng):
    """Lists of weights [N] and of targets [n, 3] for all axes; one-sided sculpts are used with restraint."""
    shared, weights, columns = {}, [], []
    for axis in axes:
        spread = SPREAD[axis.family]
        if axis.shared not in shared or not axis.sided:
            shared[axis.shared] = _truncated_normal(rng, spread, 2.5 * spread, count)
        weight = shared[axis.shared] + (rng.normal(0, OWN_SIDE, count) if axis.sided else 0)
        restraint = 1.0 if axis.minus is not None else (0.42 if axis.family == "head" else 0.7)
        weights.append(np.maximum(weight, 0) * restraint)
        columns.append(axis.plus)
        if axis.minus is not None:
            weights.append(np.maximum(-weight, 0))
            columns.append(axis.minus)
    return weights, columns


def _truncated_normal(rng, spread, limit, count):
    values = rng.normal(0, spread, count)
    while (beyond := abs(values) > limit).any():
        values[beyond] = rng.normal(0, spread, beyond.sum())
    return values


def _mix(weights, columns):
    return np.stack(weights, 1) @ np.stack(columns).reshape(len(columns), -1)
