"""A stand-in for an S3-compatible object store: moto's server, over real HTTP on 127.0.0.1.

It keeps objects in memory and asks for no real credentials; buckets, PUT in one step, listings,
ranges and headers are as those of a store.
"""

from __future__ import annotations

import contextlib
import json
import urllib.request
from collections.abc import Iterator

import pytest

from tests.support.forks import DEADLINE_S


def _readable(bucket: str) -> dict[str, object]:
    """The policy of docs/how-to/serve-the-feed.md: everyone may read, and gets 404 for missing."""
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
    """Serve an empty bucket until the block ends; gives the address of the store."""
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
        # Objects of an earlier server of this process would still be there.
        _put(f"{url}/moto-api/reset", b"", "POST")
        _put(f"{url}/{bucket}", b"")
        _put(f"{url}/{bucket}?policy", json.dumps(_readable(bucket)).encode())
        yield url
    finally:
        server.stop()
