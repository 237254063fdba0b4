"""The one interface of commands to a site: alone on the site itself, or through its service.

Both give the same documents and the same errors, so that a command parses, asks and shows, and does
not know who answers. What the service cannot do is asked of :class:`LocalSiteClient` alone, and
said where it is chosen (:meth:`.cli.session.AgentSession.client`). Light: ``status`` is on this
path.
"""

# ruff: noqa: D102 - what SiteClient says of a method is not said again

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, tzinfo
from functools import cached_property
from inspect import signature
from operator import itemgetter
from pathlib import Path
from time import sleep
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote, urlencode

from ncen_updater.agent.config.errors import ConfigError
from ncen_updater.agent.config.essential_settings import (
    load_essential_settings,
    read_service_socket,
)
from ncen_updater.agent.engine.approvals.approval_store import ApprovalStore, reject_shared_account
from ncen_updater.agent.engine.approvals.next_upgrade import (
    build_next_upgrade,
    list_other_approved,
    require_approvals,
    require_no_pending_change,
)
from ncen_updater.agent.engine.change_guards import (
    confirm_release,
    make_hold_error,
    require_no_hold,
    require_soaking,
)
from ncen_updater.agent.engine.change_outcome import serialize_change
from ncen_updater.agent.engine.lock import read_lock_holder
from ncen_updater.agent.engine.rehearsal.rehearsal_store import RehearsalStore, serialize_rehearsal
from ncen_updater.agent.model.change import Actor
from ncen_updater.agent.model.change_facts import ChangeFacts
from ncen_updater.agent.model.event_names import JOURNAL_FILE, SERVICE_LOCK_FILE
from ncen_updater.agent.policy.operation_labels import label_operation
from ncen_updater.agent.policy.upgrade_start import (
    mark_superseded,
    predict_start,
    predict_start_if_approved,
)
from ncen_updater.agent.reports.command_results import (
    CommandResult,
    JsonDocument,
    OutputLine,
    format_import,
    format_operation_result,
    format_path_lines,
    format_plan_lines,
    format_rehearsal_lines,
    format_rollback_plan,
    format_support_bundle,
    format_withdrawal_lines,
    list_other_releases,
    serialize_path,
    serialize_plan,
)
from ncen_updater.agent.reports.status import get_part_or_none, read_status, require_part
from ncen_updater.agent.service.errors import (
    RequestRefusedError,
    parse_error_document,
)
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
from ncen_updater.common.cli.render import finding_to_json, format_findings, format_time
from ncen_updater.common.cli.usage import NOTHING_CHANGED
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.findings import Finding, Severity
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.json_output import to_json_value
from ncen_updater.common.messages import (
    API_PATH_UNKNOWN,
    FEED_NEVER_READ,
    INSPECTION_FAILED,
    JOB_INTERRUPTED,
    NO_SERVICE,
    NOT_ALLOWED,
    NOT_PREPARED,
    NOTHING_TO_APPROVE,
    ROLLBACK_PLAN_CHANGED,
    TOO_MANY_STREAMS,
    UNKNOWN_CHANGE,
    ExitCode,
)
from ncen_updater.common.progress import ProgressListener, ProgressUpdate

if TYPE_CHECKING:
    from packaging.version import Version

    from ncen_updater.agent.adapters.databases.round_trip import RoundTripResult
    from ncen_updater.agent.cli.session import AgentSession
    from ncen_updater.agent.engine.approvals.approval import ApprovalCount
    from ncen_updater.agent.engine.approvals.approved_release import ApprovedRelease
    from ncen_updater.agent.engine.approvals.upgrade_approvals import ApprovalSubject
    from ncen_updater.agent.engine.operations import Operations
    from ncen_updater.agent.engine.rollback_plan import RollbackPlan
    from ncen_updater.agent.engine.site import Site
    from ncen_updater.agent.reports.status import SiteStatus
    from ncen_updater.agent.service.api_client import SiteServiceClient
    from ncen_updater.agent.storage.journal.rows import ChainHead
    from ncen_updater.feed.upgrade_path import NoUpgradePath, UpgradePath

#: How often, and how long after one another, the service is asked whether it has looked.
MAX_POLLS, POLL_INTERVAL_S = 60, 0.5
#: Parts of a site that say whether a change is open.
CHANGE_STATUS_PARTS = frozenset({"journal", "soak_s"})
#: So long the service keeps who waits for an inspection, before it says how far that is.
INSPECT_WAIT_S = 2


class SiteClient(Protocol):
    """A site, whoever answers for it. Documents are of the forms that JSON has.

    Every method may raise an :class:`~ncen_updater.common.errors.UpdaterError`: nothing was changed
    by the request itself then.
    """

    def read_status(self) -> JsonDocument:
        """Return what runs, the last change and what is on offer; a missing part is an error."""

    def read_history(self, change: str | None, limit: int) -> JsonDocument:
        """Return changes and imports, newest first, or one change in full.

        Raises:
            UNKNOWN_CHANGE: If there is none of this id.
        """

    def set_hold(self, reason: str, until: datetime | None, *, dry_run: bool) -> JsonDocument:
        """Forbid upgrades."""

    def count_holds(self) -> int:
        """How many holds are in force."""

    def lift_holds(self) -> int:
        """Allow upgrades again; returns how many holds there were."""

    def read_next_upgrade_summary(self) -> tuple[str | None, JsonDocument | None]:
        """Return the next release and when it starts automatically; None for what is not known.

        As the service found it last; not known while a change is open.
        """

    def require_no_hold(self) -> None:
        """Refuse while upgrades are forbidden, before a person is asked anything.

        Raises:
            HELD: If so.
        """

    def require_right(self, role: str) -> None:
        """Refuse who may not do something, before anything of it is shown or asked.

        Args:
            role: ``operate`` or ``approve``.

        Raises:
            RequestRefusedError: If so, with who may.
            APPROVER_IS_SHARED_ACCOUNT: If their approval could be anybody's, where two people have
                to approve.
        """

    def confirm_release(self, *, dry_run: bool) -> JsonDocument:
        """End the watched time."""

    def is_service_running(self) -> bool:
        """Whether the service of the site goes on by itself with what was written down."""

    def read_next_upgrade(
        self, target: Version | None, *, not_before: datetime | None = None
    ) -> JsonDocument:
        """Return the next upgrade: its rehearsal, what an approval is bound to, approvers, start.

        Args:
            target: The release that is named.
            not_before: A time for which to report when the upgrade would start.

        Raises:
            NOTHING_TO_APPROVE: If there is no next upgrade.
            FEED_NEVER_READ: If it is not known yet.
            SOAK_NOT_FINISHED, OPEN_CHANGE: If a change is open; it has to end first.
        """

    def approve(self, next_upgrade: JsonDocument) -> None:
        """Say yes to an outlook."""

    def withdraw(self, version: Version | None, *, rollbacks: bool) -> int:
        """Take one's own yes back, whatever is on offer.

        Args:
            version: To this release; to all of them where it is left out.
            rollbacks: The yes to going back is meant, not to upgrades.

        Returns:
            How many there were.
        """

    def schedule(self, next_upgrade: JsonDocument, not_before: datetime) -> None:
        """Choose when what was seen may begin."""

    def count_schedules(self) -> int:
        """How many times are chosen, of whatever."""

    def cancel_schedule(self) -> int:
        """Take the chosen time back, whatever is on offer; return how many there were."""

    def require_consent(self, target: Version, *, retry: bool) -> None:
        """Refuse an upgrade that needs approvals and has too few, before anybody is asked.

        Raises:
            NOT_REHEARSED, REHEARSAL_OUTDATED, APPROVAL_MISSING: If it does.
        """

    def check_feed(self) -> CommandResult:
        """Read the signed list."""

    def prepare_plan(
        self, target: Version | None, *, retry: bool, sql: bool = False
    ) -> CommandResult:
        """Fetch, build and plan; with ``sql`` every statement, and only that."""

    def build_dossier(self, target: Version | None) -> CommandResult:
        """Put together what people decide on: facts, and the page in ``html``."""

    def run_doctor(self) -> CommandResult:
        """Check the site for problems that block an upgrade."""

    def verify(self, heads: Sequence[ChainHead], *, journal_only: bool) -> CommandResult:
        """Compare what is there with what was recorded, and with what a person kept."""

    def collect_support_bundle(
        self, leave_out: Sequence[str], show: Sequence[str]
    ) -> CommandResult:
        """Gather what the Secretariat needs, packed in ``archive`` (base64) where nothing leaks."""

    def update_agent(self, target: Version | None, *, retry: bool) -> CommandResult:
        """Update ncen-updater itself."""

    def rehearse(self, target: Version | None, *, retry: bool) -> CommandResult:
        """Try a release on copies of the site's data."""

    def upgrade(self, target: Version | None, *, retry: bool) -> CommandResult:
        """Upgrade."""

    def import_bundle(self, file: Path, *, dry_run: bool) -> CommandResult:
        """Verify a bundle whole and, unless ``dry_run``, keep it."""

    def plan_rollback(self, accept_loss: int | None) -> CommandResult:
        """Say how a rollback would go, with the loss counted, and who has to approve it yet."""

    def approve_rollback(self, rollback_plan: JsonDocument, accept_loss: int | None = None) -> None:
        """Say yes to a rollback as :meth:`plan_rollback` showed it; so many records may be lost."""

    def rollback(
        self, accept_loss: int | None, undoes: str | None, emergency: str | None = None
    ) -> CommandResult:
        """Go back to the release before.

        Args:
            accept_loss: So many records may be lost.
            undoes: The upgrade that a person was asked about; another one is not undone.
            emergency: Why it cannot wait for those who have to approve it.
        """


# ---- on the site itself --------------------------------------------------------------------------


class LocalSiteClient:
    """Works on the site itself, with the rights of this process.

    Args:
        run: The command that asks.
    """

    def __init__(self, run: AgentSession) -> None:
        self._run = run
        self._subject: ApprovalSubject | None = None

    @cached_property
    def _site(self) -> Site:
        return self._run.open_site()

    @cached_property
    def _person(self) -> Actor:
        from ncen_updater.agent.cli.person import identify_actor

        return identify_actor()

    def _to_json(self, document: Mapping[str, object]) -> JsonDocument:
        shown = to_json_value(document, self._run.language)
        assert isinstance(shown, dict)  # noqa: S101 - what a mapping becomes
        return shown

    def _open_journal(self, *, read_only: bool = True) -> Journal:
        return Journal.open(
            load_essential_settings(self._run.config).state / JOURNAL_FILE, read_only=read_only
        )

    # ---- looking -------------------------------------------------------------------------------

    def read_status(self) -> JsonDocument:
        places = load_essential_settings(self._run.config, ignore_site_errors=True)
        with suppress(FileNotFoundError):
            os.scandir(places.state).close()  # else every part of it says the same in other words
        looked = read_status(places, datetime.now(UTC), SITE_REPORT_PARTS)
        return self._to_json(build_site_report(looked, self._run.language)[0])

    def read_history(self, change: str | None, limit: int) -> JsonDocument:
        with self._open_journal() as journal:
            if change is None:
                return self._to_json(build_history_report(journal, limit))
            try:
                return self._to_json(build_change_report(journal, change))
            except KeyError as error:
                raise UpdaterError(UNKNOWN_CHANGE, change=change, state=NOTHING_CHANGED) from error

    # ---- records -------------------------------------------------------------------------------

    def set_hold(self, reason: str, until: datetime | None, *, dry_run: bool) -> JsonDocument:
        by = get_invoking_user()
        with self._open_journal(read_only=dry_run) as journal:
            if not dry_run:
                SiteHistory(journal).add_hold(reason, by, until)
        return self._to_json({"held": not dry_run, "reason": reason, "actor": by, "until": until})

    def count_holds(self) -> int:
        places = load_essential_settings(self._run.config)
        return len(require_part(read_status(places, datetime.now(UTC), {"journal"}).journal).holds)

    def lift_holds(self) -> int:
        with self._open_journal(read_only=False) as journal:
            return SiteHistory(journal).lift_holds(get_invoking_user())

    def read_next_upgrade_summary(self) -> tuple[str | None, JsonDocument | None]:
        status = self._read_start_inputs()
        service_state = get_part_or_none(status.service_state)
        if not service_state or require_part(status.journal).open_change is not None:
            return None, None
        found = service_state.assessment
        return found.target if found else None, self._predict_start(status, service_state)[0]

    def _find_approved_release(self, journal: Journal) -> ApprovedRelease:
        """Return what people chose by approving it, which comes before the newest."""
        from ncen_updater.agent.engine.approvals.approved_release import find_approved_release
        from ncen_updater.feed.errors import TrustError

        try:
            view = self._site.release_source.load_last_view()
        except TrustError:  # said by whoever reads the list for more than this
            view = None
        return find_approved_release(self._site, journal, view.offers if view else ())

    def _resolve_target(self, target: Version | None) -> Version | None:
        """Return what a person named, or what people chose by approving it."""
        if target is not None:
            return target
        with self._open_journal() as journal:
            return self._find_approved_release(journal).target_version

    def _explain_approved_first(self, version: str | None = None) -> Iterator[OutputLine]:
        """Say that people chose a release that is not the newest.

        Args:
            version: Where the path leads that is shown; nothing is said where it is another one.
        """
        with self._open_journal() as journal:
            chosen = self._find_approved_release(journal).target_version
            newest = self._find_newest_release(journal) if chosen is not None else None
        if chosen is None or newest == str(chosen) or version not in (None, str(chosen)):
            return
        text = N_("Approved: {version}; runs before {newest}")
        yield LazyText(text, {"version": chosen, "newest": newest or "-"})

    def _read_start_inputs(self) -> SiteStatus:
        """Read what says when the next upgrade begins."""
        parts = {"journal", "rehearsals", "service_state"}
        return read_status(load_essential_settings(self._run.config), datetime.now(UTC), parts)

    def _predict_start(
        self,
        status: SiteStatus,
        service_state: ServiceState,
        approved: Sequence[str] = (),
        people: ApprovalCount | None = None,
        not_before: datetime | None = None,
    ) -> tuple[JsonDocument, JsonDocument]:
        """When it begins by itself: as it stands, and once who asks has approved, too."""
        from ncen_updater.agent.config.loader import load_config
        from ncen_updater.agent.service.assessment import build_decision_inputs

        serves = read_lock_holder(status.paths.state / SERVICE_LOCK_FILE) is not None
        settings = load_config(self._run.config).service
        facts = build_decision_inputs(status, service_state, settings, status.now)
        if not_before is not None:
            facts = replace(facts, not_before=not_before)
        begins = mark_superseded(
            predict_start(facts, service_running=serves), facts.target, approved
        )
        after_yes = begins
        if people is not None:
            counts = people.would_count(self._person.uid)
            after_yes = predict_start_if_approved(facts, begins, counts=counts, serves=serves)
        return self._to_json(begins.to_json()), self._to_json(after_yes.to_json())

    def require_no_hold(self) -> None:
        with self._open_journal() as journal:
            require_no_hold(journal, datetime.now(UTC), self._run.zone)

    def require_right(self, role: str) -> None:
        """See :class:`SiteClient`; what else is allowed here, the rights on the files decide."""
        if role != "approve":
            return

        reject_shared_account(self._person, self._site.config.service.required_approvals)

    def confirm_release(self, *, dry_run: bool) -> JsonDocument:
        with self._open_journal(read_only=dry_run) as journal:
            change = (
                require_soaking(journal)
                if dry_run
                else confirm_release(journal, get_invoking_user())
            )
            return self._to_json({"confirmed": not dry_run, "change": serialize_change(change)})

    def is_service_running(self) -> bool:
        return (
            read_lock_holder(load_essential_settings(self._run.config).state / SERVICE_LOCK_FILE)
            is not None
        )

    def read_next_upgrade(
        self, target: Version | None, *, not_before: datetime | None = None
    ) -> JsonDocument:
        from ncen_updater.agent.engine.approvals import upgrade_approvals as approving
        from ncen_updater.agent.engine.pending_rollback import find_rolled_back_releases

        site = self._site
        looked = read_status(
            load_essential_settings(self._run.config), datetime.now(UTC), CHANGE_STATUS_PARTS
        )
        change = build_open_change(looked)
        require_no_pending_change(change and self._to_json(change), self._run.zone)
        with self._open_journal() as journal, self._run.make_progress() as progress:
            chosen = self._find_approved_release(journal)
            wanted = target or chosen.target_version
            self._subject = found = approving.find_upgrade_to_approve(
                site, journal, progress, wanted
            )
            newest = self._find_newest_release(journal)
            current = str(site.slots.read_current())
            rehearsal = RehearsalStore(journal).find_last(current, found.target)
            left = find_rolled_back_releases(journal) & {
                hop.document.manifest.version for hop in found.plan.hops
            }
        assessment = Assessment(
            last_event=0,
            current=current,
            target=found.target,
            slot_built=True,
            rehearsal_status=found.status.rehearsal_status,
            binding=found.binding,
            was_rolled_back=bool(left),
        )
        status = self._read_start_inputs()
        known = get_part_or_none(status.service_state) or ServiceState()
        begins, after_yes = self._predict_start(
            status,
            replace(known, assessment=assessment),
            chosen.available,
            found.count,
            not_before,
        )
        document = build_next_upgrade(
            current=current,
            target=found.target,
            rehearsal_status=found.status.rehearsal_status,
            plan=found.plan.digest,
            binding=found.binding,
            retry_at=None,  # one that failed here lately is nothing to approve
            voids=[void.text for void in found.status.void_reasons],
            approvals=found.count,
            schedule=found.schedule,
            rehearsal=rehearsal,
            starts_at=begins,
            starts_at_if_approved=after_yes,
            newest=newest if newest != found.target else None,
            approved=list_other_approved(found.target, chosen.available),
            unavailable=chosen.unavailable,
            consumed=require_part(status.journal).consumed_approvals,
            open_change=None,
        )
        return self._to_json(document)

    def _find_newest_release(self, journal: Journal) -> str | None:
        """Return the newest release for this site by the last verified list."""
        from ncen_updater.agent.engine.operations import Operations
        from ncen_updater.common.progress import SilentProgress
        from ncen_updater.feed.upgrade_path import UpgradePath

        path = Operations(self._site, SilentProgress()).find_cached_path(journal)
        return path.target.version if isinstance(path, UpgradePath) else None

    def approve(self, next_upgrade: JsonDocument) -> None:
        from ncen_updater.agent.engine.approvals import upgrade_approvals as approving
        from ncen_updater.agent.reports.dossier.store import write_dossiers

        assert self._subject is not None  # noqa: S101 - it was seen
        with self._open_journal(read_only=False) as journal:
            approving.approve_upgrade(journal, self._subject, self._person)
            write_dossiers(self._site, journal, self._subject.target)

    def withdraw(self, version: Version | None, *, rollbacks: bool) -> int:
        from ncen_updater.agent.reports.dossier.store import write_dossiers

        with self._open_journal(read_only=False) as journal:
            consent, who = ApprovalStore(journal), self._person
            mine = [
                one.target_version
                for one in consent.list_for_upgrades()
                if one.approval.uid == who.uid
            ]
            count = consent.withdraw_all(who, version, rollbacks=rollbacks)
            for release in dict.fromkeys(mine):
                write_dossiers(self._site, journal, release)
        return count

    def schedule(self, next_upgrade: JsonDocument, not_before: datetime) -> None:
        from ncen_updater.agent.engine.approvals import upgrade_approvals as approving

        assert self._subject is not None  # noqa: S101 - it was seen
        with self._open_journal(read_only=False) as journal:
            approving.schedule_upgrade(journal, self._subject, not_before, self._person)

    def count_schedules(self) -> int:

        with self._open_journal() as journal:
            return len(ApprovalStore(journal).list_schedules())

    def cancel_schedule(self) -> int:

        with self._open_journal(read_only=False) as journal:
            return ApprovalStore(journal).cancel_schedule(self._person)

    def require_consent(self, target: Version, *, retry: bool) -> None:
        from ncen_updater.agent.engine.approvals.approval_status import (
            count_required_approvals,
            make_consent_check,
        )
        from ncen_updater.agent.engine.operations import Operations
        from ncen_updater.common.progress import SilentProgress
        from ncen_updater.feed.upgrade_path import UpgradePath

        needed = count_required_approvals(self._site, scheduled=False)
        if needed is None:
            return
        with self._run.make_progress() as progress, self._open_journal() as journal:
            path = Operations(self._site, SilentProgress()).find_cached_path(
                journal, target, retry=retry
            )
            if isinstance(path, UpgradePath):
                make_consent_check(self._site, progress, approvals=needed)(journal, path)

    # ---- work ----------------------------------------------------------------------------------

    def check_feed(self) -> CommandResult:
        from ncen_updater.agent.engine.operations import Operations
        from ncen_updater.agent.self_update.agent_update import (
            find_offered_agent,
            refresh_agent_metadata,
        )
        from ncen_updater.feed.offline.import_store import read_import_record

        config = self._run.config
        site = self._site
        with self._run.make_progress() as progress:
            progress.report(LazyText(N_("reading the metadata")))
            operations = Operations(site, progress)
            path = operations.find_upgrade_path()
            operations.record_elapsed_time()
            agents_error = refresh_agent_metadata(site, config)
        agent = find_offered_agent(site, config)
        current, view = str(site.slots.read_current()), site.release_source.load_last_view()
        product, words = site.config.site.product, list[OutputLine]()
        record = read_import_record(site.config.paths.feed_state_directory)
        read_at = view.checked_at if view else None
        zone = site.config.service.get_timezone()
        by_medium = record is not None and read_at == record.imported_at
        if by_medium and record is not None:
            if not site.config.feed.offline:
                words.append(LazyText(N_("Feed unreachable.")))
            text = N_("Metadata imported at {at}, valid until {until}")
            until = format_time(record.usable_until, zone)
            times = {"at": format_time(record.imported_at, zone), "until": until}
            words.append(LazyText(text, times))
        offers = view.offers if view else ()
        others = list_other_releases(path, offers, site.slots.read_current())
        words += format_path_lines(product, current, path, self._run.zone)
        if others:
            values = {"versions": ", ".join(others), "example": others[-1]}
            text = N_("Other releases: {versions}. To select one, run: ncen-updater plan {example}")
            words.append(LazyText(text, values))
        words += self._explain_approved_first()
        gone = next((o.withdrawn for o in offers if o.version == current), None)
        if gone is not None:
            words += format_withdrawal_lines(product, current, gone.reason, gone.advice)
        if agent is not None:
            values = {"version": agent}
            words.append(
                LazyText(
                    N_("ncen-updater {version} is available. Run: ncen-updater self-update"), values
                )
            )
        document = {
            "product": product,
            "current": current,
            "agent": {"version": agent, "error": agents_error.code if agents_error else None},
            **serialize_path(path, self._run.language, current),
            "others": list(others),
            "running_withdrawn": gone.model_dump() if gone else None,
            "imported": by_medium,
            "checked_at": read_at,
            "expires_at": view.expires_at if view else None,
        }
        return CommandResult(document, words)

    def prepare_plan(
        self,
        target: Version | None,
        *,
        retry: bool,
        sql: bool = False,
        prepared: bool = False,
    ) -> CommandResult:
        """See :class:`SiteClient`; with ``prepared`` nothing is fetched, and the SQL stands beside.

        Raises:
            NOT_PREPARED: If something would have to be.
        """
        from ncen_updater.agent.engine.operations import Operations
        from ncen_updater.agent.engine.plan import make_plan
        from ncen_updater.feed.upgrade_path import UpgradePath

        site, language = self._site, self._run.language
        current, target = site.slots.read_current(), self._resolve_target(target)
        with self._run.make_progress() as progress:
            if prepared:
                path = self._choose_prepared_path(target, retry=retry)
            else:
                progress.report(LazyText(N_("reading the metadata")))
                path = Operations(site, progress).find_upgrade_path(target, retry=retry)
            words = list(
                format_path_lines(site.config.site.product, str(current), path, self._run.zone)
            )
            if not isinstance(path, UpgradePath) or current is None:
                return CommandResult(serialize_path(path, language, str(current)), words)
            words += self._explain_approved_first(path.target.version)
            made = make_plan(site, current, path, progress)
            with self._open_journal() as journal:
                shown = RehearsalStore(journal).find_last(str(current), path.target.version)
        report = shown.report if shown is not None else None
        made = made.apply_rehearsal(report)
        if sql:
            return CommandResult(
                {"digest": made.digest, "sql": made.render_sql()}, [made.render_sql()]
            )
        beside = {"sql": made.render_sql()} if prepared else {}
        return CommandResult(
            {**serialize_plan(path, made, language, report), **beside},
            [*words, *format_plan_lines(made, language, report)],
            ExitCode.BLOCKED if made.is_blocked else ExitCode.OK,
        )

    def _choose_prepared_path(
        self, target: Version | None, *, retry: bool = False
    ) -> UpgradePath | NoUpgradePath:
        """Choose a path from what is here, all of whose slots stand.

        Raises:
            NOT_PREPARED: If one does not.
        """
        from ncen_updater.agent.engine.operations import Operations
        from ncen_updater.agent.service.assessment import is_slot_built
        from ncen_updater.common.progress import SilentProgress
        from ncen_updater.feed.upgrade_path import UpgradePath

        with self._open_journal() as journal:
            path = Operations(self._site, SilentProgress()).find_cached_path(
                journal, target, retry=retry
            )
        for hop in path.hops if isinstance(path, UpgradePath) else ():
            if not is_slot_built(self._site, hop):
                raise UpdaterError(NOT_PREPARED, version=hop.version, state=NOTHING_CHANGED)
        return path

    def build_dossier(self, target: Version | None, *, prepared: bool = False) -> CommandResult:
        """See :class:`SiteClient`; with ``prepared`` nothing is fetched for it."""
        from ncen_updater.agent.engine.approvals import upgrade_approvals as approving
        from ncen_updater.agent.reports.dossier import render_dossier
        from ncen_updater.agent.reports.dossier.document import build_dossier_document
        from ncen_updater.agent.reports.dossier.gather import collect_dossier

        site, language, target = self._site, self._run.language, self._resolve_target(target)
        if prepared:
            self._choose_prepared_path(target)
        with self._run.make_progress() as progress, self._open_journal() as journal:
            found = approving.find_upgrade_to_approve(site, journal, progress, target)
            facts = collect_dossier(site, journal, found)
        content = render_dossier(facts, language)
        document = {
            "version": found.target,
            "binding": found.binding,
            "sha256": hashlib.sha256(content).hexdigest(),
            "html": content.decode(),
            "facts": build_dossier_document(facts, language),
        }
        return CommandResult(document)

    def run_doctor(self) -> CommandResult:
        from ncen_updater.agent.reports.diagnostics.doctor import diagnose

        with self._run.make_progress() as progress:
            progress.report(LazyText(N_("running diagnostics")))
            away: tuple[Finding, ...] = ()
            try:
                if (found := seen_by_unit(self._run, progress)) is not None:
                    return found
            except (UpdaterError, TimeoutError) as error:
                failure = UpdaterError(INSPECTION_FAILED, reason=str(error))
                away = (
                    Finding(
                        failure.code, Severity.CRITICAL, failure.title_text, failure.remedy_text
                    ),
                )
            findings = (*away, *diagnose(self._run.config, progress))
        blocks = any(finding.severity is Severity.CRITICAL for finding in findings)
        words: list[OutputLine] = list(format_findings(findings, self._run.language))
        if not (blocks or any(found.code == "NU-6001" for found in findings)):
            words.append(LazyText(N_("Ready for an upgrade")))
        document = {
            "healthy": not blocks,
            "findings": [finding_to_json(found, self._run.language) for found in findings],
        }
        return CommandResult(document, words, ExitCode.BLOCKED if blocks else ExitCode.OK)

    def verify(self, heads: Sequence[ChainHead], *, journal_only: bool) -> CommandResult:
        from ncen_updater.agent.reports.diagnostics.verify import verify_journal, verify_site

        site = None if journal_only else self._site
        with self._open_journal() as journal, self._run.make_progress() as progress:
            if site is None:
                findings = verify_journal(journal, heads)
            else:
                progress.report(LazyText(N_("verifying the site")))
                findings = verify_site(site, journal, progress, heads)
            head = journal.read_head()
        differs = any(finding.severity is Severity.CRITICAL for finding in findings)
        words: list[OutputLine] = list(format_findings(findings, self._run.language))
        if not findings and site is None:
            words.append(LazyText(N_("Audit log intact")))
        elif not findings:
            words.append(LazyText(N_("No differences.")))
        elif all(finding.severity is Severity.INFO for finding in findings):
            words.append(LazyText(N_("No other differences.")))
        words.append(LazyText(N_("Chain head: {head}"), {"head": head}))
        document = {
            "chain_head": str(head),
            "as_recorded": not differs,
            "findings": [finding_to_json(found, self._run.language) for found in findings],
        }
        return CommandResult(
            document, words, ExitCode.INTERVENTION_NEEDED if differs else ExitCode.OK
        )

    def collect_support_bundle(
        self, leave_out: Sequence[str], show: Sequence[str]
    ) -> CommandResult:
        import base64

        from ncen_updater.agent.reports.diagnostics.support_bundle.bundle import (
            make_bundle,
            pack_bundle,
        )

        now = datetime.now(UTC)
        with self._run.make_progress() as progress:
            progress.report(LazyText(N_("collecting diagnostics")))
            bundle = make_bundle(self._run.config, progress, now, leave_out=leave_out)
        archive = None if bundle.leaks else base64.b64encode(pack_bundle(bundle, now)).decode()
        return format_support_bundle(bundle, show, archive)

    def update_agent(
        self, target: Version | None, *, retry: bool, dry_run: bool = False
    ) -> CommandResult:
        """See :class:`SiteClient`; with ``dry_run`` only what would be done."""
        from ncen_updater.agent.self_update.agent_update import (
            create_agent_source,
            get_agent_directory,
            update_agent,
        )
        from ncen_updater.agent.self_update.slots import AgentSlots

        site = self._site
        with self._run.make_progress() as progress:
            progress.report(LazyText(N_("reading the metadata")))
            done = update_agent(
                site,
                create_agent_source(site, self._run.config),
                AgentSlots(get_agent_directory(site)),
                progress,
                actor=get_invoking_user(),
                target=target,
                retry=retry,
                dry_run=dry_run,
            )
        values = {"origin": done.origin, "version": done.version}
        words: list[OutputLine] = []
        if done.version is None:
            words.append(LazyText(N_("Up to date: ncen-updater {origin}"), values))
        elif done.chosen:
            words.append(LazyText(N_("Updated from {origin}: ncen-updater {version}"), values))
            words.append(LazyText(N_("It starts at the next restart of the service.")))
        else:
            words.append(
                LazyText(N_("Would be updated from {origin}: ncen-updater {version}"), values)
            )
        return CommandResult(
            {"from": done.origin, "to": done.version, "chosen": done.chosen}, words
        )

    def rehearse(
        self, target: Version | None, *, retry: bool, dry_run: bool = False
    ) -> CommandResult:
        """See :class:`SiteClient`; with ``dry_run`` only what would be rehearsed."""
        from ncen_updater.agent.engine.operations import Operations
        from ncen_updater.agent.engine.rehearsal.rehearser import Rehearser
        from ncen_updater.agent.engine.signal_handling import SignalHandler
        from ncen_updater.agent.model.change import new_change_id
        from ncen_updater.agent.reports.dossier.store import write_dossiers
        from ncen_updater.feed.upgrade_path import UpgradePath

        site, interruption = self._site, SignalHandler()
        target = self._resolve_target(target)
        with self._run.make_progress() as progress, interruption.handle_signals():
            operations = Operations(site, progress)
            looking = (
                operations.read_journal() if dry_run else operations.lock_idle_site("rehearse")
            )
            with looking as journal:
                path = operations.find_cached_path(journal, target, retry=retry)
                if dry_run or not isinstance(path, UpgradePath):
                    current = str(site.slots.read_current())
                    document = serialize_path(path, self._run.language, current)
                    words = tuple(
                        format_path_lines(site.config.site.product, current, path, self._run.zone)
                    )
                    return CommandResult({"rehearsal": None, **document}, words)
                rehearser = Rehearser(site, journal, progress, new_change_id, interruption)
                record = rehearser.rehearse(path)
                pages = write_dossiers(site, journal, record.to_version)
        found = serialize_rehearsal(record)
        # Not where it lies: most of those who decide cannot open that.
        retained = [LazyText(N_("To write the approval dossier, run: ncen-updater dossier"))]
        return CommandResult(
            {"rehearsal": found, "dossiers": [str(page) for page in pages]},
            [*format_rehearsal_lines(found, self._run.language), *(retained if pages else ())],
        )

    def upgrade(
        self,
        target: Version | None,
        *,
        retry: bool,
        scheduled: bool = False,
        start_before: datetime | None = None,
    ) -> CommandResult:
        """See :class:`SiteClient`.

        Args:
            target: The release that a person named.
            retry: Whether releases are tried again that failed here.
            scheduled: Whether nobody but the service begins it.
            start_before: When the window closes in which users may be kept out.
        """
        from ncen_updater.agent.engine.approvals.approval_status import (
            count_required_approvals,
            make_consent_check,
        )

        site, target = self._site, self._resolve_target(target)
        with self._open_operations() as (operations, progress), self._allow_interruption():
            needed = count_required_approvals(site, scheduled=scheduled)
            agree = None if needed is None else make_consent_check(site, progress, approvals=needed)
            result = operations.upgrade(
                target, retry=retry, start_before=start_before, check_consent=agree
            )
        before: tuple[OutputLine, ...] = ()
        if not result.outcomes and result.path is not None:
            product, current = site.config.site.product, str(site.slots.read_current())
            before = tuple(format_path_lines(product, current, result.path, self._run.zone))
        return format_operation_result(result, self._run.language, before)

    def import_bundle(self, file: Path, *, dry_run: bool) -> CommandResult:
        from ncen_updater.formats.bundle.bundle_file import open_bundle_file

        return self._import_files(file, get_invoking_user(), open_bundle_file, dry_run=dry_run)

    def import_for_job(self, number: int, *, dry_run: bool) -> CommandResult:
        """Import what an order of the service names in the tray, for whoever gave it.

        Raises:
            RequestRefusedError: If there is no such order.
        """
        from ncen_updater.agent.storage.inbox import Inbox
        from ncen_updater.agent.storage.journal.jobs import JobKind, JobQueue

        inbox = Inbox(self._site.state_directory)
        with self._open_journal() as journal:
            order = JobQueue(journal).find(number)
        if order is None or order.kind is not JobKind.IMPORT:
            raise RequestRefusedError(API_PATH_UNKNOWN, path=f"order {number}")
        person = order.actor

        def opener(path: Path) -> int:
            return inbox.open_file(path.name, person.uid)

        file = inbox.path / str(order.data.get("file"))
        return self._import_files(file, person.name, opener, dry_run=dry_run)

    def _import_files(
        self, file: Path, actor: str, opener: Callable[[Path], int], *, dry_run: bool
    ) -> CommandResult:
        from ncen_updater.agent.adapters.feed_reader.worker_source import WorkerReleaseSource
        from ncen_updater.agent.engine.bundle_import import import_bundle

        site = self._site
        child = WorkerReleaseSource(site.config, self._run.config)
        with self._run.make_progress() as progress:
            record = import_bundle(
                site, child, file, progress, actor=actor, dry_run=dry_run, opener=opener
            )
        return format_import(record, dry_run=dry_run, zone=self._run.zone)

    def plan_rollback(self, accept_loss: int | None) -> CommandResult:
        from ncen_updater.agent.engine.approvals.rollback_approvals import find_rollback_to_approve
        from ncen_updater.agent.engine.operations import Operations

        site = self._site
        with self._run.make_progress() as progress:
            progress.report(LazyText(N_("planning the rollback")))
            way = Operations(site, progress).plan_rollback(accept_loss=accept_loss)
            with self._open_journal() as journal:
                needed = site.config.service.required_approvals
                subject = find_rollback_to_approve(journal, str(way.origin), needed)
                return format_rollback_plan(
                    way, subject, self._run.language, _find_round_trip(journal, way)
                )

    def approve_rollback(self, rollback_plan: JsonDocument, accept_loss: int | None = None) -> None:
        from ncen_updater.agent.engine.approvals.rollback_approvals import (
            approve_rollback,
            find_rollback_to_approve,
        )

        needed = self._site.config.service.required_approvals
        with self._open_journal(read_only=False) as journal:
            found = find_rollback_to_approve(journal, str(self._site.slots.read_current()), needed)
            if found.binding != rollback_plan["binding"]:
                raise UpdaterError(
                    ROLLBACK_PLAN_CHANGED, version=found.target, current=found.origin
                )
            approve_rollback(journal, found, self._person, accept_loss=accept_loss or 0)

    def rollback(
        self,
        accept_loss: int | None,
        undoes: str | None,
        emergency: str | None = None,
        *,
        job: int | None = None,
    ) -> CommandResult:
        """See :class:`SiteClient`; with ``job`` for whoever gave that order to the service."""
        from ncen_updater.agent.engine.approvals.rollback_approvals import (
            RollbackRequest,
            find_rollback_to_approve,
            read_rollback_request,
            require_rollback_consent,
        )
        from ncen_updater.agent.policy.rollback_rules import RollbackConsent

        needed = self._site.config.service.required_approvals

        def agree(journal: Journal, way: RollbackPlan) -> ChangeFacts:
            # Who types it with the rights to is one who approves; so it is with an upgrade.
            by_hand = RollbackRequest(self._person, may_approve=True, emergency_reason=emergency)
            asked = by_hand if job is None else read_rollback_request(journal, job)
            found = find_rollback_to_approve(journal, str(way.origin), needed)
            verdict = require_rollback_consent(journal, found, asked)
            approved = verdict.consent is RollbackConsent.APPROVED
            return ChangeFacts(binding=found.binding if approved else None)

        with self._open_operations() as (operations, _):
            result = operations.rollback(
                accept_loss=accept_loss, expected_upgrade=undoes, agree=agree
            )
        return format_operation_result(result, self._run.language)

    def _allow_interruption(self) -> AbstractContextManager[None]:
        from ncen_updater.agent.service.soak_preemption import preempt_soak_for_rollback

        return preempt_soak_for_rollback(self._site.state_directory / JOURNAL_FILE)

    @contextmanager
    def _open_operations(self) -> Iterator[tuple[Operations, ProgressListener]]:
        from ncen_updater.agent.engine.operations import Operations
        from ncen_updater.agent.engine.signal_handling import SignalHandler

        site, interruption = self._site, SignalHandler()
        with self._run.make_progress() as progress, interruption.handle_signals():
            yield Operations(site, progress, interruption=interruption), progress


# ---- through the service -------------------------------------------------------------------------


#: By which name a form or a query has an argument, where that is another one.
_NAMES = {"target": "version", "next_upgrade": "binding", "emergency": "emergency_reason"}


def _encode_argument(value: object) -> object:
    """Return an argument as a form or a query has it."""
    if isinstance(value, Mapping):  # what a person saw
        return value["binding"]
    if isinstance(value, datetime):
        return value.isoformat()
    if value is None or isinstance(value, bool | int | str):
        return value
    return [str(item) for item in value] if isinstance(value, Sequence) else str(value)


class _Delegated:
    """A method of :class:`SiteClient` that is one thing asked of the service.

    Args:
        way: How: ``request``, ``order`` or ``inspect``.
        what: The request, or what is ordered or looked at.
        read: Where the answer has what is returned; all of it by default.
    """

    def __init__(self, way: str, what: str, read: Callable[[Any], object] | None = None) -> None:
        self._way, self._what, self._read = way, what, read or (lambda found: found)

    def __set_name__(self, owner: type, name: str) -> None:
        """Know the arguments of the method."""
        self._signature = signature(getattr(SiteClient, name))

    def __get__(self, site: ServiceSiteClient, owner: type) -> Callable[..., Any]:
        """Return the method of a site."""

        def call(*arguments: object, **named: object) -> object:
            given = self._signature.bind(site, *arguments, **named)
            given.apply_defaults()
            values = {
                _NAMES.get(k, k): _encode_argument(v)
                for k, v in given.arguments.items()
                if k != "self"
            }
            return self._read(getattr(site, self._way)(self._what, **values))

        return call


class ServiceSiteClient:
    """Asks the service of the site, which asks the kernel who that is.

    Args:
        run: The command that asks.
        service: The service.
    """

    read_status = _Delegated("request", "GET /v1/status")
    count_holds = _Delegated("request", "GET /v1/holds", lambda found: len(found["holds"]))
    lift_holds = _Delegated("request", "DELETE /v1/holds", itemgetter("lifted"))
    require_right = _Delegated("request", "GET /v1/rights/{role}")
    approve = _Delegated("request", "POST /v1/approvals")
    schedule = _Delegated("request", "PUT /v1/schedule")
    cancel_schedule = _Delegated("request", "DELETE /v1/schedule", itemgetter("cancelled"))
    check_feed = _Delegated("order", "check")
    rehearse = _Delegated("order", "rehearse")
    upgrade = _Delegated("order", "upgrade")
    rollback = _Delegated("order", "rollback")
    build_dossier = _Delegated("inspect", "dossier")
    run_doctor = _Delegated("inspect", "findings")
    collect_support_bundle = _Delegated("inspect", "support-bundle")
    plan_rollback = _Delegated("inspect", "rollback-plan")

    def __init__(self, run: AgentSession, service: SiteServiceClient) -> None:
        self._run, self._service = run, service

    def request(self, asked: str, **values: object) -> JsonDocument:
        """Ask for one thing; what is not said is left out."""
        method, address = asked.split()
        given = {name: value for name, value in values.items() if value not in (None, "", [])}
        for name in re.findall(r"{(\w+)}", address):
            address = address.replace(f"{{{name}}}", quote(str(given.pop(name)), safe=""))
        if method in ("POST", "PUT"):
            return self._service.call(method, address, given or None)
        return self._service.call(method, f"{address}?{urlencode(given)}" if given else address)

    def read_history(self, change: str | None, limit: int) -> JsonDocument:
        if change is None:
            return self.request("GET /v1/history", limit=limit)
        try:
            return self.request("GET /v1/history/{id}", id=change)
        except UpdaterError as error:
            if error.code != API_PATH_UNKNOWN.code:
                raise
            raise UpdaterError(UNKNOWN_CHANGE, change=change, state=NOTHING_CHANGED) from error

    def set_hold(self, reason: str, until: datetime | None, *, dry_run: bool) -> JsonDocument:
        if dry_run:
            who = self.read_status()["you"]["name"]
            return {"held": False, "reason": reason, "actor": who, "until": to_json_value(until)}
        return self.request("POST /v1/holds", reason=reason, until=_encode_argument(until))

    def read_next_upgrade_summary(self) -> tuple[str | None, JsonDocument | None]:
        seen = self._read_fresh_next_upgrade()
        return (None, None) if seen["open_change"] else (seen["target"], seen["begins"])

    def require_no_hold(self) -> None:
        for hold in self.request("GET /v1/holds")["holds"]:
            error = make_hold_error(
                hold["reason"], hold["actor"], datetime.fromisoformat(hold["since"]), self._run.zone
            )
            error.state = NOTHING_CHANGED
            raise error

    def confirm_release(self, *, dry_run: bool) -> JsonDocument:
        return self.request("GET /v1/confirmation" if dry_run else "POST /v1/confirmation")

    def is_service_running(self) -> bool:
        return True

    def read_next_upgrade(
        self, target: Version | None, *, not_before: datetime | None = None
    ) -> JsonDocument:
        """See :class:`SiteClient`; waits until the service has looked at what happened last."""
        seen = self._read_fresh_next_upgrade()
        require_no_pending_change(seen["open_change"], self._run.zone, state=NOTHING_CHANGED)
        seen = self._select_target(seen, target)
        if not_before is None:
            return seen
        return self.request(
            "GET /v1/outlook", version=seen["target"], not_before=_encode_argument(not_before)
        )

    def _select_target(self, seen: JsonDocument, target: Version | None) -> JsonDocument:
        """Return what was seen, of the release that was named.

        Raises:
            NOT_THE_NEXT_UPGRADE: If another release comes next than the one that was named.
        """
        if target is not None and target != type(target)(seen["target"] or "0"):
            return self.request("GET /v1/outlook", version=str(target))
        if seen["target"] is None:
            if self.read_status()["feed"] is None:
                raise UpdaterError(FEED_NEVER_READ, state=NOTHING_CHANGED)
            raise UpdaterError(
                NOTHING_TO_APPROVE, current=str(seen["current"]), state=NOTHING_CHANGED
            )
        return seen

    def _read_fresh_next_upgrade(self) -> JsonDocument:
        """Return the outlook, once the service has looked at what happened last."""
        seen = self.request("GET /v1/outlook")
        with self._run.make_progress() as progress:
            for _ in range(MAX_POLLS):
                if seen["up_to_date"] or self.read_status()["service"]["running"]:
                    break
                progress.report(LazyText(N_("waiting for the service")))
                sleep(POLL_INTERVAL_S)
                seen = self.request("GET /v1/outlook")
        return seen

    def withdraw(self, version: Version | None, *, rollbacks: bool) -> int:
        named = {"change_kind": "rollback"} if rollbacks else {"version": _encode_argument(version)}
        return int(self.request("DELETE /v1/approvals", **named)["withdrawn"])

    def count_schedules(self) -> int:
        return 1 if self._read_fresh_next_upgrade()["scheduled"] else 0

    def require_consent(self, target: Version, *, retry: bool) -> None:
        seen = self._select_target(self._read_fresh_next_upgrade(), target)
        # One who may approve alone does so by ordering it.
        if seen["required_approvals"] > 1 or "approve" not in self.read_status()["you"]["roles"]:
            require_approvals(seen)

    def prepare_plan(
        self, target: Version | None, *, retry: bool, sql: bool = False
    ) -> CommandResult:
        """See :class:`SiteClient`; who may only look sees the plan of what is prepared already."""
        version = _encode_argument(target)
        try:
            answer = self.order("prepare", version=version, retry=retry)
        except UpdaterError as error:
            if error.code != NOT_ALLOWED.code:
                raise
        else:
            hops = answer.document.get("hops")
            if not sql or answer.error is not None or not hops:
                return answer
            version = hops[-1]["version"]  # the one whose plan that was
        answer = self.inspect("plan", version=version, retry=retry)
        plan, text = answer.document.get("plan"), answer.document.get("sql")
        if not (sql and isinstance(plan, dict) and isinstance(text, str)):
            shown = {key: value for key, value in answer.document.items() if key != "sql"}
            return replace(answer, document=shown)
        return CommandResult({"digest": plan["digest"], "sql": text}, [text])

    def verify(self, heads: Sequence[ChainHead], *, journal_only: bool) -> CommandResult:
        return self.inspect(
            "audit-log" if journal_only else "verify", chain_heads=_encode_argument(heads)
        )

    def update_agent(self, target: Version | None, *, retry: bool) -> CommandResult:
        answer = self.order("self-update", version=_encode_argument(target), retry=retry)
        wanted = answer.document.get("to") if answer.document.get("chosen") else None
        for _ in range(MAX_POLLS if wanted else 0):
            value = self._service.get("/v1/openapi.json", patiently=True)
            if value["info"]["version"] == wanted:
                runs = LazyText(N_("Running on trial: ncen-updater {version}"), {"version": wanted})
                return replace(answer, lines=[*answer.lines[:1], runs])
            sleep(POLL_INTERVAL_S)
        return answer

    def import_bundle(self, file: Path, *, dry_run: bool) -> CommandResult:
        """See :class:`SiteClient`; the service takes a file from the tray alone."""
        from ncen_updater.agent.storage.inbox import place_files

        self.require_right("operate")
        inbox = Path(str(self.request("GET /v1/tray")["directory"]))
        with self._run.make_progress() as progress, place_files(inbox, file, progress) as remove:
            answer = self.order("import", file=file.name, dry_run=dry_run)
            if answer.document.get("ended") is False:
                remove.clear()  # it still needs it
                text = N_("The copied files remain in {path}.")
                self._run.print_message(LazyText(text, {"path": inbox}))
        return answer

    def approve_rollback(self, rollback_plan: JsonDocument, accept_loss: int | None = None) -> None:
        form = {
            "binding": rollback_plan["binding"],
            "change_kind": "rollback",
            "accept_loss": accept_loss or None,
        }
        self.request("POST /v1/approvals", **form)

    def order(self, kind: str, **data: object) -> CommandResult:
        """Give an order, show its progress until it has ended, and return what it came to.

        Ctrl-C ends the looking only.

        Raises:
            UpdaterError: If it is refused, or the service goes away for good.
            JOB_INTERRUPTED: If the service was killed meanwhile.
        """
        given = self.request("POST /v1/orders", kind=kind, language=self._run.language, **data)
        number = given["id"]
        try:
            with self._run.make_progress() as progress:
                self._follow_job(kind, given, progress)
        except KeyboardInterrupt:
            text = N_("Job {order} continues. To follow it, run: ncen-updater watch")
            self._run.print_message(LazyText(text, {"order": number}))
            return CommandResult({"order": number, "ended": False})
        ended = self._service.get(f"/v1/orders/{number}", patiently=True)
        return parse_job_result(number, ended["result"])

    def _follow_job(self, kind: str, given: JsonDocument, progress: ProgressListener) -> None:
        """Show the progress of an order until it has ended."""
        number = given["id"]
        waits: LazyText | None = None
        try:
            for event in self._service.stream(given["event"]):
                if event.kind == "order-ended" and event.data["data"].get("order") == number:
                    return
                if event.kind != "service":
                    continue
                # An order to go back ends the watching of a release, and waits for nothing.
                if kind != "rollback" and not _has_started(event.data, given["at"]):
                    waits = waits or self._describe_wait(given["at"])
                if waits is not None and not _has_started(event.data, given["at"]):
                    progress.report(waits)
                elif not predates_job(event.data, given["at"]):
                    report_progress(progress, event.data)
        except UpdaterError as error:
            if error.code != TOO_MANY_STREAMS.code:
                raise
        # Pages of this person listen already, as many as may: it is asked instead.
        while self._service.get(f"/v1/orders/{number}", patiently=True)["ended_at"] is None:
            report_progress(progress, self.read_status()["service"])
            sleep(POLL_INTERVAL_S)

    def _describe_wait(self, requested_at: str) -> LazyText | None:
        """Say what an order waits for: the release that is watched, or whatever is at work."""
        seen = self.read_status()
        if _has_started(seen["service"], requested_at):
            return None
        return describe_job_wait(seen, self._run.zone)

    def inspect(self, kind: str, **data: object) -> CommandResult:
        """Have something looked at, show its progress, and return what was found.

        Raises:
            UpdaterError: If it is refused, or came to no result.
        """
        form = {"kind": kind, "language": self._run.language, **data}
        number = self.request("POST /v1/inspections", **form)["id"]
        with self._run.make_progress() as progress:
            while True:
                seen = self._service.get(f"/v1/inspections/{number}?wait={INSPECT_WAIT_S}")
                if seen["result"] is not None:
                    return parse_job_result(number, seen["result"])
                update = ProgressUpdate.from_json(seen["progress"])
                if update is not None:
                    progress.report(update.text, update.done, update.total)


def _find_round_trip(journal: Journal, plan: RollbackPlan) -> RoundTripResult | None:
    """Return the newest round-trip result for a rollback; None where no rehearsal has one."""
    wanted = (str(plan.target), str(plan.origin))
    for record in RehearsalStore(journal).list_newest():
        for hop in record.report.hops if record.report is not None else ():
            if hop.versions == wanted:
                return hop.round_trip
    return None


def parse_job_result(number: int, result: object) -> CommandResult:
    """Return what an order came to.

    Raises:
        JOB_INTERRUPTED: If the service, or what worked for it, was killed meanwhile.
    """
    document = result.get("document") if isinstance(result, dict) else None
    if not isinstance(result, dict) or result.get("exit_code") is None or not document:
        raise UpdaterError(JOB_INTERRUPTED, order=number)
    known = frozenset(ExitCode)
    code = ExitCode(result["exit_code"]) if result["exit_code"] in known else ExitCode.ERROR
    error = document.get("error")
    return CommandResult(
        {key: value for key, value in document.items() if key != "lines"},
        [str(line) for line in document.get("lines", ())],
        code,
        parse_error_document({**error, "exit_code": int(code)})
        if isinstance(error, dict)
        else None,
    )


def find_service(run: AgentSession) -> SiteServiceClient | None:
    """Return the service of the site; None where a command has to work alone.

    It does so where it is told to, where nothing listens, and where the service may not be spoken
    with: then the rights on the files decide, as without a service.
    """
    path = read_service_socket(run.config)
    try:
        if run.local_only or not path.is_socket():
            return None
    except OSError:  # a directory that may not be entered
        return None
    from ncen_updater.agent.service.api_client import SiteServiceClient

    client = SiteServiceClient(path, run.language)
    return client if client.is_reachable() else None


def seen_by_unit(run: AgentSession, progress: ProgressListener) -> CommandResult | None:
    """Return what the unit that works on the site finds there; None where no unit does.

    What root may write, read and reach is not what the unit may, and the unit does the work. It
    waits at its socket, whether the service runs or not.
    """
    from ncen_updater.agent.config.loader import load_config
    from ncen_updater.agent.service.apply_runner import ApplyRunner
    from ncen_updater.agent.service.inspecting import MAX_RESULT_BYTES, TIMEOUTS_S, InspectionKind
    from ncen_updater.agent.service.snapshot import SnapshotStore

    try:
        config = load_config(run.config, look=False)
    except ConfigError:
        return None  # the look from here says so
    socket = config.paths.resolve(config.service.apply_socket)
    if run.local_only or config.service.runner != "systemd" or not socket.is_socket():
        return None
    watcher = SnapshotStore(config.service, lambda: datetime.now(UTC))
    done = ApplyRunner(run.config, socket, lambda: None, lambda: False, watcher).inspect(
        ("doctor", "--lang", run.language),
        lambda reported: progress.report(reported.text),
        lambda: False,
        timeout_s=TIMEOUTS_S[InspectionKind.FINDINGS],
        max_bytes=MAX_RESULT_BYTES,
    )
    return parse_job_result(0, vars(done))


def require_service(run: AgentSession) -> SiteServiceClient:
    """Return the service of the site.

    Raises:
        NO_SERVICE: If none answers.
    """
    client = find_service(run)
    if client is None:
        raise UpdaterError(NO_SERVICE, path=read_service_socket(run.config))
    return client


def _has_started(moment: JsonDocument, requested_at: str) -> bool:
    """Whether the service is at what it began after an order was given. Pure."""
    running = moment.get("running")
    if running is None:
        return False
    return datetime.fromisoformat(running["since"]) >= datetime.fromisoformat(requested_at)


def predates_job(moment: JsonDocument, requested_at: str) -> bool:
    """Whether what the service says was decided before it knew of an order. Pure."""
    looked_at = moment["status_read_at"]
    if moment["running"] is not None or looked_at is None:
        return False
    return datetime.fromisoformat(looked_at) < datetime.fromisoformat(requested_at)


def describe_job_wait(status: JsonDocument, zone: tzinfo | None) -> LazyText | None:
    """Say what an order that was not begun waits for; None where nothing is at work. Pure.

    Args:
        status: How the site is, as ``status`` has it.
        zone: Zone of the site.
    """
    journal, running = status["journal"], status.get("service", {}).get("running")
    change, holder = journal.get("open_change") or {}, journal.get("lock_holder")
    until = change.get("soak_ends_at")
    if until is not None:
        words = N_(
            "waiting for the soak period of {version}, until {until}. To end it now, run: "
            "ncen-updater confirm"
        )
        at = format_time(datetime.fromisoformat(until), zone)
        return LazyText(words, {"version": change["to"], "until": at})
    if running is None and holder is None:
        return None
    name = running["command"][0] if running else str(holder).partition(", process ")[0]
    words = N_("waiting for: {what}")
    return LazyText(words, {"what": label_operation(str(name))})


def report_progress(progress: ProgressListener, service_state: JsonDocument) -> None:
    """Show what the service does at this moment."""
    for what, done, total in describe_current_work(service_state):
        progress.report(what, done, total)


def describe_current_work(
    moment: JsonDocument,
) -> Iterator[tuple[LazyText, int | None, int | None]]:
    """Say what the service does at this moment, with figures, or why it does nothing."""
    running = moment.get("running")
    if running is None:
        if moment.get("reason"):
            yield LazyText("{why}", {"why": moment["reason"]}), None, None
        return
    progress = ProgressUpdate.from_json(running.get("progress"))
    if progress is None:
        yield label_operation(str(running["command"][0])), None, None
    else:
        yield progress.text, progress.done, progress.total
