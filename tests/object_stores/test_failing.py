"""Object stores that fail, or that cannot be used: told clearly and soon, with nothing lost."""

import http.server
import signal
import sys
import threading
import time
from datetime import timedelta

import numpy as np
import obstore
import pytest
from obstore.store import S3Store

import tensorstate_gpu as ts
from tests.support.object_server import (
    ROWS,
    Server,
    content,
    is_clear,
    new_bucket,
    options,
)
from tests.support.points import new_point

# ---- a server that goes away ------------------------------------------------------------------


@pytest.mark.parametrize("part", range(6))
@pytest.mark.usefixtures("forty_rows")
def test_a_connection_that_breaks_anywhere_loses_nothing(part, relay, server, bucket):
    reader = S3Store(**options(server.port, bucket))
    store = ts.Store(S3Store(**options(relay.port, bucket)), "x", commit_seconds=None)
    point = new_point(store)
    point.append(ROWS[:15], 15, np.arange(15))
    store.commit()
    relay.cut_after(part * 1900)  # each commit sends some 2,500 bytes

    def capture():
        for start in range(15, 60, 5):
            point.append(ROWS[start : start + 5], 5, np.arange(start, start + 5))
            store.commit()

    with pytest.raises(OSError, match=rf"127.0.0.1:{relay.port}.*error sending request") as caught:
        capture()
    assert is_clear(caught.value)
    found = ts.Store(reader)["layer"]
    assert 15 <= found.state_count <= point.state_count
    np.testing.assert_array_equal(found[:], ROWS[: found.state_count])
    assert found.labels().tolist() == list(range(found.state_count))

    relay.mend()
    kept = point.state_count
    point.append(ROWS[kept:], 95 - kept, np.arange(kept, 95))
    store.close()
    found = ts.Store(reader)["layer"]
    np.testing.assert_array_equal(found[:], ROWS)
    assert found.labels().tolist() == list(range(95))


def test_a_server_that_is_killed_and_comes_back(tmp_path):
    server = Server(tmp_path / "log")
    bucket = new_bucket(server)
    objects = S3Store(**options(server.port, bucket))
    store = ts.Store(objects, "x", commit_seconds=None)
    point = new_point(store)
    point.append(ROWS[:40], 40)
    store.commit()
    kept = content(objects)  # moto's memory, which a real server would have on a disk
    server.kill()
    point.append(ROWS[40:50], 10)
    for _ in range(2):
        with pytest.raises(OSError, match=rf"{bucket}.*Connection refused") as caught:
            store.commit()
        assert is_clear(caught.value)
        assert "What was committed is whole" in caught.value.__notes__[0]
    for mode in "rxa":
        with pytest.raises(OSError, match="Connection refused") as caught:
            ts.Store(objects, mode)
        assert is_clear(caught.value)

    server = Server(tmp_path / "log", server.port)
    try:
        server.request("PUT", f"/{bucket}")
        for key, data in kept.items():
            obstore.put(objects, key, data)
        np.testing.assert_array_equal(ts.Store(objects)["layer"][:], ROWS[:40])
        point.append(ROWS[50:], 45)
        store.close()
        np.testing.assert_array_equal(ts.Store(objects)["layer"][:], ROWS)
    finally:
        server.kill()


@pytest.mark.skipif(sys.platform == "win32", reason="stops a process by a POSIX signal")
def test_a_server_that_hangs(server, bucket):
    patience = {"allow_http": True, "timeout": timedelta(seconds=3)}
    s3 = S3Store(**options(server.port, bucket, client_options=patience))
    store = ts.Store(s3, "x", commit_seconds=None)
    point = new_point(store)
    point.append(ROWS, 95)
    server.process.send_signal(signal.SIGSTOP)
    try:
        with pytest.raises(OSError, match="error sending request") as caught:
            store.commit()
    finally:
        server.process.send_signal(signal.SIGCONT)
    assert is_clear(caught.value)
    store.close()
    np.testing.assert_array_equal(ts.Store(s3)["layer"][:], ROWS)


@pytest.mark.usefixtures("forty_rows")
def test_a_failed_write_in_the_background_is_told_by_the_next_batch(relay, server, bucket):
    store = ts.Store(S3Store(**options(relay.port, bucket)), "x", commit_seconds=None)
    point = new_point(store)
    point.append(ROWS[:30], 30)
    store.commit()
    relay.cut()
    point.append(ROWS[30:50], 20)  # they fill a chunk: it is written at once

    def go_on():
        deadline = time.monotonic() + 600
        while time.monotonic() < deadline:
            point.append(ROWS[:0], 0)
            time.sleep(0.01)

    with pytest.raises(OSError, match="Connection refused"):
        go_on()
    assert point.state_count == 50
    relay.mend()
    point.append(ROWS[50:], 45)
    store.close()
    reader = ts.Store(S3Store(**options(server.port, bucket)))
    np.testing.assert_array_equal(reader["layer"][:], ROWS)


# ---- places that cannot be used ---------------------------------------------------------------


def told(place, mode, error, words):
    """The store is refused, soon and clearly."""
    start = time.monotonic()
    with pytest.raises(error, match=words) as caught:
        ts.Store(place, mode)
    assert time.monotonic() - start < 10
    assert is_clear(caught.value)


@pytest.mark.parametrize("mode", ["r", "x", "a"])
def test_a_bucket_that_is_not_there(mode, server, by_url):
    objects = S3Store(**options(server.port, "missing"))
    for place, where in ((objects, "missing"), ("s3://missing/run.zarr", "s3://missing/run.zarr")):
        told(place, mode, OSError, f"{where}: .*NoSuchBucket: The specified bucket does not exist")


@pytest.mark.parametrize("mode", ["r", "x", "a"])
def test_wrong_credentials(mode, server, by_url):
    server.request("POST", "/moto-api/reset-auth", b"0")  # from now on they are checked
    try:
        told(by_url, mode, OSError, rf"{by_url}: .*InvalidAccessKeyId: The AWS Access Key Id you")
    finally:
        server.request("POST", "/moto-api/reset-auth", b"inf")
    with pytest.raises(ValueError, match="holds no captured states"):
        ts.Store(by_url)  # nothing was created


def test_http_that_was_not_allowed(by_url, monkeypatch):
    monkeypatch.delenv("AWS_ALLOW_HTTP")
    told(by_url, "x", OSError, "AWS_ALLOW_HTTP=true")


class Nothing(http.server.BaseHTTPRequestHandler):
    """A cloud's machine whose service hands out no credentials."""

    def refuse(self):
        self.send_error(403)

    do_GET = do_PUT = do_POST = refuse

    def log_message(self, *_):
        pass


@pytest.fixture
def no_credentials(monkeypatch):
    """The services that clients ask when the environment has no credentials: on this machine."""
    service = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Nothing)
    threading.Thread(target=service.serve_forever, daemon=True).start()
    host = f"127.0.0.1:{service.server_port}"
    for name in ("GCE_METADATA_HOST", "GCE_METADATA_IP"):
        monkeypatch.setenv(name, host)
    for name in ("AWS_METADATA_ENDPOINT", "AZURE_MSI_ENDPOINT"):
        monkeypatch.setenv(name, f"http://{host}")
    monkeypatch.setenv("HOME", "/nowhere")  # nor those that tools left in files
    yield
    service.shutdown()
    service.server_close()


@pytest.mark.parametrize("mode", ["r", "x", "a"])
@pytest.mark.parametrize(
    "url", ["s3://bucket/run", "gs://bucket/run", "abfss://box@account.dfs.core.windows.net/run"]
)
@pytest.mark.usefixtures("no_credentials")
def test_no_credentials(url, mode):
    told(url, mode, OSError, f"{url}: there are no credentials in the environment")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("az://box/run", "Account must be specified"),
        ("nonsense://bucket/run", "Unable to recognise URL"),
        ("s3://", "Unable to recognise URL"),
    ],
)
def test_urls_that_say_too_little(url, words):
    for mode in "rxa":
        told(url, mode, ValueError, f"no store can be opened at {url}: .*{words}")


def test_a_web_server_is_read_but_not_written(tmp_path):
    class Page(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=tmp_path)

        def do_PROPFIND(self):
            self.send_error(405)

        def log_message(self, *_):
            pass

    with ts.Store(tmp_path / "run", "x") as store:
        new_point(store).append(ROWS, 95)
    service = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=service.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{service.server_port}"
    try:
        np.testing.assert_array_equal(ts.Store(f"{url}/run")["layer"][:], ROWS)
        told(f"{url}/new", "x", OSError, f"{url}/new: .*PROPFIND")
        told(f"{url}/new", "r", ValueError, f"{url}/new holds no captured states")
    finally:
        service.shutdown()
        service.server_close()
