"""The state of an optimizer, as stored in a checkpoint."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from convolve.errors import ModelError
from convolve.training.optimizers import CntkOptimizer, parameters_of


def state_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Everything a resumed training needs, under flat names ("velocity.0"). State of torch.optim is tensors only."""
    state = [optimizer.state.get(weight, {}) for weight in parameters_of(optimizer)]
    named = {f"{name}.{i}": value for i, values in enumerate(state) for name, value in values.items()}
    return {name: value.contiguous() for name, value in named.items() if value is not None}


def load_state_tensors(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Load the `state_tensors` of the same optimizer and parameters; those of another raise `ModelError`."""
    weights = parameters_of(optimizer)
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        slot, _, number = name.rpartition(".")
        state.setdefault(int(number), {})[slot] = tensor
    if isinstance(optimizer, CntkOptimizer) and state:
        _require_state_of(optimizer, weights, state)
    if max(state, default=0) >= len(weights):
        raise ModelError(f"the optimizer state is for more than the {len(weights)} parameters of this network")
    optimizer.state.clear()
    for i, values in state.items():
        optimizer.state[weights[i]] = {slot: _placed(value, weights[i]) for slot, value in values.items()}


def _placed(value: Tensor, weight: Tensor) -> Tensor:
    """A copy on the device of `weight`, and in its memory format; scalars stay where they are, as in torch."""
    if value.shape == weight.shape:
        return torch.empty_like(weight).copy_(value)
    return value.clone() if not value.ndim else value.to(weight.device, copy=True)


def _require_state_of(
    optimizer: CntkOptimizer, weights: list[nn.Parameter], state: dict[int, dict[str, Tensor]]
) -> None:
    """Raise ModelError unless each of `weights` has exactly its slots, in the right form; a group that was always
    frozen has none yet."""
    groups = [group["params"] for group in optimizer.param_groups]
    starts = [sum(map(len, groups[:k])) for k in range(len(groups))]
    spans = [range(start, start + len(group)) for start, group in zip(starts, groups, strict=True)]
    stepped = [i for span in spans if any(i in state for i in span) for i in span]
    forms = {f"{slot}.{i}": _form(weights[i]) for i in stepped for slot in optimizer.slots}
    counter = _form(torch.zeros((), dtype=torch.float64))
    forms |= {f"{name}.{i}": counter for i in stepped for name in optimizer.counters}
    came = {f"{slot}.{i}": _form(value) for i, values in state.items() for slot, value in values.items()}
    for name in sorted(forms.keys() | came.keys()):
        if name not in came or name not in forms:
            kind = "lacks" if name in forms else "has an unexpected"
            raise ModelError(f"the optimizer state {kind} {name!r}; it belongs to another optimizer or model")
        if came[name] != forms[name]:
            raise ModelError(f"optimizer state {name!r}: expected {forms[name]}, got {came[name]}")


def _form(tensor: Tensor) -> str:
    return f"{tensor.dtype} {tuple(tensor.shape)}"
