"""`convolve run`: configurations from their text to the last line of CNTK's log."""

from __future__ import annotations

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from command_line import Convolve, assert_refused
from convolve.formats.ctf import write_ctf
from convolve.formats.image_map import write_image_map
from convolve.formats.mean_xml import write_mean_xml
from convolve.importers.brainscript.job import TrainStep, read_job
from convolve.model import load
from convolve.recipe import from_mapping
from convolve.run_config import recipe_of

EXAMPLES = Path(__file__).parents[1] / "examples" / "BrainScript"

TEXT = """
command = Train : Test
modelPath = "$out$/net"
Train = {
    action = "train"
    BrainScriptNetworkBuilder = {
        features = Input {(6:5:1)} ; labels = Input {3}
        c = ConvolutionalLayer {8, (3:3), pad = true} (features / 256)
        h = ReLU (BatchNormalizationLayer {spatialRank = 2} (c))
        z = LinearLayer {3} (Dropout (h))
        ce = CrossEntropyWithSoftmax (labels, z) ; errs = ClassificationError (labels, z)
        top2 = ClassificationError (labels, z, topN = 2)
        criterionNodes = (ce) ; evaluationNodes = (errs)
    }
    SGD = {
        epochSize = 0 ; minibatchSize = 16 ; maxEpochs = 6 ; learningRatesPerSample = 0.02 ; momentumAsTimeConstant = 50
        dropoutRate = 0*1:0.2 ; numMBsToShowResult = 3
    }
    reader = {
        readerType = "CNTKTextFormatReader" ; file = "$data$/train.txt"
        input = { features = { dim = 30 ; format = "dense" } ; labels = { dim = 3 ; format = "dense" } }
    }
    cvReader = {
        readerType = "CNTKTextFormatReader" ; file = "$data$/test.txt" ; randomize = false
        input = { features = { dim = 30 ; format = "dense" } ; labels = { dim = 3 ; format = "dense" } }
    }
}
Test = {
    action = "test" ; minibatchSize = 10 ; evalNodeNames = errs : top2 : ce
    reader = {
        readerType = "CNTKTextFormatReader" ; file = "$data$/test.txt" ; randomize = false
        input = { features = { dim = 30 ; format = "dense" } ; labels = { dim = 3 ; format = "dense" } }
    }
}
"""


@pytest.fixture
def config(tmp_path: Path) -> list[str]:
    """The command line of a training on 100 images of three kinds: the bright third tells the class."""
    rng = np.random.default_rng(1)
    for name, count in (("train", 100), ("test", 25)):
        labels_N = rng.integers(0, 3, count)
        images_NHW = rng.integers(0, 120, (count, 5, 6))
        for image, label in zip(images_NHW, labels_N, strict=True):
            image[:, 2 * label : 2 * label + 2] += 120
        write_ctf(tmp_path / f"{name}.txt", labels_N, images_NHW.reshape(count, -1), 3)
    (tmp_path / "net.cntk").write_text(TEXT, encoding="utf-8")
    return [str(tmp_path / "net.cntk"), f"data={tmp_path}", f"out={tmp_path / 'out'}", "deviceId=-1"]


def test_train_and_test(convolve: Convolve, config: list[str], tmp_path: Path) -> None:
    """CNTK's lines, the model under modelPath, and the same answer when only the test runs again."""
    outcome = convolve("run", *config, "--json")
    assert outcome.code == 0, outcome.err
    (test,) = json.loads(outcome.out)["tests"]
    assert test["samples"] == 25
    assert test["errs"] <= 0.1 and test["top2"] <= test["errs"]
    lines = outcome.err.splitlines()
    minibatch = re.compile(
        r" Epoch\[(\d) of 6\]-Minibatch\[ *(\d+)- *(\d+), (\d+\.\d\d)%\]: ce = \d+\.\d{8} \* (\d+); errs = \d+\.\d{3}% "
        r"\* (\d+); time = \d+\.\d{4}s; samplesPerSecond = \d+\.\d"
    )
    found = [match.groups() for line in lines if (match := minibatch.fullmatch(line))]
    assert [(first, last) for _, first, last, *_ in found[:3]] == [("1", "3"), ("4", "6"), ("7", "7")]
    assert [samples for *_, samples, _ in found[:3]] == ["48", "48", "4"]
    finished = re.compile(
        r"Finished Epoch\[6 of 6\]: \[Training\] ce = \S+ \* 100; errs = \S+% \* 100; totalSamplesSeen = 600; "
        r"learningRatePerSample = 0\.02; epochTime=\S+s"
    )
    assert any(finished.fullmatch(line) for line in lines)
    assert any(re.fullmatch(r"Finished Epoch\[6 of 6\]: \[Validate\] ce = \S+; errs = \S+%", line) for line in lines)
    assert re.fullmatch(
        r"Final Results: Minibatch\[1-3\]: errs = \S+% \* 25; top2 = \S+ \* 25; ce = \S+ \* 25; perplexity = \S+",
        lines[-1],
    )
    assert load(tmp_path / "out" / "net").preprocess.shape_CHW == (1, 5, 6)
    again = convolve("run", *config, "--json")
    assert json.loads(again.out) == json.loads(outcome.out)
    assert "its training is skipped" in again.err and "Finished Epoch" not in again.err
    only = convolve("run", *config, "command=Test", "--json")
    assert json.loads(only.out)["tests"][0]["errs"] == test["errs"]


def test_epochs_of_a_part_of_the_data_are_refused(convolve: Convolve, config: list[str]) -> None:
    assert_refused(convolve("run", *config, "Train=[SGD=[epochSize=64]]"), 4, "epochSize=64", "100 samples")


def test_missing_data_is_named(convolve: Convolve, config: list[str]) -> None:
    assert_refused(convolve("run", *config, "data=nowhere"), 3, "nowhere/train.txt", "convolve prepare")


def test_mistakes_name_their_place(convolve: Convolve, config: list[str]) -> None:
    assert_refused(convolve("run", *config, "Train=[SGD=[maxEpochs=x]]"), 3, "command line: line 1, column 23")
    assert_refused(convolve("run", "missing.cntk"), 3, "cannot read missing.cntk")


def test_translation(convolve: Convolve, config: list[str], tmp_path: Path) -> None:
    """The recipe file says what the configuration says, and trains the network beside it."""
    outcome = convolve("run", *config, "--translate", tmp_path / "net.yaml")
    assert outcome.code == 0, outcome.err
    text = (tmp_path / "net.yaml").read_text(encoding="utf-8")
    step = read_job(config).steps[0]
    assert isinstance(step, TrainStep)
    assert from_mapping(yaml.safe_load(text)) == recipe_of(step)
    assert "CNTK: always so in BrainScript" in text
    assert load(tmp_path / "net.network").class_names == ("0", "1", "2")


def test_show(convolve: Convolve) -> None:
    shown = convolve("show", EXAMPLES / "ConvNet_MNIST.cntk", "--json")
    assert json.loads(shown.out)["parameters"] == 98_778
    schedule = convolve("show", EXAMPLES / "ConvNet_MNIST.cntk", "--schedule")
    assert schedule.out.splitlines()[4].split()[:3] == ["1-5", "0.001", "none"]
    assert "98,778 parameters" in convolve("show", EXAMPLES / "ConvNet_MNIST.cntk").out


def test_images_with_all_transforms(convolve: Convolve, tmp_path: Path) -> None:
    """The image example as it stands, but for a small network: maps, crops, a mean file, two epochs."""
    rng = np.random.default_rng(2)
    for name, count, side in (("train", 24, 40), ("test", 12, 32)):
        (tmp_path / name).mkdir()
        for i in range(count):
            image = rng.integers(0, 90, (side, side, 3)).astype(np.uint8)
            image[:, :, i % 3] += 150  # blue, green or red
            cv2.imwrite(str(tmp_path / name / f"{i}.png"), image)
        rows = [(str(tmp_path / name / f"{i}.png"), i % 3) for i in range(count)]
        write_image_map(tmp_path / f"{name}_map.txt", rows)
    write_mean_xml(tmp_path / "CIFAR-10_mean.xml", np.full((32, 32, 3), 100, np.float32))
    text = (EXAMPLES / "ConvNet_CIFAR10_DataAug.cntk").read_text(encoding="utf-8")
    start, end = text.index("model = Sequential"), text.index("features = Input")
    small = "model = Sequential (Scaled {1/256} : AveragePoolingLayer {(32:32)} : LinearLayer {labelDim})\n        "
    (tmp_path / "small.cntk").write_text(text[:start] + small + text[end:], encoding="utf-8")
    settings = ["TrainNetwork=[SGD=[epochSize=0;maxEpochs=2;minibatchSize=8;learningRatesPerSample=0.1]]"]
    outcome = convolve(
        "run",
        tmp_path / "small.cntk",
        f"dataDir={tmp_path}",
        f"outputDir={tmp_path}",
        "deviceId=-1",
        *settings,
        "--json",
    )
    assert outcome.code == 0, outcome.err
    (test,) = json.loads(outcome.out)["tests"]
    assert (test["samples"], test["errs"], test["top5Errs"]) == (12, 0, 0)
    preprocess = load(tmp_path / "ConvNet_CIFAR10_DataAug").preprocess
    assert preprocess.channel_order == "bgr" and preprocess.mean_image_CHW is not None
