"""What a run decides at its start and keeps to its end: device, threads, precision, and what it is trained on."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

import torch
from torch import nn

from convolve.environment import hardware, idle_cores, versions
from convolve.errors import ResumeRefusedError, UsageError
from convolve.models.cntk_values import draw_masks
from convolve.recipe import Recipe
from convolve.recipe_values import differences, leaf_paths
from convolve.records import Hardware, Start
from convolve.records.reading import from_json, to_json
from convolve.specs.distributed import DistributedSpec
from convolve.specs.run import RunSpec
from convolve.training.memory import keep_freed_memory
from convolve.training.precision import Precision, choose_precision
from convolve.training.run_folder import RunFolder
from convolve.training.workers import Workers


@dataclass(frozen=True)
class TrainedOn:
    """What stays the same from the start of a run to its end."""

    data: str
    data_name: str
    data_note: str
    data_fingerprint: str
    mean_image_sha256: str | None
    train_samples: int
    test_samples: int


@dataclass(frozen=True)
class Session:
    """`start` is its record in start.json; only the threads may differ if other workers resume the run."""

    device: torch.device
    precision: Precision
    threads: int
    start: Start


def begin_session(
    recipe: Recipe,
    folder: RunFolder,
    workers: Workers,
    *,
    network: nn.Module,
    threads: int,
    trained_on: TrainedOn,
    first_images: Callable[[], torch.Tensor],
) -> Session:
    """The decisions of the run in `folder`, if this run resumes it; otherwise new decisions, which are written there.

    The first of several `workers` decides for all. `first_images` are used to test the precision.
    """
    device = next(network.parameters()).device
    _require_same(recipe, trained_on, workers)
    start = None
    if folder.resumes and not workers.rank:
        start = folder.start()
        _refuse_changes(recipe, folder, start, device, trained_on)
        if start.workers == workers.size:
            threads = start.threads
        start = replace(start, threads=threads, workers=workers.size)
    _prepare_torch(threads)
    if not start and not workers.rank:
        precision = choose_precision(recipe.run.precision, network, first_images().to(device), device)
        start = Start(
            recipe=recipe.name, from_model=recipe.model.start or None, device=str(device),
            precision=precision.name, precision_reason=precision.reason,
            threads=threads, workers=workers.size, parameters=sum(p.numel() for p in network.parameters()),
            versions=versions(), hardware=Hardware(**hardware()), **asdict(trained_on),
        )  # fmt: skip
        folder.begin(recipe, start)
    start = from_json(Start, workers.broadcast(to_json(start)))
    torch.manual_seed(recipe.run.seed + workers.rank)  # for dropout; the data has its own generators
    if recipe.run.initial_values == "cntk":
        draw_masks(network, recipe.run.seed, workers.size, workers.rank)
    return Session(device, Precision(start.precision, start.precision_reason), start.threads, start)


def choose_threads(run: RunSpec, workers: Workers, folder: RunFolder) -> int:
    """The number of threads: as in the recipe, or this worker's part of the cores, or as at the run's start, or the
    cores that are idle now."""
    if run.threads or workers.threads:
        return run.threads or workers.threads
    return folder.start().threads if folder.resumes else idle_cores()


def choose_device(name: str, workers: Workers) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda") or (index and not index.isdecimal()):
        raise UsageError(f"run.device must be auto, cpu, cuda or cuda:<number>, got {name!r}")
    if kind == "cuda" and (not torch.cuda.is_available() or int(index or 0) >= torch.cuda.device_count()):
        raise UsageError(
            f"run.device={name}: PyTorch sees {torch.cuda.device_count()} CUDA devices; see `convolve doctor`"
        )
    if kind == "cpu":
        return torch.device(name)
    if workers.size == 1:
        torch.cuda.set_device(int(index or 0))  # whose random generator is part of a checkpoint
        return torch.device(name)
    if index or workers.local_rank >= torch.cuda.device_count():
        raise UsageError(
            f"each worker needs its own GPU, this one number {workers.local_rank} of {torch.cuda.device_count()} "
            f"on this host, run.device={name}; set cuda or cpu, or start fewer workers"
        )
    torch.cuda.set_device(workers.local_rank)
    return torch.device("cuda", workers.local_rank)


def _require_same(recipe: Recipe, trained_on: TrainedOn, workers: Workers) -> None:
    """All workers must be about to train the same network on the same data."""
    found = versions()
    same = {f"the version of {name}": found[name] for name in ("convolve", "torch")}
    same |= {path: repr(value) for path, value in leaf_paths(recipe).items()}
    same["the data's fingerprint"] = trained_on.data_fingerprint
    workers.require_same(same | {"the mean image's fingerprint": str(trained_on.mean_image_sha256)})


def _prepare_torch(threads: int) -> None:
    keep_freed_memory()
    torch.set_num_threads(threads)
    torch.backends.cudnn.allow_tf32 = False  # fp32 is fp32, on a GPU too
    torch.set_flush_denormal(True)  # arithmetic on vanishing numbers is up to a hundred times slower


def _without_patience(recipe: Recipe) -> Recipe:
    """The recipe without settings that do not change the weights."""
    distributed = replace(recipe.distributed or DistributedSpec(), timeout_seconds=DistributedSpec.timeout_seconds)
    cache = "DIR" if recipe.data.packed_in else recipe.data.cache  # the packed cache may be moved
    return replace(recipe, data=replace(recipe.data, skip_unreadable=False, cache=cache), distributed=distributed)


def _refuse_changes(
    recipe: Recipe, folder: RunFolder, start: Start, device: torch.device, trained_on: TrainedOn
) -> None:
    changes = differences(_without_patience(folder.recipe()), _without_patience(recipe))
    if start.device != str(device):
        changes.append(f"device: {start.device} -> {device}")
    if start.data_fingerprint != trained_on.data_fingerprint:
        changes.append("the data (its fingerprint differs)")
    if start.mean_image_sha256 != trained_on.mean_image_sha256:
        changes.append("the mean image (its fingerprint differs)")
    if changes:
        raise ResumeRefusedError(
            f"{folder.path} holds a run with other settings: {'; '.join(changes)}; give the same settings to resume "
            f"it, another --out, or --restart"
        )
