"""The files of a model on the Hugging Face hub: how large they are, its licence, and
fetching them with progress and a way to stop. The variables HF_HUB_OFFLINE, HF_ENDPOINT (a mirror),
HF_TOKEN and HF_HOME are heeded by `huggingface_hub` itself."""

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from huggingface_hub import (
    HfApi,
    metadata_load,
    snapshot_download,
    try_to_load_from_cache,
)
from huggingface_hub.errors import HfHubHTTPError, HTTPError
from tqdm.auto import tqdm

from vitdemo.backends.source import HUB_SECONDS, locate
from vitdemo.disk import expanded
from vitdemo.errors import CheckpointError, shortened

_KINDS = (".json", ".jinja", ".txt", ".model", ".tiktoken")  # beside the weights

Progress = Callable[[int, int], None]  # bytes that are here, and all; it may raise, to stop


def licence_of(source: str) -> str:
    """What the card of a folder, or of a name on the hub, says of its licence; "" where it says
    nothing, or there is none."""
    path: Any = expanded(source) / "README.md"
    if not os.path.isfile(path):
        path = try_to_load_from_cache(source, "README.md") if source.count("/") == 1 else None
    data: dict[str, Any] = {}
    try:
        if isinstance(path, str | Path):
            data = metadata_load(path) or {}
        elif locate(source)[0] == source:
            card = HfApi().model_info(source, timeout=HUB_SECONDS).card_data
            data = card.to_dict() if card is not None else {}
    except (CheckpointError, HTTPError, OSError, ValueError):
        return ""
    licence = data.get("license_name") if data.get("license") == "other" else data.get("license")
    return str(licence or "")


def wanted_files(source: str) -> dict[str, int]:
    """The files of a model on the hub that loading it takes, and their bytes: weights as
    safetensors where there are such.

    Raises:
        CheckpointError: the hub cannot be asked.
    """
    try:
        info = HfApi().model_info(source, timeout=HUB_SECONDS, files_metadata=True)
    except (HfHubHTTPError, HTTPError, OSError) as error:
        raise CheckpointError("checkpoint.hub_files", source=source,
                              why=shortened(error)) from error
    sizes = {file.rfilename: file.size or 0 for file in info.siblings or ()
             if "/" not in file.rfilename}
    kind = ".safetensors" if any(name.endswith(".safetensors") for name in sizes) else ".bin"
    return {name: size for name, size in sizes.items()
            if name == "README.md" or name.endswith((*_KINDS, kind))}


def download(source: str, progress: Progress) -> None:
    """Bring a model's files here; ``progress`` is called as they come, from several threads. What
    is here already stays when it is stopped, and is not fetched again.

    Raises:
        CheckpointError: they cannot be had. And what ``progress`` raises.
    """
    files = wanted_files(source)
    whole, lock, stopped = sum(files.values()), threading.Lock(), list[BaseException]()

    class Bar(tqdm):  # type: ignore[type-arg]
        """Tells ``progress`` of the bytes that are here, and shows nothing."""

        def __init__(self, *given: Any, **settings: Any) -> None:
            self.of_bytes = "Downloading" not in str(settings.get("desc")) \
                and settings.get("unit") == "B"
            super().__init__(*given, **{**settings, "disable": True})
            self.n = settings.get("initial") or 0

        def update(self, n: float | None = 1) -> bool | None:
            if not self.of_bytes:
                return None
            with lock:
                self.n += n or 0
                if not stopped:
                    try:
                        progress(min(int(self.n), whole), whole)
                    except BaseException as stop:
                        stopped.append(stop)
            if stopped:
                raise _Stop
            return None

    try:
        snapshot_download(source, allow_patterns=list(files), tqdm_class=Bar)
    except _Stop:
        raise stopped[0] from None
    except (HfHubHTTPError, HTTPError, OSError, ValueError) as error:
        raise CheckpointError("checkpoint.download", source=source,
                              why=shortened(error)) from error
    progress(whole, whole)  # with what was here before


class _Stop(Exception):
    """Ends a download in every thread of it."""
