"""What a person would write by hand to tell photographs apart: one contestant of photos.py, in a process of its own.

    python benchmarks/photos_peers.py probe|finetune|fastai --data DIR --weights FILE [--seed 0]

`probe` and `finetune` build the network by convolve, as only that has it everywhere, and use nothing else of it: images
are decoded by OpenCV, features are the network's own, the rest is scikit-learn's or PyTorch's. The last line that is
printed is the accuracy on DIR/val.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import convolve
from convolve.models.heads import features_of

SIZE, EPOCHS, BATCH, LR = 224, 5, 32, 5e-4
FINE_TUNING_SIZE = 160


def listed(folder: Path) -> tuple[list[Path], Tensor]:
    """The photographs of a part, class by class, and their labels."""
    names = sorted(path.name for path in folder.iterdir())
    files = [(path, label) for label, name in enumerate(names) for path in sorted((folder / name).iterdir())]
    return [path for path, _ in files], torch.tensor([label for _, label in files])


def centered(path: Path, size: int) -> Tensor:
    """Scaled to a shorter side of 8/7 of the size, the center cut out, as ImageNet's networks are evaluated."""
    image_HWC = _opened(path)
    scale = size * 8 / 7 / min(image_HWC.shape[:2])
    image_HWC = cv2.resize(image_HWC, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    top, left = ((side - size) // 2 for side in image_HWC.shape[:2])
    return _seen(image_HWC[top : top + size, left : left + size])


def cropped(path: Path, size: int) -> Tensor:
    """A random crop of 35 to 100 % of the area, mirrored half of the time."""
    image_HWC = _opened(path)
    rows, columns = image_HWC.shape[:2]
    side = min(rows, columns, round((random.uniform(0.35, 1) * rows * columns) ** 0.5))
    top, left = random.randint(0, rows - side), random.randint(0, columns - side)
    cut_HWC = cv2.resize(image_HWC[top : top + side, left : left + side], (size, size), interpolation=cv2.INTER_AREA)
    return _seen(cut_HWC[:, ::-1] if random.random() < 0.5 else cut_HWC)


def _opened(path: Path) -> np.ndarray:
    image_HWC = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
    assert image_HWC is not None, path
    return image_HWC


def _seen(image_HWC: np.ndarray) -> Tensor:
    return (torch.from_numpy(np.ascontiguousarray(image_HWC)).permute(2, 0, 1).float() - 127) / 128


def batches(files: list[Path], size: int) -> Iterator[Tensor]:
    for at in range(0, len(files), BATCH):
        yield torch.stack([centered(path, size) for path in files[at : at + BATCH]])


@torch.inference_mode()
def outputs(module: nn.Module, files: list[Path], size: int) -> Tensor:
    return torch.cat([module(images_NCHW) for images_NCHW in batches(files, size)])


def probe(data: Path, weights: str) -> float:
    """Logistic regression on frozen features, as scikit-learn has it by default, but for enough steps."""
    from sklearn.linear_model import LogisticRegression

    body = features_of(convolve.load(weights).module).eval()
    parts = {part: listed(data / part) for part in ("train", "val")}
    features = {part: outputs(body, files, SIZE).numpy() for part, (files, _) in parts.items()}
    fitted = LogisticRegression(max_iter=1000).fit(features["train"], parts["train"][1].numpy())
    return float(fitted.score(features["val"], parts["val"][1].numpy()))


def finetune(data: Path, weights: str) -> float:
    """The whole network with AdamW and one cycle."""
    module: Any = convolve.load(weights).module
    files, labels_N = listed(data / "train")
    module.classifier = nn.Linear(module.classifier.in_features, int(labels_N.max()) + 1)
    module = module.to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(module.parameters(), LR, weight_decay=0.05)
    steps = EPOCHS * -(-len(files) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LR, total_steps=steps)
    for _ in range(EPOCHS):
        for index in torch.randperm(len(files)).split(BATCH):
            images_NCHW = torch.stack([cropped(files[number], FINE_TUNING_SIZE) for number in index.tolist()])
            F.cross_entropy(module(images_NCHW), labels_N[index], label_smoothing=0.1).backward()
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
    tested, answers_N = listed(data / "val")
    found_NK = outputs(module.eval(), tested, FINE_TUNING_SIZE)
    return float((found_NK.argmax(1) == answers_N).float().mean())


def fastai(data: Path, weights: str) -> float:
    """Its documented way, `fine_tune` for five epochs at 160 pixels, on the same network."""
    from fastai.data.transforms import Normalize
    from fastai.learner import Learner
    from fastai.metrics import accuracy
    from fastai.vision.augment import Resize, aug_transforms
    from fastai.vision.data import ImageDataLoaders

    loaders = ImageDataLoaders.from_folder(
        data, train="train", valid="val", bs=BATCH, num_workers=0, item_tfms=Resize(224),
        batch_tfms=[*aug_transforms(size=FINE_TUNING_SIZE), Normalize.from_stats([127 / 255] * 3, [128 / 255] * 3)],
    )  # fmt: skip
    module: Any = convolve.load(weights).module
    head = module.classifier = nn.Linear(module.classifier.in_features, loaders.c)

    def split(network: nn.Module) -> list[list[nn.Parameter]]:
        own = set(map(id, head.parameters()))
        return [[each for each in network.parameters() if id(each) not in own], list(head.parameters())]

    learner = Learner(loaders, module, splitter=split, metrics=accuracy)
    with learner.no_bar(), learner.no_logging():
        learner.fine_tune(EPOCHS)
        return float(learner.validate()[1])


CONTESTANTS = {"probe": probe, "finetune": finetune, "fastai": fastai}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("contestant", choices=CONTESTANTS)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(asked.seed)
    random.seed(asked.seed)
    run = partial(CONTESTANTS[asked.contestant], asked.data, asked.weights)
    print(f"{run():.6f}")


if __name__ == "__main__":
    main()
