"""The commands whose every event is met by a kill and by errors, on inputs so small that one takes a moment."""

from __future__ import annotations

import asyncio
import ctypes
import gzip
import hashlib
import importlib
import os
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from events import KILLED, Fault, Trial, run
from small_inputs import write_files

from mirrors import mirror
from remote_servers import S3Handler, failing_store, s3_environ

_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG
INPUTS = "../inputs"  # as a command sees them from the folder that it works in
_THREADS = ("--threads", "1")
_TINY = ("--set=model.variant=tiny", "--set=run.global_batch_size=32", "--precision", "fp32", *_THREADS)


def nothing(folder: Path) -> None:
    del folder


@dataclass(frozen=True)
class Command:
    """`words` after `convolve`, or a function. `before` makes what is there at its start.

    `again` is given after the fault, where it is another command; `done` is what the command says where nothing is left
    to do, or where the old still stands. `once`: a trial takes seconds, so each event meets one kind of error in turn.
    """

    words: tuple[str, ...] | Callable[[], int]
    before: Callable[[Path], None] = nothing
    again: tuple[str, ...] | None = None
    done: str = ""
    code: int = 0
    once: bool = False


def train(*more: str, out: str = "run") -> tuple[str, ...]:
    """Two updates an epoch and a checkpoint after each, of which the oldest soon go."""
    checkpoints = "--set=run.checkpoint_seconds=0.000001"
    return ("train", "mnist", "--data", f"{INPUTS}/digits", *_TINY, checkpoints, "--epochs", "2", "--out", out, *more)


def convert(*more: str, out: str, model: str = f"{INPUTS}/run") -> tuple[str, ...]:
    return ("convert", model, *more, "--out", out)


def copied(*names: str) -> Callable[[Path], None]:
    """Inputs that the command changes."""

    def copy(folder: Path) -> None:
        for name in names:
            source, _, target = name.partition(":")
            shutil.copytree(folder / INPUTS / source, folder / (target or source), symlinks=True)

    return copy


def engine() -> int:
    """What `serve` makes of a model as it starts."""
    import torch

    from convolve.loading import load
    from convolve.serve.engine import engine_of

    torch.set_num_threads(1)
    return 0 if asyncio.run(engine_of(load(f"{INPUTS}/run"), 1)) else 1


def downloaded() -> int:
    """A data set comes from a mirror, which a server of this process stands for."""
    from convolve.cli import main
    from convolve.data import mnist
    from convolve.data.download import RemoteFile

    os.environ["no_proxy"] = "127.0.0.1"
    names = [file.name for file in mnist._IDX_FILES]
    contents = {
        name: gzip.compress(Path(INPUTS, "digits", name.removesuffix(".gz")).read_bytes(), mtime=0) for name in names
    }
    with mirror(contents) as (url, _):
        mnist._IDX_FILES = tuple(  # type: ignore[assignment]
            RemoteFile(name, (url,), len(content), hashlib.sha256(content).hexdigest())
            for name, content in contents.items()
        )
        return main(["prepare", "mnist", "--out", "out"])


def elsewhere(*words: str) -> Callable[[], int]:
    """The command, with `URL` standing for the inputs at an address that all trials of one sweep share."""

    def asked() -> int:
        from convolve import remote
        from convolve.cli import main

        os.environ["no_proxy"] = "127.0.0.1"
        remote.PAUSES = (0.0, 0.0)  # type: ignore[assignment]
        with failing_store(Path(INPUTS).resolve(), port=_port(os.getppid())) as store:
            return main([word.replace("URL", store.url) for word in words])

    return asked


@cache
def bucket(folder: Path) -> int:
    """The process of a small S3 whose buckets are the folders in `folder`; nothing of it is counted or fails."""
    number = os.fork()
    if number:
        return number
    ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    with failing_store(folder, S3Handler, 1 + _port(os.getppid())):
        signal.pause()
    os._exit(0)


def empty_bucket(folder: Path) -> None:
    (folder / "store" / "team").mkdir(parents=True)
    bucket(folder / "store")


def to_bucket() -> int:
    from convolve import remote
    from convolve.cli import main

    os.environ |= s3_environ(f"http://127.0.0.1:{1 + _port(os.getppid())}")
    remote.PAUSES = (0.0, 0.0, 0.0)  # type: ignore[assignment]
    return main(["prepare", "shards", "--source", f"{INPUTS}/photos", "--out", "s3://team/photos"])


def _port(harness: int) -> int:
    """One that all trials of a sweep share, and the next one is free, too."""
    return 20_000 + 2 * (harness % 5_000)


def program() -> int:
    """A program's errors are its own, and Python prints them: here they are a line."""
    from convolve.cli import main

    try:
        return main(["run", f"{INPUTS}/program.py"])
    except Exception as error:
        print(f"convolve: {' '.join(str(error).split())}", file=sys.stderr)
        return 1


def cleared() -> int:
    """`doctor --clear-cache` without its measurements, which take seconds and no file."""
    from convolve.cli import main

    importlib.import_module("convolve.cli.doctor")._findings = dict  # type: ignore[attr-defined]
    return main(["doctor", "--clear-cache"])


def full_cache(folder: Path) -> None:
    for name in ("features/one", "indices/two", "unpacked/three/deep/image.png", "mnist/four.gz"):
        path = folder / "cache" / name
        path.parent.mkdir(parents=True)
        path.write_bytes(b"kept")


def two_workers(*words: str) -> Callable[[], int]:
    """The command as worker 0 of two; worker 1 is a process beside it."""

    def both() -> int:
        from convolve.cli import main

        job = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "TORCHELASTIC_RUN_ID": _job()}
        os.environ |= job | {"RANK": "0", "LOCAL_RANK": "0"}
        other = os.fork()
        if other == 0:
            ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)  # mpiexec ends the others of a killed one
            os.environ |= {"RANK": "1", "LOCAL_RANK": "1"}
            os._exit(main([*words]))
        code = main([*words])
        if code:
            os.kill(other, signal.SIGKILL)  # as mpiexec does
        os.waitpid(other, 0)
        return code

    return both


def _job() -> str:
    import secrets

    return secrets.token_hex(8)


_REFUSED = "exists already"
_FINISHED = "holds a finished run"
_PACKAGE = f"--web-runtime={INPUTS}/ort.tgz"
_CROPS = (
    '[{"kind": "crop", "crop_type": "randomside", "side_ratio": 0.875}, {"kind": "scale", "width": 32, "height": 32}]'
)
_PACKED = (
    "train", "cifar10-aug", "--data", f"{INPUTS}/photos", *_TINY, "--set=run.global_batch_size=4", "--epochs", "1",
    "--set=data.image_size=32", "--set=data.mean_image=", f"--set=data.train_transforms={_CROPS}",
    "--set=data.cache=packed", "--out", "run",
)  # fmt: skip

COMMANDS: dict[str, Command] = {
    "train": Command(train(), done=_FINISHED),
    "train, resumed": Command(train(), copied("interrupted:run"), done=_FINISHED),
    "train --restart": Command(train("--restart"), copied("old:run")),
    "train --restart, then without": Command(train("--restart"), copied("old:run"), again=train(), done=_FINISHED),
    "train --log tensorboard": Command(train("--log", "tensorboard"), done=_FINISHED),
    "train --folds": Command(train("--folds", "2"), done=_FINISHED),
    "train --find-lr": Command(train("--find-lr")),
    "train, packed cache": Command(_PACKED, done=_FINISHED),
    "train, head on kept features": Command(
        ("train", "mnist", "--data", f"{INPUTS}/digits", "--from", f"{INPUTS}/run", *_TINY, "--epochs", "1",
         "--set=model.freeze=all", "--set=model.head=linear", "--out", "run"),
        done=_FINISHED,
    ),
    "train --teacher": Command(train("--teacher", f"{INPUTS}/run"), done=_FINISHED),
    "reproduce": Command(
        ("reproduce", "mnist", "--seeds", "2", "--data", f"{INPUTS}/digits", "--set=model.variant=tiny", *_THREADS,
         "--set=run.global_batch_size=32", "--set=run.epochs=1", "--set=run.precision=fp32"),
    ),
    "report": Command(("report", "run"), copied("run")),
    "evaluate --json": Command(
        ("evaluate", "run", "--data", "pictures/test_map.txt", "--json"), copied("run", "pictures")
    ),
    "evaluate --csv, remote shards": Command(
        elsewhere("evaluate", f"{INPUTS}/run", "--data", "URL/shards/test-000000.tar", "--csv", "answers.csv")
    ),
    "evaluate --csv": Command(
        ("evaluate", f"{INPUTS}/run", "--data", f"{INPUTS}/pictures/test_map.txt", "--csv", "answers.csv")
    ),
    "predict": Command(("predict", "run", "test"), copied("run", "pictures/test:test")),
    "predict --json": Command(("predict", "run", "test", "--json"), copied("run", "pictures/test:test")),
    "predict --csv": Command(("predict", f"{INPUTS}/run", f"{INPUTS}/pictures/test", "--csv", "answers.csv")),
    "predict --npz": Command(
        ("predict", f"{INPUTS}/run", f"{INPUTS}/pictures/test", "--output", "fc1", "--npz", "features.npz")
    ),
    "predict --sort-into": Command(("predict", f"{INPUTS}/run", f"{INPUTS}/pictures/test", "--sort-into", "sorted")),
    "predict --csv, two workers": Command(
        two_workers("predict", f"{INPUTS}/run", f"{INPUTS}/pictures/test", "--csv", "answers.csv")
    ),
    "check-data": Command(("check-data", f"{INPUTS}/photos", *_THREADS, "--html", "page.html"), code=3),
    "check-data --write-table": Command(
        ("check-data", f"{INPUTS}/faulty", *_THREADS, "--html", "page.html", "--write-table", "table.csv"), code=3
    ),
    "check-data --from": Command(
        ("check-data", f"{INPUTS}/pictures/train_map.txt", "--from", f"{INPUTS}/run", *_THREADS, "--html", "page.html"),
        code=3,
    ),
    "check-data, archive": Command(("check-data", f"{INPUTS}/photos.zip", *_THREADS), code=3),
    "prepare mnist": Command(("prepare", "mnist", "--source", f"{INPUTS}/digits", "--out", "out")),
    "prepare mnist, downloaded": Command(downloaded),
    "prepare cifar10": Command(("prepare", "cifar10", "--source", f"{INPUTS}/cifar", "--out", "out")),
    "prepare ilsvrc2012": Command(("prepare", "ilsvrc2012", "--source", f"{INPUTS}/ilsvrc2012", "--out", "out")),
    "prepare folder": Command(("prepare", "folder", "--source", f"{INPUTS}/photos", "--out", "out")),
    "prepare shards": Command(("prepare", "shards", "--source", f"{INPUTS}/photos", "--out", "out")),
    "prepare shards, to a remote store": Command(to_bucket, empty_bucket),
    "convert to convolve": Command(convert("--to", "convolve", out="model"), done=_REFUSED),
    "convert to onnx": Command(convert("--to", "onnx", out="m.onnx"), done=_REFUSED, once=True),
    "convert to onnx, pixels": Command(
        convert("--to", "onnx", "--with-preprocessing", out="m.onnx"), done=_REFUSED, once=True
    ),
    "convert to exported-program": Command(
        convert("--to", "exported-program", out="m.pt2"), done=_REFUSED, once=True
    ),
    "convert to web": Command(convert("--to", "web", _PACKAGE, out="page"), done=_REFUSED, once=True),
    "convert --snippet": Command(convert("--snippet", "python-cv2", out="ask.py"), done=_REFUSED),
    "convert --quantize int8": Command(
        convert("--to", "onnx", "--quantize", "int8", "--data", f"{INPUTS}/digits", "--max-error-increase", "100",
                out="m.onnx"),
        done=_REFUSED, once=True,
    ),
    "convert --batch-size": Command(
        convert("--to", "onnx", "--batch-size", "2", "--opset", "17", out="m.onnx"), done=_REFUSED, once=True
    ),
    "convert and --sign": Command(
        convert("--to", "convolve", "--sign", f"{INPUTS}/key.pem", out="model"), done=_REFUSED
    ),
    "convert --sign": Command(("convert", "model", "--sign", f"{INPUTS}/key.pem"), copied("run/model:model")),
    "run": Command(("run", f"{INPUTS}/net.cntk", "out=out", "deviceId=-1")),
    "run --translate": Command(("run", f"{INPUTS}/net.cntk", "out=out", "deviceId=-1", "--translate", "net.py")),
    "run, a program": Command(program),
    "serve, engine": Command(engine, once=True),
    "doctor --clear-cache": Command(cleared, full_cache),
}  # fmt: skip


def installed(name: str) -> bool:
    """Whether this environment has what the command needs."""
    needs = {
        "sign": "model_signing",
        "tensorboard": "tensorboard",
        "onnx": "onnxruntime",
        "web": "onnxruntime",
        "remote": "s3fs",
    }
    return all(find_spec(package) for part, package in needs.items() if part in name)


def make_inputs(place: Path, logs: Path) -> None:
    """All that `COMMANDS` read, in place/inputs."""
    inputs, trial = place / "inputs", place / "trial"
    inputs.mkdir()
    trial.mkdir()
    logs.mkdir()

    def files() -> int:
        write_files(inputs)
        return 0

    ask(files, trial, logs)
    ask(train(out=f"{INPUTS}/run"), trial, logs)
    ask(train("--seed", "1", out=f"{INPUTS}/old"), trial, logs)
    ask(("prepare", "mnist", "--source", f"{INPUTS}/digits", "--out", f"{INPUTS}/pictures"), trial, logs)
    ask(("prepare", "shards", "--source", f"{INPUTS}/pictures", "--out", f"{INPUTS}/shards"), trial, logs)
    done = ask(train(), trial, logs)
    shutil.rmtree(trial / "run")
    middle = next(number for number, event in enumerate(done.events) if "step-00000003.json" in event)
    assert run(train(), trial, logs, Fault(middle)).code == KILLED
    shutil.move(trial / "run", inputs / "interrupted")
    shutil.rmtree(trial)


def ask(words: tuple[str, ...] | Callable[[], int], trial: Path, logs: Path) -> Trial:
    done = run(words, trial, logs)
    assert done.code == 0, (words, done.err)
    return done
