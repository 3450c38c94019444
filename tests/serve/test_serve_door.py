"""The door: other names, other sites, prefixes, proxies, tokens and encryption."""

from __future__ import annotations

import base64
import json
import re
import signal
import socket
import ssl
import subprocess
import urllib.request
from pathlib import Path

import pytest
from serving import Client, encoded, noise, serving

import processes
from command_line import Convolve, assert_refused
from convolve.model import Model
from convolve.serve.access_log import AccessLog
from convolve.serve.guard import Access

GOOD = encoded(noise(28, 28))
TOKEN = "a-token-of-more-than-16-characters"


def test_answers_do_not_wait_for_acknowledgments(digits: Model) -> None:
    """Nagle's algorithm held each body back until the client had acknowledged the head."""
    with serving(digits) as client:
        connection = client.open(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        connection.recv(1)
        assert client.server
        [protocol] = client.server.server_state.connections
        their = protocol.transport.get_extra_info("socket")
        assert their.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        connection.close()


# -- names and sites ---------------------------------------------------------------------------------------------------


def test_public_names(digits: Model) -> None:
    with serving(digits, access=Access(public_hosts=["photos.example.org", "classifier", "d.example:8443"])) as client:
        for host in ("photos.example.org", "Photos.Example.org:443", "classifier:8000", "d.example", "d.example:8443"):
            assert client.ask("/", Host=host).status == 200
            assert client.ask("/predict", GOOD, Host=host).status == 200
        refused = client.ask("/predict", GOOD, Host="other.example.org")
        assert refused.status == 421 and "--public-host" in refused.said["error"]


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("https://photos.example.org", 200),
        ("https://d.example:8443", 200),
        ("https://photos.example.org:9999", 403),  # another service on that machine
        ("https://d.example", 403),
        ("https://evil.example", 403),
        ("null", 403),
    ],
)
def test_the_page_behind_a_proxy_that_does_not_hand_its_name_on(origin: str, status: int, digits: Model) -> None:
    with serving(digits, access=Access(public_hosts=["photos.example.org", "d.example:8443"])) as client:
        assert client.ask("/predict", GOOD, Origin=origin).status == status


def test_pages_of_permitted_sites(digits: Model) -> None:
    ours, other = "http://localhost:3000", "https://evil.example"
    with serving(digits, access=Access(origins=[ours], tokens=[TOKEN])) as client:
        wanted = {"Access_Control_Request_Method": "POST", "Access_Control_Request_Headers": "authorization"}
        said = client.ask("/predict", method="OPTIONS", Origin=ours, **wanted)
        assert said.status == 200  # a preflight brings no token
        assert said.headers["access-control-allow-origin"] == ours
        assert "Authorization" in said.headers["access-control-allow-headers"]
        assert client.ask("/predict", method="OPTIONS", Origin=other, **wanted).status == 403
        bearer = {"Authorization": f"Bearer {TOKEN}"}
        answered = client.ask("/predict", GOOD, Origin=ours, **bearer)
        assert (answered.status, answered.headers["access-control-allow-origin"]) == (200, ours)
        locked = client.ask("/predict", GOOD, Origin=ours)
        assert (locked.status, locked.headers["access-control-allow-origin"]) == (401, ours)  # so that it can be read
        refused = client.ask("/predict", GOOD, Origin=other, **bearer)
        assert refused.status == 403 and "access-control-allow-origin" not in refused.headers
    with serving(digits, access=Access(origins=["*"])) as client:
        assert client.ask("/predict", GOOD, Origin=other).headers["access-control-allow-origin"] == "*"
        assert client.ask("/predict", GOOD, Host="evil.example").status == 421


def test_a_prefix_with_and_without(digits: Model) -> None:
    """Some proxies take the prefix away, others do not."""
    with serving(digits, access=Access(root_path="/m/digits")) as client:
        for prefix in ("", "/m/digits"):
            assert client.ask(f"{prefix}/page.js").status == 200
            assert client.ask(f"{prefix}/predict", GOOD).status == 200
        assert client.ask("/m/digitsx/predict", GOOD).status == 404
        moved = client.ask("/m/digits")  # without the slash, page.css would be looked for in /m
        assert moved.status == 307 and moved.headers["location"].endswith("/m/digits/")


# -- tokens ------------------------------------------------------------------------------------------------------------


def test_who_has_a_token(digits: Model) -> None:
    with serving(digits, access=Access(tokens=["another-token-of-some-length", TOKEN])) as client:
        as_password = base64.b64encode(f"anyone:{TOKEN}".encode()).decode()
        for given in (f"Bearer {TOKEN}", f"bearer {TOKEN}", f"Basic {as_password}"):
            assert client.ask("/predict", GOOD, Authorization=given).status == 200
            assert client.ask("/", Authorization=given).status == 200
        wrong = [
            "",
            TOKEN,
            "Bearer ",
            f"Bearer {TOKEN}x",
            f"Bearer {TOKEN[:-1]}",
            "Basic !",
            "Basic Og==",
            "Bearer \xe9",
        ]
        for given in wrong:
            refused = client.ask("/predict", GOOD, Authorization=given)
            assert refused.status == 401 and "Bearer TOKEN" in refused.said["error"]
        for path in ("/", "/page.js", "/predict", "/health/../predict", "//predict"):
            assert client.ask(path).status == 401


def test_who_watches_needs_no_token(digits: Model) -> None:
    with serving(digits, access=Access(tokens=[TOKEN], root_path="/m")) as client:
        for path in ("/health", "/m/health", "/ready"):
            assert client.ask(path).status != 401


# -- the command -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Of localhost, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    words = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
    words += " -addext subjectAltName=DNS:localhost -keyout key.pem -out cert.pem"
    subprocess.run(words.split(), cwd=folder, check=True, capture_output=True)
    return folder / "cert.pem", folder / "key.pem"


def test_all_of_it_together(model: Path, certificate: tuple[Path, Path], tmp_path: Path) -> None:
    cert, key = certificate
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    log = tmp_path / "access.jsonl"
    words = ["--tls-cert", cert, "--tls-key", key, "--token", tmp_path / "token", "--access-log", log]
    words += ["--host", "0.0.0.0", "--port", "0", "--root-path", "/m", "--proxy-headers"]
    command = processes.start(tmp_path / "log", "serve", model, "--no-onnxruntime", *words)
    command.wait_until(lambda: "Ctrl-C" in command.log.with_suffix(".out").read_text())
    said = command.log.with_suffix(".out").read_text()
    address = re.sub(r"//[^:]+:", "//localhost:", said.split()[3])  # whose name the certificate has
    assert address.startswith("https://") and address.endswith("/m") and "without" not in said
    headers = {"Authorization": f"Bearer {TOKEN}", "X-Forwarded-For": "192.0.2.7"}
    asked = urllib.request.Request(f"{address}/predict?top=2", GOOD, headers)
    with urllib.request.urlopen(asked, context=ssl.create_default_context(cafile=cert)) as answer:
        assert len(json.load(answer)["classes"]) == 2
    command.send(signal.SIGINT)
    command.outcome()
    [line] = map(json.loads, log.read_text().splitlines())
    assert line["client"] == "192.0.2.7" and TOKEN not in log.read_text()
    assert (line["method"], line["path"], line["query"], line["status"]) == ("POST", "/m/predict", "top=2", 200)
    assert line["received"] == len(GOOD) and line["sent"] > 0 and line["milliseconds"] > 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is always full")
def test_a_full_disk_costs_lines_of_the_log_and_no_request(digits: Model) -> None:
    with AccessLog.to(Path("/dev/full")) as log, serving(digits, wrapped=log) as client:
        assert [client.ask("/predict", GOOD).status for _ in range(3)] == [200, 200, 200]


def test_a_request_under_way_is_answered_at_the_end(model: Path, tmp_path: Path) -> None:
    command = processes.start(tmp_path / "log", "serve", model, "--no-onnxruntime", "--port", "0")
    command.wait_until(lambda: "Ctrl-C" in command.log.with_suffix(".out").read_text())
    port = int(command.log.with_suffix(".out").read_text().split()[3].rpartition(":")[2])
    client = Client(port)
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(GOOD)
    with client.open(head, GOOD[:-1]) as connection:
        client.ask("/")  # the server has seen the upload begin
        command.send(signal.SIGTERM)
        command.wait_until(lambda: not _listens(port))
        connection.sendall(GOOD[-1:])
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
    assert command.outcome().code == -signal.SIGTERM


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return False
    return True


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--public-host", "https://photos.example.org/"], "like photos.example.org"),
        (["--public-host", "*"], "like photos.example.org"),
        (["--allow-origin", "example.org/page"], "without a path"),
        (["--allow-origin", "null"], "like https://example.org"),
        (["--root-path", "photos"], "like /photos"),
        (["--root-path", "/photos/"], "like /photos"),
        (["--token", "nowhere"], "No such file"),
        (["--token", "short"], "16 characters"),
        (["--token", "empty"], "16 characters"),
        (["--token", "binary"], "no text file"),
        (["--tls-key", "short"], "goes with --tls-cert"),
        (["--tls-cert", "short"], "PEM"),
        (["--tls-cert", "nowhere"], "No such file"),
        (["--access-log", "nowhere/log"], "No such file"),
    ],
)
def test_what_is_no_door(
    words: list[str], said: str, model: Path, convolve: Convolve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, content in {"short": b"secret", "empty": b"\n", "binary": b"\xff\xfe\0" * 9}.items():
        Path(name).write_bytes(content)
    assert_refused(convolve("serve", model, "--port", "0", *words), 2, words[0], said)


def test_a_key_of_another_certificate(
    model: Path, certificate: tuple[Path, Path], convolve: Convolve, tmp_path: Path
) -> None:
    other = tmp_path / "key.pem"
    words = ["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", other]
    subprocess.run(words, check=True, capture_output=True)
    refused = convolve("serve", model, "--port", "0", "--tls-cert", certificate[0], "--tls-key", other)
    assert_refused(refused, 2, str(other), "PEM")
