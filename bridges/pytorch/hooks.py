"""PyTorch: StateCaptureHook, a capture point that is a forward hook of a module."""

from typing import Any, Unpack

try:
    import torch
except ImportError as error:
    raise ImportError("PyTorch hooks need torch: pip install 'tensorstate_gpu[torch]'") from error
from torch.fx import Proxy
from torch.nn.utils.rnn import PackedSequence

from tensorstate_gpu._arrays.array_types import NativeArray
from tensorstate_gpu._arrays.dlpack import borrow
from tensorstate_gpu._capturing.capture_point import CapturePoint, name_of_call
from tensorstate_gpu._capturing.options import CaptureKeywords, CaptureOptions, takes_options
from tensorstate_gpu._capturing.pass_notes import NO_NOTES, Mask, PassNotes
from tensorstate_gpu._process.num_threads import prefer_single_thread
from tensorstate_gpu._states.backends import backend_for, device_of
from tensorstate_gpu._states.packing import pack, working_on
from tensorstate_gpu.errors import NothingCaptured

from .forward_passes import ForwardPasses
from .found_axis import GUESS, FoundAxis, find_axis
from .neuron_axes import UNKNOWN, AxisRule, axis_rule_of
from .operator import Receiver
from .other_devices import check_devices, has_backend, pack_by_torch
from .pass_counter import PassCounter, PassLog
from .pass_filter import PassFilter
from .quantized import integers_of
from .rows_by_input import RowsByInput, rows_by_input
from .tensors import as_importable, check_dense, first_tensor, sequences_of


class StateCaptureHook(CapturePoint, Receiver):
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

    later_calls: "list[StateCaptureHook]"
    _rule: AxisRule | None = None
    _passes: ForwardPasses | None = None
    _filter: PassFilter | None = None
    _told_of_mask = False
    _was_skipped = False  # in a call without a tensor

    @takes_options
    def __init__(
        self,
        name: str,
        disk_path: Any = None,
        *,
        options: CaptureOptions | None = None,
        **keywords: Unpack[CaptureKeywords],
    ) -> None:
        super().__init__(name, disk_path, options=options, **keywords)
        self._begin(PassCounter())

    def _begin(self, counter: PassCounter) -> None:
        self.later_calls = []
        # By the kind of the model's inputs, and the number of axes.
        self._found: dict[tuple[Any, int], FoundAxis] = {}
        self.batch_axis = self.options.batch_axis
        self._register(counter)

    def count_passes(self, counter: PassCounter) -> None:
        """Note from now on in which passes of a model this layer ran."""
        self._use_log(PassLog(counter))

    def _use_log(self, log: PassLog) -> None:
        self.pass_log = self.intake.log.pass_source = log

    def follow(self, passes: ForwardPasses, filter: PassFilter | None = None) -> None:
        """Take the axes of tensors from the passes of a model, from now on.

        ``filter``: which passes are captured.
        """
        self._passes, self._filter = passes, filter
        passes.add_user(self)

    def notes_now(self) -> PassNotes:
        """Return what is said about the inputs of the pass that this thread makes."""
        past = self.pass_log.is_past(self.pass_log.counter.clock)
        return NO_NOTES if past else self.intake.notes_now()

    def takes_pass(self) -> bool:
        """Return whether the pass that begins is captured."""
        clock = self.pass_log.counter.clock
        return self.intake.is_open and (self._filter is None or self._filter.accepts(clock))

    def has_seen(self, kind: object) -> bool:
        """Return whether its axes in passes of a kind have been followed."""
        return any(of == kind and not found.missed for (of, _), found in self._found.items())

    def note_next_pass(self, notes: PassNotes) -> None:
        self.note(notes)
        self.pass_log.expect_pass()

    def reset_states(self, input_shape: Any = None) -> None:
        super().reset_states(input_shape)
        self.pass_log.restart()

    def attach(self, module: torch.nn.Module, *, before: bool = False) -> None:
        """Capture the outputs of a module from now on; ``before``: its inputs.

        It may be compiled already. Raises ValueError if the hook is attached to a module, and
        NotCapturable if the module is on a device where its states cannot be packed.
        """
        if self._handles:
            raise ValueError(f"{self.name} is attached to a module already; detach() it first")
        if self._passes is None and (self.options.when or self.options.mask):
            raise ValueError(
                f"{self.name}: when= and mask= are about the passes of a model: use capture() or "
                "build_efficiency_model()"
            )
        check_devices(module, self.firing)
        if before:
            function = self.before_with_kwargs
            handle = module.register_forward_pre_hook(function, with_kwargs=True)
        else:
            handle = module.register_forward_hook(self)
        self.active = True
        self.pass_log.watch(module)
        self.bind(module, handle)

    def detach(self) -> None:
        """Remove the hook from the module that it is attached to, if any."""
        if self._handles:
            for hook in (self, *self.later_calls):
                hook.pass_log.end()
            self.remove()
            self.active = False  # for compiled graphs that do not check whether they still fit
            if self._passes is not None:
                self._passes.remove_user(self)
                self._passes = None

    def __call__(self, module: Any, args: Any, *output: Any) -> None:
        """Called as forward hook (module, args[, kwargs], output) or pre-hook (module, args)."""
        # A pre-hook with_kwargs=True gets (module, args, kwargs), which looks like an output.
        if len(output) == 1 and type(output[0]) is dict and self._is_pre_hook_of(module):
            self.before_with_kwargs(module, args, output[0])
        else:
            self._capture_value(module, output[-1] if output else args)

    def before_with_kwargs(self, module: Any, args: Any, kwargs: Any) -> None:
        """Called as a pre-hook that is registered with ``with_kwargs=True``."""
        self._capture_value(module, (*args, *kwargs.values()))

    def _is_pre_hook_of(self, module: Any) -> bool:
        hooks = module._forward_pre_hooks
        return any(hooks[key] is self for key in module._forward_pre_hooks_with_kwargs)

    def _capture_value(self, module: Any, value: Any) -> None:
        tensor = first_tensor(value)
        if tensor is None:
            if self._passes is None:
                raise TypeError(
                    f"{self.name}: no tensor in what {type(module).__name__} passes: "
                    f"{type(value).__name__}"
                )
            self.deliver_nothing()
            return
        if isinstance(tensor, Proxy):  # torch.fx traces
            return
        if self._rule is None:
            self._rule = axis_rule_of(module) or UNKNOWN
        self.deliver(tensor, sequences_of(value, tensor))

    def receive(
        self,
        tensor: torch.Tensor,
        clock: int,
        traced: str | None,
        sequences: PackedSequence | None = None,
    ) -> None:
        """Pack and record the states of one batch, at the capture point of this call's site."""
        if self._filter is not None and not self._filter.accepts(clock):
            self._note_pass(clock)
            return
        hook = self._of_this_call(clock)
        hook._note_pass(clock)
        try:
            hook._capture(tensor, traced, sequences)
        except (TypeError, ValueError) as error:
            error.add_note(f"while capturing {hook.name}")
            raise

    def _note_pass(self, clock: int) -> None:
        if self.pass_log.note(clock):
            self.note(NO_NOTES)

    def receive_nothing(self) -> None:
        """Note that the layer passed no tensor: it is skipped, and a warning says so."""
        self._was_skipped = True
        if self._passes is not None:
            self._passes.note_skipped(self.name)

    def _no_states_error(self) -> NothingCaptured:
        if self._was_skipped:
            return NothingCaptured(
                f"{self.name}: nothing captured: what the layer passes has no tensor; exclude= it"
            )
        return super()._no_states_error()

    def _of_this_call(self, clock: int) -> "StateCaptureHook":
        """Return the capture point of this call: the first in a pass has this one.

        Calls count from one call of the model to the next: the steps of a generating loop have the
        same capture points.
        """
        if self._passes is None or self.options.merge_calls:
            return self
        calls = self._passes.current.calls
        if calls is None:  # no pass of the model, or one that runs in a compiled graph
            number = self.pass_log.call_number(clock)
        else:
            number = calls[self] = calls.get(self, 0) + 1
        if number == 1:
            return self
        with self.intake.lock:
            while len(self.later_calls) < number - 1:
                self.add_later_call()
        return self.later_calls[number - 2]

    def add_later_call(self) -> "StateCaptureHook":
        """Create the capture point of the next call of the module within a pass."""
        number = len(self.later_calls) + 2
        hook = StateCaptureHook(name_of_call(self.name, number), options=self.options)
        hook.answer_to([name_of_call(name, number) for name in self.other_names])
        hook.intake.log.call_of = self.name
        hook._rule, hook._passes, hook._filter = self._rule, self._passes, self._filter
        hook._use_log(self.pass_log.of_later_call())
        hook.note(self.intake.pending_notes)
        hook.intake.scope = self.intake.scope
        before = self.later_calls[-1] if self.later_calls else self
        self.later_calls.append(hook)
        for tell in self.new_point_listeners:
            tell(hook, before)
        hook.new_point_listeners = self.new_point_listeners
        return hook

    def later_calls_of_store(self) -> "list[StateCaptureHook]":
        """Create the capture points of later calls that the store already has rows of."""
        while self.intake.sink.holds(name_of_call(self.name, len(self.later_calls) + 2)):
            self.add_later_call()
        return list(self.later_calls)

    def _capture(
        self, tensor: torch.Tensor, traced: str | None, sequences: PackedSequence | None
    ) -> None:
        check_dense(tensor, self.name)
        if tensor.is_neg():
            tensor = tensor.resolve_neg()
        found = self._axis_of(tensor, traced)
        threshold = self.threshold
        if tensor.is_quantized:
            tensor, threshold = self._of_quantized(tensor, found.axis)
        inputs = None
        if self._passes is not None:
            inputs = self._passes.inputs or self.intake.notes_now().inputs
        by_input = rows_by_input(tensor, found.axis, found, inputs, sequences)
        packed: NativeArray
        if not has_backend(by_input.view):
            packed, neurons = pack_by_torch(by_input.view, by_input.axis, threshold, self.firing)
            self._record(packed, neurons, found, by_input, inputs)
            return
        with prefer_single_thread():
            states = borrow(as_importable(by_input.view), "states")
            with working_on(states):
                packed, neurons = pack(states, by_input.axis, threshold, self.firing)
                self.intake.note_nan(states, packed)
                self._record(packed, neurons, found, by_input, inputs)

    def _record(
        self,
        packed: NativeArray,
        neurons: int,
        found: FoundAxis,
        by_input: RowsByInput,
        inputs: int | None,
    ) -> None:
        """Record packed rows, but for those that a mask leaves out."""
        mask = self._applicable(by_input)
        if mask is None:
            batches = by_input.batches(inputs)
        else:
            kept, batches = by_input.kept(mask)
            packed = backend_for(device_of(packed), "").rows_where(packed, kept)
        self.intake.record(
            packed,
            neurons,
            found.axis,
            batches,
            found.origin,
            by_input.cause or None,
            _spatial(by_input.view, by_input.axis),
        )

    def _applicable(self, by_input: RowsByInput) -> Mask | None:
        """Return the mask of the pass, if it applies to the rows of a tensor; else say so once."""
        mask = None if self._passes is None else self._passes.current.mask
        if self._passes is None or mask is None or not (cause := by_input.why_not_masked(mask)):
            return mask
        if not self._told_of_mask:
            self._told_of_mask = True
            self._passes.note_unmasked(self.name, cause)
        return None

    def _of_quantized(self, tensor: torch.Tensor, axis: int) -> tuple[torch.Tensor, Any]:
        if self.firing is not None:
            return tensor.dequantize(), self.threshold
        return integers_of(tensor, axis, self.threshold)

    def _axis_of(self, tensor: torch.Tensor, traced: str | None) -> FoundAxis:
        """Return the axis of a tensor's neurons; found once for each kind of the model's inputs."""
        passes = self._passes
        kind = None if passes is None else passes.current.signature
        if kind is None:
            kind = traced
        found = self._found.get((kind, tensor.ndim))
        if found is None or (found.missed and passes is not None and passes.current.flow):
            found = self._found[kind, tensor.ndim] = find_axis(
                tensor, self._rule or UNKNOWN, self.neuron_axis, passes, traced, found
            )
            if found.origin == GUESS and passes is not None:
                passes.note_guess(self.name, found.cause)
        return found

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        return {name: value for name, value in state.items() if name not in _OF_THE_MODEL}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.intake.stop()  # a copy is at no module
        self.later_calls = []
        self._register(PassCounter())


def _spatial(view: torch.Tensor, axis: int) -> tuple[int, ...] | None:
    """Return the sizes without instances, which come first, and neurons."""
    axis %= view.ndim
    return None if axis == 0 else (*view.shape[1:axis], *view.shape[axis + 1 :])


# What a hook has for the model that it is attached to, and a copy has not.
_OF_THE_MODEL = {
    *("_handles", "_module", "_passes", "_filter", "_anchor", "_key_and_active", "pass_log"),
}
