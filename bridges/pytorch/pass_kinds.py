"""PyTorch: PassKinds, the kinds of forward passes of a model, and which were followed how often."""

import math
from typing import Any

import torch

from .axis_flow import KnownAxes
from .current_pass import CurrentPass
from .given_tensors import Given

_MOST_FOLLOWED = 8  # passes of a kind in which some layer has not run
_MOST_KINDS = 32  # of passes of a method that flags may tell apart


class PassKinds:
    """The kinds of passes, each of which has axes of its own.

    They differ in the numbers of axes of the tensors that the model is given, in its flags and its
    training mode, in whether there are none, one or several inputs, and in whether there is a mask;
    in sizes only after a layer had its neurons elsewhere.
    """

    def __init__(self) -> None:
        self._followed: dict[Any, int] = {}
        # Of each module and method, kinds that flags tell apart, also of passes that failed.
        self._flagged: dict[Any, set[Any]] = {}
        self._by_sizes: set[Any] = set()  # kinds of which some layer has its neurons elsewhere
        self._done: set[Any] = set()  # kinds that are followed no more
        self._one_input: set[Any] = set()  # kinds whose passes have one input, without a batch axis
        self._joined: set[Any] = set()  # kinds whose passes make one batch of a list
        self._elsewhere: set[Any] = set()  # of methods whose layers have inputs along another axis
        self._in_parts: set[Any] = set()  # of methods that run the model on parts of inputs
        # Of methods, how often a pass comes to a place at which layers share a part.
        self._runs: dict[tuple[Any, Any], float] = {}

    def note_begin(
        self, current: CurrentPass, given: Given, first: torch.Tensor | None, positions: int | None
    ) -> None:
        """Note the kind of a pass that begins.

        ``first``: the tensor that counts the inputs. ``positions``: how many the mask has, up to 2.
        """
        module, inputs = current.module, current.inputs
        ndims = tuple((tensor.ndim, tensor is first) for _, tensor in given.tensors)
        few = (inputs == 0, inputs == 1)  # torch.jit.trace makes tensors of numbers
        method = None if current.method is None else current.method.call.name
        kind = (id(module), method, module.training, ndims, few, positions)
        sizes = [tensor.shape for _, tensor in given.tensors] if kind in self._by_sizes else []
        # Of many flags, some are data, such as a name for each pass.
        flagged = (*kind, given.flags, *sizes)
        known = self._flagged.setdefault((id(module), method), set())
        if len(known) < _MOST_KINDS:
            known.add(flagged)
        current.plain_kind = kind
        current.signature = flagged if flagged in known else kind

    def note_followed(self, kind: Any, known: KnownAxes, *, has_seen_all: bool) -> None:
        """Note that a pass was followed. ``has_seen_all``: whether all layers have run in some.

        A kind with control flow is always followed: torch compiles it in other passes.
        """
        self._followed[kind] = self._followed.get(kind, 0) + 1
        is_known = self._followed[kind] >= _MOST_FOLLOWED or has_seen_all
        if is_known and not known.has_run_branches:
            self._done.add(kind)
        if known.takes_one_input:
            self._one_input.add(kind)
        if known.has_joined_list:
            self._joined.add(kind)

    def is_done(self, kind: Any) -> bool:
        """Return whether passes of a kind are followed no more."""
        return kind in self._done

    def follow_again(self, kind: Any) -> bool:
        """Let the next pass of a kind be followed, if one was. Return whether one was."""
        self._done.discard(kind)
        return kind in self._followed

    def has_one_input(self, kind: Any) -> bool:
        """Return whether passes of a kind have one input, without a batch axis."""
        return kind in self._one_input

    def joins_list(self, kind: Any) -> bool:
        """Return whether passes of a kind make one batch of the tensors in a list."""
        return kind in self._joined

    def tell_sizes_apart(self, plain_kind: Any) -> None:
        """Let each size of what the model is given be a kind of its own, in passes like these."""
        self._by_sizes.add(plain_kind)

    def note_parts(self, kind: Any) -> None:
        """Note that a method runs the model on parts of what it is given."""
        self._in_parts.add(kind)
        self._done.add(kind)

    def is_in_parts(self, kind: Any) -> bool:
        """Return whether a method of that kind was seen to do so."""
        return kind in self._in_parts

    def note_elsewhere(self, kind: Any) -> None:
        """Note that the first layer of a method has its inputs along another axis."""
        self._elsewhere.add(kind)

    def is_elsewhere(self, kind: Any) -> bool:
        """Return whether it was followed that it has."""
        return kind in self._elsewhere

    def note_runs(self, kind: Any, place: Any, runs: int | None) -> None:
        """Note how often a pass of a method comes to a place; None: it has not come back yet."""
        if runs is None:
            self._runs.setdefault((kind, place), math.inf)
        else:
            self._runs[kind, place] = runs

    def runs_at(self, kind: Any, place: Any) -> float:
        """Return how often, as it was followed; once, if it was not."""
        return self._runs.get((kind, place), 1)
