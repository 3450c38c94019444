"""PyTorch's checkpoints: the network that they belong to answers as torchvision's and timm's own do."""

from __future__ import annotations

import argparse
import json
import sys
import types
import zipfile
from dataclasses import replace
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from caffe_files import caffemodel
from checkpoints import images_of, weights_of
from safetensors.torch import save_file
from torch import nn

from command_line import Convolve, assert_refused
from convolve import Model, load, train
from convolve.errors import ConvolveError, FormatError, ModelError, UnsupportedError, UsageError
from convolve.importers import presets
from convolve.importers.loader import PreprocessOverrides
from convolve.importers.presets import Preset
from convolve.importers.pytorch import architectures
from convolve.importers.pytorch.architectures import OWN, fingerprint, known, own_shapes
from convolve.models import build_model
from convolve.specs.model import NetworkSpec

RECORDED = json.loads((Path(__file__).parents[1] / "golden" / "pytorch" / "networks.json").read_text())
SMALL = NetworkSpec("resnet", "20")


def network(name: str = "resnet20", classes: int = 7, shape_CHW: tuple[int, int, int] = (3, 32, 32)) -> nn.Module:
    module = build_model(OWN[name].spec, shape_CHW, classes)
    module.load_state_dict(weights_of(module.state_dict()))
    return module.eval()


def same(path: Path, module: nn.Module, **overrides: Any) -> Model:
    """The model in the checkpoint, which answers as the module does, but for the order of sums in its layout."""
    model = load(path, PreprocessOverrides(**overrides))
    images = images_of(32)[:, : model.preprocess.channels]
    with torch.no_grad():
        wanted = module.eval()(images)
        np.testing.assert_allclose(model.module(images), wanted, rtol=0, atol=1e-5 * wanted.abs().max())
    return model


# -- networks ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in RECORDED if name in OWN])
def test_our_networks_answer_as_torchvisions_and_timms(name: str) -> None:
    module = network(name, 7, (3, 65, 64))
    assert len(module.state_dict()) == RECORDED[name]["keys"]
    wanted = np.array(RECORDED[name]["logits"])
    with torch.no_grad():
        np.testing.assert_allclose(module(images_of()), wanted, rtol=0, atol=1e-4 * np.abs(wanted).max())


def test_each_network_of_ours_is_told_from_the_others_and_from_all_that_are_known() -> None:
    prints = {name: fingerprint(shapes) for name, shapes in own_shapes().items()}
    alike = [{name for name in known()[digits] if name in OWN} for digits in prints.values()]
    both = {"tf_efficientnet_lite0", "efficientnet_lite0"}  # the same tensors; padding and epsilon differ
    assert all(len(names) == 1 or names == both for names in alike)
    assert len(known()) > 800


# -- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["safetensors", "zip", "legacy"])
def test_a_state_dict_is_recognized(form: str, tmp_path: Path) -> None:
    module, path = network(), tmp_path / f"net.{'safetensors' if form == 'safetensors' else 'pth'}"
    if form == "safetensors":
        save_file(module.state_dict(), path)
    else:
        torch.save(module.state_dict(), path, _use_new_zipfile_serialization=form == "zip")
    model = same(path, module)
    assert (model.architecture, model.class_names) == (OWN["resnet20"].spec, tuple("0123456"))
    assert model.training_info.imported_from == f"{path.name} (PyTorch checkpoint, resnet20)"
    mean, std = model.preprocess.mean, model.preprocess.scale
    np.testing.assert_allclose((mean, std), ([123.675, 116.28, 103.53], [1 / 58.395, 1 / 57.12, 1 / 57.375]))
    assert "does not say how its images were prepared" in model.preprocess_warning
    model.save(tmp_path / "folder")
    same(tmp_path / "folder", module)


def in_training(state: dict[str, torch.Tensor]) -> dict[str, Any]:
    return {"model": state, "epoch": 3, "args": argparse.Namespace(lr=0.1, out=Path("x"), tags={"a"})}


@pytest.mark.parametrize(
    ("hold", "where"),
    [
        (lambda s: {"state_dict": s, "optimizer": {"state": {0: {"exp_avg": torch.ones(16, 3, 3, 3)}}}}, "state_dict"),
        (lambda s: {f"module.{name}": value for name, value in s.items()}, "module"),
        (lambda s: {"state_dict": {f"module.{name}": value for name, value in s.items()}}, "state_dict.module"),
        (in_training, "model"),
        (lambda s: {"model": {n: torch.zeros_like(v) for n, v in s.items()}, "model_ema": s}, "model_ema"),
        (lambda s: {name: value for name, value in s.items() if "num_batches" not in name}, ""),
    ],
    ids=["state_dict", "module", "both", "arguments", "ema", "old"],
)
def test_what_holds_a_state_dict_does_not_matter(hold: Any, where: str, tmp_path: Path) -> None:
    module, path = network(), tmp_path / "checkpoint.pth.tar"
    torch.save(hold(module.state_dict()), path)
    model = same(path, module)
    its = f", its {where}" if where else ""
    assert model.training_info.imported_from == f"checkpoint.pth.tar (PyTorch checkpoint, resnet20{its})"


@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_a_network_that_was_saved_whole_and_layers_of_other_names(form: str, tmp_path: Path) -> None:
    module, path = network(), tmp_path / "whole.pt"
    torch.save(module, path, _use_new_zipfile_serialization=form == "zip")
    same(path, module)
    renamed = {
        name.replace("fc.", "linear.").replace("layer1", "stage_a"): v for name, v in module.state_dict().items()
    }
    torch.save({"state_dict": renamed}, path)
    same(path, module)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_types_are_computed_in_float32(dtype: torch.dtype, tmp_path: Path) -> None:
    module = network().to(dtype)
    for path, save in ((tmp_path / "x.pth", torch.save), (tmp_path / "x.safetensors", save_file)):
        save(module.state_dict(), path)
        same(path, network().to(dtype).float())


def test_gray_images_other_sizes_and_class_names(tmp_path: Path) -> None:
    module = build_model(SMALL, (1, 40, 28), 2).eval()
    torch.save(module.state_dict(), tmp_path / "x.pth")
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    model = same(tmp_path / "x.pth", module, image_shape_CHW=(1, 40, 28), labels=tmp_path / "names.txt", scale="0.5")
    assert (model.preprocess.shape_CHW, model.class_names) == ((1, 40, 28), ("cat", "dog"))
    assert (model.preprocess.scale, model.preprocess.known_from) == (0.5, "the command line")


def test_a_thousand_classes_are_imagenets(tmp_path: Path) -> None:
    torch.save(network("squeezenet1_1", 1000).state_dict(), tmp_path / "x.pth")
    model = load(tmp_path / "x.pth")
    assert model.class_names[1] == "n01443537 goldfish"
    assert model.preprocess.shape_CHW == (3, 224, 224)


def test_published_weights_are_told_by_their_first_layer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = network("squeezenet1_1")
    torch.save(module.state_dict(), tmp_path / "x.pth")
    first = module.state_dict()["features.0.weight"].numpy()
    digits = presets.sha256(first.tobytes()).hexdigest()[:16]
    row = Preset("p", None, 96, "rgb", (1.0, 2.0, 3.0), 0.5, 0.75, first_weights=digits)
    monkeypatch.setattr(presets, "presets", lambda: {"p": row})
    model = load(tmp_path / "x.pth")
    assert str(model.preprocess).endswith("(pixel - (1, 2, 3)) * 0.5, as stored, whatever EXIF says")
    assert (model.training_info.preset, model.preprocess_warning) == ("p", "")


def test_the_files_name_decides_between_networks_of_the_same_tensors(tmp_path: Path) -> None:
    module = network("efficientnet_lite0", 3, (3, 65, 64))
    for file, variant in (
        ("best.pth", ""),
        ("my-EfficientNet_Lite0.pth", "symmetric"),
        ("tf_efficientnet_lite0.pth", ""),
    ):
        torch.save(module.state_dict(), tmp_path / file)
        assert load(tmp_path / file).architecture == replace(OWN["efficientnet_lite0"].spec, variant=variant)
    model = load(tmp_path / "best.pth", PreprocessOverrides(arch="efficientnet_lite0"))
    with torch.no_grad():
        np.testing.assert_allclose(model.module(images_of()), module(images_of()), atol=1e-5)


def test_timms_config_beside_the_file_is_believed(tmp_path: Path) -> None:
    module = network("efficientnet_lite0", 3, (3, 65, 64))
    save_file(module.state_dict(), tmp_path / "model.safetensors")
    cfg = {"mean": [0.1, 0.2, 0.3], "std": [0.5, 0.25, 0.2], "input_size": [3, 96, 96], "crop_pct": 0.9}
    config = {"architecture": "efficientnet_lite0", "pretrained_cfg": cfg, "label_names": ["a", "b", "c"]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    model = load(tmp_path / "model.safetensors")
    assert (model.architecture, model.class_names) == (OWN["efficientnet_lite0"].spec, ("a", "b", "c"))
    assert (model.preprocess.shape_CHW, model.preprocess.crop_ratio) == ((3, 96, 96), 0.9)
    np.testing.assert_allclose(model.preprocess.mean, [25.5, 51, 76.5])
    np.testing.assert_allclose(model.preprocess.scale, [2 / 255, 4 / 255, 5 / 255])
    assert model.preprocess.known_from == "timm's config.json"
    for damaged in ("{", "[]", '{"architecture": 3}', '{"architecture": "x", "pretrained_cfg": {"mean": [1]}}'):
        (tmp_path / "config.json").write_text(damaged)
        assert load(tmp_path / "model.safetensors").preprocess.known_from == ""


# -- what does not fit ------------------------------------------------------------------------------------------------


def test_what_is_not_recognized_is_one_sentence(tmp_path: Path) -> None:
    state, path = network().state_dict(), tmp_path / "x.pth"
    torch.save({"a.b": torch.ones(3, 4), "c": torch.ones(2)}, path)
    with pytest.raises(
        UnsupportedError, match=r"no known network has these 2 tensors, a\.b \(3, 4\) to c.*--arch .resnet18"
    ):
        load(path)
    torch.save({"epoch": 3}, path)
    with pytest.raises(UnsupportedError, match="holds no tensors"):
        load(path)
    for change, message in (
        (lambda s: s | {"extra": torch.ones(1)}, "extra has no place in it"),
        (lambda s: {n: v for n, v in s.items() if n != "bn1.bias"}, r"bn1\.bias is missing"),
        (lambda s: s | {"bn1.bias": torch.ones(5)}, r"bn1\.bias has the shape \(5,\), not \(16,\)"),
    ):
        torch.save({"model": change(state)}, path)
        with pytest.raises(ModelError, match=rf"x\.pth, model does not fit resnet20: {message}"):
            load(path, PreprocessOverrides(arch="resnet20"))
    with pytest.raises(UsageError, match="--arch: unknown architecture 'resnet19'; did you mean 'resnet18'"):
        load(path, PreprocessOverrides(arch="resnet19"))
    with pytest.raises(
        UsageError, match="is a convolve model: --output, --preset and --arch are for models of other tools"
    ):
        save_file(state, tmp_path / "y.safetensors")
        load(tmp_path / "y.safetensors").save(tmp_path / "own")
        load(tmp_path / "own", PreprocessOverrides(arch="resnet20"))


def test_damaged_files_are_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_file(network().state_dict(), path)
    content = path.read_bytes()
    for damaged in (
        content[:-5],
        content.replace(b'"F32"', b'"Q32"', 1),
        content.replace(b"data_offsets", b"date_offsets", 1),
    ):
        path.write_bytes(damaged)
        with pytest.raises(FormatError, match=r"x\.safetensors: a damaged \.safetensors file"):
            load(path)


def archive(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for name, content in members.items():
            file.writestr(f"x/{name}", content)
    return path


def test_other_tools_models_are_refused_with_the_way_to_onnx(tmp_path: Path) -> None:
    script, program = tmp_path / "script.pt", tmp_path / "program.pt2"
    torch.jit.script(nn.Sequential(nn.Conv2d(3, 4, 3))).save(script)  # type: ignore[no-untyped-call]
    torch.export.save(torch.export.export(nn.ReLU(), (torch.zeros(2),)), program)
    (tmp_path / "net.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    (tmp_path / "net.tflite").write_bytes(b"\x1c\0\0\0TFL3" + bytes(100))
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "saved_model.pb").write_bytes(b"x")
    learner = archive(tmp_path / "export.pkl", **{"data.pkl": b"\x80\x02cfastai.learner\nLearner\nq\0."})
    keras = archive(tmp_path / "net.keras", **{"config.json": b"{}", "model.weights.h5": b""})
    for path, words in (
        (script, "TorchScript.*torch.onnx.export"), (program, "torch.export.*the model that it was made from"),
        (tmp_path / "net.h5", "Keras.*tf2onnx"), (keras, "Keras.*tf2onnx"), (tmp_path / "net.tflite", "Lite.*tf2onnx"),
        (tmp_path / "saved", "TensorFlow.*--saved-model"), (learner, "fastai.*torch.onnx.export"),
    ):  # fmt: skip
        with pytest.raises(UnsupportedError, match=words):
            load(path)


# -- other packages ---------------------------------------------------------------------------------------------------


class FakeTimm(types.ModuleType):
    """As much of timm as is asked for; its network is one of ours."""

    def __init__(self) -> None:
        super().__init__("timm")
        self.__spec__ = ModuleSpec("timm", None)

    def list_models(self) -> list[str]:
        return ["little_net"]

    is_online = True

    def create_model(self, name: str, in_chans: int = 3, num_classes: int = 10, pretrained: bool = False) -> nn.Module:
        if pretrained and not self.is_online:
            raise OSError("We couldn't connect to the hub\nsecond line")
        module = network("resnet20", num_classes, (in_chans, 32, 32)).train()
        module.num_classes = num_classes  # type: ignore[assignment]
        cfg = {"input_size": (3, 48, 48), "mean": (0.5,) * 3, "std": (0.5,) * 3, "crop_pct": 0.9}
        module.pretrained_cfg = cfg  # type: ignore[assignment]
        return module


def test_timm_builds_what_we_have_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", FakeTimm())
    module, path = network("resnet20", 5), tmp_path / "x.pth"
    with torch.no_grad():
        module.get_parameter("fc.bias").add_(1)
    torch.save({"net": module.state_dict()}, path)
    model = same(path, module, arch="timm:little_net")
    assert model.architecture == NetworkSpec("timm:little_net")
    assert str(model.preprocess) == (
        "image scaled to cover 53x53, of which the central 48x48 RGB, (pixel - 127.5) * 0.00784314, "
        "as stored, whatever EXIF says"
    )
    model.save(tmp_path / "folder")
    same(tmp_path / "folder", module)
    monkeypatch.setattr(architectures, "known", lambda: {fingerprint(own_shapes()["resnet20"]): ["timm:little_net"]})
    monkeypatch.setattr("convolve.importers.pytorch.known", architectures.known)
    assert same(path, module).architecture == NetworkSpec("timm:little_net")
    with pytest.raises(UsageError, match="unknown network of timm 'little_nut'; did you mean 'little_net'"):
        load(path, PreprocessOverrides(arch="timm:little_nut"))
    one, again = (build_model(NetworkSpec("timm:little_net"), (3, 32, 32), 4, seed=1).state_dict() for _ in range(2))
    assert all(torch.equal(one[name], again[name]) for name in one)


def test_timm_and_a_name_are_a_model_wherever_one_goes(
    photographs: Path, tmp_path: Path, convolve: Convolve, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeTimm()
    monkeypatch.setitem(sys.modules, "timm", fake)
    model = load("timm:little_net")
    assert (model.architecture, len(model.class_names)) == (NetworkSpec("timm:little_net"), 10)
    assert model.preprocess.shape_CHW == (3, 48, 48) and model.preprocess.known_from == "timm"
    image = photographs / "val" / "red" / "0.png"
    predicted = json.loads(convolve("predict", "timm:little_net", image, "--json").out)
    assert len(predicted["images"][0]["classes"]) == 5
    assert json.loads(convolve("show", "timm:little_net", "--json").out)["parameters"] > 1000
    words = ("--data", photographs, "--epochs", 1, "--threads", 1, "--precision", "fp32", "--out", tmp_path / "run")
    outcome = convolve("train", "mnist", *words, "--from", "timm:little_net", "--set", "model.freeze=all")
    assert outcome.code == 0, outcome.err
    trained = load(tmp_path / "run")
    assert trained.architecture == NetworkSpec("timm:little_net", head="linear")
    assert trained.class_names == ("blue", "green", "red")
    fake.is_online = False
    outcome = convolve("evaluate", "timm:little_net", "--data", photographs)
    assert_refused(
        outcome, outcome.code, "timm:little_net cannot be downloaded (We couldn't connect to the hub)", "--arch"
    )
    with pytest.raises(UsageError, match="unknown network of timm 'little_nut'"):
        load("timm:little_nut")


@pytest.mark.parametrize("family", ["timm", "torchvision"])
def test_a_package_that_is_missing_or_broken_is_named(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save(network().state_dict(), tmp_path / "x.pth")
    arch = PreprocessOverrides(arch=f"{family}:vgg16")
    monkeypatch.setitem(sys.modules, family, None)
    with pytest.raises(UnsupportedError, match=rf"built by {family}, which (is not installed: pip|cannot be imported)"):
        load(tmp_path / "x.pth", arch)
    monkeypatch.delitem(sys.modules, family)
    (tmp_path / f"{family}.py").write_text('raise RuntimeError("operator torchvision::nms does not exist")')
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UnsupportedError, match=r"cannot be imported here .operator torchvision::nms does not exist"):
        load(tmp_path / "x.pth", arch)


@pytest.mark.slow  # with timm and torchvision, in an environment whose torch they fit
def test_the_table_holds_what_the_packages_build() -> None:
    pytest.importorskip("timm")
    pytest.importorskip("torchvision")
    rows = [(name, digits) for digits, names in known().items() for name in names if ":" in name]
    for name, digits in rows:
        shapes = architectures.shapes_of(NetworkSpec(name), (3, 224, 224), 10)
        assert fingerprint(shapes) == digits, name


# -- commands ---------------------------------------------------------------------------------------------------------


def test_commands_take_a_checkpoint(tmp_path: Path, convolve: Convolve) -> None:
    path, shape = tmp_path / "net.pth", ("--image-shape", "1x28x28", "--arch", "resnet20")
    torch.save({"model": network("resnet20", 10, (1, 28, 28)).state_dict()}, path)
    assert json.loads(convolve("show", path, *shape, "--json").out)["parameters"] == 269_434
    cv2.imwrite(str(tmp_path / "x.png"), np.arange(28 * 28, dtype=np.uint8).reshape(28, 28))
    predicted = convolve("predict", path, tmp_path / "x.png", *shape, "--json")
    assert len(json.loads(predicted.out)["images"][0]["classes"]) == 5
    assert "assumed" in predicted.err
    assert convolve("convert", path, *shape, "--to", "convolve", "--out", tmp_path / "folder").code == 0
    assert load(tmp_path / "folder").preprocess.shape_CHW == (1, 28, 28)
    assert_refused(convolve("evaluate", path, "--arch", "resnet50", "--data", "sample"), 3, "does not fit resnet50: ")


def test_training_goes_on_with_a_checkpoints_network_and_new_classes(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    torch.save(network("resnet20", 3, (1, 28, 28)).state_dict(), path)
    model = load(path, PreprocessOverrides(image_shape_CHW=(1, 28, 28)))
    model.save(tmp_path / "net")
    done = train("mnist", data="sample", out=tmp_path / "run", from_model=tmp_path / "net", epochs=1, epoch_samples=64)
    trained = done.model
    assert isinstance(trained.architecture, NetworkSpec) and trained.architecture.variant == "20"
    prepared = replace(model.preprocess, orientation="exif", known_from="training")
    assert (trained.preprocess, len(trained.class_names)) == (prepared, 10)


def test_errors_name_the_file() -> None:
    with pytest.raises(ConvolveError, match=r"nothing-there\.pth does not exist"):
        load("nothing-there.pth")


def test_published_weights_are_told_in_files_of_other_tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """But not where the file says itself how its images were prepared."""
    digits = presets.sha256(np.ones((4, 3, 3, 3), np.float32).tobytes()).hexdigest()[:16]
    row = Preset("p", None, 8, "rgb", (1.0, 2.0, 3.0), 0.5, 0.75, first_weights=digits)
    monkeypatch.setattr(presets, "presets", lambda: {"p": row})
    conv = "convolution_param { num_output: 4 kernel_size: 3 bias_term: false }"
    text = 'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } } }\n'
    text += f'layer {{ name: "c" type: "Convolution" bottom: "x" top: "c" {conv} }}\n'
    text += (
        'layer { name: "p" type: "Pooling" bottom: "c" top: "p" pooling_param { pool: AVE global_pooling: true } }\n'
    )
    (tmp_path / "net.prototxt").write_text(text)
    (tmp_path / "net.caffemodel").write_bytes(caffemodel({"c": [np.ones((4, 3, 3, 3), np.float32)]}))
    pair = f"{tmp_path / 'net.prototxt'}+{tmp_path / 'net.caffemodel'}"
    monkeypatch.setattr("convolve.importers.loaders.presets", presets.presets)
    model = load(pair)
    assert (model.preprocess.known_from, model.preprocess.channel_order) == ("preset p", "rgb")
    assert (model.preprocess.mean, model.preprocess.crop_ratio) == ((1.0, 2.0, 3.0), 0.75)
    model.preprocess = replace(model.preprocess, mean=7.0)
    model.export(tmp_path / "own.onnx")
    assert load(tmp_path / "own.onnx").preprocess.mean == 7.0
