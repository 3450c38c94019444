"""The examples run under their original names, from their own folder, on the sample."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cifar10_files import COUNTS, write_binary
from worker_processes import launch, mpiexec

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.mark.parametrize("path", sorted(EXAMPLES.rglob("*.py")), ids=lambda path: path.name)
def test_examples_are_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 40


def test_convnet_mnist_goes_on_with_the_sample(tmp_path: Path) -> None:
    """No data and no network: it says so in plain sight and trains on the sample."""
    environment = {key: value for key, value in os.environ.items() if key != "CONVOLVE_DATA"}
    environment |= {
        "XDG_CACHE_HOME": str(tmp_path),
        "https_proxy": "http://127.0.0.1:9",
        "http_proxy": "http://127.0.0.1:9",
    }
    result = subprocess.run(
        [sys.executable, "ConvNet_MNIST.py", "--epochs", "3", "--out", str(tmp_path / "run")],
        cwd=EXAMPLES / "ConvNet", env=environment, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "*** Going on with the sample" in result.stdout
    figures = json.loads((tmp_path / "run" / "result.json").read_text())
    assert figures["parameters"] == 98_778
    assert figures["samples_seen"] == 3 * 4000
    assert figures["test_error"] < 0.5  # chance is 0.9
    assert (tmp_path / "run" / "report.html").exists()


@pytest.mark.parametrize(
    ("script", "recipe"),
    [
        ("ConvNet_CIFAR10", "cifar10"),
        ("ConvNet_CIFAR10_DataAug", "cifar10-aug"),
        ("ConvNetLRN_CIFAR10_DataAug", "cifar10-aug-lrn"),
    ],
)
def test_convnet_cifar10(script: str, recipe: str, tmp_path: Path) -> None:
    result = subprocess.run(
        [
            sys.executable, f"{script}.py", "--variant", "tiny", "--epochs", "2",
            "--data", write_binary(tmp_path / "data"), "--out", tmp_path / "run",
        ],
        cwd=EXAMPLES / "ConvNet", capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "epoch 2: loss" in result.stdout
    figures = json.loads((tmp_path / "run" / "result.json").read_text())
    assert (figures["recipe"], figures["samples_seen"]) == (recipe, 2 * COUNTS["train"])
    assert (tmp_path / "run" / "report.html").exists()


def test_convnet_cifar10_distributed(tmp_path: Path) -> None:
    """The flags of the original, on two workers."""
    script, data, out = "ConvNet_CIFAR10_DataAug_Distributed.py", write_binary(tmp_path / "data"), tmp_path / "run"
    where = ["-datadir", data, "-outputdir", out, "-logdir", tmp_path]
    flags = [*where, "-n", 2, "-m", 8, "-e", 15, "-device", "cpu"]
    place = EXAMPLES / "ConvNet"
    done = launch(*mpiexec(2), sys.executable, script, *flags, "-q", "1", "-a", "15", folder=place)
    assert done.returncode == 0, done.stderr
    printed = (tmp_path / "log.txt").read_text()
    assert [line.split()[0] for line in printed.splitlines()] == ["epoch", "epoch", "test"]
    figures = json.loads((out / "result.json").read_text())
    expected = {"recipe": "cifar10-aug", "samples_seen": 30, "world_size": 2, "epochs": 2}
    assert expected.items() <= figures.items()
    recipe = json.loads((out / "recipe.json").read_text())
    assert recipe["distributed"]["quantization_bits"] == 1
    assert (recipe["distributed"]["after_samples"], recipe["run"]["global_batch_size"]) == (15, 8)
    both = launch(sys.executable, script, *flags, "-r", "-b", "8", "-q", "1", folder=place)
    assert both.returncode == 1 and "quantization_bits is for method=gradients" in both.stderr


@pytest.mark.parametrize("script", ["ConvNet/ConvNet_CIFAR10_DataAug", "AlexNet/AlexNet_ImageNet"])
def test_a_missing_log_folder(script: str, tmp_path: Path) -> None:
    path = EXAMPLES / f"{script}_Distributed.py"
    done = launch(sys.executable, path.name, "-logdir", tmp_path / "logs", folder=path.parent)
    assert done.returncode == 1
    assert done.stderr == f"[Errno 2] No such file or directory: '{tmp_path / 'logs' / 'log.txt'}'\n"
