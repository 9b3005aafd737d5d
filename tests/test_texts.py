"""The catalogue: the same keys and values in every language, all of them used, and the language
that a visitor gets."""

import ast
import asyncio
import gzip
import logging
import pickle
import re
import string
import threading
from pathlib import Path
from typing import Any

import pytest
from starlette.datastructures import Headers

from vitdemo import errors
from vitdemo.errors import PictureError, TextError
from vitdemo.terminal import PlainFormatter
from vitdemo.texts import (
    DEFAULT,
    LANGUAGES,
    Message,
    Sentence,
    best_language,
    catalogue,
    language,
    phrase,
    speaking,
)
from vitdemo.ui.language import in_language, language_of

ROOT = Path(__file__).parent.parent
OTHERS = [code for code in LANGUAGES if code != DEFAULT]
FILES = {"css", "csv", "html", "jpg", "js", "json", "png", "py", "toml", "tsv", "txt"}
KEY = re.compile(r"[a-z]+(\.[a-z0-9_-]+)+")
START = re.compile(r"[a-z]+(\.[a-z0-9_-]+)*\.")


def forms(sentence: Sentence) -> list[str]:
    return [sentence] if isinstance(sentence, str) else list(sentence.values())


def values(sentence: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(sentence) if name is not None}


def uses() -> tuple[dict[str, str], set[str]]:
    """Keys that the sources name, with the file, and beginnings of keys that are made there."""
    tables = {key.partition(".")[0] for key in catalogue(DEFAULT)}
    whole: dict[str, str] = {}
    starts: set[str] = set()
    for path in [ROOT / "app.py", *(ROOT / "vitdemo").rglob("*.py"),
                 *(ROOT / "vitdemo").rglob("*.js")]:
        source = path.read_text("utf-8")
        if path.suffix == ".js":
            found = re.findall(r'"([^"\n]*)"', source)
            begun = re.findall(r"`([^`$\n]*)\$\{", source)
        else:
            tree = list(ast.walk(ast.parse(source)))
            found = [one.value for one in tree if isinstance(one, ast.Constant)]
            begun = [one.values[0].value for one in tree if isinstance(one, ast.JoinedStr)
                     and one.values and isinstance(one.values[0], ast.Constant)]
        whole |= {one: str(path) for one in found if isinstance(one, str) and KEY.fullmatch(one)
                  and one.partition(".")[0] in tables and one.rpartition(".")[2] not in FILES}
        starts |= {one for one in begun if START.fullmatch(one)
                   and one.partition(".")[0] in tables}
    return whole, starts


@pytest.mark.parametrize("code", OTHERS)
def test_every_language_has_the_same_keys_and_values(code: str) -> None:
    first, other = catalogue(DEFAULT), catalogue(code)
    assert first.keys() == other.keys()
    for key, sentence in first.items():
        mine = set().union(*map(values, forms(sentence)))
        theirs = set().union(*map(values, forms(other[key])))
        # "One picture" need not name the number.
        assert mine - {"count"} == theirs - {"count"}, key


@pytest.mark.parametrize("code", LANGUAGES)
def test_sentences_can_be_filled_in(code: str) -> None:
    for key, sentence in catalogue(code).items():
        if not isinstance(sentence, str):
            assert "other" in sentence, key
        for form in forms(sentence):
            assert key.startswith("list.") or (form.strip() == form and form), key
            assert "{{" not in form and all(name.isidentifier() for name in values(form)), key


def test_every_key_that_is_used_exists_and_none_is_unused() -> None:
    whole, starts = uses()
    keys = catalogue(DEFAULT)
    missing = {key: file for key, file in whole.items() if key not in keys
               and not any(known.startswith(f"{key}.") for known in keys)}
    assert not missing
    unused = [key for key in keys if key not in whole
              and not any(key.startswith(start) for start in starts)
              and not any(key.startswith(f"{one}.") for one in whole)]
    assert not unused
    assert all(any(key.startswith(start) for key in keys) for start in starts), starts


def test_plural_and_values(monkeypatch: pytest.MonkeyPatch) -> None:
    sentences = {"a.b": {"one": "{count} picture", "other": "{count} pictures"}, "c.d": "so {x}"}
    monkeypatch.setattr("vitdemo.texts.catalogue", lambda code: sentences)
    assert [phrase("a.b", count=n) for n in (0, 1, 2)] == ["0 pictures", "1 picture", "2 pictures"]
    assert phrase("c.d", x=Message("a.b", count=1)) == "so 1 picture"
    with pytest.raises(KeyError):
        phrase("c.d")


def test_the_current_language_is_of_a_context_and_not_of_the_process() -> None:
    there = []
    with speaking("zh"):
        assert language() == "zh" and phrase("tab.ask") == "提问"
        thread = threading.Thread(target=lambda: there.append(language()))
        thread.start()
        thread.join()
    assert there == [DEFAULT] and language() == DEFAULT


@pytest.mark.parametrize(("wanted", "code"), [
    ("zh-CN,zh;q=0.9,en;q=0.8", "zh"), ("en-GB,en;q=0.9,zh;q=0.8", "en"), ("zh_CN.UTF-8", "zh"),
    ("de,zh;q=0.3,en;q=0.2", "zh"), ("de", "en"), ("", "en"), ("C.UTF-8", "en"), ("*", "en"),
    ("zh;q=0", "en"), ("zh;q=x,en;q=0.1", "en"), (";;,,=", "en"), ("ZH-hant-TW", "zh")])
def test_the_best_language(wanted: str, code: str) -> None:
    assert best_language(wanted) == code


@pytest.mark.parametrize(("cookie", "code"), [
    ("vitdemo_language=zh", "zh"), ("a=b; vitdemo_language=zh; c=d", "zh"),
    ("vitdemo_language=xx", "en"), ("vitdemo_language=", "en"), ("nonsense;;=", "en")])
def test_what_was_chosen_comes_before_the_browser(cookie: str, code: str) -> None:
    assert language_of(Headers({"cookie": cookie, "accept-language": "en"})) == code


def test_an_error_is_worded_where_it_is_shown() -> None:
    inner = TextError("frame.fault")
    error = pickle.loads(pickle.dumps(PictureError("frame.off", what="A", model="B", why=inner)))
    assert str(error).startswith("“A” is off with B: Something went wrong")
    with speaking("zh"):
        assert str(error).startswith("“A”不可用（模型 B）：这里出了")
        record = logging.LogRecord("a", logging.WARNING, "f", 1, "left out: %s", (error,), None)
        assert PlainFormatter("%(message)s").format(record).startswith("left out: “A” is off")
    assert str(PictureError("A sentence. {x}")) == "A sentence. {x}"


@pytest.mark.parametrize("accepted", ["gzip, deflate, br", ""])
def test_a_page_says_its_language_and_is_compressed_for_who_can_read_that(accepted: str) -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def answer() -> None:
        told = in_language(send, Headers({"accept-encoding": accepted}))
        await told({"type": "http.response.start", "status": 200, "headers": []})
        await told({"type": "http.response.body", "body": b'<html lang="en"><head>',
                    "more_body": True})
        await told({"type": "http.response.body", "body": b"</head></html>"})

    with speaking("zh"):
        asyncio.run(answer())
    headers, body = Headers(raw=sent[0]["headers"]), sent[1]["body"]
    assert headers["content-language"] == "zh-CN"
    assert headers["content-length"] == str(len(body))
    assert headers.get("content-encoding", "") == ("gzip" if accepted else "")
    page = gzip.decompress(body) if accepted else body
    assert page.startswith(b'<html lang="zh-CN"><head><script>')
    assert page.count(b"function mountViewer(") == 1  # once for all viewers, in that language
    assert str(catalogue("zh")["viewer.play"]).encode() in page


def test_what_a_visitor_can_meet_is_no_sentence_in_the_source() -> None:
    """But for flags, and calls of the index that only a program of one's own makes."""
    folders = [ROOT / "vitdemo" / name for name in ("ui", "retrieval")]
    raised = [f"{path.name}:{one.lineno}" for folder in folders for path in folder.rglob("*.py")
              if path.name != "base.py" for one in ast.walk(ast.parse(path.read_text("utf-8")))
              if isinstance(one, ast.Call) and isinstance(one.func, ast.Name)
              and one.func.id in vars(errors) and one.func.id != "ConfigError" and one.args
              and not _is_key(one.args[0])]
    assert not raised


def _is_key(argument: ast.expr) -> bool:
    if isinstance(argument, ast.JoinedStr):
        argument = argument.values[0]
        return isinstance(argument, ast.Constant) and bool(START.fullmatch(str(argument.value)))
    return not isinstance(argument, ast.Constant) or argument.value in catalogue(DEFAULT)
