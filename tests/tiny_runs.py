"""Tiny runs of every config, for tests: few people, those on photos on a toy model at 32 pixels."""

from pathlib import Path

import jax

from sfm_jax.tasks import create_task
from sfm_jax.training.config import beside
from sfm_jax.training.optimiser import create_optimiser
from sfm_jax.training.parallel import TrainState, create_executor, process_batch_size, split_params, train_step, whole

CONFIGS = Path(__file__).parents[1] / "configs"
# The only statistics that four samples a device share with sixteen on one are those over the whole batch.
TINY = {
    "components": 5, "batch_size": 16, "steps": 4, "log_every": 1, "data.persons": 6, "data.heldout_persons": 4,
}
SCANS = {"features": 12, "hidden": (16,), "data.scans_per_person": 4}
PHOTOS = {
    "albedo_components": 2, "trunk": "compact", "image_size": 32, "render_size": 16,
    "rendered_photos": 0, "data.heldout_photos_per_person": 3, "data.synthetic_photos": 64,
}


def config(name, model, **changes):
    """The config of configs/NAME.py for a model file, tiny; dots in a changed key are written as two underscores."""
    made = beside(CONFIGS / "any.py", name).get_config()
    # The scans of the population are of the embedded model alone.
    own = SCANS if made.task == "sphere_basis" else PHOTOS | {"model": str(model)}
    made.update_from_flattened_dict(TINY | own)
    made.update_from_flattened_dict({key.replace("__", "."): value for key, value in changes.items()})
    return made.lock()


def train(settings, executor_name, steps):
    """(parameters, metrics of each step) after `steps` steps on all devices, as NumPy."""
    task = create_task(settings)
    batches = task.dataset(process_batch_size(settings.batch_size), settings.seed)
    params, state = task.init(jax.random.key(0), batches[0])
    optimiser = create_optimiser(settings.optimiser, steps, task.param_labels(params))
    fresh = TrainState.create(params, state, optimiser, averaged=False)
    executor = create_executor(executor_name, train_step(task, optimiser, settings.seed, settings.ema_decay),
                               fresh.split(split_params(task, params), optimiser))
    current, history = executor.place(fresh), []
    for step in range(steps):
        current, metrics = executor.step(current, executor.shard(batches[step]))
        history.append(executor.metrics(metrics))
    return whole(executor.saved(current)).params, history
