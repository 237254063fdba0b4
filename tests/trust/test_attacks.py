"""The attack table: each attack is refused with its own code, and nothing of the site changes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from email.utils import format_datetime

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import MetaFile  # type: ignore[attr-defined]

from ncen_updater.errors import ExitCode, UpdaterError
from ncen_updater.progress import Silent
from ncen_updater.release.canonical import canonical_json
from ncen_updater.trust.names import ROOT_VERSION_FIELD
from tests.support.http_server import PORTAL, Fault, WebServer
from tests.support.tuf_repository import Feed
from tests.trust.conftest import Agent

DAYS = timedelta(days=1)


def _forged(role: str) -> Callable[[Feed, WebServer], None]:
    """Sign a role with keys of one's own."""

    def attack(feed: Feed, _: WebServer) -> None:
        count = len(feed.signers[role])
        feed.signers[role] = [CryptoSigner.generate_ed25519() for _ in range(count)]
        feed.publish(role)

    return attack


def _below_threshold(role: str) -> Callable[[Feed, WebServer], None]:
    def attack(feed: Feed, _: WebServer) -> None:
        feed.signers[role] = feed.signers[role][:1]
        feed.publish(role)

    return attack


def _expired(role: str) -> Callable[[Feed, WebServer], None]:
    def attack(feed: Feed, _: WebServer) -> None:
        feed.roles[role].expires = feed.now - DAYS
        if role == "root":
            feed.rotate_root()
        else:
            feed.publish(role, keep_expiry=True)

    return attack


def _rollback_timestamp(feed: Feed, _: WebServer) -> None:
    feed.roles["timestamp"].version -= 2
    feed.publish("ncen")


def _rollback_snapshot(feed: Feed, _: WebServer) -> None:
    feed.roles["snapshot"].version -= 2
    feed.publish("ncen")


def _rollback_role(feed: Feed, _: WebServer) -> None:
    feed.roles["ncen"].version -= 2
    feed.publish("ncen")


def _dropped_role(feed: Feed, _: WebServer) -> None:
    del feed.roles["snapshot"].meta["ncen.json"]
    feed.publish("targets")


def _mixed_role(feed: Feed, _: WebServer) -> None:
    feed.publish("ncen")
    version = feed.roles["ncen"].version
    old = (feed.metadata / f"{version - 1}.ncen.json").read_bytes()
    feed.write(f"{version}.ncen.json", old)


def _mixed_snapshot(feed: Feed, _: WebServer) -> None:
    feed.publish("ncen")
    version = feed.roles["snapshot"].version
    old = (feed.metadata / f"{version - 1}.snapshot.json").read_bytes()
    feed.write(f"{version}.snapshot.json", old)


def _pinned_digest(feed: Feed, _: WebServer) -> None:
    """The snapshot pins the role's bytes; others, signed too, are served."""
    feed.publish("ncen")
    feed.roles["snapshot"].version += 1
    feed.roles["snapshot"].meta["ncen.json"] = MetaFile(
        feed.roles["ncen"].version, hashes={"sha256": "0" * 64}
    )
    feed.write(f"{feed.roles['snapshot'].version}.snapshot.json", feed.sign("snapshot"))
    feed.roles["timestamp"].version += 1
    feed.roles["timestamp"].snapshot_meta = MetaFile(feed.roles["snapshot"].version)
    feed.write("timestamp.json", feed.sign("timestamp"))


def _wrong_root(feed: Feed, _: WebServer) -> None:
    feed.write("2.root.json", (feed.metadata / "1.root.json").read_bytes())


def _root_by_new_keys_only(feed: Feed, _: WebServer) -> None:
    root, old = feed.roles["root"], feed.signers["root"]
    feed.signers["root"] = [CryptoSigner.generate_ed25519() for _ in range(3)]
    for signer in old:
        root.revoke_key(signer.public_key.keyid, "root")
    for signer in feed.signers["root"]:
        root.add_key(signer.public_key, "root")
    feed.rotate_root()


def _hidden_root(feed: Feed, _: WebServer) -> None:
    feed.rotate_root()
    (feed.metadata / "2.root.json").unlink()
    feed.roles["timestamp"].unrecognized_fields[ROOT_VERSION_FIELD] = 2
    feed.publish("ncen")


def _hidden_root_403(feed: Feed, server: WebServer) -> None:
    feed.rotate_root()
    server.faults = [Fault(".root.json", status=403)]
    feed.roles["timestamp"].unrecognized_fields[ROOT_VERSION_FIELD] = 2
    feed.publish("ncen")


def _no_delegation(feed: Feed, _: WebServer) -> None:
    del feed.roles["targets"].delegations.roles["ncen"]
    feed.publish()


def _other_product(feed: Feed, _: WebServer) -> None:
    """The keys of the agent's role sign a release of the application into their own list."""
    feed.roles["ncen"].targets.clear()
    feed.add_release("9.9.9", role="ncen-updater")
    feed.publish()


def _junk(name: str, content: bytes) -> Callable[[Feed, WebServer], None]:
    return lambda feed, _: feed.write(name, content)


def _fault(**fault: object) -> Callable[[Feed, WebServer], None]:
    def attack(_: Feed, server: WebServer) -> None:
        server.faults = [Fault(**fault)]  # type: ignore[arg-type]

    return attack


@dataclass(frozen=True)
class Row:
    """An attack, what it is told as, and a word that the message must hold."""

    name: str
    attack: Callable[[Feed, WebServer], None]
    code: str
    says: str = ""
    exit_code: ExitCode = ExitCode.TRUST


STALE, NETWORK = ExitCode.FEED_STALE, ExitCode.NETWORK
ROWS = (
    Row("timestamp by a stranger", _forged("timestamp"), "NU-2003", "timestamp"),
    Row("snapshot by a stranger", _forged("snapshot"), "NU-2003", "snapshot"),
    Row("targets by strangers", _forged("targets"), "NU-2003", "targets"),
    Row("product by strangers", _forged("ncen"), "NU-2003", "ncen"),
    Row("targets below threshold", _below_threshold("targets"), "NU-2003", "targets"),
    Row("product below threshold", _below_threshold("ncen"), "NU-2003", "ncen"),
    Row("root by new keys only", _root_by_new_keys_only, "NU-2003", "root"),
    Row("freeze: root", _expired("root"), "NU-2007", "'root'", STALE),
    Row("freeze: timestamp", _expired("timestamp"), "NU-2007", "'timestamp'", STALE),
    Row("freeze: snapshot", _expired("snapshot"), "NU-2007", "'snapshot'", STALE),
    Row("freeze: targets", _expired("targets"), "NU-2007", "'targets'", STALE),
    Row("freeze: product", _expired("ncen"), "NU-2007", "'ncen'", STALE),
    Row("rollback: timestamp", _rollback_timestamp, "NU-2004", "timestamp"),
    Row("rollback: snapshot", _rollback_snapshot, "NU-2004", "timestamp"),
    Row("rollback: product", _rollback_role, "NU-2004", "snapshot"),
    Row("role dropped from the snapshot", _dropped_role, "NU-2001", "missing"),
    Row("mix-and-match: product", _mixed_role, "NU-2009", "ncen"),
    Row("mix-and-match: snapshot", _mixed_snapshot, "NU-2009", "snapshot"),
    Row("mix-and-match: other bytes", _pinned_digest, "NU-2006", "ncen"),
    Row("wrong root in the chain", _wrong_root, "NU-2010", "version 1"),
    Row("newer root hidden", _hidden_root, "NU-2010", "root 2"),
    Row("newer root refused", _hidden_root_403, "NU-2010", "root 2"),
    Row("product not delegated", _no_delegation, "NU-2011", "ncen"),
    Row("timestamp is junk", _junk("timestamp.json", b"{}"), "NU-2005", "timestamp"),
    Row("timestamp is cut", _junk("timestamp.json", b'{"signed": {'), "NU-2005", "timestamp"),
    Row("timestamp is empty", _junk("timestamp.json", b""), "NU-2005", "timestamp"),
    Row("root is junk", _junk("2.root.json", b"[1]"), "NU-2005", "root"),
    Row("endless timestamp", _fault(match="timestamp", endless=True), "NU-2108", "timestamp"),
    Row("endless root", _fault(match="root", body=b"{", endless=True), "NU-2108", "root"),
    Row("portal", _fault(match="", body=PORTAL), "NU-2104", "", NETWORK),
    Row(
        "portal that says HTML",
        _fault(match="", body=b"hello", content_type="text/html; charset=utf-8"),
        "NU-2104",
        "",
        NETWORK,
    ),
    Row("slow", _fault(match="timestamp", drip=0.02), "NU-2105", "timestamp", NETWORK),
    Row("cut", _fault(match="timestamp", cut_after=10), "NU-2107", "timestamp", NETWORK),
    Row("404", _fault(match="timestamp", status=404), "NU-2106", "404", NETWORK),
    Row("403", _fault(match="timestamp", status=403), "NU-2106", "403", NETWORK),
    Row("500", _fault(match="root", status=500), "NU-2106", "500", NETWORK),
)


def test_every_row_has_its_own_words_and_code() -> None:
    assert len({row.name for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize("known", [True, False], ids=["known-site", "new-site"])
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_refused_with_its_code(
    agent: Agent, server: WebServer, feed: Feed, row: Row, known: bool
) -> None:
    if not known and "rollback" in row.name + row.says:
        pytest.skip("a new site has seen nothing that could be rolled back")
    if not known and row.name == "role dropped from the snapshot":
        pytest.skip("a new site has no earlier snapshot to compare with")
    if known:
        agent.source(server.url).refresh()
    view = agent.source(server.url).last_view()
    feed.add_release("3.4.0")
    row.attack(feed, server)
    with pytest.raises(UpdaterError) as caught:
        # Two bytes a connection pass in the slow row: it has to be slow by any measure.
        agent.source(server.url, minimum_bytes_per_s=1000).refresh()
    assert caught.value.code == row.code, caught.value
    assert row.says in str(caught.value)
    assert caught.value.exit_code is row.exit_code
    assert agent.source(server.url).last_view() == view
    assert not (agent.state / "downloads").exists()


def test_wrong_role_does_not_reach_the_product(agent: Agent, server: WebServer, feed: Feed) -> None:
    _other_product(feed, server)
    assert agent.source(server.url).refresh().offers == ()
    # Nor does the agent's own list take what it was not allowed to name.
    assert agent.source(server.url, product="ncen-updater").refresh().offers == ()


def test_paths_outside_the_delegation_are_left_out(
    agent: Agent, server: WebServer, feed: Feed
) -> None:
    delegation = feed.roles["targets"].delegations.roles["ncen"]
    delegation.paths = ["ncen-[0-9]*", "releases/ncen/3.4.*", "trees/ncen/*"]
    feed.add_release("3.4.0")
    feed.publish()
    view = agent.source(server.url).refresh()
    assert [offer.version for offer in view.offers] == ["3.4.0"]


FILES: dict[str, tuple[dict[str, object], str]] = {
    "wrong bytes": ({"body": None}, "NU-3102"),
    "web page": ({"body": PORTAL, "content_type": "text/html"}, "NU-2104"),
    "endless": ({"endless": True}, "NU-3102"),
    "missing": ({"status": 404}, "NU-2106"),
    "slow": ({"drip": 0.02}, "NU-2105"),
    "cut": ({"cut_after": 7}, "NU-2107"),
}


@pytest.mark.parametrize("target", ["releases/ncen", "trees/ncen", ".tar.gz"])
@pytest.mark.parametrize("name", FILES)
def test_files_are_refused_with_their_code(
    agent: Agent, server: WebServer, target: str, name: str
) -> None:
    fault, code = FILES[name]
    source = agent.source(server.url, minimum_bytes_per_s=1000)
    offer = source.refresh().offers[0]
    if name == "wrong bytes":
        length = {".tar.gz": offer.archive.length}.get(target, 100)
        fault = {"body": b"{}" * (length // 2) + b" " * (length % 2)}
    server.faults = [Fault(target, **fault)]  # type: ignore[arg-type]
    with pytest.raises(UpdaterError) as caught:
        source.fetch(offer, Silent())
    if not (name == "wrong bytes" and caught.value.code == "NU-2107"):
        assert caught.value.code == code, caught.value
    else:  # a short answer is a break: the rest is asked for, and is not there
        assert target != ".tar.gz"
    assert agent.source(server.url).fetched(offer) is None


def test_clock_far_ahead_is_told_as_that(agent: Agent, server: WebServer) -> None:
    agent.offset = 800 * DAYS
    with pytest.raises(UpdaterError) as caught:
        agent.source(server.url).refresh()
    assert caught.value.code == "NU-2008"
    assert str((agent.now()).year) in str(caught.value)


def test_server_clock_that_agrees_makes_it_an_expiry(agent: Agent, server: WebServer) -> None:
    agent.offset = 10 * DAYS
    server.date = format_datetime(agent.now())
    with pytest.raises(UpdaterError) as caught:
        agent.source(server.url).refresh()
    assert caught.value.code == "NU-2007"
    assert "'timestamp'" in str(caught.value)


def test_clock_behind_does_not_thaw_a_frozen_list(
    agent: Agent, server: WebServer, feed: Feed
) -> None:
    """The floor, from what officers signed, takes the place of a clock that is years behind."""
    feed.roles["ncen"].unrecognized_fields["x-ncen-issued"] = feed.now.isoformat()
    feed.publish()
    agent.offset = -1800 * DAYS
    agent.source(server.url).refresh()
    floor = json.loads((agent.state / "clock.json").read_text())["floor"]
    assert floor == feed.now.isoformat()
    feed.roles["timestamp"].expires = feed.now - DAYS
    feed.publish("ncen", keep_expiry=True)
    with pytest.raises(UpdaterError) as caught:
        agent.source(server.url).refresh()
    assert caught.value.code == "NU-2007"


def test_a_first_list_is_judged_by_its_own_signed_time(
    agent: Agent, server: WebServer, feed: Feed
) -> None:
    feed.roles["ncen"].unrecognized_fields["x-ncen-issued"] = feed.now.isoformat()
    feed.roles["timestamp"].expires = feed.now - DAYS
    feed.publish("ncen", keep_expiry=True)
    agent.offset = -1800 * DAYS
    with pytest.raises(UpdaterError) as caught:
        agent.source(server.url).refresh()
    assert caught.value.code == "NU-2007"


@pytest.mark.parametrize("role", ["timestamp", "snapshot"])
def test_online_keys_cannot_move_the_floor(
    agent: Agent, server: WebServer, feed: Feed, role: str
) -> None:
    feed.roles[role].unrecognized_fields["x-ncen-issued"] = "2090-01-01T00:00:00Z"
    feed.publish()
    agent.source(server.url).refresh()
    assert not (agent.state / "clock.json").exists()


@pytest.mark.parametrize("issued", ["2090-01-01T00:00:00Z", "soon", 7, None])
def test_a_slip_in_the_signed_time_locks_nobody_out(
    agent: Agent, server: WebServer, feed: Feed, issued: object
) -> None:
    feed.roles["ncen"].unrecognized_fields["x-ncen-issued"] = issued
    feed.publish()
    agent.source(server.url).refresh()
    assert not (agent.state / "clock.json").exists()


def test_root_chain_is_walked_after_years(agent: Agent, server: WebServer, feed: Feed) -> None:
    """60 roots later, all but the last expired, with every key replaced on the way."""
    root = feed.roles["root"]
    for step in range(60):
        root.expires = feed.now - DAYS if step < 59 else feed.expiry("root")
        if step % 20 == 10:
            old, new = feed.signers["root"][step // 20], CryptoSigner.generate_ed25519()
            root.revoke_key(old.public_key.keyid, "root")
            root.add_key(new.public_key, "root")
            feed.signers["root"] = [*feed.signers["root"], new]
        feed.rotate_root()
    feed.publish()
    assert agent.source(server.url).refresh().offers
    stored = json.loads((agent.state / "metadata/root.json").read_text())
    assert stored["signed"]["version"] == 61


def test_root_chain_with_a_gap_is_an_error(agent: Agent, server: WebServer, feed: Feed) -> None:
    feed.roles["root"].expires = feed.now - DAYS
    feed.rotate_root()
    feed.roles["root"].expires = feed.expiry("root")
    for _ in range(3):
        feed.rotate_root()
    (feed.metadata / "3.root.json").unlink()
    with pytest.raises(UpdaterError) as caught:
        agent.source(server.url).refresh()
    assert caught.value.code == "NU-2007"
    assert "'root'" in str(caught.value)


def test_recovers_from_a_fast_forward(agent: Agent, server: WebServer, feed: Feed) -> None:
    """A thief of the online keys jumped ahead; new keys in a new root undo it."""
    feed.roles["timestamp"].version = feed.roles["snapshot"].version = 999_999
    feed.publish("ncen")
    agent.source(server.url).refresh()
    feed.roles["timestamp"].version = feed.roles["snapshot"].version = 3
    feed.publish("ncen")
    with pytest.raises(UpdaterError) as caught:
        agent.source(server.url).refresh()
    assert caught.value.code == "NU-2004"
    root = feed.roles["root"]
    for role in ("timestamp", "snapshot"):
        root.revoke_key(feed.signers[role][0].public_key.keyid, role)
        feed.signers[role] = [CryptoSigner.generate_ed25519()]
        root.add_key(feed.signers[role][0].public_key, role)
    feed.rotate_root()
    feed.publish("ncen")
    assert agent.source(server.url).refresh().offers


DAMAGES: dict[str, bytes | None] = {
    "missing": None,
    "empty": b"",
    "cut": b'{"signatures": [',
    "other": canonical_json({"signed": {}, "signatures": []}),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize(
    "name",
    [
        "metadata/root.json",
        "metadata/timestamp.json",
        "metadata/snapshot.json",
        "metadata/targets.json",
        "metadata/ncen.json",
        "clock.json",
    ],
)
def test_damaged_stored_files_heal_and_never_read_as_up_to_date(
    agent: Agent, server: WebServer, feed: Feed, name: str, damage: str
) -> None:
    feed.roles["ncen"].unrecognized_fields["x-ncen-issued"] = feed.now.isoformat()
    feed.rotate_root()
    feed.publish()
    agent.source(server.url).refresh()
    path, content = agent.state / name, DAMAGES[damage]
    good = path.read_bytes()
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    with pytest.raises(UpdaterError) as caught:
        agent.source("http://127.0.0.1:9/").refresh()
    assert caught.value.code == "NU-2102"
    assert agent.source(server.url).refresh().offers
    assert path.read_bytes() == good


def test_without_any_root_nothing_is_trusted(agent: Agent, server: WebServer) -> None:
    agent.trusted_root.write_bytes(b"{")
    with pytest.raises(UpdaterError) as caught:
        agent.source(server.url).refresh()
    assert caught.value.code == "NU-2002"
    assert server.requests == []
    assert not agent.state.joinpath("metadata/root.json").exists()


def test_newer_installed_root_helps_over_a_gap(agent: Agent, server: WebServer, feed: Feed) -> None:
    agent.source(server.url).refresh()
    for _ in range(3):
        feed.rotate_root()
    (feed.metadata / "2.root.json").unlink()
    feed.trusted_root(agent.trusted_root, 4)
    agent.source(server.url).refresh()
    stored = json.loads((agent.state / "metadata/root.json").read_text())
    assert stored["signed"]["version"] == 4


def test_a_bad_mirror_can_only_deny(agent: Agent, server: WebServer, feed: Feed) -> None:
    from tests.support.http_server import serving

    bad = feed.directory.parent / "bad"
    bad.joinpath("metadata").mkdir(parents=True)
    (bad / "metadata/timestamp.json").write_bytes(b'{"evil": true}')
    with serving(bad) as liar:
        assert agent.source(liar.url, server.url).refresh().offers
        with pytest.raises(UpdaterError) as caught:
            agent.source(liar.url, "http://127.0.0.1:9/").refresh()
    assert caught.value.code == "NU-2005", "that a list was refused weighs more than silence"
