"""The Model artifact: a network with everything needed to run it. `model_folder.py` says how it is stored."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from convolve.data.damaged import Unreadable, skipping
from convolve.data.dataset import Batch, Dataset
from convolve.data.evaluation import eval_dataset
from convolve.data.file_batches import file_batches
from convolve.data.hold_out import Learned, Membership
from convolve.data.image_files import find_images
from convolve.data.loader import normalize
from convolve.data.sources.source import ArraySource, Source
from convolve.errors import DataError, UsageError
from convolve.export import export
from convolve.export.metadata import Options
from convolve.export.onnx import OnnxNetwork, note_of
from convolve.export.parity import Parity
from convolve.formats.archive import Location
from convolve.formats.decode import MAX_PIXELS, Decoding
from convolve.graph.build import build, rebuild
from convolve.graph.classifier import class_scores, done_twice, first_output, reshaped_image
from convolve.graph.ends import gives_independent
from convolve.graph.graph import Graph
from convolve.graph.heads import without_head
from convolve.model_card import write_card
from convolve.model_folder import Architecture, digest_of, write_model
from convolve.models.feature_extractor import FeatureExtractor, WithFeatures
from convolve.models.heads import features_of, last_layer
from convolve.network import graph_of_module
from convolve.notebook import MOST, figures, table
from convolve.prediction import Prediction, Predictions
from convolve.records import ONE_CLASS, Metadata, Target, TargetKind, TrainingInfo
from convolve.training.confidence import Confidence, ConfidentNetwork, require_known
from convolve.training.criteria import Answering
from convolve.training.evaluate import Evaluation, answer, evaluate
from convolve.training.metrics import thresholds_of
from convolve.training.precision import whole_fp32
from convolve.training.workers import SINGLE_PROCESS, Workers, part
from convolve.transforms.normalize import mean_of, scale_of
from convolve.transforms.preprocess import ChannelOrder, Preprocess

# Legend: N images, C channels, H rows, W columns, K classes.


@dataclass
class Model:
    """`module` maps normalized images_NCHW to logits_NK; `preprocess` says how to make them from any image.

    `architecture` is one of our networks or an imported graph; None: onnxruntime runs the file. `node` names the layer
    at which `module` stops, if that is not the last one: such a model gives features and cannot be saved. `membership`:
    which images it was trained on, if part of a user's own set was held out. `max_pixels`: see `Decoding`; a setting of
    the caller, not saved. `target`: what the outputs of `module` mean; for numbers, `class_names` are their names.
    `confidence`: how sure it is, if that was learned.
    """

    module: nn.Module
    architecture: Architecture | None
    preprocess: Preprocess
    class_names: tuple[str, ...]
    data_name: str = ""
    training_info: TrainingInfo = field(default_factory=TrainingInfo)
    node: str = ""
    membership: Membership | None = None
    max_pixels: int = MAX_PIXELS
    target: Target = ONE_CLASS
    confidence: Confidence | None = None

    @property
    def learned(self) -> Learned:
        """What is known about its training images, so that it is not tested on them."""
        return Learned(self.training_info.data_fingerprint, self.training_info.data_group or "", self.membership)

    @classmethod
    def from_module(cls, module: nn.Module, preprocess: Preprocess, class_names: Sequence[str]) -> Model:
        """A model from your own network: `module` maps images_NCHW, normalized as `preprocess` says, to scores_NK.

        It is copied into a graph through ONNX (the extra `onnx`), so that the model can be saved, converted and trained
        without its code. Raises UnsupportedError for operations that ONNX or the graph lacks.
        """
        graph = class_scores(graph_of_module(module, preprocess.shape_CHW))
        [count] = graph.values()[graph.outputs[0]].shape
        if count != len(class_names):
            raise UsageError(f"the network gives {count} scores, but there are {len(class_names)} class names")
        return cls(build(graph), graph, preprocess, tuple(class_names))

    @property
    def decoding(self) -> Decoding:
        """How images are decoded for it: always in color, so that `fitted` can mention the loss of color."""
        return replace(self.preprocess.decoding(self.max_pixels), gray=False)

    @property
    def batch_size(self) -> int:
        """Images per batch: at most 1000, and at most 64 MiB of input, so that large images fit in memory too."""
        channels, height, width = self.preprocess.shape_CHW
        return max(1, min(1000, 2**24 // (channels * height * width)))

    @property
    def preprocess_warning(self) -> str:
        """A warning that the preprocessing is assumed, not known, or done twice; empty if neither."""
        if self.preprocess.known_from:
            return done_twice(self.architecture, self.preprocess.asked)
        return (
            f"the model does not say how its images were prepared; assumed: {self.preprocess}. "
            "Say it with --preset, --mean, --scale, --channel-order or --resize"
        )

    def dataset(self, source: Source, views: int = 1, unreadable: Unreadable | None = None) -> Dataset:
        """Images of any size, preprocessed for this model, each in `views` versions; see `transforms/tta.py`.

        Images that cannot be read are reported together in one error, or skipped as `unreadable` says.
        """
        unreadable = skipping(False, lambda message: None) if unreadable is None else unreadable
        return eval_dataset(source, self.preprocess, views, threads=torch.get_num_threads(), unreadable=unreadable)

    def batches(
        self, dataset: Dataset, views: int = 1, workers: Workers = SINGLE_PROCESS, of: range | None = None
    ) -> Iterator[Batch]:
        """The batches of `dataset` in order, as network input; with several `workers`, this one's share; with `of`,
        only a range, which must begin at a batch boundary."""
        size = max(1, self.batch_size // views)
        mine = part(-(-len(dataset) // size), workers.rank, workers.size)
        numbers = range(len(dataset))[mine.start * size : mine.stop * size] if of is None else of
        for images_NCHW, labels_N in dataset.batches(np.asarray(numbers, dtype=np.int64), size):
            yield self._normalized(images_NCHW) if len(labels_N) else images_NCHW, labels_N

    def evaluate(self, dataset: Dataset, views: int = 1, workers: Workers = SINGLE_PROCESS) -> Evaluation:
        """Evaluate all images once, in fp32; the predictions for their `views` are averaged."""
        batches = self.batches(dataset, views, workers)
        return evaluate(
            self.network, batches, self.device, views, workers, independent=self.independent, target=self.target
        )

    def predict(self, paths: Sequence[str | Path], top: int | None = None) -> Predictions:
        """The `top` classes of each image in `paths`: files, folders and zips, in the order of their names.

        Without `top`, the 5 most probable or, if an image can have several classes, those it is predicted to have.
        Raises `DataError` for an image that cannot be read.
        """
        found = Predictions(one for batch in self.answers(list(find_images(paths)), top) for one in batch)
        for one in found:
            if one.error:
                raise DataError(f"{one.path}: {one.error}")
        return found

    def answers(
        self, images: Sequence[Location], top: int | None = None, of: range | None = None
    ) -> Iterator[list[Prediction]]:
        """As `predict`, batch by batch in bounded memory; images that cannot be read have an `error`.

        `images` come from `find_images`; a range from a multiple of `batch_size` on gives the same bits as the whole.
        """
        self.require_images()
        threads = torch.get_num_threads()
        of = range(len(images)) if of is None else of
        known = images[: of.stop]
        batches = file_batches(
            known, self.preprocess, self.decoding, batch_size=self.batch_size, threads=threads, start=of.start
        )
        for batch in batches:
            said, answers = iter(self._said(batch.images_NCHW, top)), []
            for place, done, error in zip(batch.locations, batch.fitted, batch.errors, strict=True):
                make = partial(Prediction, classes=(), error=error) if error else next(said)
                answers.append(make(str(place), fitted=done))
            yield answers

    def _said(self, images_NCHW: NDArray[np.uint8], top: int | None) -> Iterator[Callable[..., Prediction]]:
        """The Prediction of each image, without its path."""
        if self.node:
            yield from (partial(Prediction, classes=(), features=each) for each in self.outputs(images_NCHW).numpy())
            return
        if not len(images_NCHW):
            return
        answers_NK, sure = self.answered(images_NCHW)
        if self.target.kind == TargetKind.NUMBER:
            for values, more in zip(answers_NK.tolist(), sure, strict=True):
                numbers = tuple(zip(self.class_names, values, strict=True))
                yield partial(Prediction, classes=(), numbers=numbers, **more)
            return
        for found, more in zip(self.likeliest(answers_NK, top), sure, strict=True):
            yield partial(Prediction, classes=tuple((self.class_names[k], p) for k, p in found), **more)

    def answered(
        self, images_NCHW: NDArray[np.uint8], network: nn.Module | None = None
    ) -> tuple[torch.Tensor, list[dict[str, Any]]]:
        """(answers_NK for images of the model's size, the confidence of each: see `Confidence.said`).

        `network`, a copy of the model's own, is used in its place.
        """
        given_NCHW = self._normalized(torch.from_numpy(images_NCHW)).to(self.device)
        answers_NK, distances_N = answer(network or self.network, given_NCHW, self.target, self.independent)
        if self.confidence is None or distances_N is None:
            return answers_NK, [{}] * len(images_NCHW)
        return answers_NK, self.confidence.said(answers_NK, distances_N, self.class_names)

    def likeliest(self, probabilities_NK: torch.Tensor, top: int | None) -> Iterator[list[tuple[int, float]]]:
        """(class number, probability) of the `top` classes of each image; without `top`, see `predict`."""
        classes, is_several = len(self.class_names), self.target.kind == TargetKind.CLASSES
        values, indices = probabilities_NK.topk(min(top or (classes if is_several else 5), classes), dim=1)
        limits = thresholds_of(self.target, classes) if is_several and not top else (-1.0,) * classes
        for ks, ps in zip(indices.tolist(), values.tolist(), strict=True):
            yield [(k, p) for k, p in zip(ks, ps, strict=True) if p >= limits[k]]

    def features(self, paths: Sequence[str | Path]) -> tuple[list[str], NDArray[np.float32]]:
        """(names of the images, their features) of a model that `load` opened with a `node`."""
        found = self.predict(paths)
        return [one.path for one in found], np.array([one.features for one in found], np.float32)

    def outputs(self, images_NCHW: NDArray[np.uint8]) -> torch.Tensor:
        """The output of `module` for uint8 images of the model's size."""
        was_training = self.module.training
        self.module.eval()
        with torch.inference_mode(), whole_fp32():
            batches = self.batches(self._unlabeled(images_NCHW))
            parts = [self.module(images.to(self.device)).float().cpu() for images, _ in batches]
        self.module.train(was_training)
        return torch.cat(parts) if parts else torch.zeros(0)

    @property
    def feature_shape(self) -> torch.Size:
        """The shape of what `outputs` gives for one image."""
        return self.outputs(np.zeros((1, *self.preprocess.shape_CHW), np.uint8)).shape[1:]

    def probabilities(self, images_NCHW: np.ndarray) -> torch.Tensor:
        """probabilities_NK for uint8 images of the model's size; for a model of numbers, the numbers."""
        if not len(images_NCHW):
            return torch.zeros(0, len(self.class_names))
        return self.evaluate(self._unlabeled(images_NCHW)).answers_NK

    def _normalized(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        mean, scale = mean_of(self.preprocess), scale_of(self.preprocess)
        return normalize(images_NCHW, mean, scale, self.preprocess.channel_order == "bgr")

    def _unlabeled(self, images_NCHW: np.ndarray) -> Dataset:
        n, is_class = len(images_NCHW), self.target.kind == TargetKind.CLASS
        labels = torch.zeros(n, dtype=torch.int64) if is_class else torch.zeros(n, len(self.class_names))
        return Dataset(ArraySource(torch.from_numpy(images_NCHW), labels))

    def digest(self) -> str:
        """A digest that differs between models whose answers differ."""
        known = self.confidence.record if self.confidence else None
        file = self.module.path if isinstance(self.module, OnnxNetwork) else None
        return digest_of(self.module, self.preprocess, (self.class_names, self.node, self.target, known), file)

    def _repr_html_(self) -> str:
        parameters = sum(parameter.numel() for parameter in self.module.parameters())
        rows = {"classes": ", ".join(self.class_names[:MOST]), "the network sees": self.preprocess}
        rows |= {"parameters": f"{parameters:,}", **dict(figures(vars(self.training_info)))}
        return table(rows.items(), "Model")

    @property
    def network(self) -> nn.Module:
        """What computes answers: `module`, or a network that also gives its confidence."""
        if self.confidence is None or isinstance(self.module, OnnxNetwork):  # which computes its own confidence
            return self.module
        return ConfidentNetwork(self.with_features(), self.confidence).to(self.device)

    def ask(self, accept: float | None, coverage: float | None) -> None:
        """Set other limits for answers; see `Confidence.asked`. Raises UsageError if the model has no confidence."""
        require_known(self.confidence, accept, coverage)
        if self.confidence:
            self.confidence = self.confidence.asked(accept, coverage)

    def with_features(self) -> WithFeatures:
        """images_NCHW -> (the output of `module`, features_ND)."""
        hidden = [name for name, _ in self.module.named_children() if name.endswith("head_hidden")]
        return WithFeatures(self.module, hidden[0] if hidden else last_layer(self.module))

    def require_images(self) -> None:
        """Raise UsageError if an imported network takes plain numbers and their image shape is unknown."""
        if isinstance(self.architecture, Graph) and self.preprocess.height == 1:
            raise UsageError(
                f"the network takes {self.preprocess.width} numbers; give the image shape that they represent with "
                f"--image-shape, for example 1x28x28"
            )

    def require_classes(self) -> None:
        """Raise UsageError for a model that gives numbers instead of class probabilities."""
        if self.node:
            raise UsageError(f"the model gives the numbers of {self.node}, not classes; `convolve predict` prints them")

    def for_images(self, shape_CHW: tuple[int, int, int]) -> Model:
        """This model for images of another shape, if it is an imported network that takes plain numbers."""
        if shape_CHW == self.preprocess.shape_CHW or not isinstance(self.architecture, Graph):
            return self
        channels, height, width = shape_CHW
        architecture = reshaped_image(self.architecture, shape_CHW)
        order: ChannelOrder = "gray" if channels == 1 else "bgr"
        preprocess = replace(self.preprocess, channels=channels, height=height, width=width, channel_order=order)
        return replace(self, architecture=architecture, preprocess=preprocess)

    def for_arrays(self, shape_CHW: tuple[int, int, int]) -> Model:
        """This model for images in memory; a network that takes images accepts any, resized."""
        return self.for_images(shape_CHW) if self.preprocess.height == 1 else self

    def cut(self, node: str) -> Model:
        """The model truncated at `node`: a name in an imported network's file, or a layer of one of ours."""
        if not isinstance(self.architecture, Graph):
            return replace(self, module=FeatureExtractor(self.module, node).eval(), node=node, confidence=None)
        graph = self.architecture.with_outputs([node])
        return replace(
            self, module=rebuild(graph, self.module.state_dict()), architecture=graph, node=node, confidence=None
        )

    @property
    def answer(self) -> Model:
        """This model without the additional outputs that only its training needs."""
        graph, objective = self.architecture, self.target.objective
        if objective is None or not isinstance(graph, Graph):
            return self
        graph = first_output(graph, len(objective.sizes))
        graph = class_scores(graph) if self.target.kind == TargetKind.CLASS else graph
        module = rebuild(graph, self.module.state_dict()).to(self.device)
        return replace(self, module=module, architecture=graph, target=replace(self.target, objective=None))

    def body(self) -> nn.Module:
        """images_NCHW, normalized -> features_ND: the input of the last layer with weights, with maps averaged.

        The module is in evaluation mode and has the model's present weights.
        """
        if not isinstance(self.architecture, Graph):
            return features_of(self.module).eval()
        return rebuild(without_head(self.architecture), self.module.state_dict()).to(self.device)

    @torch.no_grad()
    def set_head(self, weight_KD: torch.Tensor, bias_K: torch.Tensor) -> None:
        """Set the weights of the last layer, which must be dense and read the features."""
        head = self.module.get_submodule(last_layer(self.module))
        head.weight.copy_(weight_KD)  # type: ignore[operator]
        head.bias.copy_(bias_K)  # type: ignore[operator]

    def save(self, folder: str | Path) -> None:
        """Write the model folder, atomically file by file."""
        write_model(
            Path(folder), self.module, self._whole(), self.preprocess,
            metadata=self.metadata, membership=self.membership, confidence=self.confidence,
        )  # fmt: skip

    def export(self, path: str | Path, *, with_preprocessing: bool = False, any_size: bool = False) -> Parity:
        """Write the model for other runtimes, in the format of `path`'s ending: ONNX (.onnx) or a torch.export program
        (.pt2).

        The file takes normalized images_NCHW; with `with_preprocessing`, uint8 images_NHWC of the model's size, gray or
        RGB; with `any_size`, one image_HW3 of any size. It is first run and compared with this model: if the answers
        differ, ConvolveError is raised and nothing is written. An older file is replaced. A model card is written
        beside it.
        """
        path = Path(path)
        self._whole()
        self.require_images()
        metadata, is_class = self.metadata, self.target.kind == TargetKind.CLASS
        answering = self.network if is_class else Answering(self.network, self.target)
        if self.target.kind == TargetKind.NUMBER:  # the file returns them unchanged
            metadata = replace(metadata, target=Target(self.target.kind))
        known = self.confidence.tensors if self.confidence else {}
        options = Options(with_preprocessing or any_size, any_size, self.independent, known)
        parity = export(answering, self.preprocess, metadata, path, options)
        inside = {"takes_pixels": options.with_preprocessing, "any_size": any_size}
        write_card(path, self._whole(), self.module, self.preprocess, self.metadata, **inside)
        return parity

    @property
    def metadata(self) -> Metadata:
        target = None if self.target == ONE_CLASS else self.target
        return Metadata(
            class_names=self.class_names, data=self.data_name, training_info=self.training_info, target=target,
            confidence=self.confidence.record if self.confidence else None,
        )  # fmt: skip

    def _whole(self) -> Architecture:
        """The architecture of a model that can be written; raises UsageError if it cannot."""
        if self.node:
            raise UsageError(f"a model that stops at {self.node} gives features, not classes; save the whole model")
        if self.architecture is None:
            known = note_of(self.module) or "a quantized file"
            raise UsageError(f"{known} and cannot be written in another form; give the model that it was made from")
        return self.architecture

    @property
    def independent(self) -> bool:
        """Whether the scores are log-probabilities of independent classes."""
        if isinstance(self.module, OnnxNetwork):
            return self.module.independent
        return isinstance(self.architecture, Graph) and gives_independent(self.architecture)

    @property
    def device(self) -> torch.device:
        tensors = chain(self.module.parameters(), self.module.buffers())
        return next(tensors, torch.empty(0)).device
