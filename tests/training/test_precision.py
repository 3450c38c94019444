"""The self-test chooses what is right first and fast second; loss scaling keeps fp16's arithmetic exact."""

import pytest
import torch
from torch import nn

from convolve.errors import UsageError
from convolve.models import build_model
from convolve.specs.model import ModelSpec
from convolve.training import precision
from convolve.training.precision import LossScale, choose_precision

CPU = torch.device("cpu")
IMAGES = torch.rand(4, 1, 28, 28, generator=torch.Generator().manual_seed(0))


def tiny() -> nn.Module:
    return build_model(ModelSpec(variant="tiny"), (1, 28, 28), 10)


def test_without_instructions_auto_is_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "has_bf16_instructions", lambda: False)
    chosen = choose_precision("auto", tiny(), IMAGES, CPU)
    assert (chosen.name, chosen.reason) == ("fp32", "the processor has no bf16 instructions")


class WrongInBfloat16(nn.Module):
    """What the faults in some wheels look like: right in fp32, wrong under autocast."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(784, 10)

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        logits_NK: torch.Tensor = self.layer(images_NCHW.flatten(1))
        return logits_NK if logits_NK.dtype == torch.float32 else logits_NK.flip(1)


def test_a_wrong_answer_is_never_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "has_bf16_instructions", lambda: True)
    chosen = choose_precision("auto", WrongInBfloat16(), IMAGES, CPU)
    assert chosen.name == "fp32"
    assert "gradients are off" in chosen.reason


def test_with_instructions_no_time_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process may keep the cores busy: a clock would then decide by luck."""
    monkeypatch.setattr(precision, "has_bf16_instructions", lambda: True)
    monkeypatch.setattr(precision, "_speed_of_bf16", lambda *_: pytest.fail("a clock was asked"))
    chosen = choose_precision("auto", tiny(), IMAGES, CPU)
    assert chosen.name == "bf16" and "has bf16 instructions, and gradients are within" in chosen.reason


@pytest.mark.parametrize(("ratio", "expected"), [(2.0, "bf16"), (0.5, "fp32")])
def test_where_the_processor_says_nothing_the_faster_one_is_chosen(
    ratio: float, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "has_bf16_instructions", lambda: None)
    monkeypatch.setattr(precision, "_speed_of_bf16", lambda *_: ratio)
    assert choose_precision("auto", tiny(), IMAGES, CPU).name == expected


def test_gradients_that_are_no_numbers_are_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    gradients = {"fp32": [torch.ones(3)] * 2, "bf16": [torch.ones(3), torch.full((3,), float("nan"))]}
    monkeypatch.setattr(precision, "has_bf16_instructions", lambda: True)
    monkeypatch.setattr(precision, "_gradients", lambda module, images, tested, device: gradients[tested.name])
    assert choose_precision("auto", tiny(), IMAGES, CPU).name == "fp32"


def test_asked_for_is_given_but_fp16_needs_cuda() -> None:
    assert choose_precision("bf16", tiny(), IMAGES, CPU).name == "bf16"
    with pytest.raises(UsageError, match="CUDA"):
        choose_precision("fp16", tiny(), IMAGES, CPU)


def test_self_test_leaves_the_module_as_it_was() -> None:
    module = tiny().train()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    assert precision._speed_of_bf16(lambda each: precision._gradients(module, IMAGES, each, CPU)) > 0
    assert module.training
    assert all(parameter.grad is None for parameter in module.parameters())
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())


def test_loss_scale_undoes_itself_and_backs_off() -> None:
    scale = LossScale(scale=4.0)
    gradients = [torch.tensor([4.0, 8.0])]
    assert scale.unscale(gradients)
    assert gradients[0].tolist() == [1, 2]
    assert not scale.unscale([torch.tensor([float("inf")])])
    assert scale.scale == 2
    for _ in range(2000):
        scale.unscale([torch.tensor([1.0])])
    assert scale.scale == 4


@pytest.mark.gpu
def test_cuda_chooses_half_precision() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    device = torch.device("cuda")
    assert choose_precision("auto", tiny().to(device), IMAGES.to(device), device).name in ("bf16", "fp16")
