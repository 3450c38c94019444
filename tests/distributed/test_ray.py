"""Two workers of Ray Train, for real. They have a process group of Ray's before convolve is called, in a thread."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from test_many_workers import COMMON, weights
from worker_processes import launch

PROGRAM = """
import sys
import ray
from ray.train import RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer


def train(config):
    import convolve
    from convolve.recipes import resolve

    recipe = resolve("mnist", config["settings"])
    run = convolve.train(recipe, data=config["data"], out=config["out"])
    print("worker", run.rank, run.result["world_size"])


if __name__ == "__main__":
    data, out, settings = sys.argv[1:]
    ray.init(num_cpus=2, include_dashboard=False, object_store_memory=100 * 2**20)
    config = {"data": data, "out": out, "settings": eval(settings)}
    place = RunConfig(storage_path=out + "-ray")
    TorchTrainer(train, train_loop_config=config, scaling_config=ScalingConfig(num_workers=2), run_config=place).fit()
"""


@pytest.mark.slow
def test_two_local_workers(tiny_mnist: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray.train", reason="needs pip install 'ray[train]'")
    program, settings = tmp_path / "program.py", COMMON | {"run.epochs": 2}
    program.write_text(PROGRAM)
    done = launch(sys.executable, program, tiny_mnist, tmp_path / "ray", settings, folder=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads((tmp_path / "ray" / "result.json").read_text())
    assert (result["world_size"], result["samples_seen"]) == (2, 1200)
    assert result["bytes_sent"] > 0
    flags = [f"--set={name}={value}" for name, value in settings.items()]
    train = ["-m", "convolve", "train", "mnist", "--data", tiny_mnist, "--out", tmp_path / "torchrun", *flags]
    again = launch(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone", *train)
    assert again.returncode == 0, again.stderr
    assert (weights(tmp_path / "ray") == weights(tmp_path / "torchrun")).all()
