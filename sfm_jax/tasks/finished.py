"""The face model of a run, from its config, and what a finished run learned, taken up again from its workdir."""

import hashlib
import json
from pathlib import Path

from ml_collections import ConfigDict

from sfm_jax.command_line import OTHER_FORMATS
from sfm_jax.inference.face import check_landmarks
from sfm_jax.inference.identity_space import start_basis
from sfm_jax.inference.photo_encoder import PhotoEncoder
from sfm_jax.morphable.default import load_default
from sfm_jax.morphable.model import MorphableModel
from sfm_jax.morphable.sphere_model import is_sphere_model
from sfm_jax.training.checkpoint import Checkpoints
from sfm_jax.training.workdir import CONFIG_FILE, changed_sources, flatten

DEFAULT = "default"
LEAST = 3  # identity components that a run needs
PARAMS = ("network", "residual", "log_radius")


def load_encoder(workdir: str | Path, key: str) -> tuple[PhotoEncoder, dict, dict]:
    """(encoder, params, state) of the newest checkpoint of a run on photos, averaged parameters where it has any.

    Nothing of the run's photos is opened. key: the config key that names the workdir, for errors.

    Raises:
      ValueError: no such workdir, of another kind of task, or without a checkpoint that can be read.
    """
    file = Path(workdir) / CONFIG_FILE
    try:
        config = ConfigDict(json.loads(file.read_text()))
    except OSError:
        raise ValueError(f"{key}: {workdir}: found no {CONFIG_FILE}, expected the workdir of a finished run on photos, "
                         "such as configs/detail_coarse.py makes") from None
    except ValueError as error:
        raise ValueError(f"{key}: {file}: not a readable config ({error})") from None
    if "trunk" not in config or "sphere" not in config:
        raise ValueError(f"{key}: {workdir}: found task {config.get('task')!r}, expected one that learns from photos")
    with Checkpoints(Path(workdir), config.keep, read_only=True) as checkpoints:
        found = checkpoints.read()
    if found is None:
        raise ValueError(f"{key}: {workdir}: found no checkpoint, expected a run that has saved one")
    model = open_model(config)
    if differing := changed_sources(Path(workdir), file_sources(config, "model", "basis")):
        raise ValueError(f"{key}: {workdir}: learned with another file: {differing}")
    config = limit_components(config, model)
    encoder = PhotoEncoder(config, model, start_basis(config, model, None))
    learned = found["ema"] or found["params"]
    return encoder, {name: learned[name] for name in PARAMS}, {"batch_stats": found["state"]["batch_stats"]}


def file_sources(config, *keys: str) -> dict[str, str]:
    """Of keys of a config, those that name a file, each with a hash of what is in it: a run goes on, and what it
    learned is taken up again, with the same alone. ValueError if one cannot be read."""
    found, values = {}, flatten(config.to_dict())
    for key in keys:
        place = values.get(key)
        if place and place != DEFAULT:
            try:
                found[key] = hashlib.sha256(Path(place).read_bytes()).hexdigest()[:16]
            except OSError as error:
                raise ValueError(f"{key}: {place}: {(error.strerror or str(error)).lower()}") from None
    return found


def open_model(config) -> MorphableModel:
    """The face model that a config names: config.model, "default" at level config.detail or the path of an npz."""
    if config.model == DEFAULT:
        return load_default(config.detail)
    try:
        return MorphableModel.load(config.model)
    except ValueError as error:
        raise ValueError(f"model: {error}; {OTHER_FORMATS}") from None


def open_photo_model(config) -> MorphableModel:
    """As `open_model`. ValueError for a model without landmarks, around which photos are cropped."""
    model = open_model(config)
    if config.model != DEFAULT:
        check_landmarks(model, f"model: {config.model}")
    return model


def is_sphere(config) -> bool:
    """Is the face model of a config a Sphere Face Model, whose codes are unit vectors?"""
    return config.model != DEFAULT and is_sphere_model(config.model)


def limit_components(config, model: MorphableModel, slack: bool | None = None) -> ConfigDict:
    """The config with no more identity components than another face model than the embedded one has.

    slack: does one of them need no component of the model? None: yes, but for Gaussian codes.
    """
    if config.model == DEFAULT or config.get("basis"):
        return config
    slack = config.sphere != "gaussian" if slack is None else slack
    most = len(model.identity_basis) + slack
    if most < LEAST:
        raise ValueError(f"model: {config.model}: key 'identity_basis': found {len(model.identity_basis)} components, "
                         f"expected at least {LEAST - slack}")
    if config.components <= most:
        return config
    return ConfigDict(config.to_dict() | {"components": most}, type_safe=config.is_type_safe).lock()
