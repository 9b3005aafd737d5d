# ruff: noqa: F811 - fixtures of another file are arguments here
"""The endpoints as MCP tools, asked by the protocol's own client."""

import asyncio
import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mcp import ClientSession
from mcp.client.streamable_http import streamablehttp_client
from mcp.types import CallToolResult, ListToolsResult
from served import Served, pictures, serve, served  # noqa: F401 - fixtures

import app
from vitdemo.errors import ConfigError
from vitdemo.ui import Settings, launch_settings

SIX = ["caption", "ask", "match", "search", "explain", "evidence"]
HELLO = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
ACCEPT = {"Accept": "application/json, text/event-stream"}


@pytest.fixture(scope="module")
def tools(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serve(tmp_path_factory.mktemp("uploads"), Settings(pictures), mcp=True) as running:
        yield running


def ask(tools: Served, *calls: tuple[str, dict[str, Any]]
        ) -> tuple[ListToolsResult, list[CallToolResult]]:
    """What the app tells of its tools, and what calls of them give."""
    async def talk() -> tuple[ListToolsResult, list[CallToolResult]]:
        async with (streamablehttp_client(f"{tools.api}/mcp/") as (read, write, _),
                    ClientSession(read, write) as session):
            await session.initialize()
            return (await session.list_tools(),
                    [await session.call_tool(name, values) for name, values in calls])

    return asyncio.run(talk())


def test_the_six_are_tools(tools: Served, pictures: Path) -> None:
    code = base64.b64encode((pictures / "red.png").read_bytes()).decode()
    (path,) = tools.upload(pictures / "green.png")
    listed, results = ask(
        tools, ("caption", {"picture": code, "instruction": "Say: a red ball"}),
        ("ask", {"picture": f"data:image/png;base64,{code}", "question": "where?"}),
        ("match", {"picture": path, "texts": ["red", "green"]}),
        ("search", {"text": "green", "limit": 1}),
        ("explain", {"picture": code, "text": "a cat"}),
        ("evidence", {"picture": code, "text": "left"}),
        ("caption", {"picture": code, "language": "zh"}))
    assert [tool.name for tool in listed.tools] == SIX
    for tool in listed.tools:
        assert tool.description and "Returns: " in tool.description
        for name, value in tool.inputSchema["properties"].items():
            assert value["description"], (tool.name, name)
    assert listed.tools[0].inputSchema["required"] == ["picture"]
    told = []
    for result in results:
        assert not result.isError, result
        (content,) = result.content
        told.append(json.loads(content.text))
    caption, answer, match, search, explained, tested, chinese = told
    assert caption["text"] == "A red ball." and answer["text"] == "left"
    assert match["matches"][1]["score"] > 0.9
    assert [hit["picture"] for hit in search["hits"]] == ["green.png"]
    assert len(explained["explanations"][0]["boxes"]) == 48
    assert tested["evidence"][0]["verdict"]
    assert "猫" in chinese["text"] and "猫" in results[-1].content[0].text
    kept = [one for one in tools.kept() if one.name != "green.png"]
    assert not kept, "what came as base64 lies in no file"


def test_what_is_wrong_is_a_sentence(tools: Served, pictures: Path,
                                     capfd: pytest.CaptureFixture[str]) -> None:
    _, results = ask(tools, ("caption", {"picture": "/etc/passwd"}),
                     ("caption", {"picture": "https://127.0.0.1/a.png"}),
                     ("match", {"picture": "x", "texts": []}), ("describe", {}))
    for result, sentence in zip(results, ("base64", "--allow-addresses", "at least one",
                                          "describe"), strict=True):
        assert result.isError and sentence in result.content[0].text
        assert "Traceback" not in result.content[0].text
    assert "Traceback" not in capfd.readouterr().err


def test_tools_are_behind_the_gate(tools: Served, served: Served) -> None:
    post = tools.client.post
    url = f"{tools.api}/mcp/"
    assert post(url, json=HELLO, headers=ACCEPT).status_code == 200
    for headers in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}):
        assert post(url, json=HELLO, headers={**ACCEPT, **headers}).status_code in (400, 403)
    assert post(url, content=b"x" * (5 * 2**20), headers=ACCEPT).status_code == 413
    assert post(url, content=b"[" * 10_000, headers=ACCEPT).status_code == 400
    for path in ("mcp/sse", "mcp/messages/", "mcp/http"):
        assert tools.client.get(f"{tools.api}/{path}").status_code == 404
        assert post(f"{tools.api}/{path}", json=HELLO).status_code == 404
    assert {one["name"] for one in tools.client.get(f"{tools.api}/mcp/schema").json()} == set(SIX)
    assert post(f"{served.api}/mcp/", json=HELLO, headers=ACCEPT).status_code == 404, "it is off"


def test_it_is_off_unless_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GRADIO_MCP_SERVER", raising=False)
    assert not app.parse([]).mcp and app.parse(["--mcp"]).mcp
    monkeypatch.setenv("GRADIO_MCP_SERVER", "True")
    assert app.parse([]).mcp
    assert launch_settings()["mcp_server"] is False, "whatever the variable says"
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="gradio\\[mcp\\]"):
        launch_settings(mcp=True)
