"""Definition of a check, its input, and the runner of all checks."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from ncen_updater.agent.adapters.application.base import Application
from ncen_updater.agent.adapters.databases.base import ChangeRef, DatabaseEngine, MigrationSet
from ncen_updater.agent.config.agent_config import AgentConfig
from ncen_updater.agent.storage.slots.store import SlotStore
from ncen_updater.common.disk_space import get_free_bytes
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.findings import Finding, Severity
from ncen_updater.common.i18n import LazyText
from ncen_updater.common.progress import ProgressListener, SilentProgress
from ncen_updater.formats.release_document import ReleaseDocument

if TYPE_CHECKING:
    from ncen_updater.agent.storage.overlay.layer import LocalOverlay

#: Attribute that marks a function as a check.
CHECK_ATTRIBUTE = "mark"
logger = logging.getLogger(__name__)


def _read_device(path: Path) -> int:
    return path.stat().st_dev


@dataclass(frozen=True)
class PreflightContext:
    """Input of a check.

    Attributes:
        config: The agent's configuration.
        change: The planned or running change.
        document: The target release.
        engine: The databases.
        slots: The slots.
        application: The application.
        agent_version: Version of the running agent.
        now: System time (UTC, aware).
        newest_signed_time: The newest time in signed metadata; None if there is none yet.
        target: Migrations of the target release, once its slot is built.
        origin: Migrations of the installed release, if known.
        slot_built: Whether the slot is built, so that nothing has to be downloaded.
        open_change: Id of the open change; it may be this one.
        known_changes: Ids of all changes in the journal.
        verify_slot: Hash every file of the current slot; otherwise compare sizes, modes and types
            only.
        progress: Receives progress reports of slow checks.
        overlay: The local overlay.
        schemas: Returns findings on schemas that differ from the recorded ones.
        reboot_file: File that exists while a reboot of the system is pending.
        free_bytes: Returns the free bytes of the file system of an existing path.
        device: Returns the device number of an existing path.
    """

    config: AgentConfig
    change: ChangeRef
    document: ReleaseDocument
    engine: DatabaseEngine
    slots: SlotStore
    application: Application
    agent_version: Version
    now: datetime
    newest_signed_time: datetime | None = None
    target: MigrationSet | None = None
    origin: MigrationSet | None = None
    slot_built: bool = False
    open_change: str | None = None
    known_changes: frozenset[str] = frozenset()
    verify_slot: bool = False
    progress: ProgressListener = field(default_factory=SilentProgress)
    overlay: LocalOverlay | None = None
    schemas: Callable[[], Iterable[Finding]] = tuple
    reboot_file: Path = Path("/run/reboot-required")
    free_bytes: Callable[[Path], int] = get_free_bytes
    device: Callable[[Path], int] = _read_device


#: A check. It only reads, and returns its findings, an empty tuple if all is well. It may raise the
#: error of a query.
PreflightCheck = Callable[[PreflightContext], tuple[Finding, ...]]


@dataclass(frozen=True)
class CheckRegistration:
    """Registration of a function as a check of this package.

    Attributes:
        position: Position of its findings among the others.
        upgrade_only: Whether it applies only to upgrades. A rollback must not be blocked by a check
            that concerns only a newer release, by a wrong clock, by damage to the installed
            release, by site files that cannot be saved (they are reported later), or by a
            missing rehearsal, since it has none. Its down migrations were checked when it was
            planned.
    """

    position: int
    upgrade_only: bool = False


def register_check(
    position: int, *, upgrade_only: bool = False
) -> Callable[[PreflightCheck], PreflightCheck]:
    """Register a function as a check; see :class:`CheckRegistration`."""

    def decorate(function: PreflightCheck) -> PreflightCheck:
        setattr(function, CHECK_ATTRIBUTE, CheckRegistration(position, upgrade_only))
        return function

    return decorate


def run_checks(checks: Iterable[PreflightCheck], context: PreflightContext) -> tuple[Finding, ...]:
    """Run every check; one that fails is reported as a blocker with the code of its error."""
    findings: list[Finding] = []
    for check in checks:
        try:
            findings += check(context)
        except UpdaterError as error:
            logger.warning("a check failed: %s", error)
            figures: dict[str, object] = {"detail": error.detail} if error.detail else {}
            findings.append(
                Finding(error.code, Severity.CRITICAL, error.title_text, error.remedy_text, figures)
            )
    return tuple(findings)


def find_existing_parent(path: Path) -> Path:
    """Return the path, or its nearest existing parent directory."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def _make_finding(
    severity: Severity, number: int, what: str, remedy: str, figures: dict[str, object]
) -> Finding:
    return Finding(
        f"NU-{number}", severity, LazyText(what, figures), LazyText(remedy, figures), figures
    )


def make_blocker(number: int, what: str, remedy: str, **figures: object) -> Finding:
    """Return a blocking finding; the figures are inserted into both texts."""
    return _make_finding(Severity.CRITICAL, number, what, remedy, figures)


def make_advisory(number: int, what: str, remedy: str, **figures: object) -> Finding:
    """Return a finding on which the operator decides."""
    return _make_finding(Severity.WARNING, number, what, remedy, figures)


def make_info(number: int, what: str, remedy: str, **figures: object) -> Finding:
    """Return an informational finding."""
    return _make_finding(Severity.INFO, number, what, remedy, figures)


def satisfies_specifier(specifier: str, version: Version) -> bool:
    """Return whether a version fits a specifier; pre-releases may fit, too."""
    return SpecifierSet(specifier, prereleases=True).contains(version)
