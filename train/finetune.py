"""Fine-tunes a checkpoint on pictures with captions and questions, with accelerate.

    python -m train.finetune --data DIR [--data DIR ...] --from CHECKPOINT --out DIR [--resume]
    python -m train.finetune --recipe FILE.toml [--resume]

Every step is drawn from the seed and the step's number, and the random state is set
anew before each, so a run that was killed goes on with the very same numbers. A flag beside
--recipe counts for all stages of the recipe, --from for the first one.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.utils import parse_flag_from_env

from train import recipe
from train.adapt import grow, settled
from train.data.reading import SPLITS, Row, Unreads, read_rows, rows_of
from train.recipe import mean_of
from train.run import Run
from train.settings import Settings, said, scaled
from train.state import check, digest, latest_state, read_progress
from vitdemo.allocator import keep_freed_memory
from vitdemo.config import ModelConfig
from vitdemo.errors import ConfigError, VitDemoError
from vitdemo.models.checkpoint import load_checkpoint
from vitdemo.tokens import TextTokenizer

_NEEDED = (("data", "--data"), ("start", "--from"), ("out", "--out"))
_PATHS: dict[str, tuple[str, dict[str, Any]]] = {
    "data": (f"a data set with {', '.join(SPLITS[:2])} inside, or a folder of such; may be given "
             "several times", {"type": Path, "action": "append"}),
    "from": ("the checkpoint folder to start from", {"type": Path, "dest": "start"}),
    "out": ("the folder to write", {"type": Path}),
    "cache": ("where the features of the pictures are kept; default: cache/features",
              {"type": Path}),
    "also-evaluate": ("another data set whose validation split is measured before and after, to "
                      "see what is forgotten; may be given several times",
                      {"type": Path, "action": "append"}),
    "skip-bad": ("leave out bad rows instead of stopping at the first", {"action": "store_true"}),
}
_DEFAULTS: dict[str, Any] = {"cache": Path("cache/features"), "also_evaluate": [],
                             "skip_bad": False, "resume": False, "accept_changes": False}


class _Parser(argparse.ArgumentParser):
    """Of a recipe what is wrong is raised, and not said with how to call the program."""

    strict = True

    def error(self, message: str) -> Any:
        if self.strict:
            super().error(message)
        raise ConfigError(message)


def build_parser() -> _Parser:
    """The command line; every field of the settings is a flag."""
    parser = _Parser(prog="python -m train.finetune", description=__doc__, allow_abbrev=False,
                     formatter_class=argparse.RawDescriptionHelpFormatter,
                     argument_default=argparse.SUPPRESS)
    parser.add_argument("--recipe", type=Path,
                        help="a TOML file with the settings; see train/README.md")
    for name, (text, options) in _PATHS.items():
        parser.add_argument(f"--{name}", help=text, **options)
    for name, text in (("resume", "go on with the run that is under --out"),
                       ("accept-changes", "with --resume: go on although the data or the settings "
                                          "are not those that the run began with")):
        parser.add_argument(f"--{name}", help=text, action="store_true")
    for part in Settings().parts():
        group = parser.add_argument_group((type(part).__doc__ or "").rstrip("."))
        for name, field in type(part).model_fields.items():
            said, flag = field.description or "", f"--{name.replace('_', '-')}"
            if field.default is False:
                group.add_argument(flag, action="store_true", help=said)
            else:
                group.add_argument(flag, type=type(field.default),
                                   help=f"{said}{'; ' * bool(said)}default: {field.default}")
    return parser


def parse(argv: Sequence[str] | None) -> list[argparse.Namespace]:
    """The stages to run, one after the other; one, without a recipe.

    Raises:
        ConfigError: the recipe is wrong, or a path is missing.
    """
    parser = build_parser()
    given = vars(parser.parse_args(argv))
    file = given.pop("recipe", None)
    stages = [recipe.Stage("", {})]
    if file is not None:
        parser.strict = False
        stages = recipe.read(file, lambda line: vars(parser.parse_args(line)))
        parser.strict = True
    merged = recipe.merge(stages, given, {**_DEFAULTS, **Settings().flat()})
    for values in merged:
        missing = [flag for name, flag in _NEEDED if values.get(name) is None]
        if missing and not values["mean"]:
            if file is None:
                parser.error(f"the following arguments are required: {', '.join(missing)}")
            raise ConfigError(f"neither the recipe nor the command line says {missing[0]}.")
    return [argparse.Namespace(**values) for values in merged]


def settings_of(args: argparse.Namespace) -> Settings:
    """The settings classes from the flags."""
    return Settings.of(vars(args))


def reader_of(start: Path) -> Unreads | None:
    """How the model to start from reads texts; None where it is not there yet."""
    file = start / "tokenizer.json"
    return TextTokenizer.load(file, ModelConfig().max_text_tokens).unread \
        if file.is_file() else None


def processes() -> PartialState:
    """What accelerate knows of the processes, before a run has its `Accelerator`; asked for in the
    same way, because the first to ask settles it for both."""
    return PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU"))


def run_stage(args: argparse.Namespace, settings: Settings,
              rows: tuple[list[Row], list[Row]]) -> None:
    """Fine-tune once."""
    train, validation = rows
    settings, derived = scaled(settled(settings), args.given, train)
    if derived and processes().is_main_process:
        print(said(derived, len(train)), file=sys.stderr)
    state = latest_state(args.out)
    start = load_checkpoint(args.start)
    kept = {"settings": {**settings.flat(), "from": start.revision},
            "data": digest(train, validation)}
    if state is not None:
        changed = check(state, kept["settings"], kept["data"], args.accept_changes)
        for sentence in changed:
            print(f"note: {sentence}", file=sys.stderr)
        if read_progress(state)["finished"] and not changed:
            print(f"{args.out} is finished", file=sys.stderr)
            return
    new_head = settings.start.region_head and not start.model.config.regions
    if new_head and (settings.run.train != "frozen" or settings.run.train_pattern):
        flag = "--train-pattern" if settings.run.train_pattern else f"--train {settings.run.train}"
        raise ConfigError(f"--region-head gives the model a new part, which {flag} cannot begin "
                          "with; train it with --train frozen alone first.")
    start = grow(start, **settings.start.model_dump())
    if not settings.run.validate_every:
        validation = []
    if not validation:
        print("nothing to validate on: the last weights are kept", file=sys.stderr)
    with processes().main_process_first():
        also = [(source.name, rows_of([source], "validation", args.skip_bad))
                for source in args.also_evaluate]
    run = Run(start, train, validation, args.out, args.cache, settings, kept, also)
    if run.chief:
        print(run.about())
    if state is not None:
        run.resume(state)
    else:
        run.learn_first(new_head)
        run.begin()
    run.train()


def run_all(stages: Sequence[argparse.Namespace]) -> None:
    """Run the stages of a recipe; their settings are looked at before the first one starts."""
    every = [settings_of(args) for args in stages]
    for args in stages:
        if latest_state(args.out) is not None and not args.resume:
            raise ConfigError(f"{args.out} already holds a run; add --resume to go on with it, "
                              "or choose another --out.")
    if len({settings.run.mixed_precision for settings in every}) > 1:
        raise ConfigError("mixed_precision must be the same in all stages of a recipe.")
    read: dict[str, tuple[list[Row], list[Row]]] = {}
    for args, settings in zip(stages, every, strict=True):
        if len(stages) > 1:
            print(f"stage {args.stage}", file=sys.stderr)
        if args.mean:
            if processes().is_main_process:
                mean_of(args.mean, args.out, args.weights)
            processes().wait_for_everyone()
            continue
        key = repr((args.data, args.skip_bad))
        if key not in read:
            # The first process alone writes out what comes from the `datasets` library.
            with processes().main_process_first():
                read[key] = read_rows(args.data, args.skip_bad, reader_of(args.start))
        run_stage(args, settings, read[key])


def main(argv: Sequence[str] | None = None) -> int:
    """Fine-tune; returns the exit code."""
    try:
        options = parse(argv)
        keep_freed_memory()
        run_all(options)
    except VitDemoError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; go on with --resume", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
