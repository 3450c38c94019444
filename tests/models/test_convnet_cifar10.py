"""The CIFAR-10 networks against the real CNTK 2.7 (tests/golden/train): outputs, and eight minibatches of training."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from convolve.models.convnet_cifar10 import VARIANTS, ConvNetCifar10
from convolve.models.lrn import LocalResponseNorm
from convolve.recipes import load_recipe
from convolve.specs.schedule import ScheduleSpec
from convolve.training.optimizers import build_optimizer, take_step
from convolve.training.schedule import step_size

GOLDEN = Path(__file__).parents[1] / "golden" / "train"


@pytest.mark.parametrize("variant", ["python", "brainscript"])
@pytest.mark.parametrize("lrn", [False, True], ids=["plain", "with LRN"])
def test_trains_as_cntk_does(variant: str, lrn: bool) -> None:
    with np.load(GOLDEN / f"cifar10{'_lrn' if lrn else ''}_{variant}.npz") as file:
        golden = {key: torch.from_numpy(file[key]) for key in file}
    widths = replace(VARIANTS["tiny"], pool_padding=VARIANTS[variant].pool_padding)
    norm = LocalResponseNorm(9, alpha=0.001, beta=0.75, k=1.0) if lrn else None
    network = ConvNetCifar10(widths, norm, (3, 16, 16), class_count=5, dropout=0.0)
    network.double()  # eight steps make a hundred times as much of a rounding: only CNTK's are left to compare with
    network.load_state_dict({name: golden[f"init_{name}"] for name in network.state_dict()})
    images_NCHW, labels_N = golden["X"].double(), golden["labels"]
    assert_close(network(images_NCHW), golden["logits"], "logits")

    spec = load_recipe("cifar10").optimizer
    schedule = ScheduleSpec(learning_rates=(golden["lr_per_sample"].item(),), reference_batch_size=1)
    optimizer = build_optimizer(spec, list(network.parameters()))
    batches = list(zip(images_NCHW.split(8), labels_N.split(8), strict=True)) * 2
    for (images, labels), cntk_loss in zip(batches, golden["loss"], strict=True):
        loss = F.cross_entropy(network(images), labels)
        assert_close(loss, cntk_loss, "loss")
        loss.backward()
        take_step(optimizer, step_size(spec, schedule, 0, len(labels), len(labels_N), len(labels_N)), len(labels))
        optimizer.zero_grad()
    for name, parameter in network.named_parameters():
        assert_close(parameter, golden[f"final_{name}"], name)
    assert_close(network(images_NCHW), golden["final_logits"], "logits after training")


def assert_close(ours: torch.Tensor, cntk: torch.Tensor, what: str) -> None:
    """max|a - b| <= 1e-5 * max|b|."""
    error, size = (ours.detach() - cntk).abs().max().item(), cntk.abs().max().item()
    assert error <= 1e-5 * size, f"{what}: {error:.1e} of {size:.1e}"
