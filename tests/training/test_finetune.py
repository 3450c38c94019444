"""Freezing and rates by depth: what stays, what moves how far, and what a resumed training needs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from convolve.errors import UsageError
from convolve.graph.build import build
from convolve.graph.draft import Draft
from convolve.models import build_model
from convolve.models.depth import depths, frozen_layers
from convolve.models.heads import headed
from convolve.recipe import Recipe
from convolve.specs.model import ModelSpec, NetworkSpec
from convolve.specs.optimizer import OptimizerSpec
from convolve.training.finetune import freeze_for_good
from convolve.training.optimizer_state import load_state_tensors, state_tensors
from convolve.training.optimizers import optimizer_for, take_step
from convolve.training.schedule import StepSize

FULL = StepSize(lr=0.1, lr_per_sample=0.05, momentum=0.9, variance_momentum=0.99)


def resnet(head: str = "linear") -> nn.Module:
    return build_model(NetworkSpec("resnet", "18", head=head), (3, 32, 32), 4)  # type: ignore[arg-type]


def test_layers_are_counted_as_timm_counts_them() -> None:
    """timm's param_groups_layer_decay has, for a ResNet-18, a stem, eight blocks, and the head."""
    counted = depths(resnet())
    assert counted["body.conv1.weight"] == counted["body.bn1.bias"] == 0
    blocks = [counted[f"body.layer{stage}.{block}.conv2.weight"] for stage in (1, 2, 3, 4) for block in (0, 1)]
    assert blocks == [1, 2, 3, 4, 5, 6, 7, 8]
    assert counted["body.layer4.1.bn2.weight"] == 8 and counted["head.bias"] == 9
    assert {*depths(resnet("mlp")).values()} == {*range(10)}


@pytest.mark.parametrize(
    "name",
    ["resnet18", "vit_tiny_patch16_224", "convnext_atto", "tf_efficientnet_lite0", "swin_tiny_patch4_window7_224"],
)
@pytest.mark.parametrize("head", ["", "linear"])
def test_networks_of_timm_have_the_rates_that_timm_gives_them(name: str, head: str) -> None:
    """Beside its own `param_groups_layer_decay`, with its own head or with one of ours in its place."""
    timm = pytest.importorskip("timm")
    from timm.optim import param_groups_layer_decay

    theirs = timm.create_model(name, pretrained=False, num_classes=4)
    wanted = {
        id(parameter): group["lr_scale"]
        for group in param_groups_layer_decay(theirs, layer_decay=0.75)
        for parameter in group["params"]
    }
    ours = headed(theirs, (3, 224, 224), 4, kind=head, cut="", dropout=0.0) if head else theirs
    optimizer = optimizer_for(Recipe("x", optimizer=OptimizerSpec(layer_decay=0.75)), ours)
    rates = {id(p): group["rate"] for group in optimizer.param_groups for p in group["params"]}
    assert rates == pytest.approx({key: wanted.get(key, 1.0) for key in rates}) and len({*rates.values()}) > 8


@pytest.mark.parametrize(
    ("ours", "theirs"), [(("resnet", "18"), "resnet18"), (("efficientnet-lite0", ""), "tf_efficientnet_lite0")]
)
def test_our_networks_are_counted_as_their_twins_of_timm(ours: tuple[str, str], theirs: str) -> None:
    timm = pytest.importorskip("timm")
    from timm.models import group_parameters

    twin = timm.create_model(theirs, pretrained=False, num_classes=4)
    wanted = group_parameters(twin, twin.group_matcher(coarse=False), reverse=True)
    module = build_model(NetworkSpec(ours[0], ours[1]) if ours[1] else NetworkSpec(ours[0]), (3, 64, 64), 4)
    found = depths(module)
    assert {name: found[name] for name in found if name in wanted} == {k: v for k, v in wanted.items() if k in found}
    assert len(found.keys() & wanted.keys()) > 0.9 * len(wanted)


def test_rates_fall_with_depth() -> None:
    network = resnet()
    optimizer = optimizer_for(Recipe("x", optimizer=OptimizerSpec(layer_decay=0.75)), network)
    rates = {id(p): group["rate"] for group in optimizer.param_groups for p in group["params"]}
    assert rates[id(network.get_parameter("head.weight"))] == 1
    assert rates[id(network.get_parameter("body.layer4.1.conv1.weight"))] == 0.75
    assert rates[id(network.get_parameter("body.conv1.weight"))] == 0.75**9
    assert [group["rate"] for group in optimizer_for(Recipe("x"), network).param_groups] == [1.0]


@pytest.mark.parametrize("name", ["sgd", "torch.sgd"])
def test_a_files_multiplier_is_a_multiple_of_the_rate(name: str) -> None:
    """As Caffe's lr_mult: 2 for a bias, 0 for what is frozen."""
    draft, rng = Draft(), np.random.default_rng(0)
    x = draft.input((3,), "x")
    for multipliers in ((0.0, 0.0), (1.0, 2.0)):
        weight, bias = (
            draft.parameter(rng.normal(size=shape).astype(np.float32), multiplier)
            for shape, multiplier in zip(((3, 3), (3,)), multipliers, strict=True)
        )
        x = draft.add("linear", [x, weight, bias], contracted=1, transposed=True)
    module = build(draft.finish([x], "a test"))
    before = {key: tensor.clone() for key, tensor in module.state_dict().items()}
    optimizer = optimizer_for(Recipe("x", optimizer=OptimizerSpec(name=name)), module)
    module(torch.ones(2, 3)).sum().backward()
    gradients = {key: parameter.grad for key, parameter in module.named_parameters() if parameter.grad is not None}
    gradients = {key: gradient.clone() for key, gradient in gradients.items()}
    take_step(optimizer, FULL, 2)
    for key, tensor in module.state_dict().items():
        moved = before[key] - tensor
        wanted = gradients[key] * 0.1 * (2 if key.endswith("bias") else 1) if key in gradients else torch.zeros(3)
        torch.testing.assert_close(moved, wanted.expand_as(moved))
    assert len(gradients) == 2


def test_what_freeze_means() -> None:
    network = resnet("mlp")
    assert frozen_layers(network, "none") == set()
    body = frozen_layers(network, "all")
    assert "body.layer4.1.bn2" in body and not {"head", "head_hidden"} & body
    for name in ("layer1", "body.layer1"):
        some = frozen_layers(network, name)
        assert {"body.conv1", "body.bn1", "body.layer1.0.conv1", "body.layer1.1.bn2"} <= some
        assert not any("layer2" in layer for layer in some)
    assert "body.layer1.1.bn2" not in frozen_layers(network, "layer1.1.conv1")
    with pytest.raises(UsageError, match=r"model\.freeze: unknown layer 'layer5'; did you mean 'layer4'"):
        frozen_layers(network, "layer5")
    with pytest.raises(UsageError, match=r"model\.freeze=head: nothing is left to train"):
        freeze_for_good(network, ModelSpec(start="x", freeze="head"))
    plain = build_model(NetworkSpec("squeezenet", "tiny"), (3, 32, 32), 4)
    assert not any(name.startswith("classifier") for name in frozen_layers(plain, "all"))


def test_a_list_of_what_is_frozen_goes_by_epochs() -> None:
    spec = ModelSpec(start="x", freeze="all*2:layer1:none")
    assert [spec.frozen_in(epoch) for epoch in range(5)] == ["all", "all", "layer1", "none", "none"]
    for wrong in ("", "all:", "all*0", "all*x"):
        with pytest.raises(UsageError, match=r"model\.freeze must be"):
            ModelSpec(start="x", freeze=wrong)
    with pytest.raises(UsageError, match=r"model\.freeze is for a training that starts"):
        ModelSpec(freeze="all")


def test_state_that_a_frozen_group_has_not_yet_is_not_missed() -> None:
    network, recipe = resnet(), Recipe("x", model=ModelSpec(start="x", freeze="all:none"))
    optimizer = optimizer_for(recipe, network)
    assert [group["frozen_in"] for group in optimizer.param_groups] == [("all",), ()]
    optimizer.param_groups[0]["is_frozen"] = True
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    network.eval()(torch.randn(2, 3, 32, 32)).sum().backward()
    take_step(optimizer, FULL, 2)
    moved = {key for key, tensor in network.state_dict().items() if not torch.equal(tensor, before[key])}
    assert moved == {"head.bias", "head.weight"}
    state = state_tensors(optimizer)
    assert len(state) == 2
    load_state_tensors(optimizer_for(recipe, network), state)


def test_each_epoch_trains_what_it_should(photographs: Any, tmp_path: Any) -> None:
    """And a killed training goes on to the same bits, whatever was frozen when it was."""
    from convolve.recipes import resolve
    from convolve.run import train
    from test_starting import LEARNING, saved

    start = saved("resnet", tmp_path / "start")
    seen: dict[int, dict[str, torch.Tensor]] = {}
    recipe = resolve(
        replace(LEARNING, run=replace(LEARNING.run, epochs=3)),
        {"model.start": str(start), "model.freeze": "all:layer1:none", "optimizer.layer_decay": 0.5},
    )

    def keep(model: Any, epoch: int) -> None:
        seen[epoch] = {key: tensor.clone() for key, tensor in model.module.state_dict().items()}

    whole = train(recipe, data=str(photographs), out=tmp_path / "whole", each_epoch=keep)
    moved = [changed(seen[epoch], seen[epoch + 1]) for epoch in (1, 2)]
    assert not any(key.startswith(("body.conv1", "body.bn1", "body.layer1")) for key in moved[0])
    assert {"body.layer2.0.conv1.weight", "body.layer2.0.bn1.running_mean", "head.weight"} <= moved[0]
    assert {"body.conv1.weight", "body.bn1.running_mean"} <= moved[1]
    first = changed(dict(load_start(tmp_path / "whole")), seen[1])
    assert first == {"head.weight", "head.bias"}

    def stop(event: str, values: dict[str, Any]) -> None:
        if event == "epoch" and values["epoch"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(BaseException, match="again"):
        train(recipe, data=str(photographs), out=tmp_path / "killed", progress=stop)
    resumed = train(recipe, data=str(photographs), out=tmp_path / "killed")
    assert not changed(whole.model.module.state_dict(), resumed.model.module.state_dict())


def load_start(run: Any) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(run / "from" / "weights.safetensors")


def changed(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> set[str]:
    return {key for key, tensor in one.items() if not torch.equal(tensor, other[key])}


def test_statistics_are_kept_where_the_recipe_says_so(photographs: Any, tmp_path: Any) -> None:
    from convolve.recipes import resolve
    from convolve.run import train
    from test_starting import LEARNING, saved

    start = saved("resnet", tmp_path / "start")
    recipe = resolve(
        replace(LEARNING, run=replace(LEARNING.run, epochs=1)),
        {"model.start": str(start), "model.keep_batch_norm": True},
    )
    run = train(recipe, data=str(photographs), out=tmp_path / "run")
    moved = changed(load_start(tmp_path / "run"), run.model.module.state_dict())
    assert "body.bn1.weight" in moved and not any("running" in key or "tracked" in key for key in moved)
