"""The state now: what runs, whether officers are in, whether anything changed. Never guessed.

Facts come from the disk (:func:`look_lightly`) and, where a command has the whole site, from the
application and the databases (:func:`look_deeply`). A fact that cannot be had is said to be so.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ncen_updater.agent.config.paths import Places, load_places
from ncen_updater.agent.engine.errors import JournalForbidden, JournalMissing
from ncen_updater.agent.journal.change import Change, ChangeState, StepName
from ncen_updater.agent.journal.journal import Journal
from ncen_updater.agent.journal.names import JOURNAL
from ncen_updater.agent.service.report import door_closed
from ncen_updater.agent.slots.link import current_version
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, Text

if TYPE_CHECKING:
    from ncen_updater.agent.site import Site

__all__ = ["SiteFacts", "look_deeply", "look_lightly", "sentences"]


@dataclass(frozen=True)
class SiteFacts:
    """What is known of a site; None is "not known", and ``why`` then says why.

    Attributes:
        version: The release that ``current`` chooses.
        chosen: Whether any release was ever chosen.
        running: Whether a process of the application runs.
        closed: Whether the door keeps officers out.
        fenced: Whether the databases refuse sessions.
        missing: Databases that are not there.
        journal: Whether there is a journal; None if it cannot be read.
        last: The newest change.
        forbidden: That this user may not read the journal, where it is so.
    """

    product: str
    version: str | None = None
    chosen: bool | None = None
    running: bool | None = None
    closed: bool | None = None
    fenced: bool | None = None
    missing: tuple[str, ...] = ()
    journal: bool | None = None
    last: Change | None = None
    forbidden: str = ""
    why: tuple[str, ...] = ()


def look_lightly(config: Path) -> SiteFacts:
    """Collect what the disk says. Opens no connection.

    Raises:
        ConfigError: If the configuration cannot be used.
    """
    places = load_places(config)
    facts = SiteFacts(places.product)
    why: list[str] = []

    def attempt(part: Callable[[SiteFacts], SiteFacts]) -> None:
        nonlocal facts
        try:
            facts = part(facts)
        except (UpdaterError, OSError) as error:
            why.append(str(error))

    attempt(lambda f: _current(f, places))
    attempt(lambda f: dataclasses.replace(f, closed=door_closed(config)))
    attempt(lambda f: _journal(f, places))
    return dataclasses.replace(facts, why=tuple(why))


def _current(facts: SiteFacts, places: Places) -> SiteFacts:
    version = current_version(places.slots, places.current)
    return dataclasses.replace(
        facts, chosen=version is not None, version=str(version) if version else None
    )


def _journal(facts: SiteFacts, places: Places) -> SiteFacts:
    try:
        with Journal.open(places.state / JOURNAL, read_only=True) as journal:
            changes = journal.changes(1)
    except JournalMissing:
        return dataclasses.replace(facts, journal=False)
    except JournalForbidden as error:
        return dataclasses.replace(facts, forbidden=str(error.what_text))
    return dataclasses.replace(facts, journal=True, last=changes[0] if changes else None)


def look_deeply(facts: SiteFacts, site: Site) -> SiteFacts:
    """Add what the application and the databases say; reads only."""
    from ncen_updater.agent.engine.situation import look

    why = list(facts.why)
    try:
        facts = dataclasses.replace(facts, running=site.application.running())
    except Exception as error:  # noqa: BLE001 - asked after a failure: said, not raised
        why.append(str(error))
    try:
        open_change = facts.last if facts.last and facts.last.state.open else None
        seen = look(site, open_change, by_person=True)
        missing = site.engine.names if seen.missing else ()
        facts = dataclasses.replace(facts, fenced=seen.fenced, missing=missing)
    except Exception as error:  # noqa: BLE001 - likewise
        why.append(str(error))
    return dataclasses.replace(facts, why=tuple(why))


def sentences(facts: SiteFacts, before: SiteFacts | None) -> list[Text]:
    """Say it; pure.

    Args:
        facts: The site now.
        before: The site when the command began, None if that is not known.
    """
    said = [_application(facts), _databases(facts), _change(facts, before)]
    if facts.why:
        said.append(Text(N_("Not everything could be found out: {why}"), {"why": facts.why[0]}))
    return [text for text in said if text is not None]


def _application(facts: SiteFacts) -> Text:
    values = {"product": facts.product, "version": facts.version}
    if facts.chosen is False:
        return Text(N_("No release of {product} was ever chosen here."), values)
    if facts.version is None:
        return Text(N_("Which release of {product} is in use could not be found out."), values)
    table: dict[tuple[bool | None, bool | None], str] = {
        (True, False): N_("{product} {version} is running and open to officers."),
        (True, True): N_("{product} {version} is running; officers see the maintenance page."),
        (False, False): N_("{product} {version} is not running; no maintenance page is shown."),
        (False, True): N_("{product} {version} is stopped; officers see the maintenance page."),
        (None, False): N_(
            "{product} {version} is in use and open to officers; "
            "whether it is running was not found out."
        ),
        (None, True): N_(
            "{product} {version} is in use; officers see the maintenance page; "
            "whether it is running was not found out."
        ),
        (True, None): N_(
            "{product} {version} is running; whether officers are let in was not found out."
        ),
        (False, None): N_("{product} {version} is not running."),
    }
    unknown = N_("{product} {version} is in use; whether it is running and open was not found out.")
    return Text(table.get((facts.running, facts.closed), unknown), values)


def _databases(facts: SiteFacts) -> Text | None:
    if facts.missing:
        return Text(N_("At least one database is not under its name."))
    if facts.fenced is None:
        return None
    return Text(
        N_("The databases are closed to everyone but the agent.")
        if facts.fenced
        else N_("The databases are open.")
    )


def _change(facts: SiteFacts, before: SiteFacts | None) -> Text | None:
    if facts.forbidden:
        return Text("{why}", {"why": facts.forbidden})
    if facts.journal is None:
        return Text(N_("The journal cannot be read; all automatic work has stopped."))
    change = facts.last
    if before is not None and before.journal is not None and before.last == change:
        return _unchanged(change)
    if change is None:
        return None
    values = {"kind": change.kind, "change": change.id, "version": change.to_version,
              "origin": change.from_version}  # fmt: skip
    return Text(_OF_STATE[change.state] if not _untouched(change) else _UNTOUCHED, values)


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
        and change.strategy == "copy"
        and change.step_state(StepName.CUT_OVER) is None
        and change.step_state(StepName.COMMIT) is None
    )


_UNTOUCHED = N_(
    "The {kind} to {version} (change {change}) is open; the databases of {origin} were not "
    "touched, and no record was lost."
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
