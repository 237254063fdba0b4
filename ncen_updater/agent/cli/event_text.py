"""Journal events as lines of text in the language of the session. Pure.

Kinds and field names are stable identifiers, which ``--json`` shows; the text output shows a label
for each.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from datetime import datetime, tzinfo
from typing import Final

from ncen_updater.common.cli.characters import strip_control_characters
from ncen_updater.common.cli.render import format_duration, format_time
from ncen_updater.common.i18n import N_, LazyText, translate
from ncen_updater.common.labels import translate_step_label

#: Labels of all kinds of journal events.
EVENT_LABELS: Final[Mapping[str, str]] = {
    "adopted": N_("site adopted"),
    "agent-selected": N_("agent selected"),
    "agent-confirmed": N_("agent confirmed"),
    "application-runs": N_("application runs again"),
    "application-started": N_("application started"),
    "application-stopped": N_("application stopped by an administrator"),
    "approval-withdrawn": N_("approval withdrawn"),
    "approvals-spent": N_("approvals used"),
    "approved": N_("upgrade approved"),
    "change-started": N_("change started"),
    "change-committed": N_("change committed"),
    "change-finished": N_("change finished"),
    "change-running": N_("change in progress"),
    "change-stuck": N_("change needs manual intervention"),
    "change-reverting": N_("change being reverted"),
    "change-reverted": N_("change reverted"),
    "prune-started": N_("prune started"),
    "prune-finished": N_("prune finished"),
    "committed": N_("upgrade or rollback committed"),
    "confirmed": N_("release confirmed"),
    "contract-failed": N_("final migrations failed"),
    "contracted": N_("final migrations finished"),
    "databases-unavailable": N_("databases unreachable"),
    "databases-available": N_("databases reachable again"),
    "databases-retained": N_("databases retained"),
    "retained-databases-removed": N_("retained databases removed"),
    "disk-full": N_("a disk is full"),
    "disk-has-space": N_("the disk has space again"),
    "expanded": N_("schemas extended"),
    "fence-lifted": N_("databases opened to connections"),
    "previous-paths-restored": N_("previous paths restored"),
    "files-not-removed": N_("retained files not removed"),
    "files-not-saved": N_("files not saved"),
    "files-restored": N_("files restored"),
    "held": N_("hold set"),
    "import-started": N_("import started"),
    "import-rejected": N_("import rejected"),
    "imported": N_("bundle imported"),
    "marker-repaired": N_("database marker repaired"),
    "job-ended": N_("job finished"),
    "job-started": N_("job started"),
    "job-queued": N_("job queued"),
    "pack-rejected": N_("delta pack rejected"),
    "predicted": N_("downtime predicted"),
    "previous-dropped": N_("previous databases removed"),
    "receipt-level": N_("level of receipts set"),
    "receipt-written": N_("receipt written"),
    "receipt-sent": N_("receipt sent"),
    "recovery": N_("resume started"),
    "recovery-failed": N_("resume failed"),
    "rehearsal-started": N_("rehearsal started"),
    "rehearsal-failed": N_("the rehearsal failed"),
    "rehearsal-passed": N_("rehearsal passed"),
    "rehearsal-running": N_("rehearsal in progress"),
    "release-bad": N_("release marked bad"),
    "release-bad-withdrawn": N_("release no longer marked bad"),
    "restored-adopted": N_("restored databases adopted"),
    "rollback-approved": N_("rollback approved"),
    "emergency-rollback": N_("emergency rollback"),
    "schedule-cancelled": N_("schedule cancelled"),
    "scheduled": N_("upgrade scheduled"),
    "step-done": N_("step finished"),
    "step-failed": N_("step failed"),
    "step-intended": N_("step started"),
    "step-undoing": N_("step being reverted"),
    "step-undone": N_("step reverted"),
    "downtime-compared": N_("downtime measured"),
    "local-texts-merged": N_("local texts merged"),
    "unheld": N_("hold removed"),
    "soak-ended": N_("soak period ended"),
}
#: Labels of the fields of events.
EVENT_FIELD_LABELS: Final[Mapping[str, str]] = {
    "agents": N_("agents"),
    "imported_at": N_("imported on"),
    "outcome_id": N_("latest change"),
    "reachable_agent": N_("reachable agent"),
    "reachable_release": N_("reachable release"),
    "scheduled": N_("automatic"),
    "usable_until": N_("valid until"),
    "accept_loss": N_("accepted data loss"),
    "action": N_("operation"),
    "after": N_("rows after"),
    "application": N_("reported by the application"),
    "quarantined": N_("in quarantine"),
    "before": N_("rows before"),
    "binding": N_("approval digest"),
    "digest": N_("digest"),
    "epoch": N_("series"),
    "level": N_("level"),
    "number": N_("receipt number"),
    "by": N_("by"),
    "changes": N_("changes"),
    "code": N_("code"),
    "corrects": N_("replaces"),
    "count": N_("count"),
    "data": N_("details"),
    "databases": N_("databases"),
    "emergency": N_("emergency"),
    "error": N_("error"),
    "error_code": N_("code"),
    "exit_code": N_("exit code"),
    "file": N_("file"),
    "fingerprints": N_("schema digests"),
    "from_version": N_("from"),
    "raw_error": N_("complete error in"),
    "generation": N_("generation"),
    "paths_restored": N_("paths restored"),
    "paths_missing": N_("paths not restored"),
    "held": N_("as predicted"),
    "high_s": N_("at most"),
    "kind": N_("type"),
    "language": N_("language"),
    "merged": N_("merged in"),
    "lost": N_("lost"),
    "low_s": N_("at least"),
    "mode": N_("databases"),
    "name": N_("name"),
    "needed": N_("approvals required"),
    "not_before": N_("not before"),
    "job": N_("job"),
    "origin": N_("from"),
    "pack": N_("delta pack"),
    "path": N_("path"),
    "actual_s": N_("measured"),
    "reason": N_("reason"),
    "reasons": N_("reasons"),
    "rehearsal": N_("rehearsal"),
    "release": N_("release"),
    "releases": N_("releases"),
    "restored": N_("restored"),
    "schema_kinds": N_("kinds of objects"),
    "slots": N_("releases"),
    "step": N_("step"),
    "superseded_by": N_("superseded by"),
    "times": N_("times"),
    "to_version": N_("to"),
    "uid": N_("user id"),
    "undoes": N_("reverts"),
    "until": N_("until"),
    "version": N_("release"),
    "confirmed_by_operator": N_("confirmed by the operator"),
    "method": N_("sent by"),
    "written": N_("overwritten"),
}
#: Labels of the modes of a change.
_MODE_LABELS: Final[Mapping[str, str]] = {
    "migrate": N_("to be migrated"),
    "restore": N_("to be restored as they were before the upgrade"),
}
#: Fields whose values are translatable words.
TRANSLATED_FIELDS = frozenset({"action", "kind", "mode"})
#: Fields that the label of the event already names.
SELF_EXPLANATORY_FIELDS = frozenset({"step", "actual_s"})
#: Fields whose values are times.
TIME_FIELDS = frozenset({"imported_at", "not_before", "until", "usable_until"})


def format_event(
    at: str | None,
    kind: str,
    data: Mapping[str, object] | None,
    language: str,
    zone: tzinfo | None = None,
) -> str:
    """Return one event as a line.

    Args:
        at: Time of the event, as in JSON.
        kind: Kind of the event.
        data: Fields of the event.
        language: Language of the session.
        zone: Time zone of the site; by default that of the machine.
    """
    when = _format_value("until", at, language, zone) if at else "-"
    label = translate(EVENT_LABELS.get(kind, kind), language)
    details = _format_mapping(data or {}, language, zone)
    return strip_control_characters(f"{when}  {label}  {details}".rstrip())


def _format_mapping(data: Mapping[str, object], language: str, zone: tzinfo | None) -> str:
    details = []
    # The step comes first, since the other fields describe it, and the bounds last.
    order = ("step", "", "low_s", "high_s")
    for name, value in sorted(
        data.items(), key=lambda item: order.index(item[0] if item[0] in order else "")
    ):
        label = translate(EVENT_FIELD_LABELS.get(name, name), language)
        shown = _format_value(name, value, language, zone)
        if value is None:
            continue
        if name in SELF_EXPLANATORY_FIELDS:
            details.append(shown)
        elif isinstance(value, bool) or name == "count":
            pair = LazyText(N_("{name}: {text}"), {"name": label, "text": shown})
            details.append(pair.render(language))
        else:
            details.append(f"{label} {shown}")
    return ", ".join(details)


def _format_value(name: str, value: object, language: str, zone: tzinfo | None) -> str:
    if isinstance(value, bool):
        return translate("yes" if value else "no", language)
    if isinstance(value, int | float) and name.endswith("_s"):
        return format_duration(float(value)).render(language)
    if isinstance(value, list | tuple):
        return ", ".join(_format_value(name, one, language, zone) for one in value) or "-"
    if isinstance(value, Mapping):
        if name == "data":
            return _format_mapping(value, language, zone)
        return ", ".join(  # the keys are database names
            f"{key} {_format_value(key, one, language, zone)}" for key, one in value.items()
        )
    if isinstance(value, str) and name in TIME_FIELDS:
        with contextlib.suppress(ValueError):
            return format_time(datetime.fromisoformat(value), zone).render(language)
    if isinstance(value, str) and name == "step":
        return translate_step_label(value, "upgrade", language)
    if isinstance(value, str) and name in TRANSLATED_FIELDS:
        return translate(_MODE_LABELS.get(value, value), language)
    return LazyText("{value}", {"value": value}).render(language)
