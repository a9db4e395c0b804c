"""Counts calls of Python functions: a measure of work that is the same on every run."""

import gc
import sys


def calls_of(run):
    """Return which functions of Python ``run`` calls, in order: pairs (file, name)."""
    calls = []

    def note(frame, event, argument):
        if event == "call":
            calls.append((frame.f_code.co_filename, frame.f_code.co_qualname))

    before = sys.getprofile()
    gc.collect()
    gc.disable()  # else what earlier tests have left may be finalised in between
    sys.setprofile(note)
    try:
        run()
    finally:
        sys.setprofile(before)
        gc.enable()
    return calls[1:]  # without ``run`` itself
