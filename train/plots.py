"""Draws figures over steps of something as a PNG of several small panels with one legend."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitdemo.errors import ConfigError, DataError

# Okabe and Ito 2008: told apart also by people who do not see all colours.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9")
_STYLES, _MARKERS = ("-", "--", ":"), "osD^vPX"
_ACROSS = 3  # panels in a row


@dataclass(frozen=True)
class Panel:
    """One panel: its title, what the steps are, their names, and the lines by name, in percent."""

    title: str
    axis: str
    steps: Sequence[str]
    lines: Mapping[str, Sequence[float]]


def draw_panels(panels: Iterable[Panel], file: Path, title: str) -> None:
    """Write the PNG; the legend takes the place after the last panel.

    Raises:
        ConfigError: matplotlib is not installed.
        DataError: the file cannot be written.
    """
    figure_class = _figure()
    panels = list(panels)
    rows = -(-(len(panels) + 1) // _ACROSS)
    figure = figure_class(figsize=(4.2 * _ACROSS, 3.4 * rows), layout="constrained")
    figure.suptitle(title)
    highest = max((value for panel in panels for of in panel.lines.values() for value in of),
                  default=0)
    handles: dict[str, Any] = {}
    for i, panel in enumerate(panels):
        axes = figure.add_subplot(rows, _ACROSS, i + 1)
        for number, (name, values) in enumerate(panel.lines.items()):
            again, place = divmod(number, len(_COLOURS))
            [handles[name]] = axes.plot(
                range(len(values)), values, color=_COLOURS[place], markersize=5,
                marker=_MARKERS[place], linestyle=_STYLES[again % len(_STYLES)])
        axes.set_xticks(range(len(panel.steps)), panel.steps)
        axes.set(title=panel.title, xlabel=panel.axis, ylim=(0, 1.05 * highest or 1))
        axes.grid(alpha=0.25)
        if i % _ACROSS == 0:
            axes.set_ylabel("percent")
    last = figure.add_subplot(rows, _ACROSS, len(panels) + 1)
    last.axis("off")
    last.legend(handles.values(), handles.keys(), loc="center left", frameon=False, fontsize=9)
    _save(figure, file)


def draw_bars(bars: dict[str, dict[str, float]], file: Path, title: str) -> None:
    """One panel a figure, one bar a variant: ``bars`` is figure -> variant -> percent.

    Raises:
        ConfigError: matplotlib is not installed.
        DataError: the file cannot be written.
    """
    variants = list(dict.fromkeys(name for of in bars.values() for name in of))
    rows = -(-len(bars) // 2)
    figure = _figure()(figsize=(12, rows * (1 + 0.3 * len(variants))), layout="constrained")
    figure.suptitle(title)
    for i, (name, values) in enumerate(bars.items()):
        axes = figure.add_subplot(rows, 2, i + 1)
        drawn = axes.barh(range(len(values)), list(values.values()), color=_COLOURS[0])
        axes.bar_label(drawn, fmt="%.1f", padding=3, fontsize=8)
        axes.set_yticks(range(len(values)), list(values))
        axes.invert_yaxis()
        low, high = min(0.0, *values.values()), max(0.0, *values.values())
        room = 0.15 * (high - low)  # for the numbers, which stand beyond the bars
        axes.set(title=name, xlabel="percent",
                 xlim=(low - room if low < 0 else 0, high + room or 1))
    _save(figure, file)


def _figure() -> Any:
    """matplotlib's figure, without its state that all programs of a process share."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError("a plot needs matplotlib, which is not installed. Install it with: "
                          "pip install -r requirements-train.txt") from error
    return Figure


def _save(figure: Any, file: Path) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(file, format="png", dpi=110)
    except OSError as error:
        raise DataError(f"the plot {file} cannot be written: {error.strerror}.") from error
