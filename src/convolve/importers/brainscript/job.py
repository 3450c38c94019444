"""A configuration -> what is to be done: which blocks, on which data, with which recipe and network.

Everything is read before anything is done, so that everything unsupported is reported at once.
"""

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from convolve.errors import ConvolveError, UnsupportedError, UsageError
from convolve.importers.brainscript.config import Block, read_config
from convolve.importers.brainscript.criterion import input_names, trained
from convolve.importers.brainscript.files import files_in
from convolve.importers.brainscript.loaded import Described, Models
from convolve.importers.brainscript.mel import edited
from convolve.importers.brainscript.ndl.builder import read_ndl
from convolve.importers.brainscript.ndl.maker import MINIBATCH_SIZE, Maker
from convolve.importers.brainscript.network import Network, needed_for, read_network, record_and_names
from convolve.importers.brainscript.output import OutputFormat, read_format
from convolve.importers.brainscript.parallel import Parallel, read_parallel
from convolve.importers.brainscript.reader import Images, Reader, read_reader
from convolve.importers.brainscript.sgd import read_sgd
from convolve.importers.brainscript.simple import read_simple
from convolve.importers.brainscript.syntax import Spot
from convolve.importers.brainscript.text import Text
from convolve.recipe import Recipe
from convolve.specs.data import DataSpec

_PASSED_OVER = (  # keys that change no result here
    "traceLevel", "outputDir", "numCPUThreads", "hyperCompressMemory", "shareNodeValueMatrices", "progressTracing",
    "forceDeterministicAlgorithms", "forceConstantRandomSeed", "timestamping", "configName", "runName", "imageLayout",
    "optimizeGPUMemory", "perfTraceLevel", "initOnCPUOnly", "currentDirectory", "ndlMacros",
)  # fmt: skip


@dataclass(frozen=True)
class TrainStep:
    """`recipe` has everything but the network, the data, and what several workers do (`parallel`). `validation` is the
    cvReader, if there is one. `resume` is makeMode: the training continues and skips what is finished."""

    name: str
    network: Network
    recipe: Recipe
    reader: Reader
    validation: Reader | None
    model_path: Path
    resume: bool
    parallel: Parallel


@dataclass(frozen=True)
class ModelStep:
    """A trained model computes the values of `nodes`. `network` is that of the block that trains the model, if there is
    one; 0 `samples` means all that the reader delivers."""

    name: str
    network: Network | None
    reader: Reader
    nodes: tuple[str, ...]
    model_path: Path
    batch_size: int
    samples: int


@dataclass(frozen=True)
class EvaluateStep(ModelStep):
    """The mean of each node is reported; without `nodes`, those of all evaluation nodes and criteria. `lines_every`:
    after how many minibatches a line is logged, 0: never. `epochs`: first, step and last of those that a cv action
    compares."""

    lines_every: int
    epochs: tuple[int, int, int] | None = None


@dataclass(frozen=True)
class WriteStep(ModelStep):
    """The values are written to `<output_path>.<node>`; without `nodes`, those of the network's outputNodes."""

    output_path: str
    format: OutputFormat


@dataclass(frozen=True)
class EditStep:
    """Networks that are made from trained ones are saved as models at these paths."""

    name: str
    saved: tuple[tuple[Path, Network], ...]


Step = TrainStep | EvaluateStep | WriteStep | EditStep


@dataclass(frozen=True)
class Job:
    """`warnings`: sentences about keys without meaning and actions that are skipped; `refused`: sentences about what is
    known but not supported. `log` is the log file beside the console, more detailed with a `trace_level` above 0."""

    name: str
    steps: tuple[Step, ...]
    warnings: tuple[str, ...]
    refused: tuple[str, ...]
    log: Path | None
    trace_level: int = 0


def read_job(arguments: Sequence[str], models: Models | None = None) -> Job:
    """The job of a command line of files and `key=value`; see `read_config`. `models` opens what its networks load.

    Raises FormatError with line and column, UnsupportedError where there is nothing that could be shown.
    """
    root, folders = read_config(arguments)
    first = next(name for argument in arguments for name in files_in(argument))
    return _Job(root, folders, models or Models()).read(Path(first).stem)


class _Job:
    def __init__(self, root: Block, folders: Sequence[Path], models: Models) -> None:
        self.root, self.folders, self.models = root, folders, models
        models.text_of = self.text_of
        self.refused: list[str] = []
        self.notes: list[str] = []
        self.blocks: list[Block] = [root]
        self.networks: dict[str, Network] = {}
        self.makers: dict[str, Maker] = {}  # of the networks in older languages
        self.edited: dict[str, tuple[Described, Network]] = {}  # by the path of the model

    def refuse(self, block: Block, key: str, what: str) -> None:
        self.refused.append(block.unsupported(key, what))

    def read(self, name: str) -> Job:
        self.pass_over(self.root)
        if not self.root.words("command", ("train",)):
            raise self.root.here.error("`command` is empty; name the blocks to run")
        if self.root.text("precision", "float").lower() not in ("float", "double"):
            self.refuse(self.root, "precision", "a precision other than float")
        steps: list[Step] = []
        for command in self.root.words("command", ("train",)):
            block = self.root.block(command)
            if block is None:
                what = f"`command` names {command!r}, but no block has this name; correct one of the two"
                raise self.root.error("command", what)
            self.blocks.append(block)
            steps += self.steps(block)
        prefix, commands = self.root.file("stderr"), "_".join(self.root.words("command", ("train",)))
        log = None if prefix in ("", "-") else Path(f"{prefix}_{commands}.log")
        refused, level = tuple(dict.fromkeys(self.refused)), self.root.integer("traceLevel", 0)
        self.read_others()
        return Job(name, tuple(steps), (*self.notes, *self.warnings()), refused, log=log, trace_level=level)

    def steps(self, block: Block) -> list[Step]:
        """The steps that the actions of a command's block stand for."""
        self.pass_over(block)
        found = []
        for action in block.words("action", ("train",), inherit=False):
            if action.lower() in _ACTIONS:
                found.append(_ACTIONS[action.lower()](self, block))
            elif action.lower() in _PRINTING:
                said = f"the action {action!r} only prints or draws; it is skipped (see `convolve show`)"
                self.notes.append(f"{block.place('action')}: {block.name}: {said}")
                block.pass_over()
            else:
                self.refuse(block, "action", f"the action {action!r}")
        return found

    def pass_over(self, block: Block) -> None:
        for key in _PASSED_OVER:
            block.find(key)

    def read_others(self) -> None:
        """Read the commands that are not run, too, so that their keys are known. Their errors are ignored."""
        others = _Job(self.root, self.folders, self.models)
        others.networks, others.makers, others.edited = self.networks, self.makers, self.edited
        run = {name.lower() for name in self.root.words("command", ("train",))}
        for name, block in self.root.inner_blocks().items():
            if name.lower() not in run and "action" in block.entries:
                with suppress(ConvolveError):
                    others.steps(block)

    def train(self, block: Block) -> TrainStep:
        model_path = Path(self.model_path(block, "say where the model goes"))
        network = self.network_in(block)
        if block.flag("makeMode", True) and f"{model_path}.0" in self.edited:  # the training continues from there
            network = self.edited[f"{model_path}.0"][1]
        if network is None:
            raise self.no_network(block)
        sgd_block = block.block("SGD") or block.block("optimizer")
        if sgd_block is None:
            raise block.here.error(f"{block.name} has no SGD block; say how it is trained")
        self.blocks.append(sgd_block)
        parallel = read_parallel(self.root, sgd_block)
        self.models.made.add(block.file("modelPath"))
        reader = self.reader(block, "reader", network)
        validation = self.reader(block, "cvReader", network) if block.block("cvReader", inherit=False) else None
        self.require_known_statistics(network, reader)
        try:
            recipe = read_sgd(model_path.name, sgd_block, validation is not None, self.refuse)
            recipe = self.completed(self.with_free_batch_norm(recipe, network), block, reader)
        except UsageError as error:  # a value out of range, as the recipe reports it
            raise sgd_block.here.error(str(error)) from None
        return TrainStep(
            name=block.name, network=network, recipe=recipe, reader=reader, validation=validation,
            model_path=model_path, resume=block.flag("makeMode", True), parallel=parallel,
        )  # fmt: skip

    def model_path(self, block: Block, way_out: str) -> str:
        path = block.file("modelPath")
        if not path:
            raise block.here.error(f"{block.name} has no modelPath; {way_out}")
        return path

    def require_known_statistics(self, network: Network, reader: Reader) -> None:
        """Mean and InvStdDev are computed from what a text reader delivers."""
        for node in needed_for(trained(network).outputs):
            of_text = not isinstance(reader.features, Images) and all(x.kind == "Input" for x in node.inputs)
            if node.kind in ("Mean", "InvStdDev") and not of_text:
                self.refused.append(str(node.unsupported(f"{node.kind} of anything but the features of a text reader")))

    def with_free_batch_norm(self, recipe: Recipe, network: Network) -> Recipe:
        """Layers can ask for what the SGD block can set, too: batch normalization without L1 and L2 penalties."""
        layers = [node for node in needed_for(trained(network).outputs) if node.kind == "BatchNormalization"]
        free = [layer for layer in layers if layer.settings.get("unregularized") is True]
        if not free or not recipe.optimizer.penalize_batch_norm:
            return recipe
        if len(free) < len(layers) and (recipe.optimizer.l1 or recipe.optimizer.l2):
            self.refused.append(str(free[0].error("disableRegularization of some layers only is not supported")))
        return replace(recipe, optimizer=replace(recipe.optimizer, penalize_batch_norm=False))

    def completed(self, recipe: Recipe, block: Block, reader: Reader) -> Recipe:
        """The recipe with what is set outside of the SGD block."""
        images = isinstance(reader.features, Images)
        order = "file" if not reader.randomize else "shuffled" if images else "cntk"
        precision = recipe.run.precision if block.text("precision", "float").lower() == "float" else "fp32"
        data = DataSpec(
            name=recipe.name, order=order, resize="square" if images else "cover",  # type: ignore[arg-type]
            orientation="cntk" if images else "exif", train_transforms=reader.transforms, scale=1.0,
        )  # fmt: skip
        seed = block.integer("randomSeedOffset", 0)
        run = replace(recipe.run, seed=seed, precision=precision, device=self.device(block))
        return replace(recipe, data=data, run=run)

    def network_in(self, block: Block) -> Network | None:
        """The network that `block` describes, in any language; None if it describes none."""
        text = _text(block)
        if text is not None:
            return self.remembered(text.string, lambda: read_network(text, self.folders, self.models))
        for key, read in _OLDER.items():
            if block.find(key, inherit=False) is not None:
                return self.remembered(block.path(key), lambda: self.older(block, key, read))  # noqa: B023  at once
        return None

    def older(self, block: Block, key: str, read: Callable[[Block, float], Maker]) -> Network:
        builder, sgd = block.block(key), block.block("SGD") or block
        assert builder is not None  # the caller has found it
        self.blocks.append(builder)
        size = float(sgd.integers("minibatchSize", (int(MINIBATCH_SIZE),))[0])
        maker = self.makers[block.path(key)] = read(builder, size)
        return maker.network(Spot(builder.bodies[0], 0))

    def remembered(self, key: str, read: Callable[[], Network]) -> Network:
        """Equal texts are one network, however many commands have them."""
        if key not in self.networks:
            self.networks[key] = read()
            self.notes += self.networks[key].warnings
        return self.networks[key]

    def no_network(self, block: Block) -> Exception:
        if block.find("createNetwork"):
            what = "describes its network with createNetwork"
            return UnsupportedError(f"{block.here}: {block.name} {what}; write it as BrainScriptNetworkBuilder")
        return block.here.error(f"{block.name} has no BrainScriptNetworkBuilder; say which network is trained")

    def reader(self, block: Block, key: str, network: Network | None) -> Reader:
        reader = block.block(key)
        if reader is None:
            raise block.here.error(f"{block.name} has no {key}; say where its data is")
        self.blocks.append(reader)
        found = read_reader(reader, input_names(network), self.refuse)
        return replace(found, interleaved=network is not None and network.interleaved)

    def device(self, block: Block) -> str:
        value = block.text("deviceId", "auto").lower()
        if value in ("auto", "default"):
            return "auto"
        return "cpu" if value in ("-1", "cpu") else f"cuda:{block.integer('deviceId', 0)}"

    def test(self, block: Block) -> EvaluateStep:
        lines_every = block.integer("numMBsToShowResult", 100) if block.integer("traceLevel", 0) > 0 else 0
        return EvaluateStep(**self.model_step(block, "tested", "evalNodeNames", 40960), lines_every=lines_every)

    def cross_validate(self, block: Block) -> EvaluateStep:
        interval = block.integers("crossValidationInterval")
        if len(interval) != 3 or interval[1] < 1:
            raise block.here.error(f"{block.name}: crossValidationInterval must be first:step:last, as in 1:1:10")
        block.find("sleepTimeBetweenRuns")
        return replace(self.test(block), epochs=(interval[0], interval[1], interval[2]))

    def write(self, block: Block) -> WriteStep:
        asked = self.model_step(block, "asked", "outputNodeNames", 2048)
        output_path = block.file("outputPath")
        if not output_path:
            self.refuse(block, "writer", "writing without an outputPath")
        for key in ("nodeUnitTest", "writeSequenceKey"):
            if block.flag(key):
                self.refuse(block, key, "true")
        own_format = block.block("format", inherit=False)
        output_format = read_format(own_format, self.refuse) if own_format else OutputFormat()
        return WriteStep(**asked, output_path=output_path, format=output_format)

    def edit(self, block: Block) -> EditStep:
        """BrainScript's edit action saves the network that it describes, MEL what its script says."""
        text, path = _text(block), block.file("outputModelPath")
        if text is not None and not path:
            raise block.here.error(f"{block.name} has no outputModelPath; say where the model goes")
        if text is not None:
            saved: dict[str, tuple[Described, Network]] = {
                path: (partial(record_and_names, text=text), read_network(text, self.folders, self.models))
            }
        else:
            made = edited(block, self.models, self.notes.append)
            saved = {path: (maker.described, maker.network(spot)) for path, maker, spot in made}
        self.edited |= saved
        self.models.made |= saved.keys()
        return EditStep(block.name, tuple((Path(path), network) for path, (_, network) in saved.items()))

    def model_step(self, block: Block, what: str, nodes: str, batch_size: int) -> dict[str, Any]:
        """The fields of a `ModelStep`. `key` names its nodes; `what` says what is done with the model."""
        model_path = self.model_path(block, f"say which model is {what}")
        network = self.network_of(model_path)
        return {
            "name": block.name, "network": network, "reader": self.reader(block, "reader", network),
            "nodes": block.words(nodes), "model_path": Path(model_path),
            "batch_size": block.at_least(1, "minibatchSize", block.integers("minibatchSize", (batch_size,))[0]),
            "samples": block.integer("epochSize", 0),
        }  # fmt: skip

    def network_of(self, model_path: str) -> Network | None:
        """The network of the block that trains the model at `model_path` or one of its epochs, run or not."""
        if model_path in self.edited:
            return self.edited[model_path][1]
        blocks = self.blocks_of(model_path)
        self.models.made |= {block.file("modelPath") for block in self.root.inner_blocks().values()}  # made earlier
        return next((network for block in blocks if (network := self.network_in(block)) is not None), None)

    def text_of(self, model_path: str) -> Described | None:
        """What describes the network of the model, in any language."""
        if model_path in self.edited:
            return self.edited[model_path][0]
        for block in self.blocks_of(model_path):
            text = _text(block)
            if text is not None:
                return partial(record_and_names, text=text)
            if self.network_in(block) is not None:
                return next(self.makers[block.path(key)] for key in _OLDER if block.path(key) in self.makers).described
        return None

    def blocks_of(self, model_path: str) -> list[Block]:
        """The blocks whose modelPath this is, or that save it as the model of an epoch."""
        named = [(block, block.file("modelPath")) for block in self.root.inner_blocks().values()]
        return [
            b for b, path in named if path and (model_path == path or _EPOCH.fullmatch(model_path.removeprefix(path)))
        ]

    def warnings(self) -> list[str]:
        """Keys that nobody has read; whole blocks do not count, since they may belong to other commands."""
        return [sentence for block in self.blocks for sentence in block.unread()]


def _text(block: Block) -> Text | None:
    """The BrainScript of a block, under either of the names that its builder has had."""
    text = block.raw("BrainScriptNetworkBuilder", inherit=False)
    return block.raw("ExperimentalNetworkBuilder", inherit=False) if text is None else text


# Actions whose results only people read.
_PRINTING = ("dumpnode", "dumpnodes", "dumpmodel", "plot", "devtest")

_EPOCH = re.compile(r"\.\d+")

# The languages before BrainScript -> what reads their block, with the size of a minibatch.
_OLDER: dict[str, Callable[[Block, float], Maker]] = {
    "NDLNetworkBuilder": read_ndl,
    "SimpleNetworkBuilder": lambda block, size: read_simple(block),
}

# The name of an action -> what reads its block.
_ACTIONS: dict[str, Callable[[_Job, Block], Step]] = {
    "train": _Job.train,
    "trainrnn": _Job.train,
    "test": _Job.test,
    "eval": _Job.test,
    "cv": _Job.cross_validate,
    "write": _Job.write,
    "edit": _Job.edit,
}
