"""Which runtimes read the ONNX files that convolve writes, and what the programs of `--snippet` say: `make runtimes`.

    python benchmarks/runtimes_table.py PHOTOGRAPHS [--python PYTHON ...] [--node-modules FOLDER]

PHOTOGRAPHS is a folder with a folder of photographs for each class; 200 of them are taken, spread over it. Each network
is trained on them for a moment, exported, and asked about 20 of them by each runtime that can be imported by each
PYTHON (this one, unless others are given), one image at a time, in a process of its own. Then the programs of
`convolve convert --snippet` are asked about them, with the files of --with-preprocessing. The table goes into
docs/explanation/exported-files.md.

Node finds onnxruntime-web and sharp in --node-modules. C++ wants g++, OpenCV and the headers of onnxruntime, where the
compiler looks for them (CPLUS_INCLUDE_PATH); its library is the one of onnxruntime's Python package. C# wants dotnet.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
import torch

from convolve.cli.snippet import Snippet
from convolve.export.inputs import as_input
from convolve.importers.loader import PreprocessOverrides
from convolve.loading import load
from convolve.model import Model
from convolve.transforms.preprocess import fit_image
from runtimes_ask import MODULES

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "explanation" / "exported-files.md"
PLACE = re.compile(r"(<!-- runtimes -->\n).*?(<!-- end of runtimes -->)", re.DOTALL)
PHOTOGRAPHS, ASKED = 200, 20
AGREES = 1e-4  # of the largest score, as in export/parity.py
MINUTES = 10  # for one runtime, or one program, and one network
# Recipe -> settings: each network at full size, trained as long as it takes to give different answers.
NETWORKS = {
    "mnist": ("run.epochs=30",), "cifar10": ("run.epochs=3",), "cifar10-aug-lrn": ("run.epochs=3",),
    "cifar10-fast": ("run.epochs=3",), "photos": ("model.freeze=all", "run.epochs=0"), "alexnet": ("run.epochs=1",),
}  # fmt: skip


@dataclass(frozen=True)
class Answer:
    """What a runtime or a program made of one network: an empty `fault`, or why it made nothing of it."""

    version: str = ""
    worst: float = 0.0
    same: int = 0
    fault: str = ""
    is_missing: bool = False  # it is not installed here

    def cell(self, asked: int, notes: list[str]) -> str:
        if self.fault:
            notes.append(self.fault) if self.fault not in notes else None
            return f"refuses ({notes.index(self.fault) + 1})"
        if self.same == asked and self.worst <= AGREES:
            return f"agrees ({self.worst:.0e})"
        return f"differs by {self.worst:.1g}; the same first class on {self.same}"


# -- networks ----------------------------------------------------------------------------------------------------------


def chosen(folder: Path, out: Path) -> list[Path]:
    """So many photographs of each class as make `PHOTOGRAPHS`, in folders of their own."""
    classes = sorted(path for path in folder.iterdir() if path.is_dir())
    share = PHOTOGRAPHS // len(classes)
    made = []
    for each in classes:
        files = sorted(path for path in each.iterdir() if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
        (out / each.name).mkdir(parents=True, exist_ok=True)
        for path in files[:: max(1, len(files) // share)][:share]:
            made.append(out / each.name / path.name)
            shutil.copy(path, made[-1])
    return made


def prepare(recipe: str, data: Path, photographs: list[Path], folder: Path) -> None:
    """Train and export the network; what it says of some of the photographs lies beside it."""
    settings = [word for setting in NETWORKS[recipe] for word in ("--set", setting)]
    run = str(folder / "run")
    convolve("train", recipe, "--data", str(data), "--out", run, "--threads", "1", *settings)
    convolve("convert", run, "--to", "onnx", "--out", str(folder / "model.onnx"))
    model = load(run)
    model.export(folder / "pixels.onnx", with_preprocessing=True)
    images = inputs(model, photographs)
    with torch.no_grad():
        said = model.network(images)
    scores = (said[0] if isinstance(said, tuple) else said).numpy()
    np.save(folder / "images.npy", images.numpy())
    np.save(folder / "scores.npy", scores)
    images.numpy().tofile(folder / "images.raw")
    (folder / "images.json").write_text(json.dumps({"shape": images.shape, "scores": scores.tolist()}))
    classes = [one.classes[0][0] for one in model.predict(photographs)]
    (folder / "classes.json").write_text(json.dumps(classes))


def inputs(model: Model, photographs: list[Path]) -> torch.Tensor:
    pixels = [fit_image(cv2.imread(str(path)), model.preprocess)[0] for path in photographs]  # type: ignore[arg-type]
    return as_input(torch.from_numpy(np.stack(pixels)), model.preprocess, with_preprocessing=False)


def convolve(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "convolve", *words], check=True)


# -- runtimes ----------------------------------------------------------------------------------------------------------


def kept(path: Path, make: Callable[[], Answer]) -> Answer:
    """The answer at `path`, which is made where it is not there: a run that was stopped goes on (--work)."""
    if not path.exists():
        path.write_text(json.dumps(asdict(make())), encoding="utf-8")
    return Answer(**json.loads(path.read_text(encoding="utf-8")))


def asked(command: list[str], folder: Path, env: dict[str, str]) -> Answer:
    return kept(folder / f"{'-'.join(command[:3]).replace('/', '_')}.answer", lambda: fresh(command, folder, env))


def fresh(command: list[str], folder: Path, env: dict[str, str]) -> Answer:
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=60 * MINUTES, check=False)
    said = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    values = {key: value for each in said for key, value in each.items()}
    print(folder.name, *command[1:3], done.stdout, done.stderr[-300:], file=sys.stderr)
    if done.returncode == 0 and "worst" in values:
        return Answer(**values)
    fault = reason(done, folder)
    is_missing = "ModuleNotFoundError" in done.stderr or "Cannot find module" in done.stderr
    return Answer(values.get("version", ""), fault=fault, is_missing=is_missing)


def reason(done: subprocess.CompletedProcess[str], folder: Path) -> str:
    """Why a process failed, in one line without paths of this machine."""
    if done.returncode < 0:
        return f"the process ends with signal {-done.returncode}"
    lines = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r"[\w.]*(Error|Exception|error)\b.*: ", line)] or lines or ["no word"]
    return re.sub(r"\s+", " ", errors[-1].replace(str(folder), "."))[:200].replace("|", "/")


def runtimes(pythons: list[str], modules: Path | None, folders: list[Path]) -> dict[str, list[Answer]]:
    """Name and version -> an answer for each network; one that is nowhere to be found has the reason alone."""
    rows: dict[str, list[Answer]] = {}
    missing: dict[str, list[Answer]] = {}
    sides: list[tuple[str, Callable[[Path], list[str]]]] = [
        (name, lambda folder, python=python, name=name: [python, str(HERE / "runtimes_ask.py"), name, str(folder)])  # type: ignore[misc]
        for name in MODULES
        for python in pythons
    ]
    if shutil.which("node"):
        sides.append(("onnxruntime-web", lambda folder: ["node", str(HERE / "runtimes_ask.cjs"), str(folder)]))
    env = {**os.environ, "NODE_PATH": str(modules or "")}
    for name, command in sides:
        first = asked(command(folders[0]), folders[0], env)
        if first.is_missing:
            missing[name] = [first]
            continue
        label = f"{name} {first.version}".strip()
        if label not in rows:
            rows[label] = [first, *(asked(command(folder), folder, env) for folder in folders[1:])]
    return rows | {name: answers for name, answers in missing.items() if not any(row.startswith(name) for row in rows)}


# -- programs of --snippet ---------------------------------------------------------------------------------------------


def compiled_cpp(folder: Path) -> list[str]:
    """The library of onnxruntime's Python package is linked, under the name that it goes by."""
    spec = find_spec("onnxruntime")
    assert spec and spec.origin
    [library] = (Path(spec.origin).parent / "capi").glob("libonnxruntime.so.*")
    for name in ("libonnxruntime.so", "libonnxruntime.so.1"):
        (folder / name).symlink_to(library)
    parts = ["-lonnxruntime", *(f"-lopencv_{part}" for part in ("imgcodecs", "imgproc", "core"))]
    run(["g++", "-O2", "-std=c++17", "ask.cpp", "-o", "ask", "-L.", "-Wl,-rpath,$ORIGIN", *parts], folder)
    return ["./ask"]


def compiled_csharp(folder: Path) -> list[str]:
    run(["dotnet", "new", "console", "--output", "."], folder)
    for package in ("Microsoft.ML.OnnxRuntime", "OpenCvSharp4", "OpenCvSharp4.official.runtime.linux-x64"):
        run(["dotnet", "add", "package", package], folder)
    (folder / "Program.cs").unlink()
    run(["dotnet", "build", "--output", "built"], folder)
    return ["dotnet", f"built/{folder.name}.dll"]


# Language -> the name of its file, the program that it needs, what makes a command of it.
PROGRAMS: dict[str, tuple[str, str, Callable[[Path], list[str]]]] = {
    "python-cv2": ("ask.py", sys.executable, lambda folder: [sys.executable, "ask.py"]),
    "python-pillow": ("ask.py", sys.executable, lambda folder: [sys.executable, "ask.py"]),
    "javascript": ("ask.mjs", "node", lambda folder: ["node", "ask.mjs"]),
    "cpp": ("ask.cpp", "g++", compiled_cpp),
    "csharp": ("ask.cs", "dotnet", compiled_csharp),
}


def run(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60 * MINUTES, check=False)
    if done.returncode:
        raise RuntimeError(reason(done, folder))
    return done.stdout


def program(language: str, folder: Path, photographs: list[Path], modules: Path | None) -> Answer:
    """Of how many photographs the program names the class that `predict` names."""
    name, needed, made = PROGRAMS[language]
    if shutil.which(needed) is None:
        return Answer(fault=f"no {needed} here", is_missing=True)
    place = folder / language
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    if modules:
        (place / "node_modules").symlink_to(modules)
    Snippet(language, with_preprocessing=True, any_size=False, output=None, overrides=PreprocessOverrides()).answer(
        folder / "run", place / name
    )
    try:
        said = run([*made(place), str(folder / "pixels.onnx"), *map(str, photographs)], place).splitlines()
    except RuntimeError as error:
        return Answer(fault=str(error))
    classes = [line.rsplit(": ", 1)[1].removeprefix("none of these; ").rsplit(" ", 1)[0] for line in said]
    wanted = json.loads((folder / "classes.json").read_text())
    return Answer(same=sum(one == other for one, other in zip(classes, wanted, strict=True)))


# -- the table ---------------------------------------------------------------------------------------------------------


def table(rows: dict[str, list[Answer]], programs: dict[str, list[Answer]], photographs: int) -> str:
    notes: list[str] = []
    lines = [row("", *NETWORKS), row(*["---"] * (1 + len(NETWORKS)))]
    for name, answers in rows.items():
        is_missing = answers[0].is_missing
        cells = [f"not here: {answers[0].fault}"] if is_missing else [each.cell(ASKED, notes) for each in answers]
        lines.append(row(name, *cells))
    for language, answers in programs.items():
        if answers[0].is_missing:
            cells = [f"not run: {answers[0].fault}"]
        else:
            cells = [each.cell(0, notes) if each.fault else f"{each.same} of {photographs}" for each in answers]
        lines.append(row(f"`--snippet {language}`", *cells))
    said = "; ".join(f"({number}) {note}" for number, note in enumerate(notes, 1))
    return "\n".join([*lines, *(["", f"Refused: {said}."] if said else []), ""])


def row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("photographs", type=Path)
    parser.add_argument("--python", nargs="*", default=[sys.executable])
    parser.add_argument("--node-modules", type=Path)
    parser.add_argument("--networks", nargs="*", choices=NETWORKS, default=[*NETWORKS])
    parser.add_argument(
        "--work", type=Path, help="keep networks and answers there, and take those that are there already"
    )
    options = parser.parse_args()
    modules = options.node_modules and options.node_modules.resolve()
    with TemporaryDirectory() as temporary:
        work = (options.work or Path(temporary)).resolve()
        photographs = chosen(options.photographs, work / "photographs")
        photographs = photographs[:: len(photographs) // ASKED][:ASKED]
        folders = [work / name for name in options.networks]
        for folder in folders:
            if not (folder / "classes.json").exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                prepare(folder.name, work / "photographs", photographs, folder)
        rows = runtimes(options.python, modules, folders)
        programs = {
            each: [
                kept(folder / f"{each}.answer", partial(program, each, folder, photographs, modules))
                for folder in folders
            ]
            for each in PROGRAMS
        }
    made = table(rows, programs, len(photographs))
    print(made)
    if options.networks == [*NETWORKS]:
        text = PAGE.read_text(encoding="utf-8")
        PAGE.write_text(PLACE.sub(lambda place: place[1] + made + place[2], text), encoding="utf-8")


if __name__ == "__main__":
    main()
