"""The endpoints for programs as tools of the Model Context Protocol (MCP), for assistants.

Gradio serves them (POST to /gradio_api/mcp) and calls them through the app's own line, where all
who come by MCP are one visitor. What it gives back is a Python value's text; here it becomes JSON.
"""

import importlib.util
import json
from typing import Any

from vitdemo.errors import ConfigError


def check_tools() -> None:
    """See that tools can be served.

    Raises:
        ConfigError: a package is missing.
    """
    if importlib.util.find_spec("mcp") is None:
        raise ConfigError("--mcp needs a package that is not here; install it with: "
                          "pip install \"gradio[mcp]\"")


def as_json(blocks: Any) -> None:
    """Let the tools of a served app, where it has some, answer in JSON."""
    server = blocks.mcp_server_obj
    if server is None:
        return
    from mcp import types

    def contents(data: Any, _root: str) -> list[types.TextContent]:
        return [types.TextContent(type="text", text=json.dumps(one, ensure_ascii=False))
                for one in data]

    server.postprocess_output_data = contents
