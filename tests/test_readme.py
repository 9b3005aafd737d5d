"""Runs every command of the README, so that none of them can go stale."""

import ast
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import make_picture

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


COMMANDS = [line for block in blocks("bash") for line in block.splitlines() if line.strip()]


def set_up_commands() -> list[str]:
    return [re.search(rf"<!-- {name} command -->\n```\n(.*?)\n```\n<!-- end -->", README).group(1)
            for name in ("app", "test")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that looks like the project's, with a small data set beside it."""
    made = tmp_path_factory.mktemp("readme")
    for name in ("examples", "checkpoints", "vitdemo", "train", "app.py"):
        (made / name).symlink_to(ROOT / name)
    for split in ("train", "validation"):
        (made / "my_pictures" / split).mkdir(parents=True)
        rows = []
        for i in range(3):
            make_picture(i).save(made / "my_pictures" / split / f"{i}.png")
            rows.append({"file_name": f"{i}.png", "captions": ["a dog on grass", "a red ball"],
                         "qa": [{"question": "what is it?", "answer": "dog"}]})
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (made / "my_pictures" / split / "metadata.jsonl").write_text(lines)
    return made


def run(arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    settings = {**os.environ, "PYTHONPATH": str(folder), "PYTHONIOENCODING": "utf-8"}
    return subprocess.run([sys.executable, *arguments], cwd=folder, env=settings, check=False,
                          capture_output=True, text=True, timeout=300, encoding="utf-8")


def test_the_two_commands_stand_within_thirty_lines() -> None:
    text = README.split("---\n", 2)[2].lstrip("\n").splitlines()
    for command in set_up_commands():
        assert command.startswith("python3 run.py")
        assert text.index(command) < 30


def test_the_front_matter_is_a_spaces() -> None:
    lines = README.split("---\n", 2)[1].splitlines()
    values = dict(line.split(": ", 1) for line in lines)
    assert values["sdk"] == "gradio" and (ROOT / values["app_file"]).is_file()
    assert re.fullmatch(r"\d+\.\d+\.\d+", values["sdk_version"])
    wanted = re.search(r"gradio>=([\d.]+),<(\d+)", (ROOT / "requirements.txt").read_text())
    assert values["sdk_version"].startswith(wanted.group(1))
    assert len(values["short_description"]) <= 60


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("http") or (ROOT / target).exists(), target


def test_run_py_explains_itself() -> None:
    done = subprocess.run([sys.executable, str(ROOT / "run.py"), "--help"], capture_output=True,
                          text=True, check=True)
    assert "python3 run.py test" in done.stdout


def test_run_py_needs_only_an_old_python() -> None:
    tree = ast.parse((ROOT / "run.py").read_text(), feature_version=(3, 10))
    used = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import)
            for alias in node.names}
    assert used <= set(sys.stdlib_module_names)


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_works(command: str, folder: Path) -> None:
    words = shlex.split(command)
    assert words[0] == "python"
    done = run(words[1:], folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    if "--json" in words:
        json.loads(done.stdout)
    if "--png" in words:
        assert (folder / words[words.index("--png") + 1]).stat().st_size > 1000


@pytest.mark.slow
@pytest.mark.parametrize("code", blocks("python"))
def test_the_python_works(code: str, folder: Path) -> None:
    done = run(["-c", code], folder)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) > 2
