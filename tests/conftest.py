"""What many tests need: the command line in this process, a tiny MNIST, settings of a run that takes a second.

And the quick tier: `--quick` leaves out the functions in slow_tests.txt, which a run with `--renew-slow-tests` writes.
"""

from __future__ import annotations

import collections
import multiprocessing
import os
from collections.abc import Generator
from importlib import resources
from pathlib import Path

import cv2
import numpy as np
import pytest

from command_line import Convolve, Outcome
from convolve.formats.idx import read_idx
from idx_files import write_idx
from lacking import lacking

os.environ.pop("CONVOLVE_CACHE", None)  # tests say themselves where the cache is
TRAIN_IMAGES, TEST_IMAGES = 600, 150  # of the 4,000 and 1,000 of the sample
SLOW_TESTS = Path(__file__).parent / "slow_tests.txt"
SLOW_SECONDS = 1.0  # of processor time, all cases of a function and what they start together
seconds: dict[str, float] = collections.defaultdict(float)  # by function
last_test_ended = 0.0


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--accept", action="store_true", help="Renew golden files from what the code does now.")
    parser.addoption("--quick", action="store_true", help="Leave out what slow_tests.txt lists.")
    parser.addoption("--renew-slow-tests", action="store_true", help="Write slow_tests.txt from what this run takes.")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    global last_test_ended  # noqa: PLW0603
    last_test_ended = processor_seconds()
    if config.getoption("--quick"):
        slow = {line.split()[0] for line in SLOW_TESTS.read_text().splitlines()}
        chosen = [item for item in items if item.nodeid.partition("[")[0] not in slow]
        config.hook.pytest_deselected(items=[item for item in items if item.nodeid.partition("[")[0] in slow])
        items[:] = chosen


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """A module that cannot be imported where this system lacks something."""
    report = yield
    excinfo = report.call.excinfo
    if report.failed and excinfo and (reason := lacking(excinfo.value.__cause__ or excinfo.value)):
        report.outcome, report.longrepr = "skipped", (str(collector.path), 0, f"Skipped: {reason}")
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Processor time, as a busy machine makes every test slow by the clock; and what this system lacks."""
    global last_test_ended  # noqa: PLW0603
    report = yield
    if report.failed and call.excinfo and (reason := lacking(call.excinfo.value)):
        report.outcome, report.longrepr = "skipped", (str(item.path), item.location[1] or 0, f"Skipped: {reason}")
        for process in multiprocessing.active_children():  # that the rest of the test would have ended
            process.kill()
    if call.when == "teardown":
        now = processor_seconds()
        report.user_properties.append(("seconds", now - last_test_ended))
        last_test_ended = now
    return report


def processor_seconds() -> float:
    """Of this process and of those that it has waited for."""
    return sum(os.times()[:4])


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    for name, value in report.user_properties:
        if name == "seconds" and isinstance(value, float):
            seconds[report.nodeid.partition("[")[0]] += value


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    slow = {name: spent for name, spent in sorted(seconds.items()) if spent >= SLOW_SECONDS}
    if config.getoption("--renew-slow-tests"):
        SLOW_TESTS.write_text("".join(f"{name}  {spent:.1f}\n" for name, spent in slow.items()))
    elif config.getoption("--quick"):
        terminalreporter.write_line(f"processor time: {sum(seconds.values()):.0f} s")
        for name, spent in slow.items():
            terminalreporter.write_line(f"{name} takes {spent:.1f} s; it belongs into slow_tests.txt (make slow-tests)")


@pytest.fixture
def convolve(capsys: pytest.CaptureFixture[str]) -> Convolve:
    """`convolve("train", "mnist", ...)` runs that command in this process."""
    from convolve.cli import main

    def run(*arguments: object) -> Outcome:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        return Outcome(code, *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def tiny_mnist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the first digits of the packaged sample, which are in no order, as the four official IDX files."""
    folder = tmp_path_factory.mktemp("tiny-mnist")
    sample = resources.files("convolve") / "data" / "sample"
    for part, count in (("train", TRAIN_IMAGES), ("t10k", TEST_IMAGES)):
        for name in (f"{part}-images-idx3-ubyte", f"{part}-labels-idx1-ubyte"):
            values = read_idx(Path(str(sample / f"{name}.gz")))
            write_idx(folder / name, values[:count])
    return folder


@pytest.fixture
def tiny(tiny_mnist: Path) -> list[str]:
    """Arguments for `convolve train` that make its run small, quick and the same on every machine."""
    settings = ("model.variant=tiny", "run.epochs=2", "run.threads=1", "run.precision=fp32")
    return ["--data", str(tiny_mnist), *(word for setting in settings for word in ("--set", setting))]


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder: the tiny network for ten digits with fresh weights."""
    return save_fresh_model(tmp_path_factory.mktemp("model"), "0123456789")


@pytest.fixture(scope="session")
def model_of_letters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another model folder, for seven classes."""
    return save_fresh_model(tmp_path_factory.mktemp("letters"), "abcdefg", seed=9)


def save_fresh_model(folder: Path, class_names: str, seed: int = 0) -> Path:
    from convolve.model import Model
    from convolve.models import build_model
    from convolve.specs.model import ModelSpec
    from convolve.transforms.preprocess import Preprocess

    spec = ModelSpec(variant="tiny")
    module = build_model(spec, (1, 28, 28), len(class_names), seed)
    Model(module, spec, Preprocess(1, 28, 28, 0.0, 1 / 256), tuple(class_names), "mnist").save(folder)
    return folder


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of noise, each of its own color: 8 images to train on, 4 to test."""
    folder, rng = tmp_path_factory.mktemp("photographs"), np.random.default_rng(0)
    for number, name in enumerate(("blue", "green", "red")):
        for part, count in (("train", 8), ("val", 4)):
            (folder / part / name).mkdir(parents=True)
            for image in range(count):
                pixels_HWC = rng.integers(0, 120, (30, 44, 3), dtype=np.uint8)
                pixels_HWC[:, :, number] += 130
                cv2.imwrite(str(folder / part / name / f"{image}.png"), pixels_HWC)
    return folder
