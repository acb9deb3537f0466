"""The README's table and picture of the default runs on photos: finished workdirs as a result.

    python -m sfm_jax.main --config=configs/stage2.py && python -m sfm_jax.main --config=configs/sir.py
    python -m experiments.photos [--stage2=runs/stage2] [--sir=runs/sir]
"""

import argparse
import json
from pathlib import Path

from experiments.results import machine, markdown_table, write_result

ROWS = {
    "heldout/nme_percent": ("landmarks, NME", "{:.2f} %"),
    "heldout/neutral_shape_error_mm": ("neutral face from one photo", "{:.2f} mm"),
    "heldout/mean_face_error_mm": ("the mean face, for comparison", "{:.2f} mm"),
    "heldout/rank1": ("rank-1 from shape codes", "{:.3f}"),
    "heldout/rank1_chance": ("by chance", "{:.3f}"),
    "heldout/verification_accuracy": ("verification from shape codes", "{:.3f}"),
    "sir/between_within_ratio": ("shapes, between / within people", "{:.2f}"),
    "sir/geometry_rank1": ("rank-1 from shapes", "{:.3f}"),
    "sir/code_geometry_spearman": ("code and shape distance, Spearman", "{:.3f}"),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stage2", default="runs/stage2")
    parser.add_argument("--sir", default="runs/sir")
    folders = vars(parser.parse_args())
    reports = {name: json.loads((Path(folder) / "report.json").read_text()) for name, folder in folders.items()}
    first = reports["stage2"]
    rows = [[title, *(form.format(report[key]) for report in reports.values())] for key, (title, form) in ROWS.items()]
    text = markdown_table([f"{first['heldout/persons']} held-out people, {first['heldout/photos']} synthetic photos",
                           "stage 2, sphere", "SIR, Gaussian"], rows)
    told = "; ".join(f"{name}: {report['run/steps']} steps, {report['run/seconds'] / 60:.0f} min"
                     for name, report in reports.items())
    write_result("photos", {"machine": machine(), "reports": reports}, f"{text}\n\nFrom command to report: {told}.")


if __name__ == "__main__":
    main()
