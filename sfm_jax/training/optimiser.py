"""Optimiser and learning-rate schedule from a config, in optax."""

import jax
import optax

from sfm_jax.errors import BadInput

OPTIMISERS = ("adam", "adamw", "sgd")
SCHEDULES = ("constant", "cosine", "step")
DECAYED = "network"  # the group whose kernels weight decay falls on


def learning_rate(config, steps: int) -> optax.Schedule:
    """Linear warm-up over `warmup_steps` to `learning_rate`, then

    "constant"; "cosine", half a period down to 0 at `steps` (Loshchilov & Hutter 2017); or "step", a tenth at 60 %
    and a hundredth at 85 % of `steps`.
    """
    if not config.learning_rate > 0:
        raise BadInput(f"optimiser.learning_rate: found {config.learning_rate}, expected a number above 0")
    peak, warmup = config.learning_rate, min(config.warmup_steps, steps)
    if config.schedule == "constant":
        after = optax.constant_schedule(peak)
    elif config.schedule == "cosine":
        after = optax.cosine_decay_schedule(peak, max(steps - warmup, 1))
    elif config.schedule == "step":
        after = optax.piecewise_constant_schedule(
            peak, {int(0.6 * steps) - warmup: 0.1, int(0.85 * steps) - warmup: 0.1})
    else:
        raise BadInput(f"optimiser.schedule: found {config.schedule!r}, expected one of {', '.join(SCHEDULES)}")
    if warmup == 0:
        return after
    return optax.join_schedules([optax.linear_schedule(peak / (warmup + 1), peak, warmup), after], [warmup])


def create_optimiser(config, steps: int, labels) -> optax.GradientTransformation:
    """Adam, AdamW or momentum SGD, then each group's multiplier and the schedule. (The train step clips.)

    Weight decay falls on kernels alone: parameters of two or more dimensions in the group DECAYED. A basis or a radius
    has a scale that means something, and a person's row in a table, whose gradient is mostly 0, would by Adam go to 0
    at the full rate.

    labels: a pytree of strings like the parameters. Groups without an entry in config.multipliers learn at rate 1.
    BadInput: a name, a group or a number that there cannot be; weight decay without a group that it falls on.
    """
    if config.name not in OPTIMISERS:
        raise BadInput(f"optimiser.name: found {config.name!r}, expected one of {', '.join(OPTIMISERS)}")
    for key in ("weight_decay", "clip_norm", "warmup_steps"):
        if not config[key] >= 0:
            raise BadInput(f"optimiser.{key}: found {config[key]}, expected 0 or more")
    rule = optax.trace(decay=0.9) if config.name == "sgd" else optax.scale_by_adam()
    decay = [optax.add_decayed_weights(config.weight_decay, mask=_kernels(labels))] if config.weight_decay else []
    multipliers = dict(config.multipliers)
    groups = {label: optax.scale(multipliers.get(label, 1.0)) for label in _unique(labels)}
    unknown = sorted(set(multipliers) - set(groups))
    if unknown:
        known = ", ".join(sorted(groups))
        raise BadInput(f"optimiser.multipliers.{unknown[0]}: no such group, expected one of {known}")
    if decay and DECAYED not in groups:
        raise BadInput(f"optimiser.weight_decay: found {config.weight_decay}, expected 0: no group is called {DECAYED}")
    return optax.chain(
        *(decay if config.name != "adamw" else []),  # Adam and SGD: L2 in the gradient; AdamW: decoupled
        rule,
        *(decay if config.name == "adamw" else []),
        optax.partition(groups, labels),
        optax.scale_by_learning_rate(learning_rate(config, steps)),
    )


def _kernels(labels):
    """A function of the parameters: on which of them weight decay falls."""
    return lambda params: jax.tree.map(lambda leaf, label: label == DECAYED and leaf.ndim > 1, params, labels)


def _unique(labels):
    return set(jax.tree.leaves(labels))
