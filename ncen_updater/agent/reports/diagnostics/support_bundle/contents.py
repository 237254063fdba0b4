"""Collects the parts of a support bundle: the allow-list of its contents."""

from __future__ import annotations

import json
import os
import platform
import re
import sqlite3
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import Requirement

from ncen_updater.agent.config.agent_config import AgentConfig
from ncen_updater.agent.config.essential_settings import EssentialSettings, load_essential_settings
from ncen_updater.agent.config.loader import load_config
from ncen_updater.agent.config.raw_config import COMMAND_SETTINGS, FREE_FORM_TABLES, read_raw_config
from ncen_updater.agent.engine.change_outcome import read_outcome
from ncen_updater.agent.engine.rehearsal.rehearsal_store import RehearsalStore
from ncen_updater.agent.engine.rehearsal.report import RehearsalReport
from ncen_updater.agent.model.errors import JournalPermissionError
from ncen_updater.agent.model.event_names import JOURNAL_FILE
from ncen_updater.agent.reports.diagnostics.doctor import diagnose
from ncen_updater.agent.reports.diagnostics.support_bundle.leaks import (
    BundlePart,
    collect_part,
    render_json,
    split_words,
)
from ncen_updater.agent.reports.status import PARTS_WITHOUT_DATABASES, get_part_or_none, read_status
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.findings import Finding
from ncen_updater.common.i18n import LazyText
from ncen_updater.common.progress import ProgressListener

PART_NAMES = (
    "site.json", "changes.json", "events.json", "rehearsals.json", "findings.json",
    "configuration.json", "versions.json", "disks.json", "units.txt", "log.txt",
)  # fmt: skip
MAX_EVENTS, MAX_CHANGES, MAX_REHEARSALS, MAX_LOG_LINES = 2000, 50, 20, 1000
#: Fields of events: identifiers and figures of this program, no free text of users.
EVENT_FIELDS = (
    "step", "code", "error_code", "action", "mode", "from_version", "to_version", "version",
    "origin", "low_s", "high_s", "actual_s", "held", "exit_code", "count", "job", "rehearsal",
    "not_before", "superseded_by",
)  # fmt: skip
UNIT_PATTERNS = ("ncen-updater*",)
#: Reason of a part that the user asked to omit.
OMITTED = "omitted"
COMMAND_TIMEOUT_S = 20.0
CommandRunner = Callable[[Sequence[str]], str]


def run_command(command: Sequence[str]) -> str:
    """Return the output of a system command."""
    return subprocess.run(
        command,
        check=True,
        capture_output=True,
        text=True,
        errors="backslashreplace",
        timeout=COMMAND_TIMEOUT_S,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "LC_ALL": "C.UTF-8"},
    ).stdout


class BundleCollector:
    """Collects the data of one site.

    Args:
        config_path: The configuration file, which may be invalid.
        progress: Receives the progress.
        now: The current time.
        run: Runs a system command.

    Attributes:
        config: The configuration; None if it is invalid.
    """

    def __init__(
        self,
        config_path: Path,
        progress: ProgressListener,
        now: datetime,
        run: CommandRunner = run_command,
    ) -> None:
        self._path, self._progress, self._now, self._run = config_path, progress, now, run
        self.config: AgentConfig | None = None
        self._settings: EssentialSettings | None = None
        self._problem: UpdaterError | None = None
        try:
            self.config, self._settings = (
                load_config(config_path),
                load_essential_settings(config_path),
            )
        except UpdaterError as error:
            self._problem = error
        self._findings: tuple[Finding, ...] | None = None

    def require_access(self) -> None:
        """Refuse a bundle that lacks nearly every part, since this user may not read the site.

        Raises:
            ConfigError: If the configuration may not be read.
            JournalPermissionError: If the journal may not be read.
        """
        if self._settings is None:
            if self._problem is not None and isinstance(self._problem.__cause__, PermissionError):
                raise self._problem
            return
        try:
            Journal.open(self._settings.state / JOURNAL_FILE, read_only=True).close()
        except JournalPermissionError:
            raise
        except UpdaterError:  # reported by the parts that need the journal
            pass

    def collect_parts(
        self, leave_out: Sequence[str] = (), own: Set[str] = frozenset()
    ) -> tuple[BundlePart, ...]:
        """Collect all parts except those to omit.

        Args:
            leave_out: Names of parts to omit.
            own: Words that the agent itself uses.
        """
        collectors: Mapping[str, Callable[[], str]] = {
            "site.json": self._collect_site,
            "changes.json": self._collect_changes,
            "events.json": self._collect_events,
            "rehearsals.json": self._collect_rehearsals,
            "findings.json": lambda: self._collect_finding_codes(own),
            "configuration.json": lambda: render_json(
                mask_settings(read_raw_config(self._path).data, own)
            ),
            "versions.json": self._collect_versions,
            "disks.json": self._collect_disks,
            "units.txt": lambda: self._run(
                ["systemctl", "show", "--no-pager",
                 "--property=Id,LoadState,ActiveState,SubState,Result,NRestarts,ExecMainStatus,"
                 "ActiveEnterTimestamp,InactiveEnterTimestamp", *UNIT_PATTERNS]
            ),
            "log.txt": self._collect_log,
        }  # fmt: skip
        return tuple(
            BundlePart(name, None, OMITTED)
            if name in leave_out
            else collect_part(name, collectors[name])
            for name in PART_NAMES
        )

    def _require_config(self) -> AgentConfig:
        if self.config is None:
            assert self._problem is not None  # noqa: S101 - one of the two is set
            raise self._problem
        return self.config

    # ---- site ------------------------------------------------------------------------------------

    def _collect_site(self) -> str:
        config = self._require_config()
        assert self._settings is not None  # noqa: S101 - read with the configuration
        found = read_status(self._settings, self._now, PARTS_WITHOUT_DATABASES, config=config)
        journal, view, agent = (
            get_part_or_none(found.journal),
            get_part_or_none(found.feed_view),
            get_part_or_none(found.agent),
        )
        error, next_upgrade = found.journal, found.next_upgrade
        availability = get_part_or_none(found.availability)
        return render_json(
            {
                "site": config.site.id,
                "country": config.site.country,
                "product": config.site.product,
                "made_at": self._now,
                "current": get_part_or_none(found.current),
                "availability": availability and availability.state.value,
                "journal_code": error.code if isinstance(error, UpdaterError) else None,
                "journal_event": journal and journal.last_event,
                "open_change": journal and journal.open_change and journal.open_change.id,
                "on_hold": journal and bool(journal.holds),
                "bad_releases": journal and {row.version: row.code for row in journal.bad_releases},
                "next": next_upgrade
                and {
                    "target": next_upgrade.target,
                    "slot_built": next_upgrade.slot_built,
                    "rehearsal_status": next_upgrade.rehearsal_status.value,
                    "retry_at": next_upgrade.retry_at,
                    "missing_approvals": found.count_missing_approvals(
                        config.service.required_approvals
                    ),
                },
                "metadata": view
                and {
                    "version": view.version,
                    "checked_at": view.checked_at,
                    "expires_at": view.expires_at,
                    "versions": view.versions,
                    "withdrawn": view.withdrawn,
                },
                "metadata_expires_at": {
                    role: moment
                    for role, moment in (get_part_or_none(found.expiries) or {}).items()
                    if not isinstance(moment, Exception)
                },
                "agent": agent and agent.to_json(),
            }
        )

    def _open_journal(self) -> Journal:
        config = self._require_config()
        return Journal.open(config.paths.resolve(config.paths.state) / JOURNAL_FILE, read_only=True)

    def _collect_changes(self) -> str:
        with self._open_journal() as journal:
            return render_json(
                [
                    {
                        "id": outcome.change.id,
                        "kind": outcome.change.kind.value,
                        "mode": outcome.change.mode.value,
                        "state": outcome.change.state.value,
                        "from": outcome.change.from_version,
                        "to": outcome.change.to_version,
                        "created_at": outcome.change.created_at,
                        "ended_at": outcome.change.ended_at,
                        "error_code": outcome.change.error_code,
                        "attempts": outcome.change.failed_recoveries,
                        "downtime_s": outcome.downtime_s,
                        "step_s": dict(outcome.step_s),
                        "steps": {
                            name.value: record.state.value
                            for name, record in outcome.change.steps.items()
                        },
                    }
                    for outcome in (
                        read_outcome(journal, c.id) for c in journal.list_changes(MAX_CHANGES)
                    )
                ]
            )

    def _collect_events(self) -> str:
        with self._open_journal() as journal:
            first = max(0, journal.read_last_event_number() - MAX_EVENTS)
            return render_json(
                [
                    {
                        "number": event.number,
                        "at": event.at,
                        "change": event.change,
                        "kind": event.kind,
                        **{
                            name: event[name] for name in EVENT_FIELDS if _is_plain(event.get(name))
                        },
                    }
                    for event in journal.list_events(first)
                ]
            )

    def _collect_rehearsals(self) -> str:
        with self._open_journal() as journal:
            return render_json(
                [
                    {
                        "id": record.id,
                        "from": record.from_version,
                        "to": record.to_version,
                        "state": record.state.value,
                        "started_at": record.started_at,
                        "ended_at": record.ended_at,
                        "error_code": record.error_code,
                        "hops": list(_build_hops(record.report)),
                    }
                    for record in RehearsalStore(journal).list_newest(MAX_REHEARSALS)
                ]
            )

    # ---- findings --------------------------------------------------------------------------------

    def _diagnose(self) -> tuple[Finding, ...]:
        if self._findings is None:
            self._findings = diagnose(self._path, self._progress)
        return self._findings

    def _collect_finding_codes(self, own: Set[str]) -> str:
        found = self._diagnose()
        rows = [(f.code, f.severity.value, str(mask_values(f.title, own))) for f in found]
        return render_json([dict(zip(("code", "severity", "title"), r, strict=True)) for r in rows])

    # ---- machine ---------------------------------------------------------------------------------

    def _collect_log(self) -> str:
        journal = self._run(
            ["journalctl", "--no-pager", "--output=json", "--quiet", f"--lines={MAX_LOG_LINES}",
             f"--output-fields={','.join(['MESSAGE', *LOG_FIELDS])}",
             *(f"--unit={unit}" for unit in UNIT_PATTERNS)]
        )  # fmt: skip
        return "\n".join(iter_log_lines(journal)) + "\n"

    def _collect_versions(self) -> str:
        found: dict[str, object] = {
            "ncen-updater": version("ncen-updater"),
            "python": platform.python_version(),
            "system": platform.freedesktop_os_release().get("PRETTY_NAME"),
            "kernel": platform.release(),
            "machine": platform.machine(),
            "sqlite": sqlite3.sqlite_version,
        }
        packages: dict[str, str | None] = {}
        for line in requires("ncen-updater") or ():
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                packages[requirement.name] = _find_package_version(requirement.name)
        return render_json({**found, "packages": packages})

    def _collect_disks(self) -> str:
        config = self._require_config()
        paths = config.paths
        directories: dict[str, Path] = {
            "state": paths.resolve(paths.state),
            "slots": paths.resolve(paths.slots),
            "agent": paths.resolve(paths.agent_slots),
        }
        if (directory := config.databases.engine_settings.local_directory) is not None:
            directories["databases"] = directory
        return render_json(
            {name: dict(_read_disk_space(place)) for name, place in directories.items()}
        )


def _is_plain(value: object) -> bool:
    return value is not None and isinstance(value, str | int | float | bool)


def _build_hops(report: RehearsalReport | None) -> Iterator[dict[str, object]]:
    """Yield the counts and durations of a rehearsal, without codes from records."""
    for hop in report.hops if report is not None else ():
        yield {
            "from": hop.from_version,
            "to": hop.to_version,
            "downtime_s": hop.downtime.to_json(),
            "rollback_s": hop.rollback_s,
            "maps": [
                {
                    "name": item.name,
                    "affected": item.affected,
                    "unmapped": item.unmapped_rows,
                }
                for item in hop.reference_maps
            ],
            "tables": hop.changed_tables,
            "checks": len(hop.checks),
        }


def _find_package_version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _read_disk_space(path: Path) -> Iterator[tuple[str, object]]:
    try:
        disk = os.statvfs(path)
    except OSError as error:
        yield "error", os.strerror(error.errno or 0)
        return
    yield "bytes", disk.f_blocks * disk.f_frsize
    yield "free_bytes", disk.f_bavail * disk.f_frsize
    yield "files", disk.f_files
    yield "free_files", disk.f_favail


MASK = "***"


URL_PATTERN = re.compile(r"://|@")


#: A number with more digits may be that of a passport, a telephone or a machine.
MAX_DIGITS = 6


#: Fields of journal records with fixed names and codes, written by the agent and systemd.
LOG_FIELDS = (
    "PRIORITY", "NCEN_CODE", "NCEN_EVENT", "NCEN_CHANGE", "NCEN_STEP", "UNIT", "JOB_TYPE",
    "JOB_RESULT", "UNIT_RESULT", "EXIT_CODE", "EXIT_STATUS",
)  # fmt: skip


_FIELD = re.compile(r"[A-Z_]+=[A-Za-z0-9@._-]{1,60}")


_FRAME = re.compile(r'File "[^"\n]*/(ncen_updater/[\w/]{1,99}\.py)", line (\d{1,6}), in (\w{1,50})')


def iter_log_lines(journal: str) -> Iterator[str]:
    """Yield the informative lines of systemd's journal, without free text.

    Args:
        journal: Output of ``journalctl --output=json``, one record per line.
    """
    for line in journal.splitlines():
        try:
            record = json.loads(line)
            moment = datetime.fromtimestamp(int(record["__REALTIME_TIMESTAMP"]) // 10**6, UTC)
        except (ValueError, TypeError, LookupError, OverflowError, OSError):
            continue
        found = [f"{name}={record.get(name)}" for name in LOG_FIELDS if record.get(name)]
        reported = list(filter(_FIELD.fullmatch, found))
        reported += [":".join(frame) for frame in _FRAME.findall(str(record.get("MESSAGE")))]
        if reported[1:]:  # more than the priority
            yield " ".join([f"{moment:%FT%TZ}", *reported])


def mask_values(text: LazyText, own: Set[str]) -> LazyText:
    """Return a text with only those values that are numbers or words of the agent.

    Args:
        text: The text.
        own: Casefolded words that the agent itself uses.
    """
    return LazyText(
        text.template, {name: _mask_value(value, own) for name, value in text.values.items()}
    )


def mask_settings(value: object, own: Set[str], name: str = "") -> object:
    """Return a configuration masked in the same way; the numbers of entries remain visible.

    Args:
        value: A table, list or value of the file.
        own: Casefolded words that the agent itself uses.
        name: Name of the setting.
    """
    if isinstance(value, Mapping):
        hidden = name in FREE_FORM_TABLES
        return {k: MASK if hidden else mask_settings(v, own, k) for k, v in value.items()}
    if isinstance(value, list):
        if name in COMMAND_SETTINGS:
            return [*value[:1], *(MASK for _ in value[1:])]
        return [mask_settings(inner, own, name) for inner in value]
    return _mask_value(value, own)


def _mask_value(value: object, own: Set[str]) -> object:
    if isinstance(value, LazyText):
        return mask_values(value, own)
    if value is None or isinstance(value, bool | int | float):
        return value
    text = str(value)
    digits = sum(map(str.isdigit, text))
    known = all(word in own or word.isdecimal() for word in split_words(text))
    return value if known and digits <= MAX_DIGITS and not URL_PATTERN.search(text) else MASK
