"""What the model answers to questions without a picture, before it trains on what answers claim."""

import sys
from collections.abc import Iterable

import torch
from tqdm import tqdm

from train.instructions import Example
from train.predict import ModelPredictor
from vitdemo.models.vlm import VLM
from vitdemo.statements import is_no, is_yes
from vitdemo.tokens import TextTokenizer

_AT_ONCE = 64  # questions


@torch.inference_mode()
def guesses(model: VLM, tokenizer: TextTokenizer, examples: Iterable[Example], half: bool,
            quiet: bool = False) -> dict[str, dict[str, float]]:
    """Of each different question, but for those with yes or no, the answers that beam search finds
    on a blank picture, with their probabilities; ``half``: products in bf16."""
    asked = sorted({example.instruction for example in examples
                    if not (is_no(example.target) or is_yes(example.target))})
    training = model.training
    predictor = ModelPredictor(model.eval(), tokenizer)
    device = next(model.parameters()).device
    found: dict[str, dict[str, float]] = {}
    with torch.autocast(device.type, torch.bfloat16, half):
        blank = predictor.blank()
        for start in tqdm(range(0, len(asked), _AT_ONCE), desc="guesses", unit=f"{_AT_ONCE} "
                          "questions", disable=quiet, file=sys.stderr, mininterval=5):
            some = asked[start:start + _AT_ONCE]
            chances = predictor.chances(blank, [0] * len(some), some)
            found.update(zip(some, chances, strict=True))
    model.train(training)
    return found
