"""``tensorstate capture``: runs a model of the user's on their inputs, and measures its layers."""

import argparse
import contextlib
import functools
import itertools
import os
import sys
from collections.abc import Iterator
from typing import Any

from tensorstate_gpu._capturing import capture_block
from tensorstate_gpu._capturing.run import Run
from tensorstate_gpu._cli.input_batches import FROM_BATCHES, Batch, Batches
from tensorstate_gpu._cli.model_calls import Call, call_of, check_device
from tensorstate_gpu._cli.terminal import terminal_width
from tensorstate_gpu._cli.users_objects import load_data, load_model, users_code, without_arguments
from tensorstate_gpu._process.progress import Progress
from tensorstate_gpu.errors import NoStore, TensorStateError
from tensorstate_gpu.reporting import Report
from tensorstate_gpu.reporting.page.write import check_page
from tensorstate_gpu.reporting.text import with_noun
from tensorstate_gpu.store import Store
from tensorstate_gpu.store.closing_at_exit import forget_writers
from tensorstate_gpu.store.files import files_at
from tensorstate_gpu.store.folder import Folder

_GROUPS = 32  # of inputs: from what differs between them, counts know the ranges of measures


def capture(options: argparse.Namespace) -> int:
    """Capture what the model does with the inputs, print the table, and write a page."""
    with without_arguments():
        return _capture(options)


def _capture(options: argparse.Namespace) -> int:
    here = os.getcwd()
    page, why_no_page = _page(options)
    if options.limit is not None and options.limit < 1:
        raise ValueError(f"--limit must be at least 1, got {options.limit}")
    _check_place(options.store)
    check_device(options.device)
    model = load_model(options.model)
    call = call_of(model, options.device)
    batches = Batches(load_data(options.inputs), _labels(options.labels), options.batch_size)
    options.store = _as_given(options.store, here)
    try:
        run = _captured(model, call, batches, options)
    except KeyboardInterrupt:
        print(
            f"tensorstate: stopped; {_what_is_kept(_as_given(options.store, here))}",
            file=sys.stderr,
        )
        return 130
    except OSError:
        forget_writers()
        raise
    with Progress.in_percent("measuring") as progress:
        report = run.report(by_label=options.labels is not None, progress=progress.to_share)
    page, options.store = (_as_given(path, here) for path in (page, options.store))
    _show(report, page, options)
    if page is None and why_no_page is not None:
        print(f"\nNo page with charts: {why_no_page}")
    return 0


def _show(report: Report, page: str | None, options: argparse.Namespace) -> None:
    """Write a page, if it is to be, and print the table, also if the page cannot be written."""
    try:
        if page is not None:  # first: who reads the table, such as head, may not read to its end
            report.to_html(page, origin=_origin(options))
    finally:
        print(f"\n{report.to_text(terminal_width())}")
    if page is not None:
        print(f"\nThe page with charts: {page}")


def _page(options: argparse.Namespace) -> tuple[str | None, str | None]:
    """Return where to write the page: by default beside a local store, if that name is free.

    Else why there is none. Raises what write_page() would raise for a page that was asked for.
    """
    if options.html is not None:
        check_page(options.html)
        return options.html, None
    files = None if options.store is None else files_at(options.store)
    if not isinstance(files, Folder):
        return None, None
    page = f"{options.store.rstrip('/').removesuffix('.zarr')}.html"
    try:
        check_page(page)
    except FileNotFoundError:  # the folder is made with the store
        pass
    except (ImportError, OSError) as error:
        return None, str(error)
    except ValueError as error:
        return None, f"{error}; --html FILE gives it another name"
    return page, None


def _as_given(path: str | None, here: str) -> str | None:
    """Return a path for a folder that the user's code may have changed since it was given."""
    if path is None or "://" in path or path.startswith("~") or os.getcwd() == here:
        return path
    return os.path.join(here, path)


def _labels(name: str | None) -> object:
    return name if name is None or name == FROM_BATCHES else load_data(name)


def _captured(model: object, call: Call, batches: Batches, options: argparse.Namespace) -> Run:
    """Run the model on all inputs that the store does not have yet."""
    with contextlib.ExitStack() as bars, _attached(model, options) as run:
        done = run.instance_count
        wanted = _some(batches.between(done, options.limit), options.store)
        layers = with_noun(len(run), "layer")
        after = f", after the {done:,} inputs in {options.store}" if done else ""
        print(f"capturing {layers} of {type(model).__name__}{after}; its weights stay as they are")
        try:
            with Progress("capturing", batches.count(options.limit), "batches") as progress:
                _run_batches(run, call, wanted, done, progress)
        finally:
            _show_commit(run, bars)
    return run


def _run_batches(
    run: Run, call: Call, batches: Iterator[Batch], done: int, progress: Progress
) -> None:
    """Run the model on each batch. ``done``: how many inputs there were before."""
    is_ours = functools.partial(_is_ours, run)
    for batch in batches:
        with users_code("capturing failed", is_ours), _labelled(run, batch):
            call(batch.inputs)
        done += len(batch)
        progress.add(1, note=with_noun(done, "input"))


def _is_ours(run: Run, error: Exception) -> bool:
    """Return whether what was raised while the model ran is no error of the user's code."""
    store = run[0].intake.sink.store
    of_store = store is not None and store.session.writer.has_failed_with(error)
    return of_store or isinstance(error, TensorStateError)


def _show_commit(run: Run, bars: contextlib.ExitStack) -> None:
    """Show how far commits are that write counts: until now, the batches were shown."""
    store = run[0].intake.sink.store
    if store is not None and run[0].keep == "counts":
        bar = bars.enter_context(Progress("writing", None, "states"))
        store.session.writer.progress.tell(bar.to)


@contextlib.contextmanager
def _attached(model: object, options: argparse.Namespace) -> Iterator[Run]:
    """Attach capture points. A store that is there goes on; a new one stays only if it has rows."""
    how: dict[str, Any] = {"storage_path": options.store}
    if options.counts or options.store is None:
        how |= {"keep": "counts", "groups": _GROUPS}
    with contextlib.ExitStack() as opened:
        if _is_store(options.store):
            how["storage_path"] = store = opened.enter_context(Store(options.store, mode="a"))
            _check_labels(store, given=options.labels is not None)
        block = capture_block.capture(model, options.attach, options.exclude, **how)
        yield opened.enter_context(block)


def _check_labels(store: Store, *, given: bool) -> None:
    """Raise ValueError if some inputs would have labels and others none: no table by label then."""
    # Of layers whose rows belong to no known input, such as experts, labels are never kept.
    layers = [
        layer
        for layer in store.record.layers.values()
        if layer is not None and layer.instances and not layer.unassigned
    ]
    has_labels = any(layer.noted["labels"] for layer in layers)
    if layers and given and not has_labels:
        raise ValueError(f"{store} has inputs without labels: leave --labels out to go on")
    if has_labels and not given:
        raise ValueError(f"{store} has labels of its inputs: --labels is needed to go on")


def _check_place(store: str | None) -> None:
    """Raise ValueError, before the user's code runs, for a folder that has something else in it."""
    files = None if store is None or _is_store(store) else files_at(store)
    if isinstance(files, Folder) and files.path.is_dir() and any(files.path.iterdir()):
        raise ValueError(
            f"{store} is a folder with other content; it is not overwritten: choose another --store"
        )


def _is_store(path: str | None) -> bool:
    try:
        return path is not None and Store(path) is not None
    except NoStore:
        return False


def _some(batches: Iterator[Batch], store: str | None) -> Iterator[Batch]:
    """Return the batches. Raises ValueError if there are none, because the store has all."""
    for first in batches:
        return itertools.chain([first], batches)
    raise ValueError(
        f"{store} has all of these inputs; it is not overwritten. `tensorstate report` shows it, "
        "another --store begins anew"
    )


def _labelled(run: Run, batch: Batch) -> contextlib.AbstractContextManager[object]:
    return contextlib.nullcontext() if batch.labels is None else run.labels(batch.labels)


def _what_is_kept(store: str | None) -> str:
    if _is_store(store):
        return f"{store} has what was captured, and the same command goes on from there"
    return "nothing was captured" if store is not None else "without --store, nothing is kept"


def _origin(options: argparse.Namespace) -> dict[str, str]:
    told = {name: getattr(options, name) for name in ("model", "inputs", "labels", "limit")}
    given = {name: str(value) for name, value in told.items() if value is not None}
    return given | ({} if options.store is None else Store(options.store).report_origin)
