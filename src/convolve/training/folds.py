"""Cross-validation: which images are held out together."""

import numpy as np
from numpy.typing import NDArray

# Legend: N images, G groups, F folds, K classes.


def fold_numbers(
    labels_N: NDArray[np.int64], groups_N: NDArray[np.int64], folds: int, seed: int = 0
) -> NDArray[np.int64]:
    """The fold of each image, from 0: each class is spread evenly, and images with the same number in `groups_N` stay
    together.

    The groups are assigned one by one, the largest first and equal ones in random order, each to the fold with the
    smallest part of its classes so far: the greedy method of scikit-learn's StratifiedGroupKFold.
    """
    _, group_N, sizes_G = np.unique(groups_N, return_inverse=True, return_counts=True)
    _, label_N, images_K = np.unique(labels_N, return_inverse=True, return_counts=True)
    chance_G = np.random.default_rng(seed).permutation(len(sizes_G))
    members = np.split(np.argsort(group_N, kind="stable"), np.cumsum(sizes_G)[:-1])
    parts_FK, images_F, fold_N = np.zeros((folds, len(images_K))), np.zeros(folds), np.empty(len(labels_N), np.int64)
    for group in np.lexsort((chance_G, -sizes_G)).tolist():
        inside = label_N[members[group]]
        fold = np.lexsort((images_F, parts_FK[:, inside].sum(1)))[0]
        np.add.at(parts_FK[fold], inside, 1 / images_K[inside])
        images_F[fold] += len(inside)
        fold_N[members[group]] = fold
    return fold_N
