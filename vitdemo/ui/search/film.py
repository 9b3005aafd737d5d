"""The video of a hit, beneath its map: a player that begins at the hit's second, and a strip of the
video's frames with the map of a word of the query, or of the frame's caption, over time."""

import html
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr
from PIL import Image

from vitdemo import viewer
from vitdemo.errors import TextError
from vitdemo.film_strip import TILE, Moment, Strip, film_strip
from vitdemo.overlay import percent, summarise
from vitdemo.preprocess import open_picture
from vitdemo.texts import phrase
from vitdemo.ui import markup
from vitdemo.ui.components import Context, carried, html_output
from vitdemo.ui.line import LONG
from vitdemo.ui.search.state import Search
from vitdemo.ui.tabs.describe import first_language
from vitdemo.ui.turns import Panel, Turn, Turns
from vitdemo.video import called, clock, file_of, second_of

# What a click tells: ``strip`` with {"text"} or {"word"}; a frame of the strip winds the player.
# The strip comes into view when it is there first; a word that was pressed keeps the focus.
CLICKS = """
let word = null;
element.addEventListener("click", (event) => {
  const given = event.target.closest("button")?.dataset ?? {};
  if (given.second !== undefined) {
    const player = document.querySelector("#search-film video");
    player.currentTime = Number(given.second);
    player.scrollIntoView({ block: "nearest" });
  } else if (given.text !== undefined) {
    trigger("strip", { text: given.text });
  } else if (given.index !== undefined) {
    word = given.index;
    trigger("strip", { word: Number(word) });
  }
});
let there = false;
watch("value", () => {
  const now = element.querySelector("img") !== null;
  if (now && !there) element.scrollIntoView({ block: "nearest" });
  there = now;
  const pressed = word === null ? null : element.querySelector(`[data-index="${word}"]`);
  if (pressed && document.activeElement === document.body) pressed.focus({ preventScroll: true });
});
"""


class Strips(Turns):
    """The strip that one page shows: of which text, and whether that was written by the model."""

    def __init__(self) -> None:
        super().__init__()
        self.strip: Strip | None = None
        self.text = ""
        self.caption = False


@dataclass(frozen=True)
class Film:
    """Where they are shown."""

    player: gr.HTML
    strip: gr.HTML
    panel: Panel

    @property
    def cleared(self) -> list[Any]:
        """What another hit, or another search, empties."""
        return [self.player, self.strip]


def build_film() -> Film:
    """Lay them out; within the sheet."""
    player, strip = (html_output(elem_id=name, js_on_load=CLICKS)
                     for name in ("search-film", "search-strip"))
    return Film(player, strip, Panel.of(Strips()))


def film_html(context: Context, path: str, sentence: str) -> str:
    """The player of a frame's video, and the buttons that ask for a strip: for the sentence that
    was searched for, and for the frame's caption; "" for another picture."""
    player = context.sessions.videos.player(path)
    asks = {"asked": bool(sentence), "caption": context.can("caption")}
    if not player or not context.can("match", "explain"):
        return player
    buttons = "".join(
        f'<button type="button" data-text="{name}">'
        f'{markup.said(f"search.film.{name}", text=sentence)}</button>'
        for name, there in asks.items() if there)
    return f'{player}<div class="vt-chips">{buttons}</div>'


def tie_film(context: Context, film: Film, path: gr.State, search: gr.State) -> None:
    """Tie its buttons; ``path`` is that of the frame on the sheet."""
    engine = context.engine

    def show(strips: Strips, turn: Turn, event: gr.EventData, frame: str, held: Search
             ) -> Iterator[str]:
        asked = carried(event)
        if "text" in asked and second_of(frame) is not None:
            yield markup.status(phrase("search.film.making"))
            text, written = held.list.query.sentence, asked["text"] == "caption"
            if written:
                text = engine.caption(open_picture(frame, name=called(frame)),
                                      language=first_language(engine)).text
            strip = film_strip(engine, file_of(frame), text)
            with strips.writing():
                strips.strip, strips.text, strips.caption = strip, text, written
        word = asked.get("word", 0)
        if strips.strip is None or type(word) is not int or not 0 <= word <= len(
                strips.strip.words):
            raise TextError("request.gone")
        yield strip_html(strips.strip, strips.text, word, strips.caption)

    for part in (film.player, film.strip):
        film.panel.act(part.strip, show, [path, search], [film.strip],
                       lambda error, _: markup.notice(error), **LONG)


def strip_html(strip: Strip, text: str, word: int, caption: bool = False) -> str:
    """The frames with the map of a word by its number from 1, of all words where it is 0, and the
    words to choose from. ``caption`` says that the model wrote the text."""
    names = [phrase("search.film.all"), *strip.words]
    chips = markup.chips(names, phrase("search.film.words"), word)
    items = "".join(_tile(moment, tile, word or None)
                    for moment, tile in zip(strip.moments, strip.tiles(word or None), strict=True))
    about = phrase("search.film.about_caption" if caption else "search.film.about", text=text)
    label = phrase("search.film.label", word=names[word])
    return (f'{markup.status(about)}{chips}'
            f'<ol class="vt-hits" aria-label="{html.escape(label)}">{items}</ol>')


def _tile(moment: Moment, tile: Image.Image, word: int | None) -> str:
    """A frame as a button, on which the player is wound."""
    time, fits = clock(moment.second), percent(moment.match)
    maps = moment.explanation
    where = summarise(moment.map_of(word), maps.boxes, maps.picture_size).sentence()
    alt = markup.said("search.film.frame", time=time, fits=fits, where=where)
    return (f'<li><button type="button" class="vt-hit" data-second="{moment.second:g}">'
            f'<img style="aspect-ratio:{tile.width}/{tile.height}" '
            f'src="{viewer.data_url(tile, TILE)}" alt="{alt}">'
            f'<span class="vt-score" aria-hidden="true"><span>{time}</span><span>{fits}</span>'
            '</span></button></li>')
