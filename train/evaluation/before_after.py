"""Figures before and after a run, on its own validation split and on another one: what was gained,
and what was forgotten."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from train.data.features import Store
from train.data.reading import Row
from train.evaluation.validation import validate
from vitdemo.disk import replacing
from vitdemo.models.vlm import VLM
from vitdemo.tokens import TextTokenizer

FIGURES = "figures.json"
OWN = "own validation"
Scores = dict[str, float]


@dataclass
class Held:
    """Rows that are held back: their name, the rows, and where their features are."""

    name: str
    rows: Sequence[Row]
    store: Store


class Comparison:
    """Figures before and after, written to figures.json as soon as they are known."""

    def __init__(self, out: Path) -> None:
        self.file = out / FIGURES
        self.figures: dict[str, dict[str, Scores]] = {}

    def before(self, model: VLM, tokenizer: TextTokenizer, held: Sequence[Held]) -> None:
        """Measure the model that the run starts with."""
        self.figures = {part.name: {"before": validate(model, tokenizer, part.rows, part.store)}
                        for part in held}

    def resume(self) -> None:
        """Take the figures before from the file that the run began."""
        if self.file.is_file():
            self.figures = json.loads(self.file.read_text(encoding="utf-8"))

    def after(self, model: VLM, tokenizer: TextTokenizer, held: Sequence[Held],
              store: Callable[[Held], Store]) -> None:
        """Measure what is shipped; ``store`` gives the features by the shipped model."""
        for part in held:
            self.figures.setdefault(part.name, {})["after"] = validate(model, tokenizer, part.rows,
                                                                       store(part))

    def write(self) -> None:
        """Write figures.json.

        Raises:
            DiskError: it cannot be written.
        """
        with replacing([self.file]) as (part,):
            part.write_text(json.dumps(self.figures, indent=2) + "\n", encoding="utf-8")

    def table(self) -> str:
        """The figures for a person: one line each, in percent."""
        return "\n".join([table(self.figures), *worse(self.figures)])


def worse(figures: Mapping[str, Mapping[str, Scores]]) -> list[str]:
    """A sentence for each data set on which the model is worse than it was."""
    return [f"On {name} the model is worse than the one it started from, by "
            f"{both['before']['total'] - both['after']['total']:.1f} points in the mean. Try fewer "
            "--steps, a smaller --learning-rate or --train lora; the start is untouched."
            for name, both in figures.items() if "before" in both and "after" in both
            and both["after"]["total"] < both["before"]["total"]]


def table(figures: Mapping[str, Mapping[str, Scores]]) -> str:
    """Before, after and the difference, in percent, of every data set."""
    lines = []
    for name, both in figures.items():
        before, after = both.get("before", {}), both.get("after", {})
        lines.append(f"{name:28}{'before':>8}{'after':>8}{'change':>8}")
        for figure in after or before:
            old, new = before.get(figure), after.get(figure)
            change = None if old is None or new is None else round(new - old, 1) or 0.0
            lines.append(f"  {figure:26}" + "".join(
                f"{'-':>8}" if value is None else f"{value:{sign}8.1f}"
                for value, sign in ((old, ""), (new, ""), (change, "+"))))
    return "\n".join(lines)
