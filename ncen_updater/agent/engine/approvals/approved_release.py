"""Choice of the approved release; it takes precedence over the newest on offer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from packaging.version import Version

from ncen_updater.agent.engine.approvals.approval_store import ApprovalStore
from ncen_updater.agent.engine.path_selection import choose_upgrade_path
from ncen_updater.agent.engine.rehearsal.rehearsal_store import RehearsalState, RehearsalStore
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.journal.site_history import SiteHistory
from ncen_updater.feed.errors import UpgradePathError
from ncen_updater.feed.upgrade_path import UpgradePath

if TYPE_CHECKING:
    from ncen_updater.agent.engine.site import Site
    from ncen_updater.formats.release_document import Offer


@dataclass(frozen=True)
class ApprovedRelease:
    """Releases with enough approvals.

    Attributes:
        path: Path to the release that takes precedence; None if there is none.
        also_approved: Other releases with enough approvals.
        unavailable: Releases with enough approvals that can no longer be installed.
    """

    path: UpgradePath | None = None
    also_approved: tuple[str, ...] = ()
    unavailable: tuple[str, ...] = ()

    @property
    def available(self) -> tuple[str, ...]:
        """Return the releases with enough approvals that can be installed, in their precedence."""
        return (self.path.target.version, *self.also_approved) if self.path else ()

    @property
    def target_version(self) -> Version | None:
        """Return the release that takes precedence over the newest, if there is one."""
        return Version(self.path.target.version) if self.path else None


def find_approved_release(
    site: Site, journal: Journal, offers: tuple[Offer, ...]
) -> ApprovedRelease:
    """Return the approved releases among those of the last verified metadata.

    The validity of the approvals is checked when the upgrade starts: a release with void approvals
    keeps its precedence and waits for new ones.

    Args:
        site: The site.
        journal: Its journal.
        offers: The offered releases.
    """
    current = site.slots.read_current()
    if current is None:
        return ApprovedRelease()
    paths: list[UpgradePath] = []
    unavailable: list[str] = []
    for name in ApprovalStore(journal).list_approved_releases(
        site.config.service.required_approvals
    ):
        if Version(name) <= current:
            continue
        path = find_path_to(site, journal, offers, Version(name))
        if path is None:
            unavailable.append(name)
        else:
            paths.append(path)
    others = tuple(path.target.version for path in paths[1:])
    return ApprovedRelease(paths[0] if paths else None, others, tuple(unavailable))


def find_path_to(
    site: Site, journal: Journal, offers: tuple[Offer, ...], target: Version
) -> UpgradePath | None:
    """Return the path to a named release; None if it cannot be installed.

    A release that is marked bad is allowed if it passed a rehearsal since, because an operator
    requested that rehearsal.

    Args:
        site: The site.
        journal: Its journal.
        offers: The offered releases.
        target: The release.
    """
    try:
        path = choose_upgrade_path(
            site, offers, journal, target, retry=has_passed_since_failure(journal, target)
        )
    except UpgradePathError:
        return None
    return path if isinstance(path, UpgradePath) else None


def has_passed_since_failure(journal: Journal, target: Version) -> bool:
    """Tell whether a release passed a rehearsal after it, or one before it, was marked bad."""
    failed = [
        row.last_at
        for row in SiteHistory(journal).list_bad_releases()
        if Version(row.version) <= target
    ]
    passed = [
        row.started_at
        for row in RehearsalStore(journal).list_newest()
        if row.state is RehearsalState.PASSED and Version(row.to_version) == target
    ]
    return bool(failed and passed) and max(passed) > max(failed)
