"""How far a map can be trusted, in one of five verdicts and in plain words.

The numbers come from `vitdemo.attention.deletion`; here they are judged and said. All functions are
pure. Q whole words, K regions.
"""

from collections.abc import Sequence

import numpy as np

from vitdemo.attention.sanity import rank_correlation
from vitdemo.records import UNREAD, VERDICTS, Evidence, Explanation, PictureShare

STEPS = (0.0, 0.25, 0.5, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0)  # shares of the regions that are blurred
ORDERS = 10  # random orders that a map is held against

ANYWAY = 0.8  # of its probability: what a word keeps that does not need the picture
STRONG_GAIN, SOME_GAIN = 0.15, 0.05  # see `judge`
WINS, SPREADS = 0.9, 1.5

HOT, ALWAYS_WORDS, ALWAYS_SHARE, FEWEST_WORDS = 2.0, 0.8, 0.05, 3  # see `always_on`

_SUBJECT = {"caption": "the word", "answer": "the answer", "question": "the answer",
            "text": "how well the sentence fits"}


def judge(deletion: float, insertion: float, random_deletion: Sequence[float] | np.ndarray,
          random_insertion: Sequence[float] | np.ndarray, probability: float,
          blank: float) -> str:
    """One of `VERDICTS`, from the areas of a map, those of random orders, and the word's
    probability on the whole and on the blank picture; all 0..1.

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
    if min(wins) >= WINS and gain >= STRONG_GAIN:
        return "strong"
    if both >= WINS and gain >= SOME_GAIN:
        return "some"
    if both <= 1 - WINS and gain <= -SOME_GAIN:
        return "worse"
    return "chance"


def _wins(ahead: np.ndarray) -> float:
    """The share of values above 0, a 0 (up to rounding) counting half."""
    tie = np.abs(ahead) < 1e-7
    return float(np.where(tie, 0.5, ahead > 0).mean())


def evidence_sentence(evidence: Evidence) -> str:
    """The verdict for a person who knows nothing of attention: a badge on the map."""
    assert evidence.verdict in VERDICTS, evidence.verdict
    what = _SUBJECT.get(evidence.source, "the word")
    if evidence.verdict == "strong":
        return f"Blurring these regions changes {what} much more than chance."
    if evidence.verdict == "some":
        return f"Blurring these regions changes {what} somewhat more than chance."
    if evidence.verdict == "chance":
        return f"Blurring these regions changes {what} no more than chance: a map no better " \
               "than chance."
    if evidence.verdict == "worse":
        return f"Worse than chance: blurring other regions changes {what} more. Do not trust " \
               "this map."
    if evidence.source == "text":
        return "The sentence fits about as well without the picture: there is nothing to show."
    if evidence.source in ("question", "answer"):  # what an answer claims may be weighed, too
        return "The answer’s words are as likely without the picture: there is nothing to show."
    return "The model would say this word without the picture."


def said_anyway(probability: float, blank: float) -> bool:
    """Whether a grey picture leaves a word at least `ANYWAY` (four fifths) of its probability."""
    return blank >= ANYWAY * probability


def share_sentence(share: PictureShare, word: int) -> str:
    """How much the picture counted for one word (counted from 0), for a person."""
    if share.unread and share.unread[word]:
        return f"Not read: {UNREAD[share.unread[word]]}."
    before, after = (percent(values[word]) for values in (share.probability, share.blank))
    numbers = f"{before} with the picture, {after} with a grey one"
    if share.source == "text":
        first = f"The sentence fits {numbers}."
    elif share.anyway[word]:
        what = "given this answer" if share.source == "question" else "said this word"
        first = f"The model would have {what} anyway: {numbers}."
    elif said_anyway(share.probability[word], share.blank[word]):
        first = f"As likely with a grey picture ({numbers}), but to that one the model would " \
                f"have answered “{share.unseen}”, which claims something else."
    else:
        what = "answer" if share.source == "question" else "word"
        first = f"The picture made this {what} likely: {numbers}."
    said = [first]
    if np.isfinite(share.attention[word]):
        said.append(f"{percent(share.attention[word])} of its attention fell on the picture.")
    if np.isfinite(share.gate):
        said.append(f"The gate between text and picture is {percent(share.gate)} open.")
    return " ".join(said)


def percent(value: float) -> str:
    """0.34 to "34%"; never "0%" for something and never "100%" for less."""
    if 0 < value < 0.01:
        return "under 1%"
    if 0.99 < value < 1:
        return "over 99%"
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


def agreement(a: Explanation, b: Explanation) -> np.ndarray:
    """How alike two methods order the regions, word by word: Spearman's rho, float64 (Q,), -1..1.

    Both must explain the same words over the same regions. A map without any order (all regions
    alike) gives 0, as does what is no number.
    """
    first, second = (np.nan_to_num(one.mean_map(), posinf=0.0, neginf=0.0) for one in (a, b))
    assert first.shape == second.shape, (first.shape, second.shape)
    return rank_correlation(first, second)
