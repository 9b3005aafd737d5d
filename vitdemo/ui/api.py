"""The endpoints for programs: named values in, small JSON out. docs/api.md tells of them.

They stand in the line that all visitors stand in, behind who waits for a short answer, and keep to
the same limits. Their docstrings are what programs, and models by MCP, are told of them.
"""

import inspect
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import gradio as gr

from vitdemo.config import LIMITS
from vitdemo.engine import Engine
from vitdemo.errors import ConfigError, StoreError, TextError
from vitdemo.preprocess import Picture, squeezed
from vitdemo.record_json import evidence_json, explanation_json, without_nan
from vitdemo.records import Answer, Caption, Explanation, Hit
from vitdemo.retrieval.filters import Filters
from vitdemo.retrieval.gallery import Gallery
from vitdemo.retrieval.query import Query
from vitdemo.retrieval.rerank import BEST, Reranker
from vitdemo.ui.components import Context
from vitdemo.ui.given import read_given
from vitdemo.ui.line import LONG
from vitdemo.ui.search.galleries import EXAMPLES, FOLDER, OWNERS, Galleries

MOST_ANSWERS = 50
Reply = dict[str, Any]


def build_api(context: Context, blocks: gr.Blocks, galleries: Galleries) -> None:
    """Tie the endpoints; to be called within ``blocks``."""
    api = Endpoints(context, galleries)
    with gr.Column(visible=False):  # they have no place on the page
        for endpoint in (api.caption, api.ask, api.match, api.search, api.explain, api.evidence):
            _tie(blocks, endpoint)


def _tie(blocks: gr.Blocks, endpoint: Callable[..., Reply]) -> None:
    """Tie one, its values under their own names and with what its docstring says of them."""
    tied = gr.api(endpoint, api_name=endpoint.__name__, **LONG)
    told = gr.utils.get_function_description(endpoint)[1]
    function = blocks.fns[tied["id"]]
    inputs: Sequence[Any] = function.inputs
    for name, field in zip(inspect.signature(endpoint).parameters, inputs, strict=True):
        field.label = name
        field._api_info["additional_description"] = told[name]


class Endpoints:
    """What a program may ask for."""

    def __init__(self, context: Context, galleries: Galleries) -> None:
        self._context, self._galleries = context, galleries
        self._reranker = Reranker(context.engine)

    @property
    def _engine(self) -> Engine:
        return self._context.engine

    def _picture(self, given: str) -> Picture:
        return read_given(given or "", self._context.settings.addresses)

    def caption(self, picture: str, instruction: str = "", language: str = "en") -> Reply:
        """Describe a picture in one sentence.

        Args:
            picture: an uploaded file, its bytes in base64, or where allowed an https address.
            instruction: steers what is told, as in "Who is in the picture?"; empty: the usual one.
            language: en or zh.

        Returns:
            {"text", "language", "instruction", "log_probability", "seconds", "unread", "notes"}
        """
        photo = self._picture(picture)
        return _reply(photo, asdict(self._engine.caption(photo, instruction, language)))

    def ask(self, picture: str, question: str, language: str = "", count: int = 5) -> Reply:
        """Answer a question about a picture, with the next likely answers.

        Args:
            picture: an uploaded file, its bytes in base64, or where allowed an https address.
            question: what to answer, in English or Chinese.
            language: en or zh; empty: that of the question.
            count: how many answers are weighed against each other, from 1 to 50.

        Returns:
            {"text", "probability", "runners_up": [{"text", "probability"}], "question",
            "language", "seconds", "unread", "notes"}
        """
        _within("count", count, MOST_ANSWERS)
        photo = self._picture(picture)
        return _reply(photo, asdict(self._engine.ask(photo, question or "", language, count)))

    def match(self, picture: str, texts: list[str]) -> Reply:
        """Tell how well each of some sentences fits a picture.

        Args:
            picture: an uploaded file, its bytes in base64, or where allowed an https address.
            texts: from 1 to 100 sentences.

        Returns:
            {"matches": [{"text", "score", "similarity", "unread"}], "notes"}, in the order given:
            score is the probability 0..1 that it fits, similarity a cosine.
        """
        if not texts:
            raise TextError("api.no_text")
        photo = self._picture(picture)
        return _reply(photo, {"matches": [asdict(one) for one in self._engine.match(photo, texts)]})

    def search(self, text: str = "", picture: str = "", picture_weight: float = 1.0,
               limit: int = 12, where: str = "examples", rerank: bool = True, folder: str = "",
               after: str = "", before: str = "", min_width: int = 0, max_width: int = 0,
               min_height: int = 0, max_height: int = 0, orientation: str = "",
               camera: str = "") -> Reply:
        """Find pictures by words, by a picture or by both, the best first; of the conditions, only
        those given count.

        Args:
            text: words, signs and weights, "cat -indoor +2 snow"; a year or month is a date.
            picture: one that hits should look like; given as everywhere, or empty.
            picture_weight: how much it counts beside the words, over 0.
            limit: how many hits at most, from 1 to 2000.
            where: examples, or folders for the pictures that the owner of the app shows or keeps.
            rerank: look at the best 50 again with the model that reads words and picture together.
            folder: only pictures in this folder, or below it.
            after: only from this day on, as in 2024-05-31 or 2024.
            before: only up to this day.
            min_width: only at least so many pixels wide.
            max_width: only at most so many pixels wide.
            min_height: only at least so many pixels high.
            max_height: only at most so many pixels high.
            orientation: only landscape, portrait or square.
            camera: only those taken with it; a part of its name is enough.

        Returns:
            {"understood", "date", "notes", "hits": [{"picture", "score", "match", "fits", "width",
            "height"}]}: picture is a file's name, on the owner's own computer its path; score is a
            cosine, match a probability 0..1, or null; fits says whether it fits, false for all
            where nothing does, null where that is not known.
        """
        _within("limit", limit, LIMITS.max_hits)
        filters = Filters(folder, after, before, min_width, max_width, min_height, max_height,
                          orientation, camera)
        engine = self._engine
        photo = squeezed(self._picture(picture), engine.picture_side) if picture else None
        query = Query.of(text, photo, picture_weight)
        gallery = self._gallery(where)
        rerank = rerank and "match" in engine.info.tasks
        hits = gallery.search(query.vector(engine), max(limit, BEST if rerank else 0),
                              filters.within(query.date).conditions(), query.words)
        hits = (self._reranker.order(hits, query) if rerank else hits)[:limit]
        whole = where == "folders" and not self._context.settings.shared
        return {"understood": query.understood(), "date": query.date, "notes": query.missed(engine),
                "hits": without_nan([_hit(hit, whole) for hit in hits])}

    def explain(self, picture: str, text: str = "", question: str = "", instruction: str = "",
                language: str = "", method: str = "") -> Reply:
        """Tell for each word of a caption, an answer or a sentence where in the picture the model
        looked.

        Args:
            picture: an uploaded file, its bytes in base64, or where allowed an https address.
            text: a sentence to compare with the picture; empty with question: the caption.
            question: a question whose answer is explained.
            instruction: steers the caption.
            language: en or zh, of the caption or the answer.
            method: a way to explain, as "relevancy"; empty: the usual one.

        Returns:
            {"text", "explanations": [{"source", "text", "method", "note", "picture_size", "grid",
            "boxes", "words"}], "notes"}: boxes are [x0, y0, x1, y1] in pixels of the picture, and
            each word has "text", "start", "end", "probability", "where", and in "map" one weight
            0..1 for each box.
        """
        photo, result, found = self._explained(picture, text, question, instruction, language,
                                               method)
        return _reply(photo, {"text": _text(result),
                              "explanations": [explanation_json(one) for one in found]})

    def evidence(self, picture: str, text: str = "", question: str = "", instruction: str = "",
                 language: str = "", method: str = "") -> Reply:
        """Test the maps of explain: does blurring what a word's map marks change the word more
        than blurring other parts does, and would the model have said it of a grey picture, too?

        Args:
            picture: an uploaded file, its bytes in base64, or where allowed an https address.
            text: a sentence to compare with the picture; empty with question: the caption.
            question: a question whose answer is tested.
            instruction: steers the caption.
            language: en or zh, of the caption or the answer.
            method: a way to explain, as "relevancy"; empty: the usual one.

        Returns:
            {"text", "words", "evidence": [{"word", "verdict", "sentence", "deletion", "insertion",
            "random_deletion", "random_insertion", "others", ...}], "shares", "notes"}: word is a
            place in words, from 0; verdict is strong, some, shared, chance, worse or language.
        """
        photo, result, found = self._explained(picture, text, question, instruction, language,
                                               method)
        if not found:
            return _reply(photo, {"text": _text(result), "words": [], **evidence_json((), ())})
        source = found[-1].source  # of an answer, not of its question
        tested = self._engine.evidence(photo, result, method, source)
        shares = [one for one in self._engine.picture_share(photo, result) if one.source == source]
        return _reply(photo, {"text": _text(result), "words": [one.text for one in found[-1].words],
                              **evidence_json(tested, shares)})

    def _explained(self, picture: str, text: str, question: str, instruction: str, language: str,
                   method: str) -> tuple[Picture, Caption | Answer | str, Sequence[Explanation]]:
        """A picture, what is said of it, and the maps of that."""
        if sum(map(bool, (text, question, instruction))) > 1:
            raise TextError("api.several")
        photo, engine = self._picture(picture), self._engine
        result = (engine.ask(photo, question, language) if question else
                  text or engine.caption(photo, instruction, language or "en"))
        return photo, result, engine.explain(photo, result, method)

    def _gallery(self, where: str) -> Gallery:
        folders = OWNERS if OWNERS in self._galleries.shared else FOLDER
        places = {"examples": EXAMPLES, "folders": folders}
        if where not in places:
            raise StoreError("api.where")
        return self._galleries.gallery(places[where])


def _within(name: str, value: int, most: int) -> None:
    if not 1 <= value <= most:
        raise ConfigError("api.within", name=name, value=value, most=most)


def _text(result: Caption | Answer | str) -> str:
    return result if isinstance(result, str) else result.text


def _hit(hit: Hit, whole: bool) -> Reply:
    """A hit; where its file lies, ``whole``, is its owner's alone. (To Gradio's client, a "path"
    is a file to fetch.)"""
    name = hit.path if whole else os.path.basename(hit.path)
    return {"picture": name, "score": hit.score, "match": hit.match, "fits": hit.fits,
            "width": hit.width, "height": hit.height}


def _reply(photo: Picture, found: Reply) -> Reply:
    """JSON with what a person would be told of a damaged picture."""
    return dict(without_nan({**found, "notes": list(photo.notes)}))
