"""The photos of a run, from its config: what is trained on, and the held-out people of the report."""

import dataclasses

import numpy as np

from sfm_jax.data.clips import SyntheticClips
from sfm_jax.data.mixture import LABELS, Mixture, PhotoPart, SyntheticPart
from sfm_jax.data.pairs import Pairs, read_pairs
from sfm_jax.data.people import disjoint_people
from sfm_jax.data.scene import Conditions, Scene
from sfm_jax.data.synthetic import SyntheticPhotos
from sfm_jax.data.wrinkles import WrinkledSkin
from sfm_jax.inference.face import Face
from sfm_jax.morphable.default import Population
from sfm_jax.morphable.model import MorphableModel
from sfm_jax.render import SphericalHarmonics
from sfm_jax.tasks.finished import is_sphere

SYNTHETIC = "synthetic"


@dataclasses.dataclass(frozen=True)
class People:
    """Disjoint people of the population, for training and for the report; codes [P, K] of the training ones."""

    train: Population
    heldout: Population

    @property
    def codes(self) -> np.ndarray:
        return self.train.identity


def split_people(config, model: MorphableModel) -> People:
    """The population's people, divided. With another model they are made up for it (data/people.py).

    Raises:
      ValueError: fewer than two people asked on either side, or more than the population has.
    """
    data = config.data
    return People(*disjoint_people(model, data.persons, data.heldout_persons, config.seed, is_sphere(config)))


def synthetic_photos(config, model: MorphableModel, people: Population, seed: int) -> SyntheticPhotos:
    """Photos of `people` under the config's conditions, with the seed's wrinkles where config.data has any."""
    conditions = {key: tuple(value) if isinstance(value, list | tuple) else value
                  for key, value in config.data.conditions.items()}
    skin = None
    if size := config.data.get("wrinkle_size"):
        try:
            skin = WrinkledSkin(model, size, seed)
        except ValueError as error:
            raise ValueError(f"data.wrinkle_size: {size}: {error}; model: {config.model} can have photos without: 0"
                             ) from None
    return SyntheticPhotos(model, people, config.image_size, Conditions(**conditions), seed, skin)


def true_face(photos: SyntheticPhotos, scenes: Scene) -> Face:
    """The faces in batched scenes, but for their wrinkles: what a network without fault would say."""
    vertices, cameras, landmarks = photos.faces(scenes)
    return Face(vertices, vertices, landmarks, cameras, photos.model.albedo(scenes.albedo),
                SphericalHarmonics(scenes.light))


def training_mixture(config, model: MorphableModel, people: Population) -> Mixture:
    """The parts that config.data names: `all`, `pairs` or `clips` alone, or `landmarks` with `identity`, `pairs` or
    `clips`.

    Raises:
      ValueError: none named, parts that do not go together, or a share outside (0, 1).
    """
    data = config.data
    chosen = {name: data[name] for name in LABELS if data.get(name)}
    if len(chosen) != 1 and ("landmarks" not in chosen or "all" in chosen or len(chosen) > 2):
        found = ", ".join(f"data.{name}" for name in chosen)
        raise ValueError(f"data: found photos for {found or 'nothing'}, expected data.all, data.pairs or "
                         "data.clips alone, or data.landmarks with one of data.identity, data.pairs and data.clips")
    shares = {name: 1.0 for name in chosen}
    if len(chosen) == 2:
        if not 0 < data.identity_share < 1:
            raise ValueError(f"data.identity_share: found {data.identity_share}, expected a number between 0 and 1")
        shares = {name: 1 - data.identity_share if name == "landmarks" else data.identity_share for name in chosen}
    photos = synthetic_photos(config, model, people, config.seed) if SYNTHETIC in chosen.values() else None
    parts = {name: _synthetic(config, photos, name) if source == SYNTHETIC
             else _collection(config, model, source, name == "clips") for name, source in chosen.items()}
    if "pairs" in parts:
        parts["pairs"] = _pairs(config, parts["pairs"])
    if "clips" in parts:
        parts["clips"] = Pairs(parts["clips"], 1.0, config.seed, key="clips")
    if "identity" in parts and not parts["identity"].persons:
        raise ValueError(f"data.identity: found nobody who is known in {data.identity}, expected photos of people: "
                         "those without go to data.landmarks")
    return Mixture(parts, shares, config.batch_size)


def shown_photos(config, model: MorphableModel):
    """The photos (data/photos.py) that config.data.shown names, for a report: plain crops. ValueError: none there."""
    from sfm_jax.data.photos import Photos, open_photos

    try:
        source = open_photos(config.data.shown)
    except ValueError as error:
        raise ValueError(f"data.shown: {error}") from None
    sizes = len(model.identity_basis), len(model.expression_basis)
    return Photos(source, sizes, config.image_size, augmentation=None, max_bad_fraction=config.data.max_bad_fraction,
                  seed=config.seed)


def _synthetic(config, photos, name):
    """Photos, or as many of them in clips."""
    length = config.data.synthetic_photos
    if name == "clips":
        photos = SyntheticClips(photos, max(length // config.data.clip_frames, 1), config.data.clip_frames)
        length = photos.persons * config.data.clip_frames
    return SyntheticPart(photos, length)


def _pairs(config, part):
    """Photos in pairs: of config.data.pair_list, or at random."""
    place = config.data.pair_list
    if place and config.data.pairs == SYNTHETIC:
        raise ValueError("data.pair_list: for photos that have names, found data.pairs='synthetic'")
    if config.data.pairs != SYNTHETIC:
        return Pairs(part, config.data.positive, config.seed, read_pairs(place, part.names()) if place else None)
    return Pairs(part, config.data.positive, config.seed, turned=config.data.turned)


def _collection(config, model, source, clips):
    from sfm_jax.data.photos import Photos, open_photos

    sizes = len(model.identity_basis), len(model.expression_basis)
    photos = Photos(open_photos(source), sizes, config.image_size, max_bad_fraction=config.data.max_bad_fraction,
                    seed=config.seed, mirror_people=clips)
    return PhotoPart(photos)
