"""Changes a checkpoint's model before it is trained on: another picture size, a region head, a
match head that weighs words, a bank to measure matches against."""

import dataclasses

import torch

from vitdemo.errors import ConfigError
from vitdemo.models.checkpoint import Checkpoint
from vitdemo.models.vlm import VLM


def grow(start: Checkpoint, picture_size: int = 0, region_head: bool = False,
         word_evidence: bool = False, querybank: int = 0) -> Checkpoint:
    """The checkpoint with its model at another picture size (0: its own), with a region head, with
    a match head that weighs words one by one, and with a bank for so many pictures and texts (0: as
    many as it has).

    Weights that were there stay. A new region head starts from the text encoder's token table and,
    for the regions, from the projection of the picture tokens; words weigh nothing at first.

    Raises:
        ConfigError: the size is not one the backbone can take, or there is no region head whose
            words could be weighed.
    """
    old = start.model
    regions = old.config.regions or region_head
    if word_evidence and not regions:
        raise ConfigError("--word-evidence weighs what a region head finds, and this checkpoint "
                          "has none; add --region-head.")
    config = dataclasses.replace(old.config, picture_size=picture_size or old.config.picture_size,
                                 regions=regions, evidence=old.config.evidence or word_evidence,
                                 querybank=querybank or old.config.querybank)
    if config == old.config:
        return start
    if config.picture_size < 32:
        raise ConfigError(f"--picture-size is {picture_size}; it must be at least 32 pixels.")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = VLM(config)
    state = {name: value for name, value in old.state_dict().items()
             if not name.startswith("querybank.") or value.shape == model.state_dict()[name].shape}
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected and all(name.startswith(("region_head.", "evidence.", "querybank."))
                                  for name in missing)
    head = model.region_head
    if head is not None and not old.config.regions:
        with torch.no_grad():
            head.word_embedding.weight.copy_(model.text.token_embedding.weight)
            torch.nn.init.constant_(head.rarity.weight, -6.0)
    if model.names is not None:
        model.names.learn_forms(start.tokenizer)
    return dataclasses.replace(start, model=model.eval())
