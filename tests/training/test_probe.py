"""The head on frozen features, beside what NumPy and plain gradient steps in float64 come to."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from convolve.errors import DataError, TrainingError
from convolve.records import TargetKind
from convolve.training.probe import fit

CLASSES = 3


def clouds(images: int, width: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """(features_ND of classes that overlap, of unlike spread in each direction; labels_N)."""
    generator = torch.Generator().manual_seed(seed)
    labels_N = torch.arange(images) % CLASSES
    centers_KD = torch.randn(CLASSES, width, generator=generator)
    noise_ND = torch.randn(images, width, generator=generator)
    spread_D = torch.logspace(0, -2, width)
    return (centers_KD[labels_N] + 1.5 * noise_ND) * spread_D + 5, labels_N


def plain_optimum(features_ND: Tensor, targets_NK: Tensor, l2: float) -> tuple[Tensor, Tensor]:
    """The minimum of the mean cross-entropy plus l2 / 2 times the squared weights of features of mean square 1."""
    x_ND = features_ND.double() - features_ND.double().mean(0)
    scale = x_ND.square().sum(1).mean().sqrt()
    weight_KD = torch.zeros(targets_NK.shape[1], x_ND.shape[1], dtype=torch.float64, requires_grad=True)
    bias_K = torch.zeros(targets_NK.shape[1], dtype=torch.float64, requires_grad=True)
    steps = torch.optim.LBFGS(
        [weight_KD, bias_K], max_iter=3000, tolerance_grad=1e-9, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def objective() -> Tensor:
        steps.zero_grad()
        logits_NK = x_ND / scale @ weight_KD.T + bias_K
        loss = F.cross_entropy(logits_NK, targets_NK.double()) + l2 / 2 * weight_KD.square().sum()
        loss.backward()
        return loss

    steps.step(objective)
    weight_KD = weight_KD.detach() / scale
    return weight_KD, bias_K.detach() - weight_KD @ features_ND.double().mean(0)


@pytest.mark.parametrize(("images", "width"), [(150, 20), (40, 90)])
@pytest.mark.parametrize("l2", [1e-1, 1e-3])
def test_it_is_the_regularized_optimum(images: int, width: int, l2: float) -> None:
    features_ND, labels_N = clouds(images, width)
    probe = fit(features_ND, labels_N, l2=l2)
    weight_KD, bias_K = plain_optimum(features_ND, F.one_hot(labels_N, CLASSES), l2)
    expected = (features_ND.double() @ weight_KD.T + bias_K).softmax(1)
    found = (features_ND @ probe.weight_KD.T + probe.bias_K).softmax(1)
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=5e-3)


def test_what_is_left_out_is_not_seen() -> None:
    """Labels that say nothing are guessed by the fit on all images, and missed by those that were to learn them."""
    features_ND, _ = clouds(60, 300)
    labels_N = torch.randint(0, CLASSES, (60,), generator=torch.Generator().manual_seed(5))
    probe = fit(features_ND, labels_N, l2=1e-5)
    all_right = (features_ND @ probe.weight_KD.T + probe.bias_K).argmax(1) == labels_N
    assert all_right.all()
    assert (probe.out_of_fold_NK.argmax(1) == labels_N).float().mean() < 0.6
    torch.testing.assert_close(probe.out_of_fold_NK.exp().sum(1), torch.ones(60))


def test_copies_in_one_group_do_not_flatter() -> None:
    features_ND, _ = clouds(30, 200)
    labels_N = torch.randint(0, CLASSES, (30,), generator=torch.Generator().manual_seed(5))
    twice_ND, twice_N = features_ND.repeat(2, 1), labels_N.repeat(2)
    groups_N = np.tile(np.arange(30), 2)
    alone, together = fit(twice_ND, twice_N), fit(twice_ND, twice_N, groups_N)
    loss = [float(F.nll_loss(probe.out_of_fold_NK, twice_N)) for probe in (alone, together)]
    assert loss[0] < 0.5 < loss[1]
    assert (together.fold_N[:30] == together.fold_N[30:]).all()


def test_the_strength_follows_the_noise() -> None:
    clean_ND, labels_N = clouds(300, 30)
    noisy_N = torch.where(torch.rand(300, generator=torch.Generator().manual_seed(1)) < 0.5, labels_N.roll(1), labels_N)
    assert fit(clean_ND * torch.linspace(1, 3, 30), labels_N).l2 < fit(clean_ND, noisy_N).l2


def test_numbers_come_as_from_ridge_regression() -> None:
    features_ND, _ = clouds(80, 10)
    numbers_N1 = features_ND[:, :1] * 3 + torch.randn(80, 1, generator=torch.Generator().manual_seed(1))
    l2 = 1e-2
    probe = fit(features_ND, numbers_N1, kind=TargetKind.NUMBER, l2=l2)
    x_ND, y_N = features_ND.double().numpy(), numbers_N1[:, 0].double().numpy()
    centered_ND = x_ND - x_ND.mean(0)
    scale2 = (centered_ND**2).sum(1).mean()
    ridge_D = np.linalg.solve(centered_ND.T @ centered_ND / 80 + l2 * scale2 * np.eye(10), centered_ND.T @ y_N / 80)
    np.testing.assert_allclose(probe.weight_KD[0].numpy(), ridge_D, rtol=0.02, atol=0.01)


def test_several_classes_are_learned_each_by_itself() -> None:
    features_ND, labels_N = clouds(120, 20)
    one_hot_NK = F.one_hot(labels_N, CLASSES).float()
    probe = fit(features_ND, torch.cat([one_hot_NK, one_hot_NK[:, :1]], 1), kind=TargetKind.CLASSES, l2=1e-3)
    torch.testing.assert_close(probe.weight_KD[0], probe.weight_KD[3], rtol=1e-3, atol=1e-4)
    assert ((probe.out_of_fold_NK[:, 0] > np.log(0.5)) == (labels_N == 0)).float().mean() > 0.8


def test_a_class_that_counts_more_is_found_more_often() -> None:
    features_ND, labels_N = clouds(200, 4)
    rare_N = torch.cat([torch.where(labels_N > 0)[0], torch.where(labels_N == 0)[0][:6]])
    counts = [
        int((fit(features_ND[rare_N], labels_N[rare_N], weights_K=w).out_of_fold_NK.argmax(1) == 0).sum())
        for w in (None, torch.tensor([10.0, 1.0, 1.0]))
    ]
    assert counts[0] < counts[1]


def test_the_same_arguments_give_the_same_bits() -> None:
    features_ND, labels_N = clouds(90, 40)
    one, other = (fit(features_ND, labels_N) for _ in range(2))
    assert torch.equal(one.weight_KD, other.weight_KD)
    assert torch.equal(one.out_of_fold_NK, other.out_of_fold_NK)


def test_images_that_are_all_alike_leave_the_frequencies() -> None:
    probe = fit(torch.ones(40, 7), torch.tensor([0, 1, 1, 1]).repeat(10))
    torch.testing.assert_close(probe.out_of_fold_NK.exp().mean(0), torch.tensor([0.25, 0.75]), rtol=0, atol=0.02)


def test_what_cannot_be_fitted_is_refused() -> None:
    features_ND, labels_N = clouds(10, 4)
    with pytest.raises(DataError, match="two images, or two groups"):
        fit(features_ND, labels_N, np.zeros(10, np.int64))
    features_ND[3, 1] = float("nan")
    with pytest.raises(TrainingError, match="not finite"):
        fit(features_ND, labels_N)
