"""What benchmarks.nothing_fits looks for, and what of it is there."""

import json
from pathlib import Path

from benchmarks.nothing_fits import read_photos, wanted


def test_what_is_there_follows_from_what_people_wrote(tmp_path: Path) -> None:
    rows = [{"file_name": "a.jpg", "captions": ["A dog", "Two dogs on a beach", "a car"],
             "captions_zh": ["狗"]},
            {"file_name": "b.jpg", "qa": [{"question": "What is it?", "answer": "giraffe"}]}]
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert [Path(photo.path).name for photo in read_photos(tmp_path, 1)] == ["b.jpg"]
    found = list(wanted(read_photos(tmp_path, 2)))
    there = {(one.language, one.text): one.there for one in found}
    assert there["English", "dog"] and there["Chinese", "狗"]
    assert there["English", "penguin"] is False
    assert there["Chinese", "税收法规"] is False
    assert ("English", "giraffe") not in there and ("English", "beach") not in there  # named once
    assert not any(one.there for one in found if one.kind in ("sentence", "nonsense"))
    assert {one.text for one in found if one.kind == "caption"} == {"A dog", "狗"}
