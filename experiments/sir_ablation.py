"""What each part of learning from photos is worth: SIR whole, without one part at a time, and on the sphere.

The same photos, people, network and steps for all; measured on held-out people (data/synthetic.py).

    python -m experiments.sir_ablation            # about half an hour on two cores
    python -m experiments.sir_ablation --quick    # few steps: does it run?

Writes experiments/results/sir_ablation.{json,md}.
"""

import argparse
import tempfile
from pathlib import Path

import jax

from configs.sir import get_config
from experiments.results import machine, markdown_table, write_result
from sfm_jax.tasks import create_task
from sfm_jax.tasks.photo_measures import Examination, measure_heldout, summarise
from sfm_jax.training import loop
from sfm_jax.training.compilation import enable_compilation_cache

SETTINGS = {  # name -> changes of configs/sir.py
    "SIR": {},
    "without identity": {"loss.identity": 0.0},
    "without distribution (KL)": {"loss.kl": 0.0},
    "without weights of the centre": {"weighted_centre": False},
    "without centre": {"loss.centre": 0.0},
    "without confidence": {"confidence": False},
    "on the sphere": {"sphere": "hard"},
}
# Smaller than the default run, so that seven runs take no longer than two of it.
SMALL = {"image_size": 64, "render_size": 32, "steps": 500, "data.persons": 500, "data.heldout_persons": 100,
         "log_every": 100, "save_every": 500}
COLUMNS = {
    "heldout/nme_percent": "NME, %", "heldout/neutral_shape_error_mm": "neutral face, mm",
    "heldout/verification_accuracy": "verification, codes", "heldout/rank1": "rank-1, codes",
    "sir/between_within_ratio": "between / within", "sir/geometry_rank1": "rank-1, shapes",
    "sir/geometry_verification_accuracy": "verification, shapes", "sir/code_geometry_spearman": "Spearman",
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    enable_compilation_cache()
    jax.config.update("jax_num_cpu_devices", 2)
    runs = {}
    for name, changes in SETTINGS.items():
        runs[name] = run(SMALL | changes | ({"steps": 4} if quick else {}))
        print(name, {key: round(runs[name][key], 4) for key in COLUMNS}, flush=True)
        if not quick:  # after each: an interrupted study has something to show
            values = {"machine": machine(), "settings": SMALL, "runs": runs}
            write_result("sir_ablation", values, table(values))


def run(changes):
    """The numbers of one training."""
    config = get_config()
    config.update_from_flattened_dict(changes)
    task = create_task(config)
    with tempfile.TemporaryDirectory() as workdir:
        result = loop.train(task, config, Path(workdir))
    return summarise(task, measure_heldout(Examination(task, result.params, result.state)))[0]


def table(values: dict) -> str:
    runs, settings = values["runs"], values["settings"]
    rows = [[name, *(f"{numbers[key]:.3f}" for key in COLUMNS)] for name, numbers in runs.items()]
    first = next(iter(runs.values()))
    text = markdown_table(["", *COLUMNS.values()], rows)
    return (f"{text}\n\n{settings['steps']} steps at {settings['image_size']} pixels, one seed; mean face "
            f"{first['heldout/mean_face_error_mm']:.3f} mm, rank-1 by chance {first['heldout/rank1_chance']:.3f}.")


if __name__ == "__main__":
    main()
