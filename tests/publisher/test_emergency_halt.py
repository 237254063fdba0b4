"""Tests of an emergency halt, from a signer's key to a site: real keys, a real feed, HTTP."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from packaging.version import Version
from securesystemslib.signer import Signer
from tuf.api.metadata import Metadata, Timestamp  # type: ignore[attr-defined]

from demo.release_flow import publish_release
from ncen_updater.common.messages import (
    EMERGENCY_HALT_ALREADY_USED,
    EMERGENCY_HALT_INVALID,
    KEY_NOT_ALLOWED,
    TARGET_HALTED,
    TOO_MANY_EMERGENCY_HALTS,
)
from ncen_updater.feed.emergency_halt_statements import verify_emergency_halts
from ncen_updater.feed.errors import UpgradePathError
from ncen_updater.feed.http_fetcher import HttpFetcher
from ncen_updater.feed.offers import FeedView
from ncen_updater.feed.trust_state import TrustStateStore
from ncen_updater.feed.tuf_source import TufReleaseSource
from ncen_updater.feed.upgrade_path import NoUpgradePath, UpgradePath, choose_path
from ncen_updater.formats.manifest import Channel
from ncen_updater.formats.rollout import EMERGENCY_HALTS_FIELD, EmergencyHaltStatement
from ncen_updater.publisher.cli.main import run
from ncen_updater.publisher.distribute.emergency_halts import (
    read_rollouts,
    sign_emergency_halt,
    sign_emergency_halt_end,
)
from ncen_updater.publisher.distribute.publishing import Publisher
from ncen_updater.publisher.feed.feed_directory import FeedDirectory
from ncen_updater.publisher.new.trial import FeedKeys, publish_draft
from ncen_updater.publisher.signing.draft import draft_initial_roles, draft_key_change
from ncen_updater.publisher.signing.keys import create_key, open_signer
from ncen_updater.publisher.signing.value_format import format_signed_time
from tests.publisher.feeds import ceremony_of
from tests.publisher.releases import PASSPHRASE, ring, write_release
from tests.support.errors import refused
from tests.support.http_server import WebServer, serving

START = datetime.now(UTC).replace(microsecond=0)


@dataclass
class Country:
    """The Secretariat with its feed, and one site that reads it over HTTP."""

    place: Path
    keys: FeedKeys
    halt_keys: dict[str, Signer]
    server: WebServer
    moment: datetime = START
    memory: str = "root"
    sources: list[TufReleaseSource] = field(default_factory=list)

    @property
    def feed(self) -> FeedDirectory:
        return FeedDirectory(self.place / "feed")

    @property
    def publisher(self) -> Publisher:
        return Publisher(self.feed, lambda: self.moment)

    def halt(
        self,
        who: str = "amina",
        version: str = "3.4.0",
        reason: str = "loses cases",
    ) -> None:
        def sign(state: Any, now: datetime) -> EmergencyHaltStatement:
            return sign_emergency_halt(state, self.halt_keys[who], "ncen", version, reason, now)

        self.publisher.publish_emergency_halt(sign, self.keys.online)

    def lift(self, who: str = "amina") -> None:
        self.publisher.publish_emergency_halt(
            lambda state, now: sign_emergency_halt_end(
                state, self.halt_keys[who], "ncen", "3.4.0", now
            ),
            self.keys.online,
        )

    def carry(self, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> None:
        """The holder of the online key signs what they like."""
        timestamp: Metadata[Timestamp] = self.feed.read_state().timestamp  # type: ignore[assignment]
        carried = list(timestamp.signed.unrecognized_fields.get(EMERGENCY_HALTS_FIELD, []))
        timestamp.signed.unrecognized_fields[EMERGENCY_HALTS_FIELD] = change(carried)
        timestamp.signed.version += 1
        timestamp.signatures.clear()
        timestamp.sign(self.keys.online["timestamp"][0])
        self.feed.get_metadata_path("timestamp", 0).write_bytes(timestamp.to_bytes())

    def pass_hours(self, hours: float) -> None:
        """Time passes at both, and the machine renews the online roles as its timer does."""
        self.moment += timedelta(hours=hours)
        self.publisher.refresh_online_roles(self.keys.online)

    def source(self, *, proves: bool) -> TufReleaseSource:
        memory = TrustStateStore(self.place / self.memory, lambda: self.moment)
        made = TufReleaseSource(
            "ncen",
            state=self.place / "state",
            trusted_root=self.place / "root.json",
            make_fetcher=lambda: HttpFetcher((self.server.url,)),
            now=lambda: self.moment,
            trust_state=memory if proves else None,
        )
        self.sources.append(made)
        return made

    def look(self) -> FeedView:
        """As a site does: a process reads the feed, another proves what it left."""
        self.source(proves=False).refresh()
        view = self.source(proves=True).load_last_view()
        assert view is not None
        return view

    def path(self, target: str | None = None) -> UpgradePath | NoUpgradePath:
        return choose_path(
            Version("3.3.0"), self.look().offers, site="sn", country="SN", channel=Channel.STABLE,
            agent=Version("0.1.0"), now=self.moment, target=Version(target) if target else None,
        )  # fmt: skip


@pytest.fixture
def country(tmp_path: Path) -> Iterator[Country]:
    keys = ring(tmp_path)
    halt_keys = {}
    for name in ("amina", "bo"):
        create_key(tmp_path / "keys", f"{name}-halt", PASSPHRASE)
        halt_keys[name] = open_signer(tmp_path / f"keys/{name}-halt.pem", lambda _: PASSPHRASE)
    ceremony = replace(
        ceremony_of(keys.signers, {name: held[0] for name, held in keys.online.items()}),
        emergency_halt_keys=tuple(signer.public_key for signer in halt_keys.values()),
    )
    feed = tmp_path / "feed"
    publish_draft(feed, draft_initial_roles(ceremony, START), keys, lambda: START)
    for version in ("3.3.0", "3.4.0"):
        release = write_release(tmp_path / version, version)
        publish_release(feed, [release], keys, lambda: START)
    (tmp_path / "root.json").write_bytes((feed / "metadata/1.root.json").read_bytes())
    with serving(feed) as server:
        made = Country(tmp_path, keys, halt_keys, server)
        yield made
        for source in made.sources:
            source.close()


def goes(path: UpgradePath | NoUpgradePath) -> bool:
    return isinstance(path, UpgradePath) and path.target.version == "3.4.0"


def test_one_signer_halts_a_release_for_three_days(country: Country) -> None:
    """It starts at the next check, shows its end, names one release, and expires."""
    assert goes(country.path())
    country.halt()
    found = country.path()
    assert isinstance(found, NoUpgradePath)
    (row,) = [row for row in found.rejected if row.offer.version == "3.4.0"]
    ends = f"{START + timedelta(hours=72):%Y-%m-%d %H:%M} UTC"
    assert row.text.render() == (f"halted by the Secretariat: loses cases [amina-halt, -> {ends}]")
    with refused(UpgradePathError) as caught:
        country.path("3.4.0")
    assert caught.value.message is TARGET_HALTED
    (halt,) = country.look().emergency_halts
    assert (halt.owner, halt.version, halt.ends) == (
        "amina-halt", "3.4.0", START + timedelta(hours=72),
    )  # fmt: skip
    for hours in (30, 40):
        country.pass_hours(hours)
        assert not goes(country.path())
    country.pass_hours(2)
    assert goes(country.path())
    assert country.look().emergency_halts == ()


def test_board_is_told_of_a_halt_while_it_lasts(country: Country) -> None:
    country.halt()
    state, ends = country.feed.read_state(), START + timedelta(hours=72)
    until = format_signed_time(f"{ends:%Y-%m-%dT%H:%M:%SZ}")
    key = ("ncen", "3.4.0")
    assert read_rollouts(state, START)[key] == ((), ("loses cases", until))
    assert read_rollouts(state, ends)[key] == ((), None)


def test_halt_expires_by_the_local_clock(country: Country) -> None:
    """A site whose line is down is not held for ever by what it read last."""
    country.halt()
    assert not goes(country.path())
    country.moment += timedelta(hours=72)
    view = country.source(proves=True).load_last_view()
    assert view is not None
    assert all(offer.halted is None for offer in view.offers)


def test_halt_is_lifted_by_its_signer(country: Country) -> None:
    country.halt()
    assert not goes(country.path())
    with refused(EMERGENCY_HALT_INVALID):
        country.lift("bo")
    country.pass_hours(1)
    country.lift()
    assert goes(country.path())
    # The older word is played again, by the holder of the online keys: it was lifted here.
    with refused(EMERGENCY_HALT_ALREADY_USED):
        country.halt()


def test_each_key_has_one_halt_per_release(country: Country) -> None:
    country.halt()
    assert not goes(country.path())
    country.pass_hours(73)
    assert goes(country.path())
    with refused(EMERGENCY_HALT_ALREADY_USED):
        country.halt()
    country.halt("bo")
    assert not goes(country.path())
    country.pass_hours(73)
    assert goes(country.path())


def test_repeated_halts_of_one_key_do_not_extend_it(country: Country) -> None:
    """A thief does not ask ours: with key and online keys they sign every day. Three days it is."""
    country.halt()
    held = 0
    for day in range(14):
        assert country.moment == START + timedelta(days=day)
        held += not goes(country.path())
        country.moment += timedelta(days=1)
        country.publisher.refresh_online_roles(country.keys.online)
        forged = another(country, country.moment)
        country.carry(lambda carried, forged=forged: [*carried[:1], forged])  # type: ignore[misc]
    assert held == 3


def another(country: Country, since: datetime, **changes: str) -> dict[str, Any]:
    """An emergency halt as the key of amina signs it, whatever was signed before."""
    from ncen_updater.publisher.distribute import emergency_halts

    made = emergency_halts._sign_statement(
        country.halt_keys["amina"], "ncen", "3.4.0", since, since + timedelta(hours=72), "again"
    )
    return {**made.model_dump(mode="json"), **changes}


FORGERIES: dict[str, Callable[[Country], list[Any]]] = {
    "another end": lambda c: [another(c, START, until="2026-12-31T00:00:00Z")],
    "another release": lambda c: [another(c, START, version="3.3.0")],
    "another product": lambda c: [another(c, START, product="ncen-updater")],
    "another reason": lambda c: [another(c, START, reason="none")],
    "a field more": lambda c: [another(c, START, more="x")],
    "another's name on it": lambda c: [another(c, START, keyid=c.halt_keys["bo"].public_key.keyid)],
    "an unknown key": lambda c: [another(c, START, keyid="0" * 64)],
    "a signer's key that may not halt": lambda c: [
        another(c, START, keyid=c.keys.signers[0].public_key.keyid)
    ],
    "no signature": lambda c: [another(c, START, sig="")],
    "a text": lambda _: ["halt"],
    "nothing": lambda _: [None, {}, [], 3],
    "no list": lambda _: "halts",  # type: ignore[dict-item,return-value]
    "deep": lambda _: [{"product": [[[[[]]]]]}],
}


@pytest.mark.parametrize("how", FORGERIES)
def test_forged_halts_are_ignored(country: Country, how: str) -> None:
    """The online keys can set no emergency halt, and block no metadata with a bad one."""
    country.carry(lambda _: FORGERIES[how](country))
    assert goes(country.path())
    assert country.look().emergency_halts == ()


def test_malformed_halt_does_not_hide_a_valid_one(country: Country) -> None:
    country.halt()
    country.carry(lambda carried: [{"product": "ncen"}, *carried])
    assert not goes(country.path())


def test_feed_reader_can_neither_set_nor_lift_a_halt(country: Country) -> None:
    """Its stored summary is not trusted: offers are read from the metadata."""
    country.halt()
    assert not goes(country.path())
    stored = country.place / "state/feed/ncen.json"
    view = json.loads(stored.read_bytes())
    assert all(offer["halted"] is None for offer in view["offers"])
    for offer in view["offers"]:
        offer["halted"] = None
    stored.write_text(json.dumps(view))
    again = country.source(proves=True).load_last_view()
    assert again is not None
    assert [offer.version for offer in again.offers if offer.halted] == ["3.4.0"]


def test_root_without_halt_keys_permits_no_halt(country: Country) -> None:
    """An earlier feed, or one whose signers removed the keys: no key may set one."""
    country.halt()
    assert not goes(country.path())
    ceremony = ceremony_of(
        country.keys.signers, {name: held[0] for name, held in country.keys.online.items()}
    )
    country.moment += timedelta(hours=1)
    draft = draft_key_change(country.feed.read_state(), ceremony, country.moment)
    publish_draft(country.place / "feed", draft, country.keys, lambda: country.moment)
    assert goes(country.path())
    with refused(KEY_NOT_ALLOWED):
        country.halt("bo")


def test_unauthorised_key_and_unknown_release_are_refused(country: Country) -> None:
    country.halt_keys["chen"] = country.keys.signers[2]
    with refused(KEY_NOT_ALLOWED):
        country.halt("chen")
    with refused(EMERGENCY_HALT_INVALID):
        country.halt(version="9.9.9")


def test_halts_of_one_key_do_not_displace_another(country: Country) -> None:
    """Seen: twelve emergency halts of one key on old releases, none of another on the bad one."""
    for version in ("3.3.1", "3.3.2", "3.3.3"):
        release = write_release(country.place / version, version)
        publish_release(country.place / "feed", [release], country.keys, lambda: START)
        country.halt("bo", version)
    country.halt("amina")
    assert not goes(country.path())
    state = country.feed.read_state()
    assert state.timestamp
    carried = verify_emergency_halts(state.root.signed, state.timestamp.signed)
    assert sorted((one.version, owner[:2]) for one, owner in carried) == [
        ("3.3.2", "bo"), ("3.3.3", "bo"), ("3.4.0", "am"),
    ]  # fmt: skip
    with refused(TOO_MANY_EMERGENCY_HALTS):  # an older one gets no place of a newer one
        country.halt("bo", "3.3.0")
    country.halt("bo")
    country.pass_hours(80)
    country.halt("bo", "3.3.0")  # in the place of one that is over


def test_overlong_reason_is_refused(country: Country) -> None:
    with refused(EMERGENCY_HALT_INVALID, match="too long"):
        country.halt(reason="é" * 300)


def test_older_program_ignores_halts(country: Country) -> None:
    """Plain tuf reads the feed as before."""
    from tuf.ngclient import Updater  # type: ignore[attr-defined]

    from tests.publisher.feeds import FeedFiles

    country.halt()
    site = country.place / "plain"
    (site / "metadata").mkdir(parents=True)
    (site / "metadata/root.json").write_bytes((country.place / "root.json").read_bytes())
    updater = Updater(
        metadata_dir=str(site / "metadata"),
        metadata_base_url="file:///metadata/",
        target_dir=str(site),
        target_base_url="file:///targets/",
        fetcher=FeedFiles(country.place / "feed"),
    )
    updater.refresh()
    assert updater.get_targetinfo("releases/ncen/3.4.0.json") is not None


def test_halt_is_set_shown_and_lifted_by_commands(
    country: Country, capsys: pytest.CaptureFixture[str]
) -> None:
    """'halt --emergency' prompts; 'status' and 'monitor' show it; '--lift' ends it."""
    place = country.place
    secret = place / "secret"
    secret.write_text(PASSPHRASE)
    secret.chmod(0o600)
    officer = place / "signer.toml"
    officer.write_text('emergency_halt_key = "keys/amina-halt.pem"\n')
    officer.chmod(0o600)
    base = [
        "halt", "3.4.0", "--emergency", "--feed", str(place / "feed"), "--signer", str(officer),
        "--snapshot-key", str(place / "keys/snapshot.pem"),
        "--timestamp-key", str(place / "keys/timestamp.pem"), "--passphrase-file", str(secret),
    ]  # fmt: skip
    assert run(base) == 2  # neither a reason nor --lift
    assert run([*base, "--reason", "loses cases"]) == 2  # no prompt is possible
    assert "NU-1102" in capsys.readouterr().err
    assert country.look().emergency_halts == ()
    assert run([*base, "--reason", "loses cases", "--yes", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["owner"], said["lifted"], said["reason"]) == ("amina-halt", False, "loses cases")
    assert run(["status", str(place / "feed"), "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["emergency_halts"]
    assert row["until"] == said["until"]
    monitor = ["monitor", country.server.url, "--root", str(place / "root.json")]
    run([*monitor, "--json"])
    assert json.loads(capsys.readouterr().out)["emergency_halts"] == [row]
    run(monitor)
    told = f"Emergency halt of ncen 3.4.0 by amina-halt until {format_signed_time(said['until'])}"
    assert told in capsys.readouterr().out
    assert len(country.look().emergency_halts) == 1
    read, write = os.pipe()
    os.write(write, f"{PASSPHRASE}\n".encode() * 3)
    os.close(write)
    # Seen: the keys of snapshot and timestamp found the pipe empty.
    base[-1] = f"/dev/fd/{read}"
    assert run([*base, "--lift", "--yes"]) == 0
    os.close(read)
    assert "ended." in capsys.readouterr().out
    country.moment = datetime.now(UTC) + timedelta(minutes=1)
    assert country.look().emergency_halts == ()
