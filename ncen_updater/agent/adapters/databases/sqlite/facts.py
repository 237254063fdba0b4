"""What would stop a change on SQLite: looks only, each finding with its remedy and figures."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from ncen_updater.agent.adapters.databases.base import ChangeRef
from ncen_updater.agent.adapters.databases.sqlite.copying import open_database
from ncen_updater.agent.adapters.databases.sqlite.errors import (
    DatabaseSetMissingError,
    NotADatabaseSetError,
    NotRegularFileError,
)
from ncen_updater.agent.adapters.databases.sqlite.layout import DatabaseSets
from ncen_updater.agent.adapters.databases.sqlite.plain import check_before_open
from ncen_updater.agent.adapters.databases.sqlite.processes import (
    can_see_other_users,
    find_holders,
    is_locked,
)
from ncen_updater.common.database_words import sanitize_error
from ncen_updater.common.disk_space import get_free_bytes
from ncen_updater.common.findings import Finding, Severity
from ncen_updater.common.i18n import N_, LazyText

# A copy may grow while it is migrated: so much more than its size must be free.
GROWTH_FACTOR = 1.2


def _make_finding(
    code: str, severity: Severity, what: str, remedy: str, figures: dict[str, object]
) -> Finding:
    return Finding(code, severity, LazyText(what, figures), LazyText(remedy, figures), figures)


def find_blockers(
    layout: DatabaseSets, change: ChangeRef, other_bytes: int, *, final: bool
) -> Iterator[Finding]:
    """Yield what stands in a change's way; see ``DatabaseEngine.find_blockers``."""
    try:
        live = layout.find_live_set()
    except NotADatabaseSetError:
        yield _make_finding(
            "NU-4240",
            Severity.CRITICAL,
            N_("Directory {path} cannot be switched: not yet adopted"),
            N_("Stop the application, then run: ncen-updater adopt"),
            {"path": str(layout.live)},
        )
        return
    except DatabaseSetMissingError as error:
        yield Finding("NU-4241", Severity.CRITICAL, error.title_text, error.remedy_text)
        return
    except NotRegularFileError as error:
        yield Finding("NU-4252", Severity.CRITICAL, error.title_text, error.remedy_text)
        return
    sizes = 0
    for name in layout.names:
        path = layout.file_path(live, name)
        if not os.path.lexists(path):
            yield _make_finding(
                "NU-4242",
                Severity.CRITICAL,
                N_("Database file {path} not found"),
                N_("Correct its name in agent.toml, or restore the file."),
                {"path": str(path)},
            )
            continue
        try:
            check_before_open(path, finishing=final)
        except NotRegularFileError as error:
            yield Finding("NU-4252", Severity.CRITICAL, error.title_text, error.remedy_text)
            continue
        sizes += sum(item.lstat().st_size for item in layout.list_files(live, name))
        yield from _check_integrity(path)
        yield from _check_journal(path, final=final)
        if final and is_locked(path):
            yield _make_in_use_finding(str(path), 1, "-")
    if final:
        files = [path for name in layout.names for path in layout.list_files(live, name)]
        found = find_holders(files)
        if found:
            who = ", ".join(sorted({f"{item.name} ({item.pid})" for item in found}))
            yield _make_in_use_finding(str(live), len({item.pid for item in found}), who)
    if not can_see_other_users():
        yield _make_finding(
            "NU-4250",
            Severity.WARNING,
            N_("Cannot see files in {path} opened by other users"),
            N_("To check them, run as root: fuser -v {path}/*"),
            {"path": str(live)},
        )
    yield from find_quarantined(layout)
    free = get_free_bytes(layout.directory)
    needed = int(sizes * GROWTH_FACTOR) + other_bytes
    if free < needed and not change.no_copy:
        yield _make_finding(
            "NU-4243",
            Severity.CRITICAL,
            N_("Not enough disk space in {path}: {free_bytes} free, {needed_bytes} required"),
            N_("Free at least {missing_bytes} there."),
            {
                "path": str(layout.directory),
                "needed_bytes": needed,
                "free_bytes": free,
                "missing_bytes": needed - free,
            },
        )


def find_quarantined(layout: DatabaseSets) -> Iterator[Finding]:
    """Yield each set that was kept since somebody wrote to it."""
    for quarantined in layout.list_quarantined():
        for place, counts in quarantined.counts.items():
            rows = ", ".join(f"{table} {count}" for table, count in (counts or {}).items())
            yield _make_finding(
                "NU-4251",
                Severity.WARNING,
                N_("Databases with unmerged records retained in {path} ({rows})"),
                N_(
                    "Review them and enter missing records again, then run: ncen-updater"
                    " prune --kept {change}"
                ),
                {"path": place, "rows": rows or "-", "change": quarantined.change},
            )


def _make_in_use_finding(path: str, count: int, who: str) -> Finding:
    return _make_finding(
        "NU-4244",
        Severity.CRITICAL,
        N_("Processes using {path}: {count} ({who})"),
        N_("Stop these programs before the upgrade."),
        {"path": path, "count": count, "who": who},
    )


def _check_integrity(path: Path) -> Iterator[Finding]:
    try:
        with open_database(path, "ro") as database:
            database.execute("PRAGMA busy_timeout = 5000")
            found = database.execute("PRAGMA quick_check(5)").fetchall()
        problem = "; ".join(str(row[0]) for row in found if row[0] != "ok")
    except sqlite3.Error as error:
        problem = sanitize_error(error)
    if problem:
        yield _make_finding(
            "NU-4245",
            Severity.CRITICAL,
            N_("Database file {path} is damaged or unreadable: {problem}"),
            N_("Restore it from a backup before the upgrade."),
            {"path": str(path), "problem": problem},
        )


def _check_journal(path: Path, *, final: bool) -> Iterator[Finding]:
    """After the application has stopped, a journal is that of a crash; the copy will finish it."""
    if not final:
        return
    for end in ("-wal", "-journal"):
        beside = path.with_name(path.name + end)
        if os.path.lexists(beside) and beside.lstat().st_size:
            yield _make_finding(
                "NU-4246",
                Severity.WARNING,
                N_("Unfinished transactions of the application in {path}"),
                N_("No action required: the copy includes them."),
                {"path": str(beside), "bytes": beside.lstat().st_size},
            )
            if beside.lstat().st_uid != path.lstat().st_uid:
                yield _make_finding(
                    "NU-4247",
                    Severity.CRITICAL,
                    N_("{path} and its database have different owners"),
                    N_("Find out which program wrote it, then change its owner: chown"),
                    {"path": str(beside)},
                )
