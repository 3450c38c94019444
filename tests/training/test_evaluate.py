"""Evaluation is exact over any cut into batches; errors are counted as scikit-learn would count them by hand."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from convolve.training.evaluate import Evaluation, evaluate
from convolve.training.extras.ema import Ema

CPU = torch.device("cpu")


def test_any_cut_gives_the_same_numbers() -> None:
    generator = torch.Generator().manual_seed(0)
    images, labels = torch.randn(23, 7, generator=generator), torch.randint(0, 6, (23,), generator=generator)
    module = nn.Sequential(nn.Linear(7, 6), nn.Dropout(0.5)).train()
    whole = evaluate(module, [(images, labels)], CPU)
    cut = evaluate(module, zip(images.split(5), labels.split(5), strict=True), CPU)
    assert torch.equal(whole.labels_N, cut.labels_N)
    torch.testing.assert_close(whole.probabilities_NK, cut.probabilities_NK)
    assert whole.loss == pytest.approx(cut.loss, rel=1e-6)
    assert module.training

    logits = images.numpy() @ module[0].weight.detach().numpy().T + module[0].bias.detach().numpy()
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert whole.loss == pytest.approx(-np.log(probabilities[np.arange(23), labels]).mean(), rel=1e-5)
    assert whole.error == np.mean(logits.argmax(1) != labels.numpy())
    ranks = (logits > logits[np.arange(23), labels][:, None]).sum(1)
    assert whole.error_top5 == pytest.approx(np.mean(ranks >= 5))


def test_top5_has_no_meaning_with_five_classes() -> None:
    assert Evaluation(torch.zeros(1, dtype=torch.int64), torch.full((1, 5), 0.2), 0.0).error_top5 is None


def test_weight_average_follows_its_formula() -> None:
    source = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(source.weight)
    average = Ema(source, horizon_samples=100.0)
    expected, seen = 0.0, 0
    for value in (1.0, 2.0, 5.0, -3.0):
        seen += 50
        nn.init.constant_(source.weight, value)
        average.update(source, seen, 50)
        expected += (1 - math.exp(-50 / min(100.0, seen / 10))) * (value - expected)
    assert average.network.weight.item() == pytest.approx(expected, rel=1e-6)
    assert not average.network.weight.requires_grad
