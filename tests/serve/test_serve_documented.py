"""What docs/how-to/serve.md says to a server, said to one."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from serving import Client, encoded, noise, serving

from convolve.loading import load

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "serve.md").read_text(encoding="utf-8")
FENCES = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
CURLS = [line for _, text in FENCES for line in text.splitlines() if line.startswith("curl ")]
SNIPPETS = [text for language, text in FENCES if language == "python"]


@pytest.fixture(scope="module")
def client(model: Path) -> Iterator[Client]:
    with serving({"digits": load(model)}) as client:
        yield client


@pytest.fixture(autouse=True)
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("digit.png", "other.png"):
        Path(name).write_bytes(encoded(noise(28, 28)))
    with zipfile.ZipFile("digits.zip", "w") as archive:
        archive.write("digit.png")
        archive.write("other.png")


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
@pytest.mark.skipif(sys.platform == "win32", reason="there is no bash")
@pytest.mark.parametrize("command", [line for line in CURLS if ":8000" in line])
def test_commands_of_the_page(command: str, client: Client) -> None:
    said = subprocess.run(
        ["bash", "-c", command.replace(":8000", f":{client.port}")], check=True, capture_output=True, text=True
    )
    answer: dict[str, Any] = json.loads(said.stdout)
    several = command.count("image=@") > 1 or ".zip" in command
    assert all("classes" in each for each in (answer["images"] if several else [answer]))
    assert len(answer.get("images", [0])) == (2 if several else 1)


def test_the_page_has_commands_and_a_snippet() -> None:
    assert len(CURLS) >= 5 and len(SNIPPETS) == 1


def test_the_snippet_of_the_page(client: Client, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tritonclient.http")
    exec(SNIPPETS[0].replace(":8000", f":{client.port}"), {})
    assert capsys.readouterr().out.startswith("[[")
