"""onnxruntime-web, which runs ONNX files in browsers: two files of its npm package."""

import base64
import hashlib
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from convolve.atomic import parse_json, read_whole, scratch
from convolve.errors import ConvolveError, FormatError, UsageError
from convolve.formats.tar import read_tar

VERSION = "1.23.2"
PACKAGE = f"onnxruntime-web@{VERSION}"
# Digests of the package in the npm registry, and of its two files, for a page that links to them.
PACKAGE_DIGEST = "sha512-T09JUtMn+CZLk3mFwqiH0lgQf+4S7+oYHHtk6uhaYAAJI95bTcKi5bOOZYwORXfS/RLZCjDDEXGWIuOCAFlEjg=="
SCRIPT, WASM = "ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"
DIGESTS = {
    SCRIPT: "sha384-pB+S6eivYulGEoJHgzPCoPWakVLo3C9Pb8l5qdqqK/H8FkTygfHQlKTOk94SHumD",
    WASM: "sha384-6WaAowIglB/94BWMbHxBFUZsy7ACNRxdOpOwlrQ0u6KaTjP3y4VXMAqLOTSHnp0l",
}
CDN = f"https://cdn.jsdelivr.net/npm/{PACKAGE}/dist/"  # it has every package of npm, under its version
MOST_BYTES = 1 << 27  # of a file in the package, and of the package: four times today's


@dataclass(frozen=True)
class Runtime:
    """`files`: the files in the page's folder. `script`, `wasm`: the addresses of the two; `digests` of them, if they
    come from elsewhere."""

    version: str
    script: str
    wasm: str
    files: dict[str, bytes]
    digests: dict[str, str] | None = None


def referred() -> Runtime:
    """The runtime on a public server: the page then needs a network."""
    digests = {"script": DIGESTS[SCRIPT], "wasm": DIGESTS[WASM]}
    return Runtime(VERSION, CDN + SCRIPT, CDN + WASM, {}, digests)


def packed(path: Path | None = None) -> Runtime:
    """The runtime in the package at `path`, as written by `npm pack`; without one, npm downloads it."""
    if path is not None:
        return _unpacked(_read(path), path)
    content = _from_npm()
    if (found := digest(content, "sha512")) != PACKAGE_DIGEST:
        raise ConvolveError(f"npm downloaded another {PACKAGE} than the tested one: {found} is not {PACKAGE_DIGEST}")
    return _unpacked(content, PACKAGE)


def digest(content: bytes, algorithm: str) -> str:
    """The digest as npm and browsers write it."""
    return f"{algorithm}-{base64.b64encode(hashlib.new(algorithm, content).digest()).decode()}"


def _from_npm() -> bytes:
    npm = shutil.which("npm")
    other = f"give the package with --web-runtime FILE (`npm pack {PACKAGE}` writes it), or link to it with --cdn"
    if npm is None:
        raise UsageError(f"the page needs {PACKAGE}, which npm downloads, but npm is not installed here; {other}")
    with scratch() as folder:
        command = [npm, "pack", PACKAGE, "--prefer-offline", "--ignore-scripts", "--silent"]
        done = subprocess.run(command, cwd=folder, capture_output=True, check=False)
        found = [*folder.glob("*.tgz")]
        if done.returncode or not found:
            lines = done.stderr.decode(errors="replace").splitlines()
            said = next(filter(str.strip, lines), "it says nothing")
            raise ConvolveError(f"npm cannot download {PACKAGE} ({said.strip()}); {other}")
        return found[0].read_bytes()


def _read(path: Path) -> bytes:
    try:
        return read_whole(path, UsageError, MOST_BYTES)
    except FileNotFoundError:
        raise UsageError(f"--web-runtime {path}: there is no such file; `npm pack {PACKAGE}` writes one") from None


def _unpacked(content: bytes, name: object) -> Runtime:
    """Some servers do not know .mjs, and browsers refuse scripts of an unknown type."""
    about, wanted = "package/package.json", {"runtime/ort.js": SCRIPT, "runtime/ort.wasm": WASM}
    try:
        found = read_tar(str(name), lambda path: str(path) == about or path.name in wanted.values(), content)
        version = str(parse_json(found[about].decode())["version"])
        files = {place: found[f"package/dist/{file}"] for place, file in wanted.items()}
    except (FormatError, KeyError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise FormatError(
            name, "", f"not a package of onnxruntime-web ({reason}); `npm pack {PACKAGE}` writes one"
        ) from None
    script, wasm = wanted
    return Runtime(version, script, wasm, files)
