"""Comparison of slots, schemas, migrations and markers with the journal.

Reads only, and repairs nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from packaging.version import Version

from ncen_updater.agent.engine.observed_state import find_contradiction, observe_site
from ncen_updater.agent.engine.preflight.migrations import (
    MISMATCH_REMEDY,
    find_unapplied_migrations,
)
from ncen_updater.agent.engine.recovery import RecoveryAction, decide_recovery
from ncen_updater.agent.engine.schema_fingerprints import find_schema_drift
from ncen_updater.agent.engine.site import Site
from ncen_updater.agent.model.change import Change
from ncen_updater.agent.model.change_facts import ChangeFacts
from ncen_updater.agent.model.errors import DatabaseError
from ncen_updater.agent.reports.diagnostics.access_checks import check_trust_state
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.journal.rows import ChainHead
from ncen_updater.common.findings import Finding, Severity, make_finding
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import CONTRACT_FAILED
from ncen_updater.common.progress import ProgressListener

#: A row of a table, or an event with ``kind``, ``change`` and ``data``.
Row = Mapping[str, Any]
#: State of a change after its last event.
STATE_BY_EVENT = {"change-started": "running", "committed": "committed"}


def _parse_data(event: Row) -> Mapping[str, Any]:
    data = json.loads(event["data"])
    return data if isinstance(data, dict) else {}


def compare_approvals(events: Iterable[Row], rows: Iterable[Row]) -> Iterator[LazyText]:
    """Yield approvals in force that only the table or only the events contain."""
    reported: set[tuple[str, int]] = set()
    for event in events:
        kind, data = event["kind"], _parse_data(event)
        key = (str(data.get("binding")), int(data.get("uid") or 0))
        if kind in ("approved", "rollback-approved"):
            reported.add(key)
        elif kind == "approval-withdrawn":
            reported.discard(key)
        elif kind == "approvals-spent":
            binding_used = data.get("binding")  # one binding, or None for all bindings
            reported = {
                one for one in reported if binding_used is not None and one[0] != binding_used
            }
    recorded = {
        (row["binding"], row["uid"]): row["actor"] for row in rows if row["withdrawn_at"] is None
    }
    for words, keys in (
        (N_("{what} has no event"), recorded.keys() - reported),
        (N_("{what} has an event but no record"), reported - recorded.keys()),
    ):
        for binding, uid in sorted(keys):
            who = recorded.get((binding, uid), "-")
            approval = N_("approval by {who} (UID {uid}) of {binding}")
            values = {"who": who, "uid": uid, "binding": binding[:16]}
            yield LazyText(words, {"what": LazyText(approval, values)})


def compare_changes(events: Iterable[Row], rows: Iterable[Row]) -> Iterator[LazyText]:
    """Yield changes whose record differs from their events."""
    started: dict[str, Mapping[str, Any]] = {}
    states: dict[str, str] = {}
    for event in events:
        kind, change = event["kind"], event["change"]
        if change is None:
            continue
        if kind == "change-started":
            started[change] = _parse_data(event)
        state = STATE_BY_EVENT.get(kind) or (kind[7:] if kind.startswith("change-") else None)
        if state is not None:
            states[change] = state
    recorded = {row["id"]: row for row in rows}
    yield from _list_unmatched(N_("change {id}"), recorded, started)
    for change in sorted(recorded.keys() & started.keys()):
        row, value = recorded[change], started[change]
        expected = {
            "kind": value.get("action"),
            **{name: value.get(name) for name in ("mode", "from_version", "to_version")},
            "state": states[change],
        }
        wrong = [name for name, value in expected.items() if value not in (None, row[name])]
        if wrong:
            yield _describe_difference(N_("change {id}"), change, wrong)


def _list_unmatched(
    label: str, recorded: Collection[object], reported: Collection[object]
) -> Iterator[LazyText]:
    """Yield entries that only the table or only the events contain; ``label`` names one."""
    for words, some, others in (
        (N_("{what} has no event"), recorded, reported),
        (N_("{what} has an event but no record"), reported, recorded),
    ):
        for entry in sorted(set(some) - set(others), key=str):
            yield LazyText(words, {"what": LazyText(label, {"id": entry})})


def _describe_difference(label: str, entry: object, names: Iterable[str]) -> LazyText:
    words = N_("{what} differs from its events: {names}")
    return LazyText(words, {"what": LazyText(label, {"id": entry}), "names": ", ".join(names)})


def compare_jobs(events: Iterable[Row], rows: Iterable[Row]) -> Iterator[LazyText]:
    """Yield jobs whose record differs from their events."""
    queued: dict[int, Mapping[str, Any]] = {}
    ended: set[int] = set()
    for event in events:
        if event["kind"] == "job-queued":
            queued[int(_parse_data(event).get("job") or 0)] = _parse_data(event)
        elif event["kind"] == "job-ended":
            ended.add(int(_parse_data(event).get("job") or 0))
    recorded = {row["id"]: row for row in rows}
    yield from _list_unmatched(N_("job {id}"), recorded, queued)
    for number in sorted(recorded.keys() & queued.keys()):
        row, value = recorded[number], queued[number]
        expected = {
            "kind": value.get("action"), "actor": value.get("by"), "uid": value.get("uid"),
            "data": value.get("data"), "ended_at": number in ended,
        }  # fmt: skip
        found = {**row, "data": json.loads(row["data"]), "ended_at": row["ended_at"] is not None}
        wrong = [name for name, value in expected.items() if value != found[name]]
        if wrong:
            yield _describe_difference(N_("job {id}"), number, wrong)


#: One check of a diagnosis.
Check = Callable[[], Iterable[Finding]]

#: Maximum number of paths listed in a text.
MAX_PATHS_SHOWN = 10
#: Remedy for modified files of a release. Only the site knows whether a change was intended.
FILES_CHANGED_REMEDY = N_(
    "Restore the released files; move local changes to the local overlay. If nobody made"
    " them, do not upgrade and contact the Secretariat."
)
TABLE_COMPARISONS = {
    "approvals": compare_approvals,
    "changes": compare_changes,
    "jobs": compare_jobs,
}


def verify_site(
    site: Site, journal: Journal, progress: ProgressListener, chain_heads: Sequence[ChainHead] = ()
) -> tuple[Finding, ...]:
    """Compare the site with the journal.

    While a change is not committed, its databases are closed, and are not compared.

    Args:
        site: The site.
        journal: Its journal.
        progress: Receives the progress.
        chain_heads: Events recorded elsewhere, which the chain must contain.

    Returns:
        Critical findings for differences that block an upgrade, warnings and notes for others;
        empty if everything matches.

    Raises:
        JournalUnreadableError: If the hash chain of the journal is broken.
        UpdaterError: If data of the site cannot be read.
    """
    change = journal.find_open_change()
    is_open = change is None or change.is_committed
    checks = build_verify_checks(
        site, journal, progress, databases=is_open, chain_heads=chain_heads
    )
    return tuple(finding for check in checks for finding in check())


def build_verify_checks(
    site: Site,
    journal: Journal,
    progress: ProgressListener,
    *,
    databases: bool = True,
    chain_heads: Sequence[ChainHead] = (),
) -> tuple[Check, ...]:
    """Return the checks of :func:`verify_site`, which run independently of each other.

    Args:
        site: The site.
        journal: Its journal.
        progress: Receives the progress.
        databases: Whether to check the databases, which a change may have closed.
        chain_heads: Events recorded elsewhere, which the chain must contain.

    Raises:
        JournalUnreadableError: If the hash chain of the journal is broken.
    """
    journal.verify_chain()
    current = site.slots.read_current()
    if current is None:
        return (
            lambda: _check_records(journal, chain_heads),
            lambda: check_trust_state(site),
            lambda: (_build_no_release_finding(site),),
        )
    checks: tuple[Check, ...] = (
        lambda: _check_records(journal, chain_heads),
        lambda: check_trust_state(site),
        lambda: _check_open_change(site, journal),
        lambda: _check_slots(site, current, progress),
        lambda: check_overlay(site, current),
    )
    return (*checks, lambda: _check_databases(site, journal, current)) if databases else checks


def verify_journal(journal: Journal, chain_heads: Sequence[ChainHead] = ()) -> tuple[Finding, ...]:
    """Compare the journal with itself and with events recorded elsewhere; read nothing else.

    Args:
        journal: The journal.
        chain_heads: Events recorded elsewhere, which the chain must contain.

    Raises:
        JournalUnreadableError: If the hash chain of the journal is broken.
    """
    journal.verify_chain()
    return _check_records(journal, chain_heads)


def _check_records(journal: Journal, chain_heads: Sequence[ChainHead]) -> tuple[Finding, ...]:
    with journal.read_transaction():
        return (*_check_chain_heads(journal, chain_heads), *_check_tables(journal))


def _build_no_release_finding(site: Site) -> Finding:
    """Return the finding that no release is selected; the likely cause is a misspelt path."""
    return make_finding(
        "NU-6101",
        Severity.CRITICAL,
        N_("No release selected: {path} not found"),
        N_(
            "Correct 'current' under [paths] in agent.toml, or on a new site run:"
            " sudo ncen-updater adopt"
        ),
        path=site.slots.current_link,
    )


_CHECK_TYPING_REMEDY = N_(
    "Check the chain head for typing errors; if it is correct, keep a copy of the"
    " journal and contact the Secretariat."
)


def _check_chain_heads(journal: Journal, chain_heads: Sequence[ChainHead]) -> Iterator[Finding]:
    """Yield findings for chain heads recorded elsewhere that the audit log does not contain."""
    for head in chain_heads:
        event_hash = journal.read_event_hash(head.number)
        if event_hash is None:
            yield make_finding(
                "NU-6108",
                Severity.CRITICAL,
                N_("Event {number} missing from the audit log (last: {last})"),
                _CHECK_TYPING_REMEDY,
                number=head.number,
                last=journal.read_last_event_number(),
            )
        elif not head.matches(event_hash):
            yield make_finding(
                "NU-6109",
                Severity.CRITICAL,
                N_("Audit log altered at or before event {number}: its hash is {hash}"),
                _CHECK_TYPING_REMEDY,
                number=head.number,
                hash=event_hash,
            )


def _check_tables(journal: Journal) -> Iterator[Finding]:
    events = list(map(dict, journal.query("SELECT change, kind, data FROM events ORDER BY number")))
    for table, compare in TABLE_COMPARISONS.items():
        # The table name is a constant.
        for reason in compare(events, map(dict, journal.query(f"SELECT * FROM {table}"))):  # noqa: S608
            yield make_finding(
                "NU-6110",
                Severity.CRITICAL,
                N_("Audit log inconsistent: {reason}"),
                MISMATCH_REMEDY,
                table=table,
                reason=reason,
            )


def _check_open_change(site: Site, journal: Journal) -> Iterator[Finding]:
    change = journal.find_open_change()
    decision = decide_recovery(observe_site(site, change, by_operator=True))
    try:
        site.database_engine.require_live(require_open=change is None)
    except DatabaseError as error:
        yield Finding(error.code, Severity.CRITICAL, error.title_text, error.remedy_text)
        return
    reason = decision.reason if decision.action is RecoveryAction.STOP else None
    if reason is None and change is None:
        reason = find_contradiction(site, journal)
    if reason is not None:
        title = N_("Inconsistent site state: {reason}")
        yield make_finding("NU-6102", Severity.CRITICAL, title, MISMATCH_REMEDY, reason=reason)
    elif change is not None and decision.action is not RecoveryAction.NOTHING:
        yield build_open_change_finding(change, Severity.WARNING, journal.read_facts(change.id))


def build_open_change_finding(change: Change, severity: Severity, facts: ChangeFacts) -> Finding:
    """Return the finding that a change is open; it blocks upgrades but is no inconsistency."""
    remedy = N_("Run sudo ncen-updater resume; do not start the application by hand.")
    if change.is_committed:
        remedy = N_("Run: sudo ncen-updater resume")
    if change.is_committed and facts.contract_failed is not None:
        remedy = N_(
            "The final migrations of {version} failed ({code}). Correct the cause, then"
            " run: sudo ncen-updater resume. To keep the release without them, run: ncen-updater"
            " confirm."
        )
    return make_finding(
        "NU-6103",
        severity,
        N_("Change {change} is not finished"),
        remedy,
        change=change.id,
        version=change.to_version,
        code=CONTRACT_FAILED.code,
    )


def _check_slots(site: Site, current: Version, progress: ProgressListener) -> Iterator[Finding]:
    for version in site.slots.list_versions():
        paths = [difference.path for difference in site.slots.verify_slot(version, progress)]
        if paths:
            yield Finding(
                "NU-6104",
                Severity.CRITICAL if version == current else Severity.WARNING,
                LazyText(
                    N_("Modified files in release {version}: {count} ({files})"),
                    {"count": len(paths), "version": version, "files": _format_paths(paths)},
                ),
                LazyText(FILES_CHANGED_REMEDY),
                {"version": str(version), "paths": paths[:100]},
            )


def _format_paths(paths: Sequence[str]) -> str:
    """Return the first paths as text; the finding's figures contain more of them."""
    return ", ".join([*paths[:MAX_PATHS_SHOWN], *["..."] * (len(paths) > MAX_PATHS_SHOWN)])


def _check_databases(site: Site, journal: Journal, current: Version) -> Iterator[Finding]:
    migrating = _find_online_migration(journal)
    for finding in find_schema_drift(site, journal):
        if migrating is not None and finding.severity is Severity.CRITICAL:
            yield _build_migration_running_finding(str(finding.figures["database"]), migrating)
        else:
            yield finding
    yield from find_unapplied_migrations(site.database_engine, site.load_migrations(current))


def _find_online_migration(journal: Journal) -> Change | None:
    """Return the change whose online migrations run on the live databases or were interrupted."""
    change = journal.find_open_change()
    if change is None:
        return None
    facts = journal.read_facts(change.id)
    started = facts.contract_started if change.is_committed else facts.expand_started
    return change if started else None


def _build_migration_running_finding(database: str, change: Change) -> Finding:
    return make_finding(
        "NU-6144",
        Severity.INFO,
        N_(
            "Schema of {database} not as recorded: the program of {version} is running"
            " or was interrupted"
        ),
        N_("Repeat the check when the change is finished."),
        database=database,
        version=change.to_version,
        change=change.id,
    )


def check_overlay(site: Site, current: Version) -> tuple[Finding, ...]:
    """Return findings: NU-6133 if the merged overlay is not in use, NU-6134 for unused files."""
    layer, findings = site.overlay, []
    if layer is None:
        return ()
    if layer.list_declared(current) and not layer.is_built_for(current):
        chosen = layer.read_current()
        findings.append(
            make_finding(
                "NU-6133",
                Severity.WARNING,
                N_("Local overlay not applied to {version} (selected in {path}: {chosen})"),
                N_("Run sudo ncen-updater translations apply, then restart the application."),
                version=current,
                chosen=chosen or LazyText(N_("none")),
                path=str(layer.merged_directory),
            )
        )
    paths = site.config.paths
    files = layer.list_undeclared(
        current, [paths.resolve(item.directory) for item in site.config.files]
    )
    if files:
        findings.append(
            make_finding(
                "NU-6134",
                Severity.INFO,
                N_("Unused files in {path}: {count} ({files})"),
                N_("Compare their names with: sudo ncen-updater translations report"),
                count=len(files),
                files=_format_paths(files),
                path=str(layer.local_directory),
            )
        )
    return tuple(findings)
