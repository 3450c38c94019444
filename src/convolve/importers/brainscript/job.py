"""A configuration -> what is to be done: which blocks, on which data, with which recipe and network.

Everything is read before anything is done, so that all that is not supported can be said at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from convolve.errors import UnsupportedError, UsageError
from convolve.importers.brainscript.config import Block, read_config
from convolve.importers.brainscript.network import Network, read_network
from convolve.importers.brainscript.reader import Reader, read_reader
from convolve.importers.brainscript.sgd import Sgd, read_sgd
from convolve.importers.brainscript.text import Text
from convolve.recipe import DataSpec, ModelSpec, Recipe, RunSpec

_PASSED_OVER = (  # what changes no result here
    "traceLevel", "outputDir", "numCPUThreads", "hyperCompressMemory", "shareNodeValueMatrices",
    "progressTracing", "forceDeterministicAlgorithms", "timestamping", "configName", "runName",
)  # fmt: skip


@dataclass(frozen=True)
class TrainStep:
    """`recipe` says everything but the network and the data. `validation` is the cvReader, if there is one. `resume`:
    makeMode, which goes on and skips what is finished."""

    name: str
    network: Network
    sgd: Sgd
    recipe: Recipe
    reader: Reader
    validation: Reader | None
    model_path: Path
    resume: bool


@dataclass(frozen=True)
class EvaluateStep:
    """`nodes` are those whose mean is reported; empty: all evaluation nodes and criteria. `network` is that of the
    block that trains the model, if there is one."""

    name: str
    network: Network | None
    reader: Reader
    nodes: tuple[str, ...]
    model_path: Path
    batch_size: int


@dataclass(frozen=True)
class Job:
    """`warnings` are sentences on keys that mean nothing, `refused` on what is known and not supported; `log` is the
    file that is written beside the console."""

    name: str
    steps: tuple[TrainStep | EvaluateStep, ...]
    warnings: tuple[str, ...]
    refused: tuple[str, ...]
    log: Path | None


def read_job(arguments: Sequence[str]) -> Job:
    """The job of a command line of files and `key=value`; see `read_config`.

    Raises FormatError with line and column, UnsupportedError where there is nothing that could be shown.
    """
    root, folders = read_config(arguments)
    return _Job(root, folders).read(Path(arguments[0].split("+")[0]).stem)


class _Job:
    def __init__(self, root: Block, folders: Sequence[Path]) -> None:
        self.root, self.folders = root, folders
        self.refused: list[str] = []
        self.blocks: list[Block] = [root]
        self.networks: dict[str, Network] = {}

    def refuse(self, block: Block, key: str, what: str) -> None:
        place = block.place(key) or block.here
        self.refused.append(f"{place}: {block.path(key)}: {what} is not supported")

    def read(self, name: str) -> Job:
        for key in _PASSED_OVER:
            self.root.find(key)
        if not self.root.words("command", ("train",)):
            raise self.root.here.error("`command` names nothing to do")
        if self.root.text("precision", "float").lower() not in ("float", "double"):
            self.refuse(self.root, "precision", "a precision other than float")
        steps: list[TrainStep | EvaluateStep] = []
        for command in self.root.words("command", ("train",)):
            block = self.root.block(command)
            if block is None:
                place = self.root.place("command") or self.root.here
                raise place.error(f"`command` names {command!r}, and no block is called so; correct one of the two")
            self.blocks.append(block)
            for action in block.words("action", ("train",), inherit=False):
                if action.lower() == "train":
                    steps.append(self.train(block))
                elif action.lower() in ("test", "eval"):
                    steps.append(self.test(block))
                else:
                    self.refuse(block, "action", f"the action {action!r}")
        prefix, commands = self.root.text("stderr", "-"), "_".join(self.root.words("command", ("train",)))
        log = None if prefix in ("", "-") else Path(f"{prefix}_{commands}.log")
        return Job(name, tuple(steps), tuple(self.warnings()), tuple(dict.fromkeys(self.refused)), log)

    def train(self, block: Block) -> TrainStep:
        text = block.raw("BrainScriptNetworkBuilder", inherit=False)
        if text is None:
            raise self.no_network(block)
        sgd_block = block.block("SGD") or block.block("optimizer")
        if sgd_block is None:
            raise block.here.error(f"{block.name} has no SGD block; say how it is trained")
        self.blocks.append(sgd_block)
        self.parallel(sgd_block)
        validation = block.block("cvReader", inherit=False)
        model_path = block.text("modelPath")
        if not model_path:
            raise block.here.error(f"{block.name} has no modelPath; say where the model goes")
        reader = self.reader(block)
        try:
            sgd = read_sgd(sgd_block, self.refuse)
            recipe = self.recipe(block, Path(model_path).name, sgd, reader)
        except UsageError as error:  # a value out of range, in the recipe's words
            raise sgd_block.here.error(str(error)) from None
        return TrainStep(
            name=block.name,
            network=self.network(text),
            sgd=sgd,
            recipe=recipe,
            reader=reader,
            validation=read_reader(validation, self.refuse) if validation else None,
            model_path=Path(model_path),
            resume=block.flag("makeMode", True),
        )

    def recipe(self, block: Block, name: str, sgd: Sgd, reader: Reader) -> Recipe:
        order = "file" if not reader.randomize else "cntk" if reader.kind == "text" else "shuffled"
        precision = "auto" if block.text("precision", "float").lower() == "float" else "fp32"
        return Recipe(
            name=name,
            data=DataSpec(name=name, order=order, train_transforms=reader.transforms, scale=1.0),  # type: ignore[arg-type]
            model=ModelSpec(dropout=sgd.dropout),
            optimizer=sgd.optimizer,
            schedule=sgd.schedule,
            run=RunSpec(
                epochs=sgd.epochs, seed=block.integer("randomSeedOffset", 0), global_batch_size=sgd.batch_size,
                accumulation_steps=sgd.accumulation_steps, precision=precision, device=self.device(block),  # type: ignore[arg-type]
            ),
        )  # fmt: skip

    def network(self, text: Text) -> Network:
        if text.string not in self.networks:
            self.networks[text.string] = read_network(text, self.folders)
        return self.networks[text.string]

    def no_network(self, block: Block) -> Exception:
        older = [key for key in ("NDLNetworkBuilder", "SimpleNetworkBuilder", "createNetwork") if block.find(key)]
        if older or self.root.find("ndlMacros"):
            what = older[0] if older else "ndlMacros"
            return UnsupportedError(
                f"{block.here}: {block.name} describes its network with {what}, the language before BrainScript; "
                "write the network as BrainScriptNetworkBuilder, or give the trained model to `convolve show`"
            )
        return block.here.error(f"{block.name} has no BrainScriptNetworkBuilder; say which network is trained")

    def parallel(self, sgd: Block) -> None:
        """Several workers come from the launcher; with one, the block is not used."""
        self.root.flag("parallelTrain")
        settings = sgd.block("ParallelTrain", inherit=False)
        for key in ("parallelizationMethod", "parallelizationStartEpoch", "distributedMBReading", "syncPerfStats"):
            if settings is not None:
                settings.find(key, inherit=False)

    def reader(self, block: Block) -> Reader:
        reader = block.block("reader")
        if reader is None:
            raise block.here.error(f"{block.name} has no reader; say where its data is")
        self.blocks.append(reader)
        return read_reader(reader, self.refuse)

    def device(self, block: Block) -> str:
        value = block.text("deviceId", "auto").lower()
        if value in ("auto", "default"):
            return "auto"
        return "cpu" if value in ("-1", "cpu") else f"cuda:{block.integer('deviceId', 0)}"

    def test(self, block: Block) -> EvaluateStep:
        for key in ("epochSize", "numMBsToShowResult", "traceLevel"):
            block.find(key)
        if block.integer("epochSize", 0, inherit=False):
            self.refuse(block, "epochSize", "a test on a part of the data")
        model_path = block.text("modelPath")
        if not model_path:
            raise block.here.error(f"{block.name} has no modelPath; say which model is tested")
        batch_size = block.integer("minibatchSize", 40960)
        nodes = block.words("evalNodeNames")
        return EvaluateStep(
            block.name, self.network_of(model_path), self.reader(block), nodes, Path(model_path), batch_size
        )

    def network_of(self, model_path: str) -> Network | None:
        """The network of the block that trains the model at `model_path`, whether it is run or not."""
        for block in self.root.inner_blocks().values():
            text = block.raw("BrainScriptNetworkBuilder", inherit=False)
            if text is not None and block.text("modelPath") == model_path:
                return self.network(text)
        return None

    def warnings(self) -> list[str]:
        """Keys that nobody has asked for, but for whole blocks: those may belong to other commands."""
        return [sentence for block in self.blocks for sentence in block.unread()]
