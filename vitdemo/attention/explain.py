"""Every method, once: from a trace to an explanation (see `vitdemo.attention.trace`).

Legend: R rows of one pass, P pictures, L layers, H heads, T tokens of a stream, K picture regions,
Q whole words.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from vitdemo.attention.capture import record
from vitdemo.attention.grad_cam import grad_cam_maps
from vitdemo.attention.methods import (
    SHARES,
    Said,
    bounded,
    choose,
    label_of,
    matched,
    normalised,
    note_of,
    over_words,
)
from vitdemo.attention.relevancy import relevancy_maps
from vitdemo.attention.rollout import rollout_maps
from vitdemo.attention.trace import Layer, Rows, Trace, WrittenTrace, checked
from vitdemo.records import Explanation
from vitdemo.texts import joined, phrase

_METHODS: dict[str, Callable[[Trace], tuple[np.ndarray, Said]]] = {
    "rollout": rollout_maps, "relevancy": relevancy_maps, "grad-cam": grad_cam_maps}
_MOST = 2**23  # weights of an explanation; above that the mean over each layer's heads is kept


def explain(trace: Trace, method: str, methods: Sequence[str]) -> Explanation:
    """One text by one of ``methods``, "" being the first of them.

    Raises:
        ConfigError: the method is none of them.
        TaskError: the numbers of the recorded pass are not those of the model.
    """
    method = choose(method, methods)
    if method == "cross-attention":
        return _cross_attention(trace)[0]
    if method in _METHODS:
        maps, said = _METHODS[method](trace)
    elif method == "word-region":
        maps, said = trace.likeness(), trace.said(Rows())
    else:
        looked, said = _cross_attention(trace)
        maps = matched(looked.mean_map(), trace.likeness(), trace.regions.grid)
    return of_one_layer(trace, method, maps, said)


def of_one_layer(trace: Trace, method: str, maps: np.ndarray, said: Said) -> Explanation:
    """A method's maps, float (Q, K), as a record with one layer and one head."""
    clean = bounded(maps) if method in SHARES else normalised(maps)
    return _record(trace, said, method, clean[None, None], (label_of(method),),
                   joined((note_of(method, trace.source), trace.path)))


def _record(trace: Trace, said: Said, method: str, weights: np.ndarray, names: tuple[str, ...],
            note: str, gates: tuple[float, ...] = ()) -> Explanation:
    regions = trace.regions
    return Explanation(
        text=trace.text, source=trace.source, words=trace.words, weights=weights,
        boxes=regions.boxes, grid=regions.grid, picture_size=regions.size, method=method,
        layer_names=names, gates=gates, word_probabilities=said.probabilities, note=note,
        rivals=said.rivals)


def word_probabilities(traces: Sequence[Trace], pictures: Sequence[object]
                       ) -> tuple[np.ndarray, ...]:
    """See `Backend.word_probabilities`: a pass over all pictures, a few at a time."""
    if not traces:
        return ()
    last, count = traces[-1], len(pictures)
    places = last.targets + 1 if isinstance(last, WrittenTrace) and last.written else 1
    values = np.zeros((count, places))
    for first in range(0, count, last.pictures_at_once):
        some = pictures[first:first + last.pictures_at_once]
        asked = [(r, t) for r in range(len(some)) for t in range(places)]
        logs = last.run(Rows(len(some), some), asked if last.written else None)
        values[first:first + len(some)] = checked(logs).double().view(len(some), -1).cpu().numpy()
    if not last.written:
        fits = 1 / (1 + np.exp(-values))
        return (np.repeat(fits, len(last.words), 1).astype(np.float32),)
    of_words = [values[:, list(tokens)].sum(1) for tokens in last.tokens]
    columns = np.stack(of_words, 1) if of_words else np.zeros((count, 0))
    whole = np.repeat(values.sum(1, keepdims=True), len(traces[0].words), 1)
    found = [columns] if len(traces) == 1 else [whole, columns]
    return tuple(np.exp(one).clip(0, 1).astype(np.float32) for one in found)


def _layers_shown(trace: Trace) -> tuple[list[Layer], list[Layer]]:
    """The layers in which the text's tokens look at the picture, and none; where there are none,
    those in which what they look at does so, and those in which the text looks at that."""
    shown = [trace.layers[number] for number in trace.looking]
    if shown:
        return shown, []
    through = [layer for layer in trace.layers if layer.stream == trace.stream
               and layer.mixes == bool(trace.latents)]
    inner = "latents" if trace.latents else through[0].context[0]
    return [layer for layer in trace.layers if layer.stream == inner
            and trace.regions.stream in layer.context], through


def _cross_attention(trace: Trace) -> tuple[Explanation, Said]:
    """The attention of every layer in which the text's tokens look at the picture; where there is
    none, of the layers of what they look at, composed with the mean of those in which they do; or
    the other way round where these are gated, as a gate is shown with its layer."""
    inner, through = _layers_shown(trace)
    gated = bool(through) and through[0].gate is not None
    shown = through if gated else inner
    recorded = frozenset({trace.stream, inner[0].stream})
    asked = sorted({token + trace.shift for tokens in trace.tokens for token in tokens})
    since = 0 if through else min([trace.kept(), *asked])
    with record([layer.module for layer in (*inner, *through)]) as looks:
        said = trace.said(Rows(recorded=recorded, since=since))
    maps = np.zeros((len(shown), shown[0].heads, len(trace.tokens), len(trace.regions.boxes)),
                    np.float32)
    if maps.size > _MOST:
        maps = maps[:, :1]
    order = {place: number for number, place in enumerate(asked)}
    average = over_words(np.eye(len(asked), dtype=np.float32), [
        [order[token + trace.shift] for token in tokens] for tokens in trace.tokens])  # (Q, n)

    def on_regions(layer: Layer, weights: Tensor) -> Tensor:  # (..., N) to (..., K)
        columns = torch.as_tensor(trace.regions.places, device=weights.device)
        return trace.regions.spread(weights[..., columns + trace.column(layer)])

    within: Tensor | None = None
    seen: Tensor | None = None
    if asked and gated:
        seen = torch.stack([on_regions(layer, looks[number].mean()[0])
                            for number, layer in enumerate(inner)]).mean(0)  # (N, K)
    elif asked and through:
        within = torch.stack([looks[len(inner) + number].mean(asked)[0]
                              for number in range(len(through))]).mean(0)  # (n, N)
        within = within[:, list(trace.latents)] if trace.latents else within
    for number, layer in enumerate(shown if asked else ()):
        look = looks[number + (len(inner) if gated else 0)]
        rows = None if within is not None else [place - since for place in asked]
        look.check(rows or [])
        found = look.weights(rows)[0]  # (H, n or N, N)
        found = on_regions(layer, found) if seen is None else found @ seen
        found = found if within is None else within @ found  # (H, n, K)
        if maps.shape[1] == 1:
            found = found.mean(0, keepdim=True)
        maps[number] = average @ found.cpu().numpy()
    gates = tuple(layer.gate for layer in shown if layer.gate is not None)
    note = joined((trace.path, phrase("method.through") if through else ""))
    return _record(trace, said, "cross-attention", maps.clip(0, 1),
                   tuple(layer.name for layer in shown), note, gates), said
