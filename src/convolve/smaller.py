"""ONNX files in other forms than the plain one: quantized, with another opset, with a fixed batch.

A quantized file is measured beside the plain one, on the test images, before it gets its name.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from convolve.atomic import replacing
from convolve.data.known import DATASETS
from convolve.data.open import open_data, open_test
from convolve.data.sources.classes import difference
from convolve.data.sources.source import Source
from convolve.environment import hardware
from convolve.errors import ConvolveError, DataError, UsageError
from convolve.export import any_size
from convolve.export.metadata import INPUT, read_metadata
from convolve.export.onnx import OnnxNetwork, check_packages, open_session
from convolve.export.parity import Parity
from convolve.model import Model
from convolve.model_card import write_card
from convolve.records import QuantizedRecord, Start, TargetKind
from convolve.records.reading import read_record, to_json

if TYPE_CHECKING:
    from convolve.export.quantize import Candidate

# Legend: N images, C channels, H rows, W columns.

KINDS = ("int8", "fp16")
_TIMED = 15  # images, one at a time, of which the median is taken
_ALIKE = 1.1  # of files within this factor of the fastest, the smallest is taken
_TRIED = 32  # images to find out which layer costs most


@dataclass(frozen=True)
class Asked:
    """How a file is to differ from the plain one. `data` are images to calibrate and test on; a run folder has its own.

    `max_error_increase` is in percentage points of the test images.
    """

    quantize: str | None = None
    data: str | None = None
    max_error_increase: float = 1.0
    batch_size: int | None = None
    opset: int | None = None
    with_preprocessing: bool = False
    any_size: bool = False

    def __post_init__(self) -> None:
        if self.quantize not in (None, *KINDS):
            raise UsageError(f"--quantize must be {' or '.join(KINDS)}, not {self.quantize}")
        if self.batch_size is not None and self.batch_size < 1:
            raise UsageError(f"--batch-size must be at least 1, not {self.batch_size}")
        if self.any_size and self.batch_size:
            raise UsageError("--any-size takes one image at a time; leave out --batch-size")
        if self.any_size and self.opset and self.opset < any_size.OPSET:
            raise UsageError(
                f"--any-size needs opset {any_size.OPSET}, the first whose Resize has antialiasing; got {self.opset}"
            )
        if not 0 <= self.max_error_increase <= 100:
            raise UsageError(
                f"--max-error-increase must be 0 to 100 percentage points, not {self.max_error_increase:g}"
            )

    @property
    def inside(self) -> dict[str, bool]:
        """What the file itself does, for its card."""
        return {"takes_pixels": self.with_preprocessing or self.any_size, "any_size": self.any_size}

    @property
    def is_plain(self) -> bool:
        return not (self.quantize or self.batch_size or self.opset)


AS_IT_IS = Asked()


@dataclass(frozen=True)
class Exported:
    """What was compared and measured; `scaled` is for a file for any size that was made from a quantized one."""

    compared: Parity
    quantized: QuantizedRecord | None = None
    scaled: Parity | None = None

    @property
    def lines(self) -> list[str]:
        quantized = [in_words(self.quantized)] if self.quantized else []
        return [str(self.compared), *quantized, *([f"with resizing inside: {self.scaled}"] if self.scaled else [])]


@contextmanager
def _temporary_files_in(folder: str) -> Iterator[None]:
    """onnxruntime's quantizer writes into temporary folders, which would remain if the process were killed."""
    before, tempfile.tempdir = tempfile.tempdir, folder
    try:
        yield
    finally:
        tempfile.tempdir = before


def export_as(model: Model, path: Path, asked: Asked, run: Path) -> Exported:
    """Write the model as `asked`, with its card, or nothing; `run` is the folder of the model."""
    if asked.is_plain:
        return Exported(model.export(path, with_preprocessing=asked.with_preprocessing, any_size=asked.any_size))
    check_packages()
    from convolve.export import onnx_finish

    images, record = _Images(model, asked.data, run) if asked.quantize else None, None
    if asked.any_size:
        any_size.require_sayable(model.preprocess, path)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder, _temporary_files_in(folder):
        plain = Path(folder) / path.name
        compared = model.export(plain, with_preprocessing=asked.inside["takes_pixels"])
        file = _File(model, plain)
        size = model.preprocess.shape_CHW
        generator = torch.Generator().manual_seed(0)
        probe_N = file.network.feed(torch.randint(0, 256, (2, *size), generator=generator))
        if asked.opset:
            onnx_finish.with_opset(plain, asked.opset, probe_N)
        if images:
            plain, record = _quantized(_File(model, plain), images, asked, Path(folder))
        if asked.batch_size:
            onnx_finish.with_batch_size(plain, asked.batch_size, probe_N)
        scaled = any_size.attach(plain) if asked.any_size else None
        with replacing(path) as temporary:
            shutil.copyfile(plain, temporary)
    assert model.architecture is not None  # it was just exported
    metadata = replace(model.metadata, quantized=record)
    write_card(path, model.architecture, model.module, model.preprocess, metadata, **asked.inside)
    return Exported(compared, record, scaled)


def in_words(record: QuantizedRecord) -> str:
    """What was lost and gained, in words."""
    return (
        f"{record.how}: error {record.error:.2%} ({record.error_before:.2%} before) on {record.test_images:,} test "
        f"images, {record.bytes:,} bytes ({record.bytes / record.bytes_before:.2f} of the size), "
        f"{record.milliseconds:.2f} ms an image ({record.milliseconds_before / record.milliseconds:.2f} times as fast)"
    )


class _Images:
    """The images on which a quantized file is calibrated and tested."""

    def __init__(self, model: Model, where: str | None, run: Path) -> None:
        if model.target.kind != TargetKind.CLASS:
            raise UsageError("--quantize is for classifiers with one class per image, whose error can be compared")
        where, name = where or _data_of(run, model.data_name), model.data_name
        splits = open_data(where, name if name in DATASETS else "")
        if splits.class_names != model.class_names:
            raise DataError(f"{splits.description}: {difference(splits.class_names, model.class_names)}")
        self.train = splits.train
        shape_CHW = model.preprocess.shape_CHW
        self.test: Source = open_test(where, name, model.class_names, shape_CHW, model.learned)[0]

    def chosen(self) -> Source:
        """Training images for the ranges, from all classes; the same ones each time."""
        from convolve.export import quantize

        numbers = np.random.default_rng(0).permutation(len(self.train))[: quantize.CALIBRATION_IMAGES]
        return self.train.take(np.sort(numbers))


def _data_of(run: Path, name: str) -> str | None:
    """Where the images of a run are, as its start.json says; None for a data set in its usual place."""
    start = run / "start.json"
    if start.is_file():
        said = read_record(start, Start, "give the images with --data").data
        found = re.match(r"(.+?), [\d,]+ classes \(", said) or re.search(r" in (.+)$", said)
        if found and Path(found[1]).exists():
            return found[1]
    if name in DATASETS:
        return None
    raise UsageError(
        f"{run}: int8 and fp16 are measured on images, and its training images are not there; give images with --data"
    )


class _File:
    """An exported file: run by onnxruntime, or opened as a model."""

    def __init__(self, model: Model, path: Path) -> None:
        from convolve.export import onnx_finish

        self.path, content = path, path.read_bytes()
        self.about = onnx_finish.metadata_of(path)
        preprocess, _, _ = read_metadata(json.dumps(self.about), path)
        self.network = OnnxNetwork(content, path, preprocess)
        self.model = replace(model, preprocess=preprocess, confidence=None)

    def feed(self, source: Source) -> np.ndarray:
        batches = self.model.batches(self.model.dataset(source))
        return np.concatenate([self.network.feed(images_NCHW) for images_NCHW, _ in batches])


def _quantized(plain: _File, images: _Images, asked: Asked, folder: Path) -> tuple[Path, QuantizedRecord]:
    """The best file, and its measurements. Raises ConvolveError if each loses more than is allowed."""
    from convolve.export import onnx_finish, quantize

    calibration = images.chosen()
    if asked.quantize == "int8":
        prepared = quantize.prepared(plain.path, folder)
        feed_N = plain.feed(calibration)
        candidates = quantize.int8(prepared, folder, feed_N)
    else:
        candidates = quantize.fp16(plain.path, folder)
    measured = _measured(plain, candidates, images.test)
    before, *records = measured
    limit = before.error + asked.max_error_increase / 100
    found = [(one, each.path) for one, each in zip(records, candidates, strict=True) if one.error <= limit]
    if not found:
        best = min(records, key=lambda one: one.error)
        advice = _costliest(plain, prepared, feed_N, images) if asked.quantize == "int8" else ""
        raise ConvolveError(
            f"not written: {in_words(best)}, more than the {asked.max_error_increase:g} points that "
            f"--max-error-increase allows{advice}"
        )
    fastest = min(one.milliseconds for one, _ in found)
    record, path = min((pair for pair in found if pair[0].milliseconds <= _ALIKE * fastest), key=lambda p: p[0].bytes)
    if asked.quantize == "int8" and "dynamic" not in record.how:
        record = replace(record, calibration_images=len(calibration))
    onnx_finish.set_metadata(path, plain.about | {"quantized": to_json(record)})
    return path, replace(record, bytes=path.stat().st_size)


def _measured(plain: _File, candidates: Sequence[Candidate], test: Source) -> list[QuantizedRecord]:
    """For the plain file and each candidate: error, size and time, measured in turn."""
    preprocess = plain.model.preprocess
    others = [OnnxNetwork(each.path.read_bytes(), each.path, preprocess) for each in candidates]
    networks, wrong, images = [plain.network, *others], [0] * (1 + len(others)), 0
    milliseconds: list[float] = []
    for images_NCHW, labels_N in plain.model.batches(plain.model.dataset(test)):
        milliseconds = milliseconds or _times(networks, images_NCHW[:1])
        images += len(labels_N)
        for k, network in enumerate(networks):
            wrong[k] += int((network(images_NCHW).argmax(1) != labels_N).sum())
    from convolve.export.quantize import Candidate

    files, processor = [Candidate("fp32", plain.path), *candidates], str(hardware()["cpu"])
    return [
        QuantizedRecord(
            how=file.how, test_images=images, error=wrong[k] / images, error_before=wrong[0] / images,
            bytes=file.path.stat().st_size, bytes_before=plain.path.stat().st_size, milliseconds=milliseconds[k],
            milliseconds_before=milliseconds[0], processor=processor,
        )
        for k, file in enumerate(files)
    ]  # fmt: skip


def _times(networks: Sequence[OnnxNetwork], image_NCHW: torch.Tensor) -> list[float]:
    """Milliseconds per image: the median of several, in turn, so that other work on the machine affects all alike."""
    taken = np.zeros((len(networks), _TIMED))
    for turn in range(_TIMED):
        for k, network in enumerate(networks):
            start = time.perf_counter()
            network(image_NCHW)
            taken[k, turn] = 1000 * (time.perf_counter() - start)
    return [float(each) for each in np.median(taken, axis=1)]


def _costliest(plain: _File, prepared: Path, feed_N: np.ndarray, images: _Images) -> str:
    """The layer without whose quantization the scores come closest to fp32, and what leaving it in fp32 would cost."""
    from convolve.export import quantize

    folder, tried_N = prepared.parent, feed_N[:_TRIED]
    wanted_NK = _scores(plain.path, tried_N)
    names, found = quantize.layers(prepared), {}
    for node in names:
        path = quantize.static_int8(prepared, folder, tried_N, "QOperator", [node]).path
        found[node] = float(np.square(_scores(path, tried_N) - wanted_NK).mean())
    worst = min(found, key=lambda node: found[node])
    best = quantize.static_int8(prepared, folder, feed_N, "QOperator", [worst])
    record = _measured(plain, [best], images.test)[1]
    return f". Most of the loss comes from {names[worst]}; with that in fp32 it would be {in_words(record)}"


def _scores(path: Path, feed_N: np.ndarray) -> np.ndarray:
    scores_NK: np.ndarray = open_session(str(path)).run(None, {INPUT: feed_N})[0]
    return scores_NK
