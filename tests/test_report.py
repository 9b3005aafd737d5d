"""What a person keeps of a result: the numbers agree with the maps, the page needs nothing else."""

import csv
import io
import json
import re
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pytest
from conftest import make_picture

from vitdemo import report
from vitdemo.errors import DiskError
from vitdemo.preprocess import Picture, grid_boxes, open_picture
from vitdemo.records import Candidate, Curve, Evidence, Explanation, ModelInfo, PictureShare
from vitdemo.report import numbers
from vitdemo.report.page import Report, page, safe_json
from vitdemo.words import split_words

INFO = ModelInfo("planted <model>", "fake", "abc123", frozenset({"caption", "explain"}), ("en",), 0)
GRID, SIZE = (2, 3), (96, 64)
WHEN = datetime(2026, 11, 22, 8, 5, tzinfo=timezone.utc)


def explained(text: str = "a red dog", source: str = "caption", layers: int = 2, heads: int = 2,
              method: str = "cross-attention", seed: int = 0) -> Explanation:
    words = split_words(text)
    weights = np.random.default_rng(seed).random((layers, heads, len(words), 6), np.float32) / 6
    return Explanation(text, source, words, weights, grid_boxes(GRID, SIZE), GRID, SIZE, method,
                       tuple(f"layer {n + 1}" for n in range(layers)), (0.25,) * layers,
                       tuple(0.5 for _ in words))


def weighed(word: int = 1, verdict: str = "strong") -> Evidence:
    curve = Curve((0.0, 0.5, 1.0), (0.9, 0.2, 0.1), 0.35)
    return Evidence(word, "caption", "cross-attention", curve, curve, (0.5,), (0.5,), 0.5, 0.5, 0.9,
                    0.1, verdict)


SHARE = PictureShare("caption", float("nan"), (0.7, 0.6, 0.5), (0.9, 0.8, 0.7), (0.9, 0.1, 0.2),
                     (True, False, False))


@pytest.fixture
def photo() -> Picture:
    return open_picture(make_picture(size=SIZE))


def test_json_agrees_exactly() -> None:
    one = explained()
    found = json.loads(json.dumps(report.to_json([one], INFO, when=WHEN, name="dog.jpg")))
    kept = found["explanations"][0]
    assert np.array_equal(np.array(kept["weights"], np.float32), one.weights)
    assert np.array_equal(np.array(kept["boxes"], np.float32), one.boxes)
    assert kept["weights"][1][0][2][3] == pytest.approx(float(one.weights[1, 0, 2, 3]), rel=1e-6)
    assert [word["text"] for word in kept["words"]] == ["a", "red", "dog"]
    assert found["picture"] == {"name": "dog.jpg", "size": [96, 64]}
    assert found["model"] == {"name": "planted <model>", "family": "fake", "revision": "abc123"}
    assert found["made"] == "2026-11-22T08:05:00+00:00" and found["caveats"]


def test_json_is_json_whatever_the_numbers() -> None:
    broken = explained()
    broken.weights[0, 0, 0, 0] = np.nan
    found = report.to_json([broken], evidence=[weighed()], shares=[SHARE])
    text = json.dumps(found, allow_nan=False)
    assert json.loads(text)["explanations"][0]["weights"][0][0][0][0] is None
    assert found["shares"][0]["gate"] is None and found["evidence"][0]["sentence"]
    assert found["model"] is None


def test_csv_agrees_exactly() -> None:
    one, other = explained(), explained(method="rollout", layers=1, heads=1, seed=2)
    rows = list(csv.DictReader(io.StringIO(report.to_csv([one], [other]))))
    assert tuple(rows[0]) == numbers.COLUMNS
    assert len(rows) == one.weights.size + other.weights.size
    back = {method: np.full(each.weights.shape, np.nan, np.float32)
            for method, each in (("cross-attention", one), ("rollout", other))}
    for row in rows:
        layer = int(row["layer"].split()[-1]) - 1
        place = (layer, int(row["head"]) - 1, int(row["word_index"]) - 1, int(row["region"]) - 1)
        back[row["method"]][place] = np.float32(row["weight"])
        box = [np.float32(row[name]) for name in ("x0", "y0", "x1", "y1")]
        assert box == one.boxes[place[3]].tolist()
        assert row["word"] == one.words[place[2]].text
    assert np.array_equal(back["cross-attention"], one.weights)
    assert np.array_equal(back["rollout"], other.weights)


def test_a_csv_too_long_for_a_spreadsheet_has_the_means(monkeypatch: pytest.MonkeyPatch) -> None:
    one = explained()
    monkeypatch.setattr(numbers, "MOST_ROWS", one.weights.size - 1)
    rows = list(csv.DictReader(io.StringIO(report.to_csv([one]))))
    assert len(rows) == 3 * 6 and {row["layer"] for row in rows} == {"mean"}
    means = np.array([np.float32(row["weight"]) for row in rows]).reshape(3, 6)
    assert np.array_equal(means, one.mean_map())


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\t=1"])
def test_no_cell_is_a_formula(text: str) -> None:
    assert numbers.cell(text) == f"'{text}"
    assert numbers.cell(f"a{text}") == f"a{text}"
    one = replace(explained(layers=1), layer_names=(text,))
    rows = list(csv.DictReader(io.StringIO(report.to_csv([one]))))
    assert {row["layer"] for row in rows} == {f"'{text}"}


def test_excel_reads_the_chinese(tmp_path: Path) -> None:
    report.write_csv(tmp_path / "a.csv", [explained("一只 狗")])
    data = (tmp_path / "a.csv").read_bytes()
    assert data.startswith(b"\xef\xbb\xbf") and "一只".encode() in data
    assert data.count(b"\r\n") == data.count(b"\n")


def test_texts_cannot_break_out_of_the_page(photo: Picture) -> None:
    bad = "</script><script>alert(1)</script> <img src=x onerror=alert(2)> & 狗 \u2028"
    one = explained(bad)
    text = page(Report(photo, (one,), INFO, settings={"<b>": bad}, name=bad, when=WHEN,
                       answers=(Candidate(bad, 0.2),)))
    for piece in ("<script>alert", "<img src=x", "planted <model>"):
        assert piece not in text
    assert text.count("</script>") == 2  # the payload's and the viewer's
    payload = re.search(r'id="payload">(.*?)</script>', text, re.DOTALL)
    assert payload is not None
    assert json.loads(payload.group(1))["texts"][0]["text"] == bad
    assert json.loads(safe_json({"a": bad, "b": float("nan")})) == {"a": bad, "b": None}


def test_the_page_holds_everything(photo: Picture) -> None:
    one, other = explained(), explained(method="rollout", layers=1, heads=1)
    text = page(Report(photo, (one,), INFO, (other,), (weighed(),), (SHARE,),
                       {"Instruction": "Describe it."}, (Candidate("blue", 0.25),), "dog.jpg",
                       WHEN))
    for piece in ("Describe it.", "abc123", "dog.jpg", "22 November 2026, 08:05",
                  "blue</bdi>: 25%",
                  "What a map cannot say", "much more than", "with a grey one", "96 × 64",
                  "2 rows of 3", "Sure of every word.", "planted &lt;model&gt;"):
        assert piece in text, piece
    assert text.count('<tr><th scope="row"') == 3  # one row for each word
    assert text.count('src="data:image/jpeg;base64,') == 3 + 1  # and the picture without scripts
    outside = re.sub(r'<script type="application/json".*?</script>', "", text, flags=re.DOTALL)
    assert not re.search(r'(?:src|href)="(?!data:)', outside)
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)
    assert policy is not None and policy.group(1).startswith("default-src 'none'")
    assert "unsafe-eval" not in policy.group(1) and "http" not in policy.group(1)


def test_a_report_of_no_words(photo: Picture) -> None:
    assert "What a map cannot say" in page(Report(photo, (), INFO))
    assert report.to_csv([]).strip() == ",".join(numbers.COLUMNS)
    assert report.to_json([])["picture"]["size"] is None


def test_a_map_of_zeros_is_said(photo: Picture) -> None:
    one = explained()
    one.weights[:, :, 0] = 0
    assert "Did not look at the picture." in page(Report(photo, (one,), INFO))


def test_what_cannot_be_written_is_one_sentence(tmp_path: Path, photo: Picture) -> None:
    for path in (tmp_path / "none" / "a.html", tmp_path):
        with pytest.raises(DiskError, match=r"could not be written: .*you may write in it\."):
            report.write_html(path, photo, [explained()], INFO)
    if Path("/dev/full").exists():
        with pytest.raises(DiskError, match="the disk is full"):
            report.write_json("/dev/full", [explained()], INFO)
    report.write_json(tmp_path / "a.json", [explained()], INFO, name="a.jpg")
    report.write_json(tmp_path / "a.json", [explained()], INFO, name="b.jpg")  # replaces it
    assert json.loads((tmp_path / "a.json").read_text("utf-8"))["picture"]["name"] == "b.jpg"
