"""Classes of unequal size: the weight of an image of each class in a training."""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from convolve.data.sources.classes import in_words
from convolve.errors import UsageError, unknown_name

# Few: less than a twentieth of the largest class, where a network hardly ever says it (M. Buda et al., A systematic
# study of the class imbalance problem, 2018).
RARE = 20


def class_weights(
    labels_N: NDArray[np.int64], class_names: tuple[str, ...], given: Mapping[str, float]
) -> tuple[float, ...]:
    """The weight of an image of each class, with mean 1 over all images.

    Inverse to the number of its images, so that all classes count equally (King and Zeng 2001; scikit-learn's
    "balanced"), or in proportion to the `given` weights, 1 for a class not named there. A class without images has
    weight 1.
    """
    for name in given:
        if name not in class_names:
            raise UsageError(f"data.class_weights: {unknown_name('class', name, class_names)}")
    images_K = np.bincount(labels_N, minlength=len(class_names))
    inverse_K = 1 / np.maximum(images_K, 1)
    weights_K = np.array([given.get(name, 1.0) for name in class_names]) if given else inverse_K
    weights_K = weights_K * len(labels_N) / (weights_K * images_K).sum()
    return tuple(np.where(images_K > 0, weights_K, 1.0).tolist())


def warn_of_rare_classes(
    labels_N: NDArray[np.int64], class_names: tuple[str, ...], warn: Callable[[str], None]
) -> None:
    """Pass a warning to `warn` if classes have few images compared with the largest."""
    images_K = np.bincount(labels_N, minlength=len(class_names))
    largest = int(images_K.argmax())
    rare = [k for k in range(len(class_names)) if 0 < images_K[k] * RARE < images_K[largest]]
    if not rare:
        return
    named = in_words([f"{class_names[k]} ({images_K[k]:,})" for k in rare])
    warn(
        f"under 5 % of the {images_K[largest]:,} training images of {class_names[largest]}: {named}; the network may "
        f"never predict it. Add images, or set data.balance=sampling or data.balance=loss"
    )


def balanced_order(
    labels_N: NDArray[np.int64], weights_K: tuple[float, ...], rng: np.random.Generator
) -> NDArray[np.int64]:
    """As many sample numbers as there are samples, with frequencies by the `weights_K` of their classes. The images of
    a class occur equally often, up to a difference of one.
    """
    classes, images_K = np.unique(labels_N, return_counts=True)
    shares_K = np.array(weights_K)[classes] * images_K
    ends_K = np.rint(np.cumsum(shares_K) / shares_K.sum() * len(labels_N)).astype(np.int64)
    chosen = []
    for label, images, drawn in zip(classes, images_K, np.diff(ends_K, prepend=0), strict=True):
        members_M = np.flatnonzero(labels_N == label)
        passes = [rng.permutation(members_M) for _ in range(-(-drawn // images))]
        chosen += [np.concatenate(passes)[:drawn]] if passes else []
    return rng.permutation(np.concatenate(chosen))
