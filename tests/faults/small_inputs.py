"""What the commands of the sweeps read: as small as can be."""

from __future__ import annotations

import io
import shutil
import tarfile
import zipfile
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np

from cifar10_files import write_binary
from convolve.formats.idx import read_idx
from idx_files import write_idx
from ilsvrc2012_files import write_download

_NET = """
command = Train : Test
modelPath = "$out$/net"
Train = {
    action = "train"
    BrainScriptNetworkBuilder = {
        features = Input {(28:28:1)} ; labels = Input {10}
        z = LinearLayer {10} (ReLU (ConvolutionalLayer {2, (5:5), stride = (4:4)} (features / 256)))
        ce = CrossEntropyWithSoftmax (labels, z) ; errs = ClassificationError (labels, z)
        criterionNodes = (ce) ; evaluationNodes = (errs)
    }
    SGD = { epochSize = 0 ; minibatchSize = 32 ; maxEpochs = 2 ; learningRatesPerSample = 0.01 }
    reader = {
        readerType = "CNTKTextFormatReader" ; file = "../inputs/pictures/Train-28x28_cntk_text.txt"
        input = { features = { dim = 784 ; format = "dense" } ; labels = { dim = 10 ; format = "dense" } }
    }
}
Test = {
    action = "test" ; minibatchSize = 32
    reader = {
        readerType = "CNTKTextFormatReader" ; file = "../inputs/pictures/Test-28x28_cntk_text.txt" ; randomize = false
        input = { features = { dim = 784 ; format = "dense" } ; labels = { dim = 10 ; format = "dense" } }
    }
}
"""

_PROGRAM = """
import shutil
from pathlib import Path

import cntk as C
from cntk.io import INFINITELY_REPEAT, CTFDeserializer, MinibatchSource, StreamDef, StreamDefs
from cntk.train import CheckpointConfig, training_session

streams = StreamDefs(x=StreamDef("features", shape=784), y=StreamDef("labels", shape=10))
text = Path(__file__).with_name("pictures") / "Train-28x28_cntk_text.txt"
source = MinibatchSource(CTFDeserializer(str(text), streams), max_sweeps=INFINITELY_REPEAT)
x, y = C.input_variable(784), C.input_variable(10)
z = C.layers.Dense(10)(C.layers.Dense(4, activation=C.relu)(x / 256))
loss, error = C.cross_entropy_with_softmax(z, y), C.classification_error(z, y)
learner = C.momentum_sgd(z.parameters, C.learning_parameter_schedule(0.1), C.momentum_schedule(0.9))
trainer = C.Trainer(z, (loss, error), [learner])
training_session(
    trainer, source, 16, {x: source.streams.x, y: source.streams.y}, max_samples=128, progress_frequency=32,
    checkpoint_config=CheckpointConfig("checkpoints/net", frequency=32, restore=True, preserve_all=True),
).train()
z.save("net.model")
shutil.rmtree("checkpoints")  # whose nodes are numbered by how often they were saved and read
"""


def write_files(inputs: Path) -> None:
    """All that needs no command."""
    from importlib import resources

    sample = resources.files("convolve") / "data" / "sample"
    (inputs / "digits").mkdir()
    for part, count in (("train", 64), ("t10k", 32)):
        for name in (f"{part}-images-idx3-ubyte", f"{part}-labels-idx1-ubyte"):
            write_idx(inputs / "digits" / name, read_idx(Path(str(sample / f"{name}.gz")))[:count])
    write_download(inputs / "ilsvrc2012")
    write_binary(inputs / "cifar")
    _write_photos(inputs / "photos")
    shutil.copytree(inputs / "photos", inputs / "faulty")
    (inputs / "faulty" / "train" / "a" / "01.jpg").write_bytes(b"no image")
    with zipfile.ZipFile(inputs / "photos.zip", "w") as archive:
        for path in sorted((inputs / "photos").rglob("*.jpg")):
            archive.write(path, path.relative_to(inputs))
    _write_package(inputs / "ort.tgz")
    (inputs / "net.cntk").write_text(_NET)
    (inputs / "program.py").write_text(_PROGRAM)
    if find_spec("cryptography"):
        _write_key(inputs / "key.pem")


def _write_photos(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(24):
        place = folder / ("train" if number < 16 else "val") / "ab"[number % 2] / f"{number:02}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        small = rng.integers(0, 256, (12, 9 + number % 5, 3), np.uint8)
        image_HWC = cv2.resize(small, (110 + 10 * (number % 5), 150), interpolation=cv2.INTER_CUBIC)
        place.write_bytes(cv2.imencode(".jpg", image_HWC)[1].tobytes())


def _write_package(path: Path) -> None:
    """What `npm pack` writes, as far as the page needs it."""
    from convolve.web.runtime import SCRIPT, WASM

    contents = {"package.json": b'{"version": "9.9.9"}', f"dist/{SCRIPT}": b"code", f"dist/{WASM}": b"wasm"}
    with tarfile.open(path, "w:gz") as archive:
        for name, content in contents.items():
            about = tarfile.TarInfo(f"package/{name}")
            about.size = len(content)
            archive.addfile(about, io.BytesIO(content))


def _write_key(path: Path) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    none = serialization.NoEncryption()
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, none))
