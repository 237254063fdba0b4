"""``status``: what runs, what the agent does, what is on offer. From the disk alone, and light."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime

import click

from ncen_updater.cli.commands.common import agent_session, change_document, show_notice
from ncen_updater.cli.lazy import Command
from ncen_updater.cli.program import show_error
from ncen_updater.cli.render import clean, error_document, format_duration, format_time
from ncen_updater.cli.session import AgentSession
from ncen_updater.cli.state import door_closed, look_lightly, sentences
from ncen_updater.config.paths import Places, load_places
from ncen_updater.errors import ExitCode, UpdaterError
from ncen_updater.i18n import N_, Text
from ncen_updater.slots.link import current_version
from ncen_updater.trust.lastview import read_last_view, view_path
from ncen_updater.upgrade.journal import Journal
from ncen_updater.upgrade.lock import lock_holder
from ncen_updater.upgrade.memory import Memory
from ncen_updater.upgrade.model import Change, StepName, StepState
from ncen_updater.upgrade.names import JOURNAL, LOCK

__all__ = ["status"]

Document = dict[str, object]


@click.command("status", cls=Command, help=N_("What runs here, and what the agent is doing."))
@click.pass_context
def status(context: click.Context) -> ExitCode:
    session = agent_session(context)
    places = load_places(session.config)
    now = datetime.now(UTC)
    document: Document = {
        "site": places.site,
        "country": places.country,
        "product": places.product,
        "at": now,
    }
    errors: list[UpdaterError] = []
    parts: dict[str, Callable[[], Document | None]] = {
        "running": lambda: _in_use(session, places),
        "journal": lambda: _journal(session, places, now),
        "feed": lambda: _feed(session, places, now),
    }
    for name, part in parts.items():
        try:
            document[name] = part()
        except (UpdaterError, OSError) as error:
            known = error if isinstance(error, UpdaterError) else UpdaterError(detail=str(error))
            errors.append(known)
            document[name] = {"error": error_document(known, [], session.language)}
    if not errors:
        session.finish(document)
        return ExitCode.OK
    worst = max(errors, key=lambda e: e.exit_code)
    facts = look_lightly(session.config)
    state = sentences(facts, facts)
    if session.as_json:
        session.finish({**document, "error": error_document(worst, state, session.language)})
        return worst.exit_code
    session.finish(document)
    for shown in errors:
        show_error(session, shown, lambda _: state)
    return worst.exit_code


def _in_use(session: AgentSession, places: Places) -> Document:
    version = current_version(places.slots, places.current)
    closed = door_closed(session.config)
    text = (
        N_("No release of {product} was ever chosen here ({site}, {country}).")
        if version is None
        else N_("{product} {version} is in use at {site} ({country}).")
    )
    session.show(
        Text(
            text,
            {
                "product": places.product, "version": version,
                "site": places.site, "country": places.country,
            },
        )
    )  # fmt: skip
    if closed is not None:
        session.show(
            Text(N_("Officers see the maintenance page.") if closed else N_("Officers are let in."))
        )
    return {"version": str(version) if version else None, "open_to_officers": _not(closed)}


def _not(value: bool | None) -> bool | None:
    return None if value is None else not value


def _journal(session: AgentSession, places: Places, now: datetime) -> Document:
    holder = lock_holder(places.state / LOCK)
    if holder is not None:
        session.show(Text(N_("At work now: {holder}."), {"holder": clean(holder)}))
    with Journal.open(places.state / JOURNAL, read_only=True) as journal:
        change = journal.open_change()
        recent = journal.changes(1)
        facts = journal.facts(recent[0].id) if recent else {}
        memory = Memory(journal)
        holds = memory.holds_in_force(now)
        bad = memory.bad_releases()
    if change is not None:
        _show_open(session, change, now, at_work=holder is not None)
    elif recent:
        _show_last(session, recent[0])
    for hold in holds:
        values = {"by": hold.by, "since": format_time(hold.since), "reason": clean(hold.reason)}
        session.show(Text(N_("Upgrades are on hold since {since}, set by {by}: {reason}"), values))
    for row in bad:
        row_values: Mapping[str, object] = {
            "version": row.version, "times": row.times, "code": row.code,
            "at": format_time(row.last_at),
        }  # fmt: skip
        session.show(
            Text(N_("{version} failed here, times: {times}, last {at} ({code})"), row_values)
        )
    return {
        "at_work": holder,
        "open_change": _open_document(change) if change else None,
        "last_change": change_document(recent[0], facts) if recent else None,
        "holds": list(holds),
        "bad_releases": list(bad),
    }


def _step(change: Change) -> tuple[StepName, StepState] | None:
    """The step that a change is in: the one that was touched last."""
    order = list(StepName)
    records = [
        r for r in change.steps.values() if r.state in (StepState.INTENDED, StepState.UNDOING)
    ]
    records = records or list(change.steps.values())
    if not records:
        return None
    record = max(records, key=lambda r: order.index(r.name))
    return record.name, record.state


def _open_document(change: Change) -> Document:
    step = _step(change)
    return {
        **change_document(change),
        "step": step[0].value if step else None,
        "step_state": step[1].value if step else None,
    }


def _show_open(session: AgentSession, change: Change, now: datetime, *, at_work: bool) -> None:
    step = _step(change)
    values = {
        "kind": change.kind, "version": change.to_version, "change": change.id,
        "state": change.state, "since": format_time(change.created_at),
        "age": format_duration(max(0.0, (now - change.created_at).total_seconds())),
        "step": step[0] if step else "-", "step_state": step[1] if step else "-",
    }  # fmt: skip
    session.show(
        Text(
            N_("Open: {kind} to {version} (change {change}), {state}, begun {since}, {age} ago."),
            values,
        )
    )
    session.show(Text(N_("  last step: {step} ({step_state})"), values))
    if not at_work:
        session.show(Text(N_("  nobody works on it: run 'ncen-updater resume'.")))


def _show_last(session: AgentSession, change: Change) -> None:
    values = {
        "kind": change.kind, "version": change.to_version, "state": change.state,
        "at": format_time(change.ended_at or change.created_at), "change": change.id,
    }  # fmt: skip
    session.show(Text(N_("Last: {kind} to {version}, {state} {at} (change {change})."), values))


def _feed(session: AgentSession, places: Places, now: datetime) -> Document | None:
    view = read_last_view(view_path(places.received, places.product))
    if view is None:
        session.show(Text(N_("The feed was never read here; run 'ncen-updater check'.")))
        return None
    stale = view.stale(now)
    values = {
        "newest": view.versions[-1] if view.versions else "-",
        "checked": format_time(view.checked_at), "expires": format_time(view.expires_at),
    }  # fmt: skip
    session.show(Text(N_("On the signed list: up to {newest}, read {checked}."), values))
    running = current_version(places.slots, places.current)
    notice = view.notices.get(str(running))
    if notice is not None:
        show_notice(session, places.product, str(running), notice.reason, notice.advice)
    if stale:
        session.show(
            Text(
                N_("The list lapsed {expires}: run 'ncen-updater check' when there is a line."),
                values,
            )
        )
    return {
        "checked_at": view.checked_at,
        "expires_at": view.expires_at,
        "stale": stale,
        "version": view.version,
        "versions": list(view.versions),
        "withdrawn": list(view.withdrawn),
        "running_withdrawn": notice,
    }
