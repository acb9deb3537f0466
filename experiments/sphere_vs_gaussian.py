"""The paper's claim, put to the test: can recognition and reconstruction fall together on a sphere, and not without?

Trains stage 1 over a sweep of the recognition weight, for codes on the sphere ("hard"), near it ("soft") and Gaussian
ones, three seeds each, on scans much harder than the default's, and measures held-out people. Everything else is
equal: data, encoder, steps, number of components.

    python -m experiments.sphere_vs_gaussian            # about 25 minutes on two cores
    python -m experiments.sphere_vs_gaussian --quick    # one seed, few steps: does it run?

Writes experiments/results/sphere_vs_gaussian.{json,md} and docs/images/sphere_vs_gaussian.png.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
from matplotlib import rc_context

from configs.stage1 import get_config
from experiments.results import machine, markdown_table, write_result
from sfm_jax.evaluation import figures
from sfm_jax.tasks import create_task
from sfm_jax.tasks.sphere_measures import measure_heldout, summarise
from sfm_jax.training import loop
from sfm_jax.training.compilation import enable_compilation_cache

KINDS = ("hard", "soft", "gaussian")
WEIGHTS = (0.0, 0.3, 1.0)
SEEDS = (0, 1, 2)
HARD_SCANS = {"deformation": 4.0, "weight": 3.0, "noise": 1.5, "missing": 6}
SCALE = 24.0
COLUMNS = {
    "vertex_error_mm": "from scans, mm", "best_fit_error_mm": "best fit, mm", "cross_entropy": "cross-entropy",
    "rank1": "rank-1", "tar_at_far_1e-3": "TAR at FAR 1e-3",
}
PICTURE = Path(__file__).parents[1] / "docs" / "images" / "sphere_vs_gaussian.png"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    seeds, weights, steps = (SEEDS[:1], WEIGHTS[1:2], 20) if quick else (SEEDS, WEIGHTS, 200)
    enable_compilation_cache()
    runs = []
    for seed in seeds:
        for kind in KINDS:
            runs += sweep(kind, seed, weights, steps)
        if not quick:  # after each seed: an interrupted sweep has something to show
            values = {"machine": machine(), "steps": steps, "seeds": seed + 1, "scans": HARD_SCANS, "runs": runs}
            write_result("sphere_vs_gaussian", values, table(values))
            picture(runs).savefig(PICTURE, dpi=110, facecolor="white")


def sweep(kind, seed, weights, steps):
    """One run for each weight; data and start are shared."""
    config = get_config()
    config.sphere, config.seed, config.steps, config.log_every, config.save_every = kind, seed, steps, steps, steps
    config.data.capture.update(HARD_SCANS)
    task = create_task(config)
    for weight in weights:
        config.loss.identity = weight
        with tempfile.TemporaryDirectory() as workdir:
            result = loop.train(task, config, Path(workdir))
        heldout = measure_heldout(task, result.params, result.state)
        numbers, _ = summarise(task, heldout, result.params)
        run = {"kind": kind, "seed": seed, "weight": weight, "cross_entropy": cross_entropy(heldout.z, heldout.labels)}
        run |= {name: float(numbers[f"heldout/{name}"]) for name in COLUMNS if name != "cross_entropy"}
        run |= {f"pca_{name}": float(numbers[f"heldout/{key}"]) for name, key in (
            ("vertex_error_mm", "map_pca_vertex_error_mm"), ("best_fit_error_mm", "pca_best_fit_error_mm"),
            ("rank1", "pca_rank1"), ("tar_at_far_1e-3", "pca_tar_at_far_1e-3"))}
        print({key: round(value, 4) if isinstance(value, float) else value for key, value in run.items()}, flush=True)
        yield run


def cross_entropy(z, labels):
    """Identification of held-out probes against one gallery scan a person: -log softmax(24 cos) of the right person."""
    _, first = np.unique(labels, return_index=True)
    probes = np.setdiff1d(np.arange(len(labels)), first)
    logits = SCALE * (z[probes] @ z[first].T)
    logits -= logits.max(1, keepdims=True)
    chosen = logits[np.arange(len(probes)), labels[probes]]
    return float(np.mean(np.log(np.exp(logits).sum(1)) - chosen))


def spread(runs, kind, weight, name):
    values = [run[name] for run in runs if run["kind"] == kind and run["weight"] == weight]
    return np.mean(values), np.std(values)


def table(values: dict) -> str:
    runs, rows = values["runs"], []
    for weight in sorted({run["weight"] for run in runs}):
        for kind in KINDS:
            cells = [spread(runs, kind, weight, name) for name in COLUMNS]
            rows.append([f"{weight:g}", kind, *(f"{mean:.3f} ± {std:.3f}" for mean, std in cells)])
    pca = [np.mean([run[f"pca_{name}"] for run in runs]) if f"pca_{name}" in runs[0] else None for name in COLUMNS]
    rows.append(["", "classical PCA", *("" if value is None else f"{value:.3f}" for value in pca)])
    text = markdown_table(["recognition weight", "codes", *COLUMNS.values()], rows)
    return (f"{text}\n\n{values['steps']} steps; mean ± standard deviation over {values['seeds']} seeds, the people "
            "of which are the same.")


def picture(runs):
    with rc_context(figures.STYLE):
        figure = figures.Figure(figsize=(9, 3.6), layout="constrained")
        axes = figure.subplots(1, 2)
        for ax, name in zip(axes, ("rank1", "cross_entropy"), strict=True):
            for kind in KINDS:
                weights = sorted({run["weight"] for run in runs})
                x, x_spread = np.transpose([spread(runs, kind, weight, name) for weight in weights])
                y, y_spread = np.transpose([spread(runs, kind, weight, "vertex_error_mm") for weight in weights])
                ax.errorbar(x, y, y_spread, x_spread, marker="o", markersize=4, capsize=2, label=kind)
                for a, b, weight in zip(x, y, weights, strict=True):
                    if kind == "hard":
                        ax.annotate(f"{weight:g}", (a, b), (4, -11), textcoords="offset points", fontsize=7.5)
            ax.set_xlabel({"rank1": "rank-1 identification", "cross_entropy": "identification cross-entropy"}[name])
            ax.set_ylabel("vertex error from scans, mm")
            ax.legend()
        return figure


if __name__ == "__main__":
    main()
