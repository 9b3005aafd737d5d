"""Several replicas of an engine behind one address, by Ray Serve: they may be on many machines."""

import importlib.util
import logging
import os
import time
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from vitdemo.config import EngineConfig
from vitdemo.engine import Engine
from vitdemo.errors import ConfigError
from vitdemo.serving.server import THREADS, EngineServer

# Of Ray: that it tells nobody of its use, that replicas are as urgent as the page beside them (Ray
# puts its processes behind all others), and that a busy computer may take its time to start.
SETTINGS = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0",
            "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
            "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "60"}
AT_ONCE = 8  # requests of one replica, about, where their number follows the requests


@dataclass(frozen=True)
class Replicas:
    """How many, and what each takes. ``least`` and ``most`` differ where their number follows the
    requests that wait; ``cpus`` and ``gpus`` may be fractions."""

    least: int = 1
    most: int = 1
    cpus: float = 1.0
    gpus: float = 0.0


class Replica:
    """One engine with its weights, in a process of its own."""

    def __init__(self, config: EngineConfig) -> None:
        self._server = EngineServer(Engine.load(config))

    async def __call__(self, request: Request) -> Response:
        """The answer to one request."""
        return await self._server(request)


def start(config: EngineConfig, replicas: Replicas, host: str, port: int, route: str = "",
          address: str = "") -> str:
    """Put an engine at http://HOST:PORT/ROUTE, on the Ray cluster at ``address``, or on this
    computer where that is ""; engines at other routes stay. It gives back the engine's address as
    soon as it answers.

    Raises:
        ConfigError: Ray is not installed.
    """
    connect_ray(address or "local")
    from ray import serve

    serve.start(proxy_location="EveryNode", http_options={"host": host, "port": port})
    number: dict[str, Any] = {"num_replicas": replicas.least}
    if replicas.most > replicas.least:
        number = {"autoscaling_config": {
            "min_replicas": replicas.least, "max_replicas": replicas.most,
            "target_ongoing_requests": AT_ONCE}}
    deployment = serve.deployment(Replica).options(
        max_ongoing_requests=THREADS, graceful_shutdown_timeout_s=60.0,
        ray_actor_options={"num_cpus": replicas.cpus, "num_gpus": replicas.gpus}, **number)
    serve.run(deployment.bind(config), name=route or "vitdemo", route_prefix=f"/{route}")
    return f"http://{host}:{port}/{route}"


def connect_ray(address: str) -> Any:
    """The module of Ray, joined to the cluster at ``address``; "local" makes one of this computer.

    Raises:
        ConfigError: Ray is not installed.
    """
    if importlib.util.find_spec("ray") is None:
        raise ConfigError("serving.no_ray")
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    import ray

    for name in ("ray.data", "ray.serve"):
        logging.getLogger(name).setLevel(logging.ERROR)
    if not ray.is_initialized():
        ray.init(address=address, include_dashboard=False, log_to_driver=False,
                 logging_level="ERROR")
    return ray


def wait() -> None:
    """Until Ctrl-C."""
    while True:
        time.sleep(3600)
