"""The attack table: each attack is refused with its own code, and nothing of the site changes."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import ExitCode
from tests.feed import attacks
from tests.feed.conftest import Agent
from tests.support.http_server import PORTAL, WebServer
from tests.support.tuf_repository import Feed


@dataclass(frozen=True)
class Row:
    """An attack, what it is told as, and a word that the message must hold."""

    name: str
    attack: attacks.Attack
    code: str
    says: str = ""
    exit_code: ExitCode = ExitCode.TRUST


CUT = attacks.junk("timestamp.json", b'{"signed": {')
STALE, NETWORK = ExitCode.FEED_STALE, ExitCode.NETWORK
ROWS = (
    Row("timestamp by a foreign key", attacks.forged("timestamp"), "NU-2003", "timestamp"),
    Row("snapshot by a foreign key", attacks.forged("snapshot"), "NU-2003", "snapshot"),
    Row("targets by foreign keys", attacks.forged("targets"), "NU-2003", "targets"),
    Row("product by foreign keys", attacks.forged("ncen"), "NU-2003", "ncen"),
    Row("targets below threshold", attacks.below_threshold("targets"), "NU-2003", "targets"),
    Row("product below threshold", attacks.below_threshold("ncen"), "NU-2003", "ncen"),
    Row("root by new keys only", attacks.root_by_new_keys_only, "NU-2003", "root"),
    Row("freeze: root", attacks.expired("root"), "NU-2023", "'root'", STALE),
    Row("freeze: timestamp", attacks.expired("timestamp"), "NU-2007", "'timestamp'", STALE),
    Row("freeze: snapshot", attacks.expired("snapshot"), "NU-2007", "'snapshot'", STALE),
    Row("freeze: targets", attacks.expired("targets"), "NU-2023", "'targets'", STALE),
    Row("freeze: product", attacks.expired("ncen"), "NU-2023", "'ncen'", STALE),
    Row("rollback: timestamp", attacks.rollback_timestamp, "NU-2004", "timestamp"),
    Row("rollback: snapshot", attacks.rollback_snapshot, "NU-2004", "timestamp"),
    Row("rollback: product", attacks.rollback_role, "NU-2004", "snapshot"),
    Row("role dropped from the snapshot", attacks.dropped_role, "NU-2001", "missing"),
    Row("mix-and-match: product", attacks.mixed_role, "NU-2009", "ncen"),
    Row("mix-and-match: snapshot", attacks.mixed_snapshot, "NU-2009", "snapshot"),
    Row("mix-and-match: other bytes", attacks.pinned_digest, "NU-2006", "ncen"),
    Row("wrong root in the chain", attacks.wrong_root, "NU-2010", "version 1"),
    Row("newer root hidden", attacks.hidden_root, "NU-2021", "newest 2"),
    Row("newer root refused", attacks.hidden_root_403, "NU-2021", "newest 2"),
    Row("product signed for another role", attacks.other_role, "NU-2022", "'ncen-updater'"),
    Row("one stolen key of the product", attacks.one_stolen("ncen"), "NU-2003", "ncen"),
    Row("one stolen key of targets", attacks.one_stolen("targets"), "NU-2003", "targets"),
    Row("one stolen key of root", attacks.one_stolen_root_key, "NU-2003", "root"),
    Row("one key under two names", attacks.one_key_twice, "NU-2003", "ncen"),
    Row("online keys stolen", attacks.online_keys_stolen, "NU-2003", "ncen"),
    Row("another product in the list", attacks.other_product_in_the_list, "NU-2024", "other"),
    Row("product not delegated", attacks.no_delegation, "NU-2011", "ncen"),
    Row("timestamp is junk", attacks.junk("timestamp.json", b"{}"), "NU-2005", "timestamp"),
    Row("timestamp is cut", CUT, "NU-2005", "timestamp"),
    Row("timestamp is empty", attacks.junk("timestamp.json", b""), "NU-2005", "timestamp"),
    Row("root is junk", attacks.junk("2.root.json", b"[1]"), "NU-2005", "root"),
    Row(
        "endless timestamp", attacks.fault(match="timestamp", endless=True), "NU-2108", "timestamp"
    ),
    Row("endless root", attacks.fault(match="root", body=b"{", endless=True), "NU-2108", "root"),
    Row(
        "a snapshot as long as it likes",
        attacks.announced_length("snapshot"),
        "NU-2108",
        "snapshot",
    ),
    Row("a product as long as it likes", attacks.announced_length("ncen"), "NU-2108", "ncen"),
    Row("portal", attacks.fault(match="", body=PORTAL), "NU-2104", "", NETWORK),
    Row(
        "portal that says HTML",
        attacks.fault(match="", body=b"hello", content_type="text/html; charset=utf-8"),
        "NU-2104",
        "",
        NETWORK,
    ),
    Row("slow", attacks.fault(match="timestamp", drip=0.02), "NU-2105", "timestamp", NETWORK),
    Row("cut", attacks.fault(match="timestamp", cut_after=10), "NU-2107", "timestamp", NETWORK),
    Row("404", attacks.fault(match="timestamp", status=404), "NU-2106", "404", NETWORK),
    Row("403", attacks.fault(match="timestamp", status=403), "NU-2106", "403", NETWORK),
    Row("500", attacks.fault(match="root", status=500), "NU-2106", "500", NETWORK),
)


def test_every_attack_has_its_own_description_and_code() -> None:
    assert len({row.name for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize("known", [True, False], ids=["known-site", "new-site"])
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_attack_is_refused_with_its_code(
    agent: Agent, server: WebServer, feed: Feed, row: Row, known: bool
) -> None:
    if not known and "rollback" in row.name + row.says:
        pytest.skip("a new site has seen nothing that could be rolled back")
    if not known and row.name == "role dropped from the snapshot":
        pytest.skip("a new site has no earlier snapshot to compare with")
    if known:
        agent.source(server.url).refresh()
    view = agent.source(server.url).load_last_view()
    feed.add_release("3.4.0")
    row.attack(feed, server)
    with pytest.raises(UpdaterError) as caught:
        # Two bytes a connection pass in the slow row: it has to be slow by any measure.
        agent.source(server.url, minimum_bytes_per_s=1000).refresh()
    assert caught.value.code == row.code, caught.value
    assert row.says in str(caught.value)
    assert caught.value.exit_code is row.exit_code
    assert agent.source(server.url).load_last_view() == view
    assert not (agent.state / "downloads").exists()
