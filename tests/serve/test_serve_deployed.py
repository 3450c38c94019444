"""deploy/: what its files say is done in a fresh folder, with nginx in front."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from browser import Browser, needs_browser
from serving import PATIENCE_SECONDS, encoded, noise

import processes

ROOT = Path(__file__).parents[2]
NAME = "photos.example.org"
NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
GOOD = encoded(noise(28, 28))


def docker_lines(word: str) -> list[str]:
    lines = (ROOT / "deploy/Dockerfile").read_text().splitlines()
    return [line.removeprefix(word).strip() for line in lines if line.startswith(f"{word} ")]


def served_words() -> list[str]:
    """What the container runs in compose, without the program's name."""
    service = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text())["services"]["classifier"]
    program, *words = json.loads(docker_lines("ENTRYPOINT")[0])
    assert program == "convolve"
    return [*words, *service["command"]]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def test_the_image_has_all_that_it_needs(tmp_path: Path) -> None:
    """COPY and RUN of the Dockerfile, with the dependencies that are here."""
    for line in docker_lines("COPY"):
        *sources, target = line.split()
        folder = tmp_path / target.strip("/")
        folder.parent.mkdir(parents=True, exist_ok=True)
        for source in sources:
            path = ROOT / source
            if path.is_dir():
                shutil.copytree(path, folder, ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
            else:
                folder.mkdir(exist_ok=True)
                shutil.copy(path, folder)
    line, _ = docker_lines("RUN")
    words = line.replace("/build", str(tmp_path / "build")).split()
    site = tmp_path / "site"
    here = ["--no-deps", "--no-index", "--no-build-isolation", "--target", str(site)]
    subprocess.run([sys.executable, "-m", *words, *here], check=True, capture_output=True)
    for name in ("page.html", "page.css", "page.js"):
        assert (site / "convolve/serve" / name).is_file()
    code = "import convolve.serve.app as app; print(app.__file__)"
    environ = os.environ | {"PYTHONPATH": str(site)}
    imported = subprocess.run([sys.executable, "-c", code], env=environ, check=True, capture_output=True, text=True)
    assert imported.stdout.startswith(str(site))


def test_what_the_server_keeps_outlives_its_container() -> None:
    """Everybody may write to the cache's folder, which is a volume with a name."""
    [cache] = [word.removeprefix("CONVOLVE_CACHE=") for word in docker_lines("ENV")[0].split() if "CACHE" in word]
    assert docker_lines("RUN")[1] == f"install -d -m 1777 {cache}" and docker_lines("VOLUME") == [cache]
    compose = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text())
    named = dict(mount.split(":")[:2] for mount in compose["services"]["classifier"]["volumes"])
    assert named.keys() & compose["volumes"].keys() == {"cache"} and named["cache"] == cache


class Proxied(NamedTuple):
    port: int
    certificate: Path
    server_port: int

    def ask(self, path: str, *words: object) -> tuple[int, str, str]:
        """Status, HTTP version and body of what curl gets under the public name."""
        url = f"https://{NAME}:{self.port}{path}"
        named = ["--resolve", f"{NAME}:{self.port}:127.0.0.1", "--cacert", self.certificate]
        command = ["curl", "-s", "-w", "\n%{http_code} %{http_version}", *named, *words, url]
        # Not by curl's exit status: nginx may reset an upload that was answered early, after the answer (status 92).
        said = subprocess.run([str(word) for word in command], capture_output=True, check=False).stdout.decode()
        body, _, facts = said.rpartition("\n")
        status, version = facts.split()
        return int(status), version, body


def nginx_text(folder: Path, port: int, server_port: int, prefix: str, target: str) -> str:
    """deploy/nginx.conf as it stands but for what is elsewhere here; with `prefix` before every path."""
    server = (ROOT / "deploy/nginx.conf").read_text()
    changes = {
        "listen 443": f"listen 127.0.0.1:{port}",
        "/etc/nginx/tls": str(folder),
        "http://classifier:8000": f"http://127.0.0.1:{server_port}{target}",
        "location /": f"location {prefix}/",
    }
    for old, new in changes.items():
        assert old in server
        server = server.replace(old, new)
    paths = "".join(
        f"{kind}_temp_path {folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return (
        f"daemon off; pid {folder}/pid; error_log stderr;\nevents {{}}\nhttp {{\naccess_log off;\n{paths}{server}}}\n"
    )


@contextmanager
def proxied(model: Path, folder: Path, prefix: str = "", target: str = "", *more: object) -> Iterator[Proxied]:
    """The container's command on `model`, with `more` words, and nginx in front of it."""
    certificate = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -keyout key.pem"
    certificate += f" -out cert.pem -subj /CN={NAME} -addext subjectAltName=DNS:{NAME}"
    subprocess.run(certificate.split(), cwd=folder, check=True, capture_output=True)
    port, server_port = free_port(), free_port()
    words = [word.replace("0.0.0.0", "127.0.0.1").replace("/model", str(model)) for word in served_words()]
    if prefix:
        words += ["--root-path", prefix]
    command = processes.start(folder / "log", *words, "--no-onnxruntime", "--port", server_port, *more)
    command.wait_until(lambda: "Ctrl-C" in command.log.with_suffix(".out").read_text())
    (folder / "nginx.conf").write_text(nginx_text(folder, port, server_port, prefix, target))
    with subprocess.Popen([str(NGINX), "-e", "stderr", "-c", folder / "nginx.conf"], stderr=subprocess.PIPE) as nginx:
        try:
            until = time.monotonic() + PATIENCE_SECONDS
            while socket.socket().connect_ex(("127.0.0.1", port)):
                assert nginx.poll() is None and time.monotonic() < until, nginx.stderr and nginx.stderr.read()
                time.sleep(0.02)
            yield Proxied(port, folder / "cert.pem", server_port)
        finally:
            nginx.send_signal(signal.SIGQUIT)
            command.send(signal.SIGTERM)
    command.outcome()


with_nginx = pytest.mark.skipif(
    not (NGINX and shutil.which("curl") and hasattr(signal, "SIGQUIT")),
    reason="needs nginx, which ends by SIGQUIT, and curl",
)


@with_nginx
@pytest.mark.parametrize(("prefix", "target"), [("", ""), ("/photos", "/"), ("/photos", "")])
def test_behind_nginx(prefix: str, target: str, model: Path, tmp_path: Path) -> None:
    """Another name, TLS, HTTP/2: without a prefix, with one that nginx takes away, and with one that stays."""
    (tmp_path / "digit.png").write_bytes(GOOD)
    upload = ("--data-binary", f"@{tmp_path / 'digit.png'}")
    with proxied(model, tmp_path, prefix, target) as site:
        status, version, page = site.ask(f"{prefix}/")
        assert (status, version) == (200, "2") and 'src="page.js"' in page
        assert site.ask(f"{prefix}/page.js")[0] == 200
        status, _, answer = site.ask(f"{prefix}/predict?top=3", *upload, "-H", f"Origin: https://{NAME}")
        assert status == 200 and len(json.loads(answer)["classes"]) == 3
        streamed = site.ask(f"{prefix}/predict", *upload, "-H", "Transfer-Encoding: chunked", "--http1.1")
        assert streamed[0] == 200
        for origin in ("https://evil.example", "null", f"https://{NAME}.evil.example"):
            status, _, refused = site.ask(f"{prefix}/predict", *upload, "-H", f"Origin: {origin}")
            assert status == 403 and "other sites" in refused
        if prefix:
            moved = site.ask(prefix, "-o", os.devnull, "-w", "\n%{http_code} %{redirect_url}")
            assert moved[0] in (301, 307)


@with_nginx
@needs_browser
def test_the_page_in_a_browser_behind_nginx(model: Path, tmp_path: Path) -> None:
    """With a prefix, a token, TLS and HTTP/2. Neither the page of another site nor who has no token is answered."""
    token, upload, foreign = "0123456789abcdef" * 2, tmp_path / "digit.png", tmp_path / "foreign"
    (tmp_path / "tokens").write_text(f"{token}\n")
    upload.write_bytes(GOOD)
    foreign.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(foreign)))
    threading.Thread(target=server.serve_forever).start()
    with proxied(model, tmp_path, "/photos", "/", "--token", tmp_path / "tokens") as site:
        flags = [f"--host-resolver-rules=MAP {NAME}:443 127.0.0.1:{site.port}", "--ignore-certificate-errors"]
        browser = Browser(tmp_path / "profile", flags)
        try:
            browser.open(f"https://user:{token}@{NAME}/photos/")
            assert browser.run("performance.getEntriesByType('navigation')[0].nextHopProtocol") == "h2"
            browser.give(upload)
            browser.wait_for_state("done")
            browser.screenshot(tmp_path / "page.png")
            said = json.loads(site.ask("/photos/predict", "-H", f"Authorization: Bearer {token}",
                                       "--data-binary", f"@{upload}")[2])  # fmt: skip
            assert said["classes"][0]["class"] in browser.text("#best") and browser.complaints == []
            assert all(address.startswith((f"https://{NAME}/photos/", f"https://user:{token}@{NAME}/photos/", "data:",
                                           "blob:")) for address in browser.requested)  # fmt: skip

            browser.open(f"http://127.0.0.1:{server.server_port}/")
            ask = f"fetch('https://{NAME}/photos/predict', {{method: 'POST', body: 'x', mode: '%s'}})"
            for mode in ("cors", "no-cors"):
                assert browser.run(f"{ask % mode}.then(() => 'read it', () => 'may not')") == "may not"

            def statuses() -> list[int]:
                browser.run("0")  # what the browser told of until now
                told = [each for each in browser.events if each["method"] == "Network.responseReceivedExtraInfo"]
                return [each["params"]["statusCode"] for each in told]

            browser.wait(lambda: statuses().count(403) == 2)
        finally:
            browser.close()
            server.shutdown()
            server.server_close()
        assert site.ask("/photos/")[0] == 401


@with_nginx
def test_what_is_too_long_is_said_by_the_server_itself(model: Path, tmp_path: Path) -> None:
    (tmp_path / "long").write_bytes(bytes((32 << 20) + 1))
    with proxied(model, tmp_path) as site:
        # Not by HTTP/2: curl throws the answer away when nginx resets the rest of the upload before curl has read it.
        status, _, said = site.ask("/predict", "--data-binary", f"@{tmp_path / 'long'}", "--http1.1")
        assert status == 413 and "33,554,432" in json.loads(said)["error"]
