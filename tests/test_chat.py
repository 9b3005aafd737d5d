"""Chat models in one stream: their ids, words, probabilities and maps are those of transformers
with its own processor, each picture token lies where the processor put it, and what cannot be used
is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import check_that_only_what_a_word_looked_at_counts, load, noise
from tiny_chat import MODELS, save_tiny_chat
from transformers import AutoModelForImageTextToText, AutoProcessor

from vitdemo.attention.trace import Rows
from vitdemo.backends import picture_tokens
from vitdemo.backends.chat import ANSWER, DESCRIBE, TASKS, ChatBackend
from vitdemo.backends.chat_model import joined_ends
from vitdemo.backends.registry import load_backend
from vitdemo.config import Decoding, EngineConfig
from vitdemo.errors import CheckpointError, TaskError, TextError
from vitdemo.records import Request

QUESTION, TEXT = "what colour is the dog?", "a red dog"
GREEDY = Decoding("greedy", max_tokens=8)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("chat")
    return {kind: save_tiny_chat(root / kind, kind, 5) for kind in MODELS}


@pytest.fixture(scope="module", params=list(MODELS))
def folder(request: pytest.FixtureRequest, folders: dict[str, Path]) -> Path:
    return folders[request.param]


@pytest.fixture(scope="module")
def backend(folder: Path) -> ChatBackend:
    backend = load(folder)
    assert isinstance(backend, ChatBackend)
    return backend


def theirs(folder: Path, picture: Image.Image, said: str, answer: str = "") -> tuple[Any, Any, Any]:
    """The checkpoint in plain transformers, and what its processor makes of the conversation."""
    model = AutoModelForImageTextToText.from_pretrained(folder, attn_implementation="eager").eval()
    processor = AutoProcessor.from_pretrained(folder)
    if processor.chat_template is None:  # PaliGemma's
        said = said.replace(DESCRIBE["en"], TASKS["caption"])
        inputs = processor(text=[said], images=[picture], suffix=[answer] if answer else None,
                           return_tensors="pt")
        return model, processor, {name: value if value.dim() > 2 or not answer else value[:, :-1]
                                  for name, value in inputs.items() if name != "labels"}
    turns = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": said}]}]
    text = processor.apply_chat_template(turns, add_generation_prompt=True) + answer
    return model, processor, processor(text=[text], images=[picture], return_tensors="pt",
                                       add_special_tokens="<bos>" not in text)


@torch.no_grad()
def test_words_are_those_of_transformers(backend: ChatBackend, folder: Path) -> None:
    picture = noise(90, 60)
    model, processor, inputs = theirs(folder, picture, DESCRIBE["en"])
    written = model.generate(**inputs, max_new_tokens=8, do_sample=False)
    want = processor.decode(written[0, inputs["input_ids"].shape[1]:], skip_special_tokens=True)
    *_, step = backend.generate(backend.encode_pictures([picture])[0], "", "en", GREEDY)
    assert step.text == want.strip() and step.log_probability < 0


@torch.no_grad()
def test_probabilities_and_maps_are_those_of_transformers(backend: ChatBackend,
                                                          folder: Path) -> None:
    picture = noise(40, 64)
    features = backend.encode_pictures([picture])[0]
    question, answer = backend.traces(features, Request(QUESTION, TEXT, "en", "ask"))
    lead = backend.prompt(QUESTION, "en", "ask").lead
    assert lead == {"llava": " ", "llava_next": " ", "smolvlm": " ", "idefics3": " "}.get(
        backend.info.family, "")
    asked = (TASKS["ask"] if backend.tasks_only else ANSWER["en"]).format(QUESTION)
    model, processor, inputs = theirs(folder, picture, asked, lead + TEXT)
    ids = inputs["input_ids"][0].tolist()
    assert ids == list(answer.ids)
    for trace, shift in ((question, 0), (answer, 1)):  # each word's tokens are its own
        for word, tokens in zip(trace.words, trace.tokens, strict=True):
            read = processor.decode([ids[token + trace.shift + shift] for token in tokens])
            assert word.text in read
    output = model(**inputs, output_attentions=True)
    logs = joined_ends(output.logits[0], backend.ends).log_softmax(-1)
    want = [float(logs[place - 1, ids[place]]) for place in range(len(ids) - answer.targets,
                                                                  len(ids))]
    np.testing.assert_allclose(answer.run(Rows(), answer.everything), want, atol=2e-4)
    explained = backend.explain(features, Request(QUESTION, TEXT, "en", "ask"),
                                method="cross-attention")
    stood = torch.tensor(answer.regions.places)
    assert (inputs["input_ids"][0, stood] == backend.picture_id).all()
    for trace, found in zip((question, answer), explained, strict=True):
        for maps, weights in zip(found.weights, output.attentions, strict=True):
            for q, tokens in enumerate(trace.tokens):
                rows = weights[0][:, [token + trace.shift for token in tokens]].mean(1)[:, stood]
                np.testing.assert_allclose(maps[:, q], trace.regions.spread(rows), atol=1e-5)


def test_texts_that_are_written_in_turns_do_not_disturb_each_other(backend: ChatBackend) -> None:
    """Qwen-VL keeps the last text's positions in the model itself."""
    pictures = backend.encode_pictures([noise(90, 60), noise(8, 8, 1)])
    alone = [list(backend.generate(one, "", "en", GREEDY)) for one in pictures]
    together = list(zip(*(backend.generate(one, "", "en", GREEDY) for one in pictures),
                        strict=False))
    for number, steps in enumerate(alone):
        assert [pair[number] for pair in together[:4]] == steps[:4]


def test_every_token_of_a_picture_is_shared_out_or_left_out(backend: ChatBackend) -> None:
    for size in ((90, 60), (40, 97), (300, 31), (8, 8)):
        picture = backend.encode_pictures([noise(*size)])[0].data
        regions, count = picture.regions, len(picture.features)
        shares = regions.spread(torch.eye(len(regions.places)))
        torch.testing.assert_close(shares.sum(1), torch.ones(len(shares)))
        assert (shares.sum(0) >= 0.999).all(), "every region has a token of its own"
        assert regions.grid != (0, 0)
        if backend.info.family in ("llava_onevision", "llava_next"):  # a new line ends each row
            assert count - len(regions.places) >= regions.grid[0]
        else:
            assert len(regions.places) == count


def test_only_what_a_word_looked_at_counts_for_it(backend: ChatBackend) -> None:
    check_that_only_what_a_word_looked_at_counts(backend)


def test_several_ends_are_one(folders: dict[str, Path]) -> None:
    backend = load(folders["qwen2_vl"])
    assert len(backend.ends) == 2
    logits = torch.randn(3, 500)
    merged = joined_ends(logits, backend.ends).softmax(-1)
    torch.testing.assert_close(merged[:, backend.ends[0]],
                               logits.softmax(-1)[:, backend.ends].sum(-1))
    assert (merged[:, backend.ends[1]] == 0).all()


def test_chinese_is_for_those_that_learned_it(folders: dict[str, Path]) -> None:
    backend = load(folders["qwen2_vl"])
    assert "用一句话描述" in backend.prompt("", "zh", "caption").text
    features = backend.encode_pictures([noise(40, 40)])[0]
    assert backend.answer(features, "狗是什么颜色的？", "zh")
    question, _ = backend.explain(features, Request("狗是什么颜色的？", "红色", "zh", "ask"))
    assert "".join(word.text for word in question.words) == "狗是什么颜色的"
    with pytest.raises(TaskError, match="only English"):
        load(folders["llava"]).answer(features, "狗？", "zh")


def test_texts_that_cannot_be_read_are_refused(folders: dict[str, Path]) -> None:
    backend = load(folders["llava"])
    features = backend.encode_pictures([noise(40, 40)])[0]
    with pytest.raises(TextError, match="holds <image>, which is a mark"):
        backend.answer(features, "what is <image>?", "en")
    with pytest.raises(TextError, match="reads at most 4096"):
        backend.explain(features, Request("", "dog " * 4100, "en", "caption"))
    with pytest.raises(TextError, match="empty"):
        backend.answer(features, " ", "en")


def test_a_type_that_is_not_known_is_tried_as_a_plain_grid(
        folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in ("llava", "qwen2_vl", "smolvlm", "llava_onevision"):
        monkeypatch.delitem(picture_tokens.GEOMETRIES, kind)
    backend = load(folders["llava"])
    (found,) = backend.explain(backend.encode_pictures([noise(90, 60)])[0],
                               Request("", TEXT, "en", "caption"))
    assert "was found by trial" in found.note and "was cut away" in found.note
    for kind in ("qwen2_vl", "smolvlm", "llava_onevision"):
        with pytest.raises(CheckpointError, match=f"tokens of a {kind} model lie .* is not known"):
            load(folders[kind])


def test_a_type_that_is_called_otherwise_is_refused(
        folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Gemma 3's picture is read both ways only where it is told which tokens it is."""
    monkeypatch.delitem(picture_tokens.GEOMETRIES, "gemma3")
    monkeypatch.setattr("vitdemo.backends.chat.token_types", lambda *_: {})
    with pytest.raises(CheckpointError, match="its gemma3 model is not called as those"):
        load(folders["gemma3"])


def test_a_photograph_has_a_bounded_number_of_tokens(folders: dict[str, Path]) -> None:
    path = folders["qwen2_vl"] / "processor_config.json"
    kept = path.read_text()
    config = json.loads(kept)
    config["image_processor"]["size"]["longest_edge"] = 12845056
    path.write_text(json.dumps(config))
    try:
        (photograph,) = load(folders["qwen2_vl"]).encode_pictures([noise(900, 700)])
    finally:
        path.write_text(kept)
    assert 1100 < len(photograph.data.features) <= 1280


def test_a_model_of_another_kind_gets_the_list_of_those_that_can_be_used(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(CheckpointError, match=r"is a bert model\. .*idefics3, smolvlm, llava"):
        load_backend(EngineConfig(model=str(tmp_path)))
