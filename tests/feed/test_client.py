"""The seams of tufup that the client closes, and that they are still where they were."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.exceptions import UnsignedMetadataError
from tuf.api.metadata import DelegatedRole, TargetFile  # type: ignore[attr-defined]
from tufup.client import Client

from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import OFFER_INVALID
from ncen_updater.common.progress import SilentProgress
from ncen_updater.feed.clock import TrustClock
from ncen_updater.feed.errors import RoleExpiredError
from ncen_updater.feed.http_fetcher import HttpFetcher
from ncen_updater.feed.tuf_client import TrustClient
from ncen_updater.formats.errors import DownloadDamagedError
from tests.feed.conftest import Agent
from tests.support.errors import refused
from tests.support.http_server import WebServer
from tests.support.tuf_repository import Feed

DAYS = timedelta(days=1)


class Clients:
    """Makes clients of one site."""

    def __init__(self, agent: Agent, url: str) -> None:
        self.agent, self.url = agent, url
        self.fetchers: list[HttpFetcher] = []

    def __call__(self, url: str | None = None, grace: timedelta = timedelta(0)) -> TrustClient:
        self.fetchers.append(HttpFetcher((url or self.url,), attempts=1, timeout_s=5))
        return TrustClient(
            "ncen",
            metadata_directory=self.agent.state / "metadata",
            trusted_root=self.agent.trusted_root,
            fetcher=self.fetchers[-1],
            clock=TrustClock(self.agent.state / "clock.json", self.agent.now),
            grace=grace,
        )


@pytest.fixture
def clients(agent: Agent, server: WebServer) -> Iterator[Clients]:
    clients = Clients(agent, server.url)
    yield clients
    for fetcher in clients.fetchers:
        fetcher.close()


@pytest.mark.parametrize(
    "name",
    [
        "_download_metadata",
        "_load_local_metadata",
        "_load_root",
        "_load_snapshot",
        "_load_targets",
        "_load_timestamp",
        "_persist_metadata",
    ],
)
def test_overridden_internals_exist(name: str) -> None:
    """Loud where a new tuf or tufup renames what the client overrides or calls."""
    assert callable(getattr(Client, name))


def test_second_refresh_requests_only_the_timestamp(clients: Clients, server: WebServer) -> None:
    client = clients()
    client.refresh()
    asked = len(server.requests)
    client.refresh()
    client.list_product_targets()
    client.list_product_targets()
    assert [p for p in server.paths()[asked:] if "timestamp" in p or "root" in p] == []


@pytest.mark.parametrize("grace", [timedelta(0), 180 * DAYS])
def test_metadata_without_expiry_is_accepted(
    clients: Clients, feed: Feed, grace: timedelta
) -> None:
    """A grace beyond the last day of the calendar was an unhandled error."""
    for role in ("timestamp", "snapshot"):
        feed.roles[role].expires = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
        feed.publish(role, keep_expiry=True)
    client = clients(grace=grace)
    client.load_product_role()
    assert client.get_usable_until() == min(
        feed.roles[r].expires for r in ("root", "targets", "ncen")
    )
    assert client.expires_at.astimezone(timezone(14 * timedelta(hours=1))).year == 9000


def test_grace_applies_only_to_timestamp_and_snapshot(
    clients: Clients, feed: Feed, server: WebServer
) -> None:
    clients.agent.offset = 60 * DAYS
    server.date = format_datetime(clients.agent.now())
    with pytest.raises(RoleExpiredError, match="timestamp"):
        clients().refresh()
    clients(grace=90 * DAYS).refresh()
    with pytest.raises(RoleExpiredError, match="timestamp"):
        clients(grace=30 * DAYS).refresh()
    for role, asked in (("ncen", "ncen"), ("targets", "targets"), ("root", "root")):
        before = feed.roles[role].expires
        feed.roles[role].expires = feed.now + 10 * DAYS
        if role == "root":
            feed.rotate_root()
        else:
            feed.publish(role, keep_expiry=True)
        with pytest.raises(RoleExpiredError, match=f"'{asked}'"):
            clients(grace=90 * DAYS).load_product_role()
        feed.roles[role].expires = before
        if role != "root":
            feed.publish(role, keep_expiry=True)


def test_role_of_two_delegators_is_verified_under_each(clients: Clients, feed: Feed) -> None:
    """'shared' is delegated by both products, with other keys by the second."""
    good, other = CryptoSigner.generate_ed25519(), CryptoSigner.generate_ed25519()
    from tuf.api.metadata import Delegations, Targets  # type: ignore[attr-defined]

    feed.roles["shared"], feed.signers["shared"] = Targets(expires=feed.expiry("targets")), [good]
    feed.roles["shared"].version = 0
    for product, signer, path in (("ncen", good, "x/a*"), ("ncen-updater", other, "x/b*")):
        keyid = signer.public_key.keyid
        feed.roles[product].delegations = Delegations(
            {keyid: signer.public_key},
            {"shared": DelegatedRole("shared", [keyid], 1, False, paths=[path])},
        )
        top = feed.roles["targets"].delegations.roles[product]
        top.paths, top.terminating = [*top.paths, path], False
    feed.publish("shared", "targets", "ncen", "ncen-updater")
    client = clients()
    client.refresh()
    assert client.get_targetinfo("x/absent") is None
    assert client.get_targetinfo("x/a") is None
    with pytest.raises(UnsignedMetadataError):
        client.get_targetinfo("x/b")


def test_metadata_directory_stays_complete(clients: Clients) -> None:
    clients().load_product_role()
    names = sorted(path.name for path in (clients.agent.state / "metadata").iterdir())
    assert names == ["ncen.json", "root.json", "snapshot.json", "targets.json", "timestamp.json"]


def test_full_or_read_only_disk_is_reported_as_such(clients: Clients) -> None:
    metadata = clients.agent.state / "metadata"
    clients().refresh()
    (metadata / "timestamp.json").unlink()
    (metadata / "timestamp.json").mkdir()
    with pytest.raises(UpdaterError) as caught:
        clients().refresh()
    assert caught.value.code == "NU-2019"


@pytest.mark.parametrize(("digest", "refused"), [(None, False), ("0" * 128, True)])
def test_file_signed_with_sha512_only_is_verified(
    clients: Clients, feed: Feed, digest: str | None, refused: bool, tmp_path: Path
) -> None:
    target = TargetFile.from_data("sbom/ncen/x.json", b"content", ["sha512"])
    target.hashes["sha512"] = digest or target.hashes["sha512"]
    feed.roles["ncen"].targets[target.path] = target
    feed.serve(target.path, b"content", target.hashes["sha512"])
    feed.publish()
    client, place = clients(), tmp_path / "x.json"
    client.refresh()
    if refused:
        with pytest.raises(DownloadDamagedError):
            client.download_target_file(target, place, SilentProgress())
        assert not place.exists()
    else:
        client.download_target_file(target, place, SilentProgress())
        assert place.read_bytes() == b"content"


@pytest.mark.parametrize(
    "hashes",
    [{"md5": "0" * 32}, {"sha256": "../../../x"}, {"sha256": "A" * 64}, {"sha512": "0" * 64}],
    ids=str,
)
def test_file_without_a_supported_digest_is_refused(
    clients: Clients, tmp_path: Path, hashes: dict[str, str]
) -> None:
    client = clients()
    client.refresh()
    with refused(OFFER_INVALID, match=r"SHA-512|not a valid sha"):
        client.download_target_file(TargetFile(1, hashes, "x"), tmp_path / "x", SilentProgress())
    assert list(tmp_path.glob(".x*")) == []


@pytest.mark.parametrize(
    "path", ["sbom/../../x", "/etc/x", "sbom//x", "sbom/./x", "sbom\\..\\x", "sbom/x\0y", ""]
)
def test_path_traversal_names_are_ignored(clients: Clients, feed: Feed, path: str) -> None:
    """Whatever a delegation allows, as one by digests of names does."""
    delegation = feed.roles["targets"].delegations.roles["ncen"]
    delegation.paths, delegation.path_hash_prefixes = None, list("0123456789abcdef")
    feed.roles["ncen"].targets[path] = TargetFile(1, {"sha256": "0" * 64}, path)
    feed.publish()
    found = clients().list_product_targets()
    assert path not in found
    assert "ncen-3.3.0.tar.gz" in found
