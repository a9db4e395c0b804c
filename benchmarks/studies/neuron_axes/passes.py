"""Forward passes of a model: what each call of a leaf layer returned, and what changes in it."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, suppress
from functools import partial
from typing import Any

import torch
from torch import nn

from .neurons import (
    Matrix,
    flip_output,
    flipped,
    has_neurons,
    matrices,
    neuron_count,
    noise_in_parameters,
)


@dataclasses.dataclass(frozen=True)
class Inputs:
    """The arguments of a forward pass. ``batch``: the first axis of those that have one."""

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    batch: int = 2

    def with_copied(self, place: int, source: int) -> "Inputs":
        """Return inputs of which the one at ``place`` in the batch is a copy of another."""

        def copied(value: Any) -> Any:
            if not isinstance(value, torch.Tensor) or value.shape[:1] != (self.batch,):
                return value
            value = value.clone()
            value[place] = value[source]
            return value

        args = tuple(copied(value) for value in self.args)
        return Inputs(args, {key: copied(v) for key, v in self.kwargs.items()}, self.batch)


@dataclasses.dataclass(frozen=True)
class LeafCall:
    """A call of a layer. ``number``: how often it was called before, in this pass."""

    layer: str
    number: int
    position: float
    output: torch.Tensor


@dataclasses.dataclass(frozen=True)
class ProducerCall:
    """A call that uses the parameters of ``producer``.

    ``host``: the module that is called. It is another one where a module computes with the weights
    of its child without calling it, as nn.MultiheadAttention does. ``matrix``: where the neurons of
    the producer are taken to be, if no definition tells.
    """

    producer: nn.Module
    host: nn.Module
    number: int
    position: float
    matrix: Matrix | None = None

    @property
    def neurons(self) -> int:
        return neuron_count(self.producer, self.matrix)


class _AllSeen(Exception):
    """Ends a pass in which nothing more is of interest."""


def leaf_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Return the layers without layers inside; parametrizations do not count as layers."""
    return {
        name: module
        for name, module in model.named_modules()
        if name
        and "parametrizations" not in name.split(".")
        and all(child == "parametrizations" for child, _ in module.named_children())
    }


def recorded(model: nn.Module, inputs: Inputs) -> tuple[list[LeafCall], list[ProducerCall]]:
    """Return all calls of leaf layers and all calls of producers, in one forward pass."""
    leaves: list[LeafCall] = []
    begun: list[tuple[nn.Module, int, int]] = []
    clock = iter(range(1 << 60))
    calls: Counter[nn.Module] = Counter()

    def begin(module: nn.Module, args: Any) -> None:
        begun.append((module, calls[module], next(clock)))
        calls[module] += 1

    def ended(layer: str, number: int, output: torch.Tensor) -> None:
        leaves.append(LeafCall(layer, number, next(clock), output.detach().clone()))

    with ExitStack() as stack:
        for module in model.modules():
            _hook(stack, module.register_forward_pre_hook(begin, prepend=True))
        watch(stack, leaf_layers(model), ended)
        run(model, inputs)
    hosts = _hosts(model, {module for module, _, _ in begun})
    producers = [
        ProducerCall(producer, host, number, at if producer is host else at + 0.5)
        for host, number, at in begun
        for producer in hosts.get(host, ())
    ]
    return leaves, producers


def _hosts(model: nn.Module, called: Iterable[nn.Module]) -> dict[nn.Module, list[nn.Module]]:
    """Return, for each called module, the producers that it computes with."""
    called = set(called)
    named = dict(model.named_modules())
    hosts: dict[nn.Module, list[nn.Module]] = {}
    for name, module in named.items():
        if "parametrizations" in name.split(".") or not (has_neurons(module) or matrices(module)):
            continue
        while named[name] not in called and name:
            name = name.rpartition(".")[0]
        hosts.setdefault(named[name], []).append(module)
    return hosts


def watch(
    stack: ExitStack,
    layers: Mapping[str, nn.Module],
    ended: Callable[[str, int, torch.Tensor], None],
) -> None:
    """Call ``ended(layer, number, output)`` after each call of one of these layers."""
    numbers: Counter[str] = Counter()

    def after(layer: str, module: Any, args: Any, output: Any) -> None:
        tensor = first_tensor(output)
        if tensor is not None and tensor.ndim:
            ended(layer, numbers[layer], tensor)
        numbers[layer] += 1

    for name, module in layers.items():
        _hook(stack, module.register_forward_hook(partial(after, name)))


def changed_outputs(
    model: nn.Module,
    inputs: Inputs,
    watched: Iterable[LeafCall],
    flip: tuple[ProducerCall, float | None] | None = None,
) -> dict[tuple[str, int], torch.Tensor]:
    """Return what the watched calls return in another pass: with other inputs, or a flipped neuron.

    ``flip``: a call of a producer, and the share of its neurons before the one to flip, or None to
    change them all; in that call only. The pass ends when all watched calls have been seen.
    """
    watched = list(watched)
    layers = {call.layer: model.get_submodule(call.layer) for call in watched}
    waiting = {(call.layer, call.number) for call in watched}
    outputs: dict[tuple[str, int], torch.Tensor] = {}

    def ended(layer: str, number: int, output: torch.Tensor) -> None:
        if (layer, number) in waiting:
            outputs[layer, number] = output.detach().clone()
            waiting.discard((layer, number))
            if not waiting:
                raise _AllSeen

    with ExitStack() as stack:
        if flip is not None:
            _flip_in_one_call(stack, *flip)
        watch(stack, layers, ended)
        with suppress(_AllSeen):
            run(model, inputs)
    return outputs


def _flip_in_one_call(stack: ExitStack, call: ProducerCall, share: float | None) -> None:
    parameters = stack.enter_context(ExitStack())
    begun: Counter[str] = Counter()
    by_output = isinstance(call.producer, nn.RNNBase) and share is not None

    def begin(module: Any, args: Any) -> None:
        if begun["calls"] == call.number and not by_output:
            parameters.enter_context(
                noise_in_parameters(call.producer)
                if share is None
                else flipped(call.producer, share, call.matrix)
            )
        begun["calls"] += 1

    def end(module: Any, args: Any, output: Any) -> Any:
        parameters.close()
        this_one = by_output and share is not None and begun["calls"] == call.number + 1
        return flip_output(output, share) if this_one else None

    _hook(stack, call.host.register_forward_pre_hook(begin, prepend=True))
    _hook(stack, call.host.register_forward_hook(end))


def run(model: nn.Module, inputs: Inputs) -> None:
    """One forward pass without gradients. Random numbers in it are those of every other pass."""
    torch.manual_seed(0)
    with torch.no_grad():
        model(*inputs.args, **inputs.kwargs)


def first_tensor(value: Any) -> torch.Tensor | None:
    """Return the first tensor of nested tuples, lists and mappings."""
    if isinstance(value, torch.Tensor):
        return value
    parts = value.values() if isinstance(value, Mapping) else value
    if not isinstance(value, (tuple, list, Mapping)):
        return None
    return next((found for part in parts if (found := first_tensor(part)) is not None), None)


def _hook(stack: ExitStack, handle: Any) -> None:
    stack.callback(handle.remove)
