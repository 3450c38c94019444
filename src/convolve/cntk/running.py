"""Running functions: one compiled module per set of outputs, for any batch size."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from convolve.cntk import device as devices
from convolve.cntk import feeding, randomness
from convolve.cntk.lowering import Batch, Module, compiled
from convolve.cntk.nodes import leaves_of, resolved
from convolve.cntk.variables import TORCH_TYPES, Output, Shape, Stored, Variable

_MOST_MODULES = 64  # otherwise a program that creates functions in a loop would keep all of them
_modules: dict[Any, Module] = {}  # the last used one at the end
_needed: dict[tuple[Variable, ...], list[Variable]] = {}  # of the outputs last asked for


def forget() -> None:
    """After a change of a network: what was compiled is no longer valid."""
    _modules.clear()
    _needed.clear()


def module_of(outputs: Sequence[Variable], fed: Mapping[Variable, feeding.Fed]) -> Module:
    sizes: dict[Variable, Shape] = {v: f.shape for v, f in fed.items() if any(size < 0 for size in v.shape)}
    key: tuple[Any, ...] = (tuple(outputs), tuple(sizes.items()))
    count = max((len(each.tensor) for variable, each in fed.items() if variable.has_batch_axis), default=1)
    batch = Batch(count, tuple((axis, max(lengths, default=0)) for axis, lengths in feeding.lengths_of(fed).items()))
    if key in _modules and _modules[key].batch not in (None, batch):
        key = (*key, batch)
    found = _modules.pop(key, None) or compiled(outputs, sizes, batch)
    _modules[key] = found
    if len(_modules) > _MOST_MODULES:
        del _modules[next(iter(_modules))]
    return found


def needed(outputs: Sequence[Variable]) -> list[Variable]:
    """The variables whose values must be given."""
    key = tuple(outputs)
    if key not in _needed:
        found = [variable for variable in leaves_of(outputs) if variable.is_input or variable.is_placeholder]
        if any(variable.is_placeholder for variable in found):
            return found  # they will be replaced
        if len(_needed) >= _MOST_MODULES:
            _needed.clear()
        _needed[key] = found
    return _needed[key]


def arguments_of(outputs: Sequence[Variable], arguments: Any, signature: Sequence[Variable]) -> dict[Variable, Any]:
    """A program's arguments by variable: from a dictionary by variable or name, or from the value of the only one."""
    wanted = needed(outputs)
    if arguments is None:
        arguments = {}
    if not isinstance(arguments, Mapping):
        if len(wanted) != 1:
            kind = type(arguments[0] if isinstance(arguments, tuple) and arguments else arguments).__name__
            raise ValueError(f"non-dict argument ({kind}) is not supported for nodes with more than one input")
        if isinstance(arguments, tuple):
            [arguments] = arguments if len(arguments) == 1 else (list(arguments),)
        return {wanted[0]: arguments}
    given: dict[Variable, Any] = {}
    for key, value in arguments.items():
        for variable in _called(key, wanted):
            given[variable] = value
    return given


def _called(key: Any, wanted: Sequence[Variable]) -> list[Variable]:
    if isinstance(key, str):
        found = [variable for variable in wanted if key in (variable.name, variable.uid)]
        if not found:
            names = ", ".join(variable.name for variable in wanted)
            raise ValueError(
                f'variable with name "{key}" does not exist in the network. Available variable names: {names}'
            )
        return found
    if not isinstance(key, Variable):
        raise TypeError(f"Variable expected, but got {type(key)}")
    variable = getattr(key, "output", key)
    return [resolved(variable)] if variable in wanted or resolved(variable) in wanted else []


def fed(outputs: Sequence[Variable], arguments: Mapping[Variable, Any]) -> feeding.Minibatch:
    """The tensors of all arguments that the outputs need. Missing ones are named in the error."""
    wanted = needed(outputs)
    missing = [variable for variable in wanted if variable not in arguments]
    if missing and not arguments and len(wanted) == len(missing):
        raise ValueError(f"function expects {len(missing)} arguments")
    if missing:
        raise ValueError(
            f"Values for {len(missing)} required arguments '{', '.join(map(str, missing))}', that the requested "
            f"output(s) '{', '.join(map(str, outputs))}' depend on, have not been provided."
        )
    given = feeding.Minibatch({variable: feeding.feed(variable, arguments[variable]) for variable in wanted})
    counts = {variable: len(each.lengths or each.tensor) for variable, each in given.items() if variable.has_batch_axis}
    if len({*counts.values()}) > 1:
        listed = ", ".join(f"{count} of '{variable}'" for variable, count in counts.items())
        raise ValueError(f"the arguments are not of one minibatch: {listed}")
    return given


@dataclass(eq=False, repr=False)
class BackPropState:
    """What a forward pass keeps for the backward pass."""

    outputs: dict[Variable, torch.Tensor]
    given: feeding.Minibatch
    assignments: list[tuple[Stored, torch.Tensor]]  # made when the backward pass is done

    @staticmethod
    def device() -> Any:
        from convolve.cntk.device import cpu

        return cpu()


def passed(
    outputs: Sequence[Variable], given: feeding.Minibatch, training: bool, later: Any = None, owner: Any = None
) -> list[torch.Tensor]:
    """The tensors of the outputs. The caller decides whether gradients are kept, and assignments wait in `later`.

    `owner`: the trainer whose random numbers are drawn; else the outputs have their own.
    """
    randomness.draw_for(owner or tuple(outputs))
    leaves = {at: output for at, output in enumerate(outputs) if not isinstance(output, Output)}
    inner = [output for output in outputs if isinstance(output, Output)]
    found: list[torch.Tensor] = []
    if inner:
        run = module_of(inner, given)
        if run.module.training != training:
            run.module.train(training)
        tensors = {variable: each.tensor for variable, each in given.items()} | _draw(run, given)
        tensors |= _lengths(run, given)
        found = list(run.module(*(tensors[variable] for variable in run.inputs)))
        _keep_lengths(run, found, given)
        assignments = [(target, found[place].detach().clone()) for target, place in run.assigned]
        if later is None:
            assign(assignments)
        else:
            later += assignments
        found = found[: len(inner)]
    for at, leaf in leaves.items():
        found.insert(at, leaf.data if isinstance(leaf, Stored) else given[leaf].tensor)
    return found


def assign(assignments: Sequence[tuple[Stored, torch.Tensor]]) -> None:
    with torch.no_grad():
        for target, value in assignments:
            target.data.copy_(value)


def _lengths(run: Module, given: feeding.Minibatch) -> dict[Variable, torch.Tensor]:
    known = feeding.lengths_of(given) if run.lengths else {}
    return {variable: torch.tensor(known[axis], device=devices.used()) for variable, axis in run.lengths.items()}


def _keep_lengths(run: Module, found: Sequence[torch.Tensor], given: feeding.Minibatch) -> None:
    """Record the lengths of the sequences that the network made, for those who read the results."""
    for axis, place in run.made.items():
        lengths = found[place].long().tolist()
        if min(lengths, default=1) < 1:
            raise RuntimeError(
                f"AddSequence: Sequences must be a least one frame long. Along '{axis.name}', one has no samples left."
            )
        given.made[axis] = lengths


def _draw(run: Module, given: feeding.Minibatch) -> dict[Variable, torch.Tensor]:
    """New random numbers: into their buffers, or for as many samples as are fed."""
    count, drawn = max((len(each.tensor) for each in given.values()), default=1), {}
    for node, variable in run.draws:
        if isinstance(variable, Stored):
            variable.data.copy_(torch.from_numpy(randomness.drawn(node, variable.shape)))
        else:
            numbers = torch.from_numpy(randomness.drawn(node, (count, *variable.shape)))
            drawn[variable] = numbers.to(devices.used(), TORCH_TYPES[variable.data_type])
    return drawn


def evaluated(
    outputs: Sequence[Variable], arguments: Mapping[Variable, Any], as_numpy: bool = True
) -> dict[Variable, Any]:
    given = fed(outputs, arguments)
    with torch.no_grad():
        found = passed(outputs, given, training=False)
    return {v: feeding.shown(v, tensor, given, as_numpy) for v, tensor in zip(outputs, found, strict=True)}


def named(asked: Any, values: Mapping[Any, Any]) -> dict[Any, Any]:
    """The values under the keys that a program asked for: variables or functions."""
    listed = asked if isinstance(asked, list | tuple | set) else [asked]
    return {each: values[getattr(each, "output", each)] for each in listed}


def forward(
    outputs: Sequence[Variable], arguments: Mapping[Variable, Any], keep: Any, as_numpy: bool
) -> tuple[BackPropState | None, dict[Variable, Any]]:
    given = fed(outputs, arguments)
    for variable, each in given.items():
        if keep and variable.needs_gradient:
            each.tensor.requires_grad_(True)
    later: list[tuple[Stored, torch.Tensor]] = []
    with torch.set_grad_enabled(bool(keep)):
        found = passed(outputs, given, bool(keep), later if keep else None)
    values = {v: feeding.shown(v, t.detach(), given, as_numpy) for v, t in zip(outputs, found, strict=True)}
    return BackPropState(dict(zip(outputs, found, strict=True)), given, later) if keep else None, values


def backward(state: BackPropState, root_gradients: Any, variables: Any, as_numpy: bool) -> dict[Variable, Any]:
    wanted = _leaves_wanted(variables, state.given)
    if isinstance(root_gradients, Mapping) and not root_gradients:
        raise ValueError(f"function expects {len(state.outputs)} arguments")
    roots, grads = [], []
    if not isinstance(root_gradients, Mapping):
        root_gradients = dict.fromkeys(state.outputs, root_gradients)
    for key, value in root_gradients.items():
        output = state.outputs[getattr(key, "output", key)]
        roots.append(output)
        array = np.concatenate(value) if isinstance(value, list) else np.asarray(value)
        grad = torch.as_tensor(array, dtype=output.dtype, device=output.device)
        try:
            fits = grad.reshape(output.shape) if grad.numel() == output.numel() else grad.broadcast_to(output.shape)
        except RuntimeError:
            raise ValueError(
                f"The gradient of the shape {array.shape} does not match the value of '{key}', which has the shape "
                f"{tuple(output.shape)}."
            ) from None
        grads.append(fits)
    tensors = {variable: each.tensor for variable, each in state.given.items()}
    found = _gradients(roots, grads, wanted, tensors)
    assign(state.assignments)
    return {v: feeding.shown(v, torch.from_numpy(g), state.given, as_numpy) for v, g in found.items()}


def _gradients(
    roots: Sequence[torch.Tensor], grads: Sequence[torch.Tensor], wanted: Sequence[Variable],
    inputs: Mapping[Variable, torch.Tensor],
) -> dict[Variable, NDArray[np.floating]]:  # fmt: skip
    tensors = [v.data if isinstance(v, Stored) else inputs[v] for v in wanted]
    tops = [(root, grad) for root, grad in zip(roots, grads, strict=True) if root.requires_grad]
    found: Sequence[torch.Tensor | None] = [None] * len(tensors)
    if tops:
        ends, weights = zip(*tops, strict=True)
        learned = [tensor for tensor in tensors if tensor.requires_grad]
        got = torch.autograd.grad(ends, learned, weights, retain_graph=True, allow_unused=True)
        by_tensor = {id(tensor): each for tensor, each in zip(learned, got, strict=True)}
        found = [by_tensor.get(id(tensor)) for tensor in tensors]
    zeros = (torch.zeros_like(t) if g is None else g for t, g in zip(tensors, found, strict=True))
    return dict(zip(wanted, (each.cpu().numpy() for each in zeros), strict=True))


def _leaves_wanted(variables: Any, inputs: Any) -> list[Variable]:
    """The variables whose gradients are wanted: parameters, constants, inputs."""
    wanted = list(variables)
    if not wanted:
        raise ValueError("Backward: List of inputs to compute gradients for, must not be empty.")
    for each in wanted:
        if not isinstance(each, Variable):
            raise TypeError(f"Variable expected, but got {type(each)}")
        if not isinstance(each, Stored) and each not in inputs and resolved(each) not in inputs:
            raise ValueError(
                f"Gradient requested for Variable '{each}' which is not a leaf input (Input, Parameter or Constant) of "
                "the Function; this is currently unsupported."
            )
    return wanted


def gradient(function: Any, at: Any, wrt: Any, outputs: Any, as_numpy: bool, grad_root: Any) -> Any:
    wanted_outputs = tuple(function.outputs)
    if wrt is None:
        wrt = [variable for variable in function.arguments if variable.needs_gradient]
        if not wrt:
            raise ValueError(f"None of the Function '{function}' arguments have 'needs_gradient == True'")
    wrt = _leaves_wanted([wrt] if isinstance(wrt, Variable) else wrt, needed(wanted_outputs))
    extra = [getattr(each, "output", each) for each in (outputs or ())]
    every = (*wanted_outputs, *(each for each in extra if each not in wanted_outputs))
    given = fed(every, arguments_of(every, at, function.signature))
    for variable in wrt:
        if variable in given:
            given[variable].tensor.requires_grad_(True)
    with torch.enable_grad():
        found = passed(every, given, training=True)
    root = getattr(grad_root, "output", grad_root) or function.output
    top = found[every.index(root)]
    tensors = {variable: each.tensor for variable, each in given.items()}
    gradients: dict[Variable, Any] = _gradients([top], [torch.ones_like(top)], wrt, tensors)
    shown = {v: feeding.shown(v, torch.from_numpy(g), given, as_numpy) for v, g in gradients.items()}
    result = next(iter(shown.values())) if len(shown) == 1 else shown
    if not extra:
        return result
    values = {v: feeding.shown(v, found[every.index(v)].detach(), given, as_numpy) for v in extra}
    return result, next(iter(values.values())) if len(values) == 1 else values
