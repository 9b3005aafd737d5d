"""Text to ids and back, in both languages."""

import json
from pathlib import Path

import pytest
from conftest import make_model, make_tokenizer

from vitdemo.errors import CheckpointError
from vitdemo.models.checkpoint import load_checkpoint, save_checkpoint
from vitdemo.tokens import TextTokenizer


@pytest.mark.parametrize("text", ["a dog runs on the grass", "一只狗在草地上跑。",
                                  "two dogs , playing .", "zebra", "a t-shirt", "10:30 man's"])
def test_decoding_gives_the_text_again(tokenizer: TextTokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.pieces(text)[0]) == text


def test_what_was_decoded_is_encoded_alike(tokenizer: TextTokenizer) -> None:
    for text in ("a dog_house 12 x", "狗 dog 猫", "Don't!"):
        once = tokenizer.pieces(text)[0]
        assert tokenizer.pieces(tokenizer.decode(once))[0] == once


def test_encoder_rows_are_framed_padded_and_cut(tokenizer: TextTokenizer) -> None:
    ids, mask = tokenizer.encode(["a dog", "a " * 400])
    assert ids.shape == mask.shape == (2, tokenizer.max_tokens)
    assert ids[0, :4].tolist()[0] == tokenizer.start and ids[0, 3] == tokenizer.end
    assert int(mask[0].sum()) == 4 and int(ids[0, 4]) == tokenizer.pad
    assert ids[1, -1] == tokenizer.end


def test_targets_start_with_their_language(tokenizer: TextTokenizer) -> None:
    ids, mask = tokenizer.encode_targets(["a dog", "一只狗"], ["en", "zh"])
    assert ids[:, 0].tolist() == [tokenizer.language_start["en"], tokenizer.language_start["zh"]]
    assert all(int(row[seen][-1]) == tokenizer.end for row, seen in zip(ids, mask, strict=True))


def test_whole_words_know_their_tokens(tokenizer: TextTokenizer) -> None:
    found = tokenizer.word_tokens("a Zebra's ball, 小狗跑")
    words = [word.text for word, _ in found]
    assert words[:3] == ["a", "Zebra's", "ball"]
    covered = [token for _, tokens in found for token in tokens]
    assert len(covered) == len(set(covered))
    assert len(found[1][1]) > 1  # a rare word is several tokens


def test_a_broken_tokenizer_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(CheckpointError, match="tokenizer"):
        TextTokenizer.load(tmp_path / "tokenizer.json", 10)


def test_languages_share_digits_and_marks_and_nothing_else(tokenizer: TextTokenizer) -> None:
    def written(text: str, language: str) -> bool:
        return not set(tokenizer.pieces(text)[0]) & set(tokenizer.foreign(language))

    assert written("two dogs, 3 - 4 ?", "en") and not written("狗", "en")
    assert not written("。", "en") and not written("dog", "zh") and not written("playing", "zh")
    assert written("一只穿T恤的狗，12。", "zh") and written("3 ? !", "zh")


def test_chinese_may_hold_the_latin_words_of_its_captions(tokenizer: TextTokenizer,
                                                          tmp_path: Path) -> None:
    own = make_tokenizer()
    texts = ["一只狗在house里", "house和猫", "一个red球"]
    assert own.latin_in(texts) == {"house"}  # one alone may be a slip
    own.admit([*own.latin_in(texts), "nowhere"])
    house, red = (own.pieces(word)[0][0] for word in ("house", "red"))
    assert house not in own.foreign("zh") and red in own.foreign("zh")
    assert house in tokenizer.foreign("zh")
    save_checkpoint(tmp_path / "own", make_model(own), own, {"name": "own"})
    kept = load_checkpoint(tmp_path / "own").tokenizer
    assert kept.latin == own.latin and kept.foreign("zh") == own.foreign("zh")
    meta = json.loads((tmp_path / "own" / "meta.json").read_text())
    for latin in (None, "x", [3, None], {}):  # of an older checkpoint, or by hand
        (tmp_path / "own" / "meta.json").write_text(json.dumps({**meta, "latin": latin}))
        assert house in load_checkpoint(tmp_path / "own").tokenizer.foreign("zh")
