"""The app: a page and the API of each model, and the endpoints for operators."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from convolve.atomic import always_utf8
from convolve.errors import DataError
from convolve.model import Model
from convolve.serve.engine import engine_of
from convolve.serve.metrics import Measured
from convolve.serve.openapi import openapi, openapi_page
from convolve.serve.page import files, page
from convolve.serve.protocol import Protocol
from convolve.serve.responses import Json, bad_image, failed, gone, in_json, refused
from convolve.serve.service import Service, Shared
from convolve.serve.upload import Limits


def create_app(models: Mapping[str, Model], limits: Limits | None = None, engines: bool = False) -> Starlette:
    """The app for models by their names; paths without a name mean the first.

    It answers everybody: `guard.guarded` controls access. With `engines`, onnxruntime answers as soon as it is ready.
    """
    shared = Shared(limits or Limits())
    services = [Service(model, name, shared) for name, model in models.items()]
    names = list(models)
    answering: list[asyncio.Task[None]] = []

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        answering.extend(asyncio.create_task(service.batcher.run()) for service in services)
        running = [*answering, asyncio.create_task(_quicken(services if engines else []))]
        yield
        for task in running:
            task.cancel()
        await asyncio.wait(running)

    async def ready(_request: Request) -> Json:
        is_ready = bool(answering) and not any(task.done() for task in answering)
        return Json({"ready": is_ready}, 200 if is_ready else 503)

    app = Starlette(
        routes=[
            *_questions(services[0], names, "", ""),
            *(route for service in services for route in _questions(service, names, f"/{service.name}", "../")),
            *(Route(f"/{name}", partial(_to_page, name)) for name in names),
            *(Route(path, _health) for path in ("/health", "/v2/health/live")),
            *(Route(path, ready) for path in ("/ready", "/v2/health/ready")),
            Route("/metrics", shared.metrics.page),
            *Protocol({service.name: service for service in services}).routes,
            *_description(names),
        ],
        middleware=[Middleware(Measured, metrics=shared.metrics)],
        exception_handlers={HTTPException: refused, DataError: bad_image, ClientDisconnect: gone, Exception: failed},
        lifespan=lifespan,
    )
    app.state.names = names
    return app


async def _quicken(services: Sequence[Service]) -> None:
    for service in services:  # one after the other: each takes a core and memory for some seconds
        service.batcher.engine = await engine_of(service.model, service.batcher.threads)


async def _health(_request: Request) -> Json:
    return Json({"status": "ok"})


async def _to_page(name: str, _request: Request) -> Response:
    return RedirectResponse(f"{name}/")  # relative: a proxy may have taken a part of the path away


def _questions(service: Service, names: Sequence[str], at: str, up: str) -> list[Route]:
    """A model's page and API, under the path `at`."""
    return [
        Route(f"{at}/predict", service.predict, methods=["POST"]),  # the first match counts
        _text(f"{at}/", page(service.model, service.name, names, up), "text/html"),
        *(_text(at + path, content, media_type) for path, content, media_type in files()),
        Route(f"{at}/explain", service.explain, methods=["POST"]),
        Route(f"{at}/classes", service.classes),
    ]


def _description(names: list[str]) -> list[Route]:
    document = openapi(names)
    described = in_json(document).decode()
    return [_text("/openapi.json", described, "application/json"), _text("/docs", openapi_page(document), "text/html")]


def _text(path: str, content: str, media_type: str) -> Route:
    async def endpoint(_request: Request) -> Response:
        return Response(always_utf8(content), media_type=media_type)

    return Route(path, endpoint)
