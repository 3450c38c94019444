"""The page of `convert --to web` in headless Chromium: seconds from opening it to the first answer.

    python benchmarks/web_page.py RUN PHOTOGRAPH [--rounds 5] [--web-runtime FILE]

Each round has a new profile, so that nothing is in the browser's cache. Results go to
benchmarks/results/PROCESSOR/web_page.json.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread

from convolve.atomic import write_json
from convolve.environment import hardware, versions
from convolve.loading import load
from convolve.web.folder import write_page
from convolve.web.runtime import packed
from rounds import results_of

sys.path.append(str(Path(__file__).parents[1] / "tests" / "serve"))

from browser import Browser

RESULTS = results_of("web_page")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("photograph", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--web-runtime", type=Path)
    asked = parser.parse_args()
    with TemporaryDirectory() as scratch:
        page = Path(scratch) / "page"
        write_page(load(asked.run), asked.run.name, page, packed(asked.web_runtime))
        with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(page))) as server:
            Thread(target=server.serve_forever, daemon=True).start()
            address = f"http://127.0.0.1:{server.server_port}/"
            profiles = (Path(scratch) / str(number) for number in range(asked.rounds))
            seconds = [first_answer(address, asked.photograph.resolve(), profile) for profile in profiles]
            server.shutdown()
        size = sum(file.stat().st_size for file in page.rglob("*") if file.is_file())
    print(f"first answer after {', '.join(f'{each:.2f}' for each in seconds)} s")
    figures = {"bytes": size, "seconds": seconds, "median_seconds": statistics.median(seconds)}
    write_json(RESULTS, {"hardware": hardware(), "versions": versions(), **figures})


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


def first_answer(address: str, photograph: Path, profile: Path) -> float:
    """Seconds from the moment that the browser is sent to the page to that at which it names a class."""
    browser = Browser(profile)
    try:
        began = time.perf_counter()
        browser.open(address)
        browser.give(photograph)
        browser.wait(lambda: bool(browser.run("document.querySelectorAll('#best strong').length")))
        return time.perf_counter() - began
    finally:
        browser.close()


if __name__ == "__main__":
    main()
