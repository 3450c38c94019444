"""What a reader of the pages would bring, small: images, lists of them, models, runs."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import ZipFile
from zlib import crc32

import cv2
import numpy as np
import torch
from caffe_files import Writer, caffemodel
from onnx import helper
from onnx_files import onnx_bytes
from wire_bytes import field as message

from convolve.formats.image_map import write_image_map
from convolve.models import build_model
from convolve.prepare.mnist import prepare_mnist
from convolve.run import train
from convolve.specs.model import ModelSpec
from idx_files import write_idx
from ilsvrc2012_files import WORDS, write_download
from zip_golden import ARCHIVE

BRAINSCRIPT = Path(__file__).parents[1] / "examples" / "BrainScript"


def bring(text: str) -> None:
    """Make what `text` names and the working folder lacks."""
    for name, make in STAND_INS.items():
        place = Path(name)
        if not place.exists() and re.search(rf"(?<![\w./-]){re.escape(name)}(?![\w./-])", text):
            place.parent.mkdir(parents=True, exist_ok=True)
            make(place)


# -- images ------------------------------------------------------------------------------------------------------------


def picture(path: Path, shape_HWC: tuple[int, int, int] = (40, 48, 3)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise_HWC = np.random.default_rng(crc32(str(path).encode())).integers(0, 256, shape_HWC, dtype=np.uint8)
    assert cv2.imwrite(str(path), noise_HWC)


def digit(path: Path) -> None:
    picture(path, (28, 28, 1))


def pictures(path: Path) -> None:
    for number in range(3):
        picture(path / f"{number}.jpg")


def zipped(path: Path) -> None:
    digit(path.with_suffix(".png"))
    with ZipFile(path, "w") as file:
        file.write(path.with_suffix(".png"), "one.png")


def class_folders(path: Path) -> None:
    for name in ("bird", "cat", "dog"):
        for number in range(6):
            picture(path / name / f"{number}.jpg", (40 + number, 48, 3))


def map_file(path: Path, classes: int = 10) -> None:
    pictures(path.parent / "listed")
    write_image_map(path, [(f".../listed/{number % 3}.jpg", number % classes) for number in range(2 * classes)])


def two_map_files(path: Path) -> None:
    for part in ("train", "test"):
        map_file(path / f"{part}_map.txt", 3)


def letters(path: Path) -> None:
    """Noise with 26 labels, in the four files of MNIST."""
    path.mkdir()
    for part, count in (("train", 78), ("t10k", 26)):
        noise_NHW = np.random.default_rng(count).integers(0, 256, (count, 28, 28), dtype=np.uint8)
        write_idx(path / f"{part}-images-idx3-ubyte", noise_NHW)
        write_idx(path / f"{part}-labels-idx1-ubyte", (np.arange(count) % 26).astype(np.uint8))


def cntk_mnist(path: Path) -> None:
    list(prepare_mnist(None, path))


def old_class_mappings(path: Path) -> None:
    """As CNTK's readlabels.py wrote them on some machine."""
    path.write_text("".join(f"{number}\t{name}\n" for number, name in enumerate(reversed(WORDS))), encoding="utf-8")


# -- models and what belongs to them -----------------------------------------------------------------------------------


def class_names(path: Path) -> None:
    path.write_text("".join(f"class {number}\n" for number in range(10)), encoding="utf-8")


def cntk_model(path: Path) -> None:
    path.write_bytes(ARCHIVE.read("v2/net_resnet.model"))


def caffe_pair(path: Path) -> None:
    """The prototxt `path`, and a caffemodel under each of the names that pages have."""
    channels, side = (1, 28) if path.stem == "lenet" else (3, 16)
    net = Writer((1, channels, side, side))
    pooled = net.pool("pool1", net.conv("conv1", "data", 4, 3, pad=1), "pool: MAX kernel_size: 4 stride: 4")
    net.softmax(net.dense("fc8", net.relu(net.dense("fc7", pooled, 6, (side // 4) ** 2)), 10, last=True))
    path.write_text(net.text, encoding="utf-8")
    for name in (path.stem, "bvlc_alexnet"):
        path.with_name(f"{name}.caffemodel").write_bytes(caffemodel(net.blobs))


def caffe_mean(path: Path) -> None:
    """A BlobProto: how many, channels, height, width; data."""
    sizes = b"".join(bytes([8 * place, size]) for place, size in ((1, 1), (2, 3), (3, 16), (4, 16)))
    path.write_bytes(sizes + message(5, np.full(3 * 16 * 16, 100, "<f4").tobytes()))


def finished_run(path: Path) -> None:
    train(path.name, out=path)


def photo_run(path: Path) -> None:
    """Of my_photos/, which is at hand wherever a page names it."""
    train("cifar10-fast", data="my_photos", out=path)


def own_model(path: Path) -> None:
    """A model of ours under the name of an old file: it goes wherever that goes."""
    finished = train("mnist", out=path.with_suffix(".run"))
    shutil.copytree(finished.folder.path / "model", path)


# -- configurations ----------------------------------------------------------------------------------------------------


def example(path: Path) -> None:
    shutil.copy(BRAINSCRIPT / path.name, path)


def two_configurations(path: Path) -> None:
    """a.cntk, the example, and b.cntk, which makes it fit a small MNIST."""
    shutil.copy(BRAINSCRIPT / "ConvNet_MNIST.cntk", path)
    path.with_name("b.cntk").write_text("TrainNetwork = [ SGD = [ epochSize = 0 ] ]\n")
    cntk_mnist(path.parent / "data" / "MNIST")


CNTK_PROGRAM = """import cntk as C
import numpy as np

images, digits = C.input_variable((1, 8, 8)), C.input_variable(3)
net = C.layers.Sequential([C.layers.Convolution2D((3, 3), 4, activation=C.relu), C.layers.Dense(3)])(images)
loss, error = C.cross_entropy_with_softmax(net, digits), C.classification_error(net, digits)
learner = C.sgd(net.parameters, C.learning_parameter_schedule(0.1))
trainer = C.Trainer(net, (loss, error), [learner], [C.logging.ProgressPrinter(freq=1)])
noise = np.random.RandomState(0).rand(6, 1, 8, 8).astype(np.float32)
for _ in range(2):
    trainer.train_minibatch({images: noise, digits: np.eye(3, dtype=np.float32)[[0, 1, 2, 0, 1, 2]]})
"""


def cntk_program(path: Path) -> None:
    path.write_text(CNTK_PROGRAM, encoding="utf-8")


# A name in a page -> how it is made.
def checkpoint(path: Path) -> None:
    """Of as many classes as classes.txt names."""
    torch.save({"state_dict": build_model(ModelSpec("resnet", "20"), (3, 32, 32), 10).state_dict()}, path)


def classifier(path: Path) -> None:
    """Of as many classes as classes.txt names, by a tool that says nothing of its images."""
    weights = np.random.default_rng(0).normal(size=(10, 3, 8, 8)).astype(np.float32)
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("GlobalAveragePool", ["c"], ["p"]),
             helper.make_node("Flatten", ["p"], ["y"])]  # fmt: skip
    path.write_bytes(onnx_bytes(nodes, {"x": ("N", 3, 32, 32)}, {"w": weights}))


STAND_INS: dict[str, Callable[[Path], Any]] = {
    "digit.png": digit, "scans.zip": zipped, "cat.jpg": picture, "new.jpg": picture, "images/": pictures,
    "my_photos/": class_folders, "val_map.txt": map_file, "leaves": two_map_files, "letters/": letters,
    "DIR": cntk_mnist, "data/MNIST": cntk_mnist,
    "ILSVRC2012": write_download, "old_classmappings.txt": old_class_mappings,
    "classes.txt": class_names, "synset_words.txt": class_names,
    "AlexNet_ImageNet_CNTK.model": cntk_model, "net.model": cntk_model,
    "net.prototxt": caffe_pair, "deploy.prototxt": caffe_pair, "lenet.prototxt": caffe_pair,
    "mean.binaryproto": caffe_mean, "checkpoint.pth": checkpoint,
    "classifier.onnx": classifier,
    "my_lenet.model": own_model, "old.dnn": own_model,
    "runs/mnist": finished_run, "runs/cifar10-aug": finished_run, "runs/mine": photo_run, "runs/theirs": photo_run,
    "my_cntk_program.py": cntk_program,
    "ConvNet_MNIST.cntk": example, "examples/BrainScript/ConvNet_MNIST.cntk": example, "a.cntk": two_configurations,
}  # fmt: skip
