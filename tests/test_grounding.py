"""Grounding on made-up COCO files with planted maps, where every figure is known by hand."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from planted import Planted

from train.data.coco_words import category_names, mentions, plural
from train.evaluate_grounding import (
    Scorer,
    choose_methods,
    covered,
    evaluate,
    hits_and_masses,
    holds,
    main,
)
from train.evaluation.coco import read_grounding
from vitdemo.attention.methods import smoothed
from vitdemo.backends.base import PictureFeatures
from vitdemo.errors import ConfigError, DataError, TaskError
from vitdemo.preprocess import grid_boxes
from vitdemo.records import Explanation, Request
from vitdemo.words import split_words

GRID = (2, 4)
SIZE = (80, 40)  # regions of 20 x 20 pixels
CATEGORIES = {1: "person", 18: "dog", 58: "hot dog", 6: "bus"}
# picture -> (category, bbox as COCO has it: x, y, width, height), captions
PICTURES: dict[int, tuple[list[tuple[int, list[float]]], list[str]]] = {
    7: ([(18, [0, 0, 20, 20]), (18, [10, 0, 20, 20]), (1, [30, 10, 40, 20])],
        ["A  DOG next to a man .", "Nothing is here."]),
    9: ([(6, [60, 20, 20, 20])], ["Two buses at a bus stop."]),
}
AREAS = {"dog": 600 / 3200, "man": 800 / 3200, "buses": 400 / 3200}
# Where each word's map is, by method: region -> weight.
MAPS: dict[str, dict[str, dict[int, float]]] = {
    "good": {"dog": {0: 0.2}, "man": {2: 0.3, 1: 0.1}, "buses": {7: 1.0}},
    "bad": {"dog": {3: 0.5, 1: 0.5}, "man": {}, "buses": {0: 0.75, 7: 0.25}},
}


class Pointing(Planted):
    """Its maps are those of `MAPS`, on two layers of two heads that share them."""

    def __init__(self) -> None:
        super().__init__()
        object.__setattr__(self.info, "methods", tuple(MAPS))
        self.texts: list[str] = []

    def explain(self, features: PictureFeatures, request: Request,
                method: str = "") -> tuple[Explanation, ...]:
        text = request.text
        assert request == Request("Describe the picture.", text, "en", "caption")
        self.texts.append(text)
        words = split_words(text)
        weights = np.zeros((2, 2, len(words), 8), np.float32)
        method = method or "good"
        for q, word in enumerate(words):
            for region, weight in MAPS[method].get(word.text, {0: 1.0}).items():
                weights[:, :, q, region] = weight
        weights[1, 1] = np.roll(weights[1, 1], 4, axis=-1) * 0.01  # one head looks elsewhere
        return (Explanation(text, "caption", words, weights, grid_boxes(GRID, features.size), GRID,
                            features.size, method, ("one", "two")),)


def write_coco(folder: Path, **changes: Any) -> dict[str, Path]:
    """The files of `PICTURES`, with parts of the instances replaced by keyword."""
    (folder / "images").mkdir(parents=True)
    images = [{"id": i, "file_name": f"{i}.png", "width": SIZE[0], "height": SIZE[1]}
              for i in PICTURES]
    for i in PICTURES:
        Image.new("RGB", SIZE, (i * 10, 90, 0)).save(folder / "images" / f"{i}.png")
    boxes = [{"id": 1, "image_id": i, "category_id": category, "bbox": box, "iscrowd": 0}
             for i, (found, _) in PICTURES.items() for category, box in found]
    texts = [{"id": 1, "image_id": i, "caption": text}
             for i, (_, captions) in PICTURES.items() for text in captions]
    instances = {"images": images, "annotations": boxes, "categories": [
        {"id": i, "name": name} for i, name in CATEGORIES.items()]} | changes
    (folder / "instances.json").write_text(json.dumps(instances))
    (folder / "captions.json").write_text(json.dumps({"images": images, "annotations": texts}))
    return {"images": folder / "images", "instances": folder / "instances.json",
            "captions": folder / "captions.json"}


@pytest.fixture
def coco(tmp_path: Path) -> dict[str, Path]:
    return write_coco(tmp_path / "coco")


# Words

@pytest.mark.parametrize("caption, want", [
    ("A man and two children", {"man": "person", "children": "person"}),
    ("a hot dog on a bun", {"hot dog": "hot dog"}),
    ("hotdogs and a dog", {"hotdogs": "hot dog", "dog": "dog"}),
    ("a teddy bear beside a bear", {"teddy bear": "teddy bear", "bear": "bear"}),
    ("a yellow fire hydrant", {"hydrant": "fire hydrant"}),
    ("two traffic lights over the street lights", {"traffic lights": "traffic light"}),
    ("the man's dog", {"man's": "person", "dog": "dog"}),
    ("the woman’s planes", {"woman’s": "person", "planes": "airplane"}),
    ("a couch , a sofa and a television", {"couch": "couch", "sofa": "couch",
                                           "television": "tv"}),
    ("knives , sheep , mice and buses", {"knives": "knife", "sheep": "sheep", "mice": "mouse",
                                         "buses": "bus"}),
    ("a train station and a bus stop", {}),
    ("a train at a train station", {"train": "train"}),
    ("a baby elephant and its mother", {"elephant": "elephant", "mother": "person"}),
    ("a stuffed dog and a toy horse", {}),
    ("an orange bus with an orange", {"bus": "bus", "orange": "orange"}),
    ("a baseball player on a baseball field hits a baseball with a bat",
     {"player": "person", "baseball": "sports ball", "bat": "baseball bat"}),
    ("they are playing baseball .", {}),
    ("a glass of wine near a wine glass", {"glass of wine": "wine glass",
                                           "wine glass": "wine glass"}),
    ("a microwave oven above the oven", {"microwave oven": "microwave", "oven": "oven"}),
    ("a teddy-bear", {"teddy-bear": "teddy bear"}),
    ("a clock tower and a kitchen", {}), ("", {}), ("!?", {}),
])
def test_words_that_name_a_category(caption: str, want: dict[str, str]) -> None:
    words = split_words(caption)
    found = {" ".join(words[i].text for i in one.words): one.categories[0]
             for one in mentions(caption)}
    assert found == want


def test_every_category_is_named_by_itself_and_its_plural() -> None:
    assert len(category_names()) == 80
    for category in category_names():
        for name in (category, plural(category)):
            (found,) = mentions(f"there is {name} .")
            assert found.categories[0] == category, name


def test_a_bike_may_be_a_motorcycle() -> None:
    assert mentions("a bike")[0].categories == ("bicycle", "motorcycle")


def test_a_category_that_coco_does_not_have() -> None:
    (found,) = mentions("some Tall Lighthouses", ("lighthouse",))
    assert found.categories == ("lighthouse",) and found.words == (2,)


# Geometry

def test_union_of_boxes_is_exact() -> None:
    boxes = np.asarray([[0, 0, 20, 20], [10, 0, 30, 20], [33.25, 10, 70, 30]], float)
    regions = grid_boxes(GRID, SIZE)
    edge = 6.75 * 10 / 400  # what the third box has of the second region and of the one below
    want = [1, 0.5 + edge, 0.5, 0.25, 0, edge, 0.5, 0.25]
    assert covered(regions, boxes) == pytest.approx(want)
    assert covered(np.asarray([[0, 0, *SIZE]]), boxes) == pytest.approx([(600 + 735) / 3200])
    assert covered(np.zeros((1, 4)), boxes) == pytest.approx([0])


def test_union_against_counting_pixels() -> None:
    random = np.random.default_rng(0)
    for _ in range(20):
        corner = random.integers(0, 30, (5, 2))
        boxes = np.concatenate([corner, corner + random.integers(1, 15, (5, 2))], 1).clip(0, 32)
        pixels = np.zeros((32, 32))
        for x0, y0, x1, y1 in boxes:
            pixels[y0:y1, x0:x1] = 1
        regions = grid_boxes((4, 4), (32, 32))
        want = pixels.reshape(4, 8, 4, 8).mean((1, 3)).reshape(-1)
        assert covered(regions, boxes[(boxes[:, 2:] > boxes[:, :2]).all(1)]) == pytest.approx(want)


def test_a_point_on_the_edge_is_inside() -> None:
    boxes = np.asarray([[0, 0, 10, 10], [50, 0, 60, 5]], float)
    points = np.asarray([[10, 10], [10.1, 5], [55, 5], [30, 5]], float)
    assert holds(boxes, points).tolist() == [True, False, True, False]


def test_ties_and_empty_maps() -> None:
    inside = np.asarray([1.0, 0.5, 0, 0]), np.asarray([True, True, False, False])
    maps = np.asarray([[0, 1, 1, 0], [1, 1, 1, 1], [0, 0, 0, 0], [3, 0, 0, 1]], np.float32)
    hits, masses = hits_and_masses(maps, *inside)
    assert hits == pytest.approx([0.5, 0.5, 0, 1])
    assert masses == pytest.approx([0.25, 0.375, 0, 0.75])


def test_smoothing_takes_the_neighbours_that_are_there() -> None:
    one = np.zeros((1, 9), np.float32)
    one[0, 0] = 36
    assert smoothed(one, (3, 3))[0].tolist() == [9, 6, 0, 6, 4, 0, 0, 0, 0]
    assert smoothed(np.full((2, 3, 12), 0.5, np.float32), (3, 4)) == pytest.approx(0.5)


# Figures

def test_figures_are_those_worked_out_by_hand(coco: dict[str, Path]) -> None:
    backend = Pointing()
    figures = evaluate(backend, read_grounding(**coco), ["good", "bad"], quiet=True)
    assert backend.texts == ["a dog next to a man ."] * 2 + ["two buses at a bus stop."] * 2
    good, bad = figures["methods"]["good"], figures["methods"]["bad"]
    # One head in four looks with 1% of the weight at the region above or below.
    elsewhere = 0.01 / 3.01
    inside = {"dog": 1 - elsewhere, "man": (0.75 * 0.5 + 0.25 * 0.25) * (1 - elsewhere)
              + (0.75 * 0.5 + 0.25 * 0.25) * elsewhere, "buses": 1 - elsewhere}
    area = sum(AREAS.values()) / 3
    assert good["n"] == bad["n"] == 3 and good["n_off_centre"] == 2
    assert good["pointing"] == pytest.approx(1, abs=1e-4)
    assert good["inside"] == pytest.approx(sum(inside.values()) / 3, abs=1e-4)
    assert good["share_inside_over_area"] == pytest.approx(sum(inside.values()) / 3 / area,
                                                           abs=1e-3)
    assert good["mean_ratio"] == pytest.approx(
        sum(inside[name] / AREAS[name] for name in AREAS) / 3, abs=1e-3)
    # The dog's two peaks are equal, one of them inside; the man's map is empty.
    assert bad["pointing"] == pytest.approx(0.5 / 3, abs=1e-4)
    assert bad["pointing_off_centre"] == pytest.approx(0.25, abs=1e-4)
    assert bad["pointing_above_centre"] == pytest.approx(0.5 / 3 - 1 / 3, abs=1e-4)


def test_baselines(coco: dict[str, Path]) -> None:
    baselines = evaluate(Pointing(), read_grounding(**coco), ["good"], quiet=True)["baselines"]
    area = sum(AREAS.values()) / 3
    centre, random = baselines["centre"], baselines["random"]
    # Only the man's box holds the centre, (40, 20).
    assert centre["pointing"] == pytest.approx(1 / 3, abs=1e-4)
    assert centre["pointing_off_centre"] == 0 and centre["n_off_centre"] == 2
    assert centre["share_inside_over_area"] == pytest.approx(1 / 3 / area, abs=1e-3)
    assert random["pointing"] == pytest.approx(area, abs=1e-4)
    assert random["pointing_off_centre"] == pytest.approx(
        (AREAS["dog"] + AREAS["buses"]) / 2, abs=1e-4)
    assert random["share_inside_over_area"] == random["mean_ratio"] == 1


def test_intervals_are_over_pictures() -> None:
    # 30 pictures of 10 names each; in every other picture all of them are hit.
    picture = np.repeat(np.arange(30), 10)
    hits = (picture % 2).astype(float)
    scorer = Scorer([(int(p), 0.25, False) for p in picture])
    figures = scorer.figures(hits, np.full(300, 0.5))
    low, high = figures["ci"]["pointing"]
    assert figures["pointing"] == 0.5
    # 1.96 * sqrt(0.25 / 30) = 0.18; over names it would be 0.06.
    assert 0.12 < 0.5 - low < 0.22 and 0.12 < high - 0.5 < 0.22
    assert figures["ci"]["share_inside_over_area"] == [2, 2]
    assert scorer.figures(hits, hits)["ci"]["pointing"] == [low, high]


def test_without_names_off_centre_there_is_no_figure() -> None:
    figures = Scorer([(0, 0.5, True)]).figures(np.ones(1), np.ones(1))
    assert figures["pointing_off_centre"] is None and figures["ci"]["pointing_off_centre"] is None
    json.dumps(figures, allow_nan=False)


# Reading and refusing

def test_reading(coco: dict[str, Path]) -> None:
    found = read_grounding(**coco)
    assert [(one.file.name, len(one.captions)) for one in found] == [("7.png", 1), ("9.png", 1)]
    assert found[0].captions[0].text == "a dog next to a man ."
    assert found[0].boxes["dog"].tolist() == [[0, 0, 20, 20], [10, 0, 30, 20]]
    assert [name.category for name in found[1].captions[0].names] == ["bus"]


def test_crowds_count_and_boxes_of_no_area_do_not(tmp_path: Path) -> None:
    boxes = [{"id": 1, "image_id": 7, "category_id": 18, "bbox": [1, 1, 0, 5], "iscrowd": 0},
             {"id": 2, "image_id": 7, "category_id": 1, "bbox": [-9, 1, 500, 5], "iscrowd": 1}]
    (found,) = read_grounding(**write_coco(tmp_path / "c", annotations=boxes))
    assert {key: boxes.tolist() for key, boxes in found.boxes.items()} == {
        "person": [[0, 1, 80, 6]]}


@pytest.mark.parametrize("changes, message", [
    ({"annotations": "none"}, "is not in COCO's form"),
    ({"categories": [{"id": 1}]}, "form: KeyError\\('name'\\)"),
    ({"images": [{"id": 7}]}, "form: KeyError\\('width'\\)"),
    ({"annotations": [{"image_id": 7, "category_id": 18, "bbox": [1, 2, 3]}]}, "not enough values"),
    ({"annotations": [{"image_id": 7, "category_id": 18, "bbox": [1, 2, -3, 4]}]}, "the bbox"),
    ({"annotations": [{"image_id": 7, "category_id": 99, "bbox": [1, 2, 3, 4]}]}, "KeyError.99"),
    ({"annotations": []}, "No caption of"),
])
def test_bad_files_are_refused_with_a_sentence(tmp_path: Path, changes: dict[str, Any],
                                               message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_grounding(**write_coco(tmp_path / "c", **changes))


def test_missing_files_and_pictures(coco: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--images .* is no folder"):
        read_grounding(tmp_path / "no", coco["instances"], coco["captions"])
    with pytest.raises(DataError, match="--instances .* cannot be read as JSON: .*No such file"):
        read_grounding(coco["images"], tmp_path / "no.json", coco["captions"])
    with pytest.raises(DataError, match="cannot be read as JSON"):
        read_grounding(coco["images"], coco["instances"], tmp_path)
    for content, message in (("{", "cannot be read as JSON"), ("[]", "an object is wanted")):
        (tmp_path / "bad.json").write_text(content)
        with pytest.raises(DataError, match=message):
            read_grounding(coco["images"], coco["instances"], tmp_path / "bad.json")
    (coco["images"] / "9.png").unlink()
    with pytest.raises(DataError, match=r"lacks 1 of 2 pictures, the first: 9\.png"):
        read_grounding(**coco)


def test_a_picture_of_another_size_is_refused(coco: dict[str, Path]) -> None:
    Image.new("RGB", (40, 80)).save(coco["images"] / "7.png")
    with pytest.raises(DataError, match="7.png is 40 x 80 pixels, but its boxes are for 80 x 40"):
        evaluate(Pointing(), read_grounding(**coco), ["good"], quiet=True)


def test_choosing_methods() -> None:
    backend = Pointing()
    assert choose_methods(backend, "") == ("good", "bad")
    assert choose_methods(backend, " bad, good ,bad") == ("bad", "good")
    for wanted in ("nice", ","):
        with pytest.raises(ConfigError, match="good, bad"):
            choose_methods(backend, wanted)
    with pytest.raises(TaskError, match="cannot show maps"):
        choose_methods(Planted(tasks=("caption",)), "")


def test_the_command_line(coco: dict[str, Path], tiny_checkpoint: Path, tmp_path: Path,
                          capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "made" / "out.json"
    arguments = ["--checkpoint", str(tiny_checkpoint), "--json", str(out), "--device", "cpu"]
    for name, path in coco.items():
        arguments += [f"--{name}", str(path)]
    assert main(arguments) == 0
    found = json.loads(out.read_text())
    shown = capsys.readouterr().out
    assert "n_off_centre" in shown and "random" in shown
    assert "cross-attention" in found["methods"]
    for figures in (*found["methods"].values(), *found["baselines"].values()):
        assert {"pointing", "pointing_off_centre", "share_inside_over_area", "mean_ratio", "n",
                "n_off_centre", "ci"} <= set(figures)
        assert 0 <= figures["pointing"] <= 1 and figures["n"] == 3
    assert found["_meta"]["pictures"] == 2
    for extra, message in ((["--limit", "0"], "--limit is 0"), (["--methods", "x"], "no method"),
                           (["--json", str(tmp_path)], "is a folder"),
                           (["--checkpoint", str(tmp_path / "no")], "no checkpoint folder")):
        assert main([*arguments, *extra]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and message in error and "Traceback" not in error
