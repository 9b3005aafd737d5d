"""An act that is asked for while the stream of answers is being closed is answered all the same."""

from pathlib import Path

import pytest
from browser_app import App

pytest_plugins = ["browser_fixtures"]  # its fixtures
pytestmark = pytest.mark.browser

# A slow way to the page: the end of a stream is held back until `release` is called.
HOLD = """
globalThis.held = 0;
globalThis.letGo = false;
const ask = globalThis.fetch;
globalThis.fetch = async (what, settings) => {
  const answer = await ask(what, settings);
  if (!String(what.url ?? what).includes("/queue/data")) return answer;
  const holding = new TransformStream({ async transform(chunk, out) {
    const text = new TextDecoder().decode(chunk);
    const end = text.search(/data: [^\\n]*close_stream/);
    if (end < 0) return out.enqueue(chunk);
    if (end) out.enqueue(new TextEncoder().encode(text.slice(0, end)));
    globalThis.held += 1;
    while (!globalThis.letGo) await new Promise((done) => setTimeout(done, 10));
    out.enqueue(new TextEncoder().encode(text.slice(end)));
  } });
  return new Response(answer.body.pipeThrough(holding), answer);
};
"""


def test_what_is_asked_while_a_stream_is_closed(app: App, pictures: Path, address: str) -> None:
    app.page.add_init_script(HOLD)
    app.page.goto(address)
    app.page.evaluate("globalThis.letGo = true")
    app.give("describe-picture", pictures / "red.png")
    app.words()
    app.checked()
    app.tab("Ask")
    app.page.get_by_text("Now ask something about this picture.").wait_for()
    app.page.fill("#ask-question textarea", "what is on the right?")
    app.quiet()
    app.page.evaluate("[globalThis.held, globalThis.letGo] = [0, false]")
    app.page.click("#ask-run")
    app.words("ask-view")
    app.holds("globalThis.held > 0")
    app.page.wait_for_timeout(1000)  # the evidence is asked for, and taken
    app.page.evaluate("globalThis.letGo = true")
    app.checked("ask-view")
