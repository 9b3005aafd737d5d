"""How the app looks: the theme, and the CSS of what is not the viewer."""

from pathlib import Path

import gradio as gr
from gradio.themes.utils import colors, sizes

from vitdemo.ui.stream import WATCH

FONTS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "Noto Sans CJK SC",
         "PingFang SC", "Microsoft YaHei", "sans-serif")
MONO = ("ui-monospace", "Menlo", "Consolas", "monospace")


def theme() -> gr.themes.Base:
    """A calm theme in fonts that every system has: nothing is fetched."""
    made = gr.themes.Base(primary_hue=colors.blue, secondary_hue=colors.blue,
                          neutral_hue=colors.slate, text_size=sizes.text_md,
                          radius_size=sizes.radius_lg, font=FONTS, font_mono=MONO)
    return made.set(
        body_background_fill="white",
        body_background_fill_dark="*neutral_950",
        body_text_color_subdued="*neutral_600",
        block_background_fill="white",
        block_background_fill_dark="*neutral_900",
        block_label_text_color="*neutral_700",
        block_label_text_color_dark="*neutral_300",
        block_title_text_color="*neutral_700",
        block_title_text_color_dark="*neutral_300",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_400",
        color_accent="*primary_700",
        input_border_width="1px",
        border_color_primary="*neutral_300",
        checkbox_border_color="*neutral_500",
        checkbox_border_color_dark="*neutral_400",
        checkbox_border_color_hover="*neutral_600",
        checkbox_border_color_hover_dark="*neutral_300",
        input_background_fill="white",
        input_background_fill_dark="*neutral_900",
        input_placeholder_color="*neutral_500",
        input_placeholder_color_dark="*neutral_400",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_secondary_background_fill="*neutral_100",
        button_secondary_background_fill_hover="*neutral_200",
        button_secondary_background_fill_dark="*neutral_800",
    )


def styles() -> str:
    """The CSS of what is not the viewer."""
    return "\n".join((Path(__file__).parent / name).read_text("utf-8")
                     for name in ("app.css", "tour/tour.css"))


def head() -> str:
    """What stands in the page's head: styles by the screen's width and for paper, whose selectors
    Gradio would change, and what has to see the page's first request."""
    rules = "\n".join((Path(__file__).parent / name).read_text("utf-8")
                      for name in ("frame.css", "print.css"))
    return f"<style>{rules}</style><script>{{{WATCH}}}</script>"
