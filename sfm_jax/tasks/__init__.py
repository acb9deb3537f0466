"""What is learned. A task is a value made from a config; `training` runs any of them."""


def create_task(config):
    """The task named by config.task.

    Raises:
      ValueError: no task there is, or held-out people of whom there are no two samples to compare.
    """
    from sfm_jax.tasks.cycle import Cycle
    from sfm_jax.tasks.detail import Detail
    from sfm_jax.tasks.photo_model import PhotoModel
    from sfm_jax.tasks.siamese import Siamese
    from sfm_jax.tasks.sphere_basis import SphereBasis

    tasks = {"sphere_basis": SphereBasis, "photo_model": PhotoModel, "siamese": Siamese, "cycle": Cycle,
             "detail": Detail}
    if config.get("task") not in tasks:
        raise ValueError(f"task: found {config.get('task')!r}, expected one of {', '.join(tasks)}")
    for key in ("heldout_scans_per_person", "heldout_photos_per_person"):
        if (count := config.get("data", {}).get(key, 2)) < 2:
            raise ValueError(f"data.{key}: found {count}, expected 2 or more")
    return tasks[config.task](config)
