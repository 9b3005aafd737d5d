"""How sure a model is of what it wrote, and how far that depends on the picture.

Both follow from each word's probability p with the picture and q with one grey instead. All
functions are pure. Q whole words, K regions.
"""

import math
from collections.abc import Sequence

import numpy as np

from vitdemo.attention.faithfulness import percent
from vitdemo.models.names import named_words
from vitdemo.records import Explanation
from vitdemo.statements import is_no, is_yes
from vitdemo.texts import phrase
from vitdemo.words import is_content_word

# Of the shipped model's 90 captions of photographs that it had not seen (Flickr8k, COCO, English
# and Chinese), people had used 32% of the content words with p below 0.15, 48% of those up to 0.35,
# 64% of those up to 0.7 and 77% of the rest.
UNSURE, SURE = 0.15, 0.5
# Of 35 answers to people's questions, by earlier weights, one of seven below 0.3 was right, six of
# nine up to 0.5, 14 of 19 above.
UNSURE_ANSWER, SURE_ANSWER = 0.3, 0.5
# How many times as high the picture makes the odds p / (1 - p) of the word that it helps most: at
# least 19 in all but one of 90 such captions (9); at most 5 on plain white, grey, black, blue and
# pale pictures, on a gradient, on noise in squares and on fine noise. Words with p below GUESS
# prove nothing.
ODDS, GUESS = 16.0, 0.05
# Of those answers five have 0.5 to 1.8 (yes, no, white: what it would say of any picture), the
# others 3.4 and more.
ODDS_ANSWER = 3.0
# Words from which an answer is a sentence: it could be said in many ways, so how likely this very
# one is says little ("an airplane is flying in the sky" has 0.4%), and each word is judged.
SENTENCE = 4
LEAST_GAIN = 1e-3  # nats; less is the rounding of two equal probabilities
NAMED = 3  # unsure words that the sentence names


def telling_words(explanation: Explanation) -> list[int]:
    """Places of the content words, of all words where there are none; only what was read."""
    read = [place for place in range(len(explanation.words))
            if not (explanation.unread and explanation.unread[place])]
    content = [place for place in read if is_content_word(explanation.words[place].text)]
    return content or read


def first_word(explanation: Explanation) -> int:
    """The word whose map is shown first: the thing that depends most on the picture.

    That is the one with the largest p log(p / q), its part of the divergence of what the model
    says with the picture from what it says without, among the words that depend on it and name a
    thing (`models/names.tsv`); where there is none, among all content words. Where q is not known,
    or the picture makes no word likelier, it is the word with the most concentrated map; -1 where
    no word has a map.
    """
    maps = np.nan_to_num(explanation.mean_map())
    looked = [place for place in telling_words(explanation) if maps[place].sum() > 0]
    if not looked:
        return -1
    if explanation.word_probabilities and explanation.blank_probabilities:
        gain = {place: _gain(explanation, place) for place in looked}
        things = named_words([word.text for word in explanation.words])
        shown = [place for place in looked if place in things and _depends(explanation, place)]
        best = max(shown or looked, key=gain.__getitem__)
        if gain[best] > LEAST_GAIN:
            return best
    return max(looked, key=lambda place: concentration(maps[place]))


def unsure_words(explanation: Explanation) -> list[int]:
    """Places of the content words with a probability below `UNSURE`."""
    sure = explanation.word_probabilities
    return [place for place in telling_words(explanation) if sure and sure[place] < UNSURE]


def depends_on_picture(explanation: Explanation) -> bool:
    """Whether the picture makes the odds of any content word at least `ODDS` (in an answer
    `ODDS_ANSWER`) times as high."""
    if not explanation.blank_probabilities:
        return True  # nothing is known against it
    return any(_depends(explanation, place) for place in telling_words(explanation))


def confidence_sentence(explanation: Explanation, answer: float | None = None,
                        yes_no: Sequence[float] = ()) -> str:
    """One honest line over a text that the model wrote, for a person; "" where nothing is known.

    ``answer`` is the probability of the whole text, where it is an answer; of a `SENTENCE` it says
    little. ``yes_no`` is that of `ModelInfo`: a yes or no is only as good as the model's usual
    ones, however sure it is.
    """
    sure, words = explanation.word_probabilities, telling_words(explanation)
    if not sure or not words:
        return ""
    if answer is not None and yes_no and (is_yes(explanation.text) or is_no(explanation.text)):
        return phrase("sure.yes_no", right=percent(yes_no[0]), blank=percent(yes_no[1]))
    if not depends_on_picture(explanation):
        return phrase("sure.caption_without" if answer is None else "sure.answer_without")
    if answer is not None and len(explanation.words) < SENTENCE:
        how = ("not" if answer < UNSURE_ANSWER else "fairly" if answer < SURE_ANSWER else "quite")
        return phrase(f"sure.answer.{how}", probability=percent(answer))
    unsure = unsure_words(explanation)
    if unsure:
        return phrase("sure.not_of", words=_listed(explanation, unsure))
    least = min(words, key=sure.__getitem__)
    if sure[least] < SURE:
        return phrase("sure.least_of", words=_listed(explanation, [least]))
    return phrase("sure.of_all")


def _listed(explanation: Explanation, places: Sequence[int]) -> str:
    """train (4%), red (8%) and 2 more"""
    named = [phrase("sure.word", word=explanation.words[place].text,
                    probability=percent(explanation.word_probabilities[place]))
             for place in places[:NAMED]]
    more = len(places) - NAMED
    joint = phrase("list.join")
    return phrase("list.more", first=joint.join(named), count=more) if more > 0 \
        else joint.join(named)


def _gain(explanation: Explanation, place: int) -> float:
    p, q = explanation.word_probabilities[place], explanation.blank_probabilities[place]
    return p * math.log(max(p, 1e-12) / max(q, 1e-12))


def _depends(explanation: Explanation, place: int) -> bool:
    p, q = explanation.word_probabilities[place], explanation.blank_probabilities[place]
    least, guess = (ODDS_ANSWER, 0.0) if explanation.source == "answer" else (ODDS, GUESS)
    return p >= guess and _odds(p) >= least * _odds(q)


def _odds(probability: float) -> float:
    kept = min(1 - 1e-6, max(1e-6, probability))
    return kept / (1 - kept)


def concentration(weights: np.ndarray) -> float:
    """How far a map (K,) is from an even one: its divergence in nats."""
    shares = weights[weights > 0] / weights.sum()
    return float((shares * np.log(shares * len(weights))).sum())
