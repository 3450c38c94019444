"""What ParallelTrain comes to for a number of workers."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from convolve.errors import FormatError, UnsupportedError, UsageError
from convolve.importers.brainscript.config import read_config
from convolve.importers.brainscript.parallel import Parallel, read_parallel
from convolve.specs.distributed import DistributedSpec

EPOCH = 1000


def parallel(folder: Path, settings: str, head: str = "parallelTrain = true") -> Parallel:
    (folder / "a.cntk").write_text(f"{head}\nSGD = {{ {settings} }}\n", encoding="utf-8")
    root, _ = read_config([str(folder / "a.cntk")])
    sgd = root.block("SGD")
    assert sgd is not None
    return read_parallel(root, sgd)


def spec(folder: Path, method: str, settings: str, workers: int = 4) -> DistributedSpec:
    text = f"ParallelTrain = {{ parallelizationMethod = {method} ; {settings} }}"
    return parallel(folder, text).for_workers(workers, EPOCH)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ("distributedMBReading = true", DistributedSpec()),
        ("DataParallelSGD = { gradientBits = 1 }", DistributedSpec(quantization_bits=1)),
        ("DataParallelSGD = { gradientBits = 32*2:1 }", DistributedSpec(quantization_bits=1, after_samples=2 * EPOCH)),
        (
            "parallelizationStartEpoch = 4 ; DataParallelSGD = { gradientBits = 8 }",
            DistributedSpec(quantization_bits=8, after_samples=3 * EPOCH),
        ),
        ("BlockMomentumSGD = { blockSize = 9 }", DistributedSpec()),  # of another method
    ],
)
def test_data_parallel_sgd(settings: str, expected: DistributedSpec, tmp_path: Path) -> None:
    assert spec(tmp_path, "DataParallelSGD", settings) == expected


@pytest.mark.parametrize(
    ("method", "settings", "expected"),
    [
        ("ModelAveragingSGD", "", DistributedSpec("model_averaging", block_samples=160_000)),
        (
            "modelaveragingsgd",
            "ModelAveragingSGD = { blockSizePerWorker = 50 }",
            DistributedSpec("model_averaging", block_samples=200),
        ),
        ("BlockMomentumSGD", "", DistributedSpec("block_momentum", block_samples=480_000)),
        (
            "BlockMomentumSGD",
            "BlockMomentumSGD = { blockSize = 90 ; blockMomentumAsTimeConstant = 30 ; useNesterovMomentum = false }",
            DistributedSpec("block_momentum", block_samples=90, block_momentum_time_constant=30.0, nesterov=False),
        ),
        (
            "BlockMomentumSGD",
            "BlockMomentumSGD = { blockSize = 90 ; resetSGDMomentum = false }",
            DistributedSpec("block_momentum", block_samples=90, reset_momentum=False),
        ),
        (
            "BlockMomentumSGD",
            "BlockMomentumSGD = { syncPeriod = 10 ; blockMomentumPerSync = 0.5 ; blockLearningRate = 2 }",
            DistributedSpec(
                "block_momentum", block_samples=40, block_momentum_time_constant=-40 / math.log(0.5),
                block_learning_rate=2.0,
            ),
        ),
    ],
)  # fmt: skip
def test_blocks(method: str, settings: str, expected: DistributedSpec, tmp_path: Path) -> None:
    assert spec(tmp_path, method, settings) == expected


@pytest.mark.parametrize(
    ("method", "settings", "message"),
    [
        ("DataParallelASGD", "", "asynchronous SGD is not supported"),
        (
            "DataParallelSGD",
            "DataParallelSGD = { gradientBits = 1:8 }",
            "anything but one change, from 32 bits, is not supported",
        ),
        (
            "DataParallelSGD",
            "DataParallelSGD = { useBufferedAsyncGradientAggregation = true }",
            "true is not supported",
        ),
        ("ModelAveragingSGD", "ModelAveragingSGD = { resetSGDMomentum = false }", "resetSGDMomentum: false is not"),
    ],
)
def test_what_is_not_there_is_refused(method: str, settings: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=message) as refused:
        spec(tmp_path, method, settings)
    assert str(refused.value).startswith(str(tmp_path / "a.cntk"))


@pytest.mark.parametrize("momentum", ["1", "-0.5"])
def test_a_block_momentum_that_is_none(momentum: str, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"blockMomentumPerSync must be in \[0, 1\)"):
        spec(tmp_path, "BlockMomentumSGD", f"BlockMomentumSGD = {{ blockMomentumPerSync = {momentum} }}")


def test_a_configuration_for_one_worker(tmp_path: Path) -> None:
    for settings, head in (
        ("", "parallelTrain = true"),
        ("ParallelTrain = { parallelizationMethod = DataParallelSGD }", "parallelTrain = false"),
        ("ParallelTrain = { parallelizationMethod = DataParallelSGD }", ""),
    ):
        with pytest.raises(UsageError, match="2 workers, but the configuration is for one: set parallelTrain=true"):
            parallel(tmp_path, settings, head).for_workers(2, EPOCH)
    with pytest.raises(FormatError, match="DataParallelSGD"):
        spec(tmp_path, "DataParalelSGD", "")
