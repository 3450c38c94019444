"""The Model artefact: a network with everything needed to ask it.

    model/model.json            architecture, class names, preprocessing, where it comes from, SHA-256 of the weights
    model/weights.safetensors   the parameters under their names in the module

Nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import nn

from convolve.atomic import replacing, write_json
from convolve.data.image_files import read_images
from convolve.data.table import Table
from convolve.errors import ModelError, UnsupportedError, UsageError
from convolve.models import build_model
from convolve.recipe import ModelSpec
from convolve.training.evaluate import Evaluation, evaluate
from convolve.transforms.batch import normalize
from convolve.transforms.preprocess import Preprocess, fit_image

FORMAT = 1


@dataclass(frozen=True)
class Prediction:
    """What the model says of one image: (class name, probability), most likely first; `fitted`: what was done to it."""

    path: str
    classes: tuple[tuple[str, float], ...]
    fitted: str = ""


@dataclass
class Model:
    """`module` maps normalized images_NCHW to logits_NK; `preprocess` says how an image becomes one of them."""

    module: nn.Module
    spec: ModelSpec
    preprocess: Preprocess
    class_names: tuple[str, ...]
    data_name: str = ""
    trained: dict[str, Any] = field(default_factory=dict)

    @property
    def batch_size(self) -> int:
        """Images at a time: at most 1000, and 64 MiB of input, so that large images fit in memory too."""
        channels, height, width = self.preprocess.shape_CHW
        return max(1, min(1000, 2**24 // (channels * height * width)))

    def batches(self, images_NCHW: torch.Tensor, labels_N: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for images, labels in zip(images_NCHW.split(self.batch_size), labels_N.split(self.batch_size), strict=True):
            yield normalize(images, self.preprocess.mean, self.preprocess.scale), labels

    def evaluate(self, table: Table) -> Evaluation:
        """Every sample of `table`, exactly once, in fp32."""
        if table.shape_CHW != self.preprocess.shape_CHW:
            raise UsageError(
                f"the model wants images {self.preprocess.shape_CHW} (C, H, W), the data has {table.shape_CHW}"
            )
        return evaluate(self.module, self.batches(table.images_NCHW, table.labels_N), self._device)

    def predict(self, paths: Sequence[str | Path], top: int = 5) -> list[Prediction]:
        """The `top` classes of each image in `paths`: files, folders and zips, in the order of their names."""
        names, fitted, images = [], [], []
        for name, image_HWC in read_images(paths):
            image_CHW, done = fit_image(image_HWC, self.preprocess)
            names.append(name)
            fitted.append(done)
            images.append(image_CHW)
        if not images:
            return []
        probabilities_NK = self.probabilities(np.stack(images))
        values, indices = probabilities_NK.topk(min(top, len(self.class_names)), dim=1)
        return [
            Prediction(name, tuple((self.class_names[k], p) for k, p in zip(ks, ps, strict=True)), done)
            for name, done, ks, ps in zip(names, fitted, indices.tolist(), values.tolist(), strict=True)
        ]

    def probabilities(self, images_NCHW: np.ndarray) -> torch.Tensor:
        """probabilities_NK of uint8 images that already have the wanted size."""
        images = torch.from_numpy(images_NCHW)
        no_labels_N = torch.zeros(len(images), dtype=torch.int64)
        return evaluate(self.module, self.batches(images, no_labels_N), self._device).probabilities_NK

    def save(self, folder: Path) -> None:
        """Write the model folder; model.json, which vouches for the weights, comes last."""
        state = {name: tensor.detach().cpu().contiguous() for name, tensor in self.module.state_dict().items()}
        content = save_tensors(state)
        with replacing(folder / "weights.safetensors") as temporary:
            temporary.write_bytes(content)
        write_json(folder / "model.json", {
            "format": FORMAT, "model": asdict(self.spec), "preprocess": asdict(self.preprocess),
            "class_names": list(self.class_names), "data": self.data_name, "trained": self.trained,
            "weights_sha256": hashlib.sha256(content).hexdigest(),
        })  # fmt: skip

    @property
    def _device(self) -> torch.device:
        return next(self.module.parameters()).device


def load(path: str | Path) -> Model:
    """Open a model folder, or the model of a run folder."""
    folder = Path(path)
    if (folder / "model" / "model.json").exists():
        folder = folder / "model"
    if not (folder / "model.json").exists():
        raise _not_a_model(Path(path))
    head = _read_head(folder / "model.json")
    spec, preprocess, class_names, module = _architecture(head, folder / "model.json")
    _load_weights(module, folder / "weights.safetensors", head["weights_sha256"])
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Model(module.eval(), spec, preprocess, class_names, head["data"], head["trained"])


def _not_a_model(path: Path) -> ModelError | UsageError | UnsupportedError:
    if not path.exists():
        return UsageError(f"{path} does not exist; give a model folder or a run folder")
    if (path / "weights.safetensors").exists():
        return ModelError(f"{path}: model.json is missing; copy the model folder again, whole")
    if (path / "recipe.json").exists():
        return UsageError(
            f"{path} is a run without a model yet; finish it with `convolve train {path} --out {path}` and its --data"
        )
    if path.is_file():
        return UnsupportedError(f"{path} is no model that convolve can read; give a model folder or a run folder")
    return ModelError(f"{path} holds no model.json; give a model folder or a run folder")


def _read_head(path: Path) -> dict[str, Any]:
    try:
        head: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        missing = {"format", "model", "preprocess", "class_names", "data", "trained", "weights_sha256"} - head.keys()
    except (ValueError, AttributeError) as error:
        raise ModelError(f"{path} is damaged ({error}); copy the model folder again") from None
    if missing:
        raise ModelError(f"{path} lacks {', '.join(sorted(missing))}; copy the model folder again")
    if head["format"] != FORMAT:
        raise UnsupportedError(f"{path} has format {head['format']}, this version reads {FORMAT}; update convolve")
    return head


def _architecture(head: dict[str, Any], path: Path) -> tuple[ModelSpec, Preprocess, tuple[str, ...], nn.Module]:
    try:
        spec = ModelSpec(**head["model"] | {"dropout": tuple(head["model"]["dropout"])})
        preprocess, class_names = Preprocess(**head["preprocess"]), tuple(head["class_names"])
        return spec, preprocess, class_names, build_model(spec, preprocess.shape_CHW, len(class_names))
    except UsageError as error:
        raise UnsupportedError(f"{path}: {error}; a newer version of convolve may know it") from None
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{path} is damaged ({error}); copy the model folder again") from None


def _load_weights(module: nn.Module, path: Path, sha256: str) -> None:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}; copy the model folder again, whole") from None
    if hashlib.sha256(content).hexdigest() != sha256:
        raise ModelError(
            f"{path} was altered or cut: its checksum is not the one in model.json; copy the model folder again"
        )
    try:
        module.load_state_dict(load_tensors(content))
    except (SafetensorError, RuntimeError) as error:
        first = " ".join(str(error).split("\n\t")[:2])  # torch lists every tensor
        raise ModelError(f"{path} does not fit model.json: {first}; copy the model folder again") from None
