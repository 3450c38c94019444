"""The Model artifact: a network with everything needed to ask it. `model_folder.py` says how it is stored."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import TypeGuard

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from convolve.atomic import write_text
from convolve.data.dataset import Batch, Dataset
from convolve.data.evaluation import eval_dataset
from convolve.data.image_files import read_images
from convolve.data.loader import normalize
from convolve.data.sources.source import ArraySource, Source
from convolve.errors import UnsupportedError, UsageError
from convolve.export import export
from convolve.export.onnx import OnnxNetwork, is_onnx
from convolve.export.parity import Parity
from convolve.formats.decode import MAX_PIXELS, Decoding
from convolve.graph.build import build
from convolve.graph.classifier import reshaped_image
from convolve.graph.graph import Graph
from convolve.importers.loader import Loader, PreprocessOverrides
from convolve.importers.loaders import class_names, find_loader, read_third_party, with_overrides
from convolve.model_card import card_path, model_card
from convolve.model_folder import Architecture, find_folder, is_folder, read_model, write_model
from convolve.models.feature_extractor import FeatureExtractor
from convolve.records import Metadata, TrainingInfo
from convolve.training.evaluate import Evaluation, evaluate
from convolve.training.precision import whole_fp32
from convolve.training.workers import SINGLE_PROCESS, Workers, part
from convolve.transforms.normalize import mean_of
from convolve.transforms.preprocess import ChannelOrder, Preprocess, fit_image

# Legend: N images, C channels, H rows, W columns, K classes.

Watch = Callable[[Iterator[Batch]], Iterator[Batch]]  # hands on batches as they come


@dataclass(frozen=True)
class Prediction:
    """What the model says of one image: (class name, probability), most likely first; `fitted`: what was done to it."""

    path: str
    classes: tuple[tuple[str, float], ...]
    fitted: str = ""


@dataclass
class Model:
    """`module` maps normalized images_NCHW to logits_NK; `preprocess` says how an image becomes one of them.

    `architecture` is one of our networks or an imported graph; None: an exported file, which can only be asked. `node`
    names the layer that `module` stops at, where that is not the last one: such a model gives features and cannot be
    saved. `max_pixels`: see `Decoding`; this is up to whoever asks it, and not saved.
    """

    module: nn.Module
    architecture: Architecture | None
    preprocess: Preprocess
    class_names: tuple[str, ...]
    data_name: str = ""
    training_info: TrainingInfo = field(default_factory=TrainingInfo)
    node: str = ""
    max_pixels: int = MAX_PIXELS

    @property
    def decoding(self) -> Decoding:
        """How the images are decoded that it is asked about: in color, which a gray network's answer tells of."""
        return replace(self.preprocess.decoding(self.max_pixels), gray=False)

    @property
    def batch_size(self) -> int:
        """Images at a time: at most 1000, and 64 MiB of input, so that large images fit in memory too."""
        channels, height, width = self.preprocess.shape_CHW
        return max(1, min(1000, 2**24 // (channels * height * width)))

    @property
    def preprocess_warning(self) -> str:
        """What a user should know before believing an answer: the preprocessing is assumed. Empty where it is known."""
        if self.preprocess.known_from:
            return ""
        return (
            f"the model does not say how its images were prepared; assumed: {self.preprocess}. "
            "Say it with --preset, --mean, --channel-order or --scale"
        )

    def dataset(self, source: Source, views: int = 1) -> Dataset:
        """Images of any size as this model takes them, each in so many `views`; see `transforms/tta.py`."""
        return eval_dataset(source, self.preprocess, views, threads=torch.get_num_threads())

    def batches(self, dataset: Dataset, views: int = 1, workers: Workers = SINGLE_PROCESS) -> Iterator[Batch]:
        """`dataset` in order, in batches as the network sees them; of several `workers`, this one's part of them."""
        preprocess, mean, size = self.preprocess, mean_of(self.preprocess), max(1, self.batch_size // views)
        mine = part(-(-len(dataset) // size), workers.rank, workers.size)
        numbers_N = np.arange(len(dataset))[mine.start * size : mine.stop * size]
        for images_NCHW, labels_N in dataset.batches(numbers_N, size):
            yield normalize(images_NCHW, mean, preprocess.scale, preprocess.channel_order == "bgr"), labels_N

    def evaluate(
        self, dataset: Dataset, views: int = 1, workers: Workers = SINGLE_PROCESS, watch: Watch = iter
    ) -> Evaluation:
        """All images, each once, in fp32; the answers to their `views` are averaged. `watch` sees each batch."""
        return evaluate(self.module, watch(self.batches(dataset, views, workers)), self._device, views, workers)

    def predict(self, paths: Sequence[str | Path], top: int = 5) -> list[Prediction]:
        """The `top` classes of each image in `paths`: files, folders and zips, in the order of their names."""
        names, fitted, images_NCHW = self._images(paths)
        if not names:
            return []
        probabilities_NK = self.probabilities(images_NCHW)
        values, indices = probabilities_NK.topk(min(top, len(self.class_names)), dim=1)
        return [
            Prediction(name, tuple((self.class_names[k], p) for k, p in zip(ks, ps, strict=True)), done)
            for name, done, ks, ps in zip(names, fitted, indices.tolist(), values.tolist(), strict=True)
        ]

    def features(self, paths: Sequence[str | Path]) -> tuple[list[str], NDArray[np.float32]]:
        """(names of the images, what `module` gives for each): see `load` for the outputs of inner layers."""
        names, _, images_NCHW = self._images(paths)
        was_training = self.module.training
        self.module.eval()
        with torch.inference_mode(), whole_fp32():
            batches = self.batches(_unlabeled(images_NCHW))
            parts = [self.module(images.to(self._device)).float().cpu() for images, _ in batches]
        self.module.train(was_training)
        return names, torch.cat(parts).numpy()

    def probabilities(self, images_NCHW: np.ndarray) -> torch.Tensor:
        """probabilities_NK of uint8 images that already have the wanted size."""
        return self.evaluate(_unlabeled(images_NCHW)).probabilities_NK

    def require_images(self) -> None:
        """Raise UsageError where an imported network takes plain numbers and nobody said which image they are."""
        if isinstance(self.architecture, Graph) and self.preprocess.height == 1:
            raise UsageError(
                f"the network takes {self.preprocess.width} numbers; say which image they are with --image-shape, for "
                "example 1x28x28"
            )

    def for_images(self, shape_CHW: tuple[int, int, int]) -> Model:
        """This model for images of another shape, where an imported network takes plain numbers."""
        if shape_CHW == self.preprocess.shape_CHW or not isinstance(self.architecture, Graph):
            return self
        channels, height, width = shape_CHW
        architecture = reshaped_image(self.architecture, shape_CHW)
        order: ChannelOrder = "gray" if channels == 1 else "bgr"
        preprocess = replace(self.preprocess, channels=channels, height=height, width=width, channel_order=order)
        return replace(self, architecture=architecture, preprocess=preprocess)

    def cut(self, node: str) -> Model:
        """The model up to `node`: a name in an imported network's file, or a layer of one of ours."""
        if not isinstance(self.architecture, Graph):
            return replace(self, module=FeatureExtractor(self.module, node).eval(), node=node)
        graph = self.architecture.with_outputs([node])
        module, weights = build(graph), self.module.state_dict()
        wanted = module.state_dict()
        if any(key not in weights or weights[key].shape != wanted[key].shape for key in wanted):
            raise UnsupportedError(f"node {node} shares weights with later ones; give the original file instead")
        module.load_state_dict({key: weights[key] for key in wanted})
        return replace(self, module=module, architecture=graph, node=node)

    def save(self, folder: Path) -> None:
        """Write the model folder, atomically file by file."""
        write_model(folder, self.module, self._whole(), self.preprocess, self._metadata)

    def export(self, path: str | Path, *, with_preprocessing: bool = False) -> Parity:
        """Write the model for other runtimes, as `path` ends: ONNX (.onnx) or a torch.export program (.pt2).

        The file takes normalized images_NCHW; `with_preprocessing`, uint8 images_NHWC of the model's size, gray or
        RGB. It is run and compared with this model first: one that answers otherwise raises ConvolveError, and
        nothing is written. An older file at `path` is replaced. A model card lies beside it.
        """
        architecture, path = self._whole(), Path(path)
        self.require_images()
        parity = export(self.module, self.preprocess, self._metadata, path, with_preprocessing)
        with path.open("rb") as file:
            stored = path.name, hashlib.file_digest(file, "sha256").hexdigest()
        card = model_card(
            architecture, self.module, self.preprocess, self._metadata, stored, takes_pixels=with_preprocessing
        )
        write_text(card_path(path), card)
        return parity

    @property
    def _metadata(self) -> Metadata:
        return Metadata(class_names=self.class_names, data=self.data_name, training_info=self.training_info)

    def _whole(self) -> Architecture:
        """The architecture of a model that can be written; UsageError for one that cannot."""
        if self.node:
            raise UsageError(f"a model that stops at {self.node} gives features, no classes; save the whole one")
        if self.architecture is None:
            raise UsageError("an exported file cannot be written in another form; give the model that it was made from")
        return self.architecture

    def _images(self, paths: Sequence[str | Path]) -> tuple[list[str], list[str], np.ndarray]:
        """(names, what was done to each, images_NCHW uint8)."""
        self.require_images()
        names, fitted, images = [], [], []
        for name, image_HWC in read_images(paths, self.decoding):
            image_CHW, done = fit_image(image_HWC, self.preprocess)
            names.append(name)
            fitted.append(done)
            images.append(image_CHW)
        return names, fitted, np.stack(images) if images else np.zeros((0, *self.preprocess.shape_CHW), np.uint8)

    @property
    def _device(self) -> torch.device:
        tensors = chain(self.module.parameters(), self.module.buffers())
        return next(tensors, torch.empty(0)).device


def load(path: str | Path, overrides: PreprocessOverrides | None = None, node: str | None = None) -> Model:
    """Open a model folder, the model of a run folder, a CNTK model, v1 or v2, or an ONNX file that we exported.

    Files are recognized by their content; a Caffe model is two files, `net.prototxt+net.caffemodel`.

    `overrides` adds what the model does not say itself. With `node`, the model gives the features of that inner layer.
    """
    path, overrides = Path(path), overrides or PreprocessOverrides()
    if loader := None if is_folder(path) else find_loader(path):
        model = _import(loader, path, overrides, node)
    elif is_onnx(path):
        model = _open_exported(path, overrides, node)
    else:
        model = _open_folder(path, overrides)
        model = model.cut(node) if node else model
    model.preprocess = with_overrides(model.preprocess, overrides)
    to_channels_last(model.module)
    model.module.eval()
    return model


def _import(loader: Loader, path: Path, overrides: PreprocessOverrides, node: str | None) -> Model:
    graph, preprocess, training_info = read_third_party(loader, path, overrides, node)
    scores = graph.values()[graph.outputs[0]]
    names = () if node else class_names(scores.shape[0], overrides.labels, training_info.preset)
    return Model(build(graph), graph, preprocess, names, training_info=training_info, node=node or "")


def _open_folder(path: Path, overrides: PreprocessOverrides) -> Model:
    module, architecture, preprocess, metadata = read_model(find_folder(path))
    if overrides.output or overrides.preset:
        raise UsageError(f"{path} is a convolve model: --output and --preset are for models of other tools")
    names = _named(metadata.class_names, overrides)
    data, info = metadata.data, metadata.training_info
    model = Model(module, architecture, preprocess, names, data_name=data, training_info=info)
    return model.for_images(overrides.image_shape_CHW) if overrides.image_shape_CHW else model


def _open_exported(path: Path, overrides: PreprocessOverrides, node: str | None) -> Model:
    if node or replace(overrides, labels=None) != PreprocessOverrides():
        raise UsageError(
            f"{path} is an exported file and used as it is: --output, --mean and their like are for the model that it "
            "was made from"
        )
    network = OnnxNetwork(path)
    names, data = _named(network.metadata.class_names, overrides), network.metadata.data
    info = network.metadata.training_info
    return Model(network, None, network.preprocess, names, data_name=data, training_info=info)


def _named(own: tuple[str, ...], overrides: PreprocessOverrides) -> tuple[str, ...]:
    return own if overrides.labels is None else class_names(len(own), overrides.labels)


def _unlabeled(images_NCHW: np.ndarray) -> Dataset:
    return Dataset(ArraySource(torch.from_numpy(images_NCHW), torch.zeros(len(images_NCHW), dtype=torch.int64)))


def to_channels_last(module: nn.Module) -> None:
    """The layout in which 2-D convolutions are fastest; networks with 3-D ones stay as they are.

    So do strided 1x1 convolutions of fewer than 8 channels: with AVX2 and without AVX-512, oneDNN writes past its
    memory in their backward pass (github.com/uxlfoundation/oneDNN/issues/6035).
    """
    if any(tensor.dim() > 4 for tensor in module.state_dict().values()):
        return
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for layer in module.modules():
        if _is_written_past(layer):
            layer.weight.data = layer.weight.data.clone(memory_format=torch.contiguous_format)
            if _in_planes not in layer._forward_pre_hooks.values():
                layer.register_forward_pre_hook(_in_planes)


def _is_written_past(layer: nn.Module) -> TypeGuard[nn.Conv2d]:
    if not isinstance(layer, nn.Conv2d) or layer.kernel_size != (1, 1):
        return False
    return max(layer.stride) > 1 and layer.in_channels // layer.groups < 8


def _in_planes(layer: nn.Module, inputs: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
    return (inputs[0].contiguous(),)
