"""The README's table and picture of the default runs on photos: finished workdirs as a result.

    python -m sfm_jax.main --config=configs/stage2.py && python -m sfm_jax.main --config=configs/sir.py
    python -m experiments.photos [--stage2=runs/stage2] [--sir=runs/sir]
"""

import argparse

from experiments.results import read_runs, runs_table, write_result

ROWS = {
    "heldout/nme_percent": ("landmarks, NME", "{:.2f} %"),
    "heldout/neutral_shape_error_mm": ("neutral face from one photo", "{:.2f} mm"),
    "heldout/mean_face_error_mm": ("the mean face, for comparison", "{:.2f} mm"),
    "heldout/rank1": ("rank-1 from shape codes", "{:.3f}"),
    "heldout/rank1_chance": ("by chance", "{:.3f}"),
    "heldout/verification_accuracy": ("verification from shape codes", "{:.3f}"),
    "sir/between_within_ratio": ("shapes of 100 of them, between / within people", "{:.2f}"),
    "sir/geometry_rank1": ("rank-1 from their shapes, by chance 0.010", "{:.3f}"),
    "sir/code_geometry_spearman": ("their code and shape distances, Spearman", "{:.3f}"),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stage2", default="runs/stage2")
    parser.add_argument("--sir", default="runs/sir")
    values = read_runs(vars(parser.parse_args()))
    write_result("photos", values, table(values))


def table(values: dict) -> str:
    return runs_table(values, ROWS, ["stage 2, sphere", "SIR, Gaussian"])


if __name__ == "__main__":
    main()
