"""What is learned. A task is a value made from a config; `training` runs any of them."""

LEAST = {"scans_per_person": 1, "heldout_scans_per_person": 2, "heldout_photos_per_person": 2, "heldout_photos": 1,
         "shown_photos": 1, "clip_frames": 2}  # of the keys of config.data


def create_task(config):
    """The task named by config.task.

    Raises:
      ValueError: no task there is, or too few samples of a person, or for a report.
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
    for key, least in LEAST.items():
        if (count := config.get("data", {}).get(key, least)) < least:
            raise ValueError(f"data.{key}: found {count}, expected {least} or more")
    return tasks[config.task](config)
