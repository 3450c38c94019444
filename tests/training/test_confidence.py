"""Temperature, conformal quantiles and distances beside plain formulas and simulations."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from convolve.records import ConfidenceRecord
from convolve.training.confidence import (
    MOST_KEPT,
    Confidence,
    conformal_quantile,
    drift,
    fit_confidence,
    fit_temperature,
)
from convolve.training.outliers import SHRINKAGE, fit_outliers

# Legend: N images, K classes, D features.


def blobs(images: int, seed: int, classes: int = 3, width: int = 20) -> tuple[torch.Tensor, torch.Tensor]:
    """features_ND around one mean for each class, and labels_N."""
    random = torch.Generator().manual_seed(seed)
    means_KD = 4 * torch.randn(classes, width, generator=torch.Generator().manual_seed(99))
    labels_N = torch.arange(images) % classes
    return means_KD[labels_N] + torch.randn(images, width, generator=random), labels_N


def test_the_temperature_is_the_best_of_a_fine_grid() -> None:
    random = torch.Generator().manual_seed(0)
    logits_NK = 3 * torch.randn(500, 4, generator=random, dtype=torch.float64)
    labels_N = torch.multinomial((logits_NK / 2.5).softmax(1), 1, generator=random)[:, 0]
    grid = [math.exp(x) for x in np.linspace(-1, 2, 3001)]
    best = min(grid, key=lambda t: float(F.cross_entropy(logits_NK / t, labels_N)))
    found = fit_temperature(logits_NK.log_softmax(1), labels_N)
    assert found == pytest.approx(best, rel=0.02)  # one image more, of any class, is 0.2 % of them
    assert found == pytest.approx(2.5, rel=0.2)


def test_answers_that_are_all_right_are_not_made_sure_without_limit() -> None:
    log_NK = torch.tensor([[0.9, 0.1]] * 5, dtype=torch.float64).log()
    temperature = fit_temperature(log_NK, torch.zeros(5, dtype=torch.int64))
    assert float((log_NK / temperature).softmax(1)[0, 0]) == pytest.approx(1 - 0.5 / 6, abs=1e-3)  # Platt's (N + ..)


def test_the_conformal_quantile_holds_for_one_more_number() -> None:
    """Over many draws, a new number is at most the quantile with the probability that was asked for."""
    random = torch.Generator().manual_seed(1)
    numbers = torch.rand(4000, 31, generator=random)
    quantiles = [conformal_quantile(row[:30].sort().values, 0.9) for row in numbers]
    below = float(np.mean([float(row[30]) <= found for row, found in zip(numbers, quantiles, strict=True)]))
    assert below + 0.015 >= 0.9 and below <= 28 / 31 + 0.015  # rank 28 of 30: three standard deviations of chance
    assert conformal_quantile(torch.arange(18.0), 0.95) is None  # 19 numbers are needed
    assert conformal_quantile(torch.arange(19.0), 0.95) == 18
    assert conformal_quantile(torch.arange(19.0), 1.0) is None


def test_many_numbers_are_kept_as_quantiles() -> None:
    distances_N = torch.rand(100_000, generator=torch.Generator().manual_seed(2))
    record = ConfidenceRecord(1.0, images=100_000, learned_from="validation")
    detector = fit_outliers(*blobs(30, 0))
    probabilities_NK = torch.stack([distances_N, 1 - distances_N], 1)
    found = fit_confidence(detector, probabilities_NK, torch.ones(100_000, dtype=torch.int64), distances_N, "folds")
    assert len(found.distances_M) == MOST_KEPT == len(found.scores_M)
    for part in (0.5, 0.9, 0.95, 0.99):
        within = float((distances_N <= (found.asked(part).record.farthest or 0)).float().mean())
        assert within == pytest.approx(part, abs=0.002)
    assert found.record.images == record.images


def test_the_distance_is_that_of_mahalanobis() -> None:
    """Beside the inverse of the whole covariance, shrunk in the same way; all directions are kept where D is small."""
    features_ND, labels_N = blobs(300, 3, width=8)
    detector = fit_outliers(features_ND, labels_N).double()
    f_ND = F.normalize(features_ND).double().numpy()
    means_KD = np.stack([f_ND[labels_N.numpy() == k].mean(0) for k in range(3)])
    residuals_ND = f_ND - means_KD[labels_N.numpy()]
    covariance = residuals_ND.T @ residuals_ND / (300 - 3)
    values, vectors = np.linalg.eigh(covariance)
    values[:4] = values[:4].mean()  # half of the directions have variances of their own
    values = (1 - SHRINKAGE) * values + SHRINKAGE * values.mean()
    precision = vectors @ np.diag(1 / values) @ vectors.T
    new_ND, _ = blobs(50, 4, width=8)
    n_ND = F.normalize(new_ND).double().numpy()
    away_NKD = n_ND[:, None] - means_KD
    expected_N = np.sqrt(np.einsum("nkd,de,nke->nk", away_NKD, precision, away_NKD).min(1) / 8)
    np.testing.assert_allclose(detector(new_ND.double()).numpy(), expected_N, rtol=1e-4)


def test_strangers_are_farther_and_one_s_own_pass() -> None:
    detector = fit_outliers(*blobs(300, 5))
    held_out, strangers = detector(blobs(200, 6)[0]), detector(torch.randn(200, 20))
    limit = conformal_quantile(held_out.sort().values, 0.95)
    assert limit is not None
    assert float((detector(blobs(400, 7)[0]) <= limit).float().mean()) > 0.9
    assert float((strangers > limit).float().mean()) > 0.95


@pytest.mark.parametrize("images", [1, 2, 3, 7])
def test_few_images_blank_features_and_equal_ones_have_finite_distances(images: int) -> None:
    features_ND, labels_N = blobs(images, 8)
    for each in (features_ND, torch.zeros_like(features_ND), torch.ones_like(features_ND)):
        detector = fit_outliers(each, labels_N)
        assert detector(torch.cat([features_ND, torch.zeros(1, 20), torch.ones(1, 20)])).isfinite().all()


def test_the_same_features_give_the_same_detector_and_draw_nothing() -> None:
    state = torch.random.get_rng_state()
    first, second = (fit_outliers(*blobs(60, 9)) for _ in range(2))
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(first.buffers(), second.buffers(), strict=True))


def test_sets_cover_as_often_as_asked() -> None:
    random = torch.Generator().manual_seed(10)
    logits_NK = 2 * torch.randn(6000, 5, generator=random)
    labels_N = torch.multinomial(logits_NK.softmax(1), 1, generator=random)[:, 0]
    told_NK = (3 * logits_NK).softmax(1)  # a network that is too sure of itself
    known = fit_confidence(fit_outliers(*blobs(30, 0)), told_NK[:2000], labels_N[:2000], torch.rand(2000), "validation")
    calibrated_NK = (told_NK[2000:].log() / known.record.temperature).softmax(1)
    for coverage in (0.8, 0.9, 0.99):
        sets_NK = known.asked(coverage=coverage).sets(calibrated_NK)
        held = float(sets_NK.gather(1, labels_N[2000:, None]).float().mean())
        assert held == pytest.approx(coverage, abs=0.025)


def test_what_is_stored_comes_back() -> None:
    known = fit_confidence(
        fit_outliers(*blobs(90, 11)), torch.rand(40, 3).softmax(1), torch.arange(40) % 3, torch.rand(40), "validation"
    ).asked(0.9, 0.8)
    again = Confidence.of(known.record, known.tensors)
    features_ND, _ = blobs(5, 12)
    assert torch.equal(known.detector(features_ND), again.detector(features_ND))
    assert again.record == known.record and torch.equal(again.scores_M, known.scores_M)


def known(distances_N: torch.Tensor) -> Confidence:
    record = ConfidenceRecord(1.0, images=len(distances_N), learned_from="validation")
    return Confidence(record, fit_outliers(*blobs(30, 0)), distances_N.sort().values, torch.zeros(0))


def test_no_drift_is_seen_in_more_of_the_same() -> None:
    """Of 300 sets of new images like the old ones, about one in a hundred raises an alarm, by chance."""
    random = torch.Generator().manual_seed(13)
    sets = torch.randn(300, 180, generator=random)
    alarms = sum(drift(known(row[:100]), row[100:]).is_there for row in sets)
    assert alarms <= 8  # more than that has a probability below 1 %


@pytest.mark.parametrize("part", [0.15, 0.5, 1.0])
def test_strangers_among_many_and_a_shift_are_drift(part: float) -> None:
    random = torch.Generator().manual_seed(14)
    old_N, new_N = torch.randn(300, generator=random), torch.randn(300, generator=random)
    new_N[: int(part * 300)] += 4 if part < 0.5 else 1
    found = drift(known(old_N), new_N)
    assert found.is_there and found.probability < 0.01


def test_the_chance_of_so_many_beyond_is_that_of_orders() -> None:
    """Beside a count over all orders in which 4 new and 6 old numbers can come."""
    from itertools import combinations

    from convolve.training.confidence import _chance_beyond

    orders = list(combinations(range(10), 4))  # the places of the new ones
    for rank in (3, 6):
        for beyond in range(5):
            old = [[place for place in range(10) if place not in new] for new in orders]
            count = sum(
                sum(place > olds[rank - 1] for place in new) >= beyond for new, olds in zip(orders, old, strict=True)
            )
            assert _chance_beyond(beyond, 4, rank, 6) == pytest.approx(count / len(orders))
