"""Where a configuration, which may be untrusted, may write: new files and its own, in places that the user knows."""

import glob
import hashlib
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from convolve.atomic import open_ordinary, write_json
from convolve.errors import ConvolveError, DataError, UsageError
from convolve.importers.brainscript.config import read_config
from convolve.importers.brainscript.files import files_in
from convolve.importers.brainscript.job import EditStep, Job, TrainStep, WriteStep
from convolve.names import own_slashes
from convolve.records import ModelRecord
from convolve.records.reading import read_record

WRITTEN = ".convolve-written.json"  # name -> SHA-256 of the texts in a folder that convolve wrote
_MODEL = ("model.json", "weights.safetensors", "model-card.md")
_PATHS = re.compile(r"=\s*\"?([^=\[\]{};\"]+)")  # what a setting on the command line gives, blocks included


@dataclass(frozen=True)
class Reach:
    """Paths below one of `roots`, or that begin with one of the `named` paths; without any roots, every path."""

    roots: tuple[str, ...]
    named: tuple[str, ...] = ()

    def require(self, path: Path) -> None:
        """Raise UsageError for a path elsewhere, after following links."""
        real = Path(os.path.realpath(path))
        begins = (str(real).startswith(name) and str(real.parent) == os.path.dirname(name) for name in self.named)  # noqa: PTH120
        if self.roots and not (any(real.is_relative_to(root) for root in self.roots + self.named) or any(begins)):
            raise UsageError(
                f"the configuration writes to {path}, which is neither below its folder, its rootDir or the working "
                f"folder, nor named on the command line; --allow-outside permits it"
            )

    def require_all(self, job: Job) -> None:
        """As `require`, for everything that `job` writes; also refuses a folder of other files for a model."""
        for path in _outputs(job):
            self.require(path)
            for folder in (path, *path.parent.glob(f"{glob.escape(path.name)}.*")):
                _require_own_model(folder)


ANYWHERE = Reach(())


def reach_of(arguments: Sequence[str], allow_outside: bool) -> Reach:
    """The reach of the configuration of a command line."""
    if allow_outside:
        return ANYWHERE
    root, folders = read_config(arguments)
    said = [text for argument in arguments if not files_in(argument) for text in _PATHS.findall(argument)]
    own = root.file("rootDir")
    roots = [Path.cwd(), *folders, *([Path(own)] if own and _is_a_root(Path(own)) else [])]
    return Reach(
        tuple(map(os.path.realpath, roots)), tuple(os.path.realpath(own_slashes(text.strip())) for text in said)
    )


def _is_a_root(path: Path) -> bool:
    """Home folders, their parents and hidden folders hold files that programs obey: no configuration may
    choose them."""
    real, home = Path(os.path.realpath(path)), Path(os.path.realpath(Path.home()))
    is_hidden = any(part.startswith(".") for part in real.parts)
    own = {"win32": os.environ.get("APPDATA") or home / "AppData" / "Roaming", "darwin": home / "Library"}
    is_obeyed = real.is_relative_to(os.path.realpath(own.get(sys.platform, home / ".config")))
    return not (home.is_relative_to(real) or is_hidden or is_obeyed)


def _outputs(job: Job) -> Iterator[Path]:
    if job.log:
        yield job.log
    for step in job.steps:
        if isinstance(step, TrainStep):
            yield step.model_path
        elif isinstance(step, WriteStep):
            yield Path(step.output_path)
        elif isinstance(step, EditStep):
            yield from (path for path, _ in step.saved)


def _require_own_model(folder: Path) -> None:
    if any(os.path.lexists(folder / name) for name in _MODEL):
        try:
            read_record(folder / "model.json", ModelRecord, "")
        except (FileNotFoundError, DataError):
            raise UsageError(
                f"{folder} should become a model, but holds files that convolve did not write; choose another modelPath"
            ) from None


def require_own(path: Path) -> None:
    """Raise UsageError for a text file that exists and differs from what convolve wrote."""
    if os.path.lexists(path) and _written(path.parent).get(path.name) != _digest(path):
        raise UsageError(f"{path} exists, and convolve did not write it; move it away, or choose another outputPath")


def note_own(path: Path) -> None:
    write_json(path.parent / WRITTEN, _written(path.parent) | {path.name: _digest(path)})


def _written(folder: Path) -> dict[str, str]:
    with suppress(FileNotFoundError, ConvolveError):  # damaged: then no file is known to be ours
        return read_record(folder / WRITTEN, dict[str, str], "remove it")
    return {}


def _digest(path: Path) -> str:
    try:
        with open_ordinary(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""
