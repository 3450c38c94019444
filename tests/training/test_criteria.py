"""The criteria and the figures of each target, against formulas and numbers that scikit-learn's documentation gives."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from convolve.errors import UsageError
from convolve.recipe import Recipe, with_values
from convolve.records import Target, TargetKind
from convolve.specs.run import RunSpec
from convolve.training.criteria import CRITERIA, criterion_for, in_units, standardized
from convolve.training.evaluate import Evaluation, evaluate
from convolve.training.metrics import average_precision, best_thresholds, class_counts

CLASSES, NUMBER = Target(TargetKind.CLASSES), Target(TargetKind.NUMBER)
CPU = torch.device("cpu")


def test_soft_labels_of_one_class_go_the_same_road_as_hard_ones() -> None:
    logits_NK, labels_N = (
        torch.randn(6, 4, generator=torch.Generator().manual_seed(0)),
        torch.tensor([0, 1, 2, 3, 0, 1]),
    )
    criterion = criterion_for(RunSpec(label_smoothing=0.1), Target())
    hard_NK = F.one_hot(labels_N, 4).float()
    torch.testing.assert_close(criterion.loss(logits_NK, labels_N), criterion.loss(logits_NK, hard_NK))
    assert criterion.counts is not None
    assert torch.equal(criterion.counts(logits_NK, labels_N), criterion.counts(logits_NK, hard_NK))
    mixed_NK = 0.7 * hard_NK + 0.3 * hard_NK.flip(0)
    both = [criterion_for(RunSpec(), Target()).loss(logits_NK, each) for each in (hard_NK, hard_NK.flip(0), mixed_NK)]
    torch.testing.assert_close(both[2], 0.7 * both[0] + 0.3 * both[1])
    assert torch.equal(criterion.counts(logits_NK, mixed_NK), criterion.counts(logits_NK, hard_NK))


def test_focal_loss_is_lins() -> None:
    """-(1 - p)^2 log p of the class (their equation 4); cross-entropy without the exponent, label smoothing too."""
    logits_NK, labels_N = torch.randn(6, 4, generator=torch.Generator().manual_seed(0)).double(), torch.arange(6) % 4
    p_N = logits_NK.softmax(1)[torch.arange(6), labels_N]
    focal = criterion_for(RunSpec(criterion="focal"), Target()).loss(logits_NK, labels_N)
    torch.testing.assert_close(focal, -((1 - p_N) ** 2) * p_N.log())
    for label in (labels_N, F.one_hot(labels_N, 4).double().lerp(F.one_hot(labels_N.flip(0), 4).double(), 0.3)):
        plain, same = (
            criterion_for(RunSpec(criterion=name, focal_gamma=0, label_smoothing=0.2), Target()).loss(logits_NK, label)
            for name in ("cross_entropy", "focal")
        )
        torch.testing.assert_close(plain, same)
    sure_NK = torch.tensor([[60.0, 0.0], [0.0, 0.0]], requires_grad=True)
    criterion_for(RunSpec(criterion="focal", focal_gamma=0.5), Target()).loss(
        sure_NK, torch.tensor([0, 1])
    ).sum().backward()
    assert sure_NK.grad is not None and sure_NK.grad.isfinite().all() and sure_NK.grad[1].abs().min() > 0


def test_weights_of_classes_adjust_the_logits() -> None:
    """Menon's equation 10 with a prior of 1 / weight; what is learned so answers as if classes counted so much."""
    logits_NK, labels_N = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 0, 1])
    prior_K = torch.tensor([0.5, 0.125, 0.25])
    found = criterion_for(RunSpec(), Target(), tuple((1 / prior_K).tolist())).loss(logits_NK, labels_N)
    by_hand = (prior_K * logits_NK.exp()).sum(1).log() - logits_NK[range(5), labels_N] - prior_K[labels_N].log()
    torch.testing.assert_close(found, by_hand)
    soft_NK = F.one_hot(labels_N, 3).float()
    torch.testing.assert_close(criterion_for(RunSpec(), Target(), (2.0, 8.0, 4.0)).loss(logits_NK, soft_NK), by_hand)
    # Of images that cannot be told apart, 3 of 4 in the first class, each class counting as much: an even answer.
    free_K, labels_N = torch.zeros(2, requires_grad=True), torch.tensor([0, 0, 0, 1])
    for _ in range(300):
        criterion_for(RunSpec(), Target(), (1 / 3, 1.0)).loss(free_K.expand(4, 2), labels_N).mean().backward()
        free_K.data -= free_K.grad
        free_K.grad = None
    torch.testing.assert_close(free_K.softmax(0), torch.tensor([0.5, 0.5]), rtol=0, atol=1e-3)


def test_several_classes_cost_as_much_as_each_by_itself() -> None:
    logits_NK, labels_NK = torch.tensor([[0.0, 2.0, -1.0]]), torch.tensor([[1.0, 0.0, 0.3]])
    loss = criterion_for(RunSpec(), CLASSES).loss(logits_NK, labels_NK)
    p = 1 / (1 + np.exp(-logits_NK.numpy()))
    by_hand = -(labels_NK.numpy() * np.log(p) + (1 - labels_NK.numpy()) * np.log(1 - p)).sum()
    assert loss.tolist() == pytest.approx([by_hand], rel=1e-6)
    assert criterion_for(RunSpec(), CLASSES).counts is None


@pytest.mark.parametrize(("name", "expected"), [("square_error", 4 + 1), ("l1", 2 + 1)])
def test_numbers_are_compared_in_the_units_of_the_network(name: str, expected: float) -> None:
    target = Target(TargetKind.NUMBER, mean=(100.0, 0.0), spread=(10.0, 1.0))
    criterion = CRITERIA[name](RunSpec(criterion=name), target)
    assert criterion.loss(torch.tensor([[0.0, 1.0]]), torch.tensor([[120.0, 2.0]])).tolist() == [expected]
    numbers = torch.tensor([[120.0, 2.0]])
    assert torch.equal(in_units(standardized(numbers, target), target), numbers)
    assert CRITERIA[name](RunSpec(), NUMBER).loss(torch.tensor([[1.0]]), torch.tensor([[3.0]])).tolist() == [
        4.0 if name == "square_error" else 2.0
    ]


def test_average_precision_is_scikit_learns() -> None:
    """The example of `sklearn.metrics.average_precision_score`, and ties."""
    is_N, score_N = np.array([False, False, True, True]), np.array([0.1, 0.4, 0.35, 0.8], np.float32)
    assert average_precision(is_N, score_N) == pytest.approx(0.8333333333333333)
    assert average_precision(is_N, np.full(4, 0.5, np.float32)) == 0.5
    assert math.isnan(average_precision(np.zeros(4, bool), score_N))


def brute_force_threshold(is_N: np.ndarray, p_N: np.ndarray) -> float:
    """The largest F1 that any threshold reaches."""
    return max(2 * (is_N & (p_N >= t)).sum() / ((p_N >= t).sum() + is_N.sum()) for t in p_N)


def test_thresholds_reach_the_largest_f1_of_each_class() -> None:
    rng = np.random.default_rng(1)
    labels_NK = torch.from_numpy((rng.random((60, 3)) < [0.1, 0.5, 0.9]).astype(np.float32))
    p_NK = torch.from_numpy((0.3 * labels_NK.numpy() + 0.7 * rng.random((60, 3))).astype(np.float32))
    thresholds = best_thresholds(labels_NK.numpy(), p_NK.numpy())
    found = class_counts(labels_NK.numpy(), p_NK.numpy(), Target(TargetKind.CLASSES, thresholds))
    f1_K = found.f1_K
    wanted = [brute_force_threshold(labels_NK.numpy()[:, k] > 0, p_NK.numpy()[:, k]) for k in range(3)]
    assert f1_K.tolist() == pytest.approx(wanted)
    assert best_thresholds(np.zeros((4, 1), np.float32), np.zeros((4, 1), np.float32)) == (0.5,)


def test_evaluation_of_numbers_is_in_their_units() -> None:
    target = Target(TargetKind.NUMBER, mean=(10.0,), spread=(2.0,))
    numbers_N1 = torch.tensor([[8.0], [10.0], [14.0]])
    outputs_N1 = torch.tensor([[-1.0], [0.5], [2.0]])  # 8, 11, 14
    found = evaluate(torch.nn.Identity(), [(outputs_N1, numbers_N1)], CPU, target=target)
    assert found.answers_NK.tolist() == [[8.0], [11.0], [14.0]] and found.loss == pytest.approx(0.25 / 3)
    mean = 32 / 3
    r2 = 1 - 1 / sum((y - mean) ** 2 for y in (8, 10, 14))
    assert found.figures == pytest.approx(
        {"r2": r2, "mean_absolute_error": 1 / 3, "root_mean_squared_error": math.sqrt(1 / 3)}
    )


def test_views_of_several_classes_are_averaged_as_probabilities() -> None:
    outputs = torch.tensor([[0.0, 3.0], [2.0, -3.0]])
    found = evaluate(torch.nn.Identity(), [(outputs, torch.tensor([[1.0, 0.0]]))], CPU, views=2, target=CLASSES)
    p_K = torch.sigmoid(outputs).mean(0)
    torch.testing.assert_close(found.probabilities_NK[0], p_K)
    assert found.loss == pytest.approx(float(-p_K[0].log() - (1 - p_K[1]).log()), rel=1e-6)


def test_figures_of_several_classes() -> None:
    labels_NK = torch.tensor([[1.0, 0, 0], [1, 1, 0], [0, 0, 0], [0, 1, 0]])
    p_NK = torch.tensor([[0.9, 0.2, 0.1], [0.8, 0.6, 0.2], [0.1, 0.7, 0.1], [0.2, 0.4, 0.6]])
    found = Evaluation(labels_NK, p_NK, 0.0, CLASSES).figures
    assert found["mean_average_precision"] == pytest.approx((1 + (1 / 2 + 2 / 3) / 2) / 2)  # of the two that occur
    assert (found["precision"], found["recall"]) == (3 / 5, 3 / 4)
    assert found["exact_match"] == 0.5


def test_a_criterion_must_fit_the_target() -> None:
    with pytest.raises(UsageError, match=r"run\.criterion=l1 is not for data\.target=class; choose cross_entropy"):
        with_values(Recipe("r"), {"run.criterion": "l1"})
