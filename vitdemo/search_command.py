"""What ``python -m vitdemo search`` and ``duplicates`` do."""

import argparse
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vitdemo.config import LIMITS
from vitdemo.disk import expanded
from vitdemo.engine import Engine
from vitdemo.errors import ConfigError, PictureError, StoreError, shortened
from vitdemo.overlay import percent
from vitdemo.preprocess import Picture, open_picture, squeezed
from vitdemo.records import Hit
from vitdemo.retrieval.duplicates import find_duplicates
from vitdemo.retrieval.export import KINDS, write_hits
from vitdemo.retrieval.filters import Filters
from vitdemo.retrieval.metadata import told_day
from vitdemo.retrieval.query import Query
from vitdemo.retrieval.rerank import Reranker, nothing_fits
from vitdemo.retrieval.text_words import said_of
from vitdemo.retrieval.why import why
from vitdemo.terminal import say
from vitdemo.texts import phrase

FILTERS = tuple(Filters.__dataclass_fields__)
Table = Callable[[tuple[str, ...], list[tuple[str, ...]]], None]


def run(options: argparse.Namespace, load: Callable[[], Engine],
        print_json: Callable[[Any], None], print_table: Table) -> int:
    """Find pictures in a store by words, by a picture or by both. What is wrong with the question
    is told before the model is loaded."""
    for name, least in (("limit", 1), ("best", 0)):
        if not least <= getattr(options, name) <= LIMITS.max_hits:
            raise ConfigError(f"--{name} is {getattr(options, name)}; it must be from {least} to "
                              f"{LIMITS.max_hits}.")
    if options.save and Path(options.save).suffix.lower().lstrip(".") not in KINDS:
        raise ConfigError(f"--save is {options.save}; its name must end in "
                          f"{', '.join(f'.{kind}' for kind in KINDS)}.")
    filters = filters_of(options)
    picture = open_picture(options.picture) if options.picture else None
    for note in picture.notes if picture else ():
        print(f"note: {note}", file=sys.stderr)
    query = Query.of(options.text or "", picture, options.picture_weight,
                     phrase("query.the_picture", name=options.picture))
    filters = filters.within(query.date)
    check_store(options.store)
    engine = load()
    gallery = engine.gallery(options.store)
    try:
        vector = query.vector(engine)
        for note in (missed := query.missed(engine)):
            say(note, sys.stderr)
        hits = gallery.search(vector, max(options.limit, options.best), filters.conditions(),
                              query.words)
        empty = not hits and not gallery.count()
        if query.words and gallery.lacks_texts(hits):
            say(phrase("search.hits.older"), sys.stderr)
    finally:
        gallery.close()
    if options.best and query.terms and "match" in engine.info.tasks:
        hits = Reranker(engine).order(hits, query, options.best, _tell)
        if nothing_fits(hits):
            say(phrase("search.hits.nothing_fits", words=query.sentence), sys.stderr)
    hits = hits[:options.limit]
    parts = _parts(engine, query, hits) if options.why else {}
    said = {hit.id: said_of(query.words, hit.path, hit.metadata)
            for hit in hits} if options.why else {}
    if options.save:
        for sentence in write_hits(Path(options.save), hits, query.understood()):
            say(f"left out: {sentence}", sys.stderr)
        say(f"saved {options.save}", sys.stderr)
    if options.json:
        print_json({"store": options.store, "query": _given(options),
                    "understood": query.understood(), "unread": missed,
                    "filters": {name: value for name, value in asdict(filters).items() if value},
                    "hits": [{**_plain(hit),
                              **({"parts": parts[hit.id]} if hit.id in parts else {}),
                              **({"said": list(map(asdict, said[hit.id]))} if said else {})}
                             for hit in hits]})
        return 0
    when = f"; {query.date}" if query.date else ""
    say(f"Looked for: {query.understood()}{when}", sys.stderr)
    if hits:
        _print_hits(hits, parts, print_table, bool(filters.after or filters.before))
        for hit in hits:
            for one in said.get(hit.id, []):
                say(f"{hit.path}: " + phrase(f"search.why.{one.source}", text=one.text))
    else:
        say("The store is empty." if empty else "No picture fits these conditions.", sys.stderr)
    return 0


def _given(options: argparse.Namespace) -> dict[str, str]:
    return {name: value for name, value in (("text", options.text), ("picture", options.picture))
            if value}


def _plain(hit: Hit) -> dict[str, Any]:
    return {**asdict(hit), "metadata": dict(hit.metadata)}


def _print_hits(hits: list[Hit], parts: dict[str, list[dict[str, Any]]],
                print_table: Table, dated: bool) -> None:
    """A table, with each one's day where days were asked for (``dated``)."""
    matched = any(hit.match == hit.match for hit in hits)
    head = ("score", *(("fits",) if matched else ()), "size", *(("date",) if dated else ()),
            *(("words",) if parts else ()), "picture")
    rows = []
    for hit in hits:
        fits = (percent(hit.match) if hit.match == hit.match else "-",) if matched else ()
        words = (" ".join(f"{one['text']}:{one['loss']:+.3f}" for one in parts.get(hit.id, [])),
                 ) if parts else ()
        rows.append((f"{hit.score:.3f}", *fits, f"{hit.width}x{hit.height}",
                     *((told_day(hit.metadata),) if dated else ()), *words, hit.path))
    print_table(head, rows)


def _parts(engine: Engine, query: Query, hits: list[Hit]) -> dict[str, list[dict[str, Any]]]:
    """Each word's part in the score, by the id of the hit; files that are gone or broken since they
    were indexed are named and left out."""
    opened: list[tuple[str, Picture]] = []
    for hit in hits:
        try:
            opened.append((hit.id, squeezed(open_picture(hit.path), engine.picture_side)))
        except PictureError as error:
            say(f"not known of {hit.path} what each word does: {error}", sys.stderr)
    found = why(engine, query, [picture for _, picture in opened]) if opened else ()
    return {id_: [asdict(part) for part in one.parts]
            for (id_, _), one in zip(opened, found, strict=True)}


def duplicates(options: argparse.Namespace, load: Callable[[], Engine],
               print_json: Callable[[Any], None], print_table: Table) -> int:
    """Groups of almost the same pictures; nothing is deleted."""
    check_store(options.store)
    filters = filters_of(options)
    gallery = load().gallery(options.store)
    try:
        found = find_duplicates(gallery.index, filters.conditions(), options.keep, options.cosine,
                                options.distance, _tell)
    finally:
        gallery.close()
    if options.json:
        print_json(asdict(found))
        return 0
    rows: list[tuple[str, ...]] = []
    for place, group in enumerate(found.groups, 1):
        for n, one in enumerate(group.pictures):
            rows.append((str(place), "keep" if n == 0 else "", f"{one.width}x{one.height}",
                         f"{one.cosine:.3f}", str(one.distance), one.path))
    if rows:
        print_table(("group", "", "size", "alike", "bits", "picture"), rows)
    copies = sum(len(group.pictures) - 1 for group in found.groups)
    print(f"{len(found.groups):,} groups of almost the same pictures among {found.compared:,}; "
          f"{copies:,} could go. Nothing was deleted.")
    if found.more:
        print("There are more pictures than are compared at once: narrow them with --folder or "
              "--after.", file=sys.stderr)
    return 0


def check_store(store: str) -> None:
    """Raise `StoreError` where there is no store: looking must not make one."""
    if "://" not in store and not os.path.isdir(expanded(store)):
        raise StoreError("store.none", store=shortened(store, 300))


def filters_of(options: argparse.Namespace) -> Filters:
    """The conditions among the options."""
    return Filters(**{name: getattr(options, name) for name in FILTERS})


def _tell(done: int, total: int) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[K{done} of {total} ...\r\x1b[K", end="", file=sys.stderr, flush=True)
