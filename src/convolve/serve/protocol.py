"""The Open Inference Protocol: `/v2/...`, with binary tensors, as Triton, KServe and their clients speak it.

Source: github.com/kserve/open-inference-protocol, and Triton's extensions of binary tensor data and classification.
"""

import math
from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from convolve.atomic import always_utf8
from convolve.errors import DataError, unknown_name
from convolve.formats.decode import without_color
from convolve.records import TargetKind
from convolve.serve.batching import Prepared, Probabilities
from convolve.serve.bodies import MOST_PARTS, Part, in_base64, read_json
from convolve.serve.responses import Json, in_json, status_of
from convolve.serve.service import Service
from convolve.transforms.preprocess import fit_image

# Legend: N images, H rows, W columns, C channels, K classes.

INPUT = "images"
JSON_BYTES = "Inference-Header-Content-Length"  # of a body that goes on in binary
VERSION = "1"


class Protocol:
    def __init__(self, services: Mapping[str, Service]) -> None:
        self._services = services

    @property
    def routes(self) -> list[Route]:
        questions = ("/v2/models/{name}", "/v2/models/{name}/versions/{version}")
        return [
            Route("/v2", self.server),
            *(Route(path, self.model) for path in questions),
            *(Route(f"{path}/ready", self.ready) for path in questions),
            *(Route(f"{path}/infer", self.infer, methods=["POST"]) for path in questions),
        ]

    async def server(self, _request: Request) -> Json:
        extensions = ["binary_tensor_data", "classification"]
        return Json({"name": "convolve", "version": version("convolve"), "extensions": extensions})

    async def ready(self, request: Request) -> Json:
        name, _ = self._asked(request, "ready")
        return Json({"name": name, "ready": True})

    async def model(self, request: Request) -> Json:
        name, service = self._asked(request, "model")
        output = {"name": _output(service), "datatype": "FP32", "shape": [-1, len(service.model.class_names)]}
        given = {"name": INPUT, "datatype": "BYTES", "shape": [-1]}
        platform = "onnxruntime" if service.batcher.engine else "pytorch"
        said = {"name": name, "versions": [VERSION], "platform": platform}
        return Json({**said, "inputs": [given], "outputs": [output]})

    async def infer(self, request: Request) -> Response:
        name, service = self._asked(request, "infer")
        async with service.body(request) as body:
            said, tensor = _split(request.headers.get(JSON_BYTES), body)
            wanted = _wanted(said, _output(service))
            prepare = _images(said, tensor, service)
            async with service.listing:
                answers = [_whole(answer) async for answer in service.answers(prepare)]
        output, content = _tensor(np.stack(answers), wanted, _output(service), service.model.class_names)
        answer = {"model_name": name, "model_version": VERSION, **({"id": said["id"]} if "id" in said else {})}
        head = in_json({**answer, "outputs": [output]})
        if content is None:
            return Response(head, media_type="application/json")
        return Response(head + content, 200, {JSON_BYTES: str(len(head))}, "application/octet-stream")

    def _asked(self, request: Request, question: str) -> tuple[str, Service]:
        name, number = request.path_params["name"], request.path_params.get("version", VERSION)
        if name not in self._services:
            raise HTTPException(404, unknown_name("model", name, self._services))
        if number != VERSION:
            raise HTTPException(404, f"the model {name} has no version {number!r}, only {VERSION!r}")
        request.scope["asked"] = name, f"v2/{question}"
        return name, self._services[name]


def _output(service: Service) -> str:
    return "numbers" if service.model.target.kind == TargetKind.NUMBER else "probabilities"


def _whole(answer: Any) -> Probabilities:
    if isinstance(answer, DataError):
        raise HTTPException(status_of(answer), str(answer))
    probabilities_K: Probabilities = answer.probabilities_K
    return probabilities_K


# -- the question ------------------------------------------------------------------------------------------------------


def _split(json_bytes: str | None, body: bytes) -> tuple[dict[str, Any], bytes]:
    """(the JSON, what follows it)."""
    if json_bytes is None:
        return read_json(body), b""
    if not (json_bytes.isascii() and json_bytes.isdigit() and len(json_bytes) < 12 and int(json_bytes) <= len(body)):
        raise HTTPException(400, f"{JSON_BYTES} must be the length of the JSON, of {len(body)} bytes in all")
    return read_json(body[: int(json_bytes)]), body[int(json_bytes) :]


def _of(said: Any, key: str, kind: type, default: Any = None) -> Any:
    """The value of `key` in an object. Raises HTTPException if it has not this `kind`."""
    value = said.get(key, default) if isinstance(said, dict) else None
    if not isinstance(value, kind):
        raise HTTPException(400, f"the request has no {key!r} of the kind that the protocol says")
    return value


def _wanted(said: dict[str, Any], name: str) -> dict[str, Any]:
    """How the one output is wanted: its parameters."""
    asked, parameters = _of(said, "outputs", list, []), _of(said, "parameters", dict, {})
    if asked and [_of(output, "name", str) for output in asked] != [name]:
        raise HTTPException(400, f"the model gives one output, {name!r}")
    if not asked:
        return {"binary_data": parameters.get("binary_data_output", False)}
    return dict(_of(asked[0], "parameters", dict, {}))


def _images(said: dict[str, Any], content: bytes, service: Service) -> list[Callable[[], Prepared]]:
    """What prepares each of the images in the one tensor of the request."""
    given = _of(said, "inputs", list)
    if [_of(each, "name", str) for each in given] != [INPUT]:
        raise HTTPException(400, f"the model takes one input, {INPUT!r}")
    shape, kind = _of(given[0], "shape", list), _of(given[0], "datatype", str)
    if not shape or not all(type(size) is int and 0 < size < 1 << 31 for size in shape):
        raise HTTPException(400, f"the shape of {INPUT!r} must be sizes above 0, got {shape}")
    if (count := math.prod(shape) if kind == "BYTES" else shape[0]) > MOST_PARTS:
        raise HTTPException(413, f"{count:,} images in one request, and the limit is {MOST_PARTS:,}")
    size = _of(given[0], "parameters", dict, {}).get("binary_data_size")
    if size is not None and size != len(content):
        raise HTTPException(400, f"binary_data_size is {size!r}, and {len(content)} bytes follow the JSON")
    data = content if size is not None else _of(given[0], "data", list)
    if kind == "BYTES":
        files = _elements(data) if isinstance(data, bytes) else _decoded(data)
        if len(files) != count:
            raise HTTPException(400, f"the shape of {INPUT!r} is {shape}, but it has {len(files)} elements")
        return [partial(service.prepared, Part(f"images[{n}]", read)) for n, read in enumerate(files)]
    if kind != "UINT8" or len(shape) != 4 or shape[3] not in (1, 3):
        forms = "BYTES (N): image files, or UINT8 (N, H, W, C): gray or RGB"
        raise HTTPException(400, f"{INPUT!r} must be {forms}; it is {kind} {shape}")
    if shape[1] * shape[2] > service.shared.limits.pixels:
        raise HTTPException(413, f"images of {shape[1]}x{shape[2]} pixels, which is more than the limit")
    return [partial(_fitted, image_HWC, service) for image_HWC in _pixels(shape, data)]


def _elements(content: bytes) -> list[Callable[[], bytes]]:
    """The elements of a binary tensor of BYTES: each after its length, in four bytes."""
    files: list[Callable[[], bytes]] = []
    at = 0
    while at + 4 <= len(content):
        end = at + 4 + int.from_bytes(content[at : at + 4], "little")
        files.append(partial(_slice, content, at + 4, end))
        at = end
        if len(files) > MOST_PARTS:
            break
    if at != len(content):
        raise HTTPException(400, f"the binary data of {INPUT!r} do not end with their last element")
    return files


def _slice(content: bytes, start: int, end: int) -> bytes:
    return content[start:end]


def _decoded(data: list[Any]) -> list[Callable[[], bytes]]:
    if not all(isinstance(text, str) for text in data):
        raise HTTPException(400, f"the data of {INPUT!r} must be files in base64, each a string")
    return [in_base64(f"images[{number}]", text) for number, text in enumerate(data)]


def _pixels(shape: list[int], data: bytes | list[Any]) -> NDArray[np.uint8]:
    try:
        values = np.frombuffer(data, np.uint8) if isinstance(data, bytes) else np.array(data)
    except (ValueError, OverflowError):  # lists of several lengths
        values = np.zeros(0)
    if values.size != math.prod(shape) or values.dtype.kind not in "iu" or values.min() < 0 or values.max() > 255:
        raise HTTPException(400, f"the data of {INPUT!r} are not {math.prod(shape):,} whole numbers from 0 to 255")
    return values.astype(np.uint8, copy=False).reshape(shape)


def _fitted(image_HWC: NDArray[np.uint8], service: Service) -> Prepared:
    return Prepared(*fit_image(without_color(image_HWC[:, :, ::-1]), service.model.preprocess))  # RGB -> BGR


# -- the answer --------------------------------------------------------------------------------------------------------


def _tensor(
    values_NK: Probabilities, wanted: dict[str, Any], name: str, class_names: tuple[str, ...]
) -> tuple[dict[str, Any], bytes | None]:
    """(the output, its data if they are wanted in binary)."""
    top = wanted.get("classification", 0)  # Triton's extension: the likeliest classes as VALUE:INDEX:NAME
    if type(top) is not int or top < 0:
        raise HTTPException(400, f"classification must be a number of classes, got {top!r}")
    if top:
        best_NT = np.argsort(-values_NK, axis=1, kind="stable")[:, :top]
        rows = zip(values_NK, best_NT, strict=True)
        data: list[Any] = [f"{row_K[k]:f}:{k}:{class_names[k]}" for row_K, best_T in rows for k in best_T]
        elements = [always_utf8(text).encode() for text in data]
        content = b"".join(len(element).to_bytes(4, "little") + element for element in elements)
        output = {"name": name, "datatype": "BYTES", "shape": [*best_NT.shape]}
    else:
        data, content = values_NK.ravel().tolist(), values_NK.astype("<f4").tobytes()
        output = {"name": name, "datatype": "FP32", "shape": [*values_NK.shape]}
    if wanted.get("binary_data"):
        return {**output, "parameters": {"binary_data_size": len(content)}}, content
    return {**output, "data": data}, None
