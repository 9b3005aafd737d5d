"""Draws the log of a run: losses, learning rate and validation over the steps."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe and Ito 2008: told apart also by people who do not see all colours.
COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8A8A8A")
DASHES = ("-", "--", "-.", ":")
NAMES = {"loss": "total (weighted)", "caption": "captions", "question": "answers",
         "contrastive": "finding", "match": "matching", "region": "words in regions",
         "attention": "where it looks"}
FIGURES = {"bleu4_en": "captions, BLEU-4, English", "bleu2_zh": "captions, BLEU-2, Chinese",
           "find_r1_en": "text to picture R@1, English",
           "name_r1_en": "picture to text R@1, English",
           "find_r1_zh": "text to picture R@1, Chinese",
           "name_r1_zh": "picture to text R@1, Chinese"}
BELOW: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.14), "fontsize": 8,
                         "frameon": False}
SMOOTH = 50  # lines are means over about so many parts of the run


def draw(entries: Sequence[dict[str, Any]], file: Path, name: str) -> None:
    """Write a PNG of the run ``name``."""
    steps = [entry for entry in entries if "loss" in entry]
    looks = [entry for entry in entries if "validation" in entry]
    figure = Figure(figsize=(12, 9), layout="constrained")
    figure.suptitle(f"Training of {name}: {steps[-1]['step'] if steps else 0} steps")
    grid = figure.add_gridspec(2, 2, height_ratios=(3, 2))
    _losses(figure.add_subplot(grid[0, 0]), steps)
    _validation(figure.add_subplot(grid[0, 1]), looks)
    _rate(figure.add_subplot(grid[1, 0]), steps)
    _total(figure.add_subplot(grid[1, 1]), looks)
    with matplotlib.rc_context({"savefig.dpi": 110}):
        figure.savefig(file, format="png")


def _losses(axes: Axes, steps: Sequence[dict[str, Any]]) -> None:
    parts = [part for part in NAMES if any(part in entry for entry in steps)]
    for i, part in enumerate(parts):
        points = [(entry["step"], entry[part]) for entry in steps if part in entry]
        x, y = zip(*smoothed(points), strict=True)
        axes.plot(x, y, color=COLOURS[i], label=NAMES[part],
                  linewidth=2.2 if part == "loss" else 1.4)
    if parts:
        axes.set_yscale("log")
        axes.legend(ncols=4, **BELOW)
    _label(axes, "Losses of training, running mean", "loss (nats, log scale)")


def _validation(axes: Axes, looks: Sequence[dict[str, Any]]) -> None:
    names = sorted({name for entry in looks for name in entry["validation"]} - {"total"})
    for i, name in enumerate(names):
        points = [(entry["step"], entry["validation"][name]) for entry in looks
                  if name in entry["validation"]]
        x, y = zip(*points, strict=True)
        axes.plot(x, y, color=COLOURS[i % len(COLOURS)], marker="o", markersize=3.5,
                  linestyle=DASHES[i // len(COLOURS) % len(DASHES)],
                  label=FIGURES.get(name) or name.replace("accuracy_", "answers, "))
    if names:
        axes.set_ylim(bottom=0)
        axes.legend(ncols=2, **BELOW)
    _label(axes, "Validation, quick look", "percent")


def _rate(axes: Axes, steps: Sequence[dict[str, Any]]) -> None:
    points = [(entry["step"], entry["learning_rate"]) for entry in steps
              if "learning_rate" in entry]
    if points:
        axes.plot(*zip(*points, strict=True), color=COLOURS[1])
        axes.set_ylim(bottom=0)
        axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 2))
    _label(axes, "Learning rate of new parts", "learning rate")


def _total(axes: Axes, looks: Sequence[dict[str, Any]]) -> None:
    points = [(entry["step"], entry["validation"]["total"]) for entry in looks]
    if points:
        axes.plot(*zip(*points, strict=True), color=COLOURS[0], marker="o", markersize=3.5)
        best = max(points[1:] or points, key=lambda point: point[1])  # the first is the start
        axes.plot(*best, color=COLOURS[2], marker="*", markersize=14, linestyle="",
                  label=f"best: {best[1]:.1f} at step {best[0]}, which is kept")
        axes.legend(fontsize=8)
    _label(axes, "Mean of the validation figures", "percent")


def _label(axes: Axes, title: str, unit: str) -> None:
    axes.set_title(title, fontsize=10)
    axes.set_xlabel("step")
    axes.set_xlim(left=0)
    axes.set_ylabel(unit)
    axes.grid(alpha=0.25)


def smoothed(points: Sequence[tuple[int, float]]) -> list[tuple[float, float]]:
    """Running means over a fiftieth of the points, at the last of each."""
    width = max(1, len(points) // SMOOTH)
    values = [value for _, value in points]
    return [(points[i][0], sum(values[max(0, i + 1 - width):i + 1]) / min(width, i + 1))
            for i in range(len(points))]
