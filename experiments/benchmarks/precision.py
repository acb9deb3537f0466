"""What a network in bfloat16 costs in accuracy: the one that comes with the package, geometry in float32 as always.

    python -m experiments.benchmarks.precision [--photos=600]

The same weights read the same synthetic photos of people they were not trained on, once in each precision. Writes
experiments/results/precision.{json,md}. Speed is not compared: processors without bfloat16 are slower in it.
"""

import argparse
import copy

import jax
import jax.numpy as jnp
import numpy as np

from configs.stage2 import get_config
from experiments.results import machine, markdown_table, write_result
from sfm_jax.inference.default_encoder import load_default_encoder
from sfm_jax.tasks.photo_data import split_people, synthetic_photos

PRECISIONS = ("float32", "bfloat16")
BATCH = 50
ROWS = {
    "landmarks": ("landmarks, pixels of a crop of {size}", "{:.3f}"), "neutral": ("neutral face, mm", "{:.3f}"),
    "rotation": ("rotation, degrees", "{:.3f}"), "code": ("identity code, degrees on the sphere", "{:.2f}"),
}


def answers(count, detail=0):
    """{precision: {what: [N, ..]}} of the network, and "truth"."""
    encoder, params, state = load_default_encoder(detail)
    config = get_config()
    config.image_size = encoder.image_size
    config.detail = detail
    people = split_people(config, encoder.model).heldout
    photos = synthetic_photos(config, encoder.model, people, seed=1)
    shoot = jax.jit(lambda ids: photos.shoot(photos.scenes(ids)))
    records = [jax.device_get(shoot(jnp.arange(begin, begin + BATCH))) for begin in range(0, count, BATCH)]
    found = {"truth": {"landmarks": np.concatenate([record["landmarks"] for record in records]),
                       "rotation": np.concatenate([record["rotation"] for record in records])}}
    for precision in PRECISIONS:
        network = copy.copy(encoder)
        network.network = encoder.network.clone(dtype=precision)

        def read(images, network=network):
            prediction, _ = network.predict(params, state, images)
            face = network.decoder(params)(prediction.codes, network.image_size)
            return {"landmarks": face.landmarks, "neutral": face.neutral, "rotation": prediction.codes.rotation,
                    "code": prediction.z}

        # Else XLA leaves roundings out where the processor has no bfloat16, and nothing would be measured.
        read = jax.jit(read, compiler_options={"xla_allow_excess_precision": False})
        parts = [jax.device_get(read(record["image"])) for record in records]
        found[precision] = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return found, encoder.image_size


def distances(one, other):
    """{what: mean distance of two answers}."""
    def angle(cosine):
        return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))).mean())

    found = {}
    for name in one.keys() & other.keys():
        a, b = np.asarray(one[name], np.float64), np.asarray(other[name], np.float64)
        if name == "rotation":
            found[name] = angle((np.einsum("nij,nij->n", a, b) - 1) / 2)
        elif name == "code":
            found[name] = angle((a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1))
        else:
            found[name] = float(np.linalg.norm(a - b, axis=-1).mean())
    return found


def table(values):
    rows = []
    for name, (title, form) in ROWS.items():
        cells = [form.format(values[column][name]) if name in values[column] else "-"
                 for column in ("difference", *PRECISIONS)]
        rows.append([title.format(size=values["size"]), *cells])
    return markdown_table([f"{values['photos']} synthetic photos", "bfloat16 from float32", "float32 from the truth",
                           "bfloat16 from the truth"], rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=int, default=600)
    count = parser.parse_args().photos // BATCH * BATCH
    found, size = answers(count)
    values = {"machine": machine(), "photos": count, "size": size,
              "difference": distances(found["float32"], found["bfloat16"]),
              **{precision: distances(found["truth"], found[precision]) for precision in PRECISIONS}}
    write_result("precision", values, table(values))
    print(table(values))


if __name__ == "__main__":
    main()
