"""What the model does not read of a text is told in every task, and is never given a score."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import make_picture

from vitdemo import cli, report, viewer
from vitdemo.attention.faithfulness import share_sentence
from vitdemo.backends.native import NativeBackend
from vitdemo.config import LIMITS, EngineConfig
from vitdemo.engine import Engine
from vitdemo.errors import TextError
from vitdemo.preprocess import Picture, picture_of
from vitdemo.records import Unread
from vitdemo.report.page import Report, page
from vitdemo.retrieval.lines import rank_lines
from vitdemo.retrieval.query import Query
from vitdemo.retrieval.why import why
from vitdemo.ui.search.rank_sentences import match_bars
from vitdemo.ui.shown_result import Desk, not_read

LONG = ", ".join(["a dog runs"] * 40 + ["a cat sits"] * 40)
KNOWN, PARTLY, LOST = "a dog on grass", "a ネコ and a dog 🐱", "кошка ネコ"


@pytest.fixture(scope="module")
def engine(native_backend: NativeBackend) -> Engine:
    return Engine(native_backend, EngineConfig(device="cpu"))


@pytest.fixture(scope="module")
def photo() -> Picture:
    return picture_of(make_picture(3))


def test_a_text_of_which_nothing_was_read_has_no_score(engine: Engine, photo: Picture) -> None:
    found = engine.match(photo, [LOST, KNOWN, PARTLY, "?!"])
    assert [one.text for one in found] == [LOST, KNOWN, PARTLY, "?!"]
    assert [math.isnan(one.score) for one in found] == [True, False, False, True]
    assert [math.isnan(one.similarity) for one in found] == [True, False, False, True]
    alone = engine.match(photo, [KNOWN])[0]
    assert found[1].similarity == pytest.approx(alone.similarity, abs=1e-6)  # sums differ by rows
    assert replace(found[1], similarity=alone.similarity) == alone
    assert [word.text for word in found[2].unread.unknown] == ["ネコ", "🐱"]
    with pytest.raises(TextError, match="no word that tiny knows.*“кошка” and “ネコ”"):
        engine.match(photo, [LOST])
    for task in (lambda: engine.ask(photo, LOST), lambda: engine.caption(photo, LOST),
                 lambda: engine.explain(photo, LOST), lambda: engine.embed_texts([KNOWN, LOST]),
                 lambda: engine.match_pictures([photo], [LOST]), lambda: engine.ask(photo, "🐱？")):
        with pytest.raises(TextError, match="holds no word that tiny knows"):
            task()


def test_traditional_chinese_is_answered_as_simplified_is(engine: Engine, photo: Picture) -> None:
    plain, typed = "这张图片里有什么？", "這張圖片裡有什麼？"
    one, other = engine.ask(photo, plain), engine.ask(photo, typed)
    assert other.question == typed and other.language == "zh" and other.unread == Unread()
    assert (other.text, other.runners_up) == (one.text, one.runners_up)
    maps = [engine.explain(photo, answer)[0] for answer in (one, other)]
    assert "".join(word.text for word in maps[1].words) == typed.rstrip("？")
    assert engine.match(photo, ["Ｔｈｅ ｄｏｇ’ｓ"])[0].score == engine.match(
        photo, ["the dog's"])[0].score


def test_records_say_what_was_not_read(engine: Engine, photo: Picture) -> None:
    answer = engine.ask(photo, f"{PARTLY}?")
    assert [word.text for word in answer.unread.unknown] == ["ネコ", "🐱"]
    caption = engine.caption(photo, "describe the ネコ")
    assert [word.text for word in caption.unread.unknown] == ["ネコ"]
    assert caption.instruction == "describe the ネコ"
    (match,) = engine.match(photo, [LONG])
    assert match.unread.cut is not None and LONG[match.unread.cut:].startswith(("a", "cat", "sits"))
    assert engine.caption(photo).unread == Unread()


def test_words_that_were_not_read_are_marked_and_have_no_map(engine: Engine,
                                                             photo: Picture) -> None:
    for method in engine.methods:
        (found,) = engine.explain(photo, "a ネコ and a dog", method)
        assert found.unread == ("", "unknown", "", "", "")
        assert not found.weights[:, :, 1].any(), method
    assert engine.explain(photo, KNOWN)[0].unread == ()
    (found,) = engine.explain(photo, LONG)
    cut = engine.unread(LONG).cut
    assert cut is not None
    assert found.unread == tuple("" if word.start < cut else "cut" for word in found.words)
    assert not found.weights[:, :, [why != "" for why in found.unread]].any()
    asked = replace(engine.ask(photo, "is a ネコ there?"), text="dog")
    question, answer = engine.explain(photo, asked)
    assert question.unread == ("", "", "unknown", "") and answer.unread == ()


def test_what_was_not_read_is_not_tested(engine: Engine, photo: Picture) -> None:
    text = "a ネコ dog"
    assert [one.word for one in engine.evidence(photo, text)] == [0, 2]
    assert engine.evidence(photo, text, words=[1]) == ()
    (share,) = engine.picture_share(photo, text)
    assert share_sentence(share, 1) == "Not read: the model does not know this word."
    assert "fits" in share_sentence(share, 0)
    with pytest.raises(TextError, match="“ネコ” was not read: the model does not know"):
        engine.what_if(photo, text, 1)


def test_search_leaves_out_what_cannot_be_read(engine: Engine, photo: Picture) -> None:
    (found,) = why(engine, Query.of("dog ネコ"), [photo])
    assert [part.text for part in found.parts] == ["dog", "ネコ"]
    assert math.isnan(found.parts[0].loss) and math.isfinite(found.parts[1].loss)
    assert Query.of("dog ネコ").missed(engine) == ["The model does not know “ネコ”."]
    with pytest.raises(TextError, match="no word"):
        Query.of("dog -ネコ").vector(engine)


def test_lines_without_a_word_come_last_and_hold_nothing_up(engine: Engine, photo: Picture) -> None:
    assert [one.text for one in rank_lines(engine, photo, [LOST, KNOWN])] == [KNOWN, LOST]
    many = [f"a dog and {n} men" for n in range(LIMITS.max_sentences)]
    found = rank_lines(engine, photo, [LOST, *many])
    assert sorted(one.text for one in found) == sorted(many)
    with pytest.raises(TextError, match="no word of these"):
        rank_lines(engine, photo, [f"{LOST}{n % 7 * 'ф'}{n // 7 * 'г'}" for n in range(101)])
    shown = match_bars(rank_lines(engine, photo, [LOST, KNOWN, PARTLY]), 0, 3)
    assert shown.count("%</span>") == 2 and ">–</span>" in shown
    assert all(f"“{word}”" in shown for word in ("кошка", "ネコ", "🐱"))
    assert "no score for “кошка ネコ”" in shown


def test_the_app_says_it_beside_the_maps(engine: Engine, photo: Picture) -> None:
    payload = Desk().finish(engine, photo, {}, PARTLY, PARTLY)
    assert payload["unread"] == "The model does not know “ネコ” and “🐱”."
    assert payload["settings"]["Not read"] == payload["unread"]
    (text,) = payload["texts"]
    assert text["unread"] == ["", "the model does not know this word", "", "", ""]
    assert "unread" not in Desk().finish(engine, photo, {}, KNOWN, KNOWN)
    assert not_read(engine, engine.ask(photo, LONG)).startswith("The text is longer than")


def test_reports_say_it(engine: Engine, photo: Picture) -> None:
    found = engine.explain(photo, PARTLY)
    made = page(Report(photo, found, engine.info))
    assert made.count("Not read: the model does not know this word.") == 2, "and of its map"
    assert "Did not look at the picture" not in made
    words = report.to_json(found)["explanations"][0]["words"]
    assert [word["unread"] for word in words] == [None, "unknown", None, None, None]
    assert viewer.texts(found)[0]["unread"][1] == "the model does not know this word"


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(engine: Engine, monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    monkeypatch.setattr(Engine, "load", lambda config: engine)
    make_picture(3).save(tmp_path / "a.png")

    def call(command: str, *arguments: object) -> tuple[int, str, str]:
        code = cli.main([command, str(tmp_path / "a.png"), *map(str, arguments)])
        said = capsys.readouterr()
        return code, said.out, said.err
    return call


def test_the_command_line_gives_no_score_for_what_was_not_read(run: Run) -> None:
    code, out, err = run("match", "貓", "ネコ", "кошка", "🐱", "a dog")
    lines = {line.split()[-1]: line.split()[0] for line in out.splitlines()[1:]}
    assert code == 2 and lines["貓"].endswith("%") and lines["dog"].endswith("%")
    assert [lines[text] for text in ("ネコ", "кошка", "🐱")] == ["-"] * 3
    assert "does not know “ネコ”, “кошка” and “🐱”" in err and "There is no score for" in err
    found = json.loads(run("match", "ネコ", "a dog", "--json")[1])["matches"]
    assert found[0]["score"] is None and found[0]["unread"] == {
        "unknown": [{"text": "ネコ", "start": 0, "end": 2}], "cut": None, "nothing": True}
    assert found[1]["score"] > 0 and found[1]["unread"]["nothing"] is False
    code, out, err = run("match", "ネコ")
    assert (code, out) == (2, "") and err.startswith("error: The text holds no word that tiny")
    assert run("match", "a dog", "two cats")[0] == 0


@pytest.mark.parametrize("command, flag", [("ask", ""), ("caption", "--instruction"),
                                           ("explain", "--question"), ("explain", "--text"),
                                           ("explain", "--instruction")])
def test_every_command_names_what_it_does_not_know(run: Run, command: str, flag: str) -> None:
    code, out, err = run(command, *([flag] if flag else []), "is a кошка there?")
    assert code == 0 and out and "The model does not know “кошка”." in err
    code, out, err = run(command, *([flag] if flag else []), "кошка")
    assert (code, out) == (2, "") and "no word that tiny knows" in err and err.count("\n") == 1
    code, out, err = run(command, *([flag] if flag else []), LONG)
    assert code == 0 and "longer than the model reads. It was cut after “… " in err
    given: Any = json.loads(run(command, *([flag] if flag else []), "is a кошка there?",
                                "--json")[1])
    given = given["results"][0] if command == "caption" else given.get("result", given)
    assert given["unread"]["unknown"] == [{"text": "кошка", "start": 5, "end": 10}]


def test_explain_marks_the_words_in_table_and_json(run: Run) -> None:
    code, out, _ = run("explain", "--text", "a кошка on grass")
    rows = [line.split(maxsplit=3) for line in out.splitlines()[2:6]]
    assert code == 0 and rows[1][1:] == ["кошка", "0%", "Not read: the model does not know this "
                                                        "word."]
    assert "did not look" not in out
    out = run("explain", "--text", LONG)[1]
    assert out.count("Not read: the text was cut before it") > 10 and "did not look" not in out
    (found,) = json.loads(run("explain", "--text", "a кошка", "--json")[1])["explanations"]
    assert [word["unread"] for word in found["words"]] == [None, "unknown"]
    assert not np.any(found["words"][1]["map"])
