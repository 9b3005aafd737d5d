"""How far a map can be trusted, in one of six verdicts and in plain words.

The numbers come from `vitdemo.attention.deletion`; here they are judged and said. All functions are
pure. Q whole words, K regions.
"""

from collections.abc import Sequence

import numpy as np

from vitdemo.records import VERDICTS, Evidence, Explanation, PictureShare
from vitdemo.texts import joined, phrase

STEPS = (0.0, 0.25, 0.5, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0)  # shares of the regions that are blurred
ORDERS = 6  # random orders that a map is held against

ANYWAY = 0.8  # of its probability: what a word keeps that does not need the picture
STRONG_GAIN, SOME_GAIN = 0.15, 0.05  # see `judge`
WINS, SPREADS = 0.9, 1.5
CENTRE = -1  # stands for the centre among the places of words

HOT, ALWAYS_WORDS, ALWAYS_SHARE, FEWEST_WORDS = 2.0, 0.8, 0.05, 3  # see `always_on`

# What a verdict is about, by the source of the text.
_SUBJECT = {"answer": "answer", "question": "answer", "text": "sentence"}


def judge(deletion: float, insertion: float, random_deletion: Sequence[float] | np.ndarray,
          random_insertion: Sequence[float] | np.ndarray, probability: float,
          blank: float, controls: Sequence[tuple[float, float]] = ()) -> str:
    """One of `VERDICTS`, from the areas of a map, those of random orders, the word's probability
    on the whole and on the blank picture, and the areas of what else the map must beat: (deletion,
    insertion) of the centre and of other words' maps; all 0..1.

    "language": the blank picture leaves at least `ANYWAY` (four fifths) of the probability, so no
    map can show much: the word does not come from the picture.
    Otherwise two things count. *Wins*: the share of random orders whose deletion area is larger
    than the map's, and of those whose insertion area is smaller (a tie is half a win); 0.5 is
    chance. *Gain*: how much better the two areas are than the random orders' mean, as a share of
    what the picture gives the word: ((mean random deletion - deletion) + (insertion - mean random
    insertion)) / 2 / (probability - blank). It is 0 for chance; a map cannot reach 1.
    Neither says anything unless the advantage (the gain, not yet divided) is at least `SPREADS`
    times the random orders' own spread, the root of their mean squared advantage.
    "strong": at least `WINS` in each direction, and a gain of at least `STRONG_GAIN`: the effect is
    not only sure but large. "some": at least `WINS` in the mean of both directions, and a gain of
    at least `SOME_GAIN`. "worse" is the mirror of "some": the orders win as often against the map,
    and the gain is as far below 0. Else "chance". On a planted model about one in ten maps drawn at
    random is called better than chance, and one in ten worse (`tests/test_faithfulness.py`).
    What would be "strong" or "some" is "shared" where the map does not beat every control, by a
    gain over it of at least `SOME_GAIN`.
    """
    if blank >= ANYWAY * probability:
        return "language"
    drawn_deletion, drawn_insertion = np.asarray(random_deletion), np.asarray(random_insertion)
    wins = (_wins(drawn_deletion - deletion), _wins(insertion - drawn_insertion))
    advantage = (float(drawn_deletion.mean() - drawn_insertion.mean()) + insertion - deletion) / 2
    spread = float(np.sqrt(np.mean((drawn_insertion - drawn_deletion) ** 2))) / 2
    if abs(advantage) < SPREADS * spread:
        return "chance"
    gain = advantage / (probability - blank)
    both = sum(wins) / 2
    if both >= WINS and gain >= SOME_GAIN:
        if not all(_beats((deletion, insertion), one, probability - blank) for one in controls):
            return "shared"
        return "strong" if min(wins) >= WINS and gain >= STRONG_GAIN else "some"
    if both <= 1 - WINS and gain <= -SOME_GAIN:
        return "worse"
    return "chance"


def unbeaten(evidence: Evidence) -> tuple[int, ...]:
    """What the word's map does not beat: `CENTRE`, and places of other words."""
    own, given = ((evidence.deletion.area, evidence.insertion.area),
                  evidence.probability - evidence.blank)
    controls = {CENTRE: (evidence.centre_deletion, evidence.centre_insertion),
                **{one.word: (one.deletion, one.insertion) for one in evidence.others}}
    return tuple(place for place, areas in controls.items() if not _beats(own, areas, given))


def _beats(own: tuple[float, float], control: tuple[float, float], given: float) -> bool:
    """By (deletion, insertion) areas, and what the picture gives the word."""
    return control[0] - own[0] + own[1] - control[1] >= 2 * SOME_GAIN * given


def _wins(ahead: np.ndarray) -> float:
    """The share of values above 0, a 0 (up to rounding) counting half."""
    tie = np.abs(ahead) < 1e-7
    return float(np.where(tie, 0.5, ahead > 0).mean())


def evidence_sentence(evidence: Evidence) -> str:
    """The verdict for a person who knows nothing of attention: a badge on the map."""
    assert evidence.verdict in VERDICTS, evidence.verdict
    verdict, subject = evidence.verdict, _SUBJECT.get(evidence.source, "word")
    if verdict in ("strong", "some"):
        return phrase(f"evidence.{verdict}.{'own' if evidence.others else subject}")
    if verdict != "shared":
        return phrase(f"evidence.{verdict}.{subject}")
    places = unbeaten(evidence)
    words = [phrase("evidence.quoted", word=one.text) for one in evidence.others
             if one.word in places]
    kind = "both" if words and CENTRE in places else "words" if words else "centre"
    return phrase(f"evidence.shared.{kind}.{subject}", words=phrase("list.join").join(words))


def said_anyway(probability: float, blank: float) -> bool:
    """Whether a grey picture leaves a word at least `ANYWAY` (four fifths) of its probability."""
    return blank >= ANYWAY * probability


def share_sentence(share: PictureShare, word: int) -> str:
    """How much the picture counted for one word (counted from 0), for a person."""
    if share.unread and share.unread[word]:
        return phrase(f"unread.{share.unread[word]}.word")
    before, after = (percent(values[word]) for values in (share.probability, share.blank))
    kind = "answer" if share.source == "question" else "word"
    if share.source == "text":
        key = "share.sentence"
    elif share.anyway[word]:
        key = f"share.anyway.{kind}"
    elif said_anyway(share.probability[word], share.blank[word]):
        key = "share.weighed"
    else:
        key = f"share.likely.{kind}"
    said = [phrase(key, before=before, after=after, other=share.unseen)]
    if np.isfinite(share.attention[word]):
        said.append(phrase("share.attention", share=percent(share.attention[word])))
    if np.isfinite(share.gate):
        said.append(phrase("share.gate", share=percent(share.gate)))
    return joined(said)


def percent(value: float) -> str:
    """0.34 to "34%"; never "0%" for something and never "100%" for less."""
    if 0 < value < 0.01:
        return phrase("percent.under_1")
    if 0.99 < value < 1:
        return phrase("percent.over_99")
    return f"{100 * value:.0f}%"


def always_on(explanation: Explanation) -> tuple[int, ...]:
    """Regions that are hot for every word, whatever it says: they say nothing of any one word.

    A region counts as always on if it has more than its word's mean in every word, and at least
    `HOT` times the mean in `ALWAYS_WORDS` of the words. At most `ALWAYS_SHARE` of the regions (and
    at least one) are named, those with the most in their weakest word first: if more are hot
    for all words, the words are about one thing. Words with a map of zeros are left out; with fewer
    than `FEWEST_WORDS` others nothing can be said, and the result is ().
    """
    maps = np.nan_to_num(explanation.mean_map().astype(np.float64), posinf=0.0, neginf=0.0)
    maps = maps[maps.sum(1) > 0]
    if len(maps) < FEWEST_WORDS:
        return ()
    times = maps / maps.mean(1, keepdims=True)  # (Q, K), 1 is the word's mean
    hot = (times > 1).all(0) & ((times >= HOT).mean(0) >= ALWAYS_WORDS)
    most = max(1, int(ALWAYS_SHARE * maps.shape[1]))
    ranked = sorted(np.flatnonzero(hot), key=lambda region: -times[:, region].min())[:most]
    return tuple(sorted(int(region) for region in ranked))
