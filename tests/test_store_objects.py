"""Stores in an object store: written to an S3 server that runs in a process of its own."""

import contextlib
import http.client
import http.server
import itertools
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from datetime import timedelta

import numpy as np
import obstore
import pytest
import zarr
from obstore.store import LocalStore, MemoryStore, S3Store
from zarr.storage import ObjectStore

import tensorstate_gpu as ts

ROWS = np.random.default_rng(0).integers(0, 256, (95, 2)).astype(np.uint8)
NAMES = ["a/b", "100 %", "größer 一", "a%2Fb", "..", "c", "zarr.json", "two words ", "*?<>|:+&=#"]
QUICK = {
    "retry_config": {
        "max_retries": 1,
        "retry_timeout": timedelta(seconds=1),
        "backoff": {
            "init_backoff": timedelta(milliseconds=1),
            "max_backoff": timedelta(milliseconds=2),
            "base": 2,
        },
    },
    "client_options": {"allow_http": True, "timeout": timedelta(milliseconds=500)},
}


class Server:
    """moto's S3 server, in a process of its own. Its objects end with it."""

    def __init__(self, log, port=0):
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        with open(log, "wb") as output:
            self.process = subprocess.Popen(command, stdout=output, stderr=output)
        deadline = time.monotonic() + 30
        while "Running on http://127.0.0.1:" not in (said := log.read_text()):
            assert self.process.poll() is None, said
            assert time.monotonic() < deadline, said
            time.sleep(0.02)
        self.port = int(said.partition("http://127.0.0.1:")[2].split()[0])

    def request(self, method, path, body=b""):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        with contextlib.closing(connection):
            connection.request(method, path, body)
            response = connection.getresponse()
            assert response.status == 200, response.read()

    def kill(self):
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("s3") / "log")
    yield server
    server.kill()


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    """None of the credentials and proxies that this machine may have."""
    for name in list(os.environ):
        if name.upper().startswith(("AWS_", "AZURE_", "GOOGLE_")):
            monkeypatch.delenv(name)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")


_numbers = itertools.count()


def new_bucket(server):
    name = f"bucket-{next(_numbers)}"
    server.request("PUT", f"/{name}")
    return name


def options(port, bucket, **more):
    about = {"endpoint": f"http://127.0.0.1:{port}", "region": "us-east-1"}
    secrets = {"access_key_id": "someone", "secret_access_key": "something"}
    return {"bucket": bucket, **about, **secrets, **QUICK, **more}


@pytest.fixture
def bucket(server):
    return new_bucket(server)


@pytest.fixture
def s3(server, bucket):
    """The objects of a new bucket."""
    return S3Store(**options(server.port, bucket))


@pytest.fixture
def below(server, bucket):
    """The objects below a prefix of the same bucket."""
    return S3Store(**options(server.port, bucket, prefix="runs/größer 一/run.zarr"))


@pytest.fixture
def by_url(server, bucket, monkeypatch):
    """A URL in the same bucket, with what it takes in the environment."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.port}")
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "someone")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "something")
    return f"s3://{bucket}/run.zarr"


@pytest.fixture
def small_chunks(monkeypatch):
    """Chunks of forty rows of two bytes, and of ten numbers as labels."""
    monkeypatch.setattr("tensorstate_gpu.store.columns.CHUNK_BYTES", 80)


def new_point(store, name="layer", neurons=16):
    point = ts.CapturePoint(name, store)
    point.declare(neurons, 1)
    return point


def keys(objects):
    return sorted(found["path"] for piece in obstore.list(objects) for found in piece)


def content(objects):
    return {key: bytes(obstore.get(objects, key).bytes()) for key in keys(objects)}


def is_clear(error):
    """Whether an error is one line, and its traceback shows nothing of obstore's long dumps."""
    shown = "".join(traceback.format_exception(error))
    return "\n" not in str(error) and len(str(error)) < 700 and "Debug source" not in shown


# ---- what is written is read again -----------------------------------------------------------


@pytest.mark.parametrize("place", ["by_url", "below"])
@pytest.mark.usefixtures("small_chunks")
def test_a_capture_is_committed_and_goes_on(place, request):
    place = request.getfixturevalue(place)
    store = ts.Store(place, "x", commit_seconds=None)
    point = new_point(store)
    point.labels(["cat", "dog", "one long label"] * 4)
    point.append(ROWS[:12], 12)
    store.commit()
    reader = ts.Store(place)
    point.labels(["größer", "dog"] * 10 + ["cat"])
    point.append(ROWS[12:33], 21)
    np.testing.assert_array_equal(reader["layer"][:], ROWS[:12])  # what was there when it opened
    store.close()
    assert ts.Store(place)["layer"].state_count == 33

    with ts.Store(place, "a") as store:
        point = new_point(store)
        assert point.state_count == 33
        point.labels(["after"] * 62)
        point.append(ROWS[33:], 62)
        np.testing.assert_array_equal(point.raw_states, ROWS)
    layer = ts.Store(place)["layer"]
    np.testing.assert_array_equal(layer[:], ROWS)
    np.testing.assert_array_equal(layer[31:34], ROWS[31:34])
    labels = ["cat", "dog", "one long label"] * 4 + ["größer", "dog"] * 10 + ["cat"]
    assert layer.labels().tolist() == labels + ["after"] * 62


def test_a_path_creates_a_store_by_url(by_url):
    point = new_point(by_url)
    other = new_point(by_url, "other")
    for captured in (point, other):
        captured.append(ROWS, 95)
        captured.flush()
    assert ts.Store(by_url).names == ["layer", "other"]
    np.testing.assert_array_equal(ts.Store(by_url)["other"][:], ROWS)


def test_a_run_is_saved_by_url(by_url):
    point = ts.CapturePoint("layer")
    point.declare(16)
    point.append(ROWS, 95)
    ts.Run([point]).save(by_url)
    np.testing.assert_array_equal(ts.Store(by_url)["layer"][:], ROWS)
    with pytest.raises(ValueError, match=r"run.zarr exists and is not empty"):
        ts.Run([point]).save(by_url)


def test_awkward_names_and_plain_zarr(below, s3):
    with ts.Store(below, "x") as store:
        for k, name in enumerate(NAMES):
            new_point(store, name).append(np.full((k + 1, 2), k, np.uint8), k + 1, [name] * (k + 1))
    assert all(key.startswith("runs/größer 一/run.zarr/") for key in keys(s3))
    store = ts.Store(below)
    assert store.names == NAMES
    group = zarr.open_group(ObjectStore(below, read_only=True), mode="r", zarr_format=3)
    arrays, labels = dict(group.arrays()), dict(group["labels"].arrays())
    assert {"a%2Fb", "a%252Fb", "100 %25"} < arrays.keys() == labels.keys()
    by_name = {array.attrs["name"]: (array, labels[key]) for key, array in arrays.items()}
    assert by_name.keys() == set(NAMES)
    for k, name in enumerate(NAMES):
        for read in (store[name], by_name[name][0]):
            np.testing.assert_array_equal(read[:], np.full((k + 1, 2), k))
        for read in (store[name].labels(), by_name[name][1][:]):
            assert read.tolist() == [name] * (k + 1)


@pytest.mark.usefixtures("small_chunks")
def test_reset_deletes_the_objects(below, s3):
    store = ts.Store(below, "x")
    point, other = new_point(store), new_point(store, "layer 2")
    point.append(ROWS, 95, np.arange(95))
    other.append(ROWS[:5], 5)
    store.commit()
    assert len([key for key in keys(below) if key.startswith("layer/")]) == 4
    point.reset_states()
    assert {key.split("/")[0] for key in keys(below)} == {"zarr.json", "labels", "layer 2"}
    assert not [key for key in keys(below) if key.startswith("labels/layer")]
    point.declare(24)
    point.append(np.zeros((3, 3), np.uint8), 3)
    store.close()
    store = ts.Store(below)
    assert (store["layer"].state_count, store["layer"].neurons) == (3, 24)
    np.testing.assert_array_equal(store["layer 2"][:], ROWS[:5])


@pytest.mark.parametrize("objects", [MemoryStore, LocalStore])
def test_other_stores_of_obstore(objects, tmp_path):
    objects = objects() if objects is MemoryStore else objects(tmp_path)
    with ts.Store(objects, "x") as store:
        new_point(store, "größer 一").append(ROWS, 95)
    np.testing.assert_array_equal(ts.Store(objects)["größer 一"][:], ROWS)


def test_stores_of_the_same_name_on_two_servers_are_two(s3, server, bucket, tmp_path):
    second = Server(tmp_path / "log")
    try:
        second.request("PUT", f"/{bucket}")
        elsewhere = S3Store(**options(second.port, bucket))
        for objects, rows in ((s3, ROWS), (elsewhere, ROWS[:7])):
            point = new_point(objects)
            point.append(rows, len(rows))
            point.flush()
        assert ts.Store(s3)["layer"].state_count == 95
        assert ts.Store(elsewhere)["layer"].state_count == 7
        assert str(server.port) in str(ts.Store(s3))
    finally:
        second.kill()


# ---- what is there already is left alone ----------------------------------------------------


@pytest.mark.parametrize("what", ["store", "object"])
@pytest.mark.parametrize("write", [lambda place: ts.Store(place, "x"), new_point])
def test_a_place_with_other_content_is_refused_and_untouched(write, what, below, s3):
    if what == "store":
        with ts.Store(below, "x") as store:
            new_point(store).append(ROWS, 95)
    else:
        obstore.put(below, "somebody/else.txt", b"mine")
    before = content(s3)
    with pytest.raises(ValueError, match=r"run.zarr exists and is not empty; it is not overwrit"):
        write(below)
    if what == "object":
        with pytest.raises(ValueError, match=r"run.zarr holds no captured states"):
            ts.Store(below, "a")
    assert content(s3) == before


def test_neighbours_of_a_prefix_are_not_in_the_way(server, bucket, s3):
    obstore.put(s3, "run.zarr.old/zarr.json", b"mine")
    obstore.put(s3, "run", b"mine")
    server.request("PUT", f"/{bucket}/run.zarr/")  # as S3's console makes a folder
    objects = S3Store(**options(server.port, bucket, prefix="run.zarr"))
    with ts.Store(objects, "x") as store:
        point = new_point(store)
        point.append(ROWS, 95)
        point.reset_states()
    assert {"run", "run.zarr.old/zarr.json"} < set(keys(s3))


# ---- damage is named ------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["zarr.json", "layer/zarr.json", "layer/c/0/0", "labels/layer/c/1"])
@pytest.mark.parametrize("damage", ["flipped", "missing"])
@pytest.mark.usefixtures("small_chunks")
def test_a_damaged_object_is_named(key, damage, below):
    with ts.Store(below, "x") as store:
        new_point(store).append(ROWS[:25], 25, np.arange(25))
    if damage == "missing":
        obstore.delete(below, key)
    else:
        data = bytearray(obstore.get(below, key).bytes())
        data[len(data) // 2] ^= 1
        obstore.put(below, key, bytes(data))
    expected = rf"run.zarr/{key} is (damaged|missing)"
    if key == "zarr.json" and damage == "missing":
        expected = "run.zarr holds no captured states"

    def read():
        layer = ts.Store(below)["layer"]
        return layer[:], layer.labels()

    with pytest.raises(ValueError, match=expected) as caught:
        read()
    assert is_clear(caught.value)


# ---- a server that goes away ------------------------------------------------------------------


class Relay:
    """Stands between clients and a server. When it is cut, the server is gone for them."""

    def __init__(self, server):
        self._server = server
        self._left = None  # bytes from clients that are still passed on
        self._lock = threading.Lock()
        self.port = 0
        self.mend()

    def mend(self):
        self._left = None
        self._sockets = set()
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def cut_after(self, count):
        self._left = count

    def cut(self):
        for end in [self._listener, *self._sockets]:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _accept(self, listener):
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._server.port))
            self._sockets |= {client, server}
            for ends in ((client, server, True), (server, client, False)):
                threading.Thread(target=self._pass_on, args=ends, daemon=True).start()

    def _pass_on(self, source, sink, counted):
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if counted:
                    data = self._allowed(data)
                sink.sendall(data)
                if self._left == 0:
                    self.cut()

    def _allowed(self, data):
        with self._lock:
            if self._left is not None:
                data = data[: self._left]
                self._left -= len(data)
            return data


@pytest.fixture
def relay(server):
    relay = Relay(server)
    yield relay
    relay.cut()


@pytest.mark.parametrize("part", range(6))
@pytest.mark.usefixtures("small_chunks")
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
def test_a_server_that_hangs(server, s3):
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


@pytest.mark.usefixtures("small_chunks")
def test_a_failed_write_in_the_background_is_told_by_the_next_batch(relay, server, bucket):
    store = ts.Store(S3Store(**options(relay.port, bucket)), "x", commit_seconds=None)
    point = new_point(store)
    point.append(ROWS[:30], 30)
    store.commit()
    relay.cut()
    point.append(ROWS[30:50], 20)  # they fill a chunk: it is written at once

    def go_on():
        deadline = time.monotonic() + 10
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


def test_without_obstore(monkeypatch):
    monkeypatch.delitem(sys.modules, "tensorstate_gpu.store.bucket", raising=False)
    monkeypatch.setitem(sys.modules, "obstore", None)
    for mode in "rxa":
        with pytest.raises(ImportError, match=r"pip install 'tensorstate_gpu\[objects\]'"):
            ts.Store("s3://bucket/run", mode)
    with pytest.raises(ImportError, match=r"pip install 'tensorstate_gpu\[objects\]'"):
        ts.CapturePoint("layer", "s3://bucket/run")


def test_what_is_no_store_of_obstore(s3):
    obstore.put(s3, "object", b"1")
    for other in (obstore.get(s3, "object"), obstore.list(s3), obstore.exceptions.BaseError("s3")):
        with pytest.raises(TypeError, match=r"must be a str, a path or .*, got [A-Z]\w+$"):
            ts.Store(other)
