"""The README's table and pictures of learned detail, from a finished workdir.

    python -m sfm_jax.main --config=configs/detail.py
    python -m experiments.detail [--detail=runs/detail]
"""

import argparse
import json
from pathlib import Path

from experiments.results import machine, markdown_table, report_picture, write_result

PICTURES = {"detail": "Held-out people", "detail_given_shape": "Held-out people, given their shape"}  # section
ROWS = (  # title, unit, key of the coarse face, of the fine one
    ("normals, off by", "{:.2f} degrees", "normal_error_coarse_degrees", "normal_error_fine_degrees"),
    ("colours, distance to the photo (sRGB)", "{:.4f}", "photo_error_coarse", "photo_error_fine"),
    ("true displacement, and off by", "{:.3f} mm", "true_relief_mm", "relief_error_mm"),
    ("displacement, correlation with the true one", "{:.2f}", None, "correlation"),
    ("the same, with the drawn wrinkles alone", "{:.2f}", None, "wrinkle_correlation"),
    ("largest displacement at brows, eyes and nose tip", "{:.0f} mm", None, "largest_in_masked_mm"),
)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--detail", default="runs/detail")
    workdir = Path(parser.parse_args().detail)
    report = json.loads((workdir / "report.json").read_text())
    values = {"machine": machine(), "report": report}
    write_result("detail", values, table(values))
    for name, section in PICTURES.items():
        report_picture(workdir, section, Path(f"docs/images/{name}.jpg"))


def table(values: dict) -> str:
    report = values["report"]
    rows = [[title, *(form.format(report[f"{group}/{key}"]) if key else "" for group in ("detail", "given_shape")
                      for key in keys)] for title, form, *keys in ROWS]
    text = markdown_table([f"{report['detail/photos']} held-out people with known wrinkles", "coarse", "with detail",
                           "their true shape", "with detail"], rows)
    told = (f"Displacement finer than 6 mm, and without the {report['detail/apart_percent']:.1f} % of pixels in which "
            f"the coarse surface and the true one are more than 10 mm apart. {report['run/steps']} steps, "
            f"{report['run/seconds'] / 60:.0f} min from command to report")
    return f"{text}\n\n{told}."


if __name__ == "__main__":
    main()
