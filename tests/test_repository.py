"""What may lie in the repository, and what its files must look like."""

import ast
import hashlib
import json
import re
import subprocess
from pathlib import Path

import pytest

import vitdemo

ROOT = Path(__file__).parent.parent
LARGEST = 60_000_000  # bytes of one file, and of one shipped checkpoint
PICTURES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic"}
PICKLES = {".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".bin"}
CHECKPOINT_FILES = ("config.json", "model.safetensors", "tokenizer.json", "meta.json")
# A path that holds on one machine only; put together here so that this file has none.
MACHINE_PATH = re.compile(
    r"(?:^|[^\w.~/-])/(?:" + "|".join(("work", "root", r"home/\w+", r"Users/\w+")) + r")(?![\w-])",
    re.MULTILINE)
CODE = ("vitdemo", "train", "benchmarks", "app.py", "run.py")


@pytest.fixture(scope="session")
def files() -> list[Path]:
    """Everything that is in the repository or would be added to it."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    except OSError:
        pytest.skip("git is not installed, so the repository's files are not known")
    if done.returncode != 0 or not (ROOT / ".git").exists():
        pytest.skip("this folder is no git checkout, so the repository's files are not known")
    names = done.stdout.decode().split("\0")
    found = [ROOT / name for name in names if name and (ROOT / name).is_file()]
    assert ROOT / "README.md" in found
    return found


def text_of(path: Path) -> str | None:
    """The file as text; None where it is not."""
    data = path.read_bytes()
    if b"\0" in data[:8192]:
        return None
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return None


def top(path: Path) -> str:
    return path.relative_to(ROOT).parts[0]


def code(files: list[Path]) -> list[Path]:
    return [path for path in files if path.suffix == ".py" and top(path) in CODE]


def test_no_file_is_too_large(files: list[Path]) -> None:
    large = {str(path.relative_to(ROOT)): path.stat().st_size for path in files
             if path.stat().st_size > LARGEST}
    assert not large


def test_pictures_lie_only_where_they_belong(files: list[Path]) -> None:
    strays = [str(path.relative_to(ROOT)) for path in files
              if path.suffix.lower() in PICTURES and top(path) not in ("examples", "docs")]
    assert not strays, "pictures belong in examples/ (with their licence) or docs/"


def test_nothing_is_pickled(files: list[Path]) -> None:
    assert not [path for path in files if path.suffix.lower() in PICKLES]


def test_no_path_of_one_machine(files: list[Path]) -> None:
    for path in files:
        text = text_of(path)
        found = MACHINE_PATH.search(text) if text is not None else None
        assert not found, f"{path.relative_to(ROOT)} names {found.group().strip()}"


@pytest.mark.parametrize("name", ["work", "root", "home/ada", "Users/ada"])
def test_a_machine_path_would_be_seen(name: str) -> None:
    assert MACHINE_PATH.search(f"cd /{name}\n")
    assert MACHINE_PATH.search(f'open("/{name}/picture.png")')
    assert MACHINE_PATH.search(f"/{name}/picture.png")
    assert not MACHINE_PATH.search(f"see https://example.org/{name}/ and team/{name}")


def test_lines_fit(files: list[Path]) -> None:
    long = [f"{path.relative_to(ROOT)}:{number} ({len(line)})" for path in files
            if path.suffix in (".py", ".js", ".css")
            for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
            if len(line) > 100]
    assert not long, "a line has at most 100 characters"


def test_modules_are_short(files: list[Path]) -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text("utf-8").splitlines())
               for path in code(files)}
    assert "vitdemo/engine.py" in lengths
    long = {name: length for name, length in lengths.items() if length > 400}
    assert not long, "a module has at most 400 lines; split it"


def test_every_module_says_what_it_is(files: list[Path]) -> None:
    silent = [str(path.relative_to(ROOT)) for path in code(files)
              if not ast.get_docstring(ast.parse(path.read_text("utf-8")))]
    assert not silent, "a module starts with a docstring"


def test_the_examples_and_their_licences_agree(files: list[Path]) -> None:
    listed = re.findall(r"^\| `([^`]+)` \|", (ROOT / "examples/README.md").read_text("utf-8"),
                        re.MULTILINE)
    there = [path.name for path in files
             if top(path) == "examples" and path.suffix.lower() in PICTURES]
    assert sorted(listed) == sorted(there)
    assert there


def test_the_version_is_the_same_everywhere() -> None:
    project = re.search(r'^version = "([^"]+)"', (ROOT / "pyproject.toml").read_text("utf-8"),
                        re.MULTILINE)
    assert project is not None
    assert project.group(1) == vitdemo.__version__
    newest = re.search(r"^## \[?(\d[^\]\s]*)\]? - \d{4}-\d\d-\d\d$",
                       (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert newest is not None, 'CHANGELOG.md has no heading like "## [0.1.0] - 2026-01-31"'
    assert newest.group(1) == vitdemo.__version__


def checkpoints() -> list[Path]:
    """The shipped checkpoint folders; the test is skipped where there is none yet."""
    found = [path for path in sorted((ROOT / "checkpoints").glob("*")) if path.is_dir()]
    if not found:
        pytest.skip("checkpoints/ holds no checkpoint yet")
    return found


def test_shipped_checkpoints_are_whole(files: list[Path]) -> None:
    for folder in checkpoints():
        shipped = {path.name: path for path in files if path.parent == folder}
        assert set(CHECKPOINT_FILES) <= set(shipped), folder.name
        assert sum(path.stat().st_size for path in shipped.values()) <= LARGEST, folder.name
        meta = json.loads(shipped["meta.json"].read_text("utf-8"))
        for name in CHECKPOINT_FILES[:3]:
            digest = hashlib.sha256(shipped[name].read_bytes()).hexdigest()
            assert meta["sha256"][name] == digest, f"{folder.name}/{name} is not what was saved"


def test_shipped_checkpoints_have_a_model_card() -> None:
    folders = checkpoints()
    card = ROOT / "checkpoints" / "README.md"
    assert card.is_file(), "checkpoints/README.md, the model card, is missing"
    for folder in folders:
        assert folder.name in card.read_text("utf-8"), f"the model card does not name {folder.name}"


def test_links_between_the_documents_lead_somewhere(files: list[Path]) -> None:
    broken = []
    for path in files:
        if path.suffix != ".md" or path == ROOT / "README.md":  # that one: test_readme.py
            continue
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text("utf-8")):
            if "://" not in target and not (path.parent / target).exists():
                broken.append(f"{path.relative_to(ROOT)} -> {target}")
    assert not broken


def test_every_row_of_a_table_has_its_columns(files: list[Path]) -> None:
    wrong = []
    for path in files:
        if path.suffix != ".md":
            continue
        columns = 0
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            cells = re.sub(r"`[^`]*`|\\\|", "", line).count("|") if line.startswith("|") else 0
            if cells and columns and cells != columns:
                wrong.append(f"{path.relative_to(ROOT)}:{number}: {cells - 1} cells, "
                             f"not {columns - 1}")
            columns = cells
    assert not wrong
