"""What there is to choose from: the families with what each can do, and what one model will be
like, both without loading any weights."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vitdemo.backends.base import Backend
from vitdemo.backends.registry import FAMILIES, family_class, names, resolve
from vitdemo.config import EngineConfig
from vitdemo.device import pick
from vitdemo.records import LANGUAGES
from vitdemo.texts import phrase

if TYPE_CHECKING:
    from vitdemo.backends.forecast import Need


@dataclass(frozen=True)
class Offer:
    """A family by its ``type`` in config.json (`FAMILIES`): the tasks that its models can do, maybe
    not one model all of them, the methods of its maps, and the name of one, "" where it has none
    of its own."""

    type: str
    tasks: tuple[str, ...]
    methods: tuple[str, ...]
    example: str


def offers() -> list[Offer]:
    """Every family, in the order of `FAMILIES`."""
    return [_offer(family_class(name), name) for name in FAMILIES]


def _offer(backend: type[Backend], name: str) -> Offer:
    family = getattr(backend, "family", None)
    example = EngineConfig().model if family is None else family.example
    return Offer(name, backend.tasks_of(), backend.methods,
                 example if family is None or family.model_type == name else "")


@dataclass(frozen=True)
class Forecast:
    """What one model will be like: its ``tasks`` and the ``languages`` that it is used with;
    ``need`` says what it takes (`forecast.Need`), ``download`` how many bytes are to be fetched
    first, ``licence`` what its card says, "" where that says nothing."""

    name: str
    family: str
    tasks: tuple[str, ...]
    languages: tuple[str, ...]
    need: "Need"
    download: int
    licence: str


def forecast(config: EngineConfig) -> list[Forecast]:
    """What the model that ``config.model`` names will take, or the models.

    Raises:
        CheckpointError: a name leads nowhere, or to nothing that is known.
        ConfigError: the device or the number type is not there.
    """
    from vitdemo.backends.forecast import need_of
    from vitdemo.backends.hub_files import licence_of, wanted_files
    from vitdemo.backends.source import weight_files

    placement, found = pick(config.device, config.dtype), []
    for name in names(config.model):
        family, source = resolve(name)
        exact = config.dtype != "auto" or family == "native"
        need = need_of(source, placement, exact)
        here = weight_files(source)
        download = 0 if here else sum(wanted_files(source).values())
        kind = family_class(family)
        found.append(Forecast(source, family, kind.tasks_of(source), kind.languages_of(source),
                              need, download, licence_of(source)))
    return found


def rows_of(one: Forecast, without: Sequence[str] = ()) -> list[tuple[str, str]]:
    """The same as a person reads it: names and values, ``without`` some."""
    from vitdemo.backends.forecast import count_text, size_text

    need = one.need
    rows = [("family", one.family),
            ("tasks", phrase("list.join").join(phrase(f"task.{task}") for task in one.tasks)),
            ("parameters", count_text(need.parameters)), ("precision", need.placement.precision),
            ("memory", phrase("chooser.of_memory", needs=size_text(need.needs),
                              free=size_text(need.free), device=need.placement.device)),
            ("download", size_text(one.download) if one.download else phrase("chooser.here")),
            ("licence", one.licence or phrase("chooser.unsaid")),
            ("languages", ", ".join(LANGUAGES[code] for code in one.languages))]
    return [(phrase(f"chooser.{key}"), value) for key, value in rows if key not in without]
