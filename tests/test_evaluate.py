"""Evaluation end to end on data made on the spot: layout of the JSON, options, errors, and a
planted perfect model that must get 100."""

import copy
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from train.data.mentions import ANSWERS
from train.data.reading import METADATA, Question, Row, read_split
from train.evaluate import Parts, evaluate_split, main
from train.evaluation import metrics
from train.evaluation.predict import ModelPredictor
from train.evaluation.report_cli import table
from train.evaluation.retrieval import names_said
from train.evaluation.vqa_metrics import vqa_figures
from vitdemo.config import ModelConfig
from vitdemo.models.checkpoint import save_checkpoint
from vitdemo.models.names import read_names
from vitdemo.models.vlm import VLM
from vitdemo.tokens import SPECIAL, TextTokenizer

BLEU_KEYS = ("bleu1", "bleu2", "bleu3", "bleu4", "cider", "rouge_l", "meteor")
CAPTIONS = ["a red dog runs on the grass", "two old men sit on a bench", "a blue bird flies high",
            "the child eats some green soup"]
CAPTIONS_ZH = ["红色的狗在草地上奔跑", "两个老人坐在长椅上", "蓝色的鸟飞得很高", "孩子在喝绿色的汤"]

ALL = Parts(blank=True, wrong_picture=True, shuffled=True, rerank=2, made=True)


@pytest.fixture(autouse=True)
def no_java(monkeypatch: pytest.MonkeyPatch) -> None:
    """METEOR takes seconds to start; its own test is in test_metrics.py."""
    monkeypatch.setattr(metrics.shutil, "which", lambda name: None)


def make_data(folder: Path, count: int = 4, captions: bool = True, seed: int = 0) -> Path:
    folder.mkdir(parents=True)
    random = np.random.default_rng(seed)
    rows = []
    for i in range(count):
        pixels = random.integers(0, 256, (24, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
        row: dict[str, Any] = {"file_name": f"{i}.png"}
        if captions:
            row["captions"] = [f"{CAPTIONS[i % 4]} {i}", CAPTIONS[i % 4]]
            row["captions_zh"] = [CAPTIONS_ZH[i % 4]]
        if not captions or i % 2:
            row["qa"] = [
                {"question": "what colour is it ?", "answer": f"colour {i}",
                 "answers": [f"colour {i}"] * 10, "type": "other", "source": "vqa_v2"},
                {"question": "有几只？", "answer": f"{i}只", "source": "own"},
                {"question": "is it big ?", "answer": "yes"}]
        rows.append(row)
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (folder / METADATA).write_text(text, encoding="utf-8")
    return folder


def make_tokenizer() -> TextTokenizer:
    letters = sorted(set("abcdefghijklmnopqrstuvwxyz0123456789.,?" + "".join(CAPTIONS_ZH)))
    pieces = [*SPECIAL, *letters, *(f"##{letter}" for letter in letters)]
    inner = Tokenizer(models.WordPiece({p: i for i, p in enumerate(pieces)}, unk_token="[UNK]"))
    inner.normalizer = normalizers.BertNormalizer(lowercase=True)
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return TextTokenizer(inner, 64)


@pytest.fixture(scope="module")
def parts() -> tuple[VLM, TextTokenizer]:
    torch.manual_seed(0)
    tokenizer = make_tokenizer()
    config = ModelConfig.from_size("tiny", vocabulary=tokenizer.size, max_text_tokens=64)
    return VLM(config).eval(), tokenizer


@pytest.fixture(scope="module")
def checkpoint(parts: tuple[VLM, TextTokenizer],
               tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoints") / "random-tiny"
    save_checkpoint(folder, *parts, {})
    return folder


def holds(row: Row, word: str) -> bool:
    """Whether the row's captions hold the name that is written so."""
    return any(any(names_said(texts, [name], language))
               for language, texts in (("en", row.captions), ("zh", row.captions_zh))
               for name in read_names() if name.words[language] == word)


class Planted:
    """Knows the right caption, vectors and answers of every picture, unless it is blind."""

    def __init__(self, rows: Sequence[Row], batch: int = 3) -> None:
        self.rows, self.batch = {row.path: row for row in rows}, batch

    def batches(self, paths: Sequence[Path]) -> Iterator[tuple[list[int], list[Row | None]]]:
        for start in range(0, len(paths), self.batch):
            places = list(range(start, min(start + self.batch, len(paths))))
            yield places, [self.rows[paths[i]] for i in places]

    def blank(self) -> list[Row | None]:
        return [None]

    def embed_pictures(self, features: list[Row | None]) -> np.ndarray:
        places = list(self.rows)
        return np.eye(len(places), dtype=np.float32)[
            [places.index(row.path) for row in features if row]]

    def embed_texts(self, texts: Sequence[str],
                    progress: Callable[[int], object] = lambda n: None) -> np.ndarray:
        owner = {text: i for i, row in enumerate(self.rows.values())
                 for text in row.captions + row.captions_zh}
        places = [owner[text] if text in owner else
                  next(i for i, row in enumerate(self.rows.values()) if holds(row, text))
                  for text in texts]
        return np.eye(len(self.rows), dtype=np.float32)[places]

    def captions(self, features: list[Row | None], places: Sequence[int], language: str,
                 instruction: str = "describe") -> list[str]:
        return [(row.captions if language == "en" else row.captions_zh)[0]
                for row in (features[i] for i in places) if row]

    def answers(self, features: list[Row | None], places: Sequence[int],
                questions: Sequence[str]) -> list[str]:
        rows = [features[i] for i in places]
        return [self.answer(row, question) for row, question in zip(rows, questions, strict=True)]

    def answer(self, row: Row | None, question: str) -> str:
        if row is None:
            return "yes"
        known = {q.question: q.answer for q in row.questions}
        things = {"en": "dog bench bird child grass".split(),
                  "zh": "狗 长椅 鸟 孩子 草地".split()}
        yes_no = {word: ANSWERS[language][not any(word in text for text in
                                                  row.captions + row.captions_zh)]
                  for language, words in things.items() for word in words}
        found = [answer for word, answer in yes_no.items() if word in question]
        return known.get(question, found[0] if found else "I do not know")

    def answer_scores(self, features: list[Row | None], places: Sequence[int],
                      questions: Sequence[str], answers: Sequence[str]) -> np.ndarray:
        rows = [features[i] for i in places]
        return np.array([row is not None and self.answer(row, question) == answer
                         for row, question, answer in zip(rows, questions, answers, strict=True)],
                        np.float32)

    def keep(self, features: list[Row | None]) -> list[Row | None]:
        return features

    def match_logits(self, pictures: Sequence[Row | None], texts: Sequence[str],
                     pairs: np.ndarray,
                     progress: Callable[[int], object] = lambda n: None) -> np.ndarray:
        def fits(row: Row | None, text: str) -> bool:
            return row is not None and (text in row.captions + row.captions_zh
                                        or holds(row, text))

        progress(len(pairs))
        return np.array([fits(pictures[i], texts[j]) for i, j in pairs], np.float32)


def test_a_perfect_model_gets_100_and_a_blank_picture_shows_what_it_guesses(
        tmp_path: Path) -> None:
    split = read_split(make_data(tmp_path / "data"))
    figures = evaluate_split(Planted(split.rows), split, ALL, quiet=True)
    for language in ("en", "zh"):
        scores = figures["caption"][language]
        assert [scores[key] for key in BLEU_KEYS[:4]] == pytest.approx([100] * 4)
        assert scores["rouge_l"] == pytest.approx(100) and scores["meteor"] is None
        for way in ("text_to_image", "image_to_text"):
            assert figures["retrieval"][language][way] == {
                "r1": 100, "r5": 100, "r10": 100, "median_rank": 1,
                "ci": {"r1": [100, 100], "r5": [100, 100], "r10": [100, 100]}}
        named = figures["retrieval"][language]["names"]
        assert named["names"] >= 3 and named["mrr"] == 100
        assert named["reranked"]["mrr"] == 100 and named["ci"] == {"mrr": [100, 100]}
    vqa = figures["vqa"]
    assert (vqa["accuracy"], vqa["vqa_score"], vqa["n"], vqa["vqa_score_n"]) == (100, 100, 6, 2)
    assert vqa["blank"] == pytest.approx({"accuracy": 100 / 3, "difference": 200 / 3,
                                          "vqa_score": 0, "vqa_score_difference": 100})
    # The other row's picture answers the third question alike; shuffled, none is understood.
    assert vqa["wrong_picture"]["accuracy"] == pytest.approx(100 / 3)
    assert vqa["shuffled"]["accuracy"] == 0 and vqa["shuffled"]["difference"] == 100
    for language in ("en", "zh"):
        reranked = figures["retrieval"][language]["reranked"]
        assert reranked["image_to_text"]["r1"] == 100 and reranked["candidates"] == 2
        assert figures["yes_no"][language]["accuracy"] == 100
        assert figures["yes_no"][language]["said_yes"] == 50
    assert {key: of["n"] for key, of in vqa["by_source"].items()} == {
        "data": 2, "own": 2, "vqa_v2": 2}
    assert vqa["by_source"]["vqa_v2"]["blank"]["accuracy"] == 0
    assert vqa["by_source"]["data"]["blank"]["difference"] == 0
    assert "vqa_score" not in vqa["by_source"]["own"]
    assert list(vqa["by_type"]) == ["other"]


def with_choices(folder: Path) -> Path:
    """Two pictures with a question each that has four choices."""
    make_data(folder, 2, captions=False)
    rows = [json.loads(line) for line in (folder / METADATA).read_text("utf-8").splitlines()]
    for i, row in enumerate(rows):
        row["qa"] = [{"question": "where is it ?", "answer": f"at place {i}", "type": "where",
                      "choices": [f"at place {j}" for j in range(4)]}]
    (folder / METADATA).write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return folder


def test_the_best_of_given_choices(tmp_path: Path) -> None:
    split = read_split(with_choices(tmp_path / "data"))
    choices = evaluate_split(Planted(split.rows), split, ALL, quiet=True)["choices"]
    assert choices == {"accuracy": 100, "blank": 25, "chance": 25, "by_type": {"where": 100},
                       "n": 2, "ci": {"accuracy": [100, 100]}}  # blank: all four score alike


def test_answer_scores_are_the_models_own(tmp_path: Path, parts: tuple[VLM, TextTokenizer],
                                          monkeypatch: pytest.MonkeyPatch) -> None:
    """In pieces they are the mean log-probabilities of one pass over each answer alone."""
    model, tokenizer = parts
    split = read_split(make_data(tmp_path / "data", 3))
    predictor = ModelPredictor(model, tokenizer, batch=3)
    [features] = [found for _, found in predictor.batches([row.path for row in split.rows])]
    answers = ["a dog", "two old men on a bench", "狗"]
    monkeypatch.setattr("vitdemo.models.inference._ROWS", 2)
    together = predictor.answer_scores(features, [2, 0, 1], ["what is it ?"] * 3, answers)
    instruction = tokenizer.encode(["what is it ?"])
    for place, answer, score in zip([2, 0, 1], answers, together, strict=True):
        ids, _ = tokenizer.encode_targets([answer], ["en"])
        with torch.inference_mode():
            logs = model(features[[place]], *instruction, ids[:, :-1]).logits.log_softmax(-1)
        assert score == pytest.approx(float(logs[0].gather(1, ids[0, 1:, None]).mean()), abs=1e-4)


class Mixed(Planted):
    """Says of every picture what is true of the one before it."""

    def batches(self, paths: Sequence[Path]) -> Iterator[tuple[list[int], list[Row | None]]]:
        rows = list(self.rows.values())
        yield list(range(len(paths))), [*rows[-1:], *rows[:-1]]

    def answers(self, features: list[Row | None], places: Sequence[int],
                questions: Sequence[str]) -> list[str]:
        return ["colour 99"] * len(questions)


def test_a_model_that_mixes_up_pictures_does_not(tmp_path: Path) -> None:
    split = read_split(make_data(tmp_path / "data"))
    figures = evaluate_split(Mixed(split.rows), split, ALL, quiet=True)
    assert figures["caption"]["en"]["bleu4"] < 20
    assert figures["retrieval"]["en"]["text_to_image"]["r1"] == 0
    assert figures["vqa"]["accuracy"] == figures["vqa"]["vqa_score"] == 0
    assert figures["yes_no"]["en"]["accuracy"] == 0 and figures["yes_no"]["en"]["neither"] == 100


def test_the_json_has_the_promised_layout(
        tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_data(tmp_path / "all" / "photos" / "validation")
    make_data(tmp_path / "all" / "asked" / "validation", captions=False)
    out = tmp_path / "new" / "figures.json"
    assert main(["--checkpoint", str(checkpoint), "--data", str(tmp_path / "all"), "--json",
                 str(out), "--device", "cpu"]) == 0
    figures = json.loads(out.read_text(encoding="utf-8"))
    assert set(figures) == {"photos", "asked", "_meta"}
    assert set(figures["photos"]) == {"caption", "retrieval", "vqa", "yes_no"}
    assert set(figures["asked"]) == {"vqa"}
    for language in ("en", "zh"):
        assert set(BLEU_KEYS) < set(figures["photos"]["caption"][language])
        for way in ("text_to_image", "image_to_text"):
            assert set(figures["photos"]["retrieval"][language][way]) == {
                "r1", "r5", "r10", "median_rank", "ci"}
        reranked = figures["photos"]["retrieval"][language]["reranked"]
        assert set(reranked) == {"text_to_image", "image_to_text", "weights", "candidates"}
        assert set(figures["photos"]["yes_no"][language]) == {"accuracy", "said_yes", "neither",
                                                              "n"}
    vqa = figures["asked"]["vqa"]
    assert set(vqa["ci"]) == {"accuracy", "vqa_score"}
    assert set(vqa) == {"accuracy", "n", "vqa_score", "vqa_score_n", "ci", "blank", "wrong_picture",
                        "shuffled", "by_source", "by_type"}
    assert all(set(vqa[key]) == {"accuracy", "difference", "vqa_score", "vqa_score_difference"}
               for key in ("blank", "wrong_picture", "shuffled"))
    assert set(vqa["by_source"]) == {"vqa_v2", "own", "asked"}
    assert all(isinstance(of["accuracy"], float) for of in vqa["by_source"].values())
    assert figures["_meta"]["checkpoint"] == "random-tiny"
    assert len(figures["_meta"]["revision"]) == 12
    cost = figures["_meta"]["cost"]
    assert cost["megabytes"] == pytest.approx(
        sum(file.stat().st_size for file in checkpoint.iterdir()) / 1e6, abs=1e-3)
    assert cost["caption"]["pictures"] == 4 and 0 < cost["caption"]["seconds"] < 60
    assert cost["caption"]["threads"] == torch.get_num_threads()
    printed = capsys.readouterr().out
    assert "photos" in printed and "bleu4" in printed and "vqa by source own" in printed


def test_several_data_sets_splits_and_limit(tmp_path: Path, checkpoint: Path) -> None:
    one = make_data(tmp_path / "one" / "test", 4).parent
    make_data(one / "validation", 2)
    other = make_data(tmp_path / "two" / "one", 3)  # the same name, elsewhere
    out = tmp_path / "figures.json"
    assert main(["--checkpoint", str(checkpoint), "--data", str(one), "--data", str(other),
                 "--data", str(one), "--split", "test", "--limit", "3", "--beams", "1",
                 "--batch", "2", "--json", str(out), "--no-made", "--rerank", "0", "--no-blank",
                 "--no-shuffled", "--no-wrong-picture"]) == 0
    figures = json.loads(out.read_text(encoding="utf-8"))
    assert set(figures) == {"one", "one (2)", "_meta"}
    assert figures["one"]["caption"]["en"]["pictures"] == 3
    assert figures["one"]["retrieval"]["en"]["texts"] == 6
    assert "reranked" not in figures["one"]["retrieval"]["en"]
    assert "yes_no" not in figures["one"]
    assert not {"blank", "wrong_picture", "shuffled"} & set(figures["one"]["vqa"])
    assert (figures["_meta"]["split"], figures["_meta"]["limit"]) == ("test", 3)


def test_switched_off_parts_change_answers_and_come_back(
        tmp_path: Path, parts: tuple[VLM, TextTokenizer]) -> None:
    """Off is what gates of 0 and a modulation that changes nothing give."""
    model, tokenizer = copy.deepcopy(parts[0]), parts[1]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    split = read_split(make_data(tmp_path / "data", 6, captions=False))
    figures = evaluate_split(ModelPredictor(model, tokenizer), split, Parts(ablate=True),
                             quiet=True)["vqa"]
    assert {"no_fusion", "no_modulation"} <= set(figures)
    assert set(figures["no_fusion"]) == {"accuracy", "difference", "vqa_score",
                                         "vqa_score_difference"}
    predictor = ModelPredictor(model, tokenizer)
    [(_, features)] = predictor.batches([row.path for row in split.rows])
    answers = ["yes", "no", "2", "a dog", "red", "3"]

    def scores() -> np.ndarray:
        return predictor.answer_scores(features, range(6), ["what is it ?"] * 6, answers)

    whole, off = scores(), predictor.ablations()
    with off["no_fusion"]():
        no_fusion = scores()
    with off["no_modulation"]():
        no_modulation = scores()
    np.testing.assert_array_equal(scores(), whole)
    kept, model.modulation = model.modulation, None
    np.testing.assert_allclose(no_modulation, scores(), atol=1e-6)
    model.modulation = kept
    with torch.no_grad():
        for block in model.fusion.blocks:
            block.cross_gate.zero_()
    np.testing.assert_allclose(no_fusion, scores(), atol=1e-6)
    assert abs(no_fusion - whole).max() > 1e-3 and abs(no_modulation - whole).max() > 1e-3


def test_a_model_without_fusion_has_nothing_to_switch_off(parts: tuple[VLM, TextTokenizer]) -> None:
    config = ModelConfig.from_size("tiny", vocabulary=99, fusion="concat", modulation=False)
    assert ModelPredictor(VLM(config), parts[1]).ablations() == {}


def test_batches_change_nothing(tmp_path: Path, parts: tuple[VLM, TextTokenizer]) -> None:
    split = read_split(make_data(tmp_path / "data", 7))
    paths = [row.path for row in split.rows]

    def everything(batch: int) -> tuple[list[str], list[str], np.ndarray]:
        predictor = ModelPredictor(*parts, batch=batch)
        captions: list[str] = []
        answers: list[str] = []
        vectors = []
        for places, features in predictor.batches(paths):
            inside = list(range(len(places)))
            captions += predictor.captions(features, inside, "en")
            answers += predictor.answers(features, inside, [f"what is {i} ?" for i in places])
            vectors.append(predictor.embed_pictures(features))
        return captions, answers, np.concatenate(vectors)

    at_once, in_pieces = everything(7), everything(3)
    assert at_once[:2] == in_pieces[:2] and all(at_once[0])
    np.testing.assert_allclose(at_once[2], in_pieces[2], atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(at_once[2], axis=1), 1, atol=1e-5)


def test_texts_come_back_in_their_order(
        parts: tuple[VLM, TextTokenizer], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vitdemo.models.inference._TEXTS", 2)
    predictor = ModelPredictor(*parts)
    texts = ["a dog runs over the long grass", "dog", *CAPTIONS_ZH, *CAPTIONS]
    heard: list[int] = []
    together = predictor.embed_texts(texts, heard.append)
    alone = np.concatenate([predictor.embed_texts([text]) for text in texts])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert sum(heard) == len(texts)


def test_bad_rows_stop_it_or_are_left_out(
        tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_data(tmp_path / "data", 3)
    (folder / "1.png").write_bytes(b"no picture")
    command = ["--checkpoint", str(checkpoint), "--data", str(folder)]
    assert main(command) == 2
    assert f"{METADATA}, line 2" in capsys.readouterr().err
    assert main([*command, "--skip-bad"]) == 0
    assert "1 bad row(s) left out" in capsys.readouterr().err


@pytest.mark.parametrize("change, message", [
    (["--checkpoint", "nowhere"], "there is no checkpoint folder nowhere"),
    (["--data", "nowhere"], "nowhere is not a folder"),
    (["--limit", "0"], "--limit is 0"),
    (["--beams", "0"], "beams is 0"),
    (["--rerank", "-1"], "--rerank is -1"),
    (["--threads", "0"], "--threads is 0"),
    (["--batch", "0"], "--batch is 0"),
    (["--device", "abacus"], "device 'abacus' is unknown"),
    (["--json", "."], "--json . is a folder"),
])
def test_errors_are_one_line_and_exit_code_2(
        tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str], change: list[str],
        message: str) -> None:
    good = ["--checkpoint", str(checkpoint), "--data", str(make_data(tmp_path / "data", 1))]
    assert main(good + change) == 2
    shown = capsys.readouterr()
    assert shown.err.count("\n") == 1 and shown.err.startswith("error: ")
    assert message in shown.err and shown.out == ""


def test_the_table_has_what_is_alike_under_one_head() -> None:
    ways = {way: {"r1": 20.0, "median_rank": 7.0, "ci": {"r1": [18.0, 23.0]}}
            for way in ("text_to_image", "image_to_text")}
    shown = table({"photos": {"retrieval": {
        "en": {**ways, "pictures": 9, "names": {"mrr": None, "weights": [0.1, 0.2]}}}},
                   "_meta": {"checkpoint": "x", "cost": {"megabytes": 45.67}}})
    assert [line.split() for line in shown.splitlines()] == [
        [], ["photos"], ["pictures"], ["retrieval", "en", "9"], ["r1", "median_rank"],
        ["retrieval", "en", "text", "to", "image", "20.0±2.5", "7.0"],
        ["retrieval", "en", "image", "to", "text", "20.0±2.5", "7.0"],
        ["mrr"], ["retrieval", "en", "names", "-"], ["megabytes"], ["cost", "45.7"]]


def test_match_logits_are_the_models_own(tmp_path: Path, parts: tuple[VLM, TextTokenizer],
                                         monkeypatch: pytest.MonkeyPatch) -> None:
    """In pieces and in another order they are what one pass over each pair alone gives."""
    model, tokenizer = parts
    with torch.no_grad():
        for block in model.fusion.blocks:
            block.cross_gate.fill_(0.7)
    split = read_split(make_data(tmp_path / "data", 5))
    predictor = ModelPredictor(model, tokenizer, batch=3)
    features = [found for _, found in predictor.batches([row.path for row in split.rows])]
    kept = [picture for found in features for picture in predictor.keep(found)]
    texts = [*CAPTIONS, *CAPTIONS_ZH]
    pairs = np.array([(i % 5, (3 * i) % 8) for i in range(20)])
    monkeypatch.setattr("vitdemo.models.inference._PAIRS_CPU", 3)
    heard: list[int] = []
    together = predictor.match_logits(kept, texts, pairs, heard.append)
    everything = torch.cat(features)
    with torch.inference_mode():
        alone = []
        for picture, text in pairs:
            ids, mask = tokenizer.encode([texts[text]])
            start = torch.zeros(1, 1, dtype=torch.long)
            out = model(everything[[picture]], ids, mask, start)
            alone.append(out.match_logits.item())
    np.testing.assert_allclose(together, alone, atol=2e-3)  # the tokens are kept in float16
    assert np.ptp(together) > 0.02 and sum(heard) == 20


def test_answers_to_made_questions_are_no_condition() -> None:
    asked = [(i, Question("what?", "dog", (), "", "")) for i in range(3)]
    answers = {"right": ["dog", "cat", "dog"], "blank": ["cat"] * 3, "yes_no en": ["yes"]}
    figures = vqa_figures(asked, answers, "ours")
    assert figures["n"] == 3 and figures["blank"]["accuracy"] == 0
    assert figures["accuracy"] == pytest.approx(200 / 3) and "yes_no en" not in figures
