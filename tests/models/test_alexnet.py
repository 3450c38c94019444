"""The AlexNets: published sizes, CNTK's initial values, and the network of CNTK's BrainScript text."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import nn

from convolve.errors import UsageError
from convolve.graph.build import build
from convolve.importers.brainscript.config import read_config
from convolve.importers.brainscript.criterion import trained
from convolve.importers.brainscript.lower import lower
from convolve.importers.brainscript.network import read_network
from convolve.models import bare_model, build_model
from convolve.models.alexnet import VARIANTS, last_map
from convolve.models.summary import summarize
from convolve.specs.model import ModelSpec

TEXT = Path(__file__).parents[2] / "examples" / "BrainScript" / "AlexNet_ImageNet.cntk"
NAMES = ("alexnet", "alexnet-python", "alexnet-batch-norm")


@pytest.mark.parametrize(
    ("name", "parameters", "maps", "gflop"),
    [
        ("alexnet", 62_003_496, [55, 27, 27, 13, 13, 13, 13, 6], 5.7),
        ("alexnet-python", 75_634_984, [55, 28, 28, 14, 14, 14, 14, 7], 6.4),
        # Without the biases of the convolutions, 1,312, and with a weight and a bias for each of their maps.
        ("alexnet-batch-norm", 62_003_496 - 1312 + 2 * 1312, [55, 27, 27, 13, 13, 13, 13, 6], 5.7),
    ],
)
def test_published_sizes(name: str, parameters: int, maps: list[int], gflop: float) -> None:
    summary = summarize(bare_model(ModelSpec(name), (3, 227, 227), 1000), (3, 227, 227))
    assert summary.parameters == parameters
    assert [layer.output_shape[-1] for layer in summary.layers if layer.kind in ("Conv2d", "MaxPool2d")] == maps
    assert summary.training_flops_per_image == pytest.approx(gflop * 1e9, rel=0.01)
    assert [layer.output_shape for layer in summary.layers if layer.kind == "Linear"] == [(4096,), (4096,), (1000,)]


@pytest.mark.parametrize("name", ["alexnet", "alexnet-python"])
def test_initial_values_are_cntks(name: str) -> None:
    module = build_model(ModelSpec(name, "tiny"), (3, 227, 227), 500)
    deviations = {"conv1": 0.01, "conv4": 0.01, "fc6": 0.005, "fc8": 0.01}  # large enough to be estimated
    for layer, deviation in deviations.items():
        weight = module.get_parameter(f"{layer}.weight")
        assert weight.std().item() == pytest.approx(deviation, rel=0.1), layer
        assert abs(weight.mean().item()) < 0.1 * deviation
    biases = {key.partition(".")[0]: p for key, p in module.named_parameters() if key.endswith("bias")}
    with_tenth = {layer for layer, bias in biases.items() if torch.equal(bias, torch.full_like(bias, 0.1))}
    assert with_tenth == {"conv2", "conv4", "conv5", "fc6", "fc7"}
    assert not any(bias.any() for layer, bias in biases.items() if layer not in with_tenth)


def test_computes_what_the_text_of_cntk_says(tmp_path: Path) -> None:
    """CNTK's BrainScript configuration with the widths of the tiny twin; its importer is tested against CNTK itself."""
    text, tiny = TEXT.read_text(), VARIANTS["tiny"]
    for wide, narrow in zip(VARIANTS[""].maps, tiny.maps, strict=True):
        text = re.sub(rf"(conv\d = Conv )\{{{wide},", rf"\1{{{narrow},", text)
    text = text.replace("Dense {4096,", f"Dense {{{tiny.dense},").replace("labelDim = 1000", "labelDim = 7")
    (tmp_path / "tiny.cntk").write_text(text)
    root, folders = read_config([str(tmp_path / "tiny.cntk")])
    block = root.block("TrainNetwork")
    assert block is not None
    network = block.raw("BrainScriptNetworkBuilder")
    assert network is not None
    scores = trained(read_network(network, folders)).outputs[0]
    theirs = build(lower([scores], torch.Generator().manual_seed(1), "BrainScript")).eval()

    ours = build_model(ModelSpec("alexnet", "tiny"), (3, 227, 227), 7).eval()
    trainable = [parameter for parameter in theirs.parameters() if parameter.requires_grad]
    for mine, parameter in zip(ours.parameters(), trainable, strict=True):
        parameter.data.copy_(mine.data * 8)  # or the scores would hardly depend on the image
        mine.data.mul_(8)
    images_NCHW = torch.rand(2, 3, 227, 227, generator=torch.Generator().manual_seed(2)) * 255
    expected_NK = theirs(images_NCHW)
    assert (expected_NK[0] - expected_NK[1]).abs().max() > 1e-3 * expected_NK.abs().max()
    torch.testing.assert_close(ours(images_NCHW - 114), expected_NK, rtol=1e-4, atol=1e-4)


def test_images_of_other_sizes_fit_batch_norm() -> None:
    module = build_model(ModelSpec("alexnet-batch-norm", "tiny"), (3, 131, 131), 10)
    shapes = {}
    for side in (67, 99, 131, 200):
        hook = module.get_submodule("grid").register_forward_hook(
            lambda _, given, out: shapes.update(last=(*given, out))
        )
        logits_NK = module(torch.rand(2, 3, side, side))
        hook.remove()
        given, adapted = shapes["last"]
        assert logits_NK.shape == (2, 10)
        assert adapted.shape[-2:] == (3, 3)
        assert torch.equal(given, adapted) == (side == 131)


@pytest.mark.parametrize("name", NAMES)
def test_a_step_reaches_every_parameter(name: str) -> None:
    module = build_model(ModelSpec(name, "tiny", dropout=(0.0,)), (3, 99, 99), 10)
    images_NCHW = torch.randn(4, 3, 99, 99, generator=torch.Generator().manual_seed(0)) * 50
    nn.functional.cross_entropy(module(images_NCHW), torch.arange(4)).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in module.parameters())
    assert sum(bool(p.grad.any()) for p in module.parameters() if p.grad is not None) > 12


@pytest.mark.parametrize("name", NAMES)
def test_what_is_too_small_or_unknown(name: str) -> None:
    assert last_map(67, 0) == 1
    with pytest.raises(UsageError, match=r"nothing of 10 rows or columns; set data\.image_size to 67"):
        build_model(ModelSpec(name, "tiny"), (3, 10, 200), 10)
    with pytest.raises(UsageError, match="did you mean 'tiny'"):
        build_model(ModelSpec(name, "tinny"), (3, 227, 227), 10)
