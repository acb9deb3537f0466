"""The network that comes with the package: from a photo to the codes of the embedded face model, trained on its people.

    python -m sfm_jax.main --config=experiments/default_weights/config.py --workdir=runs/default_weights

Keys that are not explained here are in configs/stage2.py. Every label of the synthetic photos is used. The basis
does not learn: codes are those of the embedded model itself, at either level of detail.
"""

from pathlib import Path

from sfm_jax.training.config import beside

CONFIGS = Path(__file__).parents[2] / "configs"


def get_config():
    config = beside(CONFIGS / "stage2.py", "stage2").get_config()
    config.data.identity = ""
    config.data.landmarks = ""
    config.data.all = "synthetic"
    config.data.persons = 5400
    config.data.synthetic_photos = 50_000_000
    # Wilder photos than those of the short runs.
    config.data.conditions.pitch = 15.0
    config.data.conditions.roll = 12.0
    config.data.conditions.expression = 0.4
    config.data.conditions.distance = (400.0, 2500.0)  # mm
    config.data.conditions.occluders = 0.2
    config.data.conditions.damage = 1.0
    config.data.conditions.grey = 0.15
    config.rendered_photos = 4
    config.separate_heads = True
    config.steps = 4500
    config.ema_decay = 0.999
    config.save_every = 500
    config.optimiser.warmup_steps = 200
    config.optimiser.multipliers.basis = 0.0
    config.loss.expression_error = 2.0
    config.loss.expression = 0.0
    config.loss.smoothness = 0.0
    config.loss.asymmetry = 0.0
    config.loss.residual = 0.0
    config.loss.norm = 0.0
    return config
