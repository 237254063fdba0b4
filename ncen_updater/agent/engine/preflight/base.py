"""Base of a check, its input, and the report of all of them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

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

#: Attribute of a function that is a check.
CHECK_ATTRIBUTE = "mark"
logger = logging.getLogger(__name__)


def _read_device(path: Path) -> int:
    return path.stat().st_dev


@dataclass(frozen=True)
class PreflightContext:
    """What a check may look at.

    Attributes:
        config: The agent's configuration.
        change: The change that is planned.
        document: The release that the site is going to.
        engine: The databases.
        slots: The slots.
        application: The application.
        agent_version: Version of the agent that runs.
        now: The system's clock (UTC, aware).
        newest_signed_time: The newest time in signed metadata; None where there are none yet.
        target: Migrations of the release, once its slot is built.
        origin: Migrations of the release that runs now, where they are known.
        slot_built: Whether the archive lies verified on the disk already.
        open_change: Id of a change that is not finished, if it is not this one.
        known_changes: Ids of all changes that the journal knows.
        verify_slot: Hash every file of the current slot; otherwise sizes, modes and types only.
        progress: Told of what takes long.
        overlay: What the country owns in texts and settings.
        schemas: What was changed in the schemas since they were recorded.
        reboot_file: Exists where the system waits for a restart.
        free_bytes: Free bytes of the file system of an existing path.
        device: Number of the file system of an existing path.
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


#: One check. Looks and changes nothing, returns what it found, nothing when all is as it should be;
#: a failure of what it asks may be raised.
PreflightCheck = Callable[[PreflightContext], tuple[Finding, ...]]


@dataclass(frozen=True)
class CheckRegistration:
    """What makes a function a check of this package; there is nowhere else to name it.

    Attributes:
        position: Where among the others its findings are reported.
        upgrade_only: Whether it asks about an upgrade only. The rollback must not be blocked by
            what concerns a newer release alone, nor by a wrong clock, nor by damage to the very
            release that is to be left, nor by files that cannot be kept (told then), nor for want
            of a rehearsal: it has none. Which migrations are undone was planned with the way
            itself.
    """

    position: int
    upgrade_only: bool = False


def register_check(
    position: int, *, upgrade_only: bool = False
) -> Callable[[PreflightCheck], PreflightCheck]:
    """Mark a function as a check; see :class:`CheckRegistration`."""

    def marked(function: PreflightCheck) -> PreflightCheck:
        setattr(function, CHECK_ATTRIBUTE, CheckRegistration(position, upgrade_only))
        return function

    return marked


def run_checks(checks: Iterable[PreflightCheck], context: PreflightContext) -> tuple[Finding, ...]:
    """Ask every check; one that cannot get its answer blocks, under the code of the failure."""
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
    """Return the path, or the nearest directory above it that exists."""
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
    """Return a finding that blocks; the figures fill both sentences."""
    return _make_finding(Severity.CRITICAL, number, what, remedy, figures)


def make_advisory(number: int, what: str, remedy: str, **figures: object) -> Finding:
    """Return a finding that is left to the operator."""
    return _make_finding(Severity.WARNING, number, what, remedy, figures)


def make_info(number: int, what: str, remedy: str, **figures: object) -> Finding:
    """Return a fact."""
    return _make_finding(Severity.INFO, number, what, remedy, figures)
