"""One change in a dozen lines: what, who, when, the stop, where it failed, what became of it. Pure.

Made of the document that ``history CHANGE --json`` writes. Of what nobody wrote down there is no
line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, tzinfo
from typing import Any

from ncen_updater.agent.model.change import DOWNTIME, StepName
from ncen_updater.common.cli.characters import clean
from ncen_updater.common.cli.render import format_duration, format_time
from ncen_updater.common.i18n import DEFAULT_LANGUAGE, N_, Figure, Text, translate
from ncen_updater.common.reasons import reason
from ncen_updater.common.step_words import step_words

Document = Mapping[str, Any]
#: So many parts of the stop are named, if they took so long.
NAMED, SHORTEST_S = 4, 0.1


def change_lines(report: Document, language: str, zone: tzinfo | None = None) -> Iterator[Text]:
    """Say it.

    Args:
        report: The change as JSON has it.
        language: Of words of ours within the lines.
        zone: Zone of the site; that of the machine by default.
    """

    def when(text: str) -> Figure:
        return format_time(_moment(text), zone)

    def word(value: str) -> str:
        return translate(value, language)

    yield Text(
        N_("{kind} {origin} -> {version} (change {id}): {state}"),
        {
            "kind": word(report["kind"]), "origin": report["from"], "version": report["to"],
            "id": report["id"], "state": word(report["state"]),
        },
    )  # fmt: skip
    yield _when(report, when)
    yield from _who(report)
    yield from _stop(report, language)
    yield from ended_words(report)
    yield from _watched(report["facts"])
    yield from _failure(report, language, when)
    yield from _records(report, language)


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _when(report: Document, when: Callable[[str], Figure]) -> Text:
    begun = _moment(report["created_at"])
    values: dict[str, object] = {"begun": when(report["created_at"])}
    if report["ended_at"] is None:
        return Text(N_("  begun {begun}, and open"), values)
    ended = _moment(report["ended_at"])
    values |= {
        "ended": when(report["ended_at"]),
        "took": format_duration(max(0.0, (ended - begun).total_seconds())),
    }
    return Text(N_("  begun {begun}, ended {ended}, {took} later"), values)


def _who(report: Document) -> Iterator[Text]:
    if report["approved_by"]:
        names = ", ".join(clean(str(name)) for name in report["approved_by"])
        yield Text(N_("  approved by {names}"), {"names": names})
    if report["facts"].get("soak_of"):
        # Within the order for the upgrade, whose name stands beside it.
        yield Text(
            N_("  by the agent itself, since {version} turned bad while it was watched"),
            {"version": report["from"]},
        )
    elif report["ordered_by"]:
        yield Text(N_("  ordered by {name}"), {"name": clean(report["ordered_by"])})
    emergency = report["emergency"]
    if emergency:
        words = N_("  in an emergency, without the approvals that it takes, by {name}: {reason}")
        values = {"name": clean(emergency["by"]), "reason": clean(emergency["reason"])}
        yield Text(words, values)


def _stop(report: Document, language: str) -> Iterator[Text]:
    real, predicted = report["stop_s"], report["predicted_stop_s"]
    if real is None:
        if not any(step["name"] == StepName.CLOSE for step in report["steps"]):
            yield Text(N_("  officers were not kept out"))
        return
    values: dict[str, object] = {"stop": format_duration(real)}
    text = N_("  officers were kept out for {stop}")
    if predicted:
        values |= {name: format_duration(predicted[name]) for name in ("low", "high")}
        text = N_("  officers were kept out for {stop}; {low} to {high} were predicted")
    yield Text(text, values)
    during = {name.value for name in DOWNTIME}
    took = [
        (step["seconds"], step_words(step["name"], report["kind"], language))
        for step in report["steps"]
        if step["name"] in during and (step["seconds"] or 0) >= SHORTEST_S
    ]
    longest = sorted(took, key=lambda part: part[0], reverse=True)[:NAMED]
    if longest:
        parts = Text(
            ", ".join(f"{{n{i}}} {{s{i}}}" for i in range(len(longest))),
            {
                name: value
                for i, (seconds, what) in enumerate(longest)
                for name, value in ((f"n{i}", what), (f"s{i}", format_duration(seconds)))
            },
        )
        yield Text(N_("  longest of it: {parts}"), {"parts": parts})


def _watched(facts: Document) -> Iterator[Text]:
    if facts.get("soak_failed"):
        reason = {"reason": clean(str(facts["soak_failed"]))}
        yield Text(N_("  it turned bad while it was watched: {reason}"), reason)
    elif facts.get("soak_looks"):
        looks = {"looks": facts["soak_looks"], "bad": facts.get("soak_bad_looks") or 0}
        yield Text(N_("  it was watched: {looks} looks, {bad} of them bad"), looks)
    if facts.get("contract_s") is not None:
        took = {"s": format_duration(facts["contract_s"])}
        yield Text(
            N_("  its migrations were brought to their end while officers worked: {s}"), took
        )
    elif facts.get("contract_failed"):
        code = {"code": facts["contract_failed"]}
        left = N_(
            "  its migrations were not brought to their end ({code}), and a person left it so"
        )
        again = N_("  its migrations were not brought to their end yet: it failed with {code}")
        yield Text(left if facts.get("contract_left") else again, code)
    if facts.get("confirmed_by"):
        yield Text(N_("  confirmed by {name}"), {"name": clean(str(facts["confirmed_by"]))})


def _failure(report: Document, language: str, when: Callable[[str], Figure]) -> Iterator[Text]:
    failure, code = report["failure"], report["error_code"]
    understood = False
    if failure:
        error, code = clean(str(failure["error"] or "")).split("\n", 1)[0], failure["code"]
        told = error if str(code) in error else f"{code}: {error}"
        # What was written down is in English, and quoted as it stands.
        understood = language == DEFAULT_LANGUAGE
        yield Text(
            N_("  it failed at {at}, while {step}: {error}"),
            {
                "step": step_words(str(failure["step"]), report["kind"], language),
                "at": when(failure["at"]),
                "error": told,
            },
        )  # fmt: skip
    meaning = reason(str(code)) if code else None
    if meaning is not None and not understood:
        yield Text(N_("  {code}: {meaning}"), {"code": code, "meaning": meaning[0]})
    elif code and not failure:
        yield Text(N_("  it ended with {code}"), {"code": code})
    cut = report["cut_off"]
    if cut:
        text = (
            N_(
                "  it was cut off while {step}, which began at {at}: the process or the machine "
                "came to an end"
            )
            if cut["during"]
            else N_(
                "  it was cut off after {step}, which ended at {at}: the process or the machine "
                "came to an end"
            )
        )
        yield Text(
            text, {"step": step_words(cut["step"], report["kind"], language), "at": when(cut["at"])}
        )
        resumed = {"at": when(cut["resumed_at"])}
        yield Text(N_("  it was taken up again at {at}"), resumed)
    if report["taken_back_by"]:
        yield Text(N_("  it was taken back by change {id}"), {"id": report["taken_back_by"]})


def ended_words(change: Document) -> Iterator[Text]:
    """Say whose sessions a change ended."""
    if change["ended_sessions"]:
        names = {"names": ", ".join(map(clean, change["ended_sessions"]))}
        yield Text(N_("  sessions ended when the databases were closed: {names}"), names)


def as_before(change: Document) -> Text:
    """Say what a change left that was undone; its program may have added something."""
    if change["replaced"]:
        names = {"names": ", ".join(map(clean, change["replaced"]))}
        words = N_("  somebody replaced {names} meanwhile; everything else is as it was before it")
        return Text(words, names)
    if not change["expanded"]:
        return Text(N_("  everything is as it was before it; no record was lost"))
    words = N_(
        "  the program of {version} had worked on the databases before the stop, and what it added"
        " there stays; all else is as it was; no record was lost"
    )
    return Text(words, {"version": change["to"]})


def _records(report: Document, language: str) -> Iterator[Text]:
    if report["state"] == "undone":
        undone = [
            step_words(step["name"], report["kind"], language)
            for step in report["steps"]
            if step["state"] == "undone"
        ]
        if undone:
            yield Text(N_("  undone, the last first: {steps}"), {"steps": ", ".join(undone[::-1])})
        yield as_before(report)
    lost = report["facts"].get("lost")
    if lost:
        yield Text(N_("  {count} records were lost, as was agreed"), {"count": lost})
    elif lost == 0:
        yield Text(N_("  no record was lost"))
