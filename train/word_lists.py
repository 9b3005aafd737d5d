"""Reads lists of words, which are data files beside the code that uses them."""

from importlib import resources


def word_lists(package: str, file: str) -> dict[str, dict[str, tuple[str, ...]]]:
    """Lists by name, in the order of the file; each has words or groups, and of each the words
    that belong to it. A line is LIST, WORD and others with | between, parted by tabs."""
    found: dict[str, dict[str, tuple[str, ...]]] = {}
    text = resources.files(package).joinpath(file).read_text(encoding="utf-8")
    for line in text.splitlines():
        name, word, others = line.split("\t")
        found.setdefault(name, {})[word] = tuple(filter(None, others.split("|")))
    return found
