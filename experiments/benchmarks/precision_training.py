"""What learning in bfloat16 costs in accuracy: stage 2 from the same start, on the same photos, in either precision.

    python -m sfm_jax.main --config=configs/stage2.py --config.steps=600 --workdir=runs/float32
    XLA_FLAGS=--xla_allow_excess_precision=false python -m sfm_jax.main --config=configs/stage2.py --config.steps=600 \
        --config.precision=bfloat16 --workdir=runs/bfloat16
    python -m experiments.benchmarks.precision_training [--float32=runs/float32] [--bfloat16=runs/bfloat16]

The flag: else XLA leaves roundings out where the processor has no bfloat16, and nothing would be measured. Writes
experiments/results/precision_training.{json,md}.
"""

import argparse

from experiments.results import read_runs, runs_table, write_result

ROWS = {
    "heldout/nme_percent": ("landmarks, NME", "{:.2f} %"),
    "heldout/rotation_error_degrees": ("rotation", "{:.2f} degrees"),
    "heldout/neutral_shape_error_mm": ("neutral face from one photo", "{:.2f} mm"),
    "heldout/mean_face_error_mm": ("the mean face, for comparison", "{:.2f} mm"),
    "heldout/rank1": ("rank-1 from shape codes", "{:.3f}"),
    "heldout/verification_accuracy": ("verification from shape codes", "{:.3f}"),
    "sir/code_geometry_spearman": ("code and shape distance, Spearman", "{:.3f}"),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for precision in ("float32", "bfloat16"):
        parser.add_argument(f"--{precision}", default=f"runs/{precision}")
    values = read_runs(vars(parser.parse_args()))
    write_result("precision_training", values, table(values))


def table(values: dict) -> str:
    return runs_table(values, ROWS, ["float32", "bfloat16"])


if __name__ == "__main__":
    main()
