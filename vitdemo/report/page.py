"""A report: one HTML file that needs no server and no network, and most of it no scripts either.

The file holds the viewer of the app, its payload, and the same in plain HTML: a table of all words
with small maps, what a map can and cannot say, and how the maps were made. A
Content-Security-Policy in it forbids every request, and runs no script but its own.
"""

import base64
import hashlib
import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from vitdemo import __version__, viewer
from vitdemo.attention.faithfulness import evidence_sentence, share_sentence
from vitdemo.attention.methods import METHODS
from vitdemo.overlay import draw, percent, where
from vitdemo.preprocess import Picture
from vitdemo.record_json import without_nan
from vitdemo.records import Candidate, Evidence, Explanation, ModelInfo, PictureShare
from vitdemo.report.caveats import CAN, CANNOT
from vitdemo.words import language_of

MOUNT = """
const vdRoot = document.getElementById("viewer");
mountViewer(vdRoot, JSON.parse(document.getElementById("payload").textContent), null);
"""
THUMB = 132  # longest side of a small map, in pixels
_TITLES = {"caption": "Caption", "question": "Question", "answer": "Answer", "text": "Sentence"}
_MONTHS = ("January February March April May June July August September October November "
           "December").split()


@dataclass(frozen=True)
class Report:
    """What a report is about. ``others`` are maps of the same texts by other methods, ``answers``
    the next best answers, ``name`` the picture file's name, ``when`` the time of writing."""

    picture: Picture
    explanations: tuple[Explanation, ...]
    info: ModelInfo
    others: tuple[Explanation, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    shares: tuple[PictureShare, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    answers: tuple[Candidate, ...] = ()
    name: str = ""
    when: datetime = field(default_factory=lambda: datetime.now().astimezone())


def page(report: Report) -> str:
    """The whole file."""
    texts = viewer.texts(report.explanations, others=report.others, evidence=report.evidence,
                         shares=report.shares)
    shown = viewer.display(report.picture)
    payload = {"picture": shown, "model": report.info.name, "texts": texts}
    scripts = [viewer.script() + MOUNT]
    title = report.explanations[-1].text if report.explanations else "No words"
    style = viewer.styles() + (Path(__file__).parent / "report.css").read_text("utf-8")
    parts = [
        "<!doctype html>", f'<html lang="{language_of(title)}"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{_policy(scripts)}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f'<meta name="generator" content="vitdemo {__version__}">',
        f"<title>{html.escape(title)} – vitdemo report</title>", f"<style>{style}</style></head>",
        f'<body>{_header(report)}<main lang="en">', '<div id="viewer" class="vd-viewer"></div>',
        _without_scripts(shown["url"], title), _answers(report.answers),
        *(_table(report, one) for one in report.explanations), _caveats(), _made(report),
        "</main>", f'<script type="application/json" id="payload">{safe_json(payload)}</script>',
        *(f"<script>{script}</script>" for script in scripts), "</body></html>\n"]
    return "\n".join(parts)


def safe_json(value: object) -> str:
    """JSON that can stand inside a script element, whatever its texts are."""
    text = json.dumps(without_nan(value), ensure_ascii=False, allow_nan=False,
                      separators=(",", ":"))
    for bad in ("<", ">", "&", "\u2028", "\u2029"):
        text = text.replace(bad, f"\\u{ord(bad):04x}")
    return text


def _policy(scripts: Sequence[str]) -> str:
    """Nothing is fetched, nothing is sent, and only these scripts run."""
    known = " ".join("'sha256-" + base64.b64encode(
        hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii") + "'"
        for script in scripts)
    return ("default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; "
            f"script-src {known}; base-uri 'none'; form-action 'none'")


def _header(report: Report) -> str:
    when = report.when
    date = f"{when.day} {_MONTHS[when.month - 1]} {when.year}, {when:%H:%M}"
    width, height = report.picture.image.size
    name = f"{html.escape(report.name)}, " if report.name else ""
    return ('<header lang="en"><p class="vr-kicker">vitdemo report</p>'
            "<h1>Where the model looked, word by word</h1>"
            f"<p>Written by {html.escape(report.info.name)} on {date}. "
            f"Picture: {name}{width} × {height} pixels.</p></header>")


def _without_scripts(url: str, text: str) -> str:
    return ('<noscript><style>#viewer { display: none; }</style><p class="vr-note">Scripts are off '
            "here, so words cannot be chosen. All of them are in the table below.</p>"
            f'<img class="vr-photo" src="{url}" alt="The picture"><p class="vr-said" '
            f'lang="{language_of(text)}">{html.escape(text)}</p></noscript>')


def _answers(answers: Sequence[Candidate]) -> str:
    if not answers:
        return ""
    rows = "".join(f"<li>{html.escape(one.text)}: {percent(one.probability)}</li>"
                   for one in answers)
    return f"<section><h2>Other answers it weighed</h2><ul>{rows}</ul></section>"


def _table(report: Report, one: Explanation) -> str:
    """One text as a table: each word, its map, where it looked, and the evidence."""
    means = one.mean_map()
    top = float(means.max(initial=0.0))
    maps = _thumbnails(report.picture, one, top)
    found = {each.word: each for each in report.evidence
             if (each.source, each.method) == (one.source, one.method)}
    share = next((each for each in report.shares if each.source == one.source), None)
    rows = []
    for number, word in enumerate(one.words):
        sentence = where(one, number, means[number])[1]
        says = [sentence[:1].upper() + sentence[1:] + "."]
        if one.unread and one.unread[number]:
            pass  # there is no map to test
        elif number in found:
            says.append(evidence_sentence(found[number]))
        elif share is not None:
            says.append(share_sentence(share, number))
        sure = percent(one.word_probabilities[number]) if one.word_probabilities else "–"
        grey = percent(share.blank[number]) if share is not None else "–"
        cells = "".join(f"<p>{html.escape(text)}</p>" for text in says)
        rows.append(f'<tr><th scope="row" lang="{language_of(word.text)}">'
                    f'{html.escape(word.text)}</th><td><img src="{maps[number]}" '
                    f'alt="{html.escape(sentence)}"></td><td class="vr-sure">{sure}</td>'
                    f'<td class="vr-grey">{grey}</td><td>{cells}</td></tr>')
    title = _TITLES.get(one.source, "Text")
    heads = "".join(f'<th scope="col">{name}</th>' for name in (
        "Word", "Map", "How sure", "On a grey picture", "Where it looked, and if that matters"))
    return (f'<section class="vr-words"><h2>{title}, every word in a table</h2>'
            f'<p class="vr-said" lang="{language_of(one.text)}">{html.escape(one.text)}</p>'
            f"<table><thead><tr>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
            "</section>")


def _thumbnails(picture: Picture, one: Explanation, top: float) -> list[str]:
    """A small map of each word as a data URL, all on one scale from 0 to ``top``."""
    small = picture.image.copy()
    small.thumbnail((THUMB, THUMB), reducing_gap=2.0)
    return [viewer.data_url(draw(small, one, weights, top), THUMB) for weights in one.mean_map()]


def _caveats() -> str:
    can, cannot = ("".join(f"<li>{html.escape(text)}</li>" for text in texts)
                   for texts in (CAN, CANNOT))
    return (f"<section><h2>What a map can say</h2><ul>{can}</ul></section>"
            f"<section><h2>What a map cannot say</h2><ul>{cannot}</ul></section>")


def _made(report: Report) -> str:
    """Settings, model and methods: what is needed to do it again."""
    info = report.info
    rows = {**report.settings, "Model": info.name, "Model family": info.family,
            "Revision (of the weights)": info.revision, "vitdemo": __version__,
            "Written": report.when.isoformat(timespec="seconds")}
    maps = (*report.explanations, *report.others)
    ways = {METHODS.get(one.method, one.method): one.note for one in maps}
    rows["Maps made by"] = " ".join(f"{label}. {note}".strip() for label, note in ways.items())
    grids = {f"{one.grid[0]} rows of {one.grid[1]}" if one.grid[0] else
             f"{len(one.boxes)} that are no full grid" for one in report.explanations}
    if grids:
        rows["Regions"] = ", ".join(sorted(grids))
    items = "".join(f"<div><dt>{html.escape(name)}</dt><dd>{html.escape(str(value))}</dd></div>"
                    for name, value in rows.items())
    return f"<section><h2>How it was made</h2><dl>{items}</dl></section>"
