"""Deletion and insertion: what a word loses as its map's regions are blurred, against chance.

Blur the regions of a picture from the most to the least important and follow the word's probability
(deletion: a good map makes it fall fast), and from the least to the most important (insertion, told
backwards: a good map lets it stand long). Petsiuk, Das, Saenko 2018, "RISE", arXiv:1806.07421,
section 4.2. The same for random orders, for an order by the distance from the centre, and along the
maps of other words, because some words fall whatever is blurred, what is photographed is mostly in
the middle, and a map may mark what is telling for any word of the sentence.

S steps, K regions, Q words of an explanation, n masks.
"""

from collections.abc import Callable, Sequence

import numpy as np

from vitdemo.attention.dependence import concentration, telling_words
from vitdemo.attention.faithfulness import ORDERS, STEPS, judge
from vitdemo.records import Curve, Evidence, Explanation, OtherMap

# Masks bool (n, K) of blurred regions to each word's probability (n, Q).
Score = Callable[[np.ndarray], np.ndarray]

OTHERS = 3  # other words' maps that a word's is held against


def order_of(weights: np.ndarray, seed: int = 0) -> np.ndarray:
    """Places of the regions, the most important one first: (K,) to int (K,).

    Equal ones come in an order drawn from ``seed``, so that a flat map is no better than chance;
    what is no number counts as 0.
    """
    clean = np.nan_to_num(np.asarray(weights, np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    return np.lexsort((np.random.default_rng(seed).random(len(clean)), -clean))


def random_orders(regions: int, seed: int = 0) -> np.ndarray:
    """int (`ORDERS`, K): half of them drawn, each followed by its reverse.

    The reverse of a random order is a random order, and what insertion blurs along an order is
    what deletion blurs along its reverse. So the pictures of one direction serve both, exactly.
    """
    rng = np.random.default_rng([seed, regions])
    drawn = [rng.permutation(regions) for _ in range(ORDERS // 2)]
    return np.stack([order for one in drawn for order in (one, one[::-1])])


def centre_order(boxes: np.ndarray, size: tuple[int, int], seed: int = 0) -> np.ndarray:
    """The region nearest to the centre first: boxes (K, 4) to int (K,).

    Distances are in shares of width and height, so that a wide picture's sides count as its top.
    """
    middles = (boxes[:, :2] + boxes[:, 2:]) / 2 / np.asarray(size) - 0.5  # (K, 2)
    return order_of(-np.hypot(*middles.T).round(6), seed)


def masks_of(orders: np.ndarray) -> np.ndarray:
    """What is blurred at each step along each order: int (n, K) to bool (n, S, K)."""
    count, regions = orders.shape
    rank = np.empty_like(orders)
    rank[np.arange(count)[:, None], orders] = np.arange(regions)
    blurred = np.round(np.asarray(STEPS) * regions).astype(int)  # (S,)
    return np.asarray(rank[:, None] < blurred[None, :, None])


def area(probability: np.ndarray) -> np.ndarray:
    """Area under curves over `STEPS`, by trapezoids: (..., S) to (...)."""
    middles = (probability[..., 1:] + probability[..., :-1]) / 2
    return np.asarray((middles * np.diff(STEPS)).sum(-1))


def others_of(explanation: Explanation, word: int) -> list[int]:
    """Places of the words whose maps a word's is held against: the `OTHERS` content words with the
    most concentrated maps. None where all words share one outcome: blurring what another word
    looks at is then as good a reason for it to change."""
    if explanation.source in ("question", "text"):
        return []
    maps, texts = explanation.mean_map(), [one.text.casefold() for one in explanation.words]
    places = [place for place in telling_words(explanation)
              if texts[place] != texts[word] and maps[place].sum() > 0]
    return sorted(places, key=lambda place: -concentration(maps[place]))[:OTHERS]


def weigh(explanation: Explanation, score: Score, words: Sequence[int] | None = None,
          seed: int = 0) -> tuple[Evidence, ...]:
    """The evidence for these words (all of them where None), with one call of ``score``.

    A word's map costs 14 masked pictures, and so do those of `others_of`. Its whole and blank
    picture, the random orders and the centre's are 58 more, the same for all words; ``seed`` draws
    the orders. Probabilities that are no numbers count as 0. The verdict is `judge`'s.
    """
    chosen = range(len(explanation.words)) if words is None else words
    maps = explanation.mean_map()
    others = {word: others_of(explanation, word) for word in chosen}
    mapped = sorted({*chosen, *(other for some in others.values() for other in some)})
    centre = centre_order(explanation.boxes, explanation.picture_size, seed)
    drawn = random_orders(maps.shape[1], seed)
    along = [order_of(maps[word], seed) for word in mapped]
    orders = np.stack([*drawn, *(order for one in (centre, *along) for order in (one, one[::-1]))])
    curves = _scored(masks_of(orders), score)  # (n, S, Q)
    areas = area(curves.swapaxes(1, 2))  # (n, Q)
    partner = np.arange(ORDERS) ^ 1  # the reverse of order 0 is 1, of 1 it is 0
    place = {word: ORDERS + 2 + 2 * number for number, word in enumerate(mapped)}
    found = []
    for word in chosen:
        deletion, insertion = (_curve(curves[place[word] + i, :, word]) for i in (0, 1))
        random = areas[:ORDERS, word]
        centred, *rivals = ((float(areas[first, word]), float(areas[first + 1, word]))
                            for first in (ORDERS, *(place[other] for other in others[word])))
        whole, blank = deletion.probability[0], deletion.probability[-1]
        found.append(Evidence(
            word=word, source=explanation.source, method=explanation.method,
            deletion=deletion, insertion=insertion, random_deletion=tuple(random.tolist()),
            random_insertion=tuple(random[partner].tolist()), centre_deletion=centred[0],
            centre_insertion=centred[1], probability=whole, blank=blank,
            verdict=judge(deletion.area, insertion.area, random, random[partner], whole, blank,
                          [centred, *rivals]),
            others=tuple(OtherMap(other, explanation.words[other].text, *rival)
                         for other, rival in zip(others[word], rivals, strict=True))))
    return tuple(found)


def _scored(masks: np.ndarray, score: Score) -> np.ndarray:
    """Score each different mask once: bool (n, S, K) to float64 (n, S, Q)."""
    flat = masks.reshape(-1, masks.shape[-1])
    packed = np.packbits(flat, axis=1)
    _, first, place = np.unique(packed, axis=0, return_index=True, return_inverse=True)
    values = np.asarray(score(flat[first]), np.float64)
    values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0).clip(0, 1)
    return np.asarray(values[place.reshape(-1)].reshape(*masks.shape[:2], -1))


def _curve(probability: np.ndarray) -> Curve:
    return Curve(STEPS, tuple(probability.tolist()), float(area(probability)))
