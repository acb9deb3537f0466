"""The README's table of the default run: report.json of a finished workdir as a result.

    python -m sfm_jax.main --config=configs/stage1.py && python -m experiments.stage1 [--workdir=runs/stage1]
"""

import argparse
import json
from pathlib import Path

from experiments.results import machine, markdown_table, write_result

ROWS = {
    "neutral face from a scan, mean vertex error": ("vertex_error_mm", "map_pca_vertex_error_mm", "{:.2f} mm"),
    "best fit to a clean face, mean vertex error": ("best_fit_error_mm", "pca_best_fit_error_mm", "{:.3f} mm"),
    "rank-1 identification": ("rank1", "pca_rank1", "{:.3f}"),
    "true accepts at 1e-3 false accepts": ("tar_at_far_1e-3", "pca_tar_at_far_1e-3", "{:.3f}"),
    "verification accuracy": ("verification_accuracy", "pca_verification_accuracy", "{:.3f}"),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", default="runs/stage1")
    report = json.loads((Path(parser.parse_args().workdir) / "report.json").read_text())
    values = {"machine": machine(), "report": report}
    write_result("stage1", values, table(values))


def table(values: dict) -> str:
    report = values["report"]
    rows = [[title, *(form.format(report[f"heldout/{name}"]) for name in (ours, theirs))]
            for title, (ours, theirs, form) in ROWS.items()]
    what = f"{report['heldout/persons']} held-out people, {report['heldout/scans']} scans"
    text = markdown_table([what, "sphere codes", "classical PCA"], rows)
    return f"{text}\n\n{report['run/steps']} steps, {report['run/seconds']:.0f} s from command to report."


if __name__ == "__main__":
    main()
