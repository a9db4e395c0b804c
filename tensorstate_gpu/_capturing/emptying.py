"""Empties all intakes of a run at once."""

from collections.abc import Sequence
from contextlib import ExitStack

from tensorstate_gpu._capturing.intake import Intake
from tensorstate_gpu._capturing.sinks import remove_together
from tensorstate_gpu._process.interrupts import deferred_interrupts


def empty_together(intakes: Sequence[Intake]) -> None:
    """Delete everything captured by the intakes of a run, in a store by a single commit.

    A store that cannot commit that raises its error, and tries again before its next commit.
    """
    by_store: dict[int, list[Intake]] = {}
    for intake in intakes:
        by_store.setdefault(id(intake.sink.store), []).append(intake)
    with ExitStack() as waits, ExitStack() as locks:
        for intake in sorted(intakes, key=id):  # another run of the same points may be emptied, too
            locks.enter_context(intake.lock)
        locks.enter_context(deferred_interrupts())  # else points might stay that take no more rows
        for together in by_store.values():
            for wait in remove_together(intake.sink for intake in together):
                waits.callback(wait)
            for intake in together:
                intake.begin_anew()
