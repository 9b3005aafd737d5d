# ruff: noqa: F811 - fixtures of another file are arguments here
"""What the server tells of itself: /healthz and /metrics, without a word of what a visitor gave."""

from pathlib import Path

import pytest
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families
from served import Served, file_data, pictures, served  # noqa: F401 - fixtures

from vitdemo.measures import Measures

SECRET = "a zebra in my kitchen"


def numbers(served: Served) -> dict[tuple[str, str], float]:
    """Every sample by its name and the values of its labels."""
    answer = served.client.get(f"{served.address}/metrics")
    assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/plain")
    return {(one.name, " ".join(one.labels.values())): one.value
            for family in text_string_to_metric_families(answer.text) for one in family.samples}


def ask(served: Served, picture: Path) -> None:
    answer = served.client.post(f"{served.api}/call/v2/ask", json={
        "picture": file_data(served.upload(picture)[0]), "question": SECRET})
    event = answer.json()["event_id"]
    with served.client.stream("GET", f"{served.api}/call/ask/{event}") as stream:
        assert "event: complete" in "\n".join(stream.iter_lines())


def test_health_and_metrics_count_and_hold_no_text(served: Served, tmp_path: Path) -> None:
    health = served.client.get(f"{served.address}/healthz").json()
    assert health["status"] == "ok" and health["waiting"] == 0
    picture = tmp_path / "private name.png"
    Image.new("RGB", (60, 40), (10, 200, 30)).save(picture)
    before = numbers(served)
    ask(served, picture)
    ask(served, picture)
    after = numbers(served)

    def grown(name: str, label: str) -> float:
        return after.get((name, label), 0) - before.get((name, label), 0)

    assert grown("vitdemo_requests_total", "taken") == 2
    assert grown("vitdemo_stage_seconds_count", "answer") == 2
    assert grown("vitdemo_stage_seconds_sum", "answer") > 0
    assert grown("vitdemo_cache_pictures_total", "miss") == 1
    assert grown("vitdemo_cache_pictures_total", "hit") >= 1
    assert grown("vitdemo_batch_size_sum", "encode") == 1
    assert grown("vitdemo_batch_size_count", "write") >= 2
    assert grown("vitdemo_stage_seconds_count", "wait") == 2
    assert grown("vitdemo_cache_bytes", "") > 0
    assert after["vitdemo_waiting", "other"] == 0
    text = served.client.get(f"{served.address}/metrics").text
    assert not any(word in text for word in ("zebra", "private", str(tmp_path)))


def test_no_text_and_no_picture_of_a_visitor_is_logged(served: Served, tmp_path: Path,
                                                       caplog: pytest.LogCaptureFixture,
                                                       capfd: pytest.CaptureFixture[str]) -> None:
    caplog.set_level("DEBUG")
    picture = tmp_path / "private name.png"
    Image.new("RGB", (60, 40), (200, 20, 30)).save(picture)
    ask(served, picture)
    out, err = capfd.readouterr()
    logged = "\n".join([out, err, *(one.getMessage() for one in caplog.records)])
    assert "zebra" not in logged and "private name" not in logged


def test_measures_add_up_also_where_a_stage_fails() -> None:
    measures = Measures()
    measures.add("batch", "encode", 3)
    measures.add("batch", "encode", 5)
    with pytest.raises(ValueError), measures.stage("write"):
        raise ValueError
    values = measures.values()
    assert values["batch", "encode"] == (2, 8)
    assert values["seconds", "write"][0] == 1
