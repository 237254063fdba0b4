"""Result of a command: a JSON document and lines of text.

Used for a command that a user runs and for one that the service runs as a job.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ncen_updater.agent.engine.approvals.rollback_approvals import (
    format_accept_loss_option,
)
from ncen_updater.agent.engine.change_outcome import serialize_change
from ncen_updater.agent.model.change import ChangeState
from ncen_updater.agent.reports.change_lines import format_undone_result
from ncen_updater.common.cli.characters import strip_control_characters
from ncen_updater.common.cli.render import (
    finding_to_json,
    format_bytes,
    format_duration,
    format_findings,
    format_time,
)
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.findings import Finding
from ncen_updater.common.i18n import N_, LazyText, translate
from ncen_updater.common.labels import RELEASE_EXCLUDED, format_predicted_downtime
from ncen_updater.common.messages import TARGET_BAD, ExitCode

if TYPE_CHECKING:
    from datetime import tzinfo

    from ncen_updater.agent.adapters.databases.base import DatabaseFacts
    from ncen_updater.agent.adapters.databases.round_trip import RoundTripResult
    from ncen_updater.agent.engine.approvals.rollback_approvals import RollbackSubject
    from ncen_updater.agent.engine.change_outcome import ChangeOutcome
    from ncen_updater.agent.engine.operations import OperationResult
    from ncen_updater.agent.engine.plan import HopPlan, UpgradePlan
    from ncen_updater.agent.engine.rehearsal.report import (
        RehearsalReport,
        RehearsedHop,
    )
    from ncen_updater.agent.engine.rollback_plan import RollbackPlan
    from ncen_updater.agent.reports.diagnostics.support_bundle.bundle import SupportBundle
    from ncen_updater.agent.storage.overlay.layer import OverlayReport
    from ncen_updater.feed.import_store import ImportRecord
    from ncen_updater.feed.upgrade_path import NoUpgradePath, UpgradePath

#: Code of the finding on the previous databases of a change.
RETAINED_CODE = "NU-6318"
JsonDocument = Mapping[str, Any]
OutputLine = LazyText | str


@dataclass(frozen=True)
class CommandResult:
    """Result of a command.

    Attributes:
        document: Output of ``--json``.
        lines: Output as text.
        exit_code: Exit status of the command.
        error: The error of a command that the service ran.
    """

    document: JsonDocument
    lines: Sequence[OutputLine] = ()
    exit_code: ExitCode = ExitCode.OK
    error: UpdaterError | None = None


# ---- paths and plans -----------------------------------------------------------------------------


def serialize_path(
    path: UpgradePath | NoUpgradePath, language: str, current: str | None = None
) -> dict[str, object]:
    """Return a path as a JSON document; ``current`` is its first release."""
    hops = getattr(path, "hops", ())
    origins = (current, *(offer.version for offer in hops))
    return {
        "available": bool(hops),
        "hops": [
            {
                "version": offer.version,
                "required": offer.required,
                "urgency": offer.urgency.value,
                "bytes": offer.archive.length,
                "download_bytes": offer.count_download_bytes(origin),
            }
            for offer, origin in zip(hops, origins, strict=False)
        ],
        "rejected": [
            {
                "version": rejection.offer.version,
                "reason": rejection.reason.value,
                "text": rejection.text.render(language),
            }
            for rejection in path.rejected
            if rejection.reason.value != "not-newer"
        ],
    }


#: Reasons for which a release does not concern this site.
_EXCLUDED_REASONS = frozenset({"not-newer", "other-country", "other-channel"})


def format_path_lines(
    product: str,
    current: str,
    path: UpgradePath | NoUpgradePath,
    zone: tzinfo | None = None,
    *,
    rejected: bool = True,
) -> Iterator[OutputLine]:
    """Yield the lines of an upgrade path and of the rejected releases.

    Args:
        product: Name of the product.
        current: The installed release.
        path: The chosen path.
        zone: Time zone of displayed times; by default that of the machine.
        rejected: Whether to list rejected releases with their reasons.
    """
    hops = getattr(path, "hops", ())
    values: dict[str, object] = {"product": product, "current": current}
    if not hops:
        has_unavailable = any(
            one.reason.value not in _EXCLUDED_REASONS
            or (one.offer.version == current and one.offer.withdrawn is not None)
            for one in path.rejected
        )
        text = (
            N_("No other release available; {product} {version} stays installed")
            if has_unavailable
            else N_("Up to date: {product} {version}")
        )
        yield LazyText(text, {"product": product, "version": current})
    for offer, origin in zip(hops, (current, *(o.version for o in hops)), strict=False):
        size = format_bytes(offer.count_download_bytes(origin))
        details = {"version": offer.version, "urgency": offer.urgency, "size": size}
        text = (
            N_("Available: {product} {version}, required release ({urgency}, {size})")
            if offer.required
            else N_("Available: {product} {version} ({urgency}, {size})")
        )
        yield LazyText(text, {**values, **details})
    for rejection in path.rejected if rejected else ():
        if rejection.reason.value != "not-newer":
            version = {"version": rejection.offer.version}
            opens = format_time(rejection.opens, zone) if rejection.opens else None
            yield LazyText(RELEASE_EXCLUDED, {**version, "reason": rejection.format(opens)})
            if rejection.reason.value == "marked-bad":
                yield LazyText("  {text}", {"text": LazyText(TARGET_BAD.remedy, version)})


def match_rehearsed_hops(
    plan: UpgradePlan, report: RehearsalReport | None
) -> dict[tuple[str, str], RehearsedHop]:
    """Return the results of a rehearsal for each hop of a plan, by its two releases. Pure.

    Args:
        plan: The plan.
        report: Report of a passed rehearsal; ignored if it belongs to another plan.
    """
    if report is None or report.plan != plan.digest:
        return {}
    return {hop.versions: hop for hop in report.hops}


def serialize_plan(
    path: UpgradePath | NoUpgradePath,
    plan: UpgradePlan,
    language: str,
    report: RehearsalReport | None = None,
) -> dict[str, object]:
    """Return a plan as a JSON document.

    Args:
        path: The path.
        plan: The plan for the path.
        language: Language of texts.
        report: Report of the plan's last passed rehearsal.
    """
    origin = str(plan.hops[0].origin) if plan.hops else None
    findings = [finding_to_json(finding, language) for finding in merge_retained(plan.findings)]
    rehearsed = [
        {
            "from": hop.from_version, "to": hop.to_version, "downtime_s": hop.downtime.to_json(),
            "round_trip": hop.round_trip and hop.round_trip.to_json(),
        }
        for hop in match_rehearsed_hops(plan, report).values()
    ]  # fmt: skip
    return {
        **serialize_path(path, language, origin),
        "plan": plan.to_json(),
        "findings": findings,
        "rehearsed": rehearsed,
    }


def merge_retained(findings: Sequence[Finding]) -> list[Finding]:
    """Return findings with one on all retained databases instead of one per change. Pure."""
    retained = [finding for finding in findings if finding.code == RETAINED_CODE]
    if len(retained) < 2:
        return list(findings)
    changes = [str(finding.figures["change"]) for finding in retained]
    figures = {"count": len(changes), "changes": ", ".join(changes)}
    title = LazyText(N_("Previous databases retained from changes ({count}): {changes}"), figures)
    merged = replace(retained[0], title=title, figures=figures)
    rest = (merged if finding is retained[0] else finding for finding in findings)
    return [finding for finding in rest if finding not in retained]


def format_overlay_lines(layer: OverlayReport | None, language: str) -> Iterator[OutputLine]:
    """Yield the effects on the local overlay; nothing without a local overlay."""
    if layer is None or not layer.files:
        return
    yield LazyText(N_("  Local overlay:"))
    from ncen_updater.agent.storage.overlay.report_text import describe_overlay

    for words in describe_overlay(layer):
        yield f"    {strip_control_characters(words.render(language))}"


def format_step_lines(document: JsonDocument, language: str) -> Iterator[OutputLine]:
    """Yield the steps in a plan's document; nothing without a plan."""
    steps = (document.get("plan") or {}).get("steps") or ()
    if steps:
        yield LazyText(N_("Steps (*: downtime, -: not part of upgrade):"))
    number = 0
    for step in steps:
        number += step["runs"]
        mark = "*" if step["downtime"] else " " if step["runs"] else "-"
        shown = number if step["runs"] else ""
        yield f"  {shown:2} {mark} {translate(step['title'], language)}"


def format_plan_lines(
    plan: UpgradePlan, language: str, report: RehearsalReport | None = None
) -> Iterator[OutputLine]:
    """Yield the lines of a plan.

    Args:
        plan: The plan.
        language: Language of translated values within the lines.
        report: Report of the plan's last passed rehearsal.
    """
    from ncen_updater.agent.engine.rollback_plan import (
        describe_contract,
        describe_copy_free_downtime,
    )

    rehearsed = match_rehearsed_hops(plan, report)
    for hop in plan.hops:
        yield ""
        yield f"{hop.origin} -> {hop.offer.version}"
        for facts in hop.databases:
            yield _format_database(facts)
        if hop.copy and any(item.get("method") == "clone" for item in hop.copy.copies.values()):
            yield LazyText(
                N_(
                    "  copies share their blocks with the originals and are no backup: one"
                    " bad sector damages both"
                )
            )
        no_copy_text = describe_copy_free_downtime(no_copy=hop.no_copy, expands=hop.expands)
        if no_copy_text is not None:
            yield f"  {no_copy_text.render(language)}"
        contract_text = describe_contract(hop.contract_command)
        if contract_text is not None:
            yield f"  {contract_text.render(language)}"
        for name in dict.fromkeys(step.id for step in hop.migrations.steps):
            databases = [step.database for step in hop.migrations.steps if step.id == name]
            migration = {"database": ", ".join(databases), "id": name}
            yield LazyText(N_("  migration {id} of {database}"), migration)
        rehearsed_hop = rehearsed.get((str(hop.origin), hop.offer.version))
        yield f"  {_describe_hop_rollback(hop, rehearsed_hop).render(language)}"
        if rehearsed_hop is not None:
            yield from _format_downtime_lines(rehearsed_hop, language)
        for files in hop.site_files:
            yield files.text
        yield from format_overlay_lines(hop.overlay, language)
    yield ""
    yield format_step_count(
        sum(step.skipped_because is None for step in plan.steps), upgrades=len(plan.hops)
    )
    yield LazyText(N_("Plan digest: {digest}"), {"digest": plan.digest})
    yield from format_findings(merge_retained(plan.findings), language)
    if plan.is_blocked:
        yield LazyText(N_("Upgrade blocked by preflight checks."))


def _format_database(facts: DatabaseFacts) -> LazyText:
    values = {"name": facts.name, "physical": facts.physical_name,
              "size": format_bytes(facts.size_bytes)}  # fmt: skip
    return LazyText(N_("  database {name} ({physical}), {size}"), values)


def _describe_hop_rollback(hop: HopPlan, rehearsed_hop: RehearsedHop | None) -> LazyText:
    """Return the rollback as rehearsal and dossier describe it, with data lost in the rehearsal."""
    from ncen_updater.agent.engine.rollback_plan import describe_rollback

    loses = hop.rollback_path.lost_objects or (
        rehearsed_hop.all_lost_columns if rehearsed_hop else ()
    )
    rehearsed = rehearsed_hop is not None or hop.no_copy
    return describe_rollback(
        hop.rollback_path.kind, hop.offer.version, hop.origin, loses, rehearsed=rehearsed
    )


def _format_downtime_lines(hop: RehearsedHop, language: str) -> Iterator[OutputLine]:
    """Yield the prediction of a rehearsal for one hop."""
    predicted = format_predicted_downtime(hop.downtime.likely, hop.downtime.high)
    yield LazyText(N_("  predicted downtime: {downtime}"), {"downtime": predicted})
    if hop.round_trip is not None:
        from ncen_updater.agent.engine.rehearsal.round_trip import format_round_trip

        yield from format_round_trip(hop.round_trip, language)


# ---- changes -------------------------------------------------------------------------------------


def _serialize_outcome(outcome: ChangeOutcome) -> dict[str, object]:
    return {
        **serialize_change(outcome.change, outcome.facts),
        "step_s": dict(outcome.step_s),
        "facts": outcome.facts.to_json(),
    }


def format_step_count(count: int, *, upgrades: int) -> LazyText:
    """Return the number of steps as a text; each upgrade of the path has all of them."""
    words = N_("Steps: {count}") if upgrades < 2 else N_("Steps of each upgrade: {count}")
    return LazyText(words, {"count": count})


def format_operation_result(
    result: OperationResult, language: str, before: Sequence[OutputLine] = ()
) -> CommandResult:
    """Return the result of an operation.

    Args:
        result: The result.
        language: Language of texts in the document.
        before: Lines before those of the changes.
    """
    document: dict[str, object] = {
        "changes": [_serialize_outcome(outcome) for outcome in result.outcomes]
    }
    if result.path is not None:
        document["path"] = serialize_path(result.path, language)
    if result.decision is not None:
        document["decision"] = {
            "action": result.decision.action.value,
            "reason": result.decision.reason.render(language),
        }
    return CommandResult(document, (*before, *_format_change_lines(result)))


_CHANGE_LINE = N_("Change {id}: {kind} of {product} {origin} -> {version}, {state}")


def _format_change_lines(result: OperationResult) -> Iterator[OutputLine]:
    for outcome in result.outcomes:
        change = outcome.change
        values = {
            "kind": change.kind, "product": change.product, "id": change.id,
            "origin": change.from_version, "version": change.to_version,
            "state": change.state,
        }  # fmt: skip
        yield LazyText(_CHANGE_LINE, values)
        if outcome.downtime_s is not None:
            downtime = {"stop": format_duration(outcome.downtime_s)}
            yield LazyText(N_("  downtime: {stop}"), downtime)
        if change.state is ChangeState.REVERTED:
            yield format_undone_result(serialize_change(change, outcome.facts))


_SINGLE_APPROVAL_LINE = N_(
    "Only an approver can roll back; running the command counts as the approval."
)
_MISSING_APPROVALS_LINE = N_(
    "Missing approvals: {missing}. Each approver runs: ncen-updater approve --rollback{loss}"
)
_MORE_APPROVALS_LINE = N_(
    "Missing approvals: {missing} (approved by: {who}). Each approver runs: ncen-updater"
    " approve --rollback{loss}"
)
_NO_APPROVAL_LINE = N_("No approval required.")
_NEXT_COMMAND_LINE = N_("Run: ncen-updater rollback{loss}")
_APPROVED_LINE = N_("Rollback approved by {who}. Run: ncen-updater rollback{loss}")


def format_rollback_plan(
    plan: RollbackPlan,
    approval: RollbackSubject,
    language: str,
    round_trip: RoundTripResult | None = None,
) -> CommandResult:
    """Return the rollback plan: the method, the data that would be lost, the missing approvals.

    In the document, ``how`` has the lines without the commands to type, for clients other than a
    terminal.

    Args:
        plan: The rollback plan.
        approval: The approvals of the rollback.
        language: Language of translated values within the lines.
        round_trip: Result of the upgrade's round-trip test in the rehearsal; None if unknown.
    """
    from ncen_updater.agent.engine.rollback_plan import NO_COPY_TEXT

    document = {
        "from": plan.origin, "to": plan.target, "mode": plan.mode.value, "lost": plan.lost,
        "lost_total": plan.lost_total, "uncounted": plan.uncounted, "reason": plan.reason,
        "undoes": plan.undoes, "no_copy": plan.no_copy,
        "round_trip": round_trip and round_trip.to_json(),
        **approval.to_json(),
    }  # fmt: skip
    commands = list[LazyText]()
    lines = [plan.summary, *([NO_COPY_TEXT] if plan.no_copy else [])]
    if plan.reason:
        lines.append(LazyText(N_("Reason: {reason}"), {"reason": plan.reason}))
    if plan.lost_total:
        values = {"count": plan.lost_total, "tables": plan.loss_text}
        template = N_("Data loss: {count} records ({tables})")
        if plan.loses_values:
            template = N_("Values lost in {count} rows: {tables}")
        lines.append(LazyText(template, values))
        if plan.program_rows_text is not None:
            lines.append(LazyText("{program}.", {"program": plan.program_rows_text}))
        if plan.loses_values:
            copy = N_("A copy is retained in the databases of {version} for {days} days.")
            lines.append(LazyText(copy, {"version": plan.origin, "days": plan.retention_days_text}))
    if plan.uncounted:
        template = N_("Also lost, not counted as records by {version}: {tables}")
        values = {"version": plan.origin, "tables": plan.uncounted_text}
        lines.append(LazyText(template, values))
    if round_trip is not None:
        from ncen_updater.agent.engine.rehearsal.round_trip import format_round_trip

        lines += [LazyText(N_("From the rehearsal of {version}:"), {"version": plan.origin})]
        lines += format_round_trip(round_trip, language)
        if plan.is_lossless and round_trip.list_columns("lost"):
            lines.append(
                LazyText(N_("No data loss: the columns that the rollback loses are still empty."))
            )
    if approval.in_soak:
        lines.append(LazyText(_NO_APPROVAL_LINE))
        commands.append(
            LazyText(_NEXT_COMMAND_LINE, {"loss": format_accept_loss_option(plan.lost_total)})
        )
    elif approval.count.missing:
        values = {
            "missing": approval.count.missing, "who": approval.approver_names,
            "loss": format_accept_loss_option(plan.lost_total),
        }  # fmt: skip
        alone = approval.count.missing + len(approval.count.approvals) == 1
        if alone:
            lines.append(LazyText(_SINGLE_APPROVAL_LINE))
        missing = _MORE_APPROVALS_LINE if approval.approver_names else _MISSING_APPROVALS_LINE
        commands.append(LazyText(_NEXT_COMMAND_LINE if alone else missing, values))
    elif approval.count.approvals:
        commands.append(
            LazyText(
                _APPROVED_LINE,
                {
                    "who": approval.approver_names,
                    "loss": format_accept_loss_option(approval.accepted_loss),
                },
            )
        )
    return CommandResult({**document, "how": lines}, [*lines, *commands])


# ---- rehearsals ----------------------------------------------------------------------------------


def format_rehearsal_lines(found: JsonDocument, language: str) -> Iterator[OutputLine]:
    """Yield the results of a rehearsal.

    Args:
        found: The rehearsal as returned by :func:`.rehearsal_store.serialize_rehearsal`.
        language: Language of translated values within the lines.
    """
    from ncen_updater.agent.engine.rehearsal.report import RehearsalReport

    report = RehearsalReport.from_json(found["report"])
    values: dict[str, object] = {"origin": found["from"], "version": found["to"]}
    yield LazyText(N_("Rehearsed on copies of the databases: {origin} -> {version}"), values)
    backup = {
        "size": format_bytes(sum(report.sizes.values())),
        "seconds": format_duration(report.backup_s),
    }
    yield LazyText(N_("  backup of {size} created and restored in {seconds}"), backup)
    for database, objects in (report.missing_objects or {}).items():
        yield _describe_missing_objects(database, objects)
    for hop in report.hops:
        yield from _format_hop_lines(hop, language)


def _describe_missing_objects(database: str, objects: Sequence[str]) -> LazyText:
    """Return the objects that the backup of a database lacks, so that they were not rehearsed."""
    values: dict[str, object] = {"database": database, "objects": ", ".join(objects)}
    return LazyText(
        N_("  not included in the backup of {database}: {objects}"),
        values,
    )


def _format_hop_lines(hop: RehearsedHop, language: str) -> Iterator[OutputLine]:
    from ncen_updater.agent.reports.dossier.facts import format_code_mapping

    values: dict[str, object] = {
        "origin": hop.from_version, "version": hop.to_version,
        "downtime": format_predicted_downtime(hop.downtime.likely, hop.downtime.high),
    }  # fmt: skip
    yield ""
    yield LazyText(N_("{origin} -> {version}: downtime {downtime}"), values)
    for item in hop.reference_maps:
        for text in format_code_mapping(item):
            yield LazyText("  {text}", {"text": text})
    for table, before, after in hop.application_tables:
        rows = {"table": table, "before": before, "after": after}
        yield LazyText(_choose_row_count_text(before, after), rows)
    yield LazyText(N_("  data checks passed: {count}"), {"count": len(hop.checks)})
    if hop.contract_s is not None:
        duration = {"seconds": format_duration(hop.contract_s)}
        yield LazyText(N_("  final migrations: {seconds}, without downtime"), duration)
    yield from _format_rollback_lines(hop, language)


def _format_rollback_lines(hop: RehearsedHop, language: str) -> Iterator[OutputLine]:
    from ncen_updater.agent.engine.rollback_plan import describe_rollback

    words = describe_rollback(
        hop.rollback_path, hop.to_version, hop.from_version, hop.all_lost_columns
    )
    yield f"  {words.render(language)}"
    if hop.rollback_s is not None:
        seconds = {"seconds": format_duration(hop.rollback_s)}
        yield LazyText(N_("  rollback rehearsed: {seconds}"), seconds)
    elif hop.restore_s is not None:
        seconds = {"seconds": format_duration(hop.restore_s)}
        yield LazyText(N_("  restore of the previous databases rehearsed: {seconds}"), seconds)
    if hop.rollback_differences:
        tables = {"tables": ", ".join(hop.rollback_differences)}
        yield LazyText(N_("  tables changed by the rollback: {tables}"), tables)
    if hop.round_trip is not None:
        from ncen_updater.agent.engine.rehearsal.round_trip import format_round_trip

        yield from format_round_trip(hop.round_trip, language)


def _choose_row_count_text(before: int, after: int) -> str:
    if before < 0:
        return N_("  table {table} added, {after} rows")
    if after < 0:
        return N_("  table {table} removed, {before} rows")
    if before == after:
        return N_("  table {table}: contents modified, number of rows unchanged ({after})")
    return N_("  table {table}: {before} rows before, {after} after")


# ---- support bundles -----------------------------------------------------------------------------


#: Texts for errors that prevented the collection of a part.
MISSING_PART_REASONS: Mapping[str, str] = {
    "CalledProcessError": N_("command failed"),
    "FileNotFoundError": N_("not found"),
    "PermissionError": N_("permission denied"),
    "TimeoutExpired": N_("timed out"),
    "omitted": N_("omitted on request"),
    "too large": N_("too large"),
}


def format_support_bundle(
    bundle: SupportBundle, show: Sequence[str], archive: str | None
) -> CommandResult:
    """Return the contents of a support bundle.

    Args:
        bundle: The bundle.
        show: Parts whose text is shown.
        archive: The packed bundle in base64; None if it contains a value of a database.
    """
    lines: list[OutputLine] = []
    for part in bundle.parts:
        if part.text is None:
            known = part.missing_reason in MISSING_PART_REASONS
            reason = (
                LazyText(MISSING_PART_REASONS[str(part.missing_reason)])
                if known
                else part.missing_reason
            )
            values: dict[str, object] = {"part": part.name, "reason": reason}
            lines.append(LazyText(N_("  {part}: missing ({reason})"), values))
        else:
            size = format_bytes(len(part.text.encode()))
            lines.append(LazyText("  {part}: {size}", {"part": part.name, "size": size}))
        if part.name in show:
            lines += [
                f"    {strip_control_characters(line)}" for line in (part.text or "").splitlines()
            ]
    for name, reason in bundle.unread.items():
        values = {"database": name, "reason": LazyText(MISSING_PART_REASONS.get(reason, reason))}
        lines.append(LazyText(N_("Not compared with database {database}: {reason}"), values))
    for leak in bundle.leaks:
        values = {"part": leak.part, "column": leak.column}
        lines.append(LazyText(N_("{part} contains a value of {column}"), values))
    document: dict[str, object] = {
        **bundle.describe_contents(),
        "shown": {part.name: part.text for part in bundle.parts if part.name in show},
        "leaks": [{"part": leak.part, "column": leak.column} for leak in bundle.leaks],
        "archive": archive,
    }
    return CommandResult(document, lines, ExitCode.BLOCKED if bundle.leaks else ExitCode.OK)


def format_import(
    record: ImportRecord, *, dry_run: bool, zone: tzinfo | None = None
) -> CommandResult:
    """Return the contents of an imported bundle, or with ``dry_run`` of a verified one."""
    contents = [f"{record.product} {version}" for version in record.releases]
    contents += [f"ncen-updater {version}" for version in record.agents]
    values: dict[str, object] = {
        "contents": ", ".join(contents) or LazyText(N_("newer metadata, no release")),
        "version": record.reachable_release,
        "until": format_time(record.usable_until, zone),
        "agent": record.reachable_agent,
    }
    words = (
        N_("Bundle valid, nothing was imported: {contents}")
        if dry_run
        else N_("Imported: {contents}")
    )
    lines: list[OutputLine] = [LazyText(words, values)]
    if record.reachable_agent is not None and not dry_run:
        hint = N_("The service updates ncen-updater to {agent} automatically.")
        lines.append(LazyText(hint, values))
    if record.reachable_release is not None:
        lines.append(LazyText(N_("The installed release can be upgraded to {version}."), values))
        if not dry_run:
            lines.append(LazyText(N_("Run: ncen-updater plan {version}"), values))
    elif record.releases:
        lines.append(LazyText(N_("No release newer than the installed one."), values))
    lines.append(LazyText(N_("Metadata valid until {until}"), values))
    return CommandResult({"imported": not dry_run, **record.to_json()}, lines)
