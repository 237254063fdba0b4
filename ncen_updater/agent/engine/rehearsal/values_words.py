"""What a rehearsal says of the values that it wrote on trial."""

from __future__ import annotations

from collections.abc import Iterator

from ncen_updater.agent.adapters.databases.tried import TriedValues, Untried
from ncen_updater.common.i18n import N_, Text

_UNTRIED = {
    Untried.KEY: N_("part of a key ({count})"),
    Untried.NO_KEY: N_("no key in the table ({count})"),
    Untried.COMPUTED: N_("filled by the database ({count})"),
    Untried.TYPE: N_("of another type ({count})"),
    Untried.REFUSED: N_("refused by a rule of the table ({count})"),
    Untried.EMPTY: N_("empty table ({count})"),
    Untried.TIME: N_("for want of time ({count})"),
    Untried.OWN: N_("written by the release itself ({count})"),
    Untried.UNSEEN: N_("the migrations did not come to their end ({count})"),
}


def lost_places(values: TriedValues) -> tuple[str, ...]:
    """Name what was lost on trial: a column; its table where that lost more than one. Pure."""
    tables: dict[str, list[str]] = {}
    for column in values.named("lost"):
        tables.setdefault(column.rpartition(".")[0], []).append(column)
    return tuple(table if len(found) > 1 else found[0] for table, found in tables.items())


def values_words(values: TriedValues, language: str) -> Iterator[Text]:
    """Say what became of values that a rehearsal wrote on trial before it went back.

    Args:
        values: Those of one hop in the report of a rehearsal.
        language: Of sentences within lines.
    """
    found = {what: values.total(what) for what in ("kept", "came_back")}
    lost = values.total("lost")
    if any(found.values()) or lost:
        yield Text(
            N_(
                "  values written on trial into the copies before going back: {kept} kept,"
                " {came_back} came back from where they were parked"
            ),
            found,
        )
    if lost:  # never without its name: beside it stands that every record is kept
        yield Text(
            N_(
                "  lost on trial, as the release's files say (values: {lost}): what is entered in"
                " {columns}"
            ),
            {"lost": lost, "columns": ", ".join(values.named("lost"))},
        )
    if values.named("refused"):
        columns = {"columns": ", ".join(values.named("refused"))}
        yield Text(N_("  the way back does not go with large values in: {columns}"), columns)
    if values.stopped is not None:
        yield Text(N_("  with values in the tables it stopped: {cause}"), {"cause": values.stopped})
    if values.untried:
        reasons = ", ".join(
            Text(_UNTRIED[reason], {"count": count}).render(language)
            for reason, count in values.untried.items()
        )
        yield Text(N_("  columns not tried: {reasons}"), {"reasons": reasons})
