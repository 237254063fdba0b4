"""What a rehearsal says of the values that it wrote on trial."""

from __future__ import annotations

from collections.abc import Iterator

from ncen_updater.agent.adapters.databases.tried import RoundTripResult, UntestedReason
from ncen_updater.common.i18n import N_, LazyText

_UNTESTED_TEXTS = {
    UntestedReason.KEY: N_("part of a key ({count})"),
    UntestedReason.NO_KEY: N_("no key in the table ({count})"),
    UntestedReason.COMPUTED: N_("filled by the database ({count})"),
    UntestedReason.TYPE: N_("of another type ({count})"),
    UntestedReason.REFUSED: N_("refused by a rule of the table ({count})"),
    UntestedReason.EMPTY: N_("empty table ({count})"),
    UntestedReason.TIME: N_("for want of time ({count})"),
    UntestedReason.WRITTEN_BY_RELEASE: N_("written by the release itself ({count})"),
    UntestedReason.NOT_COMPLETED: N_("the migrations did not come to their end ({count})"),
}


def list_lost_columns(values: RoundTripResult) -> tuple[str, ...]:
    """Name what was lost on trial: a column; its table where that lost more than one. Pure."""
    tables: dict[str, list[str]] = {}
    for column in values.list_columns("lost"):
        tables.setdefault(column.rpartition(".")[0], []).append(column)
    return tuple(table if len(found) > 1 else found[0] for table, found in tables.items())


def format_round_trip(values: RoundTripResult, language: str) -> Iterator[LazyText]:
    """Say what became of values that a rehearsal wrote on trial before it went back.

    Args:
        values: Those of one hop in the report of a rehearsal.
        language: Of sentences within lines.
    """
    found = {what: values.count_values(what) for what in ("kept", "restored")}
    lost = values.count_values("lost")
    if any(found.values()) or lost:
        yield LazyText(
            N_(
                "  values written on trial into the copies before going back: {kept} kept,"
                " {restored} came back from where they were parked"
            ),
            found,
        )
    if lost:  # never without its name: beside it stands that every record is kept
        yield LazyText(
            N_(
                "  lost on trial, as the release's files say (values: {lost}): what is entered in"
                " {columns}"
            ),
            {"lost": lost, "columns": ", ".join(values.list_columns("lost"))},
        )
    if values.list_columns("refused"):
        columns = {"columns": ", ".join(values.list_columns("refused"))}
        yield LazyText(N_("  the way back does not go with large values in: {columns}"), columns)
    if values.failure is not None:
        yield LazyText(
            N_("  with values in the tables it stopped: {cause}"), {"cause": values.failure}
        )
    if values.count_untested:
        reasons = ", ".join(
            LazyText(_UNTESTED_TEXTS[reason], {"count": count}).render(language)
            for reason, count in values.count_untested.items()
        )
        yield LazyText(N_("  columns not tried: {reasons}"), {"reasons": reasons})
