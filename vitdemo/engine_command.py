"""What ``python -m vitdemo engine`` does: the model behind an address, alone or as replicas."""

import argparse
import re
import socket

from vitdemo.config import EngineConfig
from vitdemo.engine import Engine
from vitdemo.errors import ConfigError
from vitdemo.serving.replicas import Replicas, start, wait
from vitdemo.serving.server import application
from vitdemo.terminal import say
from vitdemo.texts import Message, phrase


def run(options: argparse.Namespace, config: EngineConfig) -> int:
    """Serve until Ctrl-C."""
    _check("port", options.port, 0 < options.port < 65536, "serving.must.port")
    if not (options.replicas or options.route or options.ray):
        return _alone(options, config)
    replicas = _replicas(options)
    _check("route", options.route, re.fullmatch(r"[a-z0-9-]*", options.route), "serving.must.route")
    address = start(config, replicas, options.host, options.port, options.route, options.ray)
    say(phrase("serving.ready", address=address, name=config.model))
    wait()
    return 0


def _alone(options: argparse.Namespace, config: EngineConfig) -> int:
    """One engine in this very process."""
    import uvicorn

    engine = Engine.load(config)
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((options.host, options.port))
        except OSError as error:
            raise ConfigError("serving.no_port", host=options.host, port=options.port,
                              why=error) from error
        address = f"http://{options.host}:{options.port}/"
        say(phrase("serving.ready", address=address, name=engine.info.name))
        settings = uvicorn.Config(application(engine), log_level="warning", access_log=False)
        uvicorn.Server(settings).run(sockets=[listening])
    return 0


def _replicas(options: argparse.Namespace) -> Replicas:
    given = re.fullmatch(r"(\d{1,4})(?:-(\d{1,4}))?", options.replicas or "1")
    least, most = (int(given[1]), int(given[2] or given[1])) if given else (0, 0)
    _check("replicas", options.replicas, 0 < least <= most, "serving.must.replicas")
    _check("cpus", options.cpus, 0 <= options.cpus <= 1000, "serving.must.share")
    _check("gpus", options.gpus, 0 <= options.gpus <= 1000, "serving.must.share")
    return Replicas(least, most, options.cpus, options.gpus)


def _check(flag: str, value: object, good: object, must: str) -> None:
    if not good:
        raise ConfigError("serving.range", flag=f"--{flag}", value=value, must=Message(must))
