"""Who requested what, and how long it took: one line of JSON for each request."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from logging import makeLogRecord
from logging.handlers import WatchedFileHandler
from pathlib import Path
from typing import Self

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from convolve.errors import UsageError


@dataclass(frozen=True)
class AccessLog:
    """Middleware that writes to `file` if there is one."""

    file: WatchedFileHandler | None

    @classmethod
    @contextmanager
    def to(cls, path: Path | None) -> Iterator[Self]:
        """A log that ends with the block. Raises UsageError if `path` cannot be written."""
        if path is None:
            yield cls(None)
            return
        try:
            file = WatchedFileHandler(path, encoding="utf-8")  # logrotate may take it away
        except OSError as error:
            raise UsageError(f"--access-log {path}: {error.strerror}") from None
        file.handleError = lambda record: None  # type: ignore[method-assign]  # a full disk costs the line, no request
        try:
            yield cls(file)
        finally:
            with suppress(OSError):
                file.close()

    def __call__(self, app: ASGIApp) -> ASGIApp:
        if self.file is None:
            return app
        file = self.file

        async def logged(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            began, seen = time.perf_counter(), {"status": 0, "received": 0, "sent": 0}  # status 0: none was sent

            async def counted_receive() -> Message:
                message = await receive()
                seen["received"] += len(message.get("body", b""))
                return message

            async def counted_send(message: Message) -> None:
                seen["status"] = message.get("status", seen["status"])
                seen["sent"] += len(message.get("body", b""))
                await send(message)

            try:
                await app(scope, counted_receive, counted_send)
            finally:
                _write(file, _line(scope, seen, time.perf_counter() - began))

        return logged


def _line(scope: Scope, seen: dict[str, int], seconds: float) -> str:
    said = {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "client": scope["client"][0] if scope["client"] else None,
        "method": scope["method"],
        "path": scope["path"],
        "query": scope["query_string"].decode("latin-1"),
        **seen,
        "milliseconds": round(1000 * seconds, 2),
    }
    return json.dumps(said)


def _write(file: WatchedFileHandler, line: str) -> None:
    file.handle(makeLogRecord({"msg": line}))
