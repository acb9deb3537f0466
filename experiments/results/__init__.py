"""Where measured numbers live: one JSON and one Markdown table for each experiment, and the pages that show them.

    python -m experiments.results       # remake the tables from the JSON files, in README.md and docs/*.md

Nothing is measured by that: what a table looks like may change without measuring again.
"""

import base64
import datetime
import importlib
import io
import json
import os
import platform
import re
from pathlib import Path

from PIL import Image

RESULTS = Path(__file__).parent
README = RESULTS.parents[1] / "README.md"
TABLES = {  # name -> the module whose table(values) makes the table of NAME.json
    "reconstruct": "experiments.reconstruct", "landmark_fitting": "experiments.benchmarks.landmark_fitting",
    "stage1": "experiments.stage1", "rasteriser": "experiments.benchmarks.rasteriser", "photos": "experiments.photos",
    "sir_ablation": "experiments.sir_ablation", "siamese": "experiments.siamese", "cycle": "experiments.cycle",
    "detail": "experiments.detail", "detail_speed": "experiments.benchmarks.detail",
    "sphere_vs_gaussian": "experiments.sphere_vs_gaussian", "faults": "experiments.faults",
    "hostile_input": "experiments.hostile_input", "step_profile": "experiments.benchmarks.step_profile",
    "precision": "experiments.benchmarks.precision",
    "precision_training": "experiments.benchmarks.precision_training", "scaling": "experiments.benchmarks.scaling",
    "pod": "experiments.benchmarks.pod", "step_costs": "experiments.benchmarks.step_costs",
    "scan_to_mesh": "experiments.benchmarks.scan_to_mesh", "decode": "experiments.benchmarks.decode",
    "rasteriser_device": "experiments.benchmarks.rasteriser", "network_rate": "experiments.benchmarks.network_rate",
    "trunk": "experiments.benchmarks.trunk", "identity_head": "experiments.benchmarks.identity_head",
    "ahead_of_time": "experiments.benchmarks.ahead_of_time",
}


def machine() -> dict:
    """What the numbers were measured on."""
    import jax

    model = ""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists() and (found := re.search(r"model name\s*:\s*(.+)", cpuinfo.read_text())):
        model = found[1].strip()
    return {"date": datetime.date.today().isoformat(), "processor": model or platform.machine(),
            "cores": os.cpu_count(), "device": str(jax.devices()[0].device_kind), "jax": jax.__version__,
            "python": platform.python_version()}


def write_result(name: str, values: dict, table: str) -> None:
    """experiments/results/NAME.json, and NAME.md with the machine and date under the table."""
    (RESULTS / f"{name}.json").write_text(json.dumps(values, indent=1) + "\n")
    (RESULTS / f"{name}.md").write_text(_page(values, table))


def stored(name: str) -> dict:
    """The values of NAME.json; {} if nothing has been measured yet."""
    file = RESULTS / f"{name}.json"
    return json.loads(file.read_text()) if file.exists() else {}


def remade(name: str) -> str:
    """The text of NAME.md, made from NAME.json by the module of TABLES."""
    values = json.loads((RESULTS / f"{name}.json").read_text())
    return _page(values, importlib.import_module(TABLES[name]).table(values))


def _page(values, table):
    m = values["machine"]
    note = f"Measured {m['date']} on {m['cores']} cores ({m['processor']}), {m['device']}, jax {m['jax']}."
    return f"{table}\n\n{note}\n"


def markdown_table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def read_runs(workdirs: dict[str, str]) -> dict:
    """What write_result stores of finished workdirs: their reports by name."""
    reports = {run: json.loads((Path(folder) / "report.json").read_text()) for run, folder in workdirs.items()}
    return {"machine": machine(), "reports": reports}


def runs_table(values: dict, rows: dict[str, tuple[str, str]], titles: list[str],
               of: str = "{heldout/persons} held-out people, {heldout/photos} synthetic photos") -> str:
    """The reports of `read_runs`, a column each. rows: {key in report.json: (title, format)}."""
    reports = values["reports"]
    cells = [[title, *(form.format(report[key]) for report in reports.values())] for key, (title, form) in rows.items()]
    corner = re.sub(r"\{(.+?)\}", lambda found: str(next(iter(reports.values()))[found[1]]), of)
    told = "; ".join(f"{run}: {report['run/steps']} steps, {report['run/seconds'] / 60:.0f} min"
                     for run, report in reports.items())
    return f"{markdown_table([corner, *titles], cells)}\n\nFrom command to report: {told}."


def report_picture(workdir: Path, section: str, path: Path) -> None:
    """The first figure of a section of a finished run's report, as a PNG or JPEG."""
    page = (Path(workdir) / "report.html").read_text()
    data = re.search(r"data:image/\w+;base64,([^\"']+)", page[page.index(f"<h2>{section}</h2>"):])[1]
    Image.open(io.BytesIO(base64.b64decode(data))).save(path, optimize=True, quality=85)


def pages() -> list[Path]:
    """The README, the pages of the documentation, and the plan that reads these numbers."""
    plan = README.parent / "experiments" / "SCALING.md"
    return [README, *sorted((README.parent / "docs").glob("*.md")), *([plan] if plan.exists() else [])]


def tables(text: str) -> dict[str, str]:
    """{name: what stands between <!-- table NAME --> and <!-- end -->} of a page."""
    return dict(re.findall(r"<!-- table (\w+) -->\n(.*?)<!-- end -->", text, flags=re.DOTALL))


def refresh_pages() -> None:
    """Remake results/NAME.md, and the table of that name in the README and the documentation."""
    for page in pages():
        text = page.read_text()
        for name, old in tables(text).items():
            new = remade(name)
            (RESULTS / f"{name}.md").write_text(new)
            text = text.replace(f"<!-- table {name} -->\n{old}", f"<!-- table {name} -->\n{new}")
        page.write_text(text)
