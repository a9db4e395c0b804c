"""PyTorch: StateCaptureHook, a capture point that is a forward hook of a module."""

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any, Self, Unpack, cast

try:
    import torch
except ImportError as error:
    raise ImportError("PyTorch hooks need torch: pip install torch") from error
from torch.fx import Proxy
from torch.nn.utils.rnn import PackedSequence
from torch.utils.hooks import RemovableHandle

from tensorstate_gpu._capturing.options import CaptureKeywords, CaptureOptions, takes_options
from tensorstate_gpu._capturing.pass_notes import NO_NOTES
from tensorstate_gpu._capturing.saved_point import load_point, saved_point
from tensorstate_gpu._layers.capture_warnings import warn_of_skipped
from tensorstate_gpu.errors import NothingCaptured, RowsNotKept

from .axis_flow import is_in_branch
from .batch_plan import Planned
from .branches import warn_in_branch
from .neuron_axes import UNKNOWN, axis_rule_of
from .operator import capture_in_graph, skip_in_graph
from .other_devices import check_devices
from .pass_counter import PassCounter
from .pass_point import PassPoint
from .tensors import (
    NotDense,
    first_tensor,
    is_exporting,
    is_real_forward,
    is_real_pass,
    nested_error,
    sequences_of,
)


class StateCaptureHook(PassPoint):
    """A capture point that is used as a forward hook or forward pre-hook of a module.

    ``StateCaptureHook("name").attach(module)`` registers it. It captures the output of the module
    (as a pre-hook, its input) and changes nothing. A copy of the hook has what was captured, and
    captures nothing itself. From a tuple, mapping or dataclass it takes the first tensor that has
    axes. It does not capture fake and meta tensors, tracing, exporting, and forward passes that
    activation checkpointing repeats during backward.

    ``module.register_forward_hook(hook)`` works too, with one exception: if torch.compile has
    compiled a module of this class before, it may not notice the hook.

    The parameters are those of CapturePoint.

    Examples
    --------
    >>> import torch
    >>> layer = torch.nn.Linear(3, 2)
    >>> hook = StateCaptureHook("linear")
    >>> hook.attach(layer)
    >>> _ = layer(torch.ones(5, 3))
    >>> hook.state_count, hook.neurons
    (5, 2)
    """

    __module__ = "tensorstate_gpu"

    _listed = "active attach detach load_state_dict state_dict"
    _skipped_as = ""  # what was passed in a call that was skipped
    _place = "post"  # at its module

    @takes_options
    def __init__(
        self,
        name: str,
        disk_path: Any = None,
        *,
        options: CaptureOptions | None = None,
        call_of: str | None = None,
        **keywords: Unpack[CaptureKeywords],
    ) -> None:
        super().__init__(name, disk_path, options=options, call_of=call_of, **keywords)
        with self.intake.released_if_it_fails():
            if any(getattr(type(self), each) is not _UNCHANGED[each] for each in _UNCHANGED):
                self._plans = None
            self.batch_axis = str(self.options.batch_axis)
            self._register(PassCounter())

    def reset_states(self, input_shape: Any = None) -> None:
        super().reset_states(input_shape)
        self.forget_guesses()
        self.pass_log.restart()

    def state_dict(self) -> dict[str, object]:
        """Return the counts, and what is known of the layer, as integers, strings and tensors.

        torch.load(weights_only=True) reads it. Raises RowsNotKept unless ``keep="counts"``: for
        rows, a store is made to be resumed.
        """
        self._check_counts()
        with self.intake.lock:
            return saved_point(self.intake)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what state_dict() returned, in place of what was captured.

        Raises TypeError or ValueError, and changes nothing, if it is of another layer, or has
        another firing rule or number of groups.
        """
        self._check_counts()
        load_point(self.intake, state)
        self.pass_log.restart()

    def _check_counts(self) -> None:
        if self.keep != "counts" or self.disk_path is not None:
            raise RowsNotKept(
                f'{self.name}: state_dict() is for counts in memory: capture with keep="counts" '
                "and without a store, or into a store, which a later capture can resume"
            )

    def attach(self, module: torch.nn.Module, *, before: bool = False) -> None:
        """Capture the outputs of a module from now on; ``before``: its inputs.

        It may be compiled already. Raises ValueError if the hook is attached to a module, and
        NotCapturable if the module is on a device where its states cannot be packed.
        """
        if not isinstance(module, torch.nn.Module):
            raise TypeError(f"module must be a torch.nn.Module, got {type(module).__name__}")
        if self._handles:
            raise ValueError(f"{self.name} is attached to a module already; detach() it first")
        if self._passes is None and (self.options.when or self.options.mask):
            raise ValueError(
                f"{self.name}: when= and mask= are about the passes of a model: use capture() or "
                "build_efficiency_model()"
            )
        check_devices(module, self.firing)
        self._place = "pre" if before else "post"
        if not self._has_rule:
            self._take_rule_of(module)
        self.pass_log.watch(module)
        self.join(module)

    def _hook_onto(self, module: torch.nn.Module) -> tuple[RemovableHandle, ...]:
        self.active = True
        if self._place == "post":
            return (module.register_forward_hook(self),)
        return (module.register_forward_pre_hook(self.before_with_kwargs, with_kwargs=True),)

    def detach(self) -> None:
        """Remove the hook from the module that it is attached to, if any."""
        if not self._handles:
            return
        with ExitStack() as leaving:  # each step, also if another one fails
            leaving.callback(self._leave_passes)
            leaving.callback(self.remove)
            for hook in self.later_calls:
                leaving.callback(hook.pass_log.end)
            leaving.callback(self.pass_log.end)

    def _leave_passes(self) -> None:
        if self._passes is not None:
            self._passes.remove_user(self)
            self._passes = None

    def remove(self) -> None:
        super().remove()
        self.active = False  # for compiled graphs that do not check whether they still fit

    def __call__(self, module: Any, args: Any, *output: Any) -> None:
        """Called as forward hook (module, args[, kwargs], output) or pre-hook (module, args)."""
        value = output[-1] if output else args
        compiles = torch.compiler.is_dynamo_compiling()
        if not compiles and self._plans and (planned := self._plans.find(value)) is not None:
            self._deliver_planned(value, planned)
            return
        # A pre-hook with_kwargs=True gets (module, args, kwargs), which looks like an output.
        if len(output) == 1 and type(output[0]) is dict and self._is_pre_hook_of(module):
            self.before_with_kwargs(module, args, output[0])
        elif torch.compiler.is_compiling():
            self._capture_in_graph(module, value)
        elif self._has_rule and isinstance(value, torch.Tensor):  # as for most layers
            self.deliver(value)
        else:
            self._capture_value(module, value)

    def _deliver_planned(self, tensor: torch.Tensor, planned: Planned) -> None:
        """Like deliver(), of a tensor for which there is a plan."""
        if not self._key_and_active[1]:
            return
        on_cpu = planned[0].packer.place is None  # on a GPU, a graph may be recorded
        if is_real_pass(tensor, has_numbers=True) if on_cpu else is_real_forward(tensor):
            self.receive(tensor, self.pass_log.counter.clock_at(tensor), planned=planned)

    def before_with_kwargs(self, module: Any, args: Any, kwargs: Any) -> None:
        """Called as a pre-hook that is registered with ``with_kwargs=True``."""
        value = (*args, *kwargs.values())
        if torch.compiler.is_compiling():
            self._capture_in_graph(module, value)
        else:
            self._capture_value(module, value)

    def _capture_in_graph(self, module: Any, value: Any) -> None:
        """Let the graph that is made capture a value whenever it runs.

        torch.compile guards each method and attribute of a hook that is used here, for each layer,
        and looks whether it is the same before each pass.
        """
        tensor = first_tensor(value)
        if isinstance(tensor, Proxy):
            return
        if is_in_branch():
            if not is_exporting():  # which captures nothing anywhere
                warn_in_branch(self.name)
        elif tensor is None:
            self._check_may_be_skipped(module, value)
            skip_in_graph(self._anchor)
        elif tensor.is_nested:  # no operator is called with one
            skip_in_graph(self._anchor, nested=True)
        else:
            if not self._has_rule:
                self._take_rule_of(module)
            capture_in_graph(tensor, self._anchor, self._clock, self.batch_axis)

    def _is_pre_hook_of(self, module: Any) -> bool:
        hooks = module._forward_pre_hooks
        return any(hooks[key] is self for key in module._forward_pre_hooks_with_kwargs)

    def _capture_value(self, module: Any, value: Any) -> None:
        tensor = first_tensor(value)
        if tensor is None:
            self._check_may_be_skipped(module, value)
            self.deliver_nothing()
            return
        if isinstance(tensor, Proxy):  # torch.fx traces
            return
        if not self._has_rule:
            self._take_rule_of(module)
        self.deliver(tensor, sequences_of(value, tensor))

    def _check_may_be_skipped(self, module: Any, value: Any) -> None:
        """Raise TypeError if a value without a tensor is not of a layer of a model."""
        if self._passes is None:
            raise TypeError(
                f"{self.name}: no tensor in what {type(module).__name__} passes: "
                f"{type(value).__name__}"
            )

    def _take_rule_of(self, module: torch.nn.Module) -> None:
        self.use_rule(axis_rule_of(module) or UNKNOWN)

    def receive(
        self,
        tensor: torch.Tensor,
        clock: int,
        traced: str | None = None,
        inputs: int | None = None,
        sequences: PackedSequence | None = None,
        planned: Planned | None = None,
    ) -> None:
        """Pack and record the states of one batch, at the capture point of this call's site."""
        number = self._number_of_call(clock)
        if number > 1:
            clock, number = self._pass_of_later_call(tensor, clock, number)
        scope = self.intake.scope
        if scope.of_next_pass is not NO_NOTES or scope.of_tasks is not None:
            self._end_notes()
        counter = self.pass_log.counter
        if counter.notes and counter.here.owner is None and scope.of_next_pass is NO_NOTES:
            self._take_notes(clock)
        if not self._takes_pass_at(clock):
            if number == 1:  # later calls have capture points of their own
                self.pass_log.note_run(clock)
            return
        hook = self if number == 1 else self._of_call(number)
        try:
            own_plan = planned if hook is self else None
            is_kept = hook._capture(tensor, traced, inputs, sequences, own_plan)
        except NotDense as error:
            hook._refuse(error)
            return
        except (TypeError, ValueError) as error:
            error.add_note(f"while capturing {hook.name}")
            raise
        if is_kept and clock % 2:  # outside of passes, note_run() does nothing
            hook.pass_log.note_run(clock)

    def receive_nothing(self, *, nested: bool = False) -> None:
        """Note that the layer passed no tensor: it is skipped, and a warning says so.

        ``nested``: it passed a nested one, in a compiled graph. Raises TypeError, as outside of
        such.
        """
        if nested:
            self._refuse(nested_error(self.name))
        else:
            self._skip()

    def _skip(self, cause: str = "") -> None:
        self._skipped_as = cause or "no tensor"
        if self._passes is not None:
            self._passes.warn_of(warn_of_skipped, self.name, cause)

    def _refuse(self, error: NotDense) -> None:
        """Skip a layer that cannot be captured if only ``"*"`` stands for it; else raise."""
        if not self.is_optional:
            raise error
        self._skip(error.kind)

    def _new_of_call(self, name: str) -> Self:
        # Not of type(self): a subclass of the user's may take other arguments.
        plain = StateCaptureHook(name, options=self.options, call_of=self.name)
        return cast(Self, plain)

    def _no_states_error(self) -> NothingCaptured:
        if self._skipped_as:
            return NothingCaptured(
                f"{self.name}: nothing captured: what the layer passes has no neurons "
                f"({self._skipped_as}); exclude= it"
            )
        return super()._no_states_error()

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        return {name: value for name, value in state.items() if name not in _OF_THE_MODEL}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.intake.stop()  # a copy is at no module
        self.later_calls = []
        self._register(PassCounter())


# Methods that batches with a plan bypass: a subclass that overrides one of them makes no plans.
_UNCHANGED = {name: getattr(StateCaptureHook, name) for name in ("deliver", "record")}

# What ties a hook to its model: a copy, which is attached to none, does not have it.
_OF_THE_MODEL = {
    *("_handles", "_module", "_own_module", "_passes", "_filter", "_anchor", "_key_and_active"),
    *("pass_log", "_clock", "_plans"),
}
