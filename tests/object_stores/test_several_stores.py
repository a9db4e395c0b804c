"""Several stores in an object store, read as one."""

import numpy as np
import pytest
from obstore.store import S3Store

import tensorstate_gpu as ts
from tensorstate_gpu.errors import NoStore, StoresDisagree, UnfinishedStore
from tests.support.object_server import ROWS, options
from tests.support.points import new_point


@pytest.fixture
def folder(by_url):
    return by_url.removesuffix("run.zarr") + "größer 1"


@pytest.fixture
def ranks(folder):
    """The URLs of three stores with all rows."""
    urls = [f"{folder}/run-{rank:05}.zarr" for rank in range(3)]
    for rank, url in enumerate(urls):
        with ts.Store(url, "x") as store:
            mine = ROWS[32 * rank : 32 * rank + 32]
            new_point(store).append(mine, len(mine), np.arange(len(mine)))
    return urls


def test_by_pattern_and_by_url(ranks, folder):
    for given in (f"{folder}/run-*.zarr", ranks):
        every = ts.open_stores(given)
        assert [str(store) for store in every.parts] == [str(ts.Store(url)) for url in ranks]
        np.testing.assert_array_equal(every["layer"][:], ROWS)
        assert every["layer"].histogram() == ts.count_states(ROWS, 16)
        assert every.verify().good
    with pytest.raises(NoStore, match=r"no store matches s3://.*/job-\*"):
        ts.open_stores(f"{folder}/job-*")


def test_stores_of_obstore(ranks, server, bucket):
    def objects(url):
        return S3Store(**options(server.port, bucket, prefix=url.partition(bucket + "/")[2]))

    every = ts.open_stores(map(objects, ranks))
    np.testing.assert_array_equal(every["layer"][:], ROWS)
    with pytest.raises(StoresDisagree, match=r"a part counted twice: .* is given twice"):
        ts.open_stores([objects(ranks[0]), objects(ranks[0])])


def test_a_killed_attempt_that_is_found_by_listing(ranks, folder):
    late = ts.Store(f"{folder}/run-00001-again.zarr", "x", commit_seconds=None)
    new_point(late).append(ROWS[32:40], 8, np.arange(8))
    late.commit()
    with pytest.raises(UnfinishedStore, match=r"1 of 4 stores .*run-00001-again.zarr"):
        ts.open_stores(f"{folder}/*")
    late.session.writer.life.stop()
