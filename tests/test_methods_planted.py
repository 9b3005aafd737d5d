"""A planted case: the picture is dark but for one bright place, and only what is bright can reach
the words. Every method must point there, whatever the place.

The networks are random but for this: dark regions have keys and values of exactly zero, and every
layer that looks at the picture looks for what is bright. So a word can depend on the picture
through the bright place alone.
"""

from typing import Any

import numpy as np
import pytest
import torch
from conftest import make_model
from PIL import Image
from tiny_blip import save_tiny_blip
from torch import Tensor, nn

from vitdemo.attention.occlusion import occlusion
from vitdemo.backends.base import Backend, PictureFeatures
from vitdemo.backends.blip import BlipBackend, BlipPicture
from vitdemo.backends.joined import JoinedBackend
from vitdemo.backends.native import NativeBackend
from vitdemo.device import pick
from vitdemo.records import Request

SIZE = (100, 80)
CANDIDATES = "red blue green ball dog cat man woman grass water runs plays".split()


def look_for(cross: nn.Module, bright: Tensor) -> None:
    """Make a cross-attention layer look for ``bright`` (D,), and see nothing where it is dark."""
    cross.key.bias.zero_()
    cross.value.bias.zero_()
    cross.query.weight.zero_()
    key = cross.key(bright)
    heads = getattr(cross, "heads", None) or cross.num_attention_heads
    scale = 4 * (len(key) / heads) ** 0.5 / key.view(heads, -1).pow(2).sum(-1, keepdim=True)
    cross.query.bias.copy_((key.view(heads, -1) * scale).flatten())  # a score of 4 in every head


class PlantedNative:
    """Our own model, 5 x 5 regions."""

    regions = 25

    @torch.no_grad()
    def __init__(self, tokenizer) -> None:
        model = make_model(tokenizer, picture_size=160)
        model.vision.norm, model.fusion.norm = nn.Identity(), nn.Identity()
        model.vision.project.bias.zero_()
        model.vision.positions.zero_()
        self.bright = torch.randn(model.vision.channels, generator=torch.Generator().manual_seed(3))
        token = model.vision.project(self.bright)
        for block in (*model.fusion.blocks, *model.decoder.blocks):
            look_for(block.cross, token)
        model.picture_head.inner.weight.zero_()  # the match head sees it through the words alone
        head = model.region_head
        head.word.weight.zero_()
        features = self.features(12).data
        head.word.bias.copy_(head.regions(features)[0, 12])
        self.backend: Backend = NativeBackend(model, tokenizer, name="planted", revision="1",
                                              placement=pick("cpu"))
        lit, dark = self.backend.score_pairs([self.features(12), self.features(None)], ["dog"])
        if lit < dark:
            model.match_head.out.weight.neg_()  # a dog is what is bright

    def features(self, place: int | None, hidden: np.ndarray | None = None,
                 strength: float = 1.0) -> PictureFeatures:
        """The picture with its bright place, or blank; ``hidden`` regions (K,) go dark."""
        data = torch.zeros(1, 25, len(self.bright))
        if place is not None and (hidden is None or not hidden[place]):
            data[0, place] = self.bright * strength
        return PictureFeatures(data, SIZE)


class PlantedBlip:
    """BLIP, 4 x 4 regions behind a class token."""

    regions = 16

    @torch.no_grad()
    def __init__(self, folder) -> None:
        self.backend = JoinedBackend([
            BlipBackend.load(str(save_tiny_blip(folder / kind, kind, seed)), pick("cpu"))
            for kind, seed in (("captioning", 1), ("VQA", 2), ("retrieval", 3))])
        self.bright: list[Tensor] = []
        part: Any
        for part in self.backend.backends:
            width = part.model.config.vision_config.hidden_size
            self.bright.append(torch.randn(width, generator=torch.Generator().manual_seed(7)))
            for _, cross in (part.reader or part.writer).layers:
                look_for(cross, self.bright[-1])

    def features(self, place: int | None, hidden: np.ndarray | None = None,
                 strength: float = 1.0) -> PictureFeatures:
        square = Image.new("RGB", (32, 32))
        (found,) = self.backend.encode_pictures([square])
        for number, bright in enumerate(self.bright):
            states = torch.zeros(1, 17, len(bright))
            if place is not None and (hidden is None or not hidden[place]):
                states[0, 1 + place] = bright * strength
            shares = torch.eye(17)[:, 1:]  # each state is its patch's
            found.data.features[number] = PictureFeatures(
                BlipPicture(square, states, shares), SIZE)
        return PictureFeatures(found.data, SIZE)


@pytest.fixture(scope="module", params=["native", "blip"])
def planted(request, tokenizer, tmp_path_factory):
    if request.param == "native":
        return PlantedNative(tokenizer)
    return PlantedBlip(tmp_path_factory.mktemp("planted"))


def probabilities(planted, features, task: str, text: str) -> np.ndarray:
    return planted.backend.word_probabilities(features,
                                              Request("what is there?", text, "en", task))[-1]


def helped(planted, task: str) -> str:
    """The word that the bright place makes most likely, against a dark picture and against one
    where it is a little darker (gradients see no further)."""
    pictures = [planted.features(12), planted.features(12, strength=0.9), planted.features(None)]

    def gain(word: str) -> float:
        lit, darker, dark = np.log(probabilities(planted, pictures, task, word)[:, 0])
        return float(min(10 * (lit - darker), lit - dark))

    best = max(CANDIDATES, key=gain)
    assert gain(best) > 0
    return best


@pytest.mark.parametrize("task", ["caption", "ask", "match"])
def test_every_method_points_at_the_only_place_that_can_count(planted, task):
    word = helped(planted, task)
    for place in (12, 0, planted.regions - 1):
        features = planted.features(place)
        for method in planted.backend.info.methods:
            if method in ("word-region", "matched-attention") and place != 12:
                continue  # its regions are blended with their neighbours, differently at an edge
            found = planted.backend.explain(features, Request("what is there?", word, "en", task),
                                            method)
            for one in found:
                maps = one.mean_map()
                for row in maps[maps.sum(-1) > 0]:
                    assert row.argmax() == place, (method, one.source, place)
                if method in ("relevancy", "grad-cam"):
                    np.testing.assert_allclose(np.delete(maps, place, 1), 0, atol=1e-6)
            own = found[-1].mean_map()[0]
            assert own.argmax() == place and own.sum() > 0, (method, place)


@pytest.mark.parametrize("task", ["caption", "ask", "match"])
def test_occlusion_points_there_too(planted, task):
    word, place = helped(planted, task), planted.regions - 2
    (*_, base) = planted.backend.explain(planted.features(place),
                                         Request("what is there?", word, "en", task))

    def score(hidden: np.ndarray) -> np.ndarray:
        pictures = [planted.features(place, row) for row in hidden]
        return planted.backend.word_probabilities(pictures,
                                                  Request("what is there?", word, "en", task))[-1]

    found = occlusion(base, score)
    assert found.weights[0, 0, 0].argmax() == place
    assert found.weights[0, 0, 0].sum() == pytest.approx(1, abs=1e-5)
