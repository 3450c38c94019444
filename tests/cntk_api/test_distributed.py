"""A program that several processes train: what one process alone comes to."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import convolve.cntk as C
from convolve.cntk.train import distributed

PROGRAM = """
import json, sys
import numpy as np
import cntk as C
from cntk.train.distributed import *

x, y = C.input_variable(2), C.input_variable(3)
w = C.parameter((2, 3), init=np.arange(6).reshape(2, 3).astype("f") / 10)
z = C.times(x, w)
inner = C.momentum_sgd([w], C.learning_parameter_schedule(0.05), 0.5)
make, settings = {
    "whole": (data_parallel_distributed_learner, {}),
    "later": (data_parallel_distributed_learner, {"distributed_after": 12}),
    "8 bits": (data_parallel_distributed_learner, {"num_quantization_bits": 8}),
    "blocks": (block_momentum_distributed_learner, {"block_size": 12}),
}[sys.argv[1]]
printer = C.logging.ProgressPrinter(2, rank=Communicator.rank())
trainer = C.Trainer(z, (C.squared_error(z, y), None), [make(inner, **settings)], [printer])
draw = np.random.RandomState(0)
data = {"x": draw.normal(size=(39, 2)).astype("f"), "y": draw.normal(size=(39, 3)).astype("f")}
source = C.io.MinibatchSourceFromData(data, max_samples=39)
streams = {x: source.streams.x, y: source.streams.y}
C.train.training_session(trainer=trainer, mb_source=source, mb_size=6, model_inputs_to_streams=streams).train()
print(json.dumps([trainer.total_number_of_samples_seen, w.value.ravel().tolist()]))
Communicator.finalize()
"""


def trained(folder: Path, kind: str, size: int) -> list[list[str]]:
    """What each of so many workers prints."""
    (folder / "program.py").write_text(PROGRAM)
    command = [sys.executable, "-m", "convolve", "run", str(folder / "program.py"), kind]
    names = {"WORLD_SIZE": str(size), "LOCAL_WORLD_SIZE": str(size), "TORCHELASTIC_RUN_ID": folder.name}
    workers = [
        subprocess.Popen(command, env=os.environ | names | {"RANK": str(rank)}, stdout=subprocess.PIPE, text=True)
        for rank in range(size)
    ]
    printed = [worker.communicate()[0].splitlines() for worker in workers]
    assert not any(worker.returncode for worker in workers)
    return printed


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What one process prints."""
    return trained(tmp_path_factory.mktemp("alone"), "whole", 1)[0]


@pytest.mark.parametrize(("kind", "tolerance"), [("whole", 1e-6), ("later", 1e-6), ("8 bits", 2e-3)])
def test_two_workers_train_as_one_does(kind: str, tolerance: float, alone: list[str], tmp_path: Path) -> None:
    first, second = trained(tmp_path, kind, 2)
    assert first[-1] == second[-1] and len(second) == 1  # worker 0 alone prints lines
    assert np.allclose(json.loads(first[-1])[1], json.loads(alone[-1])[1], atol=tolerance)
    assert json.loads(first[-1])[0] == 39
    if kind == "whole":
        assert [untimed(line) for line in first[:-1]] == [untimed(line) for line in alone[:-1]]


def untimed(line: str) -> str:
    return re.sub(r" [0-9.]+s \(.*", "", line)


def test_workers_that_combine_blocks_end_with_the_same_weights(tmp_path: Path) -> None:
    first, second = trained(tmp_path, "blocks", 2)
    assert first[-1] == second[-1]


def test_one_process_is_number_0_of_1() -> None:
    learner = distributed.data_parallel_distributed_learner(C.sgd([C.parameter(2)], 0.5), num_quantization_bits=1)
    communicator = learner.communicator()
    assert (communicator.rank(), communicator.num_workers(), communicator.is_main()) == (0, 1, True)
    assert learner.learning_rate() == 0.5 and C.distributed is distributed


def test_what_cannot_be_is_refused() -> None:
    a, b = C.parameter(2), C.parameter(2)
    plain, shared = C.sgd([a], 0.5), C.sgd([b], 0.5)
    with pytest.raises(ValueError, match="1, 2, 4, 8 or 32 bits"):
        distributed.data_parallel_distributed_learner(plain, num_quantization_bits=3)
    x = C.input_variable(2)
    with pytest.raises(RuntimeError, match="distribute all of them"):
        C.Trainer(x, (C.reduce_sum(x * a + b), None), [plain, distributed.data_parallel_distributed_learner(shared)])
