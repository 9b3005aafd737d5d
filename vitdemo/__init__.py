"""vitdemo: a vision-language demo that shows where a model looked. See docs/design.md."""

__version__ = "0.2.0"
