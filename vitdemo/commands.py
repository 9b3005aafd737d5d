"""What each command of the command line does: from parsed options to printed results.

The keys of the JSON that ``--json`` prints are part of the interface, as `record_json` has it.
Numbers are 0..1 unless a record says otherwise; a number that is not known is null.
"""

import argparse
import importlib
import json
import math
import os
import sys
import unicodedata
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from vitdemo.attention.faithfulness import evidence_sentence, share_sentence
from vitdemo.attention.methods import choose
from vitdemo.config import Decoding, EngineConfig
from vitdemo.disk import replacing
from vitdemo.engine import Engine
from vitdemo.errors import ConfigError, PictureError
from vitdemo.overlay import check_word, draw, percent, where
from vitdemo.preprocess import Picture, open_picture
from vitdemo.record_json import evidence_json, explanation_json, layers_json, without_nan
from vitdemo.records import (
    LANGUAGES,
    Answer,
    Caption,
    Evidence,
    Explanation,
    PictureShare,
)
from vitdemo.retrieval.readers import Readers
from vitdemo.terminal import plain, plain_json, say, say_error
from vitdemo.texts import phrase
from vitdemo.video import is_video
from vitdemo.words import clean_text, unread_note, unread_notes

_HOME = Path(__file__).resolve().parent.parent  # the project folder, where it is not installed


def caption(options: argparse.Namespace) -> int:
    """Describe each picture; those that cannot be read are named, and make the exit code 2."""
    decoding = _decoding_of(options)
    engine: Engine | None = None
    results: list[dict[str, Any]] = []
    errors: list[dict[str, str]] = []
    for name in options.pictures:
        try:
            picture = _opened(name)
        except PictureError as error:
            say_error(error)
            errors.append({"picture": name, "error": str(error)})
            continue
        engine = engine or _engine(options)
        found = engine.caption(picture, options.instruction, options.language, decoding)
        if not results:
            _tell([unread_note(found.instruction, found.unread)])
        results.append({"picture": name, **asdict(found), **_notes(picture)})
        if not options.json:
            say(f"{name}: {found.text}" if len(options.pictures) > 1 else found.text)
    if options.json:
        _print_json({"results": results, "errors": errors})
    return 2 if errors else 0


def ask(options: argparse.Namespace) -> int:
    """Answer a question; prints the answers with their probabilities."""
    picture = _opened(options.picture)
    found = _engine(options).ask(picture, options.question, options.language, options.count)
    _tell([unread_note(found.question, found.unread)])
    if options.json:
        _print_json({"picture": options.picture, **asdict(found), **_notes(picture)})
    else:
        say(found.text)
        rows = [(found.text, percent(found.probability))]
        rows += [(one.text, percent(one.probability)) for one in found.runners_up]
        print()
        _print_table(_heads("answer", "probability"), rows)
    return 0


def match(options: argparse.Namespace) -> int:
    """Score sentences; the table has the best one first, JSON keeps the order given. One of which
    no word was read has no score, and makes the exit code 2."""
    picture = _opened(options.picture)
    found = _engine(options).match(picture, options.texts)
    _tell(unread_notes([one.text for one in found], [one.unread for one in found]))
    if options.json:
        _print_json({"picture": options.picture, "matches": [asdict(one) for one in found],
                     **_notes(picture)})
    else:
        best = sorted(found, key=lambda one: math.inf if one.unread.nothing else -one.score)
        _print_table(_heads("fits", "similarity", "sentence"),
                     [("-" if one.unread.nothing else percent(one.score),
                       _cosine(one.similarity), one.text) for one in best])
    return 2 if any(one.unread.nothing for one in found) else 0


def index(options: argparse.Namespace) -> int:
    """Bring a store up to date with folders; see `vitdemo.index_command`."""
    from vitdemo import index_command

    return index_command.run(options, lambda: _engine(options).gallery(options.store), _print_json,
                             lambda gallery: _readers(options, gallery.embedder, "embed_pictures"))


def search(options: argparse.Namespace) -> int:
    """Find pictures in a store; see `vitdemo.search_command`."""
    from vitdemo import search_command

    return search_command.run(options, lambda: _engine(options), _print_json, _print_table)


def duplicates(options: argparse.Namespace) -> int:
    """Find almost the same pictures in a store; see `vitdemo.search_command`."""
    from vitdemo import search_command

    return search_command.duplicates(options, lambda: _engine(options), _print_json, _print_table)


def describe(options: argparse.Namespace) -> int:
    """Describe whole folders; see `vitdemo.describe_command`."""
    from vitdemo import describe_command

    decoding = _decoding_of(options)
    return describe_command.run(
        options, decoding, lambda: _engine(options), _print_json,
        lambda engine, wishes: _readers(options, engine, "describe", wishes, decoding))


def engine(options: argparse.Namespace) -> int:
    """Serve the model to other machines; see `vitdemo.engine_command`."""
    from vitdemo import engine_command

    return engine_command.run(options, _config(options))


def explain(options: argparse.Namespace) -> int:
    """Where each word looked: a table, JSON with every layer and head, a picture, a report; and
    whether the maps can be trusted."""
    decoding = _decoding_of(options)
    if options.word is not None and not options.png:
        raise ConfigError("terminal.word_without_png")
    if is_video(options.picture):
        from vitdemo import film_command

        return film_command.run(options, lambda: _engine(options), _print_json, _print_table)
    picture = _opened(options.picture)
    engine = _engine(options)
    if options.method:
        choose(options.method, engine.methods)  # before the slow part
    result: Caption | Answer | str
    if options.question is not None:
        result = engine.ask(picture, options.question, options.language)
    elif options.text is not None:
        result = clean_text(options.text, phrase("typed.sentence"))
    else:
        result = engine.caption(picture, options.instruction, options.language or "en", decoding)
    found = engine.explain(picture, result, options.method)
    if options.png:
        check_word(options.word, sum(len(one.words) for one in found))
    unread = engine.unread(result) if isinstance(result, str) else result.unread
    _tell([unread_note(_read_by(result), unread)])
    evidence: list[Evidence] = []
    shares: tuple[PictureShare, ...] = ()
    if options.evidence:
        for one in found:
            evidence += engine.evidence(picture, result, options.method, one.source,
                                        progress=_progress)
        shares = engine.picture_share(picture, result)
    if options.png:
        _save_png(picture.image, found, options.word, options.png)
    _save_report(options, engine, picture, result, found, evidence, shares)
    if options.json:
        said = {"text": result, "unread": asdict(unread)} if isinstance(
            result, str) else asdict(result)
        width, height = picture.image.size
        _print_json({"picture": {"path": options.picture, "width": width, "height": height,
                                 **_notes(picture)},
                     "model": (engine.info.behind(found[-1]) if found else engine.info).name,
                     "result": said,
                     "explanations": [{**explanation_json(one), **layers_json(one)}
                                      for one in found],
                     **(evidence_json(evidence, shares) if options.evidence else {})})
    else:
        _print_explanations(found)
        if evidence:
            _print_evidence(found, evidence, shares)
    return 0


def _read_by(result: Caption | Answer | str) -> str:
    """The text that the model read for a result."""
    if isinstance(result, str):
        return result
    return result.question if isinstance(result, Answer) else result.instruction


def _save_report(options: argparse.Namespace, engine: Engine, picture: Picture,
                 result: Caption | Answer | str, found: Sequence[Explanation],
                 evidence: Sequence[Evidence], shares: Sequence[PictureShare]) -> None:
    """The files of --report and --csv."""
    if not (options.report or options.csv):
        return
    from vitdemo import report  # with it come the viewer's parts

    if options.report:
        settings = {} if isinstance(result, str) else {
            phrase("setting.language"): LANGUAGES[result.language]}
        if isinstance(result, Caption):
            settings |= {phrase("setting.instruction"): result.instruction,
                         phrase("setting.strategy"): options.strategy,
                         phrase("setting.seed"): str(options.seed)}
        answer = result if isinstance(result, Answer) else None
        info = engine.info.behind(found[-1]) if found else engine.info
        report.write_html(options.report, picture, found, info, evidence=evidence,
                          shares=shares, settings=settings, name=Path(options.picture).name,
                          answers=answer.runners_up if answer else (),
                          probability=answer.probability if answer else None)
        say(phrase("terminal.saved", file=options.report), sys.stderr)
    if options.csv:
        report.write_csv(options.csv, found)
        say(phrase("terminal.saved", file=options.csv), sys.stderr)


def _print_evidence(found: Sequence[Explanation], evidence: Sequence[Evidence],
                    shares: Sequence[PictureShare]) -> None:
    print(phrase("terminal.evidence"))
    words = {(one.source, place): word.text for one in found
             for place, word in enumerate(one.words)}
    numbers = {key: str(number) for number, key in enumerate(words, start=1)}
    rows = []
    for one in evidence:
        key = (one.source, one.word)
        values = (one.deletion.area, np.mean(one.random_deletion), one.insertion.area,
                  np.mean(one.random_insertion))
        rows.append((numbers[key], words[key], *(f"{value:.3f}" for value in values),
                     evidence_sentence(one)))
    _print_table(_heads("", "word", "first", "random", "last", "random", "verdict"), rows)
    print(f"\n{phrase('terminal.share')}")
    _print_table(_heads("", "word", ""), [
        (numbers[share.source, word], words[share.source, word], share_sentence(share, word))
        for share in shares for word in range(len(share.probability))])


def _progress(done: int, total: int) -> None:
    """Counts masked pictures on stderr where a person looks at it."""
    if sys.stderr.isatty():
        end = "\r\x1b[K" if done == total else ""
        told = phrase("terminal.masked", done=done, total=total)
        print(f"\r\x1b[K{told}{end}", end="", file=sys.stderr, flush=True)


def _heads(*names: str) -> tuple[str, ...]:
    """The heads of a table; "" stays empty."""
    return tuple(name and phrase(f"column.{name}") for name in names)


def _print_explanations(found: Sequence[Explanation]) -> None:
    if not found:
        print(phrase("terminal.no_words"))
    number = 0
    for explanation in found:
        say(phrase("terminal.text", title=phrase(f"source.{explanation.source}"),
                   text=explanation.text))
        rows = []
        for place, weights in enumerate(explanation.mean_map()):
            number += 1
            summary, sentence = where(explanation, place, weights)
            rows.append((str(number), explanation.words[place].text, percent(summary.total),
                         sentence))
        _print_table(_heads("", "word", "on_picture", "where"), rows)
        if explanation.note:
            say(explanation.note)
        print()


def _save_png(image: Any, found: Sequence[Explanation], number: int | None, file: str) -> None:
    if number is None:  # of the last text: the description, or the answer
        explanation = next(one for one in reversed(found) if one.words)
        weights = explanation.mean_map().mean(axis=0)
    else:
        maps = [(one, weights) for one in found for weights in one.mean_map()]
        explanation, weights = maps[number - 1]
    drawn = draw(image, explanation, weights)
    with replacing([Path(file)]) as (part,):
        drawn.save(part, "PNG")
    say(phrase("terminal.saved", file=file), sys.stderr)


def models(options: argparse.Namespace) -> int:
    """The kinds of models, or what one will take; see `vitdemo.models_command`."""
    from vitdemo import models_command

    return models_command.run(options, _print_json, _print_table)


def serve(arguments: Sequence[str]) -> int:
    """Start the app with the flags of app.py."""
    places = [folder / "app.py" for folder in (_HOME, Path.cwd())]
    file = next((place for place in places if place.is_file()), None)
    if file is None:
        raise ConfigError("terminal.no_app")
    sys.path.insert(0, str(file.parent))
    app = importlib.import_module("app")
    return int(app.main(list(arguments)) or 0)


def _opened(name: str) -> Picture:
    """A picture of the command line, with notes on what of it is damaged on stderr."""
    picture = open_picture(name)
    for note in picture.notes:
        print(phrase("terminal.note", text=note), file=sys.stderr)
    return picture


def _notes(picture: Picture) -> dict[str, list[str]]:
    """The same for JSON; nothing where there are none."""
    return {"notes": list(picture.notes)} if picture.notes else {}


def _engine(options: argparse.Namespace) -> Engine:
    """The engine that the options ask for."""
    return Engine.load(_config(options))


def _readers(options: argparse.Namespace, engine: Any, method: str, *arguments: Any) -> Readers:
    """What reads pictures of folders: processes of this computer, or with ``--ray`` workers of a
    cluster, which apply the engine's ``method`` to them, too."""
    if not options.ray:
        return Readers(options.workers)
    from vitdemo.serving.workers import RayReaders

    return RayReaders(options.ray, _config(options), engine, method, *arguments,
                      count=options.workers)


def _config(options: argparse.Namespace) -> EngineConfig:
    """What the options ask for; the shipped model is found from any folder."""
    model = options.model or EngineConfig().model
    if not options.model and not os.path.isdir(model) and (_HOME / model).is_dir():
        model = str(_HOME / model)
    return EngineConfig(model=model, device=options.device, dtype=options.dtype)


def _decoding_of(options: argparse.Namespace) -> Decoding:
    names = Decoding.__dataclass_fields__
    return Decoding(**{name: getattr(options, name) for name in names})


def _print_json(value: Any) -> None:
    utf8 = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    print(plain_json(json.dumps(without_nan(value), ensure_ascii=not utf8, indent=_indent(value))))


def _indent(value: Any) -> int | None:
    return None if "explanations" in value else 2  # thousands of numbers: one line


def _print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    lines = [[plain(cell) for cell in row] for row in (head, *rows)]
    widths = [max(_width(row[n]) for row in lines) for n in range(len(head))]
    for row in lines:
        cells = [cell + " " * (width - _width(cell))
                 for cell, width in zip(row, widths, strict=True)]
        print("  ".join(cells).rstrip())


def _width(text: str) -> int:
    """Columns in a terminal: Chinese characters take two."""
    return sum(2 if unicodedata.east_asian_width(one) in "WF" else 1 for one in text)


def _cosine(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"


def _tell(notes: Sequence[str]) -> None:
    """Sentences for a person, beside the result."""
    for note in filter(None, notes):
        say(note, sys.stderr)

