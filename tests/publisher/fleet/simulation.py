"""A fleet over two years, and what is true of it whatever the board says.

Each country has the same number of sites, which begin within two months. Some countries never send;
networks are down for weeks, and what waited then arrives at once, in order; USB sticks get lost;
servers are restored from backups; changes fail by a site's own fault or are interrupted. 3.3.1 is
bad: of its leaders most roll back in the soak period. Receipts leave with the delays of the
product; while a release rolls out, the Secretariat imports every 15 minutes, and else once a day.
"""

from __future__ import annotations

import hashlib
import math
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from ncen_updater.agent.reports.receipt import compute_delay
from ncen_updater.formats.receipt import ReceiptLevel, SignedReceipt, encode_public_key
from ncen_updater.publisher.fleet.board import SILENT_AFTER, Board, Reporting, build_board
from ncen_updater.publisher.fleet.releases import Region, Regions
from ncen_updater.publisher.fleet.store import RETENTION, FleetStore, Mark
from tests.publisher.fleet.sites import Reporter, lay

FIRST = date(2027, 1, 1)
DAYS = 730
#: Days in which the sites begin: the Secretariat cannot telephone with thousands in one.
BEGIN_WITHIN = 60
#: Of a day and between two imports, in minutes.
DAY, IMPORT_EVERY = 1440, 15
COUNTRIES = [f"{a}{b}" for a in "ABCDE" for b in "KLMNOPQRST"]
#: Release, day of the leaders, of the second wave, of the last one; and whether it is bad.
ROLLOUTS = (
    ("3.3.0", 100, 107, 114, False),
    ("3.3.1", 400, 407, 414, True),
    ("3.3.2", 430, 437, 444, False),
)
RELEASES = {
    hashlib.sha256(one.encode()).hexdigest(): ("ncen", one)
    for one in ("3.2.4", *(name for name, *_ in ROLLOUTS))
}


@dataclass
class SimulatedSite:
    """A site, and the truth about its receipts.

    Attributes:
        leads: Whether its country leads a region.
        silent: Whether its country sends nothing.
        facts: Of its last change.
        waiting: Receipts on their way, with the minute in which each arrives.
        down_until: Minute in which its network is there again.
        last: The last receipt that arrived, and when.
        marks: What is unusual, with the day it arrived.
        words: Its last outcome by release, with the day it last arrived.
    """

    reporter: Reporter
    leads: bool
    silent: bool
    facts: dict[str, Any] = field(default_factory=dict)
    written: int = -999
    waiting: list[tuple[float, SignedReceipt]] = field(default_factory=list)
    down_until: int = 0
    last: SignedReceipt | None = None
    last_day: date = FIRST
    marks: list[tuple[date, Mark]] = field(default_factory=list)
    words: dict[str, tuple[date, str]] = field(default_factory=dict)
    confirmed: bool = False

    def note(self, signed: SignedReceipt, today: date) -> None:
        """Remember what arrived."""
        receipt, before = signed.receipt, self.last
        self.marks = [one for one in self.marks if one[1] is Mark.RESTORED]
        if before is not None and before.receipt.epoch != receipt.epoch:
            self.marks.append((today, Mark.RESTORED))
        elif receipt.previous != (before.digest if before else None):
            self.marks.append((today, Mark.GAP))
        self.last, self.last_day = signed, min(receipt.day, today)
        if receipt.change:
            word = f"failed-{receipt.fault}" if receipt.fault else str(receipt.outcome)
            self.words[receipt.change[receipt.outcome != "soak-rollback"]] = today, word


class Fleet:
    """All sites, and the Secretariat's record.

    Args:
        place: For record and spool.
        count: Sites; a multiple of 50.
        seed: Of chance.
    """

    def __init__(self, place: Path, count: int, seed: int = 5) -> None:
        self._chance = random.Random(seed)
        self._spool, self.record = place / "spool", place / "fleet.db"
        self._spool.mkdir(parents=True)
        silent = set(self._chance.sample(COUNTRIES[6:], 7))
        self._regions: Regions = {
            "ABCDEF"[n] * 3: Region(
                name=f"Region {n}",
                countries={one: one for one in COUNTRIES[n::6]},
                leader=COUNTRIES[n],
            )
            for n in range(6)
        }
        self.sites = []
        for n in range(count):
            country = COUNTRIES[n % len(COUNTRIES)]
            reporter = Reporter(f"site-{n}", country, level=ReceiptLevel.OUTCOME)
            leads = country in COUNTRIES[:6]
            self.sites.append(SimulatedSite(reporter, leads, country in silent))
        self.stored = 0
        #: Minute of the halt by release, and of the first reported failure, by country.
        self.halted: dict[str, float] = {}
        self.failed: dict[str, dict[str, float]] = {}
        self.seconds = {"import": 0.0, "board": 0.0}
        self.boards = 0

    def play(self) -> list[str]:
        """Play all days; return wrong claims of the board."""
        mistakes: list[str] = []
        with FleetStore.open(self.record) as store:
            for day in range(DAYS):
                arrived: dict[int, list[tuple[SimulatedSite, SignedReceipt]]] = {
                    (day + 1) * DAY: []
                }
                rolling = {one for one, opens, _, last, _ in ROLLOUTS if opens <= day < last}
                for number, site in enumerate(self.sites):
                    self._act(site, number, day)
                    while site.waiting and site.waiting[0][0] < (day + 1) * DAY:
                        minute, signed = site.waiting.pop(0)
                        imported = int(minute // IMPORT_EVERY + 1) * IMPORT_EVERY
                        arrived.setdefault(imported if rolling else (day + 1) * DAY, []).append(
                            (site, signed)
                        )
                for minute in sorted(arrived):
                    self._import(store, day, arrived[minute])
                    told = {signed.receipt.fault for _, signed in arrived[minute]}
                    if rolling - set(self.halted) and "release" in told:
                        for release in self._look(store, day).releases:
                            if release.is_halt_proposed:
                                self.halted.setdefault(release.version, minute)
                if day % 91 == 90 or day == DAYS - 1:
                    mistakes += self._compare(self._look(store, day), FIRST + timedelta(days=day))
        return mistakes

    def _act(self, site: SimulatedSite, number: int, day: int) -> None:
        chance, reporter = self._chance, site.reporter
        if day < number % BEGIN_WITHIN:
            return
        if chance.random() < 0.002:
            site.down_until = (day + chance.randrange(3, 60)) * DAY
        if chance.random() < 0.0002:  # restored from a backup, and adopted again
            reporter.epoch, reporter.number = f"{chance.randrange(2**32):08x}", 0
        for version, leaders, second, last, bad in ROLLOUTS:
            opens = leaders if site.leads else second if number % 4 == 0 else last
            if day == opens + number % 5 and self.halted.get(version, math.inf) > day * DAY:
                site.facts = self._change(reporter, version, bad=bad)
                site.written = -999
        if day - site.written < 30:
            return
        site.written = day
        if site.silent:
            return
        signed = reporter.write(FIRST + timedelta(days=day), **site.facts)
        is_urgent = signed.receipt.fault == "release"
        ended = day * DAY + chance.random() * DAY
        delay = compute_delay(signed.digest, is_urgent=is_urgent) / timedelta(minutes=1)
        arrives = max(ended + delay, site.down_until)
        # What waits goes with it; a USB stick gets lost.
        site.waiting = [(min(at, arrives), one) for at, one in site.waiting]
        if chance.random() > 0.01:
            site.waiting.append((arrives, signed))
            if is_urgent and site.confirmed and arrives > site.down_until:
                told = self.failed.setdefault(str(site.facts["change"][0]), {})
                told[reporter.country] = min(ended, told.get(reporter.country, ended))

    def _change(self, reporter: Reporter, version: str, *, bad: bool) -> dict[str, Any]:
        old, luck = reporter.running, self._chance.random()
        failed = {"outcome": "reverted", "change": [old, version]}
        if bad and luck < 0.8:
            back = {"outcome": "soak-rollback", "change": [version, old]}
            return failed | back | {"fault": "release", "code": "NU-6009"}
        if luck > 0.97:
            return failed | {"fault": "site", "code": "NU-5003"}
        if luck > 0.95:
            return failed | {"fault": "interrupted", "code": "NU-6010"}
        reporter.running = version
        return {"outcome": "upgraded", "soaked": True, "change": [old, version]}

    # ---- what the Secretariat does ---------------------------------------------------------------

    def _import(
        self, store: FleetStore, day: int, arrived: list[tuple[SimulatedSite, SignedReceipt]]
    ) -> None:
        for site, signed in arrived:
            lay(self._spool, signed)
            site.note(signed, FIRST + timedelta(days=day))
        began = time.process_time()
        today = FIRST + timedelta(days=day)
        taken = store.import_spool(self._spool, RELEASES, today)
        self.seconds["import"] += time.process_time() - began
        assert taken.refused == 0
        self.stored += taken.stored
        for site, _ in arrived:
            if not site.confirmed:
                site.confirmed = True  # by telephone, on the day of the first receipt
                key = encode_public_key(site.reporter.private)
                store.confirm(site.reporter.site, key, FIRST + timedelta(days=day))

    def _look(self, store: FleetStore, day: int) -> Board:
        began = time.process_time()
        board = build_board(store.list_sites(), self._regions, FIRST + timedelta(days=day))
        self.seconds["board"] += time.process_time() - began
        self.boards += 1
        return board

    def _compare(self, board: Board, today: date) -> list[str]:
        """Name each difference between the board and what is true."""
        told = {site.reporter.site: site for site in self.sites if site.last is not None}
        found, outcomes = [], {release.version: release.outcomes for release in board.releases}
        if {row.site for row in board.sites} != set(told):
            found.append(f"{today}: other sites")
        for row in board.sites:
            site = told[row.site]
            silent = today - site.last_day > SILENT_AFTER
            marks = {mark for day, mark in site.marks if day >= today - RETENTION}
            running = site.last.receipt.running if site.last else ""
            expected = running, Reporting.SILENT if silent else Reporting.CURRENT, marks
            seen = row.last.running, row.reporting, set(row.marks)
            if seen != expected:
                found.append(f"{today} {row.site}: {seen}, not {expected}")
        true: dict[str, Counter[str]] = {}
        for site in told.values():
            for version, (day, word) in site.words.items():
                if day >= today - RETENTION:
                    true.setdefault(version, Counter())[word] += 1
        if outcomes != true:
            found.append(f"{today}: {outcomes}, not {true}")
        return found
