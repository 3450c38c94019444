"""The server around the app: where it listens, and how long it waits for silent clients."""

import asyncio
import errno
import ipaddress
import logging
import socket
import ssl
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import httptools
import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from convolve.errors import UsageError
from convolve.serve.responses import in_json

MAX_CONNECTIONS = 512  # half of the files that a process may usually open
MAX_HEAD_BYTES = 1 << 16  # as most servers have it
MAX_PIPELINED = 256  # requests that one connection sends before the first of them is answered
SILENCE_SECONDS = 20.0
STOPPING_SECONDS = 8  # for those who wait for an answer when the end comes; containers are killed after 10


class Connection(HttpToolsProtocol):
    """A connection that is closed if the client does not send a complete request head, or does not read its answer, in
    time. Once a request has begun, the app's limits apply. The parser itself has none.
    """

    _deadline: asyncio.TimerHandle | None = None
    _unsaid_bytes = 0  # that came since the parser last told of anything: in them are heads and trailers, never a body

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        # asyncio does so for sockets that name TCP, which `create_server` does not. Without it, the body of an answer
        # waits 40 ms for the acknowledgment of its head.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if len(self.connections) > MAX_CONNECTIONS:
            transport.abort()
        else:
            self._wait_for_request()

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        self._unsaid_bytes += len(data)
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            self._decline(data[offer.args[0] :])
        except httptools.HttpParserError as error:
            self.send_400_response(str(error.__context__ or error))  # the context: what a method below raised
        if self._unsaid_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response(f"its head has more than {MAX_HEAD_BYTES:,} bytes")

    def _decline(self, rest: bytes) -> None:
        """Treat a request that offers another protocol as HTTP/1.1; Java's client offers HTTP/2 with each first one.
        The parser would not read its body.
        """
        lines = [b"%b %b HTTP/1.1" % (self.parser.get_method(), self.url)]
        lines += [b"%b: %b" % header for header in self.headers if header[0] != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        self.data_received(b"\r\n".join([*lines, b"", rest]))

    def on_headers_complete(self) -> None:
        self._unsaid_bytes = 0
        if self.parser.get_method() == b"CONNECT":
            raise httptools.HttpParserError("this server is no proxy")
        if len(self.pipeline) == MAX_PIPELINED:
            raise httptools.HttpParserError("too many requests without waiting for an answer")
        if not self.parser.should_upgrade():
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._unsaid_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._unsaid_bytes = 0
        if not self.parser.should_upgrade():
            super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        said = in_json({"error": f"this is not a valid request: {msg}"})
        head = "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: application/json\r\n"
        self.transport.write(f"{head}Content-Length: {len(said)}\r\n\r\n".encode() + said)
        self.transport.close()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._wait_for_request()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._deadline:
            self._deadline.cancel()

    def _wait_for_request(self) -> None:
        if self._deadline:
            self._deadline.cancel()
        self._deadline = self.loop.call_later(SILENCE_SECONDS, self._give_up)

    def _give_up(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.transport.abort()  # `close` would wait until everything written is taken


def _heard_out(app: ASGIApp) -> ASGIApp:
    """`app`, whose answers end only after their requests: the rest of a request that was answered early is read and
    discarded. Closing a socket with unread bytes resets the connection, so a client or proxy that is still sending
    would lose the answer. Clients that wait for permission to send (`Expect: 100-continue`) have nothing left to send.
    """

    async def heard_out(scope: Scope, receive: Receive, send: Send) -> None:
        sends = scope["type"] == "http" and (b"expect", b"100-continue") not in scope["headers"]

        async def watched() -> Message:
            nonlocal sends
            message = await receive()
            sends = message.get("more_body", False)
            return message

        async def send_to_the_end(message: Message) -> None:
            is_end = message["type"] == "http.response.body" and not message.get("more_body", False)
            await send({**message, "more_body": True} if is_end else message)
            if is_end:
                with suppress(TimeoutError):
                    async with asyncio.timeout(SILENCE_SECONDS):
                        while sends:
                            await watched()
                await send({"type": "http.response.body"})

        await app(scope, watched, send_to_the_end)

    return heard_out


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one. Raises UsageError if that is impossible."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address, family=family, backlog=MAX_CONNECTIONS)
    except (socket.gaierror, UnicodeError):
        raise UsageError(f"--host {host}: there is no such address; 127.0.0.1 is for this machine only") from None
    except OSError as error:
        way_out = {
            errno.EADDRINUSE: "another program listens there; choose another --port, or 0 for any that is free",
            errno.EACCES: "the system keeps it for others (ports below 1024 need more rights); choose another --port",
            errno.EADDRNOTAVAIL: "the address is not this machine's; choose another --host",
        }.get(error.errno or 0, error.strerror)
        raise UsageError(f"cannot listen on {host}, port {port}: {way_out}") from None


def tls_files(certificate: Path | None, key: Path | None) -> dict[str, Path]:
    """uvicorn's settings for encryption: none without a certificate. Raises UsageError for what cannot be used."""
    if certificate is None:
        if key is not None:
            raise UsageError("--tls-key goes with --tls-cert")
        return {}
    try:
        # An encrypted key would have OpenSSL ask for its password.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password="")
    except OSError as error:  # SSLError is one
        names = f"--tls-cert {certificate}" + (f", --tls-key {key}" if key else "")
        unfit = "not a certificate and its key in PEM form, without a password"
        raise UsageError(f"{names}: {unfit if isinstance(error, ssl.SSLError) else error.strerror}") from None
    return {"ssl_certfile": certificate, "ssl_keyfile": key or certificate}


def address_of(listener: socket.socket, tls: object = None) -> str:
    """The URL of a listening socket for a browser on this machine, or on others where it is open to them."""
    scheme = "https" if tls else "http"
    host, port = listener.getsockname()[:2]
    host = _outward() if host == "0.0.0.0" else {"::": "::1"}.get(host, host)
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _outward() -> str:
    """This machine's address in its network. Nothing is sent: a datagram socket only looks up the way."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # of RFC 5737, for documentation
        except OSError:  # there is no network
            return "127.0.0.1"
        return str(probe.getsockname()[0])


def is_open(listener: socket.socket) -> bool:
    """Whether other machines can reach a listening socket."""
    return not ipaddress.ip_address(listener.getsockname()[0]).is_loopback


def server_for(app: ASGIApp, tls: Mapping[str, Path] | None = None, *, proxy_headers: bool = False) -> uvicorn.Server:
    """A server for sockets of `listen`. `run` ends on Ctrl-C, with KeyboardInterrupt, and on SIGTERM."""
    logging.getLogger("python_multipart").setLevel(logging.CRITICAL)  # it warns of forms that are none
    return uvicorn.Server(
        uvicorn.Config(
            _heard_out(app),
            http=Connection,
            loop="asyncio",  # uvloop, where it is installed, raises for an answer that nobody waits for any more
            ws="none",
            lifespan="on",
            log_config=None,
            log_level="critical",  # what strangers do wrong is answered, not printed; our faults the app prints
            access_log=False,
            proxy_headers=proxy_headers,
            server_header=False,
            timeout_graceful_shutdown=STOPPING_SECONDS,
            ssl_certfile=(tls or {}).get("ssl_certfile"),
            ssl_keyfile=(tls or {}).get("ssl_keyfile"),
        )
    )
