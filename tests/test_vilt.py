"""ViLT: its scores and maps are those of transformers, whatever order that puts the patches in."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import load, noise
from tiny_clip import save_tiny_vilt
from transformers import AutoProcessor, ViltForImageAndTextRetrieval

from vitdemo.backends.vilt import ViltBackend
from vitdemo.errors import TaskError
from vitdemo.records import Request

TEXT = "a red dog runs"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_vilt(tmp_path_factory.mktemp("vilt") / "tiny", 5)


@torch.no_grad()
def test_scores_and_maps_are_those_of_transformers(folder: Path) -> None:
    backend, picture = load(folder), noise(97, 60)
    assert isinstance(backend, ViltBackend)
    (features,) = backend.encode_pictures([picture])
    model = ViltForImageAndTextRetrieval.from_pretrained(folder, attn_implementation="eager").eval()
    inputs = AutoProcessor.from_pretrained(folder)(picture, TEXT, return_tensors="pt")
    orders = []

    def captured(_module, _args, output):  # the library's own order
        orders.append(output)

    embed = model.vilt.embeddings.visual_embed
    model.vilt.embeddings.visual_embed = lambda *args, **more: captured(None, None, embed(
        *args, **more)) or orders[-1]
    output = model(**inputs, output_attentions=True)
    assert backend.score_pairs([features], [TEXT])[0, 0] == pytest.approx(
        float(output.logits.sigmoid()), abs=1e-5)
    (found,) = backend.explain(features, Request("", TEXT, "en", "match"), method="cross-attention")
    rows, columns = found.grid
    assert rows * columns == len(found.boxes) > 16, "it keeps its shape"
    places = orders[0][2][0][0]
    order = (places[:, 0] * columns + places[:, 1]).argsort()
    length = inputs["input_ids"].shape[1]
    for maps, weights in zip(found.weights, output.attentions, strict=True):
        shown = weights[0, :, 1:length - 1, length + 1:][..., order]  # (H, Q, K)
        np.testing.assert_allclose(maps, shown, atol=1e-5)


def test_drawn_patches_are_the_same_each_time_and_lie_where_they_were(folder: Path) -> None:
    path = folder / "config.json"
    kept = path.read_text()
    path.write_text(json.dumps(json.loads(kept) | {"max_image_length": 6}))
    try:
        backend = load(folder)
    finally:
        path.write_text(kept)
    picture = noise(97, 60)
    state = torch.random.get_rng_state()
    first, second = (backend.encode_pictures([picture])[0] for _ in range(2))
    assert torch.equal(state, torch.random.get_rng_state())
    assert torch.equal(first.data.patches, second.data.patches)
    (trace,) = backend.traces(first, Request("", TEXT, "en", "match"))
    boxes = trace.regions.boxes
    assert len(boxes) == 6 and trace.regions.grid == (0, 0)
    for region in (0, 5):
        lit = picture.copy()
        x0, y0, x1, y1 = boxes[region].round().astype(int).tolist()
        lit.paste((255, 255, 255), (x0, y0, x1, y1))
        (other,) = backend.encode_pictures([lit])
        change = (other.data.patches - first.data.patches)[0, 1:].norm(dim=1)
        assert int(change.argmax()) == region


def test_it_searches_only_beside_another_model(folder: Path) -> None:
    with pytest.raises(TaskError, match=r"join it by \+ with a model that searches"):
        load(folder).embed_texts([TEXT])
