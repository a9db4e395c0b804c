"""Iterators over a store that are given up halfway: closing them must not wait for their threads.

The garbage collector closes such an iterator at any point of its thread. Where that thread held a
lock that the read needed to end, both waited for ever.
"""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import tensorstate_gpu as ts
from tensorstate_gpu.store import columns, verification
from tests.support.closed_store import write_closed

SECONDS = 600  # guards against hanging


@pytest.fixture
def chunked(small_chunks, tmp_path):
    """The path of a store with four chunks of ten rows."""
    return write_closed(tmp_path / "run")


@pytest.fixture
def blocked(monkeypatch):
    """Reads of all chunks but the first wait for this event."""
    event = threading.Event()
    whole = columns.ArrayReader.chunk

    def chunk(self, index):
        if index:
            assert event.wait(SECONDS)
        return whole(self, index)

    monkeypatch.setattr(columns.ArrayReader, "chunk", chunk)
    yield event
    event.set()


def closes_at_once(iterator, event):
    """Whether the iterator can be closed while its reads are blocked."""
    threading.Timer(5, event.set).start()  # else a failing test would hang
    iterator.close()
    return not event.is_set()


def test_chunks_of_a_stored_layer(chunked, blocked):
    with ts.Store(chunked) as store:
        iterator = store["layer"].chunks()
        next(iterator)
        assert closes_at_once(iterator, blocked)


def test_checks_of_verify():
    event = threading.Event()

    def check(index):
        if index:
            assert event.wait(SECONDS)
        return verification.ChunkResult(0, None)

    iterator = verification._check_in_parallel(check, 3)
    next(iterator)
    assert closes_at_once(iterator, event)


def test_the_reads_that_had_begun_end_in_peace(chunked, blocked):
    with ts.Store(chunked) as store:
        iterator = store["layer"].chunks()
        first = next(iterator)
        assert closes_at_once(iterator, blocked)
        blocked.set()
        with ThreadPoolExecutor(1) as pool:  # another reader works as ever
            whole = pool.submit(lambda: list(store["layer"].chunks())).result(SECONDS)
    assert (whole[0] == first).all()
