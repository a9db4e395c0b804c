"""An S3 server in a process of its own, and a relay to it that can be cut."""

import contextlib
import http.client
import itertools
import socket
import subprocess
import sys
import threading
import time
import traceback
from datetime import timedelta

import numpy as np
import obstore

ROWS = np.random.default_rng(0).integers(0, 256, (95, 2)).astype(np.uint8)
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
    "client_options": {"allow_http": True, "timeout": timedelta(seconds=60)},
}


class Server:
    """moto's S3 server, in a process of its own. Its objects end with it."""

    def __init__(self, log, port=0):
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        with open(log, "wb") as output:
            self.process = subprocess.Popen(command, stdout=output, stderr=output)
        deadline = time.monotonic() + 600
        while "Running on http://127.0.0.1:" not in (said := log.read_text()):
            assert self.process.poll() is None, said
            assert time.monotonic() < deadline, said
            time.sleep(0.02)
        self.port = int(said.partition("http://127.0.0.1:")[2].split()[0])

    def request(self, method, path, body=b""):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        with contextlib.closing(connection):
            connection.request(method, path, body)
            response = connection.getresponse()
            assert response.status == 200, response.read()

    def kill(self):
        self.process.kill()
        self.process.wait()


_numbers = itertools.count()


def new_bucket(server):
    name = f"bucket-{next(_numbers)}"
    server.request("PUT", f"/{name}")
    return name


def options(port, bucket, **more):
    about = {"endpoint": f"http://127.0.0.1:{port}", "region": "us-east-1"}
    secrets = {"access_key_id": "someone", "secret_access_key": "something"}
    return {"bucket": bucket, **about, **secrets, **QUICK, **more}


def keys(objects):
    return sorted(found["path"] for piece in obstore.list(objects) for found in piece)


def content(objects):
    return {key: bytes(obstore.get(objects, key).bytes()) for key in keys(objects)}


def is_clear(error):
    """Whether an error is one line, and its traceback shows nothing of obstore's long dumps."""
    shown = "".join(traceback.format_exception(error))
    return "\n" not in str(error) and len(str(error)) < 700 and "Debug source" not in shown


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
