"""Models of other tools that convolve does not read. They are recognized, so that the error names the way to ONNX."""

from pathlib import Path

from convolve.errors import UnsupportedError
from convolve.formats.torch_checkpoint import MAX_DIRECTORY_BYTES
from convolve.formats.zip_archive import ZIP_DAMAGE, Zip

_HEAD_BYTES = 1 << 16
_MOST_MEMBERS = 20_000

_KERAS = (
    "a Keras model, which convolve does not read; convert it with tf2onnx "
    "(python -m tf2onnx.convert --keras FILE --output net.onnx)"
)
_TENSORFLOW = (
    "a TensorFlow model, which convolve does not read; convert it with tf2onnx "
    "(python -m tf2onnx.convert --saved-model DIR --output net.onnx)"
)
_TFLITE = (
    "a TensorFlow Lite model, which convolve does not read; convert it with tf2onnx "
    "(python -m tf2onnx.convert --tflite FILE --output net.onnx)"
)
_SCRIPT = (
    "a TorchScript program, which convolve does not read, as it contains code; in Python, save "
    "torch.jit.load(FILE).state_dict() with torch.save, or export the program with torch.onnx.export"
)
_PROGRAM = "a program of torch.export, which convolve writes but does not read; give the model that it was made from"
_FASTAI = (
    "a fastai learner, which convolve does not read, as it contains code; in Python, save "
    "load_learner(FILE).model.state_dict() with torch.save, or export the model with torch.onnx.export"
)


def refuse(path: Path) -> None:
    """Raise UnsupportedError if `path` is a known model file or folder of another tool."""
    if (path / "saved_model.pb").is_file():
        raise UnsupportedError(f"{path} is {_TENSORFLOW}")
    if not path.is_file():
        return
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    what = _of_archive(path) if head.startswith(b"PK\x03\x04") else _of_bytes(head)
    if what:
        raise UnsupportedError(f"{path} is {what}")


def _of_bytes(head: bytes) -> str:
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return _KERAS
    if head[4:8] == b"TFL3":
        return _TFLITE
    return _FASTAI if b"cfastai." in head or b"\x8c\x0efastai.learner" in head else ""


def _of_archive(path: Path) -> str:
    try:
        with Zip(path, MAX_DIRECTORY_BYTES) as archive:
            if len(archive.filelist) > _MOST_MEMBERS:
                return ""
            inside = {name.rpartition("/")[2] for name in archive.namelist()}
            pickled = next((info for info in archive.filelist if info.filename.endswith("/data.pkl")), None)
            head = b"" if pickled is None else archive.open(pickled).read(_HEAD_BYTES)
    except ZIP_DAMAGE:
        return ""
    if "model.weights.h5" in inside:
        return _KERAS
    if "constants.pkl" in inside:
        return _SCRIPT
    if "archive_format" in inside or "serialized_exported_program.json" in inside:
        return _PROGRAM
    return _of_bytes(head)
