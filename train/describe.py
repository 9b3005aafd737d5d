"""What a checkpoint says of every picture in a folder, as a table to read.

    python -m train.describe --checkpoint runs/mine --pictures my_photos --out said.md

The captions are those of the app. A picture that cannot be read has its reason in the table.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from train.evaluation.predict import ModelPredictor
from vitdemo.config import Decoding
from vitdemo.device import pick
from vitdemo.disk import writing
from vitdemo.errors import DataError, PictureError, VitDemoError
from vitdemo.models.checkpoint import load_checkpoint
from vitdemo.words import tidy

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
LANGUAGES = {"en": "English", "zh": "Chinese"}


def pictures_in(folder: Path) -> list[Path]:
    """The picture files right in a folder, by name.

    Raises:
        DataError: it is no folder that can be read, or holds no picture.
    """
    try:
        found = sorted(path for path in folder.iterdir()
                       if path.suffix.lower() in SUFFIXES and not path.name.startswith("."))
    except OSError as error:
        raise DataError(f"--pictures {folder} cannot be read: {error.strerror}. "
                        "Give a folder of pictures.") from error
    if not found:
        raise DataError(f"--pictures {folder} holds no picture ({', '.join(SUFFIXES)}).")
    return found


def describe(predictor: ModelPredictor, paths: Sequence[Path],
             languages: Sequence[str]) -> list[list[str]]:
    """For each picture a caption in each language, or one text: why it cannot be read."""
    said: list[list[str]] = []
    for path in paths:
        try:
            [(_, features)] = predictor.batches([path])
        except PictureError as error:
            said.append([f"not read: {error}"])
        else:
            said.append([tidy(predictor.captions(features, [0], language)[0], language)
                         for language in languages])
    return said


def markdown(paths: Sequence[Path], said: Sequence[Sequence[str]],
             languages: Sequence[str]) -> str:
    """A table with a line for each picture."""
    lines = ["| picture | " + " | ".join(LANGUAGES[language] for language in languages) + " |",
             "|---" * (1 + len(languages)) + "|"]
    for path, texts in zip(paths, said, strict=True):
        cells = [path.name, *texts, *[""] * (len(languages) - len(texts))]
        lines.append("| " + " | ".join(_cell(cell) for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def run(arguments: argparse.Namespace) -> str:
    """The table, which is written where it was asked for.

    Raises:
        VitDemoError: something given cannot be used.
    """
    paths = pictures_in(arguments.pictures)
    Decoding(beams=arguments.beams)  # a bad number is refused before anything is read
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    checkpoint = load_checkpoint(arguments.checkpoint, pick(arguments.device).device)
    predictor = ModelPredictor(checkpoint.model, checkpoint.tokenizer, beams=arguments.beams,
                               batch=1)
    text = markdown(paths, describe(predictor, paths, arguments.languages), arguments.languages)
    if arguments.out is not None:
        with writing(arguments.out):
            arguments.out.parent.mkdir(parents=True, exist_ok=True)
            arguments.out.write_text(text, encoding="utf-8")
    return text


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(prog="python -m train.describe", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    add = result.add_argument
    add("--checkpoint", type=Path, required=True, metavar="DIR", help="checkpoint folder")
    add("--pictures", type=Path, required=True, metavar="DIR", help="a folder of pictures")
    add("--out", type=Path, metavar="FILE", help="write the table to this file too")
    add("--languages", nargs="+", choices=list(LANGUAGES), default=list(LANGUAGES),
        help="of the captions (both)")
    add("--beams", type=int, default=Decoding.beams,
        help=f"beams of the search for words, 1 is greedy ({Decoding.beams})")
    add("--threads", type=int, metavar="N", help="CPU threads (default: what PyTorch chooses)")
    add("--device", default="auto", help="auto, cpu, cuda or mps (auto)")
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0, or 2 with one line where the input cannot be used."""
    try:
        print(run(parser().parse_args(argv)), end="")
    except VitDemoError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
