"""Buckets of an S3 server that runs on this machine."""

import os

import pytest
from obstore.store import S3Store

from tests.support.object_server import Relay, Server, new_bucket, options


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
def forty_rows(chunks_of):
    """Chunks of forty rows of two bytes, and of ten numbers as labels."""
    chunks_of(80)


@pytest.fixture
def relay(server):
    relay = Relay(server)
    yield relay
    relay.cut()
