"""A server of ours in this process, and clients that say exactly what they are told."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPConnection
from typing import Any, NamedTuple

import cv2
import numpy as np
import uvicorn
from starlette.types import ASGIApp

from convolve.model import Model
from convolve.serve.app import create_app
from convolve.serve.guard import Access, guarded
from convolve.serve.server import listen, server_for
from convolve.serve.upload import Limits

PATIENCE_SECONDS = 300.0  # for machines that are busy with something else


class Answer(NamedTuple):
    status: int
    said: Any  # what was in the JSON
    headers: Mapping[str, str]


class Client:
    """Asks one server; a new connection for each request."""

    def __init__(self, port: int, server: uvicorn.Server | None = None) -> None:
        self.port = port
        self.server = server

    def ask(self, path: str, body: bytes | None = None, method: str | None = None, **headers: str) -> Answer:
        """POST where there is a body, else GET. `_` in the name of a header stands for `-`."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_SECONDS)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method or ("GET" if body is None else "POST"), path, body, named)
        response = connection.getresponse()
        content = response.read()
        connection.close()
        is_json = response.headers.get_content_type() == "application/json"
        return Answer(response.status, json.loads(content) if is_json else content.decode(), dict(response.headers))

    def open(self, *parts: bytes) -> socket.socket:
        """A connection on which `parts` were sent."""
        connection = socket.create_connection(("127.0.0.1", self.port), PATIENCE_SECONDS)
        for part in parts:
            connection.sendall(part)
        return connection

    def say(self, *parts: bytes) -> bytes:
        """Everything that comes back for `parts` until the server closes."""
        with self.open(*parts) as connection:
            return everything(connection)


def everything(connection: socket.socket) -> bytes:
    received = b""
    try:
        while part := connection.recv(65536):
            received += part
    except ConnectionResetError:
        pass
    return received


@contextmanager
def serving(
    model: Model | Mapping[str, Model],
    limits: Limits | None = None,
    access: Access | None = None,
    wrapped: Callable[[ASGIApp], ASGIApp] = lambda app: app,
    engines: bool = False,
) -> Iterator[Client]:
    models = {"a <model>": model} if isinstance(model, Model) else model
    listener = listen("127.0.0.1", 0)
    server = server_for(wrapped(guarded(create_app(models, limits, engines), access or Access())))
    client = Client(listener.getsockname()[1], server)
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        yield client
    finally:
        server.should_exit = True
        thread.join(PATIENCE_SECONDS)
        assert not thread.is_alive()


def encoded(image_HWC: np.ndarray, ending: str = ".png") -> bytes:
    """An image, gray or BGR, in a file format that OpenCV writes."""
    return cv2.imencode(ending, image_HWC)[1].tobytes()


def noise(height: int, width: int, channels: int = 1, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)
