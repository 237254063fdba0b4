"""Find problems that would block an upgrade. Reads only, without network access."""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from ncen_updater.agent.adapters.application.health_result import HealthExpectation
from ncen_updater.agent.adapters.databases.base import ChangeRef, CopyPlan, DatabaseRole
from ncen_updater.agent.config.agent_config import AgentConfig
from ncen_updater.agent.config.errors import (
    SERVER_REFUSED_CODE,
    find_unknown_database,
)
from ncen_updater.agent.config.essential_settings import load_essential_settings
from ncen_updater.agent.config.loader import load_config
from ncen_updater.agent.config.raw_config import format_start_command
from ncen_updater.agent.engine.change_outcome import read_outcome
from ncen_updater.agent.engine.preflight.files import inspect_site_files
from ncen_updater.agent.engine.preflight.health import (
    find_missing_parts,
    find_refused_credentials,
    find_unanswered,
    find_unknown_maintenance,
    make_credentials_finding,
    make_unhealthy_finding,
)
from ncen_updater.agent.engine.rehearsal.rehearsal_store import RehearsalStore
from ncen_updater.agent.engine.site import Site
from ncen_updater.agent.engine.site_factory import build_site
from ncen_updater.agent.engine.site_preflight import run_preflight
from ncen_updater.agent.model.change import Change, ChangeKind, StepName, StepState, new_change_id
from ncen_updater.agent.model.change_facts import NO_FACTS
from ncen_updater.agent.model.errors import NOT_ADOPTED, JournalMissingError
from ncen_updater.agent.model.event_names import JOURNAL_FILE
from ncen_updater.agent.policy.availability import AvailabilityState
from ncen_updater.agent.policy.operation_labels import describe_running_operation
from ncen_updater.agent.reports.diagnostics.access_checks import check_group_access
from ncen_updater.agent.reports.diagnostics.verify import (
    Check,
    build_open_change_finding,
    build_verify_checks,
)
from ncen_updater.agent.reports.status import (
    SiteStatus,
    get_part_or_none,
    read_status,
    require_part,
)
from ncen_updater.agent.storage.inbox import Inbox
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.site_files.directory_index import (
    get_snapshot_directory,
    list_leftovers,
)
from ncen_updater.common.cli.render import format_bytes, format_duration, format_time
from ncen_updater.common.disk_space import MARGIN_BYTES
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.findings import Finding, Severity, make_finding
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import (
    DATABASE_SET_INCOMPLETE,
    DATABASE_SET_MISSING,
    DATABASE_UNKNOWN,
    DATABASE_UNREACHABLE,
    MARKERS_DISAGREE,
)
from ncen_updater.common.progress import ProgressListener
from ncen_updater.feed.clock import find_clock_findings
from ncen_updater.formats.dialects import DIALECTS

#: Paths and user of the Debian package.
LOGIN_SOCKET, PAM_RULES = Path("/run/ncen-updater/login.sock"), Path("/etc/pam.d/ncen-updater")
CONSOLE_USER = "ncen-updater-console"


def check_password_login(
    socket: Path = LOGIN_SOCKET, rules: Path = PAM_RULES, console: str = CONSOLE_USER
) -> Iterator[Finding]:
    """Yield findings on missing parts of the password login, and on excessive access to it.

    Args:
        socket: The login socket; without it, the password login is disabled.
        rules: The PAM configuration.
        console: User of the console, the only one who may connect to the socket.
    """
    try:
        info = socket.lstat()
    except OSError:  # disabled, the default of the package
        return
    if not rules.is_file():
        yield make_finding(
            "NU-6135",
            Severity.WARNING,
            N_("Console login by password unavailable: {path} not found"),
            N_(
                "Run: sudo apt-get install --reinstall -o Dpkg::Options::=--force-confmiss"
                " ncen-updater"
            ),
            path=rules,
        )
    try:
        console_uid = pwd.getpwnam(console).pw_uid
    except KeyError:
        console_uid = -1
    open_to_others = info.st_uid != console_uid or bool(stat.S_IMODE(info.st_mode) & 0o077)
    groups = sorted(group.gr_name for group in grp.getgrall() if console in group.gr_mem)
    if open_to_others or groups:
        yield make_finding(
            "NU-6136",
            Severity.WARNING,
            N_(
                "Excessive access to {path}: users other than {user}, or extra groups of"
                " {user} ({groups})"
            ),
            N_(
                "Remove the user from these groups and run: systemctl revert"
                " ncen-updater-login.socket"
            ),
            user=console,
            path=socket,
            groups=", ".join(groups) or "-",
        )


#: Severities reported from the preflight; the others concern one release.
REPORTED_SEVERITIES = (Severity.CRITICAL, Severity.WARNING)
#: Parts of the status that the diagnosis reads.
STATUS_PARTS = frozenset(
    {"lock_holder", "availability", "full_disk", "journal", "signed_at", "feed_view"}
)
#: Code of the finding that a change is open, which is reported first.
OPEN_CHANGE_CODE = "NU-6103"
#: Finding that a database owner does not exist, and findings that follow from it.
UNKNOWN_OWNER_CODE, UNKNOWN_OWNER_CONSEQUENCES = (
    "NU-4136",
    frozenset({"NU-4001", "NU-4062", "NU-4153"}),
)
#: Findings that the application is not working.
NOT_WORKING_CODES = frozenset({"NU-6125", "NU-6128", "NU-6310"})
#: Findings that a database is missing, the most specific first, and findings that follow from it.
MISSING_DATABASE_CODES = tuple(
    message.code for message in (DATABASE_UNKNOWN, DATABASE_SET_MISSING, DATABASE_SET_INCOMPLETE)
)
MISSING_DATABASE_CONSEQUENCES = frozenset({MARKERS_DISAGREE.code, "NU-6102"}) | NOT_WORKING_CODES
#: Finding that the application's database login was refused or could not be tested.
LOGIN_UNKNOWN_CODE = "NU-4171"
#: Findings of the preflight that the diagnosis reports itself.
REPORTED_BY_DOCTOR = frozenset(f"NU-{number}" for number in (6309, 6310, 6316, 6332, 6336))


def diagnose(config_path: Path, progress: ProgressListener) -> tuple[Finding, ...]:
    """Check configuration, journal, databases, application, slots and metadata.

    Includes the checks of 'verify', and the preflight checks that apply to any release. An error of
    a check becomes a critical finding with its code, and the other checks continue.
    An open change is reported first, and its consequences are omitted.
    """
    try:
        site, settings = (
            build_site(load_config(config_path), config_path),
            load_essential_settings(config_path),
        )
    except UpdaterError as error:
        if isinstance(error.__cause__, PermissionError):
            raise  # this user may not read the site; the site itself may be in order
        return (_build_error_finding(error),)
    status = read_status(settings, site.clock.now(), STATUS_PARTS)
    journal = get_part_or_none(status.journal)
    change = journal.open_change if journal else None
    checks: tuple[Check, ...] = (
        lambda: _check_lock(status),
        lambda: _check_open_change(status, change),
        lambda: _check_journal(site, progress, change, busy=not _is_idle(status)),
        lambda: _check_settings(site.config),
        lambda: _check_disk_space(status),
        lambda: find_clock_findings(
            status.now, require_part(status.signed_at), site.config.service.get_timezone()
        ),
        lambda: _check_inbox(site),
        lambda: check_group_access(site.config, config_path),
        lambda: _check_site_files(site),
        lambda: _check_metadata(status),
        check_password_login,
    )
    if change is None and _is_idle(status):
        checks += (
            lambda: _check_databases(site),
            # The part of the preflight that needs no downloaded release.
            site.database_engine.find_exposures,
            lambda: _check_application(site, status),
            lambda: _check_units(site),
            lambda: _check_tools(site),
            lambda: _check_preflight(site),
        )
    found = _drop_consequences(_raise_login_severity(_run_checks(checks)))
    return tuple({(f.code, str(f.title)): f for f in found}.values())


def _drop_consequences(all_findings: Iterable[Finding]) -> list[Finding]:
    """Drop findings that only follow from a wrong owner or from absent databases. Pure.

    Migrations cannot be read as a role that does not exist, and sessions of the correct role look
    like those of another program. If a database is missing, the set contradicts the journal. The
    application cannot work without its databases, and neither starting nor rolling it back helps.
    """
    findings = [_translate_unknown_database(finding) for finding in all_findings]
    codes = {finding.code for finding in findings}
    consequences: frozenset[str] = frozenset()
    if UNKNOWN_OWNER_CODE in codes:
        consequences |= UNKNOWN_OWNER_CONSEQUENCES
    missing = [code for code in MISSING_DATABASE_CODES if code in codes]
    if missing:
        consequences |= MISSING_DATABASE_CONSEQUENCES.union(missing[1:])
    if DATABASE_UNREACHABLE.code in codes:
        consequences |= NOT_WORKING_CODES
    return [finding for finding in findings if finding.code not in consequences]


def _raise_login_severity(findings: Sequence[Finding]) -> list[Finding]:
    """Make a refused database login critical if the application is not working. Pure.

    A working application shows that its login works; the test then used another connection method.
    """
    is_down = any(finding.code in NOT_WORKING_CODES for finding in findings)
    return [
        replace(finding, severity=Severity.CRITICAL)
        if is_down and finding.code == LOGIN_UNKNOWN_CODE
        else finding
        for finding in findings
    ]


def _translate_unknown_database(finding: Finding) -> Finding:
    """Replace a refusal of the server by a specific finding if the database does not exist."""
    detail = finding.figures.get("detail")
    message = detail.render("en") if isinstance(detail, LazyText) else str(detail or "")
    name = find_unknown_database(message) if finding.code == SERVER_REFUSED_CODE else None
    return _build_error_finding(UpdaterError(DATABASE_UNKNOWN, database=name)) if name else finding


def _is_idle(status: SiteStatus) -> bool:
    """Return whether no operation is running, whose temporary effects would become findings."""
    return get_part_or_none(status.lock_holder) is None


def _run_checks(checks: Iterable[Check]) -> list[Finding]:
    findings: list[Finding] = []
    for check in checks:
        try:
            findings += check()
        except UpdaterError as error:
            findings.append(_build_error_finding(error))
    return findings


def _check_open_change(status: SiteStatus, change: Change | None) -> Iterator[Finding]:
    """Yield a finding for an open change, which blocks every upgrade until it ends."""
    if change is None or not _is_idle(status):
        return
    journal = get_part_or_none(status.journal)
    yield build_open_change_finding(
        change, Severity.CRITICAL, journal.last_facts if journal else NO_FACTS
    )


def _check_settings(config: AgentConfig) -> Iterator[Finding]:
    if config.service.mode == "automatic" and not config.service.windows:
        yield make_finding(
            "NU-6129",
            Severity.CRITICAL,
            N_("No maintenance window: automatic upgrades never start"),
            N_("Add an entry to [[service.windows]] in agent.toml."),
        )


def _check_tools(site: Site) -> Iterator[Finding]:
    if site.config.service.rehearse:
        site.database_engine.require_dump_programs()
    yield from ()


def _check_preflight(site: Site) -> Iterator[Finding]:
    """Yield preflight findings that affect any upgrade; ``plan`` reports those of one release."""
    current = site.slots.read_current()
    if current is None:
        return
    marker = site.database_engine.read_marker()
    planned = ChangeRef(
        id=new_change_id(),
        generation=(marker.generation if marker else 0) + 1,
        release=str(current),
        retained_from=None,
    )
    for finding in run_preflight(site, planned, current):
        if finding.severity in REPORTED_SEVERITIES and finding.code not in REPORTED_BY_DOCTOR:
            yield finding


def _build_error_finding(error: UpdaterError) -> Finding:
    figures: dict[str, object] = {"detail": error.detail_text} if error.detail else {}
    return Finding(error.code, Severity.CRITICAL, error.title_text, error.remedy_text, figures)


def _check_lock(status: SiteStatus) -> Iterator[Finding]:
    holder, journal = require_part(status.lock_holder), get_part_or_none(status.journal)
    change = journal.open_change if journal is not None else None
    soaking = change.to_version if change is not None and change.is_open_after_commit else None
    if holder is not None:
        yield Finding(
            "NU-6121",
            Severity.INFO,
            describe_running_operation(holder, soaking),
            LazyText(N_("Wait until it finishes. Run: ncen-updater status")),
        )


def _check_disk_space(status: SiteStatus) -> Iterator[Finding]:
    """Yield a finding if a disk of the site lacks the minimum free space."""
    found = get_part_or_none(status.full_disk)
    if found is not None:
        path, free_bytes = found
        yield make_finding(
            "NU-6127",
            Severity.CRITICAL,
            N_("Disk full: {path}, {free_bytes} free"),
            N_("Free at least {missing_bytes} there."),
            path=path,
            free_bytes=free_bytes,
            missing_bytes=MARGIN_BYTES,
        )


def _check_inbox(site: Site) -> Iterator[Finding]:
    """Yield findings if operators cannot write to the import directory."""
    inbox = Inbox(site.state_directory)
    packaged = site.config.service.runner == "systemd"
    if not (packaged or os.path.lexists(inbox.path)):
        return  # without the packaged service, it is created at first use
    try:
        inbox.require_usable()
    except UpdaterError as error:
        yield Finding(error.code, Severity.WARNING, error.title_text, error.remedy_text)


def _check_journal(
    site: Site, progress: ProgressListener, change: Change | None, *, busy: bool
) -> Iterator[Finding]:
    if not (site.state_directory / JOURNAL_FILE).exists() and site.slots.read_current() is None:
        yield Finding(
            JournalMissingError.message.code, Severity.INFO, LazyText(NOT_ADOPTED), LazyText("")
        )
        return
    with Journal.open(site.state_directory / JOURNAL_FILE, read_only=True) as journal:
        # During a change the agent itself may have closed the databases to other sessions.
        checks = build_verify_checks(site, journal, progress, databases=change is None)
        for finding in _run_checks(checks):
            if not (change is not None and finding.code == OPEN_CHANGE_CODE):
                yield finding
        known = {change.id for change in journal.list_changes()}
        unknown = find_unknown_maintenance(
            site.application, known, site.config.application.maintenance_file
        )
        yield from unknown
        if not unknown and change is None and site.application.is_in_maintenance():
            yield make_finding(
                "NU-6122",
                Severity.WARNING,
                N_("Maintenance page shown without a change in progress"),
                N_("Unless intended, run: rm {path}"),
                path=site.config.application.maintenance_file,
            )
        if change is not None or busy:
            return  # copies belong to the running operation
        for plan in list_interrupted_copies(journal):
            yield from site.database_engine.find_orphans(plan)
        rehearsal_ids = _list_interrupted_rehearsal_ids(journal)
        for change_id, role, name in site.database_engine.list_leftovers():
            if role is DatabaseRole.CANDIDATE and change_id not in known:
                title = N_("Leftover copy of {database}, unknown to this journal")
                remedy = N_("If it is unused, drop it.")
                if change_id in rehearsal_ids:
                    title = N_("Leftover copy of {database} from an interrupted rehearsal")
                    remedy = N_("Run: sudo ncen-updater resume")
                figures = {"database": name, "change": change_id}
                yield make_finding("NU-6123", Severity.WARNING, title, remedy, **figures)


def _list_interrupted_rehearsal_ids(journal: Journal) -> frozenset[str | None]:
    """Return the IDs under which interrupted rehearsals made copies."""
    interrupted = RehearsalStore(journal).list_interrupted()
    second_ids = (record.copies.second_id for record in interrupted if record.copies is not None)
    return frozenset((*(record.id for record in interrupted), *second_ids))


def _check_databases(site: Site) -> Iterator[Finding]:
    found = site.database_engine.describe_databases()
    for facts in found:
        yield make_finding(
            "NU-6124",
            Severity.INFO,
            N_("Database {database} reachable: {size_bytes}, {engine} {version}"),
            "",
            database=facts.physical_name,
            size_bytes=facts.size_bytes,
            engine=DIALECTS[site.database_engine.engine_name].title,
            version=site.database_engine.read_version(),
        )
    yield from _check_copies(site, sum(facts.size_bytes for facts in found))
    yield from site.database_engine.list_quarantined()


def _check_copies(site: Site, size_bytes: int) -> Iterator[Finding]:
    """Yield what copies that share blocks with the originals save, or would save."""
    condition = site.database_engine.describe_clone_condition()
    if condition is None:
        return
    seconds = _find_last_copy_seconds(site) if condition.template else None
    words = N_("Cloned copies would save {size} and {seconds} of downtime per upgrade")
    if not condition.template:
        words = N_("Database copies are clones: {size} saved per upgrade")
    elif seconds is None:
        words = N_("Cloned copies would save {size} per upgrade")
    duration = format_duration(seconds) if seconds is not None else None
    values = {"size": format_bytes(size_bytes), "seconds": duration}
    figures = {"size_bytes": size_bytes, "seconds": seconds}
    yield Finding("NU-6146", Severity.INFO, LazyText(words, values), condition, figures)


def _find_last_copy_seconds(site: Site) -> float | None:
    """Return the duration of the last copy, in a change or else in a rehearsal."""
    with (
        contextlib.suppress(UpdaterError),  # reported by the check of the journal
        Journal.open(site.state_directory / JOURNAL_FILE, read_only=True) as journal,
    ):
        for change in journal.list_changes(MAX_CHANGES):
            outcome = read_outcome(journal, change.id)
            if outcome.facts.copy_plan and StepName.COPY in outcome.step_s:
                return outcome.step_s[StepName.COPY]
        for record in RehearsalStore(journal).list_newest(MAX_CHANGES):
            if record.report is not None and record.report.hops:
                return record.report.hops[-1].copy_s
    return None


def _check_units(site: Site) -> Iterator[Finding]:
    """Yield a finding for each unit that starts an installation outside the slots."""
    for unit, directory in site.application.find_outside_installations().items():
        yield make_finding(
            "NU-6145",
            Severity.WARNING,  # that program may start the current release itself
            N_("{unit} starts {directory}, not {link}"),
            N_("In the unit, use {link}. Run: sudo systemctl edit --full {unit}"),
            unit=unit,
            directory=directory,
            link=site.slots.current_link,
        )


def _check_application(site: Site, status: SiteStatus) -> Iterator[Finding]:
    problem = site.application.check_health_token()
    if problem is not None:
        yield make_credentials_finding(problem)
    settings = site.config.application
    if not site.application.is_running():
        seen = get_part_or_none(status.availability)
        since = seen.since if seen and seen.state is AvailabilityState.NOT_RUNNING else None
        # An application stopped on purpose may be upgraded; otherwise the cause must be found
        # first.
        stopped = site.application.was_stopped_on_request()
        zone = site.config.service.get_timezone()
        yield make_finding(
            "NU-6125",
            Severity.WARNING if stopped else Severity.CRITICAL,
            N_("Application stopped since {since}") if since else N_("Application not running"),
            N_("Start the application before the upgrade. Run: {command}"),
            since=since and format_time(since, zone),
            command=format_start_command(settings.unit, settings.start, settings.environment),
        )
        return
    yield from find_missing_parts(site.application)
    current = site.slots.read_current()
    if current is None or problem is not None:
        return
    health = site.application.check_health(
        HealthExpectation(site.slots.read_reported_version(current))
    )
    yield from find_refused_credentials(health)
    if (
        health.answered
        and not health
        and not health.missing_parts
        and not health.credentials_refused
    ):
        # An upgrade may be the remedy, but the problem must be reported.
        found = replace(
            make_unhealthy_finding(health),
            severity=Severity.CRITICAL,
            figures={"detail": health.answer_json},
        )
        journal = get_part_or_none(status.journal)
        last = journal.last_change if journal else None
        if last is not None and last.kind is ChangeKind.UPGRADE and last.is_committed:
            words = N_("Repair the application, or run: ncen-updater rollback --dry-run")
            found = replace(found, remedy=LazyText(words))
        yield found
    yield from find_unanswered(health, site.config)


def _check_site_files(site: Site) -> Iterator[Finding]:
    for finding in inspect_site_files(site.config, {}):
        if finding.severity is not Severity.INFO:
            yield finding
    for item in site.config.files:
        directory = site.config.paths.resolve(item.directory)
        changes_with_files, written = list_leftovers(directory)
        values = {"name": item.name, "place": get_snapshot_directory(directory)}
        if changes_with_files:
            yield make_finding(
                "NU-4310",
                Severity.WARNING,
                N_("Files of reverted releases among the {name}: {place}, changes {changes}"),
                N_("Review them, then remove them by hand."),
                **values,
                changes=", ".join(changes_with_files),
            )
        for change in written:
            yield make_finding(
                "NU-4311",
                Severity.WARNING,
                N_("Files modified by reverted change {change} among the {name}"),
                N_(
                    "Restore the files listed in {place}/written-{change} from a"
                    " backup, then remove that list."
                ),
                **values,
                change=change,
            )


def _check_metadata(status: SiteStatus) -> Iterator[Finding]:
    view = require_part(status.feed_view)
    if view is None or view.is_stale(status.now):
        yield make_finding(
            "NU-6126",
            Severity.WARNING,
            N_("Metadata expired or missing"),
            N_("Run: ncen-updater check"),
        )


MAX_CHANGES = 20


def list_interrupted_copies(journal: Journal) -> Iterator[CopyPlan]:
    """Yield the copy plans of recent ended changes that never finished copying, newest first.

    Args:
        journal: Journal, open for reading.
    """
    for change in journal.list_changes(MAX_CHANGES):
        plan = journal.read_facts(change.id).copy_plan
        if change.state.is_open or plan is None:
            continue
        copied = any(
            event.kind == f"step-{StepState.DONE}" and event.get("step") == StepName.COPY
            for event in journal.list_events(change=change.id)
        )
        if not copied:
            yield CopyPlan(plan)
