"""Fine-tunes a checkpoint on pictures with captions and questions, with accelerate.

    python -m train.finetune --data DIR [--data DIR ...] --from CHECKPOINT --out DIR [--resume]

The vision backbone stays frozen: its features are computed once (`features`). Every step is drawn
from the seed and the step's number (`mixture`), and the random state is set anew before each, so
a run that was killed goes on with the very same numbers.
"""

import argparse
import dataclasses
import json
import math
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from tqdm import tqdm

from train.data import SPLITS, Row, find_splits, read_split
from train.features import VIEWS, open_features
from train.grow import grow, open_gates
from train.losses import LossConfig, step_losses
from train.mixture import Mixture, MixtureConfig, StepBatch
from train.regions import warm_up
from train.state import Average, latest_state, load_state, save_state
from train.validation import validate
from vitdemo.errors import ConfigError, DataError, VitDemoError
from vitdemo.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from vitdemo.models.vlm import VLM


@dataclass(frozen=True)
class FinetuneConfig:
    """The settings of one run."""

    steps: int = 2000  # optimizer steps
    learning_rate: float = 5e-4  # of new parts
    text_rate: float = 0.1  # of the text encoder, as a share of learning_rate
    embedding_rate: float = 0.3  # of the text encoder's token table, likewise
    gate_rate: float = 20.0  # of the gates, likewise: they start at 0, where they hardly learn
    region_rate: float = 2.5  # of the region head, likewise
    region_steps: int = 300  # steps for a new region head alone, before the others
    open_gates: float = 0.0  # open the gates at least so far before the first step, 0..1
    weight_decay: float = 0.05  # of matrices (Loshchilov, Hutter 2019)
    warmup: float = 0.05  # share of the steps in which the rate rises
    dropout: float = 0.1  # in the decoder
    accumulate: int = 1  # batches per optimizer step
    average_decay: float = 0.998  # of the weights' moving average, which is what is shipped
    views: int = 2  # views of each picture (see features.VIEWS)
    save_minutes: float = 5.0  # time between two saved states
    validate_every: int = 500  # steps between two looks at the validation split
    mixed_precision: str = "bf16"  # no, bf16 or fp16
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "learning_rate", "accumulate", "save_minutes", "validate_every"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be above 0.")
        if not 1 <= self.views <= len(VIEWS):
            raise ConfigError(f"views is {self.views}; it must be from 1 to {len(VIEWS)}.")
        if self.mixed_precision not in ("no", "bf16", "fp16"):
            raise ConfigError(f"mixed_precision is {self.mixed_precision!r}; "
                              "it must be no, bf16 or fp16.")


def parameter_groups(model: VLM, config: FinetuneConfig) -> list[dict[str, Any]]:
    """Trained parameters by learning rate and decay; the backbone is left out."""
    groups: dict[tuple[float, float], list[torch.nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if name.startswith("vision.backbone."):
            parameter.requires_grad_(False)
            continue
        share = 1.0
        if name.startswith("text."):
            share = config.embedding_rate if "token_embedding" in name else config.text_rate
        elif name.startswith("region_head."):
            share = config.region_rate
        elif name.endswith("_gate"):
            share = config.gate_rate
        decay = config.weight_decay if parameter.dim() > 1 and "embedding" not in name else 0.0
        groups.setdefault((config.learning_rate * share, decay), []).append(parameter)
    return [{"params": found, "lr": rate, "weight_decay": decay}
            for (rate, decay), found in groups.items()]


def rate_at(step: int, config: FinetuneConfig) -> float:
    """The share of the learning rate at a step: linear warm-up, then half a cosine to 0.02."""
    warm = max(1, round(config.steps * config.warmup))
    if step < warm:
        return (step + 1) / warm
    done = (step - warm) / max(1, config.steps - warm)
    return 0.02 + 0.98 * (1 + math.cos(math.pi * min(1.0, done))) / 2


def read_rows(sources: Sequence[Path], skip_bad: bool) -> tuple[list[Row], list[Row]]:
    """The rows to train on and those to validate on; what was read is said on standard error.

    A folder that is no data set with splits, only pictures and a metadata.jsonl, gives every tenth
    row to validation.

    Raises:
        DataError: there is nothing to train on, or a row is bad.
    """
    train: list[Row] = []
    validation: list[Row] = []
    for source in sources:
        folders = [folder for _, folder in find_splits(source, "train")]
        for folder in folders:
            rows = _read(folder, skip_bad)
            if folder == source:
                validation += rows[9::10]
                rows = [row for i, row in enumerate(rows) if i % 10 != 9]
            train += rows
        try:
            others = [folder for _, folder in find_splits(source, "validation")]
        except DataError:
            print(f"{source} has no validation split", file=sys.stderr)
            continue
        for folder in others:
            if folder not in folders:
                validation += _read(folder, skip_bad)
    return train, validation


def _read(folder: Path, skip_bad: bool) -> list[Row]:
    found = read_split(folder, skip_bad=skip_bad)
    for bad in found.skipped:
        print(f"skipped: {bad}", file=sys.stderr)
    print(f"{folder}: {len(found.rows)} pictures, {len(found.skipped)} skipped", file=sys.stderr)
    return list(found.rows)


def to_device(batch: StepBatch, device: torch.device) -> StepBatch:
    """The batch on the device."""
    def moved(part: Any) -> Any:
        if part is None or isinstance(part, torch.Tensor):
            return part if part is None else part.to(device)
        return type(part)(**{f.name: moved(getattr(part, f.name))
                             for f in dataclasses.fields(part)})
    return StepBatch(*(moved(getattr(batch, f.name)) for f in dataclasses.fields(batch)))


class Losses(torch.nn.Module):
    """The model and its losses as one module, so that a data-parallel wrapper sees one call."""

    def __init__(self, model: VLM, config: LossConfig) -> None:
        super().__init__()
        self.model, self.config = model, config

    def forward(self, batch: StepBatch) -> dict[str, torch.Tensor]:
        """A step's losses by name."""
        return step_losses(self.model, batch, self.config)


class Run:
    """One fine-tuning run: the parts, the loop and what is saved."""

    def __init__(self, start: Checkpoint, train: list[Row], validation: list[Row], out: Path,
                 cache: Path, config: FinetuneConfig, mixture: MixtureConfig,
                 losses: LossConfig) -> None:
        self.start, self.config, self.out = start, config, out
        self.accelerator = Accelerator(mixed_precision=config.mixed_precision,
                                       gradient_accumulation_steps=config.accumulate)
        model = start.model.to(self.accelerator.device)
        open_gates(model, config.open_gates)
        views = VIEWS[:config.views]
        with self.accelerator.main_process_first():
            store = open_features(model, [row.path for row in train], views, cache)
            self.validation_store = open_features(
                model, [row.path for row in validation], VIEWS[:1], cache) if validation else None
        self.validation = validation
        self.mixture = Mixture(train, store, start.tokenizer, mixture, config.seed, views)
        self.model = model
        self.model.decoder.dropout = config.dropout
        self.optimizer = torch.optim.AdamW(parameter_groups(model, config), betas=(0.9, 0.98))
        self.average = Average(model, config.average_decay)
        self.rates = [group["lr"] for group in self.optimizer.param_groups]
        self.losses, self.optimizer = self.accelerator.prepare(Losses(model, losses),
                                                               self.optimizer)
        self.step, self.best = 0, -math.inf
        self.log_file = out / "log.jsonl"

    def warm_up(self) -> None:
        """Train a region head that `grow` made, alone."""
        loss = warm_up(self.model, self.mixture, self.config.region_steps)
        print(f"region head: loss {loss:.1f} a picture", file=sys.stderr)

    def resume(self) -> None:
        """Go on from the latest whole state under ``out``, if there is one."""
        state = latest_state(self.out)
        if state is not None:
            kept = load_state(state, self.model, self.optimizer, self.average)
            self.step, self.best = kept["step"], kept["best"]
            self._cut_log()

    def _cut_log(self) -> None:
        """Drop what was logged after the state that the run goes on from."""
        if self.log_file.is_file():
            lines = [line for line in self.log_file.read_text().splitlines()
                     if json.loads(line)["step"] <= self.step]
            self.log_file.write_text("".join(line + "\n" for line in lines))

    def train(self, quiet: bool = False) -> None:
        """Run to the last step."""
        saved_at = time.monotonic()
        bar = tqdm(total=self.config.steps, initial=self.step, desc="training", unit="step",
                   disable=quiet or not self.accelerator.is_main_process, smoothing=0.05)
        while self.step < self.config.steps:
            values = self._one_step()
            self.step += 1
            bar.update()
            bar.set_postfix({"loss": f"{values['loss']:.3f}"})
            self._log({"step": self.step, **{k: round(v, 6) for k, v in values.items()}})
            if self.validation and (self.step % self.config.validate_every == 0
                                    or self.step == self.config.steps):
                self._validate()
            if time.monotonic() - saved_at > 60 * self.config.save_minutes:
                self.save()
                saved_at = time.monotonic()
        bar.close()
        self.save()
        if not self.validation:
            self._ship({})

    def _one_step(self) -> dict[str, float]:
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * rate_at(self.step, self.config)
        self.model.train()
        self.model.vision.backbone.eval()
        torch.manual_seed(self.config.seed * 1_000_003 + self.step)
        sums: dict[str, float] = {}
        for part in range(self.config.accumulate):
            batch = to_device(self.mixture.draw(self.step * self.config.accumulate + part,
                                                self.accelerator.process_index,
                                                self.accelerator.num_processes),
                              self.accelerator.device)
            with self.accelerator.accumulate(self.losses):
                values = self.losses(batch)
                self.accelerator.backward(values["loss"])
                if self.accelerator.sync_gradients:
                    self.accelerator.clip_grad_norm_(self.losses.parameters(), 1.0)
                self.optimizer.step()
                self.optimizer.zero_grad()
            for name, value in values.items():
                mean = self.accelerator.reduce(value.detach().float(), "mean")
                sums[name] = sums.get(name, 0.0) + float(mean) / self.config.accumulate
        self.average.update(self.model)
        return sums

    def _validate(self) -> None:
        assert self.validation_store is not None
        with self.average.in_place(self.model):
            scores = validate(self.model, self.start.tokenizer, self.validation,
                              self.validation_store)
            self._log({"step": self.step, "validation": scores})
            tqdm.write(f"step {self.step}: " + ", ".join(
                f"{name} {value:.2f}" for name, value in scores.items()))
            if scores["total"] > self.best:
                self.best = scores["total"]
                self._ship(scores)

    def _ship(self, scores: dict[str, float]) -> None:
        """Write the checkpoint that the app opens."""
        if self.accelerator.is_main_process:
            meta = {"name": self.out.name, "step": self.step, "git": git_revision(),
                    "sources": self.start.meta.get("sources", []),
                    "started_from": self.start.meta.get("name", self.start.folder.name),
                    "validation": scores, "settings": dataclasses.asdict(self.config)}
            save_checkpoint(self.out, self.model, self.start.tokenizer, meta)

    def save(self) -> None:
        """Save what `resume` needs."""
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            save_state(self.out, self.model, self.optimizer, self.average,
                       {"step": self.step, "best": self.best,
                        "config": dataclasses.asdict(self.config)})

    def _log(self, entry: dict[str, Any]) -> None:
        if self.accelerator.is_main_process:
            with self.log_file.open("a") as stream:
                stream.write(json.dumps(entry) + "\n")


def git_revision() -> str:
    """The commit of this project, or "" outside a git checkout."""
    try:
        return subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], capture_output=True,
                              text=True, check=True, cwd=Path(__file__).parent).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line; every field of the three settings classes is a flag."""
    parser = argparse.ArgumentParser(prog="python -m train.finetune", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, action="append", required=True,
                        help=f"a data set with {', '.join(SPLITS[:2])} inside, or a folder of "
                             "such; may be given several times")
    parser.add_argument("--from", dest="start", type=Path, required=True,
                        help="the checkpoint folder to start from")
    parser.add_argument("--out", type=Path, required=True, help="the folder to write")
    parser.add_argument("--cache", type=Path, default=Path("cache/features"),
                        help="where the features of the pictures are kept")
    parser.add_argument("--resume", action="store_true",
                        help="go on with the run that is under --out")
    parser.add_argument("--picture-size", type=int, default=0,
                        help="train at this size, in pixels, instead of the checkpoint's own")
    parser.add_argument("--region-head", action="store_true",
                        help="give the model a region head if it has none")
    parser.add_argument("--skip-bad", action="store_true",
                        help="leave out bad rows instead of stopping at the first")
    for kind, prefix in ((FinetuneConfig, ""), (MixtureConfig, ""), (LossConfig, "loss-")):
        group = parser.add_argument_group((kind.__doc__ or "").rstrip("."))
        for field in dataclasses.fields(kind):
            group.add_argument(f"--{prefix}{field.name.replace('_', '-')}",
                               dest=f"{prefix}{field.name}", type=type(field.default),
                               default=field.default, help="default: %(default)s")
    return parser.parse_args(argv)


def settings(kind: type, args: argparse.Namespace, prefix: str = "") -> Any:
    """One settings class from the flags."""
    return kind(**{f.name: getattr(args, prefix + f.name) for f in dataclasses.fields(kind)})


def main(argv: Sequence[str] | None = None) -> int:
    """Fine-tune; returns the exit code."""
    args = parse(argv)
    try:
        if latest_state(args.out) is not None and not args.resume:
            raise ConfigError(f"{args.out} already holds a run; add --resume to go on with it, "
                              "or choose another --out.")
        args.out.mkdir(parents=True, exist_ok=True)
        start = load_checkpoint(args.start)
        grown_from = start.model.config
        start = grow(start, args.picture_size, args.region_head)
        train, validation = read_rows(args.data, args.skip_bad)
        if not validation:
            print("nothing to validate on: the last weights are kept", file=sys.stderr)
        run = Run(start, train, validation, args.out, args.cache,
                  settings(FinetuneConfig, args), settings(MixtureConfig, args),
                  settings(LossConfig, args, "loss-"))
        if args.resume:
            run.resume()
        elif start.model.region_head is not None and not grown_from.regions:
            run.warm_up()
        run.train()
    except VitDemoError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; go on with --resume", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
