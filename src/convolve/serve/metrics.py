"""A server's metrics, in the form that Prometheus reads."""

import time

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.process_collector import ProcessCollector
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)
BATCHES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        labels = ("model", "question")
        self._requests = Counter("convolve_requests", "Requests answered.", (*labels, "status"), registry=registry)
        self._seconds = Histogram("convolve_request_seconds", "From request to answer.", labels, buckets=SECONDS,
                                  registry=registry)  # fmt: skip
        self._batches = Histogram("convolve_batch_images", "Images in one batch of a model.", ("model",),
                                  buckets=BATCHES, registry=registry)  # fmt: skip

    def batch(self, model: str, images: int) -> None:
        self._batches.labels(model).observe(images)

    def answered(self, model: str, question: str, status: int, seconds: float) -> None:
        self._requests.labels(model, question, status).inc()
        self._seconds.labels(model, question).observe(seconds)

    async def page(self, _request: Request) -> Response:
        return Response(generate_latest(self._registry), media_type=CONTENT_TYPE_LATEST)


class Measured:
    """Middleware: counts each answer. `app` sets `scope["asked"]` to the model and the endpoint: only known names, so
    that clients cannot create arbitrary many."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500

        async def watched(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await self.app(scope, receive, watched)
        finally:
            model, question = scope.get("asked", ("", "other"))
            self.metrics.answered(model, question, status, time.perf_counter() - began)
