"""One model behind the server: predictions (`/predict`), and where the model looks (`/explain`)."""

import asyncio
import base64
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeVar

import cv2
import numpy as np
import torch
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from convolve.errors import DataError, unknown_name
from convolve.explanation import cells_for, occlusion
from convolve.model import Model
from convolve.records import TargetKind
from convolve.serve.batching import MOST_IMAGES, Answer, Batcher, Image, Prepared, Probabilities
from convolve.serve.bodies import Part, Parts, parts_of
from convolve.serve.metrics import Metrics
from convolve.serve.responses import Json
from convolve.serve.upload import Limits, Uploads, fitted_image
from convolve.training.metrics import thresholds_of

T = TypeVar("T")

EXPLAINED_AT_ONCE = 2  # a map is a hundred questions, all others ask one
LISTS_AT_ONCE = 4  # requests with several images, each of which has MOST_IMAGES of them prepared at a time


class Shared:
    """What the models of a server have in common. They take `turn` on the cores."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.uploads = Uploads(limits)
        self.turn = asyncio.Lock()
        self.metrics = Metrics()


class Service:
    """Answers about `model`, called `name`."""

    def __init__(self, model: Model, name: str, shared: Shared) -> None:
        self.model = model
        self.name = name
        self.shared = shared
        self.batcher = Batcher(model, shared.turn, partial(shared.metrics.batch, name))
        self.explaining = asyncio.Semaphore(EXPLAINED_AT_ONCE)
        self.listing = asyncio.Semaphore(LISTS_AT_ONCE)
        self.cells = cells_for(model)

    async def predict(self, request: Request) -> Json:
        request.scope["asked"] = self.name, "predict"
        asked = _numbers(request, top=0, seen=0)
        async with self._parts(request) as (parts, is_list):
            if not is_list:
                return Json(self._said(await self._answer(parts[0]), asked))
            async with self.listing:
                return Json({"images": [each async for each in self._each(parts, asked)]})

    async def explain(self, request: Request) -> Json:
        request.scope["asked"] = self.name, "explain"
        index = _numbers(request, **{"class": 0})["class"]
        if self.model.target.kind == TargetKind.NUMBER:
            raise HTTPException(400, "the model gives numbers, and an explanation needs a class")
        if index >= len(self.model.class_names):
            raise HTTPException(400, f"class must be below {len(self.model.class_names)}, got {index}")
        async with self._parts(request) as (parts, _):
            if len(parts) > 1:
                raise HTTPException(400, f"an explanation needs one image, but there are {len(parts)}")
            prepared = (await self._answer(parts[0])).prepared
            by_itself = self.model.target.kind == TargetKind.CLASSES
            work = occlusion(self._ask, prepared.image_CHW, index, self.cells, by_itself=by_itself)
            async with self.explaining:
                change_RS = await _unless_gone(request, work)
        name = self.model.class_names[index]
        return Json({"class": name, "index": index, "change": change_RS.round(4).tolist()})

    async def classes(self, _request: Request) -> Json:
        kind = "numbers" if self.model.target.kind == TargetKind.NUMBER else "classes"
        return Json({"model": self.name, kind: self.model.class_names})

    @asynccontextmanager
    async def body(self, request: Request) -> AsyncIterator[bytes]:
        """The uploaded content, within all limits, which apply until the block ends."""
        try:
            async with asyncio.timeout(self.shared.limits.answer_seconds), self.shared.uploads.receive(request) as body:
                yield body
        except TimeoutError:
            busy = f"too busy to answer within {self.shared.limits.answer_seconds:g} s; try again later"
            raise HTTPException(503, busy, {"Retry-After": "10"}) from None

    @asynccontextmanager
    async def _parts(self, request: Request) -> AsyncIterator[Parts]:
        async with self.body(request) as body:
            yield await parts_of(request.headers, body, self.shared.limits.upload_bytes)

    async def answers(self, prepare: Sequence[Callable[[], Prepared]]) -> AsyncIterator[Answer | DataError]:
        """The answer for each image, or the error about it."""
        for first in range(0, len(prepare), MOST_IMAGES):  # so that never more are in memory
            asking = map(self.batcher.answer, prepare[first : first + MOST_IMAGES])
            for answer in await asyncio.gather(*asking, return_exceptions=True):
                if isinstance(answer, BaseException) and not isinstance(answer, DataError):
                    raise answer
                yield answer if isinstance(answer, DataError) else _finite(answer)

    async def _each(self, parts: Sequence[Part], asked: dict[str, int]) -> AsyncIterator[dict[str, Any]]:
        answers = self.answers([partial(self.prepared, part) for part in parts])
        names = (part.name for part in parts)
        async for answer in answers:
            said = {"error": str(answer)} if isinstance(answer, DataError) else self._said(answer, asked)
            yield {"name": next(names), **said}

    async def _answer(self, part: Part) -> Answer:
        return _finite(await self.batcher.answer(partial(self.prepared, part)))

    def prepared(self, part: Part) -> Prepared:
        return fitted_image(part.read(), self.model.preprocess, self.shared.limits, part.name)

    async def _ask(self, image_CHW: Image) -> Probabilities:
        """probabilities_K of an image of the model's size."""
        return _finite(await self.batcher.answer(lambda: Prepared(image_CHW, ""))).probabilities_K

    def _said(self, answer: Answer, asked: dict[str, int]) -> dict[str, Any]:
        said = self._words(answer.probabilities_K, asked["top"]) | {**answer.sure, "fitted": answer.prepared.fitted}
        return said | ({"seen": _png_uri(answer.prepared.image_CHW)} if asked["seen"] else {})

    def _words(self, answers_K: Probabilities, top: int) -> dict[str, Any]:
        """The answer with the fields of `convolve predict --json`. `index` is for `/explain`; if images can have
        several classes, `over` says whether the image has this one, and all it has are listed besides the `top` most
        probable. `top` 0: as many as `predict` gives."""
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
    """`answer`. Raises HTTPException if its probabilities are not finite, which JSON cannot represent."""
    if not np.isfinite(answer.probabilities_K).all():
        raise HTTPException(500, "the model's answer is not a number; are --mean and --scale as in its training?")
    return answer


async def _unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`; it is canceled, and ClientDisconnect raised, when the client has gone."""
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
