"""Training starts from any network: its head, the layer where it is cut, its size, how its images are prepared."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from command_line import Convolve, assert_refused
from convolve.errors import ModelError, UnsupportedError, UsageError
from convolve.graph.build import build
from convolve.graph.draft import Draft
from convolve.graph.graph import Graph
from convolve.loading import load
from convolve.model import Model
from convolve.models import build_model
from convolve.models.heads import HeadedNetwork
from convolve.network import Network, load_graph
from convolve.outcome import Run
from convolve.recipe import Recipe, from_mapping, to_mapping
from convolve.recipes import load_recipe, resolve
from convolve.run import train
from convolve.specs.data import DataSpec
from convolve.specs.model import ModelSpec, NetworkSpec
from convolve.specs.run import RunSpec
from convolve.specs.schedule import ScheduleSpec
from convolve.transforms.crop import Crop
from convolve.transforms.preprocess import Preprocess
from convolve.transforms.scale import Scale

STANDING = Recipe(
    "standing", data=DataSpec(name="", channels=3, image_size=24), schedule=ScheduleSpec(learning_rates=(0.0,)),
    run=RunSpec(epochs=1, global_batch_size=8, precision="fp32", device="cpu", threads=1),
)  # fmt: skip
LEARNING = replace(STANDING, schedule=ScheduleSpec(learning_rates=(0.5,)), run=replace(STANDING.run, epochs=6))
PREPARED = Preprocess(3, 32, 32, mean=(110.0, 120.0, 130.0), scale=0.02, resize="squash", known_from="a test")


def saved(name: str, folder: Path, classes: int = 7, variant: str = "tiny") -> Path:
    """A network of ours with random numbers, as if it had been trained."""
    spec, names = NetworkSpec(name, variant), tuple(f"class {k}" for k in range(classes))
    Model(build_model(spec, PREPARED.shape_CHW, classes, seed=3), spec, PREPARED, names).save(folder)
    return folder


def started(recipe: Recipe, start: Path, data: Path, out: Path, **model: str) -> Run:
    settings = {f"model.{name}": value for name, value in model.items()}
    return train(resolve(recipe, {"model.start": str(start)} | settings), data=str(data), out=out)


@pytest.mark.parametrize("name", ["squeezenet", "resnet", "efficientnet-lite0", "whitened-convnet"])
def test_a_head_for_other_classes_and_all_else_of_the_start(name: str, photographs: Path, tmp_path: Path) -> None:
    start = saved(name, tmp_path / "start")
    run = started(STANDING, start, photographs, tmp_path / "run")
    model = run.model
    assert isinstance(model.module, HeadedNetwork) and model.class_names == ("blue", "green", "red")
    assert model.preprocess == replace(PREPARED, known_from="a test")
    assert isinstance(model.architecture, NetworkSpec)
    assert (model.architecture.name, model.architecture.head) == (name, "linear")
    images_NCHW = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        theirs, ours = load(start).body()(images_NCHW), load(tmp_path / "run" / "from").body()(images_NCHW)
    width = model.module.head.in_features
    assert theirs.shape == (2, width)
    torch.testing.assert_close(ours, theirs)


def test_one_network_in_several_forms_has_the_same_features_and_learns_the_same(
    photographs: Path, tmp_path: Path
) -> None:
    own = saved("squeezenet", tmp_path / "own")
    load(own).export(tmp_path / "net.onnx")
    assert isinstance(load(tmp_path / "net.onnx").architecture, Graph)
    images_NCHW = torch.randn(4, 3, 32, 32)
    features = [load(form).body()(images_NCHW).detach() for form in (own, tmp_path / "net.onnx")]
    torch.testing.assert_close(*features, atol=1e-4, rtol=1e-4)
    losses = []
    for form in (own, tmp_path / "net.onnx"):
        out = tmp_path / f"run-{form.name}"
        recipe = replace(LEARNING, model=ModelSpec(dropout=(0.0,)))
        losses.append(started(recipe, form, photographs, out, head="linear").result["test_loss"])
    assert losses[0] == pytest.approx(losses[1], rel=0.02, abs=0.01)
    assert losses[0] < 1.05  # three classes by chance: 1.0986


def test_a_hidden_layer_and_a_cut(photographs: Path, tmp_path: Path) -> None:
    own = saved("resnet", tmp_path / "own")
    load(own).export(tmp_path / "net.onnx")
    for form, cut in ((own, "layer1.0.conv2"), (tmp_path / "net.onnx", "")):
        run = started(LEARNING, form, photographs, tmp_path / f"run-{form.name}", head="mlp", cut=cut)
        module = run.model.module
        hidden, head = (module.get_submodule(name) for name in ("head_hidden", "head"))
        assert (hidden.in_features, hidden.out_features, head.in_features) == (6 if cut else 12, 512, 512)
        assert head.weight.any()  # type: ignore[operator]
        assert run.model.body()(torch.randn(2, 3, 32, 32)).shape == (2, 6 if cut else 12)
    kept = load(tmp_path / "run-own").module.state_dict()
    assert any("layer1" in name for name in kept) and not any("layer2" in name for name in kept)
    node = load(tmp_path / "net.onnx").architecture.nodes[5].name  # type: ignore[union-attr]
    assert started(STANDING, tmp_path / "net.onnx", photographs, tmp_path / "cut", cut=node).model.node == ""


def test_what_was_started_can_be_started_from(photographs: Path, tmp_path: Path) -> None:
    first = started(STANDING, saved("resnet", tmp_path / "own"), photographs, tmp_path / "first", head="mlp")
    again = started(STANDING, tmp_path / "first", photographs, tmp_path / "again")  # the same classes: all is kept
    assert again.model.architecture == first.model.architecture
    for name, tensor in first.model.module.state_dict().items():
        if "running" not in name and "tracked" not in name:
            assert torch.equal(tensor, again.model.module.state_dict()[name]), name
    other = started(STANDING, tmp_path / "first", photographs, tmp_path / "other", head="linear").model
    assert isinstance(other.module, HeadedNetwork) and other.module.head_hidden is None


@pytest.mark.parametrize("form", ["own", "net.onnx"])
def test_another_size_and_what_else_the_recipe_says(form: str, photographs: Path, tmp_path: Path) -> None:
    load(saved("squeezenet", tmp_path / "own")).export(tmp_path / "net.onnx")
    settings = {"data.image_size": 48, "data.mean": "1:2:3", "data.crop_ratio": 0.5, "run.epochs": 1}
    recipe = resolve(STANDING, settings | {"model.start": str(tmp_path / form)})
    assert recipe.model.data_overrides == "image_size,crop_ratio,mean"
    assert from_mapping(to_mapping(recipe)) == recipe
    found = train(recipe, data=str(photographs), out=tmp_path / "run").model.preprocess
    assert (found.height, found.width, found.mean, found.crop_ratio) == (48, 48, (1.0, 2.0, 3.0), 0.5)
    assert (found.scale, found.resize) == (0.02, "squash")


def test_scaling_of_training_images_leads_to_the_size_of_the_start(photographs: Path, tmp_path: Path) -> None:
    data = replace(STANDING.data, train_transforms=(Crop("randomside", side_ratio=(0.8,)), Scale(24, 24)))
    run = started(replace(STANDING, data=data), saved("resnet", tmp_path / "own"), photographs, tmp_path / "run")
    assert run.model.preprocess.shape_CHW == (3, 32, 32)


def test_a_recipe_file_that_starts_from_a_network_says_what_it_says(tmp_path: Path) -> None:
    text = json.dumps({"name": "x", "data": {"image_size": 48}, "model": {"start": "net"}})
    (tmp_path / "x.json").write_text(text)
    assert load_recipe(str(tmp_path / "x.json")).model.data_overrides == "image_size"
    assert resolve(STANDING, {"data.image_size": 48}).model.data_overrides == ""


def test_a_run_goes_on_without_its_start(photographs: Path, tmp_path: Path) -> None:
    start, out = saved("squeezenet", tmp_path / "start"), tmp_path / "run"
    whole = started(LEARNING, start, photographs, tmp_path / "whole").model.module.state_dict()

    def stop(event: str, values: dict[str, object]) -> None:
        if event == "epoch" and values["epoch"] == 3:
            raise KeyboardInterrupt

    recipe = resolve(LEARNING, {"model.start": str(start)})
    with pytest.raises(BaseException, match=r"goes on|resume|again"):
        train(recipe, data=str(photographs), out=out, progress=stop)
    start.rename(tmp_path / "elsewhere")
    resumed = train(recipe, data=str(photographs), out=out).model.module.state_dict()
    assert all(torch.equal(tensor, resumed[name]) for name, tensor in whole.items())


class NoClassifier(nn.Module):
    """Gives maps, or one number."""

    def __init__(self, gives_maps: bool) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 3 if gives_maps else 1, 3, padding=1)
        self.gives_maps = gives_maps

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        maps_NCHW: torch.Tensor = self.last(self.first(images_NCHW).relu())
        return maps_NCHW if self.gives_maps else maps_NCHW.mean((2, 3))


@pytest.mark.parametrize("gives_maps", [True, False])
def test_a_network_that_is_no_classifier_becomes_one(gives_maps: bool, photographs: Path, tmp_path: Path) -> None:
    net = tmp_path / "net.onnx"
    shapes = {"images": (3, 16, 16)}, {"out": (3, 16, 16) if gives_maps else (1,)}
    Network(NoClassifier(gives_maps).eval(), *shapes).export(net)
    if gives_maps:
        with pytest.raises(
            UnsupportedError, match=r"net\.onnx: no output is a score .* attached to with model\.cut=NODE"
        ):
            started(STANDING, net, photographs, tmp_path / "run")
    else:
        assert (
            started(STANDING, net, photographs, tmp_path / "run").model.body()(torch.randn(2, 3, 16, 16)).shape[1] == 4
        )
    node = next(node.name for node in load_graph(net).graph.nodes if node.op == "relu")  # type: ignore[union-attr]
    run = started(STANDING, net, photographs, tmp_path / "cut", cut=node)
    assert run.model.body()(torch.randn(2, 3, 16, 16)).shape == (2, 4)
    assert [node.op for node in run.model.architecture.nodes][-1] == "linear"  # type: ignore[union-attr]


def flat(tmp_path: Path) -> Path:
    """A graph of two dense layers on 8x8 pixels, which no other size fits."""
    draft, rng = Draft(), np.random.default_rng(0)
    x = draft.call(draft.input((3, 8, 8), "pixels"), "pixels") or "0"
    for rows, columns, name in ((192, 6, "inner"), (6, 4, "scores")):
        x = draft.add("reshape", [x], shape=(rows,)) if draft.shape(x) != (rows,) else x
        weight = draft.parameter(rng.normal(0, 0.1, (rows, columns)).astype(np.float32))
        x = draft.add("linear", [x, weight], contracted=1, transposed=False)
        draft.call(x, name)
    graph = draft.finish([x], "a test")
    Model(build(graph), graph, Preprocess(3, 8, 8), tuple("abcd")).save(tmp_path / "flat")
    return tmp_path / "flat"


def test_what_cannot_be_is_refused_in_one_sentence(photographs: Path, tmp_path: Path, convolve: Convolve) -> None:
    path = flat(tmp_path)
    with pytest.raises(UsageError, match=r"images of 8x8 only: .*; leave data\.image_size out, or truncate"):
        train(
            resolve(STANDING, {"model.start": str(path), "data.image_size": 16}),
            data=str(photographs), out=tmp_path / "run",
        )  # fmt: skip
    with pytest.raises(UsageError, match=r"data\.channels=1: .* takes 3"):
        train(
            resolve(STANDING, {"model.start": str(path), "data.channels": 1}),
            data=str(photographs), out=tmp_path / "run",
        )  # fmt: skip
    with pytest.raises(UsageError, match="unknown node 'inne'; did you mean 'inner'"):
        started(STANDING, path, photographs, tmp_path / "run", cut="inne")
    with pytest.raises(UsageError, match="unknown layer 'layer3'"):
        started(STANDING, saved("resnet", tmp_path / "own"), photographs, tmp_path / "run", cut="layer3")
    with pytest.raises(UsageError, match=r"model\.head is for a training that starts from a network"):
        resolve(STANDING, {"model.head": "linear"})
    with pytest.raises(UsageError, match=r"model\.data_overrides: unknown field 'order'"):
        resolve(STANDING, {"model.data_overrides": "order"})
    with pytest.raises(ModelError, match="no convolution and no dense layer"):
        Model(nn.Flatten(), NetworkSpec(), PREPARED, ()).body()
    words = ("--data", photographs, "--from", tmp_path / "own", "--out", tmp_path / "run", "--set=model.cut=nothing")
    assert_refused(convolve("train", "mnist", *words), 2, "unknown layer 'nothing'")
    assert not (tmp_path / "run").exists()


def test_code_in_a_checkpoint_is_refused_and_not_run(photographs: Path, tmp_path: Path, convolve: Convolve) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "was run",))

    torch.save({"state_dict": Evil()}, tmp_path / "evil.pth")
    outcome = convolve(
        "train", "mnist", "--data", photographs, "--from", tmp_path / "evil.pth", "--out", tmp_path / "run"
    )
    assert outcome.code in (2, 3, 4) and outcome.err.count("\n") == 1, outcome.err
    assert not (tmp_path / "was run").exists() and not (tmp_path / "run").exists()


def test_arch_says_which_network_a_checkpoint_holds(photographs: Path, tmp_path: Path, convolve: Convolve) -> None:
    module = build_model(NetworkSpec("resnet", "20"), (3, 32, 32), 5)
    torch.save(module.state_dict(), tmp_path / "net.pth")
    words = ("--data", photographs, "--from", tmp_path / "net.pth", "--out", tmp_path / "run", "--epochs", 1)
    assert_refused(convolve("train", "mnist", *words, "--arch", "resnet18"), 3, "does not fit resnet18: ")
    outcome = convolve("train", "mnist", *words, "--arch", "resnet20", "--threads", 1)
    assert outcome.code == 0, outcome.err
    assert "fc of 5 classes, is replaced by a new linear head for 3 classes" in outcome.err
    recipe = json.loads((tmp_path / "run" / "recipe.json").read_text())
    assert (recipe["model"]["start"], recipe["model"]["arch"]) == (str(tmp_path / "net.pth"), "resnet20")
    assert "start" not in json.loads((tmp_path / "run" / "model" / "model.json").read_text())["model"]


def test_without_epochs_the_training_is_the_fit_of_a_head(photographs: Path, tmp_path: Path) -> None:
    """Of the start's own classes, too: else nothing would be learned, and its certainty be that on the test part."""
    start = saved("resnet", tmp_path / "start", classes=3)
    model = replace(load(start), class_names=("blue", "green", "red"))
    model.save(start)
    recipe = resolve(STANDING, {"model.start": str(start), "run.epochs": 0, "confidence.accept": 0.9})
    notes: list[str] = []
    run = train(recipe, data=str(photographs), out=tmp_path / "run", progress=lambda kind, values: notes.append(
        str(values.get("message"))))  # fmt: skip
    assert any("is replaced by a new linear head for 3 classes" in note for note in notes)
    confidence = run.model.confidence
    assert confidence and confidence.record.learned_from == "cross-validation"
    assert run.model.module.head.weight.any()  # type: ignore[union-attr, operator]
    with pytest.raises(UsageError, match=r"model\.head=mlp needs training"):
        train(resolve(recipe, {"model.head": "mlp"}), data=str(photographs), out=tmp_path / "mlp")
