"""Read the facts of a site on which recovery decides. Changes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from packaging.version import Version

from ncen_updater.agent.engine.recovery import CurrentSlot, ObservedState
from ncen_updater.agent.engine.site import Site, make_change_ref
from ncen_updater.agent.model.change import Change, StepName
from ncen_updater.agent.model.event_names import RESTORED_ADOPTED
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.journal.rows import JournalEvent
from ncen_updater.common.i18n import N_, LazyText

#: Event: an existing installation was adopted.
ADOPTED = "adopted"
#: Event: an upgrade was reverted, and the live databases keep the effects of its expand program.
EXPANDED = "expanded"
#: Event: the contract program of the installed release ran, completely or not.
CONTRACTED = "contracted"


def _locate_current(current: Version | None, change: Change) -> CurrentSlot:
    if current == Version(change.from_version):
        return CurrentSlot.OLD
    return CurrentSlot.NEW if current == Version(change.to_version) else CurrentSlot.OTHER


def observe_site(site: Site, change: Change | None, *, by_operator: bool) -> ObservedState:
    """Collect the facts of the open change, or of a site without one.

    Raises:
        UpdaterError: If a fact cannot be read; recovery needs all of them.
    """
    if change is None:
        evidence = site.database_engine.read_evidence(None)
        return ObservedState(None, fenced=evidence.fenced, database_missing=bool(evidence.missing))
    evidence = site.database_engine.read_evidence(make_change_ref(change))
    return ObservedState(
        state=change.state,
        committed=change.is_committed,
        cut_over=change.get_step_state(StepName.CUT_OVER),
        switch=change.get_step_state(StepName.SWITCH),
        cut_over_done=evidence.is_cut_over,
        fenced=evidence.fenced,
        database_missing=bool(evidence.missing),
        slot=_locate_current(site.slots.read_current(), change),
        attempts=change.failed_recoveries,
        by_operator=by_operator,
        committed_in_databases=evidence.committed,
        later_change_in_databases=evidence.superseded,
    )


def find_last_committed(journal: Journal) -> Change | None:
    """Return the newest committed change; None if there is none."""
    for change in journal.list_changes():
        if change.is_committed:
            return change
    return None


def find_contradiction(site: Site, journal: Journal) -> LazyText | None:
    """Describe a contradiction between code, databases and journal; None if they agree.

    A journal restored from a backup is consistent in itself, so only the databases can show that it
    is outdated.

    Raises:
        UpdaterError: If a fact cannot be read.
    """
    marker = site.database_engine.read_marker()
    current = site.slots.read_current()
    if marker is not None and current != Version(marker.release):
        return LazyText(
            N_("code of release {code}, databases of release {databases}"),
            {"code": current or "-", "databases": marker.release},
        )
    generation = read_recorded_state(journal).generation
    marked = marker.generation if marker else 0
    if marked > generation:
        return LazyText(
            N_("the databases record a later change than the journal: the journal is outdated")
        )
    if marked < generation:
        return LazyText(
            N_(
                "the journal records a later change than the databases; if they were"
                " restored on purpose, run: sudo ncen-updater adopt VERSION --restored"
            )
        )
    return None


@dataclass(frozen=True)
class RecordedState:
    """Newest record in the journal about the databases.

    Attributes:
        generation: Generation of their marker; 0 before the first cut-over.
        change: The change that installed them; None if they were adopted or nothing is recorded.
        fingerprints: Recorded fingerprints of the schemas, by logical name.
        schema_kinds: Recorded fingerprints of each kind of schema object, by logical name.
    """

    generation: int = 0
    change: Change | None = None
    fingerprints: Mapping[str, object] = field(default_factory=dict)
    schema_kinds: Mapping[str, Mapping[str, object]] = field(default_factory=dict)


def read_recorded_state(journal: Journal) -> RecordedState:
    """Return the newest record of the databases."""
    change = find_last_committed(journal)
    adoptions = _list_adoptions(journal)
    event_number = _read_commit_number(journal, change) if change is not None else 0
    if change is not None and (not adoptions or event_number > adoptions[-1].number):
        facts = journal.read_facts(change.id)
        state = RecordedState(
            change.generation, change, facts.fingerprints or {}, facts.schema_kinds or {}
        )
    elif adoptions:
        event_number, data = adoptions[-1].number, adoptions[-1].data
        generation = data.get("generation")
        state = RecordedState(
            generation if isinstance(generation, int) else 0,
            None,
            _as_mapping(data.get("fingerprints")),
            _parse_schema_kinds(data),
        )
    else:
        return RecordedState()
    later = [
        e
        for e in journal.list_events()
        if e.kind in (EXPANDED, CONTRACTED) and e.number > event_number
    ]
    if not later:
        return state
    data = later[-1].data
    return replace(
        state,
        fingerprints=_as_mapping(data.get("fingerprints")),
        schema_kinds=_parse_schema_kinds(data),
    )


def _parse_schema_kinds(data: Mapping[str, object]) -> dict[str, Mapping[str, object]]:
    return {
        name: _as_mapping(kinds) for name, kinds in _as_mapping(data.get("schema_kinds")).items()
    }


def read_release_fingerprints(journal: Journal, release: Version) -> Mapping[str, object]:
    """Return the newest recorded fingerprints of a release's databases; empty if there are none."""
    records: list[tuple[int, Mapping[str, object]]] = [
        (event.number, _as_mapping(event.data.get("fingerprints")))
        for event in _list_adoptions(journal)
        if Version(str(event.data.get("release"))) == release
    ]
    upgrades = {
        change.id: change
        for change in journal.list_changes()
        if Version(change.to_version) == release and change.is_committed
    }
    records += [
        (_read_commit_number(journal, change), journal.read_facts(change.id).fingerprints or {})
        for change in upgrades.values()
    ]
    records += [
        (event.number, _as_mapping(event.data.get("fingerprints")))
        for event in journal.list_events()
        if event.kind == CONTRACTED and event.change in upgrades
    ]
    return max(records, key=lambda item: item[0])[1] if records else {}


def _list_adoptions(journal: Journal) -> list[JournalEvent]:
    adoptions = [
        event for event in journal.list_events() if event.kind in (ADOPTED, RESTORED_ADOPTED)
    ]
    # Only the newest adoption counts: it corrects earlier ones.
    last = max((event.number for event in adoptions if event.kind == ADOPTED), default=0)
    return [event for event in adoptions if event.kind == RESTORED_ADOPTED or event.number == last]


def _read_commit_number(journal: Journal, change: Change) -> int:
    numbers = [e.number for e in journal.list_events(change=change.id) if e.kind == "committed"]
    return numbers[-1] if numbers else 0


def _as_mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}
