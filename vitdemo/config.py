"""Every setting of the model and the engine, as frozen dataclasses; a bad value is refused."""

from dataclasses import dataclass, fields
from typing import Any

from vitdemo.errors import ConfigError, shortened

FUSIONS = ("gated_cross_attention", "cross_attention", "concat", "linear")

# The one dial: size -> what follows from it. "tiny" is the test model.
SIZES: dict[str, dict[str, Any]] = {
    "tiny": dict(backbone="test_efficientnet", picture_size=64, width=64, heads=4, text_layers=2,
                 text_heads=4, fusion_layers=2, decoder_layers=2, embedding_width=32, regions=True),
    "small": dict(backbone="tf_efficientnet_lite2", picture_size=320, width=384, heads=8,
                  text_layers=6, text_heads=12, fusion_layers=2, decoder_layers=3,
                  embedding_width=384, regions=True),
    "base": dict(backbone="tf_efficientnet_lite4", picture_size=380, width=768, heads=12,
                 text_layers=12, text_heads=12, fusion_layers=4, decoder_layers=6,
                 embedding_width=512, regions=True),
}


MAX_SEED = 2**63 - 1  # the largest that torch takes

# The largest model that is thought of: a number beyond is a damaged file's.
MOST = {"picture_size": 1024, "vocabulary": 2_000_000, "width": 16_384, "heads": 1024,
        "text_layers": 128, "text_heads": 1024, "fusion_layers": 128, "decoder_layers": 128,
        "embedding_width": 16_384, "max_text_tokens": 65_536, "querybank": 10_000_000}


def _require(condition: bool, name: str, value: object, want: str) -> None:
    if not condition:
        raise ConfigError(f"{name} is {shortened(repr(value))}; it must be {want}.")


def _whole(value: object, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


@dataclass(frozen=True)
class ModelConfig:
    """The shape of a model; `from_size` derives it from the one dial."""

    size: str = "small"  # the dial: tiny, small or base
    backbone: str = "tf_efficientnet_lite2"  # a timm model name
    picture_size: int = 260  # side of the square the model sees, in pixels
    vocabulary: int = 8192  # number of tokens
    width: int = 384  # D, of tokens everywhere
    heads: int = 8  # of fusion and decoder
    text_layers: int = 6  # of the text encoder
    text_heads: int = 12  # of the text encoder
    fusion: str = "gated_cross_attention"  # one of FUSIONS
    fusion_layers: int = 2  # ignored by concat and linear
    modulation: bool = True  # the instruction scales and shifts the picture's tokens
    decoder_layers: int = 3  # of the decoder
    embedding_width: int = 384  # of the retrieval vectors
    max_text_tokens: int = 256  # the longest text the encoder reads
    regions: bool = False  # a head that says which regions match a word; older files have none
    querybank: int = 0  # pictures, and texts of each language, that a match is measured against
    names: bool = False  # a head that names everyday things; older files have none
    pointer: bool = False  # the decoder may copy what the names head sees; older files have none
    evidence: bool = False  # each word's own evidence counts in a match; older files have none

    def __post_init__(self) -> None:
        for one in fields(self):
            kind, value = one.type, getattr(self, one.name)
            _require(kind is int or type(value) is kind, one.name, value,
                     "true or false" if kind is bool else "a text")
        _require(self.size in SIZES, "size", self.size, f"one of {', '.join(SIZES)}")
        _require(self.fusion in FUSIONS, "fusion", self.fusion, f"one of {', '.join(FUSIONS)}")
        for name, most in MOST.items():
            least = 0 if name == "querybank" else 1
            _require(_whole(getattr(self, name), least, most), name, getattr(self, name),
                     f"a whole number from {least} to {most:,}")
        for name in ("heads", "text_heads"):
            _require(self.width % getattr(self, name) == 0, name, getattr(self, name),
                     f"a divisor of width ({self.width})")
        _require(self.names or not self.pointer, "pointer", self.pointer,
                 "false where names is: it copies them")
        _require(self.regions or not self.evidence, "evidence", self.evidence,
                 "false where regions is: it is made of what they show")

    @classmethod
    def from_size(cls, size: str, **changes: Any) -> "ModelConfig":
        """The configuration for one dial setting, with any field changed by keyword."""
        _require(size in SIZES, "size", size, f"one of {', '.join(SIZES)}")
        known = {f.name for f in fields(cls)}
        for name in changes:
            _require(name in known, name, changes[name], "a field of ModelConfig; there is none")
        return cls(**{"size": size, **SIZES[size], **changes})


@dataclass(frozen=True)
class Decoding:
    """How words are chosen."""

    strategy: str = "beam"  # greedy, beam or sample
    beams: int = 5  # for beam: how many sentences are kept, 1..10
    length_penalty: float = 0.7  # for beam: 0 favours short, 1 the mean log-probability, -2..2
    temperature: float = 1.0  # for sample: below 1 is safer, above 1 more surprising, 0.05..5
    top_p: float = 0.9  # for sample: the words that hold this much probability are drawn from, 0..1
    seed: int = 0  # for sample
    max_tokens: int = 30  # at most this many tokens, 1..100
    min_tokens: int = 0  # no end before this many tokens
    repetition_penalty: float = 1.0  # above 1: a token already written gets less likely, 1..3
    fit: float = 4.0  # for beam: what a finished text gains by fitting the picture, 0..20; see best

    def __post_init__(self) -> None:
        _require(self.strategy in ("greedy", "beam", "sample"), "strategy", self.strategy,
                 "greedy, beam or sample")
        ranges = {"beams": (1, 10), "length_penalty": (-2, 2), "temperature": (0.05, 5),
                  "top_p": (0.01, 1), "seed": (0, MAX_SEED), "max_tokens": (1, 100),
                  "min_tokens": (0, self.max_tokens), "repetition_penalty": (1, 3), "fit": (0, 20)}
        for name, (low, high) in ranges.items():
            value = getattr(self, name)
            whole = name in ("beams", "seed", "max_tokens", "min_tokens")
            _require(isinstance(value, int if whole else (int, float))
                     and not isinstance(value, bool), name, value,
                     "a whole number" if whole else "a number")
            _require(low <= value <= high, name, value, f"from {low} to {high}")


@dataclass(frozen=True)
class Limits:
    """What is accepted from a user: the one place where limits are named."""

    max_file_megabytes: int = 50  # of one picture file
    max_megapixels: int = 100  # of one picture, width x height
    max_open_megapixels: int = 400  # of all pictures decoded at once; see pixel_budget
    min_side: int = 8  # of one picture, in pixels
    max_aspect: float = 30.0  # longest side over shortest
    max_text_characters: int = 2000  # of one question, instruction or sentence
    max_uploads: int = 500  # pictures and videos in one upload to Search
    max_videos: int = 10  # of these
    max_video_minutes: int = 10  # of one video that is uploaded
    max_video_megabytes: int = 500  # of the same
    max_upload_megabytes: int = 4000  # of one upload, all its files together
    max_uploads_megabytes: int = 20000  # of the uploads of all visitors, as long as they are kept
    max_request_megabytes: int = 4  # of one request that is not an upload
    max_sentences: int = 100  # that the match head reads for one picture
    max_lines: int = 5000  # lines in one picture-to-text search
    max_hits: int = 2000  # that one search pages through or exports
    max_zip_megabytes: int = 2000  # of copies of hits in one file

    @property
    def upload_bytes(self) -> int:
        """Of one file that is uploaded; what it is shows when it is read."""
        return max(self.max_file_megabytes, self.max_video_megabytes) * 2**20


LIMITS = Limits()


@dataclass(frozen=True)
class EngineConfig:
    """What the engine is made of."""

    model: str = "checkpoints/vitdemo-small"  # a folder or a name: see backends.registry
    device: str = "auto"  # auto, cpu, cuda, mps
    dtype: str = "auto"  # auto, float32, bfloat16, float16, int8, int4
    cached_pictures: int = 64  # how many pictures' features are kept
    cached_megabytes: int = 512  # of those, at most

    def __post_init__(self) -> None:
        for name in ("cached_pictures", "cached_megabytes"):
            value = getattr(self, name)
            _require(_whole(value, 1, 2**31), name, value, "a whole number, 1 or more")
