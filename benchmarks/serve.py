"""`convolve serve` under load: images per second beside the model's own batched rate, failures, waiting times.

    python benchmarks/serve.py runs/mnist alex.model [--clients 200] [--seconds 10] [--rounds 5]

Three sides, each in a process of its own, in turn: the model alone in batches of 64 (`Model.probabilities`), decoding
and fitting alone in one thread, and the server, asked by that many clients at once, each of which asks again as soon as
it is answered. The overhead of an image is what the server takes longer for it than the model alone, decoding included;
the clients run on the same cores. Grey models get digits of the packaged sample as PNG, others JPEGs of 500x375 pixels
that are made up. Results go to benchmarks/results/serve.json.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from convolve.atomic import write_json
from convolve.formats.idx import read_idx
from convolve.model import Model, load
from convolve.serve.batching import MOST_IMAGES
from convolve.serve.upload import Limits, fitted_image
from rounds import conditions, in_turn, measure_apart, medians

RESULTS = Path(__file__).parent / "results" / "serve.json"
SIDES = ("model", "decoding", "server")
PICTURES = 64  # different ones
WARM_UP_SECONDS = 2.0


def uploads(model: Model) -> list[bytes]:
    if model.preprocess.channels == 1:
        sample = resources.files("convolve") / "data" / "sample" / "t10k-images-idx3-ubyte.gz"
        digits_NHW = read_idx(Path(str(sample)))[:PICTURES]
        return [cv2.imencode(".png", digit_HW)[1].tobytes() for digit_HW in digits_NHW]
    rng = np.random.default_rng(0)
    coarse_NHWC = rng.integers(0, 256, (PICTURES, 24, 32, 3), dtype=np.uint8)
    photos = [cv2.resize(coarse_HWC, (500, 375), interpolation=cv2.INTER_CUBIC) for coarse_HWC in coarse_NHWC]
    return [cv2.imencode(".jpg", photo)[1].tobytes() for photo in photos]


def repeated(work: partial[Any], images: int, seconds: float) -> float:
    """Images per second of `work`, which does that many, after a warm-up."""
    until = time.perf_counter() + WARM_UP_SECONDS
    while time.perf_counter() < until:
        work()
    start, done = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        work()
        done += images
    return done / (time.perf_counter() - start)


def model_rate(model: Model, seconds: float) -> float:
    fitted = [fitted_image(upload, model.preprocess, Limits())[0] for upload in uploads(model)]
    batch = min(MOST_IMAGES, model.batch_size)
    return repeated(partial(model.probabilities, np.stack(fitted[:batch])), batch, seconds)


def decoding_rate(model: Model, seconds: float) -> float:
    cv2.setNumThreads(1)
    encoded = uploads(model)
    return repeated(
        partial(lambda: [fitted_image(upload, model.preprocess, Limits()) for upload in encoded]), len(encoded), seconds
    )


@contextmanager
def served(path: str) -> Iterator[int]:
    """The port of `convolve serve` in a process of its own."""
    command = [sys.executable, "-m", "convolve", "serve", path, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        yield int(process.stdout.readline().rpartition(":")[2])
        process.terminate()


class Load:
    """Clients that ask one server for some seconds."""

    def __init__(self, port: int, encoded: list[bytes], seconds: float) -> None:
        self.port, self.encoded = port, encoded
        self.from_seconds = time.perf_counter() + WARM_UP_SECONDS
        self.to_seconds = self.from_seconds + seconds
        self.waits_seconds: list[float] = []
        self.failures = 0

    async def run(self, clients: int) -> None:
        await asyncio.gather(*(self._client(number) for number in range(clients)))

    async def _client(self, number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        while (asked := time.perf_counter()) < self.to_seconds:
            number += 1
            right = await self._ask(reader, writer, self.encoded[number % len(self.encoded)])
            answered = time.perf_counter()
            if not right:
                self.failures += 1
            elif self.from_seconds < answered < self.to_seconds:
                self.waits_seconds.append(answered - asked)
        writer.close()

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: bytes) -> bool:
        writer.write(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        answer = json.loads(await reader.readexactly(length))
        return head.startswith(b"HTTP/1.1 200") and len(answer["classes"]) > 0


def server_rate(path: str, seconds: float, clients: int) -> float:
    encoded = uploads(load(path))
    with served(path) as port:
        load_ = Load(port, encoded, seconds)
        asyncio.run(load_.run(clients))
    waits = statistics.quantiles(load_.waits_seconds, n=100)
    print(f"{clients} clients, {len(load_.waits_seconds)} answers, {load_.failures} failures; waited "
          f"{waits[49]:.3f} s (median), {waits[98]:.3f} s (99 %)", file=sys.stderr)  # fmt: skip
    assert load_.failures == 0
    return len(load_.waits_seconds) / seconds


def measure(path: str, side: str, seconds: float, clients: int) -> float:
    if side == "server":
        return server_rate(path, seconds, clients)
    return {"model": model_rate, "decoding": decoding_rate}[side](load(path), seconds)


def measured(path: str, arguments: argparse.Namespace) -> dict[str, Any]:
    settings = ("--seconds", str(arguments.seconds), "--clients", str(arguments.clients))
    rates = in_turn(SIDES, arguments.rounds, lambda side: measure_apart(__file__, path, "--side", side, *settings))
    overheads = [m / s - 1 for m, s in zip(rates["model"], rates["server"], strict=True)]
    return {
        "images_per_second": medians(rates),
        "overhead_per_image_of_model_time": statistics.median(overheads),
        "all_rounds": rates,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        print(measure(arguments.models[0], arguments.side, arguments.seconds, arguments.clients))
        return
    result: dict[str, Any] = {
        "conditions": conditions(arguments.rounds, 0) | {"clients": arguments.clients, "seconds": arguments.seconds}
    }
    for path in arguments.models:
        result[Path(path).resolve().name] = measured(path, arguments)
    write_json(RESULTS, result)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
