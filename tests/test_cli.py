"""The command line: over a planted engine in this process, and as a program of its own."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from planted import COLOURS, GRID, Planted, picture

from vitdemo import cli, commands
from vitdemo.config import EngineConfig
from vitdemo.engine import Engine
from vitdemo.overlay import GLOW, Summary, draw, percent, summarise
from vitdemo.preprocess import grid_boxes

ROOT = Path(__file__).parent.parent


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[EngineConfig]:
    """Every command gets a planted engine; the settings it asked for are kept."""
    asked: list[EngineConfig] = []

    def load(config: EngineConfig) -> Engine:
        asked.append(config)
        return Engine(Planted(), config)

    monkeypatch.setattr(Engine, "load", load)
    return asked


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos of 猫"
    folder.mkdir()
    for name, colour in COLOURS.items():
        Image.new("RGB", (120, 90), colour).save(folder / f"{name}.png")
    half = Image.new("RGB", (120, 90), COLOURS["blue"])
    half.paste(COLOURS["red"], (60, 60, 120, 90))  # red in the lower right: 2 of 12 cells
    half.save(folder / "half.png")
    (folder / "broken.jpg").write_bytes(b"no picture")
    return folder


Run = Any


@pytest.fixture
def run(loaded: list[EngineConfig], capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: object) -> tuple[int, str, str]:
        code = cli.main([str(one) for one in arguments])
        said = capsys.readouterr()
        return code, said.out, said.err
    return call


def test_caption_of_one_and_of_several_pictures(run: Run, photos: Path) -> None:
    assert run("caption", photos / "red.png") == (0, "A red picture.\n", "")
    code, out, _ = run("caption", photos / "red.png", photos / "blue.png", "--language", "zh")
    assert code == 0
    assert out.splitlines() == [f"{photos}/red.png: 一张红图。", f"{photos}/blue.png: 一张蓝图。"]
    assert run("caption", photos / "red.png", "--instruction", "on top")[1] == \
        "A red picture on top.\n"


def test_errors_are_in_the_terminals_language(run: Run, tmp_path: Path,
                                              monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "zh_CN.UTF-8")
    code, out, err = run("ask", tmp_path / "none.jpg", "what?")
    assert (code, out, err) == (2, "", f"错误：{tmp_path}/none.jpg 不存在。\n")
    monkeypatch.setenv("LC_ALL", "C")
    assert run("ask", tmp_path / "none.jpg", "what?")[2].endswith("none.jpg does not exist.\n")


def test_decoding_flags_reach_the_model(run: Run, photos: Path) -> None:
    file = photos / "red.png"
    assert run("caption", file, "--strategy", "sample", "--seed", 3)[1] == "A very red picture.\n"
    assert run("caption", file, "--max-tokens", 2)[1] == "A red.\n"
    code, out, err = run("caption", file, "--beams", 99)
    assert (code, out) == (2, "") and err.startswith("error: beams is 99")


def test_a_bad_picture_among_several_is_named_and_the_rest_done(run: Run, photos: Path) -> None:
    code, out, err = run("caption", photos / "broken.jpg", photos / "red.png", "--json")
    assert code == 2 and err.startswith("error: broken.jpg is not a picture")
    found = json.loads(out)
    assert [one["picture"] for one in found["errors"]] == [str(photos / "broken.jpg")]
    (result,) = found["results"]
    assert result.pop("seconds") > 0
    assert result == {"picture": str(photos / "red.png"), "text": "A red picture.",
                      "raw_text": "a red picture .", "language": "en",
                      "instruction": "Describe the picture.", "log_probability": -2.0,
                      "unread": {"unknown": [], "cut": None, "nothing": False}}


def test_a_bad_picture_is_said_before_the_model_is_loaded(run: Run, tmp_path: Path,
                                                          loaded: list[EngineConfig]) -> None:
    for command in (["caption"], ["ask", "x"], ["match", "x"], ["explain"]):
        code, out, err = run(command[0], tmp_path / "nowhere.jpg", *command[1:])
        assert (code, out) == (2, "") and "does not exist" in err and err.count("\n") == 1
    assert loaded == []


def test_ask(run: Run, photos: Path) -> None:
    code, out, _ = run("ask", photos / "green.png", "what colour is it?", "--count", 2)
    lines = out.splitlines()
    assert code == 0 and lines[0] == "green"
    assert lines[2].split() == ["answer", "probability"]
    assert [line.split()[0] for line in lines[3:]] == ["green", "red"]
    found = json.loads(run("ask", photos / "green.png", "什么颜色？", "--json")[1])
    assert found["text"] == "green" and found["language"] == "zh"
    assert found["question"] == "什么颜色？" and found["probability"] > 0.9
    assert [sorted(one) for one in found["runners_up"]] == [["probability", "text"]] * 2
    assert run("ask", photos / "green.png", " ")[0] == 2


def test_match_table_is_best_first_and_json_in_the_order_given(run: Run, photos: Path) -> None:
    texts = ["a red thing", "蓝色的", "green"]
    out = run("match", photos / "blue.png", *texts)[1].splitlines()
    assert out[0].split() == ["fits", "similarity", "sentence"]
    assert out[1].split() == ["100%", "1.000", "蓝色的"]
    found = json.loads(run("match", photos / "blue.png", *texts, "--json")[1])
    assert [one["text"] for one in found["matches"]] == texts
    assert [round(one["score"], 2) for one in found["matches"]] == [0.5, 1, 0.5]


def test_a_similarity_that_is_not_known_is_null(monkeypatch: pytest.MonkeyPatch, photos: Path,
                                               capsys: pytest.CaptureFixture[str]) -> None:
    class NoVectors(Planted):
        def score_pairs(self, features, texts):
            return np.full((1, len(texts)), 0.5, np.float32)

    monkeypatch.setattr(Engine, "load", lambda config: Engine(NoVectors(tasks=("match",))))
    cli.main(["match", str(photos / "red.png"), "red", "--json"])
    assert json.loads(capsys.readouterr().out)["matches"][0]["similarity"] is None
    cli.main(["match", str(photos / "red.png"), "red"])
    assert "50%   -" in capsys.readouterr().out


def test_index_and_search(run: Run, photos: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    code, out, err = run("index", photos, "--store", store)
    assert code == 0 and err == ""
    assert "4 pictures read" in out and "1 file could not be read" in out
    assert "broken.jpg: broken.jpg is not a picture" in out
    assert out.endswith(f"The store {store} now holds 4 pictures.\n")

    report = json.loads(run("index", photos, "--store", store, "--json")[1])
    assert report["count"] == 4 and report["store"] == str(store)
    (folder,) = report["folders"]
    assert (folder["added"], folder["ignored"], folder["folder"]) == (0, 0, str(photos))
    assert (report["added"], report["unchanged"], report["cancelled"]) == (0, 4, False)
    assert [Path(one["path"]).name for one in folder["skipped"]] == ["broken.jpg"]

    code, out, _ = run("search", "something green", "--store", store, "--limit", 2)
    lines = out.splitlines()
    assert code == 0 and len(lines) == 3
    assert lines[1].split(maxsplit=3) == ["1.000", "100%", "120x90", str(photos / "green.png")]
    found = json.loads(run("search", "--picture", photos / "red.png", "--store", store,
                           "--json")[1])
    assert found["query"] == {"picture": str(photos / "red.png")}
    assert [sorted(hit) for hit in found["hits"]] == [
        ["fits", "height", "id", "match", "metadata", "path", "score", "told", "width"]] * 4
    assert found["hits"][0]["path"] == str(photos / "red.png")
    assert found["hits"][0]["metadata"]["orientation"] == "landscape"


def test_search_with_signs_conditions_and_files(run: Run, photos: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    Image.new("RGB", (90, 120), COLOURS["red"]).save(photos / "tall.png")
    run("index", photos, "--store", store)
    _, out, err = run("search", "red -0.5 blue", "--store", store, "--best", 0, "--limit", 3)
    assert err == "Looked for: “red” − 0.5 × “blue”\n"
    assert [Path(line.split()[-1]).name for line in out.splitlines()[1:3]] == [
        "red.png", "tall.png"]
    assert "%" not in out  # the match head was not asked
    found = json.loads(run("search", "red +blue", "--store", store, "--why", "--json",
                           "--orientation", "portrait")[1])
    assert found["filters"] == {"orientation": "portrait"}
    (hit,) = found["hits"]
    assert Path(hit["path"]).name == "tall.png" and 0 <= hit["match"] <= 1
    assert [part["text"] for part in hit["parts"]] == ["red", "blue"]
    assert hit["parts"][0]["loss"] > 0 > hit["parts"][1]["loss"]
    both = json.loads(run("search", "red", "--picture", photos / "blue.png", "--picture-weight", 3,
                          "--store", store, "--best", 0, "--json")[1])
    assert Path(both["hits"][0]["path"]).name == "half.png"  # mostly blue, a little red
    assert both["understood"] == f"“red” + 3 × the picture “{photos / 'blue.png'}”"
    code, _, err = run("search", "red", "--store", store, "--save", tmp_path / "hits.zip")
    assert code == 0 and f"saved {tmp_path / 'hits.zip'}" in err
    assert (tmp_path / "hits.zip").stat().st_size > 1000
    code, out, err = run("search", "red", "--store", store, "--after", "3000")
    assert (code, out) == (0, "")
    assert err == "Looked for: “red”\nNo picture fits these conditions.\n"
    for arguments, said in ((["--save", "hits.txt"], ".csv, .json, .zip"),
                            (["--after", "soon"], "2024-05-31"), (["--limit", 9999], "to 2000"),
                            (["--picture-weight", 0, "--picture", photos / "red.png"], "weight"),
                            (["--orientation", "round"], "landscape")):
        code, _, err = run("search", "red", "--store", store, *arguments)
        assert code == 2 and said in err, err


def test_duplicates_are_listed_and_left_alone(run: Run, photos: Path, tmp_path: Path) -> None:
    scene = Image.effect_noise((160, 120), 90).convert("RGB")
    scene.save(photos / "scene.png")
    scene.resize((80, 60)).save(photos / "small.png")
    run("index", photos, "--store", tmp_path / "store")
    before = sorted(photos.iterdir())
    code, out, _ = run("duplicates", "--store", tmp_path / "store")
    assert code == 0 and "Nothing was deleted." in out
    line = next(line for line in out.splitlines() if "scene.png" in line)
    assert line.split()[1:3] == ["keep", "160x120"]
    found = json.loads(run("duplicates", "--store", tmp_path / "store", "--json", "--keep",
                           "sharpest")[1])
    assert found["compared"] == 6 and found["groups"]
    assert sorted(photos.iterdir()) == before
    assert run("duplicates", "--store", tmp_path / "none")[0] == 2
    assert run("duplicates", "--store", tmp_path / "store", "--keep", "none")[0] == 2


def test_search_says_what_is_missing(run: Run, photos: Path, tmp_path: Path,
                                     loaded: list[EngineConfig]) -> None:
    nowhere = tmp_path / "nowhere"
    code, _, err = run("search", "red", "--store", nowhere)
    assert code == 2 and "python -m vitdemo index DIR --store" in err
    assert not nowhere.exists()  # looking makes nothing
    for arguments in ([], [""]):
        code, _, err = run("search", *arguments, "--store", nowhere)
        assert code == 2 and "some words, a picture, or both" in err
    code, _, err = run("index", tmp_path / "none", "--store", nowhere)
    assert code == 2 and "not a folder" in err and not nowhere.exists()
    assert loaded == []
    empty = tmp_path / "empty"
    empty.mkdir()
    run("index", empty, "--store", nowhere)
    assert run("search", "red", "--store", nowhere) == (
        0, "", "Looked for: “red”\nThe store is empty.\n")
    assert run("search", "red", "--store", nowhere, "--limit", 0)[0] == 2


def test_explain_table_says_where_each_word_looked(run: Run, photos: Path) -> None:
    code, out, _ = run("explain", photos / "half.png", "--text", "a red thing")
    lines = out.splitlines()
    assert code == 0 and lines[0] == "Sentence: a red thing"
    assert lines[1].split() == ["word", "on", "picture", "where"]
    assert lines[2].split(maxsplit=3)[:3] == ["1", "a", "10%"]
    assert "About even" in lines[2]
    assert lines[3].split(maxsplit=3)[:3] == ["2", "red", "90%"]
    assert "Strongest in the lower right; 50% of the attention in 8% of the picture" in lines[3]


def test_explain_numbers_words_through_question_and_answer(run: Run, photos: Path) -> None:
    out = run("explain", photos / "blue.png", "--question", "which colour?")[1]
    assert "Question: which colour?" in out and "Answer: blue" in out
    rows = [line.split()[:2] for line in out.splitlines() if line[:1].isdigit()]
    assert rows == [["1", "which"], ["2", "colour"], ["3", "blue"]]


def test_explain_json_holds_everything(run: Run, photos: Path) -> None:
    out = run("explain", photos / "half.png", "--json")[1]
    found = json.loads(out)
    assert set(found) == {"picture", "model", "result", "explanations"}
    assert found["picture"] == {"path": str(photos / "half.png"), "width": 120, "height": 90}
    assert found["model"] == "planted" and found["result"]["text"] == "A blue picture."
    (one,) = found["explanations"]
    assert set(one) == {"source", "text", "method", "note", "picture_size", "grid", "boxes",
                        "layer_names", "gates", "words", "weights"}
    assert one["source"] == "caption" and one["text"] == "a blue picture ."
    assert one["grid"] == list(GRID) and one["picture_size"] == [120, 90]
    assert one["boxes"][0] == [0, 0, 30, 30] and len(one["boxes"]) == 12
    weights = np.array(one["weights"])
    assert weights.shape == (2, 2, 3, 12)
    word = one["words"][1]
    assert set(word) == {"text", "start", "end", "probability", "where", "on_picture", "map",
                         "unread", "rivals"}
    assert (word["text"], one["text"][word["start"]:word["end"]]) == ("blue", "blue")
    assert np.allclose(word["map"], weights.mean((0, 1))[1], atol=2e-6)
    assert word["map"][11] == 0 and word["map"][0] == pytest.approx(0.09)
    assert sum(word["map"]) == pytest.approx(word["on_picture"], abs=1e-5) == pytest.approx(0.9)
    digits = max(len(number.split(".")[1]) for number in out.replace("]", ",").split(",")
                 if "." in number and number.strip(" [").replace(".", "").isdigit())
    assert digits <= 6
    question = json.loads(run("explain", photos / "half.png", "--question", "what?", "--json")[1])
    assert [one["source"] for one in question["explanations"]] == ["question", "answer"]
    assert question["result"]["text"] == "blue"


def test_explain_png_is_bright_where_the_word_looked(
        run: Run, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "map.png"
    code, _, err = run("explain", photos / "half.png", "--text", "a red thing", "--png", file,
                       "--word", 2)
    assert code == 0 and err == f"saved {file}\n"
    drawn = Image.open(file)
    assert drawn.size == (120, 90) and drawn.mode == "RGB"
    brightness = np.asarray(drawn, np.int32)[..., 1]  # green: the picture has none of its own
    assert brightness[75, 90] > 120 > 40 > brightness[15, 30]
    assert run("explain", photos / "half.png", "--png", file)[0] == 0  # mean of all words
    for arguments, message in ((["--word", 9], "words 1 to 3"), (["--word", 0], "words 1 to 3")):
        code, _, err = run("explain", photos / "half.png", "--png", file, *arguments)
        assert code == 2 and message in err
    with monkeypatch.context() as patched:  # before the slow part
        patched.setattr(Engine, "evidence", lambda *_, **__: pytest.fail("it went on"))
        assert "words 1 to 3" in run("explain", photos / "half.png", "--png", file, "--word", 9,
                                     "--evidence")[2]
    assert "give --png" in run("explain", photos / "half.png", "--word", 1)[2]
    code, _, err = run("explain", photos / "half.png", "--png", tmp_path / "no" / "map.png")
    assert code == 2 and "could not be written" in err


def test_the_model_that_is_asked_for_is_loaded(run: Run, photos: Path, tmp_path: Path,
                                               loaded: list[EngineConfig],
                                               monkeypatch: pytest.MonkeyPatch) -> None:
    run("caption", photos / "red.png", "--model", "blip:x", "--device", "cuda:1", "--dtype",
        "bfloat16")
    assert loaded[-1] == EngineConfig(model="blip:x", device="cuda:1", dtype="bfloat16")
    shipped = tmp_path / "project" / EngineConfig().model
    shipped.mkdir(parents=True)
    monkeypatch.setattr(commands, "_HOME", tmp_path / "project")
    monkeypatch.chdir(tmp_path)
    run("caption", photos / "red.png")
    assert loaded[-1].model == str(shipped)  # from any folder
    (tmp_path / EngineConfig().model).mkdir(parents=True)
    run("caption", photos / "red.png")
    assert loaded[-1].model == EngineConfig().model


def test_ctrl_c_ends_with_130(run: Run, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Engine, "caption", interrupt)
    assert run("caption", photos / "red.png") == (130, "", "stopped\n")


def test_serve_hands_its_flags_to_the_app(run: Run, tmp_path: Path,
                                          monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "app.py").write_text("def main(argv):\n    print('app', argv)\n    return 7\n")
    monkeypatch.setattr(commands, "_HOME", tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "app", raising=False)
    assert run("serve", "--port", 80, "--help") == (7, "app ['--port', '80', '--help']\n", "")
    monkeypatch.delitem(sys.modules, "app")
    monkeypatch.setattr(commands, "_HOME", tmp_path / "elsewhere")
    monkeypatch.chdir(tmp_path / "..")
    code, _, err = run("serve")
    assert code == 2 and "Go to the project folder" in err


@pytest.mark.parametrize("arguments", [["--help"], ["caption", "--help"], ["ask", "--help"],
                                       ["match", "--help"], ["index", "--help"],
                                       ["search", "--help"], ["duplicates", "--help"],
                                       ["explain", "--help"]])
def test_help_is_there_for_every_command(arguments: list[str],
                                         capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    out = capsys.readouterr().out
    assert ended.value.code == 0 and "usage: python -m vitdemo" in out
    if len(arguments) > 1:
        assert "--model" in out and "--device" in out and "--json" in out
    else:
        assert all(name in out for name in ("caption", "ask", "match", "index", "search",
                                            "explain", "serve", "examples:"))


# --- as a program ---

def program(*arguments: object, **options: Any) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **options.pop("env", {})}
    return subprocess.run([sys.executable, "-m", "vitdemo", *map(str, arguments)], text=True,
                          capture_output=True, env=environment, encoding="utf-8", **options)


def test_help_loads_neither_torch_nor_any_other_large_library() -> None:
    code = ("import sys\nfrom vitdemo import cli\n"
            "try:\n    cli.main(['--help'])\nexcept SystemExit:\n    pass\n"
            "print([m for m in ('torch', 'transformers', 'gradio', 'lancedb', 'PIL', 'timm')"
            " if m in sys.modules])")
    done = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, cwd=ROOT)
    assert done.stdout.splitlines()[-1] == "[]", done.stdout + done.stderr


def test_errors_are_one_line_and_never_a_traceback(tmp_path: Path, photos: Path) -> None:
    done = program("caption", photos / "red.png", "--model", tmp_path / "none", cwd=tmp_path)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    done = program("caption", cwd=tmp_path)
    assert done.returncode == 2 and "PICTURE" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_tiny_checkpoint_end_to_end(tiny_checkpoint: Path, photos: Path, tmp_path: Path,
                                      capsys: pytest.CaptureFixture[str]) -> None:
    """Real model, real store; at first in a terminal that knows only ASCII."""
    model = ("--model", str(tiny_checkpoint), "--device", "cpu")
    done = program("explain", photos / "half.png", "--text", "a red dog", "--json", *model,
                   env={"PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["picture"]["path"] == str(photos / "half.png")  # 猫, escaped on the way
    weights = np.array(found["explanations"][0]["weights"])
    assert weights.ndim == 4 and weights.shape[2] == len(found["explanations"][0]["words"])
    store = ("--store", str(tmp_path / "store"), *model)
    assert cli.main(["index", str(photos), *store]) == 0
    assert "now holds 4 pictures" in capsys.readouterr().out
    assert cli.main(["search", "--picture", str(photos / "green.png"), "--json", *store]) == 0
    best = json.loads(capsys.readouterr().out)["hits"][0]
    assert best["path"] == str(photos / "green.png") and best["score"] > 0.999


# --- maps in words and colours ---

BOXES = grid_boxes((6, 6), (600, 300))


def spot(*cells: int) -> np.ndarray:
    weights = np.full(36, 0.001, np.float32)
    weights[list(cells)] = 0.5 / len(cells)
    return weights


@pytest.mark.parametrize("cells, place", [
    ((0,), "in the upper left"), ((5, 11), "in the upper right"), ((2, 3), "at the top"),
    ((14, 15, 20, 21), "in the middle"), ((12, 18), "on the left"), ((30,), "in the lower left"),
    ((32, 33), "at the bottom"), ((0, 35), "in the upper left")])
def test_places_in_words(cells: tuple[int, ...], place: str) -> None:
    found = summarise(spot(*cells), BOXES, (600, 300))
    assert found.place == place and not found.even
    assert found.total == pytest.approx(0.5 + 0.001 * (36 - len(cells)), abs=1e-4)


def test_summary_of_even_and_of_empty_maps() -> None:
    even = summarise(np.full(36, 0.01, np.float32), BOXES, (600, 300))
    assert even.even and even.share == pytest.approx(even.area) == pytest.approx(3 / 36)
    assert even.sentence().startswith("About even")
    assert summarise(np.zeros(36, np.float32), BOXES, (600, 300)) == Summary(0.0)
    assert Summary(0.0).sentence() == "Did not look at the picture."
    found = summarise(spot(35), BOXES, (600, 300))
    assert found.sentence() == ("Strongest in the lower right; 94% of the attention in 8% of the "
                                "picture.")


def test_percent() -> None:
    assert [percent(value) for value in (0, 0.0001, 0.004, 0.011, 0.5, 1, math.nan)] == [
        "0%", "under 0.1%", "0.4%", "1%", "50%", "100%", "–"]


def test_draw_puts_regions_that_are_no_grid_where_they_lie() -> None:
    engine = Engine(Planted())
    (explanation,) = engine.explain(picture("blue", (400, 300)), "red")
    boxes = np.array([[0, 0, 300, 300], [300, 0, 400, 100]], np.float32)
    odd = type(explanation)(**{**explanation.__dict__, "boxes": boxes, "grid": (0, 0),
                               "weights": np.zeros((2, 2, 1, 2), np.float32)})
    drawn = np.asarray(draw(Image.new("RGB", (400, 300)), odd, np.array([0.0, 1.0])))
    assert tuple(drawn[50, 350]) == tuple(int(0.7 * value) for value in GLOW[-1])
    assert not drawn[:, :300].any() and not drawn[200:].any()  # the picture as it is


def test_explain_with_evidence_says_whether_the_maps_hold(run: Run, photos: Path) -> None:
    code, out, _ = run("explain", photos / "half.png", "--text", "a red thing", "--evidence")
    assert code == 0 and "Can the maps be trusted?" in out
    rows = [line for line in out.splitlines() if "Blurring these places" in line]
    (row,) = [line for line in rows if line.split()[1] == "red"]
    assert "much more than" in row
    assert out.count("fits about as well without the picture") == 2, "a, thing"
    assert "How much did the picture count?" in out and "with a grey one" in out


def test_explain_json_has_the_evidence_where_it_is_asked_for(run: Run, photos: Path) -> None:
    file = photos / "half.png"
    found = json.loads(run("explain", file, "--question", "red?", "--evidence", "--json")[1])
    assert [(one["source"], one["word"]) for one in found["evidence"]] == [
        ("question", 0), ("answer", 0)]
    one = found["evidence"][0]
    assert one["verdict"] == "strong" and one["sentence"].startswith("Blurring")
    assert one["deletion"]["hidden"] == [0, .25, .5, .75, .8, .85, .9, .95, 1]
    assert len(one["random_deletion"]) == 6
    assert [share["source"] for share in found["shares"]] == ["question", "answer"]
    assert len(found["shares"][0]["sentences"]) == 1


def test_explain_by_another_method(run: Run, photos: Path, loaded: list[EngineConfig]) -> None:
    found = json.loads(run("explain", photos / "half.png", "--text", "red", "--method",
                           "occlusion", "--json")[1])
    (one,) = found["explanations"]
    assert one["method"] == "occlusion" and np.shape(one["weights"]) == (1, 1, 1, 12)
    assert sum(one["words"][0]["map"]) == pytest.approx(1, abs=1e-4)
    code, out, err = run("explain", photos / "half.png", "--method", "magic")
    assert (code, out) == (2, "") and err.count("\n") == 1
    assert "'magic'" in err and "cross-attention, occlusion" in err


def test_explain_saves_a_report_and_a_table(run: Run, photos: Path, tmp_path: Path) -> None:
    page, table = tmp_path / "report.html", tmp_path / "weights.csv"
    code, _, err = run("explain", photos / "half.png", "--evidence", "--report", page, "--csv",
                       table)
    assert code == 0 and err == f"saved {page}\nsaved {table}\n"
    text = page.read_text("utf-8")
    assert "A blue picture" in text or "a blue picture" in text
    assert "half.png" in text and "would say this word without the picture" in text
    assert len(table.read_text("utf-8").splitlines()) == 1 + 3 * 12 * 4
    code, _, err = run("explain", photos / "half.png", "--report", tmp_path / "no" / "r.html")
    assert code == 2 and "could not be written" in err
