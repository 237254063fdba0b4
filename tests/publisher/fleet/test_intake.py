"""Tests of receipt intake: each file is stored once, or refused; kills lose nothing."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import date, timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ncen_updater.common.bounded_io import read_file
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import FLEET_SITE_UNKNOWN, FLEET_UNUSABLE, SPOOL_UNUSABLE
from ncen_updater.formats.receipt import compute_fingerprint, encode_public_key
from ncen_updater.publisher.fleet.store import (
    MOST_NAMED,
    MOST_REFUSED,
    REFUSED_DIRECTORY,
    FleetSite,
    FleetStore,
    IntakeResult,
    Mark,
    remove_refused,
)
from tests.publisher.fleet.sites import RELEASES, TODAY, Reporter, lay
from tests.support.errors import refused


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FleetStore]:
    with FleetStore.open(tmp_path / "fleet.sqlite") as found:
        yield found


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    made = tmp_path / "spool"
    made.mkdir()
    return made


def take(store: FleetStore, spool: Path, day: date = TODAY) -> IntakeResult:
    return store.import_spool(spool, RELEASES, day)


def only(store: FleetStore) -> FleetSite:
    (site,) = store.list_sites()
    return site


def test_receipts_are_stored_in_order_of_creation(store: FleetStore, spool: Path) -> None:
    kenya = Reporter("ke-1", "KE")
    lay(spool, *(kenya.write(TODAY + timedelta(days=n), running="3.3.0") for n in range(5)))
    found = take(store, spool, TODAY + timedelta(days=5))
    assert (found.stored, found.known, found.refused) == (5, 0, 0)
    site = only(store)
    assert [one.receipt.number for one in site.receipts] == [1, 2, 3, 4, 5]
    assert (site.marks, site.is_confirmed) == (frozenset(), False)
    assert [*spool.iterdir()] == []


def test_duplicate_receipt_is_stored_once(store: FleetStore, spool: Path) -> None:
    signed = Reporter("ke-1", "KE").write()
    for known in (0, 1, 1):
        lay(spool, signed)
        assert take(store, spool).known == known
    assert len(only(store).receipts) == 1


def test_replayed_and_contradictory_numbers_are_detected(store: FleetStore, spool: Path) -> None:
    kenya = Reporter("ke-1", "KE")
    first = kenya.write()
    lay(spool, first, kenya.write())
    assert take(store, spool).stored == 2
    # The server was copied: the same number again, with something else in it.
    copy = replace(kenya, number=1, previous=first.digest)
    lay(spool, copy.write(running="3.3.0"))
    assert take(store, spool).codes == {"NU-9806": 1}
    assert only(store).marks == {Mark.CONTRADICTED}
    # A number that never came, but is older than the last one.
    kenya.number = 8
    lay(spool, kenya.write())
    assert take(store, spool).stored == 1
    kenya.number = 4
    lay(spool, kenya.write())
    assert take(store, spool).codes == {"NU-9805": 1}


def test_gaps_restored_sites_and_wrong_clocks_are_marked(store: FleetStore, spool: Path) -> None:
    sites = [Reporter(name, "KE") for name in ("ke-gap", "ke-lost", "ke-clock")]
    gap, restored, clock = sites
    lay(spool, *(site.write() for site in sites))
    take(store, spool)
    gap.write()  # on the way, and never seen again
    restored.epoch, restored.number = "cd" * 4, 0
    lay(spool, gap.write(), restored.write(), clock.write(TODAY + timedelta(days=400)))
    assert take(store, spool).refused == 0
    assert {site.site: site.marks for site in store.list_sites()} == {
        "ke-gap": {Mark.GAP},
        "ke-lost": {Mark.RESTORED},
        "ke-clock": {Mark.CLOCK},
    }
    # The next receipt answers a gap and a clock, but not why a server was restored.
    lay(spool, *(site.write() for site in sites))
    take(store, spool)
    assert {site.site: site.marks for site in store.list_sites() if site.marks} == {
        "ke-lost": {Mark.RESTORED}
    }


def test_call_answers_marks_until_there_is_new_evidence(store: FleetStore, spool: Path) -> None:
    kenya = Reporter("ke-1", "KE")
    key = encode_public_key(kenya.private)
    lay(spool, kenya.write())
    take(store, spool)
    store.confirm("ke-1", key, TODAY)
    for number, mark in enumerate((Mark.CONTRADICTED, Mark.CONTRADICTED, Mark.RESTORED)):
        if mark is Mark.RESTORED:
            lay(spool, replace(kenya, epoch="cd" * 4, number=0).write())
        else:
            lay(spool, replace(kenya, number=0).write(TODAY - timedelta(days=1 + number)))
        take(store, spool)
        assert only(store).marks == {mark}
        store.confirm("ke-1", key, TODAY + timedelta(days=number))
        assert (only(store).marks, mark in only(store).answered) == (frozenset(), True)
    assert only(store).answered == {Mark.CONTRADICTED, Mark.RESTORED}


def test_another_key_never_counts_until_it_is_confirmed(store: FleetStore, spool: Path) -> None:
    kenya, forger = Reporter("ke-1", "KE"), Reporter("ke-1", "KE")
    keys = [encode_public_key(one.private) for one in (kenya, forger)]
    lay(spool, kenya.write(), forger.write())
    assert take(store, spool).stored == 2
    assert [site.is_confirmed for site in store.list_sites()] == [False, False]
    store.confirm("ke-1", keys[0], TODAY)
    assert (only(store).key, only(store).is_confirmed) == (keys[0], True)
    lay(spool, forger.write(), kenya.write())
    assert take(store, spool).stored == 2
    assert {site.key: site.is_confirmed for site in store.list_sites()} == {
        keys[0]: True,
        keys[1]: False,
    }
    # The site got a new server, and called: of the old key nothing is left.
    store.confirm("ke-1", keys[1], TODAY)
    assert [row.key for row in store.list_keys("ke-1")] == [keys[1]]
    assert [one.receipt.key for one in only(store).receipts] == [keys[1]]


def test_key_names_one_country(store: FleetStore, spool: Path) -> None:
    kenya = Reporter("ke-1", "KE")
    lay(spool, kenya.write())
    take(store, spool)
    for _ in range(2):
        lay(spool, replace(kenya, country="TZ").write())
        assert take(store, spool).codes == {"NU-9807": 1}
        store.confirm("ke-1", encode_public_key(kenya.private), TODAY)


def test_series_that_ended_never_continues(store: FleetStore, spool: Path) -> None:
    """Whoever withheld a receipt before the restore cannot make it the last word later."""
    kenya = Reporter("ke-1", "KE")
    lay(spool, kenya.write(TODAY - timedelta(days=9)))
    take(store, spool)
    withheld = kenya.write(TODAY - timedelta(days=8))
    same_day = kenya.write()
    lay(spool, replace(kenya, epoch="cd" * 4, number=0).write())
    assert take(store, spool).stored == 1
    for old in (withheld, same_day):
        lay(spool, old)
        assert take(store, spool).codes == {"NU-9805": 1}
    # Nor one of a series of which nothing is stored any more, once 13 months have passed.
    lay(spool, replace(kenya, epoch="01" * 4, number=50).write(TODAY - timedelta(days=1)))
    assert take(store, spool).codes == {"NU-9805": 1}
    assert only(store).last.epoch == "cd" * 4
    assert only(store).marks == {Mark.RESTORED}


def test_foreign_keys_do_not_change_the_order(store: FleetStore, spool: Path) -> None:
    kenya, later = Reporter("ke-1", "KE", epoch="ff" * 4), "01" * 4
    forger = Reporter("ke-1", "KE", epoch=later)
    lay(spool, kenya.write(TODAY - timedelta(days=1)))
    lay(spool, replace(kenya, epoch=later, number=0).write(), forger.write(date(1, 1, 1)))
    assert take(store, spool).stored == 3
    store.confirm("ke-1", encode_public_key(kenya.private), TODAY)
    assert [one.receipt.epoch for one in only(store).receipts] == ["ff" * 4, later]


@pytest.mark.parametrize(
    "facts",
    [
        {"running": "9.9.9"},
        {"product": "other"},
        {"change": ["3.2.4", "9.9.9"], "outcome": "reverted", "fault": "release"},
        {"change": ["9.9.9", "3.2.4"], "outcome": "rolled-back"},
    ],
)
def test_receipt_for_an_unsigned_release_is_refused(
    store: FleetStore, spool: Path, facts: dict[str, Any]
) -> None:
    lay(spool, Reporter("ke-1", "KE").write(**facts))
    assert take(store, spool).codes == {"NU-9808": 1}
    assert store.list_sites() == ()


def test_non_receipts_are_refused(store: FleetStore, spool: Path, tmp_path: Path) -> None:
    genuine = Reporter("ke-1", "KE").write().content
    outside = tmp_path / "outside"
    outside.write_bytes(genuine)
    (spool / "link").symlink_to(outside)
    (spool / "directory").mkdir()
    os.mkfifo(spool / "pipe")
    (spool / "huge").write_bytes(b"x" * 10_000_000)
    (spool / "cut").write_bytes(genuine[:-10])
    (spool / "nested").write_bytes(b"[" * 4000)
    found = take(store, spool)
    assert (found.stored, found.codes) == (0, {"NU-9801": 5})
    assert outside.read_bytes() == genuine
    # They are moved, symlinks as such, and not judged again. Directories are no receipts.
    assert {path.name for path in spool.iterdir()} == {"directory", REFUSED_DIRECTORY}
    moved = {path.name for path in (spool / REFUSED_DIRECTORY).iterdir()}
    assert moved == {f"NU-9801_{name}" for name in ("link", "pipe", "huge", "cut", "nested")}
    assert (spool / REFUSED_DIRECTORY / "NU-9801_link").is_symlink()
    assert take(store, spool).codes == {}


def test_receipt_that_cannot_be_read_now_stays_in_the_spool(
    store: FleetStore, spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lay(spool, Reporter("ke-1", "KE").write())

    def fail(path: Path, _: int) -> bytes:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), str(path))

    with monkeypatch.context() as busy, refused(SPOOL_UNUSABLE):
        busy.setattr("ncen_updater.publisher.fleet.store.read_file", fail)
        take(store, spool)
    assert take(store, spool).stored == 1


def test_file_that_another_import_took_is_no_error(
    store: FleetStore, spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lay(spool, Reporter("ke-1", "KE").write())

    def take_away(path: Path, limit: int) -> bytes:
        path.unlink()
        return read_file(path, limit)

    monkeypatch.setattr("ncen_updater.publisher.fleet.store.read_file", take_away)
    assert (take(store, spool).refused, [*spool.iterdir()]) == (0, [])


def test_rejected_files_are_limited_and_other_files_preserved(
    store: FleetStore, spool: Path
) -> None:
    refused = spool / REFUSED_DIRECTORY
    for again in (0, 1):
        for number in range(80):
            content = b"%d %d" % (again, number)
            (spool / hashlib.sha256(content).hexdigest()).write_bytes(content)
            (spool / f"letter {again} {number}").write_bytes(content)
        found = take(store, spool)
        assert found.codes == {"NU-9801": 160}
        assert [*spool.iterdir()] == [refused]
    names = [path.name.removeprefix("NU-9801_") for path in refused.iterdir()]
    letters = [name for name in names if name.startswith("letter")]
    assert len(letters) == 160
    assert 0 < len(names) - len(letters) <= MOST_REFUSED
    # A person looked and emptied it: the next import begins again.
    for path in refused.iterdir():
        path.unlink()
    assert take(store, spool).refused == 0
    assert [*spool.iterdir()] == []


def test_rejected_directory_symlink_is_not_followed(
    store: FleetStore, spool: Path, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (spool / REFUSED_DIRECTORY).symlink_to(tmp_path / "elsewhere")
    (spool / "no receipt").write_bytes(b"x")
    with pytest.raises(UpdaterError) as failed:
        take(store, spool)
    assert failed.value.message is SPOOL_UNUSABLE
    assert [*(tmp_path / "elsewhere").iterdir()] == []


def test_files_of_the_web_server_are_no_mails(store: FleetStore, spool: Path) -> None:
    """To read a mail that somebody nested on purpose takes long."""
    mail = _mail(Reporter("ke-1", "KE").write().content)
    (spool / hashlib.sha256(mail).hexdigest()).write_bytes(mail)
    assert take(store, spool).codes == {"NU-9801": 1}


def test_one_import_takes_a_limited_number_of_files(
    store: FleetStore, spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ncen_updater.publisher.fleet.store.MOST_FILES", 7)
    lay(spool, *(Reporter(f"ke-{n}", "KE").write() for n in range(10)))
    (spool / "directory").mkdir()
    assert [take(store, spool).stored for _ in range(3)] == [7, 3, 0]


def test_non_utf8_file_names_are_accepted(store: FleetStore, spool: Path) -> None:
    long, odd = b"x" * 255, b"\xff\xfe\n;"
    for name in (long, odd):
        (spool / os.fsdecode(name)).write_bytes(b"x")
    found = take(store, spool)
    assert {os.fsencode(name) for name, _ in found.named} == {long, odd}
    assert len([*(spool / REFUSED_DIRECTORY).iterdir()]) == 2


def test_named_rejections_precede_noise(store: FleetStore, spool: Path) -> None:
    for number in range(2 * MOST_NAMED):
        (spool / f"{number}").write_bytes(b"x")
    lay(spool, Reporter("ke-1", "KE").write(running="9.9.9"))
    found = take(store, spool)
    assert found.refused == 2 * MOST_NAMED + 1
    assert len(found.named) == MOST_NAMED
    assert str(found.named[0][1]).startswith("NU-9808: Receipt of ke-1 names a release")


def test_spool_is_processed_in_bounded_memory(store: FleetStore, spool: Path) -> None:
    kenya, peaks = Reporter("ke-1", "KE"), []
    for _ in range(2):
        lay(spool, *(kenya.write() for _ in range(1000)))
        files = sum(path.stat().st_size for path in spool.iterdir() if path.is_file())
        for number in range(1000):
            (spool / f"{number} {'x' * 200}").write_bytes(b"x")
        tracemalloc.start()
        try:
            assert take(store, spool).stored == 1000
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    # Python's table of file names, which pathlib interns, may double once, by 2 MB.
    assert min(peaks) < files / 2


def test_thousands_of_hostile_receipts_are_refused(store: FleetStore, spool: Path) -> None:
    """Cut, changed, replayed, of foreign keys: nothing of it counts, nothing ends the import."""
    chance, kenya = random.Random(11), Reporter("ke-1", "KE")
    genuine = [kenya.write() for _ in range(20)]
    lay(spool, *genuine)
    assert take(store, spool).stored == 20
    key = encode_public_key(kenya.private)
    store.confirm("ke-1", key, TODAY)
    forger = replace(kenya, private=Ed25519PrivateKey.generate())
    makers: list[Callable[[], bytes]] = [
        lambda: chance.choice(genuine).content[: chance.randrange(900)],
        lambda: _change(chance.choice(genuine).content, chance),
        lambda: forger.write().content,
        lambda: chance.randbytes(chance.randrange(3000)),
    ]
    for number in range(2000):
        (spool / f"{number:05}").write_bytes(chance.choice(makers)())
    found = take(store, spool)
    assert found.stored + found.known + found.refused == 2000
    assert set(found.codes) == {"NU-9801"}
    confirmed, forged = sorted(store.list_sites(), key=lambda site: not site.is_confirmed)
    assert (confirmed.key, len(confirmed.receipts)) == (key, 20)
    assert (forged.is_confirmed, len(forged.receipts)) == (False, found.stored)


def _change(content: bytes, chance: random.Random) -> bytes:
    spoilt = bytearray(content)
    spoilt[chance.randrange(len(spoilt))] ^= 1 << chance.randrange(8)
    return bytes(spoilt)


KILLED = """
import os, signal, sys
from pathlib import Path
from ncen_updater.publisher.fleet import store
from tests.publisher.fleet.sites import RELEASES, TODAY
record, spool, what, left = *sys.argv[1:4], int(sys.argv[4])
place = os if what in ("unlink", "rename") else store.FleetStore
step = getattr(place, what)
def counted(*of, **more):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(*of, **more)
setattr(place, what, counted)
with store.FleetStore.open(Path(record)) as opened:
    opened.import_spool(Path(spool), RELEASES, TODAY)
"""


@pytest.mark.parametrize(
    ("what", "after", "stored"),
    [("_take", 0, 0), ("_take", 9, 0), ("_sum_up_old", 0, 0), ("unlink", 0, 10), ("unlink", 5, 10),
     ("rename", 0, 10), ("rename", 2, 10)],
)  # fmt: skip
def test_killed_import_loses_and_duplicates_nothing(
    tmp_path: Path, spool: Path, what: str, after: int, stored: int
) -> None:
    record, kenya = tmp_path / "fleet.sqlite", Reporter("ke-1", "KE")
    lay(spool, *(kenya.write() for _ in range(10)))
    for number in range(3):
        (spool / f"no receipt {number}").write_bytes(b"x")
    words = [sys.executable, "-c", KILLED, str(record), str(spool), what, str(after)]
    assert subprocess.run(words, check=False).returncode == -signal.SIGKILL
    with FleetStore.open(record) as store:
        assert sum(len(site.receipts) for site in store.list_sites()) == stored
        again = take(store, spool)
        assert again.stored == 10 - stored
        assert (len(only(store).receipts), only(store).marks) == (10, frozenset())
    refused = spool / REFUSED_DIRECTORY
    assert [*spool.iterdir()] == [refused]
    assert {path.name for path in refused.iterdir()} == {
        f"NU-9801_no receipt {number}" for number in range(3)
    }


def test_kill_during_key_replacement_leaves_a_confirmed_key(store: FleetStore, spool: Path) -> None:
    """One transaction takes the old key's place."""
    old, new = Reporter("ke-1", "KE"), Reporter("ke-1", "KE")
    lay(spool, old.write(), new.write())
    take(store, spool)
    store.confirm("ke-1", encode_public_key(old.private), TODAY)
    lay(spool, new.write())
    take(store, spool)
    statements: list[str] = []
    store._connection.set_trace_callback(statements.append)
    store.confirm("ke-1", encode_public_key(new.private), TODAY)
    assert [statements[0], statements[-1]] == ["BEGIN IMMEDIATE", "COMMIT"]
    assert only(store).key == encode_public_key(new.private)


def test_key_dropped_during_the_telephone_call_is_not_confirmed(
    store: FleetStore, spool: Path
) -> None:
    old = Reporter("ke-1", "KE")
    lay(spool, old.write())
    take(store, spool)
    key = encode_public_key(old.private)
    store.confirm("ke-1", key, TODAY)
    with pytest.raises(UpdaterError) as refused:
        store.confirm("ke-1", encode_public_key(Ed25519PrivateKey.generate()), TODAY)
    assert refused.value.message is FLEET_SITE_UNKNOWN
    assert (only(store).key, only(store).is_confirmed) == (key, True)


def test_receipts_become_monthly_sums_after_13_months(store: FleetStore, spool: Path) -> None:
    sites = [Reporter(f"{code.lower()}-1", code) for code in ("KE", "TZ", "MU", "FR")]
    stranger, day = Reporter("de-1", "DE"), TODAY.replace(day=3)
    back = {"change": ["3.3.0", "3.2.4"], "outcome": "soak-rollback", "fault": "release"}
    for again in (0, 1):
        lay(spool, *(site.write(day + timedelta(days=again)) for site in (*sites, stranger)))
        lay(spool, sites[0].write(day + timedelta(days=again), **back))
        take(store, spool, day + timedelta(days=again))
    for site in sites:
        store.confirm(site.site, encode_public_key(site.private), TODAY)
    lay(spool, *(site.write(day + timedelta(days=500)) for site in (*sites, stranger)))
    assert take(store, spool, day + timedelta(days=500)).removed == 12
    # Nothing of an unconfirmed key is counted, and nothing twice.
    assert take(store, spool, day + timedelta(days=501)).removed == 0
    said = [tuple(row.values()) for row in store.list_sums()]
    assert said == [
        ("2026-11", "FR", "3.2.4", "none", 2),
        ("2026-11", "KE", "3.2.4", "none", 2),
        ("2026-11", "KE", "3.3.0", "failed-release", 2),
        ("2026-11", "MU", "3.2.4", "none", 2),
        ("2026-11", "TZ", "3.2.4", "none", 2),
    ]
    # A sum tells of countries, until the last site of one is forgotten. A stranger does not count.
    lay(spool, Reporter("fr-9", "FR").write(day + timedelta(days=501)))
    take(store, spool, day + timedelta(days=501))
    store.forget("fr-1")
    assert "FR" not in [row["country"] for row in store.list_sums()]


def test_last_receipt_is_kept_after_13_months(store: FleetStore, spool: Path) -> None:
    kenya = Reporter("ke-1", "KE")
    for months in range(16):
        day = TODAY + timedelta(days=30 * months)
        lay(spool, kenya.write(day, change=["3.2.4", "3.3.0"], outcome="upgraded"))
        take(store, spool, day)
        if not months:
            store.confirm("ke-1", encode_public_key(kenya.private), TODAY)
    site = only(store)
    assert [one.receipt.number for one in site.receipts] == [*range(3, 17)]
    assert site.marks == frozenset()
    # A site that was silent for years is still on the board, by its last receipt.
    take(store, spool, TODAY + timedelta(days=4000))
    assert [one.receipt.number for one in only(store).receipts] == [16]


def test_a_key_that_nobody_confirms_is_gone_after_13_months(store: FleetStore, spool: Path) -> None:
    lay(spool, Reporter("ke-1", "KE").write())
    take(store, spool)
    assert take(store, spool, TODAY + timedelta(days=397)).removed == 1
    assert store.list_sites() == ()


def test_a_flood_of_unconfirmed_keys_fills_no_record(
    store: FleetStore, spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one country and of all: what is confirmed stays, and so does what others sent last."""
    monkeypatch.setattr("ncen_updater.publisher.fleet.store.MOST_UNCONFIRMED", 20)
    kenya, mauritius = Reporter("ke-1", "KE"), Reporter("mu-1", "MU")
    lay(spool, kenya.write())
    take(store, spool)
    store.confirm("ke-1", encode_public_key(kenya.private), TODAY)
    lay(spool, mauritius.write(), *(kenya.write() for _ in range(29)))
    assert take(store, spool).dropped == 0
    for again in range(3):
        lay(spool, *(Reporter(f"fr-{again}-{n}", "FR").write() for n in range(40)))
        assert take(store, spool).dropped == (21, 40, 40)[again]
    sites = {site.site: len(site.receipts) for site in store.list_sites()}
    assert (sites["ke-1"], sites["mu-1"], len(sites)) == (30, 1, 21)
    # One key floods as well as many.
    tanzania = Reporter("tz-1", "TZ")
    lay(spool, *(tanzania.write() for _ in range(40)))
    assert take(store, spool).dropped == 40
    receipts = {site.site: [one.receipt.number for one in site.receipts] for site in
                store.list_sites()}  # fmt: skip
    assert sum(map(len, receipts.values())) == 30 + 20
    assert receipts["mu-1"] == [1]
    assert receipts["tz-1"][-1] == 40
    # The site calls, and its file is imported from a stick: it comes last, and is confirmed.
    lay(spool, mauritius.write())
    take(store, spool)
    store.confirm("mu-1", encode_public_key(mauritius.private), TODAY)
    lay(spool, *(Reporter(f"mu-{n}", "MU").write() for n in range(40)))
    take(store, spool)
    assert "mu-1" in {site.site for site in store.list_sites() if site.is_confirmed}
    # What was dropped is taken again, if it comes again.
    assert take(store, spool).dropped == 0


def test_site_data_is_deleted_on_request(store: FleetStore, spool: Path) -> None:
    kenya, tanzania = Reporter("ke-1", "KE"), Reporter("tz-1", "TZ")
    lay(spool, kenya.write(), tanzania.write())
    take(store, spool)
    assert store.forget("ke-1") == 1
    assert only(store).site == "tz-1"
    assert b"ke-1" not in (spool.parent / "fleet.sqlite").read_bytes()
    for ask in (store.forget, store.list_keys):
        with pytest.raises(UpdaterError) as refused:
            ask("ke-1")
        assert refused.value.message is FLEET_SITE_UNKNOWN


def test_rejected_receipts_of_a_site_are_deleted_too(store: FleetStore, spool: Path) -> None:
    assert remove_refused(spool, "ke-1") == 0
    (spool / "letter").write_bytes(b"ke-1")
    lay(spool, *(Reporter(name, name[:2].upper()).write(running="9.9.9") for name in
                 ("ke-1", "tz-1")))  # fmt: skip
    assert take(store, spool).refused == 3
    assert remove_refused(spool, "ke-1") == 1
    assert len([*(spool / REFUSED_DIRECTORY).iterdir()]) == 2


def _mail(*attachments: bytes, text: str = "Good morning") -> bytes:
    mail = EmailMessage()
    mail["Subject"] = "Receipt"
    mail.set_content(text)
    for content in attachments:
        mail.add_attachment(content, "application", "json", filename="receipt.json")
    return mail.as_bytes()


def test_attached_receipt_of_a_mail_is_imported(store: FleetStore, spool: Path) -> None:
    first, second = Reporter("ke-1", "KE"), Reporter("tz-1", "TZ")
    (spool / "1.eml").write_bytes(_mail(first.write().content))
    by_hand = EmailMessage()
    by_hand.add_attachment(second.write().content.decode() + "\n", filename="receipt.txt")
    (spool / "1733000000.M1P2.mail:2,S").write_bytes(by_hand.as_bytes())
    (spool / "none").write_bytes(_mail())
    (spool / "two").write_bytes(_mail(first.write().content, first.write().content))
    (spool / "other").write_bytes(_mail(b"{}"))
    (spool / "large").write_bytes(_mail(first.write().content, text="x" * 70_000))
    (spool / "odd").write_bytes(b'Content-Type: multipart/mixed; boundary="a"\n\n--a\n' * 500)
    found = take(store, spool)
    assert (found.stored, found.codes) == (2, {"NU-9801": 5})
    assert {site.site for site in store.list_sites()} == {"ke-1", "tz-1"}
    assert [*spool.iterdir()] == [spool / REFUSED_DIRECTORY]


@pytest.mark.parametrize("content", [b"x" * 5000, b"SQLite format 3\0" + b"y" * 5000])
def test_invalid_record_is_an_error_and_preserved(tmp_path: Path, content: bytes) -> None:
    record = tmp_path / "fleet.sqlite"
    record.write_bytes(content)
    with pytest.raises(UpdaterError) as refused, FleetStore.open(record) as store:
        store.list_sites()
    assert refused.value.message is FLEET_UNUSABLE
    assert record.read_bytes() == content


def test_record_of_a_newer_program_is_refused(tmp_path: Path) -> None:
    record = tmp_path / "fleet.sqlite"
    with closing(sqlite3.connect(record)) as connection:
        connection.execute("PRAGMA user_version = 9")
    with pytest.raises(UpdaterError) as refused, FleetStore.open(record):
        pass
    assert refused.value.message is FLEET_UNUSABLE


def test_fingerprint_depends_only_on_the_key() -> None:
    key = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    assert len(compute_fingerprint(encode_public_key(key))) == 64
