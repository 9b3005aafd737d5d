"""What ``python -m vitdemo models`` does: the families, or what one model will take."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from vitdemo.backends.offers import Forecast, forecast, offers, rows_of
from vitdemo.config import EngineConfig
from vitdemo.terminal import say
from vitdemo.texts import phrase

Table = Callable[[Sequence[str], Sequence[Sequence[str]]], None]


def run(options: argparse.Namespace, print_json: Callable[[Any], None],
        print_table: Table) -> int:
    """List the families, or forecast one; exit code 2 where that model cannot be loaded here."""
    if not options.name:
        _list(options.json, print_json, print_table)
        return 0
    found = forecast(EngineConfig(model=options.name, device=options.device, dtype=options.dtype))
    if options.json:
        print_json({"models": [_as_json(one) for one in found]})
    for one in () if options.json else found:
        print_table((phrase("report.model"), one.name), rows_of(one))
        if one.need.refusal is not None:
            say(str(one.need.refusal))
    return 2 if any(one.need.refusal is not None for one in found) else 0


def _list(as_json: bool, print_json: Callable[[Any], None], print_table: Table) -> None:
    known = offers()
    if as_json:
        print_json({"families": [asdict(one) for one in known]})
        return
    print_table([phrase(f"chooser.{name}") for name in ("type", "tasks", "methods", "example")],
                [(one.type, _tasks(one.tasks), ", ".join(one.methods), one.example)
                 for one in known])


def _tasks(tasks: Sequence[str]) -> str:
    return ", ".join(phrase(f"task.{task}") for task in tasks)


def _as_json(one: Forecast) -> dict[str, Any]:
    need = one.need
    return {"name": one.name, "family": one.family, "tasks": one.tasks,
            "parameters": need.parameters, "precision": need.placement.precision,
            "device": str(need.placement.device), "spread": need.placement.spread,
            "needs_bytes": need.needs, "free_bytes": need.free, "download_bytes": one.download,
            "licence": one.licence, "languages": one.languages,
            "refusal": str(need.refusal or "")}
