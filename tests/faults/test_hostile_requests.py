"""Uploads and clients that mean harm, or are broken: refused in JSON, and everybody else is still answered."""

from __future__ import annotations

import struct
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import ExitStack

import cv2
import numpy as np
import pytest
from hostile_requests import hostile_requests
from serving import PATIENCE_SECONDS, Answer, Client, encoded, everything, noise, serving
from sound import tiny_model

from convolve.model import Model
from convolve.serve import server
from convolve.serve.upload import Limits

GOOD = encoded(noise(28, 28))
HEAD = b"POST /predict HTTP/1.1\r\nHost: localhost\r\n"


@pytest.fixture(scope="module")
def digits() -> Model:
    return tiny_model()


@pytest.fixture(scope="module")
def client(digits: Model) -> Iterator[Client]:
    with serving(digits) as client:
        yield client


def assert_refused(answer: Answer, status: int, *words: str) -> None:
    """One line of JSON with all of `words`."""
    assert answer.status == status, answer
    assert list(answer.said) == ["error"] and "\n" not in answer.said["error"], answer
    for word in words:
        assert word in answer.said["error"]


def png(width: int, height: int, pixels: bytes = b"") -> bytes:
    """A gray PNG file that says it has that size."""
    parts = ((b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)), (b"IDAT", pixels), (b"IEND", b""))
    chunks = (struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
              for kind, data in parts)  # fmt: skip
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


# -- what is sent ------------------------------------------------------------------------------------------------------

BOMBS = {
    "says it is huge": png(100_000, 100_000),
    "is huge": png(12_000, 12_000, zlib.compress(bytes(12_001 * 12_000))),  # 144 MB in 140 KB
    "gif": b"GIF89a" + struct.pack("<HH", 65535, 65535) + bytes(20),
    "bmp": b"BM" + bytes(12) + struct.pack("<Iii", 40, 2**30, 2**30) + bytes(28),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_before_they_are_decoded(name: str, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("it was decoded"))
    assert_refused(client.ask("/predict", BOMBS[name]), 413, "limit of")


@pytest.mark.parametrize(("height", "width"), [(1, 1_000_000), (1_000_000, 1)])
def test_a_hair_is_not_scaled_up(height: int, width: int, client: Client) -> None:
    assert_refused(client.ask("/predict", encoded(np.zeros((height, width, 1), np.uint8))), 413, "too narrow")


WRONG = {
    "text": b"hello, I am no image",
    "page": b"<!doctype html><script>alert(1)</script>",
    "svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "pdf": b"%PDF-1.7\n",
    "program": b"\x7fELF" + bytes(60),
    "heic": b"\x00\x00\x00\x18ftypheic" + bytes(60),
    "zeros": bytes(1000),
    "pickle": b"\x80\x04cos\nsystem\n(S'id'\ntR.",
    "form": b'--x\r\nContent-Disposition: form-data; name="f"; filename="a.png"\r\n\r\n' + GOOD + b"\r\n--x--\r\n",
    "half a png": GOOD[: len(GOOD) // 2],
    "half a jpeg": encoded(noise(64, 64, 3), ".jpg")[:400],
    "damaged png": GOOD[:50] + b"\xff" + GOOD[51:],
    "gif without pictures": b"GIF89a" + struct.pack("<HH", 5, 5) + b"\0\0\0;",
    "no pixels": png(0, 5),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_whole_image_is_refused(name: str, client: Client) -> None:
    assert_refused(client.ask("/predict", WRONG[name]), 415, "the image: ")
    assert_refused(client.ask("/explain", WRONG[name]), 415, "the image: ")


def test_nothing_is_refused(client: Client) -> None:
    assert_refused(client.ask("/predict", b""), 400, "empty")


def test_requests_of_every_kind_to_every_endpoint() -> None:
    """A seeded share of `make attack`."""
    row = hostile_requests(300)
    assert row.failures == [] and {"200", "400", "404", "405"} <= {*row.outcomes}


# -- how it is asked ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/predict?topp=3", 400, ["topp", "did you mean 'top'?"]),
        ("/predict?top=-1", 400, ["whole number"]),
        ("/predict?top=3e9", 400, ["whole number"]),
        ("/predict?top=" + "9" * 30, 400, ["whole number"]),
        ("/explain?class=10", 400, ["below 10"]),
        ("/explain?class=cat", 400, ["whole number"]),
        ("/nowhere", 404, ["/predict"]),
        ("/../../etc/passwd", 404, ["/predict"]),
        ("/page.js", 405, ["POST"]),
    ],
)
def test_questions_that_make_no_sense(path: str, status: int, words: list[str], client: Client) -> None:
    assert_refused(client.ask(path, GOOD), status, *words)


def test_a_question_wants_post(client: Client) -> None:
    assert_refused(client.ask("/predict"), 405, "POST /predict")


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost.evil.example", "", "[::1", "a b"]
)
def test_names_that_point_here_without_our_knowing(host: str, client: Client) -> None:
    for path, body in (("/predict", GOOD), ("/", None), ("/page.js", None)):
        assert_refused(client.ask(path, body, Host=host), 421, "the printed address")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:80", "127.0.0.1:9", "[::1]:8000", "192.168.7.7"])
def test_addresses_and_our_own_name(host: str, client: Client) -> None:
    assert client.ask("/predict", GOOD, Host=host).status == 200


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost:9999", "file://", ""])
def test_pages_of_other_sites(origin: str, client: Client) -> None:
    assert_refused(client.ask("/predict", GOOD, Origin=origin), 403, "other sites")


def test_nobody_else_may_read_or_frame_the_answers(client: Client) -> None:
    own = f"127.0.0.1:{client.port}"
    asked = [client.ask("/"), client.ask("/page.js"), client.ask("/predict", GOOD, Host=own, Origin=f"http://{own}")]
    for status, _, headers in asked:
        assert status == 200
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert headers["x-content-type-options"] == "nosniff"
        assert not any(name.lower().startswith("access-control") for name in headers)


def test_the_name_of_the_model_is_no_markup(client: Client) -> None:
    page = client.ask("/").said
    assert "a &lt;model&gt;" in page and "<model>" not in page


# -- too long, too slow, too many --------------------------------------------------------------------------------------


def test_a_length_beyond_the_limit_is_refused_before_it_is_sent(client: Client) -> None:
    with client.open(HEAD + b"Content-Length: 99999999999\r\n\r\n") as connection:
        assert connection.recv(4096).startswith(b"HTTP/1.1 413")


def test_who_sends_too_much_can_read_why(client: Client) -> None:
    assert_refused(client.ask("/predict", bytes(33 << 20)), 413, "33,554,432")
    said = client.say(HEAD + b"Content-Length: %d\r\nConnection: close\r\n\r\n" % (33 << 20), *[bytes(1 << 20)] * 33)
    assert said.startswith(b"HTTP/1.1 413") and b"33,554,432" in said  # as urllib and nginx ask: once for a connection


CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"


def test_a_length_need_not_be_said(client: Client) -> None:
    half = len(GOOD) // 2
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (GOOD[:half], GOOD[half:]))
    assert client.say(CHUNKED, chunks, b"0\r\n\r\n").startswith(b"HTTP/1.1 200")


def test_bytes_are_counted_as_they_arrive(digits: Model) -> None:
    with serving(digits, Limits(upload_bytes=100_000)) as client, client.open(CHUNKED) as connection:
        for _ in range(2):
            connection.sendall(b"10000\r\n" + bytes(1 << 16) + b"\r\n")
        said = connection.recv(65536)
    assert said.startswith(b"HTTP/1.1 413")


def test_two_lengths_are_refused(client: Client) -> None:
    """Who believes the one sees another request begin than who believes the other (RFC 9112, 6.3)."""
    both = HEAD + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n"
    said = client.say(both)  # ends: the connection is closed
    assert said.startswith(b"HTTP/1.1 400") and said.count(b"HTTP/1.1 ") == 1
    assert b"Transfer-Encoding can't be present" in said


@pytest.mark.parametrize(
    "parts",
    [
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 200_000,),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: a\r\n" * 40_000,),
        (b"GET /" + b"a" * 200_000,),
        (CHUNKED, b"1;" + b"x" * 200_000),
        (CHUNKED, b"1\r\nx\r\n0\r\n", b"X: " + b"a" * 200_000),
    ],
    ids=["header", "headers", "path", "chunk extension", "trailer"],
)
def test_what_is_around_a_body_has_a_limit(parts: tuple[bytes, ...], client: Client) -> None:
    """Nothing of it is counted as an upload, so that it would be memory for everyone who asks."""
    assert b"more than 65,536 bytes" in client.say(*parts)
    assert client.ask("/predict", GOOD).status == 200


def test_many_requests_in_a_row_and_too_many(client: Client) -> None:
    one = HEAD + b"Content-Length: %d\r\n\r\n" % len(GOOD) + GOOD
    assert client.say(one * 20, HEAD + b"Connection: close\r\n\r\n").count(b"HTTP/1.1 200") == 20
    assert b"without waiting for an answer" in client.say(b"GET /page.js HTTP/1.1\r\nHost: localhost\r\n\r\n" * 1000)


def test_other_protocols_are_offered_in_vain(client: Client) -> None:
    """As Java's HttpClient does, which asks for HTTP/2 with its first request."""
    offer = HEAD + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
    last = HEAD + b"Connection: close, Upgrade\r\nUpgrade: h2c\r\n"
    length = b"Content-Length: %d\r\n\r\n" % len(GOOD)
    said = client.say(offer + length + GOOD[:9], GOOD[9:] + last + length, GOOD)
    assert said.count(b"HTTP/1.1 200") == said.count(b"HTTP/1.1 ") == 2
    websocket = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\n\r\n"
    assert client.say(websocket).startswith(b"HTTP/1.1 200")
    assert b"no proxy" in client.say(b"CONNECT evil.example:443 HTTP/1.1\r\nHost: localhost\r\n\r\n")


def test_two_hosts_are_none(client: Client) -> None:
    said = client.say(b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\nConnection: close\r\n\r\n")
    assert said.startswith(b"HTTP/1.1 421")


@pytest.mark.parametrize(
    "request_", [b"\x16\x03\x01\x02\x00\x01", b"GET\r\n\r\n", HEAD + b"Content-Length: many\r\n\r\n", b"A" * 100_000]
)
def test_what_is_no_http(request_: bytes, client: Client) -> None:
    assert client.say(request_)[:12] in (b"HTTP/1.1 400", b"")
    assert client.ask("/predict", GOOD).status == 200


def test_half_a_request_holds_nothing(digits: Model) -> None:
    """Each of them held more than half of the budget, until it went."""
    size = len(GOOD)
    with serving(digits, Limits(upload_bytes=size, held_bytes=size + size // 2)) as client:
        for _ in range(5):
            client.open(HEAD + b"Content-Length: %d\r\n\r\n" % len(GOOD), GOOD[:-1]).close()
        assert client.ask("/predict", GOOD).status == 200


def test_what_is_announced_holds_nothing(digits: Model) -> None:
    size = 4 * len(GOOD)
    with serving(digits, Limits(upload_bytes=size, held_bytes=2 * size)) as client, ExitStack() as open_:
        for _ in range(9):
            open_.enter_context(client.open(HEAD + b"Content-Length: %d\r\n\r\n" % size, GOOD[:4]))
        assert client.ask("/predict", GOOD).status == 200


def test_uploads_that_fill_the_memory_together_all_end(digits: Model) -> None:
    """Three that have sent half, where two have room: the oldest can always end, so they do not all wait."""
    size, half = len(GOOD), len(GOOD) // 2
    with serving(digits, Limits(upload_bytes=size, held_bytes=2 * size)) as client, ExitStack() as open_:
        head = HEAD + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % size
        halves = [open_.enter_context(client.open(head, GOOD[:half])) for _ in range(4)]
        for connection in reversed(halves):
            connection.sendall(GOOD[half:])
        assert all(everything(connection).startswith(b"HTTP/1.1 200") for connection in halves)


def test_a_slow_upload_is_given_up(digits: Model) -> None:
    with serving(digits, Limits(upload_seconds=0.3)) as client:
        said = client.say(HEAD + b"Content-Length: 1000\r\n\r\n", GOOD[:10])
        assert said.startswith(b"HTTP/1.1 408") and b"longer than 0.3 s" in said
        assert client.ask("/predict", GOOD).status == 200


def test_uploads_wait_for_their_turn_and_not_for_ever(digits: Model) -> None:
    size = len(GOOD)
    with serving(digits, Limits(upload_bytes=size, held_bytes=size, answer_seconds=3)) as client:
        with client.open(HEAD + b"Content-Length: %d\r\n\r\n" % len(GOOD), GOOD[:-1]) as first:
            assert_refused(client.ask("/predict", GOOD), 503, "too busy")
            assert first.recv(4096).startswith(b"HTTP/1.1 503")
        assert client.ask("/predict", GOOD).status == 200
        with client.open(HEAD + b"Content-Length: %d\r\n\r\n" % len(GOOD), GOOD[:-1]) as first:
            waiting: list[Answer] = []
            thread = threading.Thread(target=lambda: waiting.append(client.ask("/predict", GOOD)))
            thread.start()
            first.sendall(GOOD[-1:])
            thread.join(PATIENCE_SECONDS)
        assert waiting[0].status == 200


@pytest.mark.parametrize("said", [b"", HEAD, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"])
def test_who_says_nothing_more_is_given_up(said: bytes, digits: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "SILENCE_SECONDS", 0.3)
    with serving(digits) as client, client.open(said) as connection:
        everything(connection)  # ends
        assert client.ask("/predict", GOOD).status == 200


def test_more_connections_than_permitted(digits: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 4)
    with serving(digits) as client:
        idle = [client.open() for _ in range(4)]
        assert client.say(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n") == b""
        for connection in idle:
            connection.close()
        until = time.monotonic() + PATIENCE_SECONDS  # when the server has seen them go
        while not client.say(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"):
            assert time.monotonic() < until
        assert client.ask("/predict", GOOD).status == 200
