"""Pictures encoded by OpenVINO: what is seen, and so what is said, is the same."""

from pathlib import Path

import numpy as np
import pytest
from tiny_clip import save_tiny_clip

from vitdemo.backends.registry import load_backend
from vitdemo.config import Decoding, EngineConfig
from vitdemo.errors import ConfigError
from vitdemo.preprocess import open_picture

pytest.importorskip("openvino")
ROOT = Path(__file__).parent.parent


def test_features_words_and_vectors_are_those_of_torch() -> None:
    pictures = [open_picture(path).image for path in sorted((ROOT / "examples").glob("*.jpg"))]
    by_torch, by_openvino = (
        load_backend(EngineConfig(model=str(ROOT / "checkpoints/vitdemo-small"), device=device))
        for device in ("cpu", "openvino"))
    seen, too = (backend.encode_pictures(pictures) for backend in (by_torch, by_openvino))
    for one, other in zip(seen, too, strict=True):
        assert one.size == other.size and (one.data - other.data).abs().max() < 1e-3
    np.testing.assert_allclose(by_torch.embed_pictures(seen), by_openvino.embed_pictures(too),
                               atol=1e-4)
    said = [backend.captions(features, "Describe the picture.", "en", Decoding())
            for backend, features in ((by_torch, seen), (by_openvino, too))]
    assert said[0] == said[1]
    assert by_torch.info.revision == by_openvino.info.revision  # so an index serves both


def test_models_of_transformers_are_refused(tmp_path: Path) -> None:
    folder = save_tiny_clip(tmp_path / "clip", "clip")
    with pytest.raises(ConfigError, match="own checkpoints"):
        load_backend(EngineConfig(model=str(folder), device="openvino"))
