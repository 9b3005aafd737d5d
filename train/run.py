"""One fine-tuning run: its parts, its loop, and what it saves."""

import math
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from tqdm import tqdm

from train import forecast
from train.adapt import parameter_groups, plain, prepare
from train.data.batch_sampler import BatchSampler
from train.data.batches import StepBatch, to_device
from train.data.features import VIEWS, Store, open_features, view_file
from train.data.pixels import LateStore, LiveStore, NoiseStore, PixelStore
from train.data.prefetch import drawn_ahead
from train.data.reading import Row
from train.distributed import Team
from train.evaluation.before_after import OWN, Comparison, Held
from train.evaluation.validation import validate
from train.log import RunLog
from train.nonfinite import stop
from train.objectives.fill_querybank import fill_querybank
from train.objectives.learn_word_evidence import learn_evidence
from train.objectives.region_words import RegionWords
from train.objectives.registry import build, draw_step, step_losses
from train.objectives.warm_up_regions import warm_up
from train.precision import depthwise_in_float32
from train.settings import Settings, rate_at
from train.state import Average, load_state, save_state
from vitdemo.instructions import known
from vitdemo.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint

SAVE_MINUTES = 5.0  # between two saved states
PICTURE_DROPOUT = 0.5  # in the picture head, which would know the photographs by heart
_SAMPLE = 4  # pictures and questions that the forecast measures validation with


class Run:
    """One fine-tuning run.

    ``kept`` is saved with every state to compare a resumed run with: plain JSON. ``also`` are rows
    of other data sets, to show what is forgotten.
    """

    def __init__(self, start: Checkpoint, train: list[Row], validation: list[Row], out: Path,
                 cache: Path, settings: Settings, kept: dict[str, Any],
                 also: Sequence[tuple[str, list[Row]]] = (), pictures: bool = True) -> None:
        self.start, self.settings, self.config, self.out = start, settings, settings.run, out
        self.cache, self.kept = cache, kept
        self.accelerator = Accelerator(mixed_precision=self.config.mixed_precision)
        self.team = Team(self.accelerator.process_index, self.accelerator.num_processes)
        self.chief = self.accelerator.is_main_process
        self.model = start.model.to(self.accelerator.device)
        prepare(self.model, self.config)
        if self.config.mixed_precision == "bf16" and self.accelerator.device.type == "cpu":
            depthwise_in_float32(self.model)
        self.model.decoder.dropout = self.config.dropout
        self.model.picture_head.dropout = PICTURE_DROPOUT
        start.tokenizer.admit(start.tokenizer.latin_in(
            [text for row in train for text in row.captions_zh]))
        self.trained = [p for p in self.model.parameters() if p.requires_grad]
        self.stage = self.config.backbone_stage
        self.live = self.config.train == "full"  # features change with every step
        self.views = VIEWS[:self.config.views]
        self.train_rows, self.validation = train, validation
        self.held = [(OWN, validation)] if validation else []
        self.held += also
        self.sampler = BatchSampler(train, NoiseStore(self.model, self.live, self.stage),
                                    start.tokenizer, self.config.seed, self.views,
                                    self.config.kept_tokens)
        self.objectives = build(settings.objectives, self.sampler, self.model)
        optimizer = torch.optim.AdamW(parameter_groups(self.model, self.config), betas=(0.9, 0.98))
        self.rates = [group["lr"] for group in optimizer.param_groups]
        self.optimizer: Any = self.accelerator.prepare(optimizer)
        self.average = Average(self.model)
        self.step, self.best, self.since, self.saved = 0, -math.inf, 0, 0
        self.ahead: Iterator[StepBatch] | None = None
        self.log, self.comparison = RunLog(out, pictures), Comparison(out)
        self.compared: list[Held] = []

    def forecast(self) -> forecast.Forecast:
        """Measure two steps, which are not counted, on pictures that are only noise."""
        seconds = forecast.seconds_of(lambda: self._losses(0))
        parts = draw_step(self.objectives, self.sampler, 0).parts
        shown = sum(len(parts[name].everyone) for name in ("caption", "question") if name in parts)
        self.optimizer.zero_grad()
        looks = math.ceil(self.config.steps / (self.config.validate_every or math.inf)) + 2
        trained = sum(p.numel() for p in self.trained)
        memory = forecast.peak_memory(self.accelerator.device)
        return forecast.Forecast(
            self.config.steps, self.config.steps * shown / len(self.train_rows), seconds,
            self._missing_features() * forecast.picture_seconds(self.model),
            looks * self._validation_seconds() if self.validation else 0.0,
            memory and memory + 8 * trained, trained,
            f"{self.accelerator.device}, processes: {self.team.world}")

    def _missing_features(self) -> int:
        """How many features are still to be computed."""
        if self.live and not self.stage:
            return 0
        wanted = [(rows, view) for rows, views in (
            (self.train_rows, self.views), *((rows, VIEWS[:1]) for _, rows in self.held))
            for view in views]
        return sum(len(rows) for rows, view in wanted if not view_file(
            self.model, [row.path for row in rows], view, self.cache, self.stage).is_file())

    def _validation_seconds(self) -> float:
        rows = self.validation[:_SAMPLE]
        self.model.eval()
        started = time.perf_counter()
        validate(self.model, self.start.tokenizer, rows, NoiseStore(self.model, False),
                 _SAMPLE, _SAMPLE)
        seconds = time.perf_counter() - started
        asked = sum(len(row.questions) for row in self.validation)
        most = max(min(250, len(self.validation)) / len(rows), min(600, asked) / _SAMPLE)
        return seconds * most

    def open(self) -> None:
        """Open the pictures: their features are computed where they are not kept yet."""
        paths = [row.path for row in self.train_rows]
        with self.accelerator.main_process_first():
            self.sampler.store = PixelStore(self.model, paths, self.views) \
                if self.live and not self.stage else \
                open_features(self.model, paths, self.views, self.cache, stage=self.stage)
            self.compared = [Held(name, rows, self._store(rows)) for name, rows in self.held]

    def _store(self, rows: Sequence[Row]) -> Store:
        paths = [row.path for row in rows]
        if self.live and not self.stage:
            return LiveStore(self.model, paths)
        kept = open_features(self.model, paths, VIEWS[:1], self.cache, stage=self.stage)
        return LateStore(self.model, kept) if self.stage else kept

    def warm_up(self) -> None:
        """Train a region head that `grow` made, alone."""
        words = RegionWords(self.settings.objectives["region"], self.sampler, self.model)
        loss = warm_up(self.model, words, self.config.mixed_precision == "bf16")
        self._say(f"region head: loss {loss:.1f} a picture")

    def learn_evidence(self) -> None:
        """Learn the weights of words, alone and from the start."""
        loss = learn_evidence(self.model, self.sampler, self.config.mixed_precision == "bf16")
        self._say(f"weights of words: loss {loss:.2f} a text")

    def fill_querybank(self) -> None:
        """Keep pictures and captions as they are now seen and read."""
        fill_querybank(self.model, self.sampler)

    def begin(self) -> None:
        """Measure the model that the run starts with."""
        self.team.share(self.trained)
        self.model.eval()
        self.comparison.before(self.model, self.start.tokenizer, self.compared)
        self.average = Average(self.model)
        if self.chief:
            self.log.open(0)
            self.comparison.write()
            if self.validation:
                self.log.write({"step": 0, "validation": self.comparison.figures[OWN]["before"]})

    def resume(self, state: Path) -> None:
        """Go on from a saved state."""
        progress = load_state(state, self.model, self.optimizer, self.average)
        self.step, self.since = progress["step"], progress["since"]
        self.best = -math.inf if progress["best"] is None else progress["best"]
        self.saved = self.step
        self.comparison.resume()
        if self.chief:
            self.log.open(self.step)

    def train(self, quiet: bool = False) -> None:
        """Run to the last step, or until validation has not got better for long enough."""
        with tqdm(total=self.config.steps, initial=self.step, desc="training", unit="step",
                  disable=quiet or not self.chief, smoothing=0.05) as bar:
            self._loop(bar)
        if self._tired():
            self._say(f"stopped at step {self.step}: {self.since} looks at the validation split "
                      "without a better one")
        if not self.validation:
            with self.average.in_place(self.model):
                self._ship({})
        self._finish()
        self.save(finished=True)

    def _loop(self, bar: Any) -> None:
        saved_at = time.monotonic()
        if self.config.workers:
            self.ahead = drawn_ahead(self._draw, range(self.step, self.config.steps),
                                     self.config.workers)
        while self.step < self.config.steps and not self._tired():
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
        self.ahead = None

    def _tired(self) -> bool:
        return self.config.patience > 0 and self._all_agree(self.since >= self.config.patience)

    def _all_agree(self, value: bool) -> bool:
        """The first process's answer: clocks differ, and so may figures in their last digit."""
        device = self.accelerator.device
        return bool(self.team.sum(torch.tensor(float(value and self.chief), device=device)) > 0)

    def _one_step(self) -> dict[str, float]:
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * rate_at(self.step, self.config.steps)
        values = self._losses(self.step)
        self.team.sum_gradients(self.trained)
        norm = float(self.accelerator.clip_grad_norm_(self.trained, 1.0))
        if self.config.mixed_precision != "fp16":  # which skips such a step
            self._check({**values, "gradient": norm}, self.step)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.average.update(self.model)
        return {**values, "gradient_norm": norm}

    def _losses(self, step: int) -> dict[str, float]:
        """A step's losses by name, over all processes; their gradients are added to the weights'.

        Raises:
            TrainingError: one is not finite.
        """
        self.model.train()
        self.model.vision.backbone.eval()  # statistics of small batches would do harm
        torch.manual_seed(self.config.seed * 1_000_003 + step + 500_009 * self.team.rank)
        drawn = self._draw(step) if self.ahead is None else next(self.ahead)
        with self.accelerator.autocast():
            losses = step_losses(self.model, to_device(drawn, self.accelerator.device),
                                 self.objectives, self.team)
        found = self.team.sum(torch.stack([value.detach().float() for value in losses.values()]))
        values: dict[str, float] = dict(zip(losses, found.tolist(), strict=True))
        self._check(values, step)
        self.accelerator.backward(losses["loss"])
        return values

    def _draw(self, step: int, team: Team | None = None) -> StepBatch:
        team = team or self.team
        return draw_step(self.objectives, self.sampler, step, team.rank, team.world)

    def _check(self, values: dict[str, float], step: int) -> None:
        if not all(math.isfinite(value) for value in values.values()):
            raise stop(step + 1, values, self._draw(step, Team()), self.train_rows, self.out,
                       self.saved)

    def _validate(self) -> None:
        held = self.compared[0]
        with self.average.in_place(self.model):
            scores = validate(self.model, self.start.tokenizer, held.rows, held.store)
            self._log({"step": self.step, "validation": scores})
            if self.chief:
                tqdm.write(f"step {self.step}: " + ", ".join(
                    f"{name} {value:.2f}" for name, value in scores.items()))
            self.since += 1
            if scores["total"] > self.best:
                self.best, self.since = scores["total"], 0
                self._ship(scores)
        if self.chief:
            self.log.plot()

    def _ship(self, scores: dict[str, float]) -> None:
        """Write the checkpoint that the app opens."""
        if self.chief:
            meta = {"name": self.out.name, "step": self.step, "git": git_revision(),
                    "sources": self.start.meta.get("sources", []),
                    "instructions": known(self.start.meta.get("instructions")),
                    "started_from": self.start.meta.get("name", self.start.folder.name),
                    "validation": scores, "settings": self.settings.flat()}
            save_checkpoint(self.out, plain(self.model), self.start.tokenizer, meta,
                            self.config.weights)

    def _finish(self) -> None:
        """Measure what was shipped, and say what has changed."""
        if not self.chief:
            return
        self.log.plot()
        self.log.close()
        if not self.compared:
            return
        shipped = load_checkpoint(self.out, self.accelerator.device)
        self.comparison.after(
            shipped.model, shipped.tokenizer, self.compared, lambda part: LiveStore(
                shipped.model, [row.path for row in part.rows]) if self.live else part.store)
        self.comparison.write()
        print(self.comparison.table())

    def save(self, finished: bool = False) -> None:
        """Save what `resume` needs."""
        self.accelerator.wait_for_everyone()
        if self.chief:
            best = None if math.isinf(self.best) else self.best
            save_state(self.out, self.model, self.optimizer, self.average,
                       {"step": self.step, "best": best, "since": self.since,
                        "finished": finished, **self.kept})
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
