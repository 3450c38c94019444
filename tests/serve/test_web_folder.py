"""The folder of `convert --to web`: what is in it, where the runtime comes from, and what is refused."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import onnx
import pytest
from typer.testing import CliRunner, Result

from convolve.atomic import staged
from convolve.cli import app
from convolve.errors import ConvolveError, FormatError, UsageError
from convolve.web import runtime
from convolve.web.runtime import SCRIPT, WASM, digest, packed

PAGE = {"index.html", "page.css", "page.js", "worker.js", "decode.js", "fit.js", "model.json", "model.onnx"}


def package(path: Path, **without: str) -> Path:
    """What `npm pack` writes, as far as the page needs it, without the files that are named."""
    contents = {
        "package/package.json": b'{"version": "9.9.9"}',
        f"package/dist/{SCRIPT}": b"code",
        f"package/dist/{WASM}": b"wasm",
    }
    with tarfile.open(path, "w:gz") as archive:
        for name, content in contents.items():
            if name not in without.values():
                about = tarfile.TarInfo(name)
                about.size = len(content)
                archive.addfile(about, io.BytesIO(content))
    return path


def convert(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["convert", *map(str, arguments)])


def test_the_folder(model: Path, tmp_path: Path) -> None:
    done = convert(model, "--to", "web", "--out", tmp_path / "page", "--web-runtime", package(tmp_path / "ort.tgz"))
    assert done.exit_code == 0, done.output
    assert "onnxruntime-web 9.9.9 in the folder" in done.output
    names = {path.name for path in (tmp_path / "page").iterdir()}
    assert names == PAGE | {"runtime", "model-model-card.md"}
    assert (tmp_path / "page/runtime/ort.js").read_bytes() == b"code"
    assert (tmp_path / "page/runtime/ort.wasm").read_bytes() == b"wasm"
    about = json.loads((tmp_path / "page/model.json").read_text())
    outputs = [port.name for port in onnx.load(tmp_path / "page/model.onnx").graph.output]
    assert about["output"] == outputs[0]
    assert about["classes"] == [*"0123456789"]
    text = "".join((tmp_path / "page" / name).read_text() for name in PAGE if not name.startswith("model"))
    assert "http://" not in text.replace("http://www.w3.org", "") and "https://" not in text  # all is in the folder


def test_a_runtime_elsewhere_is_pinned(model: Path, tmp_path: Path) -> None:
    done = convert(model, "--to", "web", "--out", tmp_path / "page", "--cdn")
    assert done.exit_code == 0, done.output
    assert "the page needs a network" in done.output
    about = json.loads((tmp_path / "page/model.json").read_text())["runtime"]
    assert f"onnxruntime-web@{runtime.VERSION}/" in about["script"] and about["script"].startswith("https://")
    assert set(about["digests"]) == {"script", "wasm"} and all(
        one.startswith("sha384-") for one in about["digests"].values()
    )
    assert not (tmp_path / "page/runtime").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--to", "onnx", "--out", "a.onnx", "--cdn"], "--cdn is for --to web, not for --to onnx"),
        (["--to", "web", "--out", "page", "--cdn", "--web-runtime", "a.tgz"], "leave one of them out"),
        (["--to", "web", "--out", "page", "--web-runtime", "missing.tgz"], "there is no such file"),
        (["--to", "web", "--out", "page", "--web-runtime", "text.tgz"], "not a package of onnxruntime-web"),
        (["--to", "web", "--out", "page", "--web-runtime", "part.tgz"], "not a package of onnxruntime-web"),
        (
            ["--to", "web", "--out", "page", "--with-preprocessing"],
            "is for --to onnx or exported-program, not for --to web",
        ),
        (["--to", "web", "--out", "full"], "exists already"),
    ],
)
def test_what_is_refused(
    arguments: list[str], said: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.tgz").write_text("no archive")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").touch()
    package(tmp_path / "part.tgz", without=f"package/dist/{WASM}")
    before = {*tmp_path.rglob("*")}
    done = convert(model, *arguments)
    assert isinstance(done.exception, UsageError | FormatError), done.output
    assert said in str(done.exception)
    assert {*tmp_path.rglob("*")} == before


def test_without_npm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _name: None)
    with pytest.raises(UsageError, match=r"npm is not installed here; give the package with --web-runtime"):
        packed()


@pytest.mark.parametrize(
    ("code", "said"), [(1, r"npm cannot download .* \(no network\)"), (0, "another onnxruntime-web")]
)
def test_what_npm_brings_is_compared(code: int, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(_command: list[str], cwd: str, **_options: Any) -> subprocess.CompletedProcess[bytes]:
        if not code:
            package(Path(cwd) / "ort.tgz")
        return subprocess.CompletedProcess([], code, b"", b"no network\nat all\n")

    monkeypatch.setattr("shutil.which", lambda name: name)
    monkeypatch.setattr("subprocess.run", run)
    with pytest.raises(ConvolveError, match=said):
        packed()


def test_digests_are_written_as_browsers_read_them() -> None:
    """Of nothing: RFC 6234's SHA-256 of the empty text, in base64."""
    assert digest(b"", "sha256") == "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="


def test_all_is_there_or_nothing(tmp_path: Path) -> None:
    """A file or folder with what belongs beside it; what was killed leaves nothing, and links are not followed."""
    (tmp_path / ".page.1.tmp/page").mkdir(parents=True)
    with pytest.raises(ZeroDivisionError), staged(tmp_path / "page") as folder:
        assert not (tmp_path / ".page.1.tmp").exists()
        folder.mkdir()
        (folder / "half").write_text("written")
        raise ZeroDivisionError
    assert not any(tmp_path.iterdir())
    (tmp_path / "page").mkdir()
    (tmp_path / "other").touch()
    (tmp_path / "page-card").symlink_to(tmp_path / "other")
    with staged(tmp_path / "page") as folder:
        folder.mkdir()
        (folder / "whole").write_text("written")
        folder.with_name("page-card").write_text("beside")
        assert not any((tmp_path / "page").iterdir())
    assert [path.name for path in (tmp_path / "page").iterdir()] == ["whole"]
    assert {path.name for path in tmp_path.iterdir()} == {"page", "page-card", "other"}
    assert ((tmp_path / "page-card").read_text(), (tmp_path / "other").read_text()) == ("beside", "")
    with pytest.raises(ConvolveError, match=f"{tmp_path}/other is not a folder"), staged(tmp_path / "other/a"):
        pass
    with pytest.raises(UsageError, match=f"^{tmp_path}/b is bad$"), staged(tmp_path / "b") as path:
        raise UsageError(f"{path} is bad")
