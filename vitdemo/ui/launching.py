"""How the app is served: what `gr.Blocks.launch` is given, and what runs beside it."""

import asyncio
import contextlib
import datetime
import logging
from collections.abc import AsyncIterator
from typing import Any

from vitdemo.ui.gate import Gate, forget
from vitdemo.ui.health import health_routes
from vitdemo.ui.language import own_words
from vitdemo.ui.server_rules import ServerRules
from vitdemo.ui.session import AWAY
from vitdemo.ui.theme import head, styles, theme
from vitdemo.ui.tools import as_json, check_tools
from vitdemo.ui.uploads import upload_route
from vitdemo.ui.videos import video_route

log = logging.getLogger(__name__)

SWEEP = 30.0  # seconds between two looks at what can be let go
PAGES = 400  # whose state is kept at once; each takes from a third of a megabyte to some


def launch_settings(rules: ServerRules = ServerRules(), mcp: bool = False) -> dict[str, Any]:
    """What `gr.Blocks.launch` needs so that the app looks and behaves as meant; ``mcp`` serves the
    endpoints for programs as tools, too.

    Raises:
        ConfigError: what tools need is not installed.
    """
    if mcp:
        check_tools()
    return {"theme": theme(), "css": styles(), "head": head(), "footer_links": ["api"],
            "run_history": False, "i18n": own_words(),
            "show_error": True, "ssr_mode": False, "enable_monitoring": False,
            "state_session_capacity": PAGES, "mcp_server": mcp,
            "app_kwargs": {"routes": [upload_route(), video_route(), *health_routes()],
                           "lifespan": _serving(rules)}}


def _serving(rules: ServerRules) -> Any:
    @contextlib.asynccontextmanager
    async def serving(app: Any) -> AsyncIterator[None]:
        """Put the gate around the server, outside of Gradio's own layers (one of which answers
        the pages of others), and let go of what nobody uses, as long as it runs."""
        blocks = app.get_blocks()
        as_json(blocks)
        app.middleware_stack = Gate(app.middleware_stack, rules, app.get_blocks)
        sweeping = asyncio.create_task(_sweep(app))
        try:
            yield
        finally:
            sweeping.cancel()

    return serving


async def _sweep(app: Any) -> None:
    while True:
        await asyncio.sleep(SWEEP)
        try:
            await asyncio.to_thread(sweep, app.get_blocks())
        except Exception:  # a disk that fails now may work the next time
            log.exception("what nobody uses could not be let go")


def sweep(blocks: Any) -> None:
    """Let go of uploads and pages that nobody uses any more, and of what Gradio remembers of
    such pages."""
    blocks.sessions.sweep()
    old = datetime.datetime.now() - datetime.timedelta(seconds=AWAY)
    for page, used in list(blocks.state_holder.time_last_used.items()):
        if used < old and not blocks.sessions.is_open(page):
            forget(blocks, page)
