"""Tiny runs of every config, for tests: few people, those on photos on a toy model at 32 pixels, detail on the
embedded one."""

from pathlib import Path

import jax

from sfm_jax.tasks import create_task
from sfm_jax.training.config import beside
from sfm_jax.training.loop import train as run
from sfm_jax.training.optimiser import create_optimiser
from sfm_jax.training.parallel import TrainState, create_executor, process_batch_size, split_params, train_step, whole
from sfm_jax.training.workdir import open_workdir

CONFIGS = Path(__file__).parents[1] / "configs"
# The only statistics that four samples a device share with sixteen on one are those over the whole batch.
TINY = {
    "components": 5, "batch_size": 16, "steps": 4, "log_every": 1, "data.persons": 6, "data.heldout_persons": 4,
}
SCANS = {"features": 12, "hidden": (16,), "data.scans_per_person": 4}
DETAIL = {
    "batch_size": 4, "image_size": 48, "uv_size": 64, "data.wrinkle_size": 64, "widths": (4, 6),
    "data.synthetic_photos": 64, "data.heldout_photos": 4, "examples": 1,
}
PHOTOS = {
    "albedo_components": 2, "trunk": "compact", "image_size": 32, "render_size": 16,
    "rendered_photos": 0, "data.heldout_photos_per_person": 3, "data.synthetic_photos": 64,
}


def config(name, model, /, **changes):
    """The config of configs/NAME.py for a model file, tiny; dots in a changed key are written as two underscores.

    For detail the "model" is the workdir of its coarse run, on the embedded model.
    """
    made = beside(CONFIGS / "any.py", name).get_config()
    own = {"sphere_basis": SCANS, "detail": DETAIL | {"coarse": str(model)}}  # of the embedded model alone
    changed = TINY | own.get(made.task, PHOTOS | {"model": str(model)})
    made.update_from_flattened_dict({key: value for key, value in changed.items() if key.split(".")[0] in made})
    made.update_from_flattened_dict({key.replace("__", "."): value for key, value in changes.items()})
    return made.lock()


def coarse_run(folder):
    """A coarse run of two steps on the embedded model, in a new workdir."""
    settings = config("detail_coarse", "default", steps=2, loss__perceptual=0.0, loss__pixel=0.0)
    workdir = open_workdir(folder, settings)
    run(create_task(settings), settings, workdir)
    return workdir


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
        history += executor.metrics([metrics])
    return whole(executor.saved(current)).params, history
