"""``tensorstate``: runs the command that its arguments name; reports errors in one line."""

import contextlib
import io
import os
import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from importlib import import_module

from tensorstate_gpu._cli.parser import new_parser

_PLAIN_ERRORS = (ValueError, TypeError, OSError, ImportError)  # printed without the type's name


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status.

    0 is success, 2 an error (with one line on stderr), 130 Ctrl-C. ``verify`` returns 1 when it has
    found problems.
    """
    with _usable_streams():
        options = new_parser().parse_args(arguments)
        try:
            status = _run(options)
            sys.stdout.flush()
            return status
        except KeyboardInterrupt:
            print("tensorstate: stopped", file=sys.stderr)
            return 130
        except Exception as error:  # users get one line instead of a traceback
            return _print_error(error)


@contextlib.contextmanager
def _usable_streams() -> Iterator[None]:
    """Let everything be printed: to closed streams, and names that an encoding cannot express."""
    with contextlib.ExitStack() as stack, open(os.devnull, "w") as nowhere:
        # Of a stream that was closed, as by ``2>&-``, Python has None, which print() takes for
        # stdout.
        if sys.stdout is None:
            stack.enter_context(contextlib.redirect_stdout(nowhere))
        if sys.stderr is None:
            stack.enter_context(contextlib.redirect_stderr(nowhere))
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stack.callback(_reconfigure, stream, stream.errors)
                stream.reconfigure(errors="backslashreplace")
        yield


def _reconfigure(stream: io.TextIOWrapper, errors: str | None) -> None:
    with contextlib.suppress(OSError, ValueError):  # of one that nothing can be written to
        stream.reconfigure(errors=errors)


def _run(options: Namespace) -> int:
    """Call the function of a command: that of ``report`` is report() in report_command.py."""
    name = options.command
    module = import_module(f"tensorstate_gpu._cli.{name}_command")  # slow: zarr, or torch
    status: int = getattr(module, name)(options)
    return status


def _print_error(error: Exception) -> int:
    if isinstance(error, BrokenPipeError):  # flushing the rest of the output would raise it again
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 2
    kind = "" if isinstance(error, _PLAIN_ERRORS) else f"{type(error).__name__}: "
    advice = "".join(f" ({note})" for note in getattr(error, "__notes__", ()))
    from tensorstate_gpu.reporting.text import one_line

    print(f"tensorstate: {one_line(f'{kind}{error}{advice}')}", file=sys.stderr)
    return 2
