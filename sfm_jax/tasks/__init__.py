"""What is learned. A task is a value made from a config; `training` runs any of them."""


def create_task(config):
    """The task named by config.task. ValueError names the tasks there are."""
    from sfm_jax.tasks.cycle import Cycle
    from sfm_jax.tasks.detail import Detail
    from sfm_jax.tasks.photo_model import PhotoModel
    from sfm_jax.tasks.siamese import Siamese
    from sfm_jax.tasks.sphere_basis import SphereBasis

    tasks = {"sphere_basis": SphereBasis, "photo_model": PhotoModel, "siamese": Siamese, "cycle": Cycle,
             "detail": Detail}
    if config.task not in tasks:
        raise ValueError(f"task: found {config.task!r}, expected one of {', '.join(tasks)}")
    return tasks[config.task](config)
