"""MNIST as the files that CNTK's MNIST script writes, and as pictures.

Train-28x28_cntk_text.txt, Test-28x28_cntk_text.txt   CTF, one line a digit
train/<digit>/NNNNN.png, test/<digit>/NNNNN.png       28x28 grey; NNNNN is the number of the sample, from 00000
train_map.txt, test_map.txt                           absolute path, TAB, digit; in the order of the samples
labels.txt                                            the name of class 0, 1, ...; one a line
prepared.json                                         which data all this was made from
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from convolve.atomic import cannot_write, replacing
from convolve.data.mnist import CLASS_NAMES, CTF_TEST, CTF_TRAIN, load_mnist
from convolve.data.table import Table
from convolve.errors import UsageError
from convolve.formats.ctf import write_ctf

# Legend: N samples, H rows, W columns.


def prepare_mnist(source: Path, out: Path) -> Iterator[str]:
    """Write MNIST from the folder `source` (anything that `load_mnist` reads) into `out`; a report line for each part.

    The work is done while the lines are taken. Files that are there stay as they are, so an interrupted run is
    continued and a finished one costs a look. Raises `UsageError` where `out` holds something else, `ConvolveError`
    where it cannot be written; each file is whole or absent even then.
    """
    data = load_mnist(str(source.expanduser().absolute()))  # a folder, even where it is called "sample"
    out = out.expanduser().resolve()
    if set("\t\r\n") & set(str(out)):
        raise UsageError(f"map files cannot hold a path with a tab or line break, {str(out)!r}; choose another --out")
    try:
        _claim(out, data.fingerprint())
        yield _write_text(out / "labels.txt", "".join(f"{name}\n" for name in CLASS_NAMES))
        yield from _write_part(out, "train", CTF_TRAIN, data.train)
        yield from _write_part(out, "test", CTF_TEST, data.test)
    except OSError as error:
        raise cannot_write(out, error) from error


def _write_part(out: Path, part: str, ctf_name: str, table: Table) -> Iterator[str]:
    images_NHW, labels_N = table.images_NCHW[:, 0].numpy(), table.labels_N.numpy()
    yield _write_ctf(out / ctf_name, images_NHW, labels_N)
    pictures = [out / part / str(label) / f"{number:05d}.png" for number, label in enumerate(labels_N)]
    written = _write_pictures(pictures, images_NHW, out / ".picture.tmp")
    yield f"{out / part}: {written:,} of {len(pictures):,} pictures written, the others were there"
    lines = (f"{path}\t{label}\n" for path, label in zip(pictures, labels_N, strict=True))
    yield _write_text(out / f"{part}_map.txt", "".join(lines))


def _claim(out: Path, fingerprint: str) -> None:
    """Note in `out` what data its files come from, or find that note; files of other origin are refused."""
    marker = out / "prepared.json"
    note = json.dumps({"dataset": "mnist", "data_fingerprint": fingerprint}) + "\n"
    if marker.exists():
        if marker.read_text(encoding="utf-8", errors="replace") != note:
            raise UsageError(f"{out} was prepared from other data; choose another --out, or remove that folder")
        for left_by_a_kill in out.glob(".*.tmp"):
            left_by_a_kill.unlink()
        return
    for name in ("labels.txt", CTF_TRAIN, CTF_TEST, "train", "test", "train_map.txt", "test_map.txt"):
        if (out / name).exists():
            raise UsageError(f"{out} holds {name} already, and not from us; choose another --out, or remove it")
    _write_text(marker, note)


def _write_text(path: Path, text: str) -> str:
    content = text.encode(errors="surrogateescape")  # paths are bytes, not always text
    if path.exists() and path.read_bytes() == content:
        return f"{path}: was there"
    with replacing(path) as temporary:
        temporary.write_bytes(content)
    return f"{path}: written"


def _write_ctf(path: Path, images_NHW: np.ndarray, labels_N: np.ndarray) -> str:
    if _is_there(path):
        return f"{path}: was there"
    write_ctf(path, labels_N, images_NHW.reshape(len(images_NHW), -1), len(CLASS_NAMES))
    return f"{path}: written"


def _write_pictures(paths: list[Path], images_NHW: np.ndarray, temporary: Path) -> int:
    """Write the images whose path is missing, and return how many that were."""
    missing = [(path, image_HW) for path, image_HW in zip(paths, images_NHW, strict=True) if not _is_there(path)]
    for folder in {path.parent for path, _ in missing}:
        folder.mkdir(parents=True, exist_ok=True)
    for path, image_HW in missing:  # `replacing` would wait for the disk each time: minutes for 70,000 files
        temporary.write_bytes(cv2.imencode(".png", image_HW)[1].tobytes())
        temporary.replace(path)
    return len(missing)


def _is_there(path: Path) -> bool:
    """An empty file is none: a crash of the whole machine can leave the name of a file without its content."""
    return path.exists() and path.stat().st_size > 0
