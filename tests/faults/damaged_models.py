"""Models and configurations, of other tools and of ours, with what reads them."""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from caffe_cases import CASES as CAFFE_CASES
from caffe_files import UNUSED, Form, caffemodel
from caffe_nets import squeezenet
from onnx_cases import CASES as ONNX_CASES
from onnx_cases import GRAPHS
from onnx_files import case_bytes, graph_bytes
from safetensors.torch import save
from sound import REPOSITORY, Format, digest, tiny_model, weights_of, write_cases

import convolve.cntk as C
import golden
from convolve.errors import ConvolveError, UnsupportedError
from convolve.graph.build import build
from convolve.importers import caffe, cntk, pytorch
from convolve.importers import onnx as onnx_importer
from convolve.importers.brainscript.criterion import trained
from convolve.importers.brainscript.job import EditStep, TrainStep, read_job
from convolve.importers.brainscript.lower import lower
from convolve.importers.loader import PreprocessOverrides
from convolve.importers.pytorch.architectures import OWN
from convolve.importers.refused import refuse
from convolve.loading import load
from convolve.models import build_model

# -- CNTK, Caffe, ONNX -------------------------------------------------------------------------------------------------


def make_cntk(place: Path) -> None:
    for name in ("oracle", "more", "old"):
        members = [each for each in golden.archive(name).namelist() if each.startswith(("v1/", "v2/"))]
        write_cases(place, {each.replace("/", "-"): {"net.model": golden.read(name, each)} for each in members})


def read_cntk(case: Path) -> str:
    return weights(build(cntk.parse((case / "net.model").read_bytes(), "net.model")))


def make_cntk_checkpoint(place: Path) -> None:
    write_cases(place, {"0": {"net.dnn.ckp": golden.read("oracle", "train/mom_nounit_mb.dnn.ckp")}})


def read_cntk_checkpoint(case: Path) -> str:
    return str(cntk.read_checkpoint(case / "net.dnn.ckp"))[:200]


def make_trained(place: Path) -> None:
    """Networks, and checkpoints of trainers, that the real CNTK saved."""
    folder = REPOSITORY / "tests" / "golden" / "cntk_api" / "trips"
    trips = [path for path in sorted(folder.iterdir()) if path.suffix not in (".json", ".ckp")]
    write_cases(place, {path.name: {"net.model": path.read_bytes()} for path in trips})


def load_model(case: Path) -> str:
    """As a program does; the exceptions of the API are those of CNTK."""
    try:
        return str([each.shape for each in C.load_model(str(case / "net.model")).parameters])  # type: ignore[attr-defined]
    except (RuntimeError, ValueError, TypeError) as error:
        raise ConvolveError(str(error)) from None


def make_caffe(place: Path) -> None:
    cases: dict[str, Any] = {**CAFFE_CASES, "squeezenet": squeezenet(8)}
    for number, (name, writer) in enumerate(cases.items()):
        model = caffemodel(writer.blobs or UNUSED, Form(*(bool(number >> bit & 1) for bit in range(4))))
        write_cases(place, {name: {"net.prototxt": writer.text, "net.caffemodel": model}})


def read_caffe(case: Path) -> str:
    pair = [(case / f"net.{ending}").read_bytes() for ending in ("prototxt", "caffemodel")]
    return weights(build(caffe.parse(*pair).graph))


def make_onnx(place: Path) -> None:
    write_cases(place, {name: {"net.onnx": graph_bytes(name)} for name in GRAPHS})
    cases = {f"{number}": case_bytes(case, case[4][-1]) for number, case in enumerate(ONNX_CASES) if case[4]}
    write_cases(place, {name: {"net.onnx": content} for name, content in cases.items()})


def read_onnx(case: Path) -> str:
    return weights(build(onnx_importer.parse((case / "net.onnx").read_bytes(), case / "net.onnx")))


def weights(module: torch.nn.Module) -> str:
    return f"{sum(tensor.numel() for tensor in module.parameters())} parameters"


# -- PyTorch -----------------------------------------------------------------------------------------------------------


def make_checkpoints(place: Path) -> None:
    network = build_model(OWN["resnet20"].spec, (3, 32, 32), 3)
    value = {"state_dict": network.state_dict(), "arguments": argparse.Namespace(lr=0.1), "epoch": 3}
    made = {"net.safetensors": save(network.state_dict())}
    for number, content in enumerate((value, network, network.state_dict())):
        for zipped in (True, False):
            buffer = io.BytesIO()
            torch.save(content, buffer, _use_new_zipfile_serialization=zipped)
            made[f"{number}-{'zip' if zipped else 'old'}.pth"] = buffer.getvalue()
    for arch in ("any", "resnet20"):
        write_cases(place, {f"{arch}-{name.partition('.')[0]}": {name: content} for name, content in made.items()})


def read_checkpoint(case: Path) -> str:
    [path] = case.iterdir()
    refuse(path)
    if not pytorch.is_pytorch(path):
        raise UnsupportedError(f"{path} is no model that convolve can read")
    found = pytorch.read(path, PreprocessOverrides(arch="resnet20" if case.name.startswith("resnet20") else None))
    return digest(tensor.numpy() for _, tensor in sorted(found.module.state_dict().items()))


# -- our own -----------------------------------------------------------------------------------------------------------


def make_folders(place: Path) -> None:
    tiny_model().save(place / "own")
    write_cases(place, {"opened": {"net.model": golden.read("oracle", "v2/net_resnet.model")}})
    opened = load(place / "opened" / "net.model", PreprocessOverrides(mean="0", scale=1.0))
    (place / "opened" / "net.model").unlink()
    opened.save(place / "opened")


def read_folder(case: Path) -> str:
    """The weights; and the model answers."""
    model = load(case)
    answer(case)
    return weights_of(model)


def answer(path: Path) -> list[str]:
    image = path.parent / "image.png"
    cv2.imwrite(str(image), np.arange(784, dtype=np.uint8).reshape(28, 28))
    [said] = load(path).predict([image])
    return [name for name, _ in said.classes]


def make_exported(place: Path) -> None:
    from onnxruntime.quantization import quantize_dynamic

    model = tiny_model()
    model.preprocess = replace(model.preprocess, interpolation="linear_antialiased")  # as ONNX can say it
    for name, how in {"plain": {}, "any-size": {"any_size": True}}.items():
        (place / name).mkdir()
        model.export(place / name / "net.onnx", **how)
    (place / "quantized").mkdir()
    quantize_dynamic(place / "plain" / "net.onnx", place / "quantized" / "net.onnx", op_types_to_quantize=["Gemm"])


def read_exported(case: Path) -> list[str]:
    return answer(case / "net.onnx")


# -- configurations ----------------------------------------------------------------------------------------------------

EXAMPLES, CORPUS = REPOSITORY / "examples" / "BrainScript", REPOSITORY / "tests" / "corpus"
OLDER = CORPUS / "ndl"
VALID = [CORPUS / "brainscript" / "valid", CORPUS / "language"]
BRAINSCRIPT = [path for folder in (EXAMPLES, *VALID) for path in sorted(folder.glob("*.cntk"))]
BRAINSCRIPT = [path for path in BRAINSCRIPT if path.stem != "OldStyle_MNIST"]  # its .mel file is the reader's own
SIMPLE, EDITED = sorted(OLDER.glob("Simple*.cntk")), [OLDER / "TopTwo.cntk", OLDER / "Transfer.cntk"]
NDL = [path for path in sorted(OLDER.glob("*.cntk")) if path not in SIMPLE + EDITED]


def configurations(sources: list[Path], *folders: Path) -> Callable[[Path], None]:
    """Each source as net.cntk, with the files of `folders` that it may read beside it."""
    macros = {path.name: path.read_bytes() for folder in folders for path in folder.iterdir() if path.suffix != ".cntk"}

    def make(place: Path) -> None:
        write_cases(place, {path.stem: {"net.cntk": path.read_bytes(), **macros} for path in sources})

    return make


def read_configuration(case: Path) -> str:
    """What `convolve show` does with a configuration, but for building the module."""
    said: list[Any] = []
    for step in read_job([str(case / "net.cntk"), f"out={case}", "data=."]).steps:
        networks = [network for _, network in step.saved] if isinstance(step, EditStep) else []
        networks += [step.network] if isinstance(step, TrainStep) else []
        said += [len(lower(trained(network).outputs, None, "BrainScript").nodes) for network in networks]
    return str(said)


def configuration(sources: list[Path], *folders: Path) -> Format:
    files = ("net.cntk", "**/*")
    return Format(configurations(sources, *folders), read_configuration, files, place=r": line \d+, column \d+: ")


MODELS = {
    "CNTK models, v1 and v2": Format(make_cntk, read_cntk),
    "CNTK checkpoints": Format(make_cntk_checkpoint, read_cntk_checkpoint),
    "CNTK models, by its Python API": Format(make_trained, load_model),
    "Caffe models": Format(make_caffe, read_caffe, ("*.prototxt", "*.caffemodel")),
    "ONNX models": Format(make_onnx, read_onnx),
    "PyTorch checkpoints": Format(make_checkpoints, read_checkpoint),
    "model folders": Format(make_folders, read_folder, exact=True),
    "exported ONNX: plain, any size, quantized": Format(make_exported, read_exported, ("*.onnx",)),
    "BrainScript": configuration(BRAINSCRIPT, EXAMPLES, *VALID),
    "NDL": configuration(NDL, OLDER),
    "MEL": configuration(EDITED, OLDER),
    "SimpleNetworkBuilder": configuration(SIMPLE),
}
