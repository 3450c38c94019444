"""A server of files on 127.0.0.1, as a mirror to download from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


@contextmanager
def mirror(contents: dict[str, bytes]) -> Iterator[tuple[str, list[str]]]:
    """Serve name -> content; (the URL to put before a name, the names that were asked for so far)."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path.removeprefix("/"))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(contents[asked[-1]])

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/", asked
        server.shutdown()
