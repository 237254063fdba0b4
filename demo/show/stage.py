"""Environment of an act: the site, the directories, commands and checks."""

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
    """Directories; commands run in ``directory``, so that their paths are short."""

    directory: Path

    @property
    def feed(self) -> Path:
        """Return the directory of the published feed, which any web server could serve."""
        return self.directory / "feed"

    @property
    def keys(self) -> Path:
        """The signers' key files."""
        return self.directory / "keys"

    @property
    def sources(self) -> Path:
        """Return the directory of laid-out releases, as developers deliver them."""
        return self.directory / "sources"

    @property
    def passphrase(self) -> Path:
        """Return the file with the passphrase of all keys; a real signer has one of their own."""
        return self.directory / "passphrase"


@dataclass
class Stage:
    """Environment of the acts.

    Attributes:
        narrator: Writes the output.
        commands: Runs the programs.
        places: Directories.
        site: The site.
        server: Its database server; None on SQLite.
        quick: Whether only a few acts run.
        generated: Initial rows; set by the act that adopts the site.
        rows: Rows of the table so far.
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
        """Add a row to the table and report its broken promises."""
        self.rows.append(row)
        for text in row.broken:
            self.narrator.bad("{text}", text=text)

    @contextmanager
    def trial(
        self, tried: LazyText, expected: LazyText, *, runs: str, undone: bool
    ) -> Iterator[Trial]:
        """Check the effect of the block on the site.

        Args:
            tried: Test, for the table.
            expected: Expected result, for the table.
            runs: Version that must run afterwards.
            undone: Whether the site must be as before; then every row is compared.
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
            found = N_("No record lost: {old} generated rows and {entered} new records found.")
            if undone:
                found = N_("No record lost: {old} rows as before, {entered} new records found.")
            counts = {
                "old": format_count(proof.old_rows), "entered": format_count(proof.entered),
            }  # fmt: skip
            self.narrator.good(
                N_("{version} runs: code, three databases and application match. {stop} {records}"),
                version=runs,
                stop=_stop(stop),
                records=LazyText(found, counts),
            )
        self.judge(row)


def _stop(seconds: float) -> LazyText:
    if not seconds:
        return LazyText(N_("No downtime."))
    values = {"seconds": format_decimal(seconds)}
    return LazyText(N_("Users could not work for {seconds} s."), values)


@dataclass
class Trial:
    """Notes of a running act.

    Attributes:
        came: Actual result, for the table.
        broken: Promises that the act itself found broken.
    """

    came: LazyText = field(default_factory=lambda: LazyText("-"))
    broken: list[LazyText] = field(default_factory=list)

    def ended(self, status: int, *expected: ExitCode) -> None:
        """Compare an exit status with the expected ones."""
        known = LazyText(EXIT_CODE_MEANINGS[ExitCode(status)]) if status in set(ExitCode) else "?"
        self.came = LazyText(N_("exit code {status}: {name}"), {"status": status, "name": known})
        if status not in expected:
            wanted = ", ".join(str(int(code)) for code in expected)
            values = {"status": status, "wanted": wanted}
            self.require(False, LazyText(N_("Exit code {status}, expected {wanted}"), values))

    def require(self, kept: bool, otherwise: LazyText) -> None:
        """Record a broken promise unless it was kept."""
        if not kept:
            self.broken.append(otherwise)


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


@contextmanager
def serve(directory: Path) -> Iterator[str]:
    """Serve a directory as a static web server; yield its URL."""
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
