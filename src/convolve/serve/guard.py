"""Who may ask: people and programs that mean this server; no page of another site in somebody's browser."""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Everything that the page loads comes from here; nobody else may show or read it.
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src blob: data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


class Guard:
    """Middleware: refuses with 421 or 403 what does not mean this server, and adds HEADERS to every answer.

    `host` is where the server listens, as the user named it.
    """

    def __init__(self, app: ASGIApp, host: str) -> None:
        self.app = app
        name = socket.gethostname().lower()
        self.names = {"localhost", host.lower(), name, f"{name}.local"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        refused = self._refused(Headers(scope=scope))
        await (refused or self.app)(scope, receive, send_with_headers)

    def _refused(self, headers: Headers) -> JSONResponse | None:
        host = headers.get("host", "")
        if not self._means_us(host):
            # DNS rebinding: a name of some site, made to point at this machine, would let that site's page ask us.
            return JSONResponse({"error": f"no server called {host!r} here; use the address that was printed"}, 421)
        origin = headers.get("origin")
        if origin is not None and origin.lower().partition("://")[2] != host.lower():  # browsers send it with each POST
            return JSONResponse({"error": "pages of other sites may not ask this server"}, 403)
        return None

    def _means_us(self, host: str) -> bool:
        """Whether `host` is an address, which no foreign name server has a say in, or a name of this machine."""
        try:
            name = urlsplit(f"//{host}").hostname or ""
            return name in self.names or bool(ipaddress.ip_address(name))
        except ValueError:
            return False
