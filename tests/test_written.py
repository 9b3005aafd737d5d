"""What people wrote in, at and beside pictures counts in a search."""

import io
import json
import os
import shutil
from pathlib import Path

import lancedb
import numpy as np
import pytest
from PIL import Image

from tests.indexing import STAMP, Colours, entries, open_gallery, paint
from vitdemo.retrieval.base import Condition, Entry, Index, open_index
from vitdemo.retrieval.gallery import Gallery
from vitdemo.retrieval.indexer import index_folders
from vitdemo.retrieval.lance import LanceIndex
from vitdemo.retrieval.query import Query
from vitdemo.retrieval.text_words import asked_words, pieces, said_of, words_of
from vitdemo.sidecars import sidecar, write_sidecar
from vitdemo.ui.search.why import said_html
from vitdemo.written import written_in

XMP = """<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF
 xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about=""
 xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:description><rdf:Alt>
 <rdf:li xml:lang="x-default">Tante Käthe lacht</rdf:li></rdf:Alt></dc:description>
 <dc:subject><rdf:Bag><rdf:li>Kyōto</rdf:li></rdf:Bag></dc:subject>
 </rdf:Description></rdf:RDF></x:xmpmeta>"""


def words(text: str):
    return Query.of(text).words


def iptc_jpeg(**texts: str) -> bytes:
    """A JPEG with texts of IPTC: ``caption`` and ``keyword``."""
    stream = io.BytesIO()
    Image.new("RGB", (8, 8)).save(stream, "JPEG")
    record = b"".join(bytes((0x1c, 2, {"caption": 120, "keyword": 25}[name]))
                      + len(text.encode()).to_bytes(2, "big") + text.encode()
                      for name, text in texts.items())
    record += b"\0" * (len(record) % 2)
    block = b"Photoshop 3.0\0" + b"8BIM\x04\x04\0\0" + len(record).to_bytes(4, "big") + record
    return (b"\xff\xd8\xff\xed" + (len(block) + 2).to_bytes(2, "big") + block
            + stream.getvalue()[2:])


def test_what_is_written_into_files() -> None:
    with Image.open(io.BytesIO(iptc_jpeg(caption="Anna am Meer", keyword="王小明"))) as image:
        assert written_in(image) == "Anna am Meer\n王小明"
    exif = Image.Exif()
    exif[0x010E], exif[0x9C9E] = "Old pier", "Gdańsk;Anna".encode("utf-16-le")
    for kind in ("JPEG", "WEBP"):
        stream = io.BytesIO()
        Image.new("RGB", (8, 8)).save(stream, kind, xmp=XMP.encode(), exif=exif)
        with Image.open(stream) as image:
            assert written_in(image) == "Tante Käthe lacht\nKyōto\nOld pier\nGdańsk;Anna"


@pytest.mark.parametrize("xmp", [b"<a", b"\0\0", b"<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>",
                                 b"\xff\xfe" * 9])
def test_odd_metadata_says_nothing(xmp: bytes) -> None:
    stream = io.BytesIO()
    Image.new("RGB", (8, 8)).save(stream, "JPEG", xmp=xmp)
    with Image.open(stream) as image:
        assert written_in(image) == ""


def test_words_are_cut_alike() -> None:
    for one, other in (("horse", "horses"), ("lady", "LADIES"), ("box", "boxes"),
                       ("Käthe", "kathe"), ("Anna", "Anna's"), ("ＩＭＧ_2041", "img 2041")):
        assert list(pieces(one)) == list(pieces(other)), (one, other)
    held = set(words_of("/x/IMG_2041.jpg", {"inside": "王小明在东京的海边"}).split())
    for text in ("小明", "海", "东京 王小明", "img_2041"):
        assert all(held.issuperset(word.pieces) for word in words(text)), text
    assert not held.issuperset(words("大明")[0].pieces)
    assert [(word.text, word.weight) for word in words("a dog in the snow -cat +2 Anna")] == [
        ("dog", 1), ("snow", 1), ("cat", -1), ("anna", 2)]


def unit(*numbers: float) -> np.ndarray:
    row = np.asarray(numbers, np.float32)
    return row / np.linalg.norm(row)


def entry(path: str, vector: np.ndarray, **metadata: str) -> Entry:
    return Entry(path, path, vector, 4, 3, metadata)


@pytest.fixture
def index() -> Index:
    """Thirty pictures of which the words looked for are near none."""
    made = open_index("memory://", STAMP)
    made.add([entry(f"/p/{n:02}.jpg", unit(0.4, 1, n / 100)) for n in range(28)]
             + [entry("/p/Anna.jpg", unit(0, 0, 1)),
                entry("/p/x.jpg", unit(0, 1, 1), inside="王小明在海边", folder="/other")])
    return made


def best(index: Index, text: str, limit: int = 3, where=()) -> list[str]:
    return [one.path for one in index.search(unit(1, 0, 0), limit, where, words=words(text))]


def test_what_only_a_text_says_is_found(index: Index) -> None:
    assert best(index, "anna") == ["/p/Anna.jpg", "/p/00.jpg", "/p/01.jpg"]
    assert best(index, "小明")[0] == "/p/x.jpg"
    assert best(index, "zebra") == best(index, "the") == ["/p/00.jpg", "/p/01.jpg", "/p/02.jpg"]
    assert [one.path for one in index.search(unit(1, 0, 0), 1)] == ["/p/00.jpg"]
    first = index.search(unit(1, 0, 0), 30, words=words("Anna"))
    assert len(first) == len({one.id for one in first}) == 30
    assert first[0].score == pytest.approx(0, abs=1e-6) and 0 < first[0].told <= 1
    assert first[1].told == 0 and first[0].vector is None
    assert index.search(unit(1, 0, 0), 1, vectors=True, words=words("Anna"))[0].vector is not None


def test_a_word_that_stands_everywhere_counts_for_nothing(index: Index) -> None:
    index.add([entry("/p/z.jpg", unit(0, 0, 1), beside="p p p p")])
    assert index.search(unit(1, 0, 0), 1, words=words("jpg"))[0].told == 0
    index.add([entry(f"/q/beach {n}.jpg", unit(1, n, 0)) for n in range(30)])
    rare, common = (index.search(unit(1, 0, 0), 99, words=words(text)) for text in
                    ("anna", "beach"))
    assert max(one.told for one in rare) > 2 * max(one.told for one in common) > 0


def test_filters_hold_for_texts(index: Index) -> None:
    other = [Condition("folder", "=", "/other")]
    assert best(index, "anna", where=other) == ["/p/x.jpg"]
    assert best(index, "小明", where=[Condition("path", "=", "/p/03.jpg")]) == ["/p/03.jpg"]


def test_minus_keeps_a_text_away(index: Index) -> None:
    assert best(index, "harbour -00", 2) == ["/p/01.jpg", "/p/02.jpg"]
    assert len(best(index, "harbour -00", 30)) == 30
    assert best(index, "harbour -00", 30)[-1] == "/p/00.jpg"
    assert best(index, "海 -小明", 2) == ["/p/00.jpg", "/p/01.jpg"]


def test_a_changed_text_replaces_the_old(index: Index) -> None:
    index.add([entry("/p/05.jpg", unit(0.4, 1, 0.05), beside="Zanzibar")])
    assert best(index, "zanzibar")[0] == "/p/05.jpg"
    index.add([entry("/p/05.jpg", unit(0.4, 1, 0.05))])
    assert best(index, "zanzibar")[0] == "/p/00.jpg"
    assert index.delete(["/p/Anna.jpg"]) == 1 and best(index, "anna")[0] == "/p/00.jpg"


def searched(gallery: Gallery, text: str) -> str:
    vector = np.asarray(unit(1, 1, 1))
    return Path(gallery.search(vector, 1, words=words(text))[0].path).name


def filled(folder: Path) -> Path:
    for n in range(6):
        paint(folder / f"{n}.png", n + 1)
    return folder


def test_sidecars_rows_and_names(tmp_path: Path) -> None:
    folder = filled(tmp_path / "photos")
    paint(folder / "Oma Erika" / "a.png", 11)
    write_sidecar(sidecar(folder / "0.png", "txt"), "txt", {"captions": ["Quokka"]})
    write_sidecar(sidecar(folder / "1.png", "json"), "json", {"names": ["Wombat"]})
    write_sidecar(sidecar(folder / "2.png", "xmp"), "xmp", {"captions_zh": ["小熊猫"]})
    (folder / "3.xmp").write_text(XMP, "utf-8")
    rows = [{"file_name": "4.png", "captions": ["Numbat"]},
            {"file_name": "Oma Erika/a.png", "captions": ["Kea"]}]
    (folder / "metadata.jsonl").write_text("no row\n" + "\n".join(map(json.dumps, rows)), "utf-8")
    (folder / "5.png").write_bytes(iptc_jpeg(caption="Dingo", keyword="Outback"))
    (folder / "notes.txt").write_text("Platypus")
    gallery, _ = open_gallery(tmp_path / "store")
    report = index_folders(gallery, [folder], workers=1)
    assert report.added == 7 and report.passed_over == {"txt": 1}
    for text, name in (("quokka", "0.png"), ("wombats", "1.png"), ("熊猫", "2.png"),
                       ("Käthe", "3.png"), ("numbat", "4.png"), ("kea", "a.png"),
                       ("Erika", "a.png"), ("outback", "5.png")):
        assert searched(gallery, text) == name, text


def test_changed_sidecars_are_read_again(tmp_path: Path) -> None:
    folder = filled(tmp_path / "photos")
    gallery, embedder = open_gallery(tmp_path / "store")
    index_folders(gallery, [folder], workers=1)
    before = entries(gallery)
    embedder.names.clear()
    file = sidecar(folder / "3.png", "txt")
    file.write_text("Quokka")
    (folder / "metadata.jsonl").write_text('{"file_name": "4.png", "captions": ["Numbat"]}\n')
    report = index_folders(gallery, [folder], workers=1)
    assert (report.reworded, report.unchanged, report.changed) == (2, 4, 0)
    assert embedder.names == []  # the vectors stay
    after = entries(gallery)
    assert all(np.array_equal(before[name].vector, after[name].vector) for name in before)
    assert searched(gallery, "quokka") == "3.png" and searched(gallery, "numbat") == "4.png"
    assert index_folders(gallery, [folder], workers=1).unchanged == 6
    file.unlink()
    assert index_folders(gallery, [folder], workers=1).reworded == 1
    assert entries(gallery)["3.png"].metadata["beside"] == ""


def test_a_store_from_before_goes_on_and_takes_texts_in(tmp_path: Path) -> None:
    folder = filled(tmp_path / "photos")
    (folder / "5.png").write_bytes(iptc_jpeg(caption="Dingo"))
    (folder / "4.png.txt").write_text("Numbat")
    gallery, _ = open_gallery(tmp_path / "store")
    index_folders(gallery, [folder], workers=1)
    gallery.close()
    table = lancedb.connect(tmp_path / "store").open_table("pictures")
    table.drop_index("words_of_all")
    table.drop_columns(["words", "inside", "beside", "beside_mark"])
    gallery, embedder = open_gallery(tmp_path / "store")
    hits = gallery.search(unit(1, 1, 1), 3, words=words("numbat"))
    assert len(hits) == 3 and gallery.lacks_texts(hits)
    report = index_folders(gallery, [folder], workers=1)
    assert embedder.names == [] and report.unchanged == 6
    assert searched(gallery, "numbat") == "4.png" and searched(gallery, "dingo") == "5.png"
    assert not gallery.lacks_texts(gallery.search(unit(1, 1, 1), 9))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_pipes_and_links_that_lead_out_are_not_read(tmp_path: Path) -> None:
    folder = filled(tmp_path / "photos")
    (tmp_path / "secret").write_text("Quokka")
    os.mkfifo(folder / "0.png.txt")
    (folder / "1.png.txt").symlink_to(tmp_path / "secret")
    (folder / "2.png.json").write_text("[1")
    gallery, _ = open_gallery()
    index_folders(gallery, [folder], workers=1, inside=[folder])
    assert all(one.metadata["beside"] == "" for one in entries(gallery).values())


def test_a_moved_picture_has_the_texts_of_its_new_place(tmp_path: Path) -> None:
    folder = filled(tmp_path / "photos")
    gallery, embedder = open_gallery(tmp_path / "store")
    index_folders(gallery, [folder], workers=1)
    embedder.names.clear()
    shutil.move(folder / "2.png", folder / "Numbat.png")
    (folder / "Numbat.png.txt").write_text("Quokka")
    assert index_folders(gallery, [folder], workers=1).moved == 1 and embedder.names == []
    assert searched(gallery, "quokka") == searched(gallery, "numbat") == "Numbat.png"


def test_why_tells_where_a_word_stands() -> None:
    gallery = Gallery(LanceIndex.open("memory://", STAMP), Colours())
    gallery.index.add([entry("/p/Kyoto 2019/anna_1.jpg", unit(0, 1, 0), inside="<b>Anna</b> lacht",
                             beside="Anna in Kyoto\nsomething else")])
    query = Query.of("Anna kyoto -lacht")
    (hit,) = gallery.search(unit(1, 0, 0), 1, words=query.words)
    assert [(one.source, one.text, one.words) for one in said_of(
        asked_words(query.terms), hit.path, hit.metadata)] == [
        ("name", "anna_1", ("anna",)), ("folder", "Kyoto 2019", ("kyoto",)),
        ("inside", "<b>Anna</b> lacht", ("anna", "lacht")),
        ("beside", "Anna in Kyoto", ("anna", "kyoto"))]
    shown = said_html(query, hit)
    assert "Its file name says: anna_1" in shown and "Its folder is called: Kyoto 2019" in shown
    assert "&lt;b&gt;Anna&lt;/b&gt;" in shown and "something else" not in shown
    assert said_html(Query.of("zebra"), hit) == ""
