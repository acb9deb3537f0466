"""What training costs on a TPU pod, counted from the step itself: bytes, collectives and operations of one chip.

    python -m experiments.benchmarks.pod [--devices=256] [--persons=2000000] [--photos=32] [--trunk=resnet50]

Traces the training step of configs/stage2.py for that many devices, of which none is needed: shapes alone are followed.
The collectives are those of the step's program; the head and its centres have a row for every person. Writes
experiments/results/pod.{json,md}, which experiments/SCALING.md reads.
"""

import argparse
import collections
import math
import shutil
import tempfile
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from configs.stage2 import get_config
from experiments.results import machine, markdown_table, write_result
from sfm_jax.data.photos import Photos, open_photos
from sfm_jax.data.shards import build_shards
from sfm_jax.losses.identity import padded_classes
from sfm_jax.tasks import create_task
from sfm_jax.training.optimiser import create_optimiser
from sfm_jax.training.parallel import AXIS, TrainState, split_params, train_step

# Google's figures for a v5e chip (docs.cloud.google.com/tpu/docs/v5e): bfloat16 operations, bytes of memory and of
# traffic with it and with other chips (both directions), a second; chips of a host.
CHIP = {"operations": 197e12, "memory": 16e9, "traffic": 819e9, "links": 400e9, "chips of a host": 8}
PHOTO = Path("docs/images/astronaut.jpg")
COLLECTIVES = ("psum", "pmax", "pmin", "all_gather", "reduce_scatter", "psum_invariant", "all_to_all", "ppermute")


def collectives(jaxpr, times=1):
    """{name: [count, bytes]} of what one device hands over in a program, those in loops as often as they run."""
    found = collections.defaultdict(lambda: [0, 0])
    for equation in jaxpr.eqns:
        if equation.primitive.name in COLLECTIVES:
            sizes = [math.prod(each.aval.shape) * each.aval.dtype.itemsize for each in equation.invars
                     if hasattr(each.aval, "shape")]
            entry = found[equation.primitive.name]
            entry[0] += times
            entry[1] += times * sum(sizes)
        inner = times * equation.params.get("length", 1) if equation.primitive.name == "scan" else times
        for value in jax.tree.leaves(equation.params, is_leaf=lambda leaf: hasattr(leaf, "eqns")
                                     or hasattr(leaf, "jaxpr")):
            program = getattr(value, "jaxpr", value)
            if hasattr(program, "eqns"):
                for name, (count, size) in collectives(program, inner).items():
                    found[name][0] += count
                    found[name][1] += size
    return found


def pod_config(trunk, size=224):
    """configs/stage2.py as a pod would run it, without synthetic photos."""
    config = get_config()
    config.update_from_flattened_dict({"trunk": trunk, "image_size": size, "render_size": size,
                                       "rendered_photos": 0, "precision": "bfloat16"})
    return config


def abstract_step(config, photos, persons=None, devices=1):
    """(task, a step's function, its state as shapes, which of it is split over devices, a batch of so many photos).

    persons: so many the tables of people hold, or as many as the config has; of these rows one device's, of `devices`.
    """
    task = create_task(config)
    batch = task.dataset(photos, config.seed)[0]
    params, state = jax.eval_shape(lambda tree: tree, task.init(jax.random.key(config.seed), batch))
    if persons:
        task.terms.persons = persons
        rows = jax.ShapeDtypeStruct((padded_classes(persons) // devices, params["classes"].shape[1]), jnp.float32)
        params |= {"classes": rows, "centres": rows}
    optimiser = create_optimiser(config.optimiser, config.steps, task.param_labels(params))
    train = jax.eval_shape(
        lambda params, state: TrainState.create(params, state, optimiser, averaged=bool(config.ema_decay)), params,
        state)
    step = train_step(task, optimiser, config.seed, config.ema_decay, config.optimiser.clip_norm)
    return task, step, train, train.split(split_params(task, params), optimiser), batch


def count(devices, persons, photos, trunk, size=224):
    """Bytes, collectives and operations of one device in a step; `photos` of each device."""
    task, step, train, _, batch = abstract_step(pod_config(trunk, size), photos, persons, devices)
    params, state, rows = train.params, train.state, train.params["classes"]
    program = jax.make_jaxpr(step, axis_env=[(AXIS, devices)])(train, batch)

    def nbytes(tree):
        return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))

    def network(network, state, images):
        prediction, _ = task.predict({"network": network, "log_radius": jnp.zeros(())}, state, images)
        return sum(jnp.sum(leaf) for leaf in jax.tree.leaves(prediction))

    images = jax.ShapeDtypeStruct((photos, size, size, 3), jnp.float32)
    lowered = jax.jit(jax.grad(network)).lower(params["network"], state, images)
    tables = nbytes({"classes": rows, "centres": rows})
    return {
        "devices": devices, "persons": persons, "photos": photos, "trunk": trunk,
        "network parameters": nbytes(params["network"]) // 4, "tables with moments": 3 * tables,
        "training state": nbytes(train), "logits": devices * photos * rows.shape[0] * 4,
        "operations of the network": lowered.cost_analysis()["flops"],
        "operations of the head": 6.0 * devices * photos * rows.shape[0] * rows.shape[1],
        "collectives": {name: list(found) for name, found in sorted(collectives(program.jaxpr).items())},
        "parameters but tables": nbytes({k: v for k, v in params.items() if k not in ("classes", "centres")}),
    }


def input_rate(size=224, copies=200):
    """Photos a second that one thread reads from shards, decodes, crops and augments; bytes of one in the shards."""
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        for number in range(copies):
            (folder / "photos" / f"{number % 10}").mkdir(parents=True, exist_ok=True)
            shutil.copy(PHOTO, folder / "photos" / f"{number % 10}" / f"{number}.jpg")
        build_shards(open_photos(f"folder:{folder / 'photos'}"), folder / "shards")
        stored = sum(file.stat().st_size for file in (folder / "shards").rglob("*") if file.is_file())
        photos = Photos(open_photos(f"shards:{folder / 'shards'}"), (64, 52), size, threads=1)
        photos.load(np.arange(8))
        begin = time.perf_counter()
        photos.load(np.arange(copies))
        return {"photos a second of one thread": copies / (time.perf_counter() - begin), "bytes": stored / copies}


def seconds(values):
    """{what: seconds a step} on CHIP, at its peaks."""
    handed = sum(size for _, size in values["collectives"].values())
    operations = values["operations of the network"] + values["operations of the head"]
    return {"operations at 40 % of the peak": operations / (0.4 * CHIP["operations"]),
            "collectives (rings: twice their bytes)": 2 * handed / (CHIP["links"] / 2),
            "tables read and written": 2 * values["tables with moments"] / CHIP["traffic"]}


def table(values):
    rows = []
    for one in values["cases"]:
        handed = sum(size for _, size in one["collectives"].values())
        times = seconds(one)
        rows.append([f"{one['devices']}", f"{one['persons']:,}".replace(",", " "), f"{one['photos']}",
                     f"{one['training state'] / 1e6:.0f} MB", f"{one['logits'] / 1e6:.0f} MB", f"{handed / 1e6:.0f} MB",
                     *(f"{1e3 * value:.1f} ms" for value in times.values())])
    read = values["input"]
    note = (f"\n\nOne thread reads, decodes, crops and augments {read['photos a second of one thread']:.0f} photos a "
            f"second at 224 pixels; one takes {read['bytes'] / 1e3:.0f} kB in the shards.")
    return markdown_table(["chips", "persons", "photos a chip", "training state of a chip", "its logits",
                           "it hands over a step", *seconds(values["cases"][0])], rows) + note


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--devices", type=int, default=256)
    parser.add_argument("--persons", type=int, default=2_000_000)
    parser.add_argument("--photos", type=int, default=32)
    parser.add_argument("--trunk", default="resnet50")
    flags = parser.parse_args()
    cases = [count(devices, persons, flags.photos, flags.trunk)
             for devices, persons in ((8, 20_000), (flags.devices, 20_000), (flags.devices, flags.persons))]
    values = {"machine": machine(), "cases": cases, "input": input_rate()}
    write_result("pod", values, table(values))
    for one in cases:
        print(one)
    print(table(values))


if __name__ == "__main__":
    main()
