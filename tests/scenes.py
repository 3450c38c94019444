"""Pictures with sharp contours, each like no other; to be spoilt by tests."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np


def scene(number: int, size: tuple[int, int] = (180, 240)) -> np.ndarray:
    """Sharp contours over soft colors, as a photograph in focus."""
    rng = np.random.default_rng(number)
    soft = rng.integers(60, 200, (5, 7, 3), dtype=np.uint8)
    image_HWC = cv2.resize(soft, size[::-1], interpolation=cv2.INTER_CUBIC)
    for _ in range(40):
        (x, y), color = rng.integers(0, size[::-1]), rng.integers(0, 256, 3).tolist()
        cv2.circle(image_HWC, (int(x), int(y)), int(rng.integers(4, 30)), color, thickness=2)
    return image_HWC


def save(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(path.suffix, image)[1].tobytes())
