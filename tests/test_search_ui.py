"""The tab Search without a browser: folders, reading them, pages of hits, links, what is kept."""

import math
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import gradio as gr
import numpy as np
import pytest
from fake_engine import planted_engine
from PIL import Image

from vitdemo.config import LIMITS
from vitdemo.engine import Engine
from vitdemo.errors import PictureError, StoreError
from vitdemo.records import Hit
from vitdemo.retrieval.filters import Filters
from vitdemo.retrieval.indexer import IndexReport, Progress
from vitdemo.retrieval.query import Query
from vitdemo.retrieval.thumbnails import Thumbnails
from vitdemo.retrieval.vanished import Vanished
from vitdemo.retrieval.walk import Skipped
from vitdemo.retrieval.why import Part, Why, WhyNot
from vitdemo.ui import Settings, build_ui
from vitdemo.ui.components import Context
from vitdemo.ui.jobs import Cancelled, Job, duration, followed
from vitdemo.ui.search.fields import filters_of, wish_of
from vitdemo.ui.search.galleries import Galleries, album_of_files, allowed_folder, folders_in
from vitdemo.ui.search.hits import page_html, pager_text, verdict_html
from vitdemo.ui.search.indexing import folder_chips, indexed_html, reading_html
from vitdemo.ui.search.state import HitList, Wish
from vitdemo.ui.search.why import parts_html
from vitdemo.ui.search.why import verdict_html as why_not_html
from vitdemo.ui.session import Sessions


@pytest.fixture(scope="module")
def engine() -> Engine:
    return planted_engine()


def context(engine: Engine, **settings: object) -> Context:
    return Context(engine, Settings(**settings), Sessions(), ())  # type: ignore[arg-type]


def save(path: Path, colour: str = "red", size: tuple[int, int] = (40, 30)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    return path


# Folders

@pytest.fixture
def tree(tmp_path: Path) -> Path:
    save(tmp_path / "in" / "red.png")
    save(tmp_path / "in" / "deep" / "green.png", "green")
    save(tmp_path / "out" / "blue.png", "blue")
    save(tmp_path / "inside-not" / "blue.png", "blue")
    (tmp_path / "in" / ".hidden").mkdir()
    (tmp_path / "in" / "way-out").symlink_to(tmp_path / "out")
    (tmp_path / "in" / "blue.png").symlink_to(tmp_path / "out" / "blue.png")
    return tmp_path


def test_only_allowed_folders_may_be_read(engine: Engine, tree: Path,
                                          monkeypatch: pytest.MonkeyPatch) -> None:
    allowed = context(engine, folders=(tree / "in",))
    assert allowed_folder(allowed, f' "{tree / "in"}" ') == tree / "in"
    assert allowed_folder(allowed, str(tree / "in" / "deep" / "..")) == tree / "in"
    for path in (tree / "out", tree / "in" / ".." / "out", tree / "in" / "way-out",
                 tree / "in" / "way-out" / ".." / "in", tree / "inside-not", tree, Path("/"),
                 Path("/etc"), tree / "in" / "deep" / ".." / ".." / "out"):
        if path == tree / "in" / "way-out" / ".." / "in":
            continue  # lexically that is the allowed folder itself
        with pytest.raises(PictureError, match="--allow-folder"):
            allowed_folder(allowed, str(path))
    monkeypatch.chdir(tree / "in")
    with pytest.raises(PictureError, match="--allow-folder"):
        allowed_folder(allowed, "../out")
    with pytest.raises(PictureError, match="Type the path"):
        allowed_folder(allowed, "  ")
    with pytest.raises(PictureError, match="not a folder"):
        allowed_folder(allowed, str(tree / "in" / "red.png"))
    with pytest.raises(PictureError, match="no path can hold"):
        allowed_folder(allowed, "a\0b")
    with pytest.raises(PictureError, match=r"may be searched \(–\)"):
        allowed_folder(context(engine), str(tree / "in"))


def test_a_link_within_an_allowed_folder_lets_nothing_in(engine: Engine, tree: Path) -> None:
    galleries = Galleries(context(engine, folders=(tree / "in",)))
    report, count = galleries.index([tree / "in"], lambda now: None, lambda: False)
    assert count == 2
    assert report.added == 2
    held = [Path(hit.path).name for hit in galleries.gallery("folder").search_text("blue", 12)]
    assert sorted(held) == ["green.png", "red.png"]
    assert {Path(one.path).name for one in report.skipped} == {"way-out", "blue.png"}
    page = indexed_html(report, 2, lasting=False)
    assert "<strong>2 pictures to search</strong>" in page and "--store" in page
    assert "blue.png: It leads out" in page


def test_on_a_shared_app_there_is_no_library(engine: Engine) -> None:
    with pytest.raises(StoreError, match="only uploaded"):
        Galleries(context(engine, shared=True)).index([], lambda now: None, lambda: False)


def test_a_shared_app_offers_no_folders_and_ones_own_does(engine: Engine, tree: Path) -> None:
    def offered(settings: Settings) -> list[str]:
        blocks = build_ui(engine, settings)
        radio = next(block for block in blocks.blocks.values()
                     if getattr(block, "elem_id", "") == "search-source")
        return [value for _, value in radio.choices]

    assert offered(Settings(shared=True)) == ["uploads"]
    assert offered(Settings(shared=True, store=str(tree / "store"))) == ["uploads"]
    assert offered(Settings()) == ["uploads"]
    assert offered(Settings(store=str(tree / "store")))[-1] == "folder"
    assert offered(Settings(folders=(tree / "in",))) == ["uploads", "folder"]


def test_the_app_says_how_a_folder_is_named(engine: Engine, tree: Path) -> None:
    def told(settings: Settings) -> str:
        return next(str(block.info or "") for block in build_ui(engine, settings).blocks.values()
                    if getattr(block, "elem_id", "") == "search-source")

    assert "--allow-folder ~/Pictures" in told(Settings())
    assert told(Settings(folders=(tree / "in",))) == told(Settings(shared=True)) == ""


def test_folders_to_choose_from_are_allowed_ones(engine: Engine, tree: Path) -> None:
    allowed = context(engine, folders=(tree / "in",))
    assert folders_in(allowed, "") == [str(tree / "in")]
    assert folders_in(allowed, str(tree / "in")) == [str(tree / "in" / "deep")]
    assert folders_in(allowed, str(tree / "in" / "deep")) == [str(tree / "in")]
    assert folders_in(allowed, str(tree / "out")) == [str(tree / "in")]
    made = folder_chips(["/a/<b>", "/"])
    assert "&lt;b&gt;" in made and 'data-index="1"' in made and ">/</button>" in made
    assert folder_chips([]) == ""


def test_a_store_lasts_and_is_shared_by_all_folders(engine: Engine, tree: Path) -> None:
    settings = {"folders": (tree,), "store": str(tree / "store")}
    first = Galleries(context(engine, **settings))
    first.index([tree / "in"], lambda now: None, lambda: False)
    first.index([tree / "out"], lambda now: None, lambda: False)
    again = Galleries(context(engine, **settings))
    assert again.lasting and again.gallery("folder").count() >= 3
    report, _ = again.index([tree / "in"], lambda now: None, lambda: False)
    assert report.added == report.changed == 0 and report.unchanged >= 2


# Work that takes long

def test_a_followed_work_tells_and_gives_its_result() -> None:
    job: Job[int] = Job()
    gates = [threading.Event() for _ in range(3)]

    def work() -> str:
        for number, gate in enumerate(gates):
            job.tell(number)
            assert gate.wait(10)
        return "done"

    told: list[int] = []

    def watch() -> Iterator[int]:
        told.append(-1 if (yield from followed(job, work, int, 0.01)) == "done" else -2)

    for number in watch():
        told.append(number)
        assert job.running
        gates[number].set()
    assert told.pop() == -1
    assert told == [0, 1, 2] and not job.running


def test_a_stopped_work_ends_soon_and_so_does_one_that_is_left() -> None:
    for leave in (False, True):
        job: Job[int] = Job()
        count = 0

        def work(job: Job[int] = job) -> None:
            nonlocal count
            while True:
                count += 1
                job.tell(count)
                time.sleep(0.005)

        steps = followed(job, work, int, 0.01)
        next(steps)
        if leave:
            steps.close()
        else:
            job.stop()
            with pytest.raises(Cancelled):
                for _ in steps:
                    pass
        before = count
        time.sleep(0.05)
        assert count == before and not job.running


def test_times_are_in_plain_words() -> None:
    assert [duration(seconds) for seconds in (3, 42, 200, 8000)] == [
        "a few seconds", "about 40 seconds", "about 3 minutes", "about 2 hours"]
    assert reading_html(Progress(120, 5000, 14.2, 343.0, "a<b>.jpg", 0)).count("<b>") == 0
    text = reading_html(Progress(120, 5000, 14.2, 343.0, "a.jpg", 0))
    assert "Read 120 of 5,000 pictures · 14.2 a second · about 6 minutes left" in text
    assert 'value="120" max="5000"' in text
    looking = reading_html(Progress(70, 0, 0.0, None, "/photos", 0))
    assert "70 pictures so far" in looking and "max=" not in looking


def test_a_cancelled_reading_says_that_it_goes_on_from_there() -> None:
    report = IndexReport(("/a",), 3, 0, 1, 2, 10, (Skipped("/a/<x>.jpg", "It is broken."),), 5,
                         1.5, True)
    page = indexed_html(report, 99, lasting=True)
    assert "Cancelled: <strong>14 of the pictures" in page and "goes on from there" in page
    assert "3 new, 1 moved, 2 gone, 10 as before" in page and "--store" not in page
    assert "&lt;x&gt;.jpg: It is broken." in page and "there are 99" in page


def test_what_vanished_is_asked_about_and_what_was_passed_over_is_told() -> None:
    gone = (Vanished("/a/<b>", 6, 6, "/a/<b> is empty"),
            *(Vanished(f"/a/{number}", 1, 1, "") for number in range(9)))
    report = IndexReport(("/a",), 0, 0, 0, 0, 0, (), 4, 1.5, False,
                         passed_over={"nef": 3, "txt": 1}, vanished=gone)
    page = indexed_html(report, 15, lasting=True)
    assert "15 pictures that could be searched before are not there any more" in page
    assert "/a/&lt;b&gt;: 6 of 6 pictures (/a/&lt;b&gt; is empty)" in page and "and 5 more" in page
    assert "press “Take them out”" in page and "With other folders" not in page
    assert "3 NEF" in page and "1 TXT" in page


def test_the_question_is_about_what_vanished_and_no_more(engine: Engine, tmp_path: Path) -> None:
    """The handlers of Read folder and of Take them out, as Gradio calls them."""
    for name, colour in (("a/1", "red"), ("a/2", "green"), ("a/in/3", "blue"), ("b/4", "white")):
        save(tmp_path / f"{name}.png", colour)
    blocks = build_ui(engine, Settings(folders=(tmp_path,)))
    ask, take = (next(fn for fn in blocks.fns.values() if fn.name == name)
                 for name in ("read_folder", "take_out"))
    request = gr.Request(session_hash="one")
    job: Job[Progress] = Job()

    def last(steps: Iterator[tuple[object, ...]]) -> tuple[object, ...]:
        return list(steps)[-1]

    assert last(ask.fn(request, str(tmp_path), job))[4] == ()
    (tmp_path / "a" / "in" / "3.png").unlink()
    (tmp_path / "b" / "4.png").unlink()
    status, _, _, button, asked = last(ask.fn(request, str(tmp_path / "a"), job))
    assert "Take them out" in str(status) and button["visible"]  # type: ignore[index]
    assert asked == (str(tmp_path / "a" / "in"),)
    status, _, _, button, left = last(take.fn(request, asked, job))
    assert "1 gone" in str(status) and not button["visible"] and left == ()  # type: ignore[index]
    left = last(ask.fn(request, str(tmp_path), job))[4]
    assert left == (str(tmp_path / "b"),)


# Pages of hits

@pytest.fixture
def hits(engine: Engine, tmp_path: Path) -> Iterator[HitList]:
    """Forty pictures, ever less red."""
    gallery = engine.gallery()
    paths = [save(tmp_path / f"{n:02}.png", (255 - 5 * n, 3 * n, 0)) for n in range(40)]
    made = album_of_files(engine, [str(path) for path in paths], "a test")
    found = HitList()
    found.begin(made.opened(), Query.of("red"), Filters(), Wish())
    yield found
    made.close()
    gallery.close()


def stems(hits: list[Hit]) -> list[int]:
    return [int(Path(hit.path).stem) for hit in hits]


def test_pages_follow_each_other_without_gap_or_repeat(hits: HitList) -> None:
    seen = []
    for page in (1, 2, 3, 4):
        assert hits.page == page
        seen += stems([group[0] for group in hits.shown()])
        assert hits.more() == (page < 4)
        hits.turn(page + 1)
    assert hits.page == 4 and sorted(seen) == list(range(40))
    assert seen[:3] == [0, 1, 2]
    hits.turn(-5)
    assert hits.page == 1


def test_another_size_keeps_the_first_hit_on_screen(hits: HitList) -> None:
    hits.turn(3)
    first = hits.shown()[0][0].id
    hits.change(Wish(24))
    assert hits.page == 2 and hits.shown()[0][0].id == first


def firsts(hits: HitList) -> list[int]:
    return stems([group[0] for group in hits.shown()])


def test_the_order_on_screen_stays_until_another_is_asked_for(hits: HitList) -> None:
    assert hits.wants_second_look() and firsts(hits)[0] == 0
    hits.looked_at([replace(hit, match=0.9) for hit in reversed(hits.hits)])
    assert firsts(hits) == list(range(12)) and hits.moved() == 12
    assert hits.fitting() is None  # this model cannot tell
    assert "12 changed places: show" in verdict_html(hits)
    hits.accept()
    assert firsts(hits) == list(range(39, 27, -1)) and hits.moved() == 0
    hits.turn(2)
    hits.change(replace(hits.wish, size=24))
    assert hits.accepted and firsts(hits)[0] == 39
    hits.change(replace(hits.wish, second=False))
    assert firsts(hits)[0] == 0 and not hits.wants_second_look()


def test_it_is_said_that_nothing_fits_and_which_hits_do(hits: HitList) -> None:
    hits.looked_at([replace(hit, match=0.5, fits=False) for hit in reversed(hits.hits)])
    assert hits.fitting() == 0
    said = verdict_html(hits)
    assert "Nothing here seems to fit “red”" in said and "changed" not in said
    assert "Fits less" in page_html(hits, Thumbnails(), why=True, versus=True)
    hits.looked_at([replace(hit, match=0.9, fits=place < 2) for place, hit in
                    enumerate(hits.hits)])
    assert "2 pictures seem to fit" in verdict_html(hits)
    assert page_html(hits, Thumbnails(), why=True, versus=True).count(">Fits<") == 2


def test_the_newest_of_those_that_fit_come_first(hits: HitList) -> None:
    dated = [replace(hit, metadata={"day": f"20{place + 10}-01-01"}) for place, hit in
             enumerate(hits.hits)]
    hits.hits = dated
    hits.change(Wish(newest=True))
    assert firsts(hits)[:2] == [39, 38]
    hits.looked_at([replace(hit, match=0.9, fits=place < 3) for place, hit in enumerate(dated)])
    assert firsts(hits)[:2] == [39, 38] and hits.moved() == 12
    hits.accept()
    assert firsts(hits)[:4] == [2, 1, 0, 3]


def test_almost_the_same_hits_stand_as_one_until_they_are_asked_for(engine: Engine,
                                                                    tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    scene = Image.fromarray(pixels).resize((320, 240), Image.Resampling.NEAREST)
    paths = [str(tmp_path / name) for name in ("a.png", "b.png", "c.png")]
    for path, image in zip(paths, (scene, scene.resize((160, 120)), scene.rotate(180)),
                           strict=True):
        image.save(path)
    made = album_of_files(engine, paths, "a test")
    hits = HitList(Thumbnails().hash_of)
    hits.begin(made.opened(), Query.of("red"), Filters(), Wish())
    assert sorted(map(len, hits.shown())) == [1, 2]
    pair = next(group for group in hits.shown() if len(group) == 2)
    assert "1 more almost the same" in page_html(hits, Thumbnails(), why=True, versus=True)
    hits.unfold(pair[0].id)
    assert sorted(map(len, hits.shown())) == [1, 1, 1]
    made.close()


def test_a_date_among_the_words_is_a_filter_that_can_be_taken_away(hits: HitList) -> None:
    assert hits.gallery is not None
    hits.begin(hits.gallery, Query.of("red 1999"), Filters(min_width=1), Wish())
    page = page_html(hits, Thumbnails(), why=True, versus=True)
    assert "“red”" in page and 'data-act="undate"' in page and "1999 <span" in page
    assert not hits.hits and hits.filters == Filters(after="1999", before="1999", min_width=1)
    again = hits.again(replace(hits.query, date=""))
    assert len(again.hits) == 40 and again.query.text == "red"
    assert again.filters == Filters(min_width=1)


def test_more_like_this_keeps_the_conditions(hits: HitList) -> None:
    from vitdemo.preprocess import open_picture

    assert hits.gallery is not None
    hits.begin(hits.gallery, Query.of("red"), Filters(min_width=1), Wish(24))
    hit = hits.hits[-1]
    hits = hits.again(Query.of(picture=open_picture(hit.path), picture_label="the picture “x”"))
    assert hits.hits[0].id == hit.id and hits.filters == Filters(min_width=1)
    assert hits.wish.size == 24 and "Looked for: the picture “x”" in page_html(
        hits, Thumbnails(), why=False, versus=False)


def test_what_is_not_there_is_said(hits: HitList) -> None:
    with pytest.raises(StoreError, match="no longer on the screen"):
        hits.hit("nothing")
    with pytest.raises(StoreError, match="Search for something first"):
        HitList().turn(1)
    with pytest.raises(StoreError, match="Search for something first"):
        HitList().again(Query.of("red"))
    assert not HitList().shown() and pager_text(HitList()) == ""
    assert hits.gallery is not None
    hits.begin(hits.gallery, Query.of("red"), Filters(min_width=999), Wish())
    page = page_html(hits, Thumbnails(), why=True, versus=True)
    assert "No picture fits these conditions" in page and "999 to … pixels wide" in page


def test_the_day_of_a_file_is_told_where_days_matter(hits: HitList) -> None:
    assert "(of the file)" not in page_html(hits, Thumbnails(), why=True, versus=True)
    hits.groups[0][0].metadata.update(day="2020-02-02", dated="original")
    assert "2020-02-02 (taken)" in page_html(hits, Thumbnails(), why=True, versus=True)
    hits.change(Wish(newest=True))
    assert "(of the file)" in page_html(hits, Thumbnails(), why=True, versus=True)


def test_hits_are_named_safely_and_told_by_their_ids(hits: HitList) -> None:
    first = hits.shown()[0][0]
    hits.groups[1] = [Hit('"><b>', "/nowhere/${alert(1)}<b>.png", 0.25, 4, 3, {}, 0.5)]
    hits.chosen = first.id
    page = page_html(hits, Thumbnails(), why=True, versus=True)
    assert "<b>" not in page and "no longer there" in page and "Similarity 0.25" in page
    assert "Fits: 50%" in page
    assert f'data-id="{first.id}" data-act="why" type="button" aria-pressed="true"' in page
    assert page.count('data-act="like"') == 12
    assert page.count('data-act="versus"') == 11  # nothing stands before the first
    plain = page_html(hits, Thumbnails(), why=False, versus=False, only=3)
    assert '<button type="button" class="vt-hit"' not in plain and "versus" not in plain
    assert plain.count("<img") == 2 and plain.count("vt-gone") == 10  # one of the three is gone
    hits.turn(2)
    second = page_html(hits, Thumbnails(), why=True, versus=True)
    assert '<ol class="vt-hits" start="13">' in second and "Pictures 13 to 24." in second
    assert second.count('data-act="versus"') == len(hits.shown())
    assert "Page 2" in pager_text(hits)


# The fields

def test_fields_become_filters() -> None:
    assert filters_of(["", None, "", None, 0, None, None, "any", ""]) == Filters()
    given = [" /a ", "2024", "2025", 100, None, 0, 50, "portrait", " Canon ", True, 24, False]
    assert filters_of(given) == Filters("/a", "2024", "2025", 100, 0, 0, 50, "portrait", "Canon")
    assert wish_of(given) == Wish(24, second=False, newest=True)
    assert wish_of([*given[:10], 9999, True]) == Wish(12, newest=True)


# Words' parts, groups, tables

def test_parts_are_bars_to_both_sides() -> None:
    found = Why(0.3, (Part("<dog>", 1, 0.2), Part("indoor", -0.5, -0.1), Part("x", 1, math.nan)))
    made = parts_html(found, Hit("1", "/a.png", 0.3, 4, 3, {}, 0.87))
    assert "&lt;dog&gt;" in made and "+0.200" in made and "−0.100" in made and "87%" in made
    assert "−0.5 × indoor" in made and "do not add up" in made
    assert "margin-left:50.0%;width:50.0%" in made and "margin-left:25.0%;width:25.0%" in made
    assert "all</span>" in made


@pytest.mark.parametrize(("changes", "said"), [
    ({"held": False}, "b.png is not among the pictures that were searched."),
    ({"misfits": ("it is portrait",)}, "left out: it is portrait."),
    ({"place": 37}, "stands at place 37."), ({"looked": 1000}, "not among the first 1,000.")])
def test_the_verdict_says_what_keeps_a_picture_back(changes: dict[str, object], said: str) -> None:
    ours, theirs = Why(0.3, (Part("dog", 1, 0.2),)), Why(0.1, (Part("dog", 1, -0.05),))
    found = replace(WhyNot(ours, theirs, True, 0, 0, ()), **changes)  # type: ignore[arg-type]
    made = why_not_html(found, Hit("1", "/a.png", 0.3, 4, 3), "b.png")
    assert said in made and "0.200 less than the hit" in made and "−0.050" in made


def test_reading_folders_never_takes_a_place_of_those_who_search(engine: Engine,
                                                                 tree: Path) -> None:
    blocks = build_ui(engine, Settings(folders=(tree / "in",)))
    groups = {fn.concurrency_id for fn in blocks.fns.values()}
    assert {"model", "index", "files"} <= groups
    assert LIMITS.max_hits >= 1000


def test_a_second_search_gets_its_second_look_though_the_first_ones_is_under_way(
        engine: Engine) -> None:
    blocks = build_ui(engine)
    looks = [fn for fn in blocks.fns.values()
             if fn.trigger_after is not None and (fn.name or "").endswith("look")]
    # words, sample, link, picture, more like this, date, two pages, how they are shown,
    # unfold, order
    assert len(looks) == 11
    assert all(fn.trigger_mode == "multiple" for fn in looks)
