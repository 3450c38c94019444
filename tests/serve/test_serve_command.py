"""`convolve serve` as a command: what it says, where it listens, how it ends."""

from __future__ import annotations

import json
import signal
import socket
import sys
import urllib.request
from pathlib import Path

import pytest
from serving import encoded, noise

import processes
from command_line import Convolve, assert_refused
from convolve.errors import install_hint


def address_in(command: processes.Command) -> str:
    """The address that a running `serve` has printed."""
    command.wait_until(lambda: "Ctrl-C" in command.log.with_suffix(".out").read_text())
    return command.log.with_suffix(".out").read_text().split()[3]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)])
def test_it_serves_until_it_is_told_to_stop(number: signal.Signals, code: int, model: Path, tmp_path: Path) -> None:
    command = processes.start(tmp_path / "log", "serve", model, "--no-onnxruntime", "--port", "0")
    address = address_in(command)
    assert address.startswith("http://127.0.0.1:")
    with urllib.request.urlopen(f"{address}/predict", encoded(noise(28, 28))) as answer:
        assert len(json.load(answer)["classes"]) == 5
    command.send(number)
    outcome = command.outcome()
    assert outcome.code == code
    assert outcome.out == f"serving {model} on {address}\nopen to this machine only (--host 0.0.0.0 lets others in); " \
                          "Ctrl-C stops it\n"  # fmt: skip
    assert outcome.err == ""
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])))


def test_it_stops_though_an_upload_never_ends(model: Path, tmp_path: Path) -> None:
    command = processes.start(tmp_path / "log", "serve", model, "--no-onnxruntime", "--port", "0")
    port = int(address_in(command).rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/"):
            command.send(signal.SIGINT)  # the server has seen the upload begin
        outcome = command.outcome()
    assert (outcome.code, outcome.err) == (130, "")


def test_it_says_when_it_is_open_to_others(model: Path, tmp_path: Path) -> None:
    command = processes.start(tmp_path / "log", "serve", model, "--no-onnxruntime", "--host", "0.0.0.0", "--port", "0")
    address = address_in(command)
    assert "//0.0.0.0:" not in address  # nobody can open that one
    with urllib.request.urlopen(f"{address}/health") as answer:
        assert answer.status == 200
    command.send(signal.SIGINT)
    assert "open to every machine that reaches this one, without a password" in command.outcome().out


def test_a_port_that_is_taken(model: Path, convolve: Convolve) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert_refused(convolve("serve", model, "--port", port), 2, str(port), "another --port")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--host", "no..such.host"], "no such address"),
        (["--host", "192.0.2.1"], "not this machine's"),  # of TEST-NET-1, RFC 5737
        (["--port", "70000"], "--port"),
        (["--labels", "nowhere.txt"], "nowhere.txt"),
    ],
)
def test_what_cannot_be_served(words: list[str], said: str, model: Path, convolve: Convolve) -> None:
    outcome = convolve("serve", model, "--port", "0", *words)
    assert_refused(outcome, outcome.code, said)
    assert outcome.code in (2, 3)


def test_what_is_no_model(tmp_path: Path, convolve: Convolve) -> None:
    assert_refused(convolve("serve", tmp_path / "nothing", "--port", "0"), 2, "does not exist")


def test_without_the_extra(model: Path, convolve: Convolve, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("convolve.serve")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert_refused(convolve("serve", model), 2, f"needs the package uvicorn: {install_hint('serve')}")
