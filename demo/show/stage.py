"""Stage of an act: the site, the feed's places, commands, and the checks of an act."""

from __future__ import annotations

import functools
import http.server
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from demo.embedded_postgres import EmbeddedPostgres
from demo.show.commands import Commands
from demo.show.narrator import Narrator
from demo.show.proof import (
    KnownRows,
    prove,
    read_rows,
    refused_seconds,
    wait_for_users,
)
from demo.show.report import Row
from demo.site import DemoSite
from ncen_updater.common.cli.lazy import EXIT_CODE_MEANINGS
from ncen_updater.common.cli.render import format_count, format_decimal
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import ExitCode


@dataclass(frozen=True)
class Places:
    """Where things are; commands are run in ``directory``, so that paths stay short."""

    directory: Path

    @property
    def feed(self) -> Path:
        """The published feed, as any web server would serve it."""
        return self.directory / "feed"

    @property
    def keys(self) -> Path:
        """The signers' key files."""
        return self.directory / "keys"

    @property
    def sources(self) -> Path:
        """Laid-out releases, as their developers hand them over."""
        return self.directory / "sources"

    @property
    def passphrase(self) -> Path:
        """The passphrase of all keys; a real signer has one of their own."""
        return self.directory / "passphrase"


@dataclass
class Stage:
    """What the acts work with.

    Attributes:
        narrator: Tells the audience.
        commands: Runs the programs.
        places: Where things are.
        site: The site.
        server: Its database server; None on SQLite.
        quick: Whether only a few acts are played.
        generated: Rows that were there in the beginning; set when the site is taken over.
        rows: The table so far.
    """

    narrator: Narrator
    commands: Commands
    places: Places
    site: DemoSite
    server: EmbeddedPostgres | None
    quick: bool
    generated: KnownRows = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)

    def judge(self, row: Row) -> None:
        """Take a row into the table and say what is wrong with it."""
        self.rows.append(row)
        for text in row.broken:
            self.narrator.bad("{text}", text=text)

    @contextmanager
    def trial(
        self, tried: LazyText, expected: LazyText, *, runs: str, undone: bool
    ) -> Iterator[Trial]:
        """Judge what the block does to the site.

        Args:
            tried: What is done, for the table.
            expected: What has to come of it, for the table.
            runs: The version that has to run afterwards.
            undone: Whether the site has to be as before, so that each single row is compared.
        """
        old = read_rows(self.site.databases) if undone else self.generated
        begin = time.time()
        trial = Trial()
        yield trial
        broken = list(trial.broken)
        if not wait_for_users(self.site):
            broken.append(LazyText(N_("Users cannot enter records.")))
        proof = prove(self.site, old, runs)
        broken += proof.broken
        stop = refused_seconds(self.site.traffic_log, begin)
        row = Row(tried, expected, trial.came, stop, proof.old_rows + proof.entered, tuple(broken))
        if not broken:
            self.narrator.good(
                N_(
                    "{version} runs: code, three databases and application match. {stop} All {old}"
                    " old rows and {entered} new records are there."
                ),
                version=runs,
                stop=_stop(stop),
                old=format_count(proof.old_rows),
                entered=format_count(proof.entered),
            )
        self.judge(row)


def _stop(seconds: float) -> LazyText:
    if not seconds:
        return LazyText(N_("No downtime."))
    values = {"seconds": format_decimal(seconds)}
    return LazyText(N_("Downtime: {seconds} seconds."), values)


@dataclass
class Trial:
    """What an act notes while it runs.

    Attributes:
        came: What came of it, for the table.
        broken: Promises that it saw broken itself.
    """

    came: LazyText = field(default_factory=lambda: LazyText("-"))
    broken: list[LazyText] = field(default_factory=list)

    def ended(self, status: int, *expected: ExitCode) -> None:
        """Compare an exit status with those that are right."""
        known = LazyText(EXIT_CODE_MEANINGS[ExitCode(status)]) if status in set(ExitCode) else "?"
        self.came = LazyText(N_("exit code {status}: {name}"), {"status": status, "name": known})
        if status not in expected:
            wanted = ", ".join(str(int(code)) for code in expected)
            values = {"status": status, "wanted": wanted}
            self.require(False, LazyText(N_("Exit code {status}, expected {wanted}"), values))

    def require(self, kept: bool, otherwise: LazyText) -> None:
        """Note a promise that is broken."""
        if not kept:
            self.broken.append(otherwise)


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def serve(directory: Path) -> Iterator[str]:
    """Serve a directory as a static web server would; yields its address."""
    directory.mkdir(parents=True, exist_ok=True)
    handler = functools.partial(_Quiet, directory=str(directory))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/"
        finally:
            server.shutdown()
            thread.join()
