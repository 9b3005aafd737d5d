# ruff: noqa: F811 - fixtures of another file are arguments here
"""The endpoints for programs, asked as programs do: by Gradio's client and by plain HTTP."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image
from served import Served, file_data, pictures, serve, served  # noqa: F401 - fixtures

import app
from vitdemo.ui import Settings

SIX = ["caption", "ask", "match", "search", "explain", "evidence"]


def client_of(served: Served) -> Client:
    return Client(served.address, verbose=False, analytics_enabled=False,
                  httpx_kwargs={"trust_env": False})


@pytest.fixture(scope="module")
def client(served: Served) -> Iterator[Client]:
    made = client_of(served)
    yield made
    made.close()


@pytest.fixture
def red(pictures: Path) -> dict[str, Any]:
    return handle_file(str(pictures / "red.png"))


@pytest.fixture
def code(pictures: Path) -> str:
    """The same picture in base64."""
    return base64.b64encode((pictures / "red.png").read_bytes()).decode()


def refused(client: Client, name: str, **values: Any) -> str:
    """The sentence with which a call is refused."""
    with pytest.raises(AppError) as told:
        client.predict(**values, api_name=f"/{name}")
    sentence = str(told.value)
    assert sentence.endswith((".", "came.")) and "Traceback" not in sentence
    return sentence


def test_there_are_six_endpoints_and_all_is_said_of_them(client: Client) -> None:
    known = client.view_api(return_format="dict", print_info=False)
    assert list(known["named_endpoints"]) == [f"/{name}" for name in SIX]
    assert not known["unnamed_endpoints"]
    for name, endpoint in known["named_endpoints"].items():
        assert endpoint["description"].endswith(("." , "?")), name
        for value in endpoint["parameters"]:
            assert value["parameter_name"] == value["label"]
            assert "param_" not in value["parameter_name"]
            assert value["python_type"]["description"].endswith("."), (name, value)


def test_captions_and_answers(client: Client, red: dict[str, Any]) -> None:
    caption = client.predict(picture=red, api_name="/caption")
    assert caption["text"] == "A cat on the left and a dog on the right."
    assert caption["language"] == "en" and caption["notes"] == []
    steered = client.predict(picture=red, instruction="Say: a red ball", api_name="/caption")
    assert steered["text"] == "A red ball."
    assert "猫" in client.predict(picture=red, language="zh", api_name="/caption")["text"]
    answer = client.predict(picture=red, question="where?", count=2, api_name="/ask")
    assert (answer["text"], answer["probability"]) == ("left", 0.61)
    assert answer["runners_up"] == [{"text": "right", "probability": 0.2}]


def test_sentences_are_matched_in_their_order(client: Client, red: dict[str, Any]) -> None:
    found = client.predict(picture=red, texts=["green", "red"], api_name="/match")["matches"]
    assert [one["text"] for one in found] == ["green", "red"]
    assert found[1]["score"] > 0.9 > 0.1 > found[0]["score"]


def test_pictures_are_found(client: Client, red: dict[str, Any]) -> None:
    found = client.predict(text="green", api_name="/search")
    assert [hit["picture"] for hit in found["hits"]] == ["green.png", "red.png"]
    assert found["understood"] == "“green”"
    assert found["hits"][0]["match"] > 0.9 and found["hits"][0]["width"] == 40
    alike = client.predict(picture=red, limit=1, rerank=False, api_name="/search")["hits"]
    assert [(hit["picture"], hit["match"]) for hit in alike] == [("red.png", None)]
    none = client.predict(text="red", min_width=41, api_name="/search")
    assert none["hits"] == []


def test_every_word_has_boxes_in_pixels_and_weights(client: Client, red: dict[str, Any]) -> None:
    found = client.predict(picture=red, api_name="/explain")
    one, = found["explanations"]
    assert one["picture_size"] == [40, 30] and len(one["boxes"]) == 48
    left = next(word for word in one["words"] if word["text"] == "left")
    assert found["text"][left["start"]:left["end"]] == "left"
    assert all(0 <= x0 < x1 <= 40 and 0 <= y0 < y1 <= 30 for x0, y0, x1, y1 in one["boxes"])
    halves = [sum(weight for box, weight in zip(one["boxes"], left["map"], strict=True)
                  if (box[2] <= 20) == half) for half in (True, False)]
    assert halves[0] > 0.8 > 0.2 > halves[1] and sum(halves) == pytest.approx(1, abs=1e-3)
    assert "left;" in left["where"]
    asked = client.predict(picture=red, question="what is right?", api_name="/explain")
    assert [one["source"] for one in asked["explanations"]] == ["question", "answer"]
    other = client.predict(picture=red, text="a dog", method="relevancy", api_name="/explain")
    assert other["explanations"][0]["method"] == "relevancy"
    assert len(json.dumps(found)) < 20_000


def test_maps_are_tested(client: Client, tmp_path: Path) -> None:
    Image.effect_noise((160, 120), 90).convert("RGB").save(tmp_path / "noise.png")
    noise = handle_file(str(tmp_path / "noise.png"))
    found = client.predict(picture=noise, text="a left", api_name="/evidence")
    assert found["words"] == ["a", "left"]
    assert [one["word"] for one in found["evidence"]] == [0, 1]
    assert found["evidence"][1]["verdict"] == "strong" and found["evidence"][1]["sentence"]
    assert len(found["shares"][0]["sentences"]) == 2
    asked = client.predict(picture=noise, question="where?", api_name="/evidence")
    assert {one["source"] for one in asked["evidence"]} == {"answer"}


def test_a_picture_may_be_a_file_or_base64(served: Served, client: Client, code: str,
                                           pictures: Path) -> None:
    (path,) = served.upload(pictures / "red.png")
    for given in (code, f"data:image/png;base64,{code}", f"\n{code[:40]}\n{code[40:]}", path,
                  file_data(path)):
        found = client.predict(picture=given, texts=["red", "green"], api_name="/match")["matches"]
        assert found[0]["score"] > 0.9, given


def test_plain_http_will_do(served: Served, code: str) -> None:
    url = f"{served.api}/call/v2/match"
    begun = served.client.post(url, json={"picture": code, "texts": ["red"]})
    told = served.client.get(f"{url}/{begun.json()['event_id']}").text
    assert "event: complete" in told
    assert json.loads(told.rpartition("data: ")[2])[0]["matches"][0]["score"] > 0.9
    assert "needs a value for 'texts'" in served.client.post(
        url, json={"picture": code}).json()["detail"]


def test_what_is_wrong_is_one_sentence(client: Client, red: dict[str, Any], code: str,
                                       pictures: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for given in ("", " ", None):
        assert "There is no picture" in refused(client, "caption", picture=given)
    for given in ("/etc/passwd", str(pictures / "red.png"), "a red picture?", "data:image/png,x",
                  "\0", "../red.png"):
        assert "base64" in refused(client, "caption", picture=given), given
    text = base64.b64encode(b"x" * 99).decode()
    assert "not a picture" in refused(client, "caption", picture=text)
    assert "cut off" in refused(client, "caption", picture=code[:len(code) // 8 * 4])
    for given in (3, [code], {"path": "/etc/passwd"}, file_data("/etc/passwd"), True):
        assert refused(client, "caption", picture=given), given
    assert "language" in refused(client, "caption", picture=red, language="fr")
    assert "question" in refused(client, "ask", picture=red, question="")
    assert "from 1 to 50" in refused(client, "ask", picture=red, question="what?", count=0)
    assert "a whole number" in refused(client, "ask", picture=red, question="what?", count=1.5)
    assert "a list of texts" in refused(client, "match", picture=red, texts=[1])
    assert "at least one" in refused(client, "match", picture=red, texts=[])
    assert "at most 100" in refused(client, "match", picture=red, texts=["red"] * 101)
    assert "what to look for" in refused(client, "search")
    assert "from 1 to 2,000" in refused(client, "search", text="red", limit=2001)
    assert "examples or folders" in refused(client, "search", text="red", where="/etc")
    assert "cannot be searched here" in refused(client, "search", text="red", where="folders")
    assert "min_width" in refused(client, "search", text="red", min_width="wide")
    assert "No day is after" in refused(client, "search", text="red", after="2025", before="2024")
    assert "not several" in refused(client, "explain", picture=red, text="a", question="b")
    assert "method" in refused(client, "evidence", picture=red, text="a dog", method="magic")
    assert "Traceback" not in capfd.readouterr().err


def test_addresses_are_fetched_only_where_the_owner_allows_it(
        client: Client, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def fetch(address: str) -> bytes:
        asked.append(address)
        return (pictures / "red.png").read_bytes()

    monkeypatch.setattr("vitdemo.ui.given.fetch", fetch)
    address = "https://a.example/red.png"
    for given in (address, handle_file(address)):
        assert "--allow-addresses" in refused(client, "caption", picture=given)
    assert not asked
    with serve(tmp_path, Settings(pictures, addresses=True)) as open_one:
        allowed = client_of(open_one)
        for given in (address, handle_file(address)):
            found = allowed.predict(picture=given, texts=["red"], api_name="/match")
            assert found["matches"][0]["score"] > 0.9
        assert asked == [address, address]
        allowed.close()
    monkeypatch.delenv("VITDEMO_ALLOW_ADDRESSES", raising=False)
    assert not app.parse([]).allow_addresses and app.parse(["--allow-addresses"]).allow_addresses


def test_the_pages_own_handlers_are_private(served: Served) -> None:
    public = [one.api_name for one in served.blocks.fns.values() if one.api_visibility == "public"]
    assert public == SIX
    for name in ("describe", "answer", "compare", "search_words"):
        for path in (f"call/{name}", f"call/v2/{name}", f"run/{name}"):
            answer = served.client.post(f"{served.api}/{path}", json={"data": []})
            assert answer.status_code == 404 and "no such function" in answer.text, path


def test_programs_stand_in_the_line_behind_short_answers(served: Served) -> None:
    for name in SIX:
        endpoint = served.function(name)
        assert endpoint.concurrency_id == "long" and endpoint.queue
