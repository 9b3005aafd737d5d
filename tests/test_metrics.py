"""The figures against cases worked out by hand, and against planted perfect and blind models."""

import math
import subprocess

import numpy as np
import pytest
from pycocoevalcap.bleu.bleu import Bleu

from train.evaluation import metrics
from train.evaluation.metrics import (
    caption_scores,
    caption_words,
    exact_match,
    mean_interval,
    normalise_vqa,
    vqa_score,
)
from train.evaluation.retrieval import retrieval_scores

SENTENCES = [f"{who} {does} {where} ." for who in ("a dog", "two children", "the old man")
             for does in ("runs fast", "sits still") for where in ("on red grass", "near water")]


@pytest.mark.parametrize("text, words", [
    ("A man 's T-shirt, 1,000.5 Dogs!", "a man s t-shirt 1,000.5 dogs"),
    ("A man's t-shirt ; 1,000.5 dogs .", "a man s t-shirt 1,000.5 dogs"),
    ("a t - shirt, snow_board -- 2.", "a t-shirt snow board 2"),
    ("两只狗，在打架。", "两只 狗 在 打架"),
    ("两 只 狗 在 打 架", "两只 狗 在 打架"),
    ("穿ＮＢＡ球衣的男人", "穿 nba 球衣 的 男人"),
    ("...", ""),
])
def test_caption_words(text: str, words: str) -> None:
    assert " ".join(caption_words(text)) == words


def test_bleu_by_hand() -> None:
    # "the cat sat on mat": 5 of 5 words, 3 of 4 pairs, 2 of 3 triples, 1 of 2 fours;
    # the closest reference has 6 words, so the brevity penalty is exp(1 - 6/5).
    scores = caption_scores(["The cat sat on mat."], [["the cat sat on the mat", "a cat"]], "zh")
    penalty = math.exp(1 - 6 / 5)
    assert scores["bleu1"] == pytest.approx(100 * penalty, abs=1e-4)
    assert scores["bleu2"] == pytest.approx(100 * penalty * math.sqrt(3 / 4), abs=1e-4)
    assert scores["bleu3"] == pytest.approx(100 * penalty * (3 / 4 * 2 / 3) ** (1 / 3), abs=1e-4)
    assert scores["bleu4"] == pytest.approx(100 * penalty * (1 / 4) ** (1 / 4), abs=1e-4)


def test_rouge_by_hand() -> None:
    # longest common subsequence "the dog runs": 3 of 4 words said, 3 of 5 wanted; beta 1.2
    scores = caption_scores(["the dog now runs"], [["the big dog runs away"]], "zh")
    precision, recall, square = 3 / 4, 3 / 5, 1.2 ** 2
    assert scores["rouge_l"] == pytest.approx(
        100 * (1 + square) * precision * recall / (recall + square * precision))


def test_bleu_is_of_the_corpus_not_a_mean_of_sentences() -> None:
    scores = caption_scores(["dog", "a b c d e f g h i"],
                            [["cat"], ["a b c d e f g h i"]], "zh")
    assert scores["bleu1"] == pytest.approx(90)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_perfect_captions_get_the_top_and_shuffled_ones_do_not(
        language: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics.shutil, "which", lambda name: None)
    texts = SENTENCES if language == "en" else [
        f"{who}在{where}{does}。" for who in ("两只狗", "小女孩") for where in ("草地上", "海边")
        for does in ("奔跑", "睡觉", "玩球")]
    perfect = caption_scores(texts, [[text, "x"] for text in texts], language)
    assert [perfect[f"bleu{n}"] for n in (1, 2, 3, 4)] == pytest.approx([100] * 4)
    assert perfect["rouge_l"] == pytest.approx(100)
    assert perfect["cider"] == pytest.approx(500)  # 1000 over the two references
    shuffled = caption_scores(texts[1:] + texts[:1], [[text, "x"] for text in texts], language)
    assert (shuffled["bleu4"] or 0) < 70 and (shuffled["cider"] or 0) < 250
    blank = caption_scores([""] * len(texts), [[text] for text in texts], language)
    assert blank.pop("ci") == {"bleu4": [0, 0], "cider": [0, 0]}
    assert all(value == pytest.approx(0, abs=1e-6) for value in blank.values()
               if value is not None)


def test_references_without_words_are_left_out() -> None:
    scores = caption_scores(["", "a dog"], [["..."], ["a dog", "!"]], "zh")
    assert scores["bleu2"] == pytest.approx(100)
    with pytest.raises(ValueError, match="no reference"):
        caption_scores(["a dog"], [["..."]], "en")


def test_scoring_prints_nothing(
        capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics.shutil, "which", lambda name: None)
    caption_scores(SENTENCES, [[text] for text in SENTENCES], "en")
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_meteor_where_java_is() -> None:
    if metrics.shutil.which("java") is None:
        pytest.skip("no Java here")
    scores = caption_scores(["a dog runs on grass", "two men"],
                            [["a dog runs on grass", "a dog"], ["three women smile"]], "en")
    assert scores["meteor"] is not None and 20 < scores["meteor"] < 90


def test_meteor_is_none_without_java_or_with_a_broken_one(
        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics.shutil, "which", lambda name: None)
    assert metrics.meteor(["a"], [["a"]]) is None
    monkeypatch.setattr(metrics.shutil, "which", lambda name: "/nowhere/java")
    assert metrics.meteor(["a"], [["a"]]) is None

    def slow(*args: object, **kwargs: object) -> None:
        raise subprocess.TimeoutExpired("java", 1)

    monkeypatch.setattr(metrics.subprocess, "run", slow)
    assert metrics.meteor(["a"], [["a"]]) is None


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def test_retrieval_by_hand() -> None:
    # similarity of texts (rows) to pictures: ranks of the own picture 1, 2, 3; the best own text
    # of picture 0 is first, that of picture 1 (text 1, before 0 and after 2) second.
    pictures = np.eye(3, dtype=np.float32)
    texts = unit(np.array([[0.9, 0.3, 0.0], [0.2, 0.5, 0.8], [0.3, 0.9, 0.1]]))
    scores = retrieval_scores(pictures, texts, np.array([0, 1, 2]))
    for way in scores.values():
        low, high = way.pop("ci")["r1"]
        assert low == 0 and high > 60  # one of three pictures, drawn 200 times
    assert scores["text_to_image"] == pytest.approx(
        {"r1": 100 / 3, "r5": 100, "r10": 100, "median_rank": 2})
    assert scores["image_to_text"] == pytest.approx(
        {"r1": 100 / 3, "r5": 100, "r10": 100, "median_rank": 2})


@pytest.mark.parametrize("chunk", [3, 1000])
def test_perfect_vectors_find_everything_and_random_ones_score_chance(chunk: int) -> None:
    random = np.random.default_rng(0)
    pictures = unit(random.standard_normal((200, 16)))
    picture_of = np.repeat(np.arange(200), 5)
    perfect = retrieval_scores(pictures, pictures[picture_of], picture_of, chunk)
    for way in perfect.values():
        assert way.pop("ci") == {"r1": [100, 100], "r5": [100, 100], "r10": [100, 100]}
        assert way == {"r1": 100, "r5": 100, "r10": 100, "median_rank": 1}
    blind = retrieval_scores(pictures, unit(random.standard_normal((1000, 16))), picture_of, chunk)
    assert blind["text_to_image"]["r10"] == pytest.approx(5, abs=2.5)
    assert blind["text_to_image"]["median_rank"] == pytest.approx(100, abs=10)
    assert blind["image_to_text"]["r10"] == pytest.approx(5, abs=4)


def test_a_constant_model_scores_exactly_chance() -> None:
    same = unit(np.ones((80, 8)))
    scores = retrieval_scores(same[:40], same, np.repeat(np.arange(40), 2))
    for way in scores.values():
        del way["ci"]
    assert scores["text_to_image"] == pytest.approx(
        {"r1": 100 / 40, "r5": 500 / 40, "r10": 1000 / 40, "median_rank": 20.5})
    # two own texts of 80: none in the first k with chance C(80 - k, 2) / C(80, 2)
    assert scores["image_to_text"] == pytest.approx({
        **{f"r{k}": 100 * (1 - math.comb(80 - k, 2) / math.comb(80, 2)) for k in (1, 5, 10)},
        "median_rank": 27})


def test_a_picture_without_text_is_a_distractor_only() -> None:
    pictures = np.eye(3, dtype=np.float32)
    scores = retrieval_scores(pictures, pictures[[0, 2]], np.array([0, 2]))
    assert scores["image_to_text"]["r1"] == scores["text_to_image"]["r1"] == 100


def test_exact_match_forgives_case_marks_and_underscores_only() -> None:
    assert exact_match("Garbage bin.", "garbage_bin")
    assert exact_match("fax machine ,printer", "fax_machine, printer")
    assert exact_match("10 : 30", "10:30") and exact_match("men ' s t - shirt", "men's t-shirt")
    assert not exact_match("bin", "garbage_bin") and not exact_match("", "garbage_bin")


@pytest.mark.parametrize("text, normal", [
    ("The two Dogs!", "2 dogs"), ("none", "0"), ("an apple", "apple"), ("1,000", "1000"),
    ("don't", "dont"), ("Don’t know", "dont know"), ("that's it", "thats it"),
    ("dog's", "dog's"), ("black/white", "black white"), ("black /white", "black white"),
    ("t-shirt", "t shirt"), ("t - shirt", "t shirt"), ("10 : 30", "10:30"), ("don ' t", "dont"),
    ("3.5 m.", "3.5 m"), ("  yes ", "yes"),
])
def test_vqa_normalisation(text: str, normal: str) -> None:
    assert normalise_vqa(text) == normal


def test_vqa_score_by_hand() -> None:
    def people(matches: int) -> list[str]:
        return ["cat"] * matches + ["dog"] * (10 - matches)

    # with m matches: m subsets leave one of them out, 10 - m do not
    assert [vqa_score("the cat.", people(m)) for m in range(6)] == pytest.approx(
        [0, 0.3, 0.6, 0.9, 1, 1])
    assert vqa_score("two", ["2"] * 10) == 1
    assert vqa_score("", people(3)) == 0


def test_intervals_draw_pictures_and_not_rows() -> None:
    """One picture with a hundred rows is one draw: the interval is as wide as that of few."""
    values = np.array([1.0] * 100 + [0.0] * 3)
    picture = np.array([0] * 100 + [1, 2, 3])
    wide, narrow = mean_interval(values, picture), mean_interval(values, np.arange(103))
    assert wide is not None and wide[0] == 0 and wide[1] > 99
    assert narrow is not None and narrow[0] > 90
    assert mean_interval(values, picture) == wide  # seeded
    assert mean_interval(np.ones(5), np.arange(5)) == [100, 100]


def test_bleu_from_sums_is_the_librarys() -> None:
    random = np.random.default_rng(0)
    words = "a dog runs on the grass near two men".split()
    said = {i: [" ".join(random.choice(words, 8))] for i in range(12)}
    wanted = {i: [" ".join(random.choice(words, n)) for n in (7, 10)] + [said[i][0][:-4]]
              for i in range(12)}
    counts = metrics.bleu_counts(said, wanted)
    whole, _ = Bleu(4).compute_score(wanted, said, verbose=0)
    assert metrics.bleu_of(counts.sum(0, keepdims=True))[0] == pytest.approx(whole)
    scores = metrics.caption_scores([texts[0] for texts in said.values()], list(wanted.values()),
                                    "zh")
    for key in ("bleu4", "cider"):
        low, high = scores["ci"][key]
        assert low < scores[key] < high
