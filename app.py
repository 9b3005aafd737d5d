"""Starts the app: `python app.py`. A Hugging Face Space runs this file as it stands."""

import argparse
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vitdemo.ui import ServerRules

HERE = Path(__file__).resolve().parent
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line; what is not given is filled in for a Space or one's own computer."""
    parser = argparse.ArgumentParser(
        prog="app.py", description="Describe pictures, ask about them, search them, and see where "
        "the model looked for every word.")
    parser.add_argument("--model", default=str(HERE / "checkpoints" / "vitdemo-small"),
                        help="a checkpoint folder, or OWNER/NAME on the Hugging Face hub; several "
                             "are joined by +, and each task goes to the first that can do it; or "
                             "the address of an engine on another machine, http://HOST:8000/ "
                             "(default: the demo's)")
    parser.add_argument("--device", default="auto",
                        help="auto, cpu, openvino, cuda or mps (default: auto)")
    parser.add_argument("--host", default="", help="address to listen on (default: this computer "
                        "only, 127.0.0.1; in a Space: all)")
    parser.add_argument("--port", type=int, default=None,
                        help="port to listen on (default: the first free one from 7860)")
    parser.add_argument("--share", action="store_true",
                        help="make a public link through Gradio's servers (default: off)")
    parser.add_argument("--store", default=os.environ.get("VITDEMO_STORE", ""),
                        help="where the pictures of searched folders are kept for the next time: "
                        "the store of `python -m vitdemo index`, a folder or an address (default: "
                        "that of the variable VITDEMO_STORE, or else in memory)")
    parser.add_argument("--examples", type=Path, default=HERE / "examples",
                        help="a folder of example photographs")
    parser.add_argument("--allow-folder", type=Path, action="append", metavar="DIR",
                        default=[Path(one) for one in os.environ.get(
                            "VITDEMO_ALLOW_FOLDER", "").split(os.pathsep) if one],
                        help="Search may read the pictures in DIR and below, as in --allow-folder "
                        "~/Pictures; may be given several times. On an app for others they can be "
                        "searched as far as they are in --store, and nothing else (default: those "
                        "of the variable VITDEMO_ALLOW_FOLDER, joined as in PATH)")
    parser.add_argument("--allow-host", action="append", metavar="NAME",
                        default=os.environ.get("VITDEMO_ALLOW_HOST", "").split(),
                        help="answer to this name, too, say that of a proxy in front of it; may be "
                        "given several times (default: only the names that it listens on, and "
                        "those in the variable VITDEMO_ALLOW_HOST)")
    parser.add_argument("--allow-addresses", action="store_true",
                        default=bool(os.environ.get("VITDEMO_ALLOW_ADDRESSES")),
                        help="programs may name a picture by an https address of the public "
                        "internet, which is then fetched from here (default: off, unless the "
                        "variable VITDEMO_ALLOW_ADDRESSES is set)")
    parser.add_argument("--choose-model", action=argparse.BooleanOptionalAction, default=None,
                        help="another model can be chosen on the page, for everyone who has it "
                        "open (default: on your own computer only, without --share, --host and "
                        "--mcp)")
    parser.add_argument("--mcp", action="store_true",
                        default=os.environ.get("GRADIO_MCP_SERVER", "").lower() == "true",
                        help="serve the endpoints for programs as MCP tools for assistants, too "
                        "(default: off, unless the variable GRADIO_MCP_SERVER is True)")
    parser.add_argument("--evidence", choices=("auto", "always", "asked"), default="auto",
                        help="when to test the maps by blurring the picture: always, only when "
                        "asked to, or always where it is quick, with the demo's own model or a "
                        "GPU (default: auto)")
    args = parser.parse_args(argv)
    args.space = bool(os.environ.get("SPACE_ID"))
    args.host = args.host or ("0.0.0.0" if args.space else "127.0.0.1")
    args.alone = args.host in LOOPBACK and not args.share and not args.space
    if args.allow_folder and not args.store and not args.alone:
        parser.error("--allow-folder works without --store only on your own computer, without "
                     "--share and --host: visitors may search what the store has of the folder.")
    args.allow_folder = [folder.expanduser().absolute() for folder in args.allow_folder]
    for folder in args.allow_folder:
        if args.alone and not folder.is_dir():
            parser.error(f"--allow-folder is {folder}; there is no such folder.")
    args.remote = args.model.startswith(("http://", "https://"))
    if args.choose_model is None:
        args.choose_model = args.alone and not args.mcp and not args.remote
    if args.choose_model and args.remote:
        parser.error("--choose-model does not work with an engine on another machine.")
    if args.choose_model and (args.mcp or os.environ.get("SPACES_ZERO_GPU")):
        parser.error("--choose-model does not work with --mcp, nor with a borrowed GPU.")
    if args.port is not None and not 0 < args.port < 65536:
        parser.error(f"--port is {args.port}; it must be from 1 to 65535.")
    return args


def server_rules(args: argparse.Namespace) -> "ServerRules":
    """Which names the server answers to, and who may show it in a frame.

    A name that leads to this computer is not enough: any page can have one (DNS rebinding).
    """
    from vitdemo.ui import ServerRules

    hosts = [*LOOPBACK, args.host]
    if args.space:
        own = os.environ.get("SPACE_HOST", "").replace(",", " ").split()
        return ServerRules((*hosts, *own, "*.hf.space"), addresses=True,
                           proxied=(*args.allow_host, *own),
                           frames=("https://huggingface.co", "https://*.huggingface.co"))
    if args.host in ("0.0.0.0", "::"):  # all addresses of this computer
        name = socket.gethostname()
        return ServerRules((*hosts, name, f"{name}.local"), True, tuple(args.allow_host))
    return ServerRules(tuple(hosts), proxied=tuple(args.allow_host))


def zero_gpu() -> Callable[..., Any] | None:
    """The decorator that borrows a GPU in a ZeroGPU Space; None everywhere else.

    To be called before gradio and torch are imported: that is how `spaces` wants it.
    """
    if not os.environ.get("SPACES_ZERO_GPU"):
        return None
    import spaces

    return spaces.GPU


def check_at_once(args: argparse.Namespace, family: str, borrowed: bool) -> bool:
    """Whether the maps' evidence is computed unasked: it takes hundreds of small passes, which is
    quick with the demo's own model or a GPU. A borrowed GPU is not used unasked."""
    if args.evidence != "auto":
        return bool(args.evidence == "always")
    from vitdemo.device import pick

    return not borrowed and (family == "native" or pick(args.device).device.type != "cpu")


def serve(args: argparse.Namespace, uploads: Path, gpu: Callable[..., Any] | None) -> None:
    """Load the model and serve until the process is ended."""
    os.environ["GRADIO_TEMP_DIR"] = str(uploads)
    from vitdemo.borrowed import BorrowedEngine
    from vitdemo.config import LIMITS, EngineConfig
    from vitdemo.engine import Engine

    engine = Engine.load(EngineConfig(model=args.model, device=args.device))
    if gpu is not None:
        engine = BorrowedEngine(engine, gpu)
    # Slow, so a wrong model shows first.
    from vitdemo.ui import OwnersPictures, Settings, build_ui, launch_settings

    def load_model(name: str) -> Engine:
        return Engine.load(EngineConfig(model=name, device=args.device))

    folders = tuple(args.allow_folder)
    searched: dict[str, Any] = {"folders": folders, "store": args.store} if args.alone else {
        "owners": OwnersPictures(args.store, folders) if folders else None}
    blocks = build_ui(engine, Settings(
        args.examples, shared=not args.alone, **searched, addresses=args.allow_addresses,
        check_at_once=check_at_once(args, engine.info.family, gpu is not None),
        open_with_result=True,
        load_model=load_model if args.alone or args.choose_model else None,
        model="" if args.remote else args.model, choose_model=args.choose_model))
    blocks.launch(server_name=args.host, server_port=args.port, share=args.share, quiet=True,
                  prevent_thread_lock=True, max_file_size=LIMITS.upload_bytes,
                  **launch_settings(server_rules(args), args.mcp))
    print(f"vitdemo is ready: open {blocks.local_url} in a browser. Ctrl-C ends it.", flush=True)
    if args.mcp:
        print(f"MCP tools: {str(blocks.local_url).rstrip('/')}/gradio_api/mcp/", flush=True)
    if blocks.share_url:
        print(f"Anyone with this link can use it: {blocks.share_url}", flush=True)
    blocks.block_thread()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the app; gives the process's exit code."""
    args = parse(argv)
    from vitdemo.terminal import PlainFormatter, say

    handler = logging.StreamHandler()
    handler.setFormatter(PlainFormatter("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("vitdemo").setLevel(logging.INFO)
    if threading.current_thread() is threading.main_thread():
        # So that uploads are deleted then, too.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    gpu = zero_gpu()
    from vitdemo.errors import VitDemoError
    from vitdemo.scratch import scratch_folder

    try:
        with scratch_folder() as uploads:
            serve(args, uploads, gpu)
    except VitDemoError as error:
        say(f"vitdemo: {error}", sys.stderr)
        return 2
    except OSError as error:
        if "empty port" not in str(error):
            raise
        print(f"vitdemo: port {args.port or '7860 and the next ones'} is taken; choose another "
              "with --port.", file=sys.stderr)
        return 2
    return 0


def program() -> int:
    """The same for a process of its own, whose standard streams may be closed."""
    from vitdemo.terminal import standard_streams

    with standard_streams():
        return main()


if __name__ == "__main__":
    from vitdemo.terminal import end_with

    end_with(program)
