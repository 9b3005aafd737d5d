"""Holds the direction of imports (docs/design.md), and that importing a module does nothing."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# Layers from the bottom; a module may import its own layer and those below it.
LAYERS = (
    ("vitdemo.records", "vitdemo.errors", "vitdemo.config", "vitdemo.device",
     "vitdemo.instructions", "vitdemo.words", "vitdemo.characters", "vitdemo.statements",
     "vitdemo.lock", "vitdemo.cache", "vitdemo.scratch", "vitdemo.disk", "vitdemo.file_names",
     "vitdemo.allocator", "vitdemo.streams", "vitdemo.pixel_budget",
     "vitdemo.wanted", "vitdemo.reasons", "vitdemo.slices", "vitdemo.tables",
     "vitdemo.terminal", "vitdemo.texts", "vitdemo.measures"),
    ("vitdemo.preprocess", "vitdemo.camera", "vitdemo.colours", "vitdemo.mending",
     "vitdemo.tokens", "vitdemo.video", "vitdemo.written", "vitdemo.sidecars",
     "vitdemo.description_files"),
    ("vitdemo.models", "vitdemo.attention"),
    ("vitdemo.backends", "vitdemo.retrieval"),
    ("vitdemo.engine", "vitdemo.borrowed", "vitdemo.checks", "vitdemo.trials",
     "vitdemo.user_texts", "vitdemo.feature_cache", "vitdemo.folder_descriptions",
     "vitdemo.scheduler", "vitdemo.serving"),
    ("vitdemo.ui", "vitdemo.viewer", "vitdemo.overlay", "vitdemo.film_strip", "vitdemo.record_json",
     "vitdemo.report"),
    ("vitdemo.cli", "vitdemo.commands", "vitdemo.search_command", "vitdemo.index_command",
     "vitdemo.describe_command", "vitdemo.film_command",
     "vitdemo.models_command", "vitdemo.engine_command",
     "vitdemo.__main__", "app"),
)
# The viewer is fed with records only, whoever feeds it.
BELOW_TRAINING = ("vitdemo.records", "vitdemo.texts", "vitdemo.reasons", "vitdemo.errors",
                  "vitdemo.config", "vitdemo.device", "vitdemo.disk", "vitdemo.allocator",
                  "vitdemo.instructions", "vitdemo.words", "vitdemo.statements",
                  "vitdemo.preprocess", "vitdemo.pixel_budget",
                  "vitdemo.camera", "vitdemo.colours", "vitdemo.mending", "vitdemo.tokens",
                  "vitdemo.written", "vitdemo.models",
                  "vitdemo.attention", "train")
# Evaluation of maps must explain through the very code that the app uses.
THROUGH_BACKENDS = ("train.evaluate_grounding",)


def modules() -> list[Path]:
    return [ROOT / "app.py", *sorted((ROOT / "vitdemo").rglob("*.py")),
            *sorted((ROOT / "train").rglob("*.py"))]


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def imported(path: Path) -> set[str]:
    """Every module of ours that a file imports, also inside functions and as "module:Class"."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {str(node.module)} if node.module not in ("vitdemo", "train") else names
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) \
                and node.value.startswith("vitdemo.") and ":" in node.value:
            found.add(node.value.split(":")[0])
    return {name for name in found if name.split(".")[0] in ("vitdemo", "train", "app")}


def layer(name: str) -> int | None:
    """The layer of a module; None for the package itself."""
    for number, prefixes in enumerate(LAYERS):
        if any(name == p or name.startswith(p + ".") for p in prefixes):
            return number
    return None


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_imports_go_down(path: Path) -> None:
    name = name_of(path)
    if name.split(".")[0] == "train":
        allowed = BELOW_TRAINING + (("vitdemo.backends",) if name in THROUGH_BACKENDS else ())
        for other in imported(path):
            assert other.startswith(allowed), f"{name} imports {other}"
        return
    own = layer(name)
    assert own is not None or name == "vitdemo", f"{name} belongs to no layer; add it to LAYERS"
    for other in imported(path):
        assert not other.startswith("train"), f"{name} imports {other}"
        below = layer(other)
        if below is not None and own is not None:
            assert below <= own, f"{name} (layer {own}) imports {other} (layer {below})"


def test_a_wrong_import_would_be_seen() -> None:
    assert layer("vitdemo.models.vlm") < layer("vitdemo.engine")  # type: ignore[operator]
    assert "vitdemo.engine" in imported(ROOT / "vitdemo" / "commands.py") | imported(
        ROOT / "app.py") | imported(ROOT / "vitdemo" / "cli.py")


def test_importing_does_nothing(tmp_path: Path) -> None:
    names = [name_of(path) for path in modules() if path.name != "__main__.py"]
    code = ("import os, sys, importlib\n"
            "before = dict(os.environ)\n"
            f"for name in {names!r}:\n    importlib.import_module(name)\n"
            "import torch, random\n"
            "changed = {k for k in set(before) | set(os.environ)"
            " if before.get(k) != os.environ.get(k)}\n"
            "own = {k for k in changed if 'VITDEMO' in k or 'GRADIO' in k or k.startswith('HF_')}\n"
            "assert not own, own\n")
    settings = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1",
                "PYTHONWARNINGS": "ignore"}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=settings,
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []
