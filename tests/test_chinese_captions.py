"""Captions from tables: Chinese ones for English ones, and both for pictures that have none."""

import re
from dataclasses import replace
from importlib import resources
from pathlib import Path

import pytest
import torch
from learning import NoiseStore, learning

from train.data.reading import Row
from train.data.stand_ins import in_chinese, stand_ins
from vitdemo.models.vlm import VLM
from vitdemo.tokens import TextTokenizer
from vitdemo.words import is_chinese

WRITTEN = [line.split("\t") for line in resources.files("train.data").joinpath(
    "written_captions.tsv").read_text(encoding="utf-8").splitlines()]
LINES = resources.files("train.data").joinpath("chinese_captions.tsv").read_text(
    encoding="utf-8").splitlines()
ENGLISH, CHINESE = LINES[0].split("\t")


def test_what_is_not_in_the_table_is_left_out() -> None:
    captions = (f"  {ENGLISH.capitalize()} .", "nobody ever wrote this caption", ENGLISH)
    assert in_chinese(captions) == (CHINESE, CHINESE)


def test_each_line_is_an_english_caption_and_a_chinese_one() -> None:
    pairs = [line.split("\t") for line in LINES]
    assert len({english for english, _ in pairs}) == len(pairs)
    for english, chinese in pairs:
        assert english == " ".join(english.lower().split()).rstrip("."), english
        assert is_chinese(chinese) and chinese.endswith("。"), chinese
        assert 5 <= len(chinese) <= 41, chinese


def test_pictures_are_described_by_the_table_where_no_person_did(
        tmp_path: Path, tiny_model: VLM, tokenizer: TextTokenizer) -> None:
    plain = Row(tmp_path / "a.jpg", (ENGLISH,), (), ())
    own = replace(plain, path=tmp_path / "b.jpg", captions_zh=("一只狗在跑",))
    other = replace(plain, path=tmp_path / "c.jpg", captions=("nobody ever wrote this caption",))
    sampler = learning(tiny_model, [plain, own, other], NoiseStore(tiny_model),
                       tokenizer).sampler
    assert [tuple(sampler.texts_of(i, "zh")) for i in range(3)] == [(CHINESE,), ("一只狗在跑",), ()]
    assert sampler.captions_of(0, "zh") == ()


def test_each_written_line_is_a_picture_to_train_on_and_a_caption_in_each_language() -> None:
    assert len({name for name, *_ in WRITTEN}) == len(WRITTEN) > 10_000
    for name, english, chinese in WRITTEN:
        assert re.fullmatch(r"(visual7w|coco_val2014|coco_vqa|unsplash)/train/[\w.-]+",
                            name), name
        assert english[0].isupper() and english.endswith(".") and english.isascii(), english
        assert 4 <= len(english.split()) <= 22, english
        assert is_chinese(chinese) and chinese.endswith("。") and len(chinese) <= 36, chinese


def test_a_picture_that_nobody_described_has_the_written_captions(tmp_path: Path) -> None:
    name, english, chinese = WRITTEN[0]
    row = Row(tmp_path / name, (), (), ())
    assert stand_ins(row) == (english,) and in_chinese((english,)) == (chinese,)
    assert stand_ins(replace(row, path=tmp_path / "mine" / Path(name).name)) == ()


def test_stand_ins_are_those_of_one_data_set_more(tmp_path: Path, tiny_model: VLM,
                                                  tokenizer: TextTokenizer) -> None:
    rows = [Row(tmp_path / f"{i}.png", ("a man runs on grass .",), (), (), "people/train")
            for i in range(10)]
    rows += [Row(tmp_path / name, (), (), (), "questions/train") for name, *_ in WRITTEN[:5]]
    rows.append(Row(tmp_path / "nobody.png", (), (), (), "questions/train"))
    found = learning(tiny_model, rows, NoiseStore(tiny_model), tokenizer, pairs=8,
                     caption_pictures=8, loss_reward=1.0, reward_pictures=4)
    assert found.sampler.languages == ["en"]  # those of people
    steps = [found.draw(step) for step in range(25)]
    share = 5 ** 0.5 / (5 ** 0.5 + 10 ** 0.5)
    for name in ("caption", "contrastive"):
        drawn = torch.cat([parts[name].rows for parts in steps])
        assert set(drawn[drawn >= 10].tolist()) == {10, 11, 12, 13, 14}
        assert float((drawn >= 10).float().mean()) == pytest.approx(share, abs=0.12)
    for parts in steps:
        assert int(parts["reward"].texts.rows.max()) < 10  # one caption is too few to be judged by
