"""Several processes train as one: the same losses, weights and evaluation; what each does apart; how they fail."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn.modules import module

from command_line import Outcome
from convolve import run
from convolve.loading import load
from convolve.model import Model
from convolve.recipes import resolve
from convolve.training.workers import SINGLE_PROCESS, Workers
from processes import PATIENCE_SECONDS, Command, start
from worker_processes import launch, mpiexec, run_together, torchrun

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has neither kill -9 nor fork servers")

Cases = dict[str, tuple[str, dict[str, Any]]]  # name -> recipe and settings

COMMON = {
    "model.variant": "tiny", "model.dropout": 0.0, "run.epochs": 10, "run.threads": 1, "run.precision": "fp32",
    "run.global_batch_size": 64,
}  # fmt: skip
# With these the loss falls to 26 to 57 % of its beginning in 100 steps (8 seeds); with the recipe's own, to 45 to 99 %.
STEADY = {"schedule.learning_rates": 0.003, "optimizer.momentum": 0.5, "optimizer.momentum_unit": "per_minibatch"}
STILL = {"schedule.learning_rates": 0.0}
# 600 digits and batches of 64: 100 steps in 10 epochs, the last one of each with 24. What a case is to one process.
SAME = {
    "plain": ("mnist", STEADY),
    # Augmentation, an average, the best epoch on a validation split, and an order that follows the losses.
    "modern": (
        "mnist-fast",
        {"run.ema_epochs": 0.5, "run.keep": "best", "data.validation_fraction": 0.25, "data.hard_fraction": 0.5,
         "run.accumulation_steps": 2, "run.epochs": 3},
    ),
    "mixed": (  # images get parts of those of another worker
        "mnist",
        {"run.epochs": 2, "data.balance": "loss", "data.class_weights": {"3": 2.0}, "run.criterion": "focal",
         "run.accumulation_steps": 2, "data.train_transforms": [
             {"kind": kind} for kind in ("trivial_augment", "random_erasing", "mixup", "cutmix")]},
    ),
}  # fmt: skip
APART = {
    "one bit": {"distributed.quantization_bits": 1, "distributed.after_samples": 600},
    "block momentum": {"distributed.method": "block_momentum", "distributed.block_samples": 300},
    "averaging": {"distributed.method": "model_averaging", "distributed.block_samples": 128},
}
# Losses are float32 beside float64 weights, too. The largest sum of them is that of a batch: 64 roundings of 2**-24.
LOSS_TOLERANCE = 64 * 2**-24
# Weights differ by 1e-15. Only where a logit lies so close to the middle of two float32 that it is rounded the other
# way for its loss, which 1 of 1e8 does, are they 2**-24 / 64 * rate = 1e-10 apart; ten thousand times that may grow.
WEIGHT_TOLERANCE = 1e-6


@contextmanager
def float64() -> Iterator[None]:
    """Networks that are made here compute in float64.

    Sums in another order, by other instructions or by several workers, have other last bits. In float32 a hundred steps
    may turn that into 1e-2 of a weight, as a pixel of a pooling window takes the place of another: no tolerance tells
    it from a fault. In float64, 1e9 times as fine, no pixel does.
    """

    def inputs_in_float64(layer: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(x.double() if isinstance(x, torch.Tensor) and x.is_floating_point() else x for x in inputs)

    def weights_in_float64(layer: nn.Module, name: str, weight: nn.Parameter) -> nn.Parameter:
        return nn.Parameter(weight.double())

    hooks = [
        module.register_module_forward_pre_hook(inputs_in_float64),
        module.register_module_parameter_registration_hook(weights_in_float64),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def train_cases(workers: Workers, data: Path, out: Path, cases: Cases) -> Any:
    """What each case leaves in this process: its loss and error, the bytes sent, the events that it heard of."""
    torch.set_num_threads(1)
    Model.batch_size = property(lambda self: 32)  # type: ignore[assignment, method-assign]  # 150 test images: 5 batches
    left = {}
    for name, (recipe, settings) in cases.items():
        events: list[str] = []
        finished = run.train(
            resolve(recipe, COMMON | settings), data=str(data), out=out / name, workers=workers,
            progress=lambda event, values: events.append(event),  # noqa: B023
        )  # fmt: skip
        left[name] = finished.rank, finished.result, len(events)
    return left


def train_in_float64(workers: Workers, data: Path, out: Path, cases: Cases) -> Any:
    with float64():
        return train_cases(workers, data, out, cases)


def train_alone(data: Path, out: Path, cases: Cases) -> None:
    """Train the cases in this process, which is left as it was."""
    batch_size = Model.batch_size
    try:
        train_cases(SINGLE_PROCESS, data, out, cases)
    finally:
        Model.batch_size = batch_size  # type: ignore[method-assign]


def weights(folder: Path) -> torch.Tensor:
    return torch.cat([tensor.flatten() for tensor in load_file(folder / "model" / "weights.safetensors").values()])


def losses(folder: Path) -> np.ndarray:
    """All losses in the log, of batches and of evaluations."""
    events = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return np.array([value for event in events for name, value in event.items() if name.endswith("loss")])


@pytest.fixture(scope="module")
def alone(tiny_mnist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("alone")
    with float64():
        train_alone(tiny_mnist, out, SAME)
    return out


@pytest.mark.parametrize("size", [2, 3])
def test_the_answer_of_one(size: int, alone: Path, tiny_mnist: Path, tmp_path: Path) -> None:
    of_each = run_together(size, train_in_float64, tiny_mnist, tmp_path, SAME)
    assert losses(alone / "plain")[-1] < 0.9 * losses(alone / "plain")[0]  # it does learn
    for name in SAME:
        one, many = alone / name, tmp_path / name
        np.testing.assert_allclose(losses(many), losses(one), rtol=LOSS_TOLERANCE)
        torch.testing.assert_close(weights(many), weights(one), rtol=0, atol=WEIGHT_TOLERANCE)
        for rank, left in enumerate(of_each):
            its_rank, result, events = left[name]
            assert (its_rank, result["world_size"], bool(events)) == (rank, size, rank == 0)
    sent = of_each[0]["plain"][1]["bytes_sent"]
    assert sent == pytest.approx(100 * 2 * (size - 1) / size * 8 * weights(alone / "plain").numel(), rel=0.01)


def test_a_sharded_evaluation_is_exact(alone: Path, tiny_mnist: Path, tmp_path: Path) -> None:
    """The same network gives the same bits, however many workers have evaluated it."""
    case = {"plain": ("mnist", STILL | {"run.epochs": 1})}
    train_alone(tiny_mnist, tmp_path / "one", case)
    (_, result, _), *_ = (left["plain"] for left in run_together(3, train_cases, tiny_mnist, tmp_path / "three", case))
    one = json.loads((tmp_path / "one" / "plain" / "result.json").read_text())
    for figure in ("test_loss", "test_error", "test_error_top5"):
        assert result[figure] == one[figure]
    kept, same = (load_file(tmp_path / n / "plain" / "evaluation.safetensors") for n in ("one", "three"))
    assert torch.equal(kept["probabilities_NK"], same["probabilities_NK"])
    assert torch.equal(kept["labels_N"], same["labels_N"])


def test_less_traffic(alone: Path, tiny_mnist: Path, tmp_path: Path) -> None:
    cases = {name: ("mnist", STEADY | settings) for name, settings in APART.items()}
    of_each = run_together(2, train_cases, tiny_mnist, tmp_path, cases)
    whole_bytes = 100 * 4 * weights(alone / "plain").numel()
    for name in APART:
        (_, result, _), (_, theirs, _) = (left[name] for left in of_each)
        assert result["test_loss"] == theirs["test_loss"]
        assert losses(tmp_path / name)[-1] < 0.97 * losses(tmp_path / name)[0]
        assert result["samples_seen"] == 6000
        assert 0 < result["bytes_sent"] < whole_bytes
        assert load(tmp_path / name).training_info.test_error == result["test_error"]


def test_under_launchers(tiny_mnist: Path, tmp_path: Path) -> None:
    """The command line as mpiexec and torchrun start it: ten steps in float32, which leave little time to drift."""
    short = COMMON | STEADY | {"run.epochs": 1}
    train_alone(tiny_mnist, tmp_path, {"one": ("mnist", short), "start": ("mnist", short | STILL)})
    one, start = weights(tmp_path / "one"), weights(tmp_path / "start")
    for name, started in (("mpiexec", [*mpiexec(2), sys.executable]), ("torchrun", torchrun(2))):
        flags = [f"--set={path}={value}" for path, value in short.items()]
        place = tmp_path / name
        done = launch(*started, "-m", "convolve", "train", "mnist", "--data", tiny_mnist, "--out", place, *flags)
        assert done.returncode == 0, done.stderr
        # One sample of 640 may take another pixel of a pooling window. A share that is lost or doubled is half of it.
        assert (weights(place) - one).norm() < (one - start).norm() / 100
        assert done.stdout.count("test error") == 1
        assert "2 workers, each on cpu" in done.stderr
        assert (place / "report.html").exists()


# -- faults -----------------------------------------------------------------------------------------------------------

ENVIRON = {"WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}


def command(data: Path, out: Path, *more: str) -> list[object]:
    common = COMMON | STEADY | {"run.global_batch_size": 8, "run.epochs": 4, "model.dropout": 0.3}
    settings = [*(f"{name}={value}" for name, value in common.items()), "run.checkpoint_seconds=0.001", *more]
    return ["train", "mnist", "--data", data, "--out", out, *(f"--set={setting}" for setting in settings)]


def start_two(place: Path, *words: Sequence[object], within: Any = nullcontext) -> list[Command]:
    """Two workers with a command each, or the same one."""
    place.mkdir(exist_ok=True)
    environ = ENVIRON | {"TORCHELASTIC_RUN_ID": f"{place}-{time.monotonic()}"}
    each = [words[0], words[-1]]
    return [
        start(place / f"log{rank}", *each[rank], environ=environ | {"RANK": f"{rank}"}, within=within)
        for rank in range(2)
    ]


def outcomes(commands: list[Command]) -> list[Outcome]:
    return [each.outcome() for each in commands]


def steps(folder: Path) -> int:
    path = folder / "metrics.jsonl"
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    return max((json.loads(line).get("step", 0) for line in lines), default=0)


def test_a_killed_worker_ends_the_others_and_the_same_command_goes_on(tiny_mnist: Path, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert [each.code for each in outcomes(start_two(tmp_path / "a", command(tiny_mnist, whole)))] == [0, 0]
    for victim in (1, 0):
        workers = start_two(tmp_path / f"b{victim}", command(tiny_mnist, killed))
        first = steps(killed)
        workers[0].wait_until(lambda: steps(killed) > first + 40 and any((killed / "checkpoints").glob("*.json")))  # noqa: B023
        workers[victim].send(signal.SIGKILL)
        began = time.monotonic()
        ended = outcomes(workers)
        assert time.monotonic() - began < PATIENCE_SECONDS
        assert ended[victim].code == -signal.SIGKILL, ended
        survivor = ended[1 - victim]
        assert survivor.code == 1, survivor.err
        last = survivor.err.splitlines()[-1]
        assert " has ended; see its message" in last and "The same command without --restart" in last
        assert last.startswith("convolve: worker 1: ") == (victim == 0)
        assert "Traceback" not in survivor.err
    assert [each.code for each in outcomes(start_two(tmp_path / "c", command(tiny_mnist, killed)))] == [0, 0]
    resumed = [json.loads(line) for line in (killed / "metrics.jsonl").read_text().splitlines()]
    assert any(event["event"] == "resume" and event["step"] % 75 for event in resumed), "never inside an epoch"
    assert torch.equal(weights(killed), weights(whole))


def test_going_on_with_another_number_of_workers(tiny_mnist: Path, tmp_path: Path) -> None:
    """Begun by one process, gone on with by two, then finished by one: the same samples, so the same weights."""
    whole, mixed = tmp_path / "whole", tmp_path / "mixed"
    same = "model.dropout=0"

    def start_one(out: Path) -> Command:
        return start(tmp_path / "log", *command(tiny_mnist, out, same), within=float64)

    assert start_one(whole).outcome().code == 0
    for number in range(2):
        first = steps(mixed)
        two = command(tiny_mnist, mixed, same)
        begun = start_two(tmp_path / "m", two, within=float64) if number else [start_one(mixed)]
        begun[0].wait_until(lambda: steps(mixed) > first + 40)  # noqa: B023
        for each in begun:
            each.send(signal.SIGKILL)
        outcomes(begun)
    assert 0 < steps(mixed) < 300
    assert start_one(mixed).outcome().code == 0
    torch.testing.assert_close(weights(mixed), weights(whole), rtol=0, atol=WEIGHT_TOLERANCE)
    assert json.loads((mixed / "result.json").read_text())["samples_seen"] == 2400


def test_workers_that_differ_are_refused(tiny_mnist: Path, tmp_path: Path) -> None:
    for name, other, message in (
        (
            "recipe",
            command(tiny_mnist, tmp_path / "run", "run.seed=1"),
            "run.seed is 0 for worker 0 and 1 for worker 1",
        ),
        ("data", command(Path("sample"), tmp_path / "run"), "the data's fingerprint is"),
    ):
        ended = outcomes(start_two(tmp_path / name, command(tiny_mnist, tmp_path / "run"), other))
        assert [each.code for each in ended] == [1, 1]
        assert message in ended[0].err and message in ended[1].err
        assert not (tmp_path / "run").exists()


def test_what_worker_0_refuses_ends_all(tiny_mnist: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("mine")
    ended = outcomes(start_two(tmp_path / "logs", command(tiny_mnist, tmp_path / "run")))
    assert [each.code for each in ended] == [2, 1]
    assert "holds other files, but no run" in ended[0].err
    assert "convolve: worker 1: " in ended[1].err and " has ended; see its message" in ended[1].err
