"""A date that stands in a search: "dogs 2019", "beach July 2021", "2020年7月的海边".

It says which pictures are looked through, as no picture shows its year. A month counts beside its
year alone: "may" and "march" are words, too.
"""

import re

_MONTHS = {name: number for number, names in enumerate((
    "january jan", "february feb", "march mar", "april apr", "may", "june jun", "july jul",
    "august aug", "september sept sep", "october oct", "november nov", "december dec"), 1)
    for name in names.split()}
_YEAR = r"(?P<year>(?:19|20)\d\d)"
_NAME = rf"(?P<name>{'|'.join(sorted(_MONTHS, key=len, reverse=True))})\b\.?"
_BEFORE = r"(?:\b(?:in|of|from|during)\s+)?"
_START = r"""(?<![0-9A-Za-z_"“”'‘’+×.,/:-])"""  # a number with a sign or in quotes is no date
_END = r"""(?![0-9A-Za-z_"“”'’×%/:-]|[.,]\d)"""
_FORMS = tuple(re.compile(form, re.IGNORECASE) for form in (
    rf"(?:在|于)?(?<!\d){_YEAR}\s*年\s*(?:(?P<month>1[0-2]|0?[1-9])\s*月(?:份)?(?:\s*(?P<day>"
    r"3[01]|[12]\d|0?[1-9])\s*[日号])?)?(?:\s*(?:拍摄|拍)?的|里|中)?",
    rf"{_BEFORE}{_START}{_NAME},?\s+(?:of\s+)?{_YEAR}{_END}",
    rf"{_BEFORE}{_START}{_YEAR}\s+{_NAME}{_END}",
    rf"{_BEFORE}{_START}{_YEAR}(?:[-/.](?P<month>1[0-2]|0?[1-9])(?:[-/.](?P<day>3[01]|[12]\d|"
    rf"0?[1-9]))?)?{_END}"))


def split_date(text: str) -> tuple[str, str]:
    """A search without its date, and the date: "2019", "2021-07" or "2021-07-15"; "" where there
    is none. The first date counts; a year in quotes or with a sign before it is a word."""
    for form in _FORMS:
        if found := form.search(text):
            parts = found.groupdict()
            month = parts.get("month") or _MONTHS.get((parts.get("name") or "").lower(), "")
            numbers = [f"{int(part):02}" for part in (month, parts.get("day")) if part]
            rest = f"{text[:found.start()].rstrip()} {text[found.end():].lstrip()}"
            return rest.strip(" ,;，；、"), "-".join([parts["year"], *numbers])
    return text, ""
