"""Photos of any collection as array_record shards, which training reads as --config.data.identity=shards:OUT.

    python -m experiments.build_photo_shards folder:photos shards/mine --processes=8
    python -m experiments.build_photo_shards aflw:300W_LP shards/300w_lp --size=0

Killed or stopped, it goes on where it was when called again. Names what it leaves out.
"""

import argparse
import logging
import time

from sfm_jax.data.photos import open_photos
from sfm_jax.data.shards import Packing, build_shards


def main():
    defaults = Packing()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", help="folder:DIR, folder:LABELS.csv, aflw:DIR, tfds:NAME or shards:DIR")
    parser.add_argument("out", help="folder to write to")
    parser.add_argument("--size", type=int, default=defaults.size, help="pixels of the stored crops, 0: whole files")
    parser.add_argument("--margin", type=float, default=defaults.margin, help="side of a crop in face boxes")
    parser.add_argument("--quality", type=int, default=defaults.quality, help="of the stored JPEG")
    parser.add_argument("--photos-per-shard", type=int, default=defaults.photos_per_shard)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--max-bad-fraction", type=float, default=0.01)
    options = parser.parse_args()
    logging.basicConfig(format="%(message)s")
    started = time.time()
    try:
        packing = Packing(options.size, options.margin, options.quality, options.photos_per_shard)
        manifest = build_shards(open_photos(options.source), options.out, packing, options.processes,
                                options.max_bad_fraction)
    except ValueError as error:
        parser.exit(1, f"{error}\n")
    print(f"{options.out}: {manifest['photos']} photos of {manifest['persons']} persons, {len(manifest['bad'])} left "
          f"out, {time.time() - started:.0f} s")


if __name__ == "__main__":
    main()
