"""One change in a dozen lines: kind, users, times, downtime, failure and outcome. Pure.

Input is the document of ``history CHANGE --json``. Facts that were not recorded get no line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, tzinfo
from typing import Any

from ncen_updater.agent.model.change import DOWNTIME_STEPS, StepName, StepState
from ncen_updater.common.cli.characters import strip_control_characters
from ncen_updater.common.cli.render import FAILED_STEP, format_duration, format_time
from ncen_updater.common.i18n import N_, LazyText, LocalizedFigure, translate
from ncen_updater.common.labels import (
    explain_code,
    format_predicted_downtime,
    has_hidden_values,
    translate_step_label,
)
from ncen_updater.common.messages import INTERRUPTED

Document = Mapping[str, Any]
#: Number of the longest steps listed, and their minimum duration.
MAX_STEPS_NAMED, MIN_STEP_S = 4, 0.1


def get_change_state(change: Document) -> str:
    """Return the displayed state of a change. Pure."""
    return N_("interrupted") if change["interrupted"] else str(change["state"])


def format_change(
    report: Document, language: str, zone: tzinfo | None = None
) -> Iterator[LazyText]:
    """Yield the lines of a change.

    Args:
        report: The change as a JSON document.
        language: Language of translated values within the lines.
        zone: Time zone of the site; by default that of the machine.
    """

    def when(text: str) -> LocalizedFigure:
        return format_time(_parse_time(text), zone)

    def word(value: str) -> str:
        return translate(value, language)

    yield LazyText(
        N_("Change {id}: {kind} {origin} -> {version}, {state}"),
        {
            "kind": word(report["kind"]), "origin": report["from"], "version": report["to"],
            "id": report["id"], "state": word(get_change_state(report)),
        },
    )  # fmt: skip
    yield _format_times(report, when)
    yield from _format_actors(report)
    yield from _format_downtime(report, language)
    yield from format_ended_sessions(report)
    yield from _format_soak(report["facts"])
    yield from _format_failure(report, language, when)
    yield from _format_records(report, language)


def _parse_time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _format_times(report: Document, when: Callable[[str], LocalizedFigure]) -> LazyText:
    started = _parse_time(report["created_at"])
    values: dict[str, object] = {"begun": when(report["created_at"])}
    if report["ended_at"] is None:
        return LazyText(N_("  started {begun}, not finished"), values)
    ended = _parse_time(report["ended_at"])
    values |= {
        "ended": when(report["ended_at"]),
        "took": format_duration(max(0.0, (ended - started).total_seconds())),
    }
    return LazyText(N_("  started {begun}, finished {ended}, duration {took}"), values)


def _format_actors(report: Document) -> Iterator[LazyText]:
    if report["approved_by"]:
        names = ", ".join(strip_control_characters(str(name)) for name in report["approved_by"])
        yield LazyText(N_("  approved by {names}"), {"names": names})
    if report["facts"].get("failed_soak_upgrade"):
        # The rollback is part of the upgrade's job, whose requester is already listed.
        yield LazyText(
            N_("  automatic rollback: {version} failed in the soak period"),
            {"version": report["from"]},
        )
    elif report["requested_by"]:
        yield LazyText(
            N_("  started by {name}"), {"name": strip_control_characters(report["requested_by"])}
        )
    emergency = report["emergency"]
    if emergency:
        words = N_("  emergency rollback without approval, by {name}: {reason}")
        values = {
            "name": strip_control_characters(emergency["actor"]),
            "reason": strip_control_characters(emergency["reason"]),
        }
        yield LazyText(words, values)


def _format_downtime(report: Document, language: str) -> Iterator[LazyText]:
    actual, predicted = report["downtime_s"], report["predicted_downtime_s"]
    if actual is None:
        if not any(step["name"] == StepName.MAINTENANCE_ON for step in report["steps"]):
            yield LazyText(N_("  downtime: none"))
        return
    values: dict[str, object] = {"stop": format_duration(actual)}
    text = N_("  downtime: {stop}")
    if predicted:
        values["predicted"] = format_predicted_downtime(predicted["likely"], predicted["high"])
        text = N_("  downtime: {stop}; predicted: {predicted}")
    yield LazyText(text, values)
    during = {name.value for name in DOWNTIME_STEPS}
    durations = [
        (step["seconds"], translate_step_label(step["name"], report["kind"], language))
        for step in report["steps"]
        if step["name"] in during
        and step["state"] == StepState.DONE
        and (step["seconds"] or 0) >= MIN_STEP_S
    ]
    longest = sorted(durations, key=lambda part: part[0], reverse=True)[:MAX_STEPS_NAMED]
    if longest:
        parts = LazyText(
            ", ".join(f"{{n{i}}} {{s{i}}}" for i in range(len(longest))),
            {
                name: value
                for i, (seconds, what) in enumerate(longest)
                for name, value in ((f"n{i}", what), (f"s{i}", format_duration(seconds)))
            },
        )
        yield LazyText(N_("  longest steps: {parts}"), {"parts": parts})


def _format_soak(facts: Document) -> Iterator[LazyText]:
    if facts.get("soak_error"):
        reason = {"reason": strip_control_characters(str(facts["soak_error"]))}
        yield LazyText(N_("  failed in the soak period: {reason}"), reason)
    elif facts.get("soak_checks"):
        checks = {"looks": facts["soak_checks"], "bad": facts.get("soak_failed_checks") or 0}
        yield LazyText(N_("  soak period: {looks} health checks, {bad} failed"), checks)
    if facts.get("contract_s") is not None:
        duration = {"seconds": format_duration(facts["contract_s"])}
        yield LazyText(N_("  final migrations: {seconds}, without downtime"), duration)
    elif facts.get("contract_failed"):
        code = {"code": facts["contract_failed"]}
        abandoned = N_("  final migrations failed ({code}), skipped by an operator")
        failed = N_("  final migrations failed: {code}")
        yield LazyText(abandoned if facts.get("contract_abandoned") else failed, code)
    if facts.get("confirmed_by"):
        yield LazyText(
            N_("  confirmed by {name}"),
            {"name": strip_control_characters(str(facts["confirmed_by"]))},
        )


def _format_failure(
    report: Document, language: str, when: Callable[[str], LocalizedFigure]
) -> Iterator[LazyText]:
    failure, code = report["failure"], report["error_code"]
    meaning = explain_code(str(code)) if code else None
    if failure:
        error = strip_control_characters(str(failure["error"])).split("\n", 1)[0]
        yield LazyText(
            FAILED_STEP,
            {
                "step": translate_step_label(str(failure["step"]), report["kind"], language),
                "at": when(failure["at"]),
                "error": LazyText("{name} {text}", {"name": failure["code"], "text": error}),
            },
        )  # fmt: skip
    elif meaning is not None:
        explained = LazyText(N_("{name}: {text}"), {"name": code, "text": meaning[0]})
        yield LazyText("  {line}", {"line": explained})
    elif code:
        yield LazyText(N_("  failed with {code}"), {"code": code})
    # An interruption is over and needs no remedy.
    if meaning and code != INTERRUPTED.code and not has_hidden_values(meaning[1]):
        yield LazyText(N_("  What to do: {advice}"), {"advice": meaning[1]})
    interruption = report["interruption"]
    if interruption:
        text = (
            N_("  interrupted during: {step} (started {at})")
            if interruption["during"]
            else N_("  interrupted after: {step} (finished {at})")
        )
        yield LazyText(
            text,
            {
                "step": translate_step_label(interruption["step"], report["kind"], language),
                "at": when(interruption["at"]),
            },
        )
        resumed = {"at": when(interruption["resumed_at"])}
        yield LazyText(N_("  resumed {at}"), resumed)
    if report["rolled_back_by"]:
        yield LazyText(N_("  rolled back by change {id}"), {"id": report["rolled_back_by"]})


def format_ended_sessions(change: Document) -> Iterator[LazyText]:
    """Yield the users whose database sessions a change terminated."""
    if change["ended_sessions"]:
        names = {"names": ", ".join(map(strip_control_characters, change["ended_sessions"]))}
        yield LazyText(N_("  sessions terminated: {names}"), names)


def format_undone_result(change: Document) -> LazyText:
    """Return what a reverted change left, below a line that says that it was reverted.

    The release's expand step may have added objects.
    """
    if change["replaced"]:
        names = {"names": ", ".join(map(strip_control_characters, change["replaced"]))}
        words = N_("  not reverted: {names} (replaced meanwhile)")
        return LazyText(words, names)
    if not change["expand_started"]:
        return LazyText(N_("  no data loss"))
    words = N_("  no data loss; additions of {version} made before the downtime remain")
    return LazyText(words, {"version": change["to"]})


def _format_records(report: Document, language: str) -> Iterator[LazyText]:
    if report["state"] == "reverted":
        undone = [
            translate_step_label(step["name"], report["kind"], language)
            for step in report["steps"]
            if step["state"] == "undone"
        ]
        if undone:
            yield LazyText(
                N_("  steps reverted, last first: {steps}"), {"steps": ", ".join(undone[::-1])}
            )
        yield format_undone_result(report)
        return
    lost = report["facts"].get("lost_records")
    if lost:
        yield LazyText(N_("  data loss as confirmed: {count} records"), {"count": lost})
    elif lost == 0:
        yield LazyText(N_("  no data loss"))
