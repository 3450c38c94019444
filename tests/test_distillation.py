"""`convolve train --teacher`: the loss beside the formula, in the teacher's own preprocessing, and to the same bits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from command_line import Convolve, assert_refused, files_in
from convolve.data.loader import normalize
from convolve.distillation import Teacher
from convolve.loading import load
from convolve.model import Model
from convolve.models import build_model
from convolve.specs.distillation import DistillationSpec
from convolve.specs.model import NetworkSpec
from convolve.transforms.normalize import mean_of, scale_of
from convolve.transforms.preprocess import Preprocess

SPEC = NetworkSpec("convnet-cifar10", "tiny")
TINY = "--set", "model.variant=tiny", "--set", "run.global_batch_size=16", "--set", "run.threads=1"


def network(preprocess: Preprocess) -> Model:
    return Model(build_model(SPEC, preprocess.shape_CHW, 3).eval(), SPEC, preprocess, ("a", "b", "c"))


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_loss_is_hinton_s(temperature: float) -> None:
    preprocess = Preprocess(3, 32, 32, 120.0, 1 / 64)
    model, torch_rng = network(preprocess), torch.Generator().manual_seed(0)
    images_NCHW, logits_NK = torch.randn(5, 3, 32, 32, generator=torch_rng), torch.randn(5, 3, generator=torch_rng)
    labels_N = torch.tensor([0, 1, 2, 0, 1])
    teacher = Teacher(model, DistillationSpec("it", temperature, 0.3), preprocess, torch.tensor([2, 0, 1]))
    found_N = teacher(F.cross_entropy(logits_NK, labels_N, reduction="none"), logits_NK, images_NCHW)
    theirs_NK = (model.module(images_NCHW)[:, [2, 0, 1]] / temperature).softmax(1)
    ours_NK = (logits_NK / temperature).softmax(1)
    apart_N = (theirs_NK * (theirs_NK / ours_NK).log()).sum(1)
    wanted_N = 0.7 * -logits_NK.softmax(1)[range(5), labels_N].log() + 0.3 * temperature**2 * apart_N
    torch.testing.assert_close(found_N, wanted_N, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "theirs",
    [
        Preprocess(3, 32, 32, (123.0, 117.0, 104.0), 1.0, channel_order="bgr"),
        Preprocess(1, 32, 32, 0.0, 1 / 256, channel_order="gray"),
        Preprocess(3, 48, 64, 127.0, 1 / 128),
    ],
)
def test_the_teacher_sees_pixels_as_it_was_taught(theirs: Preprocess) -> None:
    ours = Preprocess(3, 32, 32, (125.0, 123.0, 114.0), 1 / 64)
    pixels_NCHW = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 3, 32, 32), np.uint8))
    teacher = Teacher(network(theirs), DistillationSpec("it"), ours, torch.arange(3))
    seen_NCHW = teacher._seen(normalize(pixels_NCHW, mean_of(ours), scale_of(ours)))
    wanted_NCHW = pixels_NCHW.float()
    if theirs.channels == 1:
        wanted_NCHW = torch.einsum("nchw,c->nhw", wanted_NCHW, torch.tensor([0.299, 0.587, 0.114]))[:, None]
    if theirs.height != 32:
        assert seen_NCHW.shape[1:] == theirs.shape_CHW
        wanted_NCHW = F.interpolate(wanted_NCHW, (48, 64), mode="bilinear", antialias=True)
    wanted_NCHW = normalize(wanted_NCHW, mean_of(theirs), scale_of(theirs), theirs.channel_order == "bgr")
    torch.testing.assert_close(seen_NCHW, wanted_NCHW, rtol=1e-4, atol=1e-3)


def test_the_teacher_sees_its_own_size_while_the_student_s_grows() -> None:
    preprocess = Preprocess(3, 32, 32, 125.0, 1 / 64)
    teacher = Teacher(network(preprocess), DistillationSpec("it"), preprocess, torch.arange(3))
    assert teacher._seen(torch.randn(2, 3, 16, 16)).shape == (2, 3, 32, 32)


def test_a_run_keeps_its_teacher_and_comes_to_the_same_bits(convolve: Convolve, tmp_path: Path) -> None:
    def train(out: str, *arguments: str) -> None:
        asked = ("train", "mnist-fast", "--data", "sample", "--out", str(tmp_path / out), "--epochs", "1", *TINY)
        assert convolve(*asked, *arguments).code == 0

    def weights(out: str) -> dict[str, torch.Tensor]:
        return load(tmp_path / out).module.state_dict()

    train("teacher")
    train("alone", "--seed", "1")
    train("student", "--seed", "1", "--teacher", str(tmp_path / "teacher"))
    train("again", "--seed", "1", "--set", f"distillation.teacher={tmp_path / 'teacher'}")
    assert (tmp_path / "student" / "teacher" / "model.json").exists()
    names = [*weights("student")]
    assert all(torch.equal(weights("student")[name], weights("again")[name]) for name in names)
    assert not all(torch.equal(weights("student")[name], weights("alone")[name]) for name in names)


def test_classes_must_agree(convolve: Convolve, tmp_path: Path) -> None:
    preprocess = replace(Preprocess(1, 28, 28, 0.0, 1 / 256, channel_order="gray"), known_from="here")
    network(preprocess).save(tmp_path / "other")
    asked = ("train", "mnist-fast", "--data", "sample", "--out", str(tmp_path / "run"), *TINY)
    said = "knows 3 classes, the images have 10"
    assert_refused(convolve(*asked, "--teacher", str(tmp_path / "other")), 2, said)
    assert files_in(tmp_path / "run") == []
    assert_refused(convolve(*asked, "--set", "distillation.weight=0.5"), 2, "distillation.teacher is missing")
