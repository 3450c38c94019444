"""`convolve run`: configurations from their text to the last line of CNTK's log."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml

from command_line import Convolve, assert_refused
from convolve.data.sources.ctf import open_ctf
from convolve.errors import ConvolveError
from convolve.formats.ctf import write_ctf
from convolve.formats.image_map import write_image_map
from convolve.formats.mean_xml import write_mean_xml
from convolve.graph.graph import Graph
from convolve.importers.brainscript.job import TrainStep, read_job
from convolve.loading import load
from convolve.recipe import from_mapping
from convolve.run_config import run_job
from convolve.run_config.training import recipe_of
from convolve.specs.distributed import DistributedSpec
from convolve.training.workers import Workers
from worker_processes import run_together

EXAMPLES = Path(__file__).parents[1] / "examples" / "BrainScript"
CORPUS = Path(__file__).parent / "corpus" / "brainscript" / "valid"

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
        top2 = ClassificationError (labels, z, topN = 2) ; p = Softmax (z)
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
        r" Epoch\[ (\d) of 6\]-Minibatch\[ *(\d+)- *(\d+), (\d+\.\d\d)%\]: ce = \d+\.\d{8} \* (\d+); "
        r"errs = \d+\.\d{3}% \* (\d+); time = \d+\.\d{4}s; samplesPerSecond = \d+\.\d"
    )
    found = [match.groups() for line in lines if (match := minibatch.fullmatch(line))]
    assert [(first, last, part) for _, first, last, part, *_ in found[:2]] == [("1", "3", "48.00"), ("4", "6", "96.00")]
    assert {samples for *_, samples, _ in found} == {"48"}
    finished = re.compile(
        r"Finished Epoch\[ 6 of 6\]: \[Training\] ce = \S+ \* 100; errs = \S+% \* 100; totalSamplesSeen = 600; "
        r"learningRatePerSample = 0\.02; epochTime=\S+s"
    )
    assert any(finished.fullmatch(line) for line in lines)
    validated = r"Finished Epoch\[ 6 of 6\]: \[Validate\] ce = \S+ \* 25; errs = \S+% \* 25"
    assert any(re.fullmatch(validated, line) for line in lines)
    assert re.fullmatch(
        r"Final Results: Minibatch\[1-3\]: errs = \S+% \* 25; top2 = \S+ \* 25; ce = \S+ \* 25; perplexity = \S+",
        lines[-1],
    )
    for name in ("net", *(f"net.{epoch}" for epoch in range(6))):
        assert load(tmp_path / "out" / name).preprocess.shape_CHW == (1, 5, 6)
    assert not (tmp_path / "out" / "net.6").exists()
    again = convolve("run", *config, "--json")
    assert json.loads(again.out) == json.loads(outcome.out)
    assert "its training is skipped" in again.err and "Finished Epoch" not in again.err
    only = convolve("run", *config, "command=Test", "--json")
    assert json.loads(only.out)["tests"][0]["errs"] == test["errs"]


def test_epochs_of_a_part_of_the_data(convolve: Convolve, config: list[str]) -> None:
    """Epochs of 64 of the 100 samples, of one size of minibatch each; none reaches from one pass into the next."""
    settings = "Train=[SGD=[epochSize=64;maxEpochs=3;minibatchSize=16:24;numMBsToShowResult=1]]"
    outcome = convolve("run", *config, settings, "command=Train")
    assert outcome.code == 0, outcome.err
    found = re.findall(r"Epoch\[ (\d) of 3\]-Minibatch\[.*?(\d+\.\d\d)%\]: ce = \S+ \* (\d+);", outcome.err)
    assert [(epoch, samples) for epoch, _, samples in found] == [
        *[("1", "16")] * 4, ("2", "24"), ("2", "12"), ("2", "24"), ("2", "4"), ("3", "24"), ("3", "24"), ("3", "16"),
    ]  # fmt: skip
    assert [part for epoch, part, _ in found if epoch == "3"] == ["37.50", "75.00", "112.50"]
    assert "totalSamplesSeen = 192;" in outcome.err


def test_an_example_on_other_data(convolve: Convolve, tiny_mnist: Path, tmp_path: Path) -> None:
    """Its epochs are as long as that data; its own files may be passed over several times in an epoch."""
    settings = [f"outputDir={tmp_path}", "deviceId=-1", "TrainNetwork=[SGD=[maxEpochs=1]]"]
    outcome = convolve("run", EXAMPLES / "ConvNet_MNIST.cntk", "--data", tiny_mnist, *settings, "--json")
    assert outcome.code == 0, outcome.err
    assert "epochSize=60,000 is taken as one pass over the 600 samples" in outcome.err
    assert "totalSamplesSeen = 600;" in outcome.err
    assert json.loads(outcome.out)["tests"][0]["samples"] == 150


def test_a_rate_that_adjusts_itself(convolve: Convolve, config: list[str], tmp_path: Path) -> None:
    """A rate that is far too high makes epochs worse: they are undone with a lower one until the limit is reached."""
    adjust = (
        "autoAdjust=[autoAdjustLR=adjustAfterEpoch;learnRateDecreaseFactor=0.01;reduceLearnRateIfImproveLessThan=2]"
    )
    settings = f"Train=[SGD=[maxEpochs=9;learningRatesPerSample=0.02;minLearningRatePerSample=1e-7;{adjust}]]"
    outcome = convolve("run", *config, settings, "command=Train", "makeMode=false")
    assert outcome.code == 0, outcome.err
    rates = [float(rate) for rate in re.findall(r"learningRatePerSample = (\S+);", outcome.err)]
    fallen = [0.02, 0.02, 0.0002, 2e-6]  # the first one is only noted
    assert sorted({*rates}, reverse=True) == pytest.approx(sorted({*fallen}, reverse=True))
    assert "the learning rate is now 1e-06 times the last one in the list" in outcome.err
    assert load(tmp_path / "out" / "net").training_info.epochs < 9


def test_two_networks_in_one_job(convolve: Convolve, config: list[str], tmp_path: Path) -> None:
    """Each is evaluated on what its own test reads, be it the second one, and takes its images as that does."""
    own = TEXT[: TEXT.index("    cvReader")] + TEXT[TEXT.index("}\nTest") :]
    (tmp_path / "net.cntk").write_text(own, encoding="utf-8")
    small = own.replace("Train =", "Train2 =").replace("Test =", "Test2 =").replace("(6:5:1)", "(6:2:1)")
    small = small.replace("dim = 30", "dim = 12").replace("train.txt", "small.txt").replace("test.txt", "small.txt")
    (tmp_path / "small.cntk").write_text(small, encoding="utf-8")
    write_ctf(tmp_path / "small.txt", np.arange(30) % 3, np.full((30, 12), 7), 3)
    names = {"": "net", "2": "small"}
    paths = [f"{block}{i}=[modelPath={tmp_path}/{names[i]}]" for block in ("Train", "Test") for i in names]
    epochs = [f"Train{i}=[SGD=[maxEpochs=1]]" for i in names]
    files = f"{config[0]}+{tmp_path / 'small.cntk'}"
    outcome = convolve("run", files, *config[1:], *paths, *epochs, "command=Train:Train2:Test:Test2", "--json")
    assert outcome.code == 0, outcome.err
    assert [test["samples"] for test in json.loads(outcome.out)["tests"]] == [25, 30]


def test_cross_validation(convolve: Convolve, config: list[str], tmp_path: Path) -> None:
    """The models of some epochs beside each other; in place of the last one, the model at modelPath."""
    assert convolve("run", *config, "Train=[SGD=[maxEpochs=3]]", "command=Train").code == 0
    settings = ["Test=[action=cv;crossValidationInterval=1:1:5;traceLevel=1;numMBsToShowResult=2]", "command=Test"]
    outcome = convolve("run", *config, *settings, "--json")
    assert outcome.code == 0, outcome.err
    tests = json.loads(outcome.out)["tests"]
    names = [str(tmp_path / "out" / name) for name in ("net.1", "net.2", "net")]
    assert [test["model"] for test in tests] == names
    lines = outcome.err.splitlines()
    assert [line for line in lines if line.startswith("model ") and line.endswith("--> ")] == [
        f"model {name} --> " for name in names
    ]
    assert (
        sum(
            re.fullmatch(r"Minibatch\[3-3\]: errs = \S+% \* 5; top2 = \S+ \* 5; ce = \S+ \* 5", x) is not None
            for x in lines
        )
        == 3
    )
    in_words = convolve("run", *config, *settings).out.splitlines()
    assert [line.partition(": errs ")[0] for line in in_words] == [f"Test of {name}" for name in names]
    best = min((test["ce"], test["model"]) for test in tests)
    assert lines[-1] == f"Based on Err[2]: Best model = {best[1]} with min err {best[0]:.8g}"


def test_write(convolve: Convolve, config: list[str], tmp_path: Path) -> None:
    """Values of the scores and of a node that the classifier does not need, sample by sample, and the classes."""
    assert convolve("run", *config, "Train=[SGD=[maxEpochs=2]]", "command=Train").code == 0
    write = f"Test=[action=write;outputPath={tmp_path}/o/values;outputNodeNames=z:p;minibatchSize=10]"
    outcome = convolve("run", *config, "command=Test", write)
    assert outcome.code == 0, outcome.err
    scores_NK, probabilities_NK = (np.loadtxt(tmp_path / "o" / f"values.{node}") for node in "zp")
    assert scores_NK.shape == probabilities_NK.shape == (25, 3)
    expected_NK = np.exp(scores_NK) / np.exp(scores_NK).sum(1, keepdims=True)
    np.testing.assert_allclose(probabilities_NK, expected_NK, atol=1e-5)
    assert re.fullmatch(
        r"-?\d+\.\d{6} -?\d+\.\d{6} -?\d+\.\d{6}", (tmp_path / "o" / "values.z").read_text().splitlines()[0]
    )
    assert outcome.err.splitlines()[-3:] == [
        "Minibatch[2]: ActualMBSize = 5", f"Written to {tmp_path}/o/values*", "Total Samples Evaluated = 25",
    ]  # fmt: skip
    form = "Test=[outputNodeNames=z;epochSize=4;format=[type=category;sequenceEpilogue=;;sequenceSeparator=\\t]]"
    assert convolve("run", *config, "command=Test", write, form).code == 0
    assert (tmp_path / "o" / "values.z").read_text() == "\t".join(map(str, scores_NK.argmax(1)[:4]))
    (tmp_path / "names.txt").write_text("cat\ndog\n", encoding="utf-8")
    named = f"Test=[outputNodeNames=z;format=[type=category;labelMappingFile={tmp_path}/names.txt]]"
    refused = convolve("run", *config, "command=Test", write, named)
    assert refused.code == 3 and "names.txt names 2 of 3 classes" in refused.err


def test_statistics_of_the_training_data(convolve: Convolve, config: list[str], tmp_path: Path) -> None:
    """MeanVarNorm leaves each pixel of the training images with mean 0 and deviation 1."""
    text = TEXT.replace("(features / 256)", "(MeanVarNorm (features))")
    (tmp_path / "net.cntk").write_text(text, encoding="utf-8")
    assert convolve("run", *config, "Train=[SGD=[maxEpochs=1]]", "command=Train").code == 0
    model = load(tmp_path / "out" / "net.0")
    assert isinstance(model.architecture, Graph)
    images_NCHW = open_ctf(tmp_path / "train.txt", 3, (1, 5, 6)).images_NCHW.float()
    name = next(node.name for node in model.architecture.nodes if node.op == "convolution")
    seen: list[torch.Tensor] = []
    model.module.get_submodule(name).register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model.module(images_NCHW)
    torch.testing.assert_close(seen[0].mean(0), torch.zeros(1, 5, 6), atol=1e-4, rtol=0)
    torch.testing.assert_close(seen[0].std(0, correction=0), torch.ones(1, 5, 6), atol=1e-4, rtol=0)


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
    assert "CNTK: always true in BrainScript" in text
    assert load(tmp_path / "net.network").class_names == ("0", "1", "2")


def test_show(convolve: Convolve) -> None:
    shown = convolve("show", EXAMPLES / "ConvNet_MNIST.cntk", "--json")
    assert json.loads(shown.out)["parameters"] == 98_778
    schedule = convolve("show", EXAMPLES / "ConvNet_MNIST.cntk", "--schedule")
    assert schedule.out.splitlines()[4].split()[:3] == ["1-5", "0.001", "none"]
    assert "98,778 parameters" in convolve("show", EXAMPLES / "ConvNet_MNIST.cntk").out


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder with maps of 24 training images of 40x40, 12 test images of 32x32, and their mean."""
    rng = np.random.default_rng(2)
    for name, count, side in (("train", 24, 40), ("test", 12, 32)):
        (tmp_path / name).mkdir()
        for i in range(count):
            image = rng.integers(0, 90, (side, side, 3)).astype(np.uint8)
            image[:, :, i % 3] += 150  # blue, green or red
            cv2.imwrite(str(tmp_path / name / f"{i}.png"), image)
        rows = [(str(tmp_path / name / f"{i}.png"), i % 3) for i in range(count)]
        write_image_map(tmp_path / f"{name}_map.txt", rows)
    for name in ("CIFAR-10_mean.xml", "mean.xml"):
        write_mean_xml(tmp_path / name, np.full((32, 32, 3), 100, np.float32))
    return tmp_path


def test_images_with_all_transforms(convolve: Convolve, pictures: Path, tmp_path: Path) -> None:
    """The image example as it stands, but for a small network: maps, crops, a mean file, two epochs."""
    text = (EXAMPLES / "ConvNet_CIFAR10_DataAug.cntk").read_text(encoding="utf-8")
    start, end = text.index("model = Sequential"), text.index("features = Input")
    small = "model = Sequential (Scaled {1/256} : AveragePoolingLayer {(32:32)} : LinearLayer {labelDim})\n        "
    (tmp_path / "small.cntk").write_text(text[:start] + small + text[end:], encoding="utf-8")
    settings = ["TrainNetwork=[SGD=[epochSize=0;maxEpochs=2;minibatchSize=8;learningRatesPerSample=0.1]]"]
    outcome = convolve(
        "run",
        tmp_path / "small.cntk",
        f"dataDir={pictures}",
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


def test_the_idioms_of_image_configurations(convolve: Convolve, pictures: Path) -> None:
    """Every block of a configuration in the corpus: training with a cvReader, a test, values as text, cv."""
    config, out = CORPUS / "Idioms_CIFAR10.cntk", pictures / "out"
    outcome = convolve("run", config, f"dataDir={pictures}", f"outputDir={out}", "deviceId=-1", "--json")
    assert outcome.code == 0, outcome.err
    tests = json.loads(outcome.out)["tests"]
    models = [str(out / "Models" / name) for name in ("ResNet.1", "ResNet")]
    assert [test.get("model") for test in tests] == [None, *models]
    assert {test["samples"] for test in tests} == {12}
    assert tests[0]["errs"] == tests[2]["errs"]  # two forms of one reader
    scores_NK = np.loadtxt(out / "out.z")
    assert scores_NK.shape == (12, 10)
    assert np.mean(scores_NK.argmax(1) != np.arange(12) % 3) == tests[0]["errs"]
    log = (out / "log_TrainNetwork_Eval_Write_CV.log").read_text(encoding="utf-8")
    assert "Finished Epoch[ 2 of 2]: [Validate] ce = " in log and "Best models:" in log


def run_job_of_many(workers: Workers, words: list[str]) -> tuple[list[dict[str, Any]], str]:
    """The results of a configuration in one of several processes, or why there are none."""
    try:
        return run_job(read_job(words), lambda event, values: None, workers=workers), ""
    except ConvolveError as error:
        return [], str(error)


def test_many_workers(config: list[str], tmp_path: Path) -> None:
    parallel = "ParallelTrain=[parallelizationMethod=BlockMomentumSGD;BlockMomentumSGD=[blockSizePerWorker=32]]"
    words = [*config, "parallelTrain=true", f"Train=[SGD=[{parallel}]]"]
    (first, _), (other, _) = run_together(2, run_job_of_many, words)
    assert first[0]["errs"] <= 0.2 and other == []
    result = json.loads((tmp_path / "out" / "net.run" / "result.json").read_text())
    assert (result["world_size"], result["samples_seen"]) == (2, 600)
    recipe = from_mapping(json.loads((tmp_path / "out" / "net.run" / "recipe.json").read_text()))
    assert recipe.distributed == DistributedSpec("block_momentum", block_samples=64)
    assert load(tmp_path / "out" / "net").preprocess.shape_CHW == (1, 5, 6)


def test_many_workers_for_a_configuration_of_one(config: list[str], tmp_path: Path) -> None:
    for found, message in run_together(2, run_job_of_many, config):
        assert found == [] and "2 workers, but the configuration is for one: set parallelTrain=true" in message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("width", "height", "channels", "classes"), [(30, 20, 3, 3), (16, 16, 1, 4)])
def test_images_that_no_known_set_has(
    width: int, height: int, channels: int, classes: int, convolve: Convolve, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Images of sizes of their own in classes of their own; the recipe that it is translated to trains the same."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(3)
    for name, count in (("train", 24), ("test", 12)):
        rows = [(f".../{name}{i}.png", i % classes) for i in range(count)]
        write_image_map(tmp_path / f"{name}_map.txt", rows)
        for i in range(count):
            image = rng.integers(0, 90, (40 + i, 50, 3)).astype(np.uint8)
            image[:, 12 * (i % classes) : 12 * (i % classes) + 12] += 150  # the bright strip tells the class
            cv2.imwrite(str(tmp_path / f"{name}{i}.png"), image)
    reader = """{ randomize = false ; deserializers = ({ type = "ImageDeserializer" ; module = "ImageReader"
        file = "PART_map.txt" ; grayscale = GRAY
        input = { labels = { labelDim = K } ; features = { transforms = (
            { type = "Scale" ; width = W ; height = H ; channels = C } : { type = "Transpose" }) } } }) }"""
    (tmp_path / "kinds.cntk").write_text(
        """command = Train : Test ; modelPath = "out/kinds" ; deviceId = -1
        Train = { action = "train" ; reader = TRAIN_READER
            SGD = { epochSize = 0 ; minibatchSize = 8 ; maxEpochs = 6 ; learningRatesPerSample = 0.02 }
            BrainScriptNetworkBuilder = {
                features = Input {W:H:C} ; labels = Input {K}
                z = LinearLayer {K, init = "uniform"} (features .* Constant (1/2560))
                ce = CrossEntropyWithSoftmax (labels, z) ; errs = ClassificationError (labels, z)
                featureNodes = (features) ; labelNodes = (labels)
                criterionNodes = (ce) ; evaluationNodes = (errs) ; outputNodes = (z)
            } }
        Test = { action = "test" ; reader = TEST_READER }""".replace("TRAIN_READER", reader.replace("PART", "train"))
        .replace("TEST_READER", reader.replace("PART", "test"))
        .replace("W:H:C", f"{width}:{height}:{channels}")
        .replace(
            "width = W ; height = H ; channels = C", f"width = {width} ; height = {height} ; channels = {channels}"
        )
        .replace("GRAY", str(channels == 1).lower())
        .replace("{K", f"{{{classes}")
        .replace("= K", f"= {classes}"),
        encoding="utf-8",
    )
    outcome = convolve("run", "kinds.cntk", "--json")
    assert outcome.code == 0, outcome.err
    (test,) = json.loads(outcome.out)["tests"]
    assert test["samples"] == 12 and test["errs"] < 0.2

    assert convolve("run", "kinds.cntk", "--translate", "kinds.yaml").code == 0
    printed = (tmp_path / "kinds.yaml").read_text(encoding="utf-8").splitlines()[1].split("convolve ")[1]
    outcome = convolve(*printed.replace("--data DIR", "--data .").split(), "--set=run.precision=fp32", "--json")
    assert outcome.code == 0, outcome.err
    result = json.loads(outcome.out)
    assert result["test_error"] == test["errs"]
    assert result["test_loss"] == pytest.approx(test["ce"], rel=1e-3)
    assert "names no data set" in convolve("train", "kinds.yaml", "--from", "kinds.network", "--out", "other").err
    for words in (["show", "kinds.yaml"], ["show", "kinds.yaml", "--schedule"]):
        assert convolve(*words).code == 2
