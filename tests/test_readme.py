"""Runs every command of the README, so that none of them can go stale."""

import ast
import json
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from accelerate.state import AcceleratorState
from conftest import make_picture
from served import pictures, served  # noqa: F401 - fixtures

from vitdemo import terminal

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
    """A folder with what the commands name of the project's, and a small data set beside it."""
    made = tmp_path_factory.mktemp("readme")
    for name in ("examples", "checkpoints"):
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


@pytest.fixture
def inside(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder, as the one where this process works."""
    monkeypatch.chdir(folder)
    return folder


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
    wanted = re.search(r"gradio\[mcp\]>=([\d.]+),<(\d+)", (ROOT / "requirements.txt").read_text())
    assert values["sdk_version"].startswith(wanted.group(1))
    assert len(values["short_description"]) <= 60


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("http") or (ROOT / target).exists(), target


def test_run_py_explains_itself() -> None:
    done = subprocess.run([sys.executable, str(ROOT / "run.py"), "--help"], capture_output=True,
                          text=True, check=True)
    assert "python3 run.py test" in done.stdout


def test_run_py_brings_a_milvus_server_when_all_tests_are_asked_for(
        monkeypatch: pytest.MonkeyPatch) -> None:
    import run

    done: list[str] = []
    monkeypatch.setattr(run, "make_environment", lambda: None)
    monkeypatch.setattr(run, "install", lambda requirements: done.append(requirements))
    monkeypatch.setattr(run, "ensure_browser", lambda: "chromium")
    monkeypatch.setattr(run, "ensure_milvus", lambda: done.append("milvus"))
    monkeypatch.setattr(run.subprocess, "run", lambda command, **more: (
        done.extend(map(str, command[1:])), subprocess.CompletedProcess(command, 0))[1])
    assert run.main(["test", "-k", "x"]) == 0
    assert "milvus" not in done and done[-2:] == ["-k", "x"]
    done.clear()
    assert run.main(["test", "--all", "-k", "x"]) == 0
    assert done[:2] == ["requirements-dev.txt", "milvus"] and done[-2:] == ["-k", "x"]
    assert "--all" not in done


def test_run_py_needs_only_an_old_python() -> None:
    tree = ast.parse((ROOT / "run.py").read_text(), feature_version=(3, 10))
    used = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import)
            for alias in node.names}
    assert used <= set(sys.stdlib_module_names)


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_works(command: str, inside: Path, monkeypatch: pytest.MonkeyPatch,
                             capsys: pytest.CaptureFixture[str]) -> None:
    python, option, module, *arguments = shlex.split(command)
    assert (python, option) == ("python", "-m")
    monkeypatch.setattr(sys, "argv", [module, *arguments])
    # In this process, as a new one loads torch anew; and it goes on after the command. What tests
    # before it chose for accelerate is forgotten, as in a new one.
    AcceleratorState._reset_state(reset_partial_state=True)
    monkeypatch.setattr(terminal, "end_with", lambda main: sys.exit(main()))
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    out, err = capsys.readouterr()
    assert not ended.value.code, err
    assert out.strip()
    if "--json" in arguments:
        json.loads(out)
    if "--png" in arguments:
        assert (inside / arguments[arguments.index("--png") + 1]).stat().st_size > 1000


@pytest.mark.slow
@pytest.mark.parametrize("code", blocks("python"))
def test_the_python_works(code: str, inside: Path, capsys: pytest.CaptureFixture[str],
                          request: pytest.FixtureRequest) -> None:
    if "http://127.0.0.1:7860" in code:  # the app that the reader has started
        code = code.replace("http://127.0.0.1:7860", request.getfixturevalue("served").address)
    exec(code, {"__name__": "__main__"})
    assert len(capsys.readouterr().out.splitlines()) > 2
