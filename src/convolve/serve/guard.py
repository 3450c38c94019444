"""Access control: people and programs that address this server on purpose; no page of another site in somebody's
browser."""

import base64
import binascii
import ipaddress
import re
import secrets
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from convolve.atomic import read_ordinary
from convolve.errors import UsageError

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
_HEADERS = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
PROBES = ("/health", "/ready", "/v2/health/live", "/v2/health/ready")  # those who watch over servers have no token
TRITON_HEADER = "Inference-Header-Content-Length"  # of the Open Inference Protocol's binary extension
_NAME = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9_.-]+)(:[0-9]{1,5})?")


@dataclass(frozen=True)
class Access:
    """`host` is where the server listens, as the user named it; `public_hosts`, with a port where browsers show one,
    are the names under which proxies reach it; pages of `origins` may ask, and where there are `tokens`, only who has
    one; a proxy puts `root_path` before every path, whether it takes it away again or not."""

    host: str = "127.0.0.1"
    public_hosts: Sequence[str] = ()
    origins: Sequence[str] = ()
    tokens: Sequence[str] = ()
    root_path: str = ""

    def __post_init__(self) -> None:
        for name in self.public_hosts:
            if not _NAME.fullmatch(name):
                raise UsageError(f"--public-host {name}: give a name as browsers show it, like photos.example.org")
        for origin in self.origins:
            scheme, _, site = origin.partition("://")
            if origin != "*" and not (scheme in ("http", "https") and _NAME.fullmatch(site)):
                raise UsageError(f"--allow-origin {origin}: give a site like https://example.org, without a path")
        if self.root_path and not re.fullmatch(r"(/[A-Za-z0-9._~-]+)+", self.root_path):
            raise UsageError(f"--root-path {self.root_path}: give what the proxy puts before every path, like /photos")


def read_tokens(path: Path) -> list[str]:
    """The tokens in a file, one a line. Raises UsageError where there is none."""
    try:
        tokens = read_ordinary(path, 1 << 20).decode("ascii").split()
    except (OSError, UnicodeError) as error:
        raise UsageError(f"--token {path}: {getattr(error, 'strerror', None) or 'it is no text file'}") from None
    if not tokens or min(map(len, tokens)) < 16:
        raise UsageError(f"--token {path}: write tokens of 16 characters or more, one per line (openssl rand -hex 32)")
    return tokens


def guarded(app: ASGIApp, access: Access) -> ASGIApp:
    """`app` behind access control."""
    if access.tokens:
        app = _Locked(app, access.tokens)
    if access.origins:
        headers = ("Authorization", TRITON_HEADER)
        app = CORSMiddleware(app, access.origins, ("GET", "POST"), headers, expose_headers=(TRITON_HEADER,))
    return _Guard(app, access)


class _Guard:
    """Middleware: refuses requests that are not meant for this server, and adds HEADERS to every answer."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self.app = app
        self.access = access
        name = socket.gethostname().lower()
        public = {urlsplit(f"//{name}").hostname or "" for name in access.public_hosts}
        self.names = {"localhost", access.host.lower(), name, f"{name}.local", *public}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *_HEADERS]
            await send(message)

        scope["root_path"] = self.access.root_path
        refused = self._refused(Headers(scope=scope))
        await (refused or self.app)(scope, receive, send_with_headers)

    def _refused(self, headers: Headers) -> JSONResponse | None:
        host = ", ".join(headers.getlist("host"))  # two of them are a name that is none
        if not self._means_us(host):
            # DNS rebinding: a name of some site, made to point at this machine, would let that site's page ask us.
            way_out = "use the printed address, or start serve with --public-host and that name"
            return _refusal(421, f"no server called {host!r} here; {way_out}")
        origin = headers.get("origin")
        if origin is not None and not self._may_ask(origin.lower(), host.lower()):
            way_out = "--public-host (this server's own name) and --allow-origin (another site) permit it"
            return _refusal(403, f"pages of other sites may not ask this server, {origin!r} neither; {way_out}")
        return None

    def _means_us(self, host: str) -> bool:
        """Whether `host` is an address, which no foreign name server controls, or a name of this machine."""
        try:
            name = urlsplit(f"//{host}").hostname or ""
            return name in self.names or bool(ipaddress.ip_address(name))
        except ValueError:
            return False

    def _may_ask(self, origin: str, host: str) -> bool:
        """Browsers send the origin of the page with each POST."""
        site = origin.partition("://")[2]
        return site == host or site in self.access.public_hosts or not {origin, "*"}.isdisjoint(self.access.origins)


class _Locked:
    """Middleware: answers only with a token: programs send it as Bearer, browsers as the password that they ask for."""

    def __init__(self, app: ASGIApp, tokens: Sequence[str]) -> None:
        self.app = app
        self.tokens = [token.encode() for token in tokens]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].removeprefix(scope["root_path"]) not in PROBES:
            given = _token_in(Headers(scope=scope).get("authorization", ""))
            if not any(secrets.compare_digest(given, token) for token in self.tokens):
                refusal = _refusal(401, "this server requires a token: send the header Authorization: Bearer TOKEN")
                refusal.headers.append("WWW-Authenticate", 'Basic realm="convolve: the token is the password"')
                refusal.headers.append("WWW-Authenticate", 'Bearer realm="convolve"')
                await refusal(scope, receive, send)
                return
        await self.app(scope, receive, send)


def _token_in(authorization: str) -> bytes:
    scheme, _, said = authorization.partition(" ")
    if scheme.lower() != "basic":
        return said.strip().encode() if scheme.lower() == "bearer" else b""
    try:
        return base64.b64decode(said, validate=True).partition(b":")[2]
    except binascii.Error:
        return b""


def _refusal(status: int, said: str) -> JSONResponse:
    return JSONResponse({"error": said}, status)
