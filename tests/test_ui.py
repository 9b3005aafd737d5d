"""The app without a browser: its start, its handlers' parts, and what it leaves behind."""

import asyncio
import dataclasses
import logging
import math
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import gradio as gr
import pytest
from fake_engine import CAPTION, planted_engine
from gradio.data_classes import ImageData
from gradio.state_holder import SessionState
from PIL import Image

import app
from vitdemo.config import LIMITS, Decoding
from vitdemo.engine import Engine
from vitdemo.errors import ConfigError, PictureError, StoreError, TextError
from vitdemo.preprocess import open_picture
from vitdemo.records import Answer, Candidate, Match
from vitdemo.retrieval.lines import rank_lines
from vitdemo.scratch import scratch_folder
from vitdemo.texts import phrase, speaking
from vitdemo.ui import Settings, build_ui, launch_settings
from vitdemo.ui.components import Context, PageValue, PictureInput, guarded, read_picture
from vitdemo.ui.controls import decoding_of, decoding_settings
from vitdemo.ui.markup import bar, bars
from vitdemo.ui.search.galleries import album_of_files
from vitdemo.ui.search.rank_sentences import lines_of, match_bars
from vitdemo.ui.session import Sessions
from vitdemo.ui.shown_result import Desk
from vitdemo.ui.tabs.ask import answer_bars, reply
from vitdemo.ui.tabs.describe import narrate

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def engine() -> Engine:
    return planted_engine()


@pytest.fixture
def colours(tmp_path: Path) -> dict[str, str]:
    """Plain pictures, by colour."""
    paths = {}
    for name in ("red", "green", "blue"):
        paths[name] = str(tmp_path / f"{name}.png")
        Image.new("RGB", (40, 30), name).save(paths[name])
    return paths


def context(engine: Engine, **settings: object) -> Context:
    return Context(engine, Settings(**settings), Sessions(), ())  # type: ignore[arg-type]


# The page

def functions(blocks: gr.Blocks) -> dict[str, object]:
    return {fn.api_name: fn for fn in blocks.fns.values() if isinstance(fn.api_name, str)}


def test_short_and_long_work_with_the_model_wait_in_a_group_each(engine: Engine) -> None:
    blocks = build_ui(engine)
    named = functions(blocks)
    for name in ("describe", "answer", "search_words", "search_picture", "compare"):
        assert named[name].concurrency_id == "model", name
    assert named["fits"].concurrency_id == "long"  # up to thousands of lines
    for group in ("model", "long"):
        touching = [fn for fn in blocks.fns.values() if fn.concurrency_id == group]
        assert len({fn.concurrency_limit for fn in touching}) == 1
    asked = [fn for fn in blocks.fns.values() if fn.targets and fn.targets[0][1] == "ask"]
    assert len(asked) == 4  # one for each viewer: Describe, Ask, and both of Search
    for fn in asked:
        assert fn.concurrency_id == "long" and fn.trigger_mode == "multiple", fn
    unasked = [fn for fn in blocks.fns.values() if fn.concurrency_id == "checks"]
    assert unasked  # evidence that nobody asked for never takes the place of those who ask


def test_evidence_comes_by_itself_only_where_it_is_quick(engine: Engine) -> None:
    slow = build_ui(engine, Settings(check_at_once=False))
    assert not [fn for fn in slow.fns.values() if fn.concurrency_id == "checks"]
    blind = build_ui(planted_engine(tasks=("caption",), missing={"explain": "x"}))
    assert not [fn for fn in blind.fns.values() if fn.concurrency_id == "checks"]
    args = app.parse([])
    assert app.check_at_once(args, "native", borrowed=False)
    assert not app.check_at_once(args, "native", borrowed=True)
    args = app.parse(["--device", "cpu"])
    assert not app.check_at_once(args, "blip", borrowed=False)
    assert app.check_at_once(app.parse(["--evidence", "always"]), "blip", borrowed=True)
    assert not app.check_at_once(app.parse(["--evidence", "asked"]), "native", borrowed=False)


def test_a_task_the_model_lacks_is_greyed_with_the_reason() -> None:
    blocks = build_ui(planted_engine(tasks=("caption", "explain", "embed"),
                                     missing={"ask": "it was trained on captions only"}))
    tabs = {block.label: block.interactive for block in blocks.blocks.values()
            if isinstance(block, gr.Tab)}
    assert tabs == {"Describe": True, "Ask": False, "Search": True, "Find pictures": True,
                    "Which sentence fits?": False, "Compare": True, "Tour": True}
    order = [block.label for block in blocks.blocks.values() if isinstance(block, gr.Tab)]
    assert [name for name in order if name not in ("Find pictures", "Which sentence fits?")] == [
        "Describe", "Ask", "Search", "Compare", "Tour"]
    shown = " ".join(str(block.value) for block in blocks.blocks.values()
                     if isinstance(block, gr.HTML))
    assert "“Ask” is off with planted: it was trained on captions only." in shown
    assert "“Compare” is off" not in shown
    blocks = build_ui(planted_engine(tasks=("ask", "explain"),
                                     missing={"caption": "it only answers"}))
    assert any("“Compare” is off with planted: it only answers." in str(block.value)
               for block in blocks.blocks.values() if isinstance(block, gr.HTML))


@pytest.mark.parametrize(("tasks", "opened"), [
    (("caption", "ask", "embed", "match", "explain"), ["describe", "find"]),
    (("ask", "explain"), ["ask", "fits"]), (("embed", "match"), ["search", "find"]),
    (("match", "explain"), ["search", "fits"])])
def test_the_page_opens_with_what_the_model_can_do(tasks: tuple[str, ...],
                                                   opened: list[str]) -> None:
    blocks = build_ui(planted_engine(tasks=tasks))
    assert [block.selected for block in blocks.blocks.values()
            if isinstance(block, gr.Tabs)] == opened


def test_a_page_asks_nothing_of_other_hosts(engine: Engine) -> None:
    blocks = build_ui(engine)
    assert blocks.analytics_enabled is False
    theme = launch_settings()["theme"]
    assert not theme._stylesheets
    assert not re.search(r"@import|url\(.?http|fonts\.", theme._get_theme_css())
    assert launch_settings()["run_history"] is False  # Gradio keeps runs in the browser otherwise


def test_making_the_components_writes_no_files() -> None:
    assert not list((ROOT / "vitdemo").rglob("*.pyi"))


def test_the_picture_field_hands_on_the_file_untouched(tmp_path: Path) -> None:
    path = tmp_path / "text.jpg"
    path.write_text("not a picture")
    field = PictureInput(type="filepath")
    assert field.get_block_name() == "image"
    assert field.preprocess(ImageData(path=str(path), orig_name="text.jpg")) == str(path)
    assert field.preprocess(None) is None


def test_the_picture_field_fetches_no_addresses() -> None:
    import asyncio

    field = PictureInput(type="filepath")
    with pytest.raises(gr.Error, match="Upload the picture as a file"):
        asyncio.run(field.async_move_resource_to_block_cache("http://127.0.0.1:1/a.png"))


# Handlers' parts

def test_describing_shows_the_picture_then_the_words_then_the_maps(engine: Engine) -> None:
    photo = open_picture(Image.new("RGB", (64, 48), "red"))
    shown = list(narrate(engine, photo, "", "en", Decoding()))
    assert shown[0]["writing"] == "" and shown[0]["picture"]["width"] == 64
    texts = [one["writing"] for one in shown[:-1]]
    assert texts == sorted(texts, key=len) and texts[-1] == "A" + CAPTION["en"][1:] + "."
    assert "writing" not in shown[-1] and shown[-1]["texts"][0]["text"] == texts[-1]


def test_describing_without_maps_says_why() -> None:
    engine = planted_engine(tasks=("caption",), missing={"explain": "no attention to show"})
    shown = list(narrate(engine, open_picture(Image.new("RGB", (64, 48))), "", "en", Decoding()))
    assert shown[-1]["written"].startswith("A cat") and shown[-1]["reason"] == (
        "no attention to show")


def test_an_answer_comes_with_five_bars_and_its_text_is_escaped(engine: Engine) -> None:
    photo = open_picture(Image.new("RGB", (64, 48)))
    payload, rows = list(reply(engine, photo, "what is on the left?"))[-1]
    assert rows.count("<li") == 5 and "width:61.0%" in rows and ">61%<" in rows
    assert "top &lt;b&gt;" in rows and "<b>" not in rows
    assert [text["source"] for text in payload["texts"]] == ["question", "answer"]


def test_an_answer_that_two_judges_chose_says_so() -> None:
    engine, photo, desk = planted_engine(), open_picture(Image.new("RGB", (64, 48))), Desk()
    engine._backend.info = dataclasses.replace(engine.info, weighs_answers=True)
    _, rows = list(reply(engine, photo, "what is on the left?", desk))[-1]
    assert rows.count("<li") == 5
    assert "weighs two things" in desk.fitting("", photo).settings["How it chooses"]


def test_a_value_of_the_page_can_be_set_and_left_as_it_is() -> None:
    with gr.Blocks() as blocks:
        value = PageValue(0)
        gr.Button().click(gr.skip, None, value)
    (function,) = blocks.fns.values()
    assert function.outputs == [value] and value.skip_api

    def given(output: object) -> list[object]:
        return asyncio.run(blocks.postprocess_data(function, output, SessionState(blocks)))

    assert given(gr.skip()) == [{"__type__": "update"}] and given("x") == ["x"]


def test_decoding_controls_reach_the_model() -> None:
    assert decoding_of("sample", 4, 0.5, 1.5, 0.8, 7, 12, 2, 1.2) == Decoding(
        "sample", 4, 0.5, 1.5, 0.8, 7, 12, 2, 1.2)
    assert decoding_of("beam", 5, 0.7, 1, 0.9, None, 30, 0, 1) == Decoding()
    assert decoding_of("beam", 5, 0.7, 1, 0.9, None, 30, 0, 1, 3.5) == Decoding(fit=3.5)
    with pytest.raises(ConfigError, match="min_tokens"):
        decoding_of("beam", 3, 0.7, 1, 0.9, 0, 10, 20, 1)


@pytest.mark.parametrize("weighs", [True, False])
def test_only_what_the_model_heeds_is_offered_and_reported(weighs: bool) -> None:
    engine = planted_engine()
    engine._backend.info = info = dataclasses.replace(engine.info, weighs_captions=weighs)
    blocks = build_ui(engine)
    (fit,) = [one for one in blocks.blocks.values() if getattr(one, "label", "") == phrase(
        "decoding.fit")]
    assert fit.visible == weighs
    settings = decoding_settings(Decoding(), info)
    assert (phrase("setting.fit") in settings) == weighs


def test_a_wrong_picture_is_one_sentence_and_a_fault_is_logged(
        caplog: pytest.LogCaptureFixture) -> None:
    sorry = phrase("frame.fault")

    @guarded(lambda error, inputs: f"{error} {inputs}")
    def handler(what: str) -> Iterator[str]:
        yield "begun"
        if what == "user":
            raise PictureError("This is no picture.")
        raise ZeroDivisionError("secret")

    assert list(handler("user")) == ["begun", "This is no picture. ('user',)"]
    with caplog.at_level(logging.ERROR):
        assert list(handler("fault")) == ["begun", f"{sorry} ('fault',)"]
    assert "ZeroDivisionError" in caplog.text and "secret" not in sorry


def test_a_handler_that_says_nothing_leaves_the_screen_as_it_is() -> None:
    @guarded(lambda error, inputs: str(error))
    def handler(nothing: str) -> Iterator[str]:
        yield from nothing

    assert list(handler("")) == [gr.skip()]
    assert list(handler("ab")) == ["a", "b"]


def test_a_picture_deleted_meanwhile_is_explained(tmp_path: Path) -> None:
    with pytest.raises(PictureError, match="no longer here"):
        read_picture(str(tmp_path / "gone.png"))
    with pytest.raises(PictureError, match="Choose a picture first"):
        read_picture(None)


def test_bars_stay_inside_and_escape() -> None:
    made = bars([("<script>", 1.7), ("b", -1)], "a \"label\"")
    assert "<script>" not in made and "width:100.0%" in made and "width:0.0%" in made
    assert "a &quot;label&quot;" in made
    assert ">–<" in bar(math.nan) and ">1%<" in bar(0.012)
    with speaking("zh"):
        assert ">不到 0.1%<" in bar(0.0001)


def test_rivals_under_one_percent_are_not_worth_a_line() -> None:
    rivals = (Candidate("two", 0.2), Candidate("ten", 0.009))
    made = answer_bars(Answer("one", "how many?", "en", 0.004, rivals, 0.1))
    assert made.count("<li>") == 2 and "ten" not in made


def test_sentences_are_buttons_only_where_they_lead_to_maps() -> None:
    ranked = [Match("a <b>", 0.9, 0.0), Match("c", 0.1, 0.0)]
    plain, chosen = match_bars(ranked), match_bars(ranked, 1)
    assert "<button" not in plain and "data-index" not in plain
    assert chosen.count("<button") == 2 and "<b>" not in chosen
    assert chosen.index('aria-pressed="false"') < chosen.index('aria-pressed="true"')


def test_sentences_are_read_line_by_line() -> None:
    assert lines_of(" a \n\n b\r\n") == ["a", "b"]
    with pytest.raises(TextError, match="at least one sentence"):
        lines_of(" \n")
    with pytest.raises(TextError, match=f"{LIMITS.max_lines:,}"):
        lines_of("a\n" * (LIMITS.max_lines + 1))


def test_of_many_lines_the_vectors_choose_those_that_are_read(engine: Engine) -> None:
    photo = open_picture(Image.new("RGB", (40, 30), "green"))
    few = rank_lines(engine, photo, ["red", "green", "blue"])
    assert few[0].text == "green" and len(few) == 3
    many = [f"red number {n}" for n in range(400)] + ["green", "green"] + ["blue"] * 50
    best = rank_lines(engine, photo, many)
    assert len(best) == LIMITS.max_sentences and best[0].text == "green"
    assert [match.text for match in best].count("green") == 1
    assert "of 452" in match_bars(best, None, len(many))
    for lines in ([], ["a"] * (LIMITS.max_lines + 1)):
        with pytest.raises(TextError):
            rank_lines(engine, photo, lines)


# Galleries

def test_uploads_are_searched_and_bad_ones_named(engine: Engine, colours: dict[str, str],
                                                 tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no picture")
    album = album_of_files(engine, [*colours.values(), str(tmp_path / "text.png")], "your upload")
    assert [Path(hit.path).stem for hit in album.opened().search_text("green", 3)][0] == "green"
    assert "<strong>3 pictures to search</strong>" in album.report()
    assert "text.png is not a picture" in album.report()
    album.close()
    album.close()
    with pytest.raises(StoreError, match="no longer here"):
        album.opened()


def test_uploads_without_one_picture_are_refused(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "empty.png").write_bytes(b"")
    with pytest.raises(PictureError, match="0 bytes"):
        album_of_files(engine, [str(tmp_path / "empty.png")], "your upload")
    with pytest.raises(PictureError, match=str(LIMITS.max_uploads)):
        album_of_files(engine, ["x"] * (LIMITS.max_uploads + 1), "your upload")


# What is left behind

def test_the_scratch_folder_goes_and_takes_what_a_killed_process_left(tmp_path: Path) -> None:
    kill = ("import os, signal, sys; from pathlib import Path\n"
            "from vitdemo.scratch import scratch_folder\n"
            "with scratch_folder(Path(sys.argv[1])) as folder:\n"
            "    (folder / 'photo.jpg').write_bytes(b'x')\n"
            "    os.kill(os.getpid(), signal.SIGKILL)\n")
    subprocess.run([sys.executable, "-c", kill, str(tmp_path)], cwd=ROOT, check=False, timeout=120)
    assert len(list(tmp_path.rglob("photo.jpg"))) == 1
    with scratch_folder(tmp_path) as first:
        assert not list(tmp_path.rglob("photo.jpg"))
        (first / "photo.jpg").write_bytes(b"x")
        assert first.stat().st_mode & 0o077 == 0
        with scratch_folder(tmp_path):
            assert (first / "photo.jpg").exists()  # a living process keeps its own
    assert not list(tmp_path.iterdir())


# The start

@pytest.fixture
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("SPACE_ID", "SPACES_ZERO_GPU", "GRADIO_SERVER_NAME", "GRADIO_SHARE"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_alone_by_default_and_open_in_a_space(plain_environment: pytest.MonkeyPatch) -> None:
    args = app.parse([])
    assert (args.host, args.share, args.alone) == ("127.0.0.1", False, True)
    assert args.allow_folder == []  # and no folder of the computer is read
    assert not app.parse(["--share"]).alone and not app.parse(["--host", "0.0.0.0"]).alone
    plain_environment.setenv("SPACE_ID", "somebody/vitdemo")
    args = app.parse([])
    assert args.host == "0.0.0.0" and not args.alone


@pytest.mark.parametrize("argv", [["--allow-folder", "x", "--share"], ["--port", "70000"],
                                  ["--allow-folder", "x", "--host", "0.0.0.0"]])
def test_flags_that_do_not_go_together(argv: list[str], plain_environment: pytest.MonkeyPatch,
                                       capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        app.parse(argv)
    assert ended.value.code == 2 and argv[0] in capsys.readouterr().err


def test_folders_are_allowed_by_name_alone(plain_environment: pytest.MonkeyPatch, tmp_path: Path,
                                           capsys: pytest.CaptureFixture[str]) -> None:
    plain_environment.setenv("HOME", str(tmp_path))
    (tmp_path / "Pictures").mkdir()
    args = app.parse(["--allow-folder", "~/Pictures", "--allow-folder", str(tmp_path)])
    assert args.allow_folder == [tmp_path / "Pictures", tmp_path]
    with pytest.raises(SystemExit):
        app.parse(["--allow-folder", "~/nowhere"])
    assert "there is no such folder" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        app.parse(["--help"])
    assert "--allow-folder ~/Pictures" in " ".join(capsys.readouterr().out.split())


def test_a_missing_model_ends_with_one_line(tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "SPACE_ID"}
    done = subprocess.run([sys.executable, "app.py", "--model", str(tmp_path / "nothing")],
                          cwd=ROOT, env=environment, capture_output=True, text=True, timeout=180,
                          check=False)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert re.fullmatch(r"vitdemo: .*nothing.*\n", done.stderr), done.stderr
