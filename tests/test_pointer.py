"""Names that are copied into a caption: the pointer, its loss, and the swap that teaches it."""

import dataclasses
import math

import pytest
import torch
import torch.nn.functional as F
from conftest import make_model, make_picture
from test_names import name

from train.data.batch_sampler import TextBatch
from train.objectives.cross_entropy import linear_cross_entropy
from train.objectives.swapped_names import swap_names
from vitdemo.backends.native import NativeBackend
from vitdemo.config import Decoding, ModelConfig
from vitdemo.device import pick
from vitdemo.errors import ConfigError
from vitdemo.models import names
from vitdemo.models.checkpoint import load_checkpoint, save_checkpoint
from vitdemo.models.pointer import Copy, mixed, next_tokens
from vitdemo.records import Request

DOG, CAT, BALL = name("dog", (3,), "狗"), name("cat", (5,), "猫"), name("ball", (7, 8), "球")


@pytest.fixture
def model(tokenizer, monkeypatch: pytest.MonkeyPatch):
    """A tiny model that sees a dog, less surely a cat, and copies all it writes."""
    monkeypatch.setattr(names, "read_names", lambda: (DOG, CAT, BALL))
    monkeypatch.setattr(names, "_by_form", names._by_form.__wrapped__)  # nothing of other tests
    monkeypatch.setattr(names, "ENTRIES", 4)
    made = make_model(tokenizer, seed=5, names=True, pointer=True)
    with torch.no_grad():
        made.names.classes.weight.mul_(0.01)
        made.names.classes.bias.zero_()
        made.names.classes.bias[[3, 5]] = torch.tensor([10.0, 9.0])
    made.names.learn_forms(tokenizer)
    return made


def memory_of(model, tokenizer, features):
    ids, mask = tokenizer.encode(["what is there"] * len(features))
    words, z = model.encode_text(ids, mask)
    return model.fuse(model.vision.tokens(features), words, mask, z, model.nameable(features))


def test_an_entry_begins_anywhere_and_goes_on_where_it_began() -> None:
    entries = torch.tensor([[[5, 6, -1], [7, -1, -1], [5, 6, 8]]])
    assert next_tokens(torch.tensor([[1, 5, 6, 7, 5]]), entries).tolist() == [
        [[5, 7, 5], [6, 7, 6], [5, 7, 8], [5, 7, 5], [6, 7, 6]]]


def test_what_may_be_copied_is_what_the_eyes_see(model, tokenizer) -> None:
    seen = model.nameable(torch.randn(2, 4, model.vision.channels))
    assert seen.ids.shape == (2, 2, 4, names.LONGEST)
    english = [[t for t in entry if t >= 0] for entry in seen.ids[0, 0].tolist()]
    assert english == tokenizer.batch_pieces(["dog", "dogs", "cat", "cats"])
    assert [entry[0] for entry in seen.ids[0, 1].tolist()][::2] == [
        tokenizer.batch_pieces([x])[0][0] for x in "狗猫"]
    assert seen.chances[0, 0] > seen.chances[0, 2] > 0
    assert make_model(tokenizer, names=True).nameable(torch.randn(1, 4, 8)) is None


def test_mixed_probabilities_add_up_and_an_open_gate_copies(model, tokenizer) -> None:
    features = torch.randn(2, 4, model.vision.channels)
    memory = memory_of(model, tokenizer, features)
    ids = torch.tensor([[tokenizer.language_start["en"], 20, 21]] * 4)
    with torch.no_grad():
        model.decoder.pointer.gate.bias.fill_(50.0)
        logs = model.decoder(ids, memory)
        assert torch.allclose(logs.exp().sum(-1), torch.ones(4, 3), atol=1e-4)
        first = {tokenizer.batch_pieces([x])[0][0] for x in ("dog", "cat")}
        assert float(logs.exp()[..., sorted(first)].sum(-1).min()) > 0.99
        model.decoder.pointer.gate.bias.fill_(-50.0)
        shut = model.decoder(ids, memory)
        plain = model.decoder(ids, dataclasses.replace(memory, names=None)).log_softmax(-1)
    torch.testing.assert_close(shut, plain, atol=1e-4, rtol=1e-4)


@torch.inference_mode()
def test_word_by_word_is_as_all_at_once(model, tokenizer) -> None:
    memory = memory_of(model, tokenizer, torch.randn(2, 4, model.vision.channels))
    dogs = tokenizer.batch_pieces(["a dogs"])[0]  # of two pieces, so that one goes on
    ids = torch.tensor([[tokenizer.language_start["en"], *dogs],
                        [tokenizer.language_start["zh"], *dogs]])
    whole = model.decoder(ids, memory)
    cache = model.decoder.start(memory)
    for place in range(ids.shape[1]):
        one = model.decoder.next(ids[:, place], cache)
        torch.testing.assert_close(one, whole[:, place], atol=1e-4, rtol=1e-4)


def test_the_loss_is_that_of_the_mixture() -> None:
    torch.manual_seed(0)
    rows, size, width, entries = 40, 50, 16, 5
    hidden, weight, bias = (torch.randn(*shape, requires_grad=True)
                            for shape in ((rows, width), (size, width), (size,)))
    gate, share = (torch.randn(*shape, requires_grad=True) for shape in ((rows,), (rows, entries)))
    tokens, targets = torch.randint(size, (rows, entries)), torch.randint(size, (rows,))
    tokens[:20, 2] = targets[:20]
    leaves = (hidden, weight, bias, gate, share)

    def slow() -> torch.Tensor:
        logits = hidden @ weight.T + bias
        logs = mixed(logits, Copy(gate, share.softmax(-1), tokens))
        return 0.9 * F.nll_loss(logs, targets) - 0.1 * logits.log_softmax(-1).mean()

    fast = linear_cross_entropy(hidden, weight, bias, targets, 0.1,
                                Copy(gate, share.softmax(-1), tokens))
    torch.testing.assert_close(fast, slow())
    for ours, theirs in zip(torch.autograd.grad(fast, leaves), torch.autograd.grad(slow(), leaves),
                            strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-4)


def texts_of_a_picture(model, tokenizer, texts: list[str], language: str) -> TextBatch:
    targets, mask = tokenizer.encode_targets(texts, [language] * len(texts))
    return TextBatch(torch.randn(1, 4, model.vision.channels), *tokenizer.encode(["what"]),
                     torch.tensor([0]), targets, mask,
                     tokenizer.word_numbers(texts, targets.shape[1]), torch.tensor([0]),
                     torch.arange(4)[None], torch.zeros(1, 2))


@pytest.mark.parametrize(("text", "language"), [("a house cat", "en"), ("一个水球", "zh")])
def test_a_name_inside_another_word_or_name_stays(model, tokenizer, monkeypatch, text,
                                                  language) -> None:
    three = (name("cat", (3,), "球"), name("ball", (9,), "猫"), name("house cat", (5,), "狗"))
    monkeypatch.setattr(names, "read_names", lambda: three)
    model.names.learn_forms(tokenizer)
    batch = texts_of_a_picture(model, tokenizer, [text], language)
    seen = model.nameable(batch.features)
    for choice in (0.0, 0.4, 0.9):
        batch.draws = torch.tensor([[0.0, choice]])
        swapped = swap_names(batch, seen, model.names)[0].targets
        said = tokenizer.decode(swapped[0][1:-1].tolist())
        assert said in (text, "a ball")


def test_a_swapped_name_stands_in_the_text_and_among_the_names(model, tokenizer) -> None:
    batch = texts_of_a_picture(model, tokenizer, ["a dog in the water", "dogs and a ball"], "en")
    seen = model.nameable(batch.features)
    texts = set()
    for choice in (0.0, 0.4, 0.9):  # a dog, a cat, a ball
        batch.draws = torch.tensor([[0.2, choice]])
        swapped, shown, true = swap_names(batch, seen, model.names)
        said = [tokenizer.decode(row[1:][real[1:]].tolist()) for row, real in zip(
            swapped.targets, swapped.target_mask, strict=True)]
        texts.add(tuple(said))
        if said[0] != "a dog in the water":
            assert said == ["a ball in the water", "balls and a ball"]
            entry = [t for t in shown.ids[0, 0, 0].tolist() if t >= 0]
            assert tokenizer.decode(entry) == "ball" and not true[0]
    assert len(texts) == 2  # a cat is among the names already, so a ball or nothing
    assert swap_names(batch, seen, model.names, 0.2)[0].targets.equal(batch.targets)


def test_a_name_that_holds_the_other_ends(model, tokenizer, monkeypatch) -> None:
    both = (name("cat", (3,), "猫"), name("house cat", (5,), "小猫猫"))
    monkeypatch.setattr(names, "read_names", lambda: both)
    monkeypatch.setattr(names, "ENTRIES", 2)
    model.names.learn_forms(tokenizer)
    batch = texts_of_a_picture(model, tokenizer, ["猫和猫"], "zh")
    for choice in (0.0, 0.6):
        batch.draws = torch.tensor([[0.0, choice]])
        swap_names(batch, model.nameable(batch.features), model.names)


def test_a_checkpoint_copies_as_before(model, tokenizer, tmp_path) -> None:
    save_checkpoint(tmp_path / "m", model, tokenizer, {"name": "m"}, "float32")
    again = load_checkpoint(tmp_path / "m").model
    features = torch.randn(1, 4, model.vision.channels)
    ids = torch.tensor([[tokenizer.language_start["en"], 20]])
    with torch.no_grad():
        torch.testing.assert_close(again.decoder(ids, memory_of(again, tokenizer, features)),
                                   model.decoder(ids, memory_of(model, tokenizer, features)))
    with pytest.raises(ConfigError, match="pointer"):
        ModelConfig(pointer=True)


def test_the_app_writes_and_explains_with_copied_names(model, tokenizer) -> None:
    with torch.no_grad():
        model.decoder.pointer.gate.bias.fill_(4.0)
    backend = NativeBackend(model, tokenizer, name="t", revision="t", placement=pick("cpu"))
    [picture] = backend.encode_pictures([make_picture(2)])
    asked = "describe this picture"
    *_, last = backend.generate(picture, asked, "en", Decoding(beams=2))
    assert "dog" in last.text.lower() or "cat" in last.text.lower()
    ids, _ = tokenizer.encode_targets([last.text], ["en"])
    with torch.inference_mode():
        memory = backend.memory(picture.data, asked)
        logs = model.decoder(ids[:, :-1], memory).gather(2, ids[:, 1:, None])
    whole = float(logs[0, :-1].sum().exp())  # without the end
    for method in backend.info.methods:
        [found] = backend.explain(picture, Request(asked, last.text, "en", "caption"), method)
        assert math.prod(found.word_probabilities) == pytest.approx(whole, rel=1e-3), method


def test_a_name_alone_is_searched_where_pictures_of_it_are(model, tokenizer) -> None:
    backend = NativeBackend(model, tokenizer, name="t", revision="t", placement=pick("cpu"))
    texts = ["dog", "a cat", "a dog runs", "狗"]
    before = backend.embed_texts(texts)
    torch.manual_seed(0)
    vectors = F.normalize(torch.randn(20, before.shape[1]), dim=-1)
    chances = torch.zeros(20, names.CLASSES)
    chances[:4, DOG.classes[0]] = 0.9
    chances[4:, DOG.classes[0]] = 0.05  # not shown there
    model.names.learn_prototypes(chances, vectors)
    after = backend.embed_texts(texts)
    where = F.normalize(vectors[:4].mean(0) - vectors.mean(0), dim=0).numpy()
    assert after[0] @ where > before[0] @ where + 0.3 and after[3] @ where > before[3] @ where + 0.3
    assert after[0] @ after[0] == pytest.approx(1, abs=1e-4)
    assert (after[1:3] == before[1:3]).all()  # never seen; says more than names
