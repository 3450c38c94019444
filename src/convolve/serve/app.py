"""The page and its two questions: what is it (`/predict`), and where does the model look (`/explain`)?"""

from __future__ import annotations

import asyncio
import base64
import json
import traceback
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeVar

import cv2
import numpy as np
import torch
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from convolve.atomic import always_utf8
from convolve.errors import DataError, FormatError, unknown_name
from convolve.model import Model
from convolve.records import TargetKind
from convolve.serve.batching import Answer, Batcher, Image, Prepared, Probabilities
from convolve.serve.occlusion import cells_for, occlusion
from convolve.serve.page import files, page
from convolve.serve.upload import Limits, Uploads, fitted_image
from convolve.training.metrics import thresholds_of

T = TypeVar("T")

EXPLAINED_AT_ONCE = 2  # a map is a hundred questions, all others ask one


def create_app(model: Model, name: str, limits: Limits | None = None) -> Starlette:
    """The app for `model`, which the page calls `name`. It answers everybody: `guard.guarded` is the door."""
    service = _Service(model, limits or Limits())
    return Starlette(
        routes=[
            *(_text(*file) for file in [("/", page(model, name), "text/html"), *files()]),
            Route("/predict", service.predict, methods=["POST"]),
            Route("/explain", service.explain, methods=["POST"]),
        ],
        exception_handlers={
            HTTPException: _refused,
            DataError: _bad_image,
            ClientDisconnect: _gone,
            Exception: _failed,
        },
        lifespan=service.lifespan,
    )


class _Json(JSONResponse):
    def render(self, content: Any) -> bytes:
        return always_utf8(json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))).encode()


class _Service:
    def __init__(self, model: Model, limits: Limits) -> None:
        self.model = model
        self.limits = limits
        self.batcher = Batcher(model)
        self.uploads = Uploads(limits)
        self.explaining = asyncio.Semaphore(EXPLAINED_AT_ONCE)
        self.cells = cells_for(model)

    @asynccontextmanager
    async def lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        answering = asyncio.create_task(self.batcher.run())
        yield
        answering.cancel()
        await asyncio.wait([answering])

    async def predict(self, request: Request) -> _Json:
        asked = _numbers(request, top=0, seen=0)
        async with self._answer(request) as (prepared, probabilities_K, sure):
            said = self._words(probabilities_K, asked["top"]) | {**sure, "fitted": prepared.fitted}
            if asked["seen"]:
                said["seen"] = _png_uri(prepared.image_CHW)
        return _Json(said)

    async def explain(self, request: Request) -> _Json:
        index = _numbers(request, **{"class": 0})["class"]
        if self.model.target.kind == TargetKind.NUMBER:
            raise HTTPException(400, "the model gives numbers, and the map is of a class")
        if index >= len(self.model.class_names):
            raise HTTPException(400, f"class must be below {len(self.model.class_names)}, it is {index}")
        async with self._answer(request) as (prepared, *_), self.explaining:
            by_itself = self.model.target.kind == TargetKind.CLASSES
            work = occlusion(self._ask, prepared.image_CHW, index, self.cells, by_itself=by_itself)
            change_RS = await _unless_gone(request, work)
        name = self.model.class_names[index]
        return _Json({"class": name, "index": index, "change": change_RS.round(4).tolist()})

    @asynccontextmanager
    async def _answer(self, request: Request) -> AsyncIterator[Answer]:
        """The answer for the uploaded image, within all limits, which hold until the block ends."""
        preprocess = self.model.preprocess
        try:
            async with asyncio.timeout(self.limits.answer_seconds), self.uploads.receive(request) as encoded:
                yield _finite(await self.batcher.answer(partial(fitted_image, encoded, preprocess, self.limits)))
        except TimeoutError:
            busy = f"too busy to answer within {self.limits.answer_seconds:g} s; try again later"
            raise HTTPException(503, busy, {"Retry-After": "10"}) from None

    async def _ask(self, image_CHW: Image) -> Probabilities:
        """probabilities_K of an image that has the model's size."""
        return _finite(await self.batcher.answer(lambda: Prepared(image_CHW, ""))).probabilities_K

    def _words(self, answers_K: Probabilities, top: int) -> dict[str, Any]:
        """The answer in the words of `convolve predict --json`. `index` is what `/explain` takes; where an image can be
        of several classes, `over` says whether it is of this one, and those it is of are there beside the `top`
        likeliest. `top` 0: as many as `predict` says."""
        names, target = self.model.class_names, self.model.target
        if target.kind == TargetKind.NUMBER:
            return {"numbers": dict(zip(names, answers_K.tolist(), strict=True))}
        several = target.kind == TargetKind.CLASSES
        [found] = self.model.likeliest(torch.from_numpy(answers_K)[None], len(names) if several else top or None)
        said: list[dict[str, Any]] = [{"class": names[k], "probability": p, "index": k} for k, p in found]
        if several:
            limits = thresholds_of(target, len(names))
            said = [each | {"over": each["probability"] >= limits[each["index"]]} for each in said]
        return {"classes": [each for rank, each in enumerate(said) if not several or rank < top or each["over"]]}


def _numbers(request: Request, **defaults: int) -> dict[str, int]:
    """The whole numbers in a request's address, in place of their defaults. Raises HTTPException."""
    numbers = dict(defaults)
    for name, text in request.query_params.items():
        if name not in defaults:
            raise HTTPException(400, unknown_name("parameter", name, defaults))
        if not (text.isascii() and text.isdigit() and len(text) < 10):
            raise HTTPException(400, f"{name} must be a whole number, got {text!r}")
        numbers[name] = int(text)
    return numbers


def _finite(answer: Answer) -> Answer:
    """`answer`. Raises HTTPException where its probabilities are none, for which JSON has no word."""
    if not np.isfinite(answer.probabilities_K).all():
        raise HTTPException(500, "the model's answer is not a number; are --mean and --scale as in its training?")
    return answer


async def _unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """What `work` gives; it is canceled, and ClientDisconnect raised, when nobody waits for it any more."""
    working, leaving = asyncio.create_task(work), asyncio.create_task(_has_gone(request))
    try:
        await asyncio.wait([working, leaving], return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        working.cancel()
        leaving.cancel()


async def _has_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _png_uri(image_CHW: Image) -> str:
    """The picture, gray or in RGB planes, as a data URI."""
    planes_HWC = np.ascontiguousarray(image_CHW[::-1].transpose(1, 2, 0))  # RGB -> OpenCV's BGR
    return "data:image/png;base64," + base64.b64encode(cv2.imencode(".png", planes_HWC)[1].tobytes()).decode("ascii")


def _text(path: str, content: str, media_type: str) -> Route:
    async def endpoint(_request: Request) -> Response:
        return Response(always_utf8(content), media_type=media_type)

    return Route(path, endpoint)


# -- errors: one line of JSON ----------------------------------------------------------------------------------------


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    said = error.detail
    if error.status_code in (404, 405):  # Starlette's own words
        said = f"{request.method} {request.url.path}: {said}; the page is at /, images go to POST /predict"
    return _Json({"error": said}, error.status_code, error.headers)


async def _bad_image(_request: Request, error: Exception) -> Response:
    return _Json({"error": str(error)}, 415 if isinstance(error, FormatError) else 413)


async def _gone(_request: Request, _error: Exception) -> Response:
    return Response(status_code=400)  # for the log at most: nobody is there to read it


async def _failed(_request: Request, error: Exception) -> Response:
    traceback.print_exception(error)
    return _Json({"error": f"{type(error).__name__}: {error} (a fault of convolve, please report it)"}, 500)
