"""Status, records and approvals of a site without its service."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING

from ncen_updater.agent.config.essential_settings import load_essential_settings
from ncen_updater.agent.engine.approvals.approval_store import ApprovalStore, reject_shared_account
from ncen_updater.agent.engine.approvals.next_upgrade import require_no_pending_change
from ncen_updater.agent.engine.change_guards import (
    confirm_release,
    is_service_completing,
    require_no_hold,
    require_no_unfinished_change,
)
from ncen_updater.agent.engine.change_outcome import serialize_change
from ncen_updater.agent.engine.lock import read_lock_holder
from ncen_updater.agent.model.change import Actor
from ncen_updater.agent.model.event_names import JOURNAL_FILE, SERVICE_LOCK_FILE
from ncen_updater.agent.reports.status import get_part_or_none, read_status, require_part
from ncen_updater.agent.service.site_report import (
    SITE_REPORT_PARTS,
    build_change_report,
    build_history_report,
    build_open_change,
    build_site_report,
)
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.journal.site_history import SiteHistory
from ncen_updater.agent.storage.service_state import Assessment, ServiceState
from ncen_updater.common.cli.program import get_invoking_user
from ncen_updater.common.cli.usage import NOTHING_CHANGED
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.json_records import to_json_value
from ncen_updater.common.messages import UNKNOWN_CHANGE

if TYPE_CHECKING:
    from packaging.version import Version

    from ncen_updater.agent.cli.session import AgentSession
    from ncen_updater.agent.engine.approvals.approved_release import ApprovedRelease
    from ncen_updater.agent.engine.approvals.upgrade_approvals import ApprovalSubject
    from ncen_updater.agent.engine.site import Site
    from ncen_updater.agent.reports.command_results import JsonDocument, OutputLine
    from ncen_updater.agent.reports.status import SiteStatus
    from ncen_updater.feed.upgrade_path import UpgradePath

#: Parts of the status that tell whether a change is open.
CHANGE_STATUS_PARTS = frozenset({"journal", "soak_s"})


class LocalRecords:
    """Reads and writes the records of a site with the rights of this process.

    Args:
        run: Session of the command.
    """

    def __init__(self, run: AgentSession) -> None:
        self._run = run
        self._subject: ApprovalSubject | None = None

    @cached_property
    def _site(self) -> Site:
        return self._run.open_site()

    @cached_property
    def _actor(self) -> Actor:
        from ncen_updater.agent.cli.common import identify_actor

        return identify_actor()

    def _to_json(self, document: Mapping[str, object]) -> JsonDocument:
        shown = to_json_value(document, self._run.language)
        assert isinstance(shown, dict)  # noqa: S101 - what a mapping becomes
        return shown

    def _open_journal(self, *, read_only: bool = True) -> Journal:
        return Journal.open(
            load_essential_settings(self._run.config).state / JOURNAL_FILE, read_only=read_only
        )

    # ---- status and history --------------------------------------------------------------------

    def read_status(self) -> JsonDocument:
        """Return the status; each part that cannot be read contains an error."""
        settings = load_essential_settings(self._run.config, ignore_site_errors=True)
        with suppress(FileNotFoundError):
            os.scandir(settings.state).close()  # report a permission error once, not in every part
        status = read_status(settings, datetime.now(UTC), SITE_REPORT_PARTS)
        return self._to_json(build_site_report(status, self._run.language)[0])

    def read_history(self, change: str | None, limit: int) -> JsonDocument:
        """Return changes and imports, newest first, or one change in full.

        Raises:
            UNKNOWN_CHANGE: If no change has this id.
        """
        with self._open_journal() as journal:
            if change is None:
                return self._to_json(build_history_report(journal, limit))
            try:
                return self._to_json(build_change_report(journal, change))
            except KeyError as error:
                raise UpdaterError(UNKNOWN_CHANGE, change=change, state=NOTHING_CHANGED) from error

    # ---- records -------------------------------------------------------------------------------

    def set_hold(self, reason: str, until: datetime | None) -> JsonDocument:
        """Set a hold."""
        by = get_invoking_user()
        with self._open_journal(read_only=False) as journal:
            since = SiteHistory(journal).add_hold(reason, by, until)
        return self._to_json(
            {"held": True, "reason": reason, "actor": by, "since": since, "until": until}
        )

    def lift_holds(self) -> int:
        """Lift all holds; return their number."""
        with self._open_journal(read_only=False) as journal:
            return SiteHistory(journal).lift_holds(get_invoking_user())

    def read_next_upgrade_summary(self) -> tuple[Sequence[str], JsonDocument | None]:
        """Return the path to the next release and its automatic start, if known.

        Uses the last assessment of the service; returns nothing while a change is open.
        """
        from ncen_updater.agent.service.assessment import NEXT_UPGRADE_PARTS

        status = self._read_status(NEXT_UPGRADE_PARTS)
        if status.next_upgrade is None or require_part(status.journal).open_change is not None:
            return (), None
        found = self._build_next_upgrade(status)
        return found["hops"], found["starts_at"]

    def _find_approved_release(self, journal: Journal) -> ApprovedRelease:
        """Return the approved release, which is installed before a newer one."""
        from ncen_updater.agent.engine.approvals.approved_release import find_approved_release
        from ncen_updater.feed.errors import TrustError

        try:
            view = self._site.release_source.load_last_view()
        except TrustError:  # reported where the metadata is needed
            view = None
        return find_approved_release(self._site, journal, view.offers if view else ())

    def _resolve_target(self, target: Version | None) -> Version | None:
        """Return the given target, or else the approved release."""
        if target is not None:
            return target
        with self._open_journal() as journal:
            return self._find_approved_release(journal).target_version

    def _explain_approved_first(self, version: str | None = None) -> Iterator[OutputLine]:
        """Yield a line that the approved release is not the newest.

        Args:
            version: Target on display; yields nothing if another release is approved.
        """
        with self._open_journal() as journal:
            chosen = self._find_approved_release(journal).target_version
            newest = self._find_newest_release(journal) if chosen is not None else None
        if chosen is None or newest == str(chosen) or version not in (None, str(chosen)):
            return
        text = N_("Approved: {version}; has priority over {newest}")
        yield LazyText(text, {"version": chosen, "newest": newest or "-"})

    def _read_status(self, parts: Collection[str]) -> SiteStatus:
        return read_status(load_essential_settings(self._run.config), datetime.now(UTC), parts)

    def _build_next_upgrade(self, status: SiteStatus) -> JsonDocument:
        from ncen_updater.agent.config.loader import load_config
        from ncen_updater.agent.service.assessment import build_next_upgrade

        document = build_next_upgrade(
            status,
            load_config(self._run.config).service,
            self._actor.uid,
            service_running=self.is_service_running(),
        )
        return self._to_json(document)

    def require_startable(self) -> None:
        """Refuse an upgrade during an unfinished change or a hold.

        Raises:
            SiteBusyError, OPEN_CHANGE, HELD: If the upgrade is refused.
        """
        with self._open_journal() as journal:
            require_no_unfinished_change(journal)
            require_no_hold(journal, datetime.now(UTC), self._run.zone)

    def require_right(self, role: str) -> None:
        """Refuse an actor who lacks a right, before any output or question.

        Without the service, file permissions decide about everything else.

        Args:
            role: ``operate`` or ``approve``.

        Raises:
            RequestRefusedError: If the service refuses it; the error names who has the right.
            APPROVER_IS_SHARED_ACCOUNT: If two people have to approve, but others can use this
                account.
        """
        if role != "approve":
            return

        reject_shared_account(self._actor, self._site.config.service.required_approvals)

    def confirm_release(self) -> JsonDocument:
        """End the soak period."""
        with self._open_journal(read_only=False) as journal:
            change = confirm_release(journal, get_invoking_user())
            return self._to_json({"confirmed": True, "change": serialize_change(change)})

    def is_service_running(self) -> bool:
        """Return whether the service runs, and so carries out recorded requests."""
        return (
            read_lock_holder(load_essential_settings(self._run.config).state / SERVICE_LOCK_FILE)
            is not None
        )

    def read_next_upgrade(self, target: Version | None) -> JsonDocument:
        """Return the next upgrade: rehearsal, binding of approvals, approvers and start.

        Args:
            target: The given release.

        Raises:
            NOTHING_TO_APPROVE: If there is no next upgrade.
            FEED_NEVER_READ: If the feed was never read.
            SOAK_NOT_FINISHED, OPEN_CHANGE: If an open change has to end first.
        """
        from ncen_updater.agent.engine.approvals import upgrade_approvals as approving
        from ncen_updater.agent.engine.pending_rollback import find_rolled_back_releases
        from ncen_updater.agent.service.assessment import NEXT_UPGRADE_PARTS

        site = self._site
        change = build_open_change(self._read_status(CHANGE_STATUS_PARTS))
        served = is_service_completing(site.state_directory, datetime.now(UTC))
        require_no_pending_change(change and self._to_json(change), self._run.zone, served=served)
        with self._open_journal() as journal, self._run.make_progress() as progress:
            chosen = self._find_approved_release(journal)
            self._subject = found = approving.find_upgrade_to_approve(
                site, journal, progress, target or chosen.target_version
            )
            rolled_back = find_rolled_back_releases(journal) & {
                hop.document.manifest.version for hop in found.plan.hops
            }
            assessment = Assessment(
                last_event=0,
                current=str(site.slots.read_current()),
                target=found.target,
                before_target=tuple(hop.offer.version for hop in found.plan.hops[:-1]),
                slot_built=True,
                rehearsal_status=found.status.rehearsal_status,
                plan=found.plan.digest,
                binding=found.binding,
                void_reasons=tuple(void.text for void in found.status.void_reasons),
                was_rolled_back=bool(rolled_back),
                newest=self._find_newest_release(journal),
                approved=chosen.available,
                unavailable=chosen.unavailable,
            )
        status = self._read_status(NEXT_UPGRADE_PARTS)
        known = get_part_or_none(status.service_state) or ServiceState()
        return self._build_next_upgrade(
            replace(status, service_state=replace(known, assessment=assessment))
        )

    def _find_newest_release(self, journal: Journal) -> str | None:
        """Return the newest release for this site in the last verified metadata."""
        path = self._find_cached_path(journal)
        return path.target.version if path else None

    def _find_cached_path(
        self, journal: Journal, target: Version | None = None, *, retry: bool = False
    ) -> UpgradePath | None:
        """Return the path in the last verified metadata; None if there is none."""
        from ncen_updater.agent.engine.path_selection import find_cached_path
        from ncen_updater.feed.upgrade_path import UpgradePath

        path = find_cached_path(self._site, journal, target, retry=retry)
        return path if isinstance(path, UpgradePath) else None

    def approve(self, next_upgrade: JsonDocument) -> None:
        """Approve an upgrade returned by :meth:`read_next_upgrade`."""
        from ncen_updater.agent.engine.approvals import upgrade_approvals as approving
        from ncen_updater.agent.reports.dossier.page import write_dossiers

        assert self._subject is not None  # noqa: S101 - read_next_upgrade was called
        with self._open_journal(read_only=False) as journal:
            approving.approve_upgrade(journal, self._subject, self._actor)
            write_dossiers(self._site, journal, self._subject.target)

    def withdraw(self, version: Version | None, *, rollbacks: bool) -> int:
        """Withdraw the actor's own approvals, also for releases that are no longer available.

        Args:
            version: Release of the approvals; all releases by default.
            rollbacks: Withdraw approvals of rollbacks instead of upgrades.

        Returns:
            Number of withdrawn approvals.
        """
        from ncen_updater.agent.reports.dossier.page import write_dossiers

        with self._open_journal(read_only=False) as journal:
            consent, actor = ApprovalStore(journal), self._actor
            own_releases = [
                one.target_version
                for one in consent.list_for_upgrades()
                if one.approval.uid == actor.uid
            ]
            count = consent.withdraw_all(actor, version, rollbacks=rollbacks)
            for release in dict.fromkeys(own_releases):
                write_dossiers(self._site, journal, release)
        return count

    def schedule(self, next_upgrade: JsonDocument, not_before: datetime) -> None:
        """Set the earliest start of an upgrade returned by :meth:`read_next_upgrade`."""
        from ncen_updater.agent.engine.approvals import upgrade_approvals as approving

        assert self._subject is not None  # noqa: S101 - read_next_upgrade was called
        with self._open_journal(read_only=False) as journal:
            approving.schedule_upgrade(journal, self._subject, not_before, self._actor)

    def cancel_schedule(self) -> int:
        """Remove all start times, also of releases no longer available; return their number."""
        with self._open_journal(read_only=False) as journal:
            return ApprovalStore(journal).cancel_schedule(self._actor)

    def require_consent(self, target: Version, *, retry: bool) -> None:
        """Refuse an upgrade with too few approvals, before any question.

        Raises:
            NOT_REHEARSED, REHEARSAL_OUTDATED, APPROVAL_MISSING: If the upgrade is refused.
        """
        from ncen_updater.agent.engine.approvals.approval_status import (
            count_required_approvals,
            make_consent_check,
        )

        needed = count_required_approvals(self._site, scheduled=False)
        if needed is None:
            return
        with self._run.make_progress() as progress, self._open_journal() as journal:
            path = self._find_cached_path(journal, target, retry=retry)
            if path is not None:
                make_consent_check(self._site, progress, approvals=needed)(journal, path)
