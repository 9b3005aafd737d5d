"""Dates that stand in a search, in English and Chinese."""

import pytest

from vitdemo.errors import TextError
from vitdemo.retrieval.filters import Filters
from vitdemo.retrieval.query import Query
from vitdemo.retrieval.query_dates import split_date


@pytest.mark.parametrize(("text", "words", "date"), [
    ("dogs 2019", "dogs", "2019"), ("beach July 2021", "beach", "2021-07"),
    ("2021 july dogs", "dogs", "2021-07"), ("beach, Sept. 2018", "beach", "2018-09"),
    ("a dog in 2019 on grass", "a dog on grass", "2019"), ("2019-07-31 dogs", "dogs", "2019-07-31"),
    ("dogs from May 2021 -cat", "dogs -cat", "2021-05"), ("2020年7月的海边", "海边", "2020-07"),
    ("在2020年拍的狗", "狗", "2020"), ("2019年7月3日 海边", "海边", "2019-07-03"),
    ("海边2020", "海边", "2020"),
    *((text, text, "") for text in ("people march", "cat -2019", '"2019" sign', "5000 people",
                                    "room 2019a", "2019x100", "12019", "2021-13", "may", "1066"))])
def test_a_date_is_told_from_the_words(text: str, words: str, date: str) -> None:
    assert split_date(text) == (words, date)


def test_a_query_keeps_the_date_apart_and_wants_words() -> None:
    query = Query.of("dogs -cat 2019")
    assert query.date == "2019" and query.text == "dogs -cat"
    assert query.understood() == "“dogs” − “cat”"
    with pytest.raises(TextError, match="2019 says when"):
        Query.of("2019")


@pytest.mark.parametrize(("given", "date", "after", "before"), [
    (Filters(), "2019-07", "2019-07", "2019-07"), (Filters(), "", "", ""),
    (Filters(after="2018", before="2019-03"), "2019", "2019", "2019-03"),
    (Filters(after="2019-02-03"), "2019", "2019-02-03", "2019")])
def test_a_date_narrows_what_the_fields_ask_for(given: Filters, date: str, after: str,
                                                before: str) -> None:
    found = given.within(date)
    assert (found.after, found.before) == (after, before)
