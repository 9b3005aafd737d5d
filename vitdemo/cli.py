"""The command line: ``python -m vitdemo COMMAND``. Loads torch only once a command needs it."""

import argparse
import sys
import warnings
from collections.abc import Sequence
from typing import Any, NoReturn, TypeAlias

from vitdemo import __version__
from vitdemo.config import Decoding, EngineConfig
from vitdemo.errors import DiskError, VitDemoError, shortened
from vitdemo.records import LANGUAGES
from vitdemo.terminal import Stopped, drain, plain, say, say_error, standard_streams

Commands: TypeAlias = "argparse._SubParsersAction[_Parser]"

EPILOGUE = """examples:
  python -m vitdemo caption photo.jpg
  python -m vitdemo ask photo.jpg "what colour is the dog?"
  python -m vitdemo match photo.jpg "a dog on grass" "a red car"
  python -m vitdemo describe ~/Pictures --write xmp --question "who is there?"
  python -m vitdemo index ~/Pictures --store my-pictures
  python -m vitdemo search "a dog on grass -people" --store my-pictures --after 2024
  python -m vitdemo duplicates --store my-pictures
  python -m vitdemo explain photo.jpg --png map.png --word 2
  python -m vitdemo explain photo.jpg --evidence --report report.html
  python -m vitdemo models HuggingFaceTB/SmolVLM-256M-Instruct
  python -m vitdemo serve
  python -m vitdemo engine --replicas 2

python -m vitdemo COMMAND --help says more about one of them. Exit codes: 0 done, 2 something is
wrong with what was given (one line on stderr says what, and what to do), 130 stopped by Ctrl-C,
143 by SIGTERM."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # libraries' remarks to programmers
    with standard_streams() as usable:
        try:
            if not usable:
                raise DiskError("terminal.closed")
            return _run(arguments)
        except VitDemoError as error:
            say_error(error)
            return 2
        except Stopped as stop:
            say("stopped", sys.stderr)
            return 128 + int(stop.args[0])
        except KeyboardInterrupt:
            say("stopped", sys.stderr)
            return 130
        except BrokenPipeError:  # the reader, such as `head`, has seen enough
            drain(sys.stdout)
            return 0


def _run(arguments: list[str]) -> int:
    try:
        if arguments[:1] == ["serve"]:
            from vitdemo.commands import serve

            return serve(arguments[1:])
        options = parser().parse_args(arguments)
        from vitdemo import commands

        code: int = getattr(commands, options.command)(options)
        return code
    finally:
        sys.stdout.flush()  # here it can still be told that there is no room for it


class _Parser(argparse.ArgumentParser):
    """One that repeats nothing to a terminal as it is."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong with the options, and end."""
        super().error(plain(shortened(message, 300)))


def parser() -> argparse.ArgumentParser:
    """The parser of all commands but ``serve``, which is only named in it."""
    top = _Parser(
        prog="python -m vitdemo", epilog=EPILOGUE, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Describe pictures, ask about them, search them, and see where the model "
                    "looked.")
    top.add_argument("--version", action="version", version=f"vitdemo {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add in (_caption, _describe, _ask, _match, _index, _search, _duplicates, _explain,
                _models, _serve_engine):
        add(commands)
    commands.add_parser("serve", add_help=False, help="start the app in the browser")
    return top


def _parser_of(commands: Commands, name: str, what: str, more: str) -> argparse.ArgumentParser:
    made = commands.add_parser(
        name, help=what, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter,
        description=what[0].upper() + what[1:] + "." + (f"\n\n{more}" if more else ""))
    made.add_argument("--json", action="store_true", help="print the result as JSON, for programs")
    return made


def _command(commands: Commands, name: str, what: str,
             more: str = "") -> argparse.ArgumentParser:
    """A command with the options that all have which use a model."""
    made = _parser_of(commands, name, what, more)
    common = made.add_argument_group("the model")
    _placement(common)
    common.add_argument("--model", metavar="NAME", default="",
                        help="a checkpoint folder, or OWNER/NAME on the Hugging Face hub; several "
                             "are joined by +, and each task goes to the first that can do it "
                             f"(default: {EngineConfig().model})")
    return made


def _placement(group: argparse._ActionsContainer) -> None:
    group.add_argument("--device", default="auto", metavar="DEVICE",
                       help="auto, cpu, openvino (a CPU, pictures encoded by OpenVINO), cuda, "
                            "cuda:1 or mps (default: auto, a GPU where there is one)")
    group.add_argument("--dtype", default="auto", choices=(
        "auto", "float32", "bfloat16", "float16", "int8", "int4"),
        help="how numbers are kept; int8 and int4 take bitsandbytes (default: auto, "
             "which is float32; half of it for a large model on a GPU, or where there is less "
             "memory)")


def _language(made: argparse.ArgumentParser, default: Any, what: str, **more: Any) -> None:
    names = ", ".join(f"{code} ({name})" for code, name in LANGUAGES.items())
    made.add_argument("--language", default=default, metavar="CODE", help=f"{what}: {names}",
                      **more)


def _decoding(made: argparse.ArgumentParser) -> None:
    standard = Decoding()
    group = made.add_argument_group("how words are chosen")

    def add(flag: str, kind: type, what: str) -> None:
        value = getattr(standard, flag[2:].replace("-", "_"))
        group.add_argument(flag, type=kind, default=value, metavar=kind.__name__.upper(),
                           help=f"{what} (default: {value})")

    group.add_argument("--strategy", default=standard.strategy,
                       choices=("greedy", "beam", "sample"),
                       help="greedy: the likeliest word each time; beam: the likeliest of several "
                            "sentences; sample: drawn by chance "
                            f"(default: {standard.strategy})")
    add("--beams", int, "for beam: how many sentences are kept, 1 to 10")
    add("--length-penalty", float, "for beam: above 0 favours longer sentences, -2 to 2")
    add("--temperature", float, "for sample: above 1 is more surprising, 0.05 to 5")
    add("--top-p", float, "for sample: draw from the likeliest words that hold this much "
                          "probability, 0.01 to 1")
    add("--seed", int, "for sample: the same seed gives the same sentence")
    add("--max-tokens", int, "at most this many word pieces, 1 to 100")
    add("--min-tokens", int, "at least this many word pieces")
    add("--repetition-penalty", float, "above 1 makes a repeated word less likely, 1 to 3")
    add("--fit", float, "for beam: how much the sentence must fit this picture, by the vectors "
                        "that find pictures, where the model has such, 0 to 20")


def _caption(commands: Commands) -> None:
    made = _command(commands, "caption", "describe pictures in a sentence")
    made.add_argument("pictures", nargs="+", metavar="PICTURE", help="a picture file")
    made.add_argument("--instruction", default="", metavar="TEXT",
                      help='how to describe it, such as "Describe the picture in a few words."')
    _language(made, "en", "the language of the description")
    _decoding(made)


def _workers(made: argparse.ArgumentParser) -> None:
    made.add_argument("--workers", type=int, default=0, metavar="INT",
                      help="processes that read files (default: one for each processor core, 8 at "
                           "most); with --ray processes that have the model (default: as many as "
                           "there is room for)")
    made.add_argument("--ray", default="", metavar="ADDRESS",
                      help="share the pictures out to the machines of a Ray cluster, all of which "
                           "see the files at the same paths: auto for the one that this computer "
                           "is part of, local for this computer alone")


def _describe(commands: Commands) -> None:
    made = _command(commands, "describe", "describe every picture of folders, into files",
                    "Captions, answers to your questions and names of what is surely seen. The "
                    "pictures themselves\nare left as they are. The next time only those are "
                    "described that are new or changed. Ctrl-C\nstops at any time, and the same "
                    "command carries on.")
    made.add_argument("folders", nargs="+", metavar="DIR", help="a folder of pictures")
    made.add_argument("--write", action="append", default=[], metavar="FORM",
                      choices=("json", "txt", "xmp", "jsonl", "csv", "metadata"),
                      help="json, txt or xmp: files beside each picture, such as photo.jpg.xmp; "
                           "jsonl or csv: one file (--out); metadata: the metadata.jsonl of each "
                           "DIR, for training; may be given several times (default: json)")
    made.add_argument("--out", metavar="FILE", default="",
                      help="the file of jsonl or csv (default: descriptions.jsonl or .csv in the "
                           "first DIR)")
    _language(made, [], "the language of the captions (default: en), may be given several times",
              action="append")
    made.add_argument("--question", action="append", default=[], metavar="TEXT",
                      help="a question to answer about each picture; may be given several times")
    made.add_argument("--instruction", default="", metavar="TEXT", help="how to describe them")
    made.add_argument("--existing", default="skip", choices=("skip", "overwrite", "append"),
                      help="what becomes of texts that are there: skip leaves those of pictures "
                           "that have not changed, and all that somebody else wrote; overwrite "
                           "replaces them; append adds what is new to them (default: skip)")
    _workers(made)
    _decoding(made)


def _ask(commands: Commands) -> None:
    made = _command(commands, "ask", "answer a question about a picture",
                    "The answer comes with its probability and the next likely ones.")
    made.add_argument("picture", metavar="PICTURE", help="a picture file")
    made.add_argument("question", metavar="QUESTION", help="in quotes, English or Chinese")
    made.add_argument("--count", type=int, default=5, metavar="INT",
                      help="how many answers to show (default: 5)")
    _language(made, "", "the language of the answer (default: that of the question)")


def _match(commands: Commands) -> None:
    made = _command(commands, "match", "say which sentences fit a picture",
                    "Each sentence gets a score from 0% (does not fit) to 100% (fits).")
    made.add_argument("picture", metavar="PICTURE", help="a picture file")
    made.add_argument("texts", nargs="+", metavar="TEXT", help="a sentence, in quotes")


def _store(made: argparse.ArgumentParser) -> None:
    made.add_argument("--store", default=".gallery", metavar="PATH",
                      help="where the index is kept: a folder, the address of an object store such "
                           "as s3://bucket/name, or of a Milvus server, "
                           "milvus://host:port/collection (default: .gallery in this folder)")


def _index(commands: Commands) -> None:
    made = _command(commands, "index", "make folders of pictures searchable",
                    "Reads the pictures in the folders and the folders in them; the next time only "
                    "those that are\nnew, changed or moved, and takes out what is gone, but not "
                    "where most of a folder is gone\nat once (--prune). The files themselves are "
                    "left as they are. Ctrl-C stops at any time, and\nthe same command carries "
                    "on.")
    made.add_argument("folders", nargs="+", metavar="DIR", help="a folder of pictures")
    _workers(made)
    made.add_argument("--prune", action="store_true",
                      help="take out of the store what is gone even where that is most of a "
                           "folder, or the folder itself, as it is where a drive is not mounted")
    _store(made)


def _search(commands: Commands) -> None:
    made = _command(commands, "search", "find indexed pictures by words, by a picture or by both",
                    "A minus takes away what it stands before, a plus adds it, a number is a "
                    "weight, quotes hold\nwords together: \"cat -0.5 indoor +snow\". How that was "
                    "understood is told first. Scores go from -1\n(opposite) to 1 (the same). The "
                    "best 50 are looked at again by the match head, which puts them in a\nnew "
                    "order.")
    made.add_argument("text", nargs="?", metavar="TEXT", help="what to look for, in quotes; put "
                                                              "-- before one that begins with -")
    made.add_argument("--picture", metavar="FILE", help="look for pictures like this one")
    made.add_argument("--picture-weight", type=float, default=1.0, metavar="FLOAT",
                      help="how much it counts beside the words, up to 10 (default: 1)")
    made.add_argument("--limit", type=int, default=12, metavar="INT",
                      help="how many pictures to find (default: 12)")
    made.add_argument("--best", type=int, default=50, metavar="INT",
                      help="how many of the best the match head looks at again; 0 leaves the order "
                           "to the vectors (default: 50)")
    made.add_argument("--why", action="store_true",
                      help="say what each word does to the score: what it would lose without it")
    made.add_argument("--save", metavar="FILE",
                      help="save the hits as .csv or .json, or copies of them as .zip")
    _filters(made)
    _store(made)


def _filters(made: argparse.ArgumentParser) -> None:
    group = made.add_argument_group("only pictures that")
    group.add_argument("--folder", default="", metavar="DIR", help="lie in this folder, or in "
                                                                   "folders in it")
    for flag, what in (("after", "are from this day on"), ("before", "are up to this day")):
        group.add_argument(f"--{flag}", default="", metavar="DATE",
                           help=f"{what}: 2024-05-31, 2024-05 or 2024, by the camera or else the "
                                "file")
    for side in ("width", "height"):
        for least, what in (("min", "at least"), ("max", "at most")):
            group.add_argument(f"--{least}-{side}", type=int, default=0, metavar="PIXELS",
                               help=f"have {what} this {side}")
    group.add_argument("--orientation", default="", metavar="FORM",
                       help="are landscape, portrait or square")
    group.add_argument("--camera", default="", metavar="NAME",
                       help="were taken with it: a part of maker and model")


def _duplicates(commands: Commands) -> None:
    made = _command(commands, "duplicates", "find indexed pictures that are almost the same",
                    "Lists groups with the one to keep first. Nothing is deleted.")
    made.add_argument("--keep", default="largest", metavar="WHICH",
                      help="largest, sharpest, oldest or newest (default: largest)")
    made.add_argument("--cosine", type=float, default=0.6, metavar="FLOAT",
                      help="how near the vectors must be, up to 1 (default: 0.6)")
    made.add_argument("--distance", type=int, default=10, metavar="BITS",
                      help="how many of the 64 bits of their perceptual hashes may differ "
                           "(default: 10)")
    _filters(made)
    _store(made)


def _explain(commands: Commands) -> None:
    made = _command(commands, "explain", "show where in a picture each word looked",
                    "Without --question or --text the picture is described first and the "
                    "description explained.\nPercentages are shares of a word's attention, the "
                    "mean of all layers and heads; --json gives\nthem all. --evidence tells "
                    "whether the maps can be trusted.")
    made.add_argument("picture", metavar="PICTURE",
                      help="a picture file; of a video --text and --png draw a strip of frames")
    what = made.add_mutually_exclusive_group()
    what.add_argument("--question", metavar="TEXT", help="answer this, and explain the words of "
                                                         "question and answer")
    what.add_argument("--text", metavar="TEXT", help="explain this sentence about the picture")
    made.add_argument("--method", default="", metavar="NAME",
                      help="how the maps are made: cross-attention, rollout, relevancy, grad-cam, "
                           "occlusion or word-region, as far as the model can (default: the one "
                           "that was measured to be best)")
    made.add_argument("--evidence", action="store_true",
                      help="test each map by blurring the picture, and say how much the picture "
                           "counted; takes seconds, with a large model minutes")
    made.add_argument("--report", metavar="FILE.html",
                      help="save the picture with all maps as one page that opens in a browser "
                           "(with --evidence, the evidence too)")
    made.add_argument("--csv", metavar="FILE", help="save every weight with its region's box")
    made.add_argument("--png", metavar="FILE", help="save the picture with the map over it")
    made.add_argument("--word", type=int, metavar="NUMBER",
                      help="for --png: the map of this word, numbered as in the table "
                           "(default: the mean of all words)")
    made.add_argument("--instruction", default="", metavar="TEXT", help="how to describe it")
    _language(made, "", "the language of description or answer (default: en, or that of the "
                        "question)")
    _decoding(made)


def _serve_engine(commands: Commands) -> None:
    made = _command(commands, "engine", "serve the model to pages and commands on other machines",
                    "They take its address in place of a model's name: --model http://HOST:8000/. "
                    "Whoever reaches it may\nuse it: keep it inside a network that you trust. "
                    "Several replicas take Ray (pip install -r\nrequirements-serve.txt).")
    made.add_argument("--host", default="127.0.0.1", metavar="ADDRESS",
                      help="address to listen on (default: 127.0.0.1, this computer only)")
    made.add_argument("--port", type=int, default=8000, metavar="INT",
                      help="port to listen on (default: 8000)")
    group = made.add_argument_group("replicas, by Ray")
    group.add_argument("--replicas", default="", metavar="NUMBER",
                       help="how many processes share the requests out, each with the whole model; "
                            "1-4 adds and takes away as requests wait (default: one, without Ray)")
    group.add_argument("--cpus", type=float, default=1.0, metavar="FLOAT",
                       help="processor cores of a replica (default: 1)")
    group.add_argument("--gpus", type=float, default=0.0, metavar="FLOAT",
                       help="GPUs of a replica; 0.5 puts two on one (default: 0)")
    group.add_argument("--route", default="", metavar="NAME",
                       help="serve at http://HOST:PORT/NAME, so that two models stand side by side")
    group.add_argument("--ray", default="", metavar="ADDRESS",
                       help="the Ray cluster to run on: auto for one that this computer is part "
                            "of (default: none but this computer)")


def _models(commands: Commands) -> None:
    made = _parser_of(commands, "models", "list the kinds of models, or say what one will take",
                      "Without a name: each kind with what it can do, how its maps are made, and "
                      "one such model on\nthe Hugging Face hub. With a name: its size, the memory "
                      "it needs and what is free, what is to be\ndownloaded, licence and "
                      "languages. Nothing but its config is fetched.")
    made.add_argument("name", nargs="?", default="", metavar="NAME",
                      help="a checkpoint folder, or OWNER/NAME on the hub; several joined by +")
    _placement(made)
