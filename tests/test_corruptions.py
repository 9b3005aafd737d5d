"""Damaged pictures: each way does what its strength says, and the command measures them all."""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import make_picture
from PIL import Image

from train.evaluate import main
from train.evaluation import metrics
from train.evaluation.corruptions import GREY, STRENGTHS, damage, write_damaged


@pytest.fixture(autouse=True)
def no_java(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics.shutil, "which", lambda name: None)


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image, dtype=np.float64)


def loss(image: Image.Image, way: str, strength: float, seed: int = 0) -> float:
    return float(np.abs(pixels(damage(image, way, strength, seed)) - pixels(image)).mean())


@pytest.mark.parametrize("way", list(STRENGTHS))
def test_a_stronger_damage_changes_more_and_the_same_seed_the_same(way: str) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (45, 60, 3), dtype=np.uint8)
    fine = Image.fromarray(noise).resize((240, 180), Image.Resampling.BICUBIC)
    image = Image.blend(make_picture(0, (240, 180)), fine, 0.2)  # coarse and fine detail
    mild, middle, strong = STRENGTHS[way]
    assert 0 < loss(image, way, mild) < loss(image, way, middle) < loss(image, way, strong)
    before = image.tobytes()
    one, other = (damage(image, way, strong, 3) for _ in range(2))
    assert one.tobytes() == other.tobytes() != before == image.tobytes()
    assert (one.size, one.mode) == (image.size, "RGB")


def test_strengths_mean_what_is_documented() -> None:
    grey = Image.new("RGB", (200, 100), (120, 120, 120))
    assert pixels(damage(grey, "noise", 15, 0)).std() == pytest.approx(15, rel=0.03)
    assert pixels(damage(grey, "dark", 25, 0)).max() == 30
    white = Image.new("RGB", (101, 101), "white")
    corner = damage(white, "rotation", 45, 0)
    assert corner.getpixel((0, 0)) == GREY and corner.getpixel((50, 50)) == (255, 255, 255)
    edge = np.zeros((100, 200, 3), np.uint8)
    edge[:, 100:] = 255
    for scale in (1, 3):  # two hundredths of the shorter side, whatever the size
        big = Image.fromarray(edge).resize((200 * scale, 100 * scale), Image.Resampling.NEAREST)
        profile = pixels(damage(big, "blur", 2, 0))[50 * scale, :, 0]
        reach = np.abs(np.arange(200 * scale) + 0.5 - 100 * scale)
        one_deviation = np.interp(0.8413 * 255, profile, reach * (profile > 127))
        assert one_deviation == pytest.approx(2 * scale, rel=0.25)


def test_the_file_holds_the_damaged_upright_picture(tmp_path: Path) -> None:
    image = make_picture(0, (60, 40))
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    image.save(tmp_path / "a.png", exif=exif)
    file = write_damaged(tmp_path / "a.png", "dark", 50, tmp_path, 7)
    with Image.open(file) as written:
        assert written.size == (40, 60)
        upright = image.transpose(Image.Transpose.ROTATE_270)
        np.testing.assert_allclose(pixels(written), pixels(upright) / 2, atol=1)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    rows = []
    for i in range(3):
        make_picture(i, (40, 30)).save(folder / f"{i}.png")
        rows.append({"file_name": f"{i}.png", "captions": ["a dog on grass"],
                     "qa": [{"question": "what is it ?", "answer": "dog"}]})
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_every_way_is_measured(tmp_path: Path, data: Path, tiny_checkpoint: Path,
                               monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, float]] = []

    def noted(path: Path, way: str, strength: float, folder: Path, number: int) -> Path:
        seen.append((way, strength))
        return write_damaged(path, way, strength, folder, number)

    monkeypatch.setattr("train.evaluation.corruptions.write_damaged", noted)
    out = tmp_path / "out" / "r.json"
    assert main(["--checkpoint", str(tiny_checkpoint), "--data", str(data), "--limit", "2",
                 "--json", str(out), "--device", "cpu", "--beams", "1", "--corruptions",
                 "--rerank", "0", "--no-made"]) == 0
    wanted = [(way, strength) for way, three in STRENGTHS.items() for strength in three]
    assert seen == [pair for pair in wanted for _ in range(2)]
    figures = json.loads(out.read_text())
    assert set(figures) == {"photos", "_meta", *(f"photos, {way} {strength:g}"
                                                 for way, strength in wanted)}
    for way, strength in wanted:
        found = figures[f"photos, {way} {strength:g}"]
        assert set(found) == {"caption", "vqa"} and found["vqa"]["n"] == 2
        assert set(found["vqa"]["by_source"]) == {"photos"}
