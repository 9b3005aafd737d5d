"""At the foot of the page: the model, what it can do, and where that is allowed, another one."""

import html
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from vitdemo.backends.forecast import size_text
from vitdemo.backends.offers import Forecast, forecast, rows_of
from vitdemo.backends.registry import names
from vitdemo.config import EngineConfig
from vitdemo.errors import VitDemoError
from vitdemo.records import ALL_TASKS, ModelInfo
from vitdemo.texts import phrase
from vitdemo.ui import markup
from vitdemo.ui.components import (
    PRIVATE,
    Context,
    PageValue,
    clickable_html,
    html_output,
    place_of,
    text_output,
)
from vitdemo.ui.jobs import Cancelled, Job, followed
from vitdemo.ui.line import LONG
from vitdemo.ui.switching import Far, Switch, check_name
from vitdemo.ui.turns import AT_ONCE

# For whom, and its name on the hub.
RECOMMENDED = {"laptop": "HuggingFaceTB/SmolVLM-256M-Instruct",
               "gpu": "Qwen/Qwen2.5-VL-7B-Instruct",
               "chinese": "Qwen/Qwen2-VL-2B-Instruct+OFA-Sys/chinese-clip-vit-base-patch16"}
# What need not be said of a model that is loaded: the memory that is free is what it left.
KNOWN = ("tasks", "memory", "download")
# In the browser: the pages of the new model are another page.
RELOAD = "(done) => { if (done) location.reload(); }"


def build_model_panel(context: Context, switch: Switch | None) -> None:
    """Lay it out and tie it; without a ``switch`` it only tells."""
    info, device = context.engine.info, context.engine.config.device
    title = phrase("chooser.title", name=info.name)
    with gr.Accordion(title, open=False, elem_id="model") as panel:
        about = html_output(_abilities(info), "model-about")
        if switch is not None:
            _build_chooser(context, switch)
    if context.settings.model:
        panel.expand(lambda: _abilities(info) + "".join(
            _figures(name, device, part.precision) for name, part in zip(
                names(context.settings.model), info.parts or (info,), strict=True)),
            None, about, **AT_ONCE)


def _build_chooser(context: Context, switch: Switch) -> None:
    offered = list(RECOMMENDED.values())
    own_folders = not context.settings.shared
    text_output(phrase("chooser.recommended"), "vt-heading")
    recommended = clickable_html(markup.chips(
        [phrase(f"chooser.for.{who}", name=" + ".join(
            one.split("/")[-1] for one in name.split("+")))
         for who, name in RECOMMENDED.items()], phrase("chooser.recommended")))
    name = gr.Textbox(label=phrase("chooser.name" if own_folders else "chooser.name_hub"),
                      placeholder=offered[0], max_lines=1, elem_id="model-name")
    with gr.Row():
        look = gr.Button(phrase("chooser.look"), size="md", elem_id="model-look")
        use = gr.Button(phrase("chooser.use"), size="md", elem_id="model-use")
        cancel = gr.Button(phrase("chooser.cancel"), size="md", visible=False,
                           elem_id="model-cancel")
    status = text_output(phrase("chooser.for_all"), elem_id="model-status")
    job, done = gr.State(Job()), PageValue(False)

    def told(typed: str | None) -> str:
        try:
            return _figures(check_name(typed or "", own_folders), context.engine.config.device)
        except VitDemoError as error:
            return markup.notice(error)

    def pick(event: gr.EventData) -> Iterator[tuple[Any, str]]:
        chosen = offered[place_of(event, len(offered))]
        yield chosen, markup.progress(phrase("chooser.look"), 0, 0)
        yield chosen, told(chosen)

    def change(typed: str | None, running: Job[Far]) -> Iterator[tuple[str, Any, bool]]:
        seen = gr.update(visible=True)
        try:
            chosen = check_name(typed or "", own_folders)
            yield from followed(
                running, lambda: switch.change(context.engine, chosen, running.tell),
                lambda far: (_far(far), seen, False))
        except Cancelled:
            said = phrase("chooser.stopped", name=context.engine.info.name)
            yield markup.hints([said]), gr.update(visible=False), False
        except VitDemoError as error:
            yield markup.notice(error), gr.update(visible=False), False
        else:
            said = phrase("chooser.ready", name=chosen)
            yield markup.hints([said]), gr.update(visible=False), True

    recommended.click(pick, None, [name, status], **LONG, **PRIVATE)
    look.click(told, name, status, **LONG, **PRIVATE)
    changing = use.click(change, [name, job], [status, cancel, done], **LONG, **PRIVATE,
                         api_name="change_model")
    changing.then(None, done, None, js=RELOAD)
    cancel.click(lambda running: running.stop(), job, None, **AT_ONCE)


def _far(far: Far) -> str:
    what, name, done, whole = far
    if what == "downloading":
        return markup.progress(phrase("chooser.downloading", name=name, done=size_text(done),
                                    whole=size_text(whole)), done, whole)
    return markup.progress(phrase("chooser.loading", name=name), 0, 0)


def _abilities(info: ModelInfo) -> str:
    """What the model can do, which of several does what, and why it cannot do the rest."""
    lines = [phrase("chooser.can", tasks=phrase("list.join").join(
        phrase(f"task.{task}") for task in ALL_TASKS if task in info.tasks))]
    if info.parts:
        lines.append(phrase("chooser.parts", shares=phrase("list.apart").join(
            phrase("chooser.share", task=phrase(f"task.{task}"), name=info.doing(task).name)
            for task in ALL_TASKS if task in info.tasks and task != "explain")))
    lines += [phrase("chooser.cannot", what=phrase(f"task.{task}"), why=info.why_not(task))
              for task in ALL_TASKS if task not in info.tasks]
    lines.append(phrase("chooser.revision", revision=info.revision))
    return markup.hints(lines)


def _figures(name: str, device: str, loaded: str = "") -> str:
    """Size, memory, licence and languages of a model, as a table; ``loaded`` is the precision of
    one that is here."""
    try:
        found = forecast(EngineConfig(model=name, device=device, dtype=loaded or "auto"))
    except VitDemoError as error:
        return markup.notice(error)
    return "".join(_table(one, bool(loaded)) for one in found)


def _table(one: Forecast, loaded: bool) -> str:
    rows = "".join(f"<tr><th>{html.escape(key)}</th><td>{html.escape(value)}</td></tr>"
                   for key, value in rows_of(one, KNOWN if loaded else ()))
    # Where a folder lies on the server is nobody else's business.
    name = Path(one.name).name if os.path.isdir(one.name) else one.name
    said = "" if loaded or one.need.refusal is None else markup.notice(one.need.refusal)
    return (f'<table class="vt-model"><caption>{html.escape(name)}</caption>{rows}</table>'
            f"{said}")
