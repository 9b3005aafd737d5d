"""In which language a visitor reads: the one that was chosen on the page, else the browser's.

The choice is a cookie, so that every request carries it. A page of each language is laid out once
(`ui.build_ui`); Gradio's own words, which its scripts choose by the browser's language, follow.
"""

import asyncio
import gzip
import html
import json
from http.cookies import CookieError, SimpleCookie

import gradio as gr
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import Message, Send

from vitdemo import viewer
from vitdemo.texts import LANGUAGES, best_language, catalogue, language, phrase
from vitdemo.ui import markup

COOKIE = "vitdemo_language"
# A Space is shown in a frame of another site, where only such a cookie is kept.
CHOOSE = """
element.addEventListener("click", (event) => {
  if (event.target.closest("[data-model]")) {
    const label = document.querySelector("#model button.label-wrap");
    if (!label.classList.contains("open")) label.click();
    document.getElementById("model").scrollIntoView({ behavior: "smooth" });
    return;
  }
  const code = event.target.closest("[data-language]")?.dataset.language;
  if (!code) return;
  const kind = location.protocol === "https:" ? "SameSite=None; Secure; Partitioned"
    : "SameSite=Lax";
  document.cookie = `COOKIE=${code}; Path=/; Max-Age=31536000; ${kind}`;
  location.reload();
});
""".replace("COOKIE", COOKIE)


def language_of(headers: Headers) -> str:
    """The language of whoever sends a request with these headers."""
    try:
        chosen = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        chosen = None
    if chosen is not None and chosen.value in LANGUAGES:
        return chosen.value
    return best_language(headers.get("accept-language", ""))


def switch(model: str) -> str:
    """Beside the page's title: a way to the panel of the ``model``, and the languages as buttons,
    in HTML; `CHOOSE` is its script."""
    buttons = "".join(
        f'<button type="button" lang="{catalogue(code)["language.tag"]}" data-language="{code}" '
        f'aria-pressed="{str(code == language()).lower()}">'
        f'{html.escape(str(catalogue(code)["language.name"]))}</button>' for code in LANGUAGES)
    name = markup.said("language.switch")
    way = f'<button type="button" class="vt-to-model" data-model>{html.escape(model)}</button>'
    return (f'<div class="vt-languages">{way}<div role="group" aria-label="{name}">{buttons}</div>'
            "</div>")


def own_words() -> gr.I18n:
    """Words of Gradio's own that it has in no language, as in 6.31: a screen reader reads out the
    key."""
    return gr.I18n(**{str(of["language.tag"]): {"common.complete": str(of["frame.complete"])}
                      for of in map(catalogue, LANGUAGES)})


def in_language(send: Send, asked: Headers) -> Send:
    """Send a page of Gradio's that says which language it is in, to its scripts as well, which
    else go by the browser's, and has the viewer's script in that language, once for all viewers
    on it; compressed, where the headers ``asked`` allow it: it is large."""
    tag = phrase("language.tag")
    script = ("<script>for (const [name, value] of Object.entries("
              f"{json.dumps({'language': tag, 'languages': [tag]})}))"
              " Object.defineProperty(navigator, name, { value });</script>"
              f"<script>{viewer.script()}</script>")
    held: list[Message] = []
    parts: list[bytes] = []

    async def told(message: Message) -> None:
        if message["type"] == "http.response.start":
            held.append(message)
            return
        parts.append(message.get("body", b""))
        if message.get("more_body"):
            return
        page = b"".join(parts)
        if page:  # else only its head was asked for
            page = page.replace(b'lang="en"', f'lang="{tag}"'.encode(), 1)
            page = page.replace(b"<head>", b"<head>" + script.encode(), 1)
        headers = MutableHeaders(scope=held[0])
        headers["Vary"] = "Accept-Language, Accept-Encoding, Cookie"
        headers["Content-Language"] = tag
        if page and "gzip" in asked.get("accept-encoding", ""):
            page = await asyncio.to_thread(gzip.compress, page, 5)
            headers["Content-Encoding"] = "gzip"
        if page:
            headers["Content-Length"] = str(len(page))
        await send(held[0])
        await send({"type": "http.response.body", "body": page})

    return told
