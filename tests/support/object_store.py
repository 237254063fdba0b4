"""S3-compatible object store for tests: moto's server, over real HTTP on 127.0.0.1.

It stores objects in memory and accepts any credentials; buckets, atomic PUT, listings, ranges and
headers work like those of a real store.
"""

from __future__ import annotations

import contextlib
import json
import urllib.request
from collections.abc import Iterator

import pytest

from tests.support.forks import DEADLINE_S


def _readable(bucket: str) -> dict[str, object]:
    """Return the policy of docs/how-to/serve-the-feed.md: all may read, and get 404 if missing."""
    read = {"Effect": "Allow", "Principal": "*"}
    name = f"arn:aws:s3:::{bucket}"
    return {
        "Version": "2012-10-17",
        "Statement": [
            {**read, "Action": "s3:GetObject", "Resource": f"{name}/*"},
            {**read, "Action": "s3:ListBucket", "Resource": name},
        ],
    }


def _put(url: str, content: bytes, method: str = "PUT") -> None:
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(url, data=content, method=method, headers=headers)
    with urllib.request.urlopen(request, timeout=DEADLINE_S) as answer:
        answer.read()


@contextlib.contextmanager
def object_store(monkeypatch: pytest.MonkeyPatch, bucket: str = "releases") -> Iterator[str]:
    """Serve an empty bucket during a block; yield the URL of the store."""
    from moto.server import ThreadedMotoServer

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "stand-in")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        url = f"http://{host}:{port}"
        # Remove objects of an earlier server in this process.
        _put(f"{url}/moto-api/reset", b"", "POST")
        _put(f"{url}/{bucket}", b"")
        _put(f"{url}/{bucket}?policy", json.dumps(_readable(bucket)).encode())
        yield url
    finally:
        server.stop()
