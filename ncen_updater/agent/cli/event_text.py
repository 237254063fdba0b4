"""One event of the journal as a line, in the language of a session. Pure.

Event names and field names are stable words of the journal; English prints them unchanged, other
languages have a catalogue entry for each.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, tzinfo

from ncen_updater.common.cli.characters import strip_control_characters
from ncen_updater.common.cli.render import format_duration, format_time
from ncen_updater.common.i18n import DEFAULT_LANGUAGE, N_, LazyText, translate

#: Every kind that the journal has, and what the service tells beside it.
EVENT_KINDS = frozenset(
    {
        N_("adopted"), N_("agent-chosen"), N_("agent-confirmed"), N_("application-runs"),
        N_("application-started"), N_("application-stopped"),
        N_("approval-void"), N_("approval-withdrawn"), N_("approvals-spent"), N_("approved"),
        N_("available"), N_("begun"), N_("change-committed"), N_("change-finished"),
        N_("change-running"), N_("change-stuck"), N_("change-reverting"), N_("change-reverted"),
        N_("prune-begun"), N_("prune-ended"), N_("committed"), N_("confirmed"),
        N_("contract-failed"), N_("contracted"),
        N_("databases-away"), N_("databases-back"),
        N_("databases-kept"), N_("databases-kept-dropped"), N_("disk-full"), N_("disk-has-room"),
        N_("done"), N_("expanded"),
        N_("failed"), N_("fence-lifted"), N_("files-brought-back"), N_("files-not-dropped"),
        N_("files-not-kept"),
        N_("files-put-back"), N_("held"), N_("import-begun"), N_("import-refused"), N_("imported"),
        N_("looked"), N_("marker-healed"), N_("intervention-required"), N_("next"),
        N_("order-ended"),
        N_("order-taken"), N_("ordered"), N_("pack-refused"), N_("predicted"),
        N_("receipt-level"), N_("receipt-written"),
        N_("previous-dropped"), N_("recovery"), N_("recovery-failed"),
        N_("rehearsal-begun"),
        N_("rehearsal-failed"), N_("rehearsal-passed"), N_("rehearsal-running"), N_("release-bad"),
        N_("release-bad-withdrawn"),
        N_("restore-accepted"), N_("rollback-approved"), N_("emergency-rollback"),
        N_("schedule-cancelled"), N_("scheduled"),
        N_("started"), N_("step-done"), N_("step-failed"),
        N_("step-intended"), N_("step-undoing"), N_("step-undone"), N_("stop-compared"),
        N_("translations-applied"), N_("unheld"), N_("watching-ended"),
    }
)  # fmt: skip
#: Names of what events hold.
EVENT_FIELD_NAMES = frozenset(
    {
        N_("agents"), N_("imported_at"), N_("reachable_agent"), N_("reachable_release"),
        N_("usable_until"),
        N_("accept_loss"), N_("action"), N_("after"), N_("application"), N_("aside"), N_("before"),
        N_("binding"), N_("brought"), N_("digest"), N_("epoch"), N_("level"), N_("number"),
        N_("by"), N_("changes"), N_("code"), N_("corrects"),
        N_("count"), N_("data"), N_("databases"), N_("emergency"), N_("error"), N_("error_code"),
        N_("exit_code"), N_("file"), N_("fingerprints"), N_("from_version"), N_("full"),
        N_("generation"), N_("given"), N_("gone"), N_("held"), N_("high_s"), N_("kind"),
        N_("language"), N_("merged"),
        N_("lost"), N_("low_s"), N_("mode"), N_("name"), N_("needed"),
        N_("not_before"), N_("order"), N_("origin"), N_("pack"), N_("path"), N_("place"),
        N_("actual_s"), N_("reason"),
        N_("reasons"), N_("rehearsal"), N_("release"), N_("releases"), N_("restored"),
        N_("schema_kinds"), N_("slots"), N_("step"), N_("taken_over_by"), N_("times"),
        N_("to_version"), N_("undoes"),
        N_("until"), N_("version"), N_("vouched"), N_("what"), N_("who"), N_("why"), N_("words"),
        N_("written"),
    }
)  # fmt: skip
#: What they hold that is a word of ours.
TRANSLATED_FIELDS = frozenset({"action", "kind", "mode", "step", "what"})


def format_event(
    at: str | None,
    kind: str,
    data: Mapping[str, object] | None,
    language: str,
    zone: tzinfo | None = None,
) -> str:
    """Return one event as a line.

    Args:
        at: When, as JSON has it.
        kind: Of it.
        data: What it holds.
        language: Of the session.
        zone: Zone of the site; that of the machine by default.
    """
    when = format_time(datetime.fromisoformat(at), zone).render(language) if at else "-"
    words = ", ".join(
        _format_pair(name, value, language)
        for name, value in (data or {}).items()
        if value is not None
    )
    return strip_control_characters(f"{when}  {translate(kind, language)}  {words}".rstrip())


def _format_pair(name: str, value: object, language: str) -> str:
    if language == DEFAULT_LANGUAGE:
        return f"{name} {value}"
    return f"{translate(name, language)} {_format_value(name, value, language)}"


def _format_value(name: str, value: object, language: str) -> str:
    if isinstance(value, bool):
        return translate("yes" if value else "no", language)
    if isinstance(value, int | float) and name.endswith("_s"):
        return format_duration(float(value)).render(language)
    if isinstance(value, list | tuple):
        return ", ".join(_format_value(name, one, language) for one in value) or "-"
    if isinstance(value, Mapping):
        ours = name == "data"  # else the names of databases
        return ", ".join(
            f"{translate(key, language) if ours else key} {_format_value(key, one, language)}"
            for key, one in value.items()
            if one is not None
        )
    if isinstance(value, str) and name in TRANSLATED_FIELDS:
        return translate(value, language)
    return LazyText("{value}", {"value": value}).render(language)
