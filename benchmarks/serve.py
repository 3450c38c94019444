"""`convolve serve` under load: what an image costs beside the model's own work on it, failures, waiting times.

    python benchmarks/serve.py runs/mnist alex.model [--clients 200] [--seconds 10] [--rounds 5]
    python benchmarks/serve.py runs/mnist --requests 10000 --clients 64

Three sides, each in a process of its own, in turn: the model alone in batches of 64 (`Model.probabilities`), decoding
and fitting alone in one thread, and the server, asked by that many clients at once, each of which asks again as soon as
it is answered. Gray models get digits of the packaged sample as PNG, others JPEGs of 500x375 pixels that are made up.
Results go to benchmarks/results/PROCESSOR/serve.json. With `--requests` the server alone is asked that often; what
counts is that none fails, and what its memory is meanwhile: serve_steady.json beside it.

The overhead is what an image costs in the server beyond the model alone, decoding included, as a part of the latter:

- by the processor: the processor time of the server's process, all threads, those that wait busily for each other too.
- by the clock: the time the machine takes for an image, less what the clients' process takes of it: their processor
  time, spread over the cores. Cores that idle count too.

Both need a machine that does nothing else: threads of a network that share their cores wait, and waiting is work too.

Answers come in bursts of a batch, so they are not counted over time: clients that always wait are answered at
`clients / mean wait` images per second (Little's law).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from convolve.atomic import write_json
from convolve.environment import usable_cores
from convolve.formats.idx import read_idx
from convolve.loading import load
from convolve.model import Model
from convolve.serve.batching import MOST_IMAGES
from convolve.serve.upload import Limits, fitted_image
from convolve.training.memory import keep_freed_memory
from rounds import conditions, figures_apart, of_rounds, results_of

RESULTS = results_of("serve")
STEADY = results_of("serve_steady")
SIDES = ("model", "decoding", "server")
Figures = dict[str, float]
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


def repeated(work: partial[Any], images: int, seconds: float) -> Figures:
    """Figures of `work`, which does that many images, after a warm-up."""
    until = time.perf_counter() + WARM_UP_SECONDS
    while time.perf_counter() < until:
        work()
    start, start_of_processor, done = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - start < seconds:
        work()
        done += images
    rate = done / (time.perf_counter() - start)
    return {"images_per_second": rate, "processor_ms": 1000 * (time.process_time() - start_of_processor) / done}


def model_figures(model: Model, seconds: float) -> Figures:
    fitted = [fitted_image(upload, model.preprocess, Limits()).image_CHW for upload in uploads(model)]
    batch = min(MOST_IMAGES, model.batch_size)
    return repeated(partial(model.probabilities, np.stack(fitted[:batch])), batch, seconds)


def decoding_figures(model: Model, seconds: float) -> Figures:
    cv2.setNumThreads(1)
    encoded = uploads(model)
    return repeated(
        partial(lambda: [fitted_image(upload, model.preprocess, Limits()) for upload in encoded]), len(encoded), seconds
    )


@contextmanager
def served(path: str) -> Iterator[tuple[int, int]]:
    """(port, process) of `convolve serve` in a process of its own."""
    command = [sys.executable, "-m", "convolve", "serve", path, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        port = int(process.stdout.readline().rpartition(":")[2])
        wait_for_engine(port)
        yield port, process.pid
        process.terminate()


def wait_for_engine(port: int) -> None:
    """Until onnxruntime answers: what is measured is how it goes on."""
    ask = partial(urllib.request.urlopen, timeout=60)
    name = json.load(ask(f"http://127.0.0.1:{port}/classes"))["model"]
    while json.load(ask(f"http://127.0.0.1:{port}/v2/models/{name}"))["platform"] != "onnxruntime":
        time.sleep(0.1)


def memory_mib(process: int) -> float:
    """Resident. Linux only."""
    return (
        int(Path(f"/proc/{process}/statm").read_text(encoding="utf-8").split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    )


def processor_seconds(process: int) -> float:
    """What a process has used so far, all its threads, and the workers of the session that it leads. Linux only."""
    ticks = 0
    for file in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = file.read_text().rpartition(")")[2].split()
            if str(process) in (file.parent.name, fields[3]):
                ticks += int(fields[11]) + int(fields[12])  # utime and stime, proc(5)
    return ticks / os.sysconf("SC_CLK_TCK")


def media_type(body: bytes) -> bytes:
    return b"application/json" if body.startswith(b"{") else b"application/octet-stream"


class Load:
    """Clients that ask one server for some seconds; what is asked after the warm-up counts."""

    def __init__(self, port: int, process: int, encoded: list[bytes], seconds: float, path: str = "/predict") -> None:
        self.port, self.process, self.encoded, self.path = port, process, encoded, path
        self.from_seconds = time.perf_counter() + WARM_UP_SECONDS
        self.to_seconds = self.from_seconds + seconds
        self.waits_seconds: list[float] = []
        self.failures = 0
        self.cores_of_server = self.cores_of_clients = 0.0  # busy, on average

    async def run(self, clients: int) -> None:
        await asyncio.gather(self._watch(), *(self._client(number) for number in range(clients)))

    async def _watch(self) -> None:
        await asyncio.sleep(self.from_seconds - time.perf_counter())
        start, server, own = time.perf_counter(), processor_seconds(self.process), time.process_time()
        await asyncio.sleep(self.to_seconds - start)
        seconds = time.perf_counter() - start
        self.cores_of_server = (processor_seconds(self.process) - server) / seconds
        self.cores_of_clients = (time.process_time() - own) / seconds

    async def _client(self, number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        while (asked := time.perf_counter()) < self.to_seconds:
            number += 1
            if not await self._ask(reader, writer, self.encoded[number % len(self.encoded)]):
                self.failures += 1
            elif asked >= self.from_seconds:
                self.waits_seconds.append(time.perf_counter() - asked)
        writer.close()

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: bytes) -> bool:
        head = b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n"
        writer.write(head % (self.path.encode(), media_type(body), len(body)) + body)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        answer = json.loads(await reader.readexactly(length))
        return head.startswith(b"HTTP/1.1 200") and len(answer.get("classes") or answer["outputs"]) > 0


def server_figures(path: str, seconds: float, clients: int) -> Figures:
    encoded = uploads(load(path))
    with served(path) as (port, process):
        load_ = Load(port, process, encoded, seconds)
        asyncio.run(load_.run(clients))
    waits = statistics.quantiles(load_.waits_seconds, n=100)
    print(f"{clients} clients, {len(load_.waits_seconds)} answers, {load_.failures} failures; waited "
          f"{waits[49]:.3f} s (median), {waits[98]:.3f} s (99 %)", file=sys.stderr)  # fmt: skip
    assert load_.failures == 0
    rate = clients / statistics.mean(load_.waits_seconds)
    return {
        "images_per_second": rate,
        "processor_ms": 1000 * load_.cores_of_server / rate,
        "clients_processor_ms": 1000 * load_.cores_of_clients / rate,
    }


def figures(path: str, side: str, seconds: float, clients: int) -> Figures:
    if side == "server":
        return server_figures(path, seconds, clients)
    keep_freed_memory()  # as the server does
    return {"model": model_figures, "decoding": decoding_figures}[side](load(path), seconds)


def steady(path: str, requests: int, clients: int, seconds: float) -> dict[str, Any]:
    """Failures among so many requests or more, and the server's memory after each `seconds` of them."""
    encoded, asked, failures, mib = uploads(load(path)), 0, 0, []
    with served(path) as (port, process):
        while asked < requests:
            load_ = Load(port, process, encoded, seconds)
            asyncio.run(load_.run(clients))
            asked, failures = asked + len(load_.waits_seconds), failures + load_.failures
            mib.append(memory_mib(process))
            print(f"{asked:,} answers, {failures} failures, {mib[-1]:.0f} MiB", file=sys.stderr)
    return {"answers": asked, "failures": failures, "clients": clients, "memory_mib": mib}


def overheads(model: Figures, server: Figures) -> Figures:
    """Of the server, as parts of the model's own processor time and of its own time by the clock, for an image."""
    of_clients_ms = server["clients_processor_ms"] / usable_cores()
    server_ms, model_ms = (1000 / side["images_per_second"] for side in (server, model))
    return {
        "by_the_processor": server["processor_ms"] / model["processor_ms"] - 1,
        "by_the_clock": (server_ms - of_clients_ms) / model_ms - 1,
    }


def measured(path: str, arguments: argparse.Namespace) -> dict[str, Any]:
    settings = ("--seconds", str(arguments.seconds), "--clients", str(arguments.clients))
    rounds = []
    for _ in range(arguments.rounds):
        sides = {side: figures_apart(__file__, path, "--side", side, *settings) for side in SIDES}
        rounds.append(sides | {"overhead": overheads(sides["model"], sides["server"])})
        print(json.dumps(rounds[-1]), file=sys.stderr)
    return of_rounds(rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, metavar="N")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        print(json.dumps(figures(arguments.models[0], arguments.side, arguments.seconds, arguments.clients)))
        return
    if arguments.requests:
        found = {
            Path(path).resolve().name: steady(path, arguments.requests, arguments.clients, arguments.seconds)
            for path in arguments.models
        }
        write_json(STEADY, {"conditions": conditions(1, 0), **found})
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
