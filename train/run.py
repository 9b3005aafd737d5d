"""One fine-tuning run: its parts, its loop, and what it saves.

Of w processes the r-th draws the run's steps r, w + r, 2 w + r and so on, and all go on by the mean
of their gradients. One process alone draws every step.
"""

import math
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from tqdm import tqdm

from train.adapt import depthwise_in_float32, parameter_groups, plain, prepare
from train.data.batch_sampler import BatchSampler
from train.data.features import LiveStore, Store, open_features
from train.data.reading import Row
from train.evaluation.before_after import FIGURES, OWN, Held, measure, read, table, validate, write
from train.learn_first import fill_querybank, learn_evidence, warm_up_regions
from train.objectives import build, chosen, draw_step, step_losses
from train.objectives.base import Parts, pictures, to_device
from train.objectives.region_words import RegionWords
from train.settings import Settings, rate_at
from train.state import Average, RunLog, load_state, save_state
from vitdemo.disk import writing
from vitdemo.errors import TrainingError
from vitdemo.instructions import known
from vitdemo.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from vitdemo.models.vlm import VLM

SAVE_MINUTES = 5.0  # between two saved states
PICTURE_DROPOUT = 0.5  # in the picture head, which would know the photographs by heart


class Run:
    """One fine-tuning run.

    ``kept`` is saved with every state to compare a resumed run with: plain JSON. ``also`` are rows
    of other data sets, to show what is forgotten.
    """

    def __init__(self, start: Checkpoint, train: list[Row], validation: list[Row], out: Path,
                 cache: Path, settings: Settings, kept: dict[str, Any],
                 also: Sequence[tuple[str, list[Row]]] = ()) -> None:
        self.start, self.settings, self.config, self.out = start, settings, settings.run, out
        self.cache, self.kept = cache, kept
        self.accelerator = Accelerator(mixed_precision=self.config.mixed_precision)
        self.chief = self.accelerator.is_main_process
        self.model = start.model.to(self.accelerator.device)
        prepare(self.model, self.config)
        chosen(settings.objectives)  # refused before hours of features, not after
        if self.config.mixed_precision == "bf16" and self.accelerator.device.type == "cpu":
            depthwise_in_float32(self.model)
        self.model.decoder.dropout = self.config.dropout
        self.model.picture_head.dropout = PICTURE_DROPOUT
        start.tokenizer.admit(start.tokenizer.latin_in(
            [text for row in train for text in row.captions_zh]))
        self.trained = [p for p in self.model.parameters() if p.requires_grad]
        self.live = self.config.train == "full"  # features change with every step
        self.train_rows, self.validation = train, validation
        with writing(out):
            out.mkdir(parents=True, exist_ok=True)
        with self.accelerator.main_process_first():
            paths = [row.path for row in train]
            store = Store(self.model) if self.live else open_features(self.model, paths, cache)
            held = [(OWN, validation)] if validation else []
            self.compared = [Held(name, rows, self._seen(rows)) for name, rows in [*held, *also]]
        self.sampler = BatchSampler(train, store, start.tokenizer, self.config.seed,
                                    self.config.kept_tokens)
        self.objectives = build(settings.objectives, self.sampler, self.model)
        optimizer = torch.optim.AdamW(parameter_groups(self.model, self.config), betas=(0.9, 0.98))
        self.rates = [group["lr"] for group in optimizer.param_groups]
        self.optimizer: Any = self.accelerator.prepare(optimizer)
        self.step, self.best, self.saved = 0, -math.inf, 0
        self.log = RunLog(out)

    def about(self) -> str:
        """What is to be done, in one line."""
        return (f"{self.config.steps} steps on {len(self.train_rows)} pictures, "
                f"{sum(p.numel() for p in self.trained):,} trained weights, on "
                f"{self.accelerator.device}, processes: {self.accelerator.num_processes}")

    def _seen(self, rows: Sequence[Row]) -> Callable[[VLM], Store]:
        """Where a model finds its features of these rows."""
        if self.live:
            return LiveStore
        kept = open_features(self.model, [row.path for row in rows], self.cache)
        return lambda model: kept

    def learn_first(self, new_head: bool) -> None:
        """What is learnt alone before the first step: a region head that `grow` made, the weights
        of words, from the start, and the bank, of pictures and captions as they are now seen."""
        given = self.settings.start
        half = self.config.mixed_precision == "bf16"
        if new_head:
            words = RegionWords(self.settings.objectives["region"], self.sampler, self.model)
            self._say(f"region head: loss {warm_up_regions(self.model, words, half):.1f} a picture")
        if given.word_evidence:
            loss = learn_evidence(self.model, self.sampler, half)
            self._say(f"weights of words: loss {loss:.2f} a text")
        if given.querybank:
            fill_querybank(self.model, self.sampler)

    def begin(self) -> None:
        """Measure the model that the run starts with."""
        broadcast([parameter.data for parameter in self.trained])
        self.model.eval()
        figures = measure("before", self.model, self.start.tokenizer, self.compared, {})
        self.average = Average(self.model)
        if self.chief:
            self.log.open(0)
            write(self.out / FIGURES, figures)
            if self.validation:
                self.log.write({"step": 0, "validation": figures[OWN]["before"]})

    def resume(self, state: Path) -> None:
        """Go on from a saved state."""
        self.average = Average(self.model)
        progress = load_state(state, self.model, self.optimizer, self.average)
        self.step = progress["step"]
        self.best = -math.inf if progress["best"] is None else progress["best"]
        self.saved = self.step
        if self.chief:
            self.log.open(self.step)

    def train(self, quiet: bool = False) -> None:
        """Run to the last step."""
        with tqdm(total=self.config.steps, initial=self.step, desc="training", unit="step",
                  disable=quiet or not self.chief, smoothing=0.05) as bar:
            self._loop(bar)
        if not self.validation:
            self._ship({})
        self._finish()
        self.save(finished=True)

    def _loop(self, bar: Any) -> None:
        saved_at = time.monotonic()
        while self.step < self.config.steps:
            values = self._one_step()
            self.step += 1
            bar.update()
            bar.set_postfix({"loss": f"{values['loss']:.3f}"})
            rate = self.config.learning_rate * rate_at(self.step - 1, self.config.steps)
            self._log({"step": self.step, **{k: round(v, 6) for k, v in values.items()},
                       "learning_rate": rate})
            if self.validation and (self.step % self.config.validate_every == 0
                                    or self.step == self.config.steps):
                self._validate()
            if self._all_agree(time.monotonic() - saved_at > 60 * SAVE_MINUTES):
                self.save()
                saved_at = time.monotonic()

    def _all_agree(self, value: bool) -> bool:
        """The first process's answer: clocks differ, and so may figures in their last digit."""
        return bool(broadcast(torch.tensor(float(value), device=self.accelerator.device)))

    def _one_step(self) -> dict[str, float]:
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * rate_at(self.step, self.config.steps)
        number = self.step * self.accelerator.num_processes + self.accelerator.process_index
        values = self._losses(number)
        self._average_gradients()
        norm = float(self.accelerator.clip_grad_norm_(self.trained, 1.0))
        if self.config.mixed_precision != "fp16":  # which skips such a step
            self._check({**values, "gradient": norm}, number)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.average.update(self.model)
        return {**values, "gradient_norm": norm}

    def _average_gradients(self) -> None:
        """Of all processes. One that no process has stays None, and its weight as it is."""
        if self.accelerator.num_processes == 1:
            return
        has = torch.tensor([float(p.grad is not None) for p in self.trained],
                           device=self.accelerator.device)
        counts = self.accelerator.reduce(has).tolist()
        for parameter in (p for p, count in zip(self.trained, counts, strict=True) if count):
            own = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            parameter.grad = self.accelerator.reduce(own, "mean")

    def _losses(self, number: int) -> dict[str, float]:
        """The losses of the step of this number by name, their means over the processes; the
        gradients are added to the weights'.

        Raises:
            TrainingError: one is not finite.
        """
        self.model.train()
        self.model.vision.backbone.eval()  # statistics of small batches would do harm
        torch.manual_seed(self.config.seed * 1_000_003 + number)
        drawn = to_device(self._draw(number), self.accelerator.device)
        with self.accelerator.autocast():
            losses = step_losses(self.model, drawn, self.objectives)
        found = torch.stack([value.detach().float() for value in losses.values()])
        values: dict[str, float] = dict(zip(
            losses, self.accelerator.reduce(found, "mean").tolist(), strict=True))
        self._check(values, number)
        self.accelerator.backward(losses["loss"])
        return values

    def _draw(self, number: int) -> Parts:
        return draw_step(self.objectives, self.sampler, number)

    def _check(self, values: dict[str, float], number: int) -> None:
        bad = [name for name, value in values.items() if not math.isfinite(value)]
        if not bad:
            return
        looked_at = pictures(self._draw(number))
        broken = [row for rows, features in looked_at
                  for row, kept in zip(rows.tolist(), features, strict=True)
                  if not torch.isfinite(kept).all()]
        rows = sorted({row for of, _ in looked_at for row in of.tolist()})
        files = [str(self.train_rows[row].path) for row in sorted(set(broken)) or rows]
        said = " and ".join(f"{name} ({values[name]})" for name in bad
                            if name != "loss" or len(bad) == 1)
        raise TrainingError(
            f"step {self.step + 1} has a loss that is not finite: {said}; "
            f"{'the features of' if broken else 'it looked at'} {', '.join(files[:3])}"
            f"{', ...' * (len(files) > 3)}{' are not finite' * bool(broken)}. "
            + (f"The state of step {self.saved}" if self.saved else "What was in the folder before")
            + f" and the checkpoint in {self.out} are as they were. Look at these pictures; if "
            "they are sound, go on with --resume --accept-changes and a smaller --learning-rate.")

    def _validate(self) -> None:
        held = self.compared[0]
        mean = self.average.model
        scores = validate(mean, self.start.tokenizer, held.rows, held.store(mean))
        self._log({"step": self.step, "validation": scores})
        if self.chief:
            tqdm.write(f"step {self.step}: " + ", ".join(
                f"{name} {value:.2f}" for name, value in scores.items()))
        if scores["total"] > self.best:
            self.best = scores["total"]
            self._ship(scores)

    def _ship(self, scores: dict[str, float]) -> None:
        """Write the checkpoint that the app opens."""
        if self.chief:
            meta = {"name": self.out.name, "step": self.step, "git": git_revision(),
                    "sources": self.start.meta.get("sources", []),
                    "instructions": known([*known(self.start.meta.get("instructions")), *(
                        key for each in self.objectives.values() for key in each.teaches)]),
                    "started_from": self.start.meta.get("name", self.start.folder.name),
                    "validation": scores, "settings": self.settings.flat()}
            save_checkpoint(self.out, plain(self.average.model), self.start.tokenizer, meta,
                            self.config.weights)

    def _finish(self) -> None:
        """Measure what was shipped, and say what has changed."""
        if not self.chief:
            return
        self.log.close()
        if not self.compared:
            return
        shipped = load_checkpoint(self.out, self.accelerator.device)
        figures = measure("after", shipped.model, shipped.tokenizer, self.compared,
                          read(self.out / FIGURES))
        write(self.out / FIGURES, figures)
        print(table(figures))

    def save(self, finished: bool = False) -> None:
        """Save what `resume` needs."""
        self.accelerator.wait_for_everyone()
        if self.chief:
            best = None if math.isinf(self.best) else self.best
            save_state(self.out, self.model, self.optimizer, self.average,
                       {"step": self.step, "best": best, "finished": finished, **self.kept})
        self.accelerator.wait_for_everyone()
        self.saved = self.step

    def _log(self, entry: dict[str, Any]) -> None:
        if self.chief:
            self.log.write(entry)

    def _say(self, text: str) -> None:
        if self.chief:
            print(text, file=sys.stderr)


def git_revision() -> str:
    """The commit of this project, or "" outside a git checkout."""
    try:
        return subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], capture_output=True,
                              text=True, check=True, cwd=Path(__file__).parent).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
