"""Every way in which a mirror can fail, against servers on 127.0.0.1."""

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from convolve.data import download as module
from convolve.data.download import RemoteFile, download
from convolve.errors import ConvolveError, MissingDataError

BODY = bytes(range(256)) * 4096  # 1 MiB
Behavior = Callable[[BaseHTTPRequestHandler], None]


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def mirror() -> Iterator[Callable[[Behavior], str]]:
    """A factory of servers: what to do with a GET -> the server's URL."""
    servers: list[ThreadingHTTPServer] = []

    def start(behavior: Behavior) -> str:
        handler = type("Handler", (BaseHTTPRequestHandler,), {"do_GET": behavior, "log_message": lambda *_: None})
        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), handler))
        servers[-1].handle_error = lambda *_: None  # we may hang up on it
        threading.Thread(target=servers[-1].serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}/"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def send(handler: BaseHTTPRequestHandler, status: int, body: bytes, length: int | None, **headers: str) -> None:
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    if length is not None:
        handler.send_header("Content-Length", str(length))
    handler.end_headers()
    handler.wfile.write(body)


def good(handler: BaseHTTPRequestHandler) -> None:
    if "Range" not in handler.headers:
        return send(handler, 200, BODY, len(BODY))
    start = int(handler.headers["Range"].removeprefix("bytes=").removesuffix("-"))
    rest = BODY[start:]
    return send(handler, 206, rest, len(rest), Content_Range=f"bytes {start}-{len(BODY) - 1}/{len(BODY)}")


def ignores_range(handler: BaseHTTPRequestHandler) -> None:
    send(handler, 200, BODY, len(BODY))


def dies_half_way(handler: BaseHTTPRequestHandler) -> None:
    send(handler, 200, BODY[: len(BODY) // 2], len(BODY))


def wrong_bytes(handler: BaseHTTPRequestHandler) -> None:
    send(handler, 200, bytes(len(BODY)), len(BODY))


def log_in_page(handler: BaseHTTPRequestHandler) -> None:
    send(handler, 200, b"<html>", 6)


def page_of_any_length(handler: BaseHTTPRequestHandler) -> None:
    send(handler, 200, b"<html>log in</html>", None, Content_Type="text/html; charset=utf-8")


def endless(handler: BaseHTTPRequestHandler) -> None:
    send(handler, 200, BODY * 2, None)


def wrong_range(handler: BaseHTTPRequestHandler) -> None:
    send(handler, 206, BODY[5:], None, Content_Range=f"bytes 5-{len(BODY) - 1}/{len(BODY)}")


def missing(handler: BaseHTTPRequestHandler) -> None:
    handler.send_error(404)


def silent(handler: BaseHTTPRequestHandler) -> None:
    threading.Event().wait(0.5)


def remote(*mirrors: str, checksum: str = hashlib.md5(BODY).hexdigest()) -> list[RemoteFile]:
    return [RemoteFile("data.gz", mirrors, len(BODY), checksum)]


@pytest.mark.parametrize("kind", ["md5", "sha256"])
def test_a_good_mirror_delivers_and_reports_progress(mirror, tmp_path: Path, kind: str) -> None:
    seen: list[tuple[str, int, int]] = []
    files = remote(mirror(good), checksum=hashlib.new(kind, BODY).hexdigest())
    download(files, tmp_path / "new" / "folder", lambda *event: seen.append(event))
    assert (tmp_path / "new" / "folder" / "data.gz").read_bytes() == BODY
    assert seen[-1] == ("data.gz", len(BODY), len(BODY))
    assert [done for _, done, _ in seen] == sorted({done for _, done, _ in seen})


def test_what_is_there_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "data.gz").write_bytes(b"put here by hand")
    download(remote("http://127.0.0.1:9/"), tmp_path)
    assert (tmp_path / "data.gz").read_bytes() == b"put here by hand"


@pytest.mark.parametrize("bad", [missing, dies_half_way, wrong_bytes, log_in_page])
def test_the_next_mirror_takes_over(mirror, tmp_path: Path, bad: Behavior) -> None:
    download(remote(mirror(bad), mirror(good)), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["data.gz"]
    assert (tmp_path / "data.gz").read_bytes() == BODY


def test_two_processes_bring_a_file_once(mirror, tmp_path: Path) -> None:
    asked: list[str] = []

    def counted(handler: BaseHTTPRequestHandler) -> None:
        asked.append(handler.path)
        time.sleep(0.2)  # as long as the other may come in between
        good(handler)

    files = remote(mirror(counted))
    threads = [threading.Thread(target=download, args=(files, tmp_path)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert asked == ["/data.gz"]
    assert [path.name for path in tmp_path.iterdir()] == ["data.gz"]
    assert (tmp_path / "data.gz").read_bytes() == BODY


@pytest.mark.parametrize(("server", "first_progress"), [(good, len(BODY) // 2), (ignores_range, 0)])
def test_an_interrupted_transfer_goes_on(mirror, tmp_path: Path, server: Behavior, first_progress: int) -> None:
    with pytest.raises(MissingDataError, match=f"after {len(BODY) // 2} of {len(BODY)} bytes"):
        download(remote(mirror(dies_half_way)), tmp_path)
    assert (tmp_path / "data.gz.part").stat().st_size == len(BODY) // 2

    seen: list[int] = []
    download(remote(mirror(server)), tmp_path, lambda name, done, size: seen.append(done))
    assert first_progress < seen[0] <= first_progress + module.BLOCK_BYTES
    assert (tmp_path / "data.gz").read_bytes() == BODY


@pytest.mark.parametrize("left", [b"damaged", bytes(len(BODY)), bytes(len(BODY) + 1)], ids=["short", "whole", "long"])
def test_a_damaged_remainder_is_thrown_away(mirror, tmp_path: Path, left: bytes) -> None:
    (tmp_path / "data.gz.part").write_bytes(left)
    download(remote(mirror(good)), tmp_path)
    assert (tmp_path / "data.gz").read_bytes() == BODY


def test_a_whole_remainder_needs_no_network(tmp_path: Path) -> None:
    (tmp_path / "data.gz.part").write_bytes(BODY)
    download(remote("http://127.0.0.1:9/"), tmp_path)
    assert (tmp_path / "data.gz").read_bytes() == BODY


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (missing, "404 Not Found"),
        (wrong_bytes, "the checksum is wrong"),
        (log_in_page, "it offers 6 bytes"),
        (page_of_any_length, "it answers with a web page"),
        (wrong_range, "sent others"),
        (silent, "timed out"),
    ],
)
def test_when_all_mirrors_fail_each_reason_is_told(
    mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bad: Behavior, reason: str
) -> None:
    if bad is silent:  # others answer, however long that takes on a busy machine
        monkeypatch.setattr(module, "TIMEOUT_SECONDS", 0.1)
    with pytest.raises(MissingDataError, match=rf"127\.0\.0\.1:\d+: .*{reason}.*; 127\.0\.0\.1:9: .*refused"):
        download(remote(mirror(bad), "http://127.0.0.1:9/"), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_server_without_end_is_cut_off(mirror, tmp_path: Path) -> None:
    download(remote(mirror(endless)), tmp_path)
    assert (tmp_path / "data.gz").read_bytes() == BODY


def test_a_full_disk_is_no_fault_of_the_mirror(mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "refuse_link", lambda path: None)  # the full disk of this test lies behind one
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    (tmp_path / "data.gz.part").symlink_to("/dev/full")
    with pytest.raises(ConvolveError, match=r"cannot write .*data\.gz: No space left on device; .*--data") as raised:
        download(remote(mirror(good)), tmp_path)
    assert not isinstance(raised.value, MissingDataError)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConvolveError, match="cannot write"):
        download(remote("http://127.0.0.1:9/"), tmp_path / "file" / "mnist")
