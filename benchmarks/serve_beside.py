"""`convolve serve` beside bare Starlette and LitServe on the same digits model, in turn: waiting times and rates.

    python benchmarks/serve_beside.py MODEL [--litserve PYTHON] [--seconds 5] [--rounds 3]

MODEL is of gray images that need no scaling, as MNIST's. The peers get it as an ONNX file (serve_peers.py); LitServe
runs in the environment of PYTHON, which has litserve, onnxruntime and OpenCV. One client and 64 ask again as soon as
they are answered. Starlette and `serve` get the file as the body, LitServe in base64 within JSON, as its requests come.
Results go to benchmarks/results/PROCESSOR/serve_beside.json.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from convolve.atomic import write_json
from convolve.loading import load
from rounds import conditions, results_of
from serve import Figures, Load, media_type, uploads

RESULTS = results_of("serve_beside")
HERE = Path(__file__).parent


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


@contextmanager
def running(words: list[str], port: int, body: bytes) -> Iterator[tuple[int, float]]:
    """The process, and the seconds to its first answer."""
    began = time.perf_counter()
    with subprocess.Popen(words, stdout=subprocess.DEVNULL) as process:
        try:
            while not answers(port, body):
                assert process.poll() is None, words
                time.sleep(0.02)
            yield process.pid, time.perf_counter() - began
        finally:
            process.terminate()


def answers(port: int, body: bytes) -> bool:
    """Whether it is there. Raises HTTPError for an answer that is a refusal."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/predict", body, {"Content-Type": media_type(body).decode()}
    )
    try:
        return bool(urllib.request.urlopen(request, timeout=30).read())
    except urllib.error.HTTPError:
        raise
    except OSError:
        return False


def measured(words: list[str], port: int, bodies: list[bytes], seconds: float) -> Figures:
    figures: Figures = {}
    with running([*words, str(port)], port, bodies[0]) as (process, start):
        figures["seconds_to_first_answer"] = start
        for clients in (1, 64):
            load_ = Load(port, process, bodies, seconds)
            asyncio.run(load_.run(clients))
            assert load_.failures == 0
            parts = statistics.quantiles(load_.waits_seconds, n=100)
            figures[f"p50_ms_{clients}"], figures[f"p99_ms_{clients}"] = 1000 * parts[49], 1000 * parts[98]
            figures[f"images_per_second_{clients}"] = clients / statistics.mean(load_.waits_seconds)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--litserve", metavar="PYTHON")
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    raw = uploads(load(arguments.model))
    as_json = [json.dumps({"image": base64.b64encode(body).decode()}).encode() for body in raw]
    with tempfile.TemporaryDirectory() as folder:
        onnx = f"{folder}/model.onnx"
        convolve = [sys.executable, "-m", "convolve"]
        subprocess.run([*convolve, "convert", arguments.model, "--to", "onnx", "--out", onnx], check=True)
        sides = {
            "starlette": ([sys.executable, str(HERE / "serve_peers.py"), onnx], raw),
            "serve": ([*convolve, "serve", arguments.model, "--port"], raw),
        }
        if arguments.litserve:
            sides["litserve"] = ([arguments.litserve, str(HERE / "serve_litserve.py"), onnx], as_json)
        rounds = []
        for _ in range(arguments.rounds):
            rounds.append({
                side: measured(words, free_port(), bodies, arguments.seconds) for side, (words, bodies) in sides.items()
            })  # fmt: skip
            print(json.dumps(rounds[-1]), file=sys.stderr)
    medians = {
        side: {name: statistics.median(one[side][name] for one in rounds) for name in rounds[0][side]} for side in sides
    }
    result: dict[str, Any] = {"conditions": conditions(arguments.rounds, 0), **medians, "all_rounds": rounds}
    write_json(RESULTS, result)
    print(json.dumps(medians, indent=2))


if __name__ == "__main__":
    main()
