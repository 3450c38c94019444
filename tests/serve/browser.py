"""A headless Chromium, driven through a pipe with the DevTools protocol: no package, no port.

Source of the protocol: https://chromedevtools.github.io/devtools-protocol; messages are JSON, ended by a zero byte, on
the file descriptors 3 and 4 (`--remote-debugging-pipe`).
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

PATIENCE_SECONDS = 300.0
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here (Debian's package chromium)")

# The shell of some systems has no file descriptors of two digits.
_BEHIND_PIPES = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.dup2(int(sys.argv[2]), 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


def axe_core(folder: Path) -> str:
    """The program of axe-core, which npm brings."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("no npm here, which brings axe-core")
    command = [npm, "pack", "axe-core@4.11.0", "--prefer-offline", "--silent"]
    if subprocess.run(command, cwd=folder, capture_output=True, check=False).returncode:
        pytest.skip("npm does not bring axe-core")
    with tarfile.open(next(folder.glob("axe-core-*.tgz"))) as archive:
        file = archive.extractfile("package/axe.min.js")
        assert file
        return file.read().decode()


class Browser:
    """One page. `events` are those that the browser told of meanwhile, oldest first."""

    def __init__(self, profile: Path, more_flags: Sequence[str] = ()) -> None:
        assert CHROMIUM
        to_browser, self._out = os.pipe()
        self._in, from_browser = os.pipe()
        flags = [
            "--headless", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", f"--user-data-dir={profile}",
            *more_flags,
        ]  # fmt: skip
        self._process = subprocess.Popen(
            [sys.executable, "-c", _BEHIND_PIPES, str(to_browser), str(from_browser), CHROMIUM, *flags],
            pass_fds=(to_browser, from_browser),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)
        os.set_blocking(self._in, False)
        self._received, self._number = b"", 0
        self._session: str | None = None
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log", "DOM", "Accessibility"):
            self.call(f"{domain}.enable")

    def close(self) -> None:
        self._session = None
        self.call("Browser.close")
        self._process.wait(PATIENCE_SECONDS)
        os.close(self._in)
        os.close(self._out)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The result of one command of the protocol."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        limit = time.monotonic() + PATIENCE_SECONDS
        while True:
            said = self._next(limit)
            if said.get("id") == self._number:
                assert "error" not in said, (method, said["error"])
                result: dict[str, Any] = said["result"]
                return result
            self.events.append(said)

    def _next(self, limit: float) -> dict[str, Any]:
        while b"\0" not in self._received:
            assert time.monotonic() < limit, "the browser says nothing"
            assert self._process.poll() is None, "the browser has ended"
            try:
                self._received += os.read(self._in, 1 << 20)
            except BlockingIOError:
                time.sleep(0.005)
        message, _, self._received = self._received.partition(b"\0")
        said: dict[str, Any] = json.loads(message)
        return said

    # -- what a person does ------------------------------------------------------------------------------------------

    def open(self, url: str, width: int = 1280, height: int = 1000, *, dark: bool = False) -> None:
        """Go to `url`, in a window of that size, and wait until it is there."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.events.clear()
        self.call("Page.navigate", url=url)
        self.wait(lambda: self.run("document.readyState") == "complete" and self.run("location.href") != "about:blank")

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression, or of the promise that it is."""
        said = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in said, said
        return said["result"].get("value")

    def violations(self, axe: str) -> Any:
        """(rule, elements) of all that `axe`, the program of axe-core, finds: WCAG's rules and good practice."""
        self.run(f"{axe}; 0")
        return self.run(
            "axe.run().then((said) => said.violations.map((one) => [one.id, one.nodes.map((n) => n.html)]))"
        )

    def wait(self, reached: Callable[[], bool]) -> None:
        limit = time.monotonic() + PATIENCE_SECONDS
        while not reached():
            assert time.monotonic() < limit, "never got there"
            time.sleep(0.02)

    def wait_for_state(self, state: str) -> None:
        """Until the page says of itself that it is `state`; a problem that was not expected ends it at once."""

        def reached() -> bool:
            now = self.run("document.querySelector('main').dataset.state")
            assert now != "problem" or state == "problem", self.text("#problem")
            return bool(now == state)

        self.wait(reached)

    def text(self, selector: str) -> str:
        return str(self.run(f"document.querySelector({selector!r}).innerText")).replace("\u202f", " ")

    def give(self, path: Path) -> None:
        """Choose a file."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector="#file")["nodeId"]
        self.call("DOM.setFileInputFiles", files=[str(path)], nodeId=node)

    def key(self, key: str, times: int = 1) -> None:
        codes = {"Tab": 9, "Enter": 13, " ": 32, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}
        text = {"Enter": {"text": "\r"}, " ": {"text": " "}}.get(key, {})
        for _ in range(times):
            for kind in ("keyDown", "keyUp"):
                extra = text if kind == "keyDown" else {}
                self.call("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=codes[key], **extra)

    def draw(self, selector: str, points: list[tuple[float, float]]) -> None:
        """One stroke with the mouse, over `points` in parts of the element's width and height."""
        box = self.run(f"(({{x, y, width, height}}) => [x, y, width, height])"
                       f"(document.querySelector({selector!r}).getBoundingClientRect())")  # fmt: skip
        places = [(box[0] + x * box[2], box[1] + y * box[3]) for x, y in points]
        kinds = ["mousePressed", *["mouseMoved"] * (len(places) - 1), "mouseReleased"]
        for kind, (x, y) in zip(kinds, [*places, places[-1]], strict=True):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1)

    def screenshot(self, path: Path) -> None:
        """The whole page as a PNG file."""
        picture = self.call("Page.captureScreenshot", captureBeyondViewport=True)["data"]
        path.write_bytes(base64.b64decode(picture))

    # -- what the browser noticed ------------------------------------------------------------------------------------

    @property
    def requested(self) -> list[str]:
        return [
            event["params"]["request"]["url"]
            for event in self.events
            if event.get("method") == "Network.requestWillBeSent"
        ]

    @property
    def complaints(self) -> list[str]:
        """Exceptions, console messages, violations of the page's policy. Answers of the server with errors are none."""
        self.run("0")  # what was said until now
        kinds = {"Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded"}
        said = [event for event in self.events if event.get("method") in kinds]
        return [str(event) for event in said if event["params"].get("entry", {}).get("source") != "network"]
