"""How the server fares: ``/healthz`` for who starts and watches it, ``/metrics`` for Prometheus.

Both hold numbers and the names of stages and endpoints alone, nothing of what a visitor gave.
"""

from collections.abc import Iterable
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, SummaryMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from vitdemo import __version__
from vitdemo.engine import Engine

PATHS = ("/healthz", "/metrics")


class Health(Collector):
    """The numbers of one server, read when they are asked for."""

    def __init__(self, blocks: Any, engine: Engine) -> None:
        self._blocks, self._engine = blocks, engine
        self.registry = CollectorRegistry(auto_describe=False)
        self.registry.register(self)
        ProcessCollector(registry=self.registry)  # memory, processor time, open files

    def summary(self) -> dict[str, Any]:
        """What ``/healthz`` answers."""
        users, checks = self._engine.waiting()
        return {"status": "ok", "version": __version__, "model": self._engine.info.name,
                "waiting": sum(self._line().values()),
                "device": {"waiting": users, "checks": checks},
                "cached_bytes": self._engine.cached_bytes}

    def collect(self) -> Iterable[Metric]:
        """All metrics but the process's own."""
        queue = self._blocks._queue
        waiting = GaugeMetricFamily("vitdemo_waiting", "Requests in line", labels=["line"])
        for line, count in self._line().items():
            waiting.add_metric([line], count)
        device = GaugeMetricFamily("vitdemo_device_waiting", "Who waits for the model",
                                   labels=["who"])
        for who, count in zip(("users", "checks"), self._engine.waiting(), strict=True):
            device.add_metric([who], count)
        requests = CounterMetricFamily("vitdemo_requests", "Requests, and those sent away",
                                       labels=["outcome"])
        for outcome, count in list(queue.counts.items()):
            requests.add_metric([outcome], count)
        families = {
            "seconds": SummaryMetricFamily("vitdemo_stage_seconds", "Seconds by stage",
                                           labels=["stage"]),
            "batch": SummaryMetricFamily("vitdemo_batch_size", "Pictures or texts in one batch",
                                         labels=["stage"])}
        cache = CounterMetricFamily("vitdemo_cache_pictures",
                                    "Pictures whose features were looked for", labels=["outcome"])
        for (name, word), (count, total) in self._engine.measures.values().items():
            if name == "cache":
                cache.add_metric([word], total)
            else:
                families[name].add_metric([word], count_value=count, sum_value=total)
        kept = GaugeMetricFamily("vitdemo_cache_bytes", "Of the features that are kept",
                                 value=self._engine.cached_bytes)
        return [waiting, device, requests, cache, kept, *families.values()]

    def _line(self) -> dict[str, int]:
        """How many wait, by the line; lines that Gradio named by numbers count together."""
        counts: dict[str, int] = {"long": 0, "checks": 0, "other": 0}
        for name, queue in list(self._blocks._queue.event_queue_per_concurrency_id.items()):
            counts[name if name in counts else "other"] += len(queue.queue)
        return counts


async def healthz(request: Request) -> Response:
    """That the server answers, and how many wait."""
    return JSONResponse(request.app.get_blocks().health.summary())


async def metrics(request: Request) -> Response:
    """The metrics as text."""
    text = generate_latest(request.app.get_blocks().health.registry)
    return Response(text, headers={"content-type": CONTENT_TYPE_LATEST})


def health_routes() -> list[Route]:
    """The routes of both."""
    return [Route(path, answer) for path, answer in zip(PATHS, (healthz, metrics), strict=True)]
