"""The state now in sentences: what runs, whether officers are in, whether anything changed; pure.

A fact that cannot be had is said to be so, and never guessed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ncen_updater.agent.cli.availability_words import trouble
from ncen_updater.agent.engine.approvals.model import used_up_words
from ncen_updater.agent.model.change import Change, ChangeState, StepName
from ncen_updater.agent.model.errors import JournalForbidden, JournalMissing
from ncen_updater.agent.policy.availability import AvailabilityState, HealthAnswer
from ncen_updater.agent.reports.status import SiteStatus, or_none
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, Text

#: Parts of a site that the sentences are made of; the databases where they are at hand.
STATE = frozenset({"current", "availability", "journal", "databases"})


def sentences(status: SiteStatus, before: SiteStatus | None) -> list[Text]:
    """Say it.

    Args:
        status: The site now.
        before: The site when the command began, None if that is not known.
    """
    said = [_application(status), _databases(status), *_change(status, before)]
    expected = (JournalMissing, JournalForbidden)
    for error in [error for error in status.errors if not isinstance(error, expected)][:1]:
        why: object = str(error)
        if isinstance(error, UpdaterError):  # without what a server said, which stands above
            why = Text(N_("{code}: {what}"), {"code": error.code, "what": error.what_text})
        said.append(Text(N_("Not everything could be found out: {why}"), {"why": why}))
    return [text for text in said if text is not None]


def _application(status: SiteStatus) -> Text:
    values: dict[str, object] = {
        "product": status.places.product,
        "version": or_none(status.current),
    }
    if status.current is None:
        return Text(N_("No release of {product} was ever chosen here."), values)
    if isinstance(status.current, Exception):
        return Text(N_("Which release of {product} is in use could not be found out."), values)
    seen = or_none(status.availability)
    if seen is None:
        return Text(N_("{product} {version} is in use."), values)
    values |= {"trouble": trouble(seen), "why": seen.why or "-", "said": seen.detail}
    if (seen.state, seen.answer) == (AvailabilityState.WORKS, HealthAnswer.OTHER_VERSION):
        text = N_("{product} {version} is chosen and open to officers, but {said} is said to run.")
        return Text(text, values)
    return Text(_OFFICERS.get((seen.state, seen.runs)) or _OFFICERS[(seen.state, None)], values)


_OFFICERS: Mapping[tuple[AvailabilityState, bool | None], str] = {
    (AvailabilityState.WORKS, None): N_("{product} {version} is running and open to officers."),
    (AvailabilityState.MAINTENANCE, True): N_(
        "{product} {version} is running; officers see the maintenance page."
    ),
    (AvailabilityState.MAINTENANCE, False): N_(
        "{product} {version} is stopped; officers see the maintenance page."
    ),
    (AvailabilityState.MAINTENANCE, None): N_(
        "{product} {version} is in use; officers see the maintenance page; "
        "whether it is running was not found out."
    ),
    (AvailabilityState.NOT_RUNNING, None): N_(
        "{product} {version} is not running; no maintenance page is shown."
    ),
    (AvailabilityState.NOT_WORKING, None): N_(
        "{product} {version} is open to officers, but does not work: {trouble}."
    ),
    (AvailabilityState.UNKNOWN, None): N_(
        "{product} {version} is in use; whether officers can work was not found out ({why})."
    ),
}


def _databases(status: SiteStatus) -> Text | None:
    databases = or_none(status.databases)
    if databases is None:
        return None
    if databases.missing:
        return Text(N_("At least one database is not under its name."))
    return Text(
        N_("The databases are closed to everyone but the agent.")
        if databases.fenced
        else N_("The databases are open.")
    )


def _change(status: SiteStatus, before: SiteStatus | None) -> Iterator[Text]:
    if isinstance(status.journal, JournalForbidden):
        yield Text(N_("Whether a change is open, 'ncen-updater status' can say."))
        return
    if _unreadable(status):
        yield Text(N_("The journal cannot be read; all automatic work has stopped."))
        return
    change, journal = _last(status), or_none(status.journal)
    if before is not None and not _unreadable(before) and _last(before) == change:
        yield _unchanged(change)
        return
    if change is None or journal is None:
        return
    values = {"kind": change.kind, "change": change.id, "version": change.to_version,
              "origin": change.from_version}  # fmt: skip
    expanded = journal.facts.expanded is not None
    if expanded and change.state is ChangeState.UNDONE:
        yield Text(_STAYS, values)
    else:
        untouched = _untouched(change) and not expanded
        yield Text(_UNTOUCHED if untouched else _OF_STATE[change.state], values)
    if journal.used_up:
        yield used_up_words(journal.used_up)


def _unreadable(status: SiteStatus) -> bool:
    return isinstance(status.journal, Exception) and not isinstance(status.journal, JournalMissing)


def _last(status: SiteStatus) -> Change | None:
    journal = or_none(status.journal)
    return journal.last if journal else None


def _unchanged(change: Change | None) -> Text:
    if change is None or not change.state.open:
        return Text(N_("Nothing that runs was changed, and no record was touched."))
    return Text(
        N_("This command changed nothing; the change {change} to {version} is still open."),
        {"change": change.id, "version": change.to_version},
    )


def _untouched(change: Change) -> bool:
    """Whether an open change has not come to the originals: nothing was intended that would."""
    return (
        change.state in (ChangeState.RUNNING, ChangeState.UNDOING, ChangeState.STUCK)
        and change.step_state(StepName.CUT_OVER) is None
        and change.step_state(StepName.COMMIT) is None
    )


_UNTOUCHED = N_(
    "The {kind} to {version} (change {change}) is open; the databases of {origin} were not "
    "touched, and no record was lost."
)
_STAYS = N_(
    "The {kind} to {version} (change {change}) was undone. Its program had worked on the databases"
    " before the stop, and what it added stays; all else is as it was, and no record was lost."
)
_OF_STATE = {
    ChangeState.RUNNING: N_("The {kind} to {version} (change {change}) has not come to its end."),
    ChangeState.UNDOING: N_("The {kind} to {version} (change {change}) is not wholly undone."),
    ChangeState.COMMITTED: N_(
        "The {kind} to {version} (change {change}) is committed and in its watched time."
    ),
    ChangeState.FINISHED: N_("The {kind} to {version} (change {change}) has come to its end."),
    ChangeState.UNDONE: N_(
        "Everything is as it was before the {kind} to {version} (change {change}); "
        "no record was lost."
    ),
    ChangeState.STUCK: N_("The {kind} to {version} (change {change}) waits for a person."),
}
