"""What a change of the code did to a training step: step_profile of an older checkout and of this one, side by side.

    PYTHONPATH=OLDER python experiments/benchmarks/step_profile.py --save=older.json
    python -m experiments.benchmarks.step_profile --save=newer.json
    python -m experiments.benchmarks.step_costs older.json newer.json

Writes experiments/results/step_costs.{json,md} of the configs that both have.
"""

import argparse
import json
from pathlib import Path

from experiments.results import markdown_table, write_result

COLUMNS = {"step": ("step, ms", 1e3), "batch": ("batch on the host, ms", 1e3), "compile": ("compile, s", 1.0)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("older", type=Path)
    parser.add_argument("newer", type=Path)
    older, newer = (json.loads(path.read_text()) for path in vars(parser.parse_args()).values())
    if older["machine"] != newer["machine"]:
        parser.error(f"found two machines or days, expected one: {older['machine']} and {newer['machine']}")
    values = {"machine": newer["machine"], "older": older["configs"], "newer": newer["configs"]}
    write_result("step_costs", values, table(values))


def table(values: dict) -> str:
    sides = values["older"], values["newer"]
    rows = [[name, *(" to ".join(f"{unit * side[name][key]:.0f}" for side in sides)
                     for key, (_, unit) in COLUMNS.items())] for name in values["newer"] if name in values["older"]]
    return markdown_table(["config", *(title for title, _ in COLUMNS.values())], rows)


if __name__ == "__main__":
    main()
