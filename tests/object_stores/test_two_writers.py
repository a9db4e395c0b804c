"""Two writers of one store in an object store: the one that came last owns it; nothing is lost."""

import numpy as np
import obstore
import pytest
from obstore.exceptions import GenericError
from obstore.store import LocalStore, MemoryStore

import tensorstate_gpu as ts
from tensorstate_gpu.errors import StoreInUse
from tensorstate_gpu.store.bucket import Bucket
from tests.support.object_server import ROWS
from tests.support.points import new_point


@pytest.fixture(params=["s3", "memory", "without conditional writes"])
def objects(request, tmp_path):
    if request.param == "s3":
        return request.getfixturevalue("s3")
    return MemoryStore() if request.param == "memory" else LocalStore(tmp_path)


def opened(objects, mode):
    return ts.Store(objects, mode, commit_seconds=None)


def check(objects, rows):
    found = ts.Store(objects)
    np.testing.assert_array_equal(found["layer"][:], rows)
    checked = found.verify()
    assert (checked.problems, checked.orphans) == ([], [])


@pytest.mark.usefixtures("forty_rows")
def test_the_first_one_is_told_that_a_second_has_come(objects):
    first = opened(objects, "x")
    point = new_point(first)
    point.append(ROWS[:30], 30)
    first.commit()
    second = opened(objects, "a")
    other = new_point(second)
    assert other.state_count == 30
    point.append(ROWS[30:60], 30)  # fills a chunk
    with pytest.raises(StoreInUse, match=r"another writer has opened .*one writer at a time"):
        first.commit()
    other.append(ROWS[60:95], 35)
    second.commit()
    with pytest.raises(StoreInUse):
        first.close()
    second.close()
    first.session.writer.life.stop()
    check(objects, np.concatenate([ROWS[:30], ROWS[60:95]]))
    assert ts.Store(objects).closed


@pytest.mark.usefixtures("forty_rows")
def test_chunks_of_the_second_one_are_not_replaced(objects):
    first = opened(objects, "x")
    point = new_point(first)
    second = opened(objects, "a")
    new_point(second).append(ROWS[:50], 50)
    second.commit()
    point.append(ROWS[40:95], 55)
    with pytest.raises(StoreInUse):
        first.commit()
    check(objects, ROWS[:50])
    with pytest.raises(StoreInUse):
        first.session.delete_new_store()
    second.close()
    check(objects, ROWS[:50])


def test_of_two_that_create_a_store_one_is_refused(objects, monkeypatch):
    monkeypatch.setattr(Bucket, "has_content", lambda self: False)  # as of both at the same time
    claim = Bucket.claim
    stores = []

    def claim_late(self):
        claim(self)
        if not stores:
            stores.append(None)
            stores.append(opened(objects, "x"))

    monkeypatch.setattr(Bucket, "claim", claim_late)
    with pytest.raises(StoreInUse):
        opened(objects, "x")
    new_point(stores[1]).append(ROWS, 95)
    stores[1].close()
    check(objects, ROWS)


@pytest.mark.parametrize("more", [0, 5], ids="{} rows more".format)
def test_a_commit_whose_answer_was_lost_is_its_own(more, objects, monkeypatch):
    store = opened(objects, "x")
    point = new_point(store)
    point.append(ROWS[:10], 10)
    put = obstore.put

    def put_and_lose_the_answer(objects, key, data, **options):
        answer = put(objects, key, data, **options)
        if key == "zarr.json":
            raise GenericError("the connection was lost")
        return answer

    with monkeypatch.context() as patch:
        patch.setattr(obstore, "put", put_and_lose_the_answer)
        with pytest.raises(OSError, match="the connection was lost"):
            store.commit()
    point.append(ROWS[10 : 10 + more], more)
    store.close()
    check(objects, ROWS[: 10 + more])


def test_a_server_that_does_not_know_the_headers(monkeypatch):
    """Answered as by services that copy S3 without conditional writes."""
    objects = MemoryStore()
    put = obstore.put

    def put_anyhow(objects, key, data, mode="overwrite"):
        if mode != "overwrite":
            raise GenericError("<Code>NotImplemented</Code> A header is not implemented")
        return put(objects, key, data)

    monkeypatch.setattr(obstore, "put", put_anyhow)
    first = opened(objects, "x")
    new_point(first).append(ROWS[:10], 10)
    first.commit()
    with opened(objects, "a") as second:
        new_point(second).append(ROWS[10:], 85)
    with pytest.raises(StoreInUse):
        first.rewind(0)
    first.session.writer.life.stop()
    check(objects, ROWS)


def test_what_a_killed_writer_has_left_is_replaced(objects):
    killed = opened(objects, "x")
    new_point(killed).append(ROWS[:20], 20)
    obstore.put(objects, "layer/zarr.json", b"left")
    obstore.put(objects, "layer/c/0/0", b"left")
    with opened(objects, "a") as store:
        new_point(store).append(ROWS, 95)
    killed.session.writer.life.stop()
    check(objects, ROWS)
