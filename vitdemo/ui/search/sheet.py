"""The sheet over the page on which a hit's map opens, or two pictures side by side.

It is there at the click, with a word while the map is made; Escape closes it, and one can go on to
the next hit from there.
"""

from typing import Any

import gradio as gr

from vitdemo.ui import markup
from vitdemo.ui.components import html_output

# The values that come from the server: {"note"}, and {"shows", "title"} where no hit was clicked.
SCRIPT = """
const find = (part) => element.querySelector(`[data-part=${part}]`);
const sheet = () => element.closest(".vt-sheet");
const hits = () => [...document.querySelectorAll("#search-hits button.vt-hit")];
let before = null;
let now = null;
const quiet = () => sheet().querySelectorAll("video").forEach((player) => player.pause());
const show = (shows, title) => {
  const over = sheet();
  quiet();
  if (!over.classList.contains("vt-open")) before = document.activeElement;
  over.classList.add("vt-open");
  over.dataset.shows = shows;
  over.setAttribute("role", "dialog");
  over.setAttribute("aria-modal", "true");
  over.setAttribute("aria-label", title);
  over.scrollTop = 0;
  find("title").textContent = title;
  find("note").textContent = element.querySelector(".vt-sheet-head").dataset[shows];
  for (const [part, step] of [["earlier", -1], ["later", 1]]) {
    find(part).disabled = shows !== "why" || !hits()[hits().indexOf(now) + step];
  }
  find("close").focus({ preventScroll: true });
};
const close = () => {
  quiet();
  sheet().classList.remove("vt-open");
  const back = hits().find((hit) => hit.dataset.id === now?.dataset.id) ?? before;
  back?.focus({ preventScroll: true });
};
const opened = (event) => {
  if (!element.isConnected) return document.removeEventListener("vt-sheet", opened);
  const { shows, chosen } = event.detail;
  now = chosen ?? null;
  show(shows, now?.querySelector(".vt-name").textContent ?? "");
};
document.addEventListener("vt-sheet", opened);
element.addEventListener("click", (event) => {
  const part = event.target.closest("button")?.dataset.part;
  if (part === "close") return close();
  const all = hits();
  const place = all.findIndex((hit) => hit.dataset.id === now?.dataset.id);
  if (part === "earlier") all[place - 1]?.click();
  if (part === "later") all[place + 1]?.click();
});
const reachable = (one) => one.tabIndex >= 0 && !one.disabled
  && one.checkVisibility({ visibilityProperty: true })
  && (one.type !== "radio" || one.checked
      || !sheet().querySelector(`input[name="${CSS.escape(one.name)}"]:checked`));
const pressed = (event) => {
  if (!element.isConnected) return document.removeEventListener("keydown", pressed);
  const over = sheet();
  if (!over?.classList.contains("vt-open")) return;
  if (event.key === "Escape" && !document.fullscreenElement) close();
  if (event.key !== "Tab") return;
  const all = [...over.querySelectorAll(
    "button, a[href], input, select, textarea, summary, [tabindex]")].filter(reachable);
  const end = event.shiftKey ? all[0] : all[all.length - 1];
  if (document.activeElement === end || !over.contains(document.activeElement)) {
    event.preventDefault();
    (event.shiftKey ? all[all.length - 1] : all[0])?.focus();
  }
};
document.addEventListener("keydown", pressed);
watch("value", () => {
  const { shows, title, note = "" } = props.value || {};
  if (shows) {
    now = null;
    show(shows, title);
  }
  find("note").textContent = note;
});
"""


def sheet_head() -> gr.HTML:
    """Its title, the word on what is being made, and the buttons."""
    def button(part: str, sign: str) -> str:
        name = markup.said(f"search.sheet.{part}")
        return (f'<button type="button" data-part="{part}" title="{name}" aria-label="{name}">'
                f'<span aria-hidden="true">{sign}</span></button>')

    making, comparing = map(markup.said, ("search.sheet.making", "search.sheet.comparing"))
    template = (f'<div class="vt-sheet-head" data-why="{making}" data-versus="{comparing}">'
                '<strong data-part="title"></strong>'
                '<span class="vt-small" data-part="note" role="status"></span>'
                f'{button("earlier", "‹")}{button("later", "›")}{button("close", "×")}</div>')
    return html_output({}, "search-sheet-head", html_template=template, js_on_load=SCRIPT)


def note(text: str = "", **opens: Any) -> dict[str, Any]:
    """A value for it: a word beside the title; ``shows`` and ``title`` open it."""
    return {"note": text, **opens}
