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
from vitdemo.attention.dependence import confidence_sentence
from vitdemo.attention.faithfulness import evidence_sentence, share_sentence
from vitdemo.attention.methods import label_of
from vitdemo.overlay import draw, percent, where
from vitdemo.preprocess import Picture
from vitdemo.record_json import without_nan
from vitdemo.records import Candidate, Evidence, Explanation, ModelInfo, PictureShare
from vitdemo.report.caveats import CAN, CANNOT
from vitdemo.texts import joined, phrase
from vitdemo.words import language_of

MOUNT = """
const vdRoot = document.getElementById("viewer");
mountViewer(vdRoot, JSON.parse(document.getElementById("payload").textContent), null);
"""
THUMB = 132  # longest side of a small map, in pixels


@dataclass(frozen=True)
class Report:
    """What a report is about. ``others`` are maps of the same texts by other methods, ``answers``
    the next best answers, ``probability`` that of the answer itself, ``name`` the picture file's
    name, ``when`` the time of writing."""

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
    probability: float | None = None

    def sure(self) -> str:
        """The line on how sure the model is; "" where nothing is known."""
        if not self.explanations:
            return ""
        last = self.explanations[-1]
        return confidence_sentence(last, self.probability, self.info.behind(last).yes_no)


def page(report: Report) -> str:
    """The whole file."""
    texts = viewer.texts(report.explanations, others=report.others, evidence=report.evidence,
                         shares=report.shares)
    shown = viewer.display(report.picture)
    payload = {"picture": shown, "model": report.info.name, "texts": texts, "sure": report.sure()}
    scripts = [viewer.script() + MOUNT]
    title = report.explanations[-1].text if report.explanations else phrase("report.no_words")
    style = viewer.styles() + (Path(__file__).parent / "report.css").read_text("utf-8")
    tag = phrase("language.tag")
    parts = [
        "<!doctype html>", f'<html lang="{tag}"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{_policy(scripts)}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f'<meta name="generator" content="vitdemo {__version__}">',
        f"<title>{html.escape(title)} – {phrase('report.kicker')}</title>",
        f"<style>{style}</style></head>", f"<body>{_header(report)}<main>",
        '<div id="viewer" class="vd-viewer"></div>',
        _without_scripts(shown["url"], title, report.sure()), _answers(report.answers),
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
    date = phrase("report.date", day=when.day, month=phrase(f"month.{when.month}"), year=when.year,
                  time=f"{when:%H:%M}")
    width, height = report.picture.image.size
    about = phrase("report.about_file" if report.name else "report.about", name=report.name,
                   model=report.info.name, date=date, width=width, height=height)
    return (f'<header><p class="vr-kicker">'
            f'{phrase("report.kicker")}</p><h1>{phrase("report.title")}</h1>'
            f"<p>{html.escape(about)}</p></header>")


def _without_scripts(url: str, text: str, sure: str) -> str:
    return ('<noscript><style>#viewer { display: none; }</style><p class="vr-note">'
            f'{phrase("report.no_scripts")}</p>'
            f'<img class="vr-photo" src="{url}" alt="{phrase("picture.unnamed")}">{_said(text)}'
            f"<p>{html.escape(sure)}</p></noscript>")


def _said(text: str) -> str:
    return (f'<p class="vr-said" dir="auto" lang="{language_of(text)}">{html.escape(text)}</p>')


def _answers(answers: Sequence[Candidate]) -> str:
    if not answers:
        return ""
    rows = "".join(f"<li><bdi>{html.escape(one.text)}</bdi>: {percent(one.probability)}</li>"
                   for one in answers)
    return f"<section><h2>{phrase('report.answers')}</h2><ul>{rows}</ul></section>"


def _table(report: Report, one: Explanation) -> str:
    """One text as a table: each word and how sure the model is of it, its map, where it looked, and
    if that matters."""
    checked = {each.word: each for each in report.evidence
               if (each.source, each.method) == (one.source, one.method)}
    share = next((each for each in report.shares if each.source == one.source), None)
    shares = [share_sentence(share, number) for number in range(len(one.words))] if share else []
    common = shares.pop() if len(set(shares)) == 1 else ""  # is said once
    small = report.picture.image.copy()
    small.thumbnail((THUMB, THUMB), reducing_gap=2.0)
    rows = []
    for number, (word, weights) in enumerate(zip(one.words, one.mean_map(), strict=True)):
        sentence = where(one, number, weights)[1]
        read = not (one.unread and one.unread[number])  # else there is no map to test
        says = [sentence]
        says += [evidence_sentence(checked[number])] if read and number in checked else []
        says += [shares[number]] if read and shares and not common else []
        sure = percent(one.word_probabilities[number]) if one.word_probabilities else ""
        cells = "".join(f"<p>{html.escape(text)}</p>" for text in says)
        image = viewer.data_url(draw(small, one, weights), THUMB)
        rows.append(f'<tr><th scope="row"><bdi lang="{language_of(word.text)}">'
                    f"{html.escape(word.text)}</bdi><small>{sure}</small></th><td>"
                    f'<img src="{image}" alt="{html.escape(sentence)}"></td><td>{cells}</td></tr>')
    title = phrase("viewer.word_by_word", title=phrase(f"source.{one.source}"))
    heads = "".join(f'<th scope="col">{name}</th>' for name in (
        f"{phrase('report.word')}<small>{phrase('report.how_sure')}</small>", phrase("report.map"),
        phrase("report.where")))
    return (f'<section class="vr-words"><h2>{title}</h2>{_said(one.text)}'
            f"<p>{html.escape(common)}</p><table><thead><tr>{heads}</tr></thead>"
            f"<tbody>{''.join(rows)}</tbody></table></section>")


def _caveats() -> str:
    can, cannot = ("".join(f"<li>{html.escape(phrase(key))}</li>" for key in keys)
                   for keys in (CAN, CANNOT))
    return (f"<section><h2>{phrase('report.can')}</h2><ul>{can}</ul></section>"
            f"<section><h2>{phrase('report.cannot')}</h2><ul>{cannot}</ul></section>")


def _made(report: Report) -> str:
    """Settings, model and methods: what is needed to do it again."""
    info = report.info
    rows = {**report.settings, phrase("report.model"): info.name,
            phrase("report.family"): info.family, phrase("report.revision"): info.revision,
            "vitdemo": __version__,
            phrase("report.written"): report.when.isoformat(timespec="seconds")}
    maps = (*report.explanations, *report.others)
    ways = {label_of(one.method): one.note for one in maps}
    rows[phrase("report.made_by")] = joined(
        joined((phrase("report.method", name=label), note)) for label, note in ways.items())
    grids = {phrase("report.grid", rows=one.grid[0], columns=one.grid[1]) if one.grid[0] else
             phrase("report.no_grid", number=len(one.boxes)) for one in report.explanations}
    if grids:
        rows[phrase("report.regions")] = phrase("list.join").join(sorted(grids))
    items = "".join(f"<div><dt>{html.escape(name)}</dt>"
                    f'<dd dir="auto">{html.escape(str(value))}</dd></div>'
                    for name, value in rows.items())
    return f"<section><h2>{phrase('report.how_made')}</h2><dl>{items}</dl></section>"
