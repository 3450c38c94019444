"""How different an image is from the training images: a distance in feature space, for "none of these".

Each class is a normal distribution around its mean, all with the same covariance (Lee et al. 2018, "A Simple Unified
Framework for Detecting Out-of-Distribution Samples and Adversarial Attacks"), on features of length 1 (Mueller and Hein
2025, "Mahalanobis++"). The covariance is that of probabilistic PCA (Tipping and Bishop 1999): R directions have their
own variance, all others share one. This needs little storage, and few images.

Legend: N images, K classes, D features, R directions.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Measured on EfficientNet-Lite0's 1,280 features of flowers, ants and bees: 16 to 256 do equally well, and shrinking by
# a half helps with similar foreign images. No command here repeats that; docs/explanation/trust.md has the results.
MOST_DIRECTIONS = 64
SHRINKAGE = 0.5  # of each variance towards the mean of all
_FLOOR = 1e-6  # of the variance of features of length 1, beside the mean of all: what fp32 tells from nothing


class OutlierDetector(nn.Module):
    """features_ND -> distance_N from the nearest class, in standard deviations: about 1 for the training images."""

    means_KD: Tensor
    directions_RD: Tensor
    variances_R: Tensor
    rest: Tensor

    def __init__(self, means_KD: Tensor, directions_RD: Tensor, variances_R: Tensor, rest: Tensor) -> None:
        super().__init__()
        self.register_buffer("means_KD", means_KD)
        self.register_buffer("directions_RD", directions_RD)
        self.register_buffer("variances_R", variances_R)  # along the directions
        self.register_buffer("rest", rest)  # the variance along every other one, a scalar

    def forward(self, features_ND: Tensor) -> Tensor:
        """f'Pf - 2 f'Pm + m'Pm for the nearest mean m, where the precision P is (I - V'WV) / rest."""
        f_ND, means_KD = features_ND.flatten(1), self.means_KD
        # F.normalize has an Expand in ONNX, and the norm a ReduceL2: onnxruntime's symbolic_shape_infer (1.31) knows no
        # shape behind that or behind the ReduceMin below, and stops at the next division.
        f_ND = f_ND / f_ND.square().sum(1, keepdim=True).sqrt().clamp(min=1e-12)
        if len(means_KD) == 1:  # images of one kind are close together: their common part would hide the rest
            f_ND, means_KD = f_ND - means_KD, torch.zeros_like(means_KD)
        weights_R = 1 - self.rest / self.variances_R
        f_NR, means_KR = f_ND @ self.directions_RD.T, means_KD @ self.directions_RD.T
        own_N1 = (
            f_ND.square().sum(1, keepdim=True) - f_NR.square() @ weights_R[:, None]
        )  # quantizers of ONNX files do not accept vectors
        own_K = means_KD.square().sum(1) - (means_KR.square() * weights_R).sum(1)
        both_NK = f_ND @ means_KD.T - (f_NR * weights_R) @ means_KR.T
        squared_NK = (own_N1 - 2 * both_NK + own_K) / (self.rest * means_KD.shape[1])
        distance_N: Tensor = squared_NK.amin(1).clamp(min=0).sqrt()
        return distance_N


def fit_outliers(features_ND: Tensor, labels_N: Tensor) -> OutlierDetector:
    """The detector fitted to these images; a class without images has the mean of all. The same features give the same
    bits."""
    f_ND = F.normalize(features_ND.flatten(1).float())
    classes, members_NK = int(labels_N.max()) + 1, F.one_hot(labels_N).float()
    counts_K1 = members_NK.sum(0)[:, None]
    means_KD = torch.where(counts_K1 > 0, members_NK.T @ f_ND / counts_K1.clamp(min=1), f_ND.mean(0))
    residuals_ND = f_ND - means_KD[labels_N]
    freedom = max(len(f_ND) - classes, 1)
    rank = min(MOST_DIRECTIONS, freedom // 2, f_ND.shape[1] // 2)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # svd_lowrank starts from random directions
        _, spread_R, directions_DR = torch.svd_lowrank(residuals_ND, q=min(rank + 8, *f_ND.shape), niter=4)
    variances_R, directions_RD = spread_R[:rank].square() / freedom, directions_DR.T[:rank].contiguous()
    width, total = f_ND.shape[1], residuals_ND.square().sum() / freedom
    mean = (total / width).clamp(min=_FLOOR / width)
    rest = ((total - variances_R.sum()) / max(width - rank, 1)).clamp(min=0)
    variances_R, rest = (torch.lerp(each, mean.expand_as(each), SHRINKAGE) for each in (variances_R, rest))
    return OutlierDetector(means_KD, directions_RD, variances_R, rest)
