"""How long a run will take and how much memory, measured before it starts."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from vitdemo.models.vlm import VLM

_BATCH = 4  # pictures at a time, as in open_features


@dataclass(frozen=True)
class Forecast:
    """What a run will take. ``epochs``: how often each row is seen, about; times in seconds."""

    steps: int
    epochs: float
    step_seconds: float
    feature_seconds: float
    validation_seconds: float
    memory: int  # bytes at the highest
    trained: int  # parameters
    device: str

    @property
    def seconds(self) -> float:
        """All of it."""
        return self.steps * self.step_seconds + self.feature_seconds + self.validation_seconds

    def text(self) -> str:
        """For a person."""
        memory = f"about {self.memory / 1e9:.1f} GB at the highest" if self.memory else "not known"
        stepping = self.steps * self.step_seconds
        return (f"forecast: {self.steps} steps, about {self.epochs:.1f} epochs, "
                f"{self.trained:,} trained weights, on {self.device}\n"
                f"  time    about {duration(self.seconds)}: picture features "
                f"{duration(self.feature_seconds)}, steps {duration(stepping)} "
                f"({self.step_seconds:.2f} s each), validation "
                f"{duration(self.validation_seconds)}\n"
                f"  memory  {memory}")


def duration(seconds: float) -> str:
    """Seconds for a person: "40 s", "12 min", "3 h 20 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def seconds_of(work: Callable[[], object]) -> float:
    """How long the second of two runs of ``work`` takes: the first one warms up."""
    work()
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


@torch.inference_mode()
def picture_seconds(model: VLM) -> float:
    """The backbone's time for one picture."""
    side, device = model.config.picture_size, next(model.parameters()).device
    pixels = torch.rand(_BATCH, 3, side, side).to(device, memory_format=torch.channels_last)
    training = model.training
    model.eval()
    found = seconds_of(lambda: model.vision.features(pixels).cpu())
    model.train(training)
    return found / _BATCH


def peak_memory(device: torch.device) -> int:
    """The most bytes that this process has held so far: on a GPU there, else in main memory; 0
    where the system does not say."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak) * (1 if sys.platform == "darwin" else 1024)
