"""The names head: which of some hundred everyday things are in a picture, and where.

The vision backbone was once trained to tell the 1,000 classes of ImageNet apart; a linear map reads
them from its features still. `names.tsv` beside this file says which classes mean which word, in
English and Chinese, and from which probability on the word is sure.

Shapes: P pictures, N regions, C channels of the backbone, K classes, W names.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitdemo.models.pointer import ENTRIES, LEAST, Names
from vitdemo.models.regions import blend
from vitdemo.tokens import TextTokenizer
from vitdemo.words import content_words

CLASSES = 1000  # of ImageNet, in the order of its synset ids
MOST_NAMES = 2  # of a picture that are called sure
LONGEST = 4  # pieces of a name that can be copied
SHOWN = 0.1  # the least probability of a class in a picture that stands for it
NEVER = 1.0  # the threshold of a name that is shown by no probability




@dataclass(frozen=True)
class Name:
    """One row of `names.tsv`. ``forms`` are what counts as saying it, by language, the word itself
    first. ``floor``: the probability that its classes have together in a picture without it;
    ``threshold``: what must be left above the floor for the name to be sure, 0..1."""

    words: dict[str, str]
    classes: tuple[int, ...]
    forms: dict[str, tuple[str, ...]]
    floor: float
    threshold: float


@functools.cache
def read_names() -> tuple[Name, ...]:
    """The names that are known, in the order of the file."""
    text = resources.files("vitdemo.models").joinpath("names.tsv").read_text(encoding="utf-8")
    return tuple(parse_name(line) for line in text.splitlines()[1:])


def parse_name(line: str) -> Name:
    """A line of `names.tsv`: English, Chinese, classes ("7 151-268"), English and Chinese forms
    with | between, floor, threshold."""
    english, chinese, classes, forms, forms_zh, floor, threshold = line.split("\t")
    spans = [[int(end) for end in part.split("-")] for part in classes.split()]
    return Name({"en": english, "zh": chinese},
                tuple(i for span in spans for i in range(span[0], span[-1] + 1)),
                {"en": tuple(forms.split("|")), "zh": tuple(forms_zh.split("|"))},
                float(floor), float(threshold))


class NamesHead(nn.Module):
    """A linear map from features to class logits: of their mean for what is there, of each region
    for where it is (Zhou et al. 2016, "Learning Deep Features for Discriminative Localization",
    eq. 2)."""

    prototypes: Tensor

    def __init__(self, channels: int, grid: tuple[int, int], embedding_width: int) -> None:
        super().__init__()
        self.grid = grid
        self.register_buffer("prototypes", torch.zeros(CLASSES, embedding_width))
        self.classes = nn.Linear(channels, CLASSES)
        self.forms: Tensor | None = None  # (2, W, 2, L) token ids, by language; see `learn_forms`
        self.starts: Tensor | None = None  # (2,)
        self._vowels: set[int] = set()  # tokens that English names with a vowel begin with

    def learn_forms(self, tokenizer: TextTokenizer) -> None:
        """Keep how the names are written, in English also the plural: what a tokenizer does not
        know, or takes more than `LONGEST` pieces for, cannot be copied."""
        rows: list[list[int]] = []
        for language in ("en", "zh"):
            texts = [_forms_of(name, language) for name in read_names()]
            flat = [text for pair in texts for text in pair]
            ids = tokenizer.batch_pieces(flat)
            self._vowels |= {row[0] for row, text in zip(ids, flat, strict=True)
                             if text[:1] in tuple("aeiou")}
            rows += [[] if tokenizer.unknown in row or len(row) > LONGEST else list(row)
                     for row in ids]
        padded = torch.full((len(rows), LONGEST), -1)
        for i, row in enumerate(rows):
            padded[i, :len(row)] = torch.tensor(row, dtype=torch.long)
        self.forms = padded.view(2, len(read_names()), 2, LONGEST)
        self.starts = torch.tensor([tokenizer.language_start[x] for x in ("en", "zh")])

    def vowel(self, form: Sequence[int]) -> bool:
        """Whether a written form begins with a vowel."""
        return form[0] in self._vowels

    @torch.no_grad()
    def nameable(self, features: Tensor) -> Names | None:
        """What a decoder may copy of each picture (P, N, C): its likeliest names."""
        if self.forms is None or self.starts is None:
            return None
        chances = self.probabilities(features, read_names())  # (P, W)
        best, place = chances.topk(ENTRIES // 2)
        best = best * (best >= LEAST)
        device = features.device
        ids = self.forms.to(device)[:, place].transpose(0, 1).flatten(2, 3)  # (P, 2, E, L)
        return Names(ids, best.repeat_interleave(2, 1), self.starts.to(device))

    @torch.no_grad()
    def learn_prototypes(self, chances: Tensor, vectors: Tensor) -> None:
        """Keep, of each class, where pictures of it are found: the sum of the search vectors (P, E)
        of pictures, less their mean, by its probability there (P, K), where that is at least
        `SHOWN` (prototypes: Snell, Swersky, Zemel 2017, eq. 1)."""
        away = vectors - vectors.mean(0)
        self.prototypes.copy_((chances * (chances >= SHOWN)).T @ away / len(vectors))

    def towards(self, texts: Sequence[str], z: Tensor) -> Tensor:
        """Search vectors (M, E) of texts, those of texts that only name things moved towards where
        pictures of these are: a name that few captions hold is seen better than read."""
        moved = []
        for place, text in enumerate(texts):
            words = content_words(text)
            named = named_words(words)
            if not named or len(named) < len(words) or len(words) > MOST_NAMES:
                continue
            where = torch.stack([F.normalize(self.prototypes[list(name.classes)].sum(0), dim=0)
                                 for name in named.values()]).sum(0)
            moved.append((place, where))
        if not moved:
            return z
        z = z.clone()
        for place, where in moved:
            z[place] = F.normalize(z[place] + where.to(z), dim=0)
        return z

    def chances(self, features: Tensor) -> Tensor:
        """(P, N, C) to the probability of each class: (P, K)."""
        return self.classes(features.mean(1)).float().softmax(-1)

    def probabilities(self, features: Tensor, names: Sequence[Name]) -> Tensor:
        """(P, N, C) to the probability of each name above its floor: (P, W), 0..1."""
        classes = self.chances(features)
        floors = classes.new_tensor([name.floor for name in names])
        return (summed(classes, names) - floors).clamp(min=0)

    def sure(self, features: Tensor) -> list[tuple[Name, ...]]:
        """The names that each picture (P, N, C) surely has, at most `MOST_NAMES`, the likeliest
        first. Of two that share a class the narrower one counts: a duck is also a bird."""
        names = read_names()
        chances = self.probabilities(features, names).tolist()
        return [pick([(name, chance) for name, chance in zip(names, row, strict=True)
                      if name.threshold <= chance and name.threshold < NEVER])
                for row in chances]

    def maps(self, features: Tensor, names: Sequence[Name]) -> Tensor:
        """Where each name is: (P, N, C) to (P, W, N), adding up to 1 over the regions.

        Of a name with several classes each counts as it does in the whole picture.
        """
        each = blend(self.classes(features).float(), self.grid)  # (P, N, K)
        whole = self.classes(features.mean(1)).float()  # (P, K)
        found = []
        for name in names:
            places = list(name.classes)
            share = whole[:, places].softmax(-1)
            found.append((each[:, :, places] * share[:, None]).sum(-1))  # (P, N)
        return torch.stack(found, 1).softmax(-1)


def _forms_of(name: Name, language: str) -> tuple[str, str]:
    """A name's word and, in English, its plural; "" where there is none."""
    word = name.forms[language][0]
    plurals = [form for form in name.forms[language][1:]
               if form.endswith("s") and form[:3] == word[:3]] if language == "en" else []
    return word, plurals[0] if plurals else ""


def summed(classes: Tensor, names: Sequence[Name]) -> Tensor:
    """Probabilities of classes (P, K) to those of names (P, W)."""
    places, owners = zip(*((place, w) for w, name in enumerate(names) for place in name.classes),
                         strict=True)
    sums = classes.new_zeros(len(classes), len(names))
    return sums.index_add(1, torch.tensor(owners, device=classes.device), classes[:, list(places)])


def pick(sure: Sequence[tuple[Name, float]]) -> tuple[Name, ...]:
    """At most `MOST_NAMES` of these names, that share no class, the likeliest first."""
    narrow = [(name, chance) for name, chance in sure if not any(
        set(other.classes) < set(name.classes) for other, _ in sure)]
    kept: list[Name] = []
    for name, _ in sorted(narrow, key=lambda one: one[1], reverse=True):
        if all(set(name.classes).isdisjoint(other.classes) for other in kept):
            kept.append(name)
    return tuple(kept[:MOST_NAMES])


@functools.cache
def _by_form() -> dict[str, Name]:
    """The name of each form; of several that have it, that which it is the word of, else the
    first."""
    found: dict[str, Name] = {}
    for name in read_names():
        for forms in name.forms.values():
            found.update((form, name) for form in forms if form not in found)
    for name in read_names():
        found.update((forms[0], name) for forms in name.forms.values())
    return found


def named_words(words: Sequence[str]) -> dict[int, Name]:
    """Which of these words name something that the head knows, by their place."""
    names = ((place, _by_form().get(word.lower())) for place, word in enumerate(words))
    return {place: name for place, name in names if name is not None}
