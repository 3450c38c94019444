"""The network that a training starts from, adapted to its data: its head, its input size, its preprocessing."""

from dataclasses import dataclass, replace
from math import prod
from typing import Any

from convolve.data.splits import Splits
from convolve.errors import ModelError, UsageError
from convolve.graph.build import rebuild
from convolve.graph.classifier import NoClassifierError, SeveralHeadsError
from convolve.graph.ends import for_training
from convolve.graph.graph import Graph
from convolve.graph.heads import HEAD, HEAD_DROPOUT, HEAD_HIDDEN, as_vector, in_size, with_head, without_head
from convolve.importers.loader import PreprocessOverrides
from convolve.loading import load
from convolve.model import Model
from convolve.models import build_model
from convolve.models.heads import last_layer
from convolve.recipe import Recipe
from convolve.specs.data import DataSpec
from convolve.specs.model import ModelSpec
from convolve.training.finetune import take_weights
from convolve.training.run_folder import RunFolder
from convolve.transforms.preprocess import LETTERBOX_GRAY, Preprocess


@dataclass(frozen=True)
class Initial:
    """The `model` that a training starts from, which the user calls `name`; `said` describes how it was adapted."""

    model: Model
    name: str
    said: tuple[str, ...] = ()

    @property
    def has_dropout_rates(self) -> bool:
        """Whether the file sets dropout itself; CNTK v1 files hold no rates, so the recipe sets them."""
        graph = self.model.architecture
        nodes = graph.nodes if isinstance(graph, Graph) else ()
        rates = {node.number("rate") for node in nodes if node.op == "dropout" and node.name != HEAD_DROPOUT}
        return isinstance(graph, Graph) and rates != {0.0}

    @property
    def has_fresh_head(self) -> bool:
        """Whether its last layer is still untrained. An imported network may have zeros there by itself."""
        graph = self.model.architecture
        if isinstance(graph, Graph) and HEAD not in {node.name for node in graph.nodes}:
            return False
        return not self.model.module.get_parameter(f"{last_layer(self.model.module)}.weight").any()

    def unused(self, recipe: ModelSpec) -> str:
        """A note on settings of the recipe that this network overrides; empty if both agree."""
        theirs = self.model.architecture
        if not isinstance(theirs, Graph) and (theirs.name, theirs.variant) == (recipe.name, recipe.variant):  # type: ignore[union-attr]
            return ""
        but = " but for model.dropout, since the file holds no rates" if not self.has_dropout_rates else ""
        but = but if isinstance(theirs, Graph) else " but for model.dropout"
        return (
            f"{self.name} determines the network and the preprocessing ({self.model.preprocess}): the recipe's "
            f"model{but}, data.mean and data.scale are not used"
        )


def initial_model(recipe: Recipe, splits: Splits, folder: RunFolder) -> Initial | None:
    """The model that the training in `folder` starts from, adapted to its data; an unfinished run has stored it."""
    spec, kept = recipe.model, folder.path / "from"
    if not spec.start:
        return None
    if folder.resumes and (kept / "model.json").exists():
        return Initial(load(kept, whole=True), spec.start)
    model = _opened(spec, splits)
    goes_on = not (spec.head or spec.cut) and (model.target.kind, len(model.class_names)) == (
        splits.target,
        len(splits.class_names),
    )
    model = model if goes_on else model.answer
    model = replace(model, preprocess=_preprocess(model.preprocess, recipe.data, spec))
    model, said = (_of_graph if isinstance(model.architecture, Graph) else _of_ours)(model, recipe, splits)
    if not any(parameter.requires_grad for parameter in model.module.parameters()):
        raise ModelError(
            f"every parameter of {spec.start} is frozen: nothing is left to train; model.head=linear adds a new head"
        )
    # Its confidence, and its record of training images, are no longer valid.
    names = {"class_names": splits.class_names, "data_name": splits.name, "node": ""}
    model = replace(model, **names, confidence=None, membership=None)  # type: ignore[arg-type]
    return Initial(model, spec.start, said)


def _opened(spec: ModelSpec, splits: Splits) -> Model:
    """The network in the file, truncated at `model.cut` if it was imported, for images if it takes plain numbers."""
    overrides = PreprocessOverrides(arch=spec.arch or None)
    try:
        model = load(spec.start, overrides, whole=True)
    except (NoClassifierError, SeveralHeadsError) as error:
        if not spec.cut:
            reason = str(error).partition(";")[0]
            raise type(error)(
                f"{spec.start}: {reason}; name the node that a new head is attached to with model.cut=NODE"
            ) from None
        return load(spec.start, overrides, spec.cut)
    if model.architecture is None:
        raise UsageError(
            f"{spec.start} can only be run by onnxruntime and cannot be trained; give the model that it was made from"
        )
    if splits.array_shape_CHW:
        model = model.for_arrays(splits.array_shape_CHW)
    model.require_images()
    if spec.cut and isinstance(model.architecture, Graph):
        model = model.cut(spec.cut)
    return model


def _preprocess(given: Preprocess, spec: DataSpec, model: ModelSpec) -> Preprocess:
    """The network's preprocessing, except for what the recipe sets explicitly. The user's photographs are rotated as
    EXIF says, whatever an importer assumes."""
    chosen, changes = model.data_overrides.split(","), dict[str, Any]()
    if "channels" in chosen and spec.channels != given.channels:
        raise UsageError(f"data.channels={spec.channels}: {model.start} takes {given.channels}; leave it out")
    if "image_size" in chosen and spec.size:
        changes |= {"height": spec.size[0], "width": spec.size[1]}
    if "resize" in chosen:
        changes |= {"resize": spec.resize}
        changes |= {"padding_value": LETTERBOX_GRAY} if spec.resize == "letterbox" != given.resize else {}
    if "crop_ratio" in chosen:
        changes["crop_ratio"] = spec.crop_ratio
    if "scale" in chosen:
        changes["scale"] = spec.scale
    if "interpolation" in chosen:
        changes["interpolation"] = None if spec.interpolation == "auto" else spec.interpolation
    if "mean" in chosen:
        mean = spec.mean[::-1] if given.channel_order == "bgr" else spec.mean
        changes |= {"mean": mean[0] if len(mean) == 1 else mean, "mean_image_CHW": None}
    elif given.mean_image_CHW is not None and changes.keys() & {"height", "width"}:
        mean = tuple(map(float, given.mean_image_CHW.mean((1, 2))))  # the mean of each plane, as the image has one size
        changes |= {"mean": mean[0] if len(mean) == 1 else mean, "mean_image_CHW": None}
    if "orientation" in chosen or given.orientation == "stored":
        changes["orientation"] = spec.orientation
    return replace(given, **changes, known_from=given.known_from or "training")


def _fresh_head(model: Model, recipe: Recipe, splits: Splits) -> tuple[str, tuple[str, ...]]:
    """(the kind of the new head, or empty to keep its own; a note about that).

    With 0 epochs, fitting a new linear head is the whole training.
    """
    spec, names, wanted = recipe.model, model.class_names, splits.class_names
    kind = spec.head or ("" if recipe.run.epochs else "linear")
    if kind == "mlp" and not recipe.run.epochs:
        raise UsageError("model.head=mlp needs training, and run.epochs=0: set it to 1 or more, or choose linear")
    if not (kind or spec.cut) and splits.target == "number" and model.node and _gives(model) == len(wanted):
        return "", (f"{spec.start} gives as many numbers: its last layer is kept",)
    if kind or len(names) != len(wanted) or model.target.kind != splits.target:
        kind = kind or "linear"
        behind = f"everything after {spec.cut}" if spec.cut else f"its last layer, {_shown(model)},"
        what = "classes" if splits.target != "number" else "numbers" if len(wanted) > 1 else "number"
        return kind, (f"{spec.start}: {behind} is replaced by a new {kind} head for {len(wanted)} {what}",)
    if names == wanted or all(name.isdecimal() for name in names):
        return "", ()
    return "", (
        f"{spec.start} has as many classes, but different ones ({names[0]}, ...; here {wanted[0]}, ...): its last "
        f"layer is kept; model.head=linear starts a new one",
    )


def _gives(model: Model) -> int:
    """How many numbers an imported network gives per image, apart from axes of length 1; 0 if it gives no vector."""
    graph = model.architecture
    shape = graph.values()[graph.outputs[0]].shape if isinstance(graph, Graph) else (0,)
    return shape[0] if shape and prod(shape) == shape[0] else prod(shape) * (not shape)


def _shown(model: Model) -> str:
    name = last_layer(model.module)
    return f"{name} of {len(model.class_names)} classes" if model.class_names else name


def _of_graph(model: Model, recipe: Recipe, splits: Splits) -> tuple[Model, tuple[str, ...]]:
    """An imported network with the head and the input size that the training needs."""
    graph, spec, preprocess = model.architecture, recipe.model, model.preprocess
    assert isinstance(graph, Graph)  # the caller has checked this
    kind, said = _fresh_head(model, recipe, splits)
    if kind:
        body = as_vector(graph) if spec.cut else without_head(graph)
        graph = with_head(body, len(splits.class_names), kind, spec.dropout[0], recipe.run.seed)
    else:
        is_number, is_whole = splits.target == "number", model.target.objective
        graph = graph if is_whole else as_vector(graph) if is_number else for_training(graph)
    if graph.inputs[0].shape != preprocess.shape_CHW:
        graph = in_size(graph, preprocess.height, preprocess.width)
    fresh = (HEAD, HEAD_HIDDEN) if kind else ()
    return replace(model, module=rebuild(graph, model.module.state_dict(), fresh), architecture=graph), said


def _of_ours(model: Model, recipe: Recipe, splits: Splits) -> tuple[Model, tuple[str, ...]]:
    """The same for a network built by us or by another package."""
    theirs, spec, preprocess = model.architecture, recipe.model, model.preprocess
    assert theirs is not None  # the caller has checked this
    assert not isinstance(theirs, Graph)
    kind, said = _fresh_head(model, recipe, splits)
    network = spec.network(
        name=theirs.name, variant=theirs.variant, head=kind or theirs.head, cut=spec.cut or theirs.cut
    )
    module = build_model(network, preprocess.shape_CHW, len(splits.class_names), recipe.run.seed)
    size = f"{preprocess.width}x{preprocess.height}"
    what = f"{spec.start} does not fit images of {size}{f' up to {network.cut}' if network.cut else ''}"
    try:
        take_weights(module, model.module, bool(kind), what)
    except ModelError as error:
        raise UsageError(
            f"{error}; leave data.image_size out, or truncate the network earlier with model.cut"
        ) from None
    return replace(model, module=module, architecture=network), said
