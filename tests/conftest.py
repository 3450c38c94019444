"""What many tests need: the command line in this process, a tiny MNIST, settings of a run that takes a second."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import pytest

from command_line import Convolve, Outcome
from convolve.formats.idx import read_idx, write_idx

TRAIN_IMAGES, TEST_IMAGES = 600, 150  # of the 4,000 and 1,000 of the sample


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--accept", action="store_true", help="Renew golden files from what the code does now.")


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
    from convolve.recipe import ModelSpec
    from convolve.transforms.preprocess import Preprocess

    spec = ModelSpec(variant="tiny")
    module = build_model(spec, (1, 28, 28), len(class_names), seed)
    Model(module, spec, Preprocess(1, 28, 28, 0.0, 1 / 256), tuple(class_names), "mnist").save(folder)
    return folder
