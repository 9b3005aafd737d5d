"""Evidence through the engine, over the planted backend: what is asked of the model, what comes
back, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from planted import COLOURS, Planted

from vitdemo.checks import Choice, regions_of
from vitdemo.config import Decoding
from vitdemo.engine import Engine
from vitdemo.errors import ConfigError, TaskError, TextError
from vitdemo.preprocess import Picture, open_picture
from vitdemo.records import VERDICTS, Caption


@pytest.fixture
def backend() -> Planted:
    return Planted()


@pytest.fixture
def engine(backend: Planted) -> Engine:
    return Engine(backend)


def half(size: tuple[int, int] = (120, 90)) -> Picture:
    """Green, with red in one of the 12 cells in the lower right."""
    image = Image.new("RGB", size, COLOURS["green"])
    image.paste(COLOURS["red"], (size[0] // 2, size[1] * 2 // 3, *size))
    return open_picture(image)


def wrong(backend: Planted) -> Engine:
    """A model whose maps mark everything but the right place."""
    class Wrong(Planted):
        def explain(self, *arguments, **named):
            found = super().explain(*arguments, **named)
            return tuple(replace(one, weights=np.ascontiguousarray(
                np.float32(0.1) - one.weights / 9)) for one in found)
    return Engine(Wrong())


def test_methods_are_the_backends_and_occlusion(engine: Engine) -> None:
    assert engine.methods == ("cross-attention", "occlusion")
    assert Engine(Planted(tasks=("caption",))).methods == ()


def test_explain_passes_the_method_on_and_makes_occlusion_itself(engine: Engine,
                                                                backend: Planted) -> None:
    engine.explain(half(), "red", "cross-attention")
    assert backend.explained == ["cross-attention"]
    (found,) = engine.explain(half(), "a red thing", "occlusion")
    assert found.method == "occlusion" and found.weights.shape == (1, 1, 3, 12)
    maps = found.mean_map()
    assert set(np.argsort(-maps[1])[:2]) == {10, 11}, "the red cells"
    assert maps[1].sum() == pytest.approx(1, abs=1e-5)
    assert not maps[0].any() and not maps[2].any(), "words that lose nothing"
    assert [one.source for one in engine.explain(half(), engine.ask(half(), "red?"),
                                                 "occlusion")] == ["question", "answer"]
    with pytest.raises(ConfigError, match="'magic'.*cross-attention, occlusion"):
        engine.explain(half(), "red", "magic")


def test_the_right_map_is_strong_and_a_wrong_one_worse(engine: Engine, backend: Planted) -> None:
    verdicts = [one.verdict for one in engine.evidence(half(), "a red thing")]
    assert verdicts == ["language", "strong", "language"]
    (bad,) = wrong(backend).evidence(half(), "a red thing", words=[1])
    assert bad.verdict == "worse"
    (slow,) = engine.evidence(half(), "a red thing", "occlusion", words=[1])
    assert slow.verdict == "strong" and slow.method == "occlusion"
    assert slow.probability == pytest.approx(2 / 12) and slow.blank == 0


def test_steps_go_in_slices_that_grow_and_are_paid_for_once(engine: Engine,
                                                            backend: Planted) -> None:
    now = [0.0]  # no time passes: as on a quick device
    trials = engine._checks._trials
    trials._encoding._clock = trials._reading._clock = lambda: now[0]
    other = half((160, 120))
    engine.evidence(other, "a red thing", words=[1])
    assert backend.scored == sorted(backend.scored) or len(backend.scored) <= 8
    assert sum(backend.scored) <= 2 + 42 + 14 + 3 * 14
    backend.scored.clear()
    assert engine.evidence(other, "a red thing", words=[1])
    assert backend.scored == [], "numbers are kept"
    engine.evidence(other, "a red thing")
    assert sum(backend.scored) <= 2 * 14, "a further word costs its own masks only"
    backend.scored.clear()
    engine.evidence(other, "a red thing", words=[1], seed=1)
    assert sum(backend.scored) > 30, "another seed has other orders"


def test_words_and_sources(engine: Engine) -> None:
    answer = engine.ask(half(), "is it red?")
    (last,) = engine.evidence(half(), answer)
    assert (last.source, last.word) == ("answer", 0)
    found = engine.evidence(half(), answer, source="question", words=[2, 0])
    assert [(one.source, one.word) for one in found] == [("question", 2), ("question", 0)]
    assert engine.evidence(half(), answer, words=[]) == ()
    for word in (3, -1, True, "red"):
        with pytest.raises(TextError, match="no word .*0 to 2"):
            engine.evidence(half(), answer, source="question", words=[word])
    with pytest.raises(TextError, match="“caption”.*question, answer"):
        engine.evidence(half(), answer, source="caption")
    with pytest.raises(ConfigError, match="magic"):
        engine.evidence(half(), answer, "magic")
    with pytest.raises(TaskError, match="planted cannot show maps"):
        Engine(Planted(tasks=("match",))).evidence(half(), "red")


def test_a_text_of_no_words(engine: Engine) -> None:
    silent = Caption("", " . ", "en", "Describe the picture.", 0.0, 0.0)
    assert engine.evidence(half(), silent) == () == engine.picture_share(half(), silent)
    for call in (lambda: engine.evidence(half(), silent, words=[0]),
                 lambda: engine.what_if(half(), silent, 0)):
        with pytest.raises(TextError, match="no words"):
            call()


def test_a_word_that_comes_twice_and_a_sentence_of_200(engine: Engine) -> None:
    found = engine.evidence(half(), "red " * 200)
    assert len(found) == 200 and {one.verdict for one in found} == {"strong"}


def test_maps_of_no_numbers_are_no_trouble(engine: Engine, backend: Planted) -> None:
    whole = backend.explain

    def broken(*arguments, **named):
        found = whole(*arguments, **named)
        return tuple(replace(one, weights=np.full_like(one.weights, np.nan)) for one in found)

    backend.explain = broken  # type: ignore[method-assign]
    assert all(one.verdict in VERDICTS for one in engine.evidence(half(), "a red thing"))
    with pytest.raises(TextError, match="“red” did not look at the picture"):
        engine.what_if(half(), "a red thing", 1)
    (share,) = engine.picture_share(half(), "a red thing")
    assert share.probability[1] == pytest.approx(2 / 12)


def test_the_device_is_given_back_and_progress_told(engine: Engine, backend: Planted) -> None:
    now = [0.0]
    for slices in (engine._checks._trials._encoding, engine._checks._trials._reading):
        slices.seconds, slices._clock = 0.08, lambda: now[0]
    encode, told, asked = backend.encode_pictures, [], []

    def encoded(pictures):  # a slow device: two masked pictures are more than a slice may take
        now[0] += 0.05 * len(pictures)
        return encode(pictures)

    def tell(*far: int) -> None:
        told.append(far)
        asked.append(engine.ask(half(), "what colour?").text)  # would wait for ever if it were held

    backend.encode_pictures = encoded  # type: ignore[method-assign]
    engine.evidence(half(), "a red thing", words=[1], progress=tell)
    assert max(backend.batches[1:]) <= max(2, engine._checks._trials._encoding.fewest)
    assert [one[0] for one in told] == sorted(one[0] for one in told) and len(told) > 1
    assert told[-1][0] == told[-1][1] == told[0][1] and set(asked) == {"green"}


def test_what_if_blurs_the_strongest_and_runs_again(engine: Engine) -> None:
    image = Image.new("RGB", (120, 90), COLOURS["blue"])
    image.paste(COLOURS["red"], (0, 0, 120, 31))  # the upper third
    picture = open_picture(image)
    found = engine.what_if(picture, "a red thing", 1, share=4 / 12)
    assert found.hidden == (0, 1, 2, 3) and (found.word, found.source) == (1, "text")
    assert found.probability == pytest.approx(4 / 12) and found.probability_after == 0
    assert found.probability_random >= 3 / 12
    assert len(found.random) == 4 and not set(found.random) & set(found.hidden)
    assert found.before.startswith("fits ") and found.after != found.before
    caption = engine.caption(half(), decoding=Decoding(strategy="sample", seed=1))
    found = engine.what_if(half(), caption, 0, regions=[11, 0, 11],
                           decoding=Decoding(strategy="sample", seed=1))
    assert found.hidden == (0, 11) and found.before == caption.text == found.after
    assert found.before == "A very green picture."
    all_of_it = engine.what_if(half(), engine.ask(half(), "red?"), 0, source="question",
                               regions=range(12))
    assert all_of_it.before == "green" and len(all_of_it.random) == 12
    again = engine.what_if(picture, "a red thing", 1, share=4 / 12)
    assert again.random == engine.what_if(picture, "a red thing", 1, share=4 / 12).random


@pytest.mark.parametrize("named, message", [
    ({"regions": [12]}, "no region 12.*0 to 11"), ({"regions": [-1]}, "no region -1"),
    ({"regions": []}, "No regions"), ({"regions": [1.5]}, "no region 1.5"),
    ({"share": 0}, "share is 0"), ({"share": 1.5}, "share is 1.5"),
    ({"share": float("nan")}, "share is nan"), ({"method": "magic"}, "magic"),
])
def test_what_if_refuses_what_makes_no_sense(engine: Engine, named: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        engine.what_if(half(), "a red thing", 1, **named)
    with pytest.raises(TextError, match="no word 3"):
        engine.what_if(half(), "a red thing", 3)


def test_regions_of_draws_others_of_the_same_number(engine: Engine) -> None:
    (found,) = engine.explain(half(), "a red thing")
    hidden, random = regions_of(found, 1, Choice(0.2, 0, None))
    assert hidden == (10, 11) and len(random) == 2 and not set(random) & {10, 11}
    assert len({regions_of(found, 1, Choice(0.2, seed, None))[1] for seed in range(9)}) > 3
    assert len(regions_of(found, 0, Choice(0.9, 0, None))[1]) == 11, "more than half: any others"


def test_picture_share(engine: Engine) -> None:
    (share,) = engine.picture_share(half(), "a red thing")
    assert share.source == "text" and share.gate == pytest.approx(0.375)
    assert share.attention == pytest.approx((0.1, 0.9, 0.1), abs=1e-4)
    assert share.probability == pytest.approx((0.5, 2 / 12, 0.5))
    assert share.blank == pytest.approx((0.5, 0, 0.5))
    assert share.anyway == (True, False, True)
    both = engine.picture_share(half(), engine.ask(half(), "is it red?"))
    assert [(one.source, len(one.anyway)) for one in both] == [("question", 3), ("answer", 1)]


def test_a_weighed_answer_comes_anyway_only_where_a_grey_picture_gives_it(backend: Planted) -> None:
    engine = Engine(backend)
    plain = engine.picture_share(half(), engine.ask(half(), "is it red?"))
    assert plain[0].anyway[:2] == (True, True) and plain[0].unseen == ""
    backend.info = replace(backend.info, weighs_answers=True)
    other = engine.picture_share(half(), engine.ask(half(), "is it red?"))  # green; grey: red
    assert [one.unseen for one in other] == ["red", "red"]
    assert not any(any(one.anyway) for one in other)
    assert [one.blank for one in other] == [one.blank for one in plain]
    red = open_picture(Image.new("RGB", (120, 90), COLOURS["red"]))
    same = engine.picture_share(red, engine.ask(red, "is it red?"))
    assert same[0].unseen == "red" and same[0].anyway[:2] == (True, True)
    assert engine.picture_share(half(), "a red thing")[0].unseen == ""
