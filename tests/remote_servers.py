"""Servers on this machine that stand for stores elsewhere: nginx, moto's S3 and a small one, and one that fails."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")


class Store(ThreadingHTTPServer):
    """Serves the files of a folder, in ranges; `faults` are what befalls the next requests of a path's content."""

    def __init__(self, folder: Path, handler: type[Handler], port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), handler)
        self.folder, self.faults, self.asked = folder, dict[str, list[str]](), list[str]()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Store
    protocol_version = "HTTP/1.1"

    def log_message(self, *words: object) -> None:
        """Nothing."""

    def do_HEAD(self) -> None:
        self.answer(has_body=False)

    def do_GET(self) -> None:
        self.answer(has_body=True)

    def answer(self, has_body: bool) -> None:
        path, name = self.server.folder / self.path.lstrip("/"), self.path
        faults = self.server.faults.get(name, [])
        fault = faults.pop(0) if has_body and faults else self.server.faults.get("always", [""])[0]
        self.server.asked.append(name if has_body else f"HEAD {name}")
        if fault.isdigit() or not path.is_file():
            self.send(
                int(fault or 404), b"<Error><Code>InvalidAccessKeyId</Code><Message>no such key</Message></Error>"
            )
            return
        content = path.read_bytes()
        tag = hashlib.md5(content).hexdigest()
        if fault == "change":
            path.write_bytes(content[::-1])
        start, end, whole = 0, len(content), len(content)
        if (asked := self.headers.get("Range")) and fault != "no ranges":
            first, _, last = asked.removeprefix("bytes=").partition("-")
            start, end = int(first), min(int(last) + 1 if last else whole, whole)
        body = content[start:end]
        self.send_response(206 if asked and fault != "no ranges" else 200)
        self.send_header("ETag", f'"{tag}"')
        self.send_header("Last-Modified", formatdate(path.stat().st_mtime, usegmt=True))
        self.send_header("Content-Length", str(len(body) // 2 if fault == "short" else len(body)))
        self.end_headers()
        if has_body:
            self.wfile.write(body[: len(body) // 2] if fault in ("short", "cut") else body)
        if fault == "cut":
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)

    def send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


class S3Handler(Handler):
    """As much of S3 as s3fs needs to list, read and write; a bucket is a folder, credentials are ignored."""

    def do_GET(self) -> None:
        asked = parse_qs(urlsplit(self.path).query)
        self.path = unquote(urlsplit(self.path).path)
        if "list-type" in asked:
            self.send(200, self.listing(asked.get("prefix", [""])[0]))
        else:
            self.answer(has_body=True)

    def do_PUT(self) -> None:
        path = self.server.folder / unquote(self.path).lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.rfile.read(int(self.headers["Content-Length"])))
        self.send(200, b"")

    def listing(self, prefix: str) -> bytes:
        """What lies in the bucket below `prefix`, up to the next slash."""
        bucket = self.server.folder / self.path.strip("/")
        folder = bucket / prefix.rpartition("/")[0]
        found = [path for path in folder.glob("*") if path.relative_to(bucket).as_posix().startswith(prefix)]
        told = f"<Name>{bucket.name}</Name><Prefix>{prefix}</Prefix><IsTruncated>false</IsTruncated>"
        for path in sorted(found):
            key = path.relative_to(bucket).as_posix()
            if path.is_dir():
                told += f"<CommonPrefixes><Prefix>{key}/</Prefix></CommonPrefixes>"
            else:
                tag, size = hashlib.md5(path.read_bytes()).hexdigest(), path.stat().st_size
                told += f'<Contents><Key>{key}</Key><ETag>"{tag}"</ETag><Size>{size}</Size></Contents>'
        return f"<ListBucketResult>{told}</ListBucketResult>".encode()


@contextmanager
def failing_store(folder: Path, handler: type[Handler] = Handler, port: int = 0) -> Iterator[Store]:
    with Store(folder, handler, port) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@contextmanager
def nginx(folder: Path, work: Path, tls: bool = False) -> Iterator[str]:
    """The address at which nginx serves `folder`, and lists it; with `tls` by the certificate work/cert.pem."""
    if NGINX is None:
        pytest.skip("nginx is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    work.mkdir(parents=True)
    if tls:
        words = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
        words += " -addext subjectAltName=IP:127.0.0.1 -keyout key.pem -out cert.pem"
        subprocess.run(words.split(), cwd=work, check=True, capture_output=True)
    kind = f"ssl; ssl_certificate {work}/cert.pem; ssl_certificate_key {work}/key.pem" if tls else ""
    (work / "nginx.conf").write_text(
        f"daemon off; pid {work}/pid; error_log {work}/errors; events {{}}\n"
        f"http {{ access_log off; client_body_temp_path {work}/a; proxy_temp_path {work}/b;\n"
        f"fastcgi_temp_path {work}/c; uwsgi_temp_path {work}/d; scgi_temp_path {work}/e;\n"
        f"server {{ listen 127.0.0.1:{port} {kind}; root {folder}; autoindex on; }} }}\n"
    )
    user = ["-g", f"user {os.environ.get('USER', 'root')};"] if os.getuid() == 0 else []
    process = subprocess.Popen([NGINX, "-p", str(work), "-c", str(work / "nginx.conf"), *user], stderr=subprocess.PIPE)
    try:
        for _ in range(500):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.02)
        yield f"{'https' if tls else 'http'}://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


@contextmanager
def s3(monkeypatch: pytest.MonkeyPatch, folder: Path, kind: str = "small") -> Iterator[str]:
    """The bucket `team` of the small S3, which is a folder in `folder`, or of moto's; the environment leads to it."""
    pytest.importorskip("s3fs", reason="s3fs is not installed")
    if kind == "small":
        with failing_store(folder, S3Handler) as store:
            lead_to_s3(monkeypatch, store.url)
            yield "s3://team"
        return
    server_module = pytest.importorskip("moto.server", reason="moto is not installed")
    import boto3

    server = server_module.ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    lead_to_s3(monkeypatch, f"http://{host}:{port}")
    boto3.client("s3").create_bucket(Bucket="team")
    try:
        yield "s3://team"
    finally:
        server.stop()


def lead_to_s3(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    import s3fs

    for name, value in s3_environ(url).items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()


def s3_environ(url: str) -> dict[str, str]:
    """What leads to the S3 at `url`."""
    return {
        "AWS_ACCESS_KEY_ID": "me", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": url, "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required", "NO_PROXY": "127.0.0.1",
    }  # fmt: skip
