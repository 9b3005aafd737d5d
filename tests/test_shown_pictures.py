"""What the owner of an app for others shows in Search: it is found and looked at, and no more."""

import html
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_engine import planted_engine
from PIL import Image
from served import Served, file_data, serve

import app
from vitdemo import preprocess
from vitdemo.engine import Engine
from vitdemo.errors import PictureError, StoreError
from vitdemo.retrieval.base import Stamp, open_index
from vitdemo.retrieval.indexer import index_folders
from vitdemo.texts import phrase, speaking
from vitdemo.ui import OwnersPictures, Settings, build_ui
from vitdemo.ui.api import Endpoints
from vitdemo.ui.components import Context
from vitdemo.ui.search.galleries import Galleries, Shared, open_owners
from vitdemo.ui.search.indexing import start_text
from vitdemo.ui.session import Sessions


def save(path: Path, colour: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 30), colour).save(path)
    return path


@pytest.fixture(scope="module")
def engine() -> Engine:
    return planted_engine()


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory, engine: Engine) -> Path:
    """A store that knows more than is shown: "out" is not, and two links lead there."""
    root = tmp_path_factory.mktemp("owner")
    save(root / "in" / "red.png", "red")
    save(root / "in" / "holidays" / "green.png", "green")
    save(root / "in-not" / "grey.png", "grey")
    save(root / "out" / "blue.png", "blue")
    (root / "in" / "link.png").symlink_to(root / "out" / "blue.png")
    (root / "in" / "away").symlink_to(root / "out")
    gallery = engine.gallery(str(root / "store"))
    paths = [root / "in" / "red.png", root / "in" / "holidays" / "green.png",
             root / "in-not" / "grey.png", root / "out" / "blue.png", root / "in" / "link.png",
             root / "in" / "away" / "blue.png", root / "in" / ".." / "out" / "blue.png"]
    assert gallery.add_files([str(path) for path in paths]) == ([], [])
    gallery.close()
    return root


def snapshot(folder: Path) -> dict[Path, tuple[int, bytes]]:
    """All files there: when each was written, and what is in it."""
    return {path: (path.stat().st_mtime_ns, path.read_bytes())
            for path in folder.rglob("*") if path.is_file()}


def shown(engine: Engine, store: object, folder: Path) -> Shared:
    owners = OwnersPictures(str(store), (folder,))
    context = Context(engine, Settings(shared=True, owners=owners), Sessions(), ())
    return Shared(lambda: open_owners(context))


def choices(settings: Settings, engine: Engine) -> list[str]:
    return [value for block in build_ui(engine, settings).blocks.values()
            if getattr(block, "elem_id", "") == "search-source" for _, value in block.choices]


def test_it_is_offered_where_an_owner_shows_something_alone(engine: Engine, tree: Path) -> None:
    owners = OwnersPictures(str(tree / "store"), (tree / "in",))
    assert choices(Settings(shared=True, owners=owners), engine) == ["uploads", "owners"]
    assert choices(Settings(shared=True), engine) == ["uploads"]
    with pytest.raises(StoreError, match="only uploaded"):
        open_owners(Context(engine, Settings(shared=True), Sessions(), ()))


def test_flags_and_variables_name_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
                                       capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("SPACE_ID", "SPACES_ZERO_GPU", "VITDEMO_STORE", "VITDEMO_ALLOW_FOLDER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SPACE_ID", "somebody/vitdemo")
    args = app.parse([])
    assert (args.store, args.allow_folder) == ("", [])
    monkeypatch.setenv("VITDEMO_ALLOW_FOLDER", f"{tmp_path}:/not mounted/yet")
    with pytest.raises(SystemExit):
        app.parse([])
    assert "--store" in capsys.readouterr().err
    monkeypatch.setenv("VITDEMO_STORE", "/data/store")
    args = app.parse([])
    assert args.store == "/data/store"
    assert args.allow_folder == [tmp_path, Path("/not mounted/yet")]
    assert app.parse(["--store", "s3://b/s"]).store == "s3://b/s"


# A visitor

class Visitor:
    """A page of the served app; ``told`` is all that the server ever sent it."""

    def __init__(self, served: Served) -> None:
        self.served, self.told = served, ""

    def act(self, name: str, event: dict[str, Any] | None = None, which: int = 0,
            **fields: Any) -> str:
        """Do what a handler of this name is tied to, of several that take the ``fields`` the one
        that ``which`` says. These are by the ids of elements, - written _."""
        ids = {one: [str(field.elem_id).replace("-", "_") for field in one.inputs]
               for one in self.served.blocks.fns.values()
               if one.name == name and one.api_visibility == "private"}
        function = [one for one, names in ids.items() if set(fields) <= set(names)][which]
        data = [None if field.stateful else fields.get(key, field.value)
                for field, key in zip(function.inputs, ids[function], strict=True)]
        answer = self.served.join(function, data, "visitor", event_data=event)
        assert answer.status_code == 200, answer.text
        lines = []
        with self.served.client.stream("GET", f"{self.served.api}/queue/data",
                                       params={"session_hash": "visitor"}) as stream:
            for line in stream.iter_lines():
                lines.append(line)
                if "process_completed" in line:
                    break
        self.told += (said := "\n".join(lines))
        assert '"success":true' in lines[-1].replace(" ", ""), lines[-1][:500]
        return html.unescape(said.replace('\\"', '"'))


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that are read as pictures, links followed."""
    files: list[Path] = []
    read = preprocess._read_file

    def note(path: Path, *rest: Any) -> tuple[str, bytes]:
        files.append(path.resolve())
        return read(path, *rest)

    monkeypatch.setattr(preprocess, "_read_file", note)
    return files


@pytest.fixture
def visitor(tree: Path, tmp_path: Path) -> Iterator[Visitor]:
    owners = OwnersPictures(str(tree / "store"), (tree / "in",))
    with serve(tmp_path / "uploads", Settings(shared=True, owners=owners)) as served:
        yield Visitor(served)


def test_a_visitor_searches_and_looks_and_changes_nothing(
        visitor: Visitor, tree: Path, tmp_path: Path, engine: Engine, opened: list[Path]) -> None:
    before = snapshot(tree)
    page = visitor.served.client.get(f"{visitor.served.address}/config").text
    assert "The owner's pictures" in page and str(tree) not in page
    assert "Pictures that the owner of this app shows" in visitor.act(
        "choose", search_source="owners")
    asked = {"search_source": "owners", "search_words": "green holidays"}
    hits = visitor.act("_search", **asked)
    assert ">red.png<" in hits and ">green.png<" in hits and "data:image/jpeg" in hits
    assert not any(name in hits for name in ("blue.png", "grey.png", "link.png"))
    ids = {hit.path.rsplit("/", 1)[1]: hit.id for hit in
           shown(engine, tree / "store", tree / "in").gallery().search_text("green")}
    maps = visitor.act("explain", {"id": ids["green.png"]})
    assert '"words"' in maps and "vt-parts" in maps
    assert ">green.png<" in visitor.act("_like", {"id": ids["red.png"]})
    assert "red.png" in visitor.act("beside_hit", {"id": ids["red.png"]})
    table = visitor.act("save", search_save_count=10)
    assert "vitdemo-hits" in table

    nothing_else = phrase("store.only_searched")
    assert nothing_else in visitor.act("run", search_source="owners")
    assert phrase("store.no_folders") in visitor.act(
        "_search", **asked, search_only_folder=str(tree / "in"))
    assert phrase("gallery.uploads_only") in visitor.act("take_out")

    (upload,) = visitor.served.upload(save(tmp_path / "mine.png", "white"))
    assert "1 picture to search" in visitor.act("upload", search_files=[file_data(upload)])
    assert ">mine.png<" in visitor.act("_search", search_source="uploads", search_words="white")

    assert snapshot(tree) == before
    assert str(tree) not in visitor.told
    assert phrase("search.why.folder", text="holidays") not in html.unescape(visitor.told)
    assert opened and not [path for path in opened
                           if tree in path.parents and tree / "in" not in path.parents]
    typed = visitor.act("read_folder", search_folder=str(tree / "in"))
    assert "may be searched (–)" in typed and snapshot(tree) == before


def test_programs_search_them_and_are_told_no_path(engine: Engine, tree: Path) -> None:
    owners = OwnersPictures(str(tree / "store"), (tree / "in",))
    context = Context(engine, Settings(shared=True, owners=owners), Sessions(), ())
    endpoints = Endpoints(context, Galleries(context))
    found = endpoints.search("blue", where="folders", rerank=False)
    assert sorted(hit["picture"] for hit in found["hits"]) == ["green.png", "red.png"]
    with pytest.raises(StoreError, match="cannot be searched by folder"):
        endpoints.search("blue", where="folders", folder=str(tree / "in"))
    with pytest.raises(StoreError, match="“examples” cannot be searched here"):
        endpoints.search("blue")


def test_copies_of_the_originals_are_refused(visitor: Visitor) -> None:
    visitor.act("_search", search_source="owners", search_words="red")
    assert "vitdemo-hits.json" in visitor.act("save", which=1, search_save_count=10)
    assert phrase("store.only_searched") in visitor.act("save", which=2, search_save_count=10)


# Read only

def test_no_folder_leads_out_however_it_is_written(engine: Engine, tree: Path) -> None:
    gallery = shown(engine, tree / "store", tree / "in").gallery()
    held = [Path(hit.path).name for hit in gallery.search_text("blue", 12)]
    assert sorted(held) == ["green.png", "red.png"]
    for write in (lambda: gallery.remove([str(tree / "in" / "red.png")]),
                  lambda: gallery.add_files([str(tree / "in" / "red.png")]),
                  lambda: index_folders(gallery, [tree / "in"], prune=True)):
        with pytest.raises(StoreError, match="The owner's pictures can"):
            write()
    assert gallery.count() == 7


def test_as_many_are_found_as_lie_there_behind_whatever_is_left_out(engine: Engine,
                                                                    tmp_path: Path) -> None:
    files = [save(tmp_path / "out" / f"{number}.png", "red") for number in range(30)]
    files += [save(tmp_path / "in" / f"{number}.png", "blue") for number in range(5)]
    engine.gallery(str(tmp_path / "store")).add_files([str(file) for file in files])
    gallery = shown(engine, tmp_path / "store", tmp_path / "in").gallery()
    like = preprocess.open_picture(files[0])
    assert len(gallery.search_picture(like, 4)) == 4
    assert len(gallery.search_picture(like, 12)) == 5


def test_a_store_that_cannot_be_used_is_one_sentence(
        engine: Engine, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pictures = tmp_path / "in"
    save(pictures / "red.png", "red")
    (tmp_path / "file").write_text("no store")
    (tmp_path / "empty").mkdir()
    open_index(str(tmp_path / "other"), Stamp("another", "1", 8)).close()
    engine.gallery(str(tmp_path / "damaged")).add_files([str(pictures / "red.png")])
    for part in (tmp_path / "damaged").rglob("*.manifest"):
        part.write_bytes(b"x")
    for name, reason in (("none", "There is no store"), ("file", "is a file"),
                         ("empty", "There is no store"), ("other", "made with the model another"),
                         ("damaged", "damaged")):
        caplog.clear()
        owners = OwnersPictures(str(tmp_path / name), (pictures,))
        settings = Settings(shared=True, owners=owners)
        assert choices(settings, engine) == ["uploads", "owners"]  # the app starts
        context = Context(engine, settings, Sessions(), ())
        before = sorted(tmp_path.rglob("*"))
        for language in ("en", "zh"):
            with speaking(language), caplog.at_level(logging.WARNING):
                told = start_text(context, Galleries(context), "owners")
                assert phrase("store.not_shown").replace("'", "&#x27;") in told
                assert str(tmp_path) not in told
        assert reason in caplog.text and sorted(tmp_path.rglob("*")) == before


def test_a_fault_while_searching_tells_no_place(engine: Engine, tree: Path) -> None:
    gallery = shown(engine, tree / "store", tree / "in").gallery()
    gallery.close()
    with pytest.raises(StoreError, match="cannot be searched now") as raised:
        gallery.search_text("red")
    assert str(tree) not in str(raised.value)


def test_a_picture_that_is_gone_is_told_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(PictureError) as raised:
        preprocess.open_picture(tmp_path / "gone.png", name="gone.png")
    assert str(raised.value) == "gone.png does not exist."
    with pytest.raises(PictureError) as raised:
        preprocess.open_pictures([str(tmp_path / "gone.png")])
    assert str(raised.value) == "gone.png does not exist."
