"""What a piece of work came to: one document, and the lines for people who asked for it.

The same whoever carries it out: a command alone, or one that the service started for somebody.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ncen_updater.agent.engine.approvals.rollback_approvals import NOBODY_YET, loss_words
from ncen_updater.agent.engine.outcome import change_document
from ncen_updater.agent.engine.rollback_words import ONLY_CODE, later_words, stop_words, way_words
from ncen_updater.common.cli.characters import clean
from ncen_updater.common.cli.render import (
    finding_document,
    finding_lines,
    format_bytes,
    format_duration,
    format_time,
)
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, Text
from ncen_updater.common.messages import ExitCode

if TYPE_CHECKING:
    from datetime import tzinfo

    from packaging.version import Version

    from ncen_updater.agent.adapters.databases.tried import TriedValues
    from ncen_updater.agent.engine.approvals.rollback_approvals import BackSubject
    from ncen_updater.agent.engine.operations import Result
    from ncen_updater.agent.engine.outcome import Outcome
    from ncen_updater.agent.engine.plan import HopPlan, Plan
    from ncen_updater.agent.engine.rehearsal.report import (
        MappedCodes,
        RehearsalReport,
        RehearsedHop,
    )
    from ncen_updater.agent.engine.rollback_plan import RollbackPlan
    from ncen_updater.agent.reports.diagnostics.support_bundle.bundle import Bundle
    from ncen_updater.agent.storage.overlay.layer import LayerReport
    from ncen_updater.feed.offline.store import ImportRecord
    from ncen_updater.feed.upgrade_path import NoPath, UpgradePath
    from ncen_updater.formats.document import Offer

Document = Mapping[str, Any]
Line = Text | str


@dataclass(frozen=True)
class Answer:
    """What a piece of work came to.

    Attributes:
        document: As ``--json`` shows it.
        words: The lines for people.
        code: What the command exits with.
        error: The error that it ended with, where somebody else carried it out.
    """

    document: Document
    words: Sequence[Line] = ()
    code: ExitCode = ExitCode.OK
    error: UpdaterError | None = None


# ---- paths and plans -----------------------------------------------------------------------------


def path_document(
    path: UpgradePath | NoPath, language: str, current: str | None = None
) -> dict[str, object]:
    """Return a path as JSON has it; ``current`` is where it begins."""
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
                "download_bytes": offer.download_bytes(origin),
            }
            for offer, origin in zip(hops, origins, strict=False)
        ],
        "rejected": [
            {
                "version": rejection.offer.version,
                "reason": rejection.reason.value,
                "words": rejection.text.render(language),
            }
            for rejection in path.rejected
            if rejection.reason.value != "not-newer"
        ],
    }


def other_releases(
    path: UpgradePath | NoPath, offers: Iterable[Offer], current: Version | None
) -> tuple[str, ...]:
    """Return newer releases that a person may name, too: neither on the path nor ruled out. Pure.

    Args:
        path: The way to the newest.
        offers: What is on the signed list.
        current: The release in use.
    """
    known = {offer.version for offer in getattr(path, "hops", ())}
    known |= {rejection.offer.version for rejection in path.rejected}
    rest = [offer.release_version for offer in offers if offer.version not in known]
    return tuple(str(one) for one in sorted(rest) if current is not None and one > current)


#: Why a release that is on the list is not taken here now; ``status`` says it, too.
BARRED = N_("Not for this site now: {version}, since {reason}")

#: Why a release is none of those for this site.
_NEVER_HERE = frozenset({"not-newer", "other-country", "other-channel"})


def path_words(
    product: str, current: str, path: UpgradePath | NoPath, zone: tzinfo | None = None
) -> Iterator[Line]:
    """Say where the site would go, and what is not for it.

    Args:
        product: What is upgraded.
        current: The release that runs.
        path: What was chosen.
        zone: In which times are told, beside UTC; that of the machine by default.
    """
    hops = getattr(path, "hops", ())
    values: dict[str, object] = {"product": product, "current": current}
    if not hops:
        barred = any(
            one.reason.value not in _NEVER_HERE
            or (one.offer.version == current and one.offer.withdrawn is not None)
            for one in path.rejected
        )
        text = (
            N_("{product} {current} stays in use: no other release can be taken here now.")
            if barred
            else N_("{product} {current} is the newest release for this site.")
        )
        yield Text(text, values)
    for offer, origin in zip(hops, (current, *(o.version for o in hops)), strict=False):
        size = format_bytes(offer.download_bytes(origin))
        more = {"version": offer.version, "urgency": offer.urgency, "size": size}
        text = (
            N_("Available: {product} {version}, a required stop ({urgency}, {size})")
            if offer.required
            else N_("Available: {product} {version} ({urgency}, {size})")
        )
        yield Text(text, {**values, **more})
    for rejection in path.rejected:
        if rejection.reason.value != "not-newer":
            version = {"version": rejection.offer.version}
            opens = format_time(rejection.opens, zone) if rejection.opens else None
            yield Text(BARRED, {**version, "reason": rejection.words(opens)})
            if rejection.reason.value == "remembered-as-bad":
                text = N_(
                    "  'ncen-updater history' shows what failed; 'ncen-updater upgrade {version}"
                    " --retry' would try it again."
                )
                yield Text(text, version)


def notice_words(product: str, version: str, reason: str, advice: str) -> Iterator[Line]:
    """Say that the release in use here was taken back, and what the officers advise."""
    values = {
        "product": product, "version": version, "reason": clean(reason), "advice": clean(advice),
    }  # fmt: skip
    yield Text(N_("WITHDRAWN by the Secretariat: {product} {version}, in use here: {reason}"),
               values)  # fmt: skip
    if advice:
        yield Text(N_("  what to do: {advice}"), values)


def rehearsed_hops(
    made: Plan, report: RehearsalReport | None
) -> dict[tuple[str, str], RehearsedHop]:
    """Return what a rehearsal showed of each hop of a plan, by its two releases. Pure.

    Args:
        made: The plan.
        report: The report of a rehearsal that passed; one of another plan says nothing.
    """
    if report is None or report.plan != made.digest:
        return {}
    return {hop.way: hop for hop in report.hops}


def plan_document(
    path: UpgradePath | NoPath, made: Plan, language: str, report: RehearsalReport | None = None
) -> dict[str, object]:
    """Return a plan as JSON has it.

    Args:
        path: The way.
        made: The plan of it.
        language: Of sentences.
        report: The report of the last rehearsal of it that passed.
    """
    origin = str(made.hops[0].origin) if made.hops else None
    findings = [finding_document(finding, language) for finding in made.findings]
    rehearsed = [
        {
            "from": hop.from_, "to": hop.to, "stop_s": hop.stop_s.to_json(),
            "values": hop.values and hop.values.to_json(),
        }
        for hop in rehearsed_hops(made, report).values()
    ]  # fmt: skip
    return {
        **path_document(path, language, origin),
        "plan": made.as_json(),
        "findings": findings,
        "rehearsed": rehearsed,
    }


def layer_lines(layer: LayerReport | None, language: str) -> Iterator[Line]:
    """Say what becomes of the country's texts and settings; nothing where there are none."""
    if layer is None or not layer.files:
        return
    from ncen_updater.agent.storage.overlay.words import sentences

    yield Text(N_("  What the country owns:"))
    for words in sentences(layer):
        yield f"    {clean(words.render(language))}"


def plan_words(made: Plan, language: str, report: RehearsalReport | None = None) -> Iterator[Line]:
    """Say a plan to people.

    Args:
        made: The plan.
        language: Of sentences within lines.
        report: The report of the last rehearsal of it that passed.
    """
    rehearsed = rehearsed_hops(made, report)
    for hop in made.hops:
        yield ""
        yield f"{hop.origin} -> {hop.offer.version}"
        for facts in hop.databases:
            values = {"name": facts.name, "physical": facts.physical,
                      "size": format_bytes(facts.size_bytes)}  # fmt: skip
            yield Text(N_("  database {name} ({physical}), {size}"), values)
        if hop.copy and any(item.get("method") == "clone" for item in hop.copy.data.values()):
            yield Text(
                N_(
                    "  the copies share their blocks with the originals: made at once, but one "
                    "bad sector harms both; they are no backup"
                )
            )
        spared = stop_words(as_is=hop.as_is, expands=hop.expands)
        if spared is not None:
            yield f"  {spared.render(language)}"
        later = later_words(hop.contract)
        if later is not None:
            yield f"  {later.render(language)}"
        for step in hop.migrations.steps:
            migration = {"database": step.database, "id": step.id}
            yield Text(N_("  migration {id} of {database}"), migration)
        shown = rehearsed.get((str(hop.origin), hop.offer.version))
        yield f"  {_way_of(hop, shown).render(language)}"
        if shown is not None:
            yield from _rehearsed_words(shown, language)
        for files in hop.files:
            yield files.sentence
        yield from layer_lines(hop.layer, language)
    yield ""
    yield Text(N_("Steps (*: officers are out, -: not done by the command upgrade):"))
    for number, line in enumerate(made.steps, 1):
        mark = "*" if line.downtime else "-" if line.note else " "
        yield f"  {number:2} {mark} {line.title.render(language)}"
    yield ""
    yield Text(N_("Digest of the plan: {digest}"), {"digest": made.digest})
    yield from finding_lines(made.findings, language)
    if made.blocked:
        yield Text(N_("The upgrade cannot begin while something blocks."))


def _way_of(hop: HopPlan, shown: RehearsedHop | None) -> Text:
    """Say the way back as the rehearsal and the dossier do: with what was lost on trial."""
    loses = hop.way.loses or (shown.not_kept if shown else ())
    tried = shown is not None or hop.as_is
    return way_words(hop.way.back, hop.offer.version, hop.origin, loses, tried=tried)


def _rehearsed_words(hop: RehearsedHop, language: str) -> Iterator[Line]:
    """Say what a rehearsal foretells of one hop."""
    stop = {"low": format_duration(hop.stop_s.low), "high": format_duration(hop.stop_s.high)}
    yield Text(N_("  as rehearsed, officers are out for {low} to {high}"), stop)
    if hop.values is not None:
        from ncen_updater.agent.engine.rehearsal.values_words import values_words

        yield from values_words(hop.values, language)


# ---- changes -------------------------------------------------------------------------------------


def _outcome_document(outcome: Outcome) -> dict[str, object]:
    return {
        **change_document(outcome.change, outcome.facts),
        "step_s": dict(outcome.step_s),
        "facts": outcome.facts.to_json(),
    }


def result_answer(result: Result, language: str, before: Sequence[Line] = ()) -> Answer:
    """Return what an operation came to.

    Args:
        result: The result.
        language: Of sentences in the document.
        before: Lines that stand before those on the changes.
    """
    document: dict[str, object] = {
        "changes": [_outcome_document(outcome) for outcome in result.outcomes]
    }
    if result.path is not None:
        document["path"] = path_document(result.path, language)
    if result.decision is not None:
        document["decision"] = {
            "action": result.decision.action.value,
            "reason": result.decision.reason.render(language),
        }
    return Answer(document, (*before, *_result_words(result)))


_WORDS = {
    "finished": N_("{kind}: {product} {origin} -> {version}, finished (change {id})"),
    "undone": N_("{kind}: {product} {origin} -> {version} was undone wholly (change {id})"),
    "committed": N_(
        "{kind}: {product} {origin} -> {version}, committed and in its watched time (change {id})"
    ),
}
_OTHER = N_("{kind}: {product} {origin} -> {version}, state {state} (change {id})")


def _result_words(result: Result) -> Iterator[Line]:
    for outcome in result.outcomes:
        change = outcome.change
        values = {
            "kind": change.kind, "product": change.product, "id": change.id,
            "origin": change.from_version, "version": change.to_version,
            "state": change.state,
        }  # fmt: skip
        yield Text(_WORDS.get(change.state.value, _OTHER), values)
        if outcome.stop_s is not None:
            stop = {"stop": format_duration(outcome.stop_s)}
            yield Text(N_("  officers were kept out for {stop}"), stop)


_ALONE = N_("Somebody who may approve has to agree to going back; they do so by ordering it.")
_TOGETHER = N_(
    "People who have to approve going back yet: {missing} (who has: {who}). Each of them types "
    "'ncen-updater approve --rollback{loss}'."
)
_FREE = N_(
    "Nobody has to approve going back now: the release is still watched, or its change did not "
    "come to its end."
)
_NEXT = N_("Next: 'ncen-updater rollback{loss}'.")
_APPROVED = N_("Going back is approved ({who}). Next: 'ncen-updater rollback{loss}'.")


def way_answer(
    way: RollbackPlan, found: BackSubject, language: str, tried: TriedValues | None = None
) -> Answer:
    """Return how a rollback would go, what it would lose, and who has to approve it yet.

    In the document ``how`` has the lines without what is to be typed, for who gives orders by
    other means than a terminal.

    Args:
        way: The way back.
        found: Who may go it.
        language: Of sentences within lines.
        tried: What the rehearsal of the upgrade saw of values when it went back, as its report has
            it; None where nothing is known.
    """
    document = {
        "from": way.origin, "to": way.target, "mode": way.mode.value, "lost": way.lost,
        "lost_total": way.lost_total, "passed_over": way.passed_over, "reason": way.reason,
        "undoes": way.undoes, "by_code": way.as_is,
        "values": tried and tried.to_json(),
        **found.document(),
    }  # fmt: skip
    typed = list[Text]()
    words = [way.words, *([ONLY_CODE] if way.as_is else [])]
    if way.reason:
        words.append(Text(N_("Why: {reason}"), {"reason": way.reason}))
    if way.lost_total:
        values = {"count": way.lost_total, "tables": way.lost_words}
        lost = N_("It would lose {count} records: {tables}")
        if way.keeps_but:
            lost = N_("What was entered there is lost in {count} rows: {tables}.")
        words.append(Text(lost, values))
        if way.program_words is not None:
            words.append(Text("{program}.", {"program": way.program_words}))
        if way.keeps_but:
            copy = N_("A copy stays in the databases of {version}, which are kept for {days} days.")
            words.append(Text(copy, {"version": way.origin, "days": way.days}))
    if way.passed_over:
        passed = N_(
            "Lost as well, and not counted, since {version} calls them no records: {tables}"
        )
        values = {"version": way.origin, "tables": way.passed_words}
        words.append(Text(passed, values))
    if tried is not None:
        from ncen_updater.agent.engine.rehearsal.values_words import values_words

        words += [Text(N_("The rehearsal of {version} tried it:"), {"version": way.origin})]
        words += values_words(tried, language)
        if way.keeps_all and tried.named("lost"):
            words.append(Text(N_("By now nobody has entered anything there: nothing is lost.")))
    if found.watched:
        words.append(Text(_FREE))
        typed.append(Text(_NEXT, {"loss": loss_words(way.lost_total)}))
    elif found.people.missing:
        values = {
            "missing": found.people.missing, "who": found.who or NOBODY_YET,
            "loss": loss_words(way.lost_total),
        }  # fmt: skip
        alone = found.people.missing + len(found.people.given) == 1
        (words if alone else typed).append(Text(_ALONE if alone else _TOGETHER, values))
    elif found.people.given:
        typed.append(Text(_APPROVED, {"who": found.who, "loss": loss_words(found.agreed_loss)}))
    return Answer({**document, "how": words}, [*words, *typed])


# ---- rehearsals ----------------------------------------------------------------------------------


def rehearsal_words(found: Document, language: str) -> Iterator[Line]:
    """Say what a rehearsal found to people.

    Args:
        found: The rehearsal as :func:`.store.rehearsal_document` returns it.
        language: Of sentences within lines.
    """
    from ncen_updater.agent.engine.rehearsal.report import RehearsalReport

    report = RehearsalReport.from_json(found["report"])
    values: dict[str, object] = {"origin": found["from"], "version": found["to"]}
    yield Text(N_("Rehearsed {origin} -> {version} on copies of your data."), values)
    backup = {
        "size": format_bytes(sum(report.sizes.values())),
        "seconds": format_duration(report.backup_s),
    }
    yield Text(N_("  a backup of {size} was made and restored in {seconds}"), backup)
    for database, objects in (report.not_carried or {}).items():
        yield _lacking(database, objects)
    for hop in report.hops:
        yield from _hop_words(hop, language)


def _lacking(database: str, objects: Sequence[str]) -> Text:
    """Say what the backup of a database does not carry, so that nothing was proved of it."""
    values: dict[str, object] = {"database": database, "objects": ", ".join(objects)}
    return Text(
        N_(
            "  not proved: a backup by the application's role does not carry this of {database}, or"
            " not as it is: {objects}"
        ),
        values,
    )


def _hop_words(hop: RehearsedHop, language: str) -> Iterator[Line]:
    values: dict[str, object] = {
        "origin": hop.from_, "version": hop.to,
        "low": format_duration(hop.stop_s.low), "high": format_duration(hop.stop_s.high),
    }  # fmt: skip
    yield ""
    yield Text(N_("{origin} -> {version}: officers are out for {low} to {high}"), values)
    for item in hop.maps:
        yield from _map_words(item)
    for database, tables in hop.tables.items():
        for table, (before, after) in tables.items():
            rows = {"table": f"{database}.{table}", "before": before, "after": after}
            yield Text(_words_of(before, after), rows)
    yield Text(N_("  {count} checks of the data hold"), {"count": len(hop.checks)})
    if hop.contract_s is not None:
        took = {"seconds": format_duration(hop.contract_s)}
        yield Text(
            N_("  what brings the migrations to their end while officers work took {seconds}"), took
        )
    yield from _back_words(hop, language)


def _back_words(hop: RehearsedHop, language: str) -> Iterator[Line]:
    words = way_words(hop.way_back, hop.to, hop.from_, hop.not_kept)
    yield f"  {words.render(language)}"
    if hop.back_s is not None:
        seconds = {"seconds": format_duration(hop.back_s)}
        yield Text(N_("  the way back was tried too, in {seconds}"), seconds)
    elif hop.restore_s is not None:
        seconds = {"seconds": format_duration(hop.restore_s)}
        yield Text(N_("  the databases of before were restored on trial, in {seconds}"), seconds)
    if hop.back_differs:
        tables = {"tables": ", ".join(hop.back_differs)}
        yield Text(N_("  after it these tables are not as before: {tables}"), tables)
    if hop.values is not None:
        from ncen_updater.agent.engine.rehearsal.values_words import values_words

        yield from values_words(hop.values, language)


def _map_words(item: MappedCodes) -> Iterator[Line]:
    without = item.without_target
    values: dict[str, object] = {
        "name": item.name, "count": item.affected, "without": without,
    }  # fmt: skip
    if item.affected is not None:
        yield Text(N_("  {name}: {count} rows get a new code"), values)
    if without:
        codes = ", ".join(f"{code} ({count})" for code, count in item.unmapped[:20])
        values["codes"] = codes
        yield Text(N_("  {name}: {without} rows have no target: {codes}"), values)


def _words_of(before: int, after: int) -> str:
    if before < 0:
        return N_("  new table {table}, {after} rows")
    if after < 0:
        return N_("  table {table} goes, {before} rows")
    if before == after:
        return N_("  table {table}: rows change, {after} before and after")
    return N_("  table {table}: {before} rows before, {after} after")


# ---- support bundles -----------------------------------------------------------------------------


#: Kinds of errors for which a part is missing, in words.
MISSING: Mapping[str, str] = {
    "CalledProcessError": N_("its program failed"),
    "FileNotFoundError": N_("what makes it is not there"),
    "PermissionError": N_("no right to it"),
    "TimeoutExpired": N_("it took too long"),
}


def bundle_answer(bundle: Bundle, show: Sequence[str], archive: str | None) -> Answer:
    """Return what a support bundle holds.

    Args:
        bundle: The bundle.
        show: Parts whose text is wanted.
        archive: The bundle as it is written, in base64; None where a value of a database stands in
            it.
    """
    words: list[Line] = []
    for part in bundle.parts:
        if part.text is None:
            known = part.missing in MISSING
            reason = Text(MISSING[str(part.missing)]) if known else part.missing
            values: dict[str, object] = {"part": part.name, "reason": reason}
            words.append(Text(N_("  {part}: missing ({reason})"), values))
        else:
            size = format_bytes(len(part.text.encode()))
            words.append(Text("  {part}: {size}", {"part": part.name, "size": size}))
        if part.name in show:
            words += [f"    {clean(line)}" for line in (part.text or "").splitlines()]
    for name, reason in bundle.unread.items():
        values = {"database": name, "reason": Text(MISSING.get(reason, reason))}
        words.append(Text(N_("Not compared with database {database}: {reason}"), values))
    for leak in bundle.leaks:
        values = {"part": leak.part, "column": leak.column}
        words.append(Text(N_("A value of {column} stands in {part}."), values))
    document: dict[str, object] = {
        "parts": {
            part.name: {"missing": part.missing}
            if part.text is None
            else {"bytes": len(part.text.encode())}
            for part in bundle.parts
        },
        "shown": {part.name: part.text for part in bundle.parts if part.name in show},
        "leaks": [{"part": leak.part, "column": leak.column} for leak in bundle.leaks],
        "not_compared_with": bundle.unread,
        "archive": archive,
    }
    return Answer(document, words, ExitCode.BLOCKED if bundle.leaks else ExitCode.OK)


def import_answer(record: ImportRecord, *, dry_run: bool, zone: tzinfo | None = None) -> Answer:
    """Return what an import brought, or with ``dry_run`` would have."""
    words: list[Line] = []
    values: dict[str, object] = {
        "product": record.product,
        "releases": ", ".join(record.releases),
        "reaches": record.reaches,
        "until": format_time(record.usable_until, zone),
        "agents": ", ".join(record.agents),
        "agent": record.agent,
    }
    if record.agents:
        told = (
            N_("The bundle holds agent {agents}.") if dry_run else N_("Imported: agent {agents}.")
        )
        words.append(Text(told, values))
    if record.agent is not None and not dry_run:
        hint = N_("The service renews itself to {agent}; without it: 'ncen-updater self-update'.")
        words.append(Text(hint, values))
    if record.agents and not record.releases:
        done = N_("It holds no release of {product}.")
    elif not record.releases:
        done = N_("The bundle is whole and holds newer lists, but no release.")
    elif dry_run:
        done = N_("The bundle is whole and holds {product} {releases}. Nothing was kept.")
    else:
        done = N_("Imported: {product} {releases}.")
    words.append(Text(done, values))
    if record.reaches is not None:
        words.append(Text(N_("It leads from what runs here to {reaches}."), values))
        if not dry_run:
            hint = N_("'ncen-updater plan {reaches}' and 'upgrade {reaches}' need no network now.")
            words.append(Text(hint, values))
    elif record.releases:
        words.append(Text(N_("None of it is newer than what runs here."), values))
    words.append(Text(N_("Its lists may be used until {until}."), values))
    return Answer({"kept": not dry_run, **record.to_json()}, words)
