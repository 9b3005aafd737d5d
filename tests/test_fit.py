"""Of several finished sentences, the one that also fits the picture."""

import itertools
import math

import pytest
import torch
from conftest import make_picture

from train.evaluation.predict import ModelPredictor
from vitdemo.backends.native import NativeBackend
from vitdemo.config import Decoding
from vitdemo.instructions import default_instruction
from vitdemo.models.captioning import Captioner
from vitdemo.models.decoding import Hypothesis, best, write_all
from vitdemo.models.vlm import VLM
from vitdemo.tokens import TextTokenizer
from vitdemo.words import broken_words, repeated_words

BEAM = Decoding(beams=4, max_tokens=6, min_tokens=2)


def hypothesis(log_probability: float, length: int = 1, ended: bool = True) -> Hypothesis:
    return Hypothesis((5,) * length, log_probability, ended)


def test_the_best_weighs_probability_and_fit() -> None:
    found = [hypothesis(-1.0), hypothesis(-1.5), hypothesis(-0.1, ended=False)]
    decoding = Decoding(length_penalty=0, fit=2)
    assert best(found, decoding) is found[0]
    assert best(found, decoding, [0.1, 0.3, 0.9]) is found[0]  # 0.4 is less than 0.5
    assert best(found, decoding, [0.1, 0.4, 0.9]) is found[1]
    assert best(found, Decoding(fit=0), [0.1, 0.9, 0.9]) is found[0]
    unfinished = [hypothesis(-2.0, ended=False), hypothesis(-3.0, ended=False)]
    assert best(unfinished, decoding) is unfinished[0]
    assert best(unfinished, decoding, [0.0, 0.9]) is unfinished[1]


def test_longer_texts_are_scored_by_the_length_penalty() -> None:
    found = [hypothesis(-2.0, 1), hypothesis(-3.0, 5)]
    assert best(found, Decoding(length_penalty=1, fit=0.9), [0.5, 0.0]) is found[1]  # -1, -0.5
    assert best(found, Decoding(length_penalty=1, fit=1.1), [0.5, 0.0]) is found[0]


@pytest.fixture
def candidates(native_backend: NativeBackend) -> list[str]:
    """The sentences that beam search finds, likeliest first."""
    (features,) = native_backend.encode_pictures([make_picture()])
    with torch.inference_mode():
        memory = native_backend.memory(features.data, "")
    found = write_all(native_backend.model.decoder, memory,
                      native_backend.inference.captioner.vocabulary(["en"]), BEAM)[0]
    found = [text for text in found if text.ended] or found
    texts = [native_backend.tokenizer.decode(text.ids) for text in found]
    fewest = min(len(repeated_words(text)) for text in texts)
    texts = [text for text in texts if len(repeated_words(text)) == fewest]
    assert len(set(texts)) > 1
    return texts


def test_the_caption_is_the_one_that_fits(native_backend: NativeBackend, candidates: list[str],
                                          monkeypatch: pytest.MonkeyPatch) -> None:
    (features,) = native_backend.encode_pictures([make_picture()])

    def written(fit: float) -> str:
        decoding = Decoding(beams=4, max_tokens=6, min_tokens=2, fit=fit)
        *_, last = native_backend.generate(features, "", "en", decoding)
        return last.text

    for wanted in candidates:
        def cosines(self: Captioner, features: torch.Tensor, found: list[list[Hypothesis]],
                    decoding: Decoding, wanted: str = wanted) -> list[list[float]]:
            return [[1.0 if self.tokenizer.decode(text.ids) == wanted else -1.0 for text in texts]
                    for texts in found]

        monkeypatch.setattr(Captioner, "_cosines", cosines)
        assert written(20.0) == wanted
        assert written(0.0) == candidates[0]


def test_evaluation_writes_what_the_app_writes(native_backend: NativeBackend) -> None:
    pictures = [make_picture(seed) for seed in range(4)]
    features = native_backend.encode_pictures(pictures)
    predictor = ModelPredictor(native_backend.model, native_backend.tokenizer, beams=4)
    together = torch.cat([one.data for one in features])
    chosen = 0
    for fit, language in itertools.product((0.0, 20.0), ("en", "zh")):
        decoding = Decoding(beams=4, fit=fit)
        predictor.caption_decoding = decoding
        said = predictor.captions(together, range(4), language)
        for one, text in zip(features, said, strict=True):
            *_, last = native_backend.generate(one, default_instruction(language), language,
                                               decoding)
            assert text == last.text
        chosen += len(set(said))
    assert chosen


def test_a_fit_that_is_no_number_is_refused() -> None:
    with pytest.raises(Exception, match="fit is nan"):
        Decoding(fit=math.nan)


def test_a_caption_with_a_broken_word_is_not_shown(tokenizer: TextTokenizer, tiny_model: VLM,
                                                   ) -> None:
    captioner = Captioner(tiny_model, tokenizer)
    texts = [Hypothesis(tuple(tokenizer.batch_pieces([text])[0]), -1.0 - i, ended)
             for i, (text, ended) in enumerate((("男孩在草地上玩", False), ("一个男孩在描", True),
                                                ("男孩在草地上跑", True)))]
    assert broken_words("一个白色的披萨上放着一块油炸食") == ["食"]
    assert broken_words("男孩在草地上跑") == []
    assert captioner._well_formed(texts[1:]) == texts[2:]
    assert captioner._well_formed(texts[:2]) == texts[1:2]  # one that has ended goes before
