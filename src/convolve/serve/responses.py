"""Answers in JSON, and one-line errors for requests that cannot be answered."""

import json
import traceback
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from convolve.atomic import always_utf8
from convolve.errors import FormatError, unknown_name


class Json(JSONResponse):
    def render(self, content: Any) -> bytes:
        return in_json(content)


def in_json(content: Any) -> bytes:
    return always_utf8(json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))).encode()


async def refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    said = error.detail
    if error.status_code in (404, 405) and said in ("Not Found", "Method Not Allowed"):  # Starlette's own words
        said = f"{request.method} {request.url.path}: {said}; the page is at /, images go to POST /predict"
        names = request.app.state.names
        first = request.url.path.removeprefix(request.scope["root_path"]).partition("/")[2].partition("/")[0]
        if len(names) > 1 and error.status_code == 404 and first not in names:
            said += f" or POST /MODEL/predict; {unknown_name('model', first, names)}"
    return Json({"error": said}, error.status_code, error.headers)


async def bad_image(_request: Request, error: Exception) -> Response:
    return Json({"error": str(error)}, status_of(error))


def status_of(error: Exception) -> int:
    """The HTTP status for a DataError about an image."""
    return 415 if isinstance(error, FormatError) else 413


async def gone(_request: Request, _error: Exception) -> Response:
    return Response(status_code=400)  # for the log at most: nobody is there to read it


async def failed(_request: Request, error: Exception) -> Response:
    traceback.print_exception(error)
    return Json({"error": f"{type(error).__name__}: {error} (a fault of convolve, please report it)"}, 500)
