"""show, doctor and report: what they print is true and can be used."""

from __future__ import annotations

import functools
import json
import math
from pathlib import Path

import pytest

from command_line import Convolve
from convolve import environment
from convolve.recipe import to_mapping
from convolve.recipes import RECIPES, load_recipe


@pytest.mark.parametrize("name", RECIPES)
def test_what_show_prints_is_the_recipe(name: str, tmp_path: Path, convolve: Convolve) -> None:
    outcome = convolve("show", name)
    assert (outcome.code, outcome.err) == (0, "")
    path = tmp_path / "printed.yaml"
    path.write_text(outcome.out)
    assert load_recipe(str(path)) == load_recipe(name)
    assert json.loads(convolve("show", name, "--json").out)["recipe"] == to_mapping(load_recipe(name))


def test_the_network_of_cntk(convolve: Convolve) -> None:
    said = json.loads(convolve("show", "mnist", "--json").out)
    assert said["parameters"] == 98_778  # as CNTK's log has it
    assert said["input_shape"] == [1, 28, 28]
    assert said["class_names"] == list("0123456789")
    # Multiply-adds of each layer: output size x weights per output, and 2 operations each.
    layers = {
        "conv1": 28 * 28 * 32 * 25, "conv2": 11 * 11 * 48 * 9 * 32, "conv3": 3 * 3 * 64 * 9 * 48,
        "fc1": 96 * 9 * 64, "fc2": 10 * 96,
    }  # fmt: skip
    flops = {layer["name"]: layer["flops_per_image"] for layer in said["layers"] if layer["parameters"]}
    assert flops == {name: 2 * count for name, count in layers.items()}
    assert said["flops_per_image"] >= sum(flops.values())
    assert [layer["output_shape"] for layer in said["layers"] if layer["name"] in layers] == [
        [32, 28, 28], [48, 11, 11], [64, 3, 3], [96], [10],
    ]  # fmt: skip
    assert "98,778 parameters" in convolve("show", "mnist").out


def test_the_schedule_in_three_counts(convolve: Convolve) -> None:
    rows = json.loads(convolve("show", "mnist", "--schedule", "--json").out)["schedule"]
    assert [(row["from_epoch"], row["to_epoch"]) for row in rows] == [(0, 5), (5, 10), (10, 20), (20, 40)]
    last = rows[-1]
    assert last["cntk_lr_per_sample"] == 0.0001
    assert last["cntk_momentum_time_constant_samples"] == pytest.approx(1024)
    # CNTK's documentation: T = -N / ln(m), and unit gain weights the gradient by 1 - m.
    momentum = math.exp(-64 / 1024)
    assert last["pytorch_momentum"] == last["caffe_momentum"] == pytest.approx(momentum)
    assert last["pytorch_lr"] == last["caffe_base_lr"] == pytest.approx(0.0001 * 64 * (1 - momentum))
    text = convolve("show", "mnist", "--schedule").out
    assert all(word in text for word in ("CNTK", "PyTorch", "Caffe", "21-40", "1024"))


def test_a_model_shows_itself(model: Path, convolve: Convolve) -> None:
    said = json.loads(convolve("show", model, "--json").out)
    assert (said["parameters"], said["input_shape"]) == (1772, [1, 28, 28])
    wanted = {"channels": 1, "height": 28, "width": 28, "mean": 0.0, "scale": 1 / 256}
    assert wanted.items() <= said["preprocess"].items()
    text = convolve("show", model).out
    assert all(word in text for word in ("1,772 parameters", "28x28 gray", "0, 1, 2"))


def test_doctor_looks_at_the_machine(convolve: Convolve, monkeypatch: pytest.MonkeyPatch) -> None:
    quick = functools.partial(environment.matmul_gflops, size=128)
    monkeypatch.setattr(environment, "matmul_gflops", quick)
    outcome = convolve("doctor", "--json")
    found = json.loads(outcome.out)
    assert found.keys() >= {"versions", "hardware", "arithmetic", "distributed", "extras"}
    assert found["hardware"]["cores"] >= 1
    assert found["arithmetic"]["precision=auto"].split()[0] in ("fp32", "bf16", "fp16")


def test_report_is_rebuilt(convolve: Convolve, tiny: list[str], tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert convolve("train", "mnist", *tiny, "--out", run).code == 0
    page = (run / "report.html").read_bytes()
    (run / "report.html").unlink()
    outcome = convolve("report", run)
    assert (outcome.code, outcome.out) == (0, f"{run / 'report.html'}\n")
    assert (run / "report.html").read_bytes() == page
