"""The README's table and picture of cycle-consistency: finished workdirs, with and without the method's terms.

    python -m sfm_jax.main --config=configs/cycle.py
    python -m sfm_jax.main --config=configs/cycle.py --workdir=runs/cycle_plain --config.cycled_pairs=0
    python -m experiments.cycle [--cycle=runs/cycle] [--plain=runs/cycle_plain]
"""

import argparse
from pathlib import Path

from experiments.results import read_runs, report_picture, runs_table, write_result

PICTURE, SECTION = Path("docs/images/cycle.png"), "Through the cycle"  # the first figure of the report's section
ROWS = {
    "disentanglement/off_diagonal": ("what moves though nothing of it does, mean, of 100 photos", "{:.3f}"),
    "disentanglement/pose_moves_identity": ("shape, when the pose moves", "{:.2f}"),
    "disentanglement/pose_moves_expression": ("expression, when the pose moves", "{:.2f}"),
    "disentanglement/expression_moves_identity": ("shape, when the expression moves", "{:.2f}"),
    "disentanglement/expression_moves_pose": ("pose, when the expression moves", "{:.2f}"),
    "disentanglement/light_moves_albedo": ("albedo, when the light moves", "{:.2f}"),
    "disentanglement/expression_response": ("expression: response to a change, of 1", "{:.2f}"),
    "disentanglement/identity_response": ("shape: response to a change of person, of 1", "{:.2f}"),
    "disentanglement/pose_response": ("pose: response to a change, of 1", "{:.2f}"),
    "clips/jitter_mm": ("neutral shape, from frame to frame of 20 clips", "{:.3f} mm"),
    "clips/jitter_degrees": ("error of the pose, from frame to frame", "{:.2f} degrees"),
    "clips/nme_percent": ("landmarks on clips, NME", "{:.2f} %"),
    "heldout/nme_percent": ("landmarks on photos, NME", "{:.2f} %"),
    "heldout/neutral_shape_error_mm": ("neutral face from one photo", "{:.2f} mm"),
    "heldout/mean_face_error_mm": ("the mean face, for comparison", "{:.2f} mm"),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cycle", default="runs/cycle")
    parser.add_argument("--plain", default="runs/cycle_plain")
    workdirs = vars(parser.parse_args())
    values = read_runs(workdirs)
    write_result("cycle", values, table(values))
    report_picture(workdirs["cycle"], SECTION, PICTURE)


def table(values: dict) -> str:
    return runs_table(values, ROWS, ["cycle", "without its terms"])


if __name__ == "__main__":
    main()
