"""Synthetic photos as array_record shards with TFDS metadata, with every label, for any reader of TFDS.

    python -m experiments.export_synthetic shards/synthetic --photos=20000 --persons=1000 --size=112

Train on them with --config.data.all=shards:shards/synthetic: they show nobody who is held out for reports. Killed, it
goes on where it was when called again.
"""

import argparse
import logging
import time

from sfm_jax.data.people import disjoint_people
from sfm_jax.data.scene import Conditions
from sfm_jax.data.shards import Packing, build_shards
from sfm_jax.data.synthetic import SyntheticPhotos
from sfm_jax.data.synthetic_collection import SyntheticCollection
from sfm_jax.morphable.default import load_default
from sfm_jax.training.compilation import enable_compilation_cache


def main(arguments: list[str] | None = None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", help="folder to write to")
    parser.add_argument("--photos", type=int, default=20_000)
    parser.add_argument("--persons", type=int, default=1000)
    parser.add_argument("--size", type=int, default=112, help="pixels")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--photos-per-shard", type=int, default=Packing().photos_per_shard)
    options = parser.parse_args(arguments)
    logging.basicConfig(format="%(message)s")
    enable_compilation_cache()
    try:
        people, _ = disjoint_people(load_default(0), options.persons, heldout=2, seed=0)
    except ValueError as error:
        parser.exit(2, f"{error}\n")
    photos = SyntheticPhotos(load_default(0), people, options.size, Conditions(), options.seed)
    started = time.time()
    try:
        packing = Packing(size=0, photos_per_shard=options.photos_per_shard)
        manifest = build_shards(SyntheticCollection(photos, options.photos), options.out, packing)
    except ValueError as error:
        parser.exit(1, f"{error}\n")
    print(f"{options.out}: {manifest['photos']} photos of {manifest['persons']} persons, {time.time() - started:.0f} s")


if __name__ == "__main__":
    main()
