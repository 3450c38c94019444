"""`convolve serve` beside bare Starlette, LitServe and MLServer on the same model, in turn: waiting times and rates.

    python benchmarks/serve_beside.py MODEL... [--peers PYTHON] [--seconds 5] [--rounds 3]

All of them get a model as the ONNX file that `convert` writes of it (serve_peers.py, serve_litserve.py and
serve_mlserver.py); LitServe and MLServer run in the environment of PYTHON, which has litserve, mlserver, onnxruntime
and OpenCV. One client and 64 ask again as soon as they are answered: those of wrk (Debian has it), which leave the
cores to the server. Starlette and `serve` get the image as the body, the others in base64 within JSON, as their
requests come. `loop` decodes and computes in one process, without a server, an image at a time on all cores.
Results go to benchmarks/results/PROCESSOR/serve_beside.json.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from convolve.atomic import write_json
from convolve.environment import usable_cores
from convolve.loading import load
from rounds import conditions, figures_apart, of_rounds, results_of
from serve import WARM_UP_SECONDS, Figures, media_type, processor_seconds, repeated, uploads, wait_for_engine
from serve_peers import Classifier

RESULTS = results_of("serve_beside")
HERE = Path(__file__).parent


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


@contextmanager
def running(words: list[str], port: int, body: bytes, path: str) -> Iterator[tuple[int, float]]:
    """The process, and the seconds to its first answer."""
    began = time.perf_counter()
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, start_new_session=True) as process:
        try:
            while not answers(port, body, path):
                assert process.poll() is None, words
                time.sleep(0.02)
            yield process.pid, time.perf_counter() - began
        finally:
            os.killpg(process.pid, signal.SIGKILL)  # with the workers that it may have


def answers(port: int, body: bytes, path: str) -> bool:
    """Whether it is there, with its model. Raises HTTPError for an answer that is a refusal."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", body, {"Content-Type": media_type(body).decode()}
    )
    try:
        return bool(urllib.request.urlopen(request, timeout=30).read())
    except urllib.error.HTTPError as error:
        if error.code in (404, 503):  # MLServer's, while it opens the model
            return False
        raise
    except OSError:
        return False


def asked(port: int, bodies: list[bytes], seconds: float, path: str, clients: int) -> Figures:
    """What wrk says of so many clients, none of which may fail."""
    with tempfile.TemporaryDirectory() as folder:
        for number, body in enumerate(bodies, 1):
            Path(folder, str(number)).write_bytes(body)
        settings = ("-t1", f"-c{clients}", f"-d{seconds:g}", "--timeout", "30s", "-s", str(HERE / "serve_wrk.lua"))
        words = ("wrk", *settings, f"http://127.0.0.1:{port}{path}", "--", folder, media_type(bodies[0]).decode())
        said = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    found: Figures = json.loads(said.splitlines()[-1])
    assert found.pop("failures") == 0, said
    return found


def measured(words: list[str], port: int, bodies: list[bytes], seconds: float, path: str) -> Figures:
    figures: Figures = {}
    with running([*words, str(port)], port, bodies[0], path) as (process, start):
        figures["seconds_to_first_answer"] = start
        if "convolve" in words:
            wait_for_engine(port)
        for clients in (1, 64):
            asked(port, bodies, WARM_UP_SECONDS, path, clients)
            before, began = processor_seconds(process), time.perf_counter()
            found = asked(port, bodies, seconds, path, clients)
            cores = (processor_seconds(process) - before) / (time.perf_counter() - began)
            found["processor_ms"] = 1000 * cores / found["images_per_second"]
            figures |= {f"{name}_{clients}": value for name, value in found.items()}
    return figures


def loop(onnx: str, encoded: list[bytes], seconds: float) -> Figures:
    """Run in a process of its own."""
    classifier = Classifier(onnx, usable_cores())
    return repeated(
        partial(lambda: [classifier.answers(classifier.pixels(one)[None]) for one in encoded]), len(encoded), seconds
    )


def sides_of(model: str, onnx: str, peers: str | None) -> dict[str, tuple[list[str], list[bytes], str]]:
    """The command without the port, what is sent, and where."""
    raw = uploads(load(model))
    texts = [base64.b64encode(body).decode() for body in raw]
    tensor = {"name": "images", "shape": [1], "datatype": "BYTES"}
    sides = {
        "starlette": ([sys.executable, str(HERE / "serve_peers.py"), onnx], raw, "/predict"),
        "serve": ([sys.executable, "-m", "convolve", "serve", onnx, "--port"], raw, "/predict"),
    }
    if peers:
        as_json = [json.dumps({"image": text}).encode() for text in texts]
        as_tensor = [json.dumps({"inputs": [{**tensor, "data": [text]}]}).encode() for text in texts]
        sides["litserve"] = ([peers, str(HERE / "serve_litserve.py"), onnx], as_json, "/predict")
        sides["mlserver"] = ([peers, str(HERE / "serve_mlserver.py"), onnx], as_tensor, "/v2/models/model/infer")
    return sides


def beside(model: str, arguments: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        onnx = f"{folder}/model.onnx"
        subprocess.run([sys.executable, "-m", "convolve", "convert", model, "--to", "onnx", "--out", onnx], check=True)
        rounds = []
        for _ in range(arguments.rounds):
            found = {
                side: measured(words, free_port(), bodies, arguments.seconds, path)
                for side, (words, bodies, path) in sides_of(model, onnx, arguments.peers).items()
            }
            settings = ("--loop", onnx, "--seconds", str(arguments.seconds))
            rounds.append(found | {"loop": figures_apart(__file__, model, *settings)})
            print(json.dumps(rounds[-1]), file=sys.stderr)
    return of_rounds(rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--peers", metavar="PYTHON")
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--loop", metavar="FILE", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.loop:
        print(json.dumps(loop(arguments.loop, uploads(load(arguments.models[0])), arguments.seconds)))
        return
    result: dict[str, Any] = {"conditions": conditions(arguments.rounds, 0) | {"seconds": arguments.seconds}}
    for model in arguments.models:
        result[Path(model).resolve().name] = beside(model, arguments)
    write_json(RESULTS, result)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
