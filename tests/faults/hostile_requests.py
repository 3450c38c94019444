"""Broken, huge, slow and smuggled requests to every endpoint.

    python tests/faults/hostile_requests.py [COUNT] [--seed N]

None may be a fault of ours, a sound request between them is answered, and memory stays within its budget.
"""

from __future__ import annotations

import argparse
import base64
import json
import random
import socket
import sys
import time
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

FOLDER = Path(__file__).parent
sys.path[:0] = [str(FOLDER), *(str(FOLDER.parent / name) for name in (".", "importers", "serve"))]

from serving import Client, encoded, noise, serving  # noqa: E402
from sound import tiny_model  # noqa: E402
from trials import Row, report, resident_bytes  # noqa: E402

from convolve.serve.app import create_app  # noqa: E402
from convolve.serve.upload import Limits  # noqa: E402

MOST_BYTES = 1 << 30  # of memory: the budgets of uploads, of pixels and of answers
MOST_OPEN = 40  # slow clients at a time
GOOD = encoded(noise(28, 28))
OTHER_PATHS = [
    "/nowhere",
    "/%2e%2e/etc/passwd",
    "/../../etc/passwd",
    "*",
    "http://evil/",
    "/\u00e9",
    "//m",
    "/m/predict/",
]
QUESTIONS = ["", "?top=3", "?seen=1", "?class=1", "?top=-1", "?top=999999999", "?x=1", "?" + "a" * 5000, "?top=1&top=0"]
METHODS = ["POST"] * 20 + ["GET"] * 4 + ["HEAD", "PUT", "OPTIONS", "TRACE", "CONNECT", "PRI", "get", "DELETE", ""]
HEADERS = [
    *["Content-Type: application/json", "Content-Type: multipart/form-data; boundary=x", "X: y"] * 5,
    "Content-Type: multipart/form-data", "Content-Length: 5", "Content-Length: -1", "Content-Length: +5",
    "Content-Length: 99999999999999", "Content-Length: " + "9" * 5000, "Content-Length: 0x10", "Content-Length: ",
    "Transfer-Encoding: chunked", "Transfer-Encoding: gzip", "Transfer-Encoding: chunked, chunked", "X: a\r\n folded",
    "Host: evil", "Host: a@localhost", "Origin: https://evil", "Origin: null", "X : y", "\u00ff: z", "X:\x00", "",
    "Expect: 100-continue", "Upgrade: h2c\r\nConnection: Upgrade", "Content-Encoding: gzip", "X: " + "a" * 70_000,
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    "Inference-Header-Content-Length: 7", "Inference-Header-Content-Length: x", "Connection: close",
]  # fmt: skip


def endpoints() -> list[str]:
    """Every path that the application has, of one model."""
    paths = {route.path for route in create_app({"m": tiny_model()}).routes}  # type: ignore[attr-defined]
    return sorted(path.replace("{name}", "m").replace("{version}", "1") for path in paths)


def packed(content: bytes) -> bytes:
    file = BytesIO()
    with ZipFile(file, "w", ZIP_DEFLATED) as archive:
        archive.writestr("a.png", content)
    return file.getvalue()


def bodies() -> list[bytes]:
    text = base64.b64encode(GOOD).decode()
    tensor = {"name": "images", "shape": [1], "datatype": "BYTES", "data": [text]}
    form = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n' + GOOD + b"\r\n--x--\r\n"
    said = [{"image": text}, {"images": [text, "?"]}, {"inputs": [tensor]}, {"inputs": [{**tensor, "shape": [2**40]}]}]
    nested, many = b"[" * 100_000, form[:-8] * 200
    found = [GOOD, b"", form, many, packed(GOOD), packed(packed(GOOD)), nested, b"\x80\x04cos\nsystem\n."]
    return [*found, *(json.dumps(one).encode() for one in said)]


def request(dice: random.Random, sound: list[bytes], paths: list[str]) -> bytes:
    body = bytearray(dice.choice(sound))
    for _ in range(dice.choice([0, 0, 1, 4])):
        if body:
            body[dice.randrange(len(body))] = dice.randrange(256)
    asking = [path for path in paths if path.endswith(("/predict", "/explain", "/infer"))]
    path = dice.choice([*paths, *asking * 4, *OTHER_PATHS]) + dice.choice([*[""] * 12, *QUESTIONS])
    lines = [f"{dice.choice(METHODS)} {path} HTTP/{dice.choice(['1.1'] * 9 + ['1.0', '2', '9.9'])}"]
    lines += ["Host: localhost"] * dice.choice([*[1] * 18, 0, 2])
    lines += dice.sample(HEADERS, dice.choice([0, 0, 0, 0, 1, 1, 2]))
    if dice.random() < 0.95:
        lines.append(f"Content-Length: {len(body)}")
    said = "\r\n".join([*lines, "", ""]).encode("utf-8") + body
    return said[: dice.randrange(len(said))] if dice.random() < 0.2 else said * dice.choice([1, 1, 1, 2])


def huge(dice: random.Random, paths: list[str]) -> bytes:
    """More than is taken, in chunks or announced; a chunk that says it is huge; lengths of both kinds."""
    head = f"POST {dice.choice(paths)} HTTP/1.1\r\nHost: localhost\r\n".encode()
    chunked, size = b"Transfer-Encoding: chunked\r\n\r\n", 34 << 20
    return head + dice.choice([
        b"Content-Length: %d\r\n\r\n" % size + bytes(size),
        chunked + (b"100000\r\n" + bytes(1 << 20) + b"\r\n") * 34,
        chunked + b"ffffffffffffffff\r\n" + bytes(1000),
        b"Content-Length: 4\r\n" + chunked + (b"100000\r\n" + bytes(1 << 20) + b"\r\n") * 34,
        b"Content-Length: 4\r\n" + chunked + b"0\r\n\r\nGET /health HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"X: a\r\n" * 40_000,
    ])  # fmt: skip


def answer(client: Client, said: bytes) -> bytes:
    """What comes back when nothing more is sent."""
    received = b""
    with suppress(OSError), client.open() as connection:
        with suppress(OSError):  # it may be refused before all is sent
            connection.sendall(said)
            connection.shutdown(socket.SHUT_WR)
        while part := connection.recv(65536):
            received += part
    return received


class Slow:
    """Clients that send a byte now and then, and never the whole."""

    def __init__(self, client: Client) -> None:
        self._client, self._open = client, list[socket.socket]()

    def go_on(self, dice: random.Random, said: bytes) -> None:
        with suppress(OSError):
            self._open.append(self._client.open(said[: dice.randrange(max(1, len(said)))]))
        for connection in self._open:
            with suppress(OSError):
                connection.sendall(b"a")
        while len(self._open) > MOST_OPEN:
            self._open.pop(0).close()


def hostile_requests(count: int, seed: int = 0) -> Row:
    """`count` of them, a sound one between each twenty: `seconds` is what the slowest of these waited."""
    row, dice, sound, paths = Row("hostile requests"), random.Random(seed), bodies(), endpoints()
    with serving({"m": tiny_model()}, Limits(upload_seconds=2, answer_seconds=30)) as client:
        assert client.ask("/predict", GOOD).status == 200
        slow, before = Slow(client), resident_bytes()
        for number in range(count):
            said = huge(dice, paths) if dice.random() < 0.01 else request(dice, sound, paths)
            if dice.random() < 0.1:
                slow.go_on(dice, said)
            found = answer(client, said)
            row.n += 1
            row.outcomes[found[9:12].decode("latin-1") if found[:5] == b"HTTP/" else "closed"] += 1
            if b"HTTP/1.1 500" in found or b"Traceback" in found:
                row.failures.append(f"request {number} of seed {seed}: {said[:300]!r}: {found[-300:]!r}")
            if number % 20 == 0:
                began = time.monotonic()
                assert client.ask("/predict", GOOD).status == 200
                row.seconds = max(row.seconds, time.monotonic() - began)
                row.extra_bytes = max(row.extra_bytes, resident_bytes() - before)
    if row.extra_bytes > MOST_BYTES:
        row.failures.append(f"memory grew by {row.extra_bytes >> 20} MiB")
    return row


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("count", type=int, nargs="?", default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write what became of them to this file")
    asked = parser.parse_args()
    return report([hostile_requests(asked.count, asked.seed)], asked.json)


if __name__ == "__main__":
    sys.exit(main())
