"""Models and configurations, of other tools and of ours, with what reads them."""

from __future__ import annotations

import argparse
import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import torch
from caffe_cases import CASES as CAFFE_CASES
from caffe_files import UNUSED, Form, caffemodel
from caffe_nets import squeezenet
from onnx import helper
from onnx_cases import CASES as ONNX_CASES
from onnx_cases import GRAPHS
from onnx_files import case_bytes, graph_bytes, onnx_bytes
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
from convolve.importers.loader import PreprocessOverrides, read_bytes
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
    return weights(build(cntk.parse(read_bytes(case / "net.model"), "net.model")))


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
    pair = [read_bytes(case / f"net.{ending}") for ending in ("prototxt", "caffemodel")]
    return weights(build(caffe.parse(*pair).graph))


def make_onnx(place: Path) -> None:
    write_cases(place, {name: {"net.onnx": graph_bytes(name)} for name in GRAPHS})
    cases = {f"{number}": case_bytes(case, case[4][-1]) for number, case in enumerate(ONNX_CASES) if case[4]}
    write_cases(place, {name: {"net.onnx": content} for name, content in cases.items()})


def make_beside(place: Path) -> None:
    """Weights in a file of their own; what tools say of a model in files beside it."""
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("GlobalAveragePool", ["c"], ["p"])]
    nodes, names = [*nodes, helper.make_node("Flatten", ["p"], ["y"])], [*"abcd"]
    constants = {"w": np.linspace(-1, 1, 108, dtype=np.float32).reshape(4, 3, 3, 3)}

    def network(**metadata: str) -> bytes:
        return onnx_bytes(nodes, {"x": ("N", 3, 8, 8)}, constants, metadata=metadata)

    for name in GRAPHS:
        model = onnx.load_from_string(graph_bytes(name))
        if any(len(each.raw_data) > 16 for each in model.graph.initializer):
            (place / name.replace("/", "-")).mkdir()
            how: dict[str, Any] = {"save_as_external_data": True, "location": "net.data", "size_threshold": 0}
            onnx.save_model(model, str(place / name.replace("/", "-") / "net.onnx"), **how)
    norm = {"mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, 0.2], "crop_pct": 0.9}
    hugging_face = {
        "image_mean": norm["mean"],
        "image_std": norm["std"],
        "size": {"shortest_edge": 4},
        "do_resize": True,
    }
    id2label = {"id2label": {str(n): name for n, name in enumerate(names)}}
    said: dict[str, dict[str, Any]] = {
        "lobe": {"signature.json": {"classes": {"Label": names}, "filename": "model.onnx"}},
        "custom vision": {"labels.txt": "\n".join(names), "cvexport.manifest": {}},
        "timm": {"config.json": {"pretrained_cfg": norm, "label_names": names, "architecture": "x"}},
        "hugging face": {"preprocessor_config.json": hugging_face, "config.json": id2label},
    }
    for name, beside in said.items():
        texts = {file: value if isinstance(value, str) else json.dumps(value) for file, value in beside.items()}
        write_cases(place, {name: {"model.onnx": network(), **texts}})
    words = {"names": "{0: 'a', 1: 'b', 2: 'c', 3: 'd'}", "stride": "1", "Image.BitmapPixelFormat": "Bgr8"}
    write_cases(place, {"ultralytics": {"model.onnx": network(**words)}})
    (place / "zip").mkdir()
    with zipfile.ZipFile(place / "zip" / "export.zip", "w") as archive:
        for name, text in {"labels.txt": "\n".join(names), "cvexport.manifest": "{}"}.items():
            archive.writestr(name, text)
        archive.writestr("model.onnx", network())


def read_beside(case: Path) -> str:
    """What is read of an exported model, and of what lies beside it."""
    if (case / "net.onnx").exists():
        return read_onnx(case)
    model = load(case / ("export.zip" if case.name == "zip" else "model.onnx"))
    return f"{model.preprocess} {model.class_names}"


def read_onnx(case: Path) -> str:
    return weights(build(onnx_importer.parse(read_bytes(case / "net.onnx"), case / "net.onnx")))


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
    norm = {"input_size": [3, 32, 32], "mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, 0.2], "crop_pct": 0.9}
    said = {"architecture": "resnet20", "pretrained_cfg": norm, "label_names": ["a", "b", "c"]}
    write_cases(place, {"said": {"net.safetensors": made["net.safetensors"], "config.json": json.dumps(said)}})


def read_checkpoint(case: Path) -> str:
    found = [path for path in sorted(case.iterdir()) if path.suffix in (".pth", ".safetensors")]
    path = found[0] if found else case / "net.pth"
    refuse(path)
    if not pytorch.is_pytorch(path):
        raise UnsupportedError(f"{path} is no model that convolve can read")
    read = pytorch.read(path, PreprocessOverrides(arch="resnet20" if case.name.startswith("resnet20") else None))
    return digest(tensor.numpy() for _, tensor in sorted(read.module.state_dict().items()))


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
    place = r": line \d+, column \d+: |cannot read "
    return Format(configurations(sources, *folders), read_configuration, files, place=place, warm=True)


MODELS = {
    "CNTK models, v1 and v2": Format(make_cntk, read_cntk),
    "CNTK checkpoints": Format(make_cntk_checkpoint, read_cntk_checkpoint),
    "CNTK models, by its Python API": Format(make_trained, load_model),
    "Caffe models": Format(make_caffe, read_caffe, ("*.prototxt", "*.caffemodel")),
    "ONNX models": Format(make_onnx, read_onnx),
    "ONNX models, and files beside them": Format(make_beside, read_beside),
    "PyTorch checkpoints": Format(make_checkpoints, read_checkpoint),
    "model folders": Format(make_folders, read_folder, exact=True),
    "exported ONNX: plain, any size, quantized": Format(make_exported, read_exported, ("*.onnx",)),
    "BrainScript": configuration(BRAINSCRIPT, EXAMPLES, *VALID),
    "NDL": configuration(NDL, OLDER),
    "MEL": configuration(EDITED, OLDER),
    "SimpleNetworkBuilder": configuration(SIMPLE),
}
