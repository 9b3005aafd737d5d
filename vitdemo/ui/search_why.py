"""Why this hit, and why not that one: maps of the words, and each word's part in the score."""

import html
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from vitdemo import viewer
from vitdemo.preprocess import Picture, open_picture, open_pictures
from vitdemo.records import Hit
from vitdemo.retrieval.why import Why, WhyNot, why, why_not
from vitdemo.ui.checks import check_after, tie_requests
from vitdemo.ui.desk import Desk
from vitdemo.ui.finding import Finding, Search
from vitdemo.ui.parts import (
    MODEL,
    Context,
    PageValue,
    carried,
    drop_refused,
    notice,
    percent,
    picture_input,
    refusal,
    uploaded,
)
from vitdemo.ui.turns import Panel, Turn, Turns

HINT = "Two maps appear here side by side: the hit’s, and that of the picture you choose."
HONEST = ("A word’s part is what the score loses when the word is left out of the search and all "
          "else stays. Words work together, so the parts do not add up to the score. The maps come "
          "from the part of the model that reads words and picture together, the score from its "
          "vectors: they need not agree.")


@dataclass(frozen=True)
class Views:
    """Where it is shown. ``path`` is that of the picture whose maps are on screen."""

    view: gr.HTML
    parts: gr.HTML
    desk: Panel
    path: gr.State
    versus_panel: Panel
    accordion: gr.Accordion
    other: Any
    versus: gr.HTML
    verdict: gr.HTML

    @property
    def cleared(self) -> list[Any]:
        """What a new search empties."""
        return [self.view, self.parts, self.versus, self.verdict]

    def empty(self) -> tuple[Any, ...]:
        """What it is then."""
        return {}, "", {"hint": HINT}, ""


def build_why(context: Context, view: gr.HTML, desk: Panel, path: gr.State) -> Views:
    """Lay out the parts below the viewer."""
    parts = gr.HTML("", apply_default_css=False, elem_id="search-parts")
    with gr.Accordion("Why not this one?", open=False, elem_id="search-why-not") as accordion:
        gr.HTML('<p class="vt-hint">Choose any picture, or press “Why not this one?” under a hit: '
                "it is set beside the hit that you chose, or else beside the first.</p>",
                apply_default_css=False)
        other = picture_input("A picture that you expected", height=200, elem_id="search-other")
        verdict = gr.HTML("", apply_default_css=False, elem_id="search-verdict")
        versus = gr.HTML(value={"hint": HINT}, html_template='<div class="vd-compare"></div>',
                         css_template=viewer.styles(), js_on_load=viewer.gradio_compare_script(),
                         visible=context.can("match", "explain"), apply_default_css=False,
                         elem_id="search-versus")
    return Views(view, parts, desk, path, Panel.of(Turns()), accordion, other, versus, verdict)


def tie_why(context: Context, search: gr.State, hits: gr.HTML, views: Views,
            page: Callable[[Finding], str]) -> None:
    """Tie clicks on hits, and the picture that was expected. ``page`` is the hits' HTML."""
    engine, panel, path = context.engine, views.desk, views.path
    refused = PageValue("")

    def explain(desk: Desk, turn: Turn, event: gr.EventData, held: Search
                ) -> Iterator[tuple[Any, ...]]:
        finding = held.finding
        hit = finding.hit(carried(event).get("id"))
        finding.chosen = hit.id
        photo = read_hit(hit)
        sentence = finding.query.sentence
        shown = {"picture": viewer.display(photo)}
        if not (sentence and context.can("match", "explain")):
            reason = ("" if sentence else "There are no words to show maps for: this picture was "
                                          "found by how it looks.")
            yield page(finding), {**shown, "reason": reason}, parts_html(
                why(engine, finding.query, [photo])[0], hit), hit.path
            return
        yield gr.skip(), {**shown, "writing": sentence}, "", ""
        payload = desk.finish(engine, photo, shown, sentence, sentence,
                              checking=context.settings.check_at_once)
        yield (gr.skip(), payload, parts_html(why(engine, finding.query, [photo])[0], hit),
               hit.path)

    def beside_hit(versus: Turns, turn: Turn, event: gr.EventData, held: Search
                   ) -> Iterator[tuple[Any, ...]]:
        finding = held.finding
        other = finding.hit(carried(event).get("id"))
        yield gr.update(open=True), {"busy": True, "hint": "Looking …"}, "", ""
        yield gr.skip(), *beside(context, finding, other.path), ""

    def beside_upload(versus: Turns, turn: Turn, request: gr.Request, other: str | None,
                      held: Search) -> Iterator[tuple[Any, ...]]:
        if not other:  # emptying the field is an input, too
            yield gr.skip(), {"hint": HINT}, "", ""
            return
        yield gr.skip(), {"busy": True, "hint": "Looking …"}, "", ""
        yield gr.skip(), *beside(context, held.finding, uploaded(other)), ""

    explained = panel.act(hits.why, explain, [search], [hits, views.view, views.parts, path],
                          lambda error, _: (gr.skip(), {"message": str(error)}, "", ""),
                          api_visibility="private", show_progress="hidden", **MODEL)
    check_after(context, explained, views.view, panel, path)
    tie_requests(context, views.view, panel, path)
    outputs = [views.accordion, views.versus, views.verdict, refused]
    settings: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden", **MODEL}
    views.versus_panel.act(
        hits.versus, beside_hit, [search], outputs,
        lambda error, _: (gr.skip(), {"hint": HINT}, notice(str(error)), ""), **settings)
    given = views.versus_panel.act(
        views.other.input, beside_upload, [views.other, search], outputs,
        lambda error, given: (gr.skip(), {"hint": HINT}, notice(str(error)),
                              refusal(error, given[3])), **settings)
    drop_refused(given, refused, views.other)


def read_hit(hit: Hit) -> Picture:
    """The picture of a hit.

    Raises:
        PictureError: it is gone, or cannot be read any more.
    """
    return open_picture(hit.path)


def beside(context: Context, finding: Finding, path: str) -> tuple[dict[str, Any], str]:
    """The chosen hit, or else the first, beside another picture file: the comparing viewer's
    payload, and the verdict as HTML.

    Raises:
        StoreError: nothing was searched for yet.
        PictureError: one of them cannot be used.
    """
    best = finding.hit(finding.chosen) if finding.chosen else finding.hit(
        finding.ranked()[0].id if finding.ranked() else "")
    assert finding.gallery is not None
    photo, other = open_pictures([best.path, path])
    found = why_not(finding.gallery, finding.query, finding.filters, photo, other, path)
    said = verdict_html(found, best, os.path.basename(path))
    sentence = finding.query.sentence
    if not (sentence and context.can("match", "explain")):
        return {"hint": "There are no words to show maps for."}, said
    sides = []
    for picture, name in ((photo, f"The hit: {os.path.basename(best.path)}"),
                          (other, os.path.basename(path))):
        maps = context.engine.explain(picture, sentence)
        sides.append({**viewer.payload(maps, picture, context.engine.info.name), "name": name,
                      "asks": []})  # nothing here is on a desk to be checked
    return {"left": sides[0], "right": sides[1]}, said


def parts_html(found: Why, hit: Hit) -> str:
    """Each word's part in a hit's score, as bars to the left or right of zero."""
    match = "" if math.isnan(hit.match) else (
        f" By a second look, your words fit with {percent(hit.match)}.")
    rows = []
    most = max((abs(part.loss) for part in found.parts if not math.isnan(part.loss)), default=1.0)
    for part in found.parts:
        if math.isnan(part.loss):
            said = "all there is to search with"
        else:
            said = f"{'+' if part.loss >= 0 else '−'}{abs(part.loss):.3f}"
        rows.append(_row(_name(part.text, part.weight), said, part.loss, most))
    return (f'<section class="vt-parts" role="status"><h2 class="vt-heading">Each word’s part in '
            f'the score of {found.score:.3f}</h2><ul class="vt-bars">{"".join(rows)}</ul>'
            f'<p class="vt-hint">{HONEST}{match}</p></section>')


def _row(name: str, said: str, loss: float, most: float) -> str:
    width = 0.0 if math.isnan(loss) else 50 * abs(loss) / (most or 1.0)
    left = 50.0 if loss >= 0 or math.isnan(loss) else 50 - width
    kind = "vt-for" if loss >= 0 else "vt-against"
    return (f'<li class="vt-row"><span class="vt-what">{html.escape(name)}</span>'
            f'<span class="vt-value">{said}</span><span class="vt-track vt-middle" '
            f'aria-hidden="true"><span class="vt-fill {kind}" style="margin-left:{left:.1f}%;'
            f'width:{width:.1f}%"></span></span></li>')


def _name(text: str, weight: float) -> str:
    if weight == 1:
        return text
    return f"{'−' if weight < 0 else '+'}{f'{abs(weight):g} × ' if abs(weight) != 1 else ''}{text}"


def verdict_html(found: WhyNot, best: Hit, name: str) -> str:
    """What sets the other picture apart from the hit, in words and in a table."""
    name = html.escape(name)
    if not found.held:
        where = f"{name} is not among the pictures that were searched."
    elif found.misfits:
        where = f"{name} was left out because {html.escape(', and '.join(found.misfits))}."
    elif found.place:
        where = f"By its vector {name} stands at place {found.place:,}."
    else:
        where = f"{name} is not among the first {found.looked:,}."
    gap = found.hit.score - found.other.score
    if abs(gap) < 0.0005:
        compared = "Both have the same score."
    else:
        compared = (f"Its score is {found.other.score:.3f}, {abs(gap):.3f} "
                    f"{'less' if gap > 0 else 'more'} than the hit’s.")
    rows = [(_name(ours.text, ours.weight), _signed(ours.loss), _signed(theirs.loss))
            for ours, theirs in zip(found.hit.parts, found.other.parts, strict=True)]
    rows.append(("Score", f"{found.hit.score:.3f}", f"{found.other.score:.3f}"))
    body = "".join(f'<tr><th scope="row" class="vt-first">{html.escape(what)}</th><td>{ours}</td>'
                   f"<td>{theirs}</td></tr>" for what, ours, theirs in rows)
    return (f'<section class="vt-parts" role="status"><p>{where} {compared}</p>'
            '<table class="vt-table"><thead><tr><th scope="col" class="vt-first">Part in the score'
            f'</th><th scope="col">{html.escape(os.path.basename(best.path))}</th>'
            f'<th scope="col">{name}</th></tr></thead><tbody>{body}</tbody></table></section>')


def _signed(loss: float) -> str:
    return "all" if math.isnan(loss) else f"{'+' if loss >= 0 else '−'}{abs(loss):.3f}"
