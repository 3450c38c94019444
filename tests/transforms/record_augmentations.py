"""What torchvision computes, to `tests/golden/augment/torchvision.npz`; run it where torchvision and Pillow are.

The operations of RandAugment and TrivialAugment on a Pillow image; the magnitudes of their bins; MixUp and CutMix with
a given part. `python tests/transforms/record_augmentations.py`
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

GOLDEN = Path(__file__).parents[1] / "golden" / "augment" / "torchvision.npz"
NAMES = {  # ours -> torchvision's
    "shear_x": "ShearX", "shear_y": "ShearY", "translate_x": "TranslateX", "translate_y": "TranslateY",
    "rotate": "Rotate", "brightness": "Brightness", "color": "Color", "contrast": "Contrast", "sharpness": "Sharpness",
    "posterize": "Posterize", "solarize": "Solarize", "auto_contrast": "AutoContrast", "equalize": "Equalize",
    "identity": "Identity",
}  # fmt: skip
MAGNITUDES = {
    "posterize": (8.0, 6.0, 4.0, 2.0), "solarize": (255.0, 127.5, 0.0), "translate_x": (9.7, -9.7),
    "translate_y": (3.0, -3.9), "rotate": (9.0, -30.0, 120.0), "identity": (0.0,), "auto_contrast": (0.0,),
    "equalize": (0.0,),
}  # fmt: skip
OTHERS = (0.27, -0.27, 0.9, -0.9)


def picture(channels: int = 3) -> NDArray[np.uint8]:
    """(H, W, C), RGB: slopes, an edge and noise, in 15 x 18 pixels; its levels do not fill 0..255."""
    rng = np.random.default_rng(5)
    rows, columns = np.mgrid[:15, :18]
    planes = [60 + 6 * rows + 3 * columns, 200 - 8 * rows + columns, 40 + 90 * (columns > 7) + 2 * rows]
    noisy_HWC = np.stack(planes, axis=2) + rng.integers(-15, 16, (15, 18, 3))
    return noisy_HWC[..., :channels].clip(20, 240).astype(np.uint8)


def batch() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """images_NCHW and labels_N."""
    rng = np.random.default_rng(6)
    return rng.normal(size=(5, 3, 9, 8)).astype(np.float32), rng.integers(4, size=5)


def recorded() -> dict[str, Any]:
    from PIL import Image
    from torchvision.transforms import InterpolationMode, autoaugment

    found: dict[str, Any] = {}
    for channels in (1, 3):
        image = Image.fromarray(picture(channels).squeeze())
        for ours, theirs in NAMES.items():
            for magnitude in MAGNITUDES.get(ours, OTHERS):
                done = autoaugment._apply_op(image, theirs, magnitude, InterpolationMode.NEAREST, [77.0] * channels)
                found[f"{ours}/{channels}/{magnitude}"] = np.asarray(done).reshape(15, 18, channels)
    spaces = {
        "rand_augment": autoaugment.RandAugment()._augmentation_space(31, (15, 18)),
        "trivial_augment": autoaugment.TrivialAugmentWide()._augmentation_space(31),
    }
    for policy, space in spaces.items():
        assert list(space) == [NAMES[name] for name in sorted(NAMES, key=lambda name: list(space).index(NAMES[name]))]
        for ours, theirs in NAMES.items():
            magnitudes, signed = space[theirs]
            found[f"{policy}/{ours}"] = np.append(np.broadcast_to(magnitudes.double().numpy(), 31), float(signed))
    return found | _mixed()


def _mixed() -> dict[str, Any]:
    import torch
    from torchvision.transforms import v2

    images, labels = (torch.from_numpy(each) for each in batch())
    found: dict[str, Any] = {}
    for name, transform, part in (
        ("mixup", v2.MixUp(num_classes=4), {"lam": 0.3}),
        ("cutmix", v2.CutMix(num_classes=4), {"box": (2, 1, 6, 8), "lam_adjusted": 1 - 28 / 72}),
    ):
        transform.make_params = lambda _, part=part: dict(part)
        mixed, soft = transform(images, labels)
        found |= {f"{name}/images": mixed.numpy(), f"{name}/labels": soft.numpy()}
    return found


if __name__ == "__main__":
    GOLDEN.parent.mkdir(exist_ok=True)
    np.savez_compressed(GOLDEN, **recorded())
