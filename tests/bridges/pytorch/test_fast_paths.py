"""Attention modules call the same fused functions in a pass that is followed as in all others."""

import os
import signal
import sys
import threading
import time
from contextlib import contextmanager, suppress

import numpy as np
import pytest
import torch
from torch import nn
from torch._dynamo import eval_frame
from torch._dynamo.variables.torch import TorchInGraphFunctionVariable
from torch.overrides import TorchFunctionMode

import tensorstate_gpu as ts
from tensorstate_gpu.bridges.pytorch.axis_flow import AxisFlow, fast_paths
from tests.support.torch_models import expected_rows, images

pytestmark = pytest.mark.filterwarnings(
    "ignore:The PyTorch API of nested tensors is in prototype stage"
)
ORIGINAL, STANCE = torch.overrides.has_torch_function, eval_frame._stance
KEEP = torch.arange(5) < torch.tensor([[5], [2], [3]])


class Encoder(nn.Module):
    """Of padded inputs; its hidden layers are nested tensors in eval mode."""

    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        self.attention, self.head = attention, nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if isinstance(self.attention, nn.MultiheadAttention):
            found, _ = self.attention(x, x, x, key_padding_mask=~KEEP, need_weights=False)
        else:
            found = self.attention(x, src_key_padding_mask=~KEEP)
        return self.head(found)


def encoder(kind: str) -> Encoder:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    attention = nn.MultiheadAttention(8, 2, batch_first=True)
    return Encoder(attention if kind == "attention" else nn.TransformerEncoder(layer, 2)).eval()


@pytest.mark.parametrize("kind", ["encoder", "attention"])
@torch.no_grad()
def test_the_pass_that_is_followed_computes_what_all_others_do(kind):
    model, x = encoder(kind), images(3, 5, 8)
    bare = model(x)
    with ts.capture(model, "head") as run:
        passes = [model(x) for _ in range(3)]
    for output in passes:
        assert output.numpy().tobytes() == bare.numpy().tobytes()
    np.testing.assert_array_equal(run["head"].raw_states, expected_rows(torch.cat([bare] * 3)))


@torch.no_grad()
def test_inputs_and_positions_are_followed_through_nested_tensors():
    model, x = encoder("encoder"), images(3, 5, 8)
    with ts.capture(model, ["head", "TransformerEncoder"]) as run:
        with run.labels([0, 1, 1]):
            model(x)
        assert {k: c.total for k, c in run["head"].counts_by().items()} == {0: 5, 1: 10}
        run.reset()
        with run.labels([0, 1, 1], mask=KEEP):
            model(x)
    for name in ("head", "attention"):
        assert {k: c.total for k, c in run[name].counts_by().items()} == {0: 5, 1: 5}
    np.testing.assert_array_equal(run["head"].raw_states, expected_rows(model(x)[KEEP]))


class Seen(TorchFunctionMode):
    """A mode of the user, which torch.nn sees as without a capture."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


@torch.no_grad()
def test_modes_of_the_user_are_seen_and_stay():
    model, x = encoder("encoder"), images(3, 5, 8)
    with Seen() as mode:
        bare = model(x)
        with ts.capture(model, "head") as run, Seen():
            assert model(x).numpy().tobytes() == bare.numpy().tobytes()
        assert run["head"].axis_origin == "layer"
        assert torch._C._get_function_stack_at(0) is mode
        assert torch._C._len_torch_function_stack() == 1
    assert not torch.equal(bare, model(x))  # the fast path gives other numbers where padding is
    assert torch.overrides.has_torch_function is ORIGINAL


class Asking(nn.Linear):
    """Calls a function in its forward pass."""

    def __init__(self, ask) -> None:
        super().__init__(8, 4)
        self.ask = ask

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.ask(x)
        return super().forward(x)


def follow(ask):
    """Call a function in a pass that is followed."""
    model = nn.Sequential(Asking(ask))
    with ts.capture(model, "*"):
        model(images(3, 8))


def modes_now():
    return [torch._C._get_function_stack_at(i) for i in range(torch._C._len_torch_function_stack())]


class InterruptAt:
    """Ctrl-C at one of the lines that run inside the block; ``line`` counts those of some code."""

    def __init__(self, is_counted, line: int) -> None:
        self.is_counted, self.left = is_counted, line

    def __enter__(self):
        self._before = sys.gettrace()
        sys.settrace(self._trace)

    def __exit__(self, *_):
        sys.settrace(self._before)

    def _trace(self, frame, event, argument):
        if not self.is_counted(frame.f_code):
            return None
        if event == "line":
            self.left -= 1
            if self.left == 0:
                signal.raise_signal(signal.SIGINT)
        return self._trace


def test_an_interrupt_while_torch_asks_loses_no_mode():
    def ask(x: torch.Tensor) -> None:
        with Seen():
            before = modes_now()
            for line in range(1, 100):
                interrupt = InterruptAt(lambda code: code.co_filename == fast_paths.__file__, line)
                try:
                    with interrupt:
                        torch.overrides.has_torch_function((x,))
                except KeyboardInterrupt:
                    lines.append(line)
                assert modes_now() == before
                if interrupt.left > 0:
                    break

    lines = []
    follow(ask)
    assert lines


def test_an_interrupt_at_the_end_of_a_pass_loses_no_mode():
    for line in range(1, 100):
        entered = []
        model = nn.Sequential(Asking(lambda x, entered=entered: entered.append(Seen().__enter__())))
        interrupt = InterruptAt(lambda code: code is AxisFlow.leave.__code__, line)
        with ts.capture(model, "*"), suppress(KeyboardInterrupt), interrupt:
            model(images(3, 8))
        assert modes_now() == entered, line
        for seen in entered:
            seen.__exit__(None, None, None)
        if interrupt.left > 0:
            break
    assert line > 5


class Overriding:
    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        raise NotImplementedError


def test_what_has_functions_of_its_own_is_told_apart():
    def ask(x: torch.Tensor) -> None:
        assert torch.overrides.has_torch_function is not ORIGINAL
        for values in [(x,), (nn.Parameter(x), None, 1.5), (x, Overriding()), (Overriding,)]:
            with torch._C.DisableTorchFunction():
                assert not torch.overrides.has_torch_function(values)
            answers.append(torch.overrides.has_torch_function(values))

    answers = []
    follow(ask)
    assert answers == [
        ORIGINAL(values) for values in [(1,), (1,), (1, Overriding()), (Overriding,)]
    ]


def until(condition):
    """Wait for what another thread does last; for two seconds at most."""
    end = time.monotonic() + 2
    while not condition() and time.monotonic() < end:
        time.sleep(0.001)
    return condition()


def test_a_thread_that_ends_in_a_pass_puts_the_function_back():
    model = nn.Sequential(Asking(lambda x: sys.exit()))

    def end() -> None:
        with suppress(SystemExit):  # of which pytest would tell
            model(images(3, 8))

    with ts.capture(model, "*"):
        thread = threading.Thread(target=end)
        thread.start()
        thread.join()
        assert until(lambda: torch.overrides.has_torch_function is ORIGINAL)
        assert until(lambda: eval_frame._stance is STANCE)


@contextmanager
def followed_in_another_thread():
    """A pass that lasts as long as the block."""
    follows, may_end = threading.Event(), threading.Event()

    def wait(x: torch.Tensor) -> None:
        follows.set()
        may_end.wait(600)

    other = threading.Thread(target=follow, args=[wait])
    other.start()
    assert follows.wait(600)
    try:
        yield
    finally:
        may_end.set()
        other.join()


def test_graphs_that_other_threads_make_meanwhile_contain_the_answer():
    def ask(x: torch.Tensor) -> torch.Tensor:
        return x + torch.overrides.has_torch_function((x,))

    def compiled() -> torch.Tensor:
        torch.compiler.reset()
        return torch.compile(ask, backend="eager", fullgraph=True)(torch.ones(1))

    # Its table of functions, which is made anew, as in a process that compiles for the first time.
    TorchInGraphFunctionVariable._get_handlers.cache_clear()
    with followed_in_another_thread():
        assert torch.overrides.has_torch_function is not ORIGINAL
        assert compiled() == 1
    assert torch.overrides.has_torch_function is ORIGINAL
    assert compiled() == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork is POSIX")
@pytest.mark.filterwarnings("ignore:os.fork")
@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_a_forked_process_keeps_the_passes_of_the_thread_that_has_forked():
    def child_has_original() -> bool:
        child = os.fork()
        if not child:
            os._exit(torch.overrides.has_torch_function is ORIGINAL)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1

    found = []
    with followed_in_another_thread():
        found.append(child_has_original())
        follow(lambda x: found.append(child_has_original()))
    assert found == [True, False]


def test_a_function_that_somebody_else_has_put_there_stays():
    def theirs(values):
        return before(values)

    def replace(x: torch.Tensor) -> None:
        nonlocal before
        before = torch.overrides.has_torch_function
        torch.overrides.has_torch_function = theirs

    before = ORIGINAL
    try:
        follow(replace)
        assert torch.overrides.has_torch_function is theirs
        for _ in range(2):
            follow(lambda x: torch.overrides.has_torch_function((x,)))
            assert torch.overrides.has_torch_function is theirs
        assert not theirs((torch.ones(1),))
        assert theirs((Overriding(),))
    finally:
        torch.overrides.has_torch_function = ORIGINAL


@torch.no_grad()
def test_other_threads_and_failed_passes_put_the_function_back():
    x = images(3, 5, 8)

    def fail() -> None:
        model = encoder("encoder")
        with ts.capture(model, "head"), pytest.raises(AssertionError, match="embedding dimension"):
            model(x[..., :7])  # fails while it is followed

    threads = [threading.Thread(target=fail) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert torch.overrides.has_torch_function is ORIGINAL
