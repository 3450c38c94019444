"""Broken, smuggled and cut requests on every path of a server: none may be a fault of ours, and sound ones between them
are answered. `make fuzz` runs it.

    python tests/serve/fuzz_server.py 10000
"""

from __future__ import annotations

import base64
import json
import random
import socket
import sys
import time
from collections import Counter
from io import BytesIO
from zipfile import ZIP_DEFLATED, ZipFile

from serving import Client, encoded, noise, serving

from convolve.model import Model
from convolve.models import build_model
from convolve.serve.upload import Limits
from convolve.specs.model import ModelSpec
from convolve.transforms.preprocess import Preprocess

GOOD = encoded(noise(28, 28))
PATHS = [
    *["/predict", "/predict?top=3", "/predict?seen=1", "/explain?class=1", "/m/predict", "/v2/models/m/infer"] * 4,
    "/v2/models/m", "/", "/docs", "/metrics", "/classes", "/health", "/page.js", "/openapi.json", "/v2", "/nowhere",
    "/%2e%2e/etc/passwd", "/m", "*", "http://evil/", "/\u00e9",
]  # fmt: skip
METHODS = ["POST"] * 20 + ["GET", "HEAD", "PUT", "OPTIONS", "TRACE", "CONNECT", "PRI", "get", ""]
HEADERS = [
    *["Content-Type: application/json", "Content-Type: multipart/form-data; boundary=x", "X: y"] * 5,
    "Content-Type: multipart/form-data", "Content-Length: 5", "Content-Length: -1", "Content-Length: 99999999999999",
    "Transfer-Encoding: chunked", "Transfer-Encoding: gzip", "Host: evil", "Origin: https://evil", "X : y", "\u00ff: z",
    "Expect: 100-continue", "Upgrade: h2c\r\nConnection: Upgrade", "Content-Encoding: gzip", "X: " + "a" * 70_000,
    "Inference-Header-Content-Length: 7", "Inference-Header-Content-Length: x", "Connection: close", "X:\x00", "",
]  # fmt: skip


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
    nested = b"[" * 100_000
    return [GOOD, b"", form, packed(GOOD), packed(packed(GOOD)), nested, *(json.dumps(one).encode() for one in said)]


def request(dice: random.Random, sound: list[bytes]) -> bytes:
    body = bytearray(dice.choice(sound))
    for _ in range(dice.choice([0, 0, 1, 4])):
        if body:
            body[dice.randrange(len(body))] = dice.randrange(256)
    lines = [f"{dice.choice(METHODS)} {dice.choice(PATHS)} HTTP/{dice.choice(['1.1'] * 9 + ['1.0', '2', '9.9'])}"]
    lines += ["Host: localhost"] * dice.choice([*[1] * 18, 0, 2])
    lines += dice.sample(HEADERS, dice.choice([0, 0, 1, 1, 2]))
    if dice.random() < 0.95:
        lines.append(f"Content-Length: {len(body)}")
    said = "\r\n".join([*lines, "", ""]).encode("utf-8") + body
    return said[: dice.randrange(len(said))] if dice.random() < 0.2 else said * dice.choice([1, 1, 1, 2])


def answer(client: Client, said: bytes) -> bytes:
    """What comes back when nothing more is sent."""
    try:
        with client.open(said) as connection:
            connection.shutdown(socket.SHUT_WR)
            received = b""
            while part := connection.recv(65536):
                received += part
            return received
    except OSError:
        return b""


def main(count: int) -> int:
    spec = ModelSpec(variant="tiny")
    preprocess = Preprocess(1, 28, 28, 0.0, 1 / 256, known_from="")
    model = Model(build_model(spec, (1, 28, 28), 10, 0), spec, preprocess, tuple("0123456789"))
    dice, sound, seen, faults, slowest = random.Random(0), bodies(), Counter[bytes](), 0, 0.0
    with serving({"m": model}, Limits(upload_seconds=2, answer_seconds=30)) as client:
        for number in range(count):
            said = request(dice, sound)
            found = answer(client, said)
            seen[found[9:12]] += 1
            if b"HTTP/1.1 500" in found:
                faults += 1
                print(f"request {number}: {said[:300]!r}\n{found[-300:]!r}")
            if number % 20 == 0:
                began = time.monotonic()
                assert client.ask("/predict", GOOD).status == 200
                slowest = max(slowest, time.monotonic() - began)
    print(f"{count} requests, {faults} faults, sound ones within {slowest:.2f} s; {dict(seen.most_common())}")
    return faults > 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
