"""Where measured numbers live: one JSON and one Markdown table for each experiment, and the README made from them.

    python -m experiments.results       # put the tables into README.md, between their markers
"""

import base64
import datetime
import io
import json
import os
import platform
import re
from pathlib import Path

from PIL import Image

RESULTS = Path(__file__).parent
README = RESULTS.parents[1] / "README.md"


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
    m = values["machine"]
    (RESULTS / f"{name}.json").write_text(json.dumps(values, indent=1) + "\n")
    note = f"Measured {m['date']} on {m['cores']} cores ({m['processor']}), {m['device']}, jax {m['jax']}."
    (RESULTS / f"{name}.md").write_text(f"{table}\n\n{note}\n")


def markdown_table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def write_runs(name: str, rows: dict[str, tuple[str, str]], workdirs: dict[str, str], titles: list[str],
               of: str = "{heldout/persons} held-out people, {heldout/photos} synthetic photos") -> None:
    """The reports of finished workdirs, a column each, as a result. rows: {key in report.json: (title, format)}."""
    reports = {run: json.loads((Path(folder) / "report.json").read_text()) for run, folder in workdirs.items()}
    cells = [[title, *(form.format(report[key]) for report in reports.values())] for key, (title, form) in rows.items()]
    corner = re.sub(r"\{(.+?)\}", lambda found: str(next(iter(reports.values()))[found[1]]), of)
    told = "; ".join(f"{run}: {report['run/steps']} steps, {report['run/seconds'] / 60:.0f} min"
                     for run, report in reports.items())
    table = markdown_table([corner, *titles], cells)
    write_result(name, {"machine": machine(), "reports": reports}, f"{table}\n\nFrom command to report: {told}.")


def report_picture(workdir: Path, section: str, path: Path) -> None:
    """The first figure of a section of a finished run's report, as a PNG or JPEG."""
    page = (Path(workdir) / "report.html").read_text()
    data = re.search(r"data:image/\w+;base64,([^\"']+)", page[page.index(f"<h2>{section}</h2>"):])[1]
    Image.open(io.BytesIO(base64.b64decode(data))).save(path, optimize=True, quality=85)


def refresh_readme() -> None:
    """Replace what stands between <!-- table NAME --> and <!-- end --> by results/NAME.md."""
    text = README.read_text()
    for name in re.findall(r"<!-- table (\w+) -->", text):
        table = (RESULTS / f"{name}.md").read_text().strip()
        text = re.sub(rf"(<!-- table {name} -->\n).*?(<!-- end -->)", lambda m, t=table: f"{m[1]}{t}\n{m[2]}", text,
                      flags=re.DOTALL)
    README.write_text(text)
