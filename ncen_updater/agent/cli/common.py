"""What several commands need: parsing words, and showing paths and outcomes."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import click

from ncen_updater.agent.cli.session import AgentSession
from ncen_updater.agent.engine.outcome import change_document
from ncen_updater.common.cli.lazy import session_of
from ncen_updater.common.cli.render import clean, format_duration
from ncen_updater.common.i18n import N_, Text

if TYPE_CHECKING:
    from ncen_updater.agent.engine.operations import Result
    from ncen_updater.agent.engine.outcome import Outcome
    from ncen_updater.feed.upgrade_path import NoPath, UpgradePath

__all__ = [
    "agent_session",
    "change_document",
    "path_document",
    "result_document",
    "show_notice",
    "show_path",
    "show_result",
]


def agent_session(context: click.Context) -> AgentSession:
    """Return the session of a run of the agent."""
    return cast("AgentSession", session_of(context))


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


def show_path(
    session: AgentSession, product: str, current: str, path: UpgradePath | NoPath
) -> None:
    """Show where the site would go, and what is not for it."""
    from ncen_updater.common.cli.render import format_bytes

    hops = getattr(path, "hops", ())
    values: dict[str, object] = {"product": product, "current": current}
    if not hops:
        text = N_("{product} {current} is the newest release for this site.")
        session.show(Text(text, values))
    for offer, origin in zip(hops, (current, *(o.version for o in hops)), strict=False):
        size = format_bytes(offer.download_bytes(origin))
        more = {"version": offer.version, "urgency": offer.urgency, "size": size}
        text = (
            N_("Available: {product} {version}, a required stop ({urgency}, {size})")
            if offer.required
            else N_("Available: {product} {version} ({urgency}, {size})")
        )
        session.show(Text(text, {**values, **more}))
    for rejection in path.rejected:
        if rejection.reason.value != "not-newer":
            text = N_("Not for this site now: {version}, since {reason}")
            session.show(Text(text, {"version": rejection.offer.version, "reason": rejection.text}))


def show_notice(
    session: AgentSession, product: str, version: str, reason: str, advice: str
) -> None:
    """Say that the release in use here was taken back, and what the officers advise."""
    values = {
        "product": product, "version": version, "reason": clean(reason), "advice": clean(advice),
    }  # fmt: skip
    text = N_("WITHDRAWN by the Secretariat: {product} {version}, in use here: {reason}")
    session.show(Text(text, values))
    if advice:
        session.show(Text(N_("  what to do: {advice}"), values))


def _outcome_document(outcome: Outcome) -> dict[str, object]:
    return {
        **change_document(outcome.change, outcome.facts),
        "step_s": dict(outcome.step_s),
        "facts": outcome.facts.to_json(),
    }


def result_document(result: Result, language: str) -> dict[str, object]:
    """Return what an operation came to as JSON has it."""
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
    return document


_WORDS = {
    "finished": N_("{kind}: {product} {origin} -> {version}, finished (change {id})"),
    "undone": N_("{kind}: {product} {origin} -> {version} was undone wholly (change {id})"),
    "committed": N_(
        "{kind}: {product} {origin} -> {version}, committed and in its watched time (change {id})"
    ),
}
_OTHER = N_("{kind}: {product} {origin} -> {version}, state {state} (change {id})")


def show_result(session: AgentSession, result: Result) -> None:
    """Show what an operation came to."""
    for outcome in result.outcomes:
        change = outcome.change
        values = {
            "kind": change.kind, "product": change.product, "id": change.id,
            "origin": change.from_version, "version": change.to_version,
            "state": change.state,
        }  # fmt: skip
        session.show(Text(_WORDS.get(change.state.value, _OTHER), values))
        if outcome.stop_s is not None:
            stop = {"stop": format_duration(outcome.stop_s)}
            session.show(Text(N_("  officers were kept out for {stop}"), stop))
