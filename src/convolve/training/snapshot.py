"""Everything that changes during a run, and its way into a checkpoint and back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from socket import gethostname
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from convolve.errors import ModelError
from convolve.models.cntk_values import go_to, mask_places
from convolve.records import EpochEvent, ProgressEvent, ResumeEvent, StartEvent
from convolve.records.reading import to_json
from convolve.training.checkpoint import load_checkpoint, save_checkpoint
from convolve.training.criteria import ERROR
from convolve.training.evaluate import Evaluation
from convolve.training.optimizer_state import load_state_tensors, state_tensors

if TYPE_CHECKING:
    from convolve.training.schedule import StepSize
    from convolve.training.trainer import Trainer


@dataclass
class Position:
    """The progress of the run: `batch` batches into `epoch` (from 0), `step` updates and `samples_seen` in all."""

    epoch: int = 0
    batch: int = 0
    step: int = 0
    samples_seen: int = 0
    train_seconds: float = 0.0
    wait_seconds: float = 0.0  # the part of train_seconds spent waiting for data


@dataclass
class EpochMetrics:
    """Sums over the present epoch."""

    samples: int = 0
    loss_sum: float = 0.0
    counts: list[float] = field(default_factory=list)  # the criterion's counts, under their names
    seconds: float = 0.0
    wait_seconds: float = 0.0

    def add(self, loss_sum: float, counts: list[float]) -> None:
        self.loss_sum += loss_sum
        self.counts = [before + new for before, new in zip(self.counts or [0.0] * len(counts), counts, strict=True)]

    def _means(self, names: Sequence[str]) -> tuple[float | None, dict[str, float] | None]:
        """The means of (errors, nodes that the training reports)."""
        means = {name: count / self.samples for name, count in zip(names, self.counts, strict=True)}
        return means.pop(ERROR, None), means or None

    def progress_event(self, at: Position, size: StepSize, names: Sequence[str]) -> ProgressEvent:
        """The event logged within the epoch."""
        error, nodes = self._means(names)
        return ProgressEvent(
            epoch=at.epoch + 1, batch=at.batch, step=at.step, samples_seen=at.samples_seen,
            loss=self.loss_sum / self.samples, error=error, nodes=nodes,
            learning_rate=size.lr, momentum=size.momentum, images_per_second=self.samples / self.seconds,
        )  # fmt: skip

    def epoch_event(
        self, at: Position, found: Evaluation | None, name: str, counted: Sequence[str], *, lr: float,
        evaluation_seconds: float,
    ) -> EpochEvent:  # fmt: skip
        """The event logged at the end of the epoch, with the metrics `found` on the set called `name`, if any."""
        figures = found.figures | {"loss": found.loss} if found else {}
        known: dict[str, Any] = {f"{name}_{figure}": value for figure, value in figures.items()}
        held_out = {key: value for key, value in known.items() if key in EpochEvent.__annotations__}
        error, nodes = self._means(counted)
        return EpochEvent(
            epoch=at.epoch + 1, samples_seen=at.samples_seen,
            train_loss=self.loss_sum / self.samples, train_error=error, train_nodes=nodes,
            **held_out,
            learning_rate=lr, seconds=self.seconds, evaluation_seconds=evaluation_seconds,
            images_per_second=self.samples / self.seconds, data_wait_fraction=self.wait_seconds / self.seconds,
        )  # fmt: skip


class Snapshot(NamedTuple):
    """The state of a run, as stored in a checkpoint. `values` is everything that is not a tensor, as JSON values."""

    tensors: dict[str, torch.Tensor]
    values: dict[str, Any]

    def copy(self) -> Snapshot:
        """A copy that further training does not change."""
        return Snapshot({name: tensor.detach().clone() for name, tensor in self.tensors.items()}, self.values)


def take_snapshot(trainer: Trainer, without: str = "") -> Snapshot:
    """The state of `trainer`, including the random generators of all workers, so every worker must call this.

    Of its extras, the one called `without` is left out.
    """
    extras = {name: extra for name, extra in trainer.extras.items() if name != without}
    parts = {
        "module": trainer.network.state_dict(),
        "optimizer": state_tensors(trainer.optimizer),
        "random": {"cpu": trainer.workers.gather(torch.get_rng_state())},
        "sums": {"of_each": trainer.workers.gather(trainer.sums[None].cpu())},
    } | {name: extra.tensors() for name, extra in extras.items()}
    if torch.cuda.is_initialized():
        parts["random"]["cuda"] = trainer.workers.gather(torch.cuda.get_rng_state())
    if len(masks := mask_places(trainer.network)):
        parts["random"]["masks"] = trainer.workers.gather(masks)
    values = {
        "position": asdict(trainer.position), "metrics": asdict(trainer.metrics),
        "loss_scale": asdict(trainer.loss_scale) if trainer.loss_scale else None,
        "extras": {name: extra.values() for name, extra in extras.items()},
    }  # fmt: skip
    return Snapshot({f"{part}.{name}": t for part, tensors in parts.items() for name, t in tensors.items()}, values)


def restore(trainer: Trainer, snapshot: Snapshot, without: str = "") -> None:
    """The inverse of `take_snapshot`; the generators of a worker that it does not contain stay unchanged."""
    tensors, values = snapshot
    trainer.network.load_state_dict(part_of(tensors, "module."))
    load_state_tensors(trainer.optimizer, part_of(tensors, "optimizer."))
    trainer.position, trainer.metrics = Position(**values["position"]), EpochMetrics(**values["metrics"])
    if trainer.loss_scale:
        trainer.loss_scale.scale = values["loss_scale"]["scale"]
        trainer.loss_scale.good_steps = values["loss_scale"]["good_steps"]
    for name, extra in trainer.extras.items():
        if name != without:
            extra.restore(part_of(tensors, f"{name}."), values["extras"][name])
    sums, rank = tensors["sums.of_each"], trainer.workers.rank
    if len(sums) != trainer.workers.size:  # worker 0 gets all of them
        sums, rank = sums.sum(0)[None], -rank
    trainer.sums.copy_(sums[rank]) if 0 <= rank < len(sums) else trainer.sums.zero_()
    _restore_random(tensors["random.cpu"], trainer.workers.rank, torch.get_rng_state, torch.set_rng_state)
    if "random.cuda" in tensors:
        cuda = torch.cuda.get_rng_state, torch.cuda.set_rng_state
        _restore_random(tensors["random.cuda"], trainer.workers.rank, *cuda)
    if "random.masks" in tensors:
        masks = partial(mask_places, trainer.network), partial(go_to, trainer.network)
        _restore_random(tensors["random.masks"], trainer.workers.rank, *masks)


def save(trainer: Trainer) -> None:
    """Write a checkpoint; a run killed at any moment resumes from the newest one with the same result bit for bit."""
    sync = trainer.gradient_sync.state() if trainer.gradient_sync else {}
    tensors, values = take_snapshot(trainer)
    if not trainer.workers.rank:
        trainer.folder.require_own()
        tensors |= {f"sync.{name}": tensor for name, tensor in sync.items()}
        values |= {"metrics_bytes": trainer.folder.metrics_bytes()}
        save_checkpoint(trainer.folder.path / "checkpoints", trainer.position.step, tensors, values)


def resume(trainer: Trainer) -> None:
    """Return to the newest checkpoint, if there is one, and report where the training starts."""
    workers, folder = trainer.workers, trainer.folder
    found = None if workers.rank else load_checkpoint(folder.path / "checkpoints")
    tensors, values, warnings = found or ({}, {"metrics_bytes": 0}, [])
    values, warnings = workers.broadcast((values, warnings))
    tensors = workers.broadcast_tensors(tensors)
    before = () if workers.rank else folder.last_hosts()
    if not workers.rank:
        folder.cut_metrics(values["metrics_bytes"])  # events logged after the checkpoint will happen again
    if tensors:
        _restore_stored(trainer, Snapshot(tensors, values))
        if trainer.gradient_sync:
            trainer.gradient_sync.load_state(part_of(tensors, "sync."))
    step = trainer.position.step
    changed = _changed(before, workers.hosts) if before else {}
    if changed:
        said = "; ".join(f"{what}: {', '.join(hosts)}" for what, hosts in changed.items())
        warnings.append(f"{said} (workers, by the names of their hosts); {workers.size} resume from step {step}")
    for warning in (*warnings, *workers.warnings):  # about damaged checkpoints, workers, clocks
        trainer.callback("warning", {"message": warning})
    if not workers.rank:
        kind = ResumeEvent if step else StartEvent
        gone, came = changed.get("gone"), changed.get("came")
        folder.log(kind(step=step, hosts=workers.hosts or None, gone=gone, came=came))
    at = {"step": step, "samples_seen": trainer.position.samples_seen, "folder": str(folder.path)}
    trainer.callback("start", to_json(trainer.session.start) | at)


def _changed(before: Sequence[str], now: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The hosts of workers that have gone, and of those that have come."""
    now = now or [gethostname()]  # a single process does not say
    ways = {"gone": Counter(before) - Counter(now), "came": Counter(now) - Counter(before)}
    return {way: tuple(hosts.elements()) for way, hosts in ways.items() if hosts}


def _restore_stored(trainer: Trainer, snapshot: Snapshot) -> None:
    """`restore` from a file, which may be of another version even if it is intact."""
    try:
        restore(trainer, snapshot)
    except (KeyError, TypeError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(
            f"{trainer.folder.path / 'checkpoints'} does not fit this training ({reason}); resume with the version "
            f"of convolve that started it, or start the run over with --restart"
        ) from error


def part_of(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _restore_random(
    states: torch.Tensor, rank: int, get: Callable[[], torch.Tensor], put: Callable[[torch.Tensor], None]
) -> None:
    """Restore `states` of all workers, in the order of ranks."""
    of_each = states.split(len(get()))
    if rank < len(of_each):
        put(of_each[rank].clone())  # torch accepts no view
