"""Adopt the installation as a setup step; the undo is possible until the first later change."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.version import Version

from ncen_updater.agent.adapters.databases.migrations.ledger import (
    AGENT_PREFIX,
    AGENT_SCHEMA,
    PARKED_SCHEMA,
)
from ncen_updater.agent.adapters.databases.postgresql.connection import (
    quote_identifier,
    quote_literal,
)
from ncen_updater.agent.adapters.databases.sqlite.copies import open_database
from ncen_updater.agent.adapters.databases.sqlite.engine import ADOPTED_SET
from ncen_updater.agent.config.agent_config import AgentConfig
from ncen_updater.agent.config.engines import PostgresSettings, SqliteSettings
from ncen_updater.agent.engine.adopt import (
    EVENTS_AFTER_ADOPTION,
    adopt_site,
    inspect_adoption,
)
from ncen_updater.agent.model.event_names import INBOX_DIRECTORY, JOURNAL_FILE
from ncen_updater.agent.setup.machine import Machine, find_server
from ncen_updater.agent.setup.steps import (
    RECORD_DIRECTORY,
    Before,
    SiteStep,
    find_missing,
    list_files,
    remove_added_files,
    remove_directories,
    remove_partial_files,
)
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.slots.link import RECORDS_DIRECTORY, switch_current
from ncen_updater.common import atomic_files as durable
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import (
    SETUP_DATABASE_REFUSED,
    SETUP_FILE_CHANGED,
    SETUP_IN_USE,
)
from ncen_updater.common.progress import SilentProgress

NOT_OURS = frozenset({RECORD_DIRECTORY, INBOX_DIRECTORY})


@dataclass(frozen=True)
class AdoptStep(SiteStep, kind="adopt"):
    """Adopt the running installation as a release.

    Attributes:
        confirmed: Whether the operator confirmed the version that the application does not report.
    """

    confirmed: bool = False

    @property
    def title(self) -> LazyText:
        """See :class:`SetupStep`."""
        return LazyText(N_("adopt {version}"), {"version": self.version})

    def preview(self) -> list[str]:
        """See :class:`SetupStep`."""
        return [f"ncen-updater adopt {self.version}"]

    def capture(self, machine: Machine) -> Before:
        """See :class:`SetupStep`."""
        config = self.load_config()
        paths = config.paths
        slots = self.build_site().slots
        records = paths.resolve(paths.slots) / RECORDS_DIRECTORY
        current, current_link = slots.read_current(), paths.resolve(paths.current)
        return {
            "state": list_files(paths.resolve(paths.state), NOT_OURS),
            "current": None if current is None else str(current),
            "slots": [str(version) for version in slots.list_versions()],
            "slot": slots.get_slot_directory(Version(self.version)).exists(),
            "missing": find_missing(records, current_link.parent),
            "records": list_files(records, frozenset()),
            "sets": _list_sets(config),
            "databases": list(_find_agent_parts(config)),
            "plain": is_plain(config),
        }

    def do(self, machine: Machine, before: Before) -> None:
        """See :class:`SetupStep`."""
        site = self.build_site()
        journal = site.state_directory / JOURNAL_FILE
        if not journal.exists():  # adoption creates the journal last
            version = Version(self.version)
            adopt_site(site, version, SilentProgress(), confirmed=self.confirmed)

    def check_undo(self, machine: Machine, before: Before) -> None:
        """See :class:`SetupStep`."""
        require_unused(self.build_site().state_directory)

    def undo(self, machine: Machine, before: Before) -> None:
        """See :class:`SetupStep`."""
        self.check_undo(machine, before)
        config = self.load_config()
        paths = config.paths
        slots = self.build_site().slots
        current = paths.resolve(paths.current)
        remove_partial_files(current)
        if before["current"] is None:
            durable.remove_file(current)
        elif str(slots.read_current()) != before["current"]:
            switch_current(paths.resolve(paths.slots), current, Version(before["current"]))
        if self.version not in before["slots"] and not before["slot"]:
            slots.remove_slot(Version(self.version))
            slots.remove_leftovers()
        records = paths.resolve(paths.slots) / RECORDS_DIRECTORY
        remove_added_files(records, before["records"], frozenset())
        if str(paths.resolve(paths.slots)) in before["missing"]:
            remove_added_files(paths.resolve(paths.slots), (), frozenset())
        remove_directories(before["missing"])
        _drop_agent_parts(config, before)
        remove_added_files(paths.resolve(paths.state), before["state"], NOT_OURS)


@dataclass(frozen=True)
class DownloadStep(SiteStep, kind="download"):
    """Download and check the release while the application runs, before the adoption stops it."""

    @property
    def title(self) -> LazyText:
        """See :class:`SetupStep`."""
        return LazyText(N_("download {version}"), {"version": self.version})

    def capture(self, machine: Machine) -> Before:
        """See :class:`SetupStep`."""
        return {"state": list_files(self.build_site().state_directory, NOT_OURS)}

    def do(self, machine: Machine, before: Before) -> None:
        """See :class:`SetupStep`."""
        inspect_adoption(self.build_site(), Version(self.version), SilentProgress())

    def undo(self, machine: Machine, before: Before) -> None:
        """See :class:`SetupStep`."""
        remove_added_files(self.build_site().state_directory, before["state"], NOT_OURS)


def require_unused(state: Path) -> None:
    """Refuse the undo if the journal holds a change or an event after the adoption.

    Raises:
        SETUP_IN_USE: If it holds one.
    """
    journal = state / JOURNAL_FILE
    if not journal.exists():
        return
    with Journal.open(journal, read_only=True) as opened:
        kinds = {event.kind for event in opened.list_events()}
        if kinds & EVENTS_AFTER_ADOPTION or opened.list_changes(1):
            raise UpdaterError(SETUP_IN_USE, path=journal)


def _find_agent_parts(config: AgentConfig) -> Iterator[str]:
    """Yield the agent's objects that are already in the databases; the undo keeps them."""
    settings = config.databases.engine_settings
    if isinstance(settings, PostgresSettings):
        for name in config.databases.names.values():
            rows = _ask(settings, name, "SELECT nspname FROM pg_namespace")
            yield from (
                f"{name}/{schema}" for (schema,) in rows
                if schema in (AGENT_SCHEMA, PARKED_SCHEMA)
            )  # fmt: skip
        found = _ask(
            settings, "postgres",
            f"SELECT 1 FROM pg_database WHERE datname = {quote_literal(settings.control_database)}",  # noqa: S608
        )  # fmt: skip
        yield from [settings.control_database] * bool(found)
    elif isinstance(settings, SqliteSettings):
        for path in sorted((settings.directory / "live").glob("*.sqlite")):
            with open_database(path, "ro") as session:
                if _list_own_tables(session):
                    yield path.name


def _list_sets(config: AgentConfig) -> list[str]:
    directory = config.databases.engine_settings.local_directory
    return [] if directory is None else list_files(directory / "sets", frozenset())


def _drop_agent_parts(config: AgentConfig, before: Before) -> None:
    settings, recorded = config.databases.engine_settings, before["databases"]
    if isinstance(settings, PostgresSettings):
        now = [part for part in _find_agent_parts(config) if part not in recorded]
        for part in now:
            database, _, schema = part.partition("/")
            if schema:
                _ask(settings, database, f"DROP SCHEMA {quote_identifier(schema)} CASCADE")
            else:
                _ask(settings, "postgres", f"DROP DATABASE {quote_identifier(part)} WITH (FORCE)")
    elif isinstance(settings, SqliteSettings):
        live, sets = settings.directory / "live", settings.directory / "sets"
        if before["plain"]:
            _make_plain(live, sets / ADOPTED_SET)
            if (sets / ADOPTED_SET).exists():  # the application created an empty 'live'
                raise UpdaterError(SETUP_FILE_CHANGED, path=live)
        for path in sorted(live.glob("*.sqlite")):
            if path.name not in recorded:
                with open_database(path, "rw") as session:
                    session.execute("PRAGMA busy_timeout = 30000")
                    session.execute("BEGIN IMMEDIATE")
                    for name in _list_own_tables(session):
                        session.execute(f"DROP TABLE {quote_identifier(name)}")
                    session.execute("COMMIT")
        if before["plain"]:
            remove_added_files(sets, before["sets"], frozenset())
            remove_directories([str(sets)])


def _make_plain(live: Path, base: Path) -> None:
    """Restore ``live`` as a directory, also after an interrupted adoption."""
    remove_partial_files(live)
    remove_partial_files(base)
    if live.is_symlink() and base.is_dir() and not base.is_symlink():
        with suppress(OSError):  # file system without RENAME_EXCHANGE
            durable.exchange_entries(live, base)
            return
        durable.remove_file(live)
    if base.is_dir() and not live.exists():
        durable.rename_entry(base, live)


def _list_own_tables(session: sqlite3.Connection) -> list[str]:
    rows = session.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    return [name for (name,) in rows if name.startswith(AGENT_PREFIX)]


def is_plain(config: AgentConfig) -> bool:
    """Return whether SQLite's ``live`` is still a directory; the adoption makes it a link."""
    directory = config.databases.engine_settings.local_directory
    return directory is not None and not (directory / "live").is_symlink()


def _ask(settings: PostgresSettings, database: str, statement: str) -> list[Any]:
    server = find_server(settings.host, settings.port)
    if server is None:
        raise UpdaterError(
            SETUP_DATABASE_REFUSED, host=settings.host, port=settings.port,
            detail=LazyText(N_("PostgreSQL is not running")),
        )  # fmt: skip
    return list(server.query([statement], database)[0])
