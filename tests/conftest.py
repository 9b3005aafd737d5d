"""Shared fixtures: a tiny model with random weights, a tokenizer and pictures made on the spot."""

import json
import os
import string
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from milvus_server import milvus_collection, milvus_server  # noqa: F401 - one server for all
from PIL import Image
from small_run import CAPTIONS, CAPTIONS_ZH
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from vitdemo.backends.native import NativeBackend
from vitdemo.config import ModelConfig
from vitdemo.device import pick
from vitdemo.models.checkpoint import save_checkpoint
from vitdemo.models.vlm import VLM
from vitdemo.tokens import SPECIAL, TextTokenizer


def pytest_configure() -> None:
    """Each process serves its apps in a range of ports of its own: two that find the same one free
    at the same moment would both begin there, and one would never answer."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0")
    os.environ["GRADIO_SERVER_PORT"] = str(7860 + 200 * int(worker.removeprefix("gw")))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """How several processes share the tests out: by file, as these share what they set up, in the
    order of their names, as the number of tests says nothing of a file's time. One process has all
    that need the Milvus server: a computer runs one."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "milvus" if "milvus" in nodeid else super()._split_scope(nodeid)

    config.option.loadscopereorder = False
    return Scheduling(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test in a browser that fails is run once more, on a new page, and counted as a rerun in
    the last lines: on a busy computer the browser itself now and then loses what it was sent."""
    for item in items:
        if item.get_closest_marker("browser"):
            item.add_marker(pytest.mark.flaky(reruns=1))


WORDS = ("a an the dog cat man woman boy girl red blue green ball grass water runs plays sits on "
         "in with and is are there what how many color where yes no two three picture describe "
         "happy big small tree house").split()
CHARACTERS = "一只狗猫男女孩人在草地上跑玩红蓝绿色的球水里有没什么几个图片描述这张用字坐和"


def make_tokenizer(max_tokens: int = 256) -> TextTokenizer:
    """A WordPiece tokenizer over a few words, all letters and some Chinese characters."""
    letters = string.ascii_lowercase + string.digits
    tokens = [*SPECIAL, *WORDS, *CHARACTERS, *letters, *(f"##{x}" for x in letters),
              "##s", "##ing", *".,?!'\"-:;_。，？！“”"]
    vocabulary = {token: i for i, token in enumerate(dict.fromkeys(tokens))}
    made = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=64))
    made.normalizer = normalizers.BertNormalizer(lowercase=True, strip_accents=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.add_special_tokens(list(SPECIAL))
    return TextTokenizer(made, max_tokens)


def make_model(tokenizer: TextTokenizer, seed: int = 0, **changes: object) -> VLM:
    """A tiny model with random weights and open gates, in evaluation mode."""
    torch.manual_seed(seed)
    model = VLM(ModelConfig.from_size("tiny", vocabulary=tokenizer.size, **changes))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("_gate"):
                parameter.fill_(0.7)
    return model.eval()


@pytest.fixture(scope="session")
def tokenizer() -> TextTokenizer:
    """The small tokenizer."""
    return make_tokenizer()


@pytest.fixture(scope="session")
def tiny_model(tokenizer: TextTokenizer) -> VLM:
    """The tiny model; do not change it."""
    return make_model(tokenizer)


@pytest.fixture(scope="session")
def native_backend(tiny_model: VLM, tokenizer: TextTokenizer) -> NativeBackend:
    """The tiny model behind the interface."""
    return NativeBackend(tiny_model, tokenizer, name="tiny", revision="test",
                         placement=pick("cpu"))


@pytest.fixture(scope="session")
def tiny_checkpoint(tiny_model: VLM, tokenizer: TextTokenizer,
                    tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model saved as a checkpoint folder."""
    folder = tmp_path_factory.mktemp("checkpoints") / "tiny"
    save_checkpoint(folder, tiny_model, tokenizer, {"name": "tiny", "step": 0})
    return folder


def make_picture(seed: int = 0, size: tuple[int, int] = (96, 64)) -> Image.Image:
    """A smooth random RGB picture, (width, height)."""
    noise = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)


@pytest.fixture
def picture() -> Image.Image:
    """One picture, 96 x 64."""
    return make_picture()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data set with both splits, captions in both languages and a question."""
    for split, count in (("train", 10), ("validation", 4)):
        folder = tmp_path / "data" / split
        folder.mkdir(parents=True)
        rows = []
        for i in range(count):
            make_picture(i + 50 * (split == "train"), (40, 30)).save(folder / f"{i}.png")
            rows.append({"file_name": f"{i}.png", "captions": CAPTIONS[:1 + i % 3],
                         "captions_zh": CAPTIONS_ZH[:1 + i % 2],
                         "qa": [{"question": "what is there ?", "answer": "dog", "source": "s"}]})
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / "metadata.jsonl").write_text(lines, encoding="utf-8")
    return tmp_path / "data"


@pytest.fixture
def start(tmp_path: Path, tokenizer: TextTokenizer) -> Path:
    save_checkpoint(tmp_path / "start", make_model(tokenizer), tokenizer, {"name": "start"},
                    "float32")
    return tmp_path / "start"
