"""Configurations in NDL, with SimpleNetworkBuilder and with the older readers: trained, tested and written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from command_line import Convolve, assert_refused
from convolve.formats.ctf import write_ctf
from convolve.loading import load

CORPUS = Path(__file__).parents[1] / "corpus" / "ndl"


def write_digits(folder: Path) -> None:
    """Images of 8 x 8 whose bright quarter tells the class, in every form that the older readers take."""
    rng = np.random.default_rng(1)
    for name, count in (("train", 96), ("test", 24)):
        labels_N = rng.integers(0, 4, count)
        images_NHW = rng.integers(0, 100, (count, 8, 8))
        for image, label in zip(images_NHW, labels_N, strict=True):
            row, column = divmod(int(label), 2)
            image[4 * row : 4 * row + 4, 4 * column : 4 * column + 4] += 140
        write_ctf(folder / f"digits_{name}.txt", labels_N, images_NHW.reshape(count, -1), 4)
        if name == "train":
            write_ctf(folder / "digits_two.txt", labels_N % 2, images_NHW.reshape(count, -1), 2)
            rows = [[f"k{label}", *map(str, image.ravel())] for image, label in zip(images_NHW, labels_N, strict=True)]
            columns, commas = ("\t".join(row) for row in rows), (",".join([*row[1:], row[0]]) for row in rows)
            (folder / "digits_columns.txt").write_text("\n".join(columns) + "\n", encoding="utf-8")
            (folder / "digits_commas.txt").write_text("\n".join(commas) + "\n", encoding="utf-8")
    (folder / "digits_mapping.txt").write_text("k0\nk1\nk2\nk3\n", encoding="utf-8")


def write_photos(folder: Path) -> None:
    """Images of 16 x 14 in one of four colors, and their map file."""
    rng = np.random.default_rng(1)
    lines = []
    for number in range(32):
        image_HWC = rng.integers(0, 90, (14, 16, 3)).astype(np.uint8)
        image_HWC[:, :, : number % 4] += 120
        cv2.imwrite(str(folder / f"{number}.png"), image_HWC)
        lines.append(f"{folder / f'{number}.png'}\t{number % 4}\n")
    (folder / "photos.map").write_text("".join(lines), encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The corpus, and its data."""
    write_digits(tmp_path)
    write_photos(tmp_path)
    for file in CORPUS.iterdir():
        shutil.copy(file, tmp_path / file.name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


# What four epochs come to at most, of chance's 0.75: the quarter of an image that is bright, the color of another.
@pytest.mark.parametrize(
    ("name", "error", "most"),
    [
        ("Digits", "errs", 0.4),
        ("Inline", "Err", 0.4),
        ("Normalized", "errs", 0.4),
        ("Photos", "errTop2", 0.6),
        ("Simple", "EvalErrorPrediction", 0.4),
        ("SimpleDropout", "EvalClassificationError", 0.7),
        ("Transfer", "errs", 0.3),
        ("TopTwo", "TopTwo", 0.6),
    ],
)
def test_the_corpus(name: str, error: str, most: float, convolve: Convolve, folder: Path) -> None:
    outcome = convolve("run", f"{name}.cntk", "DataDir=.", "OutDir=out", "--json")
    assert outcome.code == 0, outcome.err
    assert "unknown" not in outcome.err
    result = json.loads(outcome.out)["tests"][-1]
    assert result[error] <= most
    for command in (("show", f"{name}.cntk"), ("run", f"{name}.cntk", "--translate", "recipe.yaml")):
        outcome = convolve(*command)
        assert outcome.code == 0, outcome.err


TRAIN = """
command = Train
modelPath = "net"
deviceId = -1
precision = "double"  # fp32 here; with "float" the clock would choose between fp32 and bf16, and so the bits
Train = [
    action = train
    {network}
    SGD = [ epochSize = 0 ; minibatchSize = 8 ; learningRatesPerMB = 0.2 ; momentumPerMB = 0.5 ; maxEpochs = 2 ]
    reader = [
        readerType = CNTKTextFormatReader ; file = "{file}"
        input = [ features = [ dim = 48 ; format = dense ] ; labels = [ dim = 3 ; format = dense ] ]
    ]
]
"""
OLD = """NDLNetworkBuilder = [ run = net
net = [
    features = ImageInput(4, 4, 3{layout}, tag = feature) ; labels = InputValue(3, tag = label)
    W = Parameter(6, 27, init = uniform, initValueScale = 2)
    b = {bias}
    c = Convolution(W, Scale(Const(0.01), features), 3, 3, 6, 1, 1, zeroPadding = true{layout})
    h = RectifiedLinear(Plus(c, b))
    p = MaxPooling(h, 4, 4, 4, 4{layout})
    z = Times(Parameter(3, 6, init = gaussian), p)
    ce = CrossEntropyWithSoftmax(labels, z, tag = criterion) ; errs = ErrorPrediction(labels, z, tag = eval)
] ]"""
NEW = """BrainScriptNetworkBuilder = {
    features = Input {(4:4:3)} ; labels = Input {3}
    W = Parameter (6, 27, init = "uniform", initValueScale = 2)
    b = ParameterTensor {(1:1:6), initValue = 0}
    c = Convolution (W, Constant (0.01) .* features, (3:3), mapDims = 6, autoPadding = true)
    p = MaxPooling (RectifiedLinear (c + b), 4, 4, 4, 4)
    z = Times (Parameter (3, 6, init = "gaussian"), p)
    ce = CrossEntropyWithSoftmax (labels, z) ; errs = ClassificationError (labels, z)
    criterionNodes = (ce) ; evaluationNodes = (errs)
}"""


def test_a_training_is_that_of_the_same_network_in_brainscript(convolve: Convolve, folder: Path) -> None:
    """To the bit; in the older layout too, in which a file has its images pixel by pixel."""
    rng = np.random.default_rng(2)
    labels_N, images_NCHW = rng.integers(0, 3, 40), rng.integers(0, 256, (40, 3, 4, 4))
    write_ctf(folder / "planes.txt", labels_N, images_NCHW.reshape(40, -1), 3)
    write_ctf(folder / "pixels.txt", labels_N, images_NCHW.transpose(0, 2, 3, 1).reshape(40, -1), 3)
    planes = OLD.format(layout=", imageLayout = cudnn", bias="ImageParameter(1, 1, 6, init = fixedValue)")
    pixels = OLD.format(layout="", bias="Parameter(6, 1, init = fixedValue, value = 0)")
    trained = []
    for network, file in ((NEW, "planes.txt"), (planes, "planes.txt"), (pixels, "pixels.txt")):
        (folder / "net.cntk").write_text(TRAIN.format(network=network, file=file), encoding="utf-8")
        outcome = convolve("run", "net.cntk", "makeMode=false")
        assert outcome.code == 0, outcome.err
        arrays = load(folder / "net").module.state_dict().values()
        trained.append(sorted(array.numpy().tobytes() for array in arrays))
    assert trained[0] == trained[1] == trained[2]


def test_columns_that_are_wrong_are_told_with_their_line(convolve: Convolve, folder: Path) -> None:
    text = (folder / "digits_columns.txt").read_text(encoding="utf-8").splitlines()
    words = text[2].split("\t")
    faults = {
        "line 3: 64 columns, but 65 are needed": words[:-1],
        "line 3, column 5: not a number: 'x7'": [*words[:4], "x7", *words[5:]],
        "sample 3: the label 'k9' is not among k0, k1, k2": ["k9", *words[1:]],
    }
    for said, line in faults.items():
        lines = [*text[:2], "\t".join(line), *text[3:]]
        (folder / "digits_columns.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        outcome = convolve("run", "Inline.cntk")
        assert outcome.code == 3 and said in outcome.err
        assert "Traceback" not in outcome.err
    (folder / "digits_mapping.txt").unlink()
    assert_refused(convolve("run", "Inline.cntk"), 3, "list the labels in it, one on each line")


def test_what_was_frozen_by_an_edit_stays_as_it_was(convolve: Convolve, folder: Path) -> None:
    assert convolve("run", "Transfer.cntk").code == 0
    base, fine = (load(folder / "out" / name).module.state_dict() for name in ("base.dnn", "fine.dnn"))
    kept = [array for array in base.values() if array.ndim == 4 or array.shape == (6,)]
    assert len(kept) == 2
    assert all(any(torch.equal(array, other) for other in fine.values()) for array in kept)


NUMBERS = """
command = Train : Test
modelPath = "net"
deviceId = -1
Train = [
    action = train
    SimpleNetworkBuilder = [
        layerSizes = 5:8:2 ; layerTypes = Tanh ; trainingCriterion = SquareError ; evalCriterion = SquareError
    ]
    SGD = [ epochSize = 0 ; minibatchSize = 8 ; learningRatesPerMB = 0.05 ; maxEpochs = 3 ]
    {reader}
]
Test = [ action = test
    {reader}
]
"""
READERS = (
    """reader = [ readerType = CNTKTextFormatReader ; file = "ctf.txt" ; randomize = none
        input = [ features = [ dim = 5 ; format = dense ] ; labels = [ dim = 2 ; format = dense ] ] ]""",
    """reader = [ readerType = UCIFastReader ; file = "columns.txt" ; randomize = none
        features = [ dim = 5 ; start = 2 ] ; labels = [ dim = 2 ; start = 0 ; labelType = Regression ] ]""",
)


def test_numbers_are_learned_from_columns_as_from_ctf(convolve: Convolve, folder: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [(rng.normal(size=5).round(4), rng.normal(size=2).round(4)) for _ in range(40)]
    texts = [(" ".join(map(str, x)), " ".join(map(str, y))) for x, y in rows]
    (folder / "ctf.txt").write_text("".join(f"|features {x} |labels {y}\n" for x, y in texts), encoding="utf-8")
    (folder / "columns.txt").write_text("".join(f"{y} {x}\n" for x, y in texts), encoding="utf-8")
    found = []
    for reader in READERS:
        (folder / "net.cntk").write_text(NUMBERS.format(reader=reader), encoding="utf-8")
        outcome = convolve("run", "net.cntk", "makeMode=false", "--json")
        assert outcome.code == 0, outcome.err
        found.append(json.loads(outcome.out)["tests"][0]["SquareError"])
        assert "errs" not in outcome.err
    assert found[0] == found[1] > 0
    text = NUMBERS.format(reader=READERS[1]).replace("SquareError", "CrossEntropyWithSoftmax")
    (folder / "net.cntk").write_text(text, encoding="utf-8")
    outcome = convolve("run", "net.cntk", "makeMode=false")
    assert outcome.code == 2 and "the criterion is for classes; give it labelDim" in outcome.err
