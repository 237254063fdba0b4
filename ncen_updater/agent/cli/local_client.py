"""Operations on a site without its service, with the rights of this process."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from ncen_updater.agent.cli.job_progress import parse_job_result
from ncen_updater.agent.cli.local_records import LocalRecords
from ncen_updater.agent.config.errors import ConfigError
from ncen_updater.agent.engine.change_guards import require_no_unfinished_change
from ncen_updater.agent.engine.rehearsal.rehearsal_store import RehearsalStore, serialize_rehearsal
from ncen_updater.agent.model.change_facts import ChangeFacts
from ncen_updater.agent.model.event_names import JOURNAL_FILE
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
    serialize_path,
    serialize_plan,
)
from ncen_updater.agent.service.errors import RequestRefusedError
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.common.cli.program import get_invoking_user
from ncen_updater.common.cli.render import finding_to_json, format_findings, format_time
from ncen_updater.common.cli.usage import NOTHING_CHANGED
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.findings import Finding, Severity
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.labels import format_withdrawal
from ncen_updater.common.messages import (
    API_PATH_UNKNOWN,
    INSPECTION_FAILED,
    NOT_PREPARED,
    NOTHING_TO_APPROVE,
    ROLLBACK_PLAN_CHANGED,
    ExitCode,
)
from ncen_updater.common.progress import ProgressListener

if TYPE_CHECKING:
    from packaging.version import Version

    from ncen_updater.agent.adapters.databases.round_trip import RoundTripResult
    from ncen_updater.agent.cli.session import AgentSession
    from ncen_updater.agent.engine.operations import Operations
    from ncen_updater.agent.engine.rollback_plan import RollbackPlan
    from ncen_updater.agent.storage.journal.rows import ChainHead
    from ncen_updater.feed.upgrade_path import NoUpgradePath, UpgradePath


READY = LazyText(N_("No problem blocks an upgrade"))


class LocalSiteClient(LocalRecords):
    """Operations on the site with the rights of this process."""

    def check_feed(self) -> CommandResult:
        """Read the signed metadata of the feed."""
        from ncen_updater.agent.engine.elapsed_time import try_record_elapsed_time
        from ncen_updater.agent.engine.path_selection import find_upgrade_path
        from ncen_updater.agent.self_update.agent_update import (
            find_offered_agent,
            refresh_agent_metadata,
        )
        from ncen_updater.feed.import_store import read_import_record

        config = self._run.config
        site = self._site
        with self._run.make_progress() as progress:
            progress.report(LazyText(N_("reading the metadata")))
            path = find_upgrade_path(site)
            try_record_elapsed_time(site.state_directory / JOURNAL_FILE, site.clock)
            agents_error = refresh_agent_metadata(site, config)
        agent = find_offered_agent(site, config)
        current, view = str(site.slots.read_current()), site.release_source.load_last_view()
        product, words = site.config.site.product, list[OutputLine]()
        record = read_import_record(site.config.paths.feed_state_directory)
        read_at = view.checked_at if view else None
        zone = site.config.service.get_timezone()
        from_bundle = record is not None and read_at == record.imported_at
        if from_bundle and record is not None:
            if not site.config.feed.offline:
                words.append(LazyText("{text}.", {"text": LazyText(N_("Feed unreachable"))}))
            text = N_("Metadata imported at {at}, valid until {until}")
            until = format_time(record.usable_until, zone)
            times = {"at": format_time(record.imported_at, zone), "until": until}
            words.append(LazyText(text, times))
        offers = view.offers if view else ()
        words += format_path_lines(product, current, path, self._run.zone)
        words += self._explain_approved_first()
        withdrawal = next((o.withdrawn for o in offers if o.version == current), None)
        if withdrawal is not None:
            words += format_withdrawal(product, current, withdrawal.reason, withdrawal.advice)
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
            "running_withdrawn": withdrawal.model_dump() if withdrawal else None,
            "imported": from_bundle,
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
        """Download, build and plan a release.

        Args:
            target: The release; the next one by default.
            retry: Whether releases marked bad are allowed.
            sql: Return only the SQL statements.
            prepared: Download nothing, and add the SQL statements to the plan.

        Raises:
            NOT_PREPARED: With ``prepared``, if a download is needed.
            SiteBusyError, OPEN_CHANGE: If an unfinished change comes first.
        """
        from ncen_updater.agent.engine.path_selection import find_upgrade_path
        from ncen_updater.agent.engine.plan import make_plan
        from ncen_updater.feed.upgrade_path import UpgradePath

        site, language = self._site, self._run.language
        with self._open_journal() as journal:
            require_no_unfinished_change(journal, soak_allowed=True)
        current, named = site.slots.read_current(), target is not None
        target = self._resolve_target(target)
        with self._run.make_progress() as progress:
            if prepared:
                path = self._choose_prepared_path(target, retry=retry)
            else:
                progress.report(LazyText(N_("reading the metadata")))
                path = find_upgrade_path(site, target, retry=retry)
            words = list(
                format_path_lines(
                    site.config.site.product,
                    str(current),
                    path,
                    self._run.zone,
                    rejected=not named,
                )
            )
            if not isinstance(path, UpgradePath) or current is None:
                return CommandResult(serialize_path(path, language, str(current)), words)
            words += self._explain_approved_first(path.target.version)
            plan = make_plan(site, current, path, progress)
            with self._open_journal() as journal:
                rehearsal = RehearsalStore(journal).find_last(str(current), path.target.version)
        report = rehearsal.report if rehearsal is not None else None
        plan = plan.apply_rehearsal(report)
        if sql:
            return CommandResult(
                {"digest": plan.digest, "sql": plan.render_sql()}, [plan.render_sql()]
            )
        extra = {"sql": plan.render_sql()} if prepared else {}
        return CommandResult(
            {**serialize_plan(path, plan, language, report), **extra},
            [*words, *format_plan_lines(plan, language, report)],
            ExitCode.BLOCKED if plan.is_blocked else ExitCode.OK,
        )

    def _choose_prepared_path(
        self, target: Version | None, *, retry: bool = False
    ) -> UpgradePath | NoUpgradePath:
        """Choose a path whose releases are all downloaded.

        Raises:
            NOT_PREPARED: If one is not downloaded.
        """
        from ncen_updater.agent.engine.path_selection import find_cached_path
        from ncen_updater.agent.service.assessment import is_slot_built
        from ncen_updater.feed.upgrade_path import UpgradePath

        with self._open_journal() as journal:
            path = find_cached_path(self._site, journal, target, retry=retry)
        hops = path.hops if isinstance(path, UpgradePath) else ()
        if not all(is_slot_built(self._site, hop) for hop in hops):
            raise UpdaterError(NOT_PREPARED, version=hops[-1].version, state=NOTHING_CHANGED)
        return path

    def build_dossier(self, target: Version | None, *, prepared: bool = False) -> CommandResult:
        """Build the approval dossier as ``html``, with its main facts; see :meth:`prepare_plan`."""
        from ncen_updater.agent.engine.approvals import upgrade_approvals as approving
        from ncen_updater.agent.reports.dossier import render_dossier
        from ncen_updater.agent.reports.dossier.facts import collect_dossier

        site, language, target = self._site, self._run.language, self._resolve_target(target)
        with self._open_journal() as journal:
            require_no_unfinished_change(journal, soak_allowed=True)
        if prepared:
            self._choose_prepared_path(target)
        with self._run.make_progress() as progress, self._open_journal() as journal:
            try:
                found = approving.find_upgrade_to_approve(site, journal, progress, target)
            except UpdaterError as error:
                if error.code != NOTHING_TO_APPROVE.code:
                    raise
                # Without another release, one marked bad can be approved for another attempt.
                if prepared:
                    self._choose_prepared_path(target, retry=True)
                found = approving.find_upgrade_to_approve(
                    site, journal, progress, target, retry=True
                )
            facts = collect_dossier(site, journal, found)
        content = render_dossier(facts, language)
        document = {
            "version": found.target,
            "binding": found.binding,
            "sha256": hashlib.sha256(content).hexdigest(),
            "html": content.decode(),
            "downtime_s": facts.downtime_s
            and dict(zip(("low", "likely", "high"), facts.downtime_s, strict=True)),
            "keeps_records": facts.keeps_records,
            "lost_objects": facts.lost_objects,
        }
        return CommandResult(document)

    def run_doctor(self) -> CommandResult:
        """Check the site for problems that block an upgrade."""
        from ncen_updater.agent.reports.diagnostics.doctor import diagnose

        with self._run.make_progress() as progress:
            progress.report(LazyText(N_("running diagnostics")))
            unit_findings: tuple[Finding, ...] = ()
            try:
                if (found := _inspect_through_unit(self._run, progress)) is not None:
                    return found
            except (UpdaterError, TimeoutError) as error:
                failure = UpdaterError(INSPECTION_FAILED, reason=str(error))
                unit_findings = (
                    Finding(
                        failure.code, Severity.CRITICAL, failure.title_text, failure.remedy_text
                    ),
                )
            findings = (*unit_findings, *diagnose(self._run.config, progress))
        blocks = any(finding.severity is Severity.CRITICAL for finding in findings)
        words: list[OutputLine] = list(format_findings(findings, self._run.language))
        if not (blocks or any(found.code == "NU-6001" for found in findings)):
            words.append(READY)
        document = {
            "healthy": not blocks,
            "findings": [finding_to_json(found, self._run.language) for found in findings],
        }
        return CommandResult(document, words, ExitCode.BLOCKED if blocks else ExitCode.OK)

    def verify(self, heads: Sequence[ChainHead], *, journal_only: bool) -> CommandResult:
        """Compare the site with its records, and the journal with chain heads stored elsewhere."""
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
            words.append(LazyText(N_("No differences found.")))
        elif all(finding.severity is Severity.INFO for finding in findings):
            words.append(LazyText(N_("No other differences found.")))
        words.append(LazyText(N_("Chain head of the audit log: {value}"), {"value": head}))
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
        """Collect diagnostics; ``archive`` (base64) is None if a part has a database value."""
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

    def update_agent(self, target: Version | None, *, retry: bool) -> CommandResult:
        """Update ncen-updater itself."""
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
            )
        values = {"origin": done.origin, "version": done.version}
        words: list[OutputLine] = []
        if done.version is None:
            words.append(LazyText(N_("Up to date: ncen-updater {origin}"), values))
        else:
            words.append(LazyText(N_("ncen-updater updated: {origin} -> {version}"), values))
            words.append(LazyText(N_("It starts at the next restart of the service.")))
        return CommandResult({"from": done.origin, "to": done.version}, words)

    def rehearse(self, target: Version | None, *, retry: bool) -> CommandResult:
        """Rehearse a release on copies of the databases."""
        from ncen_updater.agent.engine.operations import Operations
        from ncen_updater.agent.engine.path_selection import find_cached_path
        from ncen_updater.agent.engine.rehearsal.rehearser import Rehearser
        from ncen_updater.agent.engine.signal_handling import SignalHandler
        from ncen_updater.agent.model.change import new_change_id
        from ncen_updater.agent.reports.dossier.page import write_dossiers
        from ncen_updater.feed.upgrade_path import UpgradePath

        site, interruption = self._site, SignalHandler()
        target = self._resolve_target(target)
        with self._run.make_progress() as progress, interruption.handle_signals():
            operations = Operations(site, progress)
            with operations.lock_idle_site("rehearse") as journal:
                path = find_cached_path(site, journal, target, retry=retry)
                if not isinstance(path, UpgradePath):
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
        # The path of the written dossier is not printed: most approvers cannot read it.
        text = N_("To write the approval dossier, run: ncen-updater dossier {version}")
        approve = N_("To approve, run: ncen-updater approve {version}")
        hints = [LazyText(one, {"version": record.to_version}) for one in (text, approve)]
        return CommandResult(
            {"rehearsal": found, "dossiers": [str(page) for page in pages]},
            [*format_rehearsal_lines(found, self._run.language), *(hints if pages else ())],
        )

    def upgrade(
        self,
        target: Version | None,
        *,
        retry: bool,
        scheduled: bool = False,
        start_before: datetime | None = None,
    ) -> CommandResult:
        """Upgrade.

        Args:
            target: The given release; None selects one automatically.
            retry: Whether releases marked bad are allowed.
            scheduled: Whether the service starts it automatically.
            start_before: End of the maintenance window.
        """
        from ncen_updater.agent.engine.approvals.approval_status import (
            count_required_approvals,
            make_consent_check,
        )
        from ncen_updater.agent.service.soak_preemption import preempt_soak_for_rollback

        site, target = self._site, self._resolve_target(target)
        interruptible = preempt_soak_for_rollback(site.state_directory / JOURNAL_FILE)
        with self._open_operations() as (operations, progress), interruptible:
            needed = count_required_approvals(site, scheduled=scheduled)
            check_consent = (
                None if needed is None else make_consent_check(site, progress, approvals=needed)
            )
            result = operations.upgrade(
                target, retry=retry, start_before=start_before, check_consent=check_consent
            )
        before: tuple[OutputLine, ...] = ()
        if not result.outcomes and result.path is not None:
            product, current = site.config.site.product, str(site.slots.read_current())
            before = tuple(format_path_lines(product, current, result.path, self._run.zone))
        return format_operation_result(result, self._run.language, before)

    def import_bundle(self, file: Path, *, dry_run: bool) -> CommandResult:
        """Verify an offline bundle and, unless ``dry_run``, import it."""
        from ncen_updater.formats.bundle_file import open_bundle_file

        return self._import_files(file, get_invoking_user(), open_bundle_file, dry_run=dry_run)

    def import_for_job(self, number: int, *, dry_run: bool) -> CommandResult:
        """Import the file that a job names in the import directory, on behalf of its requester.

        Raises:
            RequestRefusedError: If the job does not exist.
        """
        from ncen_updater.agent.storage.inbox import Inbox
        from ncen_updater.agent.storage.journal.jobs import JobKind, JobQueue

        inbox = Inbox(self._site.state_directory)
        with self._open_journal() as journal:
            job = JobQueue(journal).find(number)
        if job is None or job.kind is not JobKind.IMPORT:
            raise RequestRefusedError(API_PATH_UNKNOWN, path=f"job {number}")
        requester = job.actor

        def opener(path: Path) -> int:
            return inbox.open_file(path.name, requester.uid)

        file = inbox.path / str(job.data.get("file"))
        return self._import_files(file, requester.name, opener, dry_run=dry_run)

    def _import_files(
        self, file: Path, actor: str, opener: Callable[[Path], int], *, dry_run: bool
    ) -> CommandResult:
        from ncen_updater.agent.adapters.feed_reader.worker_source import WorkerReleaseSource
        from ncen_updater.agent.engine.bundle_import import import_bundle

        site = self._site
        source = WorkerReleaseSource(site.config, self._run.config)
        with self._run.make_progress() as progress:
            record = import_bundle(
                site, source, file, progress, actor=actor, dry_run=dry_run, opener=opener
            )
        return format_import(record, dry_run=dry_run, zone=self._run.zone)

    def plan_rollback(self, accept_loss: int | None) -> CommandResult:
        """Plan a rollback: its steps, its data loss, and the missing approvals."""
        from ncen_updater.agent.engine.approvals.rollback_approvals import find_rollback_to_approve
        from ncen_updater.agent.engine.operations import Operations

        site = self._site
        with self._run.make_progress() as progress:
            progress.report(LazyText(N_("planning the rollback")))
            plan = Operations(site, progress).plan_rollback(accept_loss=accept_loss)
            with self._open_journal() as journal:
                needed = site.config.service.required_approvals
                subject = find_rollback_to_approve(journal, str(plan.origin), needed)
                return format_rollback_plan(
                    plan, subject, self._run.language, _find_round_trip(journal, plan)
                )

    def approve_rollback(self, rollback_plan: JsonDocument, accept_loss: int | None = None) -> None:
        """Approve a rollback plan returned by :meth:`plan_rollback`, up to a data loss."""
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
            approve_rollback(journal, found, self._actor, accept_loss=accept_loss or 0)

    def rollback(
        self,
        accept_loss: int | None,
        undoes: str | None,
        emergency: str | None = None,
        *,
        job: int | None = None,
    ) -> CommandResult:
        """Roll back to the previous release.

        Args:
            accept_loss: Number of records that may be lost.
            undoes: Id of the upgrade that the operator confirmed; no other upgrade is rolled back.
            emergency: Reason to skip missing approvals.
            job: Id of the job whose requester rolls back.
        """
        from ncen_updater.agent.engine.approvals.rollback_approvals import (
            RollbackConsent,
            RollbackRequest,
            find_rollback_to_approve,
            read_rollback_request,
            require_rollback_consent,
        )

        needed = self._site.config.service.required_approvals

        def agree(journal: Journal, plan: RollbackPlan) -> ChangeFacts:
            # As with an upgrade: a user who has the rights to run it here also approves.
            by_hand = RollbackRequest(self._actor, may_approve=True, emergency_reason=emergency)
            request = by_hand if job is None else read_rollback_request(journal, job)
            found = find_rollback_to_approve(journal, str(plan.origin), needed)
            verdict = require_rollback_consent(journal, found, request)
            approved = verdict.consent is RollbackConsent.APPROVED
            return ChangeFacts(binding=found.binding if approved else None)

        with self._open_operations() as (operations, _):
            result = operations.rollback(
                accept_loss=accept_loss, expected_upgrade=undoes, check_consent=agree
            )
        return format_operation_result(result, self._run.language)

    @contextmanager
    def _open_operations(self) -> Iterator[tuple[Operations, ProgressListener]]:
        from ncen_updater.agent.engine.operations import Operations
        from ncen_updater.agent.engine.signal_handling import SignalHandler

        site, interruption = self._site, SignalHandler()
        with self._run.make_progress() as progress, interruption.handle_signals():
            yield Operations(site, progress, interruption=interruption), progress


def _find_round_trip(journal: Journal, plan: RollbackPlan) -> RoundTripResult | None:
    """Return the newest round-trip result for a rollback; None if no rehearsal has one."""
    wanted = (str(plan.target), str(plan.origin))
    for record in RehearsalStore(journal).list_newest():
        for hop in record.report.hops if record.report is not None else ():
            if hop.versions == wanted:
                return hop.round_trip
    return None


def _inspect_through_unit(run: AgentSession, progress: ProgressListener) -> CommandResult | None:
    """Return the diagnosis by the unit that runs operations; None without such a unit.

    Operations run in this unit, whose rights differ from those of root's shell. Its socket starts
    it, whether the service runs or not.
    """
    from ncen_updater.agent.config.loader import load_config
    from ncen_updater.agent.service.apply_runner import ApplyRunner
    from ncen_updater.agent.service.inspections import MAX_RESULT_BYTES, RULES, InspectionKind
    from ncen_updater.agent.service.snapshot import SnapshotStore

    try:
        config = load_config(run.config, check_disk=False)
    except ConfigError:
        return None  # the local diagnosis reports this error
    socket = config.paths.resolve(config.service.apply_socket)
    if run.local_only or config.service.runner != "systemd" or not socket.is_socket():
        return None
    observer = SnapshotStore(config.service, lambda: datetime.now(UTC))
    result = ApplyRunner(run.config, socket, lambda: None, lambda: False, observer).inspect(
        ("doctor", "--lang", run.language),
        lambda reported: progress.report(reported.text),
        lambda: False,
        timeout_s=RULES[InspectionKind.FINDINGS].timeout_s,
        max_bytes=MAX_RESULT_BYTES,
    )
    return parse_job_result(0, vars(result))
