"""The README's table of the Siamese network beside the same network without the method's terms: finished workdirs.

    python -m sfm_jax.main --config=configs/siamese.py
    python -m sfm_jax.main --config=configs/siamese.py --workdir=runs/siamese_plain \
        --config.loss.contrastive=0.0 --config.loss.same_features=0.0
    python -m experiments.siamese [--siamese=runs/siamese] [--plain=runs/siamese_plain]
"""

import argparse

from experiments.results import read_runs, runs_table, write_result

ROWS = {
    "pose/within_mm": ("shapes of 50 people over seven yaws, one person's apart by", "{:.2f} mm"),
    "pose/ratio": ("the same, between / within people", "{:.2f}"),
    "sir/between_within_ratio": ("shapes of any photos of 100 people, between / within people", "{:.2f}"),
    "heldout/verification_accuracy": ("verification from shape codes", "{:.3f}"),
    "heldout/rank1": ("rank-1 from shape codes", "{:.3f}"),
    "heldout/neutral_shape_error_mm": ("neutral face from one photo", "{:.2f} mm"),
    "heldout/mean_face_error_mm": ("the mean face, for comparison", "{:.2f} mm"),
    "heldout/nme_percent": ("landmarks, NME", "{:.2f} %"),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--siamese", default="runs/siamese")
    parser.add_argument("--plain", default="runs/siamese_plain")
    values = read_runs(vars(parser.parse_args()))
    write_result("siamese", values, table(values))


def table(values: dict) -> str:
    return runs_table(values, ROWS, ["Siamese", "without its terms"])


if __name__ == "__main__":
    main()
