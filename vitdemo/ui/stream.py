"""What a page asks for is answered although it came while the stream of answers was being closed.

Gradio's server closes a page's stream when all that was asked for is answered, and the page opens
another with the next thing that it asks for. One that the server takes in between, when the page
has not heard yet that the stream is closed, would be answered to no one: a lost click, on a slow
network or a busy computer. The page notices, and asks for nothing, which opens a stream.
"""

from vitdemo.ui.components import PRIVATE, html_output

# In the page's head, so that it sees the first stream. ``asked`` are the events that the server
# took and has not answered, ``early`` those that it answered before the page heard that they were
# taken.
WATCH = r"""
const asked = new Set(), early = new Set();
let open = false;
const said = (line) => {
  const [, message, id] = line.match(/^data: \{"msg":"([a-z_]+)","event_id":"?(\w*)/) ?? [];
  if (message === "process_completed" && !asked.delete(id)) early.add(id);
  if (message !== "close_stream") return;
  open = false;
  setTimeout(() => {
    if (open || !asked.size) return;
    asked.clear();
    globalThis.vtAskForNothing?.();
  }, 100);
};
const taken = (id) => { if (id && !early.delete(id)) asked.add(id); };
const ask = globalThis.fetch;
globalThis.fetch = async (what, settings) => {
  const address = String(what.url ?? what);
  const streams = address.includes("/queue/data");
  open ||= streams;
  const answer = await ask(what, settings);
  if (address.includes("/queue/join")) {
    taken((await answer.clone().json().catch(() => ({}))).event_id);
  }
  if (!streams || !answer.body) return answer;
  const decoder = new TextDecoder();
  let rest = "";
  const read = new TransformStream({ transform(chunk, out) {
    const lines = (rest + decoder.decode(chunk, { stream: true })).split("\n");
    rest = lines.pop();
    out.enqueue(chunk);
    lines.forEach(said);
  } });
  return new Response(answer.body.pipeThrough(read), answer);
};
"""


def watch_stream() -> None:
    """Lay out what asks for nothing."""
    nothing = html_output(elem_classes="vt-away", js_on_load=(
        'globalThis.vtAskForNothing = () => trigger("click", {});'))
    nothing.click(lambda: None, None, None, **PRIVATE)
