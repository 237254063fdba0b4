"""Tests of publication that waits for receipts: signed, shown, and enforced."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ncen_updater.common.cli.program import get_invoking_user
from ncen_updater.common.cli.render import encode_as_words
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import PUBLICATION_WAITS, UNSOUND_DRAFT
from ncen_updater.formats.receipt import Outcome, compute_fingerprint, encode_public_key
from ncen_updater.formats.rollout import PUBLISH_AFTER_FIELD, PublishCondition
from ncen_updater.publisher.feed.feed_directory import FeedDirectory
from ncen_updater.publisher.feed.role_policy import read_publish_condition
from ncen_updater.publisher.fleet.releases import judge_countries
from ncen_updater.publisher.fleet.store import FleetStore
from tests.publisher.fleet.sites import RELEASES, TODAY, Reporter, lay
from tests.publisher.test_cli import SignerCli, signer
from tests.publisher.test_rollout_cli import at_work

__all__ = ["at_work", "signer"]

REGIONS = """
[ESA]
name = "East and Southern Africa"
countries = { KE = "Kenya", TZ = "Tanzania" }
leader = "KE"
[EUR]
name = "Europe"
countries = { FR = "France", DE = "Germany" }
leader = "FR"
"""
WAVE = "2026-12-08T08:00:00Z=100"
GOOD = {"change": ["3.2.4", "3.3.0"], "outcome": "upgraded", "soaked": True}
CONDITION = PublishCondition(product="ncen", version="3.3.0", count=1, countries=("KE", "FR"))


def import_all(
    record: Path, *sites: tuple[Reporter, dict[str, Any]], confirmed: bool = True
) -> None:
    spool = record.with_suffix(".spool")
    spool.mkdir(exist_ok=True)
    lay(spool, *(site.write(running="3.3.0", **facts) for site, facts in sites))
    with FleetStore.open(record) as store:
        assert store.import_spool(spool, RELEASES, TODAY).refused == 0
        for site, _ in sites if confirmed else ():
            store.confirm(site.site, encode_public_key(site.private), TODAY)


def test_signed_waves_wait_for_leaders_and_waivers_are_recorded(at_work: SignerCli) -> None:
    work = at_work.work
    (work / "regions.toml").write_text(REGIONS)
    record, event = work / "fleet.db", work / "gated"
    shown = at_work.json(
        "wave", "3.3.0", WAVE, "--after", "2:@leaders", "--regions", work / "regions.toml",
        "--feed", work / "feed", "--event", event,
    )  # fmt: skip
    words = [sentence for sentence in shown["sentences"] if "FR, KE" in sentence]
    assert len(words) == 1
    # What signers sign names countries: it stays true when the regions change.
    drafted = json.loads((event / "draft/ncen.json").read_text())["signed"]
    assert drafted[PUBLISH_AFTER_FIELD] == {
        "product": "ncen", "version": "3.3.0", "count": 2, "countries": ["FR", "KE"],
    }  # fmt: skip

    publish = ("publish", work / "feed", "--event", event, "--record", record, *at_work.online)
    import_all(record, (Reporter("ke-1", "KE"), GOOD), (Reporter("de-1", "DE"), GOOD))
    with pytest.raises(AssertionError):
        at_work.sign_and_publish(event, "--record", record)
    code, out, _ = at_work.run(*publish, "--json")
    error = json.loads(out)["error"]
    assert (code, error["code"]) == (3, "NU-9814")
    assert error["title"].endswith("3.3.0: 1 of 2")
    assert error["state"] == "Nothing was published. Not counted: FR: nothing reported"

    # Nothing is recorded of a publication that did not take place.
    wrong = work / "wrong"
    wrong.write_text("not the passphrase")
    wrong.chmod(0o600)
    waive = ("--waive", "the leader of EUR is closed until March")
    failing = [wrong if one == at_work.online[-1] else one for one in publish]
    code, _, _ = at_work.run(*failing, *waive)
    assert code != 0
    assert at_work.json("status", work / "feed", "--signing-history")["waivers"] == []

    timestamp = work / "feed/metadata/timestamp.json"
    before = timestamp.read_bytes()
    at_work.json(*publish, *waive)
    after = timestamp.read_bytes()
    timestamp.write_bytes(before)  # as a kill before the last write leaves the feed
    assert FeedDirectory(work / "feed").list_waivers() == ()
    timestamp.write_bytes(after)
    waiver = {"product": "ncen", "version": "3.3.0", "count": 2, "reached": 1, "reason": waive[1]}
    today = at_work.json("status", work / "feed", "--signing-history")["waivers"][0].pop("day")

    def list_waived() -> list[tuple[str, dict[str, Any]]]:
        waived = FeedDirectory(work / "feed").list_waivers()
        return [(day.isoformat(), one.model_dump()) for day, one in waived]

    assert list_waived() == [(today, waiver)]
    for unfit in ("", "  ", "x" * 1001):
        code, out, _ = at_work.run(*publish, "--waive", unfit, "--json")
        assert (code, json.loads(out)["error"]["code"]) == (2, "NU-1101")
    # Signers read it with the signing history, on any machine that has the feed.
    _, out, _ = at_work.run("status", work / "feed", "--signing-history", "--lang", "fr")
    assert f"publiée le {today[8:]}/{today[5:7]}/{today[:4]} avant" in out
    _, out, _ = at_work.run("status", work / "feed", "--signing-history")
    assert "had reported (1; needed: 2). Reason: the leader of EUR is closed until March" in out
    board = ("fleet", "board", work / "board", "--record", record, "--feed", work / "feed")
    assert at_work.run(*board)[0] == 0
    assert waive[1] in (work / "board/releases.html").read_text()

    # The condition was of that publication alone.
    at_work.json(
        "halt", "3.3.0", "--reason", "prints blank permits", "--feed", work / "feed",
        "--event", work / "halt",
    )  # fmt: skip
    at_work.sign_and_publish(work / "halt")
    state = FeedDirectory(work / "feed").read_state()
    assert read_publish_condition(state.delegated["ncen"].signed) is None
    assert at_work.run(*board)[0] == 0
    halted = "No site starts this upgrade: prints blank permits"
    assert halted in (work / "board/releases.html").read_text()
    assert list_waived() == [(today, waiver)]


@pytest.mark.parametrize(
    ("command", "option"),
    [
        (("halt", "3.3.0"), "--reason"),
        (("withdraw", "3.3.0", "--advice", "Roll back"), "--reason"),
        (("withdraw", "3.3.0", "--reason", "loses cases"), "--advice"),
    ],
)
def test_text_shown_to_sites_is_neither_blank_nor_cut(
    at_work: SignerCli, command: tuple[str, ...], option: str
) -> None:
    given = ("--feed", at_work.work / "feed", "--event", at_work.work / "no")
    for unfit in ("", "  ", "x" * 1001):
        code, _, shown = at_work.run(*command, option, unfit, *given)
        assert (code, f"{option}: must have 1 to 1000 characters" in shown) == (2, True), shown


def test_unit_imports_and_writes_the_board(at_work: SignerCli, tmp_path: Path) -> None:
    packaging, state = Path(__file__).parents[3] / "packaging", tmp_path / "state"
    unit = (packaging / "publisher/ncen-publisher-fleet.service").read_text().replace("\\\n", "")
    commands = [line.split()[1:] for line in unit.splitlines() if line.startswith("ExecStart=")]
    state.mkdir()
    (tmp_path / "spool").mkdir()
    places = {
        "/var/lib/ncen-publisher": str(state),
        "/var/lib/ncen-receipts/spool": str(tmp_path / "spool"),
        "/srv/ncen-feed": str(at_work.work / "feed"),
        "/etc/ncen-publisher/regions.toml": str(packaging / "examples/regions.toml"),
    }  # fmt: skip
    for old, new in places.items():
        commands = [[word.replace(old, new) for word in command] for command in commands]
    assert [at_work.run(*command)[0] for command in commands] == [0, 0]
    assert "Kenya" in (state / "board/index.html").read_text()


def test_one_of_two_keys_is_confirmed_by_the_words_that_the_site_read_out(
    at_work: SignerCli,
) -> None:
    record, sites = at_work.work / "fleet.db", [Reporter("ke-1", "KE"), Reporter("ke-1", "KE")]
    import_all(record, *((site, GOOD) for site in sites), confirmed=False)
    fingerprints = [compute_fingerprint(encode_public_key(site.private)) for site in sites]
    confirm = ("fleet", "confirm", "ke-1", "--record", record, "--yes")
    code, _, shown = at_work.run(*confirm)
    assert code == 2
    assert all(encode_as_words(one) in shown for one in fingerprints)
    for typed in (encode_as_words(fingerprints[1]).upper(), fingerprints[1][:16]):
        assert at_work.json(*confirm, "--key", typed)["fingerprint"] == fingerprints[1]
    with FleetStore.open(record) as store:
        assert [site.confirmed_by for site in store.list_sites()] == [get_invoking_user()]
    assert "Fingerprint of ke-1 (KE): " in at_work.run(*confirm)[2]
    # The site got a new server: its old key goes, but not without a word.
    import_all(record, (sites[0], GOOD), confirmed=False)
    shown = at_work.run(*confirm, "--key", fingerprints[0][:16])[2]
    old = encode_as_words(fingerprints[1])
    assert f"This replaces the confirmed key {old} and removes its receipts." in shown


def test_only_an_import_creates_the_record(at_work: SignerCli) -> None:
    work, record = at_work.work, at_work.work / "fleet-typo.db"
    at_work.json(
        "wave", "3.3.0", WAVE, "--after", "1:KE", "--feed", work / "feed", "--event", work / "e",
    )  # fmt: skip
    publish = ("publish", work / "feed", "--event", work / "e", *at_work.online)
    for words in (
        ("fleet", "board", work / "board"),
        ("fleet", "confirm", "ke-1", "--yes"),
        ("fleet", "forget", "ke-1", "--yes"),
        publish,
    ):
        _, out, _ = at_work.run(*words, "--record", record, "--json")
        assert json.loads(out)["error"]["code"] == "NU-9811", words
    assert not record.exists()


def test_regions_without_their_file_are_refused(at_work: SignerCli) -> None:
    given = ("--feed", at_work.work / "feed", "--event", at_work.work / "no")
    _, _, shown = at_work.run("wave", "3.3.0", WAVE, "--after", "4:@leaders", *given)
    assert "@leaders requires --regions" in shown
    # Without this the wave opened to all countries.
    _, _, shown = at_work.run("wave", "3.3.0", f"{WAVE}:@leaders", *given)
    assert "@leaders requires --regions" in shown


def test_sufficient_receipts_permit_publication(at_work: SignerCli) -> None:
    work = at_work.work
    at_work.json(
        "wave", "3.3.0", WAVE, "--after", "1:KE,FR", "--feed", work / "feed",
        "--event", work / "gated",
    )  # fmt: skip
    import_all(work / "fleet.db", (Reporter("fr-1", "FR"), GOOD))
    at_work.sign_and_publish(work / "gated", "--record", work / "fleet.db")
    assert FeedDirectory(work / "feed").list_waivers() == ()


@pytest.mark.parametrize("after", ["4", "x:KE", "0:KE", "3:KE,FR", "1:@leaders", "1:XX", "1:"])
def test_impossible_condition_is_refused(at_work: SignerCli, after: str) -> None:
    work = at_work.work
    code, _, _ = at_work.run(
        "wave", "3.3.0", WAVE, "--after", after, "--feed", work / "feed", "--event", work / "no",
    )  # fmt: skip
    assert (code, (work / "no").exists()) == (2, False)


@pytest.mark.parametrize("value", [{"count": 1}, "x", {**CONDITION.model_dump(), "product": "b"}])
def test_draft_with_an_unreadable_condition_is_refused(at_work: SignerCli, value: Any) -> None:
    from ncen_updater.publisher.signing.draft import draft_waves
    from ncen_updater.publisher.signing.metadata_rules import refuse_invalid_drafts
    from tests.publisher.releases import clock

    state = FeedDirectory(at_work.work / "feed").read_state()
    roles = draft_waves(state, "ncen", "3.3.0", (), clock()).roles
    roles["ncen"].signed.unrecognized_fields[PUBLISH_AFTER_FIELD] = value
    with pytest.raises(UpdaterError) as refused:
        refuse_invalid_drafts(state.root.signed, state.targets.signed, roles)
    assert refused.value.message is UNSOUND_DRAFT


@pytest.mark.parametrize(
    ("facts", "state"),
    [
        (GOOD, "upgraded"),
        ({**GOOD, "soaked": False}, "upgraded-early"),  # ended early by an operator
        ({**GOOD, "soaked": None}, "upgraded-early"),
        ({**GOOD, "change": ["3.1.0", "3.2.4"]}, "none"),  # of another release
        (
            {**GOOD, "outcome": Outcome.SOAK_FAILED, "fault": "release", "soaked": False},
            "failed-release",
        ),
        ({**GOOD, "outcome": Outcome.ROLLED_BACK, "change": ["3.3.0", "3.2.4"]}, "rolled-back"),
        ({}, "none"),
        ({**GOOD, "key": "not confirmed"}, "unconfirmed"),
    ],
)
def test_latest_receipt_of_a_country_counts(
    tmp_path: Path, facts: dict[str, Any], state: str
) -> None:
    record = tmp_path / "fleet.db"
    confirmed = facts.pop("key", None) is None
    import_all(record, (Reporter("ke-1", "KE"), facts), confirmed=confirmed)
    with FleetStore.open(record) as store:
        states = judge_countries(store.list_sites(), CONDITION)
    assert states == {"KE": state, "FR": "none"}


def test_country_with_a_bad_or_contradictory_site_does_not_count(tmp_path: Path) -> None:
    good, bad, twice = Reporter("ke-1", "KE"), Reporter("ke-2", "KE"), Reporter("fr-1", "FR")
    failed = {**GOOD, "outcome": "soak-rollback", "fault": "release", "change": ["3.3.0", "3.2.4"]}
    record = tmp_path / "fleet.db"
    import_all(record, (good, GOOD), (bad, failed), (twice, {}), (Reporter("fr-2", "FR"), GOOD))
    with FleetStore.open(record) as store:
        states = {"KE": "failed-release", "FR": "upgraded"}
        assert judge_countries(store.list_sites(), CONDITION) == states
        twice.number = 0
        spool = record.with_suffix(".spool")
        lay(spool, twice.write(TODAY - timedelta(days=1)))
        store.import_spool(spool, RELEASES, TODAY)
        contradicted = {**states, "FR": "contradicted"}
        assert judge_countries(store.list_sites(), CONDITION) == contradicted
        # Someone called, and the site still has its key.
        store.confirm("fr-1", encode_public_key(twice.private), TODAY)
        assert judge_countries(store.list_sites(), CONDITION) == states
    assert PUBLICATION_WAITS.code == "NU-9814"
